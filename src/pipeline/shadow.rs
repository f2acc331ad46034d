//! Another rulebook looks on: it judges what is stored, beside the active one, and changes nothing.
//!
//! What it works on is read from the store, not handed over by the line: so the line never
//! waits for it, whatever it does or fails to do, and what it has not done yet it finds
//! there later. It judges few comments at a time and rests as long as they took.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::clock::Clock;
use super::ports::{Judge, Judged, Store, StoredComment};
use super::retag::{RetagDeps, RetagError, judge_anew};
use super::shutdown::Shutdown;
use crate::assess::compare::{Compared, Pair, compare};
use crate::domain::assessment::Assessment;
use crate::domain::rulebook::Rulebook;
use crate::domain::score::{Probability, Signals};
use crate::telemetry::metric;

/// Comments judged between two rests: few, so that the line's threads wait for little.
const BATCH: u32 = 16;
/// Pause when there is nothing to judge.
const IDLE: Duration = Duration::from_secs(15);
/// Pause after a failure.
const FAILED: Duration = Duration::from_mins(1);

/// What looks on, and on what.
#[derive(Clone)]
pub struct ShadowDeps {
    /// What is stored.
    pub store: Arc<dyn Store>,
    /// Who judges; it must carry `rulebook`.
    pub judge: Arc<dyn Judge>,
    /// By what.
    pub rulebook: Arc<Rulebook>,
    /// The share of texts that it looks at.
    pub sample: Probability,
    /// What time it is.
    pub clock: Clock,
}

/// Whether a pass rests between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As long as the last batch took: a line on the same machine goes first.
    Resting,
    /// Not at all: nothing else is to be done.
    Steady,
}

/// Looks on until asked to stop. No failure ends it, a panic of the judge included.
pub async fn run(deps: ShadowDeps, shutdown: Shutdown) {
    while !shutdown.stop_intake.is_cancelled() {
        let (one, stop) = (deps.clone(), shutdown.clone());
        let pass = tokio::spawn(async move { pass(&one, Pace::Resting, &stop, |_| {}).await });
        let pause = match AbortOnDropHandle::new(pass).await {
            Ok(Ok(_)) => IDLE,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the shadow rulebook could not judge; the line is not concerned");
                FAILED
            }
            // The panic's message is not passed on: it could quote the text.
            Err(_panicked) => {
                metrics::counter!(metric::SHADOW_FAILED).increment(1);
                tracing::warn!("the shadow rulebook panicked; the line is not concerned");
                FAILED
            }
        };
        shutdown.sleep(pause).await;
    }
}

/// Judges every stored comment of the sample that the rulebook has not judged in the
/// shadow. Returns how many; `progress` is told after each batch. A batch that cannot be
/// judged is left for a later pass.
///
/// # Errors
/// When the store fails.
pub async fn pass(
    deps: &ShadowDeps,
    rest: Pace,
    shutdown: &Shutdown,
    progress: impl Fn(u64),
) -> Result<u64, RetagError> {
    let (consultation, version) = (&deps.rulebook.consultation.id, &deps.rulebook.version);
    let (mut done, mut after) = (0, i64::MIN);
    while !shutdown.stop_intake.is_cancelled() {
        let started_ms = deps.clock.now_ms();
        let page = deps.store.shadow_waiting(consultation, version, deps.sample, after, BATCH).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        match judge(deps, &page).await {
            Ok(judged) => {
                deps.store.record_shadow(&judged).await?;
                done += judged.len() as u64;
            }
            Err(RetagError::Engine(error)) => {
                metrics::counter!(metric::SHADOW_FAILED).increment(page.len() as u64);
                tracing::warn!(%error, size = page.len(), "the shadow rulebook gave no judgement");
            }
            Err(error) => return Err(error),
        }
        progress(done);
        if rest == Pace::Resting {
            shutdown.sleep(Duration::from_millis((deps.clock.now_ms() - started_ms).max(1) as u64)).await;
        }
    }
    Ok(done)
}

async fn judge(deps: &ShadowDeps, page: &[StoredComment]) -> Result<Vec<Judged>, RetagError> {
    let judging = RetagDeps { store: &*deps.store, judge: &*deps.judge, rulebook: &deps.rulebook };
    let judged = judge_anew(judging, page).await?;
    let differ = page
        .iter()
        .zip(&judged)
        .filter(|(stored, (assessment, _))| compare_machines(stored, assessment, &deps.rulebook).differs())
        .count();
    metrics::counter!(metric::SHADOW_JUDGED).increment(page.len() as u64);
    metrics::counter!(metric::SHADOW_DIFFERENT).increment(differ as u64);
    Ok(page
        .iter()
        .zip(judged)
        .map(|(stored, (assessment, _))| Judged {
            comment: stored.comment.clone(),
            sequence: stored.sequence,
            assessment,
            trace: None,
        })
        .collect())
}

/// The current judgement and the shadow's, machine against machine: what a person decided
/// says nothing on which of the two judges better.
pub fn compare_machines(stored: &StoredComment, shadow: &Assessment, rulebook: &Rulebook) -> Compared {
    let current = &stored.assessment;
    let pair = Pair {
        before: current,
        after: shadow,
        stood: current.verdict,
        stands: shadow.verdict,
        signals: &Signals::default(),
    };
    compare(pair, rulebook)
}
