//! One thread's engine: readings in, signals out.

use std::collections::HashMap;
use std::sync::Arc;

use super::encoding::Encode;
use super::extra::ExtraWorker;
use super::heads::LinearHead;
use super::kernels::{self, Packed};
use super::lexicon::Lexicon;
use super::models::Models;
use super::spans::Carrier;
use super::windows::{Token, tokenize, windows};
use crate::domain::codebook::ThemeId;
use crate::domain::opinion::{Attitude, Polarity, Stance, Tone};
use crate::domain::reading::Reading;
use crate::domain::score::{Attribute, Distribution, Score, Signals, Span, ThemeScore};

/// Tokens encoded in one go: enough to keep the core busy, few enough to stay in its cache.
const BATCH_TOKENS: usize = 1024;

/// Tokens from which a sentence is judged on its own; shorter ones say too little.
const SHORTEST_SENTENCE: usize = 5;

/// How much clearer (in logits) a sentence must be than a whole text: the heads were
/// trained and calibrated on whole texts, and of many sentences one is high by chance.
const SENTENCE_DISCOUNT: f32 = 1.5;

/// A sentence whose mean logit for safeguarding, in its context, reaches this may be read once more by
/// itself. Ordinary ones lie far below; what stands around a disclosure pulls it down, but not so far.
const SECOND_LOOK_FROM: f32 = -4.5;

/// How much clearer (in logits) a sentence read by itself must be than a whole text: it was chosen as the
/// likeliest of several, and what it means may stand beside it. The least at which the calibration rows lose
/// nothing at a review load of 2 or 5 %.
const SECOND_LOOK_DISCOUNT: f32 = 2.0;

/// Sentences of one text that are read once more, at most.
const SECOND_LOOKS: usize = 4;

/// Sentences that are read once more together.
const LOOKS_AT_ONCE: usize = 16;

/// Scores readings on the calling thread.
pub struct Scorer {
    models: Arc<Models>,
    encoder: Box<dyn Encode>,
    extras: Vec<Box<dyn ExtraWorker>>,
    /// All heads' weights side by side; a head is a range of columns.
    columns: Packed,
    bias: Vec<f32>,
    places: Places,
}

/// First column of each head.
struct Places {
    abuse: usize,
    spam: usize,
    safeguarding: usize,
    polarity: usize,
    themes: usize,
    stance: usize,
    attitude: usize,
    tone: usize,
    off_topic: usize,
    /// The span head, where there is one.
    spans: Option<usize>,
    count: usize,
}

/// Logits of one text: per window, and per token.
struct TextLogits {
    tokens: Vec<Token>,
    /// `count` logits per token.
    per_token: Vec<f32>,
    /// Mean logits over each window, with its number of tokens.
    per_window: Vec<(usize, Vec<f32>)>,
    /// Safeguarding's highest logit of the sentences that were read by themselves, with that sentence's tokens.
    second_look: Option<(f32, (usize, usize))>,
    count: usize,
}

impl TextLogits {
    fn of_tokens(&self, column: usize) -> Vec<f32> {
        self.per_token.iter().skip(column).step_by(self.count).copied().collect()
    }

    /// A label is as likely as in the window where it is likeliest: for harm and
    /// for themes, which are raised or not wherever they stand.
    fn any_window(&self, columns: std::ops::Range<usize>) -> Vec<f32> {
        columns
            .map(|column| self.per_window.iter().map(|(_, logits)| logits[column]).fold(f32::NEG_INFINITY, f32::max))
            .collect()
    }

    /// As [`TextLogits::any_window`], and hardly less likely than in the sentence where it
    /// is likeliest: harm in one sentence must not be diluted by a long text around it.
    fn any_part(&self, reading: &Reading, columns: std::ops::Range<usize>) -> Vec<f32> {
        let mut logits = self.any_window(columns.clone());
        if reading.sentences.len() < 2 {
            return logits;
        }
        for (logit, column) in logits.iter_mut().zip(columns) {
            let tokens = self.of_tokens(column);
            let carrier = Carrier { tokens: &self.tokens, logits: &tokens, sentences: &reading.sentences };
            if let Some(best) = carrier.best_sentence(SHORTEST_SENTENCE) {
                *logit = logit.max(best - SENTENCE_DISCOUNT);
            }
        }
        logits
    }

