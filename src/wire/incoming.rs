//! From JSON to a comment or a withdrawal, naming the field that is wrong.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::event::{COMMENT_CREATED, COMMENT_DELETED, COMMENT_EDITED, ROW_FAILED, RowFailedV1};
use super::{CommentError, CommentV1};
use crate::domain::comment::{Comment, ConsultationId, SourceName};
use crate::domain::trace::Trace;
use crate::pipeline::ports::Arrival;

/// What is wrong with one comment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {detail}")]
pub struct Refusal {
    /// The field to mend, as a path (`data.text`).
    pub field: String,
    /// What it should be. Quotes nothing that was sent.
    pub detail: String,
}

impl Refusal {
    /// A refusal of one field.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// What a comment belongs to when it does not say so.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The consultation.
    pub consultation: ConsultationId,
    /// The source.
    pub source: SourceName,
    /// Where the fields of a plain object are, when they have other names.
    pub fields: FieldMap,
}

/// Where a sender's plain JSON keeps our fields: `text` at `content.rendered`, say.
///
/// A field that is not mapped is looked for under its own name. Events are never mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMap(Vec<(&'static str, Vec<String>)>);

impl FieldMap {
    /// Reads `FIELD=PATH` entries, the path's keys separated by dots.
    ///
    /// # Errors
    /// A sentence that names the entry.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut map = Vec::new();
        for entry in entries {
            let (field, path) = entry
                .split_once('=')
                .filter(|(_, path)| !path.trim().is_empty())
                .ok_or_else(|| format!("`{entry}` must be written as FIELD=PATH, such as text=content.rendered"))?;
            let (field, _) = FIELDS.iter().find(|(name, _)| *name == field.trim()).ok_or_else(|| {
                let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                format!("`{}` is no field of a comment; fields: {}", field.trim(), known.join(", "))
            })?;
            map.push((*field, path.trim().split('.').map(str::to_owned).collect()));
        }
        Ok(Self(map))
    }

    fn apply(&self, object: &Map<String, Value>) -> Option<Map<String, Value>> {
        if self.0.is_empty() {
            return None;
        }
        let mut mapped = object.clone();
        for (field, path) in &self.0 {
            mapped.remove(*field);
            let mut keys = path.iter();
            let first = keys.next().and_then(|key| object.get(key));
            if let Some(value) = keys.try_fold(first, |value, key| Some(value?.get(key))).flatten() {
                mapped.insert((*field).to_owned(), value.clone());
            }
        }
        Some(mapped)
    }
}

/// Reads a plain comment, or an event when it says that it is one.
pub fn incoming(value: Value, defaults: &Defaults) -> Result<Arrival, Refusal> {
    let Value::Object(object) = value else {
        return Err(Refusal::new("(body)", "expected an object"));
    };
    if object.contains_key("specversion") {
        return event(object, defaults);
    }
    let mapped = defaults.fields.apply(&object);
    comment(mapped.as_ref().unwrap_or(&object), defaults, "").map(|comment| Arrival::Comment(Box::new(comment)))
}

/// When an event says that it happened, in microseconds since 1970.
pub fn event_time_us(value: &Value) -> Option<i64> {
    let time: Timestamp = value.get("specversion").and(value.get("time"))?.as_str()?.parse().ok()?;
    Some(time.as_microsecond())
}

/// The trace that an event names (the CloudEvents extension for distributed tracing).
pub fn event_trace(value: &Value) -> Option<Trace> {
    let parent = value.get("specversion").and(value.get("traceparent"))?.as_str()?;
    Trace::read(parent, value.get("tracestate").and_then(Value::as_str))
}

