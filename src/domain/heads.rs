//! Heads of one codebook, as `moothall codebook train` made them: plain numbers.

use std::collections::BTreeMap;
use std::fmt;

/// Which n-grams the heads look at. Kept as hashes, so that the file holds nobody's words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GramList {
    /// Hashes in rising order.
    pub hashes: Vec<u32>,
    /// Inverse document frequency of each.
    pub idf: Vec<f32>,
}

/// How logits become probabilities.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadCalibration {
    /// Labels on their own: `p = sigmoid(a * logit + b)` for each (Platt, 1999).
    Platt(Vec<(f32, f32)>),
    /// Labels that exclude each other: `p = softmax(logits / t)` (Guo et al., 2017).
    Temperature(f32),
}

/// One head: `logit = bias + pooled vector . dense + n-gram weights . lexical`.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedHead {
    /// `themes`, `off_topic`, `stance`, `attitude` or `tone`.
    pub name: String,
    /// In the order of every result.
    pub labels: Vec<String>,
    /// `labels` rows of the encoder's width.
    pub dense: Vec<f32>,
    /// One row of `labels` for each n-gram: words first, then letters.
    pub lexical: Vec<f32>,
    /// One for each label.
    pub bias: Vec<f32>,
    /// Independent or exclusive labels.
    pub calibration: HeadCalibration,
}

/// One measured figure of a head, for readers of reports.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadFigure {
    /// Head and measure.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Comments measured on.
    pub rows: usize,
    /// Whether these were held out from everything; else the figure is cross-validated.
    pub held_out: bool,
}

/// Everything that was trained for one codebook.
#[derive(Clone, PartialEq)]
pub struct TrainedHeads {
    /// Names the folder that they stand in.
    pub version: String,
    /// The codebook's key.
    pub codebook: String,
    /// SHA-256 (hex) of what the codebook taught: themes, examples, settings of training.
    pub codebook_sha256: String,
    /// SHA-256 (hex) of the encoder's weights whose vectors they read.
    pub encoder_sha256: String,
    /// SHA-256 (hex) of the description, which holds the weights' checksum: the heads' identity.
    pub sha256: String,
    /// Runs of one and two words.
    pub words: GramList,
    /// Runs of letters inside words.
    pub letters: GramList,
    /// In the order of the file.
    pub heads: Vec<TrainedHead>,
    /// Probability from which a theme, or `off_topic`, is tagged.
    pub points: BTreeMap<String, f32>,
    /// How good they were found to be.
    pub figures: Vec<HeadFigure>,
}

impl TrainedHeads {
    /// The head with this name.
    pub fn head(&self, name: &str) -> Option<&TrainedHead> {
        self.heads.iter().find(|head| head.name == name)
    }

    /// N-grams of both kinds.
    pub fn gram_count(&self) -> usize {
        self.words.hashes.len() + self.letters.hashes.len()
    }
}

impl fmt::Debug for TrainedHeads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainedHeads")
            .field("version", &self.version)
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}
