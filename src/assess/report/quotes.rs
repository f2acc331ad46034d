//! Which words are quoted, by stated rule.
//!
//! A quote is the sentence that carries a theme tag, exactly as stored. It comes
//! from an included comment whose text holds nothing that any reader would
//! take for abuse, and whose sentence holds no personal data, certain or
//! suspected. For each theme up to three are chosen:
//!
//! - *typical*: the surest tag that takes the theme's most frequent position;
//! - *opposing*: the surest tag that takes the opposite position;
//! - *evidence*: the sentence with most signs of a checkable account (a figure, a
//!   reason, a time), at least two.
//!
//! Ties go to the earlier comment. One quote per respondent over the whole
//! report, and one per campaign.

use std::collections::{BTreeMap, HashSet};

use unicode_segmentation::UnicodeSegmentation;

use super::super::repeats::Found;
use super::Split;
use crate::domain::codebook::ThemeTag;
use crate::domain::opinion::Attitude;
use crate::domain::score::{Attribute, Span};
use crate::pipeline::ports::StoredComment;

/// Fewest characters of a quote.
pub const SHORTEST: usize = 30;
/// Most characters of a quote.
pub const LONGEST: usize = 300;
/// From this probability of an abusive attribute a comment is not quoted.
const ABUSIVE_FROM: f32 = 0.2;
/// From this probability of a disclosure a comment is not quoted.
const SAFEGUARDING_FROM: f32 = 0.1;
/// Kept per list, so that respondents and campaigns can still be spread at the end.
const KEPT: usize = 16;

/// Why a quote was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes the theme's most frequent position.
    Typical,
    /// Takes the opposite one.
    Opposing,
    /// Gives a checkable account.
    Evidence,
}

impl Role {
    /// The stable key.
    pub fn key(self) -> &'static str {
        match self {
            Self::Typical => "typical",
            Self::Opposing => "opposing",
            Self::Evidence => "evidence",
        }
    }
}

/// Words of a comment, exactly as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Quote {
    /// Why it was chosen.
    pub role: Role,
    /// The comment's sequence.
    pub sequence: i64,
    /// Where it stands in the stored text.
    pub span: Span,
    /// That slice.
    pub text: String,
    /// Position that the quoted part takes on the theme.
    pub position: Option<Attitude>,
}

#[derive(Clone, Debug)]
struct Candidate {
    sequence: i64,
    respondent: Option<u64>,
    span: Span,
    text: String,
    probability: f32,
    position: Option<Attitude>,
    signs: usize,
}

/// Candidates of one theme.
#[derive(Default)]
struct Lists {
    by_position: BTreeMap<Option<Attitude>, Vec<Candidate>>,
    evidence: Vec<Candidate>,
}

/// Collects candidates comment by comment; bounded by themes, not by comments.
pub struct QuoteSearch {
    themes: Vec<Lists>,
}

impl QuoteSearch {
    /// For a codebook of so many themes.
    pub fn new(themes: usize) -> Self {
        Self { themes: (0..themes).map(|_| Lists::default()).collect() }
    }

    /// Considers an included comment's tags, given as (theme's place in the codebook, tag).
    pub fn add(&mut self, stored: &StoredComment, respondent: Option<u64>, tags: &[(usize, &ThemeTag)]) {
        if tags.is_empty() || !quotable(stored) {
            return;
        }
        let text = &stored.comment.text;
        for (theme, tag) in tags {
            let Some(span) = sentence_around(text, tag.score.span) else { continue };
            let slice = span.slice(text);
            if stored.assessment.pii.iter().any(|pii| pii.span.overlaps(span)) || !plain(slice) {
                continue;
            }
            let candidate = Candidate {
                sequence: stored.sequence,
                respondent,
                span,
                text: slice.to_owned(),
                probability: tag.score.probability.get(),
                position: tag.position.map(|(attitude, _)| attitude),
                signs: signs_of_evidence(slice),
            };
            let lists = &mut self.themes[*theme];
            if candidate.signs >= 2 {
                keep(&mut lists.evidence, candidate.clone(), |c| (c.signs, c.probability));
            }
            keep(lists.by_position.entry(candidate.position).or_default(), candidate, |c| (0, c.probability));
        }
    }

    /// The quotes of each theme, given how its comments split.
    pub fn finish(self, splits: &[Split], found: &Found) -> Vec<Vec<Quote>> {
        let mut used = Used {
            texts: HashSet::new(),
            sequences: HashSet::new(),
            respondents: HashSet::new(),
            groups: HashSet::new(),
            found,
        };
        self.themes
            .iter()
            .zip(splits)
            .map(|(lists, split)| {
                let typical = split.most_frequent();
                let opposing = match typical {
                    Some(Attitude::Positive) => Some(Attitude::Negative),
                    Some(Attitude::Negative) => Some(Attitude::Positive),
                    Some(_) if split.against >= split.supporting => Some(Attitude::Negative),
                    Some(_) => Some(Attitude::Positive),
                    None => None,
                };
                let at = |position| lists.by_position.get(&position).map_or(&[][..], Vec::as_slice);
                let mut quotes = Vec::new();
                quotes.extend(used.pick(Role::Typical, at(typical)));
                if opposing.is_some() {
                    quotes.extend(used.pick(Role::Opposing, at(opposing)));
                }
                quotes.extend(used.pick(Role::Evidence, &lists.evidence));
                quotes
            })
            .collect()
    }
}

struct Used<'a> {
    texts: HashSet<String>,
    sequences: HashSet<i64>,
    respondents: HashSet<u64>,
    groups: HashSet<u32>,
    found: &'a Found,
}

