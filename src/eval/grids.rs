//! The tables of a report as plain grids of words, which the terminal, Markdown
//! and HTML write each in their own way.

use super::report::{Cell, MeasureRow, SetReport, VerdictCount};
use crate::export::cells::neutral;
use crate::export::words::thousands;

/// Characters of a name from outside that are shown.
const LONGEST_NAME: usize = 48;

/// What stands where there is no figure.
const NOTHING: &str = "–";

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// What it shows.
    pub caption: String,
    /// Column heads, and whether the column holds figures.
    pub head: Vec<(String, bool)>,
    /// As wide as the head. Nothing in a cell is markup.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    fn new(caption: impl Into<String>, head: &[(&str, bool)]) -> Self {
        let head = head.iter().map(|(name, figures)| ((*name).to_owned(), *figures)).collect();
        Self { caption: caption.into(), head, rows: Vec::new() }
    }

    fn some(self) -> Option<Self> {
        (!self.rows.is_empty()).then_some(self)
    }
}

/// A name from a file, safe to print: one line, nothing hidden, not too long.
pub fn name(text: &str) -> String {
    let line = neutral(text).replace(['\n', '\t'], " ");
    if line.chars().count() <= LONGEST_NAME {
        return line;
    }
    let mut short: String = line.chars().take(LONGEST_NAME - 1).collect();
    short.push('…');
    short
}

fn figure(value: f64) -> String {
    format!("{value:.3}")
}

fn with_interval(value: &str, interval: Option<[f64; 2]>, ends: impl Fn(f64) -> String) -> String {
    match interval {
        Some([low, high]) => format!("{value} [{}, {}]", ends(low), ends(high)),
        None => value.to_owned(),
    }
}

/// A figure with its interval, and the rows where they are fewer than `rows`.
fn cell(cell: Option<&Cell>, rows: usize) -> String {
    let Some(cell) = cell else { return NOTHING.to_owned() };
    let figure = with_interval(&figure(cell.value), cell.interval, figure);
    if cell.rows == rows { figure } else { format!("{figure} on {}", thousands(cell.rows as u64)) }
}

fn difference(cell: Option<&Cell>) -> String {
    let Some(difference) = cell.and_then(|cell| cell.difference) else { return NOTHING.to_owned() };
    let signed = |value: f64| {
        let rounded = (value * 1e3).round() / 1e3;
        // Zero has no sign, whichever side it was rounded from.
        if rounded.abs() < 1e-9 { "0.000".to_owned() } else { format!("{rounded:+.3}") }
    };
    with_interval(&signed(difference.value), difference.interval, signed)
}

/// What a paired interval says of our system.
fn said(cell: Option<&Cell>, lower_is_better: bool) -> &'static str {
    match cell.and_then(|cell| cell.difference).and_then(|difference| difference.interval) {
        None => NOTHING,
        Some([low, high]) => match (low > 0.0, high < 0.0) {
            (true, _) => {
                if lower_is_better {
                    "worse"
                } else {
                    "better"
                }
            }
            (_, true) => {
                if lower_is_better {
                    "better"
                } else {
                    "worse"
                }
            }
            _ => "not shown",
        },
    }
}

/// Heads of the columns of the systems.
fn heads(systems: &[String]) -> Vec<(String, bool)> {
    let mut heads = Vec::new();
    for (at, system) in systems.iter().enumerate() {
        heads.push((name(system), true));
        if at > 0 {
            heads.push(("difference".to_owned(), true));
            heads.push(("ours is".to_owned(), false));
        }
    }
    heads
}

/// The systems' cells of one measure.
fn systems(measure: &MeasureRow, rows: usize) -> Vec<String> {
    let mut cells = Vec::new();
    for (at, system) in measure.systems.iter().enumerate() {
        cells.push(cell(system.as_ref(), rows));
        if at > 0 {
            cells.push(difference(system.as_ref()));
            cells.push(said(system.as_ref(), measure.lower_is_better).to_owned());
        }
    }
    cells
}

fn count(count: Option<usize>) -> String {
    count.map_or_else(|| NOTHING.to_owned(), |count| thousands(count as u64))
}

/// Measures that say most in a table of many slices, where they are known.
const LEADING: [&str; 7] = ["auc", "f1_at_point", "spearman", "micro_f1", "macro_recall", "macro_f1", "character_f1"];

/// Every label with its measures; `all` has those too that only explain others.
pub fn figures(set: &SetReport, all: bool) -> Option<Grid> {
    let mut grid = Grid::new(
        format!("{}: figures by label", name(&set.name)),
        &[("label", false), ("rows", true), ("positive", true), ("measure", false)],
    );
    grid.head.extend(heads(&set.systems));
    for label in &set.labels {
        let mut first = true;
        for measure in label.measures.iter().filter(|measure| all || measure.headline) {
            let mut row = if first {
                vec![label.label.clone(), thousands(label.rows as u64), count(label.positives)]
            } else {
                vec![String::new(), String::new(), String::new()]
            };
            row.push(measure.name.clone());
            row.extend(systems(measure, label.rows));
            grid.rows.push(row);
            first = false;
        }
    }
    grid.some()
}

