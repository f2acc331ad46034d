//! `moothall doctor`: everything that work needs, looked at once, with what to do next.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::broker::{self, BrokerArgs};
use super::output::{Place, quoted};
use super::queue::age;
use super::{Common, Failure, usage};
use crate::app::Storage;
use crate::broker::rabbitmq::{BrokerError, RabbitConfig, probe};
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::Rulebook;
use crate::engine::Models;
use crate::pipeline::ports::StoreError;
use crate::settings::Settings;
use crate::sqlite;

/// An outbox whose oldest message waits longer is not being emptied.
const OUTBOX_LATE_MS: i64 = 5 * 60 * 1_000;
/// A message that is younger than now by more was written under another time.
const CLOCK_AHEAD_MS: i64 = 60 * 1_000;
/// Below so many bytes a disk is nearly full, and below the other it is full for our purposes.
const DISK_LOW: u64 = 1024 * 1024 * 1024;
const DISK_FULL: u64 = 100 * 1024 * 1024;
/// A look at the broker is several questions, each with its own time limit.
const BROKER_CALLS: u32 = 6;

/// Options of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "One line for each check: ok, warn, or FAIL, and what to do next. Nothing is judged or sent but a\n\
    probe that the broker drops after a second. Exchanges and queues that are missing are made, as a\n\
    worker's start makes them (rabbitmq.topology = \"check\" makes none); a store's schema is brought up.\n\n\
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
    let path = arguments.place.store_path(&settings);
    check_folder(&arguments.place.out, "output", &mut checks);
    check_disk(&path, &mut checks);
    broker::block_on(async {
        let store = StoreCheck { path: &path, place: &arguments.place, settings: &settings, limit };
        store.look(&consultation, rulebook.as_ref(), config.is_some(), &mut checks).await;
        if let Some(config) = &config {
            check_broker(config, limit, &mut checks).await;
        }
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

struct StoreCheck<'a> {
    path: &'a Path,
    place: &'a Place,
    settings: &'a Settings,
    /// The most that one question may take.
    limit: Duration,
}

impl StoreCheck<'_> {
    async fn look(
        &self,
        consultation: &ConsultationId,
        rulebook: Option<&Rulebook>,
        broker: bool,
        checks: &mut Checks,
    ) {
        if !self.path.exists() {
            let advice = "the first `moothall process`, `run` or `worker` makes it; else name its folder with --out";
            checks.warn("store", format!("none yet at {}", shown(self.path)), advice);
            return;
        }
        if let Err(why) = self.questions(consultation, rulebook, broker, checks).await {
            let advice = match why {
                StoreError::Busy(ref why) if why.starts_with(sqlite::DISK_IS_FULL) => {
                    "free space there; everything goes on by itself, and what was not stored comes again"
                }
                StoreError::Busy(_) => "another process holds it: look for one that hangs (lsof), and end it",
                StoreError::NewerSchema { .. } => "use the newer moothall",
                _ => "check that it is Moothall's file and can be written, else restore a backup",
            };
            checks.fail("store", format!("{}: {why}", shown(self.path)), advice);
        }
    }

    async fn questions(
        &self,
        consultation: &ConsultationId,
        rulebook: Option<&Rulebook>,
        broker: bool,
        checks: &mut Checks,
    ) -> Result<(), StoreError> {
        let opening = async {
            let opened = Storage::embedded(self.path, self.settings, None).await;
            opened.map_err(|error| match error.downcast::<StoreError>() {
                Ok(error) => error,
                Err(error) => StoreError::Failed(format!("{error:#}")),
            })
        };
        let Storage { store, queue, .. } = self.in_time(opening).await?;
        self.in_time(store.ping()).await?;
        checks.ok("store", format!("{}, can be written, schema {}", shown(self.path), sqlite::schema_version()));

        if let Some(rulebook) = rulebook {
            match self.in_time(store.active_version(consultation)).await? {
                None => checks.ok("pipeline", format!("nothing is judged yet for `{consultation}`")),
                Some(active) if active == rulebook.version => {
                    checks.ok("pipeline", format!("{active}, as the store's judgements were made"));
                }
                Some(active) => checks.fail(
                    "pipeline",
                    format!("the store's active rulebook is {active}, these files and models make {}", rulebook.version),
                    "`moothall rulebook adopt` (or --adopt-rulebook) to judge by these, `moothall rulebook rollback` to go back",
                ),
            }
        }

        let backlog = self.in_time(store.backlog(None)).await?;
        let now = Timestamp::now().as_millisecond();
        if let Some(ahead_ms) = backlog.oldest_ms.map(|ms| ms - now).filter(|ahead_ms| *ahead_ms > CLOCK_AHEAD_MS) {
            checks.warn(
                "clock",
                format!("the store holds messages from {} s in the future: the clock was set back", ahead_ms / 1_000),
                "set this machine's clock right (timedatectl); what waits for its time waits longer by as much",
            );
        }
        let waits = backlog.oldest_ms.map(|ms| format!(", the oldest for {}", age(ms))).unwrap_or_default();
        let found = format!("{} results and alerts not sent yet{waits}", backlog.unsent);
        match backlog.oldest_ms {
            None => checks.ok("outbox", "everything is sent"),
            // Without a broker they are kept for the day that one is named.
            Some(_) if !broker => checks.ok("outbox", format!("{} results and alerts kept for a broker", backlog.unsent)),
            Some(ms) if now - ms > OUTBOX_LATE_MS => checks.warn(
                "outbox",
                found,
                "a running `moothall worker` or `run` with --amqp sends them; if one runs, its log says what is in the way",
            ),
            Some(_) => checks.ok("outbox", found),
        }

        let queue_error = |error: crate::pipeline::ports::QueueError| StoreError::Failed(error.to_string());
        let depth = self.in_time(async { queue.depth(None).await.map_err(queue_error) }).await?;
        if broker && depth.waiting > 0 {
            checks.warn(
                "queue",
                format!(
                    "{} comments wait in the store's own queue, which a broker's workers do not look at",
                    depth.waiting
                ),
                "work them off with `moothall process` or with `moothall run` without a broker",
            );
        } else if depth.parked > 0 {
            checks.warn(
                "queue",
                format!("{} given up on in the store's own queue", depth.parked),
                "`moothall queue parked` tells why, `moothall queue replay` lets them try again",
            );
        } else if !broker {
            checks.ok("queue", format!("{} waiting, {} in flight", depth.waiting, depth.in_flight));
        }

        let disclosures = self.in_time(store.disclosures(Some(consultation))).await?;
        let unread = disclosures.iter().filter(|disclosure| disclosure.acknowledged.is_none()).count();
        if unread > 0 {
            checks.warn(
                "disclosures",
                format!("{unread} possible disclosures of harm that nobody has acknowledged"),
                format!("moothall safeguarding --out {} list", quoted(&self.place.out)),
            );
        } else {
            checks.ok("disclosures", "none waits for a person");
        }
        Ok(())
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.limit, work).await {
            Ok(ended) => ended,
            Err(_) => Err(StoreError::Busy(format!("no answer within {} s", self.limit.as_secs_f32()))),
        }
    }
}

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
