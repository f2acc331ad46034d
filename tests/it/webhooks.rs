//! Webhooks: stored messages to a real target on loopback, through all that it may do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use moothall::domain::decision::Verdict;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::ports::{Store, WebhookState, Webhooks};
use moothall::pipeline::pulse::Pulse;
use moothall::pipeline::shutdown::Shutdown;
use moothall::pipeline::webhooks::{WebhookDeps, WebhookSettings, run};
use moothall::store::sqlite::SqliteStore;
use moothall::webhook::{HttpCaller, Secrets, Target};
use moothall::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::hook::{Answer, Hook, Seen};
use crate::support::{Bench, comment, judged, wait_until};

const SECRET: [u8; 32] = [9; 32];

/// A store, a target, and relays that a test starts and stops.
struct Site {
    bench: Bench,
    store: SqliteStore,
    pulse: Pulse,
    retry_ms: Vec<i64>,
}

/// A relay as a process has it.
struct Running {
    shutdown: Shutdown,
    last: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Ends in good order.
    async fn stop(self) {
        self.shutdown.stop_intake.cancel();
        self.last.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.task).await.unwrap().unwrap();
    }

    /// Ends as SIGKILL does.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Site {
    async fn new() -> Self {
        let bench = Bench::new();
        let store = SqliteStore::new(bench.database().await, Clock::system());
        store.subscribe("site", &[COMMENT_ASSESSED, ALERT_SAFEGUARDING]).await.unwrap();
        Self { bench, store, pulse: Pulse::default(), retry_ms: vec![30, 60] }
    }

    async fn write(&self, ids: std::ops::Range<u32>, verdict: Verdict) {
        let batch: Vec<_> = ids
            .map(|n| judged(comment(&format!("{n}-{verdict:?}"), &format!("text {n}")), i64::from(n), verdict))
            .collect();
        self.store.record(&batch).await.unwrap();
    }

    fn relay(&self, hook: &Hook, kind: &'static str, owner: &str) -> Running {
        let target = Target {
            name: "site".to_owned(),
            url: Target::address(&hook.url(), true).unwrap(),
            secrets: Secrets::parse(&format!("whsec_{}", BASE64_STANDARD.encode(SECRET))).unwrap(),
            timeout: Duration::from_millis(700),
            ca: None,
            origin: "moothall-test".to_owned(),
        };
        let deps = WebhookDeps {
            store: Arc::new(self.store.clone()),
            caller: Arc::new(HttpCaller::new(target, Clock::system()).unwrap()),
            pulse: self.pulse.clone(),
            clock: Clock::system(),
            stored: Arc::default(),
            target: "site".to_owned(),
            kind,
            owner: owner.to_owned(),
            settings: WebhookSettings {
                concurrency: 3,
                retry_ms: self.retry_ms.clone(),
                timeout_ms: 700,
                idle: Duration::from_millis(10),
            },
        };
        let (shutdown, last) = (Shutdown::new(), CancellationToken::new());
        let (stop, end) = (shutdown.clone(), last.clone());
        let task = tokio::spawn(async move { run(&deps, &stop, &end).await });
        Running { shutdown, last, task }
    }

    async fn state(&self, kind: &str) -> WebhookState {
        let states = self.store.webhook_states().await.unwrap();
        states.into_iter().find(|state| state.kind == kind).unwrap()
    }

    async fn until(&self, what: &str, kind: &str, holds: impl Fn(&WebhookState) -> bool) {
        wait_until(what, async || holds(&self.state(kind).await)).await;
    }
}

fn times(seen: &[Seen]) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for call in seen {
        *times.entry(call.header("webhook-id").to_owned()).or_default() += 1;
    }
    times
}

/// As a receiver does it, from the page about webhooks.
fn verifies(call: &Seen) -> bool {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&SECRET).unwrap();
    mac.update(format!("{}.{}.", call.header("webhook-id"), call.header("webhook-timestamp")).as_bytes());
    mac.update(&call.body);
    let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    call.header("webhook-signature").split(' ').any(|one| one == expected)
}

