//! How a batch of judgements becomes durable: in one transaction, by as many statements for
//! a thousand comments as for one.
//!
//! Everybody who changes comments of a consultation takes a [`turn`] first, so what is read
//! of a comment here cannot change before it is written. A comment that stands in a batch
//! several times is stored in as many rounds, each of which reads what the one before wrote.

use std::collections::{BTreeMap, HashMap};

use sqlx::postgres::PgConnection;

use super::connection::store_error;
use super::positions::{self, Wish};
use super::texts::kept;
use super::write::{self, Disclosed, NewComment, NewRow, Write};
use crate::domain::comment::{CommentKey, ConsultationId};
use crate::domain::decision::{Verdict, standing_verdict};
use crate::domain::rulebook::PipelineVersion;
use crate::pipeline::identity::{arrival_key, hash_of, judged_hash, text_hash};
use crate::pipeline::ports::{Judged, Recorded, StoreError};
use crate::sql::from_row;
use crate::store::parts::active_key;
use crate::store::record::{assessment_to_row, comment_to_row};
use crate::store::standing::{Place, Standing, Tell, alert, assessed, event_id, is_time, result_id, verdict};
use crate::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};

/// What a comment is found by.
pub fn key_hash(key: &CommentKey) -> String {
    hash_of(&[key.consultation.as_str(), key.source.as_str(), key.id.as_str()])
}

/// Waits for this transaction's turn among all that change comments of these consultations.
/// It lasts until the transaction ends. What is read after it is as the last one left it.
pub async fn turn<'a>(
    conn: &mut PgConnection,
    consultations: impl IntoIterator<Item = &'a ConsultationId>,
) -> Result<(), StoreError> {
    let mut names: Vec<&str> = consultations.into_iter().map(ConsultationId::as_str).collect();
    // In one order everywhere, so that two transactions never wait for each other.
    names.sort_unstable();
    names.dedup();
    let names: Vec<String> = names.into_iter().map(|name| hash_of(&["turn", name])).collect();
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || name, 0)) FROM unnest($1::text[]) AS name",
    )
    .bind(names)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}

/// A judgement with everything that can be computed before the transaction.
pub struct Prepared<'a> {
    pub judged: &'a Judged,
    pub tell: Tell,
    pub key: String,
    pub arrival: String,
    pub text_hash: String,
    pub judged_hash: String,
    pub comment: String,
    pub assessment: String,
    pub result: String,
}

/// Computes what can be computed outside of the transaction.
pub fn prepare(judged: &[Judged]) -> Result<Vec<Prepared<'_>>, StoreError> {
    judged
        .iter()
        .map(|one| {
            Ok(Prepared {
                judged: one,
                tell: Tell::Once,
                key: key_hash(&one.comment.key),
                arrival: arrival_key(&one.comment),
                text_hash: text_hash(&one.comment.text),
                judged_hash: judged_hash(&one.comment),
                comment: comment_to_row(&one.comment)?,
                assessment: assessment_to_row(&one.assessment)?,
                result: assessed(one)?,
            })
        })
        .collect()
}

