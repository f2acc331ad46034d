//! From labelled examples to heads: strength by cross-validation, calibration and
//! tag points from scores that no fitted row gave itself, figures with intervals.

use std::collections::{BTreeMap, HashMap};

use moothall_numerics::figures::{Scored, platt, tag_point, temperature};
use moothall_numerics::logistic::{Fitted, LANES, Matrix, Task, fit, sigmoid, softmax};
use moothall_numerics::seeded::Seeded;

use super::example::{Example, Origin, Part};
use super::report::{HeadReport, measure};
use super::words::{learn_grams, weights};
use crate::domain::heads::{GramList, HeadCalibration, TrainedHead};
use crate::domain::opinion::{Attitude, Stance, Tone};

/// Parts of the cross-validation.
const FOLDS: usize = 5;

/// Inverse penalties tried, weakest first: each starts where the one before ended.
const PENALTIES: [f32; 3] = [1.0, 4.0, 16.0];

/// Scales of the standardised vector tried beside n-grams of unit length, the usual one first.
const SCALES: [f32; 3] = [0.03, 0.015, 0.06];

/// What a line that describes a theme counts, against 1 for a comment.
const DESCRIBED: f32 = 0.5;

/// What "no" counts where a text stands under the examples of another theme.
const ELSEWHERE: f32 = 0.3;

/// A theme with fewer rows that say "no" is learnt against comments for which it is unknown ...
const FEW_NO: f32 = 20.0;

/// ... which together count so many times what its examples count. They are background and no
/// "no": one by one they count next to nothing (positive and unlabelled learning; Elkan and Noto, KDD 2008).
const BACKGROUND: f32 = 10.0;

/// Fewer measured rows of yes, or of no, and a label's figures rest on whatever rows there are.
pub const FEW: usize = 5;

/// Exclusive labels are measured on rows that the encoder did not see, where there are so many.
const FEW_EXCLUSIVE: usize = 60;

/// What is learnt from.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// Theme keys, in the codebook's order.
    pub themes: &'a [String],
    /// Whether the codebook declares a pair for stance.
    pub stance: bool,
    /// Labelled texts.
    pub examples: &'a [Example],
    /// The text of each as it is judged.
    pub texts: &'a [String],
    /// The encoder's vector of each.
    pub vectors: &'a [Vec<f32>],
}

/// How it is learnt.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of folds, resamples and tag points.
    pub seed: u64,
    /// Threads; more change nothing but the time.
    pub threads: usize,
    /// Whether the encoder's vector is looked at.
    pub vectors: bool,
    /// Whether the words are looked at.
    pub words: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Runs of words.
    pub words: GramList,
    /// Runs of letters.
    pub letters: GramList,
    /// Themes first.
    pub heads: Vec<TrainedHead>,
    /// Probability from which a label is tagged.
    pub points: BTreeMap<String, f32>,
    /// Figures, one for each head.
    pub reports: Vec<HeadReport>,
}

/// A head before it is fitted.
struct Plan {
    name: &'static str,
    labels: Vec<String>,
    exclusive: bool,
    /// For each example and label: yes, no, unknown; and how much it counts in fitting.
    wanted: Vec<Vec<Option<bool>>>,
    weight: Vec<Vec<f32>>,
    /// Whether the row counts in choosing, calibrating and measuring the label.
    measured: Vec<Vec<bool>>,
    /// Labels whose measured rows are too few, or seen by the encoder.
    thin: Vec<bool>,
}

/// The fitted columns of a plan with what cross-validation said.
struct Columns {
    fitted: Vec<Fitted>,
    /// Logits of each example: out of fold for those fitted on, plain for those held out.
    logits: Vec<Vec<f32>>,
    penalty: Vec<f32>,
    scale: Vec<f32>,
}

