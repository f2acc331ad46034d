//! The second pass: one comment, its row in every table that may hold it.
//!
//! What may stand where is decided in [`Rows::push`] and nowhere else. An
//! escalated comment leaves an id and nothing more; text is shared for comments
//! that count, and for repeats and late ones; everything else stays restricted.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cells::{Value, neutral};
use super::columns::{self, Field};
use super::folder::{Folder, Sink, Table};
use super::pseudonym::Pseudonyms;
use super::{ExportError, Redacted, Redactor};
use crate::assess::report::place::{Exclusion, Place};
use crate::assess::report::{CHECK_BELOW, HIGH_FROM, Placements, SUBSTANTIVE_WORDS, Summary};
use crate::domain::assessment::Sentiment;
use crate::domain::codebook::ThemeTag;
use crate::domain::decision::{Reason, Verdict};
use crate::domain::rulebook::Rulebook;
use crate::domain::score::{Probability, Span};
use crate::pipeline::ports::{FailedRow, StoredComment};

/// Tells whether two passes saw the same comments.
#[derive(Clone, Default)]
pub struct Trace(Sha256);

impl Trace {
    /// Adds what the tables depend on.
    pub fn add(&mut self, stored: &StoredComment) {
        self.0.update(stored.sequence.to_le_bytes());
        self.0.update([u8::from(stored.withdrawn)]);
        self.0.update(stored.verdict().key());
        self.0.update(stored.assessment.pipeline_version.0.as_bytes());
        self.0.update((stored.comment.text.len() as u64).to_le_bytes());
        self.0.update(stored.comment.text.as_bytes());
    }

    /// Equal for equal comments in equal order.
    pub fn digest(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// A comment that the report shows in part, found again in the second pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Its pseudonym.
    pub response_id: String,
    /// Its text, personal data masked.
    pub text_redacted: String,
}

/// What the first pass gave the second.
pub struct Plan {
    /// The figures.
    pub summary: Arc<Summary>,
    /// Where comments count.
    pub placements: Placements,
    /// The consultation and its standards.
    pub rulebook: Arc<Rulebook>,
    /// Masks personal data.
    pub redactor: Redactor,
    /// The key of the pseudonyms.
    pub pseudonym_key: [u8; 32],
    /// Whether the restricted files are written.
    pub restricted: bool,
}

struct Restricted {
    key: Table,
    texts: Table,
    failed: Table,
}

/// The tables being written.
pub struct Rows {
    plan: Plan,
    fields: Vec<Field>,
    ids: Pseudonyms,
    responses: Table,
    lines: Sink,
    tags: Table,
    exclusions: Table,
    restricted: Option<Restricted>,
    escalated: Vec<String>,
    wanted: HashMap<i64, Shown>,
    trace: Trace,
}

/// What the second pass leaves behind.
pub struct Done {
    /// Comments that the report shows in part, by sequence.
    pub shown: HashMap<i64, Shown>,
    /// What was seen.
    pub trace: Trace,
    /// The columns of `responses`.
    pub fields: Vec<Field>,
    /// For ids that are still needed.
    pub ids: Pseudonyms,
}

/// One row of `responses`, before it is cut to the columns that appear.
struct Row<'a> {
    response_id: &'a str,
    status: &'a str,
    reason: &'a str,
    stored: Option<&'a StoredComment>,
    respondent_id: Option<&'a str>,
    shared: Option<&'a Shared>,
    channel: Option<&'a str>,
}

/// A text as it may be shared.
struct Shared {
    redacted: Redacted,
    text: String,
}

