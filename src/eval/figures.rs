//! From labelled rows and answers to figures.

use std::collections::BTreeMap;

use super::bootstrap::{Measure, Resampling, compare};
use super::labelled::Row;
use super::labels::{Binary, Class, Codes};
use super::measures::{BINS, Counts, Paired, Ranked, bins, calibration_error, character_f1, mean, share};
use super::predicted::{Answer, System};
use super::report::{CalibrationBin, Cell, Confusion, Difference, LabelReport, MeasureRow, Worst};
use crate::domain::score::Span;

/// A degree from which a label applies.
const APPLIES: f64 = 0.5;

/// A set with its systems; the first is ours.
#[derive(Clone, Copy)]
pub struct Board<'a> {
    /// Rows.
    pub rows: &'a [Row],
    /// Systems.
    pub systems: &'a [System],
    /// Names and points.
    pub codes: &'a Codes,
    /// How intervals are made.
    pub resampling: Resampling,
    /// Worst rows kept for each label.
    pub worst: usize,
    /// Threads to measure on; they change no figure.
    pub threads: usize,
}

/// A measure's key, its name and how to read it.
#[derive(Clone)]
struct Column {
    key: &'static str,
    name: String,
    lower_is_better: bool,
    headline: bool,
}

fn column(key: &'static str, name: impl Into<String>, headline: bool) -> Column {
    Column { key, name: name.into(), lower_is_better: key == "ece", headline }
}

