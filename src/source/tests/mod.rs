//! The cases that files bring, by what is odd about them.

mod bytes;
mod dates;
mod json;
mod names;
mod properties;
mod quotes;

use std::io::Cursor;

use jiff::tz::TimeZone;

use super::*;

fn options() -> FileOptions {
    FileOptions::new(ConsultationId::new("mentoring").unwrap(), TimeZone::get("Europe/London").unwrap())
}

/// All that a file gives.
struct All {
    rows: Vec<Row>,
    notices: Vec<Notice>,
}

impl All {
    fn comments(&self) -> Vec<&Comment> {
        let rows = self.rows.iter();
        rows.filter_map(|row| match row {
            Row::Comment(comment) => Some(comment),
            Row::Failed(_) => None,
        })
        .collect()
    }

    fn failed(&self) -> Vec<&FailedRow> {
        let rows = self.rows.iter();
        rows.filter_map(|row| match row {
            Row::Failed(failed) => Some(failed),
            Row::Comment(_) => None,
        })
        .collect()
    }

    fn texts(&self) -> Vec<&str> {
        self.comments().iter().map(|c| c.text.as_str()).collect()
    }

    fn ids(&self) -> Vec<&str> {
        let ids = self.comments();
        ids.iter().map(|c| c.key.id.as_str()).collect()
    }

    /// `(row, reason)` of what failed.
    fn reasons(&self) -> Vec<(u64, &str)> {
        let failed = self.failed();
        failed.iter().map(|f| (f.row, f.reason.as_str())).collect()
    }

    fn notice(&self, key: &str) -> Option<&Notice> {
        self.notices.iter().find(|notice| notice.key == key)
    }
}

fn read_with(name: &str, bytes: &[u8], options: &FileOptions) -> Result<All, SourceError> {
    let mut file = open_reader(name, Cursor::new(bytes.to_vec()), options)?;
    let rows: Vec<Row> = file.by_ref().collect();
    assert_eq!(file.rows(), rows.len() as u64);
    let notices = file.notices();
    Ok(All { rows, notices })
}

fn read(name: &str, bytes: impl AsRef<[u8]>) -> All {
    read_with(name, bytes.as_ref(), &options()).unwrap()
}

fn csv(bytes: impl AsRef<[u8]>) -> All {
    read("file.csv", bytes)
}

/// The message with which a file is refused.
fn refused(name: &str, bytes: impl AsRef<[u8]>) -> String {
    match read_with(name, bytes.as_ref(), &options()) {
        Ok(all) => panic!("{name} gave {} rows", all.rows.len()),
        Err(error) => error.to_string(),
    }
}
