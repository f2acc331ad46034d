//! Looking at the broker's queues from outside: counts, parked messages, replay.

use std::sync::Arc;
use std::time::Duration;

use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection};

use super::connection::{BrokerError, broker_error, channel, connect, in_time};
use super::consumer::passive;
use super::message::{Envelope, Message, key_of, now_us, time_us};
use super::publisher::Sender;
use super::topology::{PROBE, establish, short};
use super::{Lane, RabbitConfig, refused};
use crate::domain::comment::ConsultationId;
use crate::pipeline::ports::{Keep, ParkedArrival, ParkedWhole, QueueError};
use crate::pipeline::pulse::Pulse;

/// How long a broker with an alarm may take to say so.
const ALARM_TELLS: Duration = Duration::from_millis(300);

/// Parked messages that are kept elsewhere and then removed together.
const PURGED_AT_ONCE: usize = 200;
const PURGED_BYTES: usize = 16 * 1024 * 1024;
/// AMQP 0-9-1 reply code.
const PRECONDITION_FAILED: u16 = 406;

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Comments that wait for a worker.
    Lane(Lane),
    /// Comments that wait for another attempt.
    Retry(Lane),
    /// Given up on, kept with a reason.
    Parked,
    /// Results that wait for whoever reads them.
    Results,
    /// Safeguarding alerts that wait for whoever reads them.
    Alerts,
    /// Messages that led nowhere.
    Unrouted,
}

/// One queue as the broker tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Messages ready to be delivered; those in a worker's hand are not told here.
    pub ready: u64,
    /// Who reads it.
    pub consumers: u64,
}

/// All queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// In the order in which a comment meets them.
    pub queues: Vec<QueueState>,
}

impl Inspection {
    fn sum(&self, of: impl Fn(Purpose) -> bool) -> u64 {
        self.queues.iter().filter(|queue| of(queue.purpose)).map(|queue| queue.ready).sum()
    }

    /// Comments that wait, for a worker or for another attempt.
    pub fn waiting(&self) -> u64 {
        self.sum(|purpose| matches!(purpose, Purpose::Lane(_) | Purpose::Retry(_)))
    }

    /// Messages that were given up on.
    pub fn parked(&self) -> u64 {
        self.sum(|purpose| purpose == Purpose::Parked)
    }

    /// Messages that led nowhere.
    pub fn unrouted(&self) -> u64 {
        self.sum(|purpose| purpose == Purpose::Unrouted)
    }
}

fn queues(config: &RabbitConfig) -> Vec<(String, Purpose)> {
    let names = &config.names;
    let mut queues = Vec::new();
    for lane in Lane::ALL {
        queues.push((names.queue(lane).to_owned(), Purpose::Lane(lane)));
        queues.extend(config.retry.iter().map(|pause| (names.retry_queue(lane, *pause), Purpose::Retry(lane))));
    }
    queues.push((names.parked_queue.clone(), Purpose::Parked));
    queues.push((names.results_queue.clone(), Purpose::Results));
    queues.push((names.alerts_queue.clone(), Purpose::Alerts));
    queues.push((names.unrouted_queue.clone(), Purpose::Unrouted));
    queues
}

/// Looks at every queue over a connection of its own. Asks for no right but to connect.
pub async fn inspect(config: &RabbitConfig) -> Result<Inspection, BrokerError> {
    let connection = connect(config, "inspection").await?;
    let inspection = over(config, &connection).await;
    close(config, &connection).await;
    inspection
}

/// Looks at every queue over an open connection.
pub(super) async fn over(config: &RabbitConfig, connection: &Connection) -> Result<Inspection, BrokerError> {
    let channel = channel(config, connection).await?;
    let mut inspection = Inspection::default();
    for (name, purpose) in queues(config) {
        let (ready, consumers) = passive(config, &channel, &name).await?;
        inspection.queues.push(QueueState { name, purpose, ready, consumers });
    }
    let _ = tokio::time::timeout(config.timeout, channel.close(200, "bye".into())).await;
    Ok(inspection)
}

/// Checks everything that work needs: connecting, the topology, and a confirmed publish,
/// which an alarm or a missing right would stop.
///
/// # Errors
/// The first thing that is in the way.
pub async fn probe(config: &Arc<RabbitConfig>) -> Result<Inspection, BrokerError> {
    let connection = connect(config, "doctor").await?;
    let probed = probe_over(config, &connection).await;
    close(config, &connection).await;
    probed
}

