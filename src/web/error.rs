//! Everything that a request can be refused for, as problem details (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::pipeline::ports::{QueueError, StoreError};
use crate::wire::incoming::Refusal;

/// Why a request was not served.
#[derive(Debug)]
pub enum ApiError {
    /// The body is not JSON at this place.
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON, but no comment that can be taken.
    Refused(Refusal),
    /// The body is larger than is taken.
    TooLarge {
        /// Most bytes of a body.
        limit: usize,
    },
    /// The content type is none of those that are read.
    UnsupportedType,
    /// The body ended early.
    Incomplete,
    /// Nothing is here.
    NotFound,
    /// Something is here, but not for this method.
    WrongMethod,
    /// The host name is not this machine's.
    WrongHost,
    /// Too much at once, or the store is locked.
    Busy,
    /// Too many requests of one client, or of all together.
    TooMany {
        /// Seconds until one more is taken.
        after_s: u64,
    },
    /// Our fault; the cause is in the log.
    Failed,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl ApiError {
    fn parts(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::NotJson { line, column } => {
                (StatusCode::BAD_REQUEST, "not JSON", format!("the body cannot be read at line {line} column {column}"))
            }
            Self::Refused(refusal) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "not a comment", format!("`{}`: {}", refusal.field, refusal.detail))
            }
            Self::TooLarge { limit } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body too large", format!("at most {limit} bytes are taken at once"))
            }
            Self::UnsupportedType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported content type",
                "send application/json, application/cloudevents+json or application/x-ndjson".to_owned(),
            ),
            Self::Incomplete => (
                StatusCode::BAD_REQUEST,
                "incomplete body",
                "the body ended before it was whole; nothing was taken".to_owned(),
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found", "nothing is here".to_owned()),
            Self::WrongMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, "method not allowed", "this address takes another method".to_owned())
            }
            Self::WrongHost => (
                StatusCode::MISDIRECTED_REQUEST,
                "wrong host",
                "the request names a host that is not served here".to_owned(),
            ),
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", "nothing was taken; try again in a moment".to_owned())
            }
            Self::TooMany { after_s } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests",
                format!("nothing was taken; one more is taken in {after_s} s. Many comments fit into one request"),
            ),
            Self::Failed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "failed",
                "the fault is ours and is in the log; sending the same again is safe".to_owned(),
            ),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, title, detail) = self.parts();
        let field = match &self {
            Self::Refused(refusal) => Some(refusal.field.as_str()),
            _ => None,
        };
        let problem = Problem { r#type: "about:blank", title, status: status.as_u16(), detail, field };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let after_s = match self {
            Self::Busy => Some(1),
            Self::TooMany { after_s } => Some(after_s),
            _ => None,
        };
        if let Some(after_s) = after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after_s));
        }
        response
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        if error.is_transient() {
            tracing::warn!(%error, "a request was refused for now");
            return Self::Busy;
        }
        tracing::error!(%error, "a request failed");
        Self::Failed
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            tracing::warn!(%error, "a request was refused for now");
            return Self::Busy;
        }
        tracing::error!(%error, "a request failed");
        Self::Failed
    }
}
