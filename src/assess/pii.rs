//! Personal data in the original text.
//!
//! Patterns with a fixed shape live here, names of persons and schools in
//! [`super::names`]. What is found is masked in every shared export; only
//! what is certain flags the comment.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::reading::{Pii, PiiKind};
use crate::domain::score::Span;

use super::language::is_english;
use super::links::Link;
use super::names;

/// Personal data of `text`, whose links are given: sorted, apart from each
/// other, in characters of `text`.
pub fn find(text: &str, links: &[Link]) -> Vec<Pii> {
    let positions = Positions::new(text);
    let mut found = Vec::new();
    let mut skip: Vec<Span> = links.iter().map(|link| link.span).collect();
    for (kind, pattern, accept) in &*PATTERNS {
        for captures in pattern.captures_iter(text) {
            let Some(hit) = captures.name("pii").or_else(|| captures.get(0)) else {
                continue;
            };
            let span = Span {
                start: positions.of(hit.start()),
                end: positions.of(hit.end()),
            };
            let in_link = *kind != PiiKind::Email && overlaps_any(links, span);
            if !in_link && accept(text, hit.start(), hit.as_str()) {
                found.push(Pii {
                    kind: *kind,
                    span,
                    certain: true,
                });
                skip.push(span);
            }
        }
    }
    skip.sort_unstable();
    found.extend(names::find(text, &skip));
    settle(found)
}

/// Whether a link covers a part of `span`; links are sorted and apart.
fn overlaps_any(links: &[Link], span: Span) -> bool {
    let after = links.partition_point(|link| link.span.end <= span.start);
    links
        .get(after)
        .is_some_and(|link| link.span.overlaps(span))
}

/// Of spans that overlap, the certain and then the longer stays.
fn settle(mut found: Vec<Pii>) -> Vec<Pii> {
    found.retain(|one| one.span.start < one.span.end);
    found.sort_by_key(|one| {
        let length = one.span.end - one.span.start;
        (!one.certain, std::cmp::Reverse(length), one.span, one.kind)
    });
    let mut kept: std::collections::BTreeMap<usize, Pii> = std::collections::BTreeMap::new();
    for one in found {
        let before = kept.range(..one.span.end).next_back();
        if before.is_none_or(|(_, before)| !before.span.overlaps(one.span)) {
            kept.insert(one.span.start, one);
        }
    }
    kept.into_values().collect()
}

/// From bytes to characters.
struct Positions(Vec<usize>);

impl Positions {
    fn new(text: &str) -> Self {
        Self(if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(byte, _)| byte).collect()
        })
    }

    fn of(&self, byte: usize) -> usize {
        if self.0.is_empty() {
            byte
        } else {
            self.0.partition_point(|start| *start < byte)
        }
    }
}

/// Says of a hit (text, byte where it starts, hit) whether it is what it looks like.
type Accept = fn(&str, usize, &str) -> bool;

