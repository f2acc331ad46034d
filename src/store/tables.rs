//! The tables of a store as lists of columns, the same on both databases: what a copy moves and compares.

use sha2::{Digest, Sha256};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{Postgres, Row};

use crate::pipeline::identity::hash_of;
use crate::pipeline::ports::StoreError;
use crate::sqlite;
use crate::store::postgres;
use crate::store::postgres::texts::{given, kept};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Whole,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
}

/// One table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// What it is called.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [(&'static str, Kind)],
    /// The columns that order its rows; no two rows share them.
    pub order: &'static str,
    /// The columns under whose hash PostgreSQL finds a row, by their place.
    pub found_by: Option<[usize; 3]>,
    /// Whether its `no` is counted by the database.
    pub numbered: bool,
    /// Rows that belong to one place only and are not moved.
    pub but: &'static str,
}

use Kind::{Bytes, Text, Whole};

const TABLE: Table = Table { name: "", columns: &[], order: "no", found_by: None, numbered: true, but: "TRUE" };

/// Every table, each after those that it points at.
pub const TABLES: [Table; 17] = [
    Table {
        name: "comments",
        columns: &[
            ("no", Whole),
            ("consultation", Text),
            ("source", Text),
            ("id", Text),
            ("current_revision", Whole),
            ("current_assessment", Whole),
            ("sequence", Whole),
            ("verdict", Text),
            ("text_hash", Text),
            ("withdrawn_at_ms", Whole),
            ("withdrawn_revision", Whole),
        ],
        found_by: Some([1, 2, 3]),
        ..TABLE
    },
    Table {
        name: "revisions",
        columns: &[
            ("no", Whole),
            ("comment_no", Whole),
            ("arrival_key", Text),
            ("sequence", Whole),
            ("revision", Whole),
            ("edited_at_ms", Whole),
            ("text_hash", Text),
            ("comment", Text),
            ("recorded_at_ms", Whole),
        ],
        ..TABLE
    },
    Table {
        name: "assessments",
        columns: &[
            ("no", Whole),
            ("revision_no", Whole),
            ("pipeline_version", Text),
            ("verdict", Text),
            ("assessment", Text),
            ("recorded_at_ms", Whole),
        ],
        ..TABLE
    },
    Table {
        name: "disclosures",
        columns: &[
            ("comment_no", Whole),
            ("revision_no", Whole),
            ("assessment_no", Whole),
            ("text_hash", Text),
            ("escalated_at_ms", Whole),
            ("acknowledged_at_ms", Whole),
            ("acknowledged_by", Text),
        ],
        order: "comment_no",
        numbered: false,
        ..TABLE
    },
    Table {
        name: "decisions",
        columns: &[
            ("no", Whole),
            ("comment_no", Whole),
            ("text_hash", Text),
            ("verdict", Text),
            ("decided_by", Text),
            ("decided_at_ms", Whole),
        ],
        ..TABLE
    },
    Table {
        name: "failures",
        columns: &[
            ("no", Whole),
            ("consultation", Text),
            ("source", Text),
            ("id", Text),
            ("row_number", Whole),
            ("reason", Text),
            ("detail", Text),
            ("raw", Text),
            ("fingerprint", Text),
            ("failed_at_ms", Whole),
        ],
        found_by: Some([1, 2, 8]),
        ..TABLE
    },
    // Without its leases: who holds a message here does not hold it there.
    Table {
        name: "outbox",
        columns: &[("no", Whole), ("event_id", Text), ("kind", Text), ("created_at_ms", Whole), ("sent_at_ms", Whole)],
        ..TABLE
    },
    // What was sent, to a broker and to every webhook, has no body on a server, and none for long in a file.
    Table {
        name: "outbox_bodies",
        columns: &[("no", Whole), ("body", Text)],
        numbered: false,
        but: "no IN (SELECT no FROM outbox WHERE sent_at_ms IS NULL \
              UNION SELECT message_no FROM webhook_calls WHERE state <> 'delivered')",
        ..TABLE
    },
    // After the messages: those that come in while it is empty call nobody anew.
    Table {
        name: "webhook_calls",
        columns: &[
            ("no", Whole),
            ("message_no", Whole),
            ("target", Text),
            ("kind", Text),
            ("state", Text),
            ("attempts", Whole),
            ("run_at_ms", Whole),
            ("last_error", Text),
            ("ended_at_ms", Whole),
        ],
        ..TABLE
    },
    Table {
        name: "webhook_subscriptions",
        columns: &[("target", Text), ("kind", Text), ("since_ms", Whole)],
        order: "target, kind",
        numbered: false,
        ..TABLE
    },
    Table {
        name: "trials",
        columns: &[("name", Text), ("unended", Whole), ("began_at_ms", Whole)],
        order: "name",
        numbered: false,
        ..TABLE
    },
    Table {
        name: "rulebooks",
        columns: &[
            ("no", Whole),
            ("consultation", Text),
            ("pipeline_version", Text),
            ("parts", Text),
            ("kept_at_ms", Whole),
        ],
        ..TABLE
    },
    Table {
        name: "rulebook_adoptions",
        columns: &[("no", Whole), ("consultation", Text), ("pipeline_version", Text), ("adopted_at_ms", Whole)],
        ..TABLE
    },
    Table {
        name: "rulebook_contents",
        columns: &[("sha256", Text), ("content", Bytes)],
        order: "sha256",
        numbered: false,
        ..TABLE
    },
    Table {
        name: "rulebook_files",
        columns: &[("rulebook_no", Whole), ("path", Text), ("sha256", Text)],
        order: "rulebook_no, path",
        numbered: false,
        ..TABLE
    },
    Table {
        name: "shadow_assessments",
        columns: &[("revision_no", Whole), ("pipeline_version", Text), ("assessment", Text), ("judged_at_ms", Whole)],
        order: "revision_no, pipeline_version",
        numbered: false,
        ..TABLE
    },
    Table {
        name: "meta",
        columns: &[("key", Text), ("value", Text)],
        order: "key",
        numbered: false,
        but: "key <> 'ping' AND key NOT LIKE 'copy/%'",
        ..TABLE
    },
];

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number, or none.
    Whole(Option<i64>),
    /// A text, or none.
    Text(Option<String>),
    /// Bytes, or none.
    Bytes(Option<Vec<u8>>),
}

