//! The writes of one round: each table once, however many rows.

use sqlx::postgres::PgConnection;

use super::connection::store_error;
use super::record::Prepared;
use super::texts::kept;
use crate::pipeline::ports::StoreError;

/// Numbers for new rows, taken beforehand so that rows can point at each other. What is not
/// used stays unused: numbers have gaps.
pub struct Numbers {
    comments: std::vec::IntoIter<i64>,
    revisions: std::vec::IntoIter<i64>,
    assessments: std::vec::IntoIter<i64>,
}

impl Numbers {
    /// Takes enough for so many judgements.
    pub async fn take(conn: &mut PgConnection, count: usize) -> Result<Self, StoreError> {
        let (comments, revisions, assessments): (Vec<i64>, Vec<i64>, Vec<i64>) = sqlx::query_as(
            "SELECT ARRAY(SELECT nextval(pg_get_serial_sequence('comments', 'no')) FROM generate_series(1, $1)), \
             ARRAY(SELECT nextval(pg_get_serial_sequence('revisions', 'no')) FROM generate_series(1, $1)), \
             ARRAY(SELECT nextval(pg_get_serial_sequence('assessments', 'no')) FROM generate_series(1, $1))",
        )
        .bind(count as i64)
        .fetch_one(conn)
        .await
        .map_err(store_error)?;
        Ok(Self {
            comments: comments.into_iter(),
            revisions: revisions.into_iter(),
            assessments: assessments.into_iter(),
        })
    }

    pub fn comment(&mut self) -> i64 {
        self.comments.next().expect("as many were taken as there are judgements")
    }

    pub fn revision(&mut self) -> i64 {
        self.revisions.next().expect("as many were taken as there are judgements")
    }

    pub fn assessment(&mut self) -> i64 {
        self.assessments.next().expect("as many were taken as there are judgements")
    }
}

/// A row that belongs to another one.
pub struct NewRow<'a> {
    pub no: i64,
    pub of: i64,
    pub item: &'a Prepared<'a>,
}

/// A comment with its new current revision.
pub struct NewComment<'a> {
    pub no: i64,
    pub item: &'a Prepared<'a>,
    pub revision_no: i64,
    pub assessment_no: i64,
    pub position: i64,
    pub verdict: &'static str,
    pub withdrawn_at_ms: Option<i64>,
}

/// What a person must see.
pub struct Disclosed<'a> {
    pub comment_no: i64,
    pub revision_no: i64,
    pub assessment_no: i64,
    pub text_hash: &'a str,
}

/// Everything that one round writes.
#[derive(Default)]
pub struct Write<'a> {
    /// Comments that the store has never met.
    pub comments: Vec<NewComment<'a>>,
    /// Comments whose row is there.
    pub updated: Vec<NewComment<'a>>,
    pub revisions: Vec<NewRow<'a>>,
    pub assessments: Vec<NewRow<'a>>,
    /// In a current revision.
    pub disclosures: Vec<Disclosed<'a>>,
    /// In a revision that was overtaken before it was judged.
    pub overtaken: Vec<Disclosed<'a>>,
    /// Event id, kind, body.
    pub messages: Vec<(String, &'static str, String)>,
}

impl Write<'_> {
    /// Writes it all.
    pub async fn run(&self, conn: &mut PgConnection, now_ms: i64) -> Result<(), StoreError> {
        insert_comments(conn, &self.comments).await?;
        insert_revisions(conn, &self.revisions, now_ms).await?;
        insert_assessments(conn, &self.assessments, now_ms).await?;
        disclose(conn, &self.disclosures, now_ms).await?;
        update_comments(conn, &self.updated).await?;
        disclose_overtaken(conn, &self.overtaken, now_ms).await?;
        enqueue(conn, &self.messages, now_ms).await
    }
}

fn column<T, U>(rows: &[T], of: impl Fn(&T) -> U) -> Vec<U> {
    rows.iter().map(of).collect()
}

async fn insert_comments(conn: &mut PgConnection, rows: &[NewComment<'_>]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let key = |of: fn(&crate::domain::comment::CommentKey) -> &str| {
        column(rows, |row| kept(of(&row.item.judged.comment.key)).into_owned())
    };
    sqlx::query(
        "INSERT INTO comments (no, key_hash, consultation, source, id, current_revision, current_assessment, \
         sequence, verdict, text_hash) \
         SELECT no, decode(key, 'hex'), consultation, source, id, revision, assessment, sequence, verdict, text_hash \
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], \
             $8::bigint[], $9::text[], $10::text[]) \
             AS w (no, key, consultation, source, id, revision, assessment, sequence, verdict, text_hash)",
    )
    .bind(column(rows, |row| row.no))
    .bind(column(rows, |row| row.item.key.clone()))
    .bind(key(|key| key.consultation.as_str()))
    .bind(key(|key| key.source.as_str()))
    .bind(key(|key| key.id.as_str()))
    .bind(column(rows, |row| row.revision_no))
    .bind(column(rows, |row| row.assessment_no))
    .bind(column(rows, |row| row.position))
    .bind(column(rows, |row| row.verdict))
    .bind(column(rows, |row| row.item.text_hash.clone()))
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}