    /// The mean over windows, weighted by their length: for opinion, which is about the whole.
    fn whole(&self, columns: std::ops::Range<usize>) -> Vec<f32> {
        let total: usize = self.per_window.iter().map(|(tokens, _)| tokens).sum();
        columns
            .map(|column| {
                self.per_window.iter().map(|(tokens, logits)| logits[column] * *tokens as f32).sum::<f32>()
                    / total.max(1) as f32
            })
            .collect()
    }

    /// Mean logits over a range of tokens.
    fn part(&self, (start, end): (usize, usize), columns: std::ops::Range<usize>) -> Vec<f32> {
        columns
            .map(|column| {
                (start..end).map(|token| self.per_token[token * self.count + column]).sum::<f32>()
                    / (end - start).max(1) as f32
            })
            .collect()
    }
}

impl Scorer {
    /// A scorer with its own working memory over shared weights.
    pub fn new(models: Arc<Models>) -> Self {
        let general = &models.general;
        let mut heads: Vec<&LinearHead> = Vec::new();
        let mut count = 0;
        let mut place = |head: Option<&'_ LinearHead>| {
            let at = count;
            count += head.map_or(0, |head| head.labels.len());
            at
        };
        let codebook = models.codebook.as_ref();
        let ordered = [
            Some(&general.abuse),
            Some(&general.spam),
            Some(&general.safeguarding),
            Some(&general.polarity),
            codebook.map(|heads| &heads.themes),
            codebook.and_then(|heads| heads.stance.as_ref()),
            codebook.and_then(|heads| heads.attitude.as_ref()),
            codebook.and_then(|heads| heads.tone.as_ref()),
            codebook.and_then(|heads| heads.off_topic.as_ref()),
        ];
        let at = ordered.map(&mut place);
        heads.extend(ordered.into_iter().flatten());
        let rows: Vec<(&LinearHead, usize)> =
            heads.iter().flat_map(|head| (0..head.labels.len()).map(move |label| (*head, label))).collect();
        let spans = general.spans.as_ref();
        let columns =
            Packed::new(kernels::Path::fastest(), models.encoder.width(), rows.len() + spans.iter().len(), |k, n| {
                match rows.get(n) {
                    Some((head, label)) => head.weight_of(*label)[k],
                    None => spans.map_or(0.0, |spans| spans.weight[k]),
                }
            });
        let own = spans.map(|spans| spans.bias);
        let bias = rows.iter().map(|(head, label)| head.bias_of(*label)).chain(own).collect();
        let places = Places {
            abuse: at[0],
            spam: at[1],
            safeguarding: at[2],
            polarity: at[3],
            themes: at[4],
            stance: at[5],
            attitude: at[6],
            tone: at[7],
            off_topic: at[8],
            spans: spans.map(|_| count),
            count: count + spans.iter().len(),
        };
        let encoder = Arc::clone(&models.encoder).worker();
        let extras = models.extras.iter().map(|extra| Arc::clone(extra).worker()).collect();
        Self { models, encoder, extras, columns, bias, places }
    }

    /// Signals of each reading, in order. A blank reading has none.
    pub fn score(&mut self, readings: &[&Reading]) -> Vec<Signals> {
        let logits = self.logits(readings);
        let mut signals: Vec<Signals> = readings
            .iter()
            .zip(logits)
            .map(|(reading, logits)| if reading.blank { Signals::default() } else { self.signals(reading, &logits) })
            .collect();
        for extra in &mut self.extras {
            extra.add(readings, &mut signals);
        }
        signals
    }

    /// The windows of a reading as the encoder sees them.
    pub fn window_ids(&self, reading: &Reading) -> Vec<Vec<u32>> {
        let files = &self.models.manifest.manifest.encoder;
        let tokens = tokenize(&self.models.tokenizer, &reading.judged.text);
        windows(tokens.len(), files.max_tokens - 2, files.overlap_tokens)
            .into_iter()
            .map(|window| self.with_special(&tokens, window))
            .collect()
    }

    /// Runs the encoder and nothing else; for measuring it.
    pub fn encode_only(&mut self, sequences: &[&[u32]]) {
        std::hint::black_box(self.encoder.encode(sequences));
    }

    /// The encoder's vector of each reading: the mean over its tokens, windows weighted by
    /// their length. What a codebook's heads learn from. A blank reading gives zeros.
    pub fn embed(&mut self, readings: &[&Reading]) -> Vec<Vec<f32>> {
        let width = self.models.encoder.width();
        readings
            .iter()
            .map(|reading| {
                let windows = self.window_ids(reading);
                let mut sum = vec![0.0; width];
                let mut tokens = 0;
                for some in windows.chunks(BATCH_TOKENS / 128) {
                    let sequences: Vec<&[u32]> = some.iter().map(Vec::as_slice).collect();
                    let count: usize = sequences.iter().map(|ids| ids.len()).sum();
                    let hidden = self.encoder.encode(&sequences);
                    for row in hidden.chunks_exact(width).take(count) {
                        for (sum, value) in sum.iter_mut().zip(row) {
                            *sum += value;
                        }
                    }
                    tokens += count;
                }
                let factor = if reading.blank { 0.0 } else { 1.0 / tokens.max(1) as f32 };
                sum.into_iter().map(|value| value * factor).collect()
            })
            .collect()
    }

    /// The ids of a window between `[CLS]` and `[SEP]`.
    fn with_special(&self, tokens: &[Token], (start, end): (usize, usize)) -> Vec<u32> {
        let mut ids = Vec::with_capacity(end - start + 2);
        ids.push(self.models.special.0);
        ids.extend(tokens[start..end].iter().map(|token| token.id));
        ids.push(self.models.special.1);
        ids
    }

    /// Encodes every window of every reading and applies all heads to each token.
    fn logits(&mut self, readings: &[&Reading]) -> Vec<TextLogits> {
        let files = &self.models.manifest.manifest.encoder;
        let (size, overlap) = (files.max_tokens - 2, files.overlap_tokens);
        let count = self.places.count;
        let mut texts: Vec<TextLogits> = readings
            .iter()
            .map(|reading| {
                let tokens =
                    if reading.blank { Vec::new() } else { tokenize(&self.models.tokenizer, &reading.judged.text) };
                TextLogits {
                    per_token: vec![0.0; tokens.len() * count],
                    tokens,
                    per_window: Vec::new(),
                    second_look: None,
                    count,
                }
            })
            .collect();
        let mut pending: Vec<(usize, (usize, usize), Vec<u32>)> = Vec::new();
        let mut pending_tokens = 0;
        for (index, reading) in readings.iter().enumerate() {
            if reading.blank {
                continue;
            }
            for (start, end) in windows(texts[index].tokens.len(), size, overlap) {
                let ids = self.with_special(&texts[index].tokens, (start, end));
                if pending_tokens + ids.len() > BATCH_TOKENS && !pending.is_empty() {
                    self.encode_windows(&mut pending, &mut texts);
                    pending_tokens = 0;
                }
                pending_tokens += ids.len();
                pending.push((index, (start, end), ids));
            }
        }
        self.encode_windows(&mut pending, &mut texts);
        self.look_again(readings, &mut texts);
        texts
    }

    /// Reads the likeliest sentences for a disclosure by themselves, where they are likely at all: in a mean
    /// over tokens that have attended to a long answer about something else it can hardly be seen.
    fn look_again(&mut self, readings: &[&Reading], texts: &mut [TextLogits]) {
        let column = self.places.safeguarding;
        let longest = self.models.manifest.manifest.encoder.max_tokens - 2;
        let mut looks: Vec<(usize, (usize, usize), Vec<u32>)> = Vec::new();
        for (index, (reading, text)) in readings.iter().zip(texts.iter()).enumerate() {
            if reading.sentences.len() < 2 {
                continue;
            }
            let logits = text.of_tokens(column);
            let carrier = Carrier { tokens: &text.tokens, logits: &logits, sentences: &reading.sentences };
            for range in carrier.likely_sentences(SHORTEST_SENTENCE..=longest, SECOND_LOOK_FROM, SECOND_LOOKS) {
                looks.push((index, range, self.with_special(&text.tokens, range)));
            }
        }
        let stride = self.columns.padded_columns();
        for some in looks.chunks(LOOKS_AT_ONCE) {
            let sequences: Vec<&[u32]> = some.iter().map(|(.., ids)| ids.as_slice()).collect();
            let logits = self.head_logits(&sequences);
            let mut rows = logits.chunks_exact(stride);
            for (index, range, ids) in some {
                let sum: f32 = rows.by_ref().take(ids.len()).map(|row| row[column]).sum();
                let logit = sum / ids.len() as f32 - SECOND_LOOK_DISCOUNT;
                let look = &mut texts[*index].second_look;
                if look.is_none_or(|(highest, _)| logit > highest) {
                    *look = Some((logit, *range));
                }
            }
        }
    }

    /// Every head's logits of every token, sequence after sequence, each row padded to the columns' stride.
    fn head_logits(&mut self, sequences: &[&[u32]]) -> Vec<f32> {
        let tokens = sequences.iter().map(|ids| ids.len()).sum();
        let (width, stride) = (self.models.encoder.width(), self.columns.padded_columns());
        let hidden = self.encoder.encode(sequences);
        let mut logits = vec![0.0; tokens * stride];
        for row in logits.chunks_exact_mut(stride) {
            row[..self.bias.len()].copy_from_slice(&self.bias);
        }
        kernels::multiply_add(hidden, width, tokens, &self.columns, &mut logits, stride);
        logits
    }

    /// Encodes the pending windows; equal ones (a megabyte of one emoji) only once.
    fn encode_windows(&mut self, pending: &mut Vec<(usize, (usize, usize), Vec<u32>)>, texts: &mut [TextLogits]) {
        let mut distinct: Vec<&[u32]> = Vec::new();
        let mut place_of: HashMap<&[u32], (usize, usize)> = HashMap::new();
        let mut tokens = 0;
        for (_, _, ids) in pending.iter() {
            place_of.entry(ids).or_insert_with(|| {
                distinct.push(ids);
                let place = (tokens, ids.len());
                tokens += ids.len();
                place
            });
        }
        if distinct.is_empty() {
            return;
        }
        let stride = self.columns.padded_columns();
        let logits = self.head_logits(&distinct);
        let overlap = self.models.manifest.manifest.encoder.overlap_tokens;
        for (index, (start, end), ids) in pending.iter() {
            let (first, length) = place_of[ids.as_slice()];
            let rows = &logits[first * stride..(first + length) * stride];
            let text = &mut texts[*index];
            let count = text.count;
            let mut mean = vec![0.0; count];
            for row in rows.chunks_exact(stride) {
                for (sum, value) in mean.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            for value in &mut mean {
                *value /= length as f32;
            }
            text.per_window.push((length, mean));
            // Where windows overlap, each token keeps the logits of the window
            // in which it stands further from the edge.
            let keep_from = if *start == 0 { 0 } else { overlap / 2 };
            for offset in keep_from..end - start {
                let row = &rows[(offset + 1) * stride..][..count];
                text.per_token[(start + offset) * count..][..count].copy_from_slice(row);
            }
        }
        pending.clear();
    }

    /// The logits of every head for each reading, as they are calibrated: windows
    /// and sentences combined, surface features added. For the training code, so
    /// that calibration sees exactly what judging sees.
    pub fn combined_logits(&mut self, readings: &[&Reading]) -> Vec<Vec<(&'static str, Vec<f32>)>> {
        let texts = self.logits(readings);
        readings.iter().zip(&texts).map(|(reading, text)| self.combine(reading, text)).collect()
    }

    fn combine(&self, reading: &Reading, text: &TextLogits) -> Vec<(&'static str, Vec<f32>)> {
        if text.per_window.is_empty() {
            return Vec::new();
        }
        let general = &self.models.general;
        let places = &self.places;
        // Advertising is judged by the whole, as its surface features are.
        let mut spam = text.any_window(range(places.spam, &general.spam));
        for (logit, extra) in spam.iter_mut().zip(general.spam.surface(&reading.features)) {
            *logit += extra;
        }
        let mut safeguarding = text.any_part(reading, range(places.safeguarding, &general.safeguarding));
        if let Some((look, _)) = text.second_look {
            for logit in &mut safeguarding {
                *logit = logit.max(look);
            }
        }
        let mut combined = vec![
            ("abuse", text.any_part(reading, range(places.abuse, &general.abuse))),
            ("spam", spam),
            ("safeguarding", safeguarding),
            ("polarity", text.whole(range(places.polarity, &general.polarity))),
        ];
        if let Some(codebook) = &self.models.codebook {
            let words = codebook.lexicon.logits(&reading.judged.text);
            let with_words = |mut logits: Vec<f32>, place: usize| {
                // The lexicon's columns begin where the codebook's heads do.
                for (logit, extra) in logits.iter_mut().zip(&words[place - places.themes..]) {
                    *logit += extra;
                }
                logits
            };
            let themes = text.any_window(range(places.themes, &codebook.themes));
            combined.push(("themes", with_words(themes, places.themes)));
            let whole = [
                ("stance", &codebook.stance, places.stance),
                ("attitude", &codebook.attitude, places.attitude),
                ("tone", &codebook.tone, places.tone),
                ("off_topic", &codebook.off_topic, places.off_topic),
            ];
            for (name, head, place) in whole {
                if let Some(head) = head {
                    combined.push((name, with_words(text.whole(range(place, head)), place)));
                }
            }
        }
        combined
    }

    /// The words that carry abuse, by the span head, as a token range.
    fn marked(&self, reading: &Reading, text: &TextLogits) -> Option<(usize, usize)> {
        let (head, column) = self.models.general.spans.as_ref().zip(self.places.spans)?;
        let logits = text.of_tokens(column);
        Carrier { tokens: &text.tokens, logits: &logits, sentences: &reading.sentences }.marked(head.mark_from)
    }

    fn signals(&self, reading: &Reading, text: &TextLogits) -> Signals {
        let mut signals = Signals::default();
        let combined = self.combine(reading, text);
        let logits = |name: &str| combined.iter().find(|(head, _)| *head == name).map(|(_, logits)| logits.as_slice());
        let general = &self.models.general;
        let marked = self.marked(reading, text);
        for (name, head, place) in [
            ("abuse", &general.abuse, self.places.abuse),
            ("spam", &general.spam, self.places.spam),
            ("safeguarding", &general.safeguarding, self.places.safeguarding),
        ] {
            if let Some(logits) = logits(name) {
                let marked = marked.filter(|_| name == "abuse");
                attributes(reading, text, head, place, logits, marked, &mut signals);
            }
        }
        signals.polarity =
            logits("polarity").and_then(|logits| distribution(&general.polarity, logits, Polarity::from_key));
        let Some(codebook) = &self.models.codebook else {
            return signals;
        };
        if let (Some(head), Some(logits)) = (&codebook.off_topic, logits("off_topic")) {
            for (label, probability) in head.labels.iter().zip(head.probabilities(logits)) {
                if let Some(attribute) = Attribute::from_key(label) {
                    signals.attributes.insert(attribute, Score { probability, span: None });
                }
            }
        }
        signals.stance = exclusive(codebook.stance.as_ref(), logits("stance"), Stance::from_key);
        signals.attitude = exclusive(codebook.attitude.as_ref(), logits("attitude"), Attitude::from_key);
        signals.tone = exclusive(codebook.tone.as_ref(), logits("tone"), Tone::from_key);
        let theme_logits = logits("themes").unwrap_or_default();
        let parts = SentenceWords::of(reading, text, &codebook.lexicon);
        for (label, probability) in codebook.themes.probabilities(theme_logits).into_iter().enumerate() {
            let Some(theme) = ThemeId::new(&codebook.themes.labels[label]) else { continue };
            let mut column = text.of_tokens(self.places.themes + label);
            parts.add_to(&mut column, label);
            let carrier = Carrier { tokens: &text.tokens, logits: &column, sentences: &reading.sentences };
            let part = carrier.sentences(codebook.themes.even_logit(label));
            let attitude = codebook.attitude.as_ref().zip(part).and_then(|(head, part)| {
                let mut logits = text.part(part, range(self.places.attitude, head));
                parts.add_mean(part, self.places.attitude - self.places.themes, &mut logits);
                distribution(head, &logits, Attitude::from_key)
            });
            let span = part.and_then(|part| original(reading, &carrier, part));
            signals.themes.push(ThemeScore { theme, score: Score { probability, span }, attitude });
        }
        signals
    }
}

