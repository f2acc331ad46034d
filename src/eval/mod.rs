//! Measuring judgements against what people said: labelled rows and answers in,
//! figures with intervals out. Pure; the command that reads and judges is
//! `cli::eval`.
//!
//! `docs/evaluation.md` has the meaning and the source of every figure.

pub mod bootstrap;
pub mod html;
pub mod labelled;
pub mod labels;
pub mod markdown;
pub mod measures;
pub mod predicted;
pub mod report;
pub mod table;
pub mod terminal;

mod figures;
mod grids;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

pub use self::bootstrap::Resampling;
use self::bootstrap::wilson;
pub use self::figures::Board;
use self::labels::{Binary, Class};
use self::report::{
    BiasReport, BiasRow, Breakdown, LabelReport, MeasureRow, SetReport, Slice, VerdictCount, VerdictShare,
};
use crate::domain::score::Attribute;

/// Fewer rows are counted and not measured.
const FEWEST: usize = 10;

impl Board<'_> {
    /// Everything that can be said of the set. `columns` are the names of the groups
    /// of each row; `step` hears after each piece of work how much of it is done (0 to 1).
    pub fn measure(&self, columns: &[String], step: &mut dyn FnMut(f64)) -> SetReport {
        let mut report = SetReport {
            rows: self.rows.len(),
            systems: self.systems.iter().map(|system| system.name.clone()).collect(),
            ..SetReport::default()
        };
        let questions = self.questions();
        let partings = self.partings(columns);
        // First every question on all rows, then parting by parting, in the order of the report.
        let tasks: Vec<(&Question, Option<&Parting>)> = std::iter::once(None)
            .chain(partings.iter().map(Some))
            .flat_map(|parting| questions.iter().map(move |question| (question, parting)))
            .collect();
        for piece in self.pieces(&tasks, step) {
            report.labels.extend(piece.label);
            report.breakdowns.extend(piece.breakdown);
            report.bias.extend(piece.bias);
        }
        report.verdicts = self.verdicts(&questions, &partings);
        report
    }

    /// Works the tasks off on several threads. Every piece draws from the seed anew,
    /// so it does not matter which thread takes it, or when.
    fn pieces(&self, tasks: &[(&Question, Option<&Parting>)], step: &mut dyn FnMut(f64)) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = tasks.iter().map(|_| Piece::default()).collect();
        let (next, (send, finished)) = (AtomicUsize::new(0), mpsc::channel());
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, tasks.len().max(1)) {
                let (send, next) = (send.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some((question, parting)) = tasks.get(at) else { break };
                        if send.send((at, self.piece(question, *parting))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            for (done, (at, piece)) in finished.iter().enumerate() {
                pieces[at] = piece;
                step((done + 1) as f64 / tasks.len() as f64);
            }
        });
        pieces
    }

    fn piece(&self, question: &Question, parting: Option<&Parting>) -> Piece {
        let Some(parting) = parting else { return Piece { label: question.report(self), ..Piece::default() } };
        let bias = match question {
            Question::Binary(label) if parting.groups => self.bias(label, parting),
            _ => None,
        };
        Piece { breakdown: self.breakdown(question, parting), bias, label: None }
    }

    fn questions(&self) -> Vec<Question> {
        let attributes = Attribute::ALL.into_iter().map(Binary::Attribute);
        let themes = self.codes.themes.iter().map(|theme| Binary::Theme(theme.id.clone()));
        let binary = |label: &Binary| !self.known(label).is_empty();
        let mut questions: Vec<Question> = attributes.filter(binary).map(Question::Binary).collect();
        questions.extend((!self.themed().is_empty()).then_some(Question::Themes));
        questions.extend(themes.filter(binary).map(Question::Binary));
        questions.extend(Class::ALL.into_iter().filter(|class| !self.classed(*class).is_empty()).map(Question::Class));
        questions.extend((!self.spanned().is_empty()).then_some(Question::Spans));
        questions
    }

    /// The rows by source, where there are several, and by the groups of each column.
    fn partings(&self, columns: &[String]) -> Vec<Parting> {
        let of = |column: &str, groups: bool, values: &dyn Fn(usize) -> Vec<String>| {
            let mut parts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for row in 0..self.rows.len() {
                for value in values(row) {
                    parts.entry(value).or_default().push(row);
                }
            }
            Parting { column: column.to_owned(), groups, parts }
        };
        let source = of("source", false, &|row| match self.rows[row].source.as_str() {
            "" => Vec::new(),
            source => vec![source.to_owned()],
        });
        let mut out: Vec<Parting> = Some(source).into_iter().filter(|source| source.parts.len() > 1).collect();
        for (at, column) in columns.iter().enumerate() {
            out.push(of(column, true, &|row| self.rows[row].groups[at].clone()));
        }
        out
    }

    fn breakdown(&self, question: &Question, parting: &Parting) -> Option<Breakdown> {
        let (mut slices, mut small) = (Vec::new(), 0);
        for (value, rows) in &parting.parts {
            let rows: Vec<usize> = rows.iter().copied().filter(|row| question.knows(self, *row)).collect();
            if rows.len() < FEWEST {
                small += usize::from(!rows.is_empty());
                continue;
            }
            let mut measures = question.measures(self, &rows);
            measures.retain(|measure| measure.headline);
            if !measures.is_empty() {
                let positives = question.positives(self, &rows);
                slices.push(Slice { value: value.clone(), rows: rows.len(), positives, measures });
            }
        }
        let label = question.label().to_owned();
        // One source says what the whole set says.
        let some = if parting.groups { !slices.is_empty() } else { slices.len() + small > 1 && !slices.is_empty() };
        some.then(|| Breakdown { column: parting.column.clone(), label, slices, small })
    }

    fn bias(&self, label: &Binary, parting: &Parting) -> Option<BiasReport> {
        let known = self.known(label);
        let (mut groups, mut small) = (Vec::new(), 0);
        for (group, rows) in &parting.parts {
            let (inside, outside): (Vec<usize>, Vec<usize>) =
                known.iter().partition(|row| rows.binary_search(row).is_ok());
            let positives = inside.iter().filter(|row| self.applies(label, **row) == Some(true)).count();
            if positives < FEWEST || inside.len() - positives < FEWEST {
                small += usize::from(!inside.is_empty());
                continue;
            }
            let measures = self.bias_measures(label, &inside, &outside);
            if !measures.is_empty() {
                groups.push(BiasRow { group: group.clone(), rows: inside.len(), positives, measures });
            }
        }
        let label = label.key().to_owned();
        (!groups.is_empty()).then(|| BiasReport { column: parting.column.clone(), label, groups, small })
    }

    /// What became of all, of those with and without each label, and of each group.
    fn verdicts(&self, questions: &[Question], partings: &[Parting]) -> Vec<VerdictShare> {
        let all: Vec<usize> = (0..self.rows.len()).collect();
        let mut of: Vec<(String, Vec<usize>)> = vec![("all".to_owned(), all)];
        for question in questions {
            if let Question::Binary(label @ Binary::Attribute(_)) = question {
                for (word, wanted) in [("yes", true), ("no", false)] {
                    let rows = (0..self.rows.len()).filter(|row| self.applies(label, *row) == Some(wanted));
                    of.push((format!("{}: {word}", label.key()), rows.collect()));
                }
            }
        }
        for parting in partings {
            let parts = parting.parts.iter().filter(|(_, rows)| rows.len() >= FEWEST);
            of.extend(parts.map(|(value, rows)| (format!("{}: {value}", parting.column), rows.clone())));
        }
        of.into_iter()
            .filter_map(|(of, rows)| {
                let verdicts: Vec<usize> = rows.iter().filter_map(|row| self.verdict(*row)).collect();
                let count = |place: usize| {
                    let rows = verdicts.iter().filter(|verdict| **verdict == place).count();
                    let interval = wilson(rows, verdicts.len())?;
                    Some(VerdictCount { rows, share: rows as f64 / verdicts.len() as f64, interval })
                };
                Some(VerdictShare { of, rows: verdicts.len(), shares: [count(0)?, count(1)?, count(2)?, count(3)?] })
            })
            .collect()
    }
}

