//! A report on a terminal.

use std::fmt::Write;

use super::grids::{self, Grid, name};
use super::report::{Report, SetReport};
use crate::export::words::thousands;

/// Tables of figures; with `details` what they hide too.
pub fn render(report: &Report, details: bool) -> String {
    let mut out = String::new();
    for (what, fact) in &report.facts {
        let _ = writeln!(out, "{what}: {}", name_long(fact));
    }
    for set in &report.sets {
        out.push('\n');
        out += &one(set, details);
    }
    out
}

/// Facts are ours but for names in them.
fn name_long(text: &str) -> String {
    crate::export::cells::neutral(text).replace(['\n', '\t'], " ")
}

fn one(set: &SetReport, details: bool) -> String {
    let mut out =
        format!("{} ({} rows, consultation {})\n", name(&set.name), thousands(set.rows as u64), set.consultation);
    if !set.note.is_empty() {
        let _ = writeln!(out, "{}", name_long(&set.note));
    }
    for remark in &set.remarks {
        let _ = writeln!(out, "note: {}", name_long(remark));
    }
    let mut tables: Vec<Grid> = grids::figures(set, details).into_iter().collect();
    if details {
        tables.extend(grids::breakdowns(set));
        tables.extend(grids::bias(set));
        tables.extend(grids::confusions(set));
        tables.extend(grids::verdicts(set));
        tables.extend(grids::worst(set));
    }
    for (at, table) in tables.iter().enumerate() {
        if at > 0 {
            let _ = writeln!(out, "\n{}", table.caption);
        }
        out += &aligned(table);
    }
    out
}

/// Columns under each other; figures to the right.
fn aligned(grid: &Grid) -> String {
    let width = |at: usize| {
        let cells = grid.rows.iter().map(|row| row[at].chars().count());
        cells.chain([grid.head[at].0.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..grid.head.len()).map(width).collect();
    // Figures with intervals begin under each other; bare figures end so.
    let ended = |at: usize| grid.head[at].1 && !grid.rows.iter().any(|row| row[at].contains('['));
    let right: Vec<bool> = (0..grid.head.len()).map(ended).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, width), right) in cells.zip(&widths).zip(&right) {
            if *right {
                let _ = write!(line, "{cell:>width$}  ");
            } else {
                let _ = write!(line, "{cell:<width$}  ");
            }
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut out = line(&mut grid.head.iter().map(|(head, _)| head.as_str()));
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    out += &line(&mut rule.iter().map(String::as_str));
    for row in &grid.rows {
        out += &line(&mut row.iter().map(String::as_str));
    }
    out
}
