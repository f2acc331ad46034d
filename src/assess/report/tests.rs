//! The figures, over comments of every kind.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::quotes::Role;
use super::*;
use crate::domain::reading::PiiKind;
use crate::domain::score::Attribute;
use crate::export::sample::{at, comment, comments, failed, p, rulebook};

fn summary(stored: &[StoredComment]) -> Summary {
    let mut builder = SummaryBuilder::new(&rulebook(Some(8)), TimeZone::get("Europe/London").unwrap());
    for stored in stored {
        builder.push(stored);
    }
    builder.finish(Funnel::default()).0
}

#[test]
fn each_comment_has_one_place() {
    let text = "Keep the mentoring scheme as it is, please.";
    let mut late = comment(4, "Too late, I know, but keep it.");
    late.comment.posted_at = Some(at("2026-03-30T00:00:00Z"));
    let mut gone = comment(5, "Gone.").judged(Verdict::Escalate, ReasonKey::SAFEGUARDING_DISCLOSURE);
    gone.withdrawn = true;
    let found = summary(&[
        comment(1, text).by(Some("a")),
        comment(2, text).by(Some("A ")),
        comment(3, text).by(Some("b")),
        late,
        gone,
        comment(6, "Cheap pills").judged(Verdict::Reject, ReasonKey::SPAM_PROMOTION),
        comment(7, "An attack").judged(Verdict::Reject, ReasonKey::ABUSE_THREAT),
        comment(8, "Perhaps").judged(Verdict::Hold, ReasonKey::LANGUAGE_NOT_SUPPORTED),
        comment(9, "He hurts me").judged(Verdict::Escalate, ReasonKey::SAFEGUARDING_DISCLOSURE),
        comment(10, "The bins again").judged(Verdict::Accept, ReasonKey::OFF_TOPIC),
    ]);
    assert!(found.reconciles());
    assert_eq!(found.received(), 10);
    assert_eq!(found.included, 3, "two people with one text, and the bins");
    let reasons: Vec<_> = found.excluded.iter().map(|(reason, count)| (reason.key(), *count)).collect();
    assert_eq!(reasons, [("spam", 1), ("abuse", 1), ("repeat", 1), ("late", 1), ("withdrawn", 1)]);
    assert_eq!((found.funnel.held, found.funnel.escalated, found.off_topic), (1, 1, 1));
    assert_eq!(found.disclosures, Disclosures { escalated: 1, unacknowledged: 2, withdrawn: 1 });
}

#[test]
fn an_escalated_comment_is_a_count_and_nothing_else() {
    let plain = comment(1, "My mentor listened to me every single week.");
    let harmed = comment(2, "He hits me when my mentor is not there, every single week.")
        .tagged("stigma", 0.99, Attitude::Negative, "He hits me when my mentor is not there, every single week.")
        .judged(Verdict::Escalate, ReasonKey::SAFEGUARDING_DISCLOSURE);
    let with = summary(&[plain.clone(), harmed]);
    let mut without = summary(&[plain]);
    without.funnel.escalated = 1;
    without.disclosures = Disclosures { escalated: 1, unacknowledged: 1, withdrawn: 0 };
    // Which rulebook judged it is no more than the count.
    without.judged_by.values_mut().for_each(|count| *count += 1);
    assert_eq!(with, without);
}

#[test]
fn days_are_days_of_the_consultation() {
    let mut stored = comment(1, "Posted on a summer night.");
    stored.comment.posted_at = Some(at("2026-03-29T23:00:00Z"));
    let found = summary(&[stored]);
    assert_eq!(found.days.keys().next().unwrap().to_string(), "2026-03-30");
}

#[test]
fn other_says_something_and_none_does_not() {
    let found = summary(&[comment(1, "Good idea"), comment(2, "I wrote a poem about a lighthouse")]);
    assert_eq!((found.none.all, found.other.all), (1, 1));
}

