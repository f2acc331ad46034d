//! A judge that answers by the words of the text, and that can be broken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use moothall::domain::assessment::Assessment;
use moothall::domain::comment::{Comment, ConsultationId};
use moothall::domain::decision::Verdict;
use moothall::domain::rulebook::PipelineVersion;
use moothall::pipeline::ports::{EngineError, Judge};

use super::assessment;

/// `help` escalates, `spam` is rejected, `panic` panics, `poison` is an error
/// of that comment; anything else is accepted.
#[derive(Default)]
pub struct StubJudge {
    pub calls: AtomicUsize,
    pub texts: Mutex<Vec<String>>,
    pub broken: AtomicBool,
    pub pause_ms: AtomicUsize,
}

impl StubJudge {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub fn judged(&self) -> usize {
        self.texts.lock().unwrap().len()
    }
}

#[async_trait]
impl Judge for StubJudge {
    fn version(&self, consultation: &ConsultationId) -> Option<PipelineVersion> {
        (consultation.as_str() == "mentoring").then(|| PipelineVersion("v1".to_owned()))
    }

    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let pause = self.pause_ms.load(Ordering::SeqCst) as u64;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if self.broken.load(Ordering::SeqCst) {
            return Err(EngineError::Stopped("pulled the plug".to_owned()));
        }
        comments
            .iter()
            .map(|comment| {
                let verdict = match comment.text.as_str() {
                    "panic" => panic!("a comment that panics"),
                    "poison" => return Err(EngineError::Comment("poison".to_owned())),
                    "help" => Verdict::Escalate,
                    "spam" => Verdict::Reject,
                    _ => Verdict::Accept,
                };
                self.texts.lock().unwrap().push(comment.text.clone());
                Ok(assessment(verdict, "v1"))
            })
            .collect()
    }
}
