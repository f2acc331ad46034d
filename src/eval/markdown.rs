//! A report as Markdown, for a repository or a wiki.

use std::fmt::Write;

use super::grids::{self, Grid};
use super::report::Report;
use crate::export::words::thousands;

/// The whole report. Ids of single comments stay out of it: it is made to be published.
pub fn render(report: &Report) -> String {
    let mut out = format!("# {}\n", inert(&report.title));
    if !report.note.is_empty() {
        let _ = write!(out, "\n{}\n", inert(&report.note));
    }
    out.push('\n');
    for (what, fact) in &report.facts {
        let _ = writeln!(out, "- {}: {}", inert(what), inert(fact));
    }
    for set in &report.sets {
        let _ = write!(
            out,
            "\n## {}\n\n{} rows, judged by consultation `{}`.{}\n",
            inert(&set.name),
            thousands(set.rows as u64),
            set.consultation,
            if set.note.is_empty() { String::new() } else { format!(" {}", inert(&set.note)) }
        );
        for remark in &set.remarks {
            let _ = write!(out, "\nNote: {}\n", inert(remark));
        }
        let mut tables: Vec<Grid> = grids::figures(set, false).into_iter().collect();
        tables.extend(grids::breakdowns(set));
        tables.extend(grids::bias(set));
        tables.extend(grids::confusions(set));
        tables.extend(grids::verdicts(set));
        for (at, grid) in tables.iter().enumerate() {
            if at > 0 {
                let _ = write!(out, "\n### {}\n", inert(&grid.caption));
            }
            out.push('\n');
            out += &table(grid);
        }
    }
    out
}

fn table(grid: &Grid) -> String {
    let row = |cells: &mut dyn Iterator<Item = String>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let mut out = row(&mut grid.head.iter().map(|(head, _)| inert(head)));
    out += &row(&mut grid.head.iter().map(|(_, figures)| if *figures { "---:" } else { "---" }.to_owned()));
    for cells in &grid.rows {
        out += &row(&mut cells.iter().map(|cell| inert(cell)));
    }
    out
}

/// Words that stay words: no markup, no link, no new cell, no new line.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in crate::export::cells::neutral(text).chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '\\' | '`' | '*' | '|' | '#' | '!' => {
                out.push('\\');
                out.push(letter);
            }
            // A bracket alone is a bracket; before a round one it would be a link.
            '(' if out.ends_with(']') => out += "\\(",
            '\n' | '\t' => out.push(' '),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_file_stays_a_name() {
        assert_eq!(inert("a|b\n<script>`x`[y](z)"), "a\\|b &lt;script&gt;\\`x\\`[y]\\(z)");
        assert_eq!(inert("0.97 [0.96, 0.98]"), "0.97 [0.96, 0.98]");
    }
}
