//! Names of persons and of schools.
//!
//! Certain: a title or an introduction before it, a known given name before a
//! surname, a name beside a class or school. Uncertain: given names alone and
//! capitalised words in mid-sentence that no list explains; they are masked
//! in exports and keep a comment from being quoted, and flag nothing.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::domain::reading::{Pii, PiiKind};
use crate::domain::score::Span;

use super::language::is_english;

static GIVEN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("words/given_names.txt")
        .split_whitespace()
        .collect()
});

static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("words/known_capitals.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect()
});

const TITLES: &[&str] = &[
    "mr",
    "mrs",
    "miss",
    "ms",
    "mx",
    "dr",
    "doctor",
    "sir",
    "prof",
    "professor",
    "rev",
    "reverend",
    "pastor",
    "imam",
];

/// Titles of office-holders: their names are public in most comments.
const OFFICES: &[&str] = &[
    "cllr",
    "councillor",
    "mp",
    "mayor",
    "pc",
    "pcso",
    "sgt",
    "minister",
    "lord",
    "lady",
];

/// What "Miss ..." is followed by when it is a verb.
const NO_SURNAME: &[&str] = &[
    "you", "it", "them", "him", "her", "my", "the", "school", "this", "that", "those", "our", "a",
    "i", "and", "or", "said", "was", "is", "has", "who", "at", "in", "at", "all", "being", "going",
];

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

/// Places called after people.
const NAMED_PLACES: &[&str] = &[
    "hospital",
    "infirmary",
    "road",
    "street",
    "lane",
    "avenue",
    "centre",
    "center",
    "park",
    "ward",
    "clinic",
    "surgery",
    "award",
    "awards",
    "trust",
    "foundation",
    "library",
    "hall",
    "house",
    "bridge",
    "square",
    "stadium",
];

/// One word of the text.
struct Word<'t> {
    text: &'t str,
    lower: String,
    span: Span,
    /// A capital followed by small letters.
    capital: bool,
    /// Only white space (and perhaps a full stop) before it since the last word.
    follows: bool,
    /// Nothing at all, a line break, or the end of a sentence before it.
    opens: bool,
}

impl Word<'_> {
    fn is_given(&self) -> bool {
        GIVEN.contains(stem(&self.lower))
    }

    fn is_known(&self) -> bool {
        KNOWN.contains(self.lower.as_str()) || KNOWN.contains(stem(&self.lower))
    }

    fn is_ordinary(&self) -> bool {
        is_english(&self.lower) || looks_ordinary(&self.lower)
    }

    /// Capitalised and nothing but a name can explain it.
    fn is_strange(&self) -> bool {
        self.capital
            && !self.is_known()
            && !self.is_ordinary()
            && self.span.end - self.span.start > 1
    }
}

/// A word without its genitive.
fn stem(word: &str) -> &str {
    word.strip_suffix("'s")
        .or_else(|| word.strip_suffix("’s"))
        .or_else(|| word.strip_suffix('\''))
        .unwrap_or(word)
}

/// Endings that names hardly have.
fn looks_ordinary(word: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "tion", "tions", "ment", "ments", "ness", "ity", "ities", "ship", "ships", "ology", "ance",
        "ence", "able", "ible", "ful", "less", "ing", "ings", "ical", "ically", "ator", "ators",
        "ive", "ives", "ised", "ized", "ise", "ism", "ists", "ology", "ously", "ious", "eous",
        "ally", "ately", "ical", "logy", "graphy", "ated", "ates", "sion", "sions", "ware",
        "phone", "ed", "ly", "ers",
    ];
    ENDINGS
        .iter()
        .any(|ending| word.len() >= ending.len() + 3 && word.ends_with(ending))
}

/// Names and schools of `text`; stretches in `skip` (links, addresses) hold none.
/// They may overlap each other.
pub(super) fn find(text: &str, skip: &[Span]) -> Vec<Pii> {
    let words = words_of(text, skip);
    let mut found = Vec::new();
    for at in 0..words.len() {
        titled(&words, at, &mut found);
        introduced(&words, at, &mut found);
        given_and_surname(&words, at, &mut found);
        school(&words, at, &mut found);
        saint(&words, at, &mut found);
        alone(&words, at, &mut found);
    }
    beside_school(&words, &mut found);
    found
}

