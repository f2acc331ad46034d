//! Intervals by resampling rows (Efron & Tibshirani 1993): rows are drawn with
//! replacement, every system is measured on the same draw, and the middle 95 %
//! of what comes out is the interval. The difference of two systems is taken
//! draw by draw, so that what makes both vary does not hide it.

use moothall_numerics::seeded::Seeded;

/// How often and from which seed.
#[derive(Clone, Copy, Debug)]
pub struct Resampling {
    /// Draws; none gives figures without intervals.
    pub times: usize,
    /// The same seed gives the same intervals.
    pub seed: u64,
}

/// How often each row is drawn.
fn draw(seeded: &mut Seeded, weights: &mut [f64]) {
    let count = weights.len() as u128;
    weights.fill(0.0);
    for _ in 0..weights.len() {
        // The high part of the product spreads evenly over the rows (Lemire 2019).
        let row = (u128::from(seeded.draw()) * count) >> 64;
        weights[row as usize] += 1.0;
    }
}

/// A figure with its 95 % interval, each where it is defined.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// On the rows as they are.
    pub value: Option<f64>,
    /// Lower and upper end.
    pub interval: Option<[f64; 2]>,
}

/// Measures of several systems on the same rows: `[system][measure]`.
pub struct Compared {
    /// Each system by itself.
    pub systems: Vec<Vec<Estimate>>,
    /// The first system minus each.
    pub differences: Vec<Vec<Estimate>>,
}

/// Gives each measure on rows with these weights.
pub type Measure<'a> = Box<dyn Fn(&[f64]) -> Vec<Option<f64>> + 'a>;

/// Measures every system on the rows and on every draw from them.
pub fn compare(rows: usize, systems: &[Measure<'_>], resampling: Resampling) -> Compared {
    let ones = vec![1.0; rows];
    let values: Vec<Vec<Option<f64>>> = systems.iter().map(|measure| measure(&ones)).collect();
    let mut drawn: Vec<Vec<Vec<Option<f64>>>> =
        values.iter().map(|row| row.iter().map(|_| Vec::with_capacity(resampling.times)).collect()).collect();
    let (mut seeded, mut weights) = (Seeded(resampling.seed), ones);
    if rows > 0 {
        for _ in 0..resampling.times {
            draw(&mut seeded, &mut weights);
            for (measure, drawn) in systems.iter().zip(&mut drawn) {
                for (kept, value) in drawn.iter_mut().zip(measure(&weights)) {
                    kept.push(value);
                }
            }
        }
    }
    let minus = |one: Option<f64>, other: Option<f64>| Some(one? - other?);
    let differences = (0..systems.len())
        .map(|system| {
            (0..values[system].len())
                .map(|at| {
                    let pairs = drawn[0][at].iter().zip(&drawn[system][at]);
                    let drawn: Vec<Option<f64>> = pairs.map(|(first, other)| minus(*first, *other)).collect();
                    Estimate { value: minus(values[0][at], values[system][at]), interval: middle(&drawn) }
                })
                .collect()
        })
        .collect();
    let systems = values
        .iter()
        .zip(&drawn)
        .map(|(values, drawn)| {
            let figures = values.iter().zip(drawn);
            figures.map(|(value, drawn)| Estimate { value: *value, interval: middle(drawn) }).collect()
        })
        .collect();
    Compared { systems, differences }
}

/// The middle 95 % of the draws on which the measure is defined; nothing when most are not.
fn middle(drawn: &[Option<f64>]) -> Option<[f64; 2]> {
    let mut known: Vec<f64> = drawn.iter().flatten().copied().collect();
    if known.is_empty() || known.len() * 2 < drawn.len() {
        return None;
    }
    known.sort_by(f64::total_cmp);
    Some([quantile(&known, 0.025), quantile(&known, 0.975)])
}

/// Between the two nearest of sorted values, as `NumPy` does by default.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let place = at * (sorted.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (place - place.floor())
}

/// Wilson's interval of a share (1927), which says something of 0 in 40 too.
pub fn wilson(part: usize, whole: usize) -> Option<[f64; 2]> {
    const Z: f64 = 1.959_963_984_540_054;
    if whole == 0 {
        return None;
    }
    let (count, share) = (whole as f64, part as f64 / whole as f64);
    let middle = share + Z * Z / (2.0 * count);
    let reach = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    let scale = 1.0 + Z * Z / count;
    Some([((middle - reach) / scale).max(0.0), ((middle + reach) / scale).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFTEN: Resampling = Resampling { times: 2_000, seed: 7 };

    fn mean_of(values: &[f64]) -> Measure<'_> {
        Box::new(move |weights| {
            let sum: f64 = values.iter().zip(weights).map(|(value, weight)| value * weight).sum();
            vec![Some(sum / weights.iter().sum::<f64>())]
        })
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_law() {
        // 400 rows, half of them 1: standard error 0.025, so 0.5 plus and minus 0.049.
        let values: Vec<f64> = (0..400).map(|row| f64::from(row % 2)).collect();
        let compared = compare(400, &[mean_of(&values)], OFTEN);
        let [low, high] = compared.systems[0][0].interval.unwrap();
        assert!((low - 0.451).abs() < 0.01 && (high - 0.549).abs() < 0.01, "{low} to {high}");
        assert_eq!(compared.differences[0][0], Estimate { value: Some(0.0), interval: Some([0.0, 0.0]) });
    }

    #[test]
    fn a_difference_that_every_row_shows_is_certain_although_both_vary() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let less: Vec<f64> = values.iter().map(|value| value - 1.0).collect();
        let compared = compare(100, &[mean_of(&values), mean_of(&less)], OFTEN);
        let [low, high] = compared.differences[1][0].interval.unwrap();
        assert!((low - 1.0).abs() < 1e-9 && (high - 1.0).abs() < 1e-9, "{low} to {high}");
        let [low, high] = compared.systems[0][0].interval.unwrap();
        assert!(high - low > 5.0);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_another_another() {
        let values: Vec<f64> = (0..50).map(|row| f64::from(row * row % 17)).collect();
        let interval =
            |seed| compare(50, &[mean_of(&values)], Resampling { times: 200, seed }).systems[0][0].interval.unwrap();
        assert_eq!(interval(1).map(f64::to_bits), interval(1).map(f64::to_bits));
        assert_ne!(interval(1).map(f64::to_bits), interval(2).map(f64::to_bits));
    }

    #[test]
    fn no_rows_and_no_draws_are_no_interval() {
        let none: Vec<Measure<'_>> = vec![Box::new(|_| vec![None])];
        assert_eq!(compare(0, &none, OFTEN).systems[0][0], Estimate::default());
        let values = [1.0, 2.0];
        let compared = compare(2, &[mean_of(&values)], Resampling { times: 0, seed: 1 });
        assert_eq!(compared.systems[0][0], Estimate { value: Some(1.5), interval: None });
    }

    #[test]
    fn a_share_of_nothing_found_still_has_an_upper_end() {
        let [low, high] = wilson(0, 40).unwrap();
        // 1.96^2 / (40 + 1.96^2)
        assert!(low.abs() < 1e-12 && (high - 0.087_622).abs() < 1e-4, "{low} to {high}");
        assert_eq!(wilson(0, 0), None);
    }
}
