//! From scores and policy to a verdict with its reasons.

use crate::domain::decision::{Reason, ReasonKey, Verdict};
use crate::domain::policy::{Policy, UnsupportedLanguage};
use crate::domain::reading::Reading;
use crate::domain::score::{Attribute, Signals};

/// Rules that the code itself carries are named so in reasons.
const BUILT_IN: &str = "built-in";

/// The verdict and every reason for it, strictest first, then by key.
///
/// The strictest rule that fires wins, so the order of rules cannot matter. None
/// firing accepts. A rule whose score is absent holds the comment: an absent
/// score is unknown, not zero.
pub fn decide(reading: &Reading, signals: &Signals, policy: &Policy, supported: bool) -> (Verdict, Vec<Reason>) {
    let mut reasons = Vec::new();
    if reading.blank {
        reasons.push(built_in(ReasonKey::BLANK, Verdict::Hold));
    }
    if reading.char_count > policy.hold_above_chars {
        reasons.push(built_in(ReasonKey::TOO_LONG, Verdict::Hold));
    }
    if reading.link_count >= policy.link_farm_from {
        reasons.push(built_in(ReasonKey::SPAM_LINK_FARM, Verdict::Hold));
    }
    if !supported && !reading.blank {
        let verdict = match policy.unsupported_language {
            UnsupportedLanguage::Hold => Verdict::Hold,
            UnsupportedLanguage::Accept => Verdict::Accept,
        };
        reasons.push(built_in(ReasonKey::LANGUAGE_NOT_SUPPORTED, verdict));
    }
    // Models say nothing of a blank text, and what they say of a language that
    // they were not measured on is not acted upon.
    if supported && !reading.blank {
        scored(signals, policy, &mut reasons);
    }
    reasons.sort_by(|left, right| {
        right.verdict.cmp(&left.verdict).then(left.key.cmp(&right.key)).then(left.rule.cmp(&right.rule))
    });
    // One reason per key is enough for a reader; the strictest stands first.
    reasons.dedup_by(|next, kept| next.key == kept.key);
    let verdict = reasons.iter().map(|reason| reason.verdict).max().unwrap_or(Verdict::Accept);
    (verdict, reasons)
}

fn scored(signals: &Signals, policy: &Policy, reasons: &mut Vec<Reason>) {
    for rule in &policy.rules {
        let Some(score) = signals.attributes.get(&rule.attribute) else {
            reasons.push(Reason {
                key: ReasonKey::SIGNAL_MISSING,
                verdict: Verdict::Hold,
                attribute: Some(rule.attribute),
                probability: None,
                span: None,
                rule: rule.id.clone(),
            });
            continue;
        };
        if score.probability >= rule.from {
            reasons.push(Reason {
                key: rule.reason,
                verdict: rule.verdict,
                attribute: Some(rule.attribute),
                probability: Some(score.probability),
                span: score.span,
                rule: rule.id.clone(),
            });
        }
    }
}

fn built_in(key: ReasonKey, verdict: Verdict) -> Reason {
    Reason { key, verdict, attribute: None, probability: None, span: None, rule: BUILT_IN.to_owned() }
}

/// The mark for readers that a comment is about something else; it changes no verdict.
pub fn off_topic(signals: &Signals, from: Option<crate::domain::score::Probability>) -> Option<Reason> {
    let score = signals.attributes.get(&Attribute::OffTopic)?;
    (score.probability >= from?).then(|| Reason {
        key: ReasonKey::OFF_TOPIC,
        verdict: Verdict::Accept,
        attribute: Some(Attribute::OffTopic),
        probability: Some(score.probability),
        span: None,
        rule: BUILT_IN.to_owned(),
    })
}