/// Learns every head that the examples suffice for. Deterministic: the same data,
/// options and processor give the same numbers to the bit.
pub fn train(data: &Data<'_>, options: &Options) -> Trained {
    let examples = data.examples;
    let fitted_on: Vec<usize> = (0..examples.len()).filter(|row| examples[*row].part != Part::HeldOut).collect();
    let [words, letters] = if options.words {
        learn_grams(fitted_on.iter().map(|row| data.texts[*row].as_str()))
    } else {
        [GramList::default(), GramList::default()]
    };
    let standard = Standard::of(data, &fitted_on, options.vectors);
    let mut matrix = Matrix::new(standard.mean.len(), words.hashes.len() + letters.hashes.len());
    for (text, vector) in data.texts.iter().zip(data.vectors) {
        matrix.push(standard.apply(vector), &weights(&words, &letters, text));
    }
    let folds = folds(data, options.seed);
    let mut trained = Trained { words, letters, heads: Vec::new(), points: BTreeMap::new(), reports: Vec::new() };
    for plan in plans(data) {
        let columns = solve(&plan, &matrix, &fitted_on, &folds, options);
        let (calibration, probabilities) = calibrate(&plan, &columns, examples);
        if !plan.exclusive {
            for (label, name) in plan.labels.iter().enumerate() {
                let rows = scored(&plan, &probabilities, label, |row| examples[row].part != Part::HeldOut);
                let yes = rows.iter().filter(|row| row.1).count();
                let point = if yes < 3 { 0.5 } else { tag_point(&rows, options.seed ^ label as u64) };
                trained.points.insert(name.clone(), point);
            }
        }
        trained.reports.push(report(&plan, &columns, &probabilities, &trained.points, examples, options.seed));
        trained.heads.push(head(plan, &columns, &standard, calibration));
    }
    trained
}

/// Mean and deviation of every dimension, so that each meets the same penalty.
struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standard {
    fn of(data: &Data<'_>, rows: &[usize], wanted: bool) -> Self {
        let width = if wanted { data.vectors.first().map_or(0, Vec::len) } else { 0 };
        let count = rows.len().max(1) as f64;
        let mean = |of: &dyn Fn(f64, usize) -> f64| -> Vec<f64> {
            (0..width)
                .map(|at| rows.iter().map(|row| of(f64::from(data.vectors[*row][at]), at)).sum::<f64>() / count)
                .collect()
        };
        let middle = mean(&|value, _| value);
        let deviation = mean(&|value, at| (value - middle[at]).powi(2));
        Self {
            mean: middle.into_iter().map(|value| value as f32).collect(),
            deviation: deviation.into_iter().map(|square| square.sqrt().max(1e-6) as f32).collect(),
        }
    }

    fn apply<'a>(&'a self, vector: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        self.mean.iter().zip(&self.deviation).zip(vector).map(|((mean, deviation), value)| (value - mean) / deviation)
    }
}

/// The fold of each example. Groups stay together; rare labels are dealt out evenly.
fn folds(data: &Data<'_>, seed: u64) -> Vec<usize> {
    let mut counts = vec![0_usize; data.themes.len()];
    // What is held out has no say in how the rest is dealt.
    let fitted = || data.examples.iter().filter(|example| example.part != Part::HeldOut);
    for example in fitted() {
        for (count, theme) in counts.iter_mut().zip(&example.themes) {
            *count += usize::from(*theme == Some(true));
        }
    }
    // A group is dealt under its rarest theme.
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for example in fitted() {
        let rarest = (0..counts.len())
            .filter(|at| example.themes.get(*at) == Some(&Some(true)))
            .min_by_key(|at| counts[*at])
            .unwrap_or(counts.len());
        let known = groups.entry(&example.group).or_insert(rarest);
        if counts.get(rarest).unwrap_or(&usize::MAX) < counts.get(*known).unwrap_or(&usize::MAX) {
            *known = rarest;
        }
    }
    let mut dealt: Vec<(usize, &str)> = groups.into_iter().map(|(group, theme)| (theme, group)).collect();
    Seeded(seed).shuffle(&mut dealt);
    dealt.sort_by_key(|(theme, _)| *theme);
    let fold_of: HashMap<&str, usize> =
        dealt.into_iter().enumerate().map(|(at, (_, group))| (group, at % FOLDS)).collect();
    data.examples.iter().map(|example| fold_of.get(example.group.as_str()).copied().unwrap_or(0)).collect()
}

