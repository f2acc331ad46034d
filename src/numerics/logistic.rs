//! Logistic regression over vectors and n-grams, fitted by L-BFGS (Nocedal and
//! Wright, "Numerical Optimization", algorithm 7.5). One small learner, so that
//! training needs nothing that judging does not carry.

use std::collections::VecDeque;

/// Labels fitted side by side: as many floats as one wide vector register holds.
/// Independent labels are fitted in groups of so many; exclusive ones must fit in one.
pub const LANES: usize = 8;

/// Pairs of steps that the search direction remembers.
const MEMORY: usize = 8;

/// Examples as numbers: a dense part of `width` and a sparse part of `grams` features.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// Dense features of one row.
    pub width: usize,
    /// Sparse features that there are.
    pub grams: usize,
    dense: Vec<f32>,
    starts: Vec<usize>,
    sparse: Vec<(u32, f32)>,
}

impl Matrix {
    /// No rows yet.
    pub fn new(width: usize, grams: usize) -> Self {
        Self { width, grams, dense: Vec::new(), starts: vec![0], sparse: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, dense: impl Iterator<Item = f32>, sparse: &[(u32, f32)]) {
        self.dense.extend(dense);
        debug_assert_eq!(self.dense.len(), self.starts.len() * self.width);
        self.sparse.extend_from_slice(sparse);
        self.starts.push(self.sparse.len());
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn row(&self, row: usize) -> (&[f32], &[(u32, f32)]) {
        (&self.dense[row * self.width..(row + 1) * self.width], &self.sparse[self.starts[row]..self.starts[row + 1]])
    }
}

/// What the rows should say.
pub struct Task<'a> {
    /// Rows to learn from.
    pub rows: &'a [usize],
    /// For each row of the matrix and lane: 1 yes, 0 no. Exclusive labels: exactly one 1.
    pub wanted: &'a [[f32; LANES]],
    /// For each row of the matrix and lane: how much it counts; 0 for unknown. Exclusive
    /// labels: the first lane counts for the row.
    pub weight: &'a [[f32; LANES]],
    /// Labels, up to [`LANES`].
    pub labels: usize,
    /// Whether the labels exclude each other.
    pub exclusive: bool,
    /// Inverse strength of the penalty (`C` in Fan et al., LIBLINEAR, JMLR 2008):
    /// `sum of losses + |weights|^2 / 2C`. The bias is free.
    pub inverse_penalty: f32,
    /// How much smaller the dense part is made before it meets the penalty.
    pub dense_scale: f32,
    /// The most steps.
    pub steps: usize,
}

/// Fitted weights: a row of [`LANES`] for each feature, dense first, and the bias as the last row.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// `width + grams + 1` rows.
    pub weights: Vec<[f32; LANES]>,
    /// The scale that the dense part was fitted at.
    pub dense_scale: f32,
}

impl Fitted {
    /// All zero: the start of every fit.
    pub fn zero(matrix: &Matrix, dense_scale: f32) -> Self {
        Self { weights: vec![[0.0; LANES]; matrix.width + matrix.grams + 1], dense_scale }
    }

    /// Logits of one row.
    pub fn logits(&self, matrix: &Matrix, row: usize) -> [f32; LANES] {
        let (dense, sparse) = matrix.row(row);
        let mut sum = [0.0; LANES];
        for (value, weights) in dense.iter().zip(&self.weights) {
            for lane in 0..LANES {
                sum[lane] += value * weights[lane];
            }
        }
        for lane in &mut sum {
            *lane *= self.dense_scale;
        }
        for (at, value) in sparse {
            let weights = &self.weights[matrix.width + *at as usize];
            for lane in 0..LANES {
                sum[lane] += value * weights[lane];
            }
        }
        let bias = self.weights[matrix.width + matrix.grams];
        for lane in 0..LANES {
            sum[lane] += bias[lane];
        }
        sum
    }
}

/// Fits from `start`; deterministic, on the calling thread.
pub fn fit(matrix: &Matrix, task: &Task<'_>, start: Fitted) -> Fitted {
    let mut at = start;
    at.dense_scale = task.dense_scale;
    let (mut loss, mut gradient) = evaluate(matrix, task, &at);
    let mut pairs: VecDeque<(Vec<f32>, Vec<f32>, f64)> = VecDeque::new();
    let first = norm(&gradient).max(1e-6);
    for _ in 0..task.steps {
        if norm(&gradient) < 1e-3 * first {
            break;
        }
        let mut direction = towards(&gradient, &pairs);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            pairs.clear();
            direction = gradient.iter().map(|value| -value).collect();
            slope = -dot(&gradient, &gradient);
        }
        // Armijo's rule; the first step has no memory of the right length.
        let mut length: f64 = if pairs.is_empty() { (1.0 / norm(&gradient)).min(1.0) } else { 1.0 };
        let mut next = None;
        for _ in 0..20 {
            let mut tried = at.clone();
            for (weight, step) in tried.weights.as_flattened_mut().iter_mut().zip(&direction) {
                *weight += length as f32 * step;
            }
            let (tried_loss, tried_gradient) = evaluate(matrix, task, &tried);
            if tried_loss <= loss + 1e-4 * length * slope {
                next = Some((tried, tried_loss, tried_gradient));
                break;
            }
            length *= 0.5;
        }
        let Some((tried, tried_loss, tried_gradient)) = next else { break };
        let step: Vec<f32> = direction.iter().map(|value| length as f32 * value).collect();
        let change: Vec<f32> = tried_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-10 {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back((step, change, 1.0 / curvature));
        }
        (at, loss, gradient) = (tried, tried_loss, tried_gradient);
    }
    at
}