#[test]
fn campaigns_are_shown_three_ways_and_never_removed() {
    let text = "I ask the council to keep the mentoring scheme open for every child in the borough.";
    let tagged = |sequence, text| comment(sequence, text).tagged("structured", 0.9, Attitude::Positive, "mentoring");
    let stored: Vec<_> = (1..=4)
        .map(|sequence| tagged(sequence, text))
        .chain([tagged(5, "Their mentoring is too formal for me, there are forms for everything.")])
        .collect();
    let found = summary(&stored);
    let expected = ThreeWays { all: 5, distinct: 2, without_campaigns: 1 };
    assert_eq!((found.ways, found.themes[1].ways), (expected, expected));
    assert_eq!(found.campaigns.len(), 1);
    assert_eq!((found.campaigns[0].comments, found.campaigns[0].themes[1]), (4, 4));
}

fn quoted(stored: &[StoredComment]) -> Vec<(Role, String)> {
    summary(stored).themes[0].quotes.iter().map(|quote| (quote.role, quote.text.clone())).collect()
}

#[test]
fn quotes_are_whole_sentences_with_their_roles() {
    let one = "They gave them purple passes so the whole corridor knew.";
    let other = "Nobody minds being picked for it in our year at all.";
    let account = "After 2 years of it my son still hides his pass because of the laughing.";
    let stored = [
        comment(1, &format!("Well. {one} So there.")).tagged("stigma", 0.95, Attitude::Negative, "purple passes"),
        comment(2, other).tagged("stigma", 0.9, Attitude::Positive, "picked"),
        comment(3, account).tagged("stigma", 0.7, Attitude::Negative, "hides his pass"),
    ];
    let expected =
        [(Role::Typical, one.to_owned()), (Role::Opposing, other.to_owned()), (Role::Evidence, account.to_owned())];
    assert_eq!(quoted(&stored), expected);
    for quote in &summary(&stored).themes[0].quotes {
        let text = &stored[quote.sequence as usize - 1].comment.text;
        assert_eq!(quote.span.slice(text), quote.text, "a quote equals the stored slice");
    }
}

#[test]
fn what_must_not_be_quoted_is_not() {
    let text = "They gave Jayden a purple pass so the whole corridor knew.";
    let good = || comment(1, text).tagged("stigma", 0.95, Attitude::Negative, "purple pass");
    assert_eq!(quoted(&[good()]).len(), 1);
    assert!(quoted(&[good().with_pii(PiiKind::Name, "Jayden", false)]).is_empty(), "a possible name");
    for attribute in [Attribute::Profanity, Attribute::Toxic, Attribute::Safeguarding] {
        let mut bad = good();
        bad.assessment.attributes.insert(attribute, p(0.3));
        assert!(quoted(&[bad]).is_empty(), "{}", attribute.key());
    }
    let mut unread = good();
    unread.assessment.attributes.clear();
    assert!(quoted(&[unread]).is_empty(), "an absent score is not a low one");
    let mut refused = good();
    refused.comment.groups.insert("publish_permission".to_owned(), "None".to_owned());
    assert!(quoted(&[refused]).is_empty());
    for verdict in [Verdict::Hold, Verdict::Reject, Verdict::Escalate] {
        assert!(quoted(&[good().judged(verdict, ReasonKey::LOW_CONFIDENCE)]).is_empty());
    }
}

#[test]
fn one_quote_for_a_respondent_and_one_for_a_campaign() {
    let first = "They gave them purple passes so the whole corridor knew.";
    let second = "After 2 years of it she still hides it because of the laughing.";
    let by_one =
        |sequence, text| comment(sequence, text).by(Some("same")).tagged("stigma", 0.9, Attitude::Negative, text);
    assert_eq!(quoted(&[by_one(1, first), by_one(2, second)]).len(), 1);
    let shared = |sequence: i64| {
        let text = format!(
            "{first} Every child in our town should be offered the same help in the same way, number {sequence}."
        );
        comment(sequence, &text).tagged("stigma", 0.9, Attitude::Negative, first).tagged(
            "asset_based",
            0.9,
            Attitude::Positive,
            "Every child in our town",
        )
    };
    let found = summary(&[shared(1), shared(2), shared(3)]);
    assert_eq!(found.campaigns.len(), 1);
    assert_eq!(found.themes.iter().map(|theme| theme.quotes.len()).sum::<usize>(), 1);
}