/// What the words of each sentence add to a codebook's heads, so that a sentence is
/// scored as a text of its own would be.
struct SentenceWords {
    /// Token range of a sentence and its lexicon's logits.
    sentences: Vec<((usize, usize), Vec<f32>)>,
}

impl SentenceWords {
    fn of(reading: &Reading, text: &TextLogits, lexicon: &Lexicon) -> Self {
        let judged = &reading.judged.text;
        let carrier = Carrier { tokens: &text.tokens, logits: &[], sentences: &reading.sentences };
        let bytes: Vec<usize> = judged.char_indices().map(|(byte, _)| byte).chain([judged.len()]).collect();
        let slice = |span: Span| &judged[bytes[span.start.min(bytes.len() - 1)]..bytes[span.end.min(bytes.len() - 1)]];
        let sentences = carrier.sentence_tokens();
        let sentences = sentences
            .into_iter()
            .map(|range| (range, carrier.characters(range).map(|span| lexicon.logits(slice(span))).unwrap_or_default()))
            .collect();
        Self { sentences }
    }

    /// Adds to each token's logit what its sentence's words say.
    fn add_to(&self, tokens: &mut [f32], column: usize) {
        for ((start, end), logits) in &self.sentences {
            let extra = logits.get(column).copied().unwrap_or(0.0);
            tokens[*start..*end].iter_mut().for_each(|logit| *logit += extra);
        }
    }

