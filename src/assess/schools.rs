//! Names of schools, and the persons that a school or a class beside them gives away.

use crate::domain::reading::{Pii, PiiKind};

use super::names::{TITLES, Word, pii, stem};

const SCHOOL_HEADS: &[&str] =
    &["school", "academy", "college", "primary", "infants", "juniors", "high", "secondary", "grammar"];

/// Words that say what kind of school, and not which.
const KINDS: &[&str] = &[
    "primary",
    "secondary",
    "high",
    "junior",
    "infant",
    "infants",
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
    "rc",
    "ce",
    "boys",
    "girls",
    "sports",
    "technology",
];

/// Words before "school" that name none.
const NO_NAMES: &[&str] = &[
    "of",
    "and",
    "the",
    "&",
    "c",
    "e",
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
    "back",
    "during",
    "before",
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
    "county",
    "district",
    "non-public",
    "charter",
    "city",
];

/// Whether a word before "school" says nothing about which.
fn is_general(word: &str) -> bool {
    KINDS.contains(&word) || NO_NAMES.contains(&word)
}

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
    let next_is_head = words
        .get(at + 1)
        .is_some_and(|next| next.follows && !next.opens && SCHOOL_HEADS.contains(&next.lower.as_str()));
    if next_is_head {
        return;
    }
    // "at high": these say a school only behind a name with a capital.
    let weak = matches!(head_word, "high" | "secondary" | "grammar" | "primary");
    if weak && !head.capital {
        return;
    }
    let Some(first) = name_start(words, at, weak) else {
        return;
    };
    found.push(pii(PiiKind::School, &words[first], head, true));
}

/// Where the name before a school's head word begins; `None` without a name.
fn name_start(words: &[Word<'_>], at: usize, weak: bool) -> Option<usize> {
    let head = &words[at];
    let mut first = None;
    let mut reach = at;
    while reach > 0 && at - reach < 6 {
        let here = &words[reach];
        if here.opens || !here.follows {
            break;
        }
        let before = &words[reach - 1];
        let lower = before.lower.as_str();
        let general = is_general(lower) || TITLES.contains(&lower);
        let capital = before.capital || before.text.len() < 4 && before.text.starts_with(char::is_uppercase);
        if capital && !general {
            first = Some(reach - 1);
        } else if first.is_none() && !head.capital && !weak && is_name_written_small(words, reach - 1) {
            return Some(reach - 1);
        } else if !(general && (KINDS.contains(&lower) || first.is_some() && matches!(lower, "of" | "and" | "&"))) {
            break;
        }
        reach -= 1;
    }
    let first = first?;
    let name = &words[first];
    // "Great School", "Unelected school", "the County school" name none.
    let only_opens = at - first == 1 && name.opens && (name.is_ordinary() || !head.capital);
    let only_place = at - first == 1 && !head.capital && name.is_known();
    (!only_opens && !only_place).then_some(first)
}

/// "at windmere academy": behind such a word, what is no word is a name.
fn is_name_written_small(words: &[Word<'_>], at: usize) -> bool {
    let word = &words[at];
    let general = is_general(&word.lower) || word.is_ordinary() || word.is_known();
    let led = at.checked_sub(1).and_then(|before| words.get(before));
    let led = led.is_some_and(|before| {
        let lower = before.lower.as_str();
        matches!(lower, "at" | "from" | "in" | "to" | "of" | "attend" | "attends" | "attended" | "called" | "2" | "go")
    });
    led && !general && word.lower.len() > 3 && word.lower.is_ascii() && !word.lower.contains('-')
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
                | "house"
                | "centre"
        )
    });
    let genitive = name.lower.ends_with("'s") || name.lower.ends_with("’s");
    let mut last = at + 1;
    for (offset, word) in words.iter().enumerate().skip(at + 2).take(6) {
        let lower = word.lower.as_str();
        // "St Peter's C of E Primary".
        let linking = matches!(lower, "c" | "of" | "e" | "and" | "&");
        let kind = KINDS.contains(&lower) || SCHOOL_HEADS.contains(&lower);
        if !word.follows || word.opens || !(kind || linking) {
            break;
        }
        if kind {
            last = offset;
        }
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
        if class && matches!(words[at - 1].lower.as_str(), "in" | "from" | "class" | "form") {
            places.push(at);
        }
    }
    places.sort_unstable();
    for one in found.iter_mut().filter(|one| one.kind == PiiKind::Name && !one.certain) {
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
