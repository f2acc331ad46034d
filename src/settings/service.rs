//! `config/default.toml`, the given file and the environment to [`Settings`].

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::{Table, Value};

use super::keys::{Keys, Problems, parse};
use super::rabbitmq::RabbitSettings;
use super::store::StoreSettings;
use super::webhooks::WebhookSettings;
use crate::domain::score::Probability;
use crate::engine::choice::{CheapFirst, Device, EngineChoice, HAS_RUST_BERT, WITHOUT_RUST_BERT};
use crate::wire::incoming::FieldMap;

const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Everything that an operator can set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where `run` answers HTTP.
    pub listen: SocketAddr,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Requests with comments that one client may send in a minute; 0 is no limit.
    pub client_requests_per_minute: u32,
    /// The same of all clients together.
    pub requests_per_minute: u32,
    /// The header in which a proxy names the client.
    pub client_header: Option<String>,
    /// Where the store is; nothing puts it into the output folder.
    pub store: StoreSettings,
    /// Models folder; `None` searches.
    pub models_folder: Option<PathBuf>,
    /// Folder of consultation folders; `None` is `./config`, else compiled in.
    pub consultations_folder: Option<PathBuf>,
    /// Which encoder runs, and on what.
    pub engine: EngineChoice,
    /// What is done before a text goes to the encoder.
    pub cheap_first: CheapFirst,
    /// The consultation folder whose rulebook looks on.
    pub shadow_folder: Option<PathBuf>,
    /// Models of the rulebook that looks on; `None` is those of the active one.
    pub shadow_models: Option<PathBuf>,
    /// The share of texts that it looks at.
    pub shadow_sample: Probability,
    /// Encoder threads; 0 means one per core.
    pub threads: usize,
    /// Comments taken from the queue at once.
    pub batch: usize,
    /// Lease of a delivery, in milliseconds.
    pub lease_ms: u64,
    /// Counted attempts before parking.
    pub max_attempts: u32,
    /// Comments that may wait in the file's queue; 0 is no limit.
    pub max_waiting: u64,
    /// Largest text, in bytes.
    pub max_text_bytes: usize,
    /// Where plain JSON keeps a comment's fields, when not under our names.
    pub fields: FieldMap,
    /// Pause between two looks whether the report must be written again, in milliseconds.
    pub report_every_ms: u64,
    /// Grace after the first signal, in milliseconds.
    pub grace_ms: u64,
    /// The broker.
    pub rabbitmq: RabbitSettings,
    /// Who is told over HTTP.
    pub webhooks: WebhookSettings,
    /// Where spans go; `None` keeps none.
    pub otlp_url: Option<String>,
    /// Log level.
    pub log_level: String,
    /// Whether logs are JSON lines.
    pub log_json: bool,
}

impl Settings {
    /// Layers: compiled-in defaults, then `file` (name and text), then `env`
    /// (`MOOTHALL_<SECTION>_<KEY>`).
    pub fn load(file: Option<(&str, &str)>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut layers = parse("config/default.toml", DEFAULTS, &mut problems);
        if let Some((name, text)) = file {
            let table = parse(name, text, &mut problems);
            overlay(&mut layers, &table, name, &mut problems);
        }
        overlay_environment(&mut layers, env, &mut problems);
        let name = file.map_or("settings", |(name, _)| name);
        let settings = Self::read(&layers, name, env, &mut problems);
        match settings {
            Some(settings) => problems.or(settings),
            None => Err(problems),
        }
    }

