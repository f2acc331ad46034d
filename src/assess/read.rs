//! Everything read off a text before the encoder, in one call.
//!
//! [`read`] owns the order of the steps; each step lives beside it.

use crate::domain::reading::{JudgedText, Reading, SurfaceFeatures};
use crate::domain::score::Span;

use super::{language, pii};

/// What is known about a text from outside it.
#[derive(Clone, Copy, Debug)]
pub struct ReadHints<'a> {
    /// The language that the source declares; only breaks ties.
    pub language: Option<&'a str>,
    /// The consultation's language, for texts too short to tell.
    pub default_language: &'a str,
}

impl Default for ReadHints<'_> {
    fn default() -> Self {
        Self {
            language: None,
            default_language: "en",
        }
    }
}

/// Reads one text. Never fails: bad input is data here.
pub fn read(text: &str, hint: ReadHints<'_>) -> Reading {
    let origin: Vec<Span> = (0..text.chars().count())
        .map(|start| Span {
            start,
            end: start + 1,
        })
        .collect();
    let char_count = origin.len();
    Reading {
        judged: JudgedText {
            text: text.to_owned(),
            origin,
        },
        sentences: vec![Span {
            start: 0,
            end: char_count,
        }],
        language: language::detect(text, hint),
        pii: pii::find(text),
        features: SurfaceFeatures::default(),
        link_count: 0,
        char_count,
        word_count: text.split_whitespace().count(),
        blank: text.trim().is_empty(),
    }
}