async fn probe_over(config: &Arc<RabbitConfig>, connection: &Connection) -> Result<Inspection, BrokerError> {
    establish(config, connection).await?;
    let inspection = over(config, connection).await?;
    // On a connection of its own and before the rights are asked: under an alarm the broker reads
    // nothing more from a connection that has tried to publish.
    let sender = Sender::new(Arc::clone(config), "doctor", Pulse::default());
    let mut sent = probe_once(config, &sender).await;
    if sent.is_ok() {
        // An alarm blocks a connection only after it has published: the first message may pass.
        tokio::time::sleep(ALARM_TELLS).await;
        sent = probe_once(config, &sender).await;
    }
    sender.close().await;
    match sent {
        // All that is missing is named together.
        Ok(()) | Err(BrokerError::Forbidden(_)) => rights(config, connection, &inspection).await?,
        Err(_) => {}
    }
    sent.map(|()| inspection)
}

/// Whether this user may do everything that a worker does; what is missing, all of it at once.
async fn rights(config: &RabbitConfig, connection: &Connection, inspection: &Inspection) -> Result<(), BrokerError> {
    let names = &config.names;
    let mut missing = Vec::new();
    let mut note = |answer| match answer {
        Err(BrokerError::Forbidden(what)) => {
            missing.push(what);
            Ok(())
        }
        other => other,
    };
    for exchange in
        [&names.in_exchange, &names.out_exchange, &names.alerts_exchange, &names.retry_exchange, &names.dead_exchange]
    {
        note(may_write(config, connection, exchange).await)?;
    }
    // Only empty lanes are asked: taking a message and giving it back would count as one of its deliveries.
    for queue in inspection.queues.iter().filter(|queue| matches!(queue.purpose, Purpose::Lane(_)) && queue.ready == 0)
    {
        note(may_read(config, connection, &queue.name).await)?;
    }
    if missing.is_empty() { Ok(()) } else { Err(BrokerError::Forbidden(missing.join("\n  "))) }
}

/// Whether this user may publish to an exchange. The message names another user as its sender,
/// which the broker looks at after the right, and refuses: nothing is routed.
async fn may_write(config: &RabbitConfig, connection: &Connection, exchange: &str) -> Result<(), BrokerError> {
    let channel = channel(config, connection).await?;
    in_time(config.timeout, "confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let properties = BasicProperties::default()
        .with_user_id(short(&format!("not {}", config.url.user())))
        // A user who may speak for others is not refused; then it is gone at once.
        .with_expiration("1".into());
    let publishing = async {
        let options = BasicPublishOptions::default();
        channel.basic_publish(short(exchange), short(PROBE), options, b"", properties).await?.await
    };
    let Ok(answer) = tokio::time::timeout(config.timeout, publishing).await else {
        return Err(BrokerError::Lost(format!("no answer whether `{exchange}` may be written")));
    };
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            lapin::ErrorKind::ProtocolError(protocol) if protocol.get_id() == PRECONDITION_FAILED => Ok(()),
            _ => Err(broker_error(&error)),
        },
    }
}

/// Whether this user may take from a queue.
async fn may_read(config: &RabbitConfig, connection: &Connection, queue: &str) -> Result<(), BrokerError> {
    let channel = channel(config, connection).await?;
    let getting = channel.basic_get(short(queue), BasicGetOptions::default());
    // What has come in between goes back with the channel.
    in_time(config.timeout, "basic.get", getting).await.map(drop)
}

async fn probe_once(config: &RabbitConfig, sender: &Sender) -> Result<(), BrokerError> {
    let message = Message::event(&config.names.in_exchange, PROBE.to_owned(), "probe", now_us(), Vec::new());
    sender.send(vec![message]).await.into_iter().collect()
}

async fn close(config: &RabbitConfig, connection: &Connection) {
    let _ = tokio::time::timeout(config.timeout, connection.close(200, "bye".into())).await;
}

/// Takes one parked message without settling it.
async fn get(config: &RabbitConfig, channel: &lapin::Channel) -> Result<Option<BasicGetMessage>, BrokerError> {
    let getting = channel.basic_get(short(&config.names.parked_queue), BasicGetOptions::default());
    in_time(config.timeout, "basic.get", getting).await
}

fn envelope(message: &BasicGetMessage) -> Envelope {
    Envelope { routing_key: message.routing_key.to_string(), properties: message.properties.clone() }
}

/// Parked arrivals, oldest first. They are taken and given back by closing the channel,
/// which keeps their order.
pub(super) async fn parked(
    config: &RabbitConfig,
    consultation: Option<&ConsultationId>,
    limit: u32,
) -> Result<Vec<ParkedArrival>, BrokerError> {
    let connection = connect(config, "parked").await?;
    let channel = channel(config, &connection).await?;
    let mut found = Vec::new();
    while found.len() < limit as usize {
        let Some(message) = get(config, &channel).await? else { break };
        let arrival = shown(config, &message);
        if is_of(&arrival, consultation) {
            found.push(arrival);
        }
    }
    close(config, &connection).await;
    Ok(found)
}

fn shown(config: &RabbitConfig, message: &BasicGetMessage) -> ParkedArrival {
    let envelope = envelope(message);
    ParkedArrival {
        key: key_of(&message.data, &config.defaults),
        sequence: envelope.sequence(|| time_us(&message.data), now_us()),
        attempts: envelope.attempts_when_parked(config.delivery_limit),
        reason: envelope.reason(),
    }
}

