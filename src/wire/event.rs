//! CloudEvents 1.0 envelopes in structured JSON, as they go out.
//!
//! The AMQP binding of CloudEvents is for AMQP 1.0; structured mode needs no
//! binding, so the same bytes serve a broker, a webhook and a file.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{AssessedV1, CommentV1};
use crate::domain::comment::{Comment, CommentKey, ConsultationId};
use crate::pipeline::ports::{FailedRow, Judged, OutboxRow};

/// Content type of an event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Kind of the event that brings a new comment.
pub const COMMENT_CREATED: &str = "comment.created.v1";
/// Kind of the event that brings another text of a comment.
pub const COMMENT_EDITED: &str = "comment.edited.v1";
/// Kind of the event that withdraws a comment.
pub const COMMENT_DELETED: &str = "comment.deleted.v1";
/// Kind of the event that brings a row of a file that could not become a comment.
pub const ROW_FAILED: &str = "row.failed.v1";
/// Kind of the event that tells a judgement.
pub const COMMENT_ASSESSED: &str = "comment.assessed.v1";
/// Kind of the event that calls the safeguarding lead.
pub const ALERT_SAFEGUARDING: &str = "alert.safeguarding.v1";

/// The envelope.
#[derive(Serialize)]
struct Event<'a, D: Serialize + ?Sized> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    time: String,
    datacontenttype: &'static str,
    data: &'a D,
}

fn to_bytes<D: Serialize + ?Sized>(
    id: &str,
    source: &str,
    kind: &str,
    at_us: i64,
    data: &D,
) -> Result<Vec<u8>, serde_json::Error> {
    let time = jiff::Timestamp::from_microsecond(at_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
    let event = Event { specversion: "1.0", id, source, r#type: kind, time, datacontenttype: "application/json", data };
    serde_json::to_vec(&event)
}

/// A comment as an event; `at_us` orders texts that carry no order of their own.
pub fn comment_event(comment: &Comment, id: &str, at_us: i64) -> Result<Vec<u8>, serde_json::Error> {
    let source = comment.key.source.as_str();
    to_bytes(id, source, COMMENT_CREATED, at_us, &CommentV1::from(comment))
}

/// A failed row as an event.
pub fn row_event(row: &FailedRow, at_us: i64) -> Result<Vec<u8>, serde_json::Error> {
    to_bytes(&row.fingerprint, &row.source, ROW_FAILED, at_us, &RowFailedV1::from(row))
}

/// A message of the outbox as an event, the same bytes every time.
pub fn outbox_event(row: &OutboxRow, source: &str) -> Result<Vec<u8>, serde_json::Error> {
    let data: &RawValue = serde_json::from_str(&row.body)?;
    to_bytes(&row.event_id, source, &row.kind, row.created_at_ms.saturating_mul(1_000), data)
}

/// The data of [`COMMENT_ASSESSED`]: which comment, then the judgement as `assess` prints it.
#[derive(Serialize)]
pub struct AssessedEventV1 {
    consultation: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(flatten)]
    assessed: AssessedV1,
}

impl From<&Judged> for AssessedEventV1 {
    fn from(judged: &Judged) -> Self {
        let key = &judged.comment.key;
        Self {
            consultation: key.consultation.to_string(),
            source: key.source.to_string(),
            revision: judged.comment.revision,
            assessed: AssessedV1::new(key.id.as_str(), &judged.assessment),
        }
    }
}

/// The data of [`ALERT_SAFEGUARDING`]: ids and a time, no text, and nothing about the person.
#[derive(Serialize)]
pub struct AlertV1 {
    consultation: String,
    source: String,
    id: String,
    escalated_at: String,
}

impl AlertV1 {
    /// An alert about one comment.
    pub fn new(key: &CommentKey, at: jiff::Timestamp) -> Self {
        Self {
            consultation: key.consultation.to_string(),
            source: key.source.to_string(),
            id: key.id.to_string(),
            escalated_at: at.to_string(),
        }
    }
}

/// The data of [`ROW_FAILED`].
#[derive(Serialize, Deserialize)]
pub struct RowFailedV1 {
    consultation: String,
    source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    row: u64,
    reason: String,
    detail: String,
    raw: String,
    fingerprint: String,
}

impl From<&FailedRow> for RowFailedV1 {
    fn from(row: &FailedRow) -> Self {
        Self {
            consultation: row.consultation.to_string(),
            source: row.source.clone(),
            id: row.id.clone(),
            row: row.row,
            reason: row.reason.clone(),
            detail: row.detail.clone(),
            raw: row.raw.clone(),
            fingerprint: row.fingerprint.clone(),
        }
    }
}

impl RowFailedV1 {
    /// The row; `None` when it names no consultation.
    pub fn into_row(self) -> Option<FailedRow> {
        Some(FailedRow {
            consultation: ConsultationId::new(self.consultation)?,
            source: self.source,
            id: self.id,
            row: self.row,
            reason: self.reason,
            detail: self.detail,
            raw: self.raw,
            fingerprint: self.fingerprint,
        })
    }
}
