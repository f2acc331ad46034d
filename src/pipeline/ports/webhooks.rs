//! Webhooks: messages of the outbox for addresses that an operator names.
//!
//! A call is one message for one target. It is written in the transaction that writes
//! the message, and each target and kind has its own: a target that is slow or gone
//! keeps nobody else waiting, and neither a broker nor judging knows of it.

use async_trait::async_trait;

use super::{OutboxRow, StoreError};

/// A message that one target is to be told, claimed by one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The store's own handle on it.
    pub no: i64,
    /// Tries that failed before this one.
    pub attempts: u32,
    /// What is told. Its `event_id` is the call's idempotency key.
    pub message: OutboxRow,
}

/// Which calls are claimed, by whom, for how long.
#[derive(Clone, Copy, Debug)]
pub struct ClaimCalls<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The kind of message.
    pub kind: &'a str,
    /// The claiming loop's own random name among all processes.
    pub owner: &'a str,
    /// At most so many.
    pub limit: u32,
    /// They are nobody else's for so long.
    pub lease_ms: i64,
}

/// How a try of a call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// The target has taken it.
    Delivered,
    /// It has not, and is asked again.
    Again {
        /// Not before this time (Unix milliseconds).
        run_at_ms: i64,
        /// Why it failed. Holds no part of a message and no address.
        why: String,
    },
    /// It has not, and is not asked again until a person says so.
    Parked(String),
    /// It was claimed and not tried; nothing is counted.
    Untried,
}

/// How one target stands with one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookState {
    /// The target's name.
    pub target: String,
    /// The kind of message.
    pub kind: String,
    /// Whether new messages are still meant for it.
    pub subscribed: bool,
    /// Calls that wait, for the first time or again.
    pub waiting: u64,
    /// Those of them that have failed at least once.
    pub failing: u64,
    /// Given up on, kept.
    pub parked: u64,
    /// Taken by the target.
    pub delivered: u64,
    /// When the message of the oldest waiting call was written (Unix milliseconds).
    pub oldest_ms: Option<i64>,
    /// When the target last took one (Unix milliseconds).
    pub last_delivered_ms: Option<i64>,
    /// Why the latest failed call that is still open failed.
    pub last_error: Option<String>,
}

/// A call that was given up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedCall {
    /// The target's name.
    pub target: String,
    /// The kind of message.
    pub kind: String,
    /// The message.
    pub event_id: String,
    /// Tries.
    pub attempts: u32,
    /// When it was given up on (Unix milliseconds).
    pub parked_at_ms: i64,
    /// Why.
    pub reason: String,
}

/// Durable calls of webhooks.
///
/// The methods with a body are what a double for readers need not have; an adapter has
/// them all, and the contract suite asks for each.
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Says that `target` takes messages of these kinds from now on, and of no other. What
    /// waits for it already, of whichever kind, goes on waiting.
    async fn subscribe(&self, target: &str, kinds: &[&str]) -> Result<(), StoreError> {
        let _ = (target, kinds);
        Err(StoreError::read_only())
    }
    /// Says that nothing is meant for `target` any more, and drops what waits for it or was
    /// parked. Returns how many calls that were.
    async fn unsubscribe(&self, target: &str) -> Result<u64, StoreError> {
        let _ = target;
        Err(StoreError::read_only())
    }
    /// Ends tries of claimed calls and claims others that are due, as one step: each call is
    /// one owner's at a time. Delivered is final, whoever says so and however late; any
    /// other end is taken from the call's owner only.
    async fn end_then_claim_calls(
        &self,
        ends: &[(i64, CallEnd)],
        claim: ClaimCalls<'_>,
    ) -> Result<Vec<Call>, StoreError> {
        let _ = (ends, claim);
        Err(StoreError::read_only())
    }
    /// How each target stands with each kind, by name.
    async fn webhook_states(&self) -> Result<Vec<WebhookState>, StoreError> {
        Err(StoreError::read_only())
    }
    /// Calls that were given up on, oldest first, of one target or all.
    async fn parked_calls(&self, target: Option<&str>, limit: u32) -> Result<Vec<ParkedCall>, StoreError> {
        let _ = (target, limit);
        Err(StoreError::read_only())
    }
    /// Lets parked calls wait again with a fresh number of tries. Returns how many.
    async fn replay_calls(&self, target: Option<&str>) -> Result<u64, StoreError> {
        let _ = target;
        Err(StoreError::read_only())
    }
}
