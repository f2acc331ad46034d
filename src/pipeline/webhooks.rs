//! The relay of webhooks: from claimed calls to one target, one kind of message a loop.
//!
//! A call is claimed, tried, and ended after the target has answered. Between the two a
//! crash brings it again, under the same event id. A call that fails waits on growing
//! pauses that the store keeps, so that a restart forgets none; after the last it is
//! parked. A target that fails is asked one call at a time until it takes one: a long
//! outage costs few of the waiting calls a try.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::ports::{Call, CallEnd, ClaimCalls, OutboxRow, Store, StoreError};
use super::pulse::Pulse;
use super::shutdown::Shutdown;
use crate::telemetry::metric;

/// Pause after a turn in which nothing was taken: it doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Calls of one claim for each that may be on its way: while some are slow, others go on.
const ROUNDS: u32 = 4;
/// What ending and claiming calls may take beside trying them.
const LEASE_MARGIN_MS: i64 = 60_000;
/// The longest pause that a target may ask for.
const LONGEST_ASKED_MS: i64 = 24 * 60 * 60 * 1_000;
/// How long a relay that ends may take to say how its calls ended.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// Why a target did not take a message. Holds no part of the message and no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It says that it is gone for good.
    #[error("the target is gone for good (410)")]
    Gone,
    /// It did not take it now.
    #[error("{why}")]
    Failed {
        /// What happened.
        why: String,
        /// The pause that it asks for, in milliseconds.
        after_ms: Option<i64>,
    },
}

/// Tells one target one message.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Returns in bounded time. `Ok` only when the target has said that it has the message.
    async fn call(&self, message: &OutboxRow) -> Result<(), CallError>;
}

/// What a relay works with.
#[derive(Clone)]
pub struct WebhookDeps {
    /// Where calls wait.
    pub store: Arc<dyn Store>,
    /// Who is told.
    pub caller: Arc<dyn Caller>,
    /// Where trouble is noted: it does not end readiness.
    pub pulse: Pulse,
    /// What time it is.
    pub clock: Clock,
    /// Rings when something was stored.
    pub stored: Arc<Notify>,
    /// The target's name.
    pub target: String,
    /// The kind of message that this loop sends, and no other.
    pub kind: &'static str,
    /// This loop's own random name among all processes.
    pub owner: String,
    /// How much, how long.
    pub settings: WebhookSettings,
}

/// How much a relay sends at once, and how patient it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Calls that are on their way at once.
    pub concurrency: u32,
    /// Pauses before another try, in milliseconds; a call that fails after the last is parked.
    pub retry_ms: Vec<i64>,
    /// The most that one try takes, in milliseconds.
    pub timeout_ms: i64,
    /// Pause between looks when nobody rings: another process may have stored something.
    pub idle: Duration,
}

impl WebhookSettings {
    /// Calls of one claim.
    fn batch(&self) -> u32 {
        self.concurrency.saturating_mul(ROUNDS)
    }

    /// Above what trying one claim may take.
    fn lease_ms(&self) -> i64 {
        self.timeout_ms.saturating_mul(i64::from(ROUNDS)).saturating_add(LEASE_MARGIN_MS)
    }

    /// How a failed try ends.
    fn end(&self, attempts: u32, error: &CallError, now_ms: i64) -> CallEnd {
        let CallError::Failed { why, after_ms } = error else { return CallEnd::Parked(error.to_string()) };
        let Some(tier_ms) = self.retry_ms.get(attempts as usize) else {
            return CallEnd::Parked(format!("{} tries failed, the last: {why}", attempts.saturating_add(1)));
        };
        let asked_ms = after_ms.unwrap_or(0).min(LONGEST_ASKED_MS);
        CallEnd::Again { run_at_ms: now_ms.saturating_add(asked_ms.max(*tier_ms)), why: why.clone() }
    }
}

