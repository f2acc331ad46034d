//! One scorer per thread behind the [`Engine`] port.

use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use crossbeam_channel::{Sender, bounded};
use tokio::sync::oneshot;

use super::models::Models;
use super::scorer::Scorer;
use crate::domain::reading::Reading;
use crate::domain::score::Signals;
use crate::pipeline::ports::{Engine, EngineError};

/// Readings handed to a thread at once: few, so that threads finish together.
const SHARE: usize = 8;

type Scored = Vec<(Reading, Signals)>;

struct Job {
    readings: Vec<Reading>,
    reply: oneshot::Sender<Option<Scored>>,
}

/// A fixed number of threads, each with its own scorer over shared weights.
pub struct EnginePool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl EnginePool {
    /// Starts `threads` scorers (at least one).
    pub fn start(models: &Arc<Models>, threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, inbox) = bounded::<Job>(threads * 2);
        let handles = (0..threads)
            .map(|index| {
                let inbox = inbox.clone();
                let mut scorer = Scorer::new(Arc::clone(models));
                std::thread::Builder::new().name(format!("engine-{index}")).spawn(move || {
                    while let Ok(job) = inbox.recv() {
                        let readings: Vec<&Reading> = job.readings.iter().collect();
                        // A panic on one comment must not end the thread; its batch is
                        // answered with nothing. The scratch is written anew for every batch.
                        let guarded = std::panic::AssertUnwindSafe(|| scorer.score(&readings));
                        let signals = std::panic::catch_unwind(guarded).ok();
                        let answer = signals.map(|signals| job.readings.into_iter().zip(signals).collect());
                        // A caller that has gone away wants no answer.
                        let _ = job.reply.send(answer);
                    }
                })
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self { jobs: Some(jobs), threads: handles })
    }
}

impl Drop for EnginePool {
    fn drop(&mut self) {
        self.jobs = None; // closes the channel, so that the threads end
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Engine for EnginePool {
    async fn score(&self, readings: Vec<Reading>) -> Result<Scored, EngineError> {
        let stopped = || EngineError::Stopped("a scoring thread ended; see the log above".to_owned());
        let jobs = self.jobs.clone().ok_or_else(stopped)?;
        let total = readings.len();
        let mut replies = Vec::with_capacity(total.div_ceil(SHARE));
        let mut readings = readings.into_iter();
        loop {
            let share: Vec<Reading> = readings.by_ref().take(SHARE).collect();
            if share.is_empty() {
                break;
            }
            let (reply, answer) = oneshot::channel();
            let mut job = Job { readings: share, reply };
            // The queue is short: wait for room without blocking the async thread.
            loop {
                match jobs.try_send(job) {
                    Ok(()) => break,
                    Err(crossbeam_channel::TrySendError::Full(back)) => {
                        job = back;
                        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    }
                    Err(crossbeam_channel::TrySendError::Disconnected(_)) => return Err(stopped()),
                }
            }
            replies.push(answer);
        }
        let mut scored = Vec::with_capacity(total);
        for reply in replies {
            let answer = reply.await.map_err(|_| stopped())?;
            scored.extend(answer.ok_or_else(|| EngineError::Comment("scoring panicked".to_owned()))?);
        }
        Ok(scored)
    }
}
