//! The common case of recording, many rows a statement: comments that the store
//! has never met, each once in the batch and at a position of its own, none of them
//! a disclosure.
//!
//! Everything else takes the careful way, one by one, in `recording`. Both write
//! the same rows; this one only writes them in a sixtieth of the statements.

use std::collections::{HashMap, HashSet};

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::domain::comment::CommentKey;
use crate::domain::decision::Verdict;
use crate::pipeline::identity::{arrival_key, judged_hash, text_hash};
use crate::pipeline::ports::{Judged, StoreError};
use crate::sqlite::store_error;
use crate::store::record::{assessment_to_row, comment_to_row};
use crate::store::standing::{Tell, assessed, is_time, result_id};
use crate::wire::event::COMMENT_ASSESSED;

/// Rows of one statement: 10 values each stay below SQLite's 32,766. Each statement is a
/// trip to SQLite's thread and back, which costs more than its rows on a busy machine.
const ROWS: usize = 1_000;

/// Which of the batch can go the fast way.
pub async fn choose(conn: &mut SqliteConnection, judged: &[Judged]) -> Result<Vec<bool>, StoreError> {
    let mut times: HashMap<&CommentKey, usize> = HashMap::new();
    for one in judged {
        *times.entry(&one.comment.key).or_default() += 1;
    }
    let mut places = HashSet::new();
    let mut fresh: Vec<bool> = judged
        .iter()
        .map(|one| {
            times[&one.comment.key] == 1
                && one.assessment.verdict != Verdict::Escalate
                && is_time(one.sequence)
                && places.insert((&one.comment.key.consultation, one.sequence))
        })
        .collect();
    for (at, chunk) in judged.chunks(ROWS).enumerate() {
        for known in known(conn, chunk).await? {
            fresh[at * ROWS + known as usize] = false;
        }
    }
    Ok(fresh)
}

/// Which of the chunk the store has met, or has another comment in the place of.
async fn known(conn: &mut SqliteConnection, chunk: &[Judged]) -> Result<Vec<i64>, StoreError> {
    // Two lookups for each of the chunk, whatever the planner thinks of the table's size.
    let mut query = QueryBuilder::<Sqlite>::new("SELECT w.column1 FROM (");
    query.push_values((0_i64..).zip(chunk), |mut row, (n, one)| {
        let key = &one.comment.key;
        row.push_bind(n)
            .push_bind(key.consultation.as_str())
            .push_bind(key.source.as_str())
            .push_bind(key.id.as_str())
            .push_bind(one.sequence);
    });
    query.push(
        ") AS w WHERE EXISTS (SELECT 1 FROM comments c \
             WHERE c.consultation = w.column2 AND c.source = w.column3 AND c.id = w.column4) \
         OR EXISTS (SELECT 1 FROM comments c WHERE c.consultation = w.column2 AND c.sequence = w.column5)",
    );
    query.build_query_scalar().fetch_all(conn).await.map_err(store_error)
}

/// Stores comments that [`choose`] chose, in the same transaction.
pub async fn record(conn: &mut SqliteConnection, fresh: &[&Judged], now_ms: i64) -> Result<(), StoreError> {
    for chunk in fresh.chunks(ROWS) {
        record_chunk(conn, chunk, now_ms).await?;
    }
    Ok(())
}

