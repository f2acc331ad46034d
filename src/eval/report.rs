//! What an evaluation found: plain data, written as JSON as it stands.

use serde::Serialize;

/// Of the JSON: raised when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// Everything.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The heading.
    pub title: String,
    /// What a reader should know first.
    pub note: String,
    /// What judged, and how figures were made.
    pub facts: Vec<(String, String)>,
    /// One for each file.
    pub sets: Vec<SetReport>,
}

/// One labelled file.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SetReport {
    /// The heading.
    pub name: String,
    /// The file's name without its folders.
    pub file: String,
    /// What the rows are and how they were chosen.
    pub note: String,
    /// By whose rulebook they were judged.
    pub consultation: String,
    /// Rows.
    pub rows: usize,
    /// Systems in the order of every list below; the first is ours.
    pub systems: Vec<String>,
    /// What was assumed or left out.
    pub remarks: Vec<String>,
    /// One for each label that the file has and a system gives.
    pub labels: Vec<LabelReport>,
    /// By source and by group.
    pub breakdowns: Vec<Breakdown>,
    /// What became of the comments under our verdict.
    pub verdicts: Vec<VerdictShare>,
    /// Bias towards groups.
    pub bias: Vec<BiasReport>,
}

/// The figures of one label.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LabelReport {
    /// Its key.
    pub label: String,
    /// Rows on which it is known.
    pub rows: usize,
    /// Rows to which it applies; none for a question with several answers.
    pub positives: Option<usize>,
    /// The probability from which the rulebook acts on it.
    pub point: Option<f64>,
    /// One after the other.
    pub measures: Vec<MeasureRow>,
    /// For each system ten bins, where it gives probabilities.
    pub calibration: Vec<Option<Vec<CalibrationBin>>>,
    /// For a question with several answers.
    pub confusion: Option<Confusion>,
    /// Where our system was most wrong.
    pub worst: Vec<Worst>,
}

/// One measure of every system.
#[derive(Clone, Debug, Serialize)]
pub struct MeasureRow {
    /// Stable key.
    pub key: &'static str,
    /// For readers.
    pub name: String,
    /// Whether a smaller figure is the better one.
    pub lower_is_better: bool,
    /// Whether it stands in short tables.
    pub headline: bool,
    /// For each system; none where it gives no answer.
    pub systems: Vec<Option<Cell>>,
}

/// One figure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cell {
    /// On the rows as they are.
    pub value: f64,
    /// 95 %.
    pub interval: Option<[f64; 2]>,
    /// Rows that it rests on.
    pub rows: usize,
    /// Our figure minus this one, on the same rows.
    pub difference: Option<Difference>,
}

/// A paired difference.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Difference {
    /// On the rows as they are.
    pub value: f64,
    /// 95 %, from the same draws for both.
    pub interval: Option<[f64; 2]>,
}

/// One bin of a reliability picture.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CalibrationBin {
    /// Rows in it.
    pub rows: usize,
    /// Their mean probability.
    pub probability: f64,
    /// The share that came true.
    pub came_true: f64,
}

/// Gold against answers.
#[derive(Clone, Debug, Serialize)]
pub struct Confusion {
    /// Names of rows and columns; the last column of a matrix is "no answer".
    pub values: Vec<String>,
    /// For each system `[gold][answer]`.
    pub systems: Vec<Option<Vec<Vec<usize>>>>,
}

/// A row that was judged badly; never its text.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// Its id.
    pub id: String,
    /// What it is.
    pub gold: String,
    /// What was said of it.
    pub answer: String,
    /// How likely that was said to be, or the row's own figure.
    pub score: Option<f64>,
}

/// One label by the values of one column.
#[derive(Clone, Debug, Serialize)]
pub struct Breakdown {
    /// `source`, or the column of a group.
    pub column: String,
    /// The label's key.
    pub label: String,
    /// One for each value with enough rows.
    pub slices: Vec<Slice>,
    /// Values with too few rows to measure.
    pub small: usize,
}

/// One label on the rows of one value.
#[derive(Clone, Debug, Serialize)]
pub struct Slice {
    /// The value.
    pub value: String,
    /// Rows on which the label is known.
    pub rows: usize,
    /// Rows to which it applies.
    pub positives: Option<usize>,
    /// The headline measures.
    pub measures: Vec<MeasureRow>,
}

/// What became of some of the comments.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictShare {
    /// Which comments.
    pub of: String,
    /// How many.
    pub rows: usize,
    /// Accepted, held, rejected, escalated.
    pub shares: [VerdictCount; 4],
}

/// One verdict's part.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct VerdictCount {
    /// Comments.
    pub rows: usize,
    /// Of all of them.
    pub share: f64,
    /// 95 %, by Wilson.
    pub interval: [f64; 2],
}

/// One label's bias towards the groups of one column.
#[derive(Clone, Debug, Serialize)]
pub struct BiasReport {
    /// The column.
    pub column: String,
    /// The label's key.
    pub label: String,
    /// One for each group with enough rows.
    pub groups: Vec<BiasRow>,
    /// Groups with too few rows to measure.
    pub small: usize,
}

/// One group.
#[derive(Clone, Debug, Serialize)]
pub struct BiasRow {
    /// Its name.
    pub group: String,
    /// Its rows.
    pub rows: usize,
    /// Those to which the label applies.
    pub positives: usize,
    /// Subgroup, BPSN and BNSP AUC.
    pub measures: Vec<MeasureRow>,
}
