//! Labelled rows: texts with what a person said of them.
//!
//! An empty cell is unknown, never "no". Only a list of themes or spans that is
//! there and empty says that there is none.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use serde_json::Value;

use super::labels::{Binary, Class, Codes};
use super::table::{self, Cells, Problems};
use crate::domain::score::{Attribute, Span};

/// How the columns of a file are read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `(label, column)`: where a label or field is, when its column has another name.
    pub columns: Vec<(String, String)>,
    /// Columns whose values are groups of people or comments.
    pub groups: Vec<String>,
    /// Only rows with this `split`.
    pub split: Option<String>,
    /// Whether rows must have a text; not when judgements are read from a file.
    pub texts: bool,
}

/// One labelled comment.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// As in the file, or `line 12`.
    pub id: String,
    /// What is judged.
    pub text: String,
    /// Where it comes from; empty when the file does not say.
    pub source: String,
    /// For each group column the groups that the row belongs to.
    pub groups: Vec<Vec<String>>,
    /// 0 to 1; shares of raters are kept.
    pub binary: BTreeMap<Binary, f64>,
    /// The place of the value among those of the class.
    pub classes: BTreeMap<Class, usize>,
    /// Characters that carry abuse.
    pub spans: Option<Vec<Span>>,
}

/// A whole set.
#[derive(Debug)]
pub struct Labelled {
    /// In file order.
    pub rows: Vec<Row>,
    /// Columns that nothing reads, so that a misspelt one is seen.
    pub unused: Vec<String>,
}

const FIELDS: [&str; 6] = ["id", "text", "source", "split", "themes", "spans"];

/// Reads a set and checks every cell.
///
/// # Errors
/// Every problem, each with file, line and column.
pub fn read(name: &str, input: impl Read, reading: &Reading, codes: &Codes) -> Result<Labelled, Problems> {
    let table = table::read(name, input)?;
    let columns = Columns::find(name, &table.columns, reading, codes)?;
    let (mut rows, mut seen) = (Vec::with_capacity(table.rows.len()), HashMap::new());
    let mut problems = Problems::default();
    for cells in &table.rows {
        if let Some(wanted) = &reading.split
            && columns.text_of(cells, "split").as_deref() != Some(wanted)
        {
            continue;
        }
        match columns.row(cells, codes) {
            Ok(row) => {
                if let Some(line) = seen.insert(row.id.clone(), cells.line) {
                    problems.add(format!("{name}, line {}: the id of line {line} again", cells.line));
                }
                rows.push(row);
            }
            Err(found) => {
                for (column, problem) in found {
                    problems.add(format!("{name}, line {}, column `{column}`: {problem}", cells.line));
                }
            }
        }
    }
    if rows.is_empty() {
        let split = reading.split.as_ref().map_or(String::new(), |split| format!(" of split `{split}`"));
        problems.add(format!("{name}: no row{split}"));
    }
    problems.or(Labelled { rows, unused: columns.unused })
}

/// Where everything is.
struct Columns<'a> {
    /// Field or label to the column that has it.
    at: BTreeMap<String, String>,
    groups: &'a [String],
    unused: Vec<String>,
    texts: bool,
}

type Wrong = Vec<(String, String)>;

impl<'a> Columns<'a> {
    fn find(name: &str, present: &[String], reading: &'a Reading, codes: &Codes) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let labels = codes.names();
        let fields = || FIELDS.iter().map(|field| (*field).to_owned()).chain(labels.iter().cloned());
        let listed = || present.join(", ");
        let mut at = BTreeMap::new();
        for (field, column) in &reading.columns {
            if !fields().any(|known| known == *field) {
                problems.add(format!("`{field}` is no label: {}", fields().collect::<Vec<_>>().join(", ")));
            } else if present.contains(&table::plain(column)) {
                at.insert(field.clone(), table::plain(column));
            } else {
                problems.add(format!("{name}: no column `{column}`; there are: {}", listed()));
            }
        }
        for field in fields() {
            if present.contains(&field) && !at.values().any(|taken| *taken == field) {
                at.entry(field.clone()).or_insert(field);
            }
        }
        for group in &reading.groups {
            if !present.contains(&table::plain(group)) {
                problems.add(format!("{name}: no column `{group}`; there are: {}", listed()));
            }
        }
        if reading.split.is_some() && !at.contains_key("split") {
            problems.add(format!("{name}: no column `split`; there are: {}", listed()));
        }
        if reading.texts && !at.contains_key("text") {
            problems
                .add(format!("{name}: no column `text`; name it with --column text=COLUMN; there are: {}", listed()));
        }
        if !labels.iter().any(|label| at.contains_key(label)) {
            problems.add(format!(
                "{name}: no label; name one with --column LABEL=COLUMN, where LABEL is one of {}; there are: {}",
                labels.join(", "),
                listed()
            ));
        }
        let used = |column: &String| {
            at.values().any(|used| used == column) || reading.groups.iter().any(|group| table::plain(group) == *column)
        };
        let unused = present.iter().filter(|column| !used(column)).cloned().collect();
        problems.or(Self { at, groups: &reading.groups, unused, texts: reading.texts })
    }

