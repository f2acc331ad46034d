//! The whole judgement of one comment.

use std::collections::BTreeMap;

use super::codebook::ThemeTag;
use super::decision::{Reason, Verdict};
use super::opinion::{Attitude, Polarity, Stance, Tone};
use super::reading::{Language, Pii};
use super::rulebook::PipelineVersion;
use super::score::{Attribute, Distribution, Probability};

/// Attitude where a codebook gives a subject, polarity where none does.
#[derive(Clone, Debug, PartialEq)]
pub enum Sentiment {
    /// To the consultation's subject.
    Attitude(Distribution<Attitude>),
    /// General mood.
    Polarity(Distribution<Polarity>),
}

/// The judgement of one comment under one rulebook.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// The strictest of the reasons' verdicts; accept when there is none.
    pub verdict: Verdict,
    /// Strictest first.
    pub reasons: Vec<Reason>,
    /// What the models gave; an attribute that they did not give is absent.
    pub attributes: BTreeMap<Attribute, Probability>,
    /// `None` where the language is not one that the models were measured on.
    pub themes: Option<Vec<ThemeTag>>,
    /// Over the codebook's pair.
    pub stance: Option<(Stance, Probability)>,
    /// Attitude or polarity.
    pub sentiment: Option<Sentiment>,
    /// How it is said.
    pub tone: Option<(Tone, Probability)>,
    /// Told from the text.
    pub language: Language,
    /// Personal data in the original text.
    pub pii: Vec<Pii>,
    /// Words of the original text.
    pub word_count: usize,
    /// What judged it.
    pub pipeline_version: PipelineVersion,
}

impl Assessment {
    /// A verdict and nothing behind it, for doubles of a judge: no reason, no score, no theme, in English.
    pub fn bare(verdict: Verdict, pipeline_version: PipelineVersion) -> Self {
        Self {
            verdict,
            reasons: Vec::new(),
            attributes: BTreeMap::new(),
            themes: Some(Vec::new()),
            stance: None,
            sentiment: None,
            tone: None,
            language: Language::new("en"),
            pii: Vec::new(),
            word_count: 1,
            pipeline_version,
        }
    }

    /// Whether readers should see it as off topic.
    pub fn is_off_topic(&self) -> bool {
        self.reasons.iter().any(|reason| reason.key == super::decision::ReasonKey::OFF_TOPIC)
    }
}
