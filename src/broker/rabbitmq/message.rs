//! A broker's message as a delivery, and the copies that are made of it.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::Value;

use super::Lane;
use super::topology::short;
use crate::domain::comment::CommentKey;
use crate::domain::trace::Trace;
use crate::pipeline::ports::Arrival;
use crate::wire::incoming::{Defaults, FieldMap, event_time_us, event_trace, incoming};

/// Counted attempts before this one.
const ATTEMPTS: &str = "moothall-attempts";
/// When it was first seen, in microseconds since 1970: kept by every copy, so that order survives retries.
const FIRST_SEEN: &str = "moothall-first-seen-us";
/// Why it is where it is.
const REASON: &str = "moothall-reason";
/// The routing key that it came with.
const CAME_BY: &str = "moothall-routing-key";
/// The trace that a message belongs to (W3C Trace Context).
const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";
/// Set by the broker on quorum queues: earlier deliveries that were not acknowledged.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Headers that the broker adds. A copy that kept them could be taken for a dead-letter
/// cycle and be dropped (seen with 3.10), so every copy starts without them.
const BROKER_HEADERS: [&str; 8] = [
    "x-death",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-first-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-last-death-exchange",
    DELIVERY_COUNT,
];

/// Persistent: it survives the broker's restart.
const PERSISTENT: u8 = 2;

/// A message to be published.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Message {
    /// An event with a stable id.
    pub fn event(exchange: &str, routing_key: String, id: &str, first_seen_us: i64, body: Vec<u8>) -> Self {
        let mut headers = FieldTable::default();
        headers.insert(FIRST_SEEN.into(), AMQPValue::LongLongInt(first_seen_us));
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type(crate::wire::event::CONTENT_TYPE.into())
            .with_message_id(short(id))
            .with_timestamp(first_seen_us.max(0) as u64 / 1_000_000)
            .with_headers(headers);
        Self { exchange: exchange.to_owned(), routing_key, properties, body }
    }

    /// The same message in a trace.
    #[must_use]
    pub fn traced(mut self, trace: Option<&Trace>) -> Self {
        let Some(trace) = trace else { return self };
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        headers.insert(TRACE_PARENT.into(), AMQPValue::LongString(trace.parent().into()));
        if let Some(state) = trace.state() {
            headers.insert(TRACE_STATE.into(), AMQPValue::LongString(state.into()));
        }
        self.properties = self.properties.with_headers(headers);
        self
    }
}

/// What came with a message, beside its body.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// As it was published with.
    pub routing_key: String,
    /// Headers among them, of any type and content.
    pub properties: BasicProperties,
}

