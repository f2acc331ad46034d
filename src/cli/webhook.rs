//! `moothall webhook status|parked|replay|ping|remove`: who is told over HTTP, and how that goes.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::broker::block_on;
use super::output::Place;
use super::queue::age;
use super::{Common, Failure, usage};
use crate::app;
use crate::export::cells::neutral;
use crate::pipeline::clock::Clock;
use crate::pipeline::ports::{OutboxRow, ParkedCall, Store, WebhookState};
use crate::pipeline::webhooks::Caller;
use crate::settings::Settings;
use crate::webhook::PING;

/// Options of `webhook`.
#[derive(Debug, Args)]
#[command(after_help = "Targets are named by [[webhook]] in the settings file (docs/webhooks.md):\n  \
    moothall webhook ping --config moothall.toml\n  \
    moothall webhook status --out out\n  \
    moothall webhook replay site --out out")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How each target stands: delivered, waiting, parked, and what was last wrong
    Status {
        #[command(flatten)]
        place: Place,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Calls that were given up on and why, oldest first. Never shows a message
    Parked {
        #[command(flatten)]
        place: Place,
        /// Only this target's
        target: Option<String>,
        /// Show at most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Let calls that were given up on wait again, with a fresh number of tries
    Replay {
        #[command(flatten)]
        place: Place,
        /// Only this target's
        target: Option<String>,
    },
    /// Send each target of the settings a signed test message now, and say what it answers
    Ping {
        /// Only this target
        target: Option<String>,
    },
    /// End a target that the settings no longer name; what waits for it or is parked is dropped
    Remove {
        #[command(flatten)]
        place: Place,
        /// The target's name
        target: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Looks, lists, replays, pings or removes.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    match &arguments.action {
        Action::Ping { target } => block_on(ping(&settings, target.as_deref())),
        Action::Status { place, json } => block_on(async {
            let store = open(place, &settings).await?;
            status(&*store, &settings, *json).await?;
            Ok(ExitCode::SUCCESS)
        }),
        Action::Parked { place, target, limit, json } => block_on(async {
            let store = open(place, &settings).await?;
            for call in store.parked_calls(target.as_deref(), *limit).await? {
                println!("{}", if *json { parked_json(&call).to_string() } else { parked_text(&call) });
            }
            Ok(ExitCode::SUCCESS)
        }),
        Action::Replay { place, target } => block_on(async {
            let store = open(place, &settings).await?;
            let replayed = store.replay_calls(target.as_deref()).await?;
            println!("{replayed} replayed: `moothall run` or `worker` with the target in its settings sends them");
            Ok(ExitCode::SUCCESS)
        }),
        Action::Remove { place, target, yes } => block_on(async {
            let store = open(place, &settings).await?;
            remove(&*store, &settings, target, *yes).await
        }),
    }
}

async fn open(place: &Place, settings: &Settings) -> Result<Arc<dyn Store>, Failure> {
    let place = place.store(settings)?;
    super::existing(&place)?;
    Ok(app::open_store(&place).await?)
}

/// Whether the settings name this target.
pub fn is_set(settings: &Settings, target: &str) -> bool {
    settings.webhooks.targets.iter().any(|set| set.name == target)
}

/// What a person should do about a target.
pub fn advice(state: &WebhookState, set: bool) -> Option<String> {
    let WebhookState { target, waiting, parked, subscribed, .. } = state;
    if !set && (*subscribed || *waiting > 0) {
        return Some(format!(
            "the settings at hand do not name it: give the service's with --config, or end it with `moothall webhook remove {target}`"
        ));
    }
    (*parked > 0).then(|| format!("mend the reason, then `moothall webhook replay {target}`"))
}

async fn status(store: &dyn Store, settings: &Settings, json: bool) -> Result<(), Failure> {
    let states = store.webhook_states().await?;
    if json {
        let all: Vec<Value> = states.iter().map(|state| state_json(state, is_set(settings, &state.target))).collect();
        println!("{}", json!({ "webhooks": all }));
        return Ok(());
    }
    if states.is_empty() {
        println!("nobody is told: [[webhook]] in the settings names who is, from the next start on (docs/webhooks.md)");
    }
    for state in &states {
        let WebhookState { target, kind, waiting, failing, parked, delivered, .. } = state;
        println!(
            "{target}  {kind}\n  {delivered} delivered, {waiting} waiting ({failing} of them failed before), {parked} parked"
        );
        if let Some(oldest_ms) = state.oldest_ms {
            println!("  the oldest waits for {}", age(oldest_ms));
        }
        if let Some(last_ms) = state.last_delivered_ms {
            println!("  the last was taken {} ago", age(last_ms));
        }
        if let Some(why) = &state.last_error {
            println!("  last trouble: {}", neutral(why));
        }
        if let Some(advice) = advice(state, is_set(settings, target)) {
            println!("  what to do: {advice}");
        }
    }
    Ok(())
}

fn state_json(state: &WebhookState, set: bool) -> Value {
    json!({
        "target": state.target, "kind": state.kind, "subscribed": state.subscribed,
        "delivered": state.delivered, "waiting": state.waiting, "failing": state.failing, "parked": state.parked,
        "oldest": state.oldest_ms.and_then(at), "last_delivered": state.last_delivered_ms.and_then(at),
        "last_error": state.last_error, "advice": advice(state, set),
    })
}

fn at(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}

fn parked_json(call: &ParkedCall) -> Value {
    json!({
        "target": call.target, "kind": call.kind, "event_id": call.event_id, "attempts": call.attempts,
        "parked_at": at(call.parked_at_ms), "reason": call.reason,
    })
}

fn parked_text(call: &ParkedCall) -> String {
    let when = at(call.parked_at_ms).map_or_else(String::new, |time| format!(", parked {time:.0}"));
    format!(
        "{}  {}  {}\n  {} tries{when}\n  {}",
        call.target,
        call.kind,
        call.event_id,
        call.attempts,
        neutral(&call.reason)
    )
}

async fn ping(settings: &Settings, only: Option<&str>) -> Result<ExitCode, Failure> {
    let clock = Clock::system();
    let targets = app::webhooks(settings).map_err(Failure::Usage)?;
    let mut code = ExitCode::SUCCESS;
    let mut pinged = 0;
    for (target, _) in targets.iter().filter(|(target, _)| only.is_none_or(|only| target.name == only)) {
        let message = OutboxRow {
            event_id: format!("ping-{}", app::random_name()?),
            kind: PING.to_owned(),
            body: "{}".to_owned(),
            created_at_ms: clock.now_ms(),
            trace: None,
        };
        pinged += 1;
        match app::webhook_caller(target, &clock)?.call(&message).await {
            Ok(()) => println!("ok    {}  {}", target.name, target.place()),
            Err(error) => {
                println!("FAIL  {}  {}  {}", target.name, target.place(), neutral(&error.to_string()));
                code = ExitCode::FAILURE;
            }
        }
    }
    if pinged == 0 {
        return Err(usage("no such target: [[webhook]] in the settings (--config FILE) names them"));
    }
    Ok(code)
}

async fn remove(store: &dyn Store, settings: &Settings, target: &str, yes: bool) -> Result<ExitCode, Failure> {
    if is_set(settings, target) {
        return Err(usage(
            "the settings still name it, and the next start would begin anew: take its [[webhook]] out first",
        ));
    }
    let states = store.webhook_states().await?;
    let open: u64 =
        states.iter().filter(|state| state.target == target).map(|state| state.waiting + state.parked).sum();
    if !states.iter().any(|state| state.target == target) {
        return Err(usage("the store knows no such target: moothall webhook status"));
    }
    if !yes && !confirmed(&format!("{open} calls wait for `{target}` or are parked and will be dropped. Remove it?"))? {
        println!("nothing is removed");
        return Ok(ExitCode::FAILURE);
    }
    let dropped = store.unsubscribe(target).await?;
    println!("`{target}` is removed, {dropped} calls are dropped");
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal. Where there is none nobody can answer, and the answer is no.
pub fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(usage("nobody is there to ask: give --yes if it is meant"));
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