    /// A label's or field's cell.
    fn cell<'c>(&self, cells: &'c Cells, field: &str) -> Option<&'c Value> {
        cells.get(self.at.get(field)?)
    }

    fn text_of(&self, cells: &Cells, field: &str) -> Option<String> {
        self.cell(cells, field).map(shown)
    }

    fn row(&self, cells: &Cells, codes: &Codes) -> Result<Row, Wrong> {
        let mut wrong = Wrong::new();
        let mut row = Row {
            id: self.text_of(cells, "id").unwrap_or_else(|| format!("line {}", cells.line)),
            source: self.text_of(cells, "source").unwrap_or_default(),
            groups: self.groups.iter().map(|group| cells.get(group).map(listed).unwrap_or_default()).collect(),
            ..Row::default()
        };
        let text = self.at.get("text").and_then(|column| cells.whole(column));
        match text {
            Some(Value::String(text)) => row.text.clone_from(text),
            _ if self.texts => wrong.push(("text".to_owned(), "is no text".to_owned())),
            _ => {}
        }
        let mut told = |field: &str, problem: String| {
            wrong.push((self.at.get(field).cloned().unwrap_or_else(|| field.to_owned()), problem));
        };
        let attributes = Attribute::ALL.into_iter().map(Binary::Attribute);
        let themes = codes.themes.iter().map(|theme| Binary::Theme(theme.id.clone()));
        if let Some(cell) = self.cell(cells, "themes") {
            match theme_list(cell, codes) {
                Ok(named) => {
                    for theme in &codes.themes {
                        let applies = f64::from(u8::from(named.contains(&theme.id)));
                        row.binary.insert(Binary::Theme(theme.id.clone()), applies);
                    }
                }
                Err(problem) => told("themes", problem),
            }
        }
        for label in attributes.chain(themes) {
            match self.cell(cells, label.key()).map(degree) {
                Some(Ok(degree)) => {
                    row.binary.insert(label, degree);
                }
                Some(Err(problem)) => told(label.key(), problem),
                None => {}
            }
        }
        for class in Class::ALL {
            let Some(value) = self.text_of(cells, class.key()) else { continue };
            match codes.value(class, &table::plain(&value)) {
                Some(place) => {
                    row.classes.insert(class, place);
                }
                None => told(class.key(), format!("is none of {}", codes.values(class).join(", "))),
            }
        }
        if let Some(cell) = self.cell(cells, "spans") {
            let length = text.is_some().then(|| row.text.chars().count());
            match spans(cell, length) {
                Ok(spans) => row.spans = Some(spans),
                Err(problem) => told("spans", problem),
            }
        }
        if wrong.is_empty() { Ok(row) } else { Err(wrong) }
    }
}

fn shown(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

/// A list, or a text with `;` between its parts.
fn listed(cell: &Value) -> Vec<String> {
    let parts: Vec<String> = match cell {
        Value::Array(items) => items.iter().map(shown).collect(),
        other => shown(other).split(';').map(|part| part.trim().to_owned()).collect(),
    };
    let mut out: Vec<String> = Vec::new();
    for part in parts {
        if !part.is_empty() && !out.contains(&part) {
            out.push(part);
        }
    }
    out
}

fn theme_list(cell: &Value, codes: &Codes) -> Result<Vec<String>, String> {
    let mut named = listed(cell);
    // In a table an empty cell is unknown, so a word says that no theme applies.
    if named == ["none"] && codes.theme("none").is_none() {
        named.clear();
    }
    match named.iter().find(|id| codes.theme(id).is_none()) {
        // The value may be anything, a text in the wrong column for one; it is not repeated.
        Some(_) if !codes.codebook => {
            Err("there is no codebook to look it up in: judge with --consultation".to_owned())
        }
        Some(_) => {
            let known: Vec<&str> = codes.themes.iter().map(|theme| theme.id.as_str()).collect();
            Err(format!("holds what is no theme of the codebook: {}", known.join(", ")))
        }
        None => Ok(named),
    }
}

/// A yes, a no, or something between.
fn degree(cell: &Value) -> Result<f64, String> {
    let number = match cell {
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "yes" | "true" => Some(1.0),
            "no" | "false" => Some(0.0),
            number => number.parse().ok(),
        },
        _ => None,
    };
    number.filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| {
        "is not 1, 0, yes, no, true, false or a number between 0 and 1; leave it empty when unknown".to_owned()
    })
}

