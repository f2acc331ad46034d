//! Comments from files: CSV, TSV and JSON Lines, packed with gzip or not.
//!
//! A file is mess and the line wants values, so everything between lies here:
//! encoding, delimiters, column names, dates. A file streams through; memory
//! does not grow with it (rows without an id cost some 20 bytes each, to number
//! equal ones). Every record gives exactly one [`Row`]: a comment, or a failed
//! row that says what is wrong and where. What was assumed on the way is a
//! [`Notice`].
//!
//! What is decided here and nowhere else:
//!
//! - UTF-8 unless the first mebibyte has more broken places than letters beyond
//!   ASCII; then Windows-1252. A row that is broken in a UTF-8 file fails alone.
//! - NUL characters are removed: databases and spreadsheets end a text there.
//! - A date that cannot be read costs the comment its date, not its place.
//! - `02/11/2026` is a day in November unless the first thousand rows show otherwise.

mod columns;
mod dates;
mod error;
mod identity;
mod input;
mod lines;
mod notice;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;

use crate::domain::comment::{Comment, ConsultationId, SourceName};
use crate::pipeline::ports::FailedRow;

pub use error::SourceError;
pub use notice::Notice;

use columns::{JsonNames, Target, listed};
use lines::LineReader;
use notice::{Remark, Remarks};
use rows::{RowMaker, Shape};
use table::{RawRecord, TableReader};
use window::Window;

/// How many records are looked at to learn the order of dates, and how many bytes of them.
const LEARN_ROWS: usize = 1_000;
const LEARN_BYTES: usize = 8 * 1024 * 1024;

/// How to read a file.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// What the comments answer.
    pub consultation: ConsultationId,
    /// Whether a row's own `consultation` counts; otherwise it is only remarked on.
    pub consultation_from_rows: bool,
    /// Where dates without an offset are.
    pub time_zone: TimeZone,
    /// The name of the source; without it a row's own `source`, else the file's stem.
    pub source: Option<SourceName>,
    /// `(field, column)` pairs that say where a field is (`--map text=Response`).
    pub map: Vec<(String, String)>,
    /// Columns that are breakdowns (`--group NAME`), beside those known by name.
    pub groups: Vec<String>,
    /// Whether 02/11/2026 is in November; learnt from the rows if not given.
    pub day_first: Option<bool>,
    /// A longer text fails as `too_large`.
    pub max_text_bytes: usize,
    /// A longer record is not even held; it fails as `too_large`.
    pub max_record_bytes: usize,
}

impl FileOptions {
    /// The usual way: 1 MiB for a text, 8 MiB for a record, names and dates as found.
    pub fn new(consultation: ConsultationId, time_zone: TimeZone) -> Self {
        Self {
            consultation,
            consultation_from_rows: false,
            time_zone,
            source: None,
            map: Vec::new(),
            groups: Vec::new(),
            day_first: None,
            max_text_bytes: 1024 * 1024,
            max_record_bytes: 8 * 1024 * 1024,
        }
    }
}

/// What one record of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A comment.
    Comment(Comment),
    /// A record that could not become one.
    Failed(FailedRow),
}

enum Records {
    Table(TableReader),
    Lines(LineReader),
}

impl Records {
    fn next(&mut self) -> Option<RawRecord> {
        match self {
            Self::Table(table) => table.next(),
            Self::Lines(lines) => lines.next(),
        }
    }
}

/// The rows of an open file, in order.
pub struct CommentFile {
    records: Records,
    /// Records that were read to learn from and are not yet handed out.
    learnt: VecDeque<RawRecord>,
    maker: RowMaker,
    rows: u64,
    read: Arc<AtomicU64>,
    replaced: Arc<AtomicU64>,
    total: Option<u64>,
}

/// Opens a file, or standard input for `-`.
///
/// # Errors
///
/// When no row can be read from it: it is missing, empty, not text, or none of
/// its columns holds the comments.
pub fn open(path: &Path, options: &FileOptions) -> Result<CommentFile, SourceError> {
    if path == Path::new("-") {
        return open_reader("stdin", std::io::stdin(), options);
    }
    let name = path.display().to_string();
    let cannot = |source| SourceError::Open { file: name.clone(), source };
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(SourceError::Folder { file: name });
    }
    let mut opened = open_reader(&name, file, options)?;
    opened.total = metadata.is_file().then_some(metadata.len());
    Ok(opened)
}

