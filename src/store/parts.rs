//! The parts of a rulebook as they lie in a row: JSON, the same for every database; and its files by content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::{PipelineVersion, RulebookParts, RulebookSnapshot};
use crate::pipeline::ports::StoreError;

#[derive(Serialize, Deserialize)]
struct PartsRecord {
    judging_code: String,
    policy: String,
    codebook: Option<String>,
    heads: Option<String>,
    encoder: String,
    models: String,
    model_version: String,
}

/// The parts as a row keeps them.
pub fn parts_to_row(parts: &RulebookParts) -> Result<String, StoreError> {
    let RulebookParts { judging_code, policy, codebook, heads, encoder, models, model_version } = parts.clone();
    let record = PartsRecord { judging_code, policy, codebook, heads, encoder, models, model_version };
    serde_json::to_string(&record).map_err(|error| StoreError::Failed(format!("write row: {error}")))
}

/// The parts in a row.
pub fn parts_from_row(row: &str) -> Result<RulebookParts, StoreError> {
    let record: PartsRecord =
        serde_json::from_str(row).map_err(|error| StoreError::Damaged(format!("parts of a rulebook: {error}")))?;
    let PartsRecord { judging_code, policy, codebook, heads, encoder, models, model_version } = record;
    Ok(RulebookParts { judging_code, policy, codebook, heads, encoder, models, model_version })
}

/// Under which key of `meta` the active version of a consultation stands.
pub fn active_key(consultation: &ConsultationId) -> String {
    format!("pipeline_version/{consultation}")
}

/// A rulebook with its files, each given as path, SHA-256 and content.
///
/// # Errors
/// [`StoreError::Damaged`] where a content is not what its hash says.
pub fn snapshot(
    consultation: &ConsultationId,
    version: &PipelineVersion,
    parts: &str,
    files: Vec<(String, String, Vec<u8>)>,
) -> Result<RulebookSnapshot, StoreError> {
    let mut whole = BTreeMap::new();
    for (path, sha256, content) in files {
        if hex::encode(Sha256::digest(&content)) != sha256 {
            return Err(StoreError::Damaged(format!("`{path}` of rulebook {version} is not as it was kept")));
        }
        whole.insert(path, content);
    }
    let (consultation, version) = (consultation.clone(), version.clone());
    Ok(RulebookSnapshot { consultation, version, parts: parts_from_row(parts)?, files: whole })
}