impl Used<'_> {
    fn pick(&mut self, role: Role, candidates: &[Candidate]) -> Option<Quote> {
        let group = |candidate: &Candidate| self.found.group_of.get(&candidate.sequence).copied();
        let chosen = candidates.iter().find(|candidate| {
            !self.sequences.contains(&candidate.sequence)
                && !self.texts.contains(&candidate.text)
                && candidate.respondent.is_none_or(|who| !self.respondents.contains(&who))
                && group(candidate).is_none_or(|group| !self.groups.contains(&group))
        })?;
        self.groups.extend(group(chosen));
        self.sequences.insert(chosen.sequence);
        self.texts.insert(chosen.text.clone());
        self.respondents.extend(chosen.respondent);
        Some(Quote {
            role,
            sequence: chosen.sequence,
            span: chosen.span,
            text: chosen.text.clone(),
            position: chosen.position,
        })
    }
}

/// Keeps the best of a list, best first; of equal texts the earliest.
fn keep(list: &mut Vec<Candidate>, candidate: Candidate, rank: impl Fn(&Candidate) -> (usize, f32)) {
    if list.iter().any(|known| known.text == candidate.text) {
        return;
    }
    let new = rank(&candidate);
    let at = list.partition_point(|known| {
        let old = rank(known);
        old.0 > new.0 || (old.0 == new.0 && old.1 >= new.1)
    });
    if at < KEPT {
        list.insert(at, candidate);
        list.truncate(KEPT);
    }
}

/// Whether a comment may be quoted at all. An absent score is not a low one.
fn quotable(stored: &StoredComment) -> bool {
    let attributes = &stored.assessment.attributes;
    let low = |attribute: Attribute| {
        let limit = if attribute == Attribute::Safeguarding { SAFEGUARDING_FROM } else { ABUSIVE_FROM };
        attributes.get(&attribute).is_none_or(|probability| probability.get() < limit)
    };
    let refused = stored.comment.groups.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("publish_permission")
            && ["none", "no", "refused"].contains(&value.trim().to_lowercase().as_str())
    });
    // What was once escalated is not quoted, whoever has released it.
    !stored.escalated
        && attributes.contains_key(&Attribute::Toxic)
        && attributes.contains_key(&Attribute::Safeguarding)
        && Attribute::ALL.into_iter().filter(|attribute| *attribute != Attribute::OffTopic).all(low)
        && !refused
}

/// Nothing hidden, no link, no handle.
fn plain(slice: &str) -> bool {
    !slice.contains(['@', '[', ']'])
        && !slice.contains("://")
        && !slice.to_lowercase().contains("www.")
        && slice.chars().all(|letter| letter == '\n' || !super::hidden(letter))
}

fn signs_of_evidence(slice: &str) -> usize {
    const SIGNS: [&str; 14] = [
        "because", "example", "since", "after", "before", "years", "months", "weeks", "percent", "per cent", "when",
        "research", "evidence", "costs",
    ];
    let lower = slice.to_lowercase();
    let words: Vec<&str> = lower.unicode_words().collect();
    let named = SIGNS
        .iter()
        .filter(|sign| if sign.contains(' ') { lower.contains(**sign) } else { words.contains(sign) })
        .count();
    named + usize::from(slice.chars().any(|letter| letter.is_ascii_digit()))
}

/// The whole sentences that a span touches, without the space around them;
/// `None` where that is too short or too long to quote.
fn sentence_around(text: &str, span: Option<Span>) -> Option<Span> {
    let whole = Span { start: 0, end: usize::MAX };
    let span = span.unwrap_or(whole);
    let mut position = 0;
    let (mut start, mut end) = (None, 0);
    for sentence in text.split_sentence_bounds() {
        let length = sentence.chars().count();
        let here = Span { start: position, end: position + length };
        if here.overlaps(span) {
            start.get_or_insert(here.start);
            end = here.end;
        }
        position += length;
    }
    let start = start?;
    let slice = Span { start, end }.slice(text);
    let before = slice.chars().take_while(|letter| letter.is_whitespace()).count();
    let after = slice.chars().rev().take_while(|letter| letter.is_whitespace()).count();
    let (start, end) = (start + before, end.saturating_sub(after));
    let length = end.saturating_sub(start);
    (SHORTEST..=LONGEST).contains(&length).then_some(Span { start, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_widened_to_its_sentence_and_no_further() {
        let text = "I like it.  My son had a mentor for two years, née Smith. Thanks!";
        let span = sentence_around(text, Some(Span { start: 24, end: 30 })).unwrap();
        assert_eq!(span.slice(text), "My son had a mentor for two years, née Smith.");
        assert_eq!(sentence_around(text, Some(Span { start: 0, end: 3 })), None, "too short");
        assert_eq!(sentence_around(&"word ".repeat(80), None), None, "too long");
    }

    #[test]
    fn links_marks_and_hidden_characters_are_not_quoted() {
        for bad in ["see https://a.b", "see www.a.b", "ask @me", "ask [name]", "a\u{202e}b", "a\u{200b}b"] {
            assert!(!plain(bad), "{bad:?}");
        }
        assert!(plain("Don’t close it – it’s 10 years old."));
    }

    #[test]
    fn a_checkable_account_has_signs() {
        assert!(signs_of_evidence("Suspensions halved in 2 years because someone listened") >= 3);
        assert_eq!(signs_of_evidence("It is simply wonderful and I love it"), 0);
    }
}
