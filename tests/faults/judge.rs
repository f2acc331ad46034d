//! A judge of fixed cost whose verdict is the first word of the text.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moothall::domain::assessment::Assessment;
use moothall::domain::comment::{Comment, ConsultationId};
use moothall::domain::decision::Verdict;
use moothall::domain::reading::Language;
use moothall::domain::rulebook::PipelineVersion;
use moothall::pipeline::ports::{EngineError, Judge};

use crate::comments::mentoring;

/// The version that it judges under.
pub const VERSION: &str = "faults";

/// Answers at once, or after work or waiting of a fixed size for each comment.
pub struct Stub {
    /// Of the processor, for each comment.
    pub spin: Duration,
    /// Of no resource, for each comment.
    pub wait: Duration,
    /// Whether it judges what others cannot.
    pub mended: bool,
}

#[async_trait]
impl Judge for Stub {
    fn version(&self, consultation: &ConsultationId) -> Option<PipelineVersion> {
        (*consultation == mentoring()).then(|| PipelineVersion(VERSION.to_owned()))
    }

    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError> {
        let count = u32::try_from(comments.len()).unwrap_or(u32::MAX);
        if !self.wait.is_zero() {
            tokio::time::sleep(self.wait * count).await;
        }
        let until = Instant::now() + self.spin * count;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        comments
            .iter()
            .map(|comment| match comment.text.split_whitespace().next().unwrap_or_default() {
                // What ends the process, as a fault in foreign code would.
                "abort" => std::process::abort(),
                "panic" => panic!("a comment that panics"),
                "poison" if !self.mended => Err(EngineError::Comment("poison".to_owned())),
                "help" => Ok(assessment(Verdict::Escalate)),
                "spam" => Ok(assessment(Verdict::Reject)),
                "hold" => Ok(assessment(Verdict::Hold)),
                _ => Ok(assessment(Verdict::Accept)),
            })
            .collect()
    }
}

fn assessment(verdict: Verdict) -> Assessment {
    Assessment::bare(verdict, PipelineVersion(VERSION.to_owned()))
}
