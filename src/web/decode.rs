//! From JSON to a comment or a withdrawal, naming the field that is wrong.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::error::Refusal;
use crate::domain::comment::{Comment, CommentKey, ConsultationId, SourceName};
use crate::wire::{CommentError, CommentV1};

/// What one JSON object asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Judge this.
    Comment(Box<Comment>),
    /// Its author or site has deleted it.
    Withdraw(CommentKey, Option<i64>),
}

/// What a comment belongs to when it does not say so.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The consultation.
    pub consultation: ConsultationId,
    /// The source.
    pub source: SourceName,
}

/// Reads a plain comment, or an event when it says that it is one.
pub fn incoming(value: Value, defaults: &Defaults) -> Result<Incoming, Refusal> {
    let Value::Object(object) = value else {
        return Err(Refusal::new("(body)", "expected an object"));
    };
    if object.contains_key("specversion") {
        return event(object, defaults);
    }
    comment(&object, defaults, "").map(|comment| Incoming::Comment(Box::new(comment)))
}

/// A CloudEvents 1.0 event in structured JSON.
pub fn event(mut event: Map<String, Value>, defaults: &Defaults) -> Result<Incoming, Refusal> {
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
    let source = SourceName::new(attribute("source")?)
        .ok_or_else(|| Refusal::new("source", "expected a text"))?;
    let kind = attribute("type")?.to_owned();
    let time = match event.get("time") {
        None | Some(Value::Null) => None,
        Some(time) => Some(
            serde_json::from_value::<Timestamp>(time.clone())
                .map_err(|_| Refusal::new("time", EXPECTED_TIME))?,
        ),
    };
    let Some(Value::Object(data)) = event.remove("data") else {
        return Err(Refusal::new("data", "expected an object"));
    };
    let defaults = Defaults {
        consultation: defaults.consultation.clone(),
        source,
    };
    match kind.as_str() {
        "comment.created.v1" => {
            comment(&data, &defaults, "data.").map(|comment| Incoming::Comment(Box::new(comment)))
        }
        "comment.edited.v1" => {
            let mut comment = comment(&data, &defaults, "data.")?;
            if comment.revision.is_none() && comment.edited_at.is_none() {
                comment.edited_at = time;
            }
            Ok(Incoming::Comment(Box::new(comment)))
        }
        "comment.deleted.v1" => {
            let mut data = data;
            // Only the identity counts, and the text may be gone with the comment.
            data.insert("text".to_owned(), Value::String(String::new()));
            let gone = comment(&data, &defaults, "data.")?;
            Ok(Incoming::Withdraw(gone.key, gone.revision))
        }
        _ => Err(Refusal::new(
            "type",
            "expected comment.created.v1, comment.edited.v1 or comment.deleted.v1",
        )),
    }
}

const EXPECTED_TIME: &str = "expected a time such as 2024-05-01T10:00:00Z";

fn comment(
    object: &Map<String, Value>,
    defaults: &Defaults,
    prefix: &str,
) -> Result<Comment, Refusal> {
    let refuse = |field: &str, detail: &str| Refusal::new(format!("{prefix}{field}"), detail);
    for field in ["id", "text"] {
        if !object.contains_key(field) {
            return Err(refuse(field, "is missing"));
        }
    }
    let wire: CommentV1 = serde_json::from_value(Value::Object(object.clone())).map_err(|_| {
        let field = wrong_field(object);
        refuse(field, expected(field))
    })?;
    wire.into_comment(&defaults.consultation, &defaults.source)
        .map_err(|error| match error {
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
    FIELDS
        .iter()
        .find(|(name, _)| *name == field)
        .map_or("cannot be read", |(_, expected)| expected)
}

const FIELDS: &[(&str, &str)] = &[
    ("id", "expected a text or a number"),
    ("text", "expected a text"),
    ("consultation", "expected a text"),
    ("source", "expected a text"),
    ("revision", "expected a whole number"),
    ("edited_at", EXPECTED_TIME),
    ("posted_at", EXPECTED_TIME),
    (
        "author",
        "expected a text, or an object with id, name and email",
    ),
    ("url", "expected a text"),
    ("parent_id", "expected a text or a number"),
    ("language", "expected a text"),
    ("groups", "expected an object of texts"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Incoming, Refusal> {
        let defaults = Defaults {
            consultation: ConsultationId::new("mentoring").unwrap(),
            source: SourceName::new("api").unwrap(),
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
        refused(
            json!({"id": "1", "text": "x", "edited_at": "noon"}),
            "edited_at",
        );
        refused(
            json!({"id": "1", "text": "x", "groups": {"ward": 1}}),
            "groups",
        );
        refused(json!({"id": "1", "text": "x", "source": ""}), "source");
        refused(json!(["x"]), "(body)");
        refused(
            event("comment.created.v1", &json!({"id": "1"})),
            "data.text",
        );
        refused(event("comment.created.v2", &json!({})), "type");
        refused(json!({"specversion": "0.3", "id": "1"}), "specversion");
    }

    #[test]
    fn a_plain_comment_gets_the_defaults() {
        let Ok(Incoming::Comment(comment)) = read(json!({"id": 7, "text": "x"})) else {
            panic!("no comment");
        };
        assert_eq!(comment.key.id.as_str(), "7");
        assert_eq!(comment.key.consultation.as_str(), "mentoring");
        assert_eq!(comment.key.source.as_str(), "api");
    }

    #[test]
    fn an_edit_without_an_order_of_its_own_takes_the_events_time() {
        let edited = event("comment.edited.v1", &json!({"id": "1", "text": "x"}));
        let Ok(Incoming::Comment(comment)) = read(edited) else {
            panic!("no comment");
        };
        assert_eq!(comment.edited_at, "2024-05-01T10:00:00Z".parse().ok());
        assert_eq!(comment.key.source.as_str(), "//site");
    }

    #[test]
    fn a_deletion_needs_no_text() {
        let deleted = event("comment.deleted.v1", &json!({"id": "1", "revision": 4}));
        let Ok(Incoming::Withdraw(key, Some(4))) = read(deleted) else {
            panic!("no withdrawal");
        };
        assert_eq!(key.id.as_str(), "1");
    }
}
