//! Personal data that has a fixed shape: addresses, numbers, handles.
//!
//! A pattern proposes and a check disposes: what a pattern cannot say (a real
//! postcode area, a card's check digit) is said beside it.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::reading::PiiKind;

use super::vocabulary::is_english;

/// Says of a hit (text, byte where it starts, hit) whether it is what it looks like.
pub(super) type Accept = fn(&str, usize, &str) -> bool;

/// Kinds of data, their shapes, and what a hit must pass.
pub(super) static PATTERNS: LazyLock<Vec<(PiiKind, Regex, Accept)>> = LazyLock::new(|| {
    let pattern = |source: &str| Regex::new(source).expect("these patterns are tested");
    vec![
        (PiiKind::Email, pattern(r"(?i)[\p{L}\p{N}][\p{L}\p{N}._%+'-]*@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+"), always),
        (
            PiiKind::Email,
            pattern(
                r"(?i)\b[a-z0-9][a-z0-9._-]+\s{0,2}(?:\(at\)|\[at\]|\{at\}|\bat\b|@)\s{0,2}[a-z0-9-]+\s{0,2}(?:\(dot\)|\[dot\]|\{dot\}|\bdot\b)\s{0,2}(?:com|co|org|net|uk|ac|gov|sch|info)(?:\s{0,2}(?:\(dot\)|\[dot\]|\bdot\b|\.)\s{0,2}(?:uk|com))?\b",
            ),
            always,
        ),
        (
            PiiKind::Phone,
            pattern(r"(?:(?:\+|\b00)44[\s().-]{0,3}(?:\(?0\)?[\s().-]{0,2})?|\(?0)[1-9](?:[\s().-]{0,2}\d){7,9}"),
            is_phone,
        ),
        (PiiKind::Phone, pattern(r"\+[1-9]\d{0,2}(?:[\s().-]{0,2}\d){7,12}"), ends_clear),
        (
            PiiKind::Postcode,
            pattern(r"(?i)\b[A-PR-UWYZ][A-HK-Y]?[0-9][0-9A-HJKMNPR-Y]?\s{0,2}[0-9][ABD-HJLNP-UW-Z]{2}\b"),
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
            pattern(r"(?:^|[^\p{L}\p{N}_@./])(?P<pii>@[A-Za-z0-9_][A-Za-z0-9_.]{0,29}[A-Za-z0-9_])"),
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
    !before.is_some_and(|c| c.is_ascii_digit() || c == '£') && !after.is_some_and(|c| c.is_ascii_digit())
}

/// A number of the UK plan that is no freephone or helpline number.
fn is_phone(text: &str, start: usize, hit: &str) -> bool {
    let digits = digits(hit);
    let national = match digits.as_slice() {
        [0, 0, 4, 4, 0, rest @ ..] | [0, 0, 4, 4, rest @ ..] | [4, 4, 0, rest @ ..] | [4, 4, rest @ ..]
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
    let area: String = upper.chars().take_while(char::is_ascii_alphabetic).collect();
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
        && !matches!(name.as_str(), "home" | "school" | "work" | "all" | "the" | "least" | "once" | "nd")
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
    hit.contains(|c: char| c.is_ascii_digit() || c == '_') && hit.contains(|c: char| c.is_ascii_alphabetic())
}

/// A house number before a street: written with capitals, or with a name that
/// is no ordinary word.
fn is_address(text: &str, start: usize, hit: &str) -> bool {
    if text[..start].ends_with(['£', '$', '.', ',']) {
        return false;
    }
    let words: Vec<&str> = hit.split_whitespace().map(|word| word.trim_matches(',')).collect();
    let numbers =
        words.iter().rposition(|word| word.starts_with(|c: char| c.is_ascii_digit())).map_or(0, |last| last + 1);
    let words = &words[numbers..];
    let Some((street, names)) = words.split_last() else {
        return false;
    };
    let capitals = names.iter().all(|name| name.starts_with(char::is_uppercase));
    let kind = street.to_lowercase();
    if capitals && !names.is_empty() {
        return street.starts_with(char::is_uppercase) || names.iter().any(|name| !is_english(&name.to_lowercase()));
    }
    names.len() <= 2
        && names.iter().all(|name| !is_english(&name.to_lowercase()))
        && matches!(
            kind.as_str(),
            "road" | "rd" | "street" | "close" | "avenue" | "ave" | "lane" | "drive" | "crescent" | "grove" | "terrace"
        )
}
