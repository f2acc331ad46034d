//! The queue on RabbitMQ, for several workers on several hosts.
//!
//! The broker delivers at least once and orders nothing between workers; effects
//! happen once because the store knows what it has. Written against RabbitMQ 3.10 to
//! 4.x and lapin 4.12; no feature of 4.x is needed.
//!
//! How a delivery ends:
//!
//! | Settlement | On the broker | Counted |
//! |---|---|---|
//! | done | `basic.ack` | - |
//! | retry that counts | a copy to a retry tier, confirmed, then `ack` | by us, in a header |
//! | retry that does not count | held here and handed out again; the broker is not asked | no |
//! | park | a copy to the dead exchange with the reason, confirmed, then `ack` | - |
//! | the process is gone | the broker delivers it again | by the broker, toward its delivery limit |
//!
//! `reject` and `nack` with requeue are never used: requeueing grows a quorum
//! queue's log, and what it counts depends on the broker's version.

mod connection;
mod consumer;
mod inspect;
mod message;
mod publisher;
mod tls;
mod topology;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use self::consumer::{Consumer, Held};
use self::message::{Message, Ticket, time_us};
use self::publisher::Sender;
use crate::domain::comment::{Comment, ConsultationId};
use crate::domain::trace::Trace;
use crate::pipeline::clock::Clock;
use crate::pipeline::identity::{arrival_key, hash_of};
use crate::pipeline::ports::{
    Delivery, Depth, FailedRow, FailedRows, Keep, OutboxRow, ParkedArrival, Published, Publisher, Queue, QueueError,
    SendError, Settlement, StoreError,
};
use crate::pipeline::pulse::Pulse;
use crate::wire::event::{ALERT_SAFEGUARDING, comment_event, outbox_event, row_event};
use crate::wire::incoming::Defaults;

pub use self::connection::{BrokerError, BrokerUrl, connect};
pub use self::inspect::{Inspection, Purpose, QueueState, inspect, probe};
pub use self::message::{Decoded, Envelope, decode};
pub use self::tls::{Tls, TlsFault};
pub use self::topology::{Mode, Names, short};
pub use crate::pipeline::ports::Lane;

/// How long `receive` waits for the first delivery.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pause before a delivery that could not be moved on the broker is tried again here.
const AGAIN: Duration = Duration::from_secs(2);

impl Lane {
    /// How readiness calls its consumer.
    fn part(self) -> &'static str {
        match self {
            Self::Urgent => "broker (urgent lane)",
            Self::Work => "broker (work lane)",
        }
    }

    fn bindings(self) -> &'static [&'static str] {
        match self {
            Self::Urgent => &["comment.urgent.#"],
            Self::Work => &["comment.created.#", "comment.edited.#", "comment.deleted.#", "row.failed.#"],
        }
    }

    /// Whether a message with this routing key comes to this lane.
    fn takes(self, key: &str) -> bool {
        self.bindings().iter().any(|binding| {
            let stem = binding.trim_end_matches(".#");
            key.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    fn default_key(self) -> &'static str {
        match self {
            Self::Urgent => "comment.urgent",
            Self::Work => "comment.created",
        }
    }
}

/// Everything about the broker that can be set.
#[derive(Clone, Debug)]
pub struct RabbitConfig {
    /// Where it is.
    pub url: BrokerUrl,
    /// Certificates.
    pub tls: Tls,
    /// What exchanges and queues are called.
    pub names: Names,
    /// Whether they may be made.
    pub mode: Mode,
    /// Deliveries that a lane holds at most.
    pub prefetch: u16,
    /// Seconds between signs of life; a dead peer is noticed after two.
    pub heartbeat_s: u16,
    /// The most that any one answer of the broker may take.
    pub timeout: Duration,
    /// Pauses of the retry tiers, shortest first; at least one.
    pub retry: Vec<Duration>,
    /// A longer message is parked unread.
    pub max_message_bytes: usize,
    /// A subscription that brings nothing for so long, while messages wait, is made anew.
    pub stall: Duration,
    /// Counted attempts after which an arrival is parked.
    pub delivery_budget: u32,
    /// Deliveries after which the broker itself parks: the last net, for what kills its worker.
    pub delivery_limit: u32,
    /// What a message belongs to when it does not say so.
    pub defaults: Defaults,
    /// How results name their origin (CloudEvents `source`).
    pub origin: String,
}

impl RabbitConfig {
    /// The tier for a pause: the shortest that is long enough, else the longest.
    fn tier(&self, pause: Duration) -> Duration {
        let long_enough = self.retry.iter().find(|tier| **tier >= pause);
        long_enough.or(self.retry.last()).copied().unwrap_or(pause)
    }
}

/// The queue on a broker: publishes, and hands out what its lanes bring. Clones share everything.
#[derive(Clone)]
pub struct RabbitQueue {
    config: Arc<RabbitConfig>,
    clock: Clock,
    intake: Arc<Sender>,
    lanes: Vec<Arc<Consumer>>,
    /// The lanes that `receive` looks at.
    receives: Vec<Lane>,
    ticket: Arc<Ticket>,
    supervisors: Arc<Mutex<Vec<AbortOnDropHandle<()>>>>,
}

impl fmt::Debug for RabbitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitQueue")
            .field("url", &self.config.url)
            .field("receives", &self.receives)
            .finish_non_exhaustive()
    }
}

