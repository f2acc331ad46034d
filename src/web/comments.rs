//! `POST /v1/comments`.

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ApiError;
use super::router::Web;
use crate::domain::comment::{Comment, CommentKey};
use crate::domain::trace::Trace;
use crate::pipeline::identity::hash_of;
use crate::pipeline::intake::admit;
use crate::pipeline::ports::{Arrival, FailedRow, Lane, Published};
use crate::wire::incoming::{Refusal, event, event_trace, incoming};

/// Refusals that an answer lists; the rest is counted.
const REFUSALS_LISTED: usize = 100;
/// What is kept of a refused line.
const RAW_BYTES: usize = 64 * 1024;

/// What became of a body.
#[derive(Debug, Default, Serialize)]
pub struct Taken {
    /// Comments that had not been seen; they will be judged.
    accepted: u64,
    /// Comments that came before; nothing changed.
    known: u64,
    /// Deletions that took effect.
    withdrawn: u64,
    /// Lines that could not become comments; they are kept and counted.
    failed: u64,
    /// The first hundred of those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<LineFailure>,
}

#[derive(Debug, Serialize)]
struct LineFailure {
    line: u64,
    field: String,
    detail: String,
}

/// Takes comments; when it answers 202 they survive a crash.
pub async fn post(
    State(web): State<Web>,
    Query(wanted): Query<Wanted>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Taken>), ApiError> {
    let lane = wanted.lane()?;
    let kind = content_type(&request).ok_or(ApiError::UnsupportedType)?;
    // Taken before the body is read: bodies in memory are bounded by both limits.
    let _place = web.places.try_acquire().map_err(|_| ApiError::Busy)?;
    let trace = trace(request.headers());
    let body = read_body(request, web.deps.limits.body_bytes).await?;
    let taken = match kind {
        Kind::Comment | Kind::Event => one(&web, lane, kind, &body, trace).await?,
        Kind::Lines => lines(&web, lane, &body, trace.as_ref()).await?,
    };
    Ok((StatusCode::ACCEPTED, Json(taken)))
}

/// What a sender wants beside what the body says.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// `urgent` for what must wait behind no flood; else `work`.
    lane: Option<String>,
}

impl Wanted {
    fn lane(&self) -> Result<Lane, ApiError> {
        let Some(wanted) = self.lane.as_deref() else { return Ok(Lane::Work) };
        let lane = Lane::ALL.into_iter().find(|lane| lane.key() == wanted);
        lane.ok_or_else(|| ApiError::Refused(Refusal::new("lane", "must be work or urgent")))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Comment,
    Event,
    Lines,
}

/// None of these can be sent across sites by a plain form, so a page in the
/// browser of somebody on this machine cannot post comments unasked.
fn content_type(request: &Request<Body>) -> Option<Kind> {
    let value = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next()?.trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Some(Kind::Comment),
        "application/cloudevents+json" => Some(Kind::Event),
        "application/x-ndjson" | "application/jsonl" | "application/ndjson" => Some(Kind::Lines),
        _ => None,
    }
}

/// The trace that a request belongs to. Several `tracestate` headers are one list.
fn trace(headers: &HeaderMap) -> Option<Trace> {
    let parent = headers.get("traceparent")?.to_str().ok()?;
    let states: Vec<&str> = headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok()).collect();
    Trace::read(parent, Some(&states.join(",")))
}

async fn read_body(request: Request<Body>, limit: usize) -> Result<Bytes, ApiError> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|size| size > limit) {
        return Err(ApiError::TooLarge { limit });
    }
    to_bytes(request.into_body(), limit).await.map_err(|error| {
        let too_long =
            std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("length limit"));
        if too_long { ApiError::TooLarge { limit } } else { ApiError::Incomplete }
    })
}

