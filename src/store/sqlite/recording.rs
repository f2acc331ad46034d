//! How a judgement becomes durable: one transaction, each step repeatable.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::positions;
use super::rulebooks::active;
use crate::domain::comment::{CommentKey, ConsultationId};
use crate::domain::decision::{Verdict, standing_verdict};
use crate::domain::rulebook::PipelineVersion;
use crate::pipeline::identity::{RevisionOrder, arrival_key, hash_of, judged_hash, text_hash};
use crate::pipeline::ports::{Judged, Recorded, StoreError};
use crate::sqlite::store_error;
use crate::store::bodies::body_to_row;
use crate::store::record::{assessment_to_row, comment_to_row};
use crate::wire::event::{ALERT_SAFEGUARDING, AlertV1, AssessedEventV1, COMMENT_ASSESSED};

#[derive(sqlx::FromRow)]
struct Standing {
    no: i64,
    withdrawn_at_ms: Option<i64>,
    withdrawn_revision: Option<i64>,
    arrival_key: Option<String>,
    revision: Option<i64>,
    edited_at_ms: Option<i64>,
    /// As the current revision arrived.
    sequence: Option<i64>,
    pipeline_version: Option<String>,
    /// Where the comment stands in the order of the consultation.
    position: Option<i64>,
    /// As the arrival in hand came at first sight, if it was here before.
    seen: Option<i64>,
}

/// Who is told of a judgement that becomes the current one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// Whoever takes results, once for each arrival and version.
    Once,
    /// Whoever takes results, once in this adoption of a rulebook: after a roll-back the
    /// same judgement of the same arrival is news again.
    InAdoption(i64),
    /// Nobody.
    Nobody,
}

/// Where a judgement belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It replaces what is there, or is the first.
    Current,
    /// A revision that was overtaken before it was judged.
    History,
    /// Nothing to do.
    Known,
}

impl Standing {
    fn place(&self, key: &str, judged: &Judged) -> Place {
        let (Some(current_key), Some(sequence)) = (&self.arrival_key, self.sequence) else {
            return Place::Current;
        };
        let version = &judged.assessment.pipeline_version.0;
        if current_key == key {
            return if self.pipeline_version.as_ref() == Some(version) { Place::Known } else { Place::Current };
        }
        let standing = RevisionOrder { revision: self.revision, edited_at_ms: self.edited_at_ms, sequence };
        // A broker counts a redelivery anew; what counts is its first sight.
        let order = RevisionOrder::of(&judged.comment, self.seen.unwrap_or(judged.sequence)).compare(standing);
        // With all evidence equal, what is recorded later is the later one: a new
        // arrival replaces the current one, and its redelivery does not bring it back.
        let newer = if self.seen.is_none() { order.is_ge() } else { order.is_gt() };
        if newer { Place::Current } else { Place::History }
    }

    /// Where the comment stands with this arrival as its current one: a judgement made
    /// anew leaves it where it is, an edit moves it.
    async fn position(
        &self,
        conn: &mut SqliteConnection,
        arrival: &str,
        key: &CommentKey,
        sequence: i64,
    ) -> Result<i64, StoreError> {
        match self.position {
            Some(position) if self.arrival_key.as_deref() == Some(arrival) => Ok(position),
            _ => positions::free(conn, key.consultation.as_str(), sequence).await,
        }
    }

