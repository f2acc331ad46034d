//! Calibration, tag points and figures with intervals.

use super::logistic::softmax;
use super::seeded::Seeded;

/// A figure with its 95 % interval, and the rows behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figure {
    /// On all rows.
    pub value: f64,
    /// 2.5 % of resamples lie below.
    pub low: f64,
    /// 2.5 % lie above.
    pub high: f64,
}

/// Resamples behind an interval.
const RESAMPLES: usize = 400;

/// Bootstrap (Efron, 1979) over rows: `measure` gets how often each row counts.
pub fn interval(rows: usize, seed: u64, measure: impl Fn(&[u32]) -> f64) -> Figure {
    let value = measure(&vec![1; rows]);
    let mut seeded = Seeded(seed);
    let mut values: Vec<f64> = (0..RESAMPLES).map(|_| measure(&drawn(rows, &mut seeded))).collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((RESAMPLES - 1) as f64 * share).round() as usize];
    Figure { value, low: at(0.025), high: at(0.975) }
}

fn drawn(rows: usize, seeded: &mut Seeded) -> Vec<u32> {
    let mut counts = vec![0; rows];
    for _ in 0..rows {
        counts[seeded.below(rows)] += 1;
    }
    counts
}

/// Yes and no against tagged and not, by weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Tagged, rightly.
    pub hit: f64,
    /// Tagged, wrongly.
    pub wrong: f64,
    /// Missed.
    pub missed: f64,
}

impl Tally {
    /// Counts one row.
    pub fn count(&mut self, wanted: bool, tagged: bool, weight: f64) {
        match (wanted, tagged) {
            (true, true) => self.hit += weight,
            (false, true) => self.wrong += weight,
            (true, false) => self.missed += weight,
            (false, false) => {}
        }
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.hit += other.hit;
        self.wrong += other.wrong;
        self.missed += other.missed;
    }

    /// Of the tagged, how many rightly; 0 where none is tagged.
    pub fn precision(self) -> f64 {
        self.hit / (self.hit + self.wrong).max(1e-9)
    }

    /// Of those to tag, how many were.
    pub fn recall(self) -> f64 {
        self.hit / (self.hit + self.missed).max(1e-9)
    }

    /// The harmonic mean of both.
    pub fn f1(self) -> f64 {
        2.0 * self.hit / (2.0 * self.hit + self.wrong + self.missed).max(1e-9)
    }
}

/// One scored row of one label: probability or logit, what a person said, how much it counts.
pub type Scored = (f32, bool, f32);

/// Area under the ROC curve, ties counted half.
pub fn auc(rows: &[Scored]) -> f64 {
    let mut sorted: Vec<&Scored> = rows.iter().collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut area, mut yes) = (0.0_f64, 0.0_f64, 0.0_f64);
    for ties in sorted.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let of = |wanted: bool| -> f64 { ties.iter().filter(|row| row.1 == wanted).map(|row| f64::from(row.2)).sum() };
        let (ties_yes, ties_no) = (of(true), of(false));
        area += ties_yes * (below + ties_no / 2.0);
        below += ties_no;
        yes += ties_yes;
    }
    if yes * below > 0.0 { area / (yes * below) } else { 0.5 }
}

/// Fits `p = sigmoid(a z + b)` (Platt, 1999) by Newton's method, with a weak pull of `a`
/// to 1 and of `b` to 0 for labels with few rows. `a` stays positive.
pub fn platt(rows: &[Scored]) -> (f32, f32) {
    let (mut a, mut b) = (1.0_f64, 0.0_f64);
    for _ in 0..50 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (a - 1.0, 0.04 * b, 1.0, 0.0, 0.04);
        for &(z, wanted, weight) in rows {
            let (z, weight) = (f64::from(z), f64::from(weight));
            let p = 1.0 / (1.0 + (-(a * z + b)).exp());
            let error = weight * (p - f64::from(u8::from(wanted)));
            let bend = weight * p * (1.0 - p);
            ga += error * z;
            gb += error;
            haa += bend * z * z;
            hab += bend * z;
            hbb += bend;
        }
        let determinant = haa * hbb - hab * hab;
        if determinant.abs() < 1e-12 {
            break;
        }
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        // A long step is cut, so that separable rows cannot throw it off.
        let cut = 1.0 / (da.abs().max(db.abs()) / 2.0).max(1.0);
        a -= cut * da;
        b -= cut * db;
        if da.abs().max(db.abs()) < 1e-6 {
            break;
        }
    }
    ((a as f32).max(0.05), b as f32)
}

/// Log-loss per row at a temperature, for rows of logits and the right label.
fn loss_at(rows: &[(Vec<f32>, usize)], temperature: f32) -> f64 {
    rows.iter().map(|(logits, right)| -f64::from(softmax(logits, temperature)[*right].max(1e-12).ln())).sum()
}

/// The temperature (Guo et al., 2017) of least log-loss, with a weak pull to 1; golden-section search.
pub fn temperature(rows: &[(Vec<f32>, usize)]) -> f32 {
    let cost = |log: f64| loss_at(rows, log.exp() as f32) + 0.5 * log * log;
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-2.0_f64, 2.0_f64);
    for _ in 0..40 {
        let (left, right) = (high - ratio * (high - low), low + ratio * (high - low));
        if cost(left) < cost(right) { high = right } else { low = left }
    }
    f64::midpoint(low, high).exp() as f32
}

