//! The parts of a rulebook as they lie in a row: JSON, the same for every database.

use serde::{Deserialize, Serialize};

use crate::domain::rulebook::RulebookParts;
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