/// Character offsets, or half-open pairs of them; as a list, or a text that holds one.
pub(super) fn spans(cell: &Value, length: Option<usize>) -> Result<Vec<Span>, String> {
    let what = "is no list of character offsets or of [start, end) pairs";
    let parsed: Value;
    let list = match cell {
        Value::Array(list) => list,
        Value::String(text) => {
            parsed = serde_json::from_str(text).map_err(|_| what.to_owned())?;
            parsed.as_array().ok_or_else(|| what.to_owned())?
        }
        _ => return Err(what.to_owned()),
    };
    let offset = |value: &Value| value.as_u64().and_then(|offset| usize::try_from(offset).ok());
    let mut spans = Vec::with_capacity(list.len());
    for entry in list {
        let span = match entry.as_array().map(Vec::as_slice) {
            None => offset(entry).and_then(|at| Some(Span { start: at, end: at.checked_add(1)? })),
            Some([start, end]) => offset(start).zip(offset(end)).map(|(start, end)| Span { start, end }),
            Some(_) => None,
        };
        let span = span.filter(|span| span.start <= span.end).ok_or_else(|| what.to_owned())?;
        if let Some(length) = length.filter(|length| span.end > *length) {
            return Err(format!("reaches to character {}, and the text has {length}", span.end));
        }
        spans.push(span);
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::labels::Theme;
    use super::*;

    fn codes() -> Codes {
        let theme = |id: &str| Theme { id: id.to_owned(), headline: true };
        Codes { themes: vec![theme("stigma"), theme("organic")], codebook: true, ..Codes::default() }
    }

    fn rows(text: &str) -> Vec<Row> {
        let reading = Reading { texts: true, ..Reading::default() };
        read("gold.csv", text.as_bytes(), &reading, &codes()).unwrap_or_else(|error| panic!("{error}")).rows
    }

    #[test]
    fn offsets_and_pairs_mean_the_same_characters() {
        let span = |start, end| Span { start, end };
        assert_eq!(spans(&json!([0, 1, 4]), Some(5)), Ok(vec![span(0, 1), span(1, 2), span(4, 5)]));
        assert_eq!(spans(&json!("[[0, 2], [4, 5]]"), Some(5)), Ok(vec![span(0, 2), span(4, 5)]));
        assert_eq!(spans(&json!([]), Some(0)), Ok(Vec::new()));
        for bad in
            [json!([-1]), json!([[2, 1]]), json!([[1, 2, 3]]), json!("1;2"), json!(3), json!([1.5]), json!([[0, 9]])]
        {
            assert!(spans(&bad, Some(5)).is_err(), "{bad}");
        }
    }

    #[test]
    fn yes_and_no_have_several_spellings_and_an_empty_cell_is_none() {
        let rows = rows("text,toxic\na,1\na,No\na,TRUE\na,0.25\na,\na, \n");
        let toxic = Binary::Attribute(Attribute::Toxic);
        let found: Vec<Option<f64>> = rows.iter().map(|row| row.binary.get(&toxic).copied()).collect();
        assert_eq!(found, [Some(1.0), Some(0.0), Some(1.0), Some(0.25), None, None]);
        assert_eq!(rows[3].id, "line 5");
    }

    #[test]
    fn a_list_of_themes_says_no_to_the_others_and_a_column_only_of_its_own() {
        let stigma = Binary::Theme("stigma".to_owned());
        let organic = Binary::Theme("organic".to_owned());
        let listed = rows("text,themes\na,stigma\na,none\na,\n");
        assert_eq!((listed[0].binary[&stigma], listed[0].binary[&organic]), (1.0, 0.0));
        assert_eq!((listed[1].binary[&stigma], listed[1].binary[&organic]), (0.0, 0.0));
        assert!(listed[2].binary.is_empty());
        let columns = rows("text,stigma\na,1\n");
        assert_eq!((columns[0].binary.get(&stigma), columns[0].binary.get(&organic)), (Some(&1.0), None));
    }

    #[test]
    fn an_attitude_may_be_called_a_position() {
        let rows = rows("text,sentiment\na,Against\na,negative\na,for\n");
        let found: Vec<usize> = rows.iter().map(|row| row.classes[&Class::Sentiment]).collect();
        assert_eq!(found, [2, 2, 0]);
    }
}
