//! How a judgement becomes durable: one transaction, each step repeatable.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::positions;
use super::rulebooks::active;
use crate::domain::comment::{CommentKey, ConsultationId};
use crate::domain::decision::{Verdict, standing_verdict};
use crate::domain::rulebook::PipelineVersion;
use crate::pipeline::identity::{arrival_key, judged_hash, text_hash};
use crate::pipeline::ports::{Judged, Recorded, StoreError};
use crate::sql::from_row;
use crate::sqlite::store_error;
use crate::store::record::{assessment_to_row, comment_to_row};
use crate::store::standing::{Place, Standing, Tell, alert, assessed, event_id, result_id, verdict};
use crate::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};

struct Found {
    no: i64,
    standing: Standing,
}

from_row!(Found { no, ..standing });

/// Where the comment stands with this arrival as its current one.
async fn position(
    conn: &mut SqliteConnection,
    standing: &Standing,
    arrival: &str,
    key: &CommentKey,
    sequence: i64,
) -> Result<i64, StoreError> {
    match standing.kept_position(arrival) {
        Some(position) => Ok(position),
        None => positions::free(conn, key.consultation.as_str(), sequence).await,
    }
}

/// Stores one judgement inside the caller's transaction.
pub async fn record_one(
    tx: &mut Transaction<'static, Sqlite>,
    judged: &Judged,
    tell: Tell,
    now_ms: i64,
) -> Result<Recorded, StoreError> {
    let comment = &judged.comment;
    let assessment = &judged.assessment;
    let arrival = arrival_key(comment);
    let Found { no, standing } = find(tx, &comment.key, &arrival).await?;
    let place = standing.place(&arrival, judged);
    if place == Place::Known {
        return Ok(Recorded::AlreadyKnown);
    }
    let hash = text_hash(&comment.text);
    let (revision_no, sequence) = insert_revision(tx, no, judged, &arrival, now_ms).await?;
    let assessment_no = insert_assessment(tx, revision_no, judged, now_ms).await?;

    // A disclosure in a revision that was overtaken is a disclosure all the same.
    if assessment.verdict == Verdict::Escalate {
        let shown = Shown { comment_no: no, revision_no, assessment_no, hash: &hash };
        escalate(tx, &shown, place, now_ms).await?;
        let body = alert(judged, now_ms)?;
        // Keyed by the text: a retagging of a text that raised an alert raises no second one.
        let event_id = event_id(ALERT_SAFEGUARDING, &comment.key, &[&hash]);
        enqueue(tx, ALERT_SAFEGUARDING, &event_id, &body, now_ms).await?;
    }
    if place == Place::Current {
        let stands = stands(tx, no, &hash, assessment.verdict).await?;
        let position = position(tx, &standing, &arrival, &comment.key, sequence).await?;
        sqlx::query(
            "UPDATE comments SET current_revision = $1, current_assessment = $2, sequence = $3, \
             verdict = $4, text_hash = $5, withdrawn_at_ms = $6 WHERE no = $7",
        )
        .bind(revision_no)
        .bind(assessment_no)
        .bind(position)
        .bind(stands.key())
        .bind(&hash)
        .bind(standing.stays_withdrawn_at_ms(judged))
        .bind(no)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
        // What does not stand is told to nobody: a reader of results could act on it.
        if tell != Tell::Nobody && stands == assessment.verdict {
            let event_id = result_id(COMMENT_ASSESSED, judged, &arrival, tell);
            let body = assessed(judged)?;
            enqueue(tx, COMMENT_ASSESSED, &event_id, &body, now_ms).await?;
        }
    }
    Ok(if place == Place::Current { Recorded::New } else { Recorded::AlreadyKnown })
}

/// Refuses judgements under another version than the active one, in the transaction that
/// would store them: a worker that was left behind cannot mix two standards.
pub async fn only_active(conn: &mut SqliteConnection, judged: &[Judged]) -> Result<(), StoreError> {
    let mut carried: Vec<(&ConsultationId, &PipelineVersion)> =
        judged.iter().map(|one| (&one.comment.key.consultation, &one.assessment.pipeline_version)).collect();
    carried.sort_unstable();
    carried.dedup();
    for (consultation, carried) in carried {
        if let Some(active) = active(conn, consultation).await?
            && active != *carried
        {
            return Err(StoreError::OtherRulebook {
                consultation: consultation.clone(),
                active,
                carried: carried.clone(),
            });
        }
    }
    Ok(())
}

