//! Records of a delimited file, one at a time, whatever its quotation marks do.
//!
//! RFC 4180, read kindly: a quotation mark inside a quoted field that no
//! delimiter follows is part of the text. A mark that was never closed must not
//! swallow the file: the record in which it stands fails and reading goes on.
//! The `csv` crate reads a record whole before anyone can see its size, which is
//! why records are found here.

use sha2::{Digest, Sha256};

use super::window::Window;

/// What is kept of a record that is too large to be a row.
pub(super) const KEPT_BYTES: usize = 64 * 1024;
/// How many lines are looked at to tell rows from the lines of one long text.
const JUDGED_LINES: usize = 20;

/// One record as it stands in the file, without its line end.
pub(super) struct RawRecord {
    /// Record number from 1 (for JSON Lines the line number).
    pub(super) row: u64,
    /// Line on which it begins, from 1.
    pub(super) line: u64,
    pub(super) bytes: Vec<u8>,
    /// A quotation mark inside a field is not doubled.
    pub(super) inner_quotes: bool,
    pub(super) problem: Option<Problem>,
}

/// Why a record is no row, found without looking at its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Longer than the limit; with its size and the SHA-256 of all of it.
    TooLarge { size: u64, digest: [u8; 32] },
    /// A quotation mark was opened and never closed; reading goes on at the next line.
    Unterminated,
    /// Rows run together because one quotation mark is missing.
    RunTogether,
    /// The stream ended in an error.
    CutOff(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// Between the two marks of a doubled one.
    Doubled,
    /// After the closing mark.
    Closed,
}

enum Step {
    Skip,
    Keep,
    /// Keep, but a well-formed file would have doubled it.
    KeepMark,
    EndField,
    EndRecord,
}

impl State {
    #[inline]
    fn step(&mut self, byte: u8, delimiter: u8, next: impl FnOnce() -> Option<u8>) -> Step {
        match (*self, byte) {
            (Self::Quoted, b'"') => match next() {
                Some(b'"') => {
                    *self = Self::Doubled;
                    Step::Skip
                }
                Some(next) if next != delimiter && next != b'\n' && next != b'\r' => Step::KeepMark,
                _ => {
                    *self = Self::Closed;
                    Step::Skip
                }
            },
            (Self::Quoted, _) => Step::Keep,
            (Self::Doubled, _) => {
                *self = Self::Quoted;
                Step::Keep
            }
            (Self::FieldStart, b'"') => {
                *self = Self::Quoted;
                Step::Skip
            }
            (_, b'\n' | b'\r') => Step::EndRecord,
            (_, byte) if byte == delimiter => {
                *self = Self::FieldStart;
                Step::EndField
            }
            _ => {
                *self = Self::Unquoted;
                Step::Keep
            }
        }
    }
}

/// The fields of one record.
pub(super) fn split(record: &str, delimiter: u8) -> Vec<String> {
    let bytes = record.as_bytes();
    let mut state = State::FieldStart;
    let mut fields = Vec::new();
    let mut field = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        match state.step(*byte, delimiter, || bytes.get(at + 1).copied()) {
            Step::Skip => {}
            Step::Keep | Step::KeepMark => field.push(*byte),
            Step::EndField => fields.push(text(std::mem::take(&mut field))),
            Step::EndRecord => break,
        }
    }
    fields.push(text(field));
    fields
}

