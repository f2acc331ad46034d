//! From a batch of deliveries to the way each of them ends.
//!
//! Nothing is settled here: the caller settles what this says, after this has
//! made the effects durable.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::identity::judged_hash;
use super::intake::{IntakeLimits, admit};
use super::ports::{Arrival, Delivery, EngineError, Judge, Judged, Recorded, Settlement, Store, StoreError};
use super::worker::Progress;
use crate::domain::assessment::Assessment;
use crate::domain::comment::{Comment, ConsultationId};
use crate::domain::rulebook::PipelineVersion;
use crate::telemetry::metric;

/// Pause before the engine is tried again.
pub(super) const ENGINE_PAUSE_MS: u64 = 5_000;
const STORE_BUSY_PAUSE_MS: u64 = 1_000;
/// For what only a person mends.
const OUTDATED_PAUSE_MS: u64 = 60_000;
const LONGEST_PAUSE_MS: u64 = 300_000;

/// Why a delivery did not become a stored judgement.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("not a comment: {0}")]
    Undecodable(String),
    #[error("no rulebook for consultation `{0}`")]
    NoRulebook(ConsultationId),
    #[error(transparent)]
    Engine(EngineError),
    #[error("judging panicked")]
    Panicked,
    #[error(transparent)]
    Store(StoreError),
}

impl Failure {
    /// How the delivery ends.
    fn settlement(&self, attempt: u32) -> Settlement {
        match self {
            Self::Undecodable(_)
            | Self::NoRulebook(_)
            | Self::Panicked
            | Self::Engine(EngineError::Comment(_))
            | Self::Store(StoreError::Damaged(_)) => Settlement::Park(self.to_string()),
            // Not the comment's fault: it waits, however long that takes.
            Self::Engine(EngineError::Models { .. } | EngineError::Stopped(_)) => {
                Settlement::Retry { after_ms: ENGINE_PAUSE_MS, counts: false }
            }
            Self::Store(StoreError::Busy(_)) => Settlement::Retry { after_ms: STORE_BUSY_PAUSE_MS, counts: false },
            Self::Store(StoreError::Refused(_) | StoreError::NewerSchema { .. } | StoreError::OtherRulebook { .. }) => {
                Settlement::Retry { after_ms: OUTDATED_PAUSE_MS, counts: false }
            }
            // 1 s, 2 s, 4 s ... up to 5 minutes: with 20 attempts over an hour until parked.
            Self::Store(StoreError::Failed(_)) => Settlement::Retry {
                after_ms: (1_000 << attempt.saturating_sub(1).min(9)).min(LONGEST_PAUSE_MS),
                counts: true,
            },
        }
    }

    /// Whether it may be one comment that fails its whole batch.
    fn may_be_one_comment(&self) -> bool {
        match self {
            Self::Panicked
            | Self::Engine(EngineError::Comment(_))
            | Self::Store(StoreError::Damaged(_) | StoreError::Failed(_)) => true,
            Self::Undecodable(_)
            | Self::NoRulebook(_)
            | Self::Engine(EngineError::Models { .. } | EngineError::Stopped(_))
            | Self::Store(
                StoreError::Busy(_)
                | StoreError::Refused(_)
                | StoreError::NewerSchema { .. }
                | StoreError::OtherRulebook { .. },
            ) => false,
        }
    }
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub settlements: Vec<(i64, Settlement)>,
    pub progress: Progress,
    /// The engine does not work at all; nothing else should be tried for now.
    pub engine_down: Option<EngineError>,
    /// The store does not take anything for now.
    pub store_down: Option<String>,
}

impl Outcome {
    fn fail(&mut self, ready: &Ready, failure: &Failure) {
        let key = &ready.comment.key;
        self.fail_tag(ready.tag, ready.attempt, failure, key.id.as_str());
    }

    fn fail_tag(&mut self, tag: i64, attempt: u32, failure: &Failure, id: &str) {
        let settlement = failure.settlement(attempt);
        match &settlement {
            Settlement::Park(_) => {
                self.progress.parked += 1;
                tracing::error!(delivery.tag = tag, comment.id = id, %failure, "parked a delivery");
            }
            Settlement::Retry { .. } | Settlement::Done => {
                self.progress.retried += 1;
                tracing::debug!(delivery.tag = tag, comment.id = id, %failure, "will try again");
            }
        }
        self.settlements.push((tag, settlement));
    }

