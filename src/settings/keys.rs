//! Reads a TOML table key by key and remembers everything that is wrong with it.

use std::collections::BTreeSet;
use std::fmt;

use toml::{Table, Value};

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was given.
    pub file: String,
    /// Dotted key, or a line for text that is not TOML; empty for the whole file.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(f, "{}: `{}` {}", self.file, self.key, self.message)
        }
    }
}

/// Everything wrong with a set of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} problem{} in the settings:", self.0.len(), if self.0.len() == 1 { "" } else { "s" })?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, file: &str, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { file: file.to_owned(), key: key.into(), message: message.into() });
    }

    /// `value` if nothing is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

/// Parses a file's text; what is not TOML is one problem with its line.
pub fn parse(file: &str, text: &str, problems: &mut Problems) -> Table {
    match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            problems.add(file, format!("line {line}"), format!("is not valid TOML: {}", error.message()));
            Table::new()
        }
    }
}

/// One table, read key by key. [`Keys::finish`] reports the keys that nobody asked for.
pub struct Keys<'t, 'p> {
    table: &'t Table,
    file: &'p str,
    prefix: String,
    seen: BTreeSet<String>,
    /// Where everything wrong is noted.
    pub problems: &'p mut Problems,
}

impl<'t, 'p> Keys<'t, 'p> {
    /// Reads `table`, which stands under `prefix` in `file`.
    pub fn new(table: &'t Table, file: &'p str, prefix: &str, problems: &'p mut Problems) -> Self {
        Self { table, file, prefix: prefix.to_owned(), seen: BTreeSet::new(), problems }
    }

    /// The dotted key of `name`.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Notes that the value of `name` is wrong.
    pub fn wrong(&mut self, name: &str, message: impl Into<String>) {
        let key = self.key(name);
        self.problems.add(self.file, key, message);
    }