async fn one(web: &Web, lane: Lane, kind: Kind, body: &[u8], trace: Option<Trace>) -> Result<Taken, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::NotJson { line: error.line(), column: error.column() })?;
    let trace = trace.or_else(|| event_trace(&value));
    let incoming = match (kind, value) {
        (Kind::Event, Value::Object(object)) => event(object, &web.deps.defaults),
        (_, value) => incoming(value, &web.deps.defaults),
    };
    let incoming = incoming.and_then(|incoming| welcome(web, incoming)).map_err(ApiError::Refused)?;
    match incoming {
        Arrival::Comment(comment) => {
            // Refused at the door, with the sender told: not a row of a failed file.
            let comment = admit(*comment, 0, &web.deps.limits.intake)
                .map_err(|failed| ApiError::Refused(Refusal::new("text", failed.detail)))?;
            let Published { new, known } = web.deps.queue.publish_in(lane, &[comment], trace.as_ref()).await?;
            Ok(Taken { accepted: new, known, ..Taken::default() })
        }
        Arrival::Withdrawal { key, revision } => {
            let withdrawn = web.deps.store.withdraw(&key, revision).await?;
            Ok(Taken { withdrawn: u64::from(withdrawn), known: u64::from(!withdrawn), ..Taken::default() })
        }
        Arrival::Failed(row) => {
            web.deps.store.fail(&[*row]).await?;
            Ok(Taken { failed: 1, ..Taken::default() })
        }
    }
}

/// Only consultations that somebody will judge.
fn welcome(web: &Web, incoming: Arrival) -> Result<Arrival, Refusal> {
    if (web.deps.knows)(incoming.consultation()) {
        Ok(incoming)
    } else {
        Err(Refusal::new("consultation", "no such consultation is served here"))
    }
}

#[derive(Default)]
struct Batch {
    comments: Vec<Comment>,
    withdrawals: Vec<(CommentKey, Option<i64>)>,
    failed: Vec<FailedRow>,
    taken: Taken,
}

impl Batch {
    fn fail(&mut self, failed: FailedRow, field: String) {
        if self.taken.failures.len() < REFUSALS_LISTED {
            self.taken.failures.push(LineFailure { line: failed.row, field, detail: failed.detail.clone() });
        }
        self.taken.failed += 1;
        self.failed.push(failed);
    }
}

async fn lines(web: &Web, lane: Lane, body: &[u8], trace: Option<&Trace>) -> Result<Taken, ApiError> {
    let mut batch = Batch::default();
    for (line, bytes) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let incoming = serde_json::from_slice(bytes)
            .map_err(|error| {
                let column = error.column();
                Refusal::new("(line)", format!("cannot be read at column {column}"))
            })
            .and_then(|value| incoming(value, &web.deps.defaults))
            .and_then(|incoming| welcome(web, incoming));
        match incoming {
            Ok(Arrival::Comment(comment)) => match admit(*comment, line, &web.deps.limits.intake) {
                Ok(comment) => batch.comments.push(comment),
                Err(failed) => batch.fail(failed, "text".to_owned()),
            },
            Ok(Arrival::Withdrawal { key, revision }) => batch.withdrawals.push((key, revision)),
            Ok(Arrival::Failed(row)) => batch.fail(*row, "(row)".to_owned()),
            Err(refusal) => {
                let failed = unreadable(web, line, bytes, &refusal);
                batch.fail(failed, refusal.field);
            }
        }
    }
    let Published { new, known } = web.deps.queue.publish_in(lane, &batch.comments, trace).await?;
    let mut taken = batch.taken;
    taken.accepted = new;
    taken.known = known;
    for (key, revision) in &batch.withdrawals {
        if web.deps.store.withdraw(key, *revision).await? {
            taken.withdrawn += 1;
        } else {
            taken.known += 1;
        }
    }
    if !batch.failed.is_empty() {
        web.deps.store.fail(&batch.failed).await?;
    }
    Ok(taken)
}

fn unreadable(web: &Web, line: u64, bytes: &[u8], refusal: &Refusal) -> FailedRow {
    let whole = String::from_utf8_lossy(bytes);
    let fingerprint = hash_of(&["unreadable", &whole]);
    let raw = whole[..whole.floor_char_boundary(RAW_BYTES)].to_owned();
    FailedRow {
        consultation: web.deps.defaults.consultation.clone(),
        source: web.deps.defaults.source.to_string(),
        id: None,
        row: line,
        reason: "unreadable".to_owned(),
        detail: format!("`{}`: {}", refusal.field, refusal.detail),
        raw,
        fingerprint,
    }
}
