//! A trace goes with a comment: from the headers that brought it, through queue and outbox, to
//! the headers of what it causes; and spans of it to a collector, where one is named.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use moothall::broker::rabbitmq::RabbitPublisher;
use moothall::domain::decision::Verdict;
use moothall::domain::trace::Trace;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::ports::{Judged, Lane, OutboxRow, Publisher, Queue, Settlement, Store};
use moothall::pipeline::pulse::Pulse;
use moothall::sqlite::Database;
use moothall::store::sqlite::SqliteStore;
use moothall::wire::event::COMMENT_ASSESSED;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::broker::{Node, until};
use crate::support::rabbit::{config, process};
use crate::support::{Bench, comment, judged, wait_until};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const STATE: &str = "congo=t61rcWkgMzE";

fn trace() -> Trace {
    Trace::read(PARENT, Some(STATE)).unwrap()
}

async fn first_row(store: &dyn Store) -> OutboxRow {
    store.claim(COMMENT_ASSESSED, "test", 1, 60_000).await.unwrap().remove(0)
}

#[tokio::test]
async fn the_queue_in_the_file_and_the_outbox_keep_a_trace() {
    let bench = Bench::new();
    let (queue, store) = (bench.queue("test").await, bench.store().await);
    queue.publish_in(Lane::Work, &[comment("1", "a")], Some(&trace())).await.unwrap();
    queue.publish(&[comment("2", "b")]).await.unwrap();
    // A retry loses nothing.
    let tag = queue.receive(1).await.unwrap().remove(0).tag;
    queue.settle(&[(tag, Settlement::Retry { after_ms: 0, counts: true })]).await.unwrap();
    let mut deliveries = queue.receive(2).await.unwrap();
    deliveries.sort_by_key(|delivery| delivery.sequence);
    let traces: Vec<_> = deliveries.into_iter().map(|delivery| delivery.trace).collect();
    assert_eq!(traces, [Some(trace()), None]);

    // Fresh comments are stored many at a time, an edit by itself: both keep it.
    for (n, text) in ["a", "another"].into_iter().enumerate() {
        let one = Judged { trace: Some(trace()), ..judged(comment("1", text), n as i64 + 1, Verdict::Accept) };
        store.record(&[one]).await.unwrap();
        let row = first_row(&store).await;
        assert_eq!(row.trace, Some(trace()));
        let body: Value = serde_json::from_str(&row.body).unwrap();
        assert_eq!((&body["id"], body.get("traceparent")), (&json!("1"), None));
        store.sent(&[row.event_id]).await.unwrap();
    }
    store.record(&[judged(comment("2", "b"), 3, Verdict::Accept)]).await.unwrap();
    assert_eq!(first_row(&store).await.trace, None);
}

async fn publish(channel: &Channel, headers: &[(&str, AMQPValue)], body: &Value) {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default().with_headers(table));
    let body = body.to_string();
    let publishing =
        channel.basic_publish("moothall.in".into(), "comment.created.m".into(), options, body.as_bytes(), properties);
    assert!(publishing.await.unwrap().await.unwrap().is_ack());
}

