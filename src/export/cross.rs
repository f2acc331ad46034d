//! Themes by declared group, as tables of a page.

use super::cells::neutral;
use super::words::{thousands, whole_percent};
use crate::assess::report::groups::{Cell, GroupTable};
use crate::assess::report::{Summary, ThemeFigures};

/// A table of themes down and a group's values across.
pub(super) struct CrossTable {
    pub caption: String,
    pub headers: Vec<(String, String)>,
    pub rows: Vec<(String, Vec<String>)>,
}

/// Values that stand side by side in one table.
const ACROSS: usize = 6;

/// The tables, and a note for each group that cannot be one.
pub(super) fn cross_tables(summary: &Summary, themes: &[&ThemeFigures]) -> (Vec<CrossTable>, Vec<String>) {
    let (mut tables, mut notes) = (Vec::new(), Vec::new());
    for group in summary.groups.iter().filter(|_| !themes.is_empty()) {
        let name = group_name(group);
        if group.too_many_values {
            notes.push(format!("“{name}” has too many different values to be shown as a table."));
            continue;
        }
        let parts = group.rows.chunks(ACROSS);
        let of = parts.len();
        for (part, rows) in parts.enumerate() {
            let more = if of > 1 { format!(" (part {} of {of})", part + 1) } else { String::new() };
            tables.push(CrossTable {
                caption: format!("Themes by {name}{more}"),
                headers: rows.iter().map(|row| (neutral(&row.value), cell(row.base))).collect(),
                rows: themes
                    .iter()
                    .map(|theme| {
                        let at = summary.themes.iter().position(|known| known.id == theme.id).unwrap_or(0);
                        let cells = rows
                            .iter()
                            .map(|row| match (row.base, row.themes[at]) {
                                (Cell::Count(base), Cell::Count(count)) => {
                                    format!("{} ({})", thousands(count), whole_percent(count, base))
                                }
                                _ => "[c]".to_owned(),
                            })
                            .collect();
                        (neutral(&theme.label), cells)
                    })
                    .collect(),
            });
        }
    }
    (tables, notes)
}

fn group_name(group: &GroupTable) -> String {
    neutral(&group.name).replace('_', " ")
}

fn cell(cell: Cell) -> String {
    match cell {
        Cell::Count(count) => thousands(count),
        Cell::Withheld => "[c]".to_owned(),
    }
}