async fn update_comments(conn: &mut PgConnection, rows: &[NewComment<'_>]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE comments c SET current_revision = w.revision, current_assessment = w.assessment, \
         sequence = w.sequence, verdict = w.verdict, text_hash = w.text_hash, withdrawn_at_ms = w.withdrawn_at_ms \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::bigint[]) \
             AS w (no, revision, assessment, sequence, verdict, text_hash, withdrawn_at_ms) \
         WHERE c.no = w.no",
    )
    .bind(column(rows, |row| row.no))
    .bind(column(rows, |row| row.revision_no))
    .bind(column(rows, |row| row.assessment_no))
    .bind(column(rows, |row| row.position))
    .bind(column(rows, |row| row.verdict))
    .bind(column(rows, |row| row.item.text_hash.clone()))
    .bind(column(rows, |row| row.withdrawn_at_ms))
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}

async fn insert_revisions(conn: &mut PgConnection, rows: &[NewRow<'_>], now_ms: i64) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO revisions (no, comment_no, arrival_key, sequence, revision, edited_at_ms, text_hash, comment, \
         recorded_at_ms) \
         SELECT w.*, $9 FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], \
             $6::bigint[], $7::text[], $8::text[]) AS w",
    )
    .bind(column(rows, |row| row.no))
    .bind(column(rows, |row| row.of))
    .bind(column(rows, |row| row.item.arrival.clone()))
    .bind(column(rows, |row| row.item.judged.sequence))
    .bind(column(rows, |row| row.item.judged.comment.revision))
    .bind(column(rows, |row| row.item.judged.comment.edited_at.map(jiff::Timestamp::as_millisecond)))
    .bind(column(rows, |row| row.item.judged_hash.clone()))
    .bind(column(rows, |row| row.item.comment.as_str()))
    .bind(now_ms)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}

async fn insert_assessments(conn: &mut PgConnection, rows: &[NewRow<'_>], now_ms: i64) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO assessments (no, revision_no, pipeline_version, verdict, assessment, recorded_at_ms) \
         SELECT w.*, $6 FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[]) AS w",
    )
    .bind(column(rows, |row| row.no))
    .bind(column(rows, |row| row.of))
    .bind(column(rows, |row| row.item.judged.assessment.pipeline_version.0.as_str()))
    .bind(column(rows, |row| row.item.judged.assessment.verdict.key()))
    .bind(column(rows, |row| row.item.assessment.as_str()))
    .bind(now_ms)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}

/// A person who has looked at a text need not look at the same text again; a
/// new text asks again, and one that still waits keeps waiting since its first time.
async fn disclose(conn: &mut PgConnection, rows: &[Disclosed<'_>], now_ms: i64) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO disclosures (comment_no, revision_no, assessment_no, text_hash, escalated_at_ms) \
         SELECT w.*, $5 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS w \
         ON CONFLICT (comment_no) DO UPDATE SET \
         revision_no = excluded.revision_no, assessment_no = excluded.assessment_no, \
         text_hash = excluded.text_hash, \
         escalated_at_ms = CASE WHEN disclosures.acknowledged_at_ms IS NULL \
             OR disclosures.text_hash = excluded.text_hash \
             THEN disclosures.escalated_at_ms ELSE excluded.escalated_at_ms END, \
         acknowledged_at_ms = CASE WHEN disclosures.text_hash = excluded.text_hash \
             THEN disclosures.acknowledged_at_ms ELSE NULL END, \
         acknowledged_by = CASE WHEN disclosures.text_hash = excluded.text_hash \
             THEN disclosures.acknowledged_by ELSE NULL END";
    insert_disclosures(conn, insert, rows, now_ms).await
}

async fn disclose_overtaken(conn: &mut PgConnection, rows: &[Disclosed<'_>], now_ms: i64) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO disclosures (comment_no, revision_no, assessment_no, text_hash, escalated_at_ms) \
         SELECT w.*, $5 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS w \
         ON CONFLICT (comment_no) DO NOTHING";
    insert_disclosures(conn, insert, rows, now_ms).await?;
    // The current revision may say the same words, as an edit back to them does.
    sqlx::query(
        "UPDATE comments c SET verdict = 'escalate' FROM unnest($1::bigint[], $2::text[]) AS w (no, text_hash) \
         WHERE c.no = w.no AND c.text_hash = w.text_hash AND NOT EXISTS \
         (SELECT 1 FROM decisions d WHERE d.comment_no = c.no AND d.text_hash = c.text_hash)",
    )
    .bind(column(rows, |row| row.comment_no))
    .bind(column(rows, |row| row.text_hash))
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}

async fn insert_disclosures(
    conn: &mut PgConnection,
    insert: &'static str,
    rows: &[Disclosed<'_>],
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(insert)
        .bind(column(rows, |row| row.comment_no))
        .bind(column(rows, |row| row.revision_no))
        .bind(column(rows, |row| row.assessment_no))
        .bind(column(rows, |row| row.text_hash))
        .bind(now_ms)
        .execute(conn)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Messages in their order; one that was written before is not written again.
async fn enqueue(
    conn: &mut PgConnection,
    messages: &[(String, &'static str, String)],
    now_ms: i64,
) -> Result<(), StoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH w AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY \
             AS w (event_id, kind, body, n)), \
         written AS (INSERT INTO outbox (event_id, kind, created_at_ms) \
             SELECT event_id, kind, $4 FROM w ORDER BY n ON CONFLICT (event_id) DO NOTHING RETURNING no, event_id) \
         INSERT INTO outbox_bodies (no, body) SELECT written.no, w.body FROM written JOIN w USING (event_id)",
    )
    .bind(column(messages, |message| message.0.clone()))
    .bind(column(messages, |message| message.1))
    .bind(column(messages, |message| message.2.clone()))
    .bind(now_ms)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}
