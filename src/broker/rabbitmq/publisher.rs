//! Confirmed publishing: a message counts as sent only after a plain `Ack`.
//!
//! Owns one connection of its own, opened when it is first needed and again after
//! it was lost. lapin's `wait_for_confirms` hides refusals, so every confirm is
//! awaited by itself; a refusal and a return both mean "not sent".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection};
use tokio::sync::Mutex;

use super::RabbitConfig;
use super::connection::{Backoff, BrokerError, broker_error, channel, connect, in_time};
use super::message::Message;
use super::topology::{establish, short};
use crate::pipeline::pulse::Pulse;
use crate::telemetry::metric;

/// Publishes that wait for their confirm at once.
const WINDOW: usize = 256;

/// Publishes with confirms over a connection of its own.
pub(super) struct Sender {
    config: Arc<RabbitConfig>,
    /// How the connection, its metrics and its trouble are called.
    role: &'static str,
    pulse: Pulse,
    state: Mutex<State>,
    in_trouble: AtomicBool,
}

#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    backoff: Backoff,
    not_before: Option<Instant>,
    last_error: Option<BrokerError>,
}

struct Link {
    connection: Connection,
    channel: Channel,
}

impl Sender {
    pub fn new(config: Arc<RabbitConfig>, role: &'static str, pulse: Pulse) -> Self {
        Self { config, role, pulse, state: Mutex::new(State::default()), in_trouble: AtomicBool::new(false) }
    }

    /// Sends all of them; one answer each, in order. What failed may have arrived all the same.
    pub async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let count = messages.len();
        let link = match self.link().await {
            Ok(link) => link,
            Err(error) => {
                self.failed(&error, count);
                return vec![Err(error); count];
            }
        };
        let mut flying = FuturesOrdered::new();
        let mut answers: Vec<Result<(), BrokerError>> = Vec::with_capacity(count);
        let mut lost: Option<BrokerError> = None;
        for message in messages {
            if flying.len() >= WINDOW
                && let Some(answer) = flying.next().await
            {
                // Where one goes unanswered, all after it would: they are not even tried.
                let answer: Result<(), BrokerError> = answer;
                lost = lost.or_else(|| answer.as_ref().err().cloned());
                answers.push(answer);
            }
            if lost.is_some() {
                break;
            }
            flying.push_back(self.send_one(Arc::clone(&link), message));
        }
        while let Some(answer) = flying.next().await {
            answers.push(answer);
        }
        if let Some(error) = lost {
            answers.resize(count, Err(error));
        }
        match answers.iter().find_map(|answer| answer.as_ref().err()) {
            None => {
                self.well();
                metrics::counter!(metric::BROKER_PUBLISHED, "role" => self.role).increment(count as u64);
            }
            Some(error) => {
                let failed = answers.iter().filter(|answer| answer.is_err()).count();
                metrics::counter!(metric::BROKER_PUBLISHED, "role" => self.role).increment((count - failed) as u64);
                self.failed(error, failed);
                self.drop_link(&link, error).await;
            }
        }
        answers
    }

    /// Opens the connection where there is none. After a failure: looks whether sending
    /// would work again, and says so.
    pub async fn look(&self) {
        if let Ok(link) = self.link().await
            && self.in_trouble.load(Ordering::Relaxed)
            && !link.connection.status().blocked()
        {
            self.well();
        }
    }

    fn well(&self) {
        self.in_trouble.store(false, Ordering::Relaxed);
        self.pulse.well(self.role);
    }

    fn failed(&self, error: &BrokerError, messages: usize) {
        metrics::counter!(metric::BROKER_PUBLISH_FAILED, "role" => self.role).increment(messages as u64);
        self.in_trouble.store(true, Ordering::Relaxed);
        if self.pulse.trouble(self.role, error.to_string()) {
            tracing::warn!(role = self.role, messages, %error, "not published, will try again");
        }
    }

    async fn send_one(&self, link: Arc<Link>, message: Message) -> Result<(), BrokerError> {
        if link.connection.status().blocked() {
            return Err(blocked());
        }
        let Message { exchange, routing_key, properties, body } = message;
        let publish = async {
            let confirm = link
                .channel
                .basic_publish(short(&exchange), short(&routing_key), BasicPublishOptions::default(), &body, properties)
                .await?;
            confirm.await
        };
        match tokio::time::timeout(self.config.timeout, publish).await {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(Confirmation::Nack(_))) => Err(BrokerError::Full(exchange)),
            Ok(Ok(Confirmation::Ack(Some(_)) | Confirmation::NotRequested)) => {
                Err(BrokerError::Lost(format!("a message to `{exchange}` came back")))
            }
            Ok(Err(error)) => Err(broker_error(&error)),
            Err(_) if link.connection.status().blocked() => Err(blocked()),
            Err(_) => Err(BrokerError::Lost(format!("no confirm within {} s", self.config.timeout.as_secs_f32()))),
        }
    }

    /// The open channel, or a new one unless the last try was a moment ago.
    async fn link(&self) -> Result<Arc<Link>, BrokerError> {
        let mut state = self.state.lock().await;
        if let Some(link) = &state.link {
            if link.channel.status().connected() {
                return Ok(Arc::clone(link));
            }
            state.link = None;
        }
        if state.not_before.is_some_and(|at| Instant::now() < at)
            && let Some(error) = &state.last_error
        {
            return Err(error.clone());
        }
        match self.open().await {
            Ok(link) => {
                state.backoff.reset();
                state.not_before = None;
                let link = Arc::new(link);
                state.link = Some(Arc::clone(&link));
                Ok(link)
            }
            Err(error) => {
                let pause = state.backoff.next();
                state.not_before = Some(Instant::now() + pause);
                state.last_error = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Link, BrokerError> {
        let connection = connect(&self.config, self.role).await?;
        establish(&self.config, &connection).await?;
        let channel = channel(&self.config, &connection).await?;
        let options = ConfirmSelectOptions::default();
        in_time(self.config.timeout, "confirm.select", channel.confirm_select(options)).await?;
        Ok(Link { connection, channel })
    }

    /// Lets go of a connection that has failed. A blocked one is kept: it is sound, and a new
    /// one would be blocked as well. One that was told that a queue is full is not kept: its
    /// channel may go on refusing after the queue's policy was changed (seen with 3.10).
    async fn drop_link(&self, link: &Arc<Link>, error: &BrokerError) {
        if matches!(error, BrokerError::Blocked(_)) {
            return;
        }
        let mut state = self.state.lock().await;
        if state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            state.link = None;
            let pause = state.backoff.next();
            state.not_before = Some(Instant::now() + pause);
            state.last_error = Some(error.clone());
        }
    }

    /// Closes the connection in good order.
    pub async fn close(&self) {
        if let Some(link) = self.state.lock().await.link.take() {
            let closing = link.connection.close(200, "bye".into());
            let _ = tokio::time::timeout(self.config.timeout, closing).await;
        }
    }
}

fn blocked() -> BrokerError {
    BrokerError::Blocked("its memory or disk alarm is on".to_owned())
}
