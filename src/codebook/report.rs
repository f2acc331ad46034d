//! What a head's scores are worth: per label and over all, with intervals.

use moothall_numerics::figures::{Figure, Scored, Tally, auc, calibration_error, interval};

/// Figures of one label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelFigures {
    /// Rows on which a person said yes.
    pub yes: usize,
    /// Rows on which a person said anything.
    pub rows: usize,
    /// Probability from which it is tagged; for exclusive labels 0.
    pub point: f32,
    /// Of the tagged, rightly.
    pub precision: f64,
    /// Of those to tag, tagged.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: Figure,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
}

/// Figures of one head on one set of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Rows on which any label is known.
    pub rows: usize,
    /// One for each label.
    pub labels: Vec<LabelFigures>,
    /// F1 over all decisions together; for exclusive labels the accuracy, which is the same.
    pub micro: Figure,
    /// Mean F1 over the labels that occur.
    pub macro_f1: Figure,
}

/// One head's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadReport {
    /// Its name.
    pub name: String,
    /// In the order of the head.
    pub labels: Vec<String>,
    /// Whether the labels exclude each other.
    pub exclusive: bool,
    /// Examples with each label that were learnt from.
    pub trained_yes: Vec<usize>,
    /// Labels whose figures rest on too few rows, or on rows that the encoder saw.
    pub thin: Vec<bool>,
    /// Chosen inverse penalty of each group of labels.
    pub penalty: Vec<f32>,
    /// Chosen scale of the vector.
    pub scale: Vec<f32>,
    /// On rows scored by heads that were fitted without them.
    pub cross_validated: Measured,
    /// On rows that nothing was fitted or chosen on.
    pub held_out: Measured,
}

/// Measures rows of probabilities against what people said. `points` tag independent labels;
/// without them the likeliest label is taken.
pub fn measure(rows: &[(Vec<f32>, Vec<Option<bool>>)], points: Option<&[f32]>, seed: u64) -> Measured {
    let rows: Vec<&(Vec<f32>, Vec<Option<bool>>)> =
        rows.iter().filter(|(_, wanted)| wanted.iter().any(Option::is_some)).collect();
    let Some(labels) = rows.first().map(|row| row.0.len()) else { return Measured::default() };
    let tagged = |row: &[f32], label: usize| match points {
        Some(points) => row[label] >= points[label],
        None => row.iter().enumerate().all(|(other, p)| *p < row[label] || other >= label && *p <= row[label]),
    };
    // Said and tagged, worked out once for all resamples.
    let decisions: Vec<Vec<Option<(bool, bool)>>> = rows
        .iter()
        .map(|(p, wanted)| (0..labels).map(|label| Some((wanted[label]?, tagged(p, label)))).collect())
        .collect();
    let tallies = |counts: &[u32]| -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); labels];
        for (row, count) in decisions.iter().zip(counts).filter(|(_, count)| **count > 0) {
            for (tally, decision) in tallies.iter_mut().zip(row) {
                if let Some((wanted, tagged)) = decision {
                    tally.count(*wanted, *tagged, f64::from(*count));
                }
            }
        }
        tallies
    };
    let micro = |counts: &[u32]| {
        let mut all = Tally::default();
        for tally in tallies(counts) {
            all.add(tally);
        }
        all.f1()
    };
    let occurs: Vec<usize> =
        (0..labels).filter(|label| rows.iter().any(|(_, wanted)| wanted[*label] == Some(true))).collect();
    let macro_f1 = |counts: &[u32]| {
        let tallies = tallies(counts);
        occurs.iter().map(|label| tallies[*label].f1()).sum::<f64>() / occurs.len().max(1) as f64
    };
    let plain = tallies(&vec![1; rows.len()]);
    let one = |label: usize| {
        let scored: Vec<Scored> = rows.iter().filter_map(|(p, wanted)| Some((p[label], wanted[label]?, 1.0))).collect();
        LabelFigures {
            yes: scored.iter().filter(|row| row.1).count(),
            rows: scored.len(),
            point: points.map_or(0.0, |points| points[label]),
            precision: plain[label].precision(),
            recall: plain[label].recall(),
            f1: interval(rows.len(), seed, |counts| {
                let mut tally = Tally::default();
                for (row, count) in decisions.iter().zip(counts) {
                    if let Some((wanted, tagged)) = row[label] {
                        tally.count(wanted, tagged, f64::from(*count));
                    }
                }
                tally.f1()
            }),
            auc: auc(&scored),
            calibration_error: calibration_error(&scored),
        }
    };
    Measured {
        rows: rows.len(),
        labels: (0..labels).map(one).collect(),
        micro: interval(rows.len(), seed, micro),
        macro_f1: interval(rows.len(), seed, macro_f1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_label_is_not_counted_as_no() {
        let rows = [(vec![0.9], vec![None]), (vec![0.9], vec![Some(true)]), (vec![0.1], vec![Some(false)])];
        let found = measure(&rows, Some(&[0.5]), 1);
        assert_eq!((found.rows, found.labels[0].yes, found.labels[0].rows), (2, 1, 2));
        assert!((found.micro.value - 1.0).abs() < 1e-9);
    }

    #[test]
    fn of_exclusive_labels_the_likeliest_is_taken() {
        let row = |p: [f32; 2], right: usize| (p.to_vec(), vec![Some(right == 0), Some(right == 1)]);
        let found = measure(&[row([0.6, 0.4], 0), row([0.2, 0.8], 0), row([0.3, 0.7], 1)], None, 1);
        assert!((found.micro.value - 2.0 / 3.0).abs() < 1e-9);
    }
}