impl Rows {
    /// Opens every table.
    pub fn open(folder: &Folder, plan: Plan) -> Result<Self, ExportError> {
        let fields = columns::response_fields(&plan.summary);
        let quotes = plan.summary.themes.iter().flat_map(|theme| &theme.quotes).map(|quote| quote.sequence);
        let templates = plan.summary.campaigns.iter().map(|campaign| campaign.template);
        let restricted = |name, columns| Table::new(folder.restricted(name)?, columns::names(columns));
        Ok(Self {
            responses: Table::new(folder.file("responses.csv")?, fields.iter().map(Field::name))?,
            lines: folder.file("responses.jsonl")?,
            tags: Table::new(folder.file("tags.csv")?, columns::names(columns::TAGS))?,
            exclusions: Table::new(folder.file("exclusions.csv")?, columns::names(columns::EXCLUSIONS))?,
            restricted: if plan.restricted {
                Some(Restricted {
                    key: restricted("key.csv", columns::KEY)?,
                    texts: restricted("excluded_texts.csv", columns::EXCLUDED_TEXTS)?,
                    failed: restricted("failed_rows.csv", columns::FAILED_ROWS)?,
                })
            } else {
                None
            },
            ids: Pseudonyms::new(plan.pseudonym_key),
            wanted: quotes.chain(templates).map(|sequence| (sequence, Shown::default())).collect(),
            escalated: Vec::new(),
            trace: Trace::default(),
            fields,
            plan,
        })
    }

    /// Writes one comment.
    pub fn push(&mut self, stored: &StoredComment) -> Result<(), ExportError> {
        self.trace.add(stored);
        let place = self.plan.placements.place(stored, self.plan.rulebook.consultation.closes_at);
        if place == Place::Escalated {
            self.escalated.push(self.ids.escalated(&stored.comment.key));
            return Ok(());
        }
        let response_id = self.ids.response(&stored.comment.key);
        let consultation = self.plan.rulebook.consultation.id.clone();
        let withdrawn = place == Place::Excluded(Exclusion::Withdrawn);
        let respondent_id = stored
            .comment
            .author
            .respondent_key()
            .filter(|_| !withdrawn)
            .map(|key| self.ids.respondent(consultation.as_str(), &key));
        let reason = match place {
            Place::Excluded(reason) => reason.key(),
            Place::Held => stored.assessment.reasons.first().map_or("low_confidence", |reason| reason.key.as_str()),
            Place::Included | Place::Escalated => "",
        };
        let may_share = matches!(place, Place::Included | Place::Excluded(Exclusion::Repeat | Exclusion::Late));
        let shared = may_share.then(|| {
            let redacted = (self.plan.redactor)(&stored.comment.text, &stored.assessment.pii);
            Shared { text: neutral(&redacted.text), redacted }
        });
        let row = Row {
            response_id: &response_id,
            status: place.status(),
            reason,
            stored: Some(stored),
            respondent_id: respondent_id.as_deref(),
            shared: shared.as_ref(),
            channel: Some(stored.comment.key.source.as_str()),
        };
        let values = self.values(&row);
        self.responses.row(&values)?;
        let mut spans = Vec::new();
        if let (Place::Included, Some(shared)) = (place, &shared) {
            spans = self.write_tags(&response_id, stored, shared)?;
            if let Some(shown) = self.wanted.get_mut(&stored.sequence) {
                shown.response_id.clone_from(&response_id);
                shown.text_redacted.clone_from(&shared.text);
            }
        }
        self.write_line(&values, Some(spans))?;
        if place != Place::Included {
            self.write_exclusion(&response_id, place, reason, stored)?;
        }
        self.write_key(&response_id, respondent_id.as_deref(), stored, withdrawn)
    }

    /// Writes the rows that could not become comments.
    pub fn fail(&mut self, failures: &[FailedRow]) -> Result<(), ExportError> {
        for failed in failures {
            let response_id = self.ids.failed(failed.consultation.as_str(), &failed.fingerprint);
            let row = Row {
                response_id: &response_id,
                status: "failed",
                reason: &failed.reason,
                stored: None,
                respondent_id: None,
                shared: None,
                channel: Some(&failed.source),
            };
            let values = self.values(&row);
            self.responses.row(&values)?;
            self.write_line(&values, None)?;
            self.exclusions.row(&[
                response_id.clone().into(),
                "failed".into(),
                failed.reason.clone().into(),
                Value::Empty,
                Value::Empty,
                Value::Empty,
                failed.detail.clone().into(),
                "machine".into(),
                Value::Empty,
            ])?;
            if let Some(restricted) = &mut self.restricted {
                restricted.failed.row(&[
                    response_id.into(),
                    failed.source.clone().into(),
                    failed.row.into(),
                    Value::maybe(failed.id.clone()),
                    failed.reason.clone().into(),
                    failed.detail.clone().into(),
                    failed.raw.clone().into(),
                ])?;
            }
        }
        Ok(())
    }

