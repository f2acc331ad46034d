//! The published shapes: a comment as JSON comes in, an assessment as JSON goes out.
//!
//! They are types of their own, so that renaming a domain field cannot change a
//! format by surprise. The JSON Schemas are `docs/schemas/comment.v1.json` and
//! `docs/schemas/assessed.v1.json`; a test holds the two together.

pub mod address;
pub mod event;
pub mod incoming;
pub mod traced;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::assessment::{Assessment, Sentiment};
use crate::domain::comment::{Author, Comment, CommentId, CommentKey, ConsultationId, SourceName};
use crate::domain::score::{Attribute, Distribution, Probability, Span};

/// A comment as JSON: `id` and `text` are required, the rest is optional,
/// unknown fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentV1 {
    /// Unique at its source.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// What the person wrote.
    pub text: String,
    /// Which consultation it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consultation: Option<String>,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Orders edits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Orders edits when there is no revision; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Timestamp>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted_at: Option<Timestamp>,
    /// An opaque id, or an object with `id`, `name`, `email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<AuthorV1>,
    /// Where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_text_or_number")]
    pub parent_id: Option<String>,
    /// BCP 47, a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Declared breakdowns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
}

/// Who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AuthorV1 {
    /// An opaque identifier.
    Id(String),
    /// What the source knows.
    Known {
        /// Opaque identifier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Display name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// E-mail address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        email: Option<String>,
    },
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!("expected a text or a number, found {}", kind_of(&other)))),
    }
}

fn optional_text_or_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(serde::de::Error::custom(format!("expected a text or a number, found {}", kind_of(&other)))),
    }
}

/// What a JSON value is, in words.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Why a JSON comment cannot become a [`Comment`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommentError {
    /// The id is empty or white space.
    #[error("`id` is empty")]
    EmptyId,
    /// A name is empty or white space.
    #[error("`{0}` is empty")]
    EmptyName(&'static str),
}

impl CommentV1 {
    /// The comment, with `consultation` and `source` filled in where the JSON leaves them out.
    pub fn into_comment(self, consultation: &ConsultationId, source: &SourceName) -> Result<Comment, CommentError> {
        let id = CommentId::new(&self.id).ok_or(CommentError::EmptyId)?;
        let consultation = match self.consultation {
            Some(name) => ConsultationId::new(name).ok_or(CommentError::EmptyName("consultation"))?,
            None => consultation.clone(),
        };
        let source = match self.source {
            Some(name) => SourceName::new(name).ok_or(CommentError::EmptyName("source"))?,
            None => source.clone(),
        };
        let author = match self.author {
            None => Author::default(),
            Some(AuthorV1::Id(id)) => Author { id: Some(id), ..Author::default() },
            Some(AuthorV1::Known { id, name, email }) => Author { id, name, email },
        };
        Ok(Comment {
            key: CommentKey { consultation, source, id },
            revision: self.revision,
            edited_at: self.edited_at,
            text: self.text,
            posted_at: self.posted_at,
            author,
            url: self.url,
            parent_id: self.parent_id,
            language: self.language,
            groups: self.groups,
        })
    }
}

impl From<&Comment> for CommentV1 {
    fn from(comment: &Comment) -> Self {
        let author = &comment.author;
        Self {
            id: comment.key.id.to_string(),
            text: comment.text.clone(),
            consultation: Some(comment.key.consultation.to_string()),
            source: Some(comment.key.source.to_string()),
            revision: comment.revision,
            edited_at: comment.edited_at,
            posted_at: comment.posted_at,
            author: (*author != Author::default()).then(|| AuthorV1::Known {
                id: author.id.clone(),
                name: author.name.clone(),
                email: author.email.clone(),
            }),
            url: comment.url.clone(),
            parent_id: comment.parent_id.clone(),
            language: comment.language.clone(),
            groups: comment.groups.clone(),
        }
    }
}

/// A probability as it is published: rounded to four decimals.
fn number(probability: Probability) -> f64 {
    (f64::from(probability.get()) * 10_000.0).round() / 10_000.0
}

type Pair = [usize; 2];

fn pair(span: Span) -> Pair {
    [span.start, span.end]
}

