//! The loop: receive, judge, record, settle.
//!
//! Owns the order of these steps and the pauses between them. A delivery is
//! settled only after its effects are stored; a crash in between brings it
//! again, and storing it again has no second effect. Several loops, in one
//! process or in many, may share a queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, RwLock};
use tokio_util::task::AbortOnDropHandle;

use super::clock::Clock;
use super::intake::IntakeLimits;
use super::judging::{ENGINE_PAUSE_MS, Outcome, judge_and_record};
use super::ports::{Delivery, EngineError, Judge, Queue, Settlement, Store};
use super::pulse::Pulse;
use super::shutdown::Shutdown;
use super::trial;
use crate::telemetry::metric;

/// How long a worker that lets go may take to say so to the queue.
const GIVE_BACK: Duration = Duration::from_secs(2);
const LONGEST_QUEUE_PAUSE: Duration = Duration::from_secs(5);
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Turns in a row without store or queue, after which [`drain`] gives up: half a minute or so.
const FRUITLESS_TURNS: u32 = 30;
/// Tries of one settlement before its lease is left to run out.
const SETTLE_TRIES: u32 = 5;

/// What a worker works with.
#[derive(Clone)]
pub struct WorkerDeps {
    /// Where comments come from.
    pub queue: Arc<dyn Queue>,
    /// Where judgements go.
    pub store: Arc<dyn Store>,
    /// Who judges.
    pub judge: Arc<dyn Judge>,
    /// Where trouble and progress are told.
    pub pulse: Pulse,
    /// What time it is.
    pub clock: Clock,
    /// How much, how often.
    pub settings: WorkerSettings,
    /// Rung after something was stored, for the relay of the outbox.
    pub stored: Arc<Notify>,
    /// Held by all while they judge, and by one alone that judges what came back from
    /// processes that ended: nobody else may be charged with what that does to this process.
    pub alone: Arc<RwLock<()>>,
}

/// How much a worker takes at once, and how often it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Deliveries of one batch: the limit on work in flight.
    pub batch: usize,
    /// Pause when nothing was ready.
    pub idle_ms: u64,
    /// How often leases are renewed while a batch is judged; well below the lease.
    pub renew_ms: u64,
    /// What a comment may be.
    pub limits: IntakeLimits,
    /// Whether the judgement of an equal text is taken again.
    pub reuse: bool,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { batch: 64, idle_ms: 20, renew_ms: 20_000, limits: IntakeLimits::default(), reuse: true }
    }
}

/// What a worker has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Comments that became current.
    pub recorded: u64,
    /// Comments that the store knew, or knew newer.
    pub known: u64,
    /// Texts that the judge judged.
    pub judged: u64,
    /// Comments whose text had been judged already.
    pub reused: u64,
    /// Deliveries that were given up on.
    pub parked: u64,
    /// Deliveries that come again.
    pub retried: u64,
    /// Deliveries that hold nothing to judge (blank, too large), kept as failed.
    pub failed: u64,
    /// Deletions at the source.
    pub withdrawn: u64,
}

impl Progress {
    pub(super) fn add(&mut self, more: Self) {
        self.recorded += more.recorded;
        self.known += more.known;
        self.judged += more.judged;
        self.reused += more.reused;
        self.parked += more.parked;
        self.retried += more.retried;
        self.failed += more.failed;
        self.withdrawn += more.withdrawn;
    }

    /// Deliveries that have ended.
    pub fn ended(self) -> u64 {
        self.recorded + self.known + self.parked + self.failed + self.withdrawn
    }
}

/// Why a loop ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The queue has nothing waiting and nothing in flight.
    Drained,
    /// Asked to take no more; what was in hand is finished.
    Stopped,
    /// Asked to let go; what was in hand comes again.
    Abandoned,
}

