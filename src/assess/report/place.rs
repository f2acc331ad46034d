//! Where one comment counts.

use jiff::Timestamp;

use crate::domain::assessment::Assessment;
use crate::domain::decision::Verdict;
use crate::pipeline::ports::StoredComment;

/// Why a comment does not count in figures. Opinion is never on this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exclusion {
    /// Posted to advertise.
    Spam,
    /// An attack on people.
    Abuse,
    /// Rejected by a rule of another family.
    Other,
    /// The same respondent sent the same text before.
    Repeat,
    /// Posted after the consultation closed.
    Late,
    /// Deleted by its author or at its source.
    Withdrawn,
}

impl Exclusion {
    /// Every reason, in the order of the report.
    pub const ALL: [Self; 6] = [Self::Spam, Self::Abuse, Self::Other, Self::Repeat, Self::Late, Self::Withdrawn];

    /// The stable key used in files.
    pub fn key(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::Abuse => "abuse",
            Self::Other => "other",
            Self::Repeat => "repeat",
            Self::Late => "late",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// What readers see.
    pub fn label(self) -> &'static str {
        match self {
            Self::Spam => "spam or advertising",
            Self::Abuse => "abuse of people",
            Self::Other => "another rule of the policy",
            Self::Repeat => "repeat by the same respondent",
            Self::Late => "sent after closing",
            Self::Withdrawn => "withdrawn at its source",
        }
    }
}

/// Where one comment counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In every figure.
    Included,
    /// In none, with the reason.
    Excluded(Exclusion),
    /// A person must look first.
    Held,
    /// A possible disclosure of harm: a count and nothing else.
    Escalated,
}

impl Place {
    /// The word in the `status` column.
    pub fn status(self) -> &'static str {
        match self {
            Self::Included => "included",
            Self::Excluded(_) => "excluded",
            Self::Held => "held",
            Self::Escalated => "escalated",
        }
    }
}

/// Where a comment counts before repeats are known.
///
/// A withdrawn comment is gone whatever was judged; a possible disclosure then
/// outranks everything; lateness only excludes what would have counted.
pub fn place(stored: &StoredComment, closes_at: Option<Timestamp>) -> Place {
    let StoredComment { comment, assessment, .. } = stored;
    if stored.withdrawn {
        return Place::Excluded(Exclusion::Withdrawn);
    }
    let late = || comment.posted_at.zip(closes_at).is_some_and(|(posted, closes)| posted > closes);
    match stored.verdict() {
        Verdict::Escalate => Place::Escalated,
        Verdict::Hold => Place::Held,
        Verdict::Reject => Place::Excluded(rejected_for(assessment)),
        Verdict::Accept if late() => Place::Excluded(Exclusion::Late),
        Verdict::Accept => Place::Included,
    }
}

fn rejected_for(assessment: &Assessment) -> Exclusion {
    let strictest = assessment.reasons.iter().find(|reason| reason.verdict == Verdict::Reject);
    match strictest.map(|reason| reason.key.family()) {
        Some("spam") => Exclusion::Spam,
        Some("abuse") => Exclusion::Abuse,
        _ => Exclusion::Other,
    }
}
