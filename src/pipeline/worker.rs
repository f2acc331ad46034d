//! The loop: receive, judge, record, settle.
//!
//! Owns the order of these steps and the pauses between them. A delivery is
//! settled only after its effects are stored; a crash in between brings it
//! again, and storing it again has no second effect. Several loops, in one
//! process or in many, may share a queue.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::clock::Clock;
use super::intake::IntakeLimits;
use super::judging::{ENGINE_PAUSE_MS, Outcome, judge_and_record};
use super::ports::{Delivery, EngineError, Judge, Queue, Settlement, Store};
use super::pulse::Pulse;
use super::shutdown::Shutdown;
use crate::telemetry::metric;

/// How long a worker that lets go may take to say so to the queue.
const GIVE_BACK: Duration = Duration::from_secs(2);
const LONGEST_QUEUE_PAUSE: Duration = Duration::from_secs(5);
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Turns in a row without store or queue, after which [`drain`] gives up: half a minute or so.
const FRUITLESS_TURNS: u32 = 30;
/// Deliveries of one arrival that say nothing about it: restarts bring some.
const UNSUSPECTED: u32 = 3;
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
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { batch: 64, idle_ms: 20, renew_ms: 20_000, limits: IntakeLimits::default() }
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
    fn add(&mut self, more: Self) {
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
    let mut tags: Vec<i64> = deliveries.iter().map(|delivery| delivery.tag).collect();
    for lot in lots(deliveries) {
        let done: Vec<i64> = lot.iter().map(|delivery| delivery.tag).collect();
        let turn = work_off(deps, shutdown, totals, lot, &tags).await;
        tags.retain(|tag| !done.contains(tag));
        match turn {
            Turn::Worked => {}
            Turn::Abandoned => return Turn::Abandoned,
            down => {
                if !tags.is_empty() {
                    give_back(deps, &tags).await;
                }
                return down;
            }
        }
    }
    Turn::Worked
}

/// What is handled together: the most in one lot, and each by itself what came so often that it
/// may be what ends every process that touches it. Those come last, each settled before the next
/// is touched: from the front, in the next life of the process from the back, then in any order.
/// So their neighbours are done with after a few lives and are not parked with them.
fn lots(deliveries: Vec<Delivery>) -> Vec<Vec<Delivery>> {
    let (mut suspects, most): (Vec<_>, Vec<_>) =
        deliveries.into_iter().partition(|delivery| delivery.attempt > UNSUSPECTED);
    match suspects.iter().map(|suspect| suspect.attempt - UNSUSPECTED).max() {
        None | Some(1) => {}
        Some(2) => suspects.reverse(),
        Some(_) => {
            let order = RandomState::new();
            suspects.sort_by_cached_key(|delivery| order.hash_one(delivery.tag));
        }
    }
    let mut lots = Vec::with_capacity(suspects.len() + 1);
    if !most.is_empty() {
        lots.push(most);
    }
    lots.extend(suspects.into_iter().map(|one| vec![one]));
    lots
}

/// One lot, from judging to settling. `tags` is all that is in hand, whose leases must not end meanwhile.
async fn work_off(
    deps: &WorkerDeps,
    shutdown: &Shutdown,
    totals: &mut Progress,
    lot: Vec<Delivery>,
    tags: &[i64],
) -> Turn {
    let outcome = tokio::select! {
        biased;
        () = shutdown.abandon.cancelled() => None,
        outcome = work(deps, tags, lot) => Some(outcome),
    };
    let Some(outcome) = outcome else {
        give_back(deps, tags).await;
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

/// Judges and stores while the leases are renewed beside it.
async fn work(deps: &WorkerDeps, tags: &[i64], deliveries: Vec<Delivery>) -> Outcome {
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
        outcome = judge_and_record(&deps.judge, &*deps.store, &deps.settings.limits, deliveries) => outcome,
        () = renewing => Outcome::default(),
    }
}

async fn settle(deps: &WorkerDeps, settlements: &[(i64, Settlement)]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_too_often_is_handled_alone_and_after_the_rest() {
        let tags = |attempts: [u32; 4]| -> Vec<Vec<i64>> {
            let delivery = |(tag, attempt)| Delivery { tag, arrival: Err(String::new()), attempt, sequence: tag };
            let lots = lots((1..).zip(attempts).map(delivery).collect());
            lots.iter().map(|lot| lot.iter().map(|one| one.tag).collect()).collect()
        };
        assert_eq!(tags([1, 2, 3, 1]), [vec![1, 2, 3, 4]]);
        assert_eq!(tags([4, 1, 4, 3]), [vec![2, 4], vec![1], vec![3]]);
        assert_eq!(tags([5, 1, 5, 3]), [vec![2, 4], vec![3], vec![1]]);
        let mut any = tags([20, 9, 9, 9]);
        any.sort();
        assert_eq!(any, [[1], [2], [3], [4]]);
    }
}