/// Stores a batch in the caller's transaction, which has the turn.
pub async fn record(conn: &mut PgConnection, batch: &[Prepared<'_>], now_ms: i64) -> Result<Vec<Recorded>, StoreError> {
    only_active(conn, batch).await?;
    let mut recorded = vec![Recorded::AlreadyKnown; batch.len()];
    for round in rounds(batch) {
        let items: Vec<&Prepared<'_>> = round.iter().map(|at| &batch[*at]).collect();
        for (at, place) in round.into_iter().zip(store(conn, &items, now_ms).await?) {
            if place == Place::Current {
                recorded[at] = Recorded::New;
            }
        }
    }
    Ok(recorded)
}

/// Places in the batch, so that no comment stands in a round twice and each comes in its order.
fn rounds(batch: &[Prepared<'_>]) -> Vec<Vec<usize>> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (at, one) in batch.iter().enumerate() {
        let round = times.entry(&one.key).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(at);
        *round += 1;
    }
    rounds
}

/// Refuses judgements under another version than the active one, in the transaction that
/// would store them: a worker that was left behind cannot mix two standards.
async fn only_active(conn: &mut PgConnection, batch: &[Prepared<'_>]) -> Result<(), StoreError> {
    let mut carried: Vec<(&ConsultationId, &PipelineVersion)> = batch
        .iter()
        .map(|one| (&one.judged.comment.key.consultation, &one.judged.assessment.pipeline_version))
        .collect();
    carried.sort_unstable();
    carried.dedup();
    let keys: Vec<String> = carried.iter().map(|(consultation, _)| kept(&active_key(consultation)).into()).collect();
    let active: Vec<Option<String>> = sqlx::query_scalar(
        "SELECT m.value FROM unnest($1::text[]) WITH ORDINALITY AS w (key, n) LEFT JOIN meta m ON m.key = w.key \
         ORDER BY w.n",
    )
    .bind(keys)
    .fetch_all(conn)
    .await
    .map_err(store_error)?;
    for ((consultation, carried), active) in carried.into_iter().zip(active) {
        if let Some(active) = active.map(PipelineVersion)
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

/// A comment as it stands, and what is known of the judgement in hand.
struct Found {
    comment_no: Option<i64>,
    revision_no: Option<i64>,
    assessment_no: Option<i64>,
    /// Whether this text was escalated before.
    escalated: bool,
    /// What a person decided about this text.
    decided: Option<String>,
    /// Whether some comment stands at the arrival's sequence.
    taken: bool,
    standing: Standing,
}

from_row!(Found { comment_no, revision_no, assessment_no, escalated, decided, taken, ..standing });

async fn find(conn: &mut PgConnection, items: &[&Prepared<'_>]) -> Result<Vec<Found>, StoreError> {
    let column = |of: fn(&Prepared<'_>) -> String| items.iter().map(|one| of(one)).collect::<Vec<String>>();
    let sequences: Vec<i64> = items.iter().map(|one| one.judged.sequence).collect();
    sqlx::query_as(
        "SELECT c.no AS comment_no, s.no AS revision_no, b.no AS assessment_no, \
         COALESCE(d.text_hash = w.text_hash, FALSE) AS escalated, \
         (SELECT p.verdict FROM decisions p WHERE p.comment_no = c.no AND p.text_hash = w.text_hash \
             ORDER BY p.no DESC LIMIT 1) AS decided, \
         EXISTS (SELECT 1 FROM comments o WHERE o.consultation = w.consultation AND o.sequence = w.sequence) AS taken, \
         c.withdrawn_at_ms, c.withdrawn_revision, r.arrival_key, r.revision, r.edited_at_ms, r.sequence, \
         a.pipeline_version, c.sequence AS position, s.sequence AS seen \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) WITH ORDINALITY \
             AS w (key, consultation, arrival, version, text_hash, sequence, n) \
         LEFT JOIN comments c ON c.key_hash = decode(w.key, 'hex') \
         LEFT JOIN revisions r ON r.no = c.current_revision \
         LEFT JOIN assessments a ON a.no = c.current_assessment \
         LEFT JOIN revisions s ON s.comment_no = c.no AND s.arrival_key = w.arrival \
         LEFT JOIN assessments b ON b.revision_no = s.no AND b.pipeline_version = w.version \
         LEFT JOIN disclosures d ON d.comment_no = c.no \
         ORDER BY w.n",
    )
    .bind(column(|one| one.key.clone()))
    .bind(column(|one| kept(one.judged.comment.key.consultation.as_str()).into()))
    .bind(column(|one| one.arrival.clone()))
    .bind(column(|one| one.judged.assessment.pipeline_version.0.clone()))
    .bind(column(|one| one.text_hash.clone()))
    .bind(sequences)
    .fetch_all(conn)
    .await
    .map_err(store_error)
}

/// Stores one round: reads, decides, writes.
async fn store(conn: &mut PgConnection, items: &[&Prepared<'_>], now_ms: i64) -> Result<Vec<Place>, StoreError> {
    let found = find(conn, items).await?;
    let places: Vec<Place> =
        items.iter().zip(&found).map(|(one, found)| found.standing.place(&one.arrival, one.judged)).collect();
    let changed: Vec<usize> = (0..items.len()).filter(|at| places[*at] != Place::Known).collect();
    if changed.is_empty() {
        return Ok(places);
    }
    let positions = positions(conn, items, &found, &places).await?;
    let mut numbers = write::Numbers::take(conn, changed.len()).await?;
    let mut write = Write::default();
    for at in changed {
        let (one, found, place) = (items[at], &found[at], places[at]);
        let judged = one.judged;
        let comment_no = found.comment_no.unwrap_or_else(|| numbers.comment());
        let revision_no = found.revision_no.unwrap_or_else(|| {
            let no = numbers.revision();
            write.revisions.push(NewRow { no, of: comment_no, item: one });
            no
        });
        let assessment_no = found.assessment_no.unwrap_or_else(|| {
            let no = numbers.assessment();
            write.assessments.push(NewRow { no, of: revision_no, item: one });
            no
        });
        let escalates = judged.assessment.verdict == Verdict::Escalate;
        // A disclosure in a revision that was overtaken is a disclosure all the same.
        if escalates {
            let disclosed = Disclosed { comment_no, revision_no, assessment_no, text_hash: &one.text_hash };
            if place == Place::Current { &mut write.disclosures } else { &mut write.overtaken }.push(disclosed);
            // Keyed by the text: a retagging of a text that raised an alert raises no second one.
            let id = event_id(ALERT_SAFEGUARDING, &judged.comment.key, &[&one.text_hash]);
            let body = alert(judged, now_ms)?;
            write.messages.push((id, ALERT_SAFEGUARDING, body));
        }
        if place != Place::Current {
            continue;
        }
        let decided = found.decided.as_deref().map(verdict).transpose()?;
        let stands = standing_verdict(decided, escalates || found.escalated, judged.assessment.verdict);
        let row = NewComment {
            no: comment_no,
            item: one,
            revision_no,
            assessment_no,
            position: positions[&at],
            verdict: stands.key(),
            withdrawn_at_ms: found.standing.stays_withdrawn_at_ms(judged),
        };
        if found.comment_no.is_some() { &mut write.updated } else { &mut write.comments }.push(row);
        // What does not stand is told to nobody: a reader of results could act on it.
        if one.tell != Tell::Nobody && stands == judged.assessment.verdict {
            let id = result_id(COMMENT_ASSESSED, judged, &one.arrival, one.tell);
            write.messages.push((id, COMMENT_ASSESSED, one.result.clone()));
        }
    }
    write.run(conn, now_ms).await?;
    Ok(places)
}

/// Where each comment stands that gets a new current revision, by its place in the round.
async fn positions(
    conn: &mut PgConnection,
    items: &[&Prepared<'_>],
    found: &[Found],
    places: &[Place],
) -> Result<BTreeMap<usize, i64>, StoreError> {
    let mut given = BTreeMap::new();
    let mut taken = positions::Taken::default();
    let mut wishes = Vec::new();
    for (at, one) in items.iter().enumerate().filter(|(at, _)| places[*at] == Place::Current) {
        let (found, judged) = (&found[at], one.judged);
        let consultation = &judged.comment.key.consultation;
        if let Some(position) = found.standing.kept_position(&one.arrival) {
            given.insert(at, position);
            continue;
        }
        // As this arrival came at first sight.
        let sequence = found.standing.seen.unwrap_or(judged.sequence);
        let free = !found.taken && sequence == judged.sequence && is_time(sequence);
        if free && taken.take(consultation, sequence) {
            given.insert(at, sequence);
        } else {
            wishes.push(Wish { at, consultation, sequence });
        }
    }
    positions::find(conn, &wishes, &mut taken, &mut given).await?;
    Ok(given)
}
