//! Which address is served by what, and what every answer carries.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_http::timeout::TimeoutLayer;

use super::error::ApiError;
use super::rate::{Rate, RateLimits};
use super::report::ReportSource;
use super::{comments, health, rate, report};
use crate::domain::comment::ConsultationId;
use crate::pipeline::clock::Clock;
use crate::pipeline::intake::IntakeLimits;
use crate::pipeline::ports::{Queue, Store};
use crate::pipeline::pulse::Pulse;
use crate::pipeline::shutdown::Shutdown;

pub use crate::wire::incoming::Defaults;

/// A request that takes longer is given up; what was committed stays.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the web answers with.
#[derive(Clone)]
pub struct WebDeps {
    /// Where comments go.
    pub queue: Arc<dyn Queue>,
    /// Where withdrawals and failed lines go.
    pub store: Arc<dyn Store>,
    /// The report.
    pub report: Arc<dyn ReportSource>,
    /// How the line is.
    pub pulse: Pulse,
    /// What time it is.
    pub clock: Clock,
    /// What a comment belongs to when it does not say so.
    pub defaults: Defaults,
    /// Whether a consultation is judged here.
    pub knows: Arc<dyn Fn(&ConsultationId) -> bool + Send + Sync>,
    /// The counts as text; `None` leaves `/metrics` out.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// How much is taken.
    pub limits: WebLimits,
}

/// How much the web takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebLimits {
    /// Most bytes of one body.
    pub body_bytes: usize,
    /// Most bodies in memory at once; more are told to come again.
    pub bodies: usize,
    /// What a comment may be.
    pub intake: IntakeLimits,
    /// Readiness ends when nothing got done for so long.
    pub stalled_ms: i64,
    /// Host names that are served, without ports; empty serves any.
    ///
    /// A page in a browser can give its own name this machine's address and so
    /// read what is meant for this machine only; it cannot choose the `Host`.
    pub hosts: Vec<String>,
    /// How often comments may be sent.
    pub rate: RateLimits,
}

impl Default for WebLimits {
    fn default() -> Self {
        Self {
            body_bytes: 8 * 1024 * 1024,
            bodies: 16,
            intake: IntakeLimits::default(),
            stalled_ms: 300_000,
            hosts: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec(),
            rate: RateLimits::default(),
        }
    }
}

/// What handlers share.
#[derive(Clone)]
pub(super) struct Web {
    pub deps: WebDeps,
    pub places: Arc<Semaphore>,
    pub rate: Rate,
}

/// Everything that is served.
pub fn router(deps: WebDeps) -> Router {
    let places = Arc::new(Semaphore::new(deps.limits.bodies));
    let web = Web { places, rate: Rate::new(deps.limits.rate.clone()), deps };
    Router::new()
        .route("/", get(report::page))
        .route("/report", get(report::page))
        .route("/v1/comments", post(comments::post).layer(from_fn_with_state(web.clone(), rate::limit)))
        .route("/metrics", get(health::metrics))
        .layer(from_fn_with_state(web.clone(), check_host))
        // Probes come by address and are answered under any name.
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::WrongMethod)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        .layer(map_response(harden))
        .with_state(web)
}

async fn check_host(State(web): State<Web>, request: Request, next: Next) -> Response {
    let hosts = &web.deps.limits.hosts;
    let served = hosts.is_empty()
        || host(request.uri(), request.headers())
            .is_some_and(|name| hosts.iter().any(|host| host.eq_ignore_ascii_case(name)));
    if served { next.run(request).await } else { ApiError::WrongHost.into_response() }
}

/// The name that the request was sent to, without its port.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = match uri.host() {
        Some(host) => return Some(host),
        None => headers.get(header::HOST)?.to_str().ok()?,
    };
    match name.rsplit_once(':') {
        // The last colon of an IPv6 address stands inside its brackets.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => Some(host),
        _ => Some(name),
    }
}

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

pub(super) async fn harden(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Serves until asked to stop: open requests are finished, unless they are to
/// be abandoned.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> io::Result<()> {
    if let Ok(address) = listener.local_addr() {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "listening beyond this machine, and there is no sign-in");
        }
        tracing::info!(%address, "listening");
    }
    let stop = shutdown.stop_intake.clone().cancelled_owned();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop);
    tokio::select! {
        served = served => served,
        () = shutdown.abandon.cancelled() => Ok(()),
    }
}
