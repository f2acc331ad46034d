//! `moothall doctor`: everything that work needs, looked at once, with what to do next.

mod store;
mod webhooks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::store::StoreCheck;
use super::broker::{self, BrokerArgs};
use super::output::Place;
use super::{Common, Failure, usage};
use crate::broker::rabbitmq::{BrokerError, RabbitConfig, probe};
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::Rulebook;
use crate::engine::Models;
use crate::settings::Settings;

/// Below so many bytes a disk is nearly full, and below the other it is full for our purposes.
const DISK_LOW: u64 = 1024 * 1024 * 1024;
const DISK_FULL: u64 = 100 * 1024 * 1024;
/// A look at the broker is several questions, each with its own time limit.
const BROKER_CALLS: u32 = 6;

/// Options of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "One line for each check: ok, warn, or FAIL, and what to do next. Nothing is judged or sent but a\n\
    probe that the broker drops after a second; webhooks are asked whether they are there (HEAD). Exchanges\n\
    and queues that are missing are made, as a worker's start makes them (rabbitmq.topology = \"check\" makes\n\
    none); a store's schema is brought up.\n\n\
    Exit status: 0 nothing FAILs, 1 something does, 2 wrong usage or settings."
)]
pub struct Arguments {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    place: Place,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Looks at everything and says what it found.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let consultation = ConsultationId::new(&common.consultation).ok_or_else(|| usage("--consultation is empty"))?;
    let config = arguments.broker.config(&settings, &consultation)?;
    let mut checks = Checks::default();
    checks.ok("settings", common.config.as_ref().map_or_else(|| "defaults and environment".to_owned(), shown));
    let rulebook = check_rulebook(common, &settings, &mut checks);
    let limit = Duration::from_millis(settings.rabbitmq.timeout_ms);
    let place = arguments.place.store(&settings)?;
    check_folder(&arguments.place.out, "output", &mut checks);
    check_disk(place.queue_path(), &mut checks);
    broker::block_on(async {
        let store = StoreCheck { store: &place, out: &arguments.place.out, settings: &settings, limit };
        Box::pin(store.look(&consultation, rulebook.as_ref(), config.is_some(), &mut checks)).await;
        if let Some(config) = &config {
            check_broker(config, limit, &mut checks).await;
        }
        webhooks::look(&settings, &mut checks).await;
        Ok(())
    })?;
    println!("{}", if arguments.json { checks.json().to_string() } else { checks.text() });
    Ok(if checks.fails() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do next; nothing when all is well.
    advice: String,
}

/// What was looked at, in order.
#[derive(Debug, Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn ok(&mut self, name: &'static str, found: impl Into<String>) {
        self.add(State::Ok, name, found, "");
    }

    fn warn(&mut self, name: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(State::Warn, name, found, advice);
    }

    fn fail(&mut self, name: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(State::Fail, name, found, advice);
    }

    fn add(&mut self, state: State, name: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Check { name, state, found: found.into(), advice: advice.into() });
    }

    fn count(&self, state: State) -> usize {
        self.0.iter().filter(|check| check.state == state).count()
    }

    fn fails(&self) -> usize {
        self.count(State::Fail)
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        for Check { name, state, found, advice } in &self.0 {
            let word = match state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "FAIL",
            };
            lines.push(format!("{word:<4}  {name:<12}  {}", found.replace('\n', "\n                    ")));
            if !advice.is_empty() {
                lines.push(format!("                    what to do: {advice}"));
            }
        }
        let (fails, warnings) = (self.fails(), self.count(State::Warn));
        lines.push(match (fails, warnings) {
            (0, 0) => "\nAll is well.".to_owned(),
            (0, _) => format!("\nNothing fails; {warnings} to look at."),
            _ => format!("\n{fails} failed; {warnings} more to look at."),
        });
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let checks = self.0.iter().map(|check| {
            let state = match check.state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "fail",
            };
            let advice = (!check.advice.is_empty()).then_some(&check.advice);
            json!({"name": check.name, "state": state, "found": check.found, "advice": advice})
        });
        json!({"ok": self.fails() == 0, "checks": checks.collect::<Vec<_>>()})
    }
}

fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// Consultation, policy, codebook, contact and models.
fn check_rulebook(common: &Common, settings: &Settings, checks: &mut Checks) -> Option<Rulebook> {
    let (manifest, rulebook) = match common.rulebook(settings) {
        Ok(both) => both,
        Err(Failure::Usage(error)) => {
            checks.fail("rulebook", format!("{error:#}"), "mend what is named, then `moothall check-config`");
            return None;
        }
        Err(Failure::Failed(error)) => {
            checks.fail("models", format!("{error:#}"), "name the folder with --models or MOOTHALL_MODELS");
            return None;
        }
    };
    let codebook = rulebook.codebook.as_ref();
    match Models::load(&manifest.folder, &rulebook, settings.engine) {
        Ok(models) => checks.ok(
            "models",
            format!("{} {} in {}", models.manifest.manifest.name, rulebook.model_version, shown(&manifest.folder)),
        ),
        Err(error) => checks.fail("models", error.to_string(), "restore the models folder as it was delivered"),
    }
    if let Some(stale) = super::check_config::stale_heads(&rulebook) {
        checks.warn("heads", stale, "until then tags follow the codebook as it was".to_owned());
    }
    let book = codebook.map_or_else(
        || "no codebook".to_owned(),
        |codebook| format!("codebook {} with {} themes", codebook.id, codebook.themes.len()),
    );
    checks.ok(
        "rulebook",
        format!(
            "consultation {}, {} rules, {book}, pipeline {}",
            rulebook.consultation.id,
            rulebook.policy.rules.len(),
            rulebook.version
        ),
    );
    match &rulebook.consultation.safeguarding_contact {
        Some(contact) => checks.ok("safeguarding", format!("disclosures of harm go to {contact}")),
        None => checks.warn(
            "safeguarding",
            "nobody is named to read disclosures of harm",
            format!("set safeguarding_contact in the consultation.toml of `{}`", rulebook.consultation.id),
        ),
    }
    Some(rulebook)
}

