//! Everything read off a text before the encoder, in one call.
//!
//! [`read`] owns the order of the steps; each step lives beside it.

use unicode_segmentation::UnicodeSegmentation;

use crate::domain::reading::{Reading, SurfaceFeatures};

use super::{language, links, normalise, pii, sentences};

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
    let links = links::find(text);
    let normalised = normalise::normalise(text, &links);
    Reading {
        sentences: sentences::split(&normalised.judged.text),
        language: language::detect(&normalised.written, hint),
        pii: pii::find(text, &links),
        features: SurfaceFeatures::default(),
        link_count: links.len(),
        char_count: text.chars().count(),
        word_count: text.unicode_words().count(),
        blank: normalised.judged.text.is_empty(),
        judged: normalised.judged,
    }
}
