//! Where sentences begin and end in a judged text.
//!
//! Written for comments rather than prose: a line or a bullet ends a sentence,
//! abbreviations do not, a scrap joins its neighbour, and a long stretch with
//! no full stop at all is cut where a speaker would draw breath.

use unicode_segmentation::UnicodeSegmentation;

use crate::domain::score::Span;

/// Shorter pieces say nothing alone and join their neighbour.
const FEWEST_WORDS: usize = 2;

/// Above this many words a sentence is cut.
const MOST_WORDS: usize = 60;

/// A cut piece has about this many words.
const CUT_WORDS: usize = 40;

/// A line this long may have been wrapped by a mail program.
const WRAPPED_LINE: usize = 50;

/// Words before which a long sentence may be cut.
const BREATHS: &[&str] = &[
    "and", "but", "so", "because", "cause", "cos", "cuz", "then", "also", "plus", "which", "when", "however",
    "although", "though", "while", "if", "or", "n", "an", "und", "aber", "y", "pero", "et", "mais", "ale", "oraz",
    "lekin", "aur", "magar",
];

/// Words whose full stop ends no sentence.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "miss", "dr", "prof", "st", "sr", "jr", "rev", "hon", "sgt", "pc", "cllr", "e.g", "i.e", "eg",
    "ie", "vs", "etc", "no", "nos", "approx", "dept", "ave", "rd", "inc", "ltd", "co", "fig", "min", "max", "yr",
    "yrs", "tel", "ext", "govt", "cf", "incl", "u.k", "u.s", "n.h.s", "p.e", "a.m", "p.m", "z.b", "bzw", "usw", "np",
    "tj",
];

/// Abbreviations that do end a sentence when a capital follows.
const MAY_END: &[&str] = &["etc", "no", "co", "yrs", "yr", "min", "max", "u.k", "u.s", "n.h.s", "a.m", "p.m", "p.e"];

/// Sentences of `judged` as spans of its characters: in order, apart, and with
/// nothing but white space between them.
pub fn split(judged: &str) -> Vec<Span> {
    let letters: Vec<char> = judged.chars().collect();
    let mut ends = Vec::new();
    let mut position = 0;
    for segment in judged.split_sentence_bounds() {
        position = ends_within(&letters, position, segment, &mut ends);
    }
    let pieces = trimmed(&letters, &ends);
    let merged = merge_scraps(&letters, pieces);
    merged.into_iter().flat_map(|span| cut_long(&letters, span)).collect()
}

/// Adds the ends that one Unicode sentence gives; where it stops.
fn ends_within(letters: &[char], start: usize, segment: &str, ends: &mut Vec<usize>) -> usize {
    let mut position = start;
    for letter in segment.chars() {
        if letter == '\n' && line_ends(letters, position) {
            ends.push(position);
        }
        position += 1;
    }
    let line_break = letters.get(position.wrapping_sub(1)) == Some(&'\n');
    if !line_break && !goes_on(letters, start, position) {
        ends.push(position);
    }
    position
}

/// Whether the line break at `position` ends what was said, or only the paper.
fn line_ends(letters: &[char], position: usize) -> bool {
    let line = letters[..position].iter().rev().take(WRAPPED_LINE);
    let wrapped = position >= WRAPPED_LINE && line.clone().all(|c| *c != '\n');
    let stopped = line.clone().next().is_some_and(|c| matches!(c, '.' | '!' | '?' | ':' | ';'));
    let next = letters.get(position + 1);
    stopped || !(wrapped && next.is_some_and(|c| c.is_lowercase()))
}

/// Whether the stop before `end` belongs to an abbreviation.
fn goes_on(letters: &[char], start: usize, end: usize) -> bool {
    if end >= letters.len() || end <= start {
        return false;
    }
    let mut last = end;
    while last > start && letters[last - 1].is_whitespace() {
        last -= 1;
    }
    if last == start || letters[last - 1] != '.' {
        return false;
    }
    let word: String = letters[start..last - 1]
        .iter()
        .rev()
        .take(10)
        .take_while(|c| !c.is_whitespace() && **c != '(')
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .flat_map(|c| c.to_lowercase())
        .collect();
    let capital = letters[end].is_uppercase();
    // "J. Smith": one capital letter is an initial.
    let initial = last >= start + 2 && letters[last - 2].is_uppercase() && word.chars().count() == 1 && word != "i";
    initial || ABBREVIATIONS.contains(&word.as_str()) && !(capital && MAY_END.contains(&word.as_str()))
}

/// Spans between the ends, without the white space around them.
fn trimmed(letters: &[char], ends: &[usize]) -> Vec<Span> {
    let mut spans = Vec::with_capacity(ends.len());
    let mut from = 0;
    for end in ends.iter().copied().chain([letters.len()]) {
        let mut start = from;
        let mut stop = end;
        while start < stop && letters[start].is_whitespace() {
            start += 1;
        }
        while stop > start && letters[stop - 1].is_whitespace() {
            stop -= 1;
        }
        if start < stop {
            spans.push(Span { start, end: stop });
        }
        from = from.max(end);
    }
    spans
}

