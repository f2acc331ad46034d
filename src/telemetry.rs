//! Logging and metrics: set up once, named in one place.
//!
//! Log fields are ids, counts, lengths and hashes; never a comment's text, an
//! author, an address or a token.

pub mod spans;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person at a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Names of the metrics.
pub mod metric {
    /// Comments that the queue had not seen.
    pub const COMMENTS_RECEIVED: &str = "moothall_comments_received_total";
    /// Comments whose judgement became current.
    pub const COMMENTS_RECORDED: &str = "moothall_comments_recorded_total";
    /// Rows that could not become comments.
    pub const ROWS_FAILED: &str = "moothall_rows_failed_total";
    /// Texts that the engine judged.
    pub const TEXTS_JUDGED: &str = "moothall_texts_judged_total";
    /// Comments whose text had been judged already.
    pub const TEXTS_REUSED: &str = "moothall_texts_reused_total";
    /// Deliveries given up on.
    pub const DELIVERIES_PARKED: &str = "moothall_deliveries_parked_total";
    /// Deliveries that come again.
    pub const DELIVERIES_RETRIED: &str = "moothall_deliveries_retried_total";
    /// Ready or waiting for a retry.
    pub const QUEUE_WAITING: &str = "moothall_queue_waiting";
    /// Handed out and not settled.
    pub const QUEUE_IN_FLIGHT: &str = "moothall_queue_in_flight";
    /// Given up on.
    pub const QUEUE_PARKED: &str = "moothall_queue_parked";
    /// Messages that a broker has confirmed, by role.
    pub const BROKER_PUBLISHED: &str = "moothall_broker_published_total";
    /// Messages that were not confirmed and are sent again, by role.
    pub const BROKER_PUBLISH_FAILED: &str = "moothall_broker_publish_failed_total";
    /// Whether a lane's consumer is subscribed (1) or not (0).
    pub const BROKER_SUBSCRIBED: &str = "moothall_broker_subscribed";
    /// Times that a lane's consumer lost its connection.
    pub const BROKER_LOST: &str = "moothall_broker_connections_lost_total";
    /// Acknowledgements that came too late for their connection; the delivery comes again.
    pub const BROKER_ACKS_LOST: &str = "moothall_broker_acks_lost_total";
    /// Messages of the outbox that wait to be sent, by kind.
    pub const OUTBOX_UNSENT: &str = "moothall_outbox_unsent";
    /// Age of the oldest of them, in seconds, by kind.
    pub const OUTBOX_OLDEST_SECONDS: &str = "moothall_outbox_oldest_seconds";
    /// Messages that a webhook's target has taken, by target and kind.
    pub const WEBHOOK_DELIVERED: &str = "moothall_webhook_delivered_total";
    /// Tries that failed and are made again, by target and kind.
    pub const WEBHOOK_FAILED: &str = "moothall_webhook_failed_total";
    /// Calls that this process gave up on, by target and kind.
    pub const WEBHOOK_PARKED: &str = "moothall_webhook_parked_total";
    /// Calls that wait, by target and kind.
    pub const WEBHOOK_WAITING: &str = "moothall_webhook_waiting";
    /// Calls that were given up on and are kept, by target and kind.
    pub const WEBHOOK_KEPT: &str = "moothall_webhook_parked";
    /// Age of the oldest waiting call's message, in seconds, by target and kind.
    pub const WEBHOOK_OLDEST_SECONDS: &str = "moothall_webhook_oldest_seconds";
    /// Times that the machine's clock was set while this process watched.
    pub const CLOCK_JUMPS: &str = "moothall_clock_jumps_total";
    /// Spans that a collector has taken.
    pub const SPANS_EXPORTED: &str = "moothall_spans_exported_total";
    /// Spans that were dropped: the collector did not take them in time.
    pub const SPANS_DROPPED: &str = "moothall_spans_dropped_total";
    /// Comments that a shadow rulebook has judged.
    pub const SHADOW_JUDGED: &str = "moothall_shadow_judged_total";
    /// Those of them in which a reader would see a difference from the current judgement.
    pub const SHADOW_DIFFERENT: &str = "moothall_shadow_different_total";
    /// Comments that a shadow rulebook could not judge.
    pub const SHADOW_FAILED: &str = "moothall_shadow_failed_total";
    /// Disclosures that no person has acknowledged.
    pub const DISCLOSURES_UNACKNOWLEDGED: &str = "moothall_disclosures_unacknowledged";
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level cannot be read.
    #[error("log level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber or recorder is in place.
    #[error("telemetry is set up already: {0}")]
    Twice(String),
}

/// Logs to standard error. `level` is a filter such as `warn,moothall=debug`; without it
/// warnings of libraries and Moothall's own information are shown.
pub fn init_logs(format: LogFormat, level: Option<&str>) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(level.unwrap_or("warn,moothall=info"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .map_err(|error| TelemetryError::Twice(error.to_string()))
}

/// Counts from now on; the handle renders the counts for Prometheus.
pub fn init_metrics() -> Result<PrometheusHandle, TelemetryError> {
    PrometheusBuilder::new().install_recorder().map_err(|error| TelemetryError::Twice(error.to_string()))
}