#[test]
fn a_theme_outside_the_codebook_is_not_counted() {
    let found = summary(&[comment(1, "Old tag of an old codebook.").tagged("gone", 0.9, Attitude::Positive, "Old")]);
    assert!(found.reconciles());
    assert_eq!(found.themes.iter().map(|theme| theme.ways.all).sum::<u64>(), 0);
    assert_eq!(found.other.all, 1);
}

fn any_comment(sequence: i64) -> impl Strategy<Value = StoredComment> {
    (0..5usize, 0..4usize, 0..6u8, prop::bool::ANY, 0..3u8, prop::option::of(0..8usize)).prop_map(
        move |(verdict, text, who, withdrawn, posted, theme)| {
            const TEXTS: [&str; 4] =
                ["Good", "Keep it.", "I ask the council to keep this scheme open for every child.", "👍"];
            let mut stored =
                comment(sequence, TEXTS[text]).by((who > 0).then_some(["", "a", "b", "c", "d", " "][who as usize]));
            stored.withdrawn = withdrawn && who == 1;
            stored.comment.posted_at =
                [None, Some(at("2026-03-04T00:00:00Z")), Some(at("2027-01-01T00:00:00Z"))][posted as usize];
            if let (Some(theme), Some(book)) = (theme, &rulebook(Some(8)).codebook) {
                stored = stored.tagged(book.themes[theme].id.as_str(), 0.55, Attitude::Mixed, "e");
            }
            match verdict {
                1 => stored.judged(Verdict::Hold, ReasonKey::TOO_LONG),
                2 => stored.judged(Verdict::Reject, ReasonKey::ABUSE_SEXUAL),
                3 => stored.judged(Verdict::Escalate, ReasonKey::SAFEGUARDING_SELF_HARM),
                _ => stored,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_comment_is_accounted_for(
        stored in prop::collection::vec(Just(()), 0..40)
            .prop_flat_map(|many| (0..many.len() as i64).map(any_comment).collect::<Vec<_>>()),
        broken in 0..5u64,
        waiting in 0..9u64,
        parked in 0..9u64,
    ) {
        let mut builder = SummaryBuilder::new(&rulebook(Some(8)), TimeZone::UTC);
        for stored in &stored {
            builder.push(stored);
        }
        for row in &failed(broken) {
            builder.fail(row);
        }
        let (found, placements) = builder.finish(Funnel { waiting, parked, ..Funnel::default() });
        prop_assert!(found.reconciles());
        prop_assert_eq!(found.received(), stored.len() as u64 + broken + waiting + parked);
        let places: Vec<Place> =
            stored.iter().map(|one| placements.place(one, rulebook(None).consultation.closes_at)).collect();
        let count = |wanted: Place| places.iter().filter(|place| **place == wanted).count() as u64;
        prop_assert_eq!(count(Place::Included), found.included);
        for reason in Exclusion::ALL {
            prop_assert_eq!(count(Place::Excluded(reason)), found.excluded.get(&reason).copied().unwrap_or(0));
        }
        prop_assert!(found.ways.distinct <= found.ways.all && found.ways.without_campaigns <= found.ways.all);
        prop_assert_eq!(found.ways.all - found.ways.without_campaigns, found.in_campaigns());
    }
}

#[test]
fn the_same_comments_give_the_same_summary() {
    let book = rulebook(Some(8));
    let stored = comments(600, &book);
    assert_eq!(summary(&stored), summary(&stored));
    assert!(summary(&stored).reconciles());
}