/// Every head that the examples say something about.
fn plans(data: &Data<'_>) -> Vec<Plan> {
    let mut plans = vec![themes_plan(data)];
    let off_topic: Vec<Option<bool>> = data.examples.iter().map(|example| example.off_topic).collect();
    if [true, false].iter().all(|wanted| off_topic.iter().filter(|known| **known == Some(*wanted)).count() >= 20) {
        let weight = off_topic.iter().map(|known| vec![f32::from(u8::from(known.is_some()))]).collect();
        let wanted = off_topic.into_iter().map(|known| vec![known]).collect();
        plans.push(independent(data, "off_topic", vec!["off_topic".to_owned()], wanted, weight));
    }
    let stance = |example: &Example| example.stance.and_then(|label| Stance::ALL.iter().position(|one| *one == label));
    let attitude =
        |example: &Example| example.attitude.and_then(|label| Attitude::ALL.iter().position(|one| *one == label));
    let tone = |example: &Example| example.tone.and_then(|label| Tone::ALL.iter().position(|one| *one == label));
    let keys = |labels: Vec<&'static str>| labels.into_iter().map(str::to_owned).collect::<Vec<_>>();
    if data.stance {
        plans.extend(exclusive(data, "stance", keys(Stance::ALL.iter().map(|one| one.key()).collect()), stance));
    }
    plans.extend(exclusive(data, "attitude", keys(Attitude::ALL.iter().map(|one| one.key()).collect()), attitude));
    plans.extend(exclusive(data, "tone", keys(Tone::ALL.iter().map(|one| one.key()).collect()), tone));
    plans
}

fn themes_plan(data: &Data<'_>) -> Plan {
    let (examples, count) = (data.examples, data.themes.len());
    let mut wanted: Vec<Vec<Option<bool>>> = Vec::with_capacity(examples.len());
    let mut weight: Vec<Vec<f32>> = Vec::with_capacity(examples.len());
    for example in examples {
        let mut row: Vec<Option<bool>> = (0..count).map(|at| example.themes.get(at).copied().flatten()).collect();
        let mut counts: Vec<f32> = row.iter().map(|known| f32::from(u8::from(known.is_some()))).collect();
        match example.origin {
            Origin::Described => counts.iter_mut().for_each(|weight| *weight *= DESCRIBED),
            Origin::Listed => {
                for (known, weight) in row.iter_mut().zip(&mut counts).filter(|(known, _)| known.is_none()) {
                    (*known, *weight) = (Some(false), ELSEWHERE);
                }
            }
            Origin::Coded | Origin::Reviewed => {}
        }
        wanted.push(row);
        weight.push(counts);
    }
    let fitted = |row: usize| examples[row].part != Part::HeldOut;
    for theme in 0..count {
        let sum = |of: bool| -> f32 {
            (0..examples.len())
                .filter(|row| fitted(*row) && wanted[*row][theme] == Some(of))
                .map(|row| weight[row][theme])
                .sum()
        };
        let unknown: Vec<usize> =
            (0..examples.len()).filter(|row| fitted(*row) && wanted[*row][theme].is_none()).collect();
        if sum(false) < FEW_NO && !unknown.is_empty() {
            let share = (BACKGROUND * sum(true) / unknown.len() as f32).min(ELSEWHERE);
            for row in unknown {
                (wanted[row][theme], weight[row][theme]) = (Some(false), share);
            }
        }
    }
    independent(data, "themes", data.themes.to_vec(), wanted, weight)
}

fn independent(
    data: &Data<'_>,
    name: &'static str,
    labels: Vec<String>,
    wanted: Vec<Vec<Option<bool>>>,
    weight: Vec<Vec<f32>>,
) -> Plan {
    let examples = data.examples;
    let honest = |row: usize, label: usize| {
        // A weight of one is a person's plain word on this very label.
        wanted[row][label].is_some() && weight[row][label] >= 1.0 && !examples[row].seen
    };
    let mut measured: Vec<Vec<bool>> =
        (0..examples.len()).map(|row| (0..labels.len()).map(|label| honest(row, label)).collect()).collect();
    let mut thin = vec![false; labels.len()];
    for label in 0..labels.len() {
        let enough = |of: bool| {
            let rows = (0..examples.len()).filter(|row| examples[*row].part != Part::HeldOut && measured[*row][label]);
            rows.filter(|row| wanted[*row][label] == Some(of)).count() >= FEW
        };
        if !(enough(true) && enough(false)) {
            thin[label] = true;
            for row in 0..examples.len() {
                measured[row][label] = wanted[row][label].is_some() && examples[row].origin != Origin::Described;
            }
        }
    }
    Plan { name, labels, exclusive: false, wanted, weight, measured, thin }
}