/// One table for each column that the rows are parted by.
pub fn breakdowns(set: &SetReport) -> Vec<Grid> {
    let mut columns: Vec<&str> = set.breakdowns.iter().map(|breakdown| breakdown.column.as_str()).collect();
    columns.dedup();
    let of_column = |column: &&str| {
        let shown = name(column);
        let mut grid = Grid::new(
            format!("{}: by {shown}", name(&set.name)),
            &[("label", false), (&shown, false), ("rows", true), ("positive", true), ("measure", false)],
        );
        grid.head.extend(heads(&set.systems));
        for breakdown in set.breakdowns.iter().filter(|breakdown| breakdown.column == *column) {
            for slice in &breakdown.slices {
                let mut first = true;
                for measure in slice.measures.iter().filter(|measure| LEADING.contains(&measure.key)) {
                    let mut row = vec![String::new(); 4];
                    if first {
                        row[0].clone_from(&breakdown.label);
                        row[1] = name(&slice.value);
                        row[2] = thousands(slice.rows as u64);
                        row[3] = count(slice.positives);
                    }
                    row.push(measure.name.clone());
                    row.extend(systems(measure, slice.rows));
                    grid.rows.push(row);
                    first = false;
                }
            }
        }
        grid.some()
    };
    columns.iter().filter_map(of_column).collect()
}

/// What became of the comments.
pub fn verdicts(set: &SetReport) -> Option<Grid> {
    let head = [
        ("comments", false),
        ("rows", true),
        ("accepted", true),
        ("held", true),
        ("rejected", true),
        ("escalated", true),
    ];
    let mut grid = Grid::new(format!("{}: verdicts, in % of the rows", name(&set.name)), &head);
    let per_cent = |share: f64| format!("{:.1}", share * 100.0);
    let of = |count: &VerdictCount| with_interval(&per_cent(count.share), Some(count.interval), per_cent);
    for share in &set.verdicts {
        let mut row = vec![name(&share.of), thousands(share.rows as u64)];
        row.extend(share.shares.iter().map(of));
        grid.rows.push(row);
    }
    grid.some()
}

/// Our answers against gold, one table for each class.
pub fn confusions(set: &SetReport) -> Vec<Grid> {
    let mut grids = Vec::new();
    for label in &set.labels {
        let Some(confusion) = &label.confusion else { continue };
        for (system, matrix) in set.systems.iter().zip(&confusion.systems) {
            let Some(matrix) = matrix else { continue };
            let unanswered = matrix.iter().any(|row| row.last().is_some_and(|count| *count > 0));
            let mut grid = Grid::new(
                format!("{}: {}, gold in rows, answers of {} in columns", name(&set.name), label.label, name(system)),
                &[("gold", false)],
            );
            grid.head.extend(confusion.values.iter().map(|value| (value.clone(), true)));
            if unanswered {
                grid.head.push(("no answer".to_owned(), true));
            }
            for (value, row) in confusion.values.iter().zip(matrix) {
                if row.iter().any(|count| *count > 0) {
                    let counts = row.iter().take(confusion.values.len() + usize::from(unanswered));
                    let counts = counts.map(|count| thousands(*count as u64));
                    grid.rows.push(std::iter::once(value.clone()).chain(counts).collect());
                }
            }
            grids.extend(grid.some());
        }
    }
    grids
}

/// Bias towards groups, worst first in each label.
pub fn bias(set: &SetReport) -> Option<Grid> {
    let head = [("label", false), ("group", false), ("rows", true), ("positive", true), ("system", false)];
    let mut grid = Grid::new(format!("{}: bias by group", name(&set.name)), &head);
    for (measure, _) in BIAS {
        grid.head.push((measure.to_owned(), true));
    }
    for report in &set.bias {
        let figure = |measures: &[MeasureRow], key: &str, system: usize| -> Option<Cell> {
            measures.iter().find(|measure| measure.key == key)?.systems[system]
        };
        for (system, called) in set.systems.iter().enumerate() {
            let least = |key: &str| {
                let known = report.groups.iter().filter_map(|group| figure(&group.measures, key, system));
                known.map(|cell| cell.value).reduce(f64::min)
            };
            let worst = BIAS.map(|(_, key)| least(key).map_or_else(|| NOTHING.to_owned(), self::figure));
            if worst.iter().all(|worst| worst == NOTHING) {
                continue;
            }
            let mut row = vec![report.label.clone(), "worst of these".to_owned()];
            row.extend([String::new(), String::new(), name(called)]);
            row.extend(worst);
            grid.rows.push(row);
        }
        for group in &report.groups {
            for (system, called) in set.systems.iter().enumerate() {
                let cells = BIAS.map(|(_, key)| figure(&group.measures, key, system));
                if cells.iter().all(Option::is_none) {
                    continue;
                }
                let mut row = vec![report.label.clone(), name(&group.group)];
                row.extend([thousands(group.rows as u64), thousands(group.positives as u64), name(called)]);
                row.extend(cells.iter().map(|found| {
                    let rows = found.map_or(0, |found| found.rows);
                    cell(found.as_ref(), rows)
                }));
                grid.rows.push(row);
            }
        }
    }
    grid.some()
}

const BIAS: [(&str, &str); 3] = [("subgroup AUC", "subgroup_auc"), ("BPSN AUC", "bpsn_auc"), ("BNSP AUC", "bnsp_auc")];

/// Where our system was most wrong, by id.
pub fn worst(set: &SetReport) -> Option<Grid> {
    let head = [("label", false), ("id", false), ("gold", false), ("answer", false), ("score", true)];
    let mut grid = Grid::new(format!("{}: most wrong, by id", name(&set.name)), &head);
    for label in &set.labels {
        for worst in &label.worst {
            let score = worst.score.map_or_else(|| NOTHING.to_owned(), figure);
            grid.rows.push(vec![label.label.clone(), name(&worst.id), worst.gold.clone(), worst.answer.clone(), score]);
        }
    }
    grid.some()
}
