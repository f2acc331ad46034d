//! Everything that shapes a judgement, under one version.

use std::fmt;
use std::sync::Arc;

use super::codebook::Codebook;
use super::comment::ConsultationId;
use super::heads::TrainedHeads;
use super::policy::Policy;

/// A hash over models, policy, thresholds, codebook and judging code.
/// The same version gives the same answer to the same text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipelineVersion(pub String);

impl fmt::Display for PipelineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One question put to the public.
#[derive(Clone, Debug, PartialEq)]
pub struct Consultation {
    /// Stable key.
    pub id: ConsultationId,
    /// What readers see.
    pub title: String,
    /// The question as it was put.
    pub question: String,
    /// Who runs it.
    pub organisation: String,
    /// IANA name; days in reports are days in this zone.
    pub time_zone: String,
    /// Opening time, if stated.
    pub opens_at: Option<jiff::Timestamp>,
    /// Closing time, if stated; later comments are excluded as `late`.
    pub closes_at: Option<jiff::Timestamp>,
    /// Who must look at a possible disclosure of harm; without one every start says so.
    pub safeguarding_contact: Option<String>,
}

/// Codebook, policy, heads and thresholds of one consultation.
#[derive(Clone, Debug, PartialEq)]
pub struct Rulebook {
    /// The question.
    pub consultation: Consultation,
    /// The written standard.
    pub policy: Policy,
    /// The list of themes; `None` judges a bare text.
    pub codebook: Option<Codebook>,
    /// What was trained for the codebook; always there where a codebook is.
    pub heads: Option<Arc<TrainedHeads>>,
    /// Languages (ISO 639-1) that the models were measured on.
    pub languages: Vec<String>,
    /// Version of the models.
    pub model_version: String,
    /// Probability from which `off_topic` is shown to readers.
    pub off_topic_from: Option<super::score::Probability>,
    /// Whether plain spam is settled without the encoder.
    pub first_stage: bool,
    /// One hash over all of it.
    pub version: PipelineVersion,
}

/// What a rulebook is made of: the SHA-256 of each part as hex, so that two can be told apart by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulebookParts {
    /// Version of the judging code, not a hash.
    pub judging_code: String,
    /// The policy's file.
    pub policy: String,
    /// The codebook's file; none where bare texts are judged.
    pub codebook: Option<String>,
    /// The consultation's own heads, where it has some.
    pub heads: Option<String>,
    /// The encoder's weights.
    pub encoder: String,
    /// The models' manifest: the encoder, the heads of every consultation, operating points.
    pub models: String,
    /// The models' version as people call it.
    pub model_version: String,
}

impl RulebookParts {
    /// The parts in which two rulebooks differ, as words for a person.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let encoder = self.encoder != other.encoder;
        [
            ("policy", self.policy != other.policy),
            ("codebook", self.codebook != other.codebook),
            ("heads", self.heads != other.heads),
            ("encoder", encoder),
            // With another encoder the manifest is another one anyway.
            ("models' manifest (general heads, operating points)", !encoder && self.models != other.models),
            ("judging code", self.judging_code != other.judging_code),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

/// A rulebook's own small files, byte for byte, so that it can be written back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulebookSnapshot {
    /// Whose.
    pub consultation: ConsultationId,
    /// The version that they make with the models of `parts`.
    pub version: PipelineVersion,
    /// What it is made of.
    pub parts: RulebookParts,
    /// Paths inside the consultation's folder (`policy.toml`, `heads/1/...`) and contents, by path.
    pub files: std::collections::BTreeMap<String, Vec<u8>>,
}
