//! Probabilities, spans and the signals that an engine gives for one comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::codebook::ThemeId;
use super::opinion::{Attitude, Polarity, Stance, Tone};

/// A calibrated probability: finite and within 0 to 1, checked once when made.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Probability(f32);

impl Probability {
    /// Certainly not.
    pub const ZERO: Self = Self(0.0);
    /// Certainly.
    pub const ONE: Self = Self(1.0);

    /// `None` unless `value` is finite and within 0 to 1.
    pub fn new(value: f32) -> Option<Self> {
        (value.is_finite() && (0.0..=1.0).contains(&value)).then_some(Self(value))
    }

    /// The logistic function of `logit`; extreme and infinite logits saturate,
    /// `NaN` is refused.
    pub fn from_logit(logit: f32) -> Option<Self> {
        if logit.is_nan() {
            return None;
        }
        Self::new((1.0 / (1.0 + (-f64::from(logit)).exp())) as f32)
    }

    /// The number, 0 to 1.
    pub fn get(self) -> f32 {
        self.0
    }

    /// The larger of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if other.0 > self.0 { other } else { self }
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.0)
    }
}

/// A half-open range `[start, end)` of Unicode characters of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First character.
    pub start: usize,
    /// One past the last character; never before `start`.
    pub end: usize,
}

impl Span {
    /// The part of `text` that the span covers; empty when it lies outside.
    pub fn slice(self, text: &str) -> &str {
        let byte_at = |position: usize| {
            text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(position).unwrap_or(text.len())
        };
        &text[byte_at(self.start)..byte_at(self.end.max(self.start))]
    }

    /// Whether the two share a character.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A named property of a comment; how likely a reader would see it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// Rude, disrespectful or likely to drive people out of a discussion.
    Toxic,
    /// Extremely hateful or aggressive.
    Severe,
    /// Insulting toward a person or a group.
    Insult,
    /// A wish or announcement of harm.
    Threat,
    /// Hate toward people because of who they are.
    IdentityAttack,
    /// Swearing, whatever its target.
    Profanity,
    /// Sexual content.
    Sexual,
    /// Posted to advertise or to plant a link or a name.
    Spam,
    /// A possible disclosure of harm or risk to a person.
    Safeguarding,
    /// Not about the consultation's subject.
    OffTopic,
    /// What a model of the operator's own says, under its whole key `extra.<scorer>.<label>`.
    Extra(&'static str),
}

impl Attribute {
    /// Every attribute of ours, in the order of the published contract.
    pub const ALL: [Self; 10] = [
        Self::Toxic,
        Self::Severe,
        Self::Insult,
        Self::Threat,
        Self::IdentityAttack,
        Self::Profanity,
        Self::Sexual,
        Self::Spam,
        Self::Safeguarding,
        Self::OffTopic,
    ];

    /// The stable key used in files and messages.
    pub fn key(self) -> &'static str {
        match self {
            Self::Toxic => "toxic",
            Self::Severe => "severe",
            Self::Insult => "insult",
            Self::Threat => "threat",
            Self::IdentityAttack => "identity_attack",
            Self::Profanity => "profanity",
            Self::Sexual => "sexual",
            Self::Spam => "spam",
            Self::Safeguarding => "safeguarding",
            Self::OffTopic => "off_topic",
            Self::Extra(key) => key,
        }
    }

    /// The attribute with this key, which may be that of an extra scorer.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attribute| attribute.key() == key).or_else(|| Self::extra(key))
    }

    /// `extra.<scorer>.<label>`, both of lower-case letters, digits, `_` and `-`.
    fn extra(key: &str) -> Option<Self> {
        let (scorer, label) = key.strip_prefix("extra.")?.split_once('.')?;
        if !is_extra_name(scorer) || !is_extra_name(label) {
            return None;
        }
        // An attribute is a plain value that is copied everywhere, so its key lives as long as
        // the process. There are as many as the policies name labels: a handful.
        let mut known = EXTRA_KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = known.get(key).copied().unwrap_or_else(|| {
            let key: &'static str = Box::leak(key.to_owned().into_boxed_str());
            known.insert(key);
            key
        });
        Some(Self::Extra(key))
    }
}

