//! The web through its router, without a socket.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use moothall::broker::embedded::EmbeddedQueue;
use moothall::domain::comment::{ConsultationId, SourceName};
use moothall::domain::decision::Verdict;
use moothall::pipeline::intake::IntakeLimits;
use moothall::pipeline::ports::{Lane, Queue, Store};
use moothall::pipeline::pulse::Pulse;
use moothall::store::sqlite::SqliteStore;
use moothall::web::{RateLimits, WebDeps, WebLimits, router};
use moothall::wire::incoming::{Defaults, FieldMap};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Bench, arrived, judged, key, mentoring};

struct Site {
    bench: Bench,
    queue: EmbeddedQueue,
    store: SqliteStore,
    pulse: Pulse,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

async fn site() -> Site {
    site_with(RateLimits::default()).await
}

async fn site_with(rate: RateLimits) -> Site {
    let bench = Bench::new();
    let queue = bench.queue("web").await;
    let store = bench.store().await;
    let pulse = Pulse::default();
    let deps = WebDeps {
        queue: Arc::new(queue.clone()),
        store: Arc::new(store.clone()),
        report: Arc::new(|consultation: &ConsultationId| {
            (consultation.as_str() == "mentoring").then(|| Bytes::from_static(b"<h1>Report</h1>"))
        }),
        pulse: pulse.clone(),
        clock: bench.clock.clone(),
        defaults: Defaults {
            consultation: mentoring(),
            source: SourceName::new("test").unwrap(),
            fields: FieldMap::default(),
        },
        knows: Arc::new(|consultation| consultation.as_str() != "unknown"),
        metrics: Some(Arc::new(|| "moothall_queue_waiting 0\n".to_owned())),
        limits: WebLimits {
            body_bytes: 2_000,
            intake: IntakeLimits { text_bytes: 500, ..IntakeLimits::default() },
            rate,
            ..WebLimits::default()
        },
    };
    Site { bench, queue, store, pulse, router: router(deps) }
}

impl Site {
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1_000_000).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header("host", "localhost:8080");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, kind: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post("/v1/comments").header("host", "127.0.0.1").header("content-type", kind);
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn post_json(&self, body: &Value) -> Answer {
        self.post("application/json", body.to_string()).await
    }

    async fn waiting(&self) -> u64 {
        self.queue.depth(None).await.unwrap().waiting
    }
}

fn deleted(id: &str) -> Value {
    json!({"specversion": "1.0", "id": "e1", "source": "test", "type": "comment.deleted.v1",
           "data": {"id": id}})
}

