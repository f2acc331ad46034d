//! One lane's deliveries: a supervised subscription and what this process holds of it.
//!
//! lapin's own recovery is off: with it an error of a channel can leave a consumer
//! that yields nothing and never ends. Here every error, and every end that nobody
//! asked for, rebuilds connection, channel, prefetch and consumer from nothing, and
//! what the old connection had delivered is forgotten, because the broker delivers
//! it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel, Connection};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::{Backoff, BrokerError, channel, connect, in_time};
use super::message::Envelope;
use super::topology::{establish, short};
use super::{Lane, RabbitConfig};
use crate::pipeline::pulse::Pulse;
use crate::telemetry::metric;

/// A delivery that this process holds and has not acknowledged.
pub(super) struct Held {
    pub envelope: Envelope,
    pub body: Vec<u8>,
    /// When this process first saw it, in microseconds since 1970.
    pub seen_us: i64,
    acker: Acker,
    delivery_tag: u64,
    connection: u64,
}

/// How the subscription is.
#[derive(Clone, Debug)]
enum Status {
    Connecting,
    Subscribed,
    Down(BrokerError),
}

struct State {
    status: Status,
    /// Counts connections, so that what an earlier one delivered can be told.
    connection: u64,
    open: Option<Arc<Connection>>,
    /// Delivered, not handed out.
    ready: VecDeque<Arc<Held>>,
    /// Handed out, not settled, by our own tag.
    held: BTreeMap<i64, Arc<Held>>,
    /// Given back by the worker, to be handed out again at their time.
    later: Vec<(Instant, Arc<Held>)>,
    /// Delivery tags that are not acknowledged yet.
    unacknowledged: BTreeSet<u64>,
    next_tag: i64,
    arrivals: u64,
}

/// One lane of the queue.
pub(super) struct Consumer {
    config: Arc<RabbitConfig>,
    lane: Lane,
    pulse: Pulse,
    state: Mutex<State>,
    news: Notify,
    stop: CancellationToken,
}

impl Consumer {
    /// A lane that is not subscribed yet. Tags start at `first_tag`, so that no two
    /// lanes or processes have one in common.
    pub fn new(config: Arc<RabbitConfig>, lane: Lane, pulse: Pulse, first_tag: i64) -> Self {
        let state = State {
            status: Status::Connecting,
            connection: 0,
            open: None,
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            later: Vec::new(),
            unacknowledged: BTreeSet::new(),
            next_tag: first_tag,
            arrivals: 0,
        };
        Self { config, lane, pulse, state: Mutex::new(state), news: Notify::new(), stop: CancellationToken::new() }
    }