/// Between these a tag point lies, in steps of 0.02.
const POINTS: (u32, u32) = (5, 40);

/// The probability of best F1: the median over bootstrap resamples, as one sample's best point is luck.
pub fn tag_point(rows: &[Scored], seed: u64) -> f32 {
    let grid = |step: u32| step as f32 * 0.02;
    let mut seeded = Seeded(seed);
    let mut best: Vec<u32> = (0..200)
        .map(|_| {
            let counts = drawn(rows.len(), &mut seeded);
            // Weight of yes and no in each step of the grid.
            let mut bins = [[0.0_f64; 2]; 52];
            for (row, count) in rows.iter().zip(counts) {
                let bin = (row.0 / 0.02 + 1e-4).floor().clamp(0.0, 51.0) as usize;
                bins[bin][usize::from(row.1)] += f64::from(count) * f64::from(row.2);
            }
            let yes: f64 = bins.iter().map(|bin| bin[1]).sum();
            let score = |step: u32| {
                let (no, hit) =
                    bins[step as usize..].iter().fold((0.0, 0.0), |(no, hit), bin| (no + bin[0], hit + bin[1]));
                Tally { hit, wrong: no, missed: yes - hit }.f1()
            };
            (POINTS.0..=POINTS.1).reduce(|best, step| if score(step) > score(best) { step } else { best }).unwrap_or(25)
        })
        .collect();
    best.sort_unstable();
    grid(best[best.len() / 2])
}

/// Expected calibration error over ten bins of equal width (Naeini et al., 2015).
pub fn calibration_error(rows: &[Scored]) -> f64 {
    let mut bins = [(0.0_f64, 0.0_f64, 0.0_f64); 10];
    for &(p, wanted, weight) in rows {
        let bin = &mut bins[((p * 10.0) as usize).min(9)];
        bin.0 += f64::from(weight);
        bin.1 += f64::from(weight) * f64::from(p);
        bin.2 += f64::from(weight) * f64::from(u8::from(wanted));
    }
    let total: f64 = bins.iter().map(|bin| bin.0).sum();
    bins.iter().map(|(_, said, was)| (said - was).abs()).sum::<f64>() / total.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logistic::sigmoid;

    #[test]
    fn the_area_counts_pairs_in_the_right_order() {
        assert!((auc(&[(0.1, false, 1.0), (0.4, true, 1.0), (0.35, false, 1.0), (0.8, true, 1.0)]) - 1.0).abs() < 1e-9);
        assert!((auc(&[(0.5, false, 1.0), (0.5, true, 1.0)]) - 0.5).abs() < 1e-9);
        assert!((auc(&[(0.9, false, 1.0), (0.5, true, 1.0), (0.1, false, 1.0)]) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn calibration_finds_the_slope_that_made_the_answers() {
        let mut seeded = Seeded(1);
        let rows: Vec<Scored> = (0..20_000)
            .map(|_| {
                let z = (seeded.below(800) as f32 - 400.0) / 100.0;
                let p = sigmoid(0.5 * z - 1.0);
                (z, (seeded.below(1_000_000) as f32) < p * 1e6, 1.0)
            })
            .collect();
        let (a, b) = platt(&rows);
        assert!((a - 0.5).abs() < 0.05 && (b + 1.0).abs() < 0.08, "{a} {b}");
        let said: Vec<Scored> = rows.iter().map(|(z, y, w)| (sigmoid(a * z + b), *y, *w)).collect();
        assert!(calibration_error(&said) < 0.02);
    }

    #[test]
    fn separable_rows_do_not_throw_calibration_off() {
        let rows = [(-9.0, false, 1.0), (-5.0, false, 1.0), (6.0, true, 1.0), (7.0, true, 1.0)];
        let (a, b) = platt(&rows);
        assert!(a.is_finite() && b.is_finite() && a >= 0.05);
    }

    #[test]
    fn an_overconfident_head_is_cooled() {
        let rows: Vec<(Vec<f32>, usize)> = (0..100).map(|row| (vec![8.0, 0.0], usize::from(row % 4 == 0))).collect();
        assert!(temperature(&rows) > 3.0);
    }

    #[test]
    fn the_tag_point_lies_between_yes_and_no() {
        let rows: Vec<Scored> = (0..100).map(|row| (row as f32 / 100.0, row >= 60, 1.0)).collect();
        let point = tag_point(&rows, 7);
        assert!((0.55..=0.65).contains(&point), "{point}");
    }

    #[test]
    fn an_interval_holds_its_value_and_narrows_with_rows() {
        let mean = |rows: usize| {
            interval(rows, 3, |counts| {
                counts.iter().enumerate().map(|(row, count)| f64::from(*count) * (row % 2) as f64).sum::<f64>()
                    / rows as f64
            })
        };
        let (few, many) = (mean(20), mean(2000));
        assert!(few.low < few.value && few.value < few.high);
        assert!(many.high - many.low < (few.high - few.low) / 3.0);
    }
}
