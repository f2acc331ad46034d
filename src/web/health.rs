//! Is it alive, is it ready, what has it counted.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

use super::error::ApiError;
use super::router::Web;

/// Answers for as long as the process can answer at all.
pub async fn live() -> impl IntoResponse {
    Json(BTreeMap::from([("status", "live")]))
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// What is in the way, by part.
    reasons: BTreeMap<&'static str, String>,
    /// When something last got done, in Unix milliseconds; null before anything did.
    last_progress_ms: Option<i64>,
}

/// Ready means: a comment that comes in now will be judged soon.
pub async fn ready(State(web): State<Web>) -> impl IntoResponse {
    let pulse = &web.deps.pulse;
    let mut reasons = pulse.troubles();
    let last = Some(pulse.last_progress_ms()).filter(|at| *at > 0);
    if let Some(last) = last {
        let still_ms = web.deps.clock.now_ms() - last;
        if still_ms > web.deps.limits.stalled_ms {
            let seconds = still_ms / 1_000;
            reasons.insert("worker", format!("no progress for {seconds} s"));
        }
    }
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let readiness = Readiness {
        ready,
        reasons,
        last_progress_ms: last,
    };
    (status, Json(readiness))
}

/// The counts, as Prometheus reads them.
pub async fn metrics(State(web): State<Web>) -> Result<impl IntoResponse, ApiError> {
    let render = web.deps.metrics.as_ref().ok_or(ApiError::NotFound)?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], render()))
}