impl RabbitQueue {
    /// A queue that only publishes; it connects when it first does.
    pub fn publish_only(config: Arc<RabbitConfig>, clock: Clock, pulse: Pulse) -> Self {
        Self {
            intake: Arc::new(Sender::new(Arc::clone(&config), "broker (intake)", pulse)),
            config,
            clock,
            lanes: Vec::new(),
            receives: Vec::new(),
            ticket: Arc::default(),
            supervisors: Arc::default(),
        }
    }

    /// A queue that is subscribed to both lanes, and stays so.
    ///
    /// A broker that is absent is waited for, in the background and for ever.
    ///
    /// # Errors
    /// It is there and a person must act: it turns us away, or its topology differs.
    pub async fn subscribe(config: Arc<RabbitConfig>, clock: Clock, pulse: Pulse) -> Result<Self, BrokerError> {
        let mut queue = Self::publish_only(Arc::clone(&config), clock, pulse.clone());
        let first_tag = first_tag();
        for (n, lane) in Lane::ALL.into_iter().enumerate() {
            let first_tag = first_tag + ((n as i64) << 48);
            let consumer = Arc::new(Consumer::new(Arc::clone(&config), lane, pulse.clone(), first_tag));
            let supervised = tokio::spawn(Arc::clone(&consumer).supervise());
            queue.lock().push(AbortOnDropHandle::new(supervised));
            queue.lanes.push(consumer);
            queue.receives.push(lane);
        }
        for consumer in &queue.lanes {
            match consumer.first_outcome().await {
                Err(error) if error.needs_a_person() => return Err(error),
                Err(_) | Ok(()) => {}
            }
        }
        Ok(queue)
    }

    /// The same queue, handing out one lane only: its worker is never busy with the other.
    #[must_use]
    pub fn only(&self, lane: Lane) -> Self {
        Self { receives: vec![lane], ..self.clone() }
    }

