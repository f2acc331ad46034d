//! Trials: a comment that may end the process that judges it is judged alone.
//!
//! A process that ends takes everything that it holds back to the queue, and nobody can
//! tell which of it was to blame. So what came back more than once is judged one by one,
//! with nothing else judged beside it in its process, and the store notes that it begins
//! before it begins. The one to blame is found by its own count, and its neighbours lose
//! nothing but a little time.

use super::identity::{arrival_key, hash_of, judged_hash};
use super::judging::{Failure, Outcome, judge_and_record};
use super::ports::{Arrival, Delivery};
use super::worker::WorkerDeps;
use crate::domain::comment::Comment;

/// Deliveries that ended with their process, after which a comment is judged alone. One death
/// is an everyday thing: a restart, a broker that was away.
const SUSPECT_DEATHS: u32 = 2;
/// Trials that ended their process, after which a comment is parked. Above one, so that a
/// process that was killed from outside just then costs nobody its place.
const FATAL_TRIALS: u32 = 3;

/// Whether a delivery is to be judged alone. Only what reaches the engine is.
pub(super) fn is_suspect(delivery: &Delivery) -> bool {
    delivery.deaths >= SUSPECT_DEATHS && matches!(delivery.arrival, Ok(Arrival::Comment(_)))
}

/// Whether the judgement is there already: then the process ended for another reason, after it was stored.
async fn is_judged(deps: &WorkerDeps, comment: &Comment) -> bool {
    let Some(version) = deps.judge.version(&comment.key.consultation).filter(|_| deps.settings.reuse) else {
        return false;
    };
    let found = deps.store.cached(&version, &[judged_hash(comment)]).await;
    found.is_ok_and(|found| found.iter().all(Option::is_some))
}

/// Judges one delivery, or parks it when it has ended too many processes.
pub(super) async fn judge_alone(deps: &WorkerDeps, delivery: Delivery) -> Outcome {
    let store = &deps.store;
    let mut outcome = Outcome::default();
    let Ok(Arrival::Comment(comment)) = &delivery.arrival else {
        return judge_and_record(deps, vec![delivery]).await;
    };
    let key = &comment.key;
    let name = hash_of(&[key.consultation.as_str(), key.source.as_str(), key.id.as_str(), &arrival_key(comment)]);
    let id = key.id.to_string();
    let (tag, attempt) = (delivery.tag, delivery.attempt);
    match store.begin_trial(&name).await {
        Ok(before) if before >= FATAL_TRIALS && !is_judged(deps, comment).await => {
            outcome.fail_tag(tag, attempt, &Failure::Fatal(before), &id);
        }
        Ok(_) => {
            tracing::warn!(comment.id = id, delivery.deaths = delivery.deaths, "a comment is judged alone");
            outcome = judge_and_record(deps, vec![delivery]).await;
        }
        Err(error) => {
            // Without a note of its beginning it could end process after process.
            let failure = Failure::Store(error);
            outcome.fail_tag(tag, attempt, &failure, &id);
            outcome.store_down = Some(failure.to_string());
            return outcome;
        }
    }
    if let Err(error) = store.end_trial(&name).await {
        // The note stays: at the worst a person is shown it after some more deaths of others.
        tracing::warn!(%error, "a trial that ended well could not be noted");
    }
    outcome
}