fn is_of(arrival: &ParkedArrival, consultation: Option<&ConsultationId>) -> bool {
    consultation.is_none_or(|wanted| arrival.key.as_ref().is_some_and(|key| key.consultation == *wanted))
}

/// The lane of a parked message. Our own copies carry it as routing key, and so do the
/// broker's dead letters.
fn lane_of(message: &BasicGetMessage) -> Lane {
    if message.routing_key.as_str() == Lane::Urgent.key() { Lane::Urgent } else { Lane::Work }
}

/// Removes parked messages, some at a time, each after `keep` has it. They are held
/// unacknowledged meanwhile: whatever ends this, they go back.
pub(super) async fn purge(
    config: &RabbitConfig,
    consultation: Option<&ConsultationId>,
    keep: &mut dyn Keep,
) -> Result<u64, QueueError> {
    let connection = connect(config, "purge").await.map_err(|error| refused(&error))?;
    let purged = purge_over(config, &connection, consultation, keep).await;
    close(config, &connection).await;
    purged
}

async fn purge_over(
    config: &RabbitConfig,
    connection: &Connection,
    consultation: Option<&ConsultationId>,
    keep: &mut dyn Keep,
) -> Result<u64, QueueError> {
    let channel = channel(config, connection).await.map_err(|error| refused(&error))?;
    // What is parked meanwhile is left for another time.
    let (mut left, _) = passive(config, &channel, &config.names.parked_queue).await.map_err(|error| refused(&error))?;
    let mut purged = 0;
    while left > 0 {
        let (mut whole, mut ackers) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while left > 0 && whole.len() < PURGED_AT_ONCE && bytes < PURGED_BYTES {
            left -= 1;
            let Some(message) = get(config, &channel).await.map_err(|error| refused(&error))? else {
                left = 0;
                break;
            };
            let arrival = shown(config, &message);
            if is_of(&arrival, consultation) {
                bytes += message.data.len();
                ackers.push(message.delivery.acker.clone());
                whole.push(ParkedWhole { arrival, lane: lane_of(&message), body: message.delivery.data });
            }
        }
        if whole.is_empty() {
            continue;
        }
        keep.keep(&whole).await.map_err(QueueError::NotKept)?;
        for acker in ackers {
            let acknowledging = acker.ack(BasicAckOptions::default());
            in_time(config.timeout, "basic.ack", acknowledging).await.map_err(|error| refused(&error))?;
            purged += 1;
        }
    }
    Ok(purged)
}

/// Sends parked messages to their lanes again, with a fresh budget; each is taken off
/// only after its copy is confirmed. What is parked again meanwhile is not replayed again.
pub(super) async fn replay(
    config: &RabbitConfig,
    sender: &Sender,
    consultation: Option<&ConsultationId>,
) -> Result<u64, BrokerError> {
    let connection = connect(config, "replay").await?;
    let channel = channel(config, &connection).await?;
    let (waiting, _) = passive(config, &channel, &config.names.parked_queue).await?;
    let mut replayed = 0;
    for _ in 0..waiting {
        match replay_one(config, sender, &channel, consultation).await {
            Ok(Replayed::Yes) => replayed += 1,
            Ok(Replayed::NotAsked) => {}
            Ok(Replayed::Nothing) => break,
            Err(error) if replayed == 0 => return Err(error),
            Err(error) => {
                return Err(BrokerError::Lost(format!("{replayed} of {waiting} were replayed, then: {error}")));
            }
        }
    }
    close(config, &connection).await;
    Ok(replayed)
}

enum Replayed {
    Yes,
    NotAsked,
    Nothing,
}

async fn replay_one(
    config: &RabbitConfig,
    sender: &Sender,
    channel: &lapin::Channel,
    consultation: Option<&ConsultationId>,
) -> Result<Replayed, BrokerError> {
    let Some(message) = get(config, channel).await? else { return Ok(Replayed::Nothing) };
    if let Some(wanted) = consultation
        && key_of(&message.data, &config.defaults).is_none_or(|key| key.consultation != *wanted)
    {
        return Ok(Replayed::NotAsked);
    }
    let envelope = envelope(&message);
    let lane = lane_of(&message);
    let key = envelope.came_by(lane);
    let first_seen = envelope.sequence(|| time_us(&message.data), now_us());
    let copy = Message {
        exchange: config.names.in_exchange.clone(),
        properties: envelope.copy(0, first_seen, None, &key),
        routing_key: key,
        body: message.data.clone(),
    };
    sender.send(vec![copy]).await.into_iter().collect::<Result<(), _>>()?;
    in_time(config.timeout, "basic.ack", message.acker.ack(BasicAckOptions::default())).await?;
    Ok(Replayed::Yes)
}