#[tokio::test]
async fn a_result_is_told_once_signed_and_as_the_broker_tells_it() {
    let site = Site::new().await;
    let hook = Hook::start(|_, _| Answer::Status(204)).await;
    site.write(0..20, Verdict::Accept).await;
    let relay = site.relay(&hook, COMMENT_ASSESSED, "a");
    site.until("all are delivered", COMMENT_ASSESSED, |state| state.delivered == 20).await;
    relay.stop().await;
    let seen = hook.seen();
    assert_eq!((seen.len(), times(&seen).len()), (20, 20));
    for call in &seen {
        assert!(verifies(call));
        let event = call.json();
        assert_eq!(event["id"].as_str().unwrap(), call.header("webhook-id"));
        assert_eq!((event["type"].as_str(), event["source"].as_str()), (Some(COMMENT_ASSESSED), Some("moothall-test")));
        assert!(event["data"].get("text").is_none());
        assert_eq!(call.header("content-type"), "application/cloudevents+json");
        assert_eq!(call.path, "/hook");
    }
    let mut forged = seen[0].clone();
    forged.body[20] ^= 1;
    assert!(!verifies(&forged));
    // What the broker is to have waits for it all the same.
    assert_eq!(site.store.backlog(None).await.unwrap().unsent, 20);
}

#[tokio::test]
async fn what_fails_is_tried_again_and_succeeds_or_is_parked() {
    let cases = [
        (Answer::Status(500), "answered 500"),
        (Answer::Status(404), "answered 404"),
        (Answer::Silence, "no answer"),
        (Answer::Drip, "no answer"),
        (Answer::Hangup, "connection"),
        (Answer::With(307, "location: http://127.0.0.1:1/elsewhere".to_owned()), "redirects are not followed"),
    ];
    for (answer, why) in cases {
        let site = Site::new().await;
        let bad = answer.clone();
        let hook = Hook::start(move |_, before| if before == 0 { bad.clone() } else { Answer::Status(200) }).await;
        site.write(0..1, Verdict::Accept).await;
        let relay = site.relay(&hook, COMMENT_ASSESSED, "a");
        site.until("it is delivered", COMMENT_ASSESSED, |state| state.delivered == 1).await;
        assert_eq!(hook.seen().len(), 2, "{answer:?}");
        assert_eq!(times(&hook.seen()).len(), 1, "under the same id");
        wait_until("the note is gone", async || site.pulse.notes().is_empty()).await;
        let bad = answer.clone();
        hook.answer(move |_, _| bad.clone());
        site.write(1..2, Verdict::Accept).await;
        site.until("it is parked", COMMENT_ASSESSED, |state| state.parked == 1).await;
        relay.stop().await;
        let parked = site.store.parked_calls(None, 9).await.unwrap();
        // The first try and one after each pause.
        assert_eq!((parked[0].attempts, hook.seen().len()), (3, 5), "{answer:?}");
        assert!(parked[0].reason.contains(why), "{} should say {why}", parked[0].reason);
        assert!(!parked[0].reason.contains("/hook"), "{}", parked[0].reason);
        assert!(site.pulse.notes().values().any(|note| note.contains(why)), "{:?}", site.pulse.notes());
        assert!(site.pulse.troubles().is_empty(), "readiness stays");
    }
}

#[tokio::test]
async fn a_target_that_is_gone_parks_at_once_and_a_replay_tells_it() {
    let site = Site::new().await;
    let hook = Hook::start(|_, _| Answer::Status(410)).await;
    site.write(0..5, Verdict::Accept).await;
    let relay = site.relay(&hook, COMMENT_ASSESSED, "a");
    site.until("all are parked", COMMENT_ASSESSED, |state| state.parked == 5).await;
    assert_eq!(hook.seen().len(), 5);
    hook.answer(|_, _| Answer::Status(200));
    assert_eq!(site.store.replay_calls(Some("site")).await.unwrap(), 5);
    site.until("all are delivered", COMMENT_ASSESSED, |state| state.delivered == 5).await;
    relay.stop().await;
    assert_eq!(times(&hook.seen()).len(), 5);
}

