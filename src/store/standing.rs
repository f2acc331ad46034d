//! What a new judgement means for a comment as it stands: pure, the same for every database.

use serde::Serialize;

use crate::domain::comment::CommentKey;
use crate::domain::decision::Verdict;
use crate::pipeline::identity::{RevisionOrder, hash_of};
use crate::pipeline::ports::{Judged, StoreError};
use crate::sql::from_row;
use crate::wire::event::{AlertV1, AssessedEventV1};
use crate::wire::traced;

/// The end of the year 9999 in microseconds: a sender's number beyond it is no time,
/// and must not leave the positions after it without room.
pub const LATEST: i64 = 253_402_300_799_999_999;

/// Whether a comment may stand where its sequence says, if nobody does.
pub fn is_time(sequence: i64) -> bool {
    (0..=LATEST).contains(&sequence)
}

/// A comment's current revision and judgement, as a row tells them; nothing where there is none yet.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// When its source withdrew it (Unix milliseconds).
    pub withdrawn_at_ms: Option<i64>,
    /// The revision that was withdrawn.
    pub withdrawn_revision: Option<i64>,
    /// Which arrival is the current one.
    pub arrival_key: Option<String>,
    /// Its revision, as the source counts.
    pub revision: Option<i64>,
    /// When it was edited (Unix milliseconds).
    pub edited_at_ms: Option<i64>,
    /// As the current revision arrived.
    pub sequence: Option<i64>,
    /// Under which version it was judged.
    pub pipeline_version: Option<String>,
    /// Where the comment stands in the order of the consultation.
    pub position: Option<i64>,
    /// As the arrival in hand came at first sight, if it was here before.
    pub seen: Option<i64>,
}

from_row!(Standing {
    withdrawn_at_ms,
    withdrawn_revision,
    arrival_key,
    revision,
    edited_at_ms,
    sequence,
    pipeline_version,
    position,
    seen
});

/// Who is told of a judgement that becomes the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It replaces what is there, or is the first.
    Current,
    /// A revision that was overtaken before it was judged.
    History,
    /// Nothing to do.
    Known,
}

impl Standing {
    /// Where a judgement of the arrival `key` belongs.
    pub fn place(&self, key: &str, judged: &Judged) -> Place {
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

    /// The position that stays with the arrival as its current one: a judgement made
    /// anew leaves a comment where it is, an edit moves it.
    pub fn kept_position(&self, arrival: &str) -> Option<i64> {
        self.position.filter(|_| self.arrival_key.as_deref() == Some(arrival))
    }

    /// When the comment was withdrawn, if this arrival is not written anew after that.
    pub fn stays_withdrawn_at_ms(&self, judged: &Judged) -> Option<i64> {
        let written_anew = matches!(
            (judged.comment.revision, self.withdrawn_revision),
            (Some(new), Some(withdrawn)) if new > withdrawn
        );
        self.withdrawn_at_ms.filter(|_| !written_anew)
    }
}

/// The verdict in a column.
pub fn verdict(key: &str) -> Result<Verdict, StoreError> {
    Verdict::from_key(key).ok_or_else(|| StoreError::Damaged(format!("unknown verdict `{key}`")))
}

/// A hash of what happened, so that a repeated step writes nothing new.
pub fn event_id(kind: &str, key: &CommentKey, what: &[&str]) -> String {
    let mut parts = vec![kind, key.consultation.as_str(), key.source.as_str(), key.id.as_str()];
    parts.extend(what);
    hash_of(&parts)
}

/// The event id of a result.
pub fn result_id(kind: &str, judged: &Judged, arrival: &str, tell: Tell) -> String {
    let adoption = if let Tell::InAdoption(no) = tell { Some(no.to_string()) } else { None };
    let mut what = vec![arrival, judged.assessment.pipeline_version.0.as_str()];
    what.extend(adoption.as_deref());
    event_id(kind, &judged.comment.key, &what)
}

/// The body of [`COMMENT_ASSESSED`](crate::wire::event::COMMENT_ASSESSED).
pub fn assessed(judged: &Judged) -> Result<String, StoreError> {
    message(&AssessedEventV1::from(judged), judged)
}

/// The body of [`ALERT_SAFEGUARDING`](crate::wire::event::ALERT_SAFEGUARDING).
pub fn alert(judged: &Judged, now_ms: i64) -> Result<String, StoreError> {
    let at =
        jiff::Timestamp::from_millisecond(now_ms).map_err(|error| StoreError::Failed(format!("clock: {error}")))?;
    message(&AlertV1::new(&judged.comment.key, at), judged)
}

/// A message's body as a row of the outbox keeps it, with the trace that caused it.
fn message(body: &impl Serialize, cause: &Judged) -> Result<String, StoreError> {
    serde_json::to_string(body)
        .and_then(|json| traced::to_row(json, cause.trace.as_ref()))
        .map_err(|error| StoreError::Failed(format!("write message: {error}")))
}
