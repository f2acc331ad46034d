//! The lines of a JSON Lines file, and one line as fields.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::columns::{Field, Fields, JsonNames, Target, normal};
use super::table::{KEPT_BYTES, Problem, RawRecord};
use super::window::Window;
use crate::wire::kind_of;

/// Finds the lines of a stream; lines of white space are none.
pub(super) struct LineReader {
    window: Window,
    limit: usize,
    failed: bool,
}

impl LineReader {
    pub(super) fn new(window: Window, limit: usize) -> Self {
        Self { window, limit, failed: false }
    }

    pub(super) fn next(&mut self) -> Option<RawRecord> {
        while matches!(self.window.byte(0), Some(byte) if byte.is_ascii_whitespace()) {
            self.window.consume(1);
        }
        let line = self.window.line();
        let mut at = 0;
        let mut hash = Sha256::new();
        let (mut bytes, mut size) = (Vec::new(), 0_u64);
        loop {
            match self.window.byte(at) {
                None | Some(b'\n') => break,
                Some(_) => at += 1,
            }
            if at > self.limit || (size > 0 && at > KEPT_BYTES) {
                if size == 0 {
                    bytes = self.window.first(KEPT_BYTES).to_vec();
                }
                hash.update(self.window.first(at));
                size += at as u64;
                self.window.consume(at);
                at = 0;
            }
        }
        let ended = self.window.byte(at).is_none();
        let error = self.window.error().map(ToString::to_string);
        let problem = match error {
            Some(error) if ended => {
                if std::mem::replace(&mut self.failed, true) {
                    return None;
                }
                Some(Problem::CutOff(error))
            }
            _ if size > 0 => {
                hash.update(self.window.first(at));
                Some(Problem::TooLarge { size: size + at as u64, digest: hash.finalize().into() })
            }
            _ if at == 0 => return None,
            _ => None,
        };
        if size == 0 {
            bytes = self.window.first(at).to_vec();
        }
        self.window.consume(at);
        Some(RawRecord { row: line, line, bytes, inner_quotes: false, problem })
    }
}

/// The fields of one line.
///
/// The message of an error names keys and places, never a value.
pub(super) fn fields(line: &str, names: &mut JsonNames) -> Result<Fields, String> {
    let value: Value = serde_json::from_str(line)
        // The parser's line is always 1 here; the column is what helps.
        .map_err(|error| format!("not valid JSON: {}", error.to_string().replace("line 1 ", "")))?;
    let Value::Object(object) = value else {
        return Err(format!("expected an object, found {}", kind_of(&value)));
    };
    let mut fields = Fields::default();
    // The exact name of a field wins over its other names, in the order of their list.
    let mut ranks = [usize::MAX; Field::ALL.len()];
    for (key, value) in object {
        if normal(&key) == "groups" {
            groups(value, &mut fields)?;
            continue;
        }
        if normal(&key) == "author" {
            author(&value, &mut fields, &mut ranks)?;
            continue;
        }
        match names.target(&key) {
            Some((Target::Field { field, utc }, rank)) if rank < ranks[field as usize] => {
                if let Some(text) = scalar(&key, value, field == Field::Text)? {
                    fields.set(field, text);
                    ranks[field as usize] = rank;
                    fields.mark_utc(field, utc);
                }
            }
            Some((Target::Group(group), _)) => {
                if let Some(text) = scalar(&key, value, false)? {
                    fields.groups.insert(group, text);
                }
            }
            Some(_) => {}
            None => names.ignore(&key),
        }
    }
    Ok(fields)
}

fn groups(value: Value, fields: &mut Fields) -> Result<(), String> {
    let object = match value {
        Value::Null => return Ok(()),
        Value::Object(object) => object,
        other => return Err(format!("`groups` is {}, not an object", kind_of(&other))),
    };
    for (key, value) in object {
        if let Some(text) = scalar("groups", value, false)? {
            fields.groups.insert(key, text);
        }
    }
    Ok(())
}

/// `author` is an opaque id, or an object with `id`, `name` and `email` (as `CommentV1` has it).
fn author(value: &Value, fields: &mut Fields, ranks: &mut [usize; Field::ALL.len()]) -> Result<(), String> {
    let mut set = |field: Field, text: String| {
        fields.set(field, text);
        ranks[field as usize] = 0;
    };
    let part =
        |object: &Map<String, Value>, key: &str| scalar("author", object.get(key).cloned().unwrap_or_default(), false);
    match value {
        Value::Object(object) => {
            for (key, field) in [("id", Field::AuthorId), ("name", Field::Author), ("email", Field::Email)] {
                if let Some(text) = part(object, key)? {
                    set(field, text);
                }
            }
        }
        Value::String(id) => set(Field::AuthorId, id.clone()),
        Value::Null => {}
        other => {
            return Err(format!("`author` is {}, not a text or an object", kind_of(other)));
        }
    }
    Ok(())
}

fn scalar(key: &str, value: Value, only_text: bool) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) if !only_text => Ok(Some(number.to_string())),
        Value::Bool(yes) if !only_text => Ok(Some(yes.to_string())),
        other => {
            let key: String = key.chars().take(40).collect();
            Err(format!("`{key}` is {}, not a text", kind_of(&other)))
        }
    }
}