async fn get(channel: &Channel, queue: &str) -> BasicGetMessage {
    let mut found = None;
    until("a message is there", async || {
        found = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
        found.is_some()
    })
    .await;
    let message = found.unwrap();
    message.acker.ack(BasicAckOptions::default()).await.unwrap();
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_brings_a_trace_and_gets_it_back_and_a_malformed_one_is_none() {
    let vhost = Node::shared().await.vhost().await;
    let config = config(&vhost.url());
    let queue = process(config.clone(), &Pulse::default()).await;
    let connection = Connection::connect(&vhost.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();

    let long = |text: &str| AMQPValue::LongString(text.into());
    let plain = |id: &str| json!({"id": id, "text": "x"});
    publish(&channel, &[("traceparent", long(PARENT)), ("tracestate", long(STATE))], &plain("header")).await;
    publish(&channel, &[("traceparent", long("00-nonsense-01")), ("tracestate", long(STATE))], &plain("odd")).await;
    publish(&channel, &[("traceparent", AMQPValue::LongLongInt(7))], &plain("number")).await;
    let event = json!({"specversion": "1.0", "type": "comment.created.v1", "source": "s", "id": "e",
                       "traceparent": PARENT, "tracestate": STATE, "data": plain("event")});
    publish(&channel, &[], &event).await;
    queue.publish_in(Lane::Work, &[comment("ours", "x")], Some(&trace())).await.unwrap();

    let mut came = Vec::new();
    until("all have come", async || {
        came.extend(queue.receive(10).await.unwrap());
        came.len() == 5
    })
    .await;
    for delivery in &came {
        let id = crate::support::arrived(delivery).key.id.to_string();
        let wanted = ["header", "event", "ours"].contains(&id.as_str()).then(trace);
        assert_eq!(delivery.trace, wanted, "{id}");
    }

    let row = OutboxRow {
        event_id: "e1".to_owned(),
        kind: COMMENT_ASSESSED.to_owned(),
        body: "{}".to_owned(),
        created_at_ms: 1,
        trace: Some(trace()),
    };
    let sent = RabbitPublisher::new(Arc::new(config), "broker (results)", Pulse::default()).send(&[row]).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    let result = get(&channel, "moothall.results").await;
    let headers = result.properties.headers().clone().unwrap();
    assert_eq!(headers.inner().get("traceparent"), Some(&long(PARENT)));
    assert_eq!(headers.inner().get("tracestate"), Some(&long(STATE)));
    queue.close().await;
}

/// What a collector was sent.
type Requests = Arc<Mutex<Vec<Value>>>;

async fn collector() -> (String, Requests) {
    let requests = Requests::default();
    let take = async |State(requests): State<Requests>, Json(body): Json<Value>| {
        requests.lock().unwrap().push(body);
        Json(json!({}))
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&requests));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, requests)
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_sends_its_span_to_a_collector_and_the_result_stands_under_it() {
    let (url, requests) = collector().await;
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = Command::new(env!("CARGO_BIN_EXE_moothall"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--out"])
        .arg(folder.path())
        .env("MOOTHALL_SERVER_LISTEN", format!("127.0.0.1:{port}"))
        .env("MOOTHALL_TRACING_OTLP_URL", &url)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut service = Running(service);
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let posted = async |id: &str, parent: &str| {
        let request = client.post(format!("http://127.0.0.1:{port}/v1/comments")).header("traceparent", parent);
        let body = json!({"id": id, "text": "Ours met every week for a year and it changed him."});
        request.json(&body).send().await.is_ok_and(|answer| answer.status() == 202)
    };
    wait_until("a comment is taken", async || posted("sampled", PARENT).await).await;
    // Whoever began this trace records nothing of it.
    let silent = PARENT.replace("-01", "-00");
    assert!(posted("silent", &silent).await && posted("odd", "nonsense").await);

    wait_until("the span has come", async || !requests.lock().unwrap().is_empty()).await;
    let path = folder.path().join("restricted/moothall.db");
    let store = SqliteStore::new(Database::open(&path).await.unwrap(), Clock::system());
    wait_until("all are stored", async || store.backlog(None).await.unwrap().unsent == 3).await;
    let pid = service.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(service.0.wait().unwrap().success());

    let spans: Vec<Value> = requests
        .lock()
        .unwrap()
        .iter()
        .flat_map(|body| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone())
        .collect();
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((&span["parentSpanId"], &span["name"]), (&json!("00f067aa0ba902b7"), &json!("judge comment")));
    assert_eq!(span["links"][0]["spanId"], "00f067aa0ba902b7");
    let times = ["startTimeUnixNano", "endTimeUnixNano"].map(|at| span[at].as_str().unwrap().parse::<u64>().unwrap());
    assert!(times[0] > 1_700_000_000_000_000_000 && times[0] <= times[1], "{times:?}");

    let rows = store.claim(COMMENT_ASSESSED, "test", 10, 60_000).await.unwrap();
    let of = |id: &str| {
        let row = rows.iter().find(|row| row.body.contains(&format!("\"id\":\"{id}\""))).unwrap();
        row.trace.as_ref().map(Trace::parent)
    };
    let own = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", span["spanId"].as_str().unwrap());
    assert_eq!((of("sampled"), of("silent"), of("odd")), (Some(own), Some(silent), None));
}
