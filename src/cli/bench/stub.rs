//! A judge that costs nothing, or waits: what is left is the line.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;

use super::texts::texts;
use crate::app::LineJudge;
use crate::domain::assessment::Assessment;
use crate::domain::comment::{Comment, ConsultationId};
use crate::domain::rulebook::PipelineVersion;
use crate::pipeline::ports::{EngineError, Judge};

/// Words of a comment.
pub const WORDS: usize = 32;

/// Answers with one real assessment, again and again.
pub struct Stub {
    version: PipelineVersion,
    sample: Assessment,
    /// For each comment.
    wait: Duration,
}

impl Stub {
    /// Of the assessment that `judge` makes of one comment of [`WORDS`] words.
    pub async fn of(judge: &LineJudge) -> anyhow::Result<Self> {
        let made = judge.judge_texts(&[(texts(1, WORDS, 7)[0].as_str(), None)]).await?;
        let sample = made.into_iter().next().context("one text, one assessment")?;
        Ok(Self { version: sample.pipeline_version.clone(), sample, wait: Duration::ZERO })
    }

    /// The same, which takes so long for each comment and uses no processor meanwhile.
    pub fn waiting(&self, wait: Duration) -> Arc<dyn Judge> {
        Arc::new(Self { version: self.version.clone(), sample: self.sample.clone(), wait })
    }

    /// What it answers with.
    pub fn sample(&self) -> &Assessment {
        &self.sample
    }
}

#[async_trait]
impl Judge for Stub {
    fn version(&self, _: &ConsultationId) -> Option<PipelineVersion> {
        Some(self.version.clone())
    }

    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError> {
        if !self.wait.is_zero() {
            tokio::time::sleep(self.wait * u32::try_from(comments.len()).unwrap_or(u32::MAX)).await;
        }
        Ok(vec![self.sample.clone(); comments.len()])
    }
}
