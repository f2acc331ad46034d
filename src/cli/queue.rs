//! `moothall queue status|parked|replay|purge-parked`: what waits and what was given up on.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::broker::{self, BrokerArgs, Hint};
use super::output::Place;
use super::purge::Purge;
use super::{Common, Failure, usage};
use crate::app::{Storage, StorePlace, open_store};
use crate::broker::rabbitmq::{Inspection, Lane, Purpose, QueueState, RabbitConfig, RabbitQueue};
use crate::domain::comment::ConsultationId;
use crate::export::cells::neutral;
use crate::pipeline::clock::Clock;
use crate::pipeline::ports::{Backlog, Depth, FailedRows, ParkedArrival, Queue};
use crate::pipeline::pulse::Pulse;

/// Options of `queue`.
#[derive(Debug, Args)]
#[command(
    after_help = "It is the broker's queue when --amqp or the settings name a broker, else the one in the store's\n\
    file. Both are looked at as a whole; with --consultation ID on the command line `parked` and\n\
    `replay` keep to that consultation, and what tells no consultation is left out.\n\n  \
    moothall queue status --watch --amqp amqp://127.0.0.1/%2f\n  \
    moothall queue parked --out out\n  \
    moothall queue replay --consultation mentoring"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How much waits, who works on it, and what a person should know
    Status {
        #[command(flatten)]
        which: Which,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
        /// Look again every so many seconds, until Ctrl-C
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
              value_parser = clap::value_parser!(u64).range(1..=86_400))]
        watch: Option<u64>,
    },
    /// What was given up on and why, oldest first. Never shows a text
    Parked {
        #[command(flatten)]
        which: Which,
        /// Show at most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Let what was given up on wait again, with a fresh number of attempts
    #[command(after_help = "Everything that is parked waits again; with --consultation ID only what is of that\n\
        consultation. What was parked for a reason that still stands will be parked again: mend it first.")]
    Replay {
        #[command(flatten)]
        which: Which,
    },
    /// Remove what was given up on, after writing all of it to a file that only you can read
    #[command(
        after_help = "Each arrival is written to the file and synced to the disk before it is removed; what cannot be\n\
        written is not removed. Where the store is at hand it keeps them as failed (`purged`), so that\n\
        every comment stays accounted for. With --consultation ID only what is of that consultation."
    )]
    PurgeParked {
        #[command(flatten)]
        which: Which,
        /// The file, which must not be there yet [default: purged-TIME.jsonl beside the store]
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which queue.
#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    place: Place,
}

/// The queue itself.
enum Opened {
    Broker(Arc<RabbitConfig>),
    Embedded(PathBuf, Box<Storage>),
}