/// Two loops on one queue: while the one waits for the store, the other's comments are
/// read and judged. Works until asked to stop.
pub async fn run_two(deps: &WorkerDeps, shutdown: &Shutdown) {
    let (deps, stop) = (deps.clone(), shutdown.clone());
    let other = {
        let (deps, stop) = (deps.clone(), stop.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { run(&deps, &stop, |_| {}).await }))
    };
    run(&deps, &stop, |_| {}).await;
    if let Err(error) = other.await {
        // A loop that ends by a fault must not leave the other alone with the work.
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Works until asked to stop.
pub async fn run(deps: &WorkerDeps, shutdown: &Shutdown, progress: impl Fn(Progress) + Send + Sync) -> Ended {
    let mut totals = Progress::default();
    let mut queue_pause = Duration::from_millis(deps.settings.idle_ms.max(1));
    while !shutdown.stop_intake.is_cancelled() {
        match turn(deps, shutdown, &mut totals).await {
            Turn::Worked => progress(totals),
            Turn::Idle => shutdown.sleep(idle(deps)).await,
            Turn::EngineDown(_) => {
                shutdown.sleep(Duration::from_millis(ENGINE_PAUSE_MS)).await;
            }
            Turn::StoreDown(_) => shutdown.sleep(STORE_PAUSE).await,
            Turn::QueueDown(_) => {
                shutdown.sleep(queue_pause).await;
                queue_pause = (queue_pause * 2).min(LONGEST_QUEUE_PAUSE);
                continue;
            }
            Turn::Abandoned => return Ended::Abandoned,
        }
        queue_pause = idle(deps);
    }
    Ended::Stopped
}

/// Why a queue could not be drained. What is left waits in it.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The engine does not work, and nobody would mend it meanwhile.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Queue or store took nothing for too long.
    #[error("no progress: {0}")]
    NoProgress(String),
}

/// Works until the queue has nothing waiting and nothing in flight.
pub async fn drain(
    deps: &WorkerDeps,
    shutdown: &Shutdown,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Ended, DrainError> {
    let mut totals = Progress::default();
    let mut fruitless = 0;
    while !shutdown.stop_intake.is_cancelled() {
        match turn(deps, shutdown, &mut totals).await {
            Turn::Worked => {
                fruitless = 0;
                progress(totals);
            }
            Turn::Idle => match deps.queue.depth(None).await {
                Ok(depth) if depth.waiting + depth.in_flight == 0 => {
                    progress(totals);
                    return Ok(Ended::Drained);
                }
                Ok(_) | Err(_) => shutdown.sleep(idle(deps)).await,
            },
            Turn::EngineDown(error) => return Err(error.into()),
            Turn::QueueDown(why) | Turn::StoreDown(why) => {
                fruitless += 1;
                if fruitless >= FRUITLESS_TURNS {
                    return Err(DrainError::NoProgress(why));
                }
                shutdown.sleep(STORE_PAUSE).await;
            }
            Turn::Abandoned => return Ok(Ended::Abandoned),
        }
    }
    Ok(Ended::Stopped)
}

fn idle(deps: &WorkerDeps) -> Duration {
    Duration::from_millis(deps.settings.idle_ms.max(1))
}

enum Turn {
    Worked,
    Idle,
    EngineDown(EngineError),
    StoreDown(String),
    QueueDown(String),
    Abandoned,
}

async fn turn(deps: &WorkerDeps, shutdown: &Shutdown, totals: &mut Progress) -> Turn {
    let deliveries = match deps.queue.receive(deps.settings.batch).await {
        Ok(deliveries) => deliveries,
        Err(error) => {
            if deps.pulse.trouble("queue", error.to_string()) {
                tracing::warn!(%error, "the queue gives nothing");
            }
            return Turn::QueueDown(error.to_string());
        }
    };
    deps.pulse.well("queue");
    // An empty queue is a sign of life too.
    deps.pulse.progressed(deps.clock.now_ms());
    if deliveries.is_empty() {
        return Turn::Idle;
    }
    let tags: Vec<i64> = deliveries.iter().map(|delivery| delivery.tag).collect();
    let outcome = tokio::select! {
        biased;
        () = shutdown.abandon.cancelled() => None,
        outcome = work_apart(deps, &tags, deliveries) => Some(outcome),
    };
    let Some(outcome) = outcome else {
        give_back(deps, &tags).await;
        return Turn::Abandoned;
    };
    if outcome.progress.recorded > 0 {
        deps.stored.notify_waiters();
    }
    settle(deps, &outcome.settlements).await;
    totals.add(outcome.progress);
    count(outcome.progress);
    deps.pulse.progressed(deps.clock.now_ms());
    if let Some(error) = outcome.engine_down {
        tracing::error!(%error, "the engine does not work, comments wait");
        deps.pulse.trouble("engine", error.to_string());
        return Turn::EngineDown(error);
    }
    // Only a judgement shows that the engine works; a batch of known texts does not.
    if outcome.progress.judged > 0 {
        deps.pulse.well("engine");
    }
    if let Some(why) = outcome.store_down {
        tracing::error!(%why, "the store takes nothing, comments wait");
        deps.pulse.trouble("store", why.clone());
        return Turn::StoreDown(why);
    }
    deps.pulse.well("store");
    Turn::Worked
}

/// Judges and stores while the leases are renewed beside it: first together what may go together,
/// then one by one what came back from processes that ended.
async fn work_apart(deps: &WorkerDeps, tags: &[i64], deliveries: Vec<Delivery>) -> Outcome {
    let renewing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(deps.settings.renew_ms)).await;
            if let Err(error) = deps.queue.renew(tags).await {
                tracing::warn!(%error, "leases were not renewed");
            }
        }
    };
    // Both are polled all the time: the one may hold the connection that the other waits for.
    tokio::select! {
        outcome = judge_apart(deps, deliveries) => outcome,
        () = renewing => Outcome::default(),
    }
}

