//! Every exchange and queue: what it is called, what it is, what leads where.
//!
//! ```text
//! in ──> work, urgent ──(worker)──> out ──> results      alerts ──> alerts
//!        ▲    │   └─ given up on ─> dead ──> parked
//!        └─ retry tiers <─ retry                         any exchange ──> unrouted
//! ```
//!
//! Arguments that a queue is born with are here; limits that an operator may want
//! to change on a running broker (lengths, ages) belong into policies.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ExchangeKind};

use super::connection::{BrokerError, channel};
use super::{Lane, RabbitConfig};

/// Longest name: with a tier's ending it must fit into AMQP's 255 bytes.
const LONGEST_NAME: usize = 200;
/// For queues whose messages must never be dropped: RabbitMQ 4 drops a message after 20
/// deliveries unless told otherwise, and every look at a parked one counts as a delivery.
const NEVER_DROPPED: i64 = 1_000_000;
/// A probe is gone after this time.
const PROBE_MS: i64 = 1_000;

/// What everything is called.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module's picture says what each is")]
pub struct Names {
    pub in_exchange: String,
    pub retry_exchange: String,
    pub dead_exchange: String,
    pub out_exchange: String,
    pub alerts_exchange: String,
    pub unrouted_exchange: String,
    pub work_queue: String,
    pub urgent_queue: String,
    pub parked_queue: String,
    pub results_queue: String,
    pub alerts_queue: String,
    pub unrouted_queue: String,
    pub probe_queue: String,
}

impl Names {
    /// `PREFIX.in`, `PREFIX.work` and so on.
    pub fn with_prefix(prefix: &str) -> Self {
        let name = |part: &str| format!("{prefix}.{part}");
        Self {
            in_exchange: name("in"),
            retry_exchange: name("retry"),
            dead_exchange: name("dead"),
            out_exchange: name("out"),
            alerts_exchange: name("alerts"),
            unrouted_exchange: name("unrouted"),
            work_queue: name("work"),
            urgent_queue: name("urgent"),
            parked_queue: name("parked"),
            results_queue: name("results"),
            alerts_queue: name("alerts"),
            unrouted_queue: name("unrouted"),
            probe_queue: name("probe"),
        }
    }