static PATTERNS: LazyLock<Vec<(PiiKind, Regex, Accept)>> = LazyLock::new(|| {
    let pattern = |source: &str| Regex::new(source).expect("these patterns are tested");
    vec![
        (
            PiiKind::Email,
            pattern(r"(?i)[\p{L}\p{N}][\p{L}\p{N}._%+'-]*@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+"),
            always,
        ),
        (
            PiiKind::Email,
            pattern(
                r"(?i)\b[a-z0-9][a-z0-9._-]+\s{0,2}(?:\(at\)|\[at\]|\{at\}|\bat\b|@)\s{0,2}[a-z0-9-]+\s{0,2}(?:\(dot\)|\[dot\]|\{dot\}|\bdot\b)\s{0,2}(?:com|co|org|net|uk|ac|gov|sch|info)(?:\s{0,2}(?:\(dot\)|\[dot\]|\bdot\b|\.)\s{0,2}(?:uk|com))?\b",
            ),
            always,
        ),
        (
            PiiKind::Phone,
            pattern(
                r"(?:(?:\+|\b00)44[\s().-]{0,3}(?:\(?0\)?[\s().-]{0,2})?|\(?0)[1-9](?:[\s().-]{0,2}\d){7,9}",
            ),
            is_phone,
        ),
        (
            PiiKind::Phone,
            pattern(r"\+[1-9]\d{0,2}(?:[\s().-]{0,2}\d){7,12}"),
            ends_clear,
        ),
        (
            PiiKind::Postcode,
            pattern(
                r"(?i)\b[A-PR-UWYZ][A-HK-Y]?[0-9][0-9A-HJKMNPR-Y]?\s{0,2}[0-9][ABD-HJLNP-UW-Z]{2}\b",
            ),
            is_postcode,
        ),
        (
            PiiKind::NationalInsurance,
            pattern(r"(?i)\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\s?\d{2}\s?\d{2}\s?\d{2}\s?[A-D]\b"),
            always,
        ),
        (PiiKind::Card, pattern(r"\b\d(?:[ -]?\d){12,18}\b"), is_card),
        (
            PiiKind::Handle,
            pattern(
                r"(?:^|[^\p{L}\p{N}_@./])(?P<pii>@[A-Za-z0-9_][A-Za-z0-9_.]{0,29}[A-Za-z0-9_])",
            ),
            is_handle,
        ),
        (
            PiiKind::Handle,
            pattern(
                r"(?i)\b(?:insta(?:gram)?|snap(?:chat)?|tiktok|discord|kik|telegram|xbox|psn|gamertag|roblox|fb)\s{0,2}(?:(?:name|user|username|id|handle)\s{0,2})?(?:[:=@]|\bis\b)\s{0,2}(?P<pii>[a-z0-9_][a-z0-9_.]{1,28}[a-z0-9_])\b",
            ),
            is_named_handle,
        ),
        (
            PiiKind::Handle,
            pattern(
                r"(?i)\b(?:insta(?:gram)?|snap(?:chat)?|tiktok|discord|kik|telegram)\s{1,2}(?P<pii>[a-z0-9_][a-z0-9_.]{1,28}[a-z0-9_])\b",
            ),
            is_odd_handle,
        ),
        (
            PiiKind::Address,
            pattern(
                r"(?i)\b(?:flat\s{1,2}\d{1,4}[a-z]?,?\s{1,2})?\d{1,4}[a-z]?,?\s{1,2}(?:\p{L}[\p{L}'’-]+\s{1,2}){1,3}(?:road|rd|street|close|avenue|ave|lane|drive|crescent|cres|way|court|grove|gardens|terrace|place|walk|mews|square|croft|rise|hill|row|st)\b",
            ),
            is_address,
        ),
    ]
});

fn always(_: &str, _: usize, _: &str) -> bool {
    true
}

fn digits(hit: &str) -> Vec<u32> {
    hit.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// Whether no figure touches the hit.
fn ends_clear(text: &str, start: usize, hit: &str) -> bool {
    let before = text[..start].chars().next_back();
    let after = text[start + hit.len()..].chars().next();
    !before.is_some_and(|c| c.is_ascii_digit() || c == '£')
        && !after.is_some_and(|c| c.is_ascii_digit())
}

/// A number of the UK plan that is no freephone or helpline number.
fn is_phone(text: &str, start: usize, hit: &str) -> bool {
    let digits = digits(hit);
    let national = match digits.as_slice() {
        [0, 0, 4, 4, 0, rest @ ..]
        | [0, 0, 4, 4, rest @ ..]
        | [4, 4, 0, rest @ ..]
        | [4, 4, rest @ ..]
            if hit.starts_with(['+', '0']) && !hit.starts_with("01") =>
        {
            rest
        }
        [0, rest @ ..] => rest,
        _ => return false,
    };
    let public = matches!(national, [8, 0, ..] | [3, ..]);
    let plan = match national.first() {
        Some(1) => matches!(national.len(), 9 | 10),
        Some(2 | 7 | 8 | 9 | 5) => national.len() == 10,
        _ => false,
    };
    plan && !public && ends_clear(text, start, hit)
}

const AREAS: &str = " AB AL B BA BB BD BH BL BN BR BS BT CA CB CF CH CM CO CR CT CV CW DA DD DE DG DH DL DN DT DY E EC EH EN EX FK FY G GL GU GY HA HD HG HP HR HS HU HX IG IM IP IV JE KA KT KW KY L LA LD LE LL LN LS LU M ME MK ML N NE NG NN NP NR NW OL OX PA PE PH PL PO PR RG RH RM S SA SE SG SK SL SM SN SO SP SR SS ST SW SY TA TD TF TN TQ TR TS TW UB W WA WC WD WF WN WR WS WV YO ZE ";

/// A real area, and no "b4 1st" in small letters.
fn is_postcode(_: &str, _: usize, hit: &str) -> bool {
    let upper = hit.to_ascii_uppercase();
    let area: String = upper
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect();
    let tail = &hit[hit.len() - 2..];
    let ordinal = ["st", "nd", "rd", "th", "hr", "yr", "ft"].contains(&tail);
    AREAS.contains(&format!(" {area} ")) && !ordinal
}

/// Luhn's check, and more than one figure in it.
fn is_card(text: &str, start: usize, hit: &str) -> bool {
    let digits = digits(hit);
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, doubled) if doubled > 9 => doubled - 9,
            (_, doubled) => doubled,
        })
        .sum();
    let varied = digits.iter().any(|digit| Some(digit) != digits.first());
    sum.is_multiple_of(10) && varied && ends_clear(text, start, hit)
}

