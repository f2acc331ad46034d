//! `moothall publish FILE...`: a file's comments onto the broker, for the workers.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;

use super::broker::{self, BrokerArgs};
use super::files::{self, FileArgs, stop_on_interrupt};
use super::service::refused;
use super::{Common, Failure, usage};
use crate::app;
use crate::broker::rabbitmq::{RabbitConfig, RabbitQueue, inspect, probe};
use crate::pipeline::clock::Clock;
use crate::pipeline::intake::{IntakeCounts, IntakeDeps, IntakeLimits};
use crate::pipeline::pulse::Pulse;
use crate::pipeline::shutdown::Shutdown;
use crate::settings::Settings;
use crate::source::FileOptions;

/// Between two looks at how publishing fares.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Text of one chunk: what is confirmed is counted by chunks, and a slow line should count too.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Options of `publish`.
#[derive(Debug, Args)]
#[command(after_help = "One terminal publishes, two work, a third watches:\n  \
    moothall publish responses.csv --amqp amqp://127.0.0.1/%2f\n  \
    moothall worker --amqp amqp://127.0.0.1/%2f --out out      (as often as there are machines)\n  \
    moothall queue status --watch --amqp amqp://127.0.0.1/%2f\n\n\
    The address may hold a password: set MOOTHALL_RABBITMQ_URL instead and leave --amqp out.\n\
    Rows that cannot be read travel too: the workers keep them, so that every row is accounted for.\n\
    Publishing the same file again changes nothing: the store knows what it has.\n\n\
    Exit status: 0 the broker has confirmed every row, 1 something failed or it was stopped,\n\
    2 wrong usage or settings, 3 with --strict when a row could not be read.")]
pub struct Arguments {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Seconds to wait for a broker that takes nothing; without a number for ever
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_value = "30",
          default_missing_value = "forever", value_parser = patience)]
    wait: Patience,
}

/// How long a broker may take nothing before the command gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Seconds(u64),
    Forever,
}

fn patience(text: &str) -> Result<Patience, String> {
    if text == "forever" {
        return Ok(Patience::Forever);
    }
    text.parse().map(Patience::Seconds).map_err(|_| "a whole number of seconds, or no number at all".to_owned())
}

/// Publishes the files and says what became of their rows.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let consultation = common.consultation(&settings)?;
    if let Some(name) = arguments.broker.amqp.as_deref()
        && std::path::Path::new(name).is_file()
    {
        return Err(usage(&format!(
            "--amqp takes the file {name} for its address: name the files first, then --amqp or --amqp URL"
        )));
    }
    let Some(config) = arguments.broker.config(&settings, &consultation.id)? else {
        return Err(usage(
            "publish needs a broker: give --amqp amqp://HOST/VHOST or set MOOTHALL_RABBITMQ_URL; \
             `moothall process` needs none",
        ));
    };
    let options = arguments.files.options(&settings, &consultation)?;
    broker::block_on(publish(arguments, &settings, &options, config))
}

async fn publish(
    arguments: &Arguments,
    settings: &Settings,
    options: &FileOptions,
    config: Arc<RabbitConfig>,
) -> Result<ExitCode, Failure> {
    let shutdown = stop_on_interrupt();
    let pulse = Pulse::default();
    let queue = RabbitQueue::publish_only(Arc::clone(&config), Clock::system(), pulse.clone());
    let deps = IntakeDeps {
        queue: Arc::new(queue.clone()),
        failed: Arc::new(queue.clone()),
        limits: IntakeLimits { chunk_bytes: CHUNK_BYTES, ..app::intake_limits(settings) },
    };
    let books = Books::default();
    let ended = tokio::select! {
        ended = every_file(arguments, options, &deps, &shutdown, &books) => ended,
        reason = given_up(&config, &pulse, arguments.wait) => Err(reason),
        () = shutdown.abandon.cancelled() => Ok(()),
    };
    let counts = books.total();
    if ended.is_err() || shutdown.stop_intake.is_cancelled() {
        let IntakeCounts { new, failed, .. } = counts;
        eprintln!(
            "stopped: the broker has confirmed {new} comments and {failed} failed rows. \
             Publish the same files again: what came before changes nothing."
        );
        if !shutdown.stop_intake.is_cancelled() {
            ended?;
        }
        return Ok(ExitCode::FAILURE);
    }
    queue.close().await;
    print(&counts, &config).await;
    Ok(if arguments.files.strict && counts.failed > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

async fn every_file(
    arguments: &Arguments,
    options: &FileOptions,
    deps: &IntakeDeps,
    shutdown: &Shutdown,
    books: &Books,
) -> Result<(), Failure> {
    for file in &arguments.files.files {
        if shutdown.stop_intake.is_cancelled() {
            break;
        }
        files::take_in(file, options, deps, shutdown, said, |counts| books.set(counts)).await?;
        books.close_file();
    }
    Ok(())
}

/// What became of one file.
fn said(counts: &IntakeCounts) -> String {
    let IntakeCounts { read, new, known, failed, .. } = counts;
    format!("{read} rows read, {new} published, {failed} failed, {known} duplicates")
}

/// What is confirmed, over all files; it outlives an intake that is broken off.
#[derive(Default)]
struct Books(Mutex<(IntakeCounts, IntakeCounts)>);

impl Books {
    fn set(&self, current: IntakeCounts) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = current;
    }

    fn close_file(&self) {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = std::mem::take(&mut books.1);
        books.0 += current;
    }

    fn total(&self) -> IntakeCounts {
        self.close_file();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Ends when waiting is of no use: at once when a person must act, else when the broker has
/// taken nothing for as long as `patience` says.
async fn given_up(config: &Arc<RabbitConfig>, pulse: &Pulse, patience: Patience) -> Failure {
    let mut since = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // The publisher is the only one that speaks here.
        let Some(cause) = pulse.troubles().into_values().next() else {
            since = None;
            continue;
        };
        let news = since.is_none();
        let since = *since.get_or_insert_with(Instant::now);
        let late = || matches!(patience, Patience::Seconds(most) if since.elapsed() >= Duration::from_secs(most));
        if !news && !late() {
            continue;
        }
        // Asked anew, it says what kind of trouble it is. That may take a while.
        let asked = probe(config).await;
        match asked {
            Err(error) if late() || error.needs_a_person() => return refused(&error),
            Ok(_) if late() && !news => return Failure::Failed(anyhow::anyhow!("{cause}")),
            Ok(_) | Err(_) => {}
        }
    }
}

async fn print(counts: &IntakeCounts, config: &RabbitConfig) {
    let IntakeCounts { read, new, known, failed, .. } = counts;
    println!("Rows read      {read:>9}");
    println!("Published      {new:>9}  confirmed by {}", config.url);
    println!("Failed rows    {failed:>9}  sent along: the workers keep them in the store");
    println!("Duplicates     {known:>9}  within a file; sent once");
    // The comments are safe; that nobody can be asked about them now is no failure.
    let hints = inspect(config).await.map(|inspection| broker::hints(&inspection)).unwrap_or_default();
    if let Some(hint) = hints.iter().find(|hint| hint.about == "workers") {
        println!("\n{}\n  what to do: {}", hint.seen, hint.advice);
    }
    println!("\nWatch them: moothall queue status --watch");
}
