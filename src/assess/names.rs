//! Names of persons; [`super::schools`] has the schools.
//!
//! Certain: a title or an introduction before it, a known given name before a
//! surname, a name beside a class or school. Uncertain: given names alone and
//! capitalised words in mid-sentence that no list explains; they are masked
//! in exports and keep a comment from being quoted, and flag nothing.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::domain::reading::{Pii, PiiKind};
use crate::domain::score::Span;

use super::schools;
use super::vocabulary::{is_english, looks_ordinary};

static GIVEN: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("words/given_names.txt").split_whitespace().collect());

static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("words/known_capitals.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect()
});

pub(super) const TITLES: &[&str] =
    &["mr", "mrs", "miss", "ms", "mx", "dr", "doctor", "sir", "prof", "professor", "rev", "reverend", "pastor", "imam"];

/// Titles of office-holders: their names are public in most comments.
const OFFICES: &[&str] = &["cllr", "councillor", "mp", "mayor", "pc", "pcso", "sgt", "minister", "lord", "lady"];

/// What "Miss ..." is followed by when it is a verb.
const NO_SURNAME: &[&str] = &[
    "you", "it", "them", "him", "her", "my", "the", "school", "this", "that", "those", "our", "a", "i", "and", "or",
    "said", "was", "is", "has", "who", "at", "in", "at", "all", "being", "going",
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
    "county",
    "blvd",
    "drive",
    "way",
    "building",
    "theatre",
];

/// One word of the text.
pub(super) struct Word<'t> {
    pub text: &'t str,
    pub lower: String,
    pub span: Span,
    /// A capital followed by small letters.
    pub capital: bool,
    /// Only white space (and perhaps a full stop) before it since the last word.
    pub follows: bool,
    /// Nothing at all, a line break, or the end of a sentence before it.
    pub opens: bool,
}

impl Word<'_> {
    pub fn is_given(&self) -> bool {
        GIVEN.contains(stem(&self.lower))
    }

    pub fn is_known(&self) -> bool {
        KNOWN.contains(self.lower.as_str()) || KNOWN.contains(stem(&self.lower))
    }

    pub fn is_ordinary(&self) -> bool {
        is_english(&self.lower) || looks_ordinary(&self.lower)
    }

    /// Capitalised and nothing but a name can explain it.
    fn is_strange(&self) -> bool {
        self.capital && !self.is_known() && !self.is_ordinary() && self.span.end - self.span.start > 1
    }
}

/// A word without its genitive.
pub(super) fn stem(word: &str) -> &str {
    word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).or_else(|| word.strip_suffix('\'')).unwrap_or(word)
}

/// Names and schools of `text`; stretches in `skip` (links, addresses) hold none.
/// They may overlap each other.
pub(super) fn find(text: &str, skip: &[Span]) -> Vec<Pii> {
    let words = words_of(text, skip);
    let mut found = schools::find(&words);
    for at in 0..words.len() {
        titled(&words, at, &mut found);
        introduced(&words, at, &mut found);
        given_and_surname(&words, at, &mut found);
        alone(&words, at, &mut found);
    }
    schools::make_certain(&words, &mut found);
    found
}

fn words_of<'t>(text: &'t str, skip: &[Span]) -> Vec<Word<'t>> {
    let mut words: Vec<Word<'t>> = Vec::new();
    let mut skip = skip.iter().peekable();
    let mut gap = String::new();
    let mut current: Option<(usize, usize)> = None;
    let joins = |c: char| matches!(c, '\'' | '’' | '-' | '&');
    let mut letters = text.char_indices().chain([(text.len(), ' ')]).enumerate().peekable();
    while let Some((position, (byte, c))) = letters.next() {
        let next = letters.peek().map(|(_, (_, c))| *c);
        let inside = c.is_alphanumeric() || current.is_some() && joins(c) && next.is_some_and(char::is_alphanumeric);
        if inside {
            current.get_or_insert((position, byte));
            continue;
        }
        if let Some((start, from)) = current.take() {
            let span = Span { start, end: position };
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
        opens: first || trimmed.contains(|c: char| !matches!(c, ',' | '\'' | '’' | '&' | '/' | ')' | '-' | '|')),
    }
}

pub(super) fn pii(kind: PiiKind, from: &Word<'_>, to: &Word<'_>, certain: bool) -> Pii {
    // The genitive stays outside: "Mr Khan's lesson" hides "Mr Khan".
    let possessive = to.text.len() - stem(to.text).len();
    let chars = if possessive == 0 { 0 } else { to.text.chars().count() - stem(to.text).chars().count() };
    Pii { kind, span: Span { start: from.span.start, end: to.span.end - chars }, certain }
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
    let verb = matches!(title.lower.as_str(), "miss" | "sir" | "doctor" | "lady" | "lord" | "minister" | "mayor");
    let sentence = !title.capital && next.is_ordinary();
    if next.capital && !sentence && (title.capital || title.lower.len() < 4) {
        let length = name_length(words, at + 1, 3).max(1);
        let certain = !(office || verb && next.is_known());
        found.push(pii(PiiKind::Name, title, &words[at + length], certain));
    } else if !office
        && !matches!(title.lower.as_str(), "doctor" | "sir" | "professor" | "pastor" | "imam")
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
        words.get(at + offset).is_some_and(|word| options.contains(&word.lower.as_str()))
    };
    let skip = if says(0, &["my", "his", "her"]) && says(1, &["name"]) && says(2, &["is", "was", "iz"]) {
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
        let place =
            words.get(at + length).is_some_and(|next| next.follows && NAMED_PLACES.contains(&next.lower.as_str()));
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
            "you" | "we" | "it" | "they" | "he" | "she" | "i" | "the" | "be" | "this" | "that" | "them" | "my"
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
