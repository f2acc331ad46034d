//! What a row found, and how the table is written.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// Which queue and which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Queue and store in one SQLite file.
    Embedded,
    /// The queue on RabbitMQ, the store in a SQLite file.
    Rabbit,
    /// The queue on RabbitMQ, the store in PostgreSQL.
    Servers,
}

impl Shape {
    pub const ALL: [Self; 3] = [Self::Embedded, Self::Rabbit, Self::Servers];

    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded, SQLite",
            Self::Rabbit => "RabbitMQ, SQLite",
            Self::Servers => "RabbitMQ, PostgreSQL",
        }
    }

    pub fn has_broker(self) -> bool {
        self != Self::Embedded
    }

    pub fn has_server(self) -> bool {
        self == Self::Servers
    }
}

/// Comments at the five points of their way, and what did not add up.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How often the fault was really there.
    pub injected: u64,
    /// Arrivals that the queue confirmed to their sender, each counted once.
    pub confirmed: u64,
    /// Deliveries to workers.
    pub delivered: u64,
    /// Arrivals whose effect the store holds.
    pub committed: u64,
    /// Messages that the outbox has marked as sent.
    pub sent: u64,
    /// Distinct messages that the sink has received.
    pub received: u64,
    /// Messages that the sink received again, under an id that it knew.
    pub repeated: u64,
    /// Confirmed and in no place, or stored and never told.
    pub lost: u64,
    /// Told twice under two ids, or stored and never sent.
    pub doubled: u64,
    pub parked: u64,
    /// Deliveries beyond the first.
    pub redelivered: u64,
    /// From the end of the fault to the next stored comment; the longest.
    pub recovery: Option<Duration>,
    /// What the fault was said to do and did not.
    pub broken: Vec<String>,
    /// For the reader.
    pub note: String,
}

impl Outcome {
    /// Holds the row to one more promise.
    pub fn promise(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.broken.push(what.into());
        }
    }

    /// Notes something for the reader.
    pub fn note(&mut self, what: impl AsRef<str>) {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(what.as_ref());
    }
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub fault: &'static str,
    pub shape: Shape,
    pub took: Duration,
    /// What came of it, or why nothing can be said.
    pub outcome: Result<Outcome, String>,
}

impl Row {
    /// Why it failed; `None` when it passed.
    pub fn failure(&self) -> Option<String> {
        let outcome = match &self.outcome {
            Ok(outcome) => outcome,
            Err(why) => return Some(why.clone()),
        };
        let mut wrong = outcome.broken.clone();
        if outcome.lost > 0 {
            wrong.insert(0, format!("{} lost", outcome.lost));
        }
        if outcome.doubled > 0 {
            wrong.insert(0, format!("{} doubled", outcome.doubled));
        }
        if outcome.injected == 0 {
            wrong.insert(0, "the fault was not injected".to_owned());
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }

    fn note(&self) -> String {
        self.outcome.as_ref().map_or_else(|_| String::new(), |outcome| outcome.note.clone())
    }

    fn figures(&self) -> [String; 12] {
        let Ok(outcome) = &self.outcome else {
            return std::array::from_fn(|_| "-".to_owned());
        };
        let recovery = outcome.recovery.map_or_else(|| "-".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
        [
            outcome.injected.to_string(),
            outcome.confirmed.to_string(),
            outcome.delivered.to_string(),
            outcome.committed.to_string(),
            outcome.sent.to_string(),
            outcome.received.to_string(),
            outcome.lost.to_string(),
            outcome.doubled.to_string(),
            outcome.parked.to_string(),
            outcome.redelivered.to_string(),
            outcome.repeated.to_string(),
            recovery,
        ]
    }
}

/// Columns between the fault and its verdict.
const COLUMNS: [&str; 12] = [
    "injected",
    "confirmed",
    "delivered",
    "committed",
    "sent",
    "received",
    "lost",
    "doubled",
    "parked",
    "redelivered",
    "repeated",
    "recovery",
];

/// All rows.
#[derive(Clone, Debug)]
pub struct Table {
    pub seed: u64,
    pub took: Duration,
    pub rows: Vec<Row>,
    /// Rows that were not asked for.
    pub left_out: usize,
}

impl Table {
    /// `12 passed, 0 failed`.
    pub fn verdict(&self) -> String {
        let failed = self.rows.iter().filter(|row| row.failure().is_some()).count();
        format!("{} passed, {failed} failed", self.rows.len() - failed)
    }

    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.failure().is_none())
    }

    pub fn markdown(&self) -> String {
        let line = |row: &Row| {
            let end = row.failure().map_or_else(|| row.note(), |why| format!("**FAILED**: {why}"));
            let (figures, end) = (row.figures().join(" | "), end.replace('|', "/").replace('\n', " "));
            format!("| {} | {} | {figures} | {end} |\n", row.fault, row.shape.name())
        };
        let head = format!("| fault | queue, store | {} | |\n|---|---|", COLUMNS.join(" | "));
        let rows: String = self.rows.iter().map(line).collect();
        format!("{head}{}---|\n{rows}\nSeed {}. {}.\n", "--:|".repeat(COLUMNS.len()), self.seed, self.verdict())
    }

    pub fn json(&self) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let mut value = json!({
                    "fault": row.fault,
                    "shape": row.shape.name(),
                    "passed": row.failure().is_none(),
                    "why": row.failure(),
                    "took_seconds": row.took.as_secs_f64(),
                });
                if let Ok(outcome) = &row.outcome {
                    for (column, figure) in COLUMNS.iter().zip(row.figures()) {
                        value[*column] = figure.parse::<u64>().map_or_else(|_| json!(figure), |number| json!(number));
                    }
                    value["recovery"] = json!(outcome.recovery.map(|took| took.as_secs_f64()));
                    value["note"] = json!(outcome.note);
                }
                value
            })
            .collect();
        let all = json!({"seed": self.seed, "took_seconds": self.took.as_secs_f64(), "rows": rows});
        serde_json::to_string_pretty(&all).unwrap_or_default()
    }
}

/// For a terminal.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.fault.len()).max().unwrap_or(5).max(5);
        writeln!(f, "\n{:width$}  {:20}  {}", "fault", "queue, store", COLUMNS.map(|c| format!("{c:>12}")).concat())?;
        for row in &self.rows {
            let figures = row.figures().map(|figure| format!("{figure:>12}")).concat();
            writeln!(f, "{:width$}  {:20}  {figures}  {}", row.fault, row.shape.name(), row.note())?;
            if let Some(why) = row.failure() {
                writeln!(f, "{:width$}  FAILED: {why}", "")?;
            }
        }
        let left = if self.left_out > 0 { format!(", {} rows left to --full", self.left_out) } else { String::new() };
        writeln!(f, "seed {}, {:.0} s{left}", self.seed, self.took.as_secs_f64())
    }
}
