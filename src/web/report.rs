//! The latest report, as the export room rendered it.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::error::ApiError;
use super::router::Web;
use crate::domain::comment::ConsultationId;
use crate::wire::incoming::Refusal;

/// Has the report that readers see. It answers from memory: rendering is done elsewhere.
pub trait ReportSource: Send + Sync {
    /// The latest `report.html` of a consultation; `None` before the first was rendered.
    fn latest(&self, consultation: &ConsultationId) -> Option<Bytes>;
}

impl<F: Fn(&ConsultationId) -> Option<Bytes> + Send + Sync> ReportSource for F {
    fn latest(&self, consultation: &ConsultationId) -> Option<Bytes> {
        self(consultation)
    }
}

/// Which report.
#[derive(Deserialize)]
pub struct Which {
    consultation: Option<String>,
}

const HTML: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];

const NOT_YET: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<title>No report yet</title><h1>No report yet</h1>\
<p>The first report appears here once comments have been judged.</p></html>";

/// The page.
pub async fn page(State(web): State<Web>, Query(which): Query<Which>) -> Result<Response, ApiError> {
    let consultation = match which.consultation {
        None => web.deps.defaults.consultation.clone(),
        Some(name) => {
            ConsultationId::new(name).ok_or_else(|| ApiError::Refused(Refusal::new("consultation", "is empty")))?
        }
    };
    Ok(match web.deps.report.latest(&consultation) {
        Some(html) => (HTML, html).into_response(),
        None => (StatusCode::NOT_FOUND, HTML, NOT_YET).into_response(),
    })
}