/// `@name`, and no masked "@ss" or "@ 5pm".
fn is_handle(_: &str, _: usize, hit: &str) -> bool {
    let name = hit[1..].to_lowercase();
    !name.starts_with("ss")
        && name.chars().any(char::is_alphabetic)
        && !matches!(
            name.as_str(),
            "home" | "school" | "work" | "all" | "the" | "least" | "once" | "nd"
        )
}

fn is_named_handle(text: &str, start: usize, hit: &str) -> bool {
    // "insta: name" is given as a name; "snap is fun" is not.
    let given = text[..start].trim_end().ends_with([':', '=', '@']);
    if given {
        !is_english(&hit.to_lowercase()) || hit.contains(|c: char| !c.is_alphabetic())
    } else {
        is_odd_handle(text, start, hit) || !is_english(&hit.to_lowercase()) && hit.len() > 4
    }
}

/// Letters with figures or signs between or behind them.
fn is_odd_handle(_: &str, _: usize, hit: &str) -> bool {
    hit.contains(|c: char| c.is_ascii_digit() || c == '_')
        && hit.contains(|c: char| c.is_ascii_alphabetic())
}

/// A house number before a street: written with capitals, or with a name that
/// is no ordinary word.
fn is_address(text: &str, start: usize, hit: &str) -> bool {
    if text[..start].ends_with(['£', '$', '.', ',']) {
        return false;
    }
    let words: Vec<&str> = hit
        .split_whitespace()
        .map(|word| word.trim_matches(','))
        .collect();
    let numbers = words
        .iter()
        .rposition(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map_or(0, |last| last + 1);
    let words = &words[numbers..];
    let Some((street, names)) = words.split_last() else {
        return false;
    };
    let capitals = names
        .iter()
        .all(|name| name.starts_with(char::is_uppercase));
    let kind = street.to_lowercase();
    if capitals && !names.is_empty() {
        return street.starts_with(char::is_uppercase)
            || names.iter().any(|name| !is_english(&name.to_lowercase()));
    }
    names.len() <= 2
        && names.iter().all(|name| !is_english(&name.to_lowercase()))
        && matches!(
            kind.as_str(),
            "road"
                | "rd"
                | "street"
                | "close"
                | "avenue"
                | "ave"
                | "lane"
                | "drive"
                | "crescent"
                | "grove"
                | "terrace"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::links;

    /// Kinds and texts; a question mark for what is not certain.
    fn found(text: &str) -> Vec<String> {
        find(text, &links::find(text))
            .iter()
            .map(|one| {
                let mark = if one.certain { "" } else { "?" };
                format!("{}{mark}:{}", one.kind.key(), one.span.slice(text))
            })
            .collect()
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(found(text), expected, "{text}");
    }

    #[test]
    fn addresses_on_the_net_are_found() {
        check("mail né.x@example.co.uk.", &["email:né.x@example.co.uk"]);
        check(
            "write to helper at example dot org please",
            &["email:helper at example dot org"],
        );
        check("i am @alder_99 there", &["handle:@alder_99"]);
        check(
            "insta: jojo.k9 or snap jojo_k",
            &["handle:jojo.k9", "handle:jojo_k"],
        );
        check("what an @ss, meet @ 5pm", &[]);
        check("snap is fun and insta is rubbish", &[]);
    }

    #[test]
    fn numbers_of_persons_are_found() {
        check(
            "ring 07700 900123 or 0121 496 0123",
            &["phone:07700 900123", "phone:0121 496 0123"],
        );
        check("+44 (0)7700 900 123", &["phone:+44 (0)7700 900 123"]);
        check(
            "NI QQ 12 34 56 C no, AB 12 34 56 C yes",
            &["national_insurance:AB 12 34 56 C"],
        );
        check("card 4111 1111 1111 1111", &["card:4111 1111 1111 1111"]);
        check("card 4111 1111 1111 1112", &[]);
    }

    #[test]
    fn public_numbers_figures_and_dates_are_left() {
        for text in [
            "Childline is 0800 1111",
            "ring 0800 068 4141",
            "on 01/02/2020 at 10:30",
            "it cost £1,000,000 over 2019 2020 2021",
            "year 7 8 9 10 11",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn places_that_find_a_person_are_found() {
        check(
            "we live at 14 Alder Close, DY1 3QX",
            &["address:14 Alder Close", "postcode:DY1 3QX"],
        );
        check("im in dy1 3qx", &["postcode:dy1 3qx"]);
        check(
            "flat 3, 22b Rowan Tree Road",
            &["address:flat 3, 22b Rowan Tree Road"],
        );
        check("14 aldergate road", &["address:14 aldergate road"]);
        check(
            "b4 1st of may, 30 miles down the road, 2 kids on our street, B69",
            &[],
        );
    }

    #[test]
    fn names_with_a_title_or_an_introduction_are_certain() {
        check("thanks Mr Khan for it", &["name:Mr Khan"]);
        check("Mrs. O'Neill's class", &["name:Mrs. O'Neill"]);
        check("my name is shanelle okoro and i", &["name:shanelle okoro"]);
        check("mrs hussain helped", &["name:mrs hussain"]);
        check("I miss school and my friends", &[]);
        check("Cllr Aldridge-Webb said so", &["name?:Cllr Aldridge-Webb"]);
    }

    #[test]
    fn a_given_name_with_a_surname_is_certain_and_alone_is_not() {
        check("I met Aisha Begum there", &["name:Aisha Begum"]);
        check("then Kyle came", &["name?:Kyle"]);
        check("Kyle came", &["name?:Kyle"]);
        check("Kyle in 9B hit me", &["name:Kyle"]);
        check("he met Zorblatt there", &["name?:Zorblatt"]);
        check("will mark it in may, Will you?", &[]);
    }

    #[test]
    fn schools_are_found() {
        check(
            "I go to Alder Park Primary School now",
            &["school:Alder Park Primary School"],
        );
        check("at Q3 Academy they", &["school:Q3 Academy"]);
        check("at St Anne's they do", &["school:St Anne's"]);
        check(
            "St. Mary's Catholic Primary is",
            &["school:St. Mary's Catholic Primary"],
        );
        check(
            "jess in year 8 at windmere academy",
            &["school:windmere academy"],
        );
        check(
            "Jess from Alder High hit him",
            &["name:Jess", "school:Alder High"],
        );
    }

    #[test]
    fn school_as_a_kind_of_place_is_no_name() {
        for text in [
            "My School was good",
            "in high school we had it",
            "every primary school and secondary school",
            "The College should pay",
            "St John's Ambulance and St George's day",
            "High School was hard",
            "Great School",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn public_bodies_places_and_months_are_no_names() {
        for text in [
            "The NHS and Ofsted in Dudley say so, as Barnardo's and the Scouts do",
            "On Monday in April the Polish club met in West Bromwich",
            "I did the Duke of Edinburgh award with Cadets",
            "We like English and Maths at the YMCA",
            "See www.example.com/Aisha/Begum",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn the_certain_span_wins_over_the_uncertain() {
        let text = "Ask Mr Zorblatt of Year 9";
        check(text, &["name:Mr Zorblatt"]);
    }
}
