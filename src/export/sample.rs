//! Made-up comments for tests, and a store that holds them in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::assessment::{Assessment, Sentiment};
use crate::domain::codebook::{Codebook, StancePair, Theme, ThemeId, ThemeTag};
use crate::domain::comment::{Author, Comment, CommentId, CommentKey, ConsultationId, SourceName};
use crate::domain::decision::{Reason, ReasonKey, Verdict};
use crate::domain::opinion::{Attitude, Polarity, Stance, Tone};
use crate::domain::policy::{Policy, UnsupportedLanguage};
use crate::domain::reading::{Language, Pii, PiiKind};
use crate::domain::rulebook::{Consultation, PipelineVersion, Rulebook};
use crate::domain::score::{Attribute, Distribution, Probability, Score, Span};
use crate::pipeline::ports::{
    Disclosure, FailedRow, FailedRows, Funnel, Judged, Recorded, Rulebooks, Shadows, Store, StoreError, StoredComment,
    Trials, Webhooks,
};

pub fn p(value: f32) -> Probability {
    Probability::new(value).unwrap()
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Eight themes, or as many as asked for, or no codebook.
pub fn rulebook(themes: Option<usize>) -> Rulebook {
    const KNOWN: [(&str, &str, &str); 8] = [
        ("stigma", "Stigma and being labelled", "Being marked out or looked down on because of getting support."),
        ("structured", "Organised schemes", "Mentoring as an organised thing: a programme, a scheme, a formal role."),
        ("organic", "Natural mentors", "Mentoring that grows without a scheme: family, neighbours, a coach."),
        ("peer_schemes", "Peer schemes", "Children and young people supporting children and young people."),
        ("asset_based", "Everyone has something to give", "The universal offer; starting from strengths."),
        (
            "mentor_quality",
            "What mentors are like",
            "Training, reliability, listening, clicking with the young person.",
        ),
        ("outcomes", "What difference it makes", "Attainment, attendance, confidence, work or college."),
        ("access_funding", "Access and money", "Who gets it and what it takes to provide it."),
    ];
    let theme = |at: usize| {
        let (id, label, definition) = KNOWN.get(at).copied().unwrap_or(("", "", ""));
        let extra = format!("extra_{at}");
        Theme {
            id: ThemeId::new(if id.is_empty() { &extra } else { id }).unwrap(),
            label: if label.is_empty() {
                format!("Another theme with a long name, number {at}")
            } else {
                label.to_owned()
            },
            headline: at < 4,
            parent: None,
            definition: definition.to_owned(),
            includes: Vec::new(),
            excludes: Vec::new(),
            examples: Vec::new(),
            tag_from: p(0.5),
        }
    };
    Rulebook {
        consultation: Consultation {
            id: ConsultationId::new("mentoring").unwrap(),
            title: "Youth mentoring in Northgate".to_owned(),
            question: "How should the council support mentoring for young people aged 11 to 18?".to_owned(),
            organisation: "Northgate Borough Council".to_owned(),
            time_zone: "Europe/London".to_owned(),
            opens_at: Some(at("2026-03-02T00:00:00Z")),
            closes_at: Some(at("2026-03-29T23:00:00Z")),
            safeguarding_contact: Some("A. Example, 0121 496 0000".to_owned()),
        },
        policy: Policy {
            extra_scorers: Vec::new(),
            rules: Vec::new(),
            unsupported_language: UnsupportedLanguage::Hold,
            hold_above_chars: 10_000,
            link_farm_from: 5,
        },
        codebook: themes.map(|count| Codebook {
            id: "mentoring".to_owned(),
            version: "1.2".to_owned(),
            themes: (0..count).map(theme).collect(),
            stance: Some(StancePair {
                structured: ThemeId::new("structured").unwrap(),
                organic: ThemeId::new("organic").unwrap(),
            }),
        }),
        heads: None,
        languages: vec!["en".to_owned()],
        model_version: "2026-03".to_owned(),
        first_stage: false,
        off_topic_from: Some(p(0.7)),
        version: PipelineVersion("3f9c2b7d10aa".to_owned()),
    }
}

/// An accepted comment with this text and nothing else to say about it.
pub fn comment(sequence: i64, text: &str) -> StoredComment {
    let attributes: BTreeMap<Attribute, Probability> =
        Attribute::ALL.into_iter().map(|attribute| (attribute, p(0.02))).collect();
    let key = CommentKey {
        consultation: ConsultationId::new("mentoring").unwrap(),
        source: SourceName::new("web_form").unwrap(),
        id: CommentId::new(format!("c{sequence}")).unwrap(),
    };
    StoredComment {
        comment: Comment {
            posted_at: Some(at("2026-03-04T09:30:00Z")),
            author: Author { id: Some(format!("person-{sequence}")), ..Author::default() },
            ..Comment::bare(key, text)
        },
        sequence,
        assessment: Assessment {
            attributes,
            word_count: text.split_whitespace().count(),
            ..Assessment::bare(Verdict::Accept, PipelineVersion("3f9c2b7d10aa".to_owned()))
        },
        acknowledged_at_ms: None,
        withdrawn: false,
        escalated: false,
        decided: None,
    }
}

impl StoredComment {
    /// With a verdict and its reason.
    pub(crate) fn judged(mut self, verdict: Verdict, key: ReasonKey) -> Self {
        self.assessment.verdict = verdict;
        self.assessment.reasons.push(Reason {
            key,
            verdict,
            attribute: None,
            probability: Some(p(0.93)),
            span: None,
            rule: "built-in".to_owned(),
        });
        self
    }

    /// By this author.
    pub(crate) fn by(mut self, author: Option<&str>) -> Self {
        self.comment.author.id = author.map(str::to_owned);
        self
    }

    /// With a theme tag on these words.
    pub(crate) fn tagged(mut self, theme: &str, probability: f32, attitude: Attitude, evidence: &str) -> Self {
        let text = &self.comment.text;
        let span = text.find(evidence).map(|byte| {
            let start = text[..byte].chars().count();
            Span { start, end: start + evidence.chars().count() }
        });
        self.assessment.themes.get_or_insert_default().push(ThemeTag {
            theme: ThemeId::new(theme).unwrap(),
            score: Score { probability: p(probability), span },
            position: Some((attitude, p(0.8))),
        });
        self
    }

    /// With personal data.
    pub(crate) fn with_pii(mut self, kind: PiiKind, words: &str, certain: bool) -> Self {
        let text = &self.comment.text;
        let start = text[..text.find(words).unwrap()].chars().count();
        let span = Span { start, end: start + words.chars().count() };
        self.assessment.pii.push(Pii { kind, span, certain });
        self
    }
}

/// Masks as the product does, for tests that have no need of its finer points.
pub fn redactor() -> super::Redactor {
    std::sync::Arc::new(|text, pii| {
        let mut text: Vec<char> = text.chars().collect();
        let mut moves: Vec<(Span, usize)> = Vec::new();
        for found in pii.iter().rev() {
            let mark: Vec<char> = format!("[{}]", found.kind.key()).chars().collect();
            moves.push((found.span, mark.len()));
            text.splice(found.span.start..found.span.end, mark);
        }
        moves.reverse();
        let map = move |span: Span| {
            let shift = |position: usize, closing: bool| {
                let mut out = position as i64;
                for (masked, length) in &moves {
                    if position >= masked.end {
                        out += *length as i64 - (masked.end - masked.start) as i64;
                    } else if position > masked.start {
                        out += if closing { *length as i64 } else { 0 } - (position - masked.start) as i64;
                    }
                }
                usize::try_from(out).unwrap()
            };
            Span { start: shift(span.start, false), end: shift(span.end, true) }
        };
        super::Redacted { text: text.into_iter().collect(), map: Box::new(map) }
    })
}

/// A small, fixed sequence of numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

const CAMPAIGN: &str = "I ask the council to keep the youth mentoring scheme open because it gives every child in our \
    borough somebody to turn to after school and it costs less than doing nothing.";

const SENTENCES: [Sentence; 16] = [
    ("stigma", "They handed out purple passes so the whole corridor knew who was being helped.", Attitude::Negative),
    ("stigma", "Nobody in my class minds being picked, because half the year goes now.", Attitude::Positive),
    ("stigma", "You only get noticed here once you have thrown something.", Attitude::Negative),
    ("structured", "Six weeks with a handbook and a matched mentor did more than years of chats.", Attitude::Positive),
    ("structured", "Too many forms, they have killed it before it started.", Attitude::Negative),
    (
        "organic",
        "The lady at the library took me under her wing for 3 years and asked for nothing.",
        Attitude::Positive,
    ),
    ("organic", "Some kids have nobody at home to turn to, so it does not just happen.", Attitude::Mixed),
    (
        "peer_schemes",
        "Our prefects run a lunchtime homework table for the new ones since September.",
        Attitude::Positive,
    ),
    ("peer_schemes", "Mixed forms just mean the big lads take the chairs.", Attitude::Negative),
    ("asset_based", "Offer it to the whole year or do not bother.", Attitude::Neutral),
    ("mentor_quality", "She never once looked at her watch when I was talking.", Attitude::Positive),
    ("mentor_quality", "We had four mentors in one term and none of them knew his name.", Attitude::Mixed),
    ("outcomes", "Suspensions in our year halved after the first 18 months.", Attitude::Positive),
    ("outcomes", "I cannot see that it changed anything for the boys on our street.", Attitude::Negative),
    ("access_funding", "The nearest session is the far side of town and the bus costs £5.", Attitude::Neutral),
    ("access_funding", "Cutting it to save money now will cost us more in ten years.", Attitude::Positive),
];

/// As many comments as asked for, of every kind, the same each time.
pub fn comments(count: i64, rulebook: &Rulebook) -> Vec<StoredComment> {
    let mut dice = Dice::new(7);
    (1..=count).map(|sequence| one_of_many(sequence, &mut dice, rulebook)).collect()
}

/// Words in no order keep made-up comments from looking like copies of one another.
const FILLER: &str = "bus school Tuesday brother library football rain uncle garden music bakery lights corner \
    cousin teacher morning project estate market river shop park dog phone window winter chair supper table road";

fn one_of_many(sequence: i64, dice: &mut Dice, rulebook: &Rulebook) -> StoredComment {
    let picks: Vec<_> = (0..=dice.below(3)).map(|_| *dice.one(&SENTENCES)).collect();
    let words: Vec<&str> = FILLER.split_whitespace().collect();
    let mut text = format!("Comment {sequence}:");
    for _ in 0..picks.len() * 8 {
        text = format!("{text} {}", dice.one(&words));
    }
    text += ". ";
    for (_, sentence, _) in &picks {
        text += sentence;
        text.push(' ');
    }
    let kind = dice.below(200);
    if kind < 12 {
        text = CAMPAIGN.to_owned();
        if kind < 3 {
            text += " My own niece met her mentor there and she has never looked back since that day.";
        }
    }
    let mut stored = comment(sequence, text.trim());
    let day = 2 + dice.below(13) + dice.below(13);
    stored.comment.posted_at = Some(at(&format!("2026-03-{day:02}T{:02}:15:00Z", dice.below(24))));
    if dice.below(4) > 0 {
        let age = *dice.one(&["11 to 15", "16 to 18", "16 to 18", "19 and over", "19 and over", "19 and over"]);
        stored.comment.groups.insert("age_band".to_owned(), age.to_owned());
    }
    let ward = *dice.one(&["Abbey", "Canal", "Canal", "Hill", "Market", "Market", "Market", "St Ann's", "Westfield"]);
    stored.comment.groups.insert("ward".to_owned(), ward.to_owned());
    match kind {
        20..=24 => return stored.judged(Verdict::Reject, ReasonKey::SPAM_LINK_FARM),
        25..=26 => return stored.judged(Verdict::Reject, ReasonKey::ABUSE_INSULT),
        27..=30 => return stored.judged(Verdict::Hold, ReasonKey::LOW_CONFIDENCE),
        31..=32 => {
            stored.assessment.themes = None;
            stored.assessment.language = Language::new("pl");
            return stored.judged(Verdict::Hold, ReasonKey::LANGUAGE_NOT_SUPPORTED);
        }
        33 => {
            stored.acknowledged_at_ms = (dice.below(2) == 0).then_some(1_772_600_000_000);
            return stored.judged(Verdict::Escalate, ReasonKey::SAFEGUARDING_DISCLOSURE);
        }
        34 => stored.withdrawn = true,
        35..=36 => stored.comment.posted_at = Some(at("2026-04-02T10:00:00Z")),
        37..=40 => {
            text.clear();
            "Good idea".clone_into(&mut stored.comment.text);
            stored.assessment.word_count = 2;
            stored = stored.by(Some(&format!("person-{}", dice.below(5))));
        }
        41..=48 => {
            "The bins on Tanner Row have not been emptied for two weeks, please sort it."
                .clone_into(&mut stored.comment.text);
            stored.assessment.word_count = 15;
            stored = stored.judged(Verdict::Accept, ReasonKey::OFF_TOPIC);
        }
        _ => {}
    }
    with_opinion(stored, &picks, dice, rulebook)
}

type Sentence = (&'static str, &'static str, Attitude);

fn with_opinion(mut stored: StoredComment, picks: &[Sentence], dice: &mut Dice, rulebook: &Rulebook) -> StoredComment {
    if let Some(book) = &rulebook.codebook {
        for (theme, sentence, attitude) in picks {
            let known = stored.assessment.themes.iter().flatten().any(|tag| tag.theme.as_str() == *theme);
            if !known && stored.comment.text.contains(sentence) && book.theme(&ThemeId::new(theme).unwrap()).is_some() {
                let probability = 0.52 + dice.below(47) as f32 / 100.0;
                stored = stored.tagged(theme, probability, *attitude, sentence);
            }
        }
        if book.themes.len() > 8 && dice.below(3) == 0 {
            let extra = book.themes[8 + dice.below(book.themes.len() as u64 - 8) as usize].id.to_string();
            stored = stored.tagged(&extra, 0.7, Attitude::Mixed, "Comment");
        }
        let attitude = picks[0].2;
        let rest = Attitude::ALL.iter().filter(|label| **label != attitude).map(|label| (*label, p(0.1)));
        let labels = [(attitude, p(0.7))].into_iter().chain(rest).collect();
        stored.assessment.sentiment = Distribution::new(labels).map(Sentiment::Attitude);
        stored.assessment.stance = Some((
            *dice.one(&[
                Stance::PrefersStructured,
                Stance::PrefersOrganic,
                Stance::Both,
                Stance::Neither,
                Stance::Neither,
            ]),
            p(0.8),
        ));
        stored.assessment.tone = Some((
            *dice.one(&[
                Tone::Warm,
                Tone::Warm,
                Tone::Critical,
                Tone::Angry,
                Tone::Neutral,
                Tone::Humorous,
                Tone::Distressed,
            ]),
            p(0.7),
        ));
    } else {
        let label = *dice.one(Polarity::ALL);
        stored.assessment.sentiment = Distribution::new(vec![(label, p(0.9))]).map(Sentiment::Polarity);
    }
    stored
}

/// Rows that could not become comments.
pub fn failed(count: u64) -> Vec<FailedRow> {
    (1..=count)
        .map(|row| FailedRow {
            consultation: ConsultationId::new("mentoring").unwrap(),
            source: "web_form".to_owned(),
            id: None,
            row,
            reason: if row % 3 == 0 { "duplicate_id" } else { "blank" }.to_owned(),
            detail: format!("row {row} has no text"),
            raw: format!("=raw {row},\u{202e}secret raw"),
            fingerprint: format!("{row:064x}"),
        })
        .collect()
}

/// A store that only reads.
#[derive(Default)]
pub struct Shelf {
    pub comments: Vec<StoredComment>,
    pub failed: Vec<FailedRow>,
    /// So many passes find the first comment with another verdict than the pass before.
    pub restless: AtomicU32,
}

#[async_trait]
impl FailedRows for Shelf {
    async fn fail(&self, _: &[FailedRow]) -> Result<u64, StoreError> {
        Err(StoreError::Failed("this store only reads".to_owned()))
    }
}

impl Rulebooks for Shelf {}

impl Shadows for Shelf {}

impl Trials for Shelf {}

impl Webhooks for Shelf {}

#[async_trait]
impl Store for Shelf {
    async fn record(&self, _: &[Judged]) -> Result<Vec<Recorded>, StoreError> {
        Err(StoreError::Failed("this store only reads".to_owned()))
    }

    async fn failures(&self, _: &ConsultationId) -> Result<Vec<FailedRow>, StoreError> {
        Ok(self.failed.clone())
    }

    async fn cached(&self, _: &PipelineVersion, _: &[String]) -> Result<Vec<Option<Assessment>>, StoreError> {
        Ok(Vec::new())
    }

    async fn page(&self, _: &ConsultationId, after: i64, limit: u32) -> Result<Vec<StoredComment>, StoreError> {
        let from = self.comments.partition_point(|stored| stored.sequence <= after);
        let mut page: Vec<StoredComment> = self.comments[from..].iter().take(limit as usize).cloned().collect();
        if after == i64::MIN && self.restless.load(Ordering::Relaxed) > 0 {
            let left = self.restless.fetch_sub(1, Ordering::Relaxed);
            page[0].assessment.verdict = if left.is_multiple_of(2) { Verdict::Accept } else { Verdict::Hold };
        }
        Ok(page)
    }

    async fn funnel(&self, _: &ConsultationId) -> Result<Funnel, StoreError> {
        Ok(Funnel::default())
    }

    async fn disclosures(&self, _: Option<&ConsultationId>) -> Result<Vec<Disclosure>, StoreError> {
        let escalated = self.comments.iter().filter(|stored| stored.assessment.verdict == Verdict::Escalate);
        Ok(escalated
            .map(|stored| Disclosure {
                comment: stored.comment.clone(),
                assessment: stored.assessment.clone(),
                escalated_at_ms: 1_772_500_000_000,
                acknowledged: stored.acknowledged_at_ms.map(|at| (at, "A. Example".to_owned())),
            })
            .collect())
    }

    async fn acknowledge(&self, _: &CommentKey, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn consultations(&self) -> Result<Vec<ConsultationId>, StoreError> {
        Ok(Vec::new())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