impl<'a> Board<'a> {
    fn answer(&self, system: usize, row: usize) -> Option<&'a Answer> {
        self.systems[system].answers[row].as_ref()
    }

    /// Whether the row has this label, and whether it applies.
    pub fn gold(&self, label: &Binary, row: usize) -> Option<f64> {
        self.rows[row].binary.get(label).copied()
    }

    /// Whether a label applies to the row.
    pub fn applies(&self, label: &Binary, row: usize) -> Option<bool> {
        self.gold(label, row).map(|degree| degree >= APPLIES)
    }

    /// Rows on which a label is known.
    pub fn known(&self, label: &Binary) -> Vec<usize> {
        (0..self.rows.len()).filter(|row| self.gold(label, *row).is_some()).collect()
    }

    fn score(&self, label: &Binary, system: usize, row: usize) -> Option<f64> {
        self.answer(system, row)?.scores.get(label).copied()
    }

    fn tagged(&self, theme: &str, system: usize, row: usize) -> bool {
        let tags = self.answer(system, row).and_then(|answer| answer.tags.as_ref());
        tags.is_some_and(|tags| tags.contains(theme))
    }

    fn gives(&self, label: &Binary, system: usize, row: usize) -> bool {
        let tags = matches!(label, Binary::Theme(_)) && self.systems[system].tags;
        self.answer(system, row).is_some() && (tags || self.score(label, system, row).is_some())
    }

    /// Puts every system's measures side by side. Another system is measured on the
    /// rows where ours has an answer too, so that the difference is of equals.
    fn table<'b>(
        &self,
        columns: &[Column],
        rows: &[usize],
        gives: &dyn Fn(usize, usize) -> bool,
        measure: &dyn Fn(usize, &[usize]) -> Measure<'b>,
    ) -> Vec<MeasureRow> {
        let own: Vec<usize> = rows.iter().copied().filter(|row| gives(0, *row)).collect();
        let mut alike: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for system in 0..self.systems.len() {
            let from = if own.is_empty() { rows } else { &own };
            let shared: Vec<usize> = from.iter().copied().filter(|row| gives(system, *row)).collect();
            if !shared.is_empty() {
                alike.entry(shared).or_default().push(system);
            }
        }
        let mut out: Vec<MeasureRow> = columns
            .iter()
            .map(|column| MeasureRow {
                key: column.key,
                name: column.name.clone(),
                lower_is_better: column.lower_is_better,
                headline: column.headline,
                systems: vec![None; self.systems.len()],
            })
            .collect();
        for (shared, systems) in &alike {
            let paired = !own.is_empty();
            let mut compared: Vec<usize> = systems.clone();
            if paired && compared[0] != 0 {
                compared.insert(0, 0);
            }
            let measures: Vec<Measure<'b>> = compared.iter().map(|system| measure(*system, shared)).collect();
            let found = compare(shared.len(), &measures, self.resampling);
            for (place, system) in compared.iter().enumerate().filter(|(_, system)| systems.contains(system)) {
                for (at, row) in out.iter_mut().enumerate() {
                    let estimate = found.systems[place][at];
                    let difference = found.differences[place][at];
                    row.systems[*system] = estimate.value.map(|value| Cell {
                        value,
                        interval: estimate.interval,
                        rows: shared.len(),
                        difference: difference
                            .value
                            .filter(|_| paired && *system > 0)
                            .map(|value| Difference { value, interval: difference.interval }),
                    });
                }
            }
        }
        out.retain(|row| row.systems.iter().any(Option::is_some));
        out
    }

    /// A label's measures on some of the rows.
    pub fn binary_measures(&self, label: &Binary, rows: &[usize]) -> Vec<MeasureRow> {
        let point = self.codes.points.get(label.key());
        let at = point.map_or_else(|| "where applied".to_owned(), |point| format!("at {}", number(*point)));
        let columns = [
            column("auc", "ROC AUC", true),
            column("average_precision", "average precision", true),
            column("recall_at_2_fpr", "recall at 2 % false positives", true),
            column("precision_at_point", format!("precision {at}"), false),
            column("recall_at_point", format!("recall {at}"), false),
            column("f1_at_point", format!("F1 {at}"), true),
            column("precision_at_half", "precision at 0.5", false),
            column("recall_at_half", "recall at 0.5", false),
            column("f1_at_half", "F1 at 0.5", true),
            column("ece", "calibration error", true),
            column("spearman", "Spearman's correlation", true),
        ];
        self.table(&columns, rows, &|system, row| self.gives(label, system, row), &|system, rows| {
            self.binary_measure(label, system, rows)
        })
    }

    fn scores(&self, label: &Binary, system: usize, rows: &[usize]) -> Option<Vec<f64>> {
        rows.iter().map(|row| self.score(label, system, *row)).collect()
    }

    /// Whether the system finds the label in each row, at its own point.
    fn found(&self, label: &Binary, system: usize, rows: &[usize]) -> Option<Vec<bool>> {
        match label {
            Binary::Theme(theme) if self.systems[system].tags => {
                Some(rows.iter().map(|row| self.tagged(theme, system, *row)).collect())
            }
            _ => {
                let point = self.codes.points.get(label.key()).filter(|_| self.systems[system].own_points)?;
                // The policy compares single precision, and so does this.
                let point = *point as f32;
                let scores = self.scores(label, system, rows)?;
                Some(scores.iter().map(|score| *score as f32 >= point).collect())
            }
        }
    }

    fn binary_measure<'b>(&self, label: &Binary, system: usize, rows: &[usize]) -> Measure<'b> {
        let degrees: Vec<f64> = rows.iter().filter_map(|row| self.gold(label, *row)).collect();
        let positive: Vec<bool> = degrees.iter().map(|degree| *degree >= APPLIES).collect();
        let fractional = degrees.iter().any(|degree| *degree > 0.0 && *degree < 1.0);
        let scores = self.scores(label, system, rows);
        let found = self.found(label, system, rows);
        let half: Option<Vec<bool>> = scores.as_ref().map(|scores| scores.iter().map(|score| *score >= 0.5).collect());
        let ranked = scores.as_ref().map(|scores| Ranked::new(scores, &positive));
        let paired = scores.as_ref().filter(|_| fractional).map(|scores| Paired::new(scores, &degrees));
        Box::new(move |weights| {
            let curve = ranked.as_ref().map(|ranked| ranked.curve(weights)).unwrap_or_default();
            let counts = |found: &Option<Vec<bool>>| {
                let counts = found.as_ref().map(|found| Counts::of(found, &positive, weights));
                [counts.and_then(Counts::precision), counts.and_then(Counts::recall), counts.and_then(Counts::f1)]
            };
            let mut out = vec![curve.auc, curve.average_precision, curve.recall_at_few];
            out.extend(counts(&found));
            out.extend(counts(&half));
            out.push(scores.as_ref().and_then(|scores| calibration_error(&bins(scores, &positive, weights))));
            out.push(paired.as_ref().and_then(|paired| paired.spearman(weights)));
            out
        })
    }

    /// All that is known of one label.
    pub fn binary(&self, label: &Binary) -> Option<LabelReport> {
        let rows = self.known(label);
        let measures = self.binary_measures(label, &rows);
        if measures.is_empty() {
            return None;
        }
        let positive = |row: usize| self.applies(label, row) == Some(true);
        let calibration = (0..self.systems.len())
            .map(|system| {
                let given = || rows.iter().filter(|row| self.gives(label, system, **row)).copied();
                let scores = self.scores(label, system, &given().collect::<Vec<_>>()).filter(|all| !all.is_empty())?;
                Some(picture(&scores, &given().map(positive).collect::<Vec<_>>()))
            })
            .collect();
        let mut worst: Vec<(f64, usize)> = rows
            .iter()
            .filter_map(|row| {
                let score = self.score(label, 0, *row)?;
                let wrong = if positive(*row) { 1.0 - score } else { score };
                (wrong > 0.5).then_some((wrong, *row))
            })
            .collect();
        worst.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        Some(LabelReport {
            label: label.key().to_owned(),
            rows: rows.len(),
            positives: Some(rows.iter().filter(|row| positive(**row)).count()),
            point: self.codes.points.get(label.key()).copied(),
            measures,
            calibration,
            confusion: None,
            worst: worst
                .into_iter()
                .take(self.worst)
                .map(|(_, row)| Worst {
                    id: self.rows[row].id.clone(),
                    gold: if positive(row) { "yes" } else { "no" }.to_owned(),
                    answer: if positive(row) { "too low" } else { "too high" }.to_owned(),
                    score: self.score(label, 0, row),
                })
                .collect(),
        })
    }

    /// Themes together: whether the right ones were applied.
    pub fn themes(&self) -> Option<LabelReport> {
        let rows = self.themed();
        let measures = self.theme_measures(&rows);
        let positives = rows.iter().flat_map(|row| &self.rows[*row].binary);
        (!measures.is_empty()).then(|| LabelReport {
            label: "themes".to_owned(),
            rows: rows.len(),
            positives: Some(positives.filter(|(label, degree)| is_theme(label) && **degree >= APPLIES).count()),
            measures,
            ..LabelReport::default()
        })
    }

    /// Rows with a theme that is known.
    pub fn themed(&self) -> Vec<usize> {
        (0..self.rows.len()).filter(|row| self.rows[*row].binary.keys().any(is_theme)).collect()
    }

    /// Measures of all themes together on some rows.
    pub fn theme_measures(&self, rows: &[usize]) -> Vec<MeasureRow> {
        let columns = [
            column("micro_f1", "micro-F1, all themes", true),
            column("macro_f1", "macro-F1, all themes", true),
            column("micro_f1_headline", "micro-F1, headline themes", true),
            column("macro_f1_headline", "macro-F1, headline themes", true),
        ];
        let gives = |system: usize, row: usize| self.systems[system].tags && self.answer(system, row).is_some();
        self.table(&columns, rows, &gives, &|system, rows| {
            // What is known of each row: which theme, whether it was applied, whether it applies.
            let known: Vec<Vec<(usize, bool, bool)>> = rows
                .iter()
                .map(|row| {
                    let themes = self.codes.themes.iter().enumerate();
                    themes
                        .filter_map(|(at, theme)| {
                            let applies = self.applies(&Binary::Theme(theme.id.clone()), *row)?;
                            Some((at, self.tagged(&theme.id, system, *row), applies))
                        })
                        .collect()
                })
                .collect();
            let headline: Vec<bool> = self.codes.themes.iter().map(|theme| theme.headline).collect();
            Box::new(move |weights| {
                let mut counts = vec![Counts::default(); headline.len()];
                for (known, weight) in known.iter().zip(weights) {
                    for (theme, found, applies) in known {
                        counts[*theme].add(*found, *applies, *weight);
                    }
                }
                let some = |all: bool| {
                    counts.iter().zip(&headline).filter(move |(_, headline)| all || **headline).map(|(one, _)| *one)
                };
                let together = |all: bool| {
                    some(all).fold(Counts::default(), |sum, one| Counts {
                        found: sum.found + one.found,
                        false_alarms: sum.false_alarms + one.false_alarms,
                        missed: sum.missed + one.missed,
                    })
                };
                let each = |all: bool| mean(some(all).map(Counts::f1));
                vec![together(true).f1(), each(true), together(false).f1(), each(false)]
            })
        })
    }

    /// Rows on which a class is known.
    pub fn classed(&self, class: Class) -> Vec<usize> {
        (0..self.rows.len()).filter(|row| self.rows[*row].classes.contains_key(&class)).collect()
    }

    fn chosen(&self, class: Class, system: usize, row: usize) -> Option<(usize, Option<f64>)> {
        self.answer(system, row)?.classes.get(&class).copied()
    }

    /// Measures of a class on some rows.
    pub fn class_measures(&self, class: Class, rows: &[usize]) -> Vec<MeasureRow> {
        let columns = [
            column("accuracy", "accuracy", true),
            column("macro_recall", "macro-recall", true),
            column("macro_f1", "macro-F1", true),
            column("ece", "calibration error", true),
        ];
        let gives = |system: usize, row: usize| {
            self.systems[system].classes.contains(&class) && self.answer(system, row).is_some()
        };
        self.table(&columns, rows, &gives, &|system, rows| self.class_measure(class, system, rows))
    }

    fn class_measure<'b>(&self, class: Class, system: usize, rows: &[usize]) -> Measure<'b> {
        let values = self.codes.values(class).len();
        // Gold and answer of each row; no answer is one more value, which is never right.
        let pairs: Vec<(usize, usize)> = rows
            .iter()
            .map(|row| {
                let answer = self.chosen(class, system, *row).map_or(values, |(answer, _)| answer);
                (self.rows[*row].classes[&class], answer)
            })
            .collect();
        let present: Vec<usize> = (0..values).filter(|value| pairs.iter().any(|(gold, _)| gold == value)).collect();
        let (answered, sure, right) = self.certainty(class, system, rows);
        let complete = !sure.is_empty();
        Box::new(move |weights| {
            let mut matrix = vec![vec![0.0; values + 1]; values];
            for ((gold, answer), weight) in pairs.iter().zip(weights) {
                matrix[*gold][*answer] += weight;
            }
            let right_of = |value: &usize| matrix[*value][*value];
            let gold_of = |value: &usize| matrix[*value].iter().sum::<f64>();
            let answers_of = |value: &usize| matrix.iter().map(|row| row[*value]).sum::<f64>();
            let all: f64 = present.iter().map(gold_of).sum();
            let recalls = present.iter().map(|value| share(right_of(value), gold_of(value)));
            let f1s = present.iter().map(|value| share(2.0 * right_of(value), gold_of(value) + answers_of(value)));
            let error = complete.then(|| {
                let weights: Vec<f64> = answered.iter().map(|at| weights[*at]).collect();
                calibration_error(&bins(&sure, &right, &weights))
            });
            vec![share(present.iter().map(right_of).sum(), all), mean(recalls), mean(f1s), error.flatten()]
        })
    }

    /// Of the rows with an answer: their places, how sure it was, whether it was right.
    /// Empty unless every answer says how sure it is.
    fn certainty(&self, class: Class, system: usize, rows: &[usize]) -> (Vec<usize>, Vec<f64>, Vec<bool>) {
        let (mut answered, mut sure, mut right) = (Vec::new(), Vec::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            match self.chosen(class, system, *row) {
                Some((answer, Some(probability))) => {
                    answered.push(at);
                    sure.push(probability);
                    right.push(answer == self.rows[*row].classes[&class]);
                }
                Some((_, None)) => return (Vec::new(), Vec::new(), Vec::new()),
                None => {}
            }
        }
        (answered, sure, right)
    }

    /// All that is known of one class.
    pub fn class(&self, class: Class) -> Option<LabelReport> {
        let rows = self.classed(class);
        let measures = self.class_measures(class, &rows);
        if measures.is_empty() {
            return None;
        }
        let values = self.codes.values(class);
        let gold = |row: usize| self.rows[row].classes[&class];
        let (mut matrices, mut calibration) = (Vec::new(), Vec::new());
        for system in 0..self.systems.len() {
            let mut matrix = vec![vec![0; values.len() + 1]; values.len()];
            let answered = rows.iter().filter(|row| self.answer(system, **row).is_some());
            for row in answered {
                matrix[gold(*row)][self.chosen(class, system, *row).map_or(values.len(), |(answer, _)| answer)] += 1;
            }
            matrices.push(self.systems[system].classes.contains(&class).then_some(matrix));
            let (_, sure, right) = self.certainty(class, system, &rows);
            calibration.push((!sure.is_empty()).then(|| picture(&sure, &right)));
        }
        let mut worst: Vec<(f64, usize, usize)> = rows
            .iter()
            .filter_map(|row| {
                let (answer, sure) = self.chosen(class, 0, *row)?;
                (answer != gold(*row)).then_some((sure.unwrap_or(0.0), *row, answer))
            })
            .collect();
        worst.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        Some(LabelReport {
            label: class.key().to_owned(),
            rows: rows.len(),
            measures,
            calibration,
            confusion: Some(Confusion { values: values.iter().map(ToString::to_string).collect(), systems: matrices }),
            worst: worst
                .into_iter()
                .take(self.worst)
                .map(|(_, row, answer)| Worst {
                    id: self.rows[row].id.clone(),
                    gold: values[gold(row)].to_owned(),
                    answer: values[answer].to_owned(),
                    score: self.chosen(class, 0, row).and_then(|(_, sure)| sure),
                })
                .collect(),
            ..LabelReport::default()
        })
    }

    /// Rows whose spans are known.
    pub fn spanned(&self) -> Vec<usize> {
        (0..self.rows.len()).filter(|row| self.rows[*row].spans.is_some()).collect()
    }

    /// Character F1 of marked spans on some rows.
    pub fn span_measures(&self, rows: &[usize]) -> Vec<MeasureRow> {
        let columns = [
            column("character_f1", "character F1, spans of abuse reasons", true),
            column("character_f1_toxic", "character F1, span of toxic at any probability", true),
        ];
        let gives = |system: usize, row: usize| self.systems[system].spans && self.answer(system, row).is_some();
        self.table(&columns, rows, &gives, &|system, rows| {
            let mean_of = |which: fn(&Answer) -> Option<&Vec<Span>>| -> Option<Vec<f64>> {
                let answers: Vec<&Answer> = rows.iter().filter_map(|row| self.answer(system, *row)).collect();
                answers.iter().any(|answer| which(answer).is_some()).then(|| {
                    let marked = answers.iter().map(|answer| which(answer).map_or(&[][..], Vec::as_slice));
                    rows.iter().zip(marked).map(|(row, marked)| self.span_f1(*row, marked)).collect()
                })
            };
            let both = [mean_of(|answer| answer.spans.as_ref()), mean_of(|answer| answer.carrying.as_ref())];
            Box::new(move |weights| {
                let weighted = |values: &Vec<f64>| {
                    share(values.iter().zip(weights).map(|(value, weight)| value * weight).sum(), weights.iter().sum())
                };
                both.iter().map(|values| values.as_ref().and_then(weighted)).collect()
            })
        })
    }

    fn span_f1(&self, row: usize, marked: &[Span]) -> f64 {
        character_f1(self.rows[row].spans.as_deref().unwrap_or_default(), marked)
    }

    /// All that is known of spans.
    pub fn spans(&self) -> Option<LabelReport> {
        let rows = self.spanned();
        let measures = self.span_measures(&rows);
        let some = |row: &&usize| self.rows[**row].spans.as_ref().is_some_and(|spans| !spans.is_empty());
        let mut worst: Vec<(f64, usize)> = rows
            .iter()
            .filter_map(|row| Some((self.span_f1(*row, self.answer(0, *row)?.spans.as_deref()?), *row)))
            .filter(|(f1, _)| *f1 < 0.5)
            .collect();
        worst.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
        let count = |spans: Option<&[Span]>| {
            let characters: usize = spans.unwrap_or_default().iter().map(|span| span.end - span.start).sum();
            format!("{characters} characters")
        };
        (!measures.is_empty()).then(|| LabelReport {
            label: "spans".to_owned(),
            rows: rows.len(),
            positives: Some(rows.iter().filter(some).count()),
            measures,
            worst: worst
                .into_iter()
                .take(self.worst)
                .map(|(f1, row)| Worst {
                    id: self.rows[row].id.clone(),
                    gold: count(self.rows[row].spans.as_deref()),
                    answer: count(self.answer(0, row).and_then(|answer| answer.spans.as_deref())),
                    score: Some(f1),
                })
                .collect(),
            ..LabelReport::default()
        })
    }

    /// AUC inside a group and across its border (Borkan et al. 2019).
    pub fn bias_measures(&self, label: &Binary, inside: &[usize], outside: &[usize]) -> Vec<MeasureRow> {
        let apply = |rows: &[usize], wanted: bool| -> Vec<usize> {
            rows.iter().copied().filter(|row| self.applies(label, *row) == Some(wanted)).collect()
        };
        let mut mixed = [inside.to_vec(), apply(outside, true), apply(outside, false)];
        mixed[1].extend(apply(inside, false));
        mixed[2].extend(apply(inside, true));
        let columns = [
            column("subgroup_auc", "subgroup AUC", true),
            column("bpsn_auc", "BPSN AUC", true),
            column("bnsp_auc", "BNSP AUC", true),
        ];
        let mut out = Vec::new();
        for (rows, column) in mixed.iter_mut().zip(columns) {
            rows.sort_unstable();
            let gives = |system: usize, row: usize| self.score(label, system, row).is_some();
            out.extend(self.table(&[column], rows, &gives, &|system, rows| {
                let positive: Vec<bool> = rows.iter().map(|row| self.applies(label, *row) == Some(true)).collect();
                let ranked = Ranked::new(&self.scores(label, system, rows).unwrap_or_default(), &positive);
                Box::new(move |weights| vec![ranked.curve(weights).auc])
            }));
        }
        out
    }

    /// Our verdict on a row.
    pub fn verdict(&self, row: usize) -> Option<usize> {
        self.chosen(Class::Verdict, 0, row).map(|(verdict, _)| verdict)
    }
}

fn is_theme(label: &Binary) -> bool {
    matches!(label, Binary::Theme(_))
}

fn picture(probabilities: &[f64], came_true: &[bool]) -> Vec<CalibrationBin> {
    let found = bins(probabilities, came_true, &vec![1.0; probabilities.len()]);
    let mut out = Vec::with_capacity(BINS);
    for bin in found {
        out.push(CalibrationBin {
            rows: bin.rows as usize,
            probability: share(bin.probability, bin.rows).unwrap_or(0.0),
            came_true: share(bin.true_rows, bin.rows).unwrap_or(0.0),
        });
    }
    out
}

/// A threshold as the manifest writes it.
fn number(point: f64) -> String {
    format!("{}", (point * 1e4).round() / 1e4)
}
