//! Comments and assessments as they lie in a row: JSON with a version tag.
//!
//! The forms hold every field of the domain values, so that what is read equals
//! what was written, bit for bit. They are private to the store: a published
//! shape (`wire`, exports) may round or leave out, these may not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::assessment::{Assessment, Sentiment};
use crate::domain::codebook::{ThemeId, ThemeTag};
use crate::domain::comment::{Comment, ConsultationId, SourceName};
use crate::domain::decision::{Reason, ReasonKey, Verdict};
use crate::domain::opinion::{Attitude, Polarity, Stance, Tone};
use crate::domain::reading::{Language, Pii, PiiKind};
use crate::domain::rulebook::PipelineVersion;
use crate::domain::score::{Attribute, Distribution, Probability, Score, Span};
use crate::pipeline::ports::StoreError;
use crate::wire::CommentV1;

/// Version of both forms. A reader refuses what it does not know.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct CommentRecord {
    v: u32,
    comment: CommentV1,
}

#[derive(Serialize, Deserialize)]
struct AssessmentRecord {
    v: u32,
    verdict: String,
    reasons: Vec<ReasonRecord>,
    attributes: BTreeMap<String, f32>,
    themes: Option<Vec<ThemeRecord>>,
    stance: Option<(String, f32)>,
    sentiment: Option<SentimentRecord>,
    tone: Option<(String, f32)>,
    language: String,
    pii: Vec<PiiRecord>,
    words: usize,
    pipeline: String,
}

#[derive(Serialize, Deserialize)]
struct ReasonRecord {
    key: String,
    verdict: String,
    attribute: Option<String>,
    p: Option<f32>,
    span: Option<(usize, usize)>,
    rule: String,
}