    fn get(&mut self, name: &str) -> Option<&'t Value> {
        self.seen.insert(name.to_owned());
        self.table.get(name)
    }

    /// Whether the table has the key.
    pub fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// A text; absent is `None`.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) => Some(text.trim().to_owned()),
            other => {
                self.wrong(name, format!("must be a text, not {}", other.type_str()));
                None
            }
        }
    }

    /// A text; absent or empty is `None`.
    pub fn optional_text(&mut self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// A text that must be there and not be empty.
    pub fn required_text(&mut self, name: &str) -> Option<String> {
        if !self.has(name) {
            self.seen.insert(name.to_owned());
            self.wrong(name, "is missing");
            return None;
        }
        let text = self.text(name)?;
        if text.is_empty() {
            self.wrong(name, "is empty");
            return None;
        }
        Some(text)
    }

    /// A whole number from `lowest` up; absent is `None`.
    pub fn whole(&mut self, name: &str, lowest: i64) -> Option<i64> {
        match self.get(name)? {
            Value::Integer(number) if *number >= lowest => Some(*number),
            Value::Integer(number) => {
                self.wrong(name, format!("is {number}, must be at least {lowest}"));
                None
            }
            other => {
                self.wrong(name, format!("must be a whole number, not {}", other.type_str()));
                None
            }
        }
    }

    /// A probability, 0 to 1; absent is `None`.
    pub fn probability(&mut self, name: &str) -> Option<crate::domain::score::Probability> {
        let number = match self.get(name)? {
            Value::Float(number) => *number,
            Value::Integer(number) => *number as f64,
            other => {
                self.wrong(name, format!("must be a number from 0 to 1, not {}", other.type_str()));
                return None;
            }
        };
        let probability = crate::domain::score::Probability::new(number as f32);
        if probability.is_none() {
            self.wrong(name, format!("is {number}, must be from 0 to 1"));
        }
        probability
    }

    /// Yes or no; absent is `None`.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Boolean(flag) => Some(*flag),
            other => {
                self.wrong(name, format!("must be true or false, not {}", other.type_str()));
                None
            }
        }
    }

    /// One of a fixed set of words; absent is `None`.
    pub fn choice(&mut self, name: &str, allowed: &[&str]) -> Option<String> {
        let word = self.text(name)?;
        if allowed.contains(&word.as_str()) {
            return Some(word);
        }
        let hint = nearest(&word, allowed.iter().copied())
            .map(|near| format!(" (did you mean `{near}`?)"))
            .unwrap_or_default();
        self.wrong(name, format!("is `{word}`, must be one of {}{hint}", allowed.join(", ")));
        None
    }

    /// A list of texts; absent is empty.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let texts: Option<Vec<String>> =
            value.as_array().and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        texts.unwrap_or_else(|| {
            self.wrong(name, "must be a list of texts");
            Vec::new()
        })
    }

    /// A list of whole numbers from `lowest` up; absent is `None`.
    pub fn whole_list(&mut self, name: &str, lowest: i64) -> Option<Vec<i64>> {
        let list = self.get(name)?.as_array();
        let numbers: Option<Vec<i64>> =
            list.and_then(|list| list.iter().map(|item| item.as_integer().filter(|n| *n >= lowest)).collect());
        if numbers.is_none() {
            self.wrong(name, format!("must be a list of whole numbers from {lowest} up"));
        }
        numbers
    }

    /// A time such as `2026-11-30T23:59:59Z`; absent or empty is `None`.
    pub fn time(&mut self, name: &str) -> Option<jiff::Timestamp> {
        let text = match self.get(name)? {
            Value::String(text) if text.trim().is_empty() => return None,
            Value::String(text) => text.clone(),
            Value::Datetime(time) => time.to_string(),
            other => {
                self.wrong(name, format!("must be a time, not {}", other.type_str()));
                return None;
            }
        };
        let time = text.parse().ok();
        if time.is_none() {
            self.wrong(name, format!("is `{text}`, must be a time with its zone such as 2026-11-30T23:59:59Z"));
        }
        time
    }

    /// The tables of `[[name]]`, with the prefix of each; absent is empty.
    pub fn tables(&mut self, name: &str) -> Vec<(&'t Table, String)> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.wrong(name, format!("must be written as [[{name}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in list.iter().enumerate() {
            if let Some(table) = item.as_table() {
                tables.push((table, format!("{}[{}]", self.key(name), index + 1)));
            } else {
                self.wrong(name, format!("entry {} is not a table", index + 1));
            }
        }
        tables
    }

    /// The table `[name]`.
    pub fn table(&mut self, name: &str) -> Option<(&'t Table, String)> {
        let value = self.get(name)?;
        if let Some(table) = value.as_table() {
            return Some((table, self.key(name)));
        }
        self.wrong(name, format!("must be a table written as [{name}]"));
        None
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        for name in self.table.keys().filter(|name| !self.seen.contains(*name)) {
            let hint = nearest(name, self.seen.iter().map(String::as_str)).map_or_else(
                || format!("known keys: {}", self.seen.iter().cloned().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            let key = self.key(name);
            self.problems.add(self.file, key, format!("is not a key here; {hint}"));
        }
    }
}

/// The known word within two edits of `word`.
fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    known.map(|other| (distance(word, other), other)).filter(|(edits, _)| *edits <= 2).min().map(|(_, other)| other)
}

/// Damerau-Levenshtein distance (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, first) in rows[0].iter_mut().enumerate() {
        *first = j;
    }
    for i in 1..=left.len() {
        for j in 1..=right.len() {
            let change = usize::from(left[i - 1] != right[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_named_with_what_was_meant() {
        let mut problems = Problems::default();
        let table = parse("policy.toml", "verdcit = \"hold\"", &mut problems);
        let mut keys = Keys::new(&table, "policy.toml", "rule[1]", &mut problems);
        let _ = keys.text("verdict");
        keys.finish();
        assert_eq!(
            problems.0[0].to_string(),
            "policy.toml: `rule[1].verdcit` is not a key here; did you mean `verdict`?"
        );
    }

    #[test]
    fn text_that_is_not_toml_names_its_line() {
        let mut problems = Problems::default();
        parse("codebook.toml", "id = \"x\"\nversion = = 1\n", &mut problems);
        assert_eq!(problems.0[0].key, "line 2");
    }
}