    /// Ends deliveries that nobody judges, after the store has kept them or has not.
    fn without_judging(
        &mut self,
        tags: &[(i64, u32)],
        stored: Result<u64, StoreError>,
        count: fn(&mut Progress) -> &mut u64,
    ) {
        match stored {
            Ok(new) => {
                metrics::counter!(metric::ROWS_FAILED).increment(new);
                *count(&mut self.progress) += tags.len() as u64;
                self.settlements.extend(tags.iter().map(|(tag, _)| (*tag, Settlement::Done)));
            }
            Err(error) => {
                let failure = Failure::Store(error);
                for (tag, attempt) in tags {
                    self.fail_tag(*tag, *attempt, &failure, "");
                }
                self.store_down = Some(failure.to_string());
            }
        }
    }

    fn done(&mut self, tag: i64, recorded: Recorded) {
        match recorded {
            Recorded::New => self.progress.recorded += 1,
            Recorded::AlreadyKnown => self.progress.known += 1,
        }
        self.settlements.push((tag, Settlement::Done));
    }
}

/// A delivery that can be judged.
struct Ready {
    tag: i64,
    attempt: u32,
    sequence: i64,
    comment: Comment,
    version: PipelineVersion,
}

/// Judges and stores a batch; a failure that one comment may cause is narrowed
/// down to that comment.
pub(super) async fn judge_and_record(
    judge: &Arc<dyn Judge>,
    store: &dyn Store,
    limits: &IntakeLimits,
    deliveries: Vec<Delivery>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut batch = Vec::with_capacity(deliveries.len());
    let mut failed = Vec::new();
    for delivery in deliveries {
        let Delivery { tag, arrival, attempt, sequence } = delivery;
        let arrival = arrival.map_err(Failure::Undecodable).and_then(|arrival| {
            let version = judge.version(arrival.consultation());
            version.ok_or_else(|| Failure::NoRulebook(arrival.consultation().clone())).map(|version| (arrival, version))
        });
        match arrival {
            // A broker's senders have not passed the intake.
            Ok((Arrival::Comment(comment), version)) => match admit(*comment, 0, limits) {
                Ok(comment) => batch.push(Ready { tag, attempt, sequence, comment, version }),
                Err(row) => failed.push((tag, attempt, row)),
            },
            Ok((Arrival::Failed(row), _)) => failed.push((tag, attempt, *row)),
            Ok((Arrival::Withdrawal { key, revision }, _)) => {
                let withdrawn = store.withdraw(&key, revision).await;
                outcome.without_judging(&[(tag, attempt)], withdrawn.map(|_| 0), |progress| &mut progress.withdrawn);
            }
            Err(failure) => outcome.fail_tag(tag, attempt, &failure, ""),
        }
    }
    if !failed.is_empty() {
        let (tags, rows): (Vec<_>, Vec<_>) =
            failed.into_iter().map(|(tag, attempt, row)| ((tag, attempt), row)).unzip();
        let kept = store.fail(&rows).await;
        outcome.without_judging(&tags, kept, |progress| &mut progress.failed);
    }
    if batch.is_empty() {
        return outcome;
    }
    let Err(failure) = try_batch(judge, store, &batch, &mut outcome).await else {
        return outcome;
    };
    if !failure.may_be_one_comment() {
        fail_all(&batch, failure, &mut outcome);
        return outcome;
    }
    tracing::warn!(size = batch.len(), %failure, "a batch failed, trying its comments one by one");
    let mut rest = batch.as_slice();
    while let Some((one, after)) = rest.split_first() {
        let alone = std::slice::from_ref(one);
        match try_batch(judge, store, alone, &mut outcome).await {
            Ok(()) => {}
            Err(failure) if failure.may_be_one_comment() => {
                outcome.fail(one, &failure);
                if let Failure::Store(StoreError::Failed(why)) = failure {
                    outcome.store_down = Some(why);
                }
            }
            Err(failure) => {
                fail_all(rest, failure, &mut outcome);
                break;
            }
        }
        rest = after;
    }
    outcome
}

fn fail_all(batch: &[Ready], failure: Failure, outcome: &mut Outcome) {
    for ready in batch {
        outcome.fail(ready, &failure);
    }
    match failure {
        Failure::Engine(error) => outcome.engine_down = Some(error),
        Failure::Store(error) => outcome.store_down = Some(error.to_string()),
        Failure::Undecodable(_) | Failure::NoRulebook(_) | Failure::Panicked => {}
    }
}