    pub fn lane(&self) -> Lane {
        self.lane
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the lane subscribed until [`Consumer::stop`].
    pub async fn supervise(self: Arc<Self>) {
        let mut backoff = Backoff::default();
        while !self.stop.is_cancelled() {
            let error = match self.session(&mut backoff).await {
                Ok(()) => break,
                Err(error) => error,
            };
            self.down(&error);
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
        self.forget(Status::Down(BrokerError::Lost("stopped".to_owned())));
    }

    /// Ends the subscription; what was not handed out goes back.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn down(&self, error: &BrokerError) {
        let lane = self.lane.key();
        metrics::gauge!(metric::BROKER_SUBSCRIBED, "lane" => lane).set(0.0);
        metrics::counter!(metric::BROKER_LOST, "lane" => lane).increment(1);
        if self.pulse.trouble(self.lane.part(), error.to_string()) {
            let advice = error.advice();
            tracing::error!(lane, %error, advice, "not subscribed, will try again");
        }
        self.forget(Status::Down(error.clone()));
    }

    /// Lets go of everything that the connection had delivered.
    fn forget(&self, status: Status) {
        let open = {
            let mut state = self.lock();
            state.status = status;
            state.connection += 1;
            state.ready.clear();
            state.held.clear();
            state.later.clear();
            state.unacknowledged.clear();
            state.open.take()
        };
        drop(open);
        self.news.notify_waiters();
    }

    /// One connection, from its first byte to its end. `Ok` when asked to stop.
    async fn session(&self, backoff: &mut Backoff) -> Result<(), BrokerError> {
        let connection = Arc::new(connect(&self.config, self.lane.part()).await?);
        let ended = self.consume(&connection, backoff).await;
        if ended.is_ok() {
            let closing = connection.close(200, "bye".into());
            let _ = tokio::time::timeout(self.config.timeout, closing).await;
        }
        ended
    }

    async fn consume(&self, connection: &Arc<Connection>, backoff: &mut Backoff) -> Result<(), BrokerError> {
        let limit = self.config.timeout;
        establish(&self.config, connection).await?;
        let queue = self.config.names.queue(self.lane);
        let open = channel(&self.config, connection).await?;
        // Before the subscription: lapin's buffer has no bound of its own.
        in_time(limit, "basic.qos", open.basic_qos(self.config.prefetch, BasicQosOptions::default())).await?;
        let tag = format!("moothall-{}", self.lane.key());
        let options = BasicConsumeOptions::default();
        let subscribing = open.basic_consume(short(queue), short(&tag), options, FieldTable::default());
        let mut deliveries = in_time(limit, "basic.consume", subscribing).await?;
        let generation = self.subscribed(connection);
        backoff.reset();
        let mut watchdog = Watchdog::new(self.config.stall);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => {
                    let cancelling = open.basic_cancel(short(&tag), BasicCancelOptions::default());
                    let _ = tokio::time::timeout(limit, cancelling).await;
                    return Ok(());
                }
                delivery = deliveries.next() => match delivery {
                    Some(Ok(delivery)) => self.arrived(delivery, generation),
                    Some(Err(error)) => return Err(super::connection::broker_error(&error)),
                    // Asked for by nobody: the queue was deleted, or its leader is gone.
                    None => return Err(BrokerError::Lost(format!("the subscription to `{queue}` was ended by the broker: was the queue deleted?"))),
                },
                () = tokio::time::sleep(watchdog.every) => self.look(&mut watchdog, connection).await?,
            }
        }
    }

    fn subscribed(&self, connection: &Arc<Connection>) -> u64 {
        let lane = self.lane.key();
        metrics::gauge!(metric::BROKER_SUBSCRIBED, "lane" => lane).set(1.0);
        let url = &self.config.url;
        tracing::info!(lane, %url, prefetch = self.config.prefetch, "subscribed");
        self.pulse.well(self.lane.part());
        let mut state = self.lock();
        state.status = Status::Subscribed;
        state.open = Some(Arc::clone(connection));
        state.connection
    }

    fn arrived(&self, delivery: lapin::message::Delivery, connection: u64) {
        let held = Held {
            envelope: Envelope { routing_key: delivery.routing_key.to_string(), properties: delivery.properties },
            body: delivery.data,
            seen_us: super::message::now_us(),
            acker: delivery.acker,
            delivery_tag: delivery.delivery_tag,
            connection,
        };
        let mut state = self.lock();
        state.arrivals += 1;
        state.unacknowledged.insert(held.delivery_tag);
        state.ready.push_back(Arc::new(held));
        drop(state);
        self.news.notify_one();
    }

    /// A connection may look sound and bring nothing. When twice in a row the queue
    /// has messages, this process is idle and nothing arrives, it is made anew.
    async fn look(&self, watchdog: &mut Watchdog, connection: &Connection) -> Result<(), BrokerError> {
        let (arrivals, idle) = {
            let state = self.lock();
            (state.arrivals, state.unacknowledged.is_empty())
        };
        let still = idle && arrivals == watchdog.arrivals;
        watchdog.arrivals = arrivals;
        if !still {
            watchdog.strikes = 0;
            return Ok(());
        }
        let queue = self.config.names.queue(self.lane);
        let ready = ready_in(&self.config, connection, queue).await?;
        watchdog.strikes = if ready > 0 { watchdog.strikes + 1 } else { 0 };
        if watchdog.strikes < 2 {
            return Ok(());
        }
        Err(BrokerError::Lost(format!("`{queue}` has {ready} messages and delivers none")))
    }

    /// Up to `max` deliveries with our tags; waits up to `patience` for the first.
    ///
    /// # Errors
    /// Not subscribed.
    pub async fn take(&self, max: usize, patience: Duration) -> Result<Vec<(i64, Arc<Held>)>, BrokerError> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            // Registered before the look, so that news between look and wait is not missed.
            let news = self.news.notified();
            {
                let mut state = self.lock();
                let taken = state.take(max);
                if !taken.is_empty() {
                    return Ok(taken);
                }
                if let Status::Down(error) = &state.status {
                    return Err(error.clone());
                }
            }
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep_until(until) => return Ok(self.lock().take(max)),
            }
        }
    }

    /// What a tag stands for; `None` once its connection is gone.
    pub fn get(&self, tag: i64) -> Option<Arc<Held>> {
        self.lock().held.get(&tag).cloned()
    }

    /// Hands it out again after `pause`, without the broker: nothing is counted.
    pub fn again_later(&self, tag: i64, pause: Duration) {
        let mut state = self.lock();
        if let Some(held) = state.held.remove(&tag) {
            state.later.push((Instant::now() + pause, held));
        }
    }

    /// Everything that is not acknowledged, taken out of circulation here.
    pub fn take_all(&self) -> Vec<(i64, Arc<Held>)> {
        let mut state = self.lock();
        let waiting: Vec<Arc<Held>> = std::mem::take(&mut state.ready)
            .into_iter()
            .chain(std::mem::take(&mut state.later).into_iter().map(|(_, held)| held))
            .collect();
        for held in waiting {
            let tag = state.tag();
            state.held.insert(tag, held);
        }
        state.held.iter().map(|(tag, held)| (*tag, Arc::clone(held))).collect()
    }

    /// Acknowledges deliveries. One whose connection is gone comes again, which is harmless.
    pub async fn acknowledge(&self, tags: &[i64]) {
        let (one_for_all, single) = {
            let mut state = self.lock();
            let done: Vec<Arc<Held>> = tags.iter().filter_map(|tag| state.held.remove(tag)).collect();
            state.acknowledge(done)
        };
        // Oldest first and together: `multiple` stands for everything before it, all of it settled.
        let multiple = BasicAckOptions { multiple: true };
        let all = one_for_all
            .iter()
            .map(|held| held.acker.ack(multiple))
            .chain(single.iter().map(|held| held.acker.ack(BasicAckOptions::default())));
        let Ok(answers) = tokio::time::timeout(self.config.timeout, join_all(all)).await else {
            // The connection takes no bytes; it will be found dead by its heartbeat.
            metrics::counter!(metric::BROKER_ACKS_LOST).increment(tags.len() as u64);
            return;
        };
        let lost = answers.iter().filter(|answer| !matches!(answer, Ok(true))).count();
        if lost > 0 {
            metrics::counter!(metric::BROKER_ACKS_LOST).increment(lost as u64);
            tracing::debug!(lost, "acknowledged too late, will come again and change nothing");
        }
    }

    /// (delivered and not handed out, handed out and not settled).
    pub fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        ((state.ready.len() + state.later.len()) as u64, state.held.len() as u64)
    }

    /// The open connection, for looking at queues: acknowledging ones are never blocked by an alarm.
    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.lock().open.clone()
    }

    /// The first thing that became of the subscription: subscribed, or why not.
    pub async fn first_outcome(&self) -> Result<(), BrokerError> {
        loop {
            let news = self.news.notified();
            match &self.lock().status {
                Status::Subscribed => return Ok(()),
                Status::Down(error) => return Err(error.clone()),
                Status::Connecting => {}
            }
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }
}

