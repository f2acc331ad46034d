//! Which part of a text carries a label.
//!
//! Heads are linear over a mean of token vectors, so the logit of any part is
//! the mean of its tokens' own logits: these contributions are exact, not an
//! approximation laid over the model.

use safetensors::{Dtype, SafeTensors};

use super::manifest::ManifestFile;
use super::windows::Token;
use crate::domain::score::Span;
use crate::pipeline::ports::EngineError;

/// Tokens that stand for the strongest words of a sentence.
const STRONGEST: usize = 3;

/// One direction in the token vectors, learnt from words that people marked as what makes a
/// comment toxic. A head's own contributions say which words move it, and around an insult
/// those are often its neighbours; this says which words people would point at.
pub struct SpanHead {
    /// One weight for each number of a token's vector.
    pub weight: Vec<f32>,
    /// Added to every token's logit.
    pub bias: f32,
    /// The logit from which a word is marked.
    pub mark_from: f32,
}

impl SpanHead {
    /// Reads the head, if the manifest names one.
    ///
    /// # Errors
    /// A file that is missing or has another checksum, and one that belongs to another encoder.
    pub fn read(manifest: &ManifestFile, width: usize) -> Result<Option<Self>, EngineError> {
        let Some(files) = &manifest.manifest.spans else { return Ok(None) };
        let bad = |problem: String| EngineError::Models {
            path: manifest.folder.join(&files.weights).display().to_string(),
            problem,
        };
        if !files.encoder_sha256.eq_ignore_ascii_case(&manifest.manifest.encoder.weights_sha256) {
            let problem = "was trained on another encoder than this one: run `python models/training/train.py spans`";
            return Err(bad(problem.to_owned()));
        }
        let bytes = manifest.load(&files.weights, &files.weights_sha256)?;
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|error| bad(format!("not a safetensors file: {error}")))?;
        let tensor = tensors.tensor("toxic").map_err(|_| bad("tensor `toxic` is missing".to_owned()))?;
        // The bias stands behind the weights.
        if tensor.shape() != [width + 1] || tensor.dtype() != Dtype::F32 {
            return Err(bad(format!("tensor `toxic` is not F32 of [{}]", width + 1)));
        }
        let mut weight: Vec<f32> =
            tensor.data().as_chunks::<4>().0.iter().map(|one| f32::from_le_bytes(*one)).collect();
        if weight.iter().any(|number| !number.is_finite()) {
            return Err(bad("tensor `toxic` holds a number that is not finite".to_owned()));
        }
        let bias = weight.pop().unwrap_or_default();
        Ok(Some(Self { weight, bias, mark_from: files.mark_from }))
    }
}

/// Logits of the tokens of one text for one label, with the sentence of each token.
pub struct Carrier<'a> {
    /// Word pieces in order.
    pub tokens: &'a [Token],
    /// One logit per token.
    pub logits: &'a [f32],
    /// Sentences in characters of the judged text, in order.
    pub sentences: &'a [Span],
}