fn text(bytes: Vec<u8>) -> String {
    // Fields are cut at ASCII bytes, so a valid record has valid fields.
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Fields in the record at the start of `bytes`; `None` when it is not well formed.
fn well_formed(bytes: &[u8], delimiter: u8) -> Option<usize> {
    let bytes = &bytes[..bytes.len().min(KEPT_BYTES)];
    let mut state = State::FieldStart;
    let mut fields = 1;
    for (at, byte) in bytes.iter().enumerate() {
        match state.step(*byte, delimiter, || bytes.get(at + 1).copied()) {
            Step::Skip | Step::Keep => {}
            Step::KeepMark => return None,
            Step::EndField => fields += 1,
            Step::EndRecord => return Some(fields),
        }
    }
    (state != State::Quoted).then_some(fields)
}

/// The delimiter that cuts the header into most fields; `likely` where none does better.
pub(super) fn delimiter_of(sample: &[u8], likely: u8) -> u8 {
    let count = |delimiter| well_formed(sample, delimiter).unwrap_or(0);
    let mut best = likely;
    for delimiter in [b',', b';', b'\t', b'|'] {
        if count(delimiter) > count(best) {
            best = delimiter;
        }
    }
    best
}

/// Where lines begin inside a record, its first line left out.
fn line_starts(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let ends = |at: &usize| bytes[*at] == b'\n' || bytes[*at] == b'\r';
    let joined = |at: &usize| bytes[*at] == b'\r' && bytes.get(at + 1) == Some(&b'\n');
    (0..bytes.len()).filter(ends).filter(move |at| !joined(at)).map(|at| at + 1).filter(|start| *start < bytes.len())
}

/// Finds the records of a delimited stream.
pub(super) struct TableReader {
    window: Window,
    delimiter: u8,
    /// Fields of the header; 0 while it is being read.
    columns: usize,
    limit: usize,
    rows: u64,
    /// Bytes up to here were already read in vain behind an unclosed mark.
    repair_until: u64,
    failed: bool,
}

impl TableReader {
    pub(super) fn new(window: Window, delimiter: u8, limit: usize) -> Self {
        Self { window, delimiter, columns: 0, limit, rows: 0, repair_until: 0, failed: false }
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Ends the header: records from here on are rows, numbered from 1.
    pub(super) fn begin_rows(&mut self, columns: usize) {
        self.columns = columns;
        self.rows = 0;
    }

    /// The next record; empty lines are none.
    pub(super) fn next(&mut self) -> Option<RawRecord> {
        while matches!(self.window.byte(0), Some(b'\n' | b'\r')) {
            self.window.consume(1);
        }
        if self.window.byte(0).is_none() {
            let error = self.window.error()?.to_string();
            return (!std::mem::replace(&mut self.failed, true)).then(|| self.take(0, Some(Problem::CutOff(error))));
        }
        let repairing = self.window.offset() < self.repair_until;
        let mut state = State::FieldStart;
        let (mut at, mut fields, mut second_line, mut inner) = (0, 1, None, false);
        loop {
            let Some(byte) = self.window.byte(at) else {
                return Some(self.end_of_stream(at, state, second_line, inner));
            };
            if at >= self.limit {
                return Some(self.too_large(at, state, second_line));
            }
            if let (true, Some(start)) = (repairing, second_line)
                && (at > KEPT_BYTES || fields > self.columns)
            {
                return Some(self.take(start, Some(Problem::Unterminated)));
            }
            let window = &mut self.window;
            match state.step(byte, self.delimiter, || window.byte(at + 1)) {
                Step::Skip => {}
                Step::KeepMark => inner = true,
                Step::EndField => fields += 1,
                Step::EndRecord => return Some(self.finish(at, second_line, inner)),
                Step::Keep => {
                    let ends = byte == b'\n' || (byte == b'\r' && self.window.byte(at + 1) != Some(b'\n'));
                    if ends && second_line.is_none() && state == State::Quoted {
                        second_line = Some(at + 1);
                    }
                }
            }
            at += 1;
        }
    }

    fn end_of_stream(&mut self, at: usize, state: State, second_line: Option<usize>, inner: bool) -> RawRecord {
        if let Some(error) = self.window.error() {
            let problem = Problem::CutOff(error.to_string());
            self.failed = true;
            return self.take(at, Some(problem));
        }
        if state != State::Quoted {
            return self.finish(at, second_line, inner);
        }
        match second_line {
            Some(start) if self.rows_follow(start, at) => {
                self.repair_until = self.window.offset() + at as u64;
                self.take(start, Some(Problem::Unterminated))
            }
            _ => self.take(at, Some(Problem::Unterminated)),
        }
    }

    fn too_large(&mut self, at: usize, state: State, second_line: Option<usize>) -> RawRecord {
        match second_line {
            Some(start) if state == State::Quoted && self.rows_follow(start, at) => {
                self.repair_until = self.window.offset() + at as u64;
                self.take(start, Some(Problem::Unterminated))
            }
            _ => self.skip(at, state),
        }
    }

    /// Whether most lines behind an unclosed mark are rows by themselves.
    fn rows_follow(&self, start: usize, end: usize) -> bool {
        let behind = &self.window.first(end)[start..];
        let starts = std::iter::once(0).chain(line_starts(behind));
        let (mut lines, mut rows) = (0, 0);
        for start in starts.take(JUDGED_LINES) {
            lines += 1;
            rows += usize::from(well_formed(&behind[start..], self.delimiter) == Some(self.columns));
        }
        self.columns > 0 && rows * 2 > lines
    }

    /// A whole record. One that spans lines, has marks that are not doubled and
    /// holds a line which is a row by itself is several rows that ran together.
    fn finish(&mut self, at: usize, second_line: Option<usize>, inner: bool) -> RawRecord {
        let record = self.window.first(at);
        let together = inner
            && second_line.is_some()
            && self.columns > 1
            && line_starts(record)
                .take(JUDGED_LINES)
                .any(|start| well_formed(&record[start..], self.delimiter) == Some(self.columns));
        let mut record = self.take(at, together.then_some(Problem::RunTogether));
        record.inner_quotes = inner;
        record
    }

    /// Takes the first `count` bytes as a record, its line end left out.
    fn take(&mut self, count: usize, problem: Option<Problem>) -> RawRecord {
        let line = self.window.line();
        let mut bytes = self.window.first(count).to_vec();
        self.window.consume(count);
        while matches!(bytes.last(), Some(b'\n' | b'\r')) && problem.is_some() {
            bytes.pop();
        }
        self.rows += 1;
        RawRecord { row: self.rows, line, bytes, inner_quotes: false, problem }
    }

    /// Passes over the rest of a record without keeping it.
    fn skip(&mut self, mut at: usize, mut state: State) -> RawRecord {
        let line = self.window.line();
        let bytes = self.window.first(KEPT_BYTES).to_vec();
        let mut hash = Sha256::new();
        let mut size = 0_u64;
        let mut passed = |window: &mut Window, count: usize| {
            hash.update(window.first(count));
            size += count as u64;
            window.consume(count);
        };
        loop {
            if at >= KEPT_BYTES {
                passed(&mut self.window, at);
                at = 0;
            }
            let Some(byte) = self.window.byte(at) else {
                break;
            };
            let window = &mut self.window;
            if let Step::EndRecord = state.step(byte, self.delimiter, || window.byte(at + 1)) {
                break;
            }
            at += 1;
        }
        passed(&mut self.window, at);
        self.rows += 1;
        RawRecord {
            row: self.rows,
            line,
            bytes,
            inner_quotes: false,
            problem: Some(Problem::TooLarge { size, digest: hash.finalize().into() }),
        }
    }
}
