//! `moothall process FILE...`: files of comments in, an officer's report out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::output::{self, Output};
use super::progress::Line;
use super::{Common, Failure, encoder_threads, usage};
use crate::app::{LineJudge, Storage};
use crate::domain::comment::SourceName;
use crate::domain::rulebook::Rulebook;
use crate::pipeline::intake::{self, IntakeCounts, IntakeDeps, IntakeLimits};
use crate::pipeline::ports::FailedRows;
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::worker::{self, Ended};
use crate::settings::Settings;
use crate::source::{self, FileOptions, Row};

/// Options of `process`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    moothall process responses.csv\n  \
    moothall process day1.csv.gz day2.jsonl --out friday\n  \
    moothall process survey.csv --map text=Response --map posted_at=\"Submitted on\" --group Ward\n\n\
    Exit status: 0 every row is accounted for, 1 something failed, 2 wrong usage or settings,\n\
    3 with --strict when a row could not be read.")]
pub struct Arguments {
    /// CSV, TSV or JSON Lines, plain or gzipped; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
    /// Where a field is, when its column has another name
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = pair)]
    map: Vec<(String, String)>,
    /// A column that is a breakdown (ward, age band) for the report
    #[arg(long, value_name = "COLUMN")]
    group: Vec<String>,
    /// What the source is called in ids [default: the file's name without its ending]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// How dates such as 02/11/2026 are written [default: learnt from the file, else day first]
    #[arg(long, value_name = "ORDER", value_parser = ["dmy", "mdy"])]
    date_order: Option<String>,
    /// End with status 3 when a row could not be read
    #[arg(long)]
    strict: bool,
    /// Judge what is in the store anew when models, policy or codebook have changed
    #[arg(long)]
    adopt: bool,
    /// Encoder threads; 0 means one per core
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, column)) if !field.trim().is_empty() && !column.is_empty() => {
            Ok((field.trim().to_owned(), column.to_owned()))
        }
        _ => Err("write it as FIELD=COLUMN, for example text=Response".to_owned()),
    }
}

/// Reads the files, judges their comments and writes the output folder.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let (manifest, rulebook) = common.rulebook(&settings)?;
    let as_at = arguments.output.as_at()?;
    let options = file_options(arguments, &settings, &rulebook)?;
    // Every file is opened before the first is read, so that a wrong name ends nothing half-way.
    for file in &arguments.files {
        if file.as_os_str() != "-" {
            source::open(file, &options)?;
        }
    }
    let rulebook = Arc::new(rulebook);
    output::warn_without_contact(&rulebook);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = stop_on_interrupt();
        let storage = arguments.output.open(&settings, Some(&rulebook.consultation.id)).await?;
        let threads = encoder_threads(if arguments.threads > 0 { arguments.threads } else { settings.threads });
        let judge = Arc::new(LineJudge::start(&manifest.folder, Arc::clone(&rulebook), threads)?);
        output::check_version(&storage, &rulebook, judge.as_ref(), arguments.adopt).await?;

        let mut counts = IntakeCounts::default();
        for file in &arguments.files {
            let read = take_in(&storage, file, &options, &settings, &shutdown).await?;
            counts.read += read.read;
            counts.new += read.new;
            counts.known += read.known;
            counts.failed += read.failed;
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
        Ok(if arguments.strict && counts.failed > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
    })
}

fn file_options(arguments: &Arguments, settings: &Settings, rulebook: &Rulebook) -> Result<FileOptions, Failure> {
    let zone = TimeZone::get(&rulebook.consultation.time_zone)?;
    let mut options = FileOptions::new(rulebook.consultation.id.clone(), zone);
    options.map.clone_from(&arguments.map);
    options.groups.clone_from(&arguments.group);
    options.max_text_bytes = settings.max_text_bytes;
    options.day_first = arguments.date_order.as_deref().map(|order| order == "dmy");
    if let Some(name) = &arguments.source {
        options.source = Some(SourceName::new(name).ok_or_else(|| usage("--source is empty"))?);
    }
    Ok(options)
}

/// Puts one file's comments on the queue.
async fn take_in(
    storage: &Storage,
    file: &std::path::Path,
    options: &FileOptions,
    settings: &Settings,
    shutdown: &Shutdown,
) -> Result<IntakeCounts, Failure> {
    let mut comments = source::open(file, options)?;
    let line = Line::bytes(&format!("reading {}", file.display()), comments.total_bytes());
    let (position, notices) = (Arc::new(AtomicU64::new(0)), Arc::new(std::sync::Mutex::new(Vec::new())));
    let rows = {
        let (position, notices) = (Arc::clone(&position), Arc::clone(&notices));
        std::iter::from_fn(move || {
            let row = comments.next();
            position.store(comments.bytes_read(), Ordering::Relaxed);
            if row.is_none()
                && let Ok(mut notices) = notices.lock()
            {
                *notices = comments.notices();
            }
            Some(match row? {
                Row::Comment(comment) => Ok(comment),
                Row::Failed(row) => Err(row),
            })
        })
        .fuse()
    };
    let deps = IntakeDeps {
        queue: Arc::clone(&storage.queue),
        failed: Arc::clone(&storage.store) as Arc<dyn FailedRows>,
        limits: IntakeLimits { text_bytes: settings.max_text_bytes, ..IntakeLimits::default() },
    };
    let counts = intake::run(intake::read_ahead(rows), &deps, shutdown, |_| {
        line.set(position.load(Ordering::Relaxed));
    })
    .await
    .with_context(|| format!("{}", file.display()))?;
    line.finish(&format!(
        "{}: {} rows read, {} new comments, {} known already, {} failed",
        file.display(),
        counts.read,
        counts.new,
        counts.known,
        counts.failed
    ));
    if let Ok(notices) = notices.lock() {
        for notice in notices.iter() {
            eprintln!("  note: {}", notice.text);
        }
    }
    Ok(counts)
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

/// The first interrupt finishes what is in hand, the second leaves it for the next run.
fn stop_on_interrupt() -> Shutdown {
    let shutdown = Shutdown::new();
    let watched = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            watched.stop_intake.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            watched.abandon.cancel();
        }
    });
    shutdown
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
