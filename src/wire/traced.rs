//! JSON of our own as it lies in a row, with the trace that it came in around it.
//!
//! The same for the queue in the store's file and for every outbox, so that a trace needs no column.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::trace::Trace;

/// How a row with a trace begins: its first field. Nothing else that we write begins so.
const BEGINS: &[u8] = b"{\"traceparent\"";

#[derive(Serialize, Deserialize)]
struct Traced<'a> {
    traceparent: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The JSON as a row keeps it.
pub fn to_row(json: String, trace: Option<&Trace>) -> Result<String, serde_json::Error> {
    let Some(trace) = trace else { return Ok(json) };
    let data = serde_json::from_str(&json)?;
    serde_json::to_string(&Traced { traceparent: &trace.parent(), tracestate: trace.state(), data })
}

/// What a row with a trace holds; `None` where it has none, as most, and is the JSON itself.
pub fn parts(row: &[u8]) -> Option<(&str, Option<Trace>)> {
    if !row.starts_with(BEGINS) {
        return None;
    }
    let Traced { traceparent, tracestate, data } = serde_json::from_slice(row).ok()?;
    Some((data.get(), Trace::read(traceparent, tracestate)))
}

/// The JSON in a row, and its trace.
pub fn from_row(row: String) -> (String, Option<Trace>) {
    match parts(row.as_bytes()) {
        Some((json, trace)) => (json.to_owned(), trace),
        None => (row, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_to_the_byte_with_its_trace() {
        let trace = Trace::read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("a=b"));
        for body in [r#"{"id":"traceparent","data":1}"#, r#"{"a": 1.50}"#, "{}"] {
            for trace in [None, trace.clone()] {
                let row = to_row(body.to_owned(), trace.as_ref()).unwrap();
                assert_eq!(from_row(row), (body.to_owned(), trace));
            }
        }
    }
}