#[tokio::test]
async fn an_accepted_comment_is_in_the_queue() {
    let site = site().await;
    let body = json!({"id": "1", "text": "fine", "author": "a7"});
    let answer = site.post_json(&body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(answer.json()["accepted"], 1);
    // As a process that was not told of it sees it.
    assert_eq!(site.bench.queue("other").await.depth(None).await.unwrap().waiting, 1);
    let again = site.post_json(&body).await;
    assert_eq!((again.status, &again.json()["known"]), (StatusCode::ACCEPTED, &json!(1)));
    assert_eq!(site.waiting().await, 1);
}

#[tokio::test]
async fn a_refusal_names_the_field_and_quotes_nothing() {
    let site = site().await;
    let cases = [
        (json!({"id": "1"}), "text"),
        (json!({"id": "1", "text": ["a secret"]}), "text"),
        (json!({"id": "1", "text": " \u{200b}"}), "text"),
        (json!({"id": "1", "text": "x".repeat(501)}), "text"),
        (json!({"id": "1", "text": "x", "posted_at": "a secret"}), "posted_at"),
        (json!({"id": "1", "text": "x", "consultation": "unknown"}), "consultation"),
    ];
    for (body, field) in cases {
        let answer = site.post_json(&body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["field"], field, "{body}");
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
    assert_eq!(site.waiting().await, 0);
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_whole() {
    let site = site().await;
    let broken = site.post("application/json", "{\"id\": \"1\", ").await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    let surrogate = site.post("application/json", r#"{"id": "1", "text": "\ud800"}"#).await;
    assert_eq!(surrogate.status, StatusCode::BAD_REQUEST);
    let form = site.post("text/plain", "{\"id\": \"1\", \"text\": \"x\"}").await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large = site.post("application/json", " ".repeat(2_001)).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    // Also when its size is not announced.
    let pieces = (0..40).map(|_| Ok::<_, std::io::Error>(" ".repeat(100)));
    let chunks = Body::from_stream(futures_util::stream::iter(pieces));
    let large = site.post("application/json", chunks).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(site.waiting().await, 0);
}

#[tokio::test]
async fn an_event_is_a_comment_and_a_deletion_withdraws_it() {
    let site = site().await;
    let created = json!({"specversion": "1.0", "id": "e0", "source": "test",
        "type": "comment.created.v1", "data": {"id": "1", "text": "fine"}});
    let answer = site.post("application/cloudevents+json", created.to_string()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let held = site.queue.receive(1).await.unwrap();
    let arrived = arrived(&held[0]).clone();
    assert_eq!(arrived.key, key("1"));
    site.store.record(&[judged(arrived, 1, Verdict::Accept)]).await.unwrap();
    let answer = site.post("application/cloudevents+json; charset=utf-8", deleted("1").to_string()).await;
    assert_eq!(answer.json()["withdrawn"], 1, "{}", answer.text);
    let funnel = site.store.funnel(&mentoring()).await.unwrap();
    assert_eq!((funnel.withdrawn, funnel.accepted), (1, 0));
    // Content type event, but no event.
    let answer = site.post("application/cloudevents+json", json!({"id": "1"}).to_string()).await;
    assert_eq!(answer.json()["field"], "specversion");
}

#[tokio::test]
async fn every_line_is_accounted_for() {
    let site = site().await;
    let lines = [
        json!({"id": "1", "text": "one"}).to_string(),
        String::new(),
        json!({"id": "1", "text": "one"}).to_string(),
        "{broken".to_owned(),
        json!({"id": "2", "text": " "}).to_string(),
        deleted("9").to_string(),
        json!({"id": "3", "text": "three"}).to_string(),
    ];
    let body = lines.join("\n");
    let answer = site.post("application/x-ndjson", body.clone()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let taken = answer.json();
    assert_eq!(taken["accepted"], 2);
    assert_eq!(taken["known"], 1);
    assert_eq!(taken["withdrawn"], 1);
    assert_eq!(taken["failed"], 2);
    assert_eq!(taken["failures"][0]["line"], 4);
    assert_eq!(taken["failures"][1]["field"], "text");
    let failures = site.store.failures(&mentoring()).await.unwrap();
    let reasons: Vec<_> = failures.iter().map(|f| f.reason.as_str()).collect();
    assert_eq!(reasons, ["unreadable", "blank"]);
    // Sent again, nothing changes.
    let again = site.post("application/x-ndjson", body).await.json();
    assert_eq!((&again["accepted"], &again["known"]), (&json!(0), &json!(4)));
    assert_eq!(site.store.failures(&mentoring()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_fault_of_ours_is_told_without_its_cause() {
    let site = site().await;
    let mut tx = site.bench.database().await.write().await.unwrap();
    sqlx::query("DROP TABLE queue").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let answer = site.post_json(&json!({"id": "1", "text": "fine"})).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!answer.text.contains("queue"), "{}", answer.text);
}

#[tokio::test]
async fn the_report_is_served_under_strict_headers() {
    let site = site().await;
    for path in ["/", "/report", "/report?consultation=mentoring"] {
        let answer = site.get(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "<h1>Report</h1>"));
        assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'; img-src data:"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let other = site.get("/report?consultation=other").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    assert!(other.text.contains("No report yet"));
}

#[tokio::test]
async fn another_host_name_is_not_served() {
    let site = site().await;
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example"] {
        let request = Request::get("/report").header("host", host);
        let answer = site.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
    for host in ["localhost", "LOCALHOST:80", "[::1]", "[::1]:8080"] {
        let request = Request::get("/report").header("host", host);
        let answer = site.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn readiness_tells_its_reasons_and_liveness_has_none() {
    let site = site().await;
    assert_eq!(site.get("/readyz").await.json()["ready"], true);
    site.pulse.trouble("engine", "models are missing");
    let answer = site.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["reasons"]["engine"], "models are missing");
    assert_eq!(site.get("/healthz").await.status, StatusCode::OK);
    site.pulse.well("engine");
    site.pulse.progressed(site.bench.clock.now_ms());
    site.bench.hand.advance_ms(300_001);
    let answer = site.get("/readyz").await;
    assert_eq!(answer.json()["reasons"]["worker"], "no progress for 300 s");
}

#[tokio::test]
async fn metrics_and_wrong_addresses() {
    let site = site().await;
    let answer = site.get("/metrics").await;
    assert!(answer.text.contains("moothall_queue_waiting"));
    let answer = site.get("/v1/comments").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(site.get("/nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_sends_too_often_is_told_when_to_come_again_and_loses_nothing() {
    let header = "x-forwarded-for".parse().unwrap();
    let site = site_with(RateLimits { client_per_minute: 2, per_minute: 4, client_header: Some(header) }).await;
    let send = async |id: &str, client: &str| {
        let request = Request::post("/v1/comments")
            .header("host", "localhost")
            .header("content-type", "application/json")
            // Only the last was written by the proxy.
            .header("x-forwarded-for", format!("10.9.9.{id}, {client}"));
        site.send(request.body(Body::from(json!({"id": id, "text": "fine"}).to_string())).unwrap()).await
    };
    for id in ["1", "2"] {
        assert_eq!(send(id, "10.0.0.1").await.status, StatusCode::ACCEPTED);
    }
    let answer = send("3", "10.0.0.1").await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (StatusCode::TOO_MANY_REQUESTS, "30"));
    assert_eq!(site.waiting().await, 2);
    // Others are served, until all together have sent too much.
    assert_eq!(send("4", "10.0.0.2").await.status, StatusCode::ACCEPTED);
    assert_eq!(send("5", "10.0.0.3").await.status, StatusCode::ACCEPTED);
    assert_eq!(send("6", "10.0.0.4").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(site.get("/report").await.status, StatusCode::OK, "readers are not concerned");
    site.bench.hand.advance_ms(30_000);
    assert_eq!(send("3", "10.0.0.1").await.status, StatusCode::ACCEPTED);
    assert_eq!(site.waiting().await, 5);
}

#[tokio::test]
async fn json_that_is_nested_too_deeply_is_refused_unread() {
    let site = site().await;
    let nested = |depth: usize| {
        format!(r#"{{"id": "d{depth}", "text": "x", "more": {}{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    assert_eq!(site.post("application/json", nested(120)).await.status, StatusCode::ACCEPTED);
    let deep = site.post("application/json", nested(130)).await;
    assert_eq!((deep.status, deep.json()["title"].as_str()), (StatusCode::BAD_REQUEST, Some("not JSON")));
    let lines = format!("{}\n{}\n", nested(130), json!({"id": "ok", "text": "fine"}));
    let answer = site.post("application/x-ndjson", lines).await;
    assert_eq!((&answer.json()["failed"], &answer.json()["accepted"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn what_is_sent_as_urgent_waits_in_the_urgent_lane() {
    let site = site().await;
    let send = async |path: &str, id: &str| {
        let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
        site.send(request.body(Body::from(json!({"id": id, "text": "x"}).to_string())).unwrap()).await
    };
    assert_eq!(send("/v1/comments", "1").await.status, StatusCode::ACCEPTED);
    assert_eq!(send("/v1/comments?lane=urgent", "2").await.status, StatusCode::ACCEPTED);
    let refused = send("/v1/comments?lane=express", "3").await;
    assert_eq!((refused.status, refused.json()["field"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some("lane")));
    let urgent = site.queue.only_lane(Lane::Urgent).receive(9).await.unwrap();
    assert_eq!(urgent.len(), 1);
    assert_eq!(arrived(&urgent[0]).key.id.as_str(), "2");
}

#[tokio::test]
async fn a_request_brings_its_trace_and_a_malformed_one_is_none() {
    let site = site().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (id, sent, states) in
        [("1", parent, &["a=b", "c=d"][..]), ("2", "00-zz-01", &[]), ("3", parent, &["not a state"])]
    {
        let mut request = Request::post("/v1/comments")
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .header("traceparent", sent);
        for state in states {
            request = request.header("tracestate", *state);
        }
        let body = json!({"id": id, "text": "fine"}).to_string();
        assert_eq!(site.send(request.body(Body::from(body)).unwrap()).await.status, StatusCode::ACCEPTED);
    }
    let traces: Vec<_> = site.queue.receive(9).await.unwrap().into_iter().map(|delivery| delivery.trace).collect();
    let shown = |n: usize| traces[n].as_ref().map(|trace| (trace.parent(), trace.state().map(str::to_owned)));
    assert_eq!(shown(0), Some((parent.to_owned(), Some("a=b,c=d".to_owned()))));
    assert_eq!((shown(1), shown(2)), (None, Some((parent.to_owned(), None))));
}
