//! Measures over one list of rows, each with a weight, so that a bootstrap
//! resample (how often each row was drawn) is measured like the rows themselves.
//!
//! Where a measure is not defined (no positives, say) it is `None`, never zero.
//! `docs/evaluation.md` gives the meaning and the source of each.

use crate::domain::score::Span;

/// Bins of equal width in a calibration error.
pub const BINS: usize = 10;

/// The false-positive rate at which recall is read off.
pub const FALSE_POSITIVES: f64 = 0.02;

struct Place {
    row: usize,
    positive: bool,
    /// The last of those with an equal score.
    last: bool,
}

/// Rows in falling order of their score, sorted once for any number of resamples.
pub struct Ranked(Vec<Place>);

/// What the order of the scores says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Curve {
    /// Area under the ROC curve: how often a positive stands above a negative; equals count half.
    pub auc: Option<f64>,
    /// Mean precision over the positives, without interpolation; equals stand at one point.
    pub average_precision: Option<f64>,
    /// The largest recall with at most [`FALSE_POSITIVES`] of the negatives above.
    pub recall_at_few: Option<f64>,
}

impl Ranked {
    /// `scores` and `positive` run over the same rows.
    pub fn new(scores: &[f64], positive: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|left, right| scores[*right].total_cmp(&scores[*left]));
        let places = order.iter().enumerate().map(|(at, row)| Place {
            row: *row,
            positive: positive[*row],
            last: order.get(at + 1).is_none_or(|next| scores[*next] < scores[*row]),
        });
        Self(places.collect())
    }

    /// All that the order says, in one walk.
    pub fn curve(&self, weights: &[f64]) -> Curve {
        let (mut positives, mut negatives) = (0.0, 0.0);
        for place in &self.0 {
            if place.positive {
                positives += weights[place.row];
            } else {
                negatives += weights[place.row];
            }
        }
        if positives <= 0.0 {
            return Curve::default();
        }
        let (mut area, mut precision, mut recall) = (0.0, 0.0, 0.0);
        let (mut above, mut wrong_above) = (0.0, 0.0);
        let (mut equal, mut wrong_equal) = (0.0, 0.0);
        for place in &self.0 {
            if place.positive {
                equal += weights[place.row];
            } else {
                wrong_equal += weights[place.row];
            }
            if !place.last {
                continue;
            }
            area += wrong_equal * (above + equal / 2.0);
            above += equal;
            wrong_above += wrong_equal;
            if equal > 0.0 {
                precision += equal * above / (above + wrong_above);
            }
            // Counts are whole; the small term is for the product alone.
            if wrong_above <= FALSE_POSITIVES * negatives + 1e-9 {
                recall = above / positives;
            }
            (equal, wrong_equal) = (0.0, 0.0);
        }
        let negative = negatives > 0.0;
        Curve {
            auc: negative.then(|| area / (positives * negatives)),
            average_precision: Some(precision / positives),
            recall_at_few: negative.then_some(recall),
        }
    }
}

/// Decisions counted against gold, in weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Rightly found.
    pub found: f64,
    /// Wrongly found.
    pub false_alarms: f64,
    /// Not found.
    pub missed: f64,
}

impl Counts {
    /// Counts decisions over rows.
    pub fn of(found: &[bool], positive: &[bool], weights: &[f64]) -> Self {
        let mut counts = Self::default();
        for ((found, positive), weight) in found.iter().zip(positive).zip(weights) {
            counts.add(*found, *positive, *weight);
        }
        counts
    }

    /// Counts one more decision.
    pub fn add(&mut self, found: bool, positive: bool, weight: f64) {
        match (found, positive) {
            (true, true) => self.found += weight,
            (true, false) => self.false_alarms += weight,
            (false, true) => self.missed += weight,
            (false, false) => {}
        }
    }

    /// Of what was found, the share that is right.
    pub fn precision(self) -> Option<f64> {
        share(self.found, self.found + self.false_alarms)
    }

    /// Of what is there, the share that was found.
    pub fn recall(self) -> Option<f64> {
        share(self.found, self.found + self.missed)
    }

    /// The harmonic mean of both.
    pub fn f1(self) -> Option<f64> {
        share(2.0 * self.found, 2.0 * self.found + self.false_alarms + self.missed)
    }
}

/// `part / whole`; undefined for an empty whole.
pub fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// The plain mean of those that are defined.
pub fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values.flatten() {
        sum += value;
        count += 1.0;
    }
    share(sum, count)
}

/// One bin of probabilities, in weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Rows.
    pub rows: f64,
    /// Sum of their probabilities.
    pub probability: f64,
    /// Rows that came true.
    pub true_rows: f64,
}