async fn record_chunk(conn: &mut SqliteConnection, chunk: &[&Judged], now_ms: i64) -> Result<(), StoreError> {
    // The rows are numbered here, so that they can point at each other when they
    // are written. The transaction holds the write lock: nobody else numbers now.
    let (comments, revisions, assessments, messages): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT COALESCE(MAX(no), 0) FROM comments), (SELECT COALESCE(MAX(no), 0) FROM revisions), \
         (SELECT COALESCE(MAX(no), 0) FROM assessments), (SELECT COALESCE(MAX(no), 0) FROM outbox)",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(store_error)?;
    let rows = (1..)
        .zip(chunk)
        .map(|(n, judged)| {
            Ok(Row {
                comment_no: comments + n,
                revision_no: revisions + n,
                assessment_no: assessments + n,
                message_no: messages + n,
                arrival: arrival_key(&judged.comment),
                comment: comment_to_row(&judged.comment)?,
                assessment: assessment_to_row(&judged.assessment)?,
                body: assessed(judged)?,
                judged,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    insert_comments(conn, &rows).await?;
    insert_revisions(conn, &rows, now_ms).await?;
    insert_assessments(conn, &rows, now_ms).await?;
    insert_messages(conn, &rows, now_ms).await
}

struct Row<'a> {
    comment_no: i64,
    revision_no: i64,
    assessment_no: i64,
    message_no: i64,
    arrival: String,
    comment: String,
    assessment: String,
    body: String,
    judged: &'a Judged,
}

async fn run(conn: &mut SqliteConnection, mut insert: QueryBuilder<Sqlite>) -> Result<(), StoreError> {
    insert.build().execute(conn).await.map_err(store_error)?;
    Ok(())
}

async fn insert_comments(conn: &mut SqliteConnection, rows: &[Row<'_>]) -> Result<(), StoreError> {
    let mut insert = QueryBuilder::new(
        "INSERT INTO comments (no, consultation, source, id, current_revision, current_assessment, sequence, \
         verdict, text_hash) ",
    );
    insert.push_values(rows, |mut to, row| {
        let key = &row.judged.comment.key;
        to.push_bind(row.comment_no)
            .push_bind(key.consultation.as_str())
            .push_bind(key.source.as_str())
            .push_bind(key.id.as_str())
            .push_bind(row.revision_no)
            .push_bind(row.assessment_no)
            .push_bind(row.judged.sequence)
            .push_bind(row.judged.assessment.verdict.key())
            .push_bind(text_hash(&row.judged.comment.text));
    });
    run(conn, insert).await
}

async fn insert_revisions(conn: &mut SqliteConnection, rows: &[Row<'_>], now_ms: i64) -> Result<(), StoreError> {
    let mut insert = QueryBuilder::new(
        "INSERT INTO revisions (no, comment_no, arrival_key, sequence, revision, edited_at_ms, text_hash, comment, \
         recorded_at_ms) ",
    );
    insert.push_values(rows, |mut to, row| {
        let comment = &row.judged.comment;
        to.push_bind(row.revision_no)
            .push_bind(row.comment_no)
            .push_bind(row.arrival.as_str())
            .push_bind(row.judged.sequence)
            .push_bind(comment.revision)
            .push_bind(comment.edited_at.map(jiff::Timestamp::as_millisecond))
            .push_bind(judged_hash(comment))
            .push_bind(row.comment.as_str())
            .push_bind(now_ms);
    });
    run(conn, insert).await
}

async fn insert_assessments(conn: &mut SqliteConnection, rows: &[Row<'_>], now_ms: i64) -> Result<(), StoreError> {
    let mut insert = QueryBuilder::new(
        "INSERT INTO assessments (no, revision_no, pipeline_version, verdict, assessment, recorded_at_ms) ",
    );
    insert.push_values(rows, |mut to, row| {
        let assessment = &row.judged.assessment;
        to.push_bind(row.assessment_no)
            .push_bind(row.revision_no)
            .push_bind(assessment.pipeline_version.0.as_str())
            .push_bind(assessment.verdict.key())
            .push_bind(row.assessment.as_str())
            .push_bind(now_ms);
    });
    run(conn, insert).await
}

async fn insert_messages(conn: &mut SqliteConnection, rows: &[Row<'_>], now_ms: i64) -> Result<(), StoreError> {
    let mut insert = QueryBuilder::new("INSERT INTO outbox (no, event_id, kind, created_at_ms) ");
    insert.push_values(rows, |mut to, row| {
        to.push_bind(row.message_no)
            .push_bind(result_id(COMMENT_ASSESSED, row.judged, &row.arrival, Tell::Once))
            .push_bind(COMMENT_ASSESSED)
            .push_bind(now_ms);
    });
    run(conn, insert).await?;
    let mut insert = QueryBuilder::new("INSERT INTO outbox_bodies (no, body) ");
    insert.push_values(rows, |mut to, row| {
        to.push_bind(row.message_no).push_bind(row.body.as_str());
    });
    run(conn, insert).await
}
