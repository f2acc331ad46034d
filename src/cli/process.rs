//! `moothall process FILE...`: files of comments in, an officer's report out.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;

use super::adoption::{self, AdoptArgs};
use super::files::{self, FileArgs, stop_on_interrupt};
use super::output::{self, Output};
use super::progress::Line;
use super::{Carried, Common, Failure, encoder_threads, usage};

use crate::app::{self, LineJudge, Storage};
use crate::domain::rulebook::Rulebook;
use crate::pipeline::intake::{IntakeCounts, IntakeDeps};
use crate::pipeline::ports::FailedRows;
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::worker::{self, Ended};
use crate::settings::Settings;

/// Options of `process`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    moothall process responses.csv\n  \
    moothall process day1.csv.gz day2.jsonl --out friday\n  \
    moothall process survey.csv --map text=Response --map posted_at=\"Submitted on\" --group Ward\n\n\
    Exit status: 0 every row is accounted for, 1 something failed, 2 wrong usage or settings,\n\
    3 with --strict when a row could not be read.")]
pub struct Arguments {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    adopt: AdoptArgs,
    /// Encoder threads; 0 means one per core
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// Reads the files, judges their comments and writes the output folder.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    // It takes in all before it judges any.
    let settings = Settings { max_waiting: 0, ..common.settings()? };
    super::start_logging(&settings, "warn");
    let Carried { manifest, rulebook, snapshot, .. } = common.carried(&settings)?;
    let as_at = arguments.output.as_at()?;
    let options = arguments.files.options(&settings, &rulebook.consultation)?;
    let rulebook = Arc::new(rulebook);
    output::warn_without_contact(&rulebook);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = stop_on_interrupt();
        let storage = arguments.output.open(&settings, Some(&rulebook.consultation.id)).await?;
        let threads = encoder_threads(if arguments.threads > 0 { arguments.threads } else { settings.threads });
        let judge = Arc::new(LineJudge::start(&manifest.folder, Arc::clone(&rulebook), settings.engine, threads)?);
        // After the models are found to be whole: what cannot judge is not adopted.
        if let Some(said) = adoption::settle(storage.store.as_ref(), &snapshot, arguments.adopt).await? {
            eprintln!("{said}");
        }

        let deps = IntakeDeps {
            queue: Arc::clone(&storage.queue),
            failed: Arc::clone(&storage.store) as Arc<dyn FailedRows>,
            limits: app::intake_limits(&settings),
        };
        let mut counts = IntakeCounts::default();
        for file in &arguments.files.files {
            counts += files::take_in(file, &options, &deps, &shutdown, said, |_| {}).await?;
        }
        let ended = work_off(&storage, judge, &settings, &rulebook, &shutdown).await?;
        if ended != Ended::Drained || shutdown.stop_intake.is_cancelled() {
            eprintln!("stopped; nothing is lost. Run the same command again and it goes on from here.");
            return Ok(ExitCode::FAILURE);
        }
        let outcome = output::write(&storage, &rulebook, &manifest, &arguments.output, as_at).await?;
        if counts.new == 0 && counts.read > 0 {
            println!("Nothing new: all {} rows were here already, and nothing was changed.\n", counts.read);
        }
        output::print(&outcome, &arguments.output, &rulebook);
        Ok(if arguments.files.strict && counts.failed > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
    })
}

/// What became of one file.
fn said(counts: &IntakeCounts) -> String {
    let IntakeCounts { read, new, known, failed, .. } = counts;
    format!("{read} rows read, {new} new comments, {known} known already, {failed} failed")
}

/// Judges everything that waits, with a progress bar.
async fn work_off(
    storage: &Storage,
    judge: Arc<LineJudge>,
    settings: &Settings,
    rulebook: &Rulebook,
    shutdown: &Shutdown,
) -> Result<Ended, Failure> {
    let waiting = storage.queue.depth(Some(&rulebook.consultation.id)).await?;
    let total = waiting.waiting + waiting.in_flight;
    if total == 0 {
        return Ok(Ended::Drained);
    }
    let line = Line::comments("judging", total);
    let deps = storage.worker(judge, settings);
    let ended = worker::drain(&deps, shutdown, |progress| line.set(progress.ended())).await?;
    line.finish(&format!("{total} comments judged"));
    Ok(ended)
}

/// The time that the report speaks of: as given, else now.
pub fn parse_as_at(text: Option<&str>) -> Result<Timestamp, Failure> {
    match text {
        None => Ok(Timestamp::now()),
        Some(text) => text.parse().map_err(|_| {
            usage(&format!("--as-at `{text}` must be a time with its zone, such as 2026-11-23T09:00:00Z"))
        }),
    }
}