    /// Takes no more and closes the connections; what was not handed out goes back.
    pub async fn close(&self) {
        for lane in &self.lanes {
            lane.stop();
        }
        let supervisors = std::mem::take(&mut *self.lock());
        for supervisor in supervisors {
            let _ = tokio::time::timeout(self.config.timeout, supervisor).await;
        }
        self.intake.close().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AbortOnDropHandle<()>>> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane_of(&self, tag: i64) -> Option<(&Arc<Consumer>, Arc<Held>)> {
        self.lanes.iter().find_map(|lane| Some((lane, lane.get(tag)?)))
    }

    /// Copies to `exchange` and acknowledges each original whose copy is confirmed.
    async fn move_all(&self, moves: Vec<Move>) -> Vec<Result<(), BrokerError>> {
        let (places, messages): (Vec<(Arc<Consumer>, i64)>, Vec<Message>) =
            moves.into_iter().map(|one| ((one.lane, one.tag), one.copy)).unzip();
        let answers = self.intake.send(messages).await;
        for ((lane, tag), answer) in places.iter().zip(&answers) {
            match answer {
                Ok(()) => lane.acknowledge(&[*tag]).await,
                // It is still ours and unacknowledged: nothing is lost, and nothing is counted.
                Err(_) => lane.again_later(*tag, AGAIN),
            }
        }
        answers
    }

    fn park(&self, lane: &Arc<Consumer>, tag: i64, held: &Held, reason: &str) -> Move {
        let attempts = held.envelope.attempts_before() + 1;
        self.copy(
            lane,
            tag,
            held,
            attempts,
            Some(reason),
            &self.config.names.dead_exchange,
            lane.lane().key().to_owned(),
        )
    }

    fn retry(&self, lane: &Arc<Consumer>, tag: i64, held: &Held, after: Duration) -> Move {
        let attempts = held.envelope.attempts_before() + 1;
        if attempts >= self.config.delivery_budget {
            let reason = format!("delivery budget of {} attempts spent", self.config.delivery_budget);
            tracing::error!(reason, "parked a delivery");
            return self.park(lane, tag, held, &reason);
        }
        let key = topology::retry_key(lane.lane(), self.config.tier(after));
        self.copy(lane, tag, held, attempts, None, &self.config.names.retry_exchange, key)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a copy is told by all of them, and none but retry, park and release make one"
    )]
    fn copy(
        &self,
        lane: &Arc<Consumer>,
        tag: i64,
        held: &Held,
        attempts: u32,
        reason: Option<&str>,
        exchange: &str,
        routing_key: String,
    ) -> Move {
        let came_by = held.envelope.came_by(lane.lane());
        let readable = held.body.len() <= self.config.max_message_bytes;
        let body_us = || readable.then(|| time_us(&held.body)).flatten();
        let first_seen = held.envelope.sequence(body_us, held.seen_us);
        let copy = Message {
            exchange: exchange.to_owned(),
            routing_key,
            properties: held.envelope.copy(attempts, first_seen, reason, &came_by),
            body: held.body.clone(),
        };
        Move { lane: Arc::clone(lane), tag, copy }
    }

    async fn send(&self, messages: Vec<Message>) -> Result<(), BrokerError> {
        self.intake.send(messages).await.into_iter().collect()
    }
}

struct Move {
    lane: Arc<Consumer>,
    tag: i64,
    copy: Message,
}

/// Where tags start: settling another process's tag should meet none of ours. 14 random bits
/// and one for the lane stand above 2^48 tags.
fn first_tag() -> i64 {
    let mut random = [0; 2];
    // Without random numbers tags are still unique within the process that holds them.
    let _ = getrandom::fill(&mut random);
    i64::from(u16::from_le_bytes(random) >> 2) << 49
}

/// A consultation as a word of a routing key.
fn word(consultation: &ConsultationId) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    consultation.as_str().chars().map(plain).take(100).collect()
}

pub(super) fn refused(error: &BrokerError) -> QueueError {
    // All of them may pass: a person can mend even what a person must mend.
    QueueError::Busy(error.to_string())
}