/// The verdict that stands on a text, given the machine's.
async fn stands(
    conn: &mut SqliteConnection,
    comment_no: i64,
    hash: &str,
    machine: Verdict,
) -> Result<Verdict, StoreError> {
    let (escalated, decided): (bool, Option<String>) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM disclosures WHERE comment_no = $1 AND text_hash = $2), \
         (SELECT verdict FROM decisions WHERE comment_no = $1 AND text_hash = $2 ORDER BY no DESC LIMIT 1)",
    )
    .bind(comment_no)
    .bind(hash)
    .fetch_one(conn)
    .await
    .map_err(store_error)?;
    Ok(standing_verdict(decided.as_deref().map(verdict).transpose()?, escalated, machine))
}

/// Records what a person decided about a text, if it is the current one.
pub async fn decide(
    conn: &mut SqliteConnection,
    key: &CommentKey,
    text_hash: &str,
    (verdict, by): (Verdict, &str),
    now_ms: i64,
) -> Result<bool, StoreError> {
    let no: Option<i64> = sqlx::query_scalar(
        "UPDATE comments SET verdict = $1 WHERE consultation = $2 AND source = $3 AND id = $4 \
         AND current_revision IS NOT NULL AND text_hash = $5 RETURNING no",
    )
    .bind(verdict.key())
    .bind(key.consultation.as_str())
    .bind(key.source.as_str())
    .bind(key.id.as_str())
    .bind(text_hash)
    .fetch_optional(&mut *conn)
    .await
    .map_err(store_error)?;
    let Some(no) = no else { return Ok(false) };
    sqlx::query(
        "INSERT INTO decisions (comment_no, text_hash, verdict, decided_by, decided_at_ms) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(no)
    .bind(text_hash)
    .bind(verdict.key())
    .bind(by)
    .bind(now_ms)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(true)
}

/// The row of this arrival, and the sequence that it had at first sight.
async fn insert_revision(
    conn: &mut SqliteConnection,
    comment_no: i64,
    judged: &Judged,
    arrival: &str,
    now_ms: i64,
) -> Result<(i64, i64), StoreError> {
    let comment = &judged.comment;
    // The update changes nothing: it makes the row that is already there answer.
    sqlx::query_as(
        "INSERT INTO revisions (comment_no, arrival_key, sequence, revision, edited_at_ms, \
         text_hash, comment, recorded_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (comment_no, arrival_key) DO UPDATE SET sequence = revisions.sequence \
         RETURNING no, sequence",
    )
    .bind(comment_no)
    .bind(arrival)
    .bind(judged.sequence)
    .bind(comment.revision)
    .bind(comment.edited_at.map(jiff::Timestamp::as_millisecond))
    .bind(judged_hash(comment))
    .bind(comment_to_row(comment)?)
    .bind(now_ms)
    .fetch_one(conn)
    .await
    .map_err(store_error)
}

async fn insert_assessment(
    conn: &mut SqliteConnection,
    revision_no: i64,
    judged: &Judged,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let assessment = &judged.assessment;
    sqlx::query_scalar(
        "INSERT INTO assessments (revision_no, pipeline_version, verdict, assessment, \
         recorded_at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (revision_no, pipeline_version) DO UPDATE SET verdict = assessments.verdict \
         RETURNING no",
    )
    .bind(revision_no)
    .bind(&assessment.pipeline_version.0)
    .bind(assessment.verdict.key())
    .bind(assessment_to_row(assessment)?)
    .bind(now_ms)
    .fetch_one(conn)
    .await
    .map_err(store_error)
}

async fn find(conn: &mut SqliteConnection, key: &CommentKey, arrival: &str) -> Result<Found, StoreError> {
    let found: Option<Found> = sqlx::query_as(
        "SELECT c.no, c.withdrawn_at_ms, c.withdrawn_revision, r.arrival_key, r.revision, \
         r.edited_at_ms, r.sequence, a.pipeline_version, c.sequence AS position, \
         (SELECT s.sequence FROM revisions s WHERE s.comment_no = c.no AND s.arrival_key = $4) AS seen \
         FROM comments c LEFT JOIN revisions r ON r.no = c.current_revision \
         LEFT JOIN assessments a ON a.no = c.current_assessment \
         WHERE c.consultation = $1 AND c.source = $2 AND c.id = $3",
    )
    .bind(key.consultation.as_str())
    .bind(key.source.as_str())
    .bind(key.id.as_str())
    .bind(arrival)
    .fetch_optional(&mut *conn)
    .await
    .map_err(store_error)?;
    if let Some(found) = found {
        return Ok(found);
    }
    let no = sqlx::query_scalar("INSERT INTO comments (consultation, source, id) VALUES ($1, $2, $3) RETURNING no")
        .bind(key.consultation.as_str())
        .bind(key.source.as_str())
        .bind(key.id.as_str())
        .fetch_one(conn)
        .await
        .map_err(store_error)?;
    Ok(Found { no, standing: Standing::default() })
}

/// What a person must see.
struct Shown<'a> {
    comment_no: i64,
    revision_no: i64,
    assessment_no: i64,
    hash: &'a str,
}

