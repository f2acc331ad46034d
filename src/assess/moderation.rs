//! From scores and policy to a verdict with its reasons.

use super::self_harm;
use crate::domain::decision::{Reason, ReasonKey, Verdict};
use crate::domain::policy::{Policy, UnsupportedLanguage};
use crate::domain::reading::Reading;
use crate::domain::score::{Attribute, Probability, Signals};

/// Rules that the code itself carries are named so in reasons.
const BUILT_IN: &str = "built-in";

/// Stands behind a rule's id where the first stage answered in place of the models.
pub const FIRST_STAGE: &str = "first stage";

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
        if self_harm::says_so(&reading.judged.text) {
            reasons.push(built_in(ReasonKey::SAFEGUARDING_SELF_HARM, Verdict::Escalate));
        }
        if self_harm::speaks_of_it(&reading.judged.text) {
            for reason in reasons.iter_mut().filter(|reason| reason.key == ReasonKey::SAFEGUARDING_DISCLOSURE) {
                reason.key = ReasonKey::SAFEGUARDING_SELF_HARM;
            }
        }
    }
    reasons.sort_by(|left, right| {
        right.verdict.cmp(&left.verdict).then(left.key.cmp(&right.key)).then(left.rule.cmp(&right.rule))
    });
    // One reason per key is enough for a reader; the strictest stands first.
    reasons.dedup_by(|next, kept| next.key == kept.key);
    let verdict = reasons.iter().map(|reason| reason.verdict).max().unwrap_or(Verdict::Accept);
    (verdict, reasons)
}

