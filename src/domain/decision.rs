//! Verdicts and the reasons for them.

use std::fmt;

use super::score::{Attribute, Probability, Span};

/// What happens to a comment. Ordered by strictness: the strictest rule that fires wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// May be published.
    Accept,
    /// A person must look.
    Hold,
    /// Spam or abuse; kept, counted, reversible.
    Reject,
    /// A possible disclosure of harm: a named person must look now.
    Escalate,
}

impl Verdict {
    /// Every verdict, mildest first.
    pub const ALL: [Self; 4] = [Self::Accept, Self::Hold, Self::Reject, Self::Escalate];

    /// The stable key used in files and messages.
    pub fn key(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Hold => "hold",
            Self::Reject => "reject",
            Self::Escalate => "escalate",
        }
    }

    /// The verdict with this key.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.key() == key)
    }
}

/// What a person decided about one text. It outranks every machine verdict on that text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What they decided.
    pub verdict: Verdict,
    /// Who: a role or a name as given.
    pub by: String,
    /// When (Unix milliseconds).
    pub at_ms: i64,
}

/// The verdict that stands on a text: a person's, else an escalation that no person has
/// released, else the machine's. `escalated` says whether this text was ever escalated.
pub fn standing_verdict(person: Option<Verdict>, escalated: bool, machine: Verdict) -> Verdict {
    match person {
        Some(decided) => decided,
        // Another model or a higher point is no reason to publish what may be a disclosure.
        None if escalated => Verdict::Escalate,
        None => machine,
    }
}

/// A reason's stable key, from the published list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReasonKey(&'static str);

impl ReasonKey {
    /// Links or contact lines in a mass that no commenter writes.
    pub const SPAM_LINK_FARM: Self = Self("spam.link_farm");
    /// Advertising.
    pub const SPAM_PROMOTION: Self = Self("spam.promotion");
    /// One person, many copies.
    pub const SPAM_REPEAT_FLOOD: Self = Self("spam.repeat_flood");
    /// General abusiveness.
    pub const ABUSE_TOXIC: Self = Self("abuse.toxic");
    /// Extreme abuse.
    pub const ABUSE_SEVERE: Self = Self("abuse.severe");
    /// Insult of a person or group.
    pub const ABUSE_INSULT: Self = Self("abuse.insult");
    /// Threat or wish of harm.
    pub const ABUSE_THREAT: Self = Self("abuse.threat");
    /// Hate against people for who they are.
    pub const ABUSE_IDENTITY_ATTACK: Self = Self("abuse.identity_attack");
    /// Sexual content.
    pub const ABUSE_SEXUAL: Self = Self("abuse.sexual");
    /// Swearing.
    pub const ABUSE_PROFANITY: Self = Self("abuse.profanity");
    /// A possible disclosure of harm.
    pub const SAFEGUARDING_DISCLOSURE: Self = Self("safeguarding.disclosure");
    /// A possible risk of suicide or self-harm.
    pub const SAFEGUARDING_SELF_HARM: Self = Self("safeguarding.self_harm");
    /// The models are not sure enough.
    pub const LOW_CONFIDENCE: Self = Self("low_confidence");
    /// The models were not measured on this language.
    pub const LANGUAGE_NOT_SUPPORTED: Self = Self("language_not_supported");
    /// No score could be had.
    pub const ENGINE_UNAVAILABLE: Self = Self("engine_unavailable");
    /// A rule needed a score that the engine did not give.
    pub const SIGNAL_MISSING: Self = Self("signal_missing");
    /// Longer than the policy reads in full.
    pub const TOO_LONG: Self = Self("too_long");
    /// Nothing was written.
    pub const BLANK: Self = Self("blank");
    /// About something else; for readers, never a ground for exclusion.
    pub const OFF_TOPIC: Self = Self("off_topic");

    /// The published list.
    pub const ALL: [Self; 19] = [
        Self::SPAM_LINK_FARM,
        Self::SPAM_PROMOTION,
        Self::SPAM_REPEAT_FLOOD,
        Self::ABUSE_TOXIC,
        Self::ABUSE_SEVERE,
        Self::ABUSE_INSULT,
        Self::ABUSE_THREAT,
        Self::ABUSE_IDENTITY_ATTACK,
        Self::ABUSE_SEXUAL,
        Self::ABUSE_PROFANITY,
        Self::SAFEGUARDING_DISCLOSURE,
        Self::SAFEGUARDING_SELF_HARM,
        Self::LOW_CONFIDENCE,
        Self::LANGUAGE_NOT_SUPPORTED,
        Self::ENGINE_UNAVAILABLE,
        Self::SIGNAL_MISSING,
        Self::TOO_LONG,
        Self::BLANK,
        Self::OFF_TOPIC,
    ];

    /// The key as text.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The reason with this key, if it is on the list.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.0 == key)
    }

    /// The part before the dot: `spam`, `abuse`, `safeguarding`, or the key itself.
    pub fn family(self) -> &'static str {
        self.0.split('.').next().unwrap_or(self.0)
    }
}

impl fmt::Display for ReasonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why a verdict is what it is; one per rule that fired.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// From the published list.
    pub key: ReasonKey,
    /// The verdict that this reason asks for.
    pub verdict: Verdict,
    /// The attribute that carried it, if one did.
    pub attribute: Option<Attribute>,
    /// That attribute's probability.
    pub probability: Option<Probability>,
    /// Characters of the original text.
    pub span: Option<Span>,
    /// The policy rule that fired (`threat-high`), or `built-in`.
    pub rule: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_outranks_and_an_escalation_stays_until_then() {
        assert_eq!(standing_verdict(Some(Verdict::Accept), true, Verdict::Escalate), Verdict::Accept);
        assert_eq!(standing_verdict(None, true, Verdict::Accept), Verdict::Escalate);
        assert_eq!(standing_verdict(None, false, Verdict::Reject), Verdict::Reject);
    }
}
