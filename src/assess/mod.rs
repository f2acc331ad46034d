//! Judgement: pure functions over domain values. No I/O, no clock, no randomness.
//!
//! [`assess`] is the whole judgement on one screen; each step it calls is one file.

pub mod compare;
pub mod language;
pub mod links;
pub mod moderation;
pub mod opinion;
pub mod pii;
pub mod read;
pub mod redact;
pub mod repeats;
pub mod report;
pub mod self_harm;
pub mod sentences;
pub mod tagging;

mod disguise;
mod emoji;
mod features;
mod lookalikes;
mod markup;
mod names;
mod normalise;
mod schools;
mod scripts;
mod shapes;
mod vocabulary;

use std::collections::BTreeMap;

use crate::domain::assessment::Assessment;
use crate::domain::decision::Verdict;
use crate::domain::reading::Reading;
use crate::domain::rulebook::Rulebook;
use crate::domain::score::{Attribute, Probability, Signals};

/// Judges one comment. Cannot fail: what is missing becomes a reason, not an error.
///
/// Same reading, same signals, same rulebook: same answer.
pub fn assess(reading: &Reading, signals: &Signals, rulebook: &Rulebook) -> Assessment {
    let supported = supported(reading, rulebook);
    let judged = supported && !reading.blank;

    let (verdict, mut reasons) = moderation::decide(reading, signals, &rulebook.policy, supported);
    let codebook = rulebook.codebook.as_ref();
    let themes = match codebook {
        Some(codebook) if judged => Some(tagging::tag(signals, codebook)),
        // A bare text, or a blank one, raises no theme; of an unsupported language nobody knows.
        _ if supported => Some(Vec::new()),
        _ => None,
    };
    let (mut stance, mut sentiment, mut tone) = (None, None, None);
    if judged {
        if let (Some(codebook), Some(tags)) = (codebook, &themes) {
            stance = opinion::stance(signals, codebook, tags);
            tone = signals.tone.as_ref().map(crate::domain::score::Distribution::top);
        }
        sentiment = opinion::sentiment(signals, codebook);
        reasons.extend(moderation::off_topic(signals, rulebook.off_topic_from));
    }
    let attributes = if reading.blank {
        // Nothing was written, so nothing in it insults, advertises or discloses.
        Attribute::ALL
            .into_iter()
            .filter(|attribute| *attribute != Attribute::OffTopic || rulebook.off_topic_from.is_some())
            .map(|attribute| (attribute, Probability::ZERO))
            .collect()
    } else {
        signals.attributes.iter().map(|(attribute, score)| (*attribute, score.probability)).collect()
    };
    Assessment {
        verdict,
        reasons,
        attributes,
        themes,
        stance,
        sentiment,
        tone,
        language: reading.language.clone(),
        pii: reading.pii.clone(),
        word_count: reading.word_count,
        pipeline_version: rulebook.version.clone(),
    }
}

/// Rejects a comment that the first stage takes for plain spam with this probability, without any
/// other score: those stay unknown, and neither themes nor opinion are read into it. `None` where
/// the rulebook asks for more than that, and the whole judgement is needed.
pub fn plain_spam(reading: &Reading, probability: Probability, rulebook: &Rulebook) -> Option<Assessment> {
    if !rulebook.first_stage || !supported(reading, rulebook) {
        return None;
    }
    let reasons = moderation::plain_spam(reading, probability, &rulebook.policy)?;
    Some(Assessment {
        verdict: Verdict::Reject,
        reasons,
        attributes: BTreeMap::from([(Attribute::Spam, probability)]),
        themes: Some(Vec::new()),
        stance: None,
        sentiment: None,
        tone: None,
        language: reading.language.clone(),
        pii: reading.pii.clone(),
        word_count: reading.word_count,
        pipeline_version: rulebook.version.clone(),
    })
}

/// Whether the models were measured on the comment's language. Without letters there is no
/// language to be foreign: emoji and figures are read as they are.
fn supported(reading: &Reading, rulebook: &Rulebook) -> bool {
    reading.language.is_undetermined() || rulebook.languages.iter().any(|known| known == reading.language.code())
}