/// Ten bins of equal width; `came_true` is what each probability spoke of.
pub fn bins(probabilities: &[f64], came_true: &[bool], weights: &[f64]) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for ((probability, came_true), weight) in probabilities.iter().zip(came_true).zip(weights) {
        let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        bin.rows += weight;
        bin.probability += weight * probability;
        bin.true_rows += if *came_true { *weight } else { 0.0 };
    }
    bins
}

/// Expected calibration error: how far bins' mean probability is from what came true.
pub fn calibration_error(bins: &[Bin; BINS]) -> Option<f64> {
    let gap: f64 = bins.iter().map(|bin| (bin.probability - bin.true_rows).abs()).sum();
    share(gap, bins.iter().map(|bin| bin.rows).sum())
}

/// Rows in rising order of a value, for ranks.
struct Rising(Vec<Place>);

impl Rising {
    fn new(values: &[f64]) -> Self {
        let opposite: Vec<f64> = values.iter().map(|value| -value).collect();
        Self(Ranked::new(&opposite, &vec![false; values.len()]).0)
    }

    /// Mid-ranks as if each row stood there as often as its weight says.
    fn ranks(&self, weights: &[f64]) -> Vec<f64> {
        let mut ranks = vec![0.0; weights.len()];
        let (mut below, mut first) = (0.0, 0);
        for (at, place) in self.0.iter().enumerate() {
            if !place.last {
                continue;
            }
            let equal: f64 = self.0[first..=at].iter().map(|place| weights[place.row]).sum();
            for place in &self.0[first..=at] {
                ranks[place.row] = below + f64::midpoint(equal, 1.0);
            }
            below += equal;
            first = at + 1;
        }
        ranks
    }
}

/// Two values of the same rows, for their rank correlation.
pub struct Paired(Rising, Rising);

impl Paired {
    /// Sorts both once.
    pub fn new(one: &[f64], other: &[f64]) -> Self {
        Self(Rising::new(one), Rising::new(other))
    }

    /// Spearman's rank correlation: Pearson's of the mid-ranks.
    pub fn spearman(&self, weights: &[f64]) -> Option<f64> {
        let (one, other) = (self.0.ranks(weights), self.1.ranks(weights));
        let total: f64 = weights.iter().sum();
        let mean = |ranks: &[f64]| -> Option<f64> {
            share(ranks.iter().zip(weights).map(|(rank, weight)| rank * weight).sum(), total)
        };
        let (mean_one, mean_other) = (mean(&one)?, mean(&other)?);
        let (mut both, mut square_one, mut square_other) = (0.0, 0.0, 0.0);
        for ((one, other), weight) in one.iter().zip(&other).zip(weights) {
            let (one, other) = (one - mean_one, other - mean_other);
            both += weight * one * other;
            square_one += weight * one * one;
            square_other += weight * other * other;
        }
        share(both, (square_one * square_other).sqrt())
    }
}

/// Sorted, apart and not empty.
fn joined(spans: &[Span]) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.iter().copied().filter(|span| span.start < span.end).collect();
    spans.sort();
    let mut out: Vec<Span> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => out.push(span),
        }
    }
    out
}

