//! What a head sees of the words themselves: n-grams with tf-idf weights.
//!
//! An encoder's mean vector blurs single words, and themes often hang on one
//! ("referral", "buddy"). Runs of one and two words and of four letters stand
//! beside the vector, weighted as usual (Salton and Buckley, "Term-weighting
//! approaches in automatic text retrieval", 1988: sublinear counts, smoothed
//! inverse document frequency, unit length). N-grams are known by 32-bit hashes only.

use std::collections::BTreeMap;

use crate::domain::heads::GramList;

/// N-grams of each kind that are kept, the most frequent first.
const MOST: usize = 8192;

/// An n-gram of fewer texts teaches nothing, and may be a name.
const FEWEST_TEXTS: [u32; 2] = [2, 3];

/// Letters in a run: three to five were no better on comments and cost three times as much.
const RUN: usize = 4;

/// FNV-1a (Fowler, Noll and Vo), 32 bits.
fn hash(seed: u32, bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5 ^ seed, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Hashes of all n-grams of a text with repeats: of words, and of letters.
fn grams(text: &str) -> [Vec<u32>; 2] {
    let lower = text.to_lowercase();
    let mut words = Vec::new();
    let mut before: Option<&str> = None;
    let plain = |c: char| !(c.is_alphanumeric() || c == '\'' || c == '’');
    for word in lower.split(plain) {
        let word = word.trim_matches(['\'', '’']);
        if word.is_empty() {
            continue;
        }
        // An apostrophe is typed in three ways, or left out.
        let letters = |word: &str| word.replace(['\'', '’'], "").into_bytes().into_iter();
        words.push(hash(1, letters(word)));
        if let Some(before) = before {
            words.push(hash(2, letters(before).chain([b' ']).chain(letters(word))));
        }
        before = Some(word);
    }
    let mut runs = Vec::new();
    let mut ends: Vec<usize> = Vec::new();
    for word in lower.split_whitespace() {
        let padded = format!(" {word} ");
        ends.clear();
        ends.extend(padded.char_indices().map(|(at, _)| at));
        ends.push(padded.len());
        for window in ends.windows(ends.len().min(RUN + 1)) {
            runs.push(hash(3, padded[window[0]..window[window.len() - 1]].bytes()));
        }
    }
    [words, runs]
}

/// How often each n-gram occurs in one text.
fn counted(mut hashes: Vec<u32>) -> Vec<(u32, u32)> {
    hashes.sort_unstable();
    hashes.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
}

/// The two lists of n-grams, words and letters, learnt from texts.
pub fn learn_grams<'t>(texts: impl Iterator<Item = &'t str>) -> [GramList; 2] {
    let mut seen: [BTreeMap<u32, u32>; 2] = [BTreeMap::new(), BTreeMap::new()];
    let mut count = 0_u32;
    for text in texts {
        count += 1;
        for (seen, grams) in seen.iter_mut().zip(grams(text)) {
            for (gram, _) in counted(grams) {
                *seen.entry(gram).or_default() += 1;
            }
        }
    }
    let [words, letters] = seen;
    [(words, FEWEST_TEXTS[0]), (letters, FEWEST_TEXTS[1])].map(|(seen, fewest)| {
        // Of a handful of examples hardly a word stands twice.
        let fewest = if count < 200 { 1 } else { fewest };
        let mut kept: Vec<(u32, u32)> = seen.into_iter().filter(|(_, texts)| *texts >= fewest).collect();
        kept.sort_by_key(|(hash, texts)| (std::cmp::Reverse(*texts), *hash));
        kept.truncate(MOST);
        kept.sort_unstable();
        let idf = |texts: u32| (((1 + count) as f32) / ((1 + texts) as f32)).ln() + 1.0;
        GramList {
            hashes: kept.iter().map(|(hash, _)| *hash).collect(),
            idf: kept.iter().map(|(_, texts)| idf(*texts)).collect(),
        }
    })
}

/// The weights of a text's known n-grams: row, weight. Each kind has unit length;
/// rows of letters follow those of words.
pub fn weights(words: &GramList, letters: &GramList, text: &str) -> Vec<(u32, f32)> {
    let mut found = Vec::new();
    let mut first = 0;
    for (list, grams) in [words, letters].into_iter().zip(grams(text)) {
        let from = found.len();
        for (gram, count) in counted(grams) {
            if let Ok(row) = list.hashes.binary_search(&gram) {
                found.push((first + row as u32, (1.0 + (count as f32).ln()) * list.idf[row]));
            }
        }
        let length = found[from..].iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt().max(1e-9);
        for (_, weight) in &mut found[from..] {
            *weight /= length;
        }
        first += list.hashes.len() as u32;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_and_apostrophes_are_not() {
        assert_eq!(grams("Don't stop")[0], grams("dont STOP")[0]);
        assert_ne!(grams("stop")[0], grams("stops")[0]);
        assert_eq!(grams("one two three")[0].len(), 5);
        assert!(grams(" \n ").iter().all(Vec::is_empty));
    }

    #[test]
    fn runs_of_letters_keep_to_characters() {
        // " née " has five characters: two runs of four. " I " has three: one run of all.
        assert_eq!(grams("née")[1].len(), 2);
        assert_eq!(grams("I")[1].len(), 1);
    }

    #[test]
    fn each_kind_has_unit_length_and_unknown_words_have_no_weight() {
        let texts = ["the buddy scheme", "a buddy at school", "the school bus"];
        let [words, letters] = learn_grams(texts.into_iter());
        let weights = |text: &str| super::weights(&words, &letters, text);
        let first = words.hashes.len() as u32;
        for text in texts {
            let length = |is_word: bool| -> f32 {
                weights(text).iter().filter(|(row, _)| (*row < first) == is_word).map(|(_, w)| w * w).sum()
            };
            assert!((length(true) - 1.0).abs() < 1e-5 && (length(false) - 1.0).abs() < 1e-5);
        }
        assert!(weights("zzz qqq").is_empty());
        assert!(weights("buddy")[0].1 > 0.0);
    }

    #[test]
    fn a_rarer_word_weighs_more() {
        let [words, letters] = learn_grams(["the bus", "the buddy", "the form"].into_iter());
        let mut weights = weights(&words, &letters, "the buddy");
        weights.retain(|(row, _)| (*row as usize) < words.hashes.len());
        let the = weights.iter().find(|(row, _)| words.hashes[*row as usize] == grams("the")[0][0]).unwrap().1;
        let buddy = weights.iter().find(|(row, _)| words.hashes[*row as usize] == grams("buddy")[0][0]).unwrap().1;
        assert!(buddy > the);
    }
}
