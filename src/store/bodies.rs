//! A message of the outbox as it lies in a row: its body, and the trace that caused it around it.
//!
//! The same for every database, so that a trace needs no column of its own.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::trace::Trace;
use crate::pipeline::ports::StoreError;

#[derive(Serialize, Deserialize)]
struct Traced<'a> {
    traceparent: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The body as a row keeps it.
pub fn body_to_row(body: String, trace: Option<&Trace>) -> Result<String, StoreError> {
    let Some(trace) = trace else { return Ok(body) };
    let failed = |error: serde_json::Error| StoreError::Failed(format!("write message: {error}"));
    let data = serde_json::from_str(&body).map_err(failed)?;
    let traced = Traced { traceparent: &trace.parent(), tracestate: trace.state(), data };
    serde_json::to_string(&traced).map_err(failed)
}

/// The body in a row, and its trace.
pub fn body_from_row(row: String) -> (String, Option<Trace>) {
    // Most have none. A text that says this word has its quotation marks escaped.
    if !row.contains("\"traceparent\"") {
        return (row, None);
    }
    match serde_json::from_str::<Traced<'_>>(&row) {
        Ok(Traced { traceparent, tracestate, data }) => (data.get().to_owned(), Trace::read(traceparent, tracestate)),
        Err(_) => (row, None),
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
                let row = body_to_row(body.to_owned(), trace.as_ref()).unwrap();
                assert_eq!(body_from_row(row), (body.to_owned(), trace));
            }
        }
    }
}