#[tokio::test]
async fn a_body_that_comes_by_drops_takes_nothing_back() {
    let site = Site::new().await;
    let hook = Hook::start(|_, _| Answer::DripBody).await;
    site.write(0..2, Verdict::Accept).await;
    let relay = site.relay(&hook, COMMENT_ASSESSED, "a");
    site.until("both are delivered", COMMENT_ASSESSED, |state| state.delivered == 2).await;
    relay.stop().await;
    assert_eq!(hook.seen().len(), 2);
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_kept() {
    let site = Site { retry_ms: vec![1], ..Site::new().await };
    let hook =
        Hook::start(
            |_, before| {
                if before == 0 { Answer::With(429, "retry-after: 60".to_owned()) } else { Answer::Status(200) }
            },
        )
        .await;
    site.write(0..1, Verdict::Accept).await;
    let relay = site.relay(&hook, COMMENT_ASSESSED, "a");
    site.until("it has failed", COMMENT_ASSESSED, |state| state.failing == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(hook.seen().len(), 1, "it was asked to wait for a minute");
    relay.stop().await;
}

#[tokio::test]
async fn alerts_do_not_wait_behind_results_that_are_not_taken() {
    let site = Site::new().await;
    let hook =
        Hook::start(
            |call, _| {
                if call.json()["type"] == ALERT_SAFEGUARDING { Answer::Status(200) } else { Answer::Silence }
            },
        )
        .await;
    site.write(0..50, Verdict::Accept).await;
    let results = site.relay(&hook, COMMENT_ASSESSED, "results");
    wait_until("results are on their way", async || !hook.seen().is_empty()).await;
    let alerts = site.relay(&hook, ALERT_SAFEGUARDING, "alerts");
    site.write(50..53, Verdict::Escalate).await;
    site.until("alerts are delivered", ALERT_SAFEGUARDING, |state| state.delivered == 3).await;
    assert_eq!(site.state(COMMENT_ASSESSED).await.delivered, 0);
    alerts.stop().await;
    results.kill().await;
}

#[tokio::test]
async fn an_outage_costs_few_of_the_waiting_calls_a_try() {
    let site = Site { retry_ms: vec![60_000, 120_000], ..Site::new().await };
    let hook = Hook::start(|_, _| Answer::Status(503)).await;
    site.write(0..200, Verdict::Accept).await;
    let relay = site.relay(&hook, COMMENT_ASSESSED, "a");
    wait_until("it is asked again", async || hook.seen().len() >= 5).await;
    let tried = hook.seen().len() as u64;
    hook.answer(|_, _| Answer::Status(200));
    site.until("those that were not tried are delivered", COMMENT_ASSESSED, |state| state.waiting == state.failing)
        .await;
    relay.stop().await;
    let state = site.state(COMMENT_ASSESSED).await;
    assert_eq!(state.delivered + state.waiting, 200);
    assert!(state.waiting <= tried + 3, "{} of 200 wait for their second try", state.waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_tell_each_message_once() {
    let site = Site::new().await;
    let hook = Hook::start(|_, _| Answer::Status(200)).await;
    site.write(0..150, Verdict::Accept).await;
    let relays = [site.relay(&hook, COMMENT_ASSESSED, "one"), site.relay(&hook, COMMENT_ASSESSED, "two")];
    site.until("all are delivered", COMMENT_ASSESSED, |state| state.delivered == 150).await;
    for relay in relays {
        relay.stop().await;
    }
    assert_eq!((hook.seen().len(), times(&hook.seen()).len()), (150, 150));
}

#[tokio::test]
async fn a_restart_forgets_neither_what_waits_nor_how_often_it_failed() {
    let site = Site { retry_ms: vec![200, 60_000], ..Site::new().await };
    let hook = Hook::start(|_, _| Answer::Status(500)).await;
    site.write(0..1, Verdict::Accept).await;
    let first = site.relay(&hook, COMMENT_ASSESSED, "first");
    site.until("it has failed", COMMENT_ASSESSED, |state| state.failing == 1).await;
    first.kill().await;
    // Another process, after the file was opened anew.
    let site = Site { store: SqliteStore::new(site.bench.database().await, Clock::system()), ..site };
    let second = site.relay(&hook, COMMENT_ASSESSED, "second");
    wait_until("it fails again", async || hook.seen().len() == 2).await;
    second.stop().await;
    let third = site.relay(&hook, COMMENT_ASSESSED, "third");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(hook.seen().len(), 2, "the second pause is a minute, whoever waits");
    third.stop().await;
    assert_eq!(site.state(COMMENT_ASSESSED).await.waiting, 1);
}