/// A CloudEvents 1.0 event in structured JSON.
pub fn event(mut event: Map<String, Value>, defaults: &Defaults) -> Result<Arrival, Refusal> {
    let attribute = |name: &str| -> Result<&str, Refusal> {
        event
            .get(name)
            .and_then(Value::as_str)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Refusal::new(name, "expected a text"))
    };
    if attribute("specversion")? != "1.0" {
        return Err(Refusal::new("specversion", "expected \"1.0\""));
    }
    attribute("id")?;
    // The comment's own source stands in its data. Without one, the sender's name
    // keeps two sites apart that count their comments alike.
    let source = SourceName::new(attribute("source")?).ok_or_else(|| Refusal::new("source", "expected a text"))?;
    let kind = attribute("type")?.to_owned();
    let time = match event.get("time") {
        None | Some(Value::Null) => None,
        Some(time) => {
            Some(serde_json::from_value::<Timestamp>(time.clone()).map_err(|_| Refusal::new("time", EXPECTED_TIME))?)
        }
    };
    let Some(Value::Object(data)) = event.remove("data") else {
        return Err(Refusal::new("data", "expected an object"));
    };
    let defaults = Defaults { consultation: defaults.consultation.clone(), source, fields: FieldMap::default() };
    match kind.as_str() {
        COMMENT_CREATED => comment(&data, &defaults, "data.").map(|comment| Arrival::Comment(Box::new(comment))),
        COMMENT_EDITED => {
            let mut comment = comment(&data, &defaults, "data.")?;
            if comment.revision.is_none() && comment.edited_at.is_none() {
                comment.edited_at = time;
            }
            Ok(Arrival::Comment(Box::new(comment)))
        }
        COMMENT_DELETED => {
            let mut data = data;
            // Only the identity counts, and the text may be gone with the comment.
            data.insert("text".to_owned(), Value::String(String::new()));
            let gone = comment(&data, &defaults, "data.")?;
            Ok(Arrival::Withdrawal { key: gone.key, revision: gone.revision })
        }
        ROW_FAILED => serde_json::from_value::<RowFailedV1>(Value::Object(data))
            .ok()
            .and_then(RowFailedV1::into_row)
            .map(|row| Arrival::Failed(Box::new(row)))
            .ok_or_else(|| Refusal::new("data", "expected a failed row")),
        _ => Err(Refusal::new("type", "expected comment.created.v1, comment.edited.v1 or comment.deleted.v1")),
    }
}

const EXPECTED_TIME: &str = "expected a time such as 2024-05-01T10:00:00Z";

fn comment(object: &Map<String, Value>, defaults: &Defaults, prefix: &str) -> Result<Comment, Refusal> {
    let refuse = |field: &str, detail: &str| Refusal::new(format!("{prefix}{field}"), detail);
    for field in ["id", "text"] {
        if !object.contains_key(field) {
            return Err(refuse(field, "is missing"));
        }
    }
    let wire = CommentV1::deserialize(object).map_err(|_| {
        let field = wrong_field(object);
        refuse(field, expected(field))
    })?;
    wire.into_comment(&defaults.consultation, &defaults.source).map_err(|error| match error {
        CommentError::EmptyId => refuse("id", "is empty"),
        CommentError::EmptyName(field) => refuse(field, "is empty"),
    })
}

/// The first field that spoils an otherwise good comment.
fn wrong_field(object: &Map<String, Value>) -> &'static str {
    FIELDS
        .iter()
        .map(|(name, _)| *name)
        .find(|name| {
            let Some(value) = object.get(*name) else {
                return false;
            };
            let mut probe = Map::new();
            probe.insert("id".to_owned(), Value::from("1"));
            probe.insert("text".to_owned(), Value::from("x"));
            probe.insert((*name).to_owned(), value.clone());
            serde_json::from_value::<CommentV1>(Value::Object(probe)).is_err()
        })
        .unwrap_or("(body)")
}

fn expected(field: &str) -> &'static str {
    FIELDS.iter().find(|(name, _)| *name == field).map_or("cannot be read", |(_, expected)| expected)
}

