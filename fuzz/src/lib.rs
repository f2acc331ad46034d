//! Every parser of bytes that come from outside, one function each, and what must hold
//! whatever the bytes are. libFuzzer calls them in `fuzz_targets`, and the ordinary tests
//! call the same functions with the corpus in `corpus` (`tests/hostile_bytes.rs`).

use std::io::Cursor;

use jiff::tz::TimeZone;
use lapin::BasicProperties;
use lapin::types::FieldTable;
use lapin::types::parsing::parse_field_table;
use moothall::assess::read::{ReadHints, read};
use moothall::assess::redact::redact;
use moothall::broker::rabbitmq::{BrokerUrl, Envelope, Lane, decode};
use moothall::domain::comment::{Comment, ConsultationId, SourceName};
use moothall::domain::score::Span;
use moothall::domain::trace::Trace;
use moothall::eval::labels::Codes;
use moothall::pipeline::identity::arrival_key;
use moothall::pipeline::ports::Arrival;
use moothall::settings::{Problems, Settings, codebook, consultation, examples, policy};
use moothall::source::{FileOptions, Row, open_reader};
use moothall::wire::CommentV1;
use moothall::wire::incoming::{Defaults, FieldMap, incoming};
use serde_json::Value;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("comment_json", comment_json),
    ("message", message),
    ("rows", rows),
    ("settings_toml", settings_toml),
    ("rulebook_toml", rulebook_toml),
    ("text", text),
    ("address", address),
    ("labelled", labelled),
];

fn defaults() -> Defaults {
    Defaults {
        consultation: ConsultationId::new("mentoring").expect("a name"),
        source: SourceName::new("fuzz").expect("a name"),
        fields: FieldMap::parse(["text=content.rendered"]).unwrap_or_default(),
    }
}

/// What was read can be written, and read again as the same comment.
fn comes_back(comment: &Comment) {
    let json = serde_json::to_value(CommentV1::from(comment)).expect("a comment is JSON");
    let bare = Defaults { fields: FieldMap::default(), ..defaults() };
    let Ok(Arrival::Comment(again)) = incoming(json, &bare) else { panic!("a comment does not come back") };
    assert_eq!(*again, *comment);
    assert_eq!(arrival_key(&again), arrival_key(comment));
}

/// Comments and events as JSON, as HTTP and a broker bring them.
pub fn comment_json(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    match incoming(value, &defaults()) {
        Ok(Arrival::Comment(comment)) => comes_back(&comment),
        Ok(Arrival::Withdrawal { .. } | Arrival::Failed(_)) => {}
        Err(refusal) => assert!(!refusal.field.is_empty() && !refusal.detail.is_empty()),
    }
}

/// A message of a broker: two bytes say how long its headers are (in AMQP's own encoding), then
/// its routing key up to a line feed, then its body.
pub fn message(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (headers, rest) = rest.split_at(usize::from(u16::from_be_bytes(*size)).min(rest.len()));
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (key, body) = rest.split_at(at);
    let headers = parse_field_table(headers).map_or_else(|_| FieldTable::default(), |(_, headers)| headers);
    let envelope = Envelope {
        routing_key: String::from_utf8_lossy(key).into_owned(),
        properties: BasicProperties::default().with_headers(headers).with_timestamp(u64::from(size[0])),
    };
    let decoded = decode(body, &envelope, &defaults(), 64 * 1024, 1);
    assert!(decoded.sequence > 0);
    if let Err(why) = &decoded.arrival {
        // A reason goes into logs and headers: it must not be long enough to hold a comment.
        assert!(why.len() < 300, "{} bytes of reason", why.len());
    }
    if let Some(trace) = decoded.trace {
        assert_eq!(Trace::read(&trace.parent(), trace.state()), Some(trace));
    }
    let _ = envelope.reason();
    let _ = envelope.attempts_when_parked(20);
    for lane in Lane::ALL {
        let came_by = envelope.came_by(lane);
        let copy = Envelope {
            properties: envelope.copy(envelope.attempts_before(), decoded.sequence, Some("why"), &came_by),
            routing_key: "another".to_owned(),
        };
        assert_eq!((copy.came_by(lane), copy.reason()), (came_by, "why".to_owned()));
        assert_eq!(copy.sequence(|| None, 2), decoded.sequence);
        assert_eq!(copy.attempts_before(), envelope.attempts_before());
    }
}