    /// Adds the mean over the tokens of a part, from column `first` on.
    fn add_mean(&self, (start, end): (usize, usize), first: usize, logits: &mut [f32]) {
        let total = (end - start).max(1) as f32;
        for ((from, to), words) in &self.sentences {
            let share = (*to).min(end).saturating_sub((*from).max(start)) as f32 / total;
            for (logit, extra) in logits.iter_mut().zip(words.iter().skip(first)) {
                *logit += share * extra;
            }
        }
    }
}

/// Attributes of a multilabel head, each with the part of the text that carries it: `marked`,
/// where somebody has looked for it.
fn attributes(
    reading: &Reading,
    text: &TextLogits,
    head: &LinearHead,
    place: usize,
    logits: &[f32],
    marked: Option<(usize, usize)>,
    signals: &mut Signals,
) {
    for (label, probability) in head.probabilities(logits).into_iter().enumerate() {
        let Some(attribute) = Attribute::from_key(&head.labels[label]) else { continue };
        let column = text.of_tokens(place + label);
        let carrier = Carrier { tokens: &text.tokens, logits: &column, sentences: &reading.sentences };
        let part = if attribute == Attribute::Safeguarding {
            // Where the second look found it, that is the sentence to show.
            let looked = text.second_look.filter(|(look, _)| *look >= logits[label]);
            looked.map(|(_, range)| range).or_else(|| carrier.sentences(head.even_logit(label)))
        } else {
            marked.or_else(|| carrier.words())
        };
        let span = part.and_then(|part| original(reading, &carrier, part));
        signals.attributes.insert(attribute, Score { probability, span });
    }
}