    fn read(layers: &Table, file: &str, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Option<Self> {
        let section = |name: &str| layers.get(name).and_then(Value::as_table).cloned().unwrap_or_default();

        let table = section("server");
        let mut keys = Keys::new(&table, file, "server", problems);
        let listen = keys.required_text("listen").and_then(|text| {
            let address = text.parse().ok();
            if address.is_none() {
                keys.wrong("listen", format!("is `{text}`, must be an address with a port such as 127.0.0.1:8080"));
            }
            address
        });
        let max_body_bytes = keys.whole("max_body_bytes", 1024);
        let client_requests_per_minute = keys.whole("client_requests_per_minute", 0);
        let requests_per_minute = keys.whole("requests_per_minute", 0);
        let client_header = keys.optional_text("client_header");
        if client_header.as_ref().is_some_and(|name| !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')) {
            keys.wrong("client_header", "must be a header's name such as x-forwarded-for");
        }
        keys.finish();
        let mut one_text = |name: &str, key: &str| {
            let table = section(name);
            let mut keys = Keys::new(&table, file, name, problems);
            let found = keys.optional_text(key);
            keys.finish();
            found
        };
        let models_folder = one_text("models", "folder").map(PathBuf::from);
        let consultations_folder = one_text("consultations", "folder").map(PathBuf::from);
        let otlp_url = one_text("tracing", "otlp_url");

        let (engine, cheap_first) = read_engine(&section("engine"), file, problems);
        let store = StoreSettings::read(&section("store"), file, problems);
        let table = section("shadow");
        let mut keys = Keys::new(&table, file, "shadow", problems);
        let [shadow_folder, shadow_models] =
            ["consultation", "models"].map(|key| keys.optional_text(key).map(PathBuf::from));
        let shadow_sample = keys.probability("sample");
        keys.finish();
        let table = section("worker");
        let mut keys = Keys::new(&table, file, "worker", problems);
        let threads = keys.whole("threads", 0);
        let batch = keys.whole("batch", 1);
        let lease_ms = keys.whole("lease_ms", 1000);
        let max_attempts = keys.whole("max_attempts", 1);
        keys.finish();
        let table = section("intake");
        let mut keys = Keys::new(&table, file, "intake", problems);
        let max_text_bytes = keys.whole("max_text_bytes", 1);
        let max_waiting = keys.whole("max_waiting", 0);
        let fields = FieldMap::parse(keys.texts("fields").iter().map(String::as_str));
        if let Err(why) = &fields {
            keys.wrong("fields", why);
        }
        keys.finish();
        let table = section("report");
        let mut keys = Keys::new(&table, file, "report", problems);
        let report_every_ms = keys.whole("every_ms", 100);
        keys.finish();
        let table = section("shutdown");
        let mut keys = Keys::new(&table, file, "shutdown", problems);
        let grace_ms = keys.whole("grace_ms", 0);
        keys.finish();
        let rabbitmq = RabbitSettings::read(&section("rabbitmq"), file, problems);
        let webhooks = WebhookSettings::read(layers, file, env, problems);
        let table = section("log");
        let mut keys = Keys::new(&table, file, "log", problems);
        let log_level = keys.choice("level", &["error", "warn", "info", "debug", "trace"]);
        let log_format = keys.choice("format", &["human", "json"]);
        keys.finish();
        Some(Self {
            listen: listen?,
            max_body_bytes: max_body_bytes? as usize,
            client_requests_per_minute: u32::try_from(client_requests_per_minute?).unwrap_or(u32::MAX),
            requests_per_minute: u32::try_from(requests_per_minute?).unwrap_or(u32::MAX),
            client_header,
            store: store?,
            models_folder,
            consultations_folder,
            engine: engine?,
            cheap_first: cheap_first?,
            shadow_folder,
            shadow_models,
            shadow_sample: shadow_sample?,
            threads: threads? as usize,
            batch: batch?.min(4096) as usize,
            lease_ms: lease_ms? as u64,
            max_attempts: max_attempts? as u32,
            max_waiting: max_waiting? as u64,
            max_text_bytes: max_text_bytes? as usize,
            fields: fields.ok()?,
            report_every_ms: report_every_ms? as u64,
            grace_ms: grace_ms? as u64,
            rabbitmq: rabbitmq?,
            webhooks: webhooks?,
            otlp_url,
            log_level: log_level?,
            log_json: log_format? == "json",
        })
    }
}

fn read_engine(table: &Table, file: &str, problems: &mut Problems) -> (Option<EngineChoice>, Option<CheapFirst>) {
    let mut keys = Keys::new(table, file, "engine", problems);
    let cheap_first = keys.choice("cheap_first", &CheapFirst::KINDS);
    let engine = read_choice(&mut keys);
    keys.finish();
    (engine, cheap_first.as_deref().and_then(CheapFirst::from_key))
}

fn read_choice(keys: &mut Keys<'_, '_>) -> Option<EngineChoice> {
    let kind = keys.choice("kind", &EngineChoice::KINDS);
    let device = keys.required_text("device").and_then(|text| {
        let device = Device::from_key(&text);
        if device.is_none() {
            keys.wrong("device", format!("is `{text}`, must be `cpu` or a GPU such as `cuda:0`"));
        }
        device
    });
    match (kind?.as_str(), device?) {
        ("rust-bert", _) if !HAS_RUST_BERT => {
            keys.wrong("kind", format!("is `rust-bert`, and {WITHOUT_RUST_BERT}"));
            None
        }
        ("rust-bert", device) => Some(EngineChoice::RustBert(device)),
        (_, Device::Cpu) => Some(EngineChoice::BuiltIn),
        (kind, device) => {
            keys.wrong("device", format!("is `{device}`, and the {kind} engine runs on `cpu` only; `rust-bert` can"));
            None
        }
    }
}

/// Puts a file's values over the defaults; a key or section that no default has is a problem.
fn overlay(layers: &mut Table, table: &Table, file: &str, problems: &mut Problems) {
    let sections: Vec<String> = layers.keys().cloned().collect();
    for (name, value) in table {
        // A list of which there is none by default.
        if name == "webhook" {
            layers.insert(name.clone(), value.clone());
            continue;
        }
        match (layers.get_mut(name).and_then(Value::as_table_mut), value.as_table()) {
            (Some(known), Some(given)) => {
                for (key, value) in given {
                    // Unknown keys are kept, so that reading the section names them.
                    known.insert(key.clone(), value.clone());
                }
            }
            (None, _) => problems.add(file, name, format!("is not a section; known sections: {}", sections.join(", "))),
            (_, None) => problems.add(file, name, format!("must be a section written as [{name}]")),
        }
    }
}

/// `MOOTHALL_SERVER_LISTEN` over `server.listen`, and so on for every known key.
fn overlay_environment(layers: &mut Table, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
    for (section, table) in layers.iter_mut() {
        let Some(table) = table.as_table_mut() else { continue };
        for (key, value) in table.iter_mut() {
            let name = format!("MOOTHALL_{}_{}", section.to_uppercase(), key.to_uppercase());
            let Some(text) = env(&name) else { continue };
            match value {
                Value::Integer(number) => match text.trim().parse() {
                    Ok(given) => *number = given,
                    Err(_) => problems.add(&name, "", format!("is `{text}`, must be a whole number")),
                },
                Value::Float(number) => match text.trim().parse() {
                    Ok(given) => *number = given,
                    Err(_) => problems.add(&name, "", format!("is `{text}`, must be a number")),
                },
                Value::Array(_) => {
                    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                    let item =
                        |item: &str| item.parse().map_or_else(|_| Value::String(item.to_owned()), Value::Integer);
                    *value = Value::Array(items.map(item).collect());
                }
                _ => *value = Value::String(text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_defaults_are_valid() {
        let settings = Settings::load(None, &|_| None).unwrap();
        assert!(settings.listen.ip().is_loopback());
        assert_eq!((settings.store.path, settings.store.url), (None, None));
    }

    #[test]
    fn the_environment_stands_above_the_file_and_the_file_above_the_defaults() {
        let file = "[worker]\nbatch = 7\nthreads = 3\n";
        let env = |name: &str| (name == "MOOTHALL_WORKER_BATCH").then(|| "9".to_owned());
        let settings = Settings::load(Some(("moothall.toml", file)), &env).unwrap();
        assert_eq!((settings.batch, settings.threads), (9, 3));
    }

    #[test]
    fn an_engine_that_cannot_run_here_is_refused_and_says_what_to_do() {
        let check = |kind: &str, device: &str| {
            let file = format!("[engine]\nkind = \"{kind}\"\ndevice = \"{device}\"\n");
            let settings = Settings::load(Some(("moothall.toml", &file)), &|_| None);
            settings.map(|settings| settings.engine).map_err(|problems| problems.to_string())
        };
        assert_eq!(check("built-in", "cpu"), Ok(EngineChoice::BuiltIn));
        assert!(check("built-in", "cuda:0").unwrap_err().contains("`engine.device` is `cuda:0`"));
        assert!(check("built-in", "gpu").unwrap_err().contains("must be `cpu` or a GPU such as `cuda:0`"));
        assert!(check("onnx", "cpu").unwrap_err().contains("must be one of built-in, rust-bert"));
        if HAS_RUST_BERT {
            assert_eq!(check("rust-bert", "cuda:1"), Ok(EngineChoice::RustBert(Device::Cuda(1))));
        } else {
            let problem = check("rust-bert", "cpu").unwrap_err();
            assert!(problem.contains("--features rust-bert") && problem.contains("scripts/libtorch"), "{problem}");
        }
    }

    #[test]
    fn every_wrong_setting_is_named_with_its_file_and_key() {
        let file = "[server]\nlisten = \"everywhere\"\n[wroker]\nbatch = 1\n[log]\nlevel = \"loud\"\ncolour = true\n";
        let env = |name: &str| (name == "MOOTHALL_WORKER_THREADS").then(|| "many".to_owned());
        let problems = Settings::load(Some(("moothall.toml", file)), &env).unwrap_err().to_string();
        for expected in [
            "moothall.toml: `server.listen` is `everywhere`",
            "moothall.toml: `wroker` is not a section",
            "moothall.toml: `log.level` is `loud`",
            "moothall.toml: `log.colour` is not a key here",
            "MOOTHALL_WORKER_THREADS: is `many`",
        ] {
            assert!(problems.contains(expected), "{expected} is not in\n{problems}");
        }
    }
}
