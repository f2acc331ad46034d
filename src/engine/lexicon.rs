//! What the words of a text add to the logits of a codebook's heads.

use crate::codebook::words;
use crate::domain::heads::{GramList, TrainedHeads};

/// Heads in the order of [`Lexicon::logits`].
pub const ORDER: [&str; 5] = ["themes", "stance", "attitude", "tone", "off_topic"];

/// All heads' n-gram weights side by side, so that a text is looked up once.
pub struct Lexicon {
    words: GramList,
    letters: GramList,
    columns: usize,
    /// `columns` weights for each n-gram.
    weights: Vec<f32>,
}

impl Lexicon {
    /// The heads named in [`ORDER`], as far as there are any.
    pub fn new(heads: &TrainedHeads) -> Self {
        let ordered: Vec<_> = ORDER.iter().filter_map(|name| heads.head(name)).collect();
        let columns = ordered.iter().map(|head| head.labels.len()).sum();
        let mut weights = Vec::with_capacity(columns * heads.gram_count());
        for gram in 0..heads.gram_count() {
            for head in &ordered {
                let labels = head.labels.len();
                weights.extend_from_slice(&head.lexical[gram * labels..(gram + 1) * labels]);
            }
        }
        Self { words: heads.words.clone(), letters: heads.letters.clone(), columns, weights }
    }

    /// One number for each label of each head.
    pub fn logits(&self, text: &str) -> Vec<f32> {
        let mut sums = vec![0.0; self.columns];
        for (gram, weight) in words::weights(&self.words, &self.letters, text) {
            let row = &self.weights[gram as usize * self.columns..][..self.columns];
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
        sums
    }
}