fn range(place: usize, head: &LinearHead) -> std::ops::Range<usize> {
    place..place + head.labels.len()
}

fn original(reading: &Reading, carrier: &Carrier<'_>, part: (usize, usize)) -> Option<Span> {
    reading.judged.to_original(carrier.characters(part)?)
}

fn exclusive<L: Copy + PartialEq>(
    head: Option<&LinearHead>,
    logits: Option<&[f32]>,
    from_key: fn(&str) -> Option<L>,
) -> Option<Distribution<L>> {
    distribution(head?, logits?, from_key)
}

fn distribution<L: Copy + PartialEq>(
    head: &LinearHead,
    logits: &[f32],
    from_key: fn(&str) -> Option<L>,
) -> Option<Distribution<L>> {
    let entries = head
        .labels
        .iter()
        .zip(head.probabilities(logits))
        .filter_map(|(label, probability)| Some((from_key(label)?, probability)))
        .collect();
    Distribution::new(entries)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::reading::{JudgedText, Language, SurfaceFeatures};
    use crate::engine::kernels::Path as Instructions;
    use crate::engine::trained;

    fn models(path: Instructions) -> Arc<Models> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("config/mentoring/heads");
        let active = trained::active(&folder).unwrap().unwrap();
        let heads = trained::read(&folder.join(active)).unwrap();
        Models::load_with(&root.join("models"), Some(&heads), path).unwrap()
    }

    /// A reading whose judged text is the text itself, in sentences that end with a full stop.
    fn reading(text: &str) -> Reading {
        let count = text.chars().count();
        let mut sentences = Vec::new();
        let mut start = 0;
        for sentence in text.split_inclusive('.') {
            let end = start + sentence.chars().count();
            sentences.push(Span { start, end });
            start = end;
        }
        Reading {
            judged: JudgedText {
                text: text.to_owned(),
                origin: (0..count).map(|at| Span { start: at, end: at + 1 }).collect(),
            },
            sentences,
            language: Language::new("en"),
            pii: Vec::new(),
            features: SurfaceFeatures(vec![0.0; SurfaceFeatures::NAMES.len()]),
            link_count: 0,
            char_count: count,
            word_count: text.split_whitespace().count(),
            blank: text.trim().is_empty(),
        }
    }

    /// The logits that `PyTorch` gave for invented texts, stored by the training code.
    fn reference() -> Vec<serde_json::Value> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/reference.json");
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        value["texts"].as_array().unwrap().clone()
    }

    #[test]
    fn every_instruction_path_gives_the_stored_logits_of_pytorch() {
        let reference = reference();
        assert!(reference.len() >= 20);
        let readings: Vec<Reading> = reference.iter().map(|entry| reading(entry["text"].as_str().unwrap())).collect();
        let readings: Vec<&Reading> = readings.iter().collect();
        for path in Instructions::available() {
            let mut scorer = Scorer::new(models(path));
            let texts = scorer.logits(&readings);
            let places = [
                ("abuse", scorer.places.abuse),
                ("spam", scorer.places.spam),
                ("safeguarding", scorer.places.safeguarding),
                ("polarity", scorer.places.polarity),
            ];
            for (entry, text) in reference.iter().zip(&texts) {
                let ids: Vec<u64> = entry["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
                if ids.len() > 128 {
                    continue; // read in windows here, in one piece there
                }
                let own: Vec<u64> = text.tokens.iter().map(|token| u64::from(token.id)).collect();
                assert_eq!(own, ids[1..ids.len() - 1], "word pieces of {}", entry["text"]);
                for (head, place) in places {
                    for (label, expected) in entry["logits"][head].as_array().unwrap().iter().enumerate() {
                        let found = f64::from(text.per_window[0].1[place + label]);
                        let expected = expected.as_f64().unwrap();
                        assert!((found - expected).abs() < 1e-4, "{path:?} {head}[{label}]: {found}, not {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_comment_scores_the_same_bits_alone_and_among_others() {
        let mut scorer = Scorer::new(models(Instructions::fastest()));
        let long = "The bus was late again and nobody told us why. ".repeat(60);
        let texts = ["Mentors matter.", "I never had one, and I turned out fine.", "👍", &long, "No."];
        let readings: Vec<Reading> = texts.iter().map(|text| reading(text)).collect();
        let together = scorer.score(&readings.iter().collect::<Vec<_>>());
        for (reading, among) in readings.iter().zip(&together) {
            assert_eq!(scorer.score(&[reading])[0], *among);
        }
    }

    #[test]
    fn a_long_text_is_read_to_its_end() {
        let mut scorer = Scorer::new(models(Instructions::fastest()));
        let harmless = "The meeting is in the town hall and there will be tea. ".repeat(80);
        let plain = reading(&harmless);
        let ends_badly = reading(&format!("{harmless} You are all disgusting idiots and I hope you die."));
        let signals = scorer.score(&[&plain, &ends_badly]);
        let toxic = |at: usize| signals[at].attributes[&Attribute::Toxic].probability.get();
        assert!(toxic(1) > toxic(0) + 0.2, "{} then {}", toxic(0), toxic(1));
    }

    /// Sentences of 3,000 words and more, none of them about anything but a meeting.
    fn minutes() -> Vec<String> {
        let who = ["The chair", "A resident", "The treasurer", "Our ward councillor", "The youth worker"];
        let what = ["spoke about the new timetable", "thanked the volunteers", "asked for a larger hall"];
        let when = ["on Monday evening", "after the break", "before the vote", "at the end"];
        (0..360).map(|at| format!("{} {} {}, item {at}. ", who[at % 5], what[at / 5 % 3], when[at / 15 % 4])).collect()
    }

    #[test]
    fn a_disclosure_is_found_at_the_places_of_a_text_of_3000_words_that_were_tried() {
        let disclosure = "My stepdad hits me when mum is at work and I am scared to go home. ";
        let models = models(Instructions::fastest());
        let escalate = models.manifest.operating_point("safeguarding", "escalate").unwrap();
        let mut scorer = Scorer::new(models);
        let sentences = minutes();
        assert!(sentences.concat().split_whitespace().count() >= 3_000);
        let mut hidden = |place: Option<usize>| {
            let mut all = sentences.clone();
            if let Some(place) = place {
                all.insert(place, disclosure.to_owned());
            }
            let text = all.concat();
            let score = scorer.score(&[&reading(&text)])[0].attributes[&Attribute::Safeguarding];
            (score.probability.get(), score.span.map(|span| span.slice(&text).to_owned()).unwrap_or_default())
        };
        let (without, _) = hidden(None);
        assert!(without < escalate, "{without}");
        // The edges of the text, places where its neighbours' means are higher than its own, and a window's edge.
        for place in [0, 1, 56, 122, 360] {
            let (probability, carried_by) = hidden(Some(place));
            assert!(probability >= escalate, "at {place}: {probability}");
            assert!(carried_by.contains("My stepdad hits me"), "at {place}: {carried_by}");
        }
    }

    #[test]
    fn opinion_on_a_long_text_is_that_of_its_larger_part() {
        let mut scorer = Scorer::new(models(Instructions::fastest()));
        let praise = "This is wonderful and we love every part of it, thank you so much. ";
        let complaint = "This is awful and we hate every part of it, what a waste. ";
        let mut likely = |text: String| {
            let polarity = scorer.score(&[&reading(&text)])[0].polarity.clone().unwrap();
            polarity.of(Polarity::Positive).get() - polarity.of(Polarity::Negative).get()
        };
        let mostly_glad = likely(format!("{}{}", praise.repeat(60), complaint.repeat(6)));
        let mostly_cross = likely(format!("{}{}", praise.repeat(6), complaint.repeat(60)));
        assert!(mostly_glad > 0.3 && mostly_cross < -0.3, "{mostly_glad}, {mostly_cross}");
    }

    #[test]
    fn a_blank_text_has_no_signals() {
        let mut scorer = Scorer::new(models(Instructions::fastest()));
        assert_eq!(scorer.score(&[&reading("  ")])[0], Signals::default());
    }
}
