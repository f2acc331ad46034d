//! What `process` and `publish` share: files of comments and how their rows come in.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;

use super::progress::Line;
use super::{Failure, usage};
use crate::domain::comment::SourceName;
use crate::domain::rulebook::Consultation;
use crate::pipeline::intake::{self, IntakeCounts, IntakeDeps};
use crate::pipeline::shutdown::Shutdown;
use crate::settings::Settings;
use crate::source::{self, FileOptions, Row};

/// Which files, and how they are read.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// CSV, TSV or JSON Lines, plain or gzipped; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
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
    pub strict: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, column)) if !field.trim().is_empty() && !column.is_empty() => {
            Ok((field.trim().to_owned(), column.to_owned()))
        }
        _ => Err("write it as FIELD=COLUMN, for example text=Response".to_owned()),
    }
}

impl FileArgs {
    /// How the files are read. Every file is opened before the first is read, so that a
    /// wrong name ends nothing half-way.
    pub fn options(&self, settings: &Settings, consultation: &Consultation) -> Result<FileOptions, Failure> {
        let mut options = FileOptions::new(consultation.id.clone(), TimeZone::get(&consultation.time_zone)?);
        options.map.clone_from(&self.map);
        options.groups.clone_from(&self.group);
        options.max_text_bytes = settings.max_text_bytes;
        options.day_first = self.date_order.as_deref().map(|order| order == "dmy");
        if let Some(name) = &self.source {
            options.source = Some(SourceName::new(name).ok_or_else(|| usage("--source is empty"))?);
        }
        for file in self.files.iter().filter(|file| file.as_os_str() != "-") {
            source::open(file, &options)?;
        }
        Ok(options)
    }
}

/// Takes in one file under a progress line. `counted` hears the books after every chunk,
/// `said` makes the closing sentence of them.
pub async fn take_in(
    file: &Path,
    options: &FileOptions,
    deps: &IntakeDeps,
    shutdown: &Shutdown,
    said: impl Fn(&IntakeCounts) -> String,
    counted: impl Fn(IntakeCounts) + Send + Sync,
) -> Result<IntakeCounts, Failure> {
    let mut comments = source::open(file, options)?;
    let line = Line::bytes(&format!("reading {}", file.display()), comments.total_bytes());
    let (position, notices) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
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
    let counts = intake::run(intake::read_ahead(rows), deps, shutdown, |counts| {
        line.set(position.load(Ordering::Relaxed));
        counted(counts);
    })
    .await
    .with_context(|| format!("{}", file.display()))?;
    line.finish(&format!("{}: {}", file.display(), said(&counts)));
    if let Ok(notices) = notices.lock() {
        for notice in notices.iter() {
            eprintln!("  note: {}", notice.text);
        }
    }
    Ok(counts)
}

/// The first interrupt finishes what is in hand, the second leaves it for the next run.
pub fn stop_on_interrupt() -> Shutdown {
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
