//! The relay: from the outbox to a publisher, one kind of message a loop.
//!
//! A row is claimed, sent, and marked after the other side has it. Between the two a
//! crash brings it again, under the same event id. Rows are leased, so several
//! processes on one store share the work and none of them sends what another has in hand.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::ports::{OutboxRow, Publisher, Store, StoreError};
use super::pulse::Pulse;
use super::shutdown::Shutdown;
use crate::telemetry::spans::{Kind, Span};

/// Pause after a failure: it doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a relay that ends may take to give its rows back.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// What a relay works with.
#[derive(Clone)]
pub struct RelayDeps {
    /// Where messages wait.
    pub store: Arc<dyn Store>,
    /// Where they go.
    pub publisher: Arc<dyn Publisher>,
    /// Where trouble is told.
    pub pulse: Pulse,
    /// Rings when something was stored.
    pub stored: Arc<Notify>,
    /// The kind of message that this loop sends, and no other.
    pub kind: &'static str,
    /// This loop's own random name among all processes.
    pub owner: String,
    /// How much, how long.
    pub settings: RelaySettings,
}

/// How much a relay takes at once, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelaySettings {
    /// Messages of one claim.
    pub batch: u32,
    /// How long a claim lasts; well above what sending may take.
    pub lease_ms: i64,
    /// Pause between looks when nobody rings: another process may have stored something.
    pub idle: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self { batch: 1_024, lease_ms: 120_000, idle: Duration::from_millis(500) }
    }
}

/// Sends until asked to stop; then until `last` says that nothing more will be
/// stored and nothing waits, or until asked to let go.
pub async fn run(deps: &RelayDeps, shutdown: &Shutdown, last: &CancellationToken) {
    let mut relay = Relay::new(deps);
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
            Turn::Sent => {
                pause = FIRST_PAUSE;
                continue;
            }
            Turn::Nothing if nothing_more => break,
            Turn::Nothing => {
                pause = FIRST_PAUSE;
                deps.settings.idle
            }
            Turn::Failed => {
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                tokio::select! {
                    () = shutdown.abandon.cancelled() => break,
                    () = tokio::time::sleep(wait) => continue,
                }
            }
        };
        tokio::select! {
            () = shutdown.abandon.cancelled() => break,
            () = last.cancelled(), if !nothing_more => {}
            () = stored => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    let _ = tokio::time::timeout(GIVE_BACK, relay.give_back()).await;
}

enum Turn {
    Sent,
    Nothing,
    Failed,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Claimed {
    sent: u64,
    failed: u64,
}

struct Relay<'a> {
    deps: &'a RelayDeps,
    /// Sent, but the store has not been told yet.
    unmarked: Vec<String>,
    /// Claimed, and next to be sent.
    next: Vec<OutboxRow>,
}

impl<'a> Relay<'a> {
    fn new(deps: &'a RelayDeps) -> Self {
        Self { deps, unmarked: Vec::new(), next: Vec::new() }
    }

    async fn turn(&mut self) -> Turn {
        match self.send().await {
            Ok(Claimed { sent: 0, failed: 0 }) => {
                // Nothing to send says nothing about the way: a trouble of before is looked after here.
                self.deps.publisher.look().await;
                Turn::Nothing
            }
            Ok(Claimed { failed: 0, .. }) => Turn::Sent,
            Ok(_) => Turn::Failed,
            Err(error) => {
                if self.deps.pulse.trouble("outbox", error.to_string()) {
                    tracing::error!(kind = self.deps.kind, %error, "the outbox cannot be read, messages wait");
                }
                Turn::Failed
            }
        }
    }

    /// Sends what is claimed. While it is on its way, what was sent before is marked and
    /// what comes next is claimed.
    async fn send(&mut self) -> Result<Claimed, StoreError> {
        let deps = self.deps;
        let rows = if self.next.is_empty() { self.claim().await? } else { std::mem::take(&mut self.next) };
        if rows.is_empty() {
            return Ok(Claimed::default());
        }
        let more = rows.len() as u32 == deps.settings.batch;
        let claiming = async { if more { self.claim().await } else { Ok(Vec::new()) } };
        let spans: Vec<Option<Span>> =
            rows.iter().map(|row| Span::begin("send message", Kind::Producer, row.trace.as_ref())).collect();
        let (answers, next) = tokio::join!(deps.publisher.send(&rows), claiming);
        for (span, answer) in spans.into_iter().zip(&answers) {
            if let Some(span) = span {
                span.end(answer.as_ref().err().map(ToString::to_string));
            }
        }
        let mut claimed = Claimed::default();
        for (row, answer) in rows.into_iter().zip(&answers) {
            match answer {
                Ok(()) => {
                    claimed.sent += 1;
                    self.unmarked.push(row.event_id);
                }
                Err(_) => claimed.failed += 1,
            }
        }
        self.next = next?;
        if claimed.failed > 0 {
            self.give_back().await?;
        }
        Ok(claimed)
    }

    async fn claim(&mut self) -> Result<Vec<OutboxRow>, StoreError> {
        let RelayDeps { store, settings, kind, owner, .. } = self.deps;
        let rows = store.sent_then_claim(&self.unmarked, kind, owner, settings.batch, settings.lease_ms).await?;
        self.unmarked.clear();
        self.deps.pulse.well("outbox");
        Ok(rows)
    }

    /// Marks what was sent and lets others have the rest: they may have a better connection.
    async fn give_back(&mut self) -> Result<(), StoreError> {
        self.next.clear();
        if !self.unmarked.is_empty() {
            self.deps.store.sent(&self.unmarked).await?;
            self.unmarked.clear();
        }
        self.deps.store.release(&self.deps.owner).await
    }
}
