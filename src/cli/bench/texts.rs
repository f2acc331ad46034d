//! Invented comments of wanted lengths, and advertisements.

use crate::assess::read::{ReadHints, read};
use crate::engine::Scorer;

/// Distinct invented comments of about `words` words.
pub fn texts(count: usize, words: usize, seed: usize) -> Vec<String> {
    const WORDS: [&str; 48] = [
        "mentor",
        "school",
        "council",
        "young",
        "people",
        "the",
        "a",
        "every",
        "week",
        "listened",
        "because",
        "nobody",
        "helped",
        "with",
        "my",
        "son",
        "and",
        "our",
        "club",
        "funding",
        "was",
        "cut",
        "training",
        "matters",
        "they",
        "should",
        "have",
        "asked",
        "us",
        "before",
        "it",
        "works",
        "when",
        "someone",
        "cares",
        "buddy",
        "scheme",
        "teacher",
        "trusted",
        "friends",
        "not",
        "forms",
        "confidence",
        "grew",
        "after",
        "months",
        "of",
        "talking",
    ];
    let mut state = seed as u32 ^ 0x9E37_79B9;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize
    };
    (0..count)
        .map(|_| {
            let mut text = String::new();
            for at in 0..words {
                text.push_str(WORDS[next() % WORDS.len()]);
                text.push_str(if at + 1 == words || at % 14 == 13 { ". " } else { " " });
            }
            text
        })
        .collect()
}

/// Invented advertisements, each a little different, as a robot posts them.
pub fn advertisements(count: usize, seed: usize) -> Vec<String> {
    const WHAT: [&str; 4] = ["replica watches", "casino bonus", "crypto signals", "backlinks"];
    const HOW: [&str; 4] = ["CHEAP", "100% guaranteed", "limited offer", "no deposit needed"];
    (seed * count..(seed + 1) * count)
        .map(|at| {
            let (what, how) = (WHAT[at % 4], HOW[at / 4 % 4]);
            format!("BUY {what} now!!! {how}, earn ${at} a day, click http://{at}.best-{at}.example/win WhatsApp +44 7700 900123")
        })
        .collect()
}

/// Lengths in tokens as comments have them: log-normal with median 42, between 8 and 128.
pub fn mixed_lengths(count: usize, seed: usize) -> Vec<usize> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    (0..count)
        .map(|_| {
            // Box and Muller's normal from two even numbers.
            let normal = (-2.0 * next().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * next()).cos();
            (42f64.ln() + 0.6 * normal).exp().round().clamp(8.0, 128.0) as usize
        })
        .collect()
}

/// Token ids of exactly these lengths, of invented comments, `[CLS]` and `[SEP]` included.
pub fn sequences(scorer: &Scorer, lengths: &[usize], seed: usize) -> Vec<Vec<u32>> {
    let text = texts(lengths.len(), 160, seed);
    let sequence = |(text, length): (&String, &usize)| {
        let mut ids = scorer.window_ids(&read(text, ReadHints::default())).swap_remove(0);
        let last = ids.pop();
        ids.truncate(length - 1);
        ids.extend(last);
        ids
    };
    text.iter().zip(lengths).map(sequence).collect()
}
