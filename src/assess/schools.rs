//! Names of schools, and the persons that a school or a class beside them gives away.

use crate::domain::reading::{Pii, PiiKind};

use super::names::{TITLES, Word, pii, stem};
use super::vocabulary::is_english;

const SCHOOL_HEADS: &[&str] = &[
    "school",
    "academy",
    "college",
    "primary",
    "infants",
    "juniors",
    "high",
    "secondary",
    "grammar",
];

/// Words that say what kind of school, and not which.
const SCHOOL_KINDS: &[&str] = &[
    "primary",
    "secondary",
    "high",
    "junior",
    "infant",
    "grammar",
    "comprehensive",
    "nursery",
    "middle",
    "upper",
    "lower",
    "special",
    "sixth",
    "form",
    "boarding",
    "community",
    "catholic",
    "church",
    "of",
    "and",
    "the",
    "&",
    "c",
    "e",
    "rc",
    "ce",
    "boys",
    "girls",
    "sports",
    "technology",
    "free",
    "state",
    "private",
    "public",
    "independent",
    "faith",
    "village",
    "local",
    "sunday",
    "summer",
    "night",
    "after",
    "mainstream",
    "old",
    "new",
    "whole",
    "every",
    "each",
    "good",
    "great",
    "best",
    "bad",
    "big",
    "small",
    "my",
    "our",
    "your",
    "his",
    "her",
    "their",
    "a",
    "an",
    "any",
    "some",
    "no",
    "at",
    "in",
    "for",
    "from",
    "to",
    "this",
    "that",
    "which",
    "when",
    "and",
    "but",
    "i",
    "we",
    "if",
    "is",
    "as",
    "pre",
    "art",
    "music",
    "medical",
    "law",
    "business",
    "drama",
    "one",
    "first",
    "last",
    "next",
    "stop",
    "bring",
    "make",
    "get",
    "leave",
    "hate",
    "love",
    "love",
    "back",
    "during",
    "before",
    "in",
    "inner",
    "different",
    "most",
    "many",
    "all",
    "other",
    "same",
    "since",
    "year",
    "more",
    "re",
    "religious",
];

/// Schools named in a text.
pub(super) fn find(words: &[Word<'_>]) -> Vec<Pii> {
    let mut found = Vec::new();
    for at in 0..words.len() {
        school(words, at, &mut found);
        saint(words, at, &mut found);
    }
    found
}

/// "Alder Park Primary School", "at windmill academy".
fn school(words: &[Word<'_>], at: usize, found: &mut Vec<Pii>) {
    let head = &words[at];
    let head_word = stem(&head.lower);
    if !SCHOOL_HEADS.contains(&head_word) || at == 0 {
        return;
    }
    let next_is_head = words.get(at + 1).is_some_and(|next| {
        next.follows && !next.opens && SCHOOL_HEADS.contains(&next.lower.as_str())
    });
    if next_is_head {
        return;
    }
    // "at high": these say a school only behind a name with a capital.
    let weak = matches!(head_word, "high" | "secondary" | "grammar" | "primary");
    let mut first = at;
    while first > 0 && at - first < 6 {
        let here = &words[first];
        let before = &words[first - 1];
        let linking =
            matches!(before.lower.as_str(), "of" | "the" | "and" | "c" | "e") && first < at;
        let kind = SCHOOL_KINDS.contains(&before.lower.as_str())
            || SCHOOL_HEADS.contains(&before.lower.as_str());
        let written_small =
            !before.is_ordinary() && !before.is_known() && before.lower.len() > 3 && !weak;
        let figure = before.text.starts_with(|c: char| c.is_uppercase()) && before.text.len() < 4;
        let belongs =
            before.capital || linking || figure || (!head.capital && (kind || written_small));
        if here.opens || !here.follows || !belongs {
            break;
        }
        first -= 1;
        if !before.capital && !kind && !linking {
            break;
        }
    }
    while first < at {
        let word = &words[first];
        let kind =
            SCHOOL_KINDS.contains(&word.lower.as_str()) || TITLES.contains(&word.lower.as_str());
        if !kind {
            break;
        }
        first += 1;
    }
    let named = words[first..at].iter().any(|word| {
        !SCHOOL_KINDS.contains(&word.lower.as_str())
            && !SCHOOL_HEADS.contains(&word.lower.as_str())
            && (word.capital || word.text.len() < 4 || !word.is_ordinary())
    });
    let small_head = weak && !head.capital;
    let opening_only = at - first == 1 && words[first].opens && is_english(&words[first].lower);
    if first < at && named && !small_head && !opening_only {
        found.push(pii(PiiKind::School, &words[first], head, true));
    }
}

/// "St Anne's", "St. Mary's Catholic Primary", "st peters school".
fn saint(words: &[Word<'_>], at: usize, found: &mut Vec<Pii>) {
    if words[at].lower != "st" && words[at].lower != "saint" {
        return;
    }
    let Some(name) = words.get(at + 1).filter(|next| next.follows) else {
        return;
    };
    let no_school = words.get(at + 2).is_some_and(|next| {
        matches!(
            next.lower.as_str(),
            "day"
                | "ambulance"
                | "hospital"
                | "church"
                | "cross"
                | "flag"
                | "road"
                | "street"
                | "hospice"
                | "square"
        )
    });
    let genitive = name.lower.ends_with("'s") || name.lower.ends_with("’s");
    let mut last = at + 1;
    for (offset, word) in words.iter().enumerate().skip(at + 2).take(5) {
        let kind = word.lower != "of" && SCHOOL_KINDS[..20].contains(&word.lower.as_str());
        if !word.follows || word.opens || !(kind || SCHOOL_HEADS.contains(&word.lower.as_str())) {
            break;
        }
        last = offset;
    }
    let headed = SCHOOL_HEADS.contains(&words[last].lower.as_str());
    if !no_school && (headed || genitive && words[at].capital) {
        let mut one = pii(PiiKind::School, &words[at], &words[last], true);
        // "St Anne's" is the whole name, its ending included.
        one.span.end = words[last].span.end;
        found.push(one);
    }
}

/// A given name a few words before a school or a class is a person found.
pub(super) fn make_certain(words: &[Word<'_>], found: &mut [Pii]) {
    let mut places: Vec<usize> = found
        .iter()
        .filter(|one| one.kind == PiiKind::School)
        .map(|one| words.partition_point(|word| word.span.start < one.span.start))
        .collect();
    for (at, word) in words.iter().enumerate().skip(1) {
        let class = word.lower.len() <= 3
            && word.lower.starts_with(|c: char| c.is_ascii_digit())
            && word.lower.ends_with(|c: char| c.is_ascii_alphabetic())
            && !["st", "nd", "rd", "th", "am", "pm", "k", "s", "m", "x"]
                .contains(&word.lower.trim_start_matches(|c: char| c.is_ascii_digit()));
        if class
            && matches!(
                words[at - 1].lower.as_str(),
                "in" | "from" | "class" | "form"
            )
        {
            places.push(at);
        }
    }
    places.sort_unstable();
    for one in found
        .iter_mut()
        .filter(|one| one.kind == PiiKind::Name && !one.certain)
    {
        let at = words.partition_point(|word| word.span.start < one.span.start);
        let Some(place) = places.get(places.partition_point(|place| *place <= at)) else {
            continue;
        };
        let same_sentence = words[at + 1..*place].iter().all(|word| !word.opens);
        if place - at <= 8 && same_sentence && words[at].is_given() {
            one.certain = true;
        }
    }
}