impl Value {
    /// How much room it takes, about.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Whole(_) | Self::Text(None) | Self::Bytes(None) => 8,
            Self::Text(Some(text)) => text.len(),
            Self::Bytes(Some(bytes)) => bytes.len(),
        }
    }
}

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Reads rows with their place in the file above `$1`, in order, at most `$2`: the place, then the columns.
    pub fn select_after(&self) -> String {
        let Self { name, but, .. } = self;
        format!("SELECT rowid, {} FROM {name} WHERE rowid > $1 AND {but} ORDER BY rowid LIMIT $2", self.names())
    }

    /// Reads every row in its order.
    pub fn select_all(&self) -> String {
        let Self { name, order, but, .. } = self;
        format!("SELECT {} FROM {name} WHERE {but} ORDER BY {order}", self.names())
    }

    /// Counts the rows.
    pub fn count(&self) -> String {
        let Self { name, but, .. } = self;
        format!("SELECT count(*) FROM {name} WHERE {but}")
    }

    /// Writes many rows to PostgreSQL: one array for each column, in order, and last the hashes.
    pub fn insert(&self) -> String {
        let mut names = self.names();
        let array = |(n, (_, kind)): (usize, &(&str, Kind))| {
            let array = match kind {
                Whole => "bigint[]",
                Text => "text[]",
                Bytes => "bytea[]",
            };
            format!("${}::{array}", n + 1)
        };
        let mut arrays: Vec<String> = self.columns.iter().enumerate().map(array).collect();
        if self.found_by.is_some() {
            names.push_str(", key_hash");
            arrays.push(format!("${}::bytea[]", self.columns.len() + 1));
        }
        format!("INSERT INTO {} ({names}) SELECT * FROM unnest({})", self.name, arrays.join(", "))
    }

    /// The columns of a row in a file, which begin at a place.
    pub fn row_of_file(&self, row: &SqliteRow, first: usize) -> Result<Vec<Value>, StoreError> {
        let read = |(n, (_, kind)): (usize, &(&str, Kind))| {
            Ok(match kind {
                Whole => Value::Whole(row.try_get(first + n)?),
                Text => Value::Text(row.try_get(first + n)?),
                Bytes => Value::Bytes(row.try_get(first + n)?),
            })
        };
        self.columns.iter().enumerate().map(read).collect::<sqlx::Result<_>>().map_err(sqlite::store_error)
    }

    /// The columns of a row on a server, as they were given.
    pub fn row_of_server(&self, row: &PgRow) -> Result<Vec<Value>, StoreError> {
        let read = |(n, (_, kind)): (usize, &(&str, Kind))| {
            Ok(match kind {
                Whole => Value::Whole(row.try_get(n)?),
                Text => Value::Text(row.try_get::<Option<String>, _>(n)?.map(given)),
                Bytes => Value::Bytes(row.try_get(n)?),
            })
        };
        self.columns.iter().enumerate().map(read).collect::<sqlx::Result<_>>().map_err(postgres::store_error)
    }

    /// Binds rows as one array for each column, and the hashes.
    ///
    /// # Panics
    ///
    /// Where a row holds a value of another kind than its column's.
    pub fn bind<'q>(
        &self,
        mut query: Query<'q, Postgres, PgArguments>,
        rows: &[Vec<Value>],
    ) -> Query<'q, Postgres, PgArguments> {
        for (n, (_, kind)) in self.columns.iter().enumerate() {
            let column = rows.iter().map(|row| &row[n]);
            query = match kind {
                Whole => query.bind(column.map(whole).collect::<Vec<_>>()),
                Text => query.bind(
                    column
                        .map(|value| text(value).map(|text| kept(text).into_owned()))
                        .collect::<Vec<Option<String>>>(),
                ),
                Bytes => query.bind(column.map(bytes).collect::<Vec<_>>()),
            };
        }
        if let Some(parts) = self.found_by {
            let hash = |row: &Vec<Value>| {
                let parts = parts.map(|part| text(&row[part]).unwrap_or_default());
                hex::decode(hash_of(&parts)).expect("a hash is hex")
            };
            query = query.bind(rows.iter().map(hash).collect::<Vec<_>>());
        }
        query
    }
}