fn words_in(letters: &[char]) -> usize {
    letters.split(|c| c.is_whitespace()).filter(|word| word.iter().any(|c| c.is_alphanumeric())).count()
}

/// Joins pieces with too few words to the one before, or the first to the next.
fn merge_scraps(letters: &[char], pieces: Vec<Span>) -> Vec<Span> {
    let is_scrap = |span: Span| {
        let inside = &letters[span.start..span.end];
        // Scripts written without spaces fill a sentence with one "word".
        words_in(inside) < FEWEST_WORDS && inside.len() < 16 && inside.is_ascii_like()
            || !inside.iter().any(|c| c.is_alphanumeric())
    };
    let mut merged: Vec<Span> = Vec::with_capacity(pieces.len());
    let mut pending: Option<Span> = None;
    for piece in pieces {
        let piece = match pending.take() {
            Some(before) => Span { start: before.start, end: piece.end },
            None => piece,
        };
        if !is_scrap(piece) {
            merged.push(piece);
        } else if let Some(last) = merged.last_mut() {
            last.end = piece.end;
        } else {
            pending = Some(piece);
        }
    }
    merged.extend(pending);
    merged
}

/// Whether a script with spaces between words is used.
trait Spaced {
    fn is_ascii_like(&self) -> bool;
}

impl Spaced for [char] {
    fn is_ascii_like(&self) -> bool {
        !self
            .iter()
            .any(|c| matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'))
    }
}

/// Cuts a sentence that runs on, at a breath where there is one near.
fn cut_long(letters: &[char], span: Span) -> Vec<Span> {
    let mut starts = Vec::new();
    let mut at = span.start;
    while at < span.end {
        let length = letters[at..span.end].iter().take_while(|c| !c.is_whitespace()).count();
        if length > 0 {
            starts.push(Span { start: at, end: at + length });
        }
        at += length.max(1);
    }
    if starts.len() <= MOST_WORDS {
        return vec![span];
    }
    let mut cuts = Vec::new();
    let mut from = 0;
    while starts.len() - from > MOST_WORDS {
        let window = from + CUT_WORDS / 2..from + MOST_WORDS - 10;
        let best = window
            .filter(|word| is_breath(letters, starts[*word], starts[*word - 1]))
            .min_by_key(|word| word.abs_diff(from + CUT_WORDS))
            .unwrap_or(from + CUT_WORDS);
        cuts.push(starts[best].start);
        from = best;
    }
    cuts.push(span.end + 1);
    let mut pieces = Vec::with_capacity(cuts.len());
    let mut start = span.start;
    for cut in cuts {
        pieces.push(Span { start, end: cut - 1 });
        start = cut;
    }
    pieces
}

/// Whether a speaker would pause before `word`.
fn is_breath(letters: &[char], word: Span, before: Span) -> bool {
    if matches!(letters[before.end - 1], ',' | ';' | ':' | '–' | '—' | '-') {
        return true;
    }
    if word.end - word.start > 8 {
        return false;
    }
    let text: String = letters[word.start..word.end].iter().flat_map(|c| c.to_lowercase()).collect();
    BREATHS.contains(&text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = split(text).iter().map(|span| span.slice(text)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn stops_questions_and_shouts_end_sentences() {
        check(
            "It helped me. Did it help you? I hope so! bye for now",
            &["It helped me.", "Did it help you?", "I hope so!", "bye for now"],
        );
    }

    #[test]
    fn abbreviations_do_not_end_sentences() {
        check(
            "We saw Mr. Jones at St. Anne's, e.g. on Fridays. It was fine.",
            &["We saw Mr. Jones at St. Anne's, e.g. on Fridays.", "It was fine."],
        );
        check(
            "Ask Dr. J. Smith about it. They need time, money etc. The rest is easy.",
            &["Ask Dr. J. Smith about it.", "They need time, money etc.", "The rest is easy."],
        );
    }

    #[test]
    fn lines_and_bullets_end_sentences() {
        check(
            "what I want\n- more mentors\n- less paper work\nthat is all",
            &["what I want", "- more mentors", "- less paper work", "that is all"],
        );
    }

    #[test]
    fn a_wrapped_line_goes_on() {
        let text = "this sentence was typed in a mail program which wraps its lines\nat a fixed width";
        check(text, &[text]);
    }

    #[test]
    fn scraps_join_their_neighbour() {
        check("Yes. It did work for us. Really!", &["Yes. It did work for us. Really!"]);
        check("No!!! :) ...", &["No!!! :) ..."]);
        check("", &[]);
        check("...", &["..."]);
    }

    #[test]
    fn text_speak_without_stops_is_one_sentence_until_it_runs_on() {
        let short = "my mentor woz proper safe n he got me 2 go skool again innit";
        check(short, &[short]);
        let long = ["we went there every week"; 20].join(" and ");
        let spans = split(&long);
        assert_eq!(spans.len(), 3);
        assert!(spans[1].slice(&long).starts_with("and we went"));
        for pair in spans.windows(2) {
            assert_eq!(pair[0].end + 1, pair[1].start);
        }
    }

    #[test]
    fn chinese_sentences_are_told_apart() {
        check("这个项目很好。孩子们需要它！", &["这个项目很好。", "孩子们需要它！"]);
    }
}