/// Sends until asked to stop; then until `last` says that nothing more will be stored and
/// nothing is due or the target takes nothing, or until asked to let go.
pub async fn run(deps: &WebhookDeps, shutdown: &Shutdown, last: &CancellationToken) {
    let mut relay = Relay { deps, ends: Vec::new(), failing: false };
    let mut pause = FIRST_PAUSE;
    loop {
        // Before the look, so that what is stored during it rings again.
        let stored = deps.stored.notified();
        let nothing_more = last.is_cancelled();
        let turn = tokio::select! {
            biased;
            () = shutdown.abandon.cancelled() => break,
            turn = relay.turn() => turn,
        };
        let wait = match turn {
            Ok(Turn::Taken) => {
                pause = FIRST_PAUSE;
                continue;
            }
            Ok(Turn::Failed | Turn::Nothing) | Err(_) if nothing_more => break,
            Ok(Turn::Nothing) => deps.settings.idle,
            Ok(Turn::Failed) => {
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                tokio::select! {
                    () = shutdown.abandon.cancelled() => break,
                    () = last.cancelled(), if !nothing_more => continue,
                    () = tokio::time::sleep(wait) => continue,
                }
            }
            Err(error) => {
                tracing::error!(target = deps.target, kind = deps.kind, %error, "webhook calls cannot be read, they wait");
                LONGEST_PAUSE
            }
        };
        tokio::select! {
            () = shutdown.abandon.cancelled() => break,
            () = last.cancelled(), if !nothing_more => {}
            () = stored => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    let _ = tokio::time::timeout(GIVE_BACK, relay.end(0)).await;
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Taken,
    Failed,
    Nothing,
}

struct Relay<'a> {
    deps: &'a WebhookDeps,
    /// How tries ended that the store has not been told of yet.
    ends: Vec<(i64, CallEnd)>,
    /// Whether the target took nothing when it was last asked.
    failing: bool,
}

impl Relay<'_> {
    async fn turn(&mut self) -> Result<Turn, StoreError> {
        let limit = if self.failing { 1 } else { self.deps.settings.batch() };
        let calls = self.end(limit).await?;
        if calls.is_empty() {
            return Ok(Turn::Nothing);
        }
        let (taken, failed) = self.try_all(calls).await;
        self.failing = taken == 0 && failed > 0;
        self.tell();
        if self.failing {
            // Said at once, so that what was not tried is free while this loop pauses.
            self.end(0).await?;
        }
        Ok(if self.failing { Turn::Failed } else { Turn::Taken })
    }

    /// Tells the store how tries ended, and claims up to `limit` calls.
    async fn end(&mut self, limit: u32) -> Result<Vec<Call>, StoreError> {
        let WebhookDeps { store, target, kind, owner, settings, .. } = self.deps;
        let claim = ClaimCalls { target, kind, owner, limit, lease_ms: settings.lease_ms() };
        if limit == 0 && self.ends.is_empty() {
            return Ok(Vec::new());
        }
        let calls = store.end_then_claim_calls(&self.ends, claim).await?;
        self.ends.clear();
        Ok(calls)
    }

    /// Tries calls, some at a time. After the first that fails no other is begun.
    async fn try_all(&mut self, calls: Vec<Call>) -> (u64, u64) {
        let deps = self.deps;
        let mut waiting: VecDeque<Call> = calls.into();
        let mut flying = FuturesUnordered::new();
        let (mut taken, mut failed) = (0, 0);
        loop {
            while failed == 0
                && flying.len() < deps.settings.concurrency as usize
                && let Some(call) = waiting.pop_front()
            {
                flying.push(async move {
                    let answer = deps.caller.call(&call.message).await;
                    (call, answer)
                });
            }
            let Some((call, answer)) = flying.next().await else { break };
            let end = match &answer {
                Ok(()) => {
                    taken += 1;
                    CallEnd::Delivered
                }
                Err(error) => {
                    failed += 1;
                    deps.settings.end(call.attempts, error, deps.clock.now_ms())
                }
            };
            self.log(&call, &end);
            self.ends.push((call.no, end));
        }
        self.ends.extend(waiting.into_iter().map(|call| (call.no, CallEnd::Untried)));
        (taken, failed)
    }

    fn log(&self, call: &Call, end: &CallEnd) {
        let WebhookDeps { target, kind, .. } = self.deps;
        let name = match end {
            CallEnd::Delivered => metric::WEBHOOK_DELIVERED,
            CallEnd::Again { .. } | CallEnd::Untried => metric::WEBHOOK_FAILED,
            CallEnd::Parked(_) => metric::WEBHOOK_PARKED,
        };
        metrics::counter!(name, "target" => target.clone(), "kind" => *kind).increment(1);
        if let CallEnd::Parked(why) = end {
            tracing::error!(target, kind, event.id = call.message.event_id, why, "parked a webhook call");
        }
    }

    /// Notes how the target is; a log says it once.
    fn tell(&self) {
        let WebhookDeps { target, kind, pulse, .. } = self.deps;
        let part = format!("webhook {target} ({kind})");
        let why = self.ends.iter().find_map(|(_, end)| match end {
            CallEnd::Again { why, .. } | CallEnd::Parked(why) => Some(why.clone()),
            CallEnd::Delivered | CallEnd::Untried => None,
        });
        match why {
            Some(why) if self.failing => {
                if pulse.note(&part, why.clone()) {
                    tracing::warn!(target, kind, why, "a webhook takes nothing, will try again");
                }
            }
            _ => pulse.unnote(&part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> WebhookSettings {
        WebhookSettings { concurrency: 2, retry_ms: vec![10, 100], timeout_ms: 1_000, idle: Duration::from_millis(5) }
    }

    fn failed(after_ms: Option<i64>) -> CallError {
        CallError::Failed { why: "no".to_owned(), after_ms }
    }

    #[test]
    fn pauses_grow_and_end_in_parking() {
        let end = |attempts| settings().end(attempts, &failed(None), 1_000);
        assert_eq!(end(0), CallEnd::Again { run_at_ms: 1_010, why: "no".to_owned() });
        assert_eq!(end(1), CallEnd::Again { run_at_ms: 1_100, why: "no".to_owned() });
        assert_eq!(end(2), CallEnd::Parked("3 tries failed, the last: no".to_owned()));
    }

    #[test]
    fn a_target_may_ask_for_a_longer_pause_and_not_for_ever() {
        let asked = |after_ms| settings().end(0, &failed(Some(after_ms)), 0);
        assert_eq!(asked(5_000), CallEnd::Again { run_at_ms: 5_000, why: "no".to_owned() });
        assert_eq!(asked(1), CallEnd::Again { run_at_ms: 10, why: "no".to_owned() });
        assert_eq!(asked(i64::MAX), CallEnd::Again { run_at_ms: LONGEST_ASKED_MS, why: "no".to_owned() });
    }

    #[test]
    fn what_is_gone_for_good_is_parked_at_once() {
        assert!(matches!(settings().end(0, &CallError::Gone, 0), CallEnd::Parked(why) if why.contains("410")));
    }
}