    /// Every name under the key that sets it.
    pub fn entries(&mut self) -> [(&'static str, &mut String); 13] {
        [
            ("in_exchange", &mut self.in_exchange),
            ("retry_exchange", &mut self.retry_exchange),
            ("dead_exchange", &mut self.dead_exchange),
            ("out_exchange", &mut self.out_exchange),
            ("alerts_exchange", &mut self.alerts_exchange),
            ("unrouted_exchange", &mut self.unrouted_exchange),
            ("work_queue", &mut self.work_queue),
            ("urgent_queue", &mut self.urgent_queue),
            ("parked_queue", &mut self.parked_queue),
            ("results_queue", &mut self.results_queue),
            ("alerts_queue", &mut self.alerts_queue),
            ("unrouted_queue", &mut self.unrouted_queue),
            ("probe_queue", &mut self.probe_queue),
        ]
    }

    /// The lane's queue.
    pub fn queue(&self, lane: Lane) -> &str {
        match lane {
            Lane::Work => &self.work_queue,
            Lane::Urgent => &self.urgent_queue,
        }
    }

    /// The queue in which a lane's deliveries wait for `pause`.
    pub fn retry_queue(&self, lane: Lane, pause: Duration) -> String {
        format!("{}.retry.{}", self.queue(lane), tier(pause))
    }

    /// Whether all of them are names that a broker takes.
    ///
    /// # Errors
    /// A sentence that names the wrong one.
    pub fn check(&mut self) -> Result<(), String> {
        for (key, name) in self.entries() {
            if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with("amq.") {
                return Err(format!("`{key}` must have 1 to {LONGEST_NAME} bytes and not begin with `amq.`"));
            }
        }
        Ok(())
    }
}

/// How a pause is called: `500ms`, `10s`, `10m`.
pub(super) fn tier(pause: Duration) -> String {
    let ms = pause.as_millis();
    if ms.is_multiple_of(60_000) {
        format!("{}m", ms / 60_000)
    } else if ms.is_multiple_of(1_000) {
        format!("{}s", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

/// What to do about exchanges and queues at the start of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Make what is missing, compare what is there. Nothing is ever deleted or changed.
    Declare,
    /// Make nothing: say what is missing or differs. For users without the right to configure.
    Check,
}

struct Exchange {
    name: String,
    kind: ExchangeKind,
    arguments: FieldTable,
}

struct Queue {
    name: String,
    arguments: FieldTable,
}

struct Binding {
    queue: String,
    exchange: String,
    key: String,
}

/// Everything that there is.
struct Topology {
    exchanges: Vec<Exchange>,
    queues: Vec<Queue>,
    bindings: Vec<Binding>,
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(short(key), value.clone());
    }
    table
}

fn text(value: &str) -> AMQPValue {
    // A short string as a table's value makes RabbitMQ close the connection.
    AMQPValue::LongString(value.into())
}

/// A text that is known to be short: names are checked, keys are cut.
pub fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_else(|_| ShortString::from("too-long"))
}

impl Topology {
    fn new(config: &RabbitConfig) -> Self {
        let names = &config.names;
        // At-least-once between queues needs a target that may refuse, which needs `reject-publish`.
        let quorum = |more: &[(&str, AMQPValue)]| {
            let mut all = vec![("x-queue-type", text("quorum")), ("x-overflow", text("reject-publish"))];
            all.extend_from_slice(more);
            table(&all)
        };
        let dead_letter = |exchange: &str, key: &str| {
            [
                ("x-dead-letter-exchange", text(exchange)),
                ("x-dead-letter-routing-key", text(key)),
                ("x-dead-letter-strategy", text("at-least-once")),
            ]
        };
        // Unroutable messages go aside instead of vanishing: `mandatory` is not enough,
        // since a returned message can be pinned to the wrong publish.
        let aside = table(&[("alternate-exchange", text(&names.unrouted_exchange))]);
        let topics = [
            &names.in_exchange,
            &names.retry_exchange,
            &names.dead_exchange,
            &names.out_exchange,
            &names.alerts_exchange,
        ];
        let mut exchanges = vec![Exchange {
            name: names.unrouted_exchange.clone(),
            kind: ExchangeKind::Fanout,
            arguments: FieldTable::default(),
        }];
        exchanges.extend(topics.map(|name| Exchange {
            name: name.clone(),
            kind: ExchangeKind::Topic,
            arguments: aside.clone(),
        }));

        let kept = |name: &str| Queue {
            name: name.to_owned(),
            arguments: quorum(&[("x-delivery-limit", AMQPValue::LongLongInt(NEVER_DROPPED))]),
        };
        let mut queues = vec![
            kept(&names.unrouted_queue),
            kept(&names.parked_queue),
            kept(&names.results_queue),
            kept(&names.alerts_queue),
            Queue {
                name: names.probe_queue.clone(),
                arguments: table(&[
                    ("x-message-ttl", AMQPValue::LongLongInt(PROBE_MS)),
                    ("x-max-length", AMQPValue::LongLongInt(100)),
                ]),
            },
        ];
        let mut bindings = vec![
            binding(&names.unrouted_queue, &names.unrouted_exchange, ""),
            binding(&names.parked_queue, &names.dead_exchange, "#"),
            binding(&names.results_queue, &names.out_exchange, "comment.assessed.#"),
            binding(&names.alerts_queue, &names.alerts_exchange, "alert.safeguarding.#"),
            binding(&names.probe_queue, &names.in_exchange, PROBE),
        ];
        for lane in Lane::ALL {
            let name = names.queue(lane);
            let mut arguments = vec![("x-delivery-limit", AMQPValue::LongLongInt(i64::from(config.delivery_limit)))];
            arguments.extend(dead_letter(&names.dead_exchange, lane.key()));
            queues.push(Queue { name: name.to_owned(), arguments: quorum(&arguments) });
            bindings.extend(lane.bindings().iter().map(|key| binding(name, &names.in_exchange, key)));
            for pause in &config.retry {
                let retry = names.retry_queue(lane, *pause);
                let mut arguments = vec![("x-message-ttl", AMQPValue::LongLongInt(pause.as_millis() as i64))];
                // The broker itself moves it on through the nameless exchange. Who declares this
                // needs the right to write to it (`amq.default`), who only works does not.
                arguments.extend(dead_letter("", name));
                queues.push(Queue { name: retry.clone(), arguments: quorum(&arguments) });
                bindings.push(binding(&retry, &names.retry_exchange, &retry_key(lane, *pause)));
            }
        }
        Self { exchanges, queues, bindings }
    }
}

/// Routing key of a probe.
pub(super) const PROBE: &str = "probe";

/// Routing key to a retry queue.
pub(super) fn retry_key(lane: Lane, pause: Duration) -> String {
    format!("{}.{}", lane.key(), tier(pause))
}

fn binding(queue: &str, exchange: &str, key: &str) -> Binding {
    Binding { queue: queue.to_owned(), exchange: exchange.to_owned(), key: key.to_owned() }
}

/// Makes or checks everything.
///
/// # Errors
/// Everything that is missing or differs, in one error; or that the broker is gone.
pub(super) async fn establish(config: &RabbitConfig, connection: &Connection) -> Result<(), BrokerError> {
    let topology = Topology::new(config);
    let mut desk = Desk { config, connection, channel: None, differences: Vec::new() };
    for exchange in &topology.exchanges {
        desk.thing(&Thing::Exchange(exchange)).await?;
    }
    for queue in &topology.queues {
        desk.thing(&Thing::Queue(queue)).await?;
    }
    if config.mode == Mode::Declare && desk.differences.is_empty() {
        for binding in &topology.bindings {
            desk.bind(binding).await?;
        }
    }
    if desk.differences.is_empty() { Ok(()) } else { Err(BrokerError::Topology(desk.differences)) }
}

/// Asks about one thing after the other; an error closes its channel, so each may need a new one.
struct Desk<'a> {
    config: &'a RabbitConfig,
    connection: &'a Connection,
    channel: Option<lapin::Channel>,
    differences: Vec<String>,
}