impl Carrier<'_> {
    /// Token range of each sentence that has tokens.
    pub fn sentence_tokens(&self) -> Vec<(usize, usize)> {
        let mut ranges = Vec::new();
        let mut from = 0;
        for sentence in self.sentences {
            let start = from + self.tokens[from..].partition_point(|token| token.span.start < sentence.start);
            let end = start + self.tokens[start..].partition_point(|token| token.span.start < sentence.end);
            if end > start {
                ranges.push((start, end));
            }
            from = end;
        }
        ranges
    }

    fn mean(&self, (start, end): (usize, usize)) -> f32 {
        self.logits[start..end].iter().sum::<f32>() / (end - start) as f32
    }

    /// The highest mean logit over the sentences of at least `shortest` tokens.
    pub fn best_sentence(&self, shortest: usize) -> Option<f32> {
        self.sentence_tokens()
            .into_iter()
            .filter(|(start, end)| end - start >= shortest)
            .map(|range| self.mean(range))
            .reduce(f32::max)
    }

    /// The sentences of `lengths` tokens whose mean logit reaches `from`, those with the strongest words first, at
    /// most `most`, as token ranges. What is said around a sentence pulls its mean down, its strongest words hardly.
    pub fn likely_sentences(
        &self,
        lengths: std::ops::RangeInclusive<usize>,
        from: f32,
        most: usize,
    ) -> Vec<(usize, usize)> {
        let mut likely: Vec<((usize, usize), f32)> = self
            .sentence_tokens()
            .into_iter()
            .filter(|range| lengths.contains(&(range.1 - range.0)) && self.mean(*range) >= from)
            .map(|range| (range, self.strongest(range)))
            .collect();
        // Stable: of equal ones the earlier stays first, whoever else is in the batch.
        likely.sort_by(|a, b| b.1.total_cmp(&a.1));
        likely.truncate(most);
        likely.into_iter().map(|(range, _)| range).collect()
    }

    /// The mean of the highest logits of a range.
    fn strongest(&self, (start, end): (usize, usize)) -> f32 {
        let mut logits = self.logits[start..end].to_vec();
        logits.sort_by(|a, b| b.total_cmp(a));
        logits.truncate(STRONGEST);
        logits.iter().sum::<f32>() / logits.len().max(1) as f32
    }

    /// Whole sentences: the one with the highest mean logit, and its neighbours
    /// as long as they reach `from`. In a text of several sentences the result
    /// is always narrower than the text. As a token range.
    pub fn sentences(&self, from: f32) -> Option<(usize, usize)> {
        let ranges = self.sentence_tokens();
        let means: Vec<f32> = ranges.iter().map(|range| self.mean(*range)).collect();
        let best = (0..means.len()).reduce(|best, next| if means[next] > means[best] { next } else { best })?;
        let (mut first, mut last) = (best, best);
        while first > 0 && means[first - 1] >= from {
            first -= 1;
        }
        while last + 1 < means.len() && means[last + 1] >= from {
            last += 1;
        }
        if first == 0 && last + 1 == ranges.len() && ranges.len() > 1 {
            (first, last) = (best, best);
        }
        Some((ranges[first].0, ranges[last].1))
    }

    /// The run of words inside the best sentence that lifts its logit most: the
    /// maximum-sum run (Kadane) of logits above halfway between the sentence's
    /// mean and its highest token. As a token range, widened to whole words.
    pub fn words(&self) -> Option<(usize, usize)> {
        let (start, end) = self
            .sentence_tokens()
            .into_iter()
            .reduce(|best, next| if self.mean(next) > self.mean(best) { next } else { best })?;
        let highest = self.logits[start..end].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let bar = f32::midpoint(self.mean((start, end)), highest);
        let (mut best, mut best_sum) = ((start, start + 1), f32::NEG_INFINITY);
        let (mut run_start, mut run_sum) = (start, 0.0);
        for at in start..end {
            if run_sum <= 0.0 {
                (run_start, run_sum) = (at, 0.0);
            }
            run_sum += self.logits[at] - bar;
            if run_sum > best_sum {
                (best, best_sum) = ((run_start, at + 1), run_sum);
            }
        }
        let joined = |left: usize| self.tokens[left + 1].continues;
        while best.0 > start && joined(best.0 - 1) {
            best.0 -= 1;
        }
        while best.1 < end && joined(best.1 - 1) {
            best.1 += 1;
        }
        Some(best)
    }

    /// The run of neighbouring words of which each reaches `from` in its highest piece, and which
    /// lies above it most in sum; else the highest word alone. As a token range.
    pub fn marked(&self, from: f32) -> Option<(usize, usize)> {
        let mut best: Option<((usize, usize), f32)> = None;
        let mut run: Option<((usize, usize), f32)> = None;
        let mut highest: Option<((usize, usize), f32)> = None;
        let better = |found: &Option<(_, f32)>, value: f32| found.as_ref().is_none_or(|(_, known)| value > *known);
        let mut start = 0;
        while start < self.tokens.len() {
            let end = self.word_end(start);
            let logit = self.logits[start..end].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if better(&highest, logit) {
                highest = Some(((start, end), logit));
            }
            run = (logit >= from).then_some(match run {
                Some(((first, _), sum)) => ((first, end), sum + logit - from),
                None => ((start, end), logit - from),
            });
            if let Some((_, sum)) = run
                && better(&best, sum)
            {
                best = run;
            }
            start = end;
        }
        best.or(highest).map(|(range, _)| range)
    }

    /// One past the last piece of the word that begins at `start`.
    fn word_end(&self, start: usize) -> usize {
        start + 1 + self.tokens[start + 1..].iter().take_while(|token| token.continues).count()
    }

    /// The characters of a token range, in the judged text.
    pub fn characters(&self, (start, end): (usize, usize)) -> Option<Span> {
        let (first, last) = (self.tokens.get(start)?, self.tokens.get(end.checked_sub(1)?)?);
        Some(Span { start: first.span.start, end: last.span.end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(count: usize) -> Vec<Token> {
        (0..count).map(|at| Token { id: 0, span: Span { start: at * 3, end: at * 3 + 2 }, continues: false }).collect()
    }

    #[test]
    fn a_theme_in_one_of_several_sentences_covers_only_that_one() {
        let tokens = tokens(9);
        let sentences = [Span { start: 0, end: 9 }, Span { start: 9, end: 18 }, Span { start: 18, end: 27 }];
        let logits = [-1.0, -1.0, -1.0, 2.0, 3.0, 2.0, -2.0, -1.0, 0.0];
        let carrier = Carrier { tokens: &tokens, logits: &logits, sentences: &sentences };
        assert_eq!(carrier.sentences(0.0), Some((3, 6)));
        assert_eq!(carrier.characters((3, 6)), Some(Span { start: 9, end: 17 }));
    }

    #[test]
    fn a_span_is_narrower_than_a_text_of_several_sentences() {
        let tokens = tokens(4);
        let sentences = [Span { start: 0, end: 6 }, Span { start: 6, end: 12 }];
        let carrier = Carrier { tokens: &tokens, logits: &[5.0, 5.0, 6.0, 6.0], sentences: &sentences };
        assert_eq!(carrier.sentences(0.0), Some((2, 4)));
    }

    #[test]
    fn the_words_that_carry_a_label_are_found() {
        let tokens = tokens(6);
        let sentences = [Span { start: 0, end: 18 }];
        let carrier = Carrier { tokens: &tokens, logits: &[0.0, 0.0, 4.0, 5.0, 0.0, 0.0], sentences: &sentences };
        assert_eq!(carrier.words(), Some((2, 4)));
    }

    #[test]
    fn the_strongest_run_of_marked_words_is_taken_and_a_word_is_never_torn() {
        let mut tokens = tokens(7);
        tokens[3].continues = true;
        let check = |logits: &[f32; 7], from| Carrier { tokens: &tokens, logits, sentences: &[] }.marked(from);
        assert_eq!(check(&[1.0, -1.0, 2.0, -9.0, 2.0, -1.0, 3.5], 0.0), Some((2, 5)));
        assert_eq!(check(&[1.0, -1.0, 0.5, -9.0, 0.5, -1.0, 3.5], 0.0), Some((6, 7)));
        assert_eq!(check(&[-4.0, -3.0, -2.0, -1.0, -5.0, -6.0, -7.0], 0.0), Some((2, 4)), "none reaches the mark");
    }

    #[test]
    fn a_sentence_with_strong_words_comes_before_one_that_is_likelier_as_a_whole() {
        let tokens = tokens(13);
        let sentences = [Span { start: 0, end: 15 }, Span { start: 15, end: 30 }, Span { start: 30, end: 39 }];
        let logits = [-2.0, -2.0, -2.0, -2.0, -2.0, 2.0, 2.0, 2.0, -12.0, -12.0, -1.0, -1.0, -7.0];
        let carrier = Carrier { tokens: &tokens, logits: &logits, sentences: &sentences };
        assert_eq!(carrier.likely_sentences(1..=5, -9.0, 9), [(5, 10), (0, 5), (10, 13)]);
        assert_eq!(carrier.likely_sentences(1..=5, -9.0, 1), [(5, 10)]);
        assert_eq!(carrier.likely_sentences(1..=5, -2.5, 9), [(0, 5)], "the mean is the gate");
        assert_eq!(carrier.likely_sentences(1..=4, -9.0, 9), [(10, 13)]);
    }

    #[test]
    fn no_tokens_carry_nothing() {
        let carrier = Carrier { tokens: &[], logits: &[], sentences: &[] };
        assert_eq!(carrier.sentences(0.0), None);
        assert_eq!(carrier.words(), None);
        assert_eq!(carrier.marked(0.0), None);
        assert_eq!(carrier.best_sentence(1), None);
    }
}