impl State {
    fn tag(&mut self) -> i64 {
        self.next_tag += 1;
        self.next_tag
    }

    fn take(&mut self, max: usize) -> Vec<(i64, Arc<Held>)> {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        // They were first in the queue.
        for (_, held) in Vec::<(Instant, Arc<Held>)>::into_iter(due).rev() {
            self.ready.push_front(held);
        }
        let size = self.ready.len().min(max);
        let taken: Vec<Arc<Held>> = self.ready.drain(..size).collect();
        taken
            .into_iter()
            .map(|held| {
                let tag = self.tag();
                self.held.insert(tag, Arc::clone(&held));
                (tag, held)
            })
            .collect()
    }

    /// Splits what is done into one that can be acknowledged for all before it, and the rest.
    fn acknowledge(&mut self, done: Vec<Arc<Held>>) -> (Option<Arc<Held>>, Vec<Arc<Held>>) {
        let mut current: Vec<Arc<Held>> = done.into_iter().filter(|held| held.connection == self.connection).collect();
        current.sort_unstable_by_key(|held| held.delivery_tag);
        for held in &current {
            self.unacknowledged.remove(&held.delivery_tag);
        }
        let lowest = self.unacknowledged.first().copied().unwrap_or(u64::MAX);
        let before = current.partition_point(|held| held.delivery_tag < lowest);
        let single = current.split_off(before);
        (current.pop(), single)
    }
}

struct Watchdog {
    every: Duration,
    arrivals: u64,
    strikes: u32,
}

impl Watchdog {
    fn new(stall: Duration) -> Self {
        Self { every: (stall / 2).max(Duration::from_millis(100)), arrivals: 0, strikes: 0 }
    }
}

/// Messages that wait in a queue, asked over a channel of its own: a missing queue closes it.
pub(super) async fn ready_in(config: &RabbitConfig, connection: &Connection, queue: &str) -> Result<u64, BrokerError> {
    let channel: Channel = channel(config, connection).await?;
    let ready = passive(config, &channel, queue).await?;
    let _ = tokio::time::timeout(config.timeout, channel.close(200, "bye".into())).await;
    Ok(ready.0)
}

/// (messages ready, consumers) of a queue.
pub(super) async fn passive(config: &RabbitConfig, channel: &Channel, queue: &str) -> Result<(u64, u64), BrokerError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asking = channel.queue_declare(short(queue), options, FieldTable::default());
    let found = in_time(config.timeout, "queue.declare", asking).await?;
    Ok((u64::from(found.message_count()), u64::from(found.consumer_count())))
}
