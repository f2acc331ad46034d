//! One record becomes a comment or a failed row. Nothing is dropped here.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::comment::{Author, Comment, CommentId, CommentKey, ConsultationId, SourceName};
use crate::pipeline::ports::FailedRow;

use super::columns::{Field, Fields, JsonNames, Target, listed};
use super::dates::{self, Hint, Order};
use super::identity::Identities;
use super::lines;
use super::notice::{Remark, Remarks};
use super::table::{self, KEPT_BYTES, Problem, RawRecord};
use super::{FileOptions, Row};

/// How the fields of a record are found.
pub(super) enum Shape {
    Table { delimiter: u8, plan: Vec<Target> },
    Lines(JsonNames),
}

struct Failure {
    id: Option<String>,
    reason: &'static str,
    detail: String,
}

impl Failure {
    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { id: None, reason, detail: detail.into() }
    }
}

/// Which date comes first in a column of dates, and whether that was decided by anything.
#[derive(Clone, Copy)]
pub(super) struct Decided {
    pub(super) order: Order,
    pub(super) assumed: bool,
}

/// Turns records into rows.
pub(super) struct RowMaker {
    shape: Shape,
    source: SourceName,
    source_given: bool,
    consultation: ConsultationId,
    consultation_from_rows: bool,
    zone: TimeZone,
    max_text_bytes: usize,
    max_record_bytes: usize,
    /// For `posted_at` and `edited_at`.
    orders: [Decided; 2],
    identities: Identities,
    pub(super) remarks: Remarks,
}

impl RowMaker {
    pub(super) fn new(shape: Shape, source: SourceName, options: &FileOptions, remarks: Remarks) -> Self {
        let decided = Decided {
            order: if options.day_first == Some(false) { Order::MonthFirst } else { Order::DayFirst },
            assumed: options.day_first.is_none(),
        };
        Self {
            shape,
            source,
            source_given: options.source.is_some(),
            consultation: options.consultation.clone(),
            consultation_from_rows: options.consultation_from_rows,
            zone: options.time_zone.clone(),
            max_text_bytes: options.max_text_bytes,
            max_record_bytes: options.max_record_bytes,
            orders: [decided; 2],
            identities: Identities::default(),
            remarks,
        }
    }

    /// The name of the file as a source.
    pub(super) fn source(&self) -> &SourceName {
        &self.source
    }