fn words_of<'t>(text: &'t str, skip: &[Span]) -> Vec<Word<'t>> {
    let mut words: Vec<Word<'t>> = Vec::new();
    let mut skip = skip.iter().peekable();
    let mut gap = String::new();
    let mut current: Option<(usize, usize)> = None;
    let joins = |c: char| matches!(c, '\'' | '’' | '-' | '&');
    let mut letters = text
        .char_indices()
        .chain([(text.len(), ' ')])
        .enumerate()
        .peekable();
    while let Some((position, (byte, c))) = letters.next() {
        let next = letters.peek().map(|(_, (_, c))| *c);
        let inside = c.is_alphanumeric()
            || current.is_some() && joins(c) && next.is_some_and(char::is_alphanumeric);
        if inside {
            current.get_or_insert((position, byte));
            continue;
        }
        if let Some((start, from)) = current.take() {
            let span = Span {
                start,
                end: position,
            };
            while skip.next_if(|skipped| skipped.end <= start).is_some() {}
            let skipped = skip.peek().is_some_and(|skipped| skipped.overlaps(span));
            if skipped {
                gap.push('|');
            } else {
                let piece = &text[from..byte];
                words.push(word(piece, span, &gap, words.is_empty()));
                gap.clear();
            }
        }
        // Only the kind of gap matters, so a long one is cut.
        if gap.len() < 8 || c == '\n' {
            gap.push(c);
        }
    }
    words
}

fn word<'t>(text: &'t str, span: Span, gap: &str, first: bool) -> Word<'t> {
    let mut letters = text.chars();
    let capital = letters.next().is_some_and(char::is_uppercase)
        && (letters.clone().any(char::is_lowercase) || letters.clone().next().is_none());
    let trimmed = gap.trim_matches(|c| c == ' ' || c == '\t' || c == '\u{a0}');
    Word {
        text,
        lower: text.to_lowercase().replace('’', "'"),
        span,
        capital,
        follows: !first && (trimmed.is_empty() || trimmed == "."),
        opens: first
            || trimmed
                .contains(|c: char| !matches!(c, ',' | '\'' | '’' | '&' | '/' | ')' | '-' | '|')),
    }
}

fn pii(kind: PiiKind, from: &Word<'_>, to: &Word<'_>, certain: bool) -> Pii {
    // The genitive stays outside: "Mr Khan's lesson" hides "Mr Khan".
    let possessive = to.text.len() - stem(to.text).len();
    let chars = if possessive == 0 {
        0
    } else {
        to.text.chars().count() - stem(to.text).chars().count()
    };
    Pii {
        kind,
        span: Span {
            start: from.span.start,
            end: to.span.end - chars,
        },
        certain,
    }
}

