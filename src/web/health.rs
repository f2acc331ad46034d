//! Is it alive, is it ready, what has it counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRef, State};
use axum::http::{StatusCode, header};
use axum::middleware::map_response;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::error::ApiError;
use super::router::{Web, harden};
use crate::pipeline::clock::Clock;
use crate::pipeline::pulse::Pulse;

/// What probes are answered from.
#[derive(Clone)]
pub struct Probes {
    /// How the line is.
    pub pulse: Pulse,
    /// What time it is.
    pub clock: Clock,
    /// The counts as text; `None` leaves `/metrics` out.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// Readiness ends when nothing got done for so long.
    pub stalled_ms: i64,
}

impl FromRef<Web> for Probes {
    fn from_ref(web: &Web) -> Self {
        Self {
            pulse: web.deps.pulse.clone(),
            clock: web.deps.clock.clone(),
            metrics: web.deps.metrics.clone(),
            stalled_ms: web.deps.limits.stalled_ms,
        }
    }
}

/// Probes and nothing else, for a process without pages.
pub fn probes(probes: Probes) -> Router {
    Router::new()
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || ApiError::NotFound)
        .layer(map_response(harden))
        .with_state(probes)
}

/// Answers for as long as the process can answer at all.
pub async fn live() -> impl IntoResponse {
    Json(BTreeMap::from([("status", "live")]))
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// What is in the way, by part.
    reasons: BTreeMap<&'static str, String>,
    /// What a person should know and that is in nobody's way.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, String>,
    /// When something last got done, in Unix milliseconds; null before anything did.
    last_progress_ms: Option<i64>,
}

/// Ready means: a comment that comes in now will be judged soon.
pub async fn ready(State(probes): State<Probes>) -> impl IntoResponse {
    let pulse = &probes.pulse;
    let mut reasons = pulse.troubles();
    let last = Some(pulse.last_progress_ms()).filter(|at| *at > 0);
    if let Some(last) = last {
        let still_ms = probes.clock.now_ms() - last;
        if still_ms > probes.stalled_ms {
            let seconds = still_ms / 1_000;
            reasons.insert("worker", format!("no progress for {seconds} s"));
        }
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let readiness = Readiness { ready, reasons, notes: pulse.notes(), last_progress_ms: last };
    (status, Json(readiness))
}

/// The counts, as Prometheus reads them.
pub async fn metrics(State(probes): State<Probes>) -> Result<impl IntoResponse, ApiError> {
    let render = probes.metrics.as_ref().ok_or(ApiError::NotFound)?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], render()))
}