/// A file of comments; its first byte chooses the ending of its name.
pub fn rows(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else { return };
    let name = ["file.csv", "file.tsv", "file.jsonl", "file.txt", "file.csv.gz"][usize::from(*kind) % 5];
    let mut options = FileOptions::new(ConsultationId::new("mentoring").expect("a name"), TimeZone::UTC);
    (options.max_text_bytes, options.max_record_bytes) = (4_096, 8_192);
    let Ok(mut file) = open_reader(name, Cursor::new(content.to_vec()), &options) else { return };
    let mut count = 0;
    for row in file.by_ref() {
        count += 1;
        match row {
            Row::Comment(comment) => {
                assert!(comment.text.len() <= options.max_text_bytes && !comment.text.contains('\0'));
                comes_back(&comment);
            }
            Row::Failed(failed) => assert!(!failed.reason.is_empty() && failed.fingerprint.len() == 64),
        }
    }
    assert_eq!(file.rows(), count);
    let _ = file.notices();
}

/// An operator's settings.
pub fn settings_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Settings::load(Some(("moothall.toml", text)), &|_| None) {
        Ok(settings) => assert!(settings.batch >= 1 && !settings.rabbitmq.retry_ms.is_empty()),
        Err(problems) => assert!(!problems.0.is_empty()),
    }
}

/// The files of a consultation; the first byte chooses which.
pub fn rulebook_toml(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(content) else { return };
    let point = |_: &str, _: &str| Some(0.5);
    let mut problems = Problems::default();
    let read = match kind % 4 {
        0 => consultation::read("f.toml", text, &mut problems).is_some(),
        1 => codebook::read("f.toml", text, &point, &mut problems).is_some(),
        2 => {
            policy::read("f.toml", text, &point, &mut problems);
            true
        }
        _ => {
            examples::read_training("f.toml", text, &mut problems);
            true
        }
    };
    assert!(read || !problems.0.is_empty(), "nothing was read and nothing is wrong");
    let _ = problems.to_string();
}

/// What a person wrote: markup, normal form, sentences, language, personal data.
pub fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let reading = read(&text, ReadHints::default());
    let count = text.chars().count();
    let judged = reading.judged.text.chars().count();
    assert_eq!((reading.char_count, reading.judged.origin.len()), (count, judged));
    assert_eq!(reading.blank, judged == 0);
    assert!(reading.judged.origin.iter().all(|origin| origin.start < origin.end && origin.end <= count));
    let mut end = 0;
    for sentence in &reading.sentences {
        assert!(sentence.start >= end && sentence.start < sentence.end && sentence.end <= judged);
        end = sentence.end;
    }
    let redacted = redact(&text, &reading.pii);
    let mut end = 0;
    for one in &reading.pii {
        assert!(one.span.start >= end && one.span.start < one.span.end && one.span.end <= count);
        assert_eq!(redacted.map(one.span).slice(&redacted.text), format!("[{}]", one.kind.key()));
        end = one.span.end;
    }
    let whole = Span { start: 0, end: redacted.text.chars().count() };
    assert_eq!(redacted.map(Span { start: 0, end: count }), whole);
    assert!(reading.features.0.iter().all(|value| value.is_finite()));
}

/// What is one line: a broker's address, a field map, a trace; separated by line feeds.
pub fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let (url, map, parent) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    // A password that nothing else can be taken for, where it stands in the place of one.
    let planted = url.replacen("PASSWORD", "p1anted", 1);
    let authority = planted.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next()).unwrap_or("");
    let is_password = planted.matches("p1anted").count() == 1 && authority.contains(":p1anted@");
    match BrokerUrl::parse(&planted) {
        Ok(url) => {
            assert!(!url.host().is_empty() && !url.vhost().is_empty());
            if is_password {
                assert!(!format!("{url} {url:?}").contains("p1anted"), "a password is printed");
            }
        }
        Err(why) => assert!(!why.contains("p1anted"), "a password is quoted"),
    }
    let _ = FieldMap::parse([map]);
    if let Some(trace) = Trace::read(parent, lines.next()) {
        assert_eq!(Trace::read(&trace.parent(), trace.state()), Some(trace));
    }
}

/// Labelled rows of `moothall eval`; the first byte chooses the kind of file.
pub fn labelled(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else { return };
    let name = if kind % 2 == 0 { "set.csv" } else { "set.jsonl" };
    let reading = moothall::eval::labelled::Reading { texts: true, ..Default::default() };
    if let Ok(set) = moothall::eval::labelled::read(name, Cursor::new(content), &reading, &Codes::default()) {
        assert!(set.rows.iter().all(|row| !row.id.is_empty()));
    }
}
