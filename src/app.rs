//! The one place that puts concrete parts together.

use std::path::Path;
use std::sync::Arc;

use crate::assess::read::{ReadHints, read};
use crate::assess::{self};
use crate::domain::assessment::Assessment;
use crate::domain::rulebook::Rulebook;
use crate::engine::{EnginePool, Models};
use crate::pipeline::ports::{Engine, EngineError};

/// Reads, scores and assesses: the whole judgement, with a rulebook and an engine.
pub struct LineJudge {
    engine: EnginePool,
    rulebook: Arc<Rulebook>,
}

impl LineJudge {
    /// Loads the models of `rulebook` from `folder` and starts `threads` encoder threads.
    pub fn start(folder: &Path, rulebook: Arc<Rulebook>, threads: usize) -> Result<Self, EngineError> {
        let models = Models::load(folder, rulebook.codebook.as_ref().map(|codebook| codebook.id.as_str()))?;
        let engine = EnginePool::start(&models, threads)
            .map_err(|error| EngineError::Stopped(format!("threads cannot be started: {error}")))?;
        Ok(Self { engine, rulebook })
    }

    /// The rulebook that it judges by.
    pub fn rulebook(&self) -> &Arc<Rulebook> {
        &self.rulebook
    }

    /// Judges texts, in order. `language` is what the source declares of each.
    pub async fn judge_texts(&self, texts: &[(&str, Option<&str>)]) -> Result<Vec<Assessment>, EngineError> {
        let default_language = self.rulebook.languages.first().map_or("en", String::as_str);
        let readings = texts
            .iter()
            .map(|(text, language)| read(text, ReadHints { language: *language, default_language }))
            .collect();
        let scored = self.engine.score(readings).await?;
        Ok(scored.iter().map(|(reading, signals)| assess::assess(reading, signals, &self.rulebook)).collect())
    }
}