const FIELDS: &[(&str, &str)] = &[
    ("id", "expected a text or a number"),
    ("text", "expected a text"),
    ("consultation", "expected a text"),
    ("source", "expected a text"),
    ("revision", "expected a whole number"),
    ("edited_at", EXPECTED_TIME),
    ("posted_at", EXPECTED_TIME),
    ("author", "expected a text, or an object with id, name and email"),
    ("url", "expected a text"),
    ("parent_id", "expected a text or a number"),
    ("language", "expected a text"),
    ("groups", "expected an object of texts"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Arrival, Refusal> {
        let defaults = Defaults {
            consultation: ConsultationId::new("mentoring").unwrap(),
            source: SourceName::new("api").unwrap(),
            fields: FieldMap::default(),
        };
        incoming(value, &defaults)
    }

    fn refused(value: Value, field: &str) {
        let refusal = read(value).unwrap_err();
        assert_eq!(refusal.field, field, "{refusal:?}");
    }

    fn event(kind: &str, data: &Value) -> Value {
        json!({"specversion": "1.0", "type": kind, "source": "//site", "id": "e1",
               "time": "2024-05-01T10:00:00Z", "data": data})
    }

    #[test]
    fn the_wrong_field_is_named() {
        refused(json!({"text": "x"}), "id");
        refused(json!({"id": "1"}), "text");
        refused(json!({"id": " ", "text": "x"}), "id");
        refused(json!({"id": "1", "text": 5}), "text");
        refused(json!({"id": "1", "text": "x", "revision": "2"}), "revision");
        refused(json!({"id": "1", "text": "x", "edited_at": "noon"}), "edited_at");
        refused(json!({"id": "1", "text": "x", "groups": {"ward": 1}}), "groups");
        refused(json!({"id": "1", "text": "x", "source": ""}), "source");
        refused(json!(["x"]), "(body)");
        refused(event("comment.created.v1", &json!({"id": "1"})), "data.text");
        refused(event("comment.created.v2", &json!({})), "type");
        refused(json!({"specversion": "0.3", "id": "1"}), "specversion");
    }

    #[test]
    fn a_plain_comment_gets_the_defaults() {
        let Ok(Arrival::Comment(comment)) = read(json!({"id": 7, "text": "x"})) else {
            panic!("no comment");
        };
        assert_eq!(comment.key.id.as_str(), "7");
        assert_eq!(comment.key.consultation.as_str(), "mentoring");
        assert_eq!(comment.key.source.as_str(), "api");
    }

    #[test]
    fn a_plain_comment_may_keep_its_fields_elsewhere() {
        let fields = FieldMap::parse(["text=content.rendered", "id=comment_id"]).unwrap();
        let defaults = Defaults {
            consultation: ConsultationId::new("mentoring").unwrap(),
            source: SourceName::new("api").unwrap(),
            fields,
        };
        let sent = json!({"comment_id": 7, "content": {"rendered": "x"}, "id": "another thing"});
        let Ok(Arrival::Comment(comment)) = incoming(sent, &defaults) else {
            panic!("no comment");
        };
        assert_eq!((comment.key.id.as_str(), comment.text.as_str()), ("7", "x"));
        assert_eq!(incoming(json!({"comment_id": 7}), &defaults).unwrap_err().field, "text");
        assert!(FieldMap::parse(["text"]).unwrap_err().contains("FIELD=PATH"));
        assert!(FieldMap::parse(["txt=a"]).unwrap_err().contains("`txt`"));
    }

    #[test]
    fn an_edit_without_an_order_of_its_own_takes_the_events_time() {
        let edited = event("comment.edited.v1", &json!({"id": "1", "text": "x"}));
        let Ok(Arrival::Comment(comment)) = read(edited) else {
            panic!("no comment");
        };
        assert_eq!(comment.edited_at, "2024-05-01T10:00:00Z".parse().ok());
        assert_eq!(comment.key.source.as_str(), "//site");
    }

    #[test]
    fn a_deletion_needs_no_text() {
        let deleted = event("comment.deleted.v1", &json!({"id": "1", "revision": 4}));
        let Ok(Arrival::Withdrawal { key, revision: Some(4) }) = read(deleted) else {
            panic!("no withdrawal");
        };
        assert_eq!(key.id.as_str(), "1");
    }
}
