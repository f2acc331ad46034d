//! The written standard: which score asks for which verdict.

use super::decision::{ReasonKey, Verdict};
use super::score::{Attribute, Probability};
use std::path::PathBuf;

/// Fires when the attribute's probability is at least `from`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique in the policy.
    pub id: String,
    /// What it looks at.
    pub attribute: Attribute,
    /// The number, from the models' operating point or typed by a person.
    pub from: Probability,
    /// Where the number came from.
    pub origin: ThresholdOrigin,
    /// What it asks for.
    pub verdict: Verdict,
    /// What readers of the decision see.
    pub reason: ReasonKey,
}

/// Where a rule's number came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThresholdOrigin {
    /// Derived by a command and kept in the models' manifest under this name.
    OperatingPoint(String),
    /// Typed into the policy by a person.
    Person,
}

/// What to do with a language that the models were not measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsupportedLanguage {
    /// A person reads it.
    Hold,
    /// It passes without model judgements.
    Accept,
}

/// A model of the operator's own. What it says stands beside our attributes, never in
/// their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraScorer {
    /// Unique in the policy; the second part of its attributes' keys.
    pub name: String,
    /// Where its files are.
    pub folder: PathBuf,
    /// One for each of the model's outputs, in its order; `None` is not kept.
    pub attributes: Vec<Option<Attribute>>,
    /// Hex SHA-256 over all of its files.
    pub sha256: String,
}

/// All rules of a consultation. None firing accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// In file order; the order cannot matter.
    pub rules: Vec<Rule>,
    /// Models of the operator's own, which rules may name too.
    pub extra_scorers: Vec<ExtraScorer>,
    /// For languages outside the models' list.
    pub unsupported_language: UnsupportedLanguage,
    /// Texts above this many characters are held with reason `too_long` (they are still read in full).
    pub hold_above_chars: usize,
    /// Links from which a comment counts as a link farm, whatever its language.
    pub link_farm_from: usize,
}