fn exclusive(
    data: &Data<'_>,
    name: &'static str,
    labels: Vec<String>,
    label_of: impl Fn(&Example) -> Option<usize>,
) -> Option<Plan> {
    let examples = data.examples;
    let chosen: Vec<Option<usize>> = examples.iter().map(label_of).collect();
    let mut counts = vec![0_usize; labels.len()];
    for (label, _) in chosen.iter().zip(examples).filter(|(_, example)| example.part != Part::HeldOut) {
        if let Some(label) = label {
            counts[*label] += 1;
        }
    }
    if counts.iter().filter(|count| **count >= 10).count() < 2 {
        return None;
    }
    // Milder than inverse frequency: rare labels count more, and do not shout.
    let mean = counts.iter().sum::<usize>() as f32 / counts.len() as f32;
    let weight_of = |label: usize| (mean / counts[label].max(1) as f32).sqrt().clamp(0.2, 5.0);
    let honest = |row: usize| chosen[row].is_some() && !examples[row].seen;
    let enough =
        (0..examples.len()).filter(|row| examples[*row].part != Part::HeldOut && honest(*row)).count() >= FEW_EXCLUSIVE;
    let rows = 0..examples.len();
    Some(Plan {
        name,
        exclusive: true,
        wanted: rows
            .clone()
            .map(|row| (0..labels.len()).map(|label| chosen[row].map(|one| one == label)).collect())
            .collect(),
        weight: rows.clone().map(|row| vec![chosen[row].map_or(0.0, weight_of); labels.len()]).collect(),
        measured: rows
            .map(|row| vec![if enough { honest(row) } else { chosen[row].is_some() }; labels.len()])
            .collect(),
        thin: vec![!enough; labels.len()],
        labels,
    })
}

/// Chooses strength and scale for each group of lanes by out-of-fold loss, and fits on everything.
fn solve(plan: &Plan, matrix: &Matrix, rows: &[usize], folds: &[usize], options: &Options) -> Columns {
    let mut columns = Columns {
        fitted: Vec::new(),
        logits: vec![Vec::with_capacity(plan.labels.len()); matrix.len()],
        penalty: Vec::new(),
        scale: Vec::new(),
    };
    let scales: &[f32] = if options.vectors && options.words { &SCALES } else { &SCALES[..1] };
    for first in (0..plan.labels.len()).step_by(LANES) {
        let labels = first..(first + LANES).min(plan.labels.len());
        let lanes = |row: usize, of: &dyn Fn(usize, usize) -> f32| {
            let mut values = [0.0; LANES];
            for (lane, label) in labels.clone().enumerate() {
                values[lane] = of(row, label);
            }
            values
        };
        let wanted: Vec<[f32; LANES]> = (0..matrix.len())
            .map(|row| lanes(row, &|row, label| f32::from(u8::from(plan.wanted[row][label] == Some(true)))))
            .collect();
        let weight: Vec<[f32; LANES]> =
            (0..matrix.len()).map(|row| lanes(row, &|row, label| plan.weight[row][label])).collect();
        let task = |rows, penalty, scale, steps| Task {
            rows,
            wanted: &wanted,
            weight: &weight,
            labels: labels.len(),
            exclusive: plan.exclusive,
            inverse_penalty: penalty,
            dense_scale: scale,
            steps,
        };
        let training: Vec<Vec<usize>> =
            (0..FOLDS).map(|fold| rows.iter().copied().filter(|row| folds[*row] != fold).collect()).collect();
        let mut starts: Vec<Fitted> = (0..FOLDS).map(|_| Fitted::zero(matrix, scales[0])).collect();
        let mut best: Option<(f64, f32, f32, Vec<[f32; LANES]>)> = None;
        let mut consider = |penalty: f32, scale: f32, best: &mut Option<(f64, f32, f32, Vec<[f32; LANES]>)>| {
            starts = in_threads(options.threads, starts.drain(..).enumerate().collect(), |(fold, start)| {
                fit(matrix, &task(&training[fold], penalty, scale, 40), start)
            });
            let mut logits = vec![[0.0; LANES]; matrix.len()];
            for &row in rows {
                logits[row] = starts[folds[row]].logits(matrix, row);
            }
            let loss = loss(plan, labels.clone(), &logits, rows);
            if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
                *best = Some((loss, penalty, scale, logits));
            }
        };
        for penalty in PENALTIES {
            consider(penalty, scales[0], &mut best);
        }
        let penalty = best.as_ref().map_or(PENALTIES[1], |(_, penalty, ..)| *penalty);
        for scale in &scales[1..] {
            consider(penalty, *scale, &mut best);
        }
        let (_, penalty, scale, mut logits) =
            best.unwrap_or((0.0, PENALTIES[1], scales[0], vec![[0.0; LANES]; matrix.len()]));
        let fitted = fit(matrix, &task(rows, penalty, scale, 100), Fitted::zero(matrix, scale));
        let mut is_fitted = vec![false; matrix.len()];
        for row in rows {
            is_fitted[*row] = true;
        }
        for (row, logits) in logits.iter_mut().enumerate() {
            if !is_fitted[row] {
                *logits = fitted.logits(matrix, row);
            }
            columns.logits[row].extend(&logits[..labels.len()]);
        }
        columns.fitted.push(fitted);
        columns.penalty.push(penalty);
        columns.scale.push(scale);
    }
    columns
}