/// Opens a stream; `name` stands for it in messages and gives the source its name.
///
/// # Errors
///
/// As for [`open`].
pub fn open_reader(
    name: &str,
    reader: impl Read + Send + 'static,
    options: &FileOptions,
) -> Result<CommentFile, SourceError> {
    let mut remarks = Remarks::default();
    let input = input::prepare(name, reader, &mut remarks)?;
    let source = match &options.source {
        Some(source) => source.clone(),
        None => SourceName::new(stem(name)).ok_or_else(|| SourceError::NoName { file: name.to_owned() })?,
    };
    let limit = options.max_record_bytes.max(1);
    let window = Window::new(input.bytes);
    let (mut records, shape) = if is_json(name, &input.sample)? {
        let names = JsonNames::new(options)?;
        (Records::Lines(LineReader::new(window, limit)), Shape::Lines(names))
    } else {
        let (table, shape) = open_table(name, &input.sample, window, options, &mut remarks)?;
        (Records::Table(table), shape)
    };
    let mut learnt = VecDeque::new();
    let mut size = 0;
    while learnt.len() < LEARN_ROWS && size < LEARN_BYTES {
        let Some(record) = records.next() else { break };
        size += record.bytes.len();
        learnt.push_back(record);
    }
    if learnt.is_empty() {
        remarks.count(Remark::NoRows, 0);
    }
    let mut maker = RowMaker::new(shape, source, options, Remarks::default());
    maker.learn(learnt.iter());
    maker.remarks = remarks;
    Ok(CommentFile { records, learnt, maker, rows: 0, read: input.read, replaced: input.replaced, total: None })
}

/// `mentoring` for `exports/mentoring.csv.gz`.
fn stem(name: &str) -> &str {
    let file = Path::new(name).file_name().and_then(|file| file.to_str()).unwrap_or(name);
    let known = [".gz", ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json"];
    let mut stem = file;
    loop {
        let cut = known.iter().find_map(|end| {
            let at = stem.len().checked_sub(end.len())?;
            let fits = at > 0 && stem.get(at..)?.eq_ignore_ascii_case(end);
            fits.then(|| &stem[..at])
        });
        match cut {
            Some(shorter) => stem = shorter,
            None => return stem,
        }
    }
}

/// Tells JSON Lines from a table: by the first character, or by any line where the name says so.
fn is_json(name: &str, sample: &[u8]) -> Result<bool, SourceError> {
    let mut lines = sample.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let not_lines = |what| SourceError::NotText {
        file: name.to_owned(),
        what,
        hint: "write one object on each line (`jq -c '.[]' FILE` does it)",
    };
    let lower = name.to_lowercase();
    let named = [".jsonl", ".ndjson", ".json"].iter().any(|end| lower.trim_end_matches(".gz").ends_with(end));
    if first.starts_with(b"[") && (named || first == b"[" || first.starts_with(b"[{")) {
        return Err(not_lines("a JSON list"));
    }
    if first == b"{" {
        return Err(not_lines("JSON spread over several lines"));
    }
    Ok(first.starts_with(b"{") || (named && lines.any(|line| line.starts_with(b"{"))))
}

fn open_table(
    name: &str,
    sample: &[u8],
    window: Window,
    options: &FileOptions,
    remarks: &mut Remarks,
) -> Result<(TableReader, Shape), SourceError> {
    let bad = |problem: &str| SourceError::Header { file: name.to_owned(), problem: problem.to_owned() };
    // Excel's own first line, `sep=;`, names the delimiter and is no header.
    let start = sample.trim_ascii_start();
    let told = match start {
        [s, e, p, b'=', told, b'\n' | b'\r', ..] => [*s, *e, *p].eq_ignore_ascii_case(b"sep").then_some(*told),
        _ => None,
    };
    let likely = if name.to_lowercase().contains(".tsv") { b'\t' } else { b',' };
    let delimiter = told.unwrap_or_else(|| table::delimiter_of(start, likely));
    let mut table = TableReader::new(window, delimiter, options.max_record_bytes.max(1));
    if told.is_some() {
        table.next();
    }
    let header = table.next().ok_or_else(|| bad("there is none"))?;
    if header.problem.is_some() {
        return Err(bad("its quotation marks do not match, or it is too long"));
    }
    let text = str::from_utf8(&header.bytes).map_err(|_| bad("it is not UTF-8"))?;
    let header = table::split(text, delimiter);
    let plan = columns::plan(name, &header, options)?;
    let unused: Vec<&str> = header
        .iter()
        .zip(&plan)
        .filter(|(_, target)| **target == Target::Ignored)
        .map(|(column, _)| column.as_str())
        .collect();
    if !unused.is_empty() {
        remarks.set(Remark::IgnoredColumns, unused.len() as u64, listed(unused.iter().copied()));
    }
    table.begin_rows(plan.len());
    let delimiter = table.delimiter();
    Ok((table, Shape::Table { delimiter, plan }))
}

impl CommentFile {
    /// The name under which the comments are filed, unless a row names its own.
    pub fn source(&self) -> &SourceName {
        self.maker.source()
    }

    /// What was assumed or put right so far; complete after the last row.
    pub fn notices(&self) -> Vec<Notice> {
        let mut remarks = self.maker.remarks.clone();
        self.maker.remark_ignored_keys(&mut remarks);
        let replaced = self.replaced.load(Ordering::Relaxed);
        if replaced > 0 {
            remarks.set(Remark::Replaced, replaced, String::new());
        }
        remarks.notices()
    }

    /// Rows handed out so far, failed ones included.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes read from the file so far; packed bytes where it is packed.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The file's size in the same bytes; `None` for a stream.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total
    }
}

impl Iterator for CommentFile {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let record = self.learnt.pop_front().or_else(|| self.records.next())?;
        self.rows += 1;
        Some(self.maker.make(&record))
    }
}