#[derive(Serialize, Deserialize)]
struct ThemeRecord {
    id: String,
    p: f32,
    span: Option<(usize, usize)>,
    position: Option<(String, f32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SentimentRecord {
    Attitude(Vec<(String, f32)>),
    Polarity(Vec<(String, f32)>),
}

#[derive(Serialize, Deserialize)]
struct PiiRecord {
    kind: String,
    span: (usize, usize),
    certain: bool,
}

/// The comment as a row keeps it.
pub fn comment_to_row(comment: &Comment) -> Result<String, StoreError> {
    write(&CommentRecord { v: VERSION, comment: CommentV1::from(comment) })
}

/// The comment in a row.
pub fn comment_from_row(row: &str) -> Result<Comment, StoreError> {
    let record: CommentRecord = read(row)?;
    check_version(record.v)?;
    let (Some(consultation), Some(source)) = (
        record.comment.consultation.as_deref().and_then(ConsultationId::new),
        record.comment.source.as_deref().and_then(SourceName::new),
    ) else {
        return Err(StoreError::Damaged("comment without consultation or source".to_owned()));
    };
    record.comment.into_comment(&consultation, &source).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// The assessment as a row keeps it.
pub fn assessment_to_row(assessment: &Assessment) -> Result<String, StoreError> {
    write(&to_record(assessment))
}

/// The assessment in a row.
pub fn assessment_from_row(row: &str) -> Result<Assessment, StoreError> {
    let record: AssessmentRecord = read(row)?;
    check_version(record.v)?;
    from_record(record)
}

fn write(record: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|error| StoreError::Failed(format!("write row: {error}")))
}

fn read<'a, T: Deserialize<'a>>(row: &'a str) -> Result<T, StoreError> {
    // The error of the JSON reader could quote the row, which holds a person's words.
    serde_json::from_str(row).map_err(|error| {
        StoreError::Damaged(format!("not readable at line {} column {}", error.line(), error.column()))
    })
}

fn check_version(found: u32) -> Result<(), StoreError> {
    if found == VERSION {
        Ok(())
    } else {
        Err(StoreError::Damaged(format!("record version {found}, this binary reads {VERSION}")))
    }
}

fn pair(span: Span) -> (usize, usize) {
    (span.start, span.end)
}

fn to_record(assessment: &Assessment) -> AssessmentRecord {
    // Named one by one, so that a new field cannot be forgotten here.
    let Assessment {
        verdict,
        reasons,
        attributes,
        themes,
        stance,
        sentiment,
        tone,
        language,
        pii,
        word_count,
        pipeline_version,
    } = assessment;
    AssessmentRecord {
        v: VERSION,
        verdict: verdict.key().to_owned(),
        reasons: reasons
            .iter()
            .map(|reason| ReasonRecord {
                key: reason.key.as_str().to_owned(),
                verdict: reason.verdict.key().to_owned(),
                attribute: reason.attribute.map(|a| a.key().to_owned()),
                p: reason.probability.map(Probability::get),
                span: reason.span.map(pair),
                rule: reason.rule.clone(),
            })
            .collect(),
        attributes: attributes.iter().map(|(attribute, p)| (attribute.key().to_owned(), p.get())).collect(),
        themes: themes.as_ref().map(|tags| {
            tags.iter()
                .map(|tag| ThemeRecord {
                    id: tag.theme.to_string(),
                    p: tag.score.probability.get(),
                    span: tag.score.span.map(pair),
                    position: tag.position.map(|(a, p)| (a.key().to_owned(), p.get())),
                })
                .collect()
        }),
        stance: stance.map(|(label, p)| (label.key().to_owned(), p.get())),
        sentiment: sentiment.as_ref().map(|sentiment| match sentiment {
            Sentiment::Attitude(all) => SentimentRecord::Attitude(labels(all, Attitude::key)),
            Sentiment::Polarity(all) => SentimentRecord::Polarity(labels(all, Polarity::key)),
        }),
        tone: tone.map(|(label, p)| (label.key().to_owned(), p.get())),
        language: language.code().to_owned(),
        pii: pii
            .iter()
            .map(|pii| PiiRecord { kind: pii.kind.key().to_owned(), span: pair(pii.span), certain: pii.certain })
            .collect(),
        words: *word_count,
        pipeline: pipeline_version.0.clone(),
    }
}

fn labels<L: Copy + PartialEq>(all: &Distribution<L>, key: fn(L) -> &'static str) -> Vec<(String, f32)> {
    all.entries().iter().map(|(label, p)| (key(*label).to_owned(), p.get())).collect()
}

fn from_record(record: AssessmentRecord) -> Result<Assessment, StoreError> {
    let verdict = |key: &str| known("verdict", key, Verdict::from_key(key));
    Ok(Assessment {
        verdict: verdict(&record.verdict)?,
        reasons: record
            .reasons
            .into_iter()
            .map(|reason| {
                Ok(Reason {
                    key: known("reason", &reason.key, ReasonKey::from_key(&reason.key))?,
                    verdict: verdict(&reason.verdict)?,
                    attribute: reason.attribute.as_deref().map(attribute).transpose()?,
                    probability: reason.p.map(probability).transpose()?,
                    span: reason.span.map(span).transpose()?,
                    rule: reason.rule,
                })
            })
            .collect::<Result<_, StoreError>>()?,
        attributes: record
            .attributes
            .into_iter()
            .map(|(key, p)| Ok((attribute(&key)?, probability(p)?)))
            .collect::<Result<_, StoreError>>()?,
        themes: record.themes.map(|tags| tags.into_iter().map(theme).collect()).transpose()?,
        stance: record.stance.map(|entry| label("stance", Stance::from_key, &entry)).transpose()?,
        sentiment: record
            .sentiment
            .map(|sentiment| {
                Ok::<_, StoreError>(match sentiment {
                    SentimentRecord::Attitude(all) => {
                        Sentiment::Attitude(distribution("attitude", Attitude::from_key, &all)?)
                    }
                    SentimentRecord::Polarity(all) => {
                        Sentiment::Polarity(distribution("polarity", Polarity::from_key, &all)?)
                    }
                })
            })
            .transpose()?,
        tone: record.tone.map(|entry| label("tone", Tone::from_key, &entry)).transpose()?,
        language: Language::new(record.language),
        pii: record
            .pii
            .into_iter()
            .map(|pii| {
                Ok(Pii {
                    kind: known("personal data", &pii.kind, PiiKind::from_key(&pii.kind))?,
                    span: span(pii.span)?,
                    certain: pii.certain,
                })
            })
            .collect::<Result<_, StoreError>>()?,
        word_count: record.words,
        pipeline_version: PipelineVersion(record.pipeline),
    })
}

fn theme(tag: ThemeRecord) -> Result<ThemeTag, StoreError> {
    Ok(ThemeTag {
        theme: known("theme", &tag.id, ThemeId::new(&tag.id))?,
        score: Score { probability: probability(tag.p)?, span: tag.span.map(span).transpose()? },
        position: tag.position.map(|entry| label("position", Attitude::from_key, &entry)).transpose()?,
    })
}

fn known<T>(what: &str, key: &str, found: Option<T>) -> Result<T, StoreError> {
    found.ok_or_else(|| StoreError::Damaged(format!("unknown {what} `{key}`")))
}

fn attribute(key: &str) -> Result<Attribute, StoreError> {
    known("attribute", key, Attribute::from_key(key))
}

fn probability(p: f32) -> Result<Probability, StoreError> {
    Probability::new(p).ok_or_else(|| StoreError::Damaged(format!("probability {p} outside 0 to 1")))
}

fn span((start, end): (usize, usize)) -> Result<Span, StoreError> {
    if start <= end { Ok(Span { start, end }) } else { Err(StoreError::Damaged(format!("span {start} to {end}"))) }
}

fn label<L>(
    what: &str,
    from_key: fn(&str) -> Option<L>,
    (key, p): &(String, f32),
) -> Result<(L, Probability), StoreError> {
    Ok((known(what, key, from_key(key))?, probability(*p)?))
}

fn distribution<L: Copy + PartialEq>(
    what: &str,
    from_key: fn(&str) -> Option<L>,
    all: &[(String, f32)],
) -> Result<Distribution<L>, StoreError> {
    let entries = all.iter().map(|entry| label(what, from_key, entry)).collect::<Result<_, _>>()?;
    Distribution::new(entries).ok_or_else(|| StoreError::Damaged(format!("{what} without any label")))
}

#[cfg(test)]
mod tests;