fn whole(value: &Value) -> Option<i64> {
    if let Value::Whole(whole) = value { *whole } else { None }
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { text.as_deref() } else { None }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    if let Value::Bytes(bytes) = value { bytes.clone() } else { None }
}

/// Counts rows and hashes what they hold, in their order.
#[derive(Default)]
pub struct Tally {
    rows: u64,
    hash: Sha256,
}

/// Rows, and a SHA-256 over everything in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    /// How many.
    pub rows: u64,
    /// As hex.
    pub sha256: String,
}

impl Tally {
    /// Adds a row. Each value goes in with its kind and length, so that no two rows look the same.
    pub fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        for value in row {
            match value {
                Value::Whole(None) | Value::Text(None) | Value::Bytes(None) => self.hash.update([0]),
                Value::Whole(Some(whole)) => {
                    self.hash.update([1]);
                    self.hash.update(whole.to_le_bytes());
                }
                Value::Text(Some(text)) => self.long(2, text.as_bytes()),
                Value::Bytes(Some(bytes)) => self.long(3, bytes),
            }
        }
    }

    fn long(&mut self, kind: u8, bytes: &[u8]) {
        self.hash.update([kind]);
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    /// What came of it.
    pub fn done(self) -> Tallied {
        Tallied { rows: self.rows, sha256: hex::encode(self.hash.finalize()) }
    }
}