/// Looks, lists or replays.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let consultation = ConsultationId::new(&common.consultation).ok_or_else(|| usage("--consultation is empty"))?;
    let (Action::Status { which, .. }
    | Action::Parked { which, .. }
    | Action::Replay { which }
    | Action::PurgeParked { which, .. }) = &arguments.action;
    let config = which.broker.config(&settings, &consultation)?;
    let place = which.place.store(&settings)?;
    let path = place.queue_path().to_owned();
    let restricted = path.clone();
    if config.is_none() {
        super::existing(&StorePlace::File(path.clone()))?;
    }
    let only = common.consultation_named.then_some(&consultation);
    broker::block_on(async {
        let opened = match config {
            Some(config) => Opened::Broker(config),
            None => Opened::Embedded(path, Box::new(Storage::embedded(&place, &settings, None).await?)),
        };
        match &arguments.action {
            Action::Status { json, watch: None, .. } => {
                println!("{}", state(&opened).await?.shown(*json));
            }
            Action::Status { json, watch: Some(seconds), .. } => {
                tokio::select! {
                    never = watch(&opened, *json, Duration::from_secs(*seconds)) => never,
                    ended = tokio::signal::ctrl_c() => ended?,
                }
            }
            Action::Parked { limit, json, .. } => parked(&opened, only, *limit, *json).await?,
            Action::Replay { .. } => replay(&opened, only).await?,
            Action::PurgeParked { to, yes, .. } => {
                let purge = Purge { to: to.as_deref(), yes: *yes, store: &restricted };
                return purge.run(&queue(&opened).await?, kept_by(&opened, &place).await?, only).await;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// How the queue is at one moment.
enum State<'a> {
    Broker(&'a RabbitConfig, Inspection),
    Embedded(&'a std::path::Path, Depth, Backlog),
}

async fn state(opened: &Opened) -> Result<State<'_>, Failure> {
    Ok(match opened {
        Opened::Broker(config) => State::Broker(config, broker::look(config).await?),
        Opened::Embedded(path, storage) => {
            State::Embedded(path, storage.queue.depth(None).await?, storage.store.backlog(None).await?)
        }
    })
}

/// Looks again and again. A broker that is away for a while is no reason to end.
async fn watch(opened: &Opened, json: bool, pause: Duration) {
    let terminal = std::io::stdout().is_terminal() && !json;
    loop {
        let state = state(opened).await;
        if terminal {
            // Clears the screen and goes to its first corner.
            print!("\x1b[2J\x1b[H");
        }
        if !json {
            println!("{:.0}", Timestamp::now());
        }
        match state {
            Ok(state) => println!("{}", state.shown(json)),
            Err(failure) => {
                let error = failure.into_error();
                let json_line = || json!({"error": format!("{error:#}")}).to_string();
                println!("{}", if json { json_line() } else { format!("{error:#}") });
            }
        }
        if !json && !terminal {
            println!();
        }
        tokio::time::sleep(pause).await;
    }
}

impl State<'_> {
    fn shown(&self, json: bool) -> String {
        if json { self.json().to_string() } else { self.text() }
    }

    fn hints(&self) -> Vec<Hint> {
        let mut hints = Vec::new();
        match self {
            Self::Broker(_, inspection) => hints = broker::hints(inspection),
            Self::Embedded(_, depth, _) => {
                if depth.waiting > 0 && depth.in_flight == 0 {
                    hints.push(Hint {
                        about: "workers",
                        seen: format!("{} wait and nobody holds one", depth.waiting),
                        advice: "`moothall run` works on them, and so does the next `moothall process`",
                    });
                }
                if depth.parked > 0 {
                    hints.push(Hint {
                        about: "parked",
                        seen: format!("{} given up on", depth.parked),
                        advice: "`moothall queue parked` tells why, `moothall queue replay` lets them try again",
                    });
                }
            }
        }
        hints
    }

    fn text(&self) -> String {
        let mut parts = vec![match self {
            Self::Broker(config, inspection) => table(config, inspection),
            Self::Embedded(path, depth, backlog) => {
                let Depth { waiting, in_flight, parked } = depth;
                let age = backlog.oldest_ms.map(|ms| format!(", the oldest for {}", age(ms))).unwrap_or_default();
                format!(
                    "Queue in {}\n\n\
                     Waiting    {waiting:>9}  for a worker or for another attempt\n\
                     In flight  {in_flight:>9}  in a worker's hands\n\
                     Parked     {parked:>9}  given up on, kept with a reason\n\
                     Outbox     {:>9}  results and alerts kept for a broker{age}",
                    path.display(),
                    backlog.unsent
                )
            }
        }];
        parts.extend(self.hints().iter().map(|hint| format!("{}\n  what to do: {}", hint.seen, hint.advice)));
        parts.join("\n\n")
    }

    fn json(&self) -> Value {
        let hints: Vec<Value> = self
            .hints()
            .iter()
            .map(|hint| json!({"about": hint.about, "seen": hint.seen, "advice": hint.advice}))
            .collect();
        match self {
            Self::Broker(config, inspection) => json!({
                "kind": "rabbitmq",
                "broker": config.url.to_string(),
                "queues": inspection.queues.iter().map(|queue| json!({
                    "name": queue.name, "purpose": purpose(queue.purpose).0,
                    "ready": queue.ready, "consumers": queue.consumers,
                })).collect::<Vec<_>>(),
                "waiting": inspection.waiting(),
                "parked": inspection.parked(),
                "unrouted": inspection.unrouted(),
                "hints": hints,
            }),
            Self::Embedded(path, depth, backlog) => json!({
                "kind": "embedded",
                "store": path.display().to_string(),
                "waiting": depth.waiting,
                "in_flight": depth.in_flight,
                "parked": depth.parked,
                "outbox": {
                    "unsent": backlog.unsent,
                    "oldest": backlog.oldest_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
                },
                "hints": hints,
            }),
        }
    }
}

/// A purpose as a key and as words.
fn purpose(purpose: Purpose) -> (&'static str, &'static str) {
    match purpose {
        Purpose::Lane(Lane::Urgent) => ("urgent", "urgent comments, for workers"),
        Purpose::Lane(Lane::Work) => ("work", "comments, for workers"),
        Purpose::Retry(Lane::Urgent) => ("urgent_retry", "urgent comments, before another attempt"),
        Purpose::Retry(Lane::Work) => ("work_retry", "comments, before another attempt"),
        Purpose::Parked => ("parked", "given up on, kept with a reason"),
        Purpose::Results => ("results", "results, for whoever reads them"),
        Purpose::Alerts => ("alerts", "safeguarding alerts, for whoever must hear of them"),
        Purpose::Unrouted => ("unrouted", "led nowhere, kept"),
    }
}

fn table(config: &RabbitConfig, inspection: &Inspection) -> String {
    let wide = inspection.queues.iter().map(|queue| queue.name.chars().count()).max().unwrap_or(0).max(5);
    let mut lines = vec![format!("Broker {}\n", config.url)];
    lines.push(format!("{:<wide$}  {:>9}  {:>9}  what it holds", "queue", "ready", "consumers"));
    lines.extend(inspection.queues.iter().map(|QueueState { name, purpose: what, ready, consumers }| {
        // Nobody reads a retry queue: its comments go back by themselves.
        let readers = if matches!(what, Purpose::Retry(_)) { "-".to_owned() } else { consumers.to_string() };
        format!("{name:<wide$}  {ready:>9}  {readers:>9}  {}", purpose(*what).1)
    }));
    lines.push(format!(
        "\n{} waiting, {} parked, {} unrouted. What a worker holds is not counted: AMQP does not tell.",
        inspection.waiting(),
        inspection.parked(),
        inspection.unrouted()
    ));
    lines.join("\n")
}

/// How long ago that was.
pub fn age(ms: i64) -> String {
    let seconds = (Timestamp::now().as_millisecond() - ms).max(0) / 1_000;
    format!("{:#}", SignedDuration::from_secs(seconds))
}

/// The queue as its trait; a broker is looked at first, because its refusal then comes with advice.
async fn queue(opened: &Opened) -> Result<Arc<dyn Queue>, Failure> {
    Ok(match opened {
        Opened::Broker(config) => {
            broker::look(config).await?;
            Arc::new(RabbitQueue::publish_only(Arc::clone(config), Clock::system(), Pulse::default()))
        }
        Opened::Embedded(_, storage) => Arc::clone(&storage.queue),
    })
}

async fn parked(opened: &Opened, only: Option<&ConsultationId>, limit: u32, json: bool) -> Result<(), Failure> {
    let queue = queue(opened).await?;
    let total = queue.depth(None).await?.parked;
    let found = queue.parked(only, limit).await?;
    if json {
        for arrival in &found {
            println!("{}", parked_json(arrival));
        }
        return Ok(());
    }
    let of = only.map(|consultation| format!(", {} shown of `{consultation}`", found.len()));
    let shown = of.unwrap_or_else(|| {
        if (found.len() as u64) < total { format!(", the first {} shown", found.len()) } else { String::new() }
    });
    println!("{total} parked{shown}");
    for arrival in &found {
        println!("\n{}", parked_text(arrival));
    }
    if !found.is_empty() {
        println!("\nWhen the reason is mended: moothall queue replay");
    }
    Ok(())
}

fn parked_text(arrival: &ParkedArrival) -> String {
    let name = match &arrival.key {
        Some(key) => format!(
            "{}  (source {}, consultation {})",
            neutral(key.id.as_str()),
            neutral(key.source.as_str()),
            neutral(key.consultation.as_str())
        ),
        None => "(its bytes tell no id)".to_owned(),
    };
    let when = at(arrival.sequence).map_or_else(|| "at an unknown time".to_owned(), |time| format!("{time:.0}"));
    let attempts =
        if arrival.attempts == 1 { "1 attempt".to_owned() } else { format!("{} attempts", arrival.attempts) };
    format!("{name}\n  first seen {when}, {attempts}\n  {}", neutral(&arrival.reason))
}

pub(super) fn parked_json(arrival: &ParkedArrival) -> Value {
    let key = arrival.key.as_ref();
    json!({
        "id": key.map(|key| key.id.as_str()),
        "source": key.map(|key| key.source.as_str()),
        "consultation": key.map(|key| key.consultation.as_str()),
        "attempts": arrival.attempts,
        "reason": arrival.reason,
        "first_seen": at(arrival.sequence),
    })
}

fn at(sequence: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(sequence).ok()
}

/// The store that accounts for what is removed; none where a broker's queue is looked at from a
/// machine without one.
async fn kept_by(opened: &Opened, place: &StorePlace) -> Result<Option<Arc<dyn FailedRows>>, Failure> {
    Ok(match (opened, place) {
        (Opened::Embedded(_, storage), _) => {
            storage.ready().await?;
            Some(Arc::clone(&storage.store) as Arc<dyn FailedRows>)
        }
        (Opened::Broker(_), StorePlace::File(path)) if !path.is_file() => None,
        (Opened::Broker(_), place) => Some(open_store(place).await? as Arc<dyn FailedRows>),
    })
}

async fn replay(opened: &Opened, only: Option<&ConsultationId>) -> Result<(), Failure> {
    let queue = queue(opened).await?;
    let replayed = queue.replay(only).await?;
    let left = queue.depth(None).await?.parked;
    if replayed == 0 {
        let of = only.map(|consultation| format!(" of `{consultation}`")).unwrap_or_default();
        println!("nothing{of} was parked, nothing is replayed");
    } else {
        println!("{replayed} replayed: they wait again, with a fresh number of attempts");
        println!("What was parked for a reason that still stands will be parked again: moothall queue parked");
    }
    if left > 0 {
        println!("{left} parked now");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::comment::{CommentId, CommentKey, SourceName};

    #[test]
    fn a_parked_arrival_without_an_id_says_so() {
        let arrival =
            ParkedArrival { key: None, sequence: 1_795_514_400_000_000, attempts: 1, reason: "not JSON".to_owned() };
        assert_eq!(
            parked_text(&arrival),
            "(its bytes tell no id)\n  first seen 2026-11-24T10:00:00Z, 1 attempt\n  not JSON"
        );
        assert_eq!(parked_json(&arrival)["id"], Value::Null);
    }

    #[test]
    fn an_id_cannot_write_on_the_terminal() {
        let key = CommentKey {
            consultation: ConsultationId::new("mentoring").unwrap(),
            source: SourceName::new("amqp").unwrap(),
            id: CommentId::new("c\u{1b}[2J1").unwrap(),
        };
        let arrival = ParkedArrival { key: Some(key), sequence: 0, attempts: 3, reason: "x\u{1b}y".to_owned() };
        assert!(!parked_text(&arrival).contains('\u{1b}'));
    }
}