    /// Learns the order of dates from the first records, unless it was given.
    pub(super) fn learn<'a>(&mut self, records: impl Iterator<Item = &'a RawRecord>) {
        if !self.orders[0].assumed {
            return;
        }
        let mut seen = [[0_u64; 2]; 2];
        for record in records {
            let Ok(text) = str::from_utf8(&record.bytes) else {
                continue;
            };
            let Ok(fields) = self.fields(record, text) else {
                continue;
            };
            for (at, field) in [Field::PostedAt, Field::EditedAt].into_iter().enumerate() {
                let hint = fields
                    .get(field)
                    .and_then(|value| dates::read(value, Order::DayFirst, &TimeZone::UTC))
                    .map(|reading| reading.hint);
                match hint {
                    Some(Hint::Only(Order::DayFirst)) => seen[at][0] += 1,
                    Some(Hint::Only(Order::MonthFirst)) => seen[at][1] += 1,
                    _ => {}
                }
            }
        }
        for (decided, [day, month]) in self.orders.iter_mut().zip(seen) {
            decided.assumed = day == month;
            decided.order = if month > day { Order::MonthFirst } else { Order::DayFirst };
        }
    }

    /// The row that a record is.
    pub(super) fn make(&mut self, record: &RawRecord) -> Row {
        let outcome = match &record.problem {
            Some(problem) => Err(self.broken(problem)),
            None => self.comment(record),
        };
        match outcome {
            Ok(comment) => Row::Comment(comment),
            Err(failure) => Row::Failed(self.fail(record, failure)),
        }
    }

    /// Keys of JSON Lines that were not used so far.
    pub(super) fn remark_ignored_keys(&self, remarks: &mut Remarks) {
        if let Shape::Lines(names) = &self.shape
            && !names.ignored().is_empty()
        {
            let keys = names.ignored();
            let what = listed(keys.iter().map(String::as_str));
            remarks.set(Remark::IgnoredColumns, keys.len() as u64, what);
        }
    }

    fn broken(&self, problem: &Problem) -> Failure {
        let limit = self.max_record_bytes;
        match problem {
            Problem::TooLarge { size, .. } => Failure::new(
                "too_large",
                format!("the row has {size} bytes, more than the {limit} that one row may have"),
            ),
            Problem::Unterminated => Failure::new(
                "unterminated_quote",
                "a quotation mark opens in this row and none closes it; \
                 reading went on at the next line where that was possible",
            ),
            Problem::RunTogether => Failure::new(
                "unterminated_quote",
                "rows run together because a quotation mark is missing: \
                 give each text a mark at both ends and double those inside",
            ),
            Problem::CutOff(error) => {
                Failure::new("unreadable", format!("the file cannot be read beyond this place: {error}"))
            }
        }
    }

    /// What the columns or keys of a record say.
    fn fields(&mut self, record: &RawRecord, text: &str) -> Result<Fields, Failure> {
        match &mut self.shape {
            Shape::Lines(names) => lines::fields(text, names).map_err(|problem| Failure::new("unreadable", problem)),
            Shape::Table { delimiter, plan } => {
                let values = table::split(text, *delimiter);
                let extra = values.get(plan.len()..).unwrap_or_default();
                if values.len() < plan.len() || extra.iter().any(|value| !value.is_empty()) {
                    return Err(Failure::new(
                        "wrong_field_count",
                        format!(
                            "the row has {} fields and the header {}; a text that holds the \
                             delimiter needs quotation marks",
                            values.len(),
                            plan.len()
                        ),
                    ));
                }
                if !extra.is_empty() {
                    self.remarks.count(Remark::EmptyExtras, record.row);
                }
                let mut fields = Fields::default();
                for (target, value) in plan.iter().zip(values) {
                    match target {
                        Target::Field { field, utc } => {
                            fields.mark_utc(*field, *utc);
                            fields.set(*field, value);
                        }
                        Target::Group(group) if !value.trim().is_empty() => {
                            fields.groups.insert(group.clone(), value.trim().to_owned());
                        }
                        _ => {}
                    }
                }
                Ok(fields)
            }
        }
    }

    fn comment(&mut self, record: &RawRecord) -> Result<Comment, Failure> {
        let row = record.row;
        let text = str::from_utf8(&record.bytes).map_err(|error| {
            let at = error.valid_up_to();
            Failure::new("invalid_utf8", format!("byte {at} of the row is no UTF-8, which the rest of the file is"))
        })?;
        let mut fields = self.fields(record, text)?;
        if record.inner_quotes {
            self.remarks.count(Remark::InnerQuotes, row);
        }
        if fields.remove_nuls() {
            self.remarks.count(Remark::NulRemoved, row);
        }
        let id = fields.get(Field::Id).and_then(CommentId::new);
        let fail = |reason, detail: String| Failure { id: id.as_ref().map(ToString::to_string), reason, detail };
        if !fields.has(Field::Text) {
            return Err(fail("no_text", "the row has no text".to_owned()));
        }
        match fields.get(Field::Text) {
            None => return Err(fail("blank", "the text is empty".to_owned())),
            Some(text) if text.len() > self.max_text_bytes => {
                let (size, most) = (text.len(), self.max_text_bytes);
                return Err(fail(
                    "too_large",
                    format!("the text has {size} bytes, more than the {most} of one comment"),
                ));
            }
            Some(_) => {}
        }
        let id = match id {
            Some(id) => id,
            None => self.derive_id(&fields, row),
        };
        let key = CommentKey { consultation: self.consultation_of(&fields, row), source: self.source_of(&fields), id };
        let revision = self.revision(&fields, row);
        let posted_at = self.date(&fields, Field::PostedAt, row);
        let edited_at = self.date(&fields, Field::EditedAt, row);
        let trimmed = |field| fields.get(field).map(|value| value.trim().to_owned());
        let author =
            Author { id: trimmed(Field::AuthorId), name: trimmed(Field::Author), email: trimmed(Field::Email) };
        // WordPress writes 0 where there is no parent.
        let parent_id = trimmed(Field::ParentId).filter(|parent| parent != "0");
        let (url, language) = (trimmed(Field::Url), trimmed(Field::Language));
        Ok(Comment {
            key,
            revision,
            edited_at,
            text: fields.take(Field::Text).unwrap_or_default(),
            posted_at,
            author,
            url,
            parent_id,
            language,
            groups: fields.groups,
        })
    }

    fn consultation_of(&mut self, fields: &Fields, row: u64) -> ConsultationId {
        match fields.get(Field::Consultation).and_then(ConsultationId::new) {
            Some(named) if self.consultation_from_rows => named,
            Some(named) if named != self.consultation => {
                self.remarks.count(Remark::OtherConsultation, row);
                self.consultation.clone()
            }
            _ => self.consultation.clone(),
        }
    }

    fn source_of(&self, fields: &Fields) -> SourceName {
        fields
            .get(Field::Source)
            .filter(|_| !self.source_given)
            .and_then(SourceName::new)
            .unwrap_or_else(|| self.source.clone())
    }

    fn revision(&mut self, fields: &Fields, row: u64) -> Option<i64> {
        let value = fields.get(Field::Revision)?.trim();
        let revision = value.parse().ok();
        if revision.is_none() {
            self.remarks.count(Remark::RevisionUnreadable, row);
        }
        revision
    }

    fn date(&mut self, fields: &Fields, field: Field, row: u64) -> Option<Timestamp> {
        let value = fields.get(field)?;
        let at = usize::from(field == Field::EditedAt);
        let Decided { order, assumed } = self.orders[at];
        let zone = if fields.utc[at] { &TimeZone::UTC } else { &self.zone };
        // WordPress writes zeros where there is no date.
        if value.trim().starts_with("0000-00-00") {
            return None;
        }
        let reading = dates::read(value, order, zone);
        let remark = match reading.map(|reading| reading.hint) {
            None => Some(Remark::DateUnreadable),
            Some(Hint::Either) if assumed => Some(Remark::DateOrderAssumed),
            Some(Hint::Only(shown)) if shown != order => Some(Remark::DateOrderContradicted),
            Some(_) => None,
        };
        if let Some(remark) = remark {
            self.remarks.count_about(remark, row, field.key());
        }
        reading.map(|reading| reading.at)
    }

    fn derive_id(&mut self, fields: &Fields, row: u64) -> CommentId {
        self.remarks.count(Remark::NoId, row);
        CommentId::new(self.identities.derive(fields)).expect("a derived id is not blank")
    }

    fn fail(&mut self, record: &RawRecord, failure: Failure) -> FailedRow {
        FailedRow {
            consultation: self.consultation.clone(),
            source: self.source.to_string(),
            id: failure.id,
            row: record.row,
            reason: failure.reason.to_owned(),
            detail: format!("{} (line {})", failure.detail, record.line),
            raw: raw(&record.bytes),
            fingerprint: self.identities.fingerprint(self.source.as_str(), record),
        }
    }
}

/// What was there, as text of at most 64 KiB.
fn raw(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_BYTES)]).replace('\0', "\u{fffd}");
    // Each broken byte became three, so the text may have grown.
    let mut end = text.len().min(KEPT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