#[async_trait]
impl Queue for RabbitQueue {
    async fn publish_in(
        &self,
        lane: Lane,
        comments: &[Comment],
        trace: Option<&Trace>,
    ) -> Result<Published, QueueError> {
        let messages = comments
            .iter()
            .map(|comment| {
                let key = &comment.key;
                let arrival = arrival_key(comment);
                let id = hash_of(&[key.consultation.as_str(), key.source.as_str(), key.id.as_str(), &arrival]);
                let at_us = self.ticket.next(self.clock.now_ms().saturating_mul(1_000));
                let body = comment_event(comment, &id, at_us)
                    .map_err(|error| QueueError::Failed(format!("write message: {error}")))?;
                let routing_key = format!("{}.{}", lane.default_key(), word(&key.consultation));
                Ok(Message::event(&self.config.names.in_exchange, routing_key, &id, at_us, body).traced(trace))
            })
            .collect::<Result<Vec<_>, QueueError>>()?;
        self.send(messages).await.map_err(|error| refused(&error))?;
        // A broker does not know what it has seen: the store does.
        Ok(Published { new: comments.len() as u64, known: 0 })
    }

    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let mut deliveries = Vec::new();
        let lanes: Vec<_> = self.lanes.iter().filter(|lane| self.receives.contains(&lane.lane())).collect();
        for (place, lane) in lanes.iter().enumerate() {
            // Only the last lane is waited for, and only when the others brought nothing.
            let last = place + 1 == lanes.len();
            let patience = if last && deliveries.is_empty() { PATIENCE } else { Duration::ZERO };
            let taken = lane.take(max - deliveries.len(), patience).await.map_err(|error| refused(&error))?;
            deliveries.extend(taken.into_iter().map(|(tag, held)| {
                let Decoded { arrival, sequence, trace } = decode(
                    &held.body,
                    &held.envelope,
                    &self.config.defaults,
                    self.config.max_message_bytes,
                    held.seen_us,
                );
                let (attempt, deaths) = (held.envelope.attempts_before() + 1, held.envelope.deaths());
                Delivery { tag, arrival, attempt, deaths, sequence, trace }
            }));
        }
        Ok(deliveries)
    }

    fn only_lane(&self, lane: Lane) -> Arc<dyn Queue> {
        Arc::new(self.only(lane))
    }

    async fn settle(&self, settlements: &[(i64, Settlement)]) -> Result<(), QueueError> {
        let done: Vec<i64> =
            settlements.iter().filter(|(_, how)| *how == Settlement::Done).map(|(tag, _)| *tag).collect();
        if !done.is_empty() {
            for lane in &self.lanes {
                // Each knows its own tags and passes over the other's.
                lane.acknowledge(&done).await;
            }
        }
        let mut moves = Vec::new();
        for (tag, settlement) in settlements {
            let Some((lane, held)) = self.lane_of(*tag) else { continue };
            match settlement {
                Settlement::Done => {}
                Settlement::Retry { after_ms, counts: false } => {
                    lane.again_later(*tag, Duration::from_millis(*after_ms));
                }
                Settlement::Retry { after_ms, counts: true } => {
                    moves.push(self.retry(lane, *tag, &held, Duration::from_millis(*after_ms)));
                }
                Settlement::Park(reason) => moves.push(self.park(lane, *tag, &held, reason)),
            }
        }
        if !moves.is_empty() {
            // What could not be moved stays in hand; the sender has said why.
            self.move_all(moves).await;
        }
        Ok(())
    }

    async fn depth(&self, _consultation: Option<&ConsultationId>) -> Result<Depth, QueueError> {
        self.intake.look().await;
        let open = self.lanes.iter().find_map(|lane| lane.connection());
        let inspection = match open {
            Some(open) => inspect::over(&self.config, &open).await,
            None => inspect(&self.config).await,
        };
        let inspection = inspection.map_err(|error| refused(&error))?;
        let (here, in_flight) =
            self.lanes.iter().map(|lane| lane.counts()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        Ok(Depth { waiting: inspection.waiting() + here, in_flight, parked: inspection.parked() })
    }

    async fn renew(&self, _tags: &[i64]) -> Result<(), QueueError> {
        // A delivery is ours for as long as its connection lives.
        Ok(())
    }

    async fn release_all(&self) -> Result<u64, QueueError> {
        let mut moves = Vec::new();
        for lane in &self.lanes {
            for (tag, held) in lane.take_all() {
                let key = held.envelope.came_by(lane.lane());
                let attempts = held.envelope.attempts_before();
                moves.push(self.copy(lane, tag, &held, attempts, None, &self.config.names.in_exchange, key));
            }
        }
        let answers = self.move_all(moves).await;
        let released = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        answers.into_iter().find_map(Result::err).map_or(Ok(released), |error| Err(refused(&error)))
    }

    async fn parked(
        &self,
        consultation: Option<&ConsultationId>,
        limit: u32,
    ) -> Result<Vec<ParkedArrival>, QueueError> {
        inspect::parked(&self.config, consultation, limit).await.map_err(|error| refused(&error))
    }

    async fn replay(&self, consultation: Option<&ConsultationId>) -> Result<u64, QueueError> {
        inspect::replay(&self.config, &self.intake, consultation).await.map_err(|error| refused(&error))
    }

    async fn purge_parked(
        &self,
        consultation: Option<&ConsultationId>,
        keep: &mut dyn Keep,
    ) -> Result<u64, QueueError> {
        inspect::purge(&self.config, consultation, keep).await
    }
}