async fn judge_apart(deps: &WorkerDeps, deliveries: Vec<Delivery>) -> Outcome {
    let (suspects, together): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(trial::is_suspect);
    let mut outcome = Outcome::default();
    if !together.is_empty() {
        let _shared = deps.alone.read().await;
        outcome = judge_and_record(deps, together).await;
    }
    for suspect in suspects {
        if outcome.engine_down.is_some() || outcome.store_down.is_some() {
            // Nothing works for now: it waits as the others do.
            outcome.settlements.push((suspect.tag, Settlement::Retry { after_ms: ENGINE_PAUSE_MS, counts: false }));
            outcome.progress.retried += 1;
            continue;
        }
        // What is settled already is settled before this one may end the process.
        settle(deps, &std::mem::take(&mut outcome.settlements)).await;
        let _alone = deps.alone.write().await;
        outcome.add(trial::judge_alone(deps, suspect).await);
        settle(deps, &std::mem::take(&mut outcome.settlements)).await;
    }
    outcome
}

async fn settle(deps: &WorkerDeps, settlements: &[(i64, Settlement)]) {
    if settlements.is_empty() {
        return;
    }
    for attempt in 1..=SETTLE_TRIES {
        match deps.queue.settle(settlements).await {
            Ok(()) => {
                deps.pulse.well("queue");
                return;
            }
            Err(error) if error.is_transient() && attempt < SETTLE_TRIES => {
                if deps.pulse.trouble("queue", error.to_string()) {
                    tracing::warn!(%error, "the queue settles nothing, trying again");
                }
                tokio::time::sleep(Duration::from_millis(100) * attempt).await;
            }
            Err(error) => {
                tracing::error!(%error, size = settlements.len(), "not settled, will come again");
                deps.pulse.trouble("queue", error.to_string());
                return;
            }
        }
    }
}

async fn give_back(deps: &WorkerDeps, tags: &[i64]) {
    let now = Settlement::Retry { after_ms: 0, counts: false };
    let settlements: Vec<_> = tags.iter().map(|tag| (*tag, now.clone())).collect();
    match tokio::time::timeout(GIVE_BACK, deps.queue.settle(&settlements)).await {
        Ok(Ok(())) => tracing::info!(size = tags.len(), "gave deliveries back unfinished"),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(size = tags.len(), "left deliveries to their lease");
        }
    }
}

fn count(progress: Progress) {
    metrics::counter!(metric::COMMENTS_RECORDED).increment(progress.recorded);
    metrics::counter!(metric::TEXTS_JUDGED).increment(progress.judged);
    metrics::counter!(metric::TEXTS_REUSED).increment(progress.reused);
    metrics::counter!(metric::DELIVERIES_PARKED).increment(progress.parked);
    metrics::counter!(metric::DELIVERIES_RETRIED).increment(progress.retried);
}