/// Rows by the values of one column; a row may have several.
struct Parting {
    column: String,
    /// Whether the values are groups, for which bias is measured.
    groups: bool,
    parts: BTreeMap<String, Vec<usize>>,
}

/// What comes of one task.
#[derive(Default)]
struct Piece {
    label: Option<LabelReport>,
    breakdown: Option<Breakdown>,
    bias: Option<BiasReport>,
}

/// One thing that is measured.
enum Question {
    Binary(Binary),
    Themes,
    Class(Class),
    Spans,
}

impl Question {
    fn label(&self) -> &str {
        match self {
            Self::Binary(label) => label.key(),
            Self::Themes => "themes",
            Self::Class(class) => class.key(),
            Self::Spans => "spans",
        }
    }

    fn report(&self, board: &Board<'_>) -> Option<LabelReport> {
        match self {
            Self::Binary(label) => board.binary(label),
            Self::Themes => board.themes(),
            Self::Class(class) => board.class(*class),
            Self::Spans => board.spans(),
        }
    }

    fn knows(&self, board: &Board<'_>, row: usize) -> bool {
        let row = &board.rows[row];
        match self {
            Self::Binary(label) => row.binary.contains_key(label),
            Self::Themes => row.binary.keys().any(|label| matches!(label, Binary::Theme(_))),
            Self::Class(class) => row.classes.contains_key(class),
            Self::Spans => row.spans.is_some(),
        }
    }

    fn measures(&self, board: &Board<'_>, rows: &[usize]) -> Vec<MeasureRow> {
        match self {
            Self::Binary(label) => board.binary_measures(label, rows),
            Self::Themes => board.theme_measures(rows),
            Self::Class(class) => board.class_measures(*class, rows),
            Self::Spans => board.span_measures(rows),
        }
    }

    fn positives(&self, board: &Board<'_>, rows: &[usize]) -> Option<usize> {
        match self {
            Self::Binary(label) => Some(rows.iter().filter(|row| board.applies(label, **row) == Some(true)).count()),
            _ => None,
        }
    }
}