/// The judgement of one comment as JSON (`product.md` section 5 is the contract).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AssessedV1 {
    /// The comment's id.
    pub id: String,
    /// `accept`, `hold`, `reject` or `escalate`.
    pub verdict: &'static str,
    /// Strictest first.
    pub reasons: Vec<ReasonV1>,
    /// Every attribute of ours, null where the models gave none; then those of extra scorers that gave one.
    pub attributes: OrderedMap,
    /// Null where the language is not supported, empty where none applies.
    pub themes: Option<Vec<ThemeV1>>,
    /// Null without a codebook.
    pub stance: Option<LabelV1>,
    /// Attitude or polarity.
    pub sentiment: Option<SentimentV1>,
    /// Null without a codebook.
    pub tone: Option<LabelV1>,
    /// ISO 639-1, or `und`.
    pub language: String,
    /// Personal data in the text.
    pub pii: Vec<PiiV1>,
    /// What judged it.
    pub pipeline_version: String,
}

/// Keys in published order, which is not alphabetical.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OrderedMap(pub Vec<(&'static str, Option<f64>)>);

impl Serialize for OrderedMap {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().copied())
    }
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReasonV1 {
    /// From the published list.
    pub key: &'static str,
    /// The attribute that carried it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<&'static str>,
    /// Its probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Half-open, in characters of the text as given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Pair>,
}

/// One theme tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThemeV1 {
    /// Theme key.
    pub id: String,
    /// How sure.
    pub probability: f64,
    /// What carries it.
    pub span: Option<Pair>,
}

/// A label with its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelV1 {
    /// The likeliest label.
    pub label: &'static str,
    /// How likely.
    pub probability: f64,
}

/// Attitude or polarity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SentimentV1 {
    /// `attitude` or `polarity`.
    pub kind: &'static str,
    /// The likeliest label.
    pub label: &'static str,
    /// All labels.
    pub probabilities: OrderedMap,
}

/// Personal data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PiiV1 {
    /// `email`, `phone`, ...
    pub kind: &'static str,
    /// Half-open, in characters of the text as given.
    pub span: Pair,
}

impl AssessedV1 {
    /// The published form of one judgement.
    pub fn new(id: &str, assessment: &Assessment) -> Self {
        let given = |attribute: &Attribute| assessment.attributes.get(attribute).map(|p| number(*p));
        let extras = assessment.attributes.keys().filter(|attribute| matches!(attribute, Attribute::Extra(_)));
        let attributes =
            Attribute::ALL.iter().chain(extras).map(|attribute| (attribute.key(), given(attribute))).collect();
        Self {
            id: id.to_owned(),
            verdict: assessment.verdict.key(),
            reasons: assessment
                .reasons
                .iter()
                .map(|reason| ReasonV1 {
                    key: reason.key.as_str(),
                    attribute: reason.attribute.map(Attribute::key),
                    probability: reason.probability.map(number),
                    span: reason.span.map(pair),
                })
                .collect(),
            attributes: OrderedMap(attributes),
            themes: assessment.themes.as_ref().map(|tags| {
                tags.iter()
                    .map(|tag| ThemeV1 {
                        id: tag.theme.to_string(),
                        probability: number(tag.score.probability),
                        span: tag.score.span.map(pair),
                    })
                    .collect()
            }),
            stance: assessment.stance.map(|(label, p)| LabelV1 { label: label.key(), probability: number(p) }),
            sentiment: assessment.sentiment.as_ref().map(|sentiment| match sentiment {
                Sentiment::Attitude(attitude) => {
                    sentiment_v1("attitude", attitude, crate::domain::opinion::Attitude::key)
                }
                Sentiment::Polarity(polarity) => {
                    sentiment_v1("polarity", polarity, crate::domain::opinion::Polarity::key)
                }
            }),
            tone: assessment.tone.map(|(label, p)| LabelV1 { label: label.key(), probability: number(p) }),
            language: assessment.language.code().to_owned(),
            pii: assessment.pii.iter().map(|pii| PiiV1 { kind: pii.kind.key(), span: pair(pii.span) }).collect(),
            pipeline_version: assessment.pipeline_version.to_string(),
        }
    }
}

fn sentiment_v1<L: Copy + PartialEq>(
    kind: &'static str,
    distribution: &Distribution<L>,
    key: fn(L) -> &'static str,
) -> SentimentV1 {
    SentimentV1 {
        kind,
        label: key(distribution.top().0),
        probabilities: OrderedMap(
            distribution
                .entries()
                .iter()
                .map(|(label, probability)| (key(*label), Some(number(*probability))))
                .collect(),
        ),
    }
}

/// What stands in the place of an assessment when a line could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorV1 {
    /// The line's id where it could be read, else null.
    pub id: Option<String>,
    /// What is wrong; never the text itself.
    pub error: String,
}