/// The reasons for rejecting plain spam that no model but the first stage has seen. `None` where
/// the policy rejects no spam of that probability, asks for a stricter verdict on it, or where
/// the words speak of self-harm.
pub fn plain_spam(reading: &Reading, probability: Probability, policy: &Policy) -> Option<Vec<Reason>> {
    let fired = policy.rules.iter().filter(|rule| rule.attribute == Attribute::Spam && probability >= rule.from);
    let strictest = fired.max_by_key(|rule| rule.verdict)?;
    if strictest.verdict != Verdict::Reject
        || reading.blank
        || reading.char_count > policy.hold_above_chars
        || self_harm::says_so(&reading.judged.text)
        || self_harm::speaks_of_it(&reading.judged.text)
    {
        return None;
    }
    let mut reasons = vec![Reason {
        key: strictest.reason,
        verdict: Verdict::Reject,
        attribute: Some(Attribute::Spam),
        probability: Some(probability),
        span: None,
        rule: format!("{} ({FIRST_STAGE})", strictest.id),
    }];
    if reading.link_count >= policy.link_farm_from && strictest.reason != ReasonKey::SPAM_LINK_FARM {
        reasons.push(built_in(ReasonKey::SPAM_LINK_FARM, Verdict::Hold));
    }
    Some(reasons)
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
pub fn off_topic(signals: &Signals, from: Option<Probability>) -> Option<Reason> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::assess::read::{ReadHints, read};
    use crate::domain::policy::{Rule, ThresholdOrigin};
    use crate::domain::score::Score;

    const ORDINARY: &str = "My mentor listened to me every week.";

    fn rule(id: &str, attribute: Attribute, from: f32, verdict: Verdict, reason: ReasonKey) -> Rule {
        Rule {
            id: id.to_owned(),
            attribute,
            from: Probability::new(from).unwrap(),
            origin: ThresholdOrigin::Person,
            verdict,
            reason,
        }
    }

    fn policy() -> Policy {
        Policy {
            extra_scorers: Vec::new(),
            rules: vec![
                rule("disclosure", Attribute::Safeguarding, 0.3, Verdict::Escalate, ReasonKey::SAFEGUARDING_DISCLOSURE),
                rule("insult", Attribute::Insult, 0.5, Verdict::Hold, ReasonKey::ABUSE_INSULT),
                rule("insult-high", Attribute::Insult, 0.9, Verdict::Reject, ReasonKey::ABUSE_INSULT),
                rule("spam-high", Attribute::Spam, 0.8, Verdict::Reject, ReasonKey::SPAM_PROMOTION),
            ],
            unsupported_language: UnsupportedLanguage::Hold,
            hold_above_chars: 1000,
            link_farm_from: 3,
        }
    }

    fn signals(scores: [f32; 3]) -> Signals {
        let attributes: BTreeMap<_, _> = [Attribute::Safeguarding, Attribute::Insult, Attribute::Spam]
            .into_iter()
            .zip(scores)
            .map(|(attribute, score)| (attribute, Score { probability: Probability::new(score).unwrap(), span: None }))
            .collect();
        Signals { attributes, ..Signals::default() }
    }

    fn check(text: &str, scores: [f32; 3]) -> (Verdict, Vec<&'static str>) {
        let (verdict, reasons) = decide(&read(text, ReadHints::default()), &signals(scores), &policy(), true);
        (verdict, reasons.iter().map(|reason| reason.key.as_str()).collect())
    }

    #[test]
    fn the_strictest_rule_wins_and_is_named_once() {
        assert_eq!(check(ORDINARY, [0.0, 0.0, 0.0]), (Verdict::Accept, vec![]));
        assert_eq!(check(ORDINARY, [0.0, 0.6, 0.0]), (Verdict::Hold, vec!["abuse.insult"]));
        assert_eq!(check(ORDINARY, [0.0, 0.95, 0.0]), (Verdict::Reject, vec!["abuse.insult"]));
    }

    #[test]
    fn a_disclosure_outranks_abuse_and_spam() {
        let (verdict, reasons) = check(ORDINARY, [0.4, 0.99, 0.99]);
        assert_eq!(verdict, Verdict::Escalate);
        assert_eq!(reasons[0], "safeguarding.disclosure");
    }

    #[test]
    fn a_disclosure_of_self_harm_says_so() {
        assert_eq!(check("I don't want to be alive any more", [0.9, 0.0, 0.0]).1, ["safeguarding.self_harm"]);
        assert_eq!(check("She spoke of suicide prevention", [0.9, 0.0, 0.0]).1, ["safeguarding.self_harm"]);
    }

    #[test]
    fn plain_words_of_self_harm_reach_a_person_whatever_the_model_says() {
        let (verdict, reasons) = check("I don't want to be alive any more", [0.0, 0.0, 0.0]);
        assert_eq!((verdict, reasons), (Verdict::Escalate, vec!["safeguarding.self_harm"]));
    }

    #[test]
    fn a_blank_text_is_held_as_blank_and_nothing_else() {
        assert_eq!(check(" \u{200b}\n", [0.9, 0.9, 0.9]), (Verdict::Hold, vec!["blank"]));
    }

    #[test]
    fn a_missing_score_holds_the_comment() {
        let (verdict, reasons) = decide(&read(ORDINARY, ReadHints::default()), &Signals::default(), &policy(), true);
        assert_eq!((verdict, reasons[0].key), (Verdict::Hold, ReasonKey::SIGNAL_MISSING));
    }

    #[test]
    fn a_language_that_was_not_measured_is_held_and_never_rejected() {
        let reading = read(ORDINARY, ReadHints::default());
        let (verdict, reasons) = decide(&reading, &signals([0.1, 0.99, 0.99]), &policy(), false);
        assert_eq!((verdict, reasons.len()), (Verdict::Hold, 1));
        assert_eq!(reasons[0].key, ReasonKey::LANGUAGE_NOT_SUPPORTED);
    }

    #[test]
    fn a_mass_of_links_and_a_very_long_text_go_to_a_person() {
        let links = "see http://a.example http://b.example http://c.example";
        assert_eq!(check(links, [0.0; 3]), (Verdict::Hold, vec!["spam.link_farm"]));
        assert_eq!(check(&"word ".repeat(300), [0.0; 3]), (Verdict::Hold, vec!["too_long"]));
    }

    fn check_plain(text: &str, probability: f32) -> Option<Vec<&'static str>> {
        let reading = read(text, ReadHints::default());
        let reasons = plain_spam(&reading, Probability::new(probability).unwrap(), &policy())?;
        assert!(reasons[0].rule.ends_with("(first stage)"), "{}", reasons[0].rule);
        Some(reasons.iter().map(|reason| reason.key.as_str()).collect())
    }

    #[test]
    fn plain_spam_is_rejected_by_the_policys_own_rule_and_by_no_other() {
        assert_eq!(check_plain("BUY NOW at cheap.example", 0.99), Some(vec!["spam.promotion"]));
        assert_eq!(check_plain("BUY NOW at cheap.example", 0.7), None, "the policy rejects from 0.8");
        let farm = "see http://a.example http://b.example http://c.example";
        assert_eq!(check_plain(farm, 0.99), Some(vec!["spam.promotion", "spam.link_farm"]));
    }

    #[test]
    fn plain_spam_with_words_of_self_harm_in_it_needs_the_whole_judgement() {
        assert_eq!(check_plain("BUY NOW at cheap.example. I want to die", 0.99), None);
        assert_eq!(check_plain("BUY NOW at cheap.example, stop self-harm", 0.99), None);
    }

    #[test]
    fn a_policy_that_rejects_no_spam_settles_none() {
        let reading = read("BUY NOW at cheap.example", ReadHints::default());
        let mut mild = policy();
        mild.rules.retain(|rule| rule.attribute != Attribute::Spam);
        assert_eq!(plain_spam(&reading, Probability::ONE, &mild), None);
        mild.rules.push(rule("spam", Attribute::Spam, 0.5, Verdict::Hold, ReasonKey::SPAM_PROMOTION));
        assert_eq!(plain_spam(&reading, Probability::ONE, &mild), None);
    }

    proptest! {
        #[test]
        fn the_order_of_rules_does_not_matter(scores in prop::array::uniform3(0.0f32..=1.0), turn in 0usize..4) {
            let reading = read(ORDINARY, ReadHints::default());
            let mut turned = policy();
            turned.rules.rotate_left(turn);
            prop_assert_eq!(
                decide(&reading, &signals(scores), &policy(), true),
                decide(&reading, &signals(scores), &turned, true)
            );
        }

        #[test]
        fn raising_a_harmful_score_never_makes_the_verdict_milder(
            scores in prop::array::uniform3(0.0f32..=1.0), which in 0usize..3, by in 0.0f32..=1.0
        ) {
            let reading = read(ORDINARY, ReadHints::default());
            let mut raised = scores;
            raised[which] = (raised[which] + by).min(1.0);
            let before = decide(&reading, &signals(scores), &policy(), true).0;
            let after = decide(&reading, &signals(raised), &policy(), true).0;
            prop_assert!(after >= before);
        }

        #[test]
        fn without_a_score_that_some_rule_needs_no_comment_is_accepted(
            scores in prop::array::uniform3(0.0f32..=1.0), lost in 0usize..3
        ) {
            let reading = read(ORDINARY, ReadHints::default());
            let mut signals = signals(scores);
            let attribute = [Attribute::Safeguarding, Attribute::Insult, Attribute::Spam][lost];
            signals.attributes.remove(&attribute);
            prop_assert_ne!(decide(&reading, &signals, &policy(), true).0, Verdict::Accept);
        }
    }
}