/// F1 over the characters of one comment. Nothing marked where nothing is to be
/// marked is 1; marks on one side only are 0.
pub fn character_f1(gold: &[Span], found: &[Span]) -> f64 {
    let (gold, found) = (joined(gold), joined(found));
    let size = |spans: &[Span]| -> usize { spans.iter().map(|span| span.end - span.start).sum() };
    let both: usize = gold
        .iter()
        .flat_map(|one| {
            found.iter().map(move |other| one.end.min(other.end).saturating_sub(one.start.max(other.start)))
        })
        .sum();
    match size(&gold) + size(&found) {
        0 => 1.0,
        all => 2.0 * both as f64 / all as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9), "{found:?} is not {expected}");
    }

    fn curve(scores: &[f64], gold: &[u8]) -> Curve {
        let positive: Vec<bool> = gold.iter().map(|gold| *gold == 1).collect();
        Ranked::new(scores, &positive).curve(&vec![1.0; scores.len()])
    }

    #[test]
    fn the_curve_is_that_of_scikit_learn() {
        // roc_auc_score and average_precision_score of scikit-learn 1.9.1 on the same lists.
        let found = curve(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]);
        close(found.auc, 0.75);
        close(found.average_precision, 0.833_333_333_333_333_3);
        let tied = curve(&[0.9, 0.5, 0.5, 0.5, 0.2, 0.1, 0.1], &[1, 0, 1, 0, 1, 0, 1]);
        close(tied.auc, 0.541_666_666_666_666_6);
        close(tied.average_precision, 0.667_857_142_857_142_8);
    }

    #[test]
    fn perfect_scores_get_one_and_constant_ones_a_half() {
        let perfect = curve(&[0.9, 0.8, 0.2, 0.1], &[1, 1, 0, 0]);
        assert_eq!((perfect.auc, perfect.average_precision, perfect.recall_at_few), (Some(1.0), Some(1.0), Some(1.0)));
        let constant = curve(&[0.5; 4], &[1, 1, 0, 0]);
        assert_eq!(
            (constant.auc, constant.average_precision, constant.recall_at_few),
            (Some(0.5), Some(0.5), Some(0.0))
        );
    }

    #[test]
    fn recall_is_read_where_two_in_a_hundred_negatives_stand_above() {
        // 100 negatives: two of them may stand above. Positives at ranks 1, 3 and below the third negative.
        let mut scores = vec![1.0, 0.98, 0.96];
        let mut gold = vec![1, 1, 1];
        scores.extend([0.99, 0.97, 0.965]);
        scores.extend(vec![0.1; 97]);
        gold.extend(vec![0; 100]);
        close(curve(&scores, &gold).recall_at_few, 2.0 / 3.0);
    }

    #[test]
    fn what_is_not_defined_is_not_a_number() {
        assert_eq!(curve(&[0.5, 0.6], &[0, 0]), Curve::default());
        let positives = curve(&[0.5, 0.6], &[1, 1]);
        assert_eq!((positives.auc, positives.average_precision), (None, Some(1.0)));
        assert_eq!((Counts::default().precision(), Counts::default().f1()), (None, None));
    }

    #[test]
    fn a_row_drawn_twice_counts_as_two_rows() {
        let (scores, gold) = ([0.9, 0.6, 0.6, 0.3], [true, false, true, false]);
        let weighted = Ranked::new(&scores, &gold).curve(&[2.0, 1.0, 0.0, 3.0]);
        let listed = curve(&[0.9, 0.9, 0.6, 0.3, 0.3, 0.3], &[1, 1, 0, 0, 0, 0]);
        assert_eq!(weighted, listed);
    }

    #[test]
    fn decisions_are_counted() {
        let counts = Counts::of(&[true, true, true, false, false], &[true, false, true, true, false], &[1.0; 5]);
        close(counts.precision(), 2.0 / 3.0);
        close(counts.recall(), 2.0 / 3.0);
        close(counts.f1(), 2.0 / 3.0);
    }

    #[test]
    fn calibration_is_the_mean_gap_of_ten_bins() {
        // 0.8 and 0.84 in one bin, half true: gap |0.82 - 0.5| on 2 of 4; 0.1 false: 0.1; 1.0 true: 0.
        let bins = bins(&[0.8, 0.84, 0.1, 1.0], &[true, false, false, true], &[1.0; 4]);
        close(calibration_error(&bins), (2.0 * 0.32 + 0.1) / 4.0);
    }

    #[test]
    fn ranks_correlate_as_scipy_says() {
        let spearman = |one: &[f64], other: &[f64]| Paired::new(one, other).spearman(&vec![1.0; one.len()]);
        // scipy.stats.spearmanr on the same lists.
        close(spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[5.0, 6.0, 7.0, 8.0, 7.0]), 0.820_782_681_668_123_3);
        close(spearman(&[0.1, 0.1, 0.4, 0.9], &[4.0, 3.0, 2.0, 1.0]), -0.948_683_298_050_513_8);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        let weighted = Paired::new(&[1.0, 2.0, 3.0], &[3.0, 9.0, 1.0]).spearman(&[2.0, 1.0, 2.0]);
        close(weighted, spearman(&[1.0, 1.0, 2.0, 3.0, 3.0], &[3.0, 3.0, 9.0, 1.0, 1.0]).unwrap());
    }

    #[test]
    fn characters_are_compared_as_the_shared_task_does() {
        let span = |start, end| Span { start, end };
        assert!((character_f1(&[span(0, 10)], &[span(5, 15)]) - 0.5).abs() < 1e-9);
        assert!((character_f1(&[span(0, 4), span(2, 6)], &[span(0, 6)]) - 1.0).abs() < 1e-9);
        assert!((character_f1(&[], &[]) - 1.0).abs() < 1e-9);
        assert!(character_f1(&[], &[span(0, 3)]).abs() < 1e-9 && character_f1(&[span(0, 3)], &[]).abs() < 1e-9);
        let huge = character_f1(&[span(0, 3)], &[span(0, usize::MAX / 4)]);
        assert!(huge < 1e-9, "a span of any size is compared without counting it out");
    }
}
