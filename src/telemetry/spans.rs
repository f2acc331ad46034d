//! Spans of the line, sent to an OpenTelemetry collector: OTLP 1.x over HTTP, as JSON.
//!
//! Only comments that came with a sampled trace have spans: the line begins no traces.
//! Without an address nothing is kept, and a trace is handed on as it came. Spans wait in a
//! bounded queue; what does not fit, and what the collector does not take, is dropped and
//! counted: no comment waits for a collector.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::metric;
use crate::domain::trace::Trace;

/// Spans that wait at most, and those of one request.
const WAITING: usize = 4_096;
const AT_ONCE: usize = 512;
/// How long spans are gathered, and how long the collector may take for them.
const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last spans may hold up an end.
const LAST: Duration = Duration::from_secs(2);

static EXPORT: OnceLock<mpsc::Sender<Sent>> = OnceLock::new();

enum Sent {
    Span(Ended),
    Flush(oneshot::Sender<()>),
}

/// What part of the line a span is about (OpenTelemetry's span kinds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes what somebody sent.
    Consumer = 5,
    /// Sends something.
    Producer = 4,
}

/// A span that has begun. Its trace is what goes out with whatever it causes.
#[derive(Clone, Debug)]
pub struct Span {
    name: &'static str,
    kind: Kind,
    trace: Trace,
    parent: u64,
    began_us: i64,
}

struct Ended {
    span: Span,
    until_us: i64,
    failure: Option<String>,
}

impl Span {
    /// Begins a span under what came; `None` where nobody records it.
    pub fn begin(name: &'static str, kind: Kind, came: Option<&Trace>) -> Option<Self> {
        EXPORT.get()?;
        let came = came.filter(|came| came.is_sampled())?;
        let mut id = [0; 8];
        getrandom::fill(&mut id).ok()?;
        // Zero is no id.
        let trace = came.at(u64::from_le_bytes(id).max(1));
        Some(Self { name, kind, trace, parent: came.span_id(), began_us: now_us() })
    }

    /// Where it stands in its trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Ends it, well or for a reason that holds no comment.
    pub fn end(self, failure: Option<String>) {
        let Some(export) = EXPORT.get() else { return };
        if export.try_send(Sent::Span(Ended { span: self, until_us: now_us(), failure })).is_err() {
            metrics::counter!(metric::SPANS_DROPPED).increment(1);
        }
    }
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// Sends spans to the collector at `url` (`http://127.0.0.1:4318`) from now on, once in a process.
///
/// # Errors
/// The address, or that no client can be made.
pub fn start(url: &str, service: &str) -> anyhow::Result<()> {
    let url: reqwest::Url = format!("{}/v1/traces", url.trim_end_matches('/')).parse()?;
    // A second call finds the provider in place, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let (export, waiting) = mpsc::channel(WAITING);
    if EXPORT.set(export).is_ok() {
        tokio::spawn(Exporter { client, url, service: service.to_owned(), failing: false }.run(waiting));
    }
    Ok(())
}

/// Sends what waits, for a moment: before the end of a process.
pub async fn flush() {
    let Some(export) = EXPORT.get() else { return };
    let (done, sent) = oneshot::channel();
    let flushing = async {
        if export.send(Sent::Flush(done)).await.is_ok() {
            let _ = sent.await;
        }
    };
    let _ = tokio::time::timeout(LAST, flushing).await;
}

struct Exporter {
    client: reqwest::Client,
    url: reqwest::Url,
    service: String,
    failing: bool,
}

impl Exporter {
    async fn run(mut self, mut waiting: mpsc::Receiver<Sent>) {
        let mut spans = Vec::new();
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let flushed = tokio::select! {
                sent = waiting.recv() => match sent {
                    Some(Sent::Span(span)) => {
                        spans.push(span);
                        if spans.len() < AT_ONCE {
                            continue;
                        }
                        None
                    }
                    Some(Sent::Flush(done)) => Some(done),
                    None => return,
                },
                _ = tick.tick() => None,
            };
            if !spans.is_empty() {
                self.send(std::mem::take(&mut spans)).await;
            }
            if let Some(done) = flushed {
                let _ = done.send(());
            }
        }
    }

    async fn send(&mut self, spans: Vec<Ended>) {
        let body = request(&self.service, &spans);
        let answer = self.client.post(self.url.clone()).json(&body).send().await;
        let failure = match answer.and_then(reqwest::Response::error_for_status) {
            Ok(_) => None,
            // Without the address: somebody may have put a token into it.
            Err(error) => Some(error.without_url().to_string()),
        };
        match failure {
            None => {
                metrics::counter!(metric::SPANS_EXPORTED).increment(spans.len() as u64);
                self.failing = false;
            }
            Some(why) => {
                metrics::counter!(metric::SPANS_DROPPED).increment(spans.len() as u64);
                if !self.failing {
                    tracing::warn!(%why, "the collector takes no spans; the line is not concerned");
                }
                self.failing = true;
            }
        }
    }
}

/// The body of a request: one resource, one scope, its spans.
fn request(service: &str, spans: &[Ended]) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let spans: Vec<Value> = spans
        .iter()
        .map(|Ended { span, until_us, failure }| {
            let status = match failure {
                None => json!({"code": 1}),
                Some(why) => json!({"code": 2, "message": why}),
            };
            json!({
                "traceId": format!("{:032x}", span.trace.trace_id()),
                "spanId": format!("{:016x}", span.trace.span_id()),
                "parentSpanId": format!("{:016x}", span.parent),
                "traceState": span.trace.state().unwrap_or_default(),
                "name": span.name,
                "kind": span.kind as u8,
                // 64-bit numbers are texts in the protocol's JSON.
                "startTimeUnixNano": nanoseconds(span.began_us),
                "endTimeUnixNano": nanoseconds(*until_us),
                // Where the other side of the queue stands: OpenTelemetry's messaging conventions.
                "links": [{
                    "traceId": format!("{:032x}", span.trace.trace_id()),
                    "spanId": format!("{:016x}", span.parent),
                }],
                "status": status,
            })
        })
        .collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ]},
        "scopeSpans": [{"scope": {"name": "moothall"}, "spans": spans}],
    }]})
}

fn nanoseconds(us: i64) -> String {
    i128::from(us).saturating_mul(1_000).to_string()
}
