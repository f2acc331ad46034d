//! Rows of CSV, TSV and JSON Lines, packed with gzip or not, as named cells.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

/// What is wrong with a file, each problem with its line and column.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

/// Problems told in full; the rest is a count.
const TOLD: usize = 12;

impl Problems {
    /// One problem.
    pub fn one(problem: String) -> Self {
        Self(vec![problem])
    }

    /// Adds a problem.
    pub fn add(&mut self, problem: String) {
        self.0.push(problem);
    }

    /// `Ok` when nothing is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..self.0.len().min(TOLD)].join("\n"))?;
        match self.0.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}

impl std::error::Error for Problems {}

/// A row: where it begins, and its cells under plain names ([`plain`]).
#[derive(Debug)]
pub struct Cells {
    /// Line of the file, from 1.
    pub line: u64,
    cells: BTreeMap<String, Value>,
}

impl Cells {
    /// The cell of a column; empty ones and white space are nothing.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.cells.get(&plain(column)).filter(|cell| match cell {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            _ => true,
        })
    }

    /// The cell as it stands, empty or not.
    pub fn whole(&self, column: &str) -> Option<&Value> {
        self.cells.get(&plain(column))
    }
}

/// A name as it is compared: `Identity Attack` is `identity_attack`.
pub fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

/// All rows of a file and the names of its columns.
#[derive(Debug)]
pub struct Table {
    /// Under their plain names, in order of appearance.
    pub columns: Vec<String>,
    /// In file order.
    pub rows: Vec<Cells>,
}

/// Reads a whole file; `name` stands for it in messages and tells the format, or
/// the first character does.
///
/// # Errors
/// Names the file and the line of whatever cannot be read.
pub fn read(name: &str, input: impl Read) -> Result<Table, Problems> {
    let mut packed = BufReader::new(input);
    let magic = packed.fill_buf().map_err(|error| cannot(name, &error))?.starts_with(&[0x1f, 0x8b]);
    if magic { read_plain(name, BufReader::new(MultiGzDecoder::new(packed))) } else { read_plain(name, packed) }
}

fn cannot(name: &str, error: &dyn fmt::Display) -> Problems {
    Problems::one(format!("{name}: cannot be read: {error}"))
}

fn read_plain(name: &str, mut input: impl BufRead) -> Result<Table, Problems> {
    let start = input.fill_buf().map_err(|error| cannot(name, &error))?;
    let marked = start.starts_with(b"\xef\xbb\xbf");
    if marked {
        input.consume(3);
    }
    let start = input.fill_buf().map_err(|error| cannot(name, &error))?;
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    let lower = name.to_lowercase();
    let named = [".jsonl", ".ndjson", ".json"].iter().any(|end| lower.trim_end_matches(".gz").ends_with(end));
    match first {
        None => Err(Problems::one(format!("{name}: is empty"))),
        Some(b'[') if named => Err(Problems::one(format!(
            "{name}: is a JSON list; write one object on each line (`jq -c '.[]' FILE` does it)"
        ))),
        Some(b'{') => json_lines(name, input),
        Some(_) if named => json_lines(name, input),
        Some(_) => {
            let header = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let count = |delimiter: u8| header.split(|byte| *byte == delimiter).count();
            let delimiter = [b',', b'\t', b';'].into_iter().rev().max_by_key(|delimiter| count(*delimiter));
            csv_rows(name, input, delimiter.unwrap_or(b','))
        }
    }
}

fn csv_rows(name: &str, input: impl Read, delimiter: u8) -> Result<Table, Problems> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(input);
    let columns: Vec<String> = reader.headers().map_err(|error| cannot(name, &error))?.iter().map(plain).collect();
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].contains(column) {
            return Err(Problems::one(format!("{name}, line 1: column `{column}` stands twice")));
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        // The csv crate names the line, and never a cell.
        let record = record.map_err(|error| cannot(name, &error))?;
        let cells = record.iter().map(|cell| Value::String(cell.to_owned()));
        let line = record.position().map_or(0, csv::Position::line);
        rows.push(Cells { line, cells: columns.iter().cloned().zip(cells).collect() });
    }
    Ok(Table { columns, rows })
}

fn json_lines(name: &str, input: impl BufRead) -> Result<Table, Problems> {
    let (mut columns, mut rows, mut problems) = (Vec::new(), Vec::new(), Problems::default());
    for (at, line) in input.split(b'\n').enumerate() {
        let bytes = line.map_err(|error| cannot(name, &error))?;
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let line = at as u64 + 1;
        let object: Map<String, Value> = match serde_json::from_slice(&bytes) {
            Ok(object) => object,
            Err(error) => {
                let what = if error.is_data() { "not a JSON object" } else { "not valid JSON" };
                problems.add(format!("{name}, line {line}: {what} (column {})", error.column()));
                continue;
            }
        };
        let cells = flat(object);
        for column in cells.keys() {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        rows.push(Cells { line, cells });
    }
    problems.or(Table { columns, rows })
}

/// Objects inside are taken apart as `outer.inner`; those of `attributes` keep
/// their own names, as [`crate::wire::AssessedV1`] and the shipped comments have them.
fn flat(object: Map<String, Value>) -> BTreeMap<String, Value> {
    let mut cells = BTreeMap::new();
    for (key, value) in object {
        let key = plain(&key);
        if let Value::Object(inner) = value {
            for (name, value) in inner {
                let name = if key == "attributes" { plain(&name) } else { format!("{key}.{}", plain(&name)) };
                cells.entry(name).or_insert(value);
            }
        } else {
            cells.insert(key, value);
        }
    }
    cells
}