/// Rows that failed where a file was read travel to the workers, who keep them in the store.
#[async_trait]
impl FailedRows for RabbitQueue {
    async fn fail(&self, rows: &[FailedRow]) -> Result<u64, StoreError> {
        let messages = rows
            .iter()
            .map(|row| {
                let at_us = self.ticket.next(self.clock.now_ms().saturating_mul(1_000));
                let body =
                    row_event(row, at_us).map_err(|error| StoreError::Failed(format!("write message: {error}")))?;
                let routing_key = format!("row.failed.{}", word(&row.consultation));
                Ok(Message::event(&self.config.names.in_exchange, routing_key, &row.fingerprint, at_us, body))
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        self.send(messages).await.map_err(|error| StoreError::Busy(error.to_string()))?;
        Ok(rows.len() as u64)
    }
}

/// Results and alerts, each over a connection of its own.
pub struct RabbitPublisher {
    config: Arc<RabbitConfig>,
    sender: Sender,
}

impl RabbitPublisher {
    /// A publisher; it connects when it first sends. `role` is how readiness calls it.
    pub fn new(config: Arc<RabbitConfig>, role: &'static str, pulse: Pulse) -> Self {
        Self { sender: Sender::new(Arc::clone(&config), role, pulse), config }
    }

    fn message(&self, row: &OutboxRow) -> Result<Message, SendError> {
        let names = &self.config.names;
        let exchange = if row.kind == ALERT_SAFEGUARDING { &names.alerts_exchange } else { &names.out_exchange };
        let body = outbox_event(row, &self.config.origin).map_err(|error| SendError(error.to_string()))?;
        let at_us = row.created_at_ms.saturating_mul(1_000);
        Ok(Message::event(exchange, row.kind.clone(), &row.event_id, at_us, body).traced(row.trace.as_ref()))
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn look(&self) {
        self.sender.look().await;
    }

    async fn send(&self, rows: &[OutboxRow]) -> Vec<Result<(), SendError>> {
        let (mut messages, mut answers) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            // A body that is not JSON cannot have been written by us, and harms no other.
            answers.push(self.message(row).map(|message| messages.push(message)));
        }
        let sent = self.sender.send(messages).await;
        for (answer, sent) in answers.iter_mut().filter(|answer| answer.is_ok()).zip(sent) {
            *answer = sent.map_err(|error| SendError(error.to_string()));
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_knows_its_routing_keys() {
        assert!(Lane::Work.takes("comment.created.mentoring") && Lane::Work.takes("comment.deleted"));
        assert!(!Lane::Work.takes("comment.createdness") && !Lane::Work.takes("comment.urgent.x"));
        assert!(Lane::Urgent.takes("comment.urgent"));
    }

    #[test]
    fn a_consultation_is_one_word_of_a_routing_key() {
        let word = |text: &str| word(&ConsultationId::new(text).unwrap());
        assert_eq!(word("youth.mentoring #2"), "youth_mentoring__2");
        assert_eq!(word(&"ä".repeat(500)).len(), 100);
    }
}