/// A person who has looked at a text need not look at the same text again; a
/// new text asks again, and one that still waits keeps waiting since its first time.
async fn escalate(conn: &mut SqliteConnection, shown: &Shown<'_>, place: Place, now_ms: i64) -> Result<(), StoreError> {
    let sql = if place == Place::Current {
        "INSERT INTO disclosures (comment_no, revision_no, assessment_no, text_hash, \
         escalated_at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (comment_no) DO UPDATE SET \
         revision_no = excluded.revision_no, assessment_no = excluded.assessment_no, \
         text_hash = excluded.text_hash, \
         escalated_at_ms = CASE WHEN disclosures.acknowledged_at_ms IS NULL \
             OR disclosures.text_hash = excluded.text_hash \
             THEN disclosures.escalated_at_ms ELSE excluded.escalated_at_ms END, \
         acknowledged_at_ms = CASE WHEN disclosures.text_hash = excluded.text_hash \
             THEN disclosures.acknowledged_at_ms ELSE NULL END, \
         acknowledged_by = CASE WHEN disclosures.text_hash = excluded.text_hash \
             THEN disclosures.acknowledged_by ELSE NULL END"
    } else {
        "INSERT INTO disclosures (comment_no, revision_no, assessment_no, text_hash, \
         escalated_at_ms) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (comment_no) DO NOTHING"
    };
    sqlx::query(sql)
        .bind(shown.comment_no)
        .bind(shown.revision_no)
        .bind(shown.assessment_no)
        .bind(shown.hash)
        .bind(now_ms)
        .execute(&mut *conn)
        .await
        .map_err(store_error)?;
    if place == Place::History {
        // The current revision may say the same words, as an edit back to them does.
        sqlx::query(
            "UPDATE comments SET verdict = 'escalate' WHERE no = $1 AND text_hash = $2 AND NOT EXISTS \
             (SELECT 1 FROM decisions d WHERE d.comment_no = comments.no AND d.text_hash = comments.text_hash)",
        )
        .bind(shown.comment_no)
        .bind(shown.hash)
        .execute(conn)
        .await
        .map_err(store_error)?;
    }
    Ok(())
}

async fn enqueue(
    conn: &mut SqliteConnection,
    kind: &str,
    event_id: &str,
    body: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let no: Option<i64> = sqlx::query_scalar(
        "INSERT INTO outbox (event_id, kind, created_at_ms) VALUES ($1, $2, $3) \
         ON CONFLICT (event_id) DO NOTHING RETURNING no",
    )
    .bind(event_id)
    .bind(kind)
    .bind(now_ms)
    .fetch_optional(&mut *conn)
    .await
    .map_err(store_error)?;
    if let Some(no) = no {
        sqlx::query("INSERT INTO outbox_bodies (no, body) VALUES ($1, $2)")
            .bind(no)
            .bind(body)
            .execute(conn)
            .await
            .map_err(store_error)?;
    }
    Ok(())
}
