//! The output folder: a report for readers and tables for those who work with them.
//!
//! [`write_all`] reads the store twice, page by page, and moves finished files
//! into place; nothing here decides about a comment. The same content, versions,
//! as-at time and pseudonym key give the same bytes in every file but `run.json`.

pub mod cells;
mod charts;
mod columns;
mod cross;
mod days;
mod folder;
mod notes;
pub mod page;
mod pseudonym;
mod rows;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod svg;
mod tables;
mod terminal;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use self::cells::Value;
use self::folder::{Folder, Table};
pub use self::folder::{RESTRICTED, RUN_FILE};
pub use self::notes::RunInfo;
pub use self::page::{Reliability, render};
use self::pseudonym::Pseudonyms;
pub use self::rows::Shown;
use self::rows::{Plan, Rows, Trace};
pub use self::terminal::terminal_summary;
use crate::assess::report::{Placements, Summary, SummaryBuilder};
use crate::domain::comment::ConsultationId;
use crate::domain::reading::Pii;
use crate::domain::rulebook::Rulebook;
use crate::domain::score::Span;
use crate::pipeline::ports::{Depth, Disclosure, FailedRow, Funnel, Store, StoreError, StoredComment};

/// Comments in one page of a pass.
const PAGE: u32 = 500;
/// Passes are repeated when the store changes between them.
const ATTEMPTS: usize = 3;

/// A text with its personal data masked, and where a span of the original stands in it.
pub struct Redacted {
    /// What may be shared.
    pub text: String,
    /// From characters of the original to characters of `text`.
    pub map: Box<dyn Fn(Span) -> Span + Send>,
}

/// Masks personal data of a text; the list is what was found in it.
pub type Redactor = Arc<dyn Fn(&str, &[Pii]) -> Redacted + Send + Sync>;

/// What to write, and where.
#[derive(Clone)]
pub struct ExportOptions {
    /// Made if it is not there; other people's files in it are left alone.
    pub out_dir: PathBuf,
    /// The time that the report speaks of.
    pub as_at: Timestamp,
    /// Keeps pseudonyms stable and unguessable. It stays with the operator.
    pub pseudonym_key: [u8; 32],
    /// Comments of this consultation that are still in the queue.
    pub in_queue: Depth,
    /// Whether `restricted/` is written: full texts, disclosures, the key.
    pub restricted: bool,
    /// Masks personal data.
    pub redactor: Redactor,
    /// What differs from run to run.
    pub run: RunInfo,
    /// Measured quality, printed beside the results.
    pub reliability: Vec<Reliability>,
}