/// The folder itself, or the nearest one above it that is there.
fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|path| path.is_dir()).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

#[cfg(unix)]
fn check_folder(folder: &Path, name: &'static str, checks: &mut Checks) {
    use rustix::fs::{Access, access};
    let there = nearest(folder);
    let missing = if folder.is_dir() { "" } else { " (made by the first run)" };
    match access(&there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if folder.exists() && !folder.is_dir() => {
            checks.fail(name, format!("{} is no folder", shown(folder)), "name another with --out");
        }
        Ok(()) => checks.ok(name, format!("{}{missing}", shown(folder))),
        Err(error) => checks.fail(
            name,
            format!("{} cannot be written: {error}", shown(&there)),
            "give this user the right to write there, or name another folder with --out",
        ),
    }
}

#[cfg(not(unix))]
fn check_folder(folder: &Path, name: &'static str, checks: &mut Checks) {
    checks.ok(name, shown(folder));
}

#[cfg(unix)]
fn check_disk(store: &Path, checks: &mut Checks) {
    let there = nearest(store.parent().unwrap_or(store));
    let advice = "free some, or move the store with --store or MOOTHALL_STORE_PATH";
    match rustix::fs::statvfs(&there) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{} free for the store", indicatif::BinaryBytes(free));
            match free {
                _ if free < DISK_FULL => checks.fail("disk", found, advice),
                _ if free < DISK_LOW => checks.warn("disk", found, advice),
                _ => checks.ok("disk", found),
            }
        }
        Err(error) => checks.warn("disk", format!("free space of {} is not told: {error}", shown(&there)), advice),
    }
}

#[cfg(not(unix))]
fn check_disk(_store: &Path, _checks: &mut Checks) {}

/// Reaching, logging in, topology, a confirmed publish, and what the queues say.
async fn check_broker(config: &Arc<RabbitConfig>, limit: Duration, checks: &mut Checks) {
    let limit = limit * BROKER_CALLS;
    let probed = tokio::time::timeout(limit, probe(config)).await.unwrap_or_else(|_| {
        Err(BrokerError::Lost(format!("{}: the questions did not end within {} s", config.url, limit.as_secs_f32())))
    });
    match probed {
        Ok(inspection) => {
            checks.ok("broker", format!("{}: reached, logged in, topology fits, a message was confirmed", config.url));
            for hint in broker::hints(&inspection) {
                checks.warn(hint.about, hint.seen, hint.advice);
            }
        }
        Err(error) => checks.fail(stage(&error), error.to_string(), error.advice()),
    }
    if config.url.is_guest() {
        checks.warn(
            "broker user",
            "it is `guest`, whose password everybody knows",
            "make a user of Moothall's own (rabbitmqctl add_user) and delete guest",
        );
    }
    let host = config.url.host();
    if !config.url.is_tls() && !is_loopback(host) {
        checks.warn(
            "broker TLS",
            format!("comments and the password travel to {host} in the clear"),
            "use amqps:// (and rabbitmq.ca_file for an authority of your own)",
        );
    }
}

/// How far it came.
fn stage(error: &BrokerError) -> &'static str {
    match error {
        BrokerError::Unreachable { .. } => "reach broker",
        BrokerError::Tls { .. } => "broker TLS",
        BrokerError::TurnedAway { .. } => "log in",
        BrokerError::Forbidden(_) => "permission",
        BrokerError::Topology(_) | BrokerError::Missing(_) => "topology",
        BrokerError::Blocked(_) | BrokerError::Full(_) => "publish",
        BrokerError::Lost(_) => "broker",
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::rabbitmq::BrokerUrl;

    #[test]
    fn a_check_is_one_line_and_its_advice_another() {
        let mut checks = Checks::default();
        checks.ok("settings", "read");
        checks.warn("disk", "little free", "free some");
        checks.fail("store", "locked\ntwice", "wait");
        assert_eq!(
            checks.text(),
            "ok    settings      read\n\
             warn  disk          little free\n                    what to do: free some\n\
             FAIL  store         locked\n                    twice\n                    what to do: wait\n\n\
             1 failed; 1 more to look at."
        );
        assert_eq!(checks.json()["checks"][2]["state"], "fail");
        assert_eq!(checks.json()["checks"][0]["advice"], Value::Null);
    }

    #[test]
    fn the_host_of_an_address_is_told() {
        for (url, host, tls, loopback) in [
            ("amqp://127.0.0.1/%2f", "127.0.0.1", false, true),
            ("amqps://worker:p%40ss@broker.example:5671/v", "broker.example", true, false),
            ("amqp://localhost:23000", "localhost", false, true),
        ] {
            let url = BrokerUrl::parse(url).unwrap();
            assert_eq!((url.host(), url.is_tls()), (host, tls), "{url}");
            assert_eq!(is_loopback(host), loopback);
        }
    }
}
