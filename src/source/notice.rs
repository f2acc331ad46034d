//! What a reader of the file should know although every row was accounted for.

use std::collections::BTreeMap;

/// One remark on a file, said once with its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Stable key, such as `date_unreadable`.
    pub key: &'static str,
    /// How many rows, columns or dates it concerns; 1 for the file as a whole.
    pub count: u64,
    /// A sentence for a person. Holds no comment text.
    pub text: String,
}

/// What can be remarked, in the order in which it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remark {
    ByteOrderMark,
    Utf16,
    Windows1252,
    Replaced,
    NulRemoved,
    IgnoredColumns,
    NoRows,
    NoId,
    InnerQuotes,
    EmptyExtras,
    OtherConsultation,
    RevisionUnreadable,
    DateUnreadable,
    DateOrderAssumed,
    DateOrderContradicted,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    count: u64,
    first_row: u64,
    what: String,
}

/// Counts remarks while rows stream by.
#[derive(Clone, Debug, Default)]
pub(super) struct Remarks(BTreeMap<Remark, Tally>);

impl Remarks {
    /// Counts one case at a row (0 where it concerns the whole file).
    pub(super) fn count(&mut self, remark: Remark, row: u64) {
        self.count_about(remark, row, "");
    }

    /// The same, with what it is about: kept from the first case.
    pub(super) fn count_about(&mut self, remark: Remark, row: u64, what: &str) {
        let tally = self.0.entry(remark).or_default();
        if tally.count == 0 {
            tally.first_row = row;
            what.clone_into(&mut tally.what);
        }
        tally.count += 1;
    }

    /// States a count that is known as a whole.
    pub(super) fn set(&mut self, remark: Remark, count: u64, what: String) {
        let tally = Tally { count, first_row: 0, what };
        self.0.insert(remark, tally);
    }

    /// Everything remarked so far, as sentences.
    pub(super) fn notices(&self) -> Vec<Notice> {
        self.0
            .iter()
            .map(|(remark, tally)| {
                let (key, text) = sentence(*remark, tally);
                Notice { key, count: tally.count, text }
            })
            .collect()
    }
}

fn sentence(remark: Remark, tally: &Tally) -> (&'static str, String) {
    let Tally { count, first_row: row, what } = tally;
    match remark {
        Remark::ByteOrderMark => {
            ("byte_order_mark", "the file starts with a byte-order mark; it is no part of the first column".to_owned())
        }
        Remark::Utf16 => ("utf16", format!("the file is {what}; read as such")),
        Remark::Windows1252 => (
            "windows_1252",
            "the file is not UTF-8; read as Windows-1252, as older Excel writes it. \
             If letters look wrong, save it as UTF-8 (CSV UTF-8 in Excel)"
                .to_owned(),
        ),
        Remark::Replaced => {
            ("characters_replaced", format!("{count} places held no valid character; each is now U+FFFD"))
        }
        Remark::NulRemoved => {
            ("nul_removed", format!("NUL characters were removed from {count} rows, first in row {row}"))
        }
        Remark::IgnoredColumns => (
            "columns_ignored",
            format!(
                "{count} columns are not used: {what}. `--map FIELD=COLUMN` or \
                 `--group COLUMN` takes one in"
            ),
        ),
        Remark::NoRows => ("no_rows", "the file has a header and no rows below it".to_owned()),
        Remark::NoId => (
            "id_derived",
            format!(
                "{count} rows have no id, first row {row}; each got one from its content, \
                 so the same file again changes nothing"
            ),
        ),
        Remark::InnerQuotes => (
            "inner_quotes",
            format!(
                "{count} rows hold quotation marks that are not doubled, first row {row}; \
                 taken as part of the text"
            ),
        ),
        Remark::EmptyExtras => (
            "empty_extra_fields",
            format!(
                "{count} rows end in more empty fields than the header has, first row {row}; \
                 nothing was in them"
            ),
        ),
        Remark::OtherConsultation => (
            "other_consultation",
            format!("{count} rows name another consultation, first row {row}; taken into this one"),
        ),
        Remark::RevisionUnreadable => {
            ("revision_unreadable", format!("{count} revisions are no whole numbers, first in row {row}; left out"))
        }
        Remark::DateUnreadable => (
            "date_unreadable",
            format!(
                "{count} dates could not be read, first in row {row} ({what}); \
                 the comments are kept without them"
            ),
        ),
        Remark::DateOrderAssumed => (
            "date_order_assumed",
            format!(
                "{count} dates such as 02/11/2026 could be read two ways, first in row {row} \
                 ({what}); read with the day first. `--date-order mdy` reads the month first"
            ),
        ),
        Remark::DateOrderContradicted => (
            "date_order_contradicted",
            format!(
                "{count} dates have only a reading against the order of the rest, first in row \
                 {row} ({what}); each was read the one way it can be. Check this column"
            ),
        ),
    }
}