    /// Writes the escalated rows, which tell nothing but that they exist, and ends every table.
    pub fn finish(mut self, folder: &mut Folder) -> Result<Done, ExportError> {
        let mut escalated = std::mem::take(&mut self.escalated);
        escalated.sort();
        for id in &escalated {
            let row = Row {
                response_id: id,
                status: Place::Escalated.status(),
                reason: "",
                stored: None,
                respondent_id: None,
                shared: None,
                channel: None,
            };
            let values = self.values(&row);
            self.responses.row(&values)?;
            self.write_line(&values, None)?;
        }
        self.responses.finish(folder)?;
        self.tags.finish(folder)?;
        self.exclusions.finish(folder)?;
        folder.finish(self.lines)?;
        if let Some(Restricted { key, texts, failed }) = self.restricted {
            key.finish(folder)?;
            texts.finish(folder)?;
            failed.finish(folder)?;
        }
        Ok(Done { shown: self.wanted, trace: self.trace, fields: self.fields, ids: self.ids })
    }

    fn values(&self, row: &Row<'_>) -> Vec<Value> {
        self.fields.iter().map(|field| self.value(field, row)).collect()
    }

    fn value(&self, field: &Field, row: &Row<'_>) -> Value {
        let rulebook = &self.plan.rulebook;
        let fixed = match field {
            Field::Fixed("response_id") => return row.response_id.into(),
            Field::Fixed("consultation_id") => return rulebook.consultation.id.as_str().into(),
            Field::Fixed("status") => return row.status.into(),
            Field::Fixed("status_reason") => return Value::maybe((!row.reason.is_empty()).then_some(row.reason)),
            Field::Fixed("channel") => return Value::maybe(row.channel),
            Field::Fixed(name) => *name,
            Field::Group(..) | Field::Theme(..) => "",
        };
        let Some(stored) = row.stored else { return Value::Empty };
        if row.reason == Exclusion::Withdrawn.key() {
            return Value::Empty;
        }
        let assessment = &stored.assessment;
        let included = row.status == Place::Included.status();
        match field {
            Field::Group(name, _) => return Value::maybe(stored.comment.groups.get(name).cloned()),
            Field::Theme(at, _) if included && assessment.themes.is_some() => {
                let id = &self.plan.summary.themes[*at].id;
                return Value::Flag(assessment.themes.iter().flatten().any(|tag| tag.theme == *id));
            }
            Field::Theme(..) => return Value::Empty,
            Field::Fixed(_) => {}
        }
        match fixed {
            "respondent_id" => Value::maybe(row.respondent_id),
            "posted_at" => Value::maybe(stored.comment.posted_at.map(|at| at.to_string())),
            "language" => assessment.language.code().into(),
            "status_by" if included => Value::Empty,
            // Repeats and late comments are excluded by the report and by no rule of the policy.
            "status_by" => fired(stored).next().map_or("built-in".into(), |reason| reason.rule.clone().into()),
            "text_redacted" => Value::maybe(row.shared.map(|shared| shared.text.clone())),
            "redaction_count" if row.shared.is_some() => Value::Whole(assessment.pii.len() as u64),
            "word_count" => Value::Whole(assessment.word_count as u64),
            "pipeline_version" => assessment.pipeline_version.to_string().into(),
            "model_version" => rulebook.model_version.clone().into(),
            "codebook_version" => Value::maybe(rulebook.codebook.as_ref().map(|book| book.version.clone())),
            _ if !included => Value::Empty,
            _ => self.opinion(fixed, stored),
        }
    }

