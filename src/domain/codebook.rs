//! The written list of themes that comments are coded by.

use super::comment::text_id;
use super::opinion::Attitude;
use super::score::{Probability, Score};
use std::fmt;

text_id!(
    /// A theme's stable key; never reused, never changes meaning.
    ThemeId
);

/// One theme with what a coder needs to apply it.
#[derive(Clone, Debug, PartialEq)]
pub struct Theme {
    /// Stable key.
    pub id: ThemeId,
    /// What readers see.
    pub label: String,
    /// One headline theme or a secondary one.
    pub headline: bool,
    /// The theme above it.
    pub parent: Option<ThemeId>,
    /// What it means.
    pub definition: String,
    /// What counts.
    pub includes: Vec<String>,
    /// What does not.
    pub excludes: Vec<String>,
    /// Made-up examples.
    pub examples: Vec<String>,
    /// A comment is tagged from this probability upward.
    pub tag_from: Probability,
}

/// The pair of themes that stance is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StancePair {
    /// Preferred by `prefers_structured`.
    pub structured: ThemeId,
    /// Preferred by `prefers_organic`.
    pub organic: ThemeId,
}

/// A versioned list of themes.
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    /// Which codebook's heads serve it (`mentoring`).
    pub id: String,
    /// Version as written by its author.
    pub version: String,
    /// In the author's order.
    pub themes: Vec<Theme>,
    /// The pair that stance is about, if any.
    pub stance: Option<StancePair>,
}

impl Codebook {
    /// The theme with this key.
    pub fn theme(&self, id: &ThemeId) -> Option<&Theme> {
        self.themes.iter().find(|theme| theme.id == *id)
    }
}

/// A theme applied to a comment.
#[derive(Clone, Debug, PartialEq)]
pub struct ThemeTag {
    /// Which theme.
    pub theme: ThemeId,
    /// How sure, and the characters of the original text that carry it.
    pub score: Score,
    /// Attitude of the carrying part.
    pub position: Option<(Attitude, Probability)>,
}
