//! Rows of webhook calls as both databases give them, and what they are to readers.

use crate::pipeline::ports::{Call, OutboxRow, ParkedCall, StoreError, WebhookState};
use crate::sql::from_row;
use crate::wire::traced;

/// A claimed call with its message.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of a Call")]
pub struct CallRow {
    pub no: i64,
    pub attempts: i64,
    pub run_at_ms: i64,
    pub event_id: String,
    pub kind: String,
    pub created_at_ms: i64,
    pub body: Option<String>,
}

from_row!(CallRow { no, attempts, run_at_ms, event_id, kind, created_at_ms, body });

impl CallRow {
    /// As a relay takes it.
    pub fn call(self) -> Result<Call, StoreError> {
        let Self { no, attempts, event_id, kind, created_at_ms, body, .. } = self;
        let row = body.ok_or_else(|| StoreError::Damaged(format!("message {event_id} has no body")))?;
        let (body, trace) = traced::from_row(row);
        Ok(Call { no, attempts: attempts as u32, message: OutboxRow { event_id, kind, body, created_at_ms, trace } })
    }
}

/// How a call ends, by [`CallEnd`](crate::pipeline::ports::CallEnd). What a target has taken stays taken, whoever
/// says so; everything else only its claimer may say.
pub mod end {
    /// `$1` now, `$2` the call.
    pub const DELIVERED: &str = "UPDATE webhook_calls SET state = 'delivered', ended_at_ms = $1, last_error = NULL, \
        lease_owner = NULL, lease_until_ms = NULL WHERE no = $2 AND state <> 'delivered'";
    /// `$1` when to try again, `$2` why, `$3` the call, `$4` its claimer.
    pub const AGAIN: &str = "UPDATE webhook_calls SET run_at_ms = $1, last_error = $2, attempts = attempts + 1, \
        lease_owner = NULL, lease_until_ms = NULL WHERE no = $3 AND state = 'waiting' AND lease_owner = $4";
    /// `$1` now, `$2` why, `$3` the call, `$4` its claimer.
    pub const PARKED: &str = "UPDATE webhook_calls SET state = 'parked', ended_at_ms = $1, last_error = $2, \
        attempts = attempts + 1, lease_owner = NULL, lease_until_ms = NULL \
        WHERE no = $3 AND state = 'waiting' AND lease_owner = $4";
    /// `$1` the call, `$2` its claimer.
    pub const UNTRIED: &str = "UPDATE webhook_calls SET lease_owner = NULL, lease_until_ms = NULL \
        WHERE no = $1 AND state = 'waiting' AND lease_owner = $2";
}

/// How a target stands with a kind.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of a WebhookState")]
pub struct StateRow {
    pub target: String,
    pub kind: String,
    pub subscribed: bool,
    pub waiting: i64,
    pub failing: i64,
    pub parked: i64,
    pub delivered: i64,
    pub oldest_ms: Option<i64>,
    pub last_delivered_ms: Option<i64>,
    pub last_error: Option<String>,
}

from_row!(StateRow {
    target,
    kind,
    subscribed,
    waiting,
    failing,
    parked,
    delivered,
    oldest_ms,
    last_delivered_ms,
    last_error
});

impl StateRow {
    /// Reads every target's.
    pub const SELECT: &str = "SELECT n.target, n.kind, \
         EXISTS (SELECT 1 FROM webhook_subscriptions s WHERE s.target = n.target AND s.kind = n.kind) AS subscribed, \
         count(CASE WHEN c.state = 'waiting' THEN 1 END) AS waiting, \
         count(CASE WHEN c.state = 'waiting' AND c.attempts > 0 THEN 1 END) AS failing, \
         count(CASE WHEN c.state = 'parked' THEN 1 END) AS parked, \
         count(CASE WHEN c.state = 'delivered' THEN 1 END) AS delivered, \
         min(CASE WHEN c.state = 'waiting' THEN o.created_at_ms END) AS oldest_ms, \
         max(CASE WHEN c.state = 'delivered' THEN c.ended_at_ms END) AS last_delivered_ms, \
         (SELECT l.last_error FROM webhook_calls l WHERE l.target = n.target AND l.kind = n.kind \
          AND l.state <> 'delivered' AND l.last_error IS NOT NULL ORDER BY l.run_at_ms DESC, l.no DESC LIMIT 1) \
         AS last_error \
         FROM (SELECT target, kind FROM webhook_subscriptions \
               UNION SELECT DISTINCT target, kind FROM webhook_calls) n \
         LEFT JOIN webhook_calls c ON c.target = n.target AND c.kind = n.kind \
         LEFT JOIN outbox o ON o.no = c.message_no \
         GROUP BY n.target, n.kind ORDER BY n.target, n.kind";

    /// As readers see it.
    pub fn state(self) -> WebhookState {
        WebhookState {
            target: self.target,
            kind: self.kind,
            subscribed: self.subscribed,
            waiting: self.waiting as u64,
            failing: self.failing as u64,
            parked: self.parked as u64,
            delivered: self.delivered as u64,
            oldest_ms: self.oldest_ms,
            last_delivered_ms: self.last_delivered_ms,
            last_error: self.last_error,
        }
    }
}

/// A call that was given up on.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of a ParkedCall")]
pub struct ParkedCallRow {
    pub target: String,
    pub kind: String,
    pub event_id: String,
    pub attempts: i64,
    pub ended_at_ms: Option<i64>,
    pub last_error: Option<String>,
}

from_row!(ParkedCallRow { target, kind, event_id, attempts, ended_at_ms, last_error });

impl ParkedCallRow {
    /// As readers see it.
    pub fn call(self) -> ParkedCall {
        ParkedCall {
            target: self.target,
            kind: self.kind,
            event_id: self.event_id,
            attempts: self.attempts as u32,
            parked_at_ms: self.ended_at_ms.unwrap_or_default(),
            reason: self.last_error.unwrap_or_default(),
        }
    }
}