    /// Columns that only comments that count have.
    fn opinion(&self, name: &str, stored: &StoredComment) -> Value {
        let assessment = &stored.assessment;
        let group = self.plan.placements.found.group(stored.sequence);
        let tags = assessment.themes.as_deref();
        match (name, &assessment.sentiment) {
            ("position", Some(Sentiment::Attitude(found))) => found.top().0.position().into(),
            ("position_confidence", Some(Sentiment::Attitude(found))) => Value::Share(found.top().1.get()),
            ("polarity", Some(Sentiment::Polarity(found))) => found.top().0.key().into(),
            ("polarity_confidence", Some(Sentiment::Polarity(found))) => Value::Share(found.top().1.get()),
            ("stance", _) => Value::maybe(assessment.stance.map(|(stance, _)| stance.key())),
            ("stance_confidence", _) => share(assessment.stance.map(|(_, probability)| probability.get())),
            ("tone", _) => Value::maybe(assessment.tone.map(|(tone, _)| tone.key())),
            ("tone_confidence", _) => share(assessment.tone.map(|(_, probability)| probability.get())),
            ("off_topic", _) => Value::Flag(assessment.is_off_topic()),
            ("duplicate_kind", _) => group.map_or("none", |group| group.sharing.key()).into(),
            ("duplicate_group", _) => Value::maybe(group.map(|group| group.id.clone())),
            ("campaign_id", _) => Value::maybe(group.filter(|group| group.campaign).map(|group| group.id.clone())),
            ("themes", _) => Value::maybe(tags.map(|tags| theme_keys(tags, assessment.word_count))),
            ("lowest_confidence", _) => {
                share(tags.into_iter().flatten().map(|tag| tag.score.probability.get()).reduce(f32::min))
            }
            ("review_state", _) => "machine_only".into(),
            _ => Value::Empty,
        }
    }

    /// One line of `responses.jsonl`: the same columns, and the tags within.
    fn write_line(&mut self, values: &[Value], tags: Option<Vec<serde_json::Value>>) -> Result<(), ExportError> {
        use std::io::Write;
        let named = self.fields.iter().zip(values);
        let mut parts: Vec<String> =
            named.map(|(field, value)| format!("{}:{}", serde_json::Value::from(field.name()), value.json())).collect();
        parts.push(format!("\"tags\":{}", serde_json::Value::from(tags.unwrap_or_default())));
        let line = format!("{{{}}}\n", parts.join(","));
        self.lines
            .write_all(line.as_bytes())
            .map_err(|source| ExportError::Io { path: "responses.jsonl".into(), source })
    }

    fn write_tags(
        &mut self,
        response_id: &str,
        stored: &StoredComment,
        shared: &Shared,
    ) -> Result<Vec<serde_json::Value>, ExportError> {
        let Some(codebook) = &self.plan.rulebook.codebook else { return Ok(Vec::new()) };
        let length = shared.text.chars().count();
        let mut lines = Vec::new();
        for tag in stored.assessment.themes.iter().flatten() {
            let Some(theme) = codebook.theme(&tag.theme) else { continue };
            let span = tag.score.span.map(|span| {
                let Span { start, end } = (shared.redacted.map)(span);
                Span { start: start.min(length), end: end.min(length) }
            });
            let probability = tag.score.probability.get();
            let number = |value: Option<usize>| value.map_or(Value::Empty, |value| Value::Whole(value as u64));
            let position = Value::maybe(tag.position.map(|(attitude, _)| attitude.position()));
            let evidence = Value::maybe(span.map(|span| span.slice(&shared.text).to_owned()));
            self.tags.row(&[
                response_id.into(),
                theme.id.as_str().into(),
                theme.label.clone().into(),
                Value::maybe(theme.parent.as_ref().map(ToString::to_string)),
                position.clone(),
                share(tag.position.map(|(_, probability)| probability.get())),
                Value::Share(probability),
                band(probability).into(),
                "machine".into(),
                number(span.map(|span| span.start)),
                number(span.map(|span| span.end)),
                evidence.clone(),
                codebook.version.clone().into(),
                self.plan.rulebook.model_version.clone().into(),
            ])?;
            lines.push(serde_json::json!({
                "theme_key": theme.id.as_str(),
                "confidence": Value::Share(probability).json(),
                "theme_position": position.json(),
                "evidence_start": number(span.map(|span| span.start)).json(),
                "evidence_end": number(span.map(|span| span.end)).json(),
                "evidence_text": evidence.json(),
            }));
        }
        Ok(lines)
    }

