//! Looks at queue, store and active rulebook now and then, and tells readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::clock::Clock;
use super::ports::{Queue, Store, StoreError, WebhookState};
use super::pulse::Pulse;
use super::shutdown::Shutdown;
use crate::domain::rulebook::Rulebook;
use crate::telemetry::metric;
use crate::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(15);
/// A clock that is kept by small steps is never so far off between two looks.
const JUMP_MS: i64 = 5_000;

/// Watches until asked to stop. `rulebook` is what this process judges by.
pub async fn run(
    queue: Arc<dyn Queue>,
    store: Arc<dyn Store>,
    rulebook: Arc<Rulebook>,
    pulse: Pulse,
    clock: Clock,
    shutdown: Shutdown,
) {
    let mut hand = Hand { wall_ms: clock.now_ms(), steady: Instant::now() };
    while !shutdown.stop_intake.is_cancelled() {
        if let Some(jump_ms) = hand.jump(clock.now_ms(), Instant::now()) {
            metrics::counter!(metric::CLOCK_JUMPS).increment(1);
            tracing::warn!(
                jump_ms,
                "the machine's clock was set; what waits for its time comes sooner or later by as much"
            );
        }
        let looking = async {
            look(&*queue, &*store, &pulse, &clock).await;
            same_rulebook(&*store, &rulebook, &pulse).await;
        };
        // It only reads: a store that answers nobody must not hold up the end of the process.
        tokio::select! {
            () = looking => shutdown.sleep(EVERY).await,
            () = shutdown.stop_intake.cancelled() => break,
        }
    }
}

/// The clock on the wall beside one that only goes on.
struct Hand {
    wall_ms: i64,
    steady: Instant,
}

impl Hand {
    /// By how much the clock was set since the last look, if it was.
    fn jump(&mut self, wall_ms: i64, steady: Instant) -> Option<i64> {
        let went_by = steady.duration_since(self.steady).as_millis() as i64;
        let jump = wall_ms.saturating_sub(self.wall_ms).saturating_sub(went_by);
        *self = Self { wall_ms, steady };
        (jump.abs() > JUMP_MS).then_some(jump)
    }
}

/// Another process may adopt a rulebook while this one runs: then nothing that is judged
/// here is stored, and readiness says so before a comment comes.
async fn same_rulebook(store: &dyn Store, carried: &Rulebook, pulse: &Pulse) {
    let consultation = &carried.consultation.id;
    match store.active_version(consultation).await {
        Ok(Some(active)) if active != carried.version => {
            let (consultation, carried) = (consultation.clone(), carried.version.clone());
            let why = StoreError::OtherRulebook { consultation, active, carried }.to_string();
            if pulse.trouble("rulebook", &why) {
                tracing::error!(%why, "comments wait");
            }
        }
        Ok(_) => pulse.well("rulebook"),
        Err(error) => tracing::warn!(%error, "the active rulebook could not be read"),
    }
}

/// One look.
pub async fn look(queue: &dyn Queue, store: &dyn Store, pulse: &Pulse, clock: &Clock) {
    match store.ping().await {
        Ok(()) => pulse.well("store"),
        Err(error) => _ = pulse.trouble("store", error.to_string()),
    }
    match queue.depth(None).await {
        Ok(depth) => {
            pulse.well("queue");
            metrics::gauge!(metric::QUEUE_WAITING).set(depth.waiting as f64);
            metrics::gauge!(metric::QUEUE_IN_FLIGHT).set(depth.in_flight as f64);
            metrics::gauge!(metric::QUEUE_PARKED).set(depth.parked as f64);
        }
        Err(error) => _ = pulse.trouble("queue", error.to_string()),
    }
    for kind in [COMMENT_ASSESSED, ALERT_SAFEGUARDING] {
        match store.backlog(Some(kind)).await {
            Ok(backlog) => {
                metrics::gauge!(metric::OUTBOX_UNSENT, "kind" => kind).set(backlog.unsent as f64);
                let age_ms = backlog.oldest_ms.map_or(0, |oldest_ms| clock.now_ms() - oldest_ms);
                metrics::gauge!(metric::OUTBOX_OLDEST_SECONDS, "kind" => kind).set(age_ms as f64 / 1_000.0);
            }
            Err(error) => tracing::warn!(%error, "the outbox could not be counted"),
        }
    }
    match store.webhook_states().await {
        Ok(states) => states.iter().for_each(|state| webhook(state, clock.now_ms())),
        Err(error) => tracing::warn!(%error, "webhook calls could not be counted"),
    }
    match store.disclosures(None).await {
        Ok(all) => {
            let waiting = all.iter().filter(|d| d.acknowledged.is_none()).count();
            metrics::gauge!(metric::DISCLOSURES_UNACKNOWLEDGED).set(waiting as f64);
        }
        Err(error) => tracing::warn!(%error, "disclosures could not be counted"),
    }
}

fn webhook(state: &WebhookState, now_ms: i64) {
    let labels = [("target", state.target.clone()), ("kind", state.kind.clone())];
    let age_ms = state.oldest_ms.map_or(0, |oldest_ms| now_ms - oldest_ms);
    metrics::gauge!(metric::WEBHOOK_WAITING, &labels).set(state.waiting as f64);
    metrics::gauge!(metric::WEBHOOK_KEPT, &labels).set(state.parked as f64);
    metrics::gauge!(metric::WEBHOOK_OLDEST_SECONDS, &labels).set(age_ms as f64 / 1_000.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_from_one_that_goes() {
        let start = Instant::now();
        let mut hand = Hand { wall_ms: 1_000_000, steady: start };
        assert_eq!(hand.jump(1_015_020, start + Duration::from_secs(15)), None);
        assert_eq!(hand.jump(1_030_020 + 3_600_000, start + Duration::from_secs(30)), Some(3_600_000));
        assert_eq!(hand.jump(1_045_020, start + Duration::from_secs(45)), Some(-3_600_000));
        assert_eq!(hand.jump(1_060_020, start + Duration::from_mins(1)), None);
    }
}