/// Keys of extra attributes that were named so far.
static EXTRA_KEYS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Whether `name` may stand in the key of an extra attribute: lower-case letters, digits, `_` and `-`.
pub fn is_extra_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// How likely, and which part of the original text carries it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Calibrated.
    pub probability: Probability,
    /// Characters of the original text; `None` when no part stands out.
    pub span: Option<Span>,
}

/// One theme's score, with the attitude of the part that carries it.
#[derive(Clone, Debug, PartialEq)]
pub struct ThemeScore {
    /// Which theme.
    pub theme: ThemeId,
    /// How likely the theme is raised, and where.
    pub score: Score,
    /// Attitude of the carrying part, where the codebook trains an attitude head.
    pub attitude: Option<Distribution<Attitude>>,
}

/// Probabilities over exclusive labels; they sum to one.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution<L>(Vec<(L, Probability)>);

impl<L: Copy + PartialEq> Distribution<L> {
    /// `None` when `entries` is empty.
    pub fn new(entries: Vec<(L, Probability)>) -> Option<Self> {
        (!entries.is_empty()).then_some(Self(entries))
    }

    /// The likeliest label; the first of equals.
    pub fn top(&self) -> (L, Probability) {
        let mut best = self.0[0];
        for &entry in &self.0[1..] {
            if entry.1 > best.1 {
                best = entry;
            }
        }
        best
    }

    /// Every label with its probability, in the head's order.
    pub fn entries(&self) -> &[(L, Probability)] {
        &self.0
    }

    /// The probability of one label; zero when the head does not know it.
    pub fn of(&self, label: L) -> Probability {
        self.0.iter().find(|(known, _)| *known == label).map_or(Probability::ZERO, |entry| entry.1)
    }
}

/// All that an engine says about one comment. It decides nothing; an absent
/// score means unknown, never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// Attribute scores that the models gave.
    pub attributes: BTreeMap<Attribute, Score>,
    /// Theme scores of the consultation's codebook, in its order.
    pub themes: Vec<ThemeScore>,
    /// Over the codebook's pair of themes.
    pub stance: Option<Distribution<Stance>>,
    /// Attitude to the consultation's subject.
    pub attitude: Option<Distribution<Attitude>>,
    /// General mood of the text, subject or not.
    pub polarity: Option<Distribution<Polarity>>,
    /// How it is said.
    pub tone: Option<Distribution<Tone>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_is_finite_and_within_bounds() {
        for bad in [f32::NAN, f32::INFINITY, -0.1, 1.1] {
            assert_eq!(Probability::new(bad), None);
        }
        assert_eq!(Probability::from_logit(f32::INFINITY), Some(Probability::ONE));
        assert_eq!(Probability::from_logit(-1e30), Some(Probability::ZERO));
        assert_eq!(Probability::from_logit(f32::NAN), None);
    }

    #[test]
    fn a_span_counts_characters_and_not_bytes() {
        let text = "né 👍 ok";
        assert_eq!(Span { start: 3, end: 4 }.slice(text), "👍");
        assert_eq!(Span { start: 5, end: 99 }.slice(text), "ok");
        assert_eq!(Span { start: 50, end: 60 }.slice(text), "");
    }

    #[test]
    fn an_extra_attribute_is_known_by_its_key_and_no_other_word_is() {
        let first = Attribute::from_key("extra.own-model.hostile").unwrap();
        assert_eq!(
            (first.key(), Attribute::from_key(&String::from(first.key()))),
            ("extra.own-model.hostile", Some(first))
        );
        assert!(Attribute::Safeguarding < first, "they stand behind ours");
        for wrong in ["extra.own", "extra..hostile", "extra.own.", "extra.own.a.b", "extra.Own.hostile", "own.hostile"]
        {
            assert_eq!(Attribute::from_key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_first_of_equal_labels_wins() {
        let half = Probability::new(0.5).unwrap();
        let both = Distribution::new(vec![(Stance::Both, half), (Stance::Neither, half)]).unwrap();
        assert_eq!(both.top().0, Stance::Both);
    }
}