    fn write_exclusion(
        &mut self,
        response_id: &str,
        place: Place,
        reason: &str,
        stored: &StoredComment,
    ) -> Result<(), ExportError> {
        // What a withdrawn comment was judged to be is gone with its text.
        let by_source = place == Place::Excluded(Exclusion::Withdrawn);
        let fired: Vec<&Reason> = fired(stored).filter(|_| !by_source).collect();
        let keys = fired.iter().map(|reason| reason.key.as_str()).collect::<Vec<_>>().join("; ");
        let rules = fired.iter().map(|reason| reason.rule.as_str()).collect::<Vec<_>>().join("; ");
        self.exclusions.row(&[
            response_id.into(),
            place.status().into(),
            reason.into(),
            keys.clone().into(),
            rules.into(),
            share(fired.first().and_then(|reason| reason.probability).map(Probability::get)),
            Value::Empty,
            if by_source { "source" } else { "machine" }.into(),
            if by_source { Value::Empty } else { stored.assessment.pipeline_version.to_string().into() },
        ])?;
        let hidden = matches!(place, Place::Held)
            || matches!(place, Place::Excluded(Exclusion::Spam | Exclusion::Abuse | Exclusion::Other));
        if let (true, Some(restricted)) = (hidden, &mut self.restricted) {
            restricted.texts.row(&[
                response_id.into(),
                place.status().into(),
                reason.into(),
                keys.into(),
                stored.comment.key.source.as_str().into(),
                stored.comment.key.id.as_str().into(),
                stored.comment.text.clone().into(),
            ])?;
        }
        Ok(())
    }

    fn write_key(
        &mut self,
        response_id: &str,
        respondent_id: Option<&str>,
        stored: &StoredComment,
        withdrawn: bool,
    ) -> Result<(), ExportError> {
        let Some(restricted) = &mut self.restricted else { return Ok(()) };
        let (key, author) = (&stored.comment.key, &stored.comment.author);
        let kept = |value: &Option<String>| Value::maybe(value.clone().filter(|_| !withdrawn));
        restricted.key.row(&[
            response_id.into(),
            Value::maybe(respondent_id),
            key.source.as_str().into(),
            key.id.as_str().into(),
            kept(&stored.comment.url),
            kept(&author.id),
            kept(&author.name),
            kept(&author.email),
        ])
    }
}

/// Reasons that ask for more than acceptance, strictest first.
fn fired(stored: &StoredComment) -> impl Iterator<Item = &Reason> {
    stored.assessment.reasons.iter().filter(|reason| reason.verdict > Verdict::Accept)
}

fn share(probability: Option<f32>) -> Value {
    probability.map_or(Value::Empty, Value::Share)
}

fn band(probability: f32) -> &'static str {
    match probability {
        high if high >= HIGH_FROM => "high",
        low if low < CHECK_BELOW => "check",
        _ => "medium",
    }
}

fn theme_keys(tags: &[ThemeTag], words: usize) -> String {
    match tags {
        [] if words < SUBSTANTIVE_WORDS => "NONE".to_owned(),
        [] => "OTHER".to_owned(),
        _ => tags.iter().map(|tag| tag.theme.as_str()).collect::<Vec<_>>().join("; "),
    }
}
