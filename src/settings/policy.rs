//! `policy.toml` to a [`Policy`].

use super::extra;
use super::keys::{Keys, Problems, parse};
use crate::domain::decision::{ReasonKey, Verdict};
use crate::domain::policy::{ExtraScorer, Policy, Rule, ThresholdOrigin, UnsupportedLanguage};
use crate::domain::score::{Attribute, Probability};

/// Looks up an operating point: (label, name) to a calibrated probability.
pub type OperatingPoints<'a> = &'a dyn Fn(&str, &str) -> Option<f32>;

/// Reads a policy; what is wrong with it is added to `problems`.
pub fn read(file: &str, text: &str, points: OperatingPoints<'_>, problems: &mut Problems) -> Policy {
    let table = parse(file, text, problems);
    let mut keys = Keys::new(&table, file, "", problems);
    let unsupported_language = match keys.choice("unsupported_language", &["hold", "accept"]).as_deref() {
        Some("accept") => UnsupportedLanguage::Accept,
        _ => UnsupportedLanguage::Hold,
    };
    let hold_above_chars = keys.whole("hold_above_chars", 1).map_or(65_536, |number| number as usize);
    let link_farm_from = keys.whole("link_farm_from", 1).map_or(8, |number| number as usize);
    let entries = keys.tables("rule");
    let scorers = keys.tables("extra_scorer");
    keys.finish();
    let before = problems.0.len();
    let extra_scorers = extra::read(file, scorers, problems);
    // A scorer that cannot be used is one problem; that rules name it is no other one.
    let extras = (problems.0.len() == before).then_some(extra_scorers.as_slice());
    let mut rules: Vec<Rule> = Vec::new();
    for (entry, prefix) in entries {
        if let Some(rule) = read_rule(file, entry, &prefix, points, extras, problems) {
            if rules.iter().any(|known| known.id == rule.id) {
                problems.add(file, format!("{prefix}.id"), format!("`{}` is used twice", rule.id));
            }
            rules.push(rule);
        }
    }
    if !rules.iter().any(|rule| rule.attribute == Attribute::Safeguarding && rule.verdict == Verdict::Escalate)
        && problems.0.iter().all(|problem| problem.file != file)
    {
        problems.add(file, "rule", "has none that escalates `safeguarding`: a disclosure would reach nobody");
    }
    Policy { rules, extra_scorers, unsupported_language, hold_above_chars, link_farm_from }
}

fn read_rule(
    file: &str,
    entry: &toml::Table,
    prefix: &str,
    points: OperatingPoints<'_>,
    extras: Option<&[ExtraScorer]>,
    problems: &mut Problems,
) -> Option<Rule> {
    let mut keys = Keys::new(entry, file, prefix, problems);
    let id = keys.required_text("id");
    let attribute = keys.required_text("attribute").and_then(|name| {
        let attribute = Attribute::from_key(&name);
        if attribute.is_none() {
            let known: Vec<&str> = Attribute::ALL.iter().map(|attribute| attribute.key()).collect();
            let _ = keys.choice("attribute", &known);
        }
        attribute
    });
    if attribute == Some(Attribute::OffTopic) {
        keys.wrong("attribute", "is `off_topic`, which is shown to readers and is never a ground for a verdict");
    }
    if let (Some(Attribute::Extra(key)), Some(extras)) = (attribute, extras)
        && !extras.iter().any(|scorer| scorer.attributes.contains(&attribute))
    {
        let known: Vec<&str> =
            extras.iter().flat_map(|scorer| scorer.attributes.iter().flatten()).map(|one| one.key()).collect();
        let known =
            if known.is_empty() { "there are none".to_owned() } else { format!("they give {}", known.join(", ")) };
        keys.wrong("attribute", format!("is `{key}`, which no [[extra_scorer]] of this file gives; {known}"));
    }
    let verdict = if keys.has("verdict") {
        keys.choice("verdict", &["hold", "reject", "escalate"]).as_deref().and_then(Verdict::from_key)
    } else {
        keys.required_text("verdict").and(None)
    };
    let from = match (keys.has("at"), keys.has("from")) {
        (true, true) => {
            let _ = (keys.text("at"), keys.probability("from"));
            keys.wrong("from", "stands beside `at`: keep one of them");
            None
        }
        (false, false) => {
            keys.wrong("at", "is missing: name an operating point (`at = \"hold\"`) or give a number (`from = 0.9`)");
            None
        }
        (false, true) => keys.probability("from").map(|number| (number, ThresholdOrigin::Person)),
        (true, false) => keys.text("at").zip(attribute).and_then(|(name, attribute)| {
            let number = points(attribute.key(), &name).and_then(Probability::new);
            if number.is_none() {
                keys.wrong(
                    "at",
                    format!(
                        "is `{name}`, and the models' manifest has no operating point `{name}` for `{}`",
                        attribute.key()
                    ),
                );
            }
            number.map(|number| (number, ThresholdOrigin::OperatingPoint(name)))
        }),
    };
    let reason = match keys.text("reason") {
        None => {
            let reason = attribute.and_then(default_reason);
            if let (Some(Attribute::Extra(_)), None) = (attribute, reason) {
                keys.wrong("reason", "is missing: readers must be told why, and of an extra attribute only you know");
            }
            reason
        }
        Some(key) => {
            let reason = ReasonKey::from_key(&key);
            if reason.is_none() {
                let known: Vec<&str> = ReasonKey::ALL.iter().map(|reason| reason.as_str()).collect();
                keys.wrong("reason", format!("is `{key}`, must be one of {}", known.join(", ")));
            }
            reason
        }
    };
    keys.finish();
    let (from, origin) = from?;
    Some(Rule { id: id?, attribute: attribute?, from, origin, verdict: verdict?, reason: reason? })
}

