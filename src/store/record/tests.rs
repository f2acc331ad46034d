//! Whatever goes in comes out.

use jiff::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::domain::comment::{Author, CommentId, CommentKey};

fn any_text() -> impl Strategy<Value = String> {
    any::<String>()
}

fn any_probability() -> impl Strategy<Value = Probability> {
    (0.0_f32..=1.0).prop_map(|p| Probability::new(p).unwrap())
}

fn any_span() -> impl Strategy<Value = Span> {
    (0_usize..9_999, 0_usize..99).prop_map(|(start, size)| Span { start, end: start + size })
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    // Years 1 to 9999 or so, to the nanosecond.
    (-62_000_000_000_i64..250_000_000_000, 0_i32..1_000_000_000)
        .prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap())
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = T> + use<T> {
    select(all.to_vec())
}

fn any_reason() -> impl Strategy<Value = Reason> {
    (
        one_of(&ReasonKey::ALL),
        one_of(&Verdict::ALL),
        of(one_of(&Attribute::ALL)),
        of(any_probability()),
        of(any_span()),
        any_text(),
    )
        .prop_map(|(key, verdict, attribute, probability, span, rule)| Reason {
            key,
            verdict,
            attribute,
            probability,
            span,
            rule,
        })
}

fn any_theme() -> impl Strategy<Value = ThemeTag> {
    ("[a-z_]{1,12}", any_probability(), of(any_span()), of((one_of(Attitude::ALL), any_probability()))).prop_map(
        |(id, probability, span, position)| ThemeTag {
            theme: ThemeId::new(id).unwrap(),
            score: Score { probability, span },
            position,
        },
    )
}

fn any_sentiment() -> impl Strategy<Value = Sentiment> {
    let attitude = vec((one_of(Attitude::ALL), any_probability()), 1..5)
        .prop_map(|all| Sentiment::Attitude(Distribution::new(all).unwrap()));
    let polarity = vec((one_of(Polarity::ALL), any_probability()), 1..4)
        .prop_map(|all| Sentiment::Polarity(Distribution::new(all).unwrap()));
    prop_oneof![attitude, polarity]
}

fn any_pii() -> impl Strategy<Value = Pii> {
    (one_of(&PiiKind::ALL), any_span(), any::<bool>()).prop_map(|(kind, span, certain)| Pii { kind, span, certain })
}

fn any_assessment() -> impl Strategy<Value = Assessment> {
    (
        (
            one_of(&Verdict::ALL),
            vec(any_reason(), 0..4),
            btree_map(one_of(&Attribute::ALL), any_probability(), 0..10),
            of(vec(any_theme(), 0..4)),
            of((one_of(Stance::ALL), any_probability())),
        ),
        (
            of(any_sentiment()),
            of((one_of(Tone::ALL), any_probability())),
            "[a-z]{2,3}",
            vec(any_pii(), 0..4),
            any::<u32>(),
            any_text(),
        ),
    )
        .prop_map(
            |((verdict, reasons, attributes, themes, stance), (sentiment, tone, language, pii, words, version))| {
                Assessment {
                    verdict,
                    reasons,
                    attributes,
                    themes,
                    stance,
                    sentiment,
                    tone,
                    language: Language::new(language),
                    pii,
                    word_count: words as usize,
                    pipeline_version: PipelineVersion(version),
                }
            },
        )
}

fn any_comment() -> impl Strategy<Value = Comment> {
    (
        ("\\S{1,9}", "\\S{1,9}", "\\S.{0,9}\\S", of(any::<i64>()), of(any_time())),
        any_text(),
        of(any_time()),
        (of(any_text()), of(any_text()), of(any_text())),
        (of(any_text()), of(any_text()), of(any_text())),
        btree_map(any_text(), any_text(), 0..4),
    )
        .prop_filter_map(
            "an id of visible characters",
            |((consultation, source, id, revision, edited_at), text, posted_at, author, rest, groups)| {
                Some(Comment {
                    key: CommentKey {
                        consultation: ConsultationId::new(consultation)?,
                        source: SourceName::new(source)?,
                        id: CommentId::new(id)?,
                    },
                    revision,
                    edited_at,
                    text,
                    posted_at,
                    author: Author { id: author.0, name: author.1, email: author.2 },
                    url: rest.0,
                    parent_id: rest.1,
                    language: rest.2,
                    groups,
                })
            },
        )
}

proptest! {
    #[test]
    fn an_assessment_comes_back_bit_for_bit(assessment in any_assessment()) {
        let row = assessment_to_row(&assessment).unwrap();
        prop_assert_eq!(assessment_from_row(&row).unwrap(), assessment);
    }

    #[test]
    fn a_comment_comes_back_as_it_arrived(comment in any_comment()) {
        let row = comment_to_row(&comment).unwrap();
        prop_assert_eq!(comment_from_row(&row).unwrap(), comment);
    }
}

#[test]
fn a_form_of_another_version_is_refused() {
    let row = r#"{"v":2,"comment":{"id":"1","text":"x","consultation":"m","source":"s"}}"#;
    let error = comment_from_row(row).unwrap_err().to_string();
    assert!(error.contains("record version 2"), "{error}");
}

#[test]
fn a_damaged_row_is_reported_without_its_text() {
    let row = r#"{"v":1,"comment":{"id":"1","text":["a secret"]}}"#;
    let error = comment_from_row(row).unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}
