//! `moothall copy-store`: a store from its SQLite file to a PostgreSQL server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Context;
use clap::Args;

use super::broker::block_on;
use super::files::stop_on_interrupt;
use super::output::quoted;
use super::progress::Line;
use super::{Common, Failure, existing, usage};
use crate::app::{Storage, StorePlace};
use crate::pipeline::ports::Depth;
use crate::sqlite::Database;
use crate::store::copying::{Copied, CopyError, Step, copy};
use crate::store::postgres::PostgresDatabase;

/// Options of `copy-store`.
#[derive(Debug, Args)]
#[command(after_help = "Stop every service on the file first, and work off what waits in its queue. Then:\n\n  \
    moothall copy-store --from out/restricted/moothall.db --to postgres://moothall@db.example/moothall\n\n\
    Every row is copied, earlier judgements, decisions, alerts and rulebooks included; then both sides are\n\
    read whole and compared. A copy that was cut off goes on when the same command is run again. The file is\n\
    not changed. The password belongs into MOOTHALL_STORE_URL or store.url_file; then leave --to out.")]
pub struct Arguments {
    /// The SQLite file
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The server, `postgres://USER@HOST/DATABASE` [default: as `[store]` in the settings says]
    #[arg(long, value_name = "URL")]
    to: Option<OsString>,
    /// Copy although something waits in the file's own queue or was given up on there. It stays behind in the file
    #[arg(long)]
    leave_queue: bool,
}

/// Copies and compares.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let from = StorePlace::File(arguments.from.clone());
    existing(&from)?;
    let out = arguments.from.parent().unwrap_or(&arguments.from);
    let place = StorePlace::find(arguments.to.as_deref(), &settings, out).map_err(Failure::Usage)?;
    let StorePlace::Server { config, .. } = place else {
        return Err(usage("name the server: --to postgres://USER@HOST/DATABASE, or set MOOTHALL_STORE_URL"));
    };
    block_on(async {
        let depth = Storage::embedded(&from, &settings, None).await?.queue.depth(None).await?;
        if let Some(why) = left_behind(depth, &arguments.from) {
            if !arguments.leave_queue {
                return Err(usage(&format!("{why}\n  or leave it behind in the file with --leave-queue")));
            }
            eprintln!("WARNING: {why}");
        }
        let shutdown = stop_on_interrupt();
        let database = Database::open(&arguments.from).await?;
        let name = std::path::absolute(&arguments.from).context("the file's folder")?.display().to_string();
        let server = PostgresDatabase::new((*config).clone());
        let lines = Lines::default();
        let copied = copy(&database, &server, &name, || shutdown.stop_intake.is_cancelled(), |step| lines.show(step));
        let copied = match copied.await {
            Ok(copied) => copied,
            Err(error @ (CopyError::NotEmpty(_) | CopyError::OtherCopy(_))) => {
                return Err(Failure::Usage(anyhow::anyhow!("{}: {error}", config.url)));
            }
            Err(error) => return Err(Failure::Failed(anyhow::anyhow!("{}: {error}", config.url))),
        };
        lines.end();
        print(&copied);
        println!("\nEvery row of {} is at {}, and both hold the same.", quoted(&arguments.from), config.url);
        println!(
            "Start the services with --store (or MOOTHALL_STORE_URL) now, and keep the file until you trust them."
        );
        Ok(ExitCode::SUCCESS)
    })
}

/// What would stay behind in the file's own queue, and what to do about it.
fn left_behind(depth: Depth, file: &std::path::Path) -> Option<String> {
    let store = quoted(file);
    let waiting = depth.waiting + depth.in_flight;
    let mut said = Vec::new();
    if waiting > 0 {
        said.push(format!(
            "{waiting} comments wait in the file's queue and are in no store yet: work them off with `moothall run \
             --store {store}` (without a broker) until `moothall queue status --store {store}` shows none"
        ));
    }
    if depth.parked > 0 {
        said.push(format!(
            "{} were given up on in the file's queue: `moothall queue parked --store {store}` tells why, \
             `moothall queue replay --store {store}` lets them try again",
            depth.parked
        ));
    }
    (!said.is_empty()).then(|| said.join("\n  "))
}

/// The progress line of the step that is under way.
#[derive(Default)]
struct Lines(Mutex<Option<(bool, Line)>>);

impl Lines {
    fn show(&self, step: Step) {
        let (comparing, done, total) = match step {
            Step::Copied(done, total) => (false, done, total),
            Step::Compared(done, total) => (true, done, total),
        };
        let Ok(mut line) = self.0.lock() else { return };
        if line.as_ref().is_none_or(|(was, _)| *was != comparing) {
            let name = if comparing { "comparing" } else { "copying" };
            if let Some((_, before)) = line.replace((comparing, Line::rows(name, total))) {
                before.finish(&format!("{total} rows copied"));
            }
        }
        if let Some((_, line)) = line.as_ref() {
            line.set(done);
        }
    }

    fn end(self) {
        if let Ok(Some((_, line))) = self.0.into_inner() {
            line.finish("both sides compared");
        }
    }
}

fn print(copied: &Copied) {
    println!("{:<20}{:>12}  sha256 of file and server", "table", "rows");
    for (table, tallied) in copied {
        println!("{table:<20}{:>12}  {}", tallied.rows, &tallied.sha256[..16]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_stay_behind_is_said_with_the_way_out() {
        let file = std::path::Path::new("out/restricted/moothall.db");
        assert_eq!(left_behind(Depth::default(), file), None);
        let said = left_behind(Depth { waiting: 2, in_flight: 1, parked: 4 }, file).unwrap();
        assert!(said.contains("3 comments wait") && said.contains("4 were given up on"), "{said}");
        assert!(said.contains("moothall run --store out/restricted/moothall.db"), "{said}");
    }
}