/// The reason that readers see when a rule names none.
fn default_reason(attribute: Attribute) -> Option<ReasonKey> {
    Some(match attribute {
        Attribute::Toxic => ReasonKey::ABUSE_TOXIC,
        Attribute::Severe => ReasonKey::ABUSE_SEVERE,
        Attribute::Insult => ReasonKey::ABUSE_INSULT,
        Attribute::Threat => ReasonKey::ABUSE_THREAT,
        Attribute::IdentityAttack => ReasonKey::ABUSE_IDENTITY_ATTACK,
        Attribute::Profanity => ReasonKey::ABUSE_PROFANITY,
        Attribute::Sexual => ReasonKey::ABUSE_SEXUAL,
        Attribute::Spam => ReasonKey::SPAM_PROMOTION,
        Attribute::Safeguarding => ReasonKey::SAFEGUARDING_DISCLOSURE,
        Attribute::OffTopic | Attribute::Extra(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFE: &str =
        "[[rule]]\nid = \"disclosure\"\nattribute = \"safeguarding\"\nat = \"escalate\"\nverdict = \"escalate\"\n";

    fn check(text: &str) -> (Policy, Vec<String>) {
        let mut problems = Problems::default();
        let points = |label: &str, name: &str| match (label, name) {
            ("safeguarding", "escalate") => Some(0.2),
            ("insult", "hold") => Some(0.7),
            _ => None,
        };
        let policy = read("policy.toml", &format!("{text}\n{SAFE}"), &points, &mut problems);
        (policy, problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_operating_point_becomes_the_manifest_number() {
        let (policy, problems) =
            check("[[rule]]\nid = \"i\"\nattribute = \"insult\"\nat = \"hold\"\nverdict = \"hold\"");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(policy.rules[0].from, Probability::new(0.7).unwrap());
        assert_eq!(policy.rules[0].origin, ThresholdOrigin::OperatingPoint("hold".to_owned()));
        assert_eq!(policy.rules[0].reason, ReasonKey::ABUSE_INSULT);
    }

    #[test]
    fn every_problem_of_a_policy_is_named_at_once() {
        let (_, problems) = check(
            "unsupported_language = \"drop\"\n[[rule]]\nid = \"a\"\nattribute = \"thraet\"\nfrom = 1.5\nverdict = \"rejct\"\n\
             [[rule]]\nattribute = \"insult\"\nat = \"never\"\nverdict = \"hold\"\ncolour = \"red\"",
        );
        let all = problems.join("\n");
        for expected in [
            "`unsupported_language` is `drop`",
            "`rule[1].attribute` is `thraet`",
            "did you mean `threat`?",
            "`rule[1].from` is 1.5",
            "`rule[1].verdict` is `rejct`",
            "`rule[2].id` is missing",
            "no operating point `never` for `insult`",
            "`rule[2].colour` is not a key here",
        ] {
            assert!(all.contains(expected), "{expected} is not in\n{all}");
        }
    }

    #[test]
    fn an_extra_scorer_that_cannot_be_run_is_one_problem_with_its_cause() {
        let rule = "[[rule]]\nid = \"e\"\nattribute = \"extra.own.bad\"\nfrom = 0.9\nverdict = \"hold\"\nreason = \"abuse.toxic\"";
        let (_, problems) = check(&format!("[[extra_scorer]]\nname = \"own\"\npath = \"/nowhere\"\n{rule}"));
        let expected = if crate::engine::choice::HAS_RUST_BERT {
            "`extra_scorer[1].path` names no model that can be run: models at /nowhere/config.json"
        } else {
            "`extra_scorer[1]` cannot be run: this binary was built without the rust-bert engine"
        };
        assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
        let (_, problems) = check(rule);
        assert!(problems.len() == 1 && problems[0].contains("no [[extra_scorer]] of this file gives"), "{problems:?}");
    }

    #[test]
    fn a_policy_that_escalates_nothing_is_refused() {
        let mut problems = Problems::default();
        read("policy.toml", "", &|_, _| None, &mut problems);
        assert!(problems.to_string().contains("would reach nobody"));
    }

    #[test]
    fn an_opinion_or_subject_is_no_ground_for_a_verdict() {
        let (_, problems) = check("[[rule]]\nid = \"o\"\nattribute = \"off_topic\"\nfrom = 0.9\nverdict = \"reject\"");
        assert!(problems[0].contains("never a ground"), "{problems:?}");
    }
}