/// Something that is declared.
enum Thing<'a> {
    Exchange(&'a Exchange),
    Queue(&'a Queue),
}

impl Thing<'_> {
    fn label(&self) -> String {
        match self {
            Self::Exchange(exchange) => format!("exchange `{}`", exchange.name),
            Self::Queue(queue) => format!("queue `{}`", queue.name),
        }
    }

    /// Declares it; `passive` only asks whether it is there.
    async fn declare(&self, channel: &lapin::Channel, passive: bool) -> lapin::Result<()> {
        match self {
            Self::Exchange(Exchange { name, kind, arguments }) => {
                let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(short(name), kind.clone(), options, arguments.clone()).await
            }
            Self::Queue(Queue { name, arguments }) => {
                let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
                channel.queue_declare(short(name), options, arguments.clone()).await.map(drop)
            }
        }
    }
}

/// What the broker says about one declaration.
enum Said {
    Fine,
    Missing,
    Forbidden,
    Differs(String),
}

impl Desk<'_> {
    async fn open(&mut self) -> Result<lapin::Channel, BrokerError> {
        match self.channel.take() {
            Some(open) => Ok(open),
            None => channel(self.config, self.connection).await,
        }
    }

    async fn ask(&mut self, thing: &Thing<'_>, passive: bool) -> Result<Said, BrokerError> {
        let open = self.open().await?;
        let answer = tokio::time::timeout(self.config.timeout, thing.declare(&open, passive)).await;
        self.said(open, answer, &thing.label())
    }

    fn said(
        &mut self,
        open: lapin::Channel,
        answer: Result<lapin::Result<()>, tokio::time::error::Elapsed>,
        what: &str,
    ) -> Result<Said, BrokerError> {
        let error = match answer {
            Ok(Ok(())) => {
                // An error closes the channel; after an answer it serves again.
                self.channel = Some(open);
                return Ok(Said::Fine);
            }
            Ok(Err(error)) => error,
            Err(_) => return Err(BrokerError::Lost(format!("no answer about {what}"))),
        };
        match error.kind() {
            lapin::ErrorKind::ProtocolError(protocol) => match protocol.get_id() {
                404 => Ok(Said::Missing),
                403 => Ok(Said::Forbidden),
                // 406 inequivalent arguments, 405 locked by another.
                405 | 406 => Ok(Said::Differs(protocol.get_message().to_string())),
                _ => Err(BrokerError::Lost(protocol.get_message().to_string())),
            },
            _ => Err(BrokerError::Lost(error.to_string())),
        }
    }

    /// Declares a thing, or looks whether it is there.
    async fn thing(&mut self, thing: &Thing<'_>) -> Result<(), BrokerError> {
        let label = thing.label();
        let check = self.config.mode == Mode::Check;
        if check && let Said::Missing = self.ask(thing, true).await? {
            self.differences.push(format!("{label} is missing"));
            return Ok(());
        }
        // To declare what is there compares and changes nothing.
        match self.ask(thing, false).await? {
            Said::Fine => {}
            Said::Missing => self.differences.push(format!("{label} is missing")),
            Said::Differs(how) => self.differences.push(format!("{label} differs: {how}")),
            Said::Forbidden if check => {}
            Said::Forbidden => match self.ask(thing, true).await? {
                Said::Fine => tracing::debug!(%label, "may not be compared, is there"),
                _ => self.differences.push(format!("{label} is missing, and this user may not make it")),
            },
        }
        Ok(())
    }

    async fn bind(&mut self, binding: &Binding) -> Result<(), BrokerError> {
        let Binding { queue, exchange, key } = binding;
        let label = format!("binding of `{queue}` to `{exchange}` by `{key}`");
        let open = self.open().await?;
        let options = QueueBindOptions::default();
        let binding = open.queue_bind(short(queue), short(exchange), short(key), options, FieldTable::default());
        let answer = tokio::time::timeout(self.config.timeout, binding).await;
        match self.said(open, answer, &label)? {
            Said::Fine => {}
            // Whoever made the queue has bound it; what is not bound shows in the unrouted queue.
            Said::Forbidden => tracing::debug!(%label, "may not be made by this user"),
            Said::Missing => self.differences.push(format!("{label}: queue or exchange is missing")),
            Said::Differs(how) => self.differences.push(format!("{label} differs: {how}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_have_short_names() {
        let names: Vec<String> = [500, 1_000, 10_000, 60_000, 600_000].map(|ms| tier(Duration::from_millis(ms))).into();
        assert_eq!(names, ["500ms", "1s", "10s", "1m", "10m"]);
    }

    #[test]
    fn a_name_that_no_broker_takes_is_named() {
        let mut names = Names::with_prefix("m");
        names.check().unwrap();
        names.work_queue = "amq.work".to_owned();
        assert!(names.check().unwrap_err().contains("`work_queue`"));
    }
}
