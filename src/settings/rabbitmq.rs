//! The `[rabbitmq]` section: what is typed, checked. Secrets are named by file here and read by `app`.

use std::path::PathBuf;

use toml::Table;

use super::keys::{Keys, Problems};
use super::secret::Secret;

/// The broker as an operator sets it. Empty texts are absent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is explained where it is set, in config/default.toml")]
pub struct RabbitSettings {
    pub url: Option<Secret>,
    pub url_file: Option<PathBuf>,
    pub vhost: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub prefix: String,
    /// Names that were set one by one, by key.
    pub names: Vec<(&'static str, String)>,
    pub declare: bool,
    pub prefetch: u16,
    pub heartbeat_s: u16,
    pub timeout_ms: u64,
    pub retry_ms: Vec<u64>,
    pub delivery_limit: u32,
    pub max_message_bytes: usize,
    pub stall_ms: u64,
    pub origin: String,
}

/// Keys that set one name.
const NAMES: [&str; 13] = [
    "in_exchange",
    "retry_exchange",
    "dead_exchange",
    "out_exchange",
    "alerts_exchange",
    "unrouted_exchange",
    "work_queue",
    "urgent_queue",
    "parked_queue",
    "results_queue",
    "alerts_queue",
    "unrouted_queue",
    "probe_queue",
];

impl RabbitSettings {
    /// Reads the section; every problem is noted.
    pub(super) fn read(table: &Table, file: &str, problems: &mut Problems) -> Option<Self> {
        let mut keys = Keys::new(table, file, "rabbitmq", problems);
        let url = keys.optional_text("url").map(Secret);
        let [url_file, ca_file, client_cert_file, client_key_file] =
            ["url_file", "ca_file", "client_cert_file", "client_key_file"]
                .map(|name| keys.optional_text(name).map(PathBuf::from));
        let vhost = keys.optional_text("vhost");
        let names = NAMES.into_iter().filter_map(|name| Some((name, keys.optional_text(name)?))).collect();
        if client_cert_file.is_some() != client_key_file.is_some() {
            keys.wrong("client_cert_file", "and client_key_file must be set together");
        }
        let prefix = keys.required_text("prefix");
        let origin = keys.required_text("origin");
        let topology = keys.choice("topology", &["declare", "check"]);
        let prefetch = keys.whole("prefetch", 0);
        let heartbeat_s = keys.whole("heartbeat_s", 1);
        let timeout_ms = keys.whole("timeout_ms", 100);
        let delivery_limit = keys.whole("delivery_limit", 1);
        let max_message_bytes = keys.whole("max_message_bytes", 1);
        let stall_ms = keys.whole("stall_ms", 1_000);
        let retry_ms = retry_tiers(&mut keys);
        keys.finish();
        Some(Self {
            url,
            url_file,
            vhost,
            ca_file,
            client_cert_file,
            client_key_file,
            prefix: prefix?,
            names,
            declare: topology? == "declare",
            prefetch: u16::try_from(prefetch?).unwrap_or(u16::MAX),
            heartbeat_s: u16::try_from(heartbeat_s?).unwrap_or(u16::MAX),
            timeout_ms: timeout_ms? as u64,
            retry_ms: retry_ms?,
            delivery_limit: u32::try_from(delivery_limit?).unwrap_or(u32::MAX),
            max_message_bytes: max_message_bytes? as usize,
            stall_ms: stall_ms? as u64,
            origin: origin?,
        })
    }
}

/// Pauses in milliseconds, growing. Texts are taken too: the environment knows nothing else.
pub(super) fn retry_tiers(keys: &mut Keys<'_, '_>) -> Option<Vec<u64>> {
    let tiers = keys.whole_list("retry_ms", 1)?;
    if tiers.is_empty() || !tiers.is_sorted_by(|a, b| a < b) {
        keys.wrong("retry_ms", "must be one or more pauses, each longer than the one before");
        return None;
    }
    Some(tiers.into_iter().map(|ms| ms as u64).collect())
}