/// Runs `work` on each item, some at a time; results in order.
fn in_threads<I: Send, O: Send>(threads: usize, items: Vec<I>, work: impl Fn(I) -> O + Sync) -> Vec<O> {
    let mut results = Vec::with_capacity(items.len());
    let mut items = items.into_iter();
    loop {
        let some: Vec<I> = items.by_ref().take(threads.max(1)).collect();
        if some.is_empty() {
            return results;
        }
        if some.len() == 1 {
            results.extend(some.into_iter().map(&work));
            continue;
        }
        std::thread::scope(|scope| {
            let started: Vec<_> = some.into_iter().map(|item| scope.spawn(|| work(item))).collect();
            for thread in started {
                match thread.join() {
                    Ok(result) => results.push(result),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
}

/// Out-of-fold log-loss after calibration, over the measured rows.
fn loss(plan: &Plan, labels: std::ops::Range<usize>, logits: &[[f32; LANES]], rows: &[usize]) -> f64 {
    if plan.exclusive {
        let rows: Vec<(Vec<f32>, usize)> = rows
            .iter()
            .filter(|row| plan.measured[**row][0])
            .filter_map(|row| {
                let right = plan.wanted[*row].iter().position(|one| *one == Some(true))?;
                Some((logits[*row][..labels.len()].to_vec(), right))
            })
            .collect();
        let t = temperature(&rows);
        return rows.iter().map(|(logits, right)| -f64::from(softmax(logits, t)[*right].max(1e-12).ln())).sum();
    }
    labels
        .enumerate()
        .map(|(lane, label)| {
            let rows: Vec<Scored> = rows
                .iter()
                .filter(|row| plan.measured[**row][label])
                .map(|row| (logits[*row][lane], plan.wanted[*row][label] == Some(true), plan.weight[*row][label]))
                .collect();
            let (a, b) = platt(&rows);
            rows.iter()
                .map(|(logit, wanted, weight)| {
                    let p = sigmoid(a * logit + b).clamp(1e-6, 1.0 - 1e-6);
                    -f64::from(weight * if *wanted { p } else { 1.0 - p }.ln())
                })
                .sum::<f64>()
        })
        .sum()
}

/// Calibration from out-of-fold logits, and every example's probabilities under it.
fn calibrate(plan: &Plan, columns: &Columns, examples: &[Example]) -> (HeadCalibration, Vec<Vec<f32>>) {
    let fitted = |row: usize| examples[row].part != Part::HeldOut;
    if plan.exclusive {
        let rows: Vec<(Vec<f32>, usize)> = (0..examples.len())
            .filter(|row| fitted(*row) && plan.measured[*row][0])
            .filter_map(|row| {
                let right = plan.wanted[row].iter().position(|one| *one == Some(true))?;
                Some((columns.logits[row].clone(), right))
            })
            .collect();
        let t = temperature(&rows);
        return (HeadCalibration::Temperature(t), columns.logits.iter().map(|logits| softmax(logits, t)).collect());
    }
    let pairs: Vec<(f32, f32)> =
        (0..plan.labels.len()).map(|label| platt(&scored(plan, &columns.logits, label, fitted))).collect();
    let probabilities = columns
        .logits
        .iter()
        .map(|logits| logits.iter().zip(&pairs).map(|(logit, (a, b))| sigmoid(a * logit + b)).collect())
        .collect();
    (HeadCalibration::Platt(pairs), probabilities)
}

/// The measured rows of a label with their values.
fn scored(plan: &Plan, values: &[Vec<f32>], label: usize, of: impl Fn(usize) -> bool) -> Vec<Scored> {
    (0..values.len())
        .filter(|row| of(*row) && plan.measured[*row][label])
        .filter_map(|row| Some((values[row][label], plan.wanted[row][label]?, plan.weight[row][label])))
        .collect()
}

fn report(
    plan: &Plan,
    columns: &Columns,
    probabilities: &[Vec<f32>],
    points: &BTreeMap<String, f32>,
    examples: &[Example],
    seed: u64,
) -> HeadReport {
    let rows = |held_out: bool| -> Vec<(Vec<f32>, Vec<Option<bool>>)> {
        (0..examples.len())
            .filter(|row| (examples[*row].part == Part::HeldOut) == held_out)
            .map(|row| {
                let known = |label: usize| {
                    plan.wanted[row][label].filter(|_| plan.measured[row][label] && plan.weight[row][label] > 0.0)
                };
                (probabilities[row].clone(), (0..plan.labels.len()).map(known).collect())
            })
            .collect()
    };
    let points: Option<Vec<f32>> =
        (!plan.exclusive).then(|| plan.labels.iter().map(|label| points.get(label).copied().unwrap_or(0.5)).collect());
    let trained = (0..plan.labels.len())
        .map(|label| {
            (0..examples.len())
                .filter(|row| examples[*row].part != Part::HeldOut && examples[*row].origin != Origin::Described)
                .filter(|row| plan.wanted[*row][label] == Some(true))
                .count()
        })
        .collect();
    HeadReport {
        name: plan.name.to_owned(),
        labels: plan.labels.clone(),
        exclusive: plan.exclusive,
        trained_yes: trained,
        thin: plan.thin.clone(),
        penalty: columns.penalty.clone(),
        scale: columns.scale.clone(),
        cross_validated: measure(&rows(false), points.as_deref(), seed),
        held_out: measure(&rows(true), points.as_deref(), seed),
    }
}

/// The fitted columns over raw vectors and unit n-grams, as judging reads them.
fn head(plan: Plan, columns: &Columns, standard: &Standard, calibration: HeadCalibration) -> TrainedHead {
    let width = standard.mean.len();
    let grams = columns.fitted.first().map_or(0, |fitted| fitted.weights.len() - 1 - width);
    let count = plan.labels.len();
    let weight = |label: usize, feature: usize| columns.fitted[label / LANES].weights[feature][label % LANES];
    let mut dense = Vec::with_capacity(count * width);
    let mut bias = Vec::with_capacity(count);
    for label in 0..count {
        let scale = columns.fitted[label / LANES].dense_scale;
        let mut shift = f64::from(weight(label, width + grams));
        for at in 0..width {
            let raw = weight(label, at) * scale / standard.deviation[at];
            shift -= f64::from(raw) * f64::from(standard.mean[at]);
            dense.push(raw);
        }
        bias.push(shift as f32);
    }
    let lexical = (0..grams).flat_map(|gram| (0..count).map(move |label| weight(label, width + gram))).collect();
    TrainedHead { name: plan.name.to_owned(), labels: plan.labels, dense, lexical, bias, calibration }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invented comments about buses, parks or neither; a bus pushes the vector's first number up.
    fn examples(count: usize) -> (Vec<Example>, Vec<String>, Vec<Vec<f32>>) {
        let mut seeded = Seeded(3);
        let (mut examples, mut texts, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..count {
            let kind = at % 3;
            let noise = |seeded: &mut Seeded| seeded.below(1000) as f32 / 1000.0 - 0.5;
            let filler = ["late", "again", "please", "council", "nobody", "week"][seeded.below(6)];
            let text = format!("{} {filler} {at}", ["the bus", "this park", "hello"][kind]);
            vectors.push((0..8).map(|lane| noise(&mut seeded) + f32::from(u8::from(kind == lane)) * 0.8).collect());
            examples.push(Example {
                text: text.clone(),
                place: String::new(),
                group: at.to_string(),
                origin: Origin::Coded,
                part: if at % 7 == 0 { Part::HeldOut } else { Part::Train },
                seen: false,
                themes: vec![Some(kind == 0), Some(kind == 1)],
                off_topic: None,
                stance: None,
                attitude: Some(if kind == 0 { Attitude::Negative } else { Attitude::Positive }),
                tone: None,
            });
            texts.push(text);
        }
        (examples, texts, vectors)
    }

    fn trained(examples: &[Example], texts: &[String], vectors: &[Vec<f32>], threads: usize) -> Trained {
        let themes = ["buses".to_owned(), "parks".to_owned()];
        train(
            &Data { themes: &themes, stance: false, examples, texts, vectors },
            &Options { seed: 7, threads, vectors: true, words: true },
        )
    }

    #[test]
    fn themes_that_can_be_told_are_told_on_rows_never_seen() {
        let (examples, texts, vectors) = examples(120);
        let found = trained(&examples, &texts, &vectors, 1);
        assert_eq!(found.heads.iter().map(|head| head.name.as_str()).collect::<Vec<_>>(), ["themes", "attitude"]);
        for report in &found.reports {
            assert!(report.held_out.rows >= 15 && report.held_out.micro.value > 0.9, "{report:?}");
        }
        assert!(found.points.values().all(|point| (0.09..=0.81).contains(point)));
    }

    #[test]
    fn threads_change_nothing() {
        let (examples, texts, vectors) = examples(60);
        let (one, four) = (trained(&examples, &texts, &vectors, 1), trained(&examples, &texts, &vectors, 4));
        assert_eq!((one.heads, one.points, one.reports), (four.heads, four.points, four.reports));
    }

    #[test]
    fn a_held_out_row_teaches_nothing() {
        let (mut examples, mut texts, vectors) = examples(60);
        let before = trained(&examples, &texts, &vectors, 1);
        for (example, text) in examples.iter_mut().zip(&mut texts).filter(|(one, _)| one.part == Part::HeldOut) {
            example.themes = example.themes.iter().map(|known| known.map(|yes| !yes)).collect();
            example.attitude = Some(Attitude::Mixed);
            "quite another text".clone_into(text);
        }
        let after = trained(&examples, &texts, &vectors, 1);
        assert_eq!((before.heads, before.points), (after.heads, after.points));
        assert_ne!(before.reports, after.reports, "it is measured on");
    }

    #[test]
    fn a_theme_unknown_to_most_rows_is_still_learnt() {
        let (mut examples, texts, vectors) = examples(120);
        let mut left = 4;
        for example in &mut examples {
            if example.part == Part::Train {
                let keep = example.themes[1] == Some(true) && left > 0;
                left -= usize::from(keep);
                example.themes[1] = keep.then_some(true);
            }
        }
        let found = trained(&examples, &texts, &vectors, 1);
        let parks = &found.reports[0].held_out.labels[1];
        assert!(found.reports[0].thin[1] && !found.reports[0].thin[0]);
        assert!(parks.auc > 0.9, "{parks:?}");
    }

    #[test]
    fn groups_stay_together_and_rare_themes_are_dealt_out() {
        let (mut examples, texts, vectors) = examples(60);
        for pair in examples.chunks_mut(2) {
            pair[1].group = pair[0].group.clone();
        }
        let data = Data {
            themes: &["a".to_owned(), "b".to_owned()],
            stance: false,
            examples: &examples,
            texts: &texts,
            vectors: &vectors,
        };
        let folds = folds(&data, 1);
        assert!(folds.chunks(2).all(|pair| pair[0] == pair[1]));
        let of = |fold: usize| {
            folds.iter().zip(&examples).filter(|(at, one)| **at == fold && one.themes[1] == Some(true)).count()
        };
        assert!((0..FOLDS).all(|fold| of(fold) >= 2), "{folds:?}");
    }
}