/// The two-loop recursion.
fn towards(gradient: &[f32], pairs: &VecDeque<(Vec<f32>, Vec<f32>, f64)>) -> Vec<f32> {
    let mut direction: Vec<f32> = gradient.iter().map(|value| -value).collect();
    let mut kept = Vec::with_capacity(pairs.len());
    for (step, change, inverse) in pairs.iter().rev() {
        let alpha = inverse * dot(step, &direction);
        add(&mut direction, -alpha, change);
        kept.push(alpha);
    }
    if let Some((_, change, inverse)) = pairs.back() {
        let scale = (1.0 / (inverse * dot(change, change))) as f32;
        for value in &mut direction {
            *value *= scale;
        }
    }
    for ((step, change, inverse), alpha) in pairs.iter().zip(kept.into_iter().rev()) {
        let beta = inverse * dot(change, &direction);
        add(&mut direction, alpha - beta, step);
    }
    direction
}

/// Summed in blocks, so that single precision loses little and the order is fixed.
fn dot(left: &[f32], right: &[f32]) -> f64 {
    let block = |(left, right): (&[f32], &[f32])| {
        let mut sums = [0.0_f32; LANES];
        let (left, left_rest) = left.as_chunks::<LANES>();
        let (right, right_rest) = right.as_chunks::<LANES>();
        for (left, right) in left.iter().zip(right) {
            for lane in 0..LANES {
                sums[lane] += left[lane] * right[lane];
            }
        }
        let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
        f64::from(sums.iter().sum::<f32>() + rest)
    };
    left.chunks(512).zip(right.chunks(512)).map(block).sum()
}

fn norm(values: &[f32]) -> f64 {
    dot(values, values).sqrt()
}

fn add(to: &mut [f32], factor: f64, values: &[f32]) {
    for (sum, value) in to.iter_mut().zip(values) {
        *sum += factor as f32 * value;
    }
}

/// Loss and gradient at a point.
fn evaluate(matrix: &Matrix, task: &Task<'_>, at: &Fitted) -> (f64, Vec<f32>) {
    let mut gradient = vec![[0.0_f32; LANES]; at.weights.len()];
    let mut loss = 0.0;
    for &row in task.rows {
        let (wanted, weight) = (&task.wanted[row], &task.weight[row]);
        if weight.iter().all(|weight| *weight <= 0.0) {
            continue;
        }
        let logits = at.logits(matrix, row);
        let (row_loss, error) = if task.exclusive {
            exclusive(&logits, wanted, weight[0], task.labels)
        } else {
            independent(&logits, wanted, weight, task.labels)
        };
        loss += row_loss;
        let (dense, sparse) = matrix.row(row);
        let scaled = error.map(|value| value * task.dense_scale);
        for (value, sum) in dense.iter().zip(&mut gradient) {
            for lane in 0..LANES {
                sum[lane] += value * scaled[lane];
            }
        }
        for (at, value) in sparse {
            let sum = &mut gradient[matrix.width + *at as usize];
            for lane in 0..LANES {
                sum[lane] += value * error[lane];
            }
        }
        let bias = &mut gradient[matrix.width + matrix.grams];
        for lane in 0..LANES {
            bias[lane] += error[lane];
        }
    }
    let penalty = 1.0 / task.inverse_penalty;
    let features = at.weights.len() - 1;
    let mut squares = 0.0_f64;
    for (sum, weights) in gradient[..features].iter_mut().zip(&at.weights[..features]) {
        let mut square = 0.0;
        for lane in 0..LANES {
            sum[lane] += penalty * weights[lane];
            square += weights[lane] * weights[lane];
        }
        squares += f64::from(square);
    }
    (loss + 0.5 * f64::from(penalty) * squares, gradient.into_flattened())
}

fn independent(
    logits: &[f32; LANES],
    wanted: &[f32; LANES],
    weight: &[f32; LANES],
    labels: usize,
) -> (f64, [f32; LANES]) {
    let (mut loss, mut error) = (0.0_f64, [0.0; LANES]);
    for lane in 0..labels {
        if weight[lane] > 0.0 {
            let logit = logits[lane];
            // log(1 + e^z) - y z, without overflow.
            loss += f64::from(weight[lane] * (logit.max(0.0) - logit * wanted[lane] + (-logit.abs()).exp().ln_1p()));
            error[lane] = weight[lane] * (sigmoid(logit) - wanted[lane]);
        }
    }
    (loss, error)
}

fn exclusive(logits: &[f32; LANES], wanted: &[f32; LANES], weight: f32, labels: usize) -> (f64, [f32; LANES]) {
    let mut error = [0.0; LANES];
    if weight <= 0.0 {
        return (0.0, error);
    }
    let shares = softmax(&logits[..labels], 1.0);
    let mut loss = 0.0;
    for lane in 0..labels {
        loss -= f64::from(wanted[lane] * shares[lane].max(1e-12).ln());
        error[lane] = weight * (shares[lane] - wanted[lane]);
    }
    (f64::from(weight) * loss, error)
}

/// `1 / (1 + e^-z)`.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Shares of exclusive labels at a temperature; they sum to one.
pub fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| ((logit - largest) / temperature).exp()).collect();
    let total: f32 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}
