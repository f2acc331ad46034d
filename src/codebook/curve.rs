//! The learning curve: how good heads get with so many examples for each theme.

use moothall_numerics::seeded::Seeded;

use super::example::{Example, Part};

/// A copy of the examples in which `each` rows of every theme are learnt from, drawn by
/// `seed`, and the held-out rows stay as they are. Rows drawn for one theme keep all their
/// labels. `None` draws everything.
pub fn sample(examples: &[Example], each: Option<usize>, seed: u64) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..examples.len()).filter(|row| examples[*row].part != Part::HeldOut).collect();
    let held = (0..examples.len()).filter(|row| examples[*row].part == Part::HeldOut);
    if let Some(each) = each {
        Seeded(seed).shuffle(&mut rows);
        let themes = examples.first().map_or(0, |example| example.themes.len());
        let mut taken = vec![false; examples.len()];
        for theme in 0..themes {
            // Rows that were drawn for another theme count, so that no theme gets more than it must.
            let raises = |row: &usize| examples[*row].themes[theme] == Some(true);
            let have = rows.iter().filter(|row| taken[**row] && raises(row)).count();
            let wanted: Vec<usize> = rows.iter().copied().filter(|row| !taken[*row] && raises(row)).collect();
            wanted.into_iter().take(each.saturating_sub(have)).for_each(|row| taken[row] = true);
        }
        rows.retain(|row| taken[*row]);
    }
    rows.sort_unstable();
    rows.extend(held);
    rows
}

/// Mean over seeds with an interval of twice its standard error.
pub fn over_seeds(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, 1.96 * (square / count).sqrt())
}