    /// Whether this arrival is written anew after a withdrawal.
    fn stays_withdrawn(&self, judged: &Judged) -> bool {
        self.withdrawn_at_ms.is_some()
            && !matches!(
                (judged.comment.revision, self.withdrawn_revision),
                (Some(new), Some(withdrawn)) if new > withdrawn
            )
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
    let standing = standing(tx, &comment.key, &arrival).await?;
    let place = standing.place(&arrival, judged);
    if place == Place::Known {
        return Ok(Recorded::AlreadyKnown);
    }
    let hash = text_hash(&comment.text);
    let (revision_no, sequence) = insert_revision(tx, standing.no, judged, &arrival, now_ms).await?;
    let assessment_no = insert_assessment(tx, revision_no, judged, now_ms).await?;

    // A disclosure in a revision that was overtaken is a disclosure all the same.
    if assessment.verdict == Verdict::Escalate {
        let shown = Shown { comment_no: standing.no, revision_no, assessment_no, hash: &hash };
        escalate(tx, &shown, place, now_ms).await?;
        let body = body_to_row(alert(&comment.key, now_ms)?, judged.trace.as_ref())?;
        // Keyed by the text: a retagging of a text that raised an alert raises no second one.
        enqueue(tx, ALERT_SAFEGUARDING, &comment.key, &[&hash], &body, now_ms).await?;
    }
    if place == Place::Current {
        let stands = stands(tx, standing.no, &hash, assessment.verdict).await?;
        let withdrawn_at_ms = standing.withdrawn_at_ms.filter(|_| standing.stays_withdrawn(judged));
        let position = standing.position(tx, &arrival, &comment.key, sequence).await?;
        sqlx::query(
            "UPDATE comments SET current_revision = $1, current_assessment = $2, sequence = $3, \
             verdict = $4, text_hash = $5, withdrawn_at_ms = $6 WHERE no = $7",
        )
        .bind(revision_no)
        .bind(assessment_no)
        .bind(position)
        .bind(stands.key())
        .bind(&hash)
        .bind(withdrawn_at_ms)
        .bind(standing.no)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
        // What does not stand is told to nobody: a reader of results could act on it.
        if tell != Tell::Nobody && stands == assessment.verdict {
            let adoption = if let Tell::InAdoption(no) = tell { Some(no.to_string()) } else { None };
            let mut what = vec![arrival.as_str(), &assessment.pipeline_version.0];
            what.extend(adoption.as_deref());
            let body = body_to_row(assessed(judged)?, judged.trace.as_ref())?;
            enqueue(tx, COMMENT_ASSESSED, &comment.key, &what, &body, now_ms).await?;
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

/// The verdict in a column.
pub fn verdict(key: &str) -> Result<Verdict, StoreError> {
    Verdict::from_key(key).ok_or_else(|| StoreError::Damaged(format!("unknown verdict `{key}`")))
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

fn alert(key: &CommentKey, now_ms: i64) -> Result<String, StoreError> {
    let at =
        jiff::Timestamp::from_millisecond(now_ms).map_err(|error| StoreError::Failed(format!("clock: {error}")))?;
    serde_json::to_string(&AlertV1::new(key, at)).map_err(|error| StoreError::Failed(format!("write alert: {error}")))
}

async fn standing(conn: &mut SqliteConnection, key: &CommentKey, arrival: &str) -> Result<Standing, StoreError> {
    let found: Option<Standing> = sqlx::query_as(
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
    Ok(Standing {
        no,
        withdrawn_at_ms: None,
        withdrawn_revision: None,
        arrival_key: None,
        revision: None,
        edited_at_ms: None,
        sequence: None,
        pipeline_version: None,
        position: None,
        seen: None,
    })
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

/// A hash of what happened, so that a repeated step writes nothing new.
pub(super) fn event_id(kind: &str, key: &CommentKey, what: &[&str]) -> String {
    let mut parts = vec![kind, key.consultation.as_str(), key.source.as_str(), key.id.as_str()];
    parts.extend(what);
    hash_of(&parts)
}

/// The body of [`COMMENT_ASSESSED`].
pub(super) fn assessed(judged: &Judged) -> Result<String, StoreError> {
    serde_json::to_string(&AssessedEventV1::from(judged))
        .map_err(|error| StoreError::Failed(format!("write message: {error}")))
}

async fn enqueue(
    conn: &mut SqliteConnection,
    kind: &str,
    key: &CommentKey,
    what: &[&str],
    body: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let no: Option<i64> = sqlx::query_scalar(
        "INSERT INTO outbox (event_id, kind, created_at_ms) VALUES ($1, $2, $3) \
         ON CONFLICT (event_id) DO NOTHING RETURNING no",
    )
    .bind(event_id(kind, key, what))
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