async fn try_batch(
    judge: &Arc<dyn Judge>,
    store: &dyn Store,
    batch: &[Ready],
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let (assessments, fresh) = assess(judge, store, batch).await?;
    let judged: Vec<Judged> = batch
        .iter()
        .zip(assessments)
        .map(|(ready, assessment)| Judged { comment: ready.comment.clone(), sequence: ready.sequence, assessment })
        .collect();
    let recorded = store.record(&judged).await.map_err(Failure::Store)?;
    outcome.progress.judged += fresh;
    outcome.progress.reused += batch.len() as u64 - fresh;
    for (ready, recorded) in batch.iter().zip(recorded) {
        outcome.done(ready.tag, recorded);
    }
    Ok(())
}

/// One assessment per delivery, and how many the judge had to make: an equal
/// text under the same version is judged once.
async fn assess(judge: &Arc<dyn Judge>, store: &dyn Store, batch: &[Ready]) -> Result<(Vec<Assessment>, u64), Failure> {
    let hashes: Vec<String> = batch.iter().map(|ready| judged_hash(&ready.comment)).collect();
    // How often each text stands in the batch, under each pipeline version.
    let mut uses: HashMap<(&PipelineVersion, &str), usize> = HashMap::new();
    let mut distinct: HashMap<&PipelineVersion, Vec<usize>> = HashMap::new();
    for (at, ready) in batch.iter().enumerate() {
        let times = uses.entry((&ready.version, &hashes[at])).or_default();
        if *times == 0 {
            distinct.entry(&ready.version).or_default().push(at);
        }
        *times += 1;
    }
    let mut known: HashMap<(&PipelineVersion, &str), Assessment> = HashMap::new();
    let mut missing: Vec<usize> = Vec::new();
    for (version, places) in distinct {
        let wanted: Vec<String> = places.iter().map(|at| hashes[*at].clone()).collect();
        let found = match store.cached(version, &wanted).await {
            Ok(found) => found,
            // A judgement that cannot be read is made again.
            Err(StoreError::Damaged(why)) => {
                tracing::error!(%why, "a stored judgement is damaged");
                vec![None; wanted.len()]
            }
            Err(error) => return Err(Failure::Store(error)),
        };
        for (at, found) in places.into_iter().zip(found) {
            match found {
                Some(found) => _ = known.insert((version, &hashes[at]), found),
                None => missing.push(at),
            }
        }
    }
    missing.sort_unstable();
    let fresh = missing.len() as u64;
    if !missing.is_empty() {
        let comments: Vec<Comment> = missing.iter().map(|at| batch[*at].comment.clone()).collect();
        let made = judge_apart(judge, comments).await?;
        if made.len() != missing.len() {
            let why = format!("gave {} assessments for {} comments", made.len(), missing.len());
            return Err(Failure::Engine(EngineError::Stopped(why)));
        }
        known.extend(missing.iter().map(|at| (&batch[*at].version, hashes[*at].as_str())).zip(made));
    }
    let assessments = batch
        .iter()
        .zip(&hashes)
        .map(|(ready, hash)| {
            let slot = (&ready.version, hash.as_str());
            let last = uses.get_mut(&slot).is_none_or(|left| {
                *left -= 1;
                *left == 0
            });
            // Most texts stand once: theirs is handed over, not copied.
            let assessment = if last { known.remove(&slot) } else { known.get(&slot).cloned() };
            assessment.expect("every text of the batch was found or judged above")
        })
        .collect();
    Ok((assessments, fresh))
}

/// Runs the judge in a task of its own, so that its panic ends that task and no more.
async fn judge_apart(judge: &Arc<dyn Judge>, comments: Vec<Comment>) -> Result<Vec<Assessment>, Failure> {
    let judge = judge.clone();
    let task = tokio::spawn(async move { judge.judge(&comments).await });
    match AbortOnDropHandle::new(task).await {
        Ok(judged) => judged.map_err(Failure::Engine),
        // The panic's message is not passed on: it could quote the text.
        Err(error) if error.is_panic() => Err(Failure::Panicked),
        Err(_cancelled) => Err(Failure::Engine(EngineError::Stopped("the runtime is ending".to_owned()))),
    }
}