impl Envelope {
    fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }

    /// The trace that the sender noted.
    fn trace(&self) -> Option<Trace> {
        let parent = self.header(TRACE_PARENT).and_then(words)?;
        Trace::read(&parent, self.header(TRACE_STATE).and_then(words).as_deref())
    }

    /// Counted attempts before this one: ours, and deliveries that the broker saw fail.
    pub fn attempts_before(&self) -> u32 {
        let own = self.header(ATTEMPTS).and_then(whole).unwrap_or(0);
        let seen = self.header(DELIVERY_COUNT).and_then(whole).unwrap_or(0);
        // One below the most, so that this attempt can be counted too: anybody can send such a header.
        u32::try_from(own.saturating_add(seen).clamp(0, i64::from(u32::MAX) - 1)).unwrap_or(u32::MAX - 1)
    }

    /// Deliveries that ended with their connection. A copy begins anew.
    pub fn deaths(&self) -> u32 {
        let seen = self.header(DELIVERY_COUNT).and_then(whole).unwrap_or(0);
        u32::try_from(seen.max(0)).unwrap_or(u32::MAX)
    }

    /// Attempts of a parked message. What the broker counts on the parked queue is looks.
    pub fn attempts_when_parked(&self, delivery_limit: u32) -> u32 {
        let own = self.header(ATTEMPTS).and_then(whole).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let by_the_broker = if self.header(REASON).is_none() { delivery_limit.saturating_add(1) } else { 0 };
        own.saturating_add(by_the_broker)
    }

    /// Position of the arrival: what an earlier copy noted, else what the sender says, else now.
    /// The body's own time is asked for only where nothing was noted.
    pub fn sequence(&self, body_us: impl FnOnce() -> Option<i64>, now_us: i64) -> i64 {
        self.header(FIRST_SEEN)
            .and_then(whole)
            .or_else(body_us)
            .or_else(|| i64::try_from((*self.properties.timestamp())?).ok()?.checked_mul(1_000_000))
            .filter(|at| *at > 0)
            .unwrap_or(now_us)
    }

    /// The routing key that the message first came with.
    pub fn came_by(&self, lane: Lane) -> String {
        let noted = self.header(CAME_BY).and_then(words);
        // The broker notes its own dead letters only so.
        let dead = || {
            let AMQPValue::FieldArray(deaths) = self.header("x-death")? else { return None };
            let AMQPValue::FieldTable(first) = deaths.as_slice().last()? else { return None };
            let AMQPValue::FieldArray(keys) = first.inner().get("routing-keys")? else { return None };
            keys.as_slice().first().and_then(words)
        };
        let key = noted.or_else(dead).unwrap_or_else(|| self.routing_key.clone());
        // What has only an inner key (a dead letter of another broker version) goes to its lane.
        if lane.takes(&key) { key } else { lane.default_key().to_owned() }
    }

    /// Why it was parked: our reason, else the broker's.
    pub fn reason(&self) -> String {
        self.header(REASON).and_then(words).unwrap_or_else(|| {
            let broker = self.header("x-first-death-reason").and_then(words);
            match broker.as_deref() {
                Some("delivery_limit") => {
                    "the broker's delivery limit is spent: it ended or outlived every worker that took it".to_owned()
                }
                Some(other) => format!("dead-lettered by the broker: {other}"),
                None => "no reason was noted".to_owned(),
            }
        })
    }

    /// The properties of a copy: everything that the sender set, and our own notes.
    pub fn copy(&self, attempts: u32, first_seen_us: i64, reason: Option<&str>, came_by: &str) -> BasicProperties {
        let mut headers = FieldTable::default();
        if let Some(sent) = self.properties.headers() {
            for (name, value) in sent.inner() {
                if !BROKER_HEADERS.contains(&name.as_str()) {
                    headers.insert(name.clone(), sendable(value));
                }
            }
        }
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(i64::from(attempts)));
        headers.insert(FIRST_SEEN.into(), AMQPValue::LongLongInt(first_seen_us));
        headers.insert(CAME_BY.into(), AMQPValue::LongString(came_by.into()));
        match reason {
            Some(reason) => headers.insert(REASON.into(), AMQPValue::LongString(reason.into())),
            None => headers.insert(REASON.into(), AMQPValue::Void),
        };
        // A time to live of the sender's would let a copy vanish while it waits.
        let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
        let optional = |value: &Option<ShortString>| value.clone();
        if let Some(kind) = optional(self.properties.content_type()) {
            properties = properties.with_content_type(kind);
        }
        if let Some(id) = optional(self.properties.message_id()) {
            properties = properties.with_message_id(id);
        }
        if let Some(id) = optional(self.properties.correlation_id()) {
            properties = properties.with_correlation_id(id);
        }
        if let Some(at) = *self.properties.timestamp() {
            properties = properties.with_timestamp(at);
        }
        properties
    }
}

/// A header that can be sent again: a short string in a table closes the connection.
fn sendable(value: &AMQPValue) -> AMQPValue {
    match value {
        AMQPValue::ShortString(text) => AMQPValue::LongString(text.as_str().into()),
        other => other.clone(),
    }
}

fn whole(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::LongInt(n) => Some(i64::from(*n)),
        AMQPValue::LongUInt(n) => Some(i64::from(*n)),
        AMQPValue::LongLongInt(n) => Some(*n),
        _ => None,
    }
}

fn words(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// A message that was read.
#[derive(Debug)]
pub struct Decoded {
    /// What arrived, or why it is nothing that can be read.
    pub arrival: Result<Arrival, String>,
    /// The position of the arrival, told even when the rest cannot be read.
    pub sequence: i64,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
}

/// Reads a body and what came with it.
pub fn decode(body: &[u8], envelope: &Envelope, defaults: &Defaults, most_bytes: usize, now_us: i64) -> Decoded {
    let unread = |why: String| Decoded {
        arrival: Err(why),
        sequence: envelope.sequence(|| None, now_us),
        trace: envelope.trace(),
    };
    if body.len() > most_bytes {
        return unread(format!("the message has {} bytes, at most {most_bytes} are read", body.len()));
    }
    // The position and not the message: the message could quote the text.
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => {
            let what = match error.classify() {
                serde_json::error::Category::Syntax if error.to_string().starts_with("recursion") => {
                    "nested too deeply"
                }
                serde_json::error::Category::Eof => "JSON that ends early",
                _ => "not JSON",
            };
            return unread(format!("{what} at line {} column {}", error.line(), error.column()));
        }
    };
    let sequence = envelope.sequence(|| event_time_us(&value), now_us);
    let trace = envelope.trace().or_else(|| event_trace(&value));
    Decoded { arrival: incoming(value, defaults).map_err(|refusal| refusal.to_string()), sequence, trace }
}

/// When the event in a body says that it happened.
pub(super) fn time_us(body: &[u8]) -> Option<i64> {
    event_time_us(&serde_json::from_slice(body).ok()?)
}