/// What was written.
#[derive(Debug)]
pub struct Outcome {
    /// The figures.
    pub summary: Summary,
    /// The page to open.
    pub report: PathBuf,
    /// Every file.
    pub paths: Vec<PathBuf>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder could not be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A table could not be written.
    #[error("cannot write a table: {0}")]
    Csv(#[from] csv::Error),
    /// The report page could not be made.
    #[error("cannot make the report page: {0}")]
    Page(#[from] askama::Error),
    /// Comments kept arriving or changing.
    #[error("comments changed {ATTEMPTS} times while the export was read: run it again when the line is quieter")]
    Changed,
    /// The writing thread ended.
    #[error("the export stopped: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

/// Writes report and tables of one consultation into a folder.
///
/// # Errors
/// When the store cannot be read, a file cannot be written, or comments keep
/// changing. The folder's earlier files are then still the earlier ones.
pub async fn write_all(store: &dyn Store, rulebook: &Rulebook, options: ExportOptions) -> Result<Outcome, ExportError> {
    let rulebook = Arc::new(rulebook.clone());
    for _ in 0..ATTEMPTS {
        let counted = count(store, &rulebook, &options).await?;
        let failures = store.failures(&rulebook.consultation.id).await?;
        let disclosures = store.disclosures(Some(&rulebook.consultation.id)).await?;
        if failures.len() as u64 != counted.summary.funnel.failed {
            continue;
        }
        let plan = Plan {
            summary: Arc::clone(&counted.summary),
            placements: counted.placements,
            rulebook: Arc::clone(&rulebook),
            redactor: Arc::clone(&options.redactor),
            pseudonym_key: options.pseudonym_key,
            restricted: options.restricted,
        };
        let folder = Folder::open(&options.out_dir)?;
        let rows = Rows::open(&folder, plan)?;
        let rows = pass(store, &rulebook.consultation.id, counted.last, rows, Rows::push).await?;
        let (rulebook, options, summary) = (Arc::clone(&rulebook), options.clone(), counted.summary);
        let digest = counted.digest;
        let ending = Ending { rulebook, options, summary, failures, disclosures, digest };
        if let Some(outcome) = spawn_blocking(move || ending.write(folder, rows)).await?? {
            return Ok(outcome);
        }
    }
    Err(ExportError::Changed)
}

/// The figures of one consultation, for pages and terminals that need no files.
///
/// # Errors
/// When the store cannot be read.
pub async fn summarise(store: &dyn Store, rulebook: &Rulebook, in_queue: Depth) -> Result<Summary, ExportError> {
    let builder = SummaryBuilder::new(rulebook, days::zone(&rulebook.consultation.time_zone));
    let id = &rulebook.consultation.id;
    let mut builder = pass(store, id, i64::MAX, builder, |builder, stored| {
        builder.push(stored);
        Ok(())
    })
    .await?;
    for row in &store.failures(id).await? {
        builder.fail(row);
    }
    Ok(builder.finish(waiting(in_queue)).0)
}

fn waiting(depth: Depth) -> Funnel {
    Funnel { waiting: depth.waiting + depth.in_flight, parked: depth.parked, ..Funnel::default() }
}

struct Counted {
    summary: Arc<Summary>,
    placements: Placements,
    digest: [u8; 32],
    last: i64,
}

struct Counting {
    builder: SummaryBuilder,
    trace: Trace,
    last: i64,
}

/// The first pass.
async fn count(store: &dyn Store, rulebook: &Rulebook, options: &ExportOptions) -> Result<Counted, ExportError> {
    let id = &rulebook.consultation.id;
    let builder = SummaryBuilder::new(rulebook, days::zone(&rulebook.consultation.time_zone));
    let start = Counting { builder, trace: Trace::default(), last: i64::MIN };
    let mut counting = pass(store, id, i64::MAX, start, |counting, stored| {
        counting.builder.push(stored);
        counting.trace.add(stored);
        counting.last = stored.sequence;
        Ok(())
    })
    .await?;
    for row in &store.failures(id).await? {
        counting.builder.fail(row);
    }
    let (summary, placements) = counting.builder.finish(waiting(options.in_queue));
    Ok(Counted { summary: Arc::new(summary), placements, digest: counting.trace.digest(), last: counting.last })
}

/// Hands every comment up to `last` to `step`, on a thread that may block; at most
/// three pages are in memory.
async fn pass<T: Send + 'static>(
    store: &dyn Store,
    consultation: &ConsultationId,
    last: i64,
    state: T,
    step: fn(&mut T, &StoredComment) -> Result<(), ExportError>,
) -> Result<T, ExportError> {
    let (send, mut receive) = mpsc::channel::<Vec<StoredComment>>(1);
    let work = spawn_blocking(move || {
        let mut state = state;
        while let Some(page) = receive.blocking_recv() {
            for stored in page.iter().take_while(|stored| stored.sequence <= last) {
                step(&mut state, stored)?;
            }
        }
        Ok(state)
    });
    let mut after = i64::MIN;
    loop {
        let page = store.page(consultation, after, PAGE).await?;
        let Some(end) = page.last().map(|stored| stored.sequence) else { break };
        if send.send(page).await.is_err() || end >= last {
            break;
        }
        after = end;
    }
    drop(send);
    work.await?
}

/// What follows the second pass.
struct Ending {
    rulebook: Arc<Rulebook>,
    options: ExportOptions,
    summary: Arc<Summary>,
    failures: Vec<FailedRow>,
    disclosures: Vec<Disclosure>,
    digest: [u8; 32],
}

impl Ending {
    /// `None` when the two passes did not see the same comments.
    fn write(self, mut folder: Folder, mut rows: Rows) -> Result<Option<Outcome>, ExportError> {
        let Self { rulebook, options, summary, failures, disclosures, digest } = self;
        let consultation = rulebook.consultation.id.as_str();
        rows.fail(&failures)?;
        let done = rows.finish(&mut folder)?;
        if done.trace.clone().digest() != digest {
            return Ok(None);
        }
        tables::theme_summary(&mut folder, consultation, &summary)?;
        tables::crosstab(&mut folder, consultation, &summary)?;
        tables::campaigns(&mut folder, &summary, &done.shown)?;
        tables::data_dictionary(&mut folder, &summary, &done.fields)?;
        if options.restricted {
            write_disclosures(&mut folder, &options, &disclosures)?;
        }
        folder.write("README.txt", &notes::readme(&rulebook, &summary, &options))?;
        let page = render(&rulebook, &summary, &done.shown, options.as_at, &options.reliability)?;
        folder.write("report.html", &page)?;
        let files = folder.written();
        let run = notes::run_json(&rulebook, &summary, &options, &done.ids.key_name(), &files);
        folder.write(RUN_FILE, &run)?;
        let paths = folder.commit()?;
        let report = options.out_dir.join("report.html");
        drop(rulebook);
        let summary = Arc::unwrap_or_clone(summary);
        Ok(Some(Outcome { summary, report, paths }))
    }
}

fn write_disclosures(
    folder: &mut Folder,
    options: &ExportOptions,
    disclosures: &[Disclosure],
) -> Result<(), ExportError> {
    let mut table = Table::new(folder.restricted("disclosures.csv")?, columns::names(columns::DISCLOSURES))?;
    // The same key in the same order as the rows of `responses` were made from is
    // not needed here: an id depends on the comment alone.
    let mut ids = Pseudonyms::new(options.pseudonym_key);
    let time = |ms: i64| Value::maybe(Timestamp::from_millisecond(ms).ok().map(|at| at.to_string()));
    for disclosure in disclosures {
        let (comment, author) = (&disclosure.comment, &disclosure.comment.author);
        let why: Vec<String> = disclosure
            .assessment
            .reasons
            .iter()
            .map(|reason| {
                let probability = reason.probability.map_or(String::new(), |found| format!(" {found}"));
                format!("{}{probability} ({})", reason.key, reason.rule)
            })
            .collect();
        table.row(&[
            ids.escalated(&comment.key).into(),
            disclosure.acknowledged.as_ref().map_or(Value::Empty, |(at, _)| time(*at)),
            Value::maybe(disclosure.acknowledged.as_ref().map(|(_, by)| by.clone())),
            time(disclosure.escalated_at_ms),
            Value::maybe(comment.posted_at.map(|at| at.to_string())),
            comment.key.source.as_str().into(),
            comment.key.id.as_str().into(),
            Value::maybe(comment.url.clone()),
            Value::maybe(author.id.clone()),
            Value::maybe(author.name.clone()),
            Value::maybe(author.email.clone()),
            why.join("; ").into(),
            comment.text.clone().into(),
        ])?;
    }
    table.finish(folder)
}
