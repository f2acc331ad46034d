//! Personal data in the original text.
//!
//! Data of a fixed shape is described in `shapes`, names of persons and
//! schools in `names` and `schools`. What is found is masked in every shared export; only
//! what is certain flags the comment.

use crate::domain::reading::{Pii, PiiKind};
use crate::domain::score::Span;

use super::links::Link;
use super::names;
use super::shapes::PATTERNS;

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
            let span = Span { start: positions.of(hit.start()), end: positions.of(hit.end()) };
            let in_link = *kind != PiiKind::Email && overlaps_any(links, span);
            if !in_link && accept(text, hit.start(), hit.as_str()) {
                found.push(Pii { kind: *kind, span, certain: true });
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
    links.get(after).is_some_and(|link| link.span.overlaps(span))
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
        Self(if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(byte, _)| byte).collect() })
    }

    fn of(&self, byte: usize) -> usize {
        if self.0.is_empty() { byte } else { self.0.partition_point(|start| *start < byte) }
    }
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
        check("write to helper at example dot org please", &["email:helper at example dot org"]);
        check("i am @alder_99 there", &["handle:@alder_99"]);
        check("insta: jojo.k9 or snap jojo_k", &["handle:jojo.k9", "handle:jojo_k"]);
        check("what an @ss, meet @ 5pm", &[]);
        check("snap is fun and insta is rubbish", &[]);
    }

    #[test]
    fn numbers_of_persons_are_found() {
        check("ring 07700 900123 or 0121 496 0123", &["phone:07700 900123", "phone:0121 496 0123"]);
        check("+44 (0)7700 900 123", &["phone:+44 (0)7700 900 123"]);
        check("NI QQ 12 34 56 C no, AB 12 34 56 C yes", &["national_insurance:AB 12 34 56 C"]);
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
        check("we live at 14 Alder Close, DY1 3QX", &["address:14 Alder Close", "postcode:DY1 3QX"]);
        check("im in dy1 3qx", &["postcode:dy1 3qx"]);
        check("flat 3, 22b Rowan Tree Road", &["address:flat 3, 22b Rowan Tree Road"]);
        check("14 aldergate road", &["address:14 aldergate road"]);
        check("b4 1st of may, 30 miles down the road, 2 kids on our street, B69", &[]);
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
        check("I go to Alder Park Primary School now", &["school:Alder Park Primary School"]);
        check("at Q3 Academy they", &["school:Q3 Academy"]);
        check("at St Anne's they do", &["school:St Anne's"]);
        check("St. Mary's Catholic Primary is", &["school:St. Mary's Catholic Primary"]);
        check("jess in year 8 at windmere academy", &["school:windmere academy"]);
        check("Jess from Alder High hit him", &["name:Jess", "school:Alder High"]);
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
            "the electoral college",
            "Unelected school boards",
            "it would draw in more college students",
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