/// How many words from `at` on could be one name.
fn name_length(words: &[Word<'_>], at: usize, most: usize) -> usize {
    let mut length = 0;
    while length < most {
        let Some(word) = words.get(at + length) else {
            break;
        };
        let joined = length == 0 || (word.follows && !word.opens);
        if !joined || !word.capital || length > 0 && (word.is_known() || is_english(&word.lower)) {
            break;
        }
        length += 1;
    }
    length
}

/// "Mr Khan", "mrs o'neill", "Dr. Jane Smith".
fn titled(words: &[Word<'_>], at: usize, found: &mut Vec<Pii>) {
    let title = &words[at];
    let office = OFFICES.contains(&title.lower.as_str());
    if !office && !TITLES.contains(&title.lower.as_str()) {
        return;
    }
    let Some(next) = words.get(at + 1).filter(|next| next.follows) else {
        return;
    };
    if NO_SURNAME.contains(&next.lower.as_str()) || next.lower.chars().any(char::is_numeric) {
        return;
    }
    let verb = matches!(
        title.lower.as_str(),
        "miss" | "sir" | "doctor" | "lady" | "lord" | "minister" | "mayor"
    );
    let sentence = !title.capital && next.is_ordinary();
    if next.capital && !sentence && (title.capital || title.lower.len() < 4) {
        let length = name_length(words, at + 1, 3).max(1);
        let certain = !office && !(verb && next.is_known());
        found.push(pii(PiiKind::Name, title, &words[at + length], certain));
    } else if !office
        && !matches!(
            title.lower.as_str(),
            "doctor" | "sir" | "professor" | "pastor" | "imam"
        )
        && !next.is_ordinary()
        && !next.is_known()
        && next.lower.len() > 2
    {
        found.push(pii(PiiKind::Name, title, next, !verb || next.capital));
    }
}

/// "my name is ...", "my name's ...".
fn introduced(words: &[Word<'_>], at: usize, found: &mut Vec<Pii>) {
    let says = |offset: usize, options: &[&str]| {
        words
            .get(at + offset)
            .is_some_and(|word| options.contains(&word.lower.as_str()))
    };
    let skip =
        if says(0, &["my", "his", "her"]) && says(1, &["name"]) && says(2, &["is", "was", "iz"]) {
            3
        } else if says(0, &["my", "his", "her"]) && says(1, &["name's", "name’s", "names"]) {
            2
        } else {
            return;
        };
    let Some(first) = words.get(at + skip) else {
        return;
    };
    let named = first.capital || first.is_given() || !first.is_ordinary();
    if !named || matches!(first.lower.as_str(), "not" | "on" | "in" | "a" | "the") {
        return;
    }
    let length = name_length(words, at + skip, 3).max(1);
    let mut last = &words[at + skip + length - 1];
    if !first.capital {
        // Written small: a surname is a word that nothing else explains.
        if let Some(next) = words
            .get(at + skip + 1)
            .filter(|next| next.follows && !next.opens && !next.is_ordinary() && !next.is_known())
        {
            last = next;
        }
    }
    found.push(pii(PiiKind::Name, first, last, true));
}

/// "Aisha Begum", "jack robinson".
fn given_and_surname(words: &[Word<'_>], at: usize, found: &mut Vec<Pii>) {
    let given = &words[at];
    let Some(surname) = words.get(at + 1).filter(|next| next.follows && !next.opens) else {
        return;
    };
    if !given.is_given() || given.lower != stem(&given.lower) {
        return;
    }
    if given.capital && surname.capital && surname.lower.chars().count() > 1 {
        if surname.is_known() || is_english(&surname.lower) && !surname.is_given() && given.opens {
            return;
        }
        if is_english(&surname.lower) && is_english(&given.lower) {
            return;
        }
        let length = name_length(words, at, 3).max(2);
        let to = &words[(at + length - 1).min(words.len() - 1)];
        let place = words
            .get(at + length)
            .is_some_and(|next| next.follows && NAMED_PLACES.contains(&next.lower.as_str()));
        found.push(pii(PiiKind::Name, given, to, !place));
    } else if !given.capital
        && !is_english(&given.lower)
        && given.lower.len() > 2
        && !surname.is_ordinary()
        && !surname.is_known()
        && surname.lower.len() > 3
    {
        found.push(pii(PiiKind::Name, given, surname, false));
    }
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

/// Given names and unexplained capitals with nothing beside them.
fn alone(words: &[Word<'_>], at: usize, found: &mut Vec<Pii>) {
    let word = &words[at];
    let after_saint = at > 0 && matches!(words[at - 1].lower.as_str(), "st" | "saint");
    if after_saint {
        return;
    }
    // "Will you", "Mark it": a name that is a word as well is a name before none of these.
    let is_word = is_english(stem(&word.lower));
    let verb = words.get(at + 1).is_some_and(|next| {
        matches!(
            next.lower.as_str(),
            "you"
                | "we"
                | "it"
                | "they"
                | "he"
                | "she"
                | "i"
                | "the"
                | "be"
                | "this"
                | "that"
                | "them"
                | "my"
        )
    });
    let named = word.capital
        && word.is_given()
        && !word.is_known()
        && !(is_word && (word.opens || verb))
        && word.lower.len() > 1;
    if named || (word.is_strange() && !word.opens) {
        found.push(pii(PiiKind::Name, word, word, false));
    }
}

/// A given name a few words before a school or a class is a person found.
fn beside_school(words: &[Word<'_>], found: &mut [Pii]) {
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