/// Whose message it is, if it can be told; what is wrong with the rest does not matter here.
pub(super) fn key_of(body: &[u8], defaults: &Defaults) -> Option<CommentKey> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let event = value.get("specversion").is_some();
    let source = event.then(|| value.get("source").cloned()).flatten();
    let data = if event { value.get_mut("data")?.take() } else { value };
    // As a comment with nothing but its identity.
    let mut bare = serde_json::Map::new();
    for name in ["id", "consultation", "source"] {
        if let Some(part) = data.get(name) {
            bare.insert(name.to_owned(), part.clone());
        }
    }
    if let Some(source) = source {
        bare.entry("source").or_insert(source);
    }
    bare.insert("text".to_owned(), Value::from(""));
    match incoming(Value::Object(bare), &Defaults { fields: FieldMap::default(), ..defaults.clone() }).ok()? {
        Arrival::Comment(comment) => Some(comment.key),
        Arrival::Withdrawal { .. } | Arrival::Failed(_) => None,
    }
}

/// A strictly growing time in microseconds: the order of what one process publishes.
#[derive(Debug, Default)]
pub(super) struct Ticket(std::sync::atomic::AtomicI64);

impl Ticket {
    pub fn next(&self, now_us: i64) -> i64 {
        use std::sync::atomic::Ordering::SeqCst;
        let step = |last: i64| Some(now_us.max(last + 1));
        // The closure never declines, so the earlier value is always there.
        self.0.fetch_update(SeqCst, SeqCst, step).map_or(now_us, |last| now_us.max(last + 1))
    }
}

/// The current time in microseconds.
pub(super) fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::comment::{ConsultationId, SourceName};

    fn defaults() -> Defaults {
        Defaults {
            consultation: ConsultationId::new("mentoring").unwrap(),
            source: SourceName::new("amqp").unwrap(),
            fields: FieldMap::default(),
        }
    }

    fn envelope(headers: &[(&str, AMQPValue)], routing_key: &str) -> Envelope {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(short(name), value.clone());
        }
        Envelope {
            routing_key: routing_key.to_owned(),
            properties: BasicProperties::default().with_headers(table).with_expiration("5".into()),
        }
    }

    #[test]
    fn a_message_names_its_comment_even_where_the_rest_is_wrong() {
        let key =
            |body: &str| key_of(body.as_bytes(), &defaults()).map(|key| (key.source.to_string(), key.id.to_string()));
        let named = |source: &str, id: &str| Some((source.to_owned(), id.to_owned()));
        assert_eq!(key(r#"{"id": 7}"#), named("amqp", "7"));
        assert_eq!(key(r#"{"specversion": "1.0", "source": "site", "data": {"id": "c1"}}"#), named("site", "c1"));
        assert_eq!(key(r#"{"text": "x"}"#), None);
        assert_eq!(key("[1]"), None);
        assert_eq!(key("{"), None);
    }

    #[test]
    fn a_copy_keeps_what_the_sender_set_and_drops_what_the_broker_added() {
        let sent = envelope(
            &[
                ("traceparent", AMQPValue::ShortString("00-ab".into())),
                ("x-death", AMQPValue::Void),
                ("x-delivery-count", AMQPValue::LongLongInt(3)),
            ],
            "comment.created.m",
        );
        let copy =
            Envelope { properties: sent.copy(2, 5, Some("why"), "comment.created.m"), routing_key: "work".into() };
        assert_eq!(copy.header("traceparent"), Some(&AMQPValue::LongString("00-ab".into())));
        assert_eq!((copy.header("x-death"), copy.header("x-delivery-count")), (None, None));
        assert_eq!((copy.attempts_before(), copy.reason().as_str()), (2, "why"));
        assert_eq!(copy.sequence(|| None, 99), 5);
        assert_eq!(copy.came_by(Lane::Work), "comment.created.m");
        // A sender's time to live would let the copy vanish.
        assert_eq!(*copy.properties.expiration(), None);
        assert_eq!(*copy.properties.delivery_mode(), Some(PERSISTENT));
    }

    #[test]
    fn attempts_are_ours_and_the_brokers_together() {
        let both = [("moothall-attempts", AMQPValue::LongLongInt(2)), ("x-delivery-count", AMQPValue::LongInt(3))];
        assert_eq!(envelope(&both, "").attempts_before(), 5);
        assert_eq!(envelope(&[("moothall-attempts", AMQPValue::LongLongInt(-9))], "").attempts_before(), 0);
        assert_eq!(envelope(&[], "").attempts_when_parked(20), 21);
    }

    #[test]
    fn tickets_only_grow() {
        let ticket = Ticket::default();
        assert_eq!([5, 5, 3, 9].map(|now| ticket.next(now)), [5, 6, 7, 9]);
    }
}
