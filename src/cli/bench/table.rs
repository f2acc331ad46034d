//! What a part of the bench found: printed as a table, or given as JSON.

use std::fmt;

use serde_json::{Value, json};

/// The median of some rounds and how far they lay apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Of the rounds.
    pub median: f64,
    /// Largest less smallest, as a share of the median.
    pub spread: f64,
}

impl Figure {
    /// Of at least one round; none gives zero.
    pub fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let Some((first, last)) = rounds.first().zip(rounds.last()) else { return Self { median: 0.0, spread: 0.0 } };
        // The lower of the two in the middle, so that it is one that was measured.
        let median = rounds[(rounds.len() - 1) / 2];
        Self { median, spread: if median > 0.0 { (last - first) / median } else { 0.0 } }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = (self.spread * 50.0).round();
        f.write_str(&number(self.median))?;
        if spread > 0.0 { write!(f, " ±{spread:>2.0} %") } else { Ok(()) }
    }
}

/// A value that the project holds itself to.
pub struct Bar {
    pub what: &'static str,
    pub measured: f64,
    pub wanted: f64,
    /// Whether more is better.
    pub at_least: bool,
}

impl Bar {
    pub fn at_least(what: &'static str, measured: f64, wanted: f64) -> Self {
        Self { what, measured, wanted, at_least: true }
    }

    pub fn at_most(what: &'static str, measured: f64, wanted: f64) -> Self {
        Self { what, measured, wanted, at_least: false }
    }

    fn is_met(&self) -> bool {
        if self.at_least { self.measured >= self.wanted } else { self.measured <= self.wanted }
    }
}

/// One part's findings.
#[derive(Default)]
pub struct Table {
    /// Its key in the JSON.
    pub key: &'static str,
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<(String, Vec<Option<Figure>>)>,
    pub bars: Vec<Bar>,
    pub notes: Vec<String>,
}

/// For a terminal.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(16);
        writeln!(f, "\n{}", self.title)?;
        if !self.rows.is_empty() {
            write!(f, "{:first$}", "")?;
            for column in &self.columns {
                write!(f, "  {column:>16}")?;
            }
            writeln!(f)?;
        }
        for (name, figures) in &self.rows {
            write!(f, "{name:first$}")?;
            for figure in figures {
                let shown = figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
                write!(f, "  {shown:>16}")?;
            }
            writeln!(f)?;
        }
        for bar in &self.bars {
            let side = if bar.at_least { "at least" } else { "at most" };
            let end = if bar.is_met() { "met" } else { "missed" };
            writeln!(f, "bar  {}: {}, {side} {}: {end}", bar.what, number(bar.measured), number(bar.wanted))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "     {note}"))
    }
}

impl Table {
    /// For a page of the documentation.
    pub fn markdown(&self) -> String {
        let mut lines = vec![format!("## {}", self.title), String::new()];
        if !self.rows.is_empty() {
            lines.push(format!("| | {} |", self.columns.join(" | ")));
            lines.push(format!("|---|{}", "---:|".repeat(self.columns.len())));
        }
        for (name, figures) in &self.rows {
            let shown = figures.iter().map(|figure| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string()));
            lines.push(format!("| {name} | {} |", shown.collect::<Vec<_>>().join(" | ")));
        }
        if !self.bars.is_empty() {
            lines.extend(["", "| bar | measured | wanted | |", "|---|---:|---:|---|"].map(str::to_owned));
        }
        for bar in &self.bars {
            let side = if bar.at_least { "at least" } else { "at most" };
            let end = if bar.is_met() { "met" } else { "missed" };
            lines.push(format!("| {} | {} | {side} {} | {end} |", bar.what, number(bar.measured), number(bar.wanted)));
        }
        lines.push(String::new());
        lines.extend(self.notes.iter().cloned());
        lines.join("\n").trim_end().to_owned() + "\n\n"
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(name, figures)| {
                let figures: serde_json::Map<String, Value> = self
                    .columns
                    .iter()
                    .zip(figures)
                    .filter_map(|(column, figure)| {
                        let figure = (*figure)?;
                        Some((column.clone(), json!({"median": figure.median, "spread": figure.spread})))
                    })
                    .collect();
                json!({"name": name, "figures": figures})
            })
            .collect();
        let bars: Vec<Value> = self
            .bars
            .iter()
            .map(|bar| {
                let side = if bar.at_least { "at_least" } else { "at_most" };
                json!({"what": bar.what, "measured": bar.measured, side: bar.wanted, "met": bar.is_met()})
            })
            .collect();
        json!({"title": self.title, "rows": rows, "bars": bars, "notes": self.notes})
    }
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value.abs() {
        at if at >= 99.95 || value == 0.0 => format!("{value:.0}"),
        at if at >= 9.995 => format!("{value:.1}"),
        at if at >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_round_that_was_measured_and_the_spread_spans_all() {
        assert_eq!(Figure::of(vec![3.0, 1.0, 2.0, 10.0]), Figure { median: 2.0, spread: 4.5 });
        assert_eq!(Figure::of(Vec::new()), Figure { median: 0.0, spread: 0.0 });
    }

    #[test]
    fn a_bar_is_met_on_its_own_side() {
        let table = Table {
            bars: vec![Bar::at_least("speed", 1.1, 1.0), Bar::at_most("memory", 301.0, 300.0)],
            ..Table::default()
        };
        assert!(table.to_string().contains("speed: 1.10, at least 1.00: met"), "{table}");
        assert!(table.to_string().contains("memory: 301, at most 300: missed"), "{table}");
        assert_eq!(table.json()["bars"][1]["met"], false);
    }

    #[test]
    fn a_page_holds_every_row_bar_and_note() {
        let table = Table {
            title: "Speed".to_owned(),
            columns: vec!["a".to_owned(), "b".to_owned()],
            rows: vec![("row".to_owned(), vec![None, Some(Figure { median: 12.34, spread: 0.1 })])],
            bars: vec![Bar::at_least("ratio", 0.5, 1.0)],
            notes: vec!["on one thread".to_owned()],
            ..Table::default()
        };
        let expected = "## Speed\n\n| | a | b |\n|---|---:|---:|\n| row | - | 12.3 ± 5 % |\n\n| bar | measured | wanted | |\n\
            |---|---:|---:|---|\n| ratio | 0.50 | at least 1.00 | missed |\n\non one thread\n\n";
        assert_eq!(table.markdown(), expected);
    }

    #[test]
    fn a_figure_that_is_missing_is_a_dash_and_no_number() {
        let table = Table {
            columns: vec!["a".to_owned(), "b".to_owned()],
            rows: vec![("row".to_owned(), vec![None, Some(Figure { median: 12.34, spread: 0.1 })])],
            ..Table::default()
        };
        let text = table.to_string();
        assert!(text.contains(" -  ") && text.ends_with("12.3 ± 5 %\n"), "{text}");
        assert_eq!(table.json()["rows"][0]["figures"].as_object().unwrap().len(), 1);
    }
}
