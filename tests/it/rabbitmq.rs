//! The queue on RabbitMQ: the contract, and what only it does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use moothall::broker::rabbitmq::{BrokerError, Lane, Mode, RabbitConfig, RabbitPublisher, RabbitQueue, inspect, probe};
use moothall::domain::decision::Verdict;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::intake::{IntakeDeps, IntakeLimits};
use moothall::pipeline::outbox::{self, RelayDeps, RelaySettings};
use moothall::pipeline::ports::{FailedRows, Queue, Settlement, Store};
use moothall::pipeline::pulse::Pulse;
use moothall::pipeline::shutdown::Shutdown;
use moothall::pipeline::worker::{WorkerDeps, WorkerSettings, run};
use moothall::store::sqlite::SqliteStore;
use moothall::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::broker::proxy::Proxy;
use crate::broker::{Node, Vhost};
use crate::contract::queue::{QueueUnderTest, queue_contract, take};
use crate::support::judge::StubJudge;
use crate::support::rabbit::{config, process};
use crate::support::{Bench, comment, failed, judged, mentoring, revision, wait_until};

struct Rabbit {
    bench: Bench,
    vhost: Vhost,
    proxy: Proxy,
    queue: RabbitQueue,
}

async fn vhost() -> Vhost {
    Node::shared().await.vhost().await
}

impl Rabbit {
    async fn new() -> Self {
        let vhost = vhost().await;
        let proxy = Proxy::start(vhost.node().amqp_port()).await;
        let queue = process(config(&vhost.url_via(proxy.port())), &Pulse::default()).await;
        Self { bench: Bench::new(), vhost, proxy, queue }
    }
}

#[async_trait::async_trait]
impl QueueUnderTest for Rabbit {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.queue.clone())
    }
    async fn another_process(&self) -> Arc<dyn Queue> {
        Arc::new(process(config(&self.vhost.url()), &Pulse::default()).await)
    }
    async fn kill_first(&mut self) -> Arc<dyn Queue> {
        // Its sockets are torn; nothing of it can say goodbye.
        self.proxy.refuse(true);
        self.proxy.cut().await;
        let proxy = Proxy::start(self.vhost.node().amqp_port()).await;
        let config = config(&self.vhost.url_via(proxy.port()));
        // A task of its own, as a process would be.
        let queue = tokio::spawn(async move { process(config, &Pulse::default()).await }).await.unwrap();
        self.proxy = proxy;
        self.queue = queue;
        self.queue()
    }
    async fn pass_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    fn retry_ms(&self) -> u64 {
        200
    }
    fn delivery_budget(&self) -> u32 {
        5
    }
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.bench.store().await)
    }
    async fn limit(&mut self, most: Option<u64>) {
        let name = "small-work";
        let path = format!("queues/{}/moothall.work", self.vhost.name);
        if let Some(most) = most {
            let policy =
                json!({"pattern": "^moothall\\.work$", "apply-to": "queues", "definition": {"max-length": most}});
            self.vhost.node().put(&format!("policies/{}/{name}", self.vhost.name), &policy).await;
            wait_until("the policy is in force", async || self.vhost.node().get(&path).await["policy"] == name).await;
        } else {
            self.vhost.node().delete(&format!("policies/{}/{name}", self.vhost.name)).await;
            wait_until("the policy is gone", async || self.vhost.node().get(&path).await["policy"] != name).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_on_rabbitmq_keeps_the_contract() {
    queue_contract(Rabbit::new).await;
}

/// A bare client, as another program would be.
struct Client {
    _connection: Connection,
    channel: Channel,
}

impl Client {
    async fn new(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { _connection: connection, channel }
    }

    async fn publish(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let confirm = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await.unwrap();
        assert!(confirm.await.unwrap().is_ack());
    }

    async fn comment(&self, key: &str, body: &[u8]) {
        self.publish("moothall.in", key, body, BasicProperties::default()).await;
    }

    async fn get(&self, queue: &str) -> Option<(Value, BasicProperties)> {
        let message = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap()?;
        message.acker.ack(BasicAckOptions::default()).await.unwrap();
        let properties = message.properties.clone();
        Some((serde_json::from_slice(&message.data).unwrap(), properties))
    }
}

/// A whole service in this process, with a stub judge.
struct Service {
    _bench: Bench,
    store: SqliteStore,
    judge: Arc<StubJudge>,
    queue: RabbitQueue,
    pulse: Pulse,
    shutdown: Shutdown,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Service {
    async fn start(config: RabbitConfig) -> Self {
        let bench = Bench::new();
        let store = SqliteStore::new(bench.database().await, Clock::system());
        let (pulse, shutdown, judge) = (Pulse::default(), Shutdown::new(), StubJudge::new());
        let config = Arc::new(config);
        let queue = RabbitQueue::subscribe(Arc::clone(&config), Clock::system(), pulse.clone()).await.unwrap();
        let (stored, alone) = (Arc::default(), Arc::default());
        let mut tasks = Vec::new();
        for lane in Lane::ALL {
            let deps = WorkerDeps {
                queue: Arc::new(queue.only(lane)),
                store: Arc::new(store.clone()),
                judge: judge.clone(),
                pulse: pulse.clone(),
                clock: Clock::system(),
                settings: WorkerSettings {
                    batch: 16,
                    idle_ms: 1,
                    limits: IntakeLimits { text_bytes: 5_000, ..IntakeLimits::default() },
                    ..WorkerSettings::default()
                },
                stored: Arc::clone(&stored),
                alone: Arc::clone(&alone),
            };
            let shutdown = shutdown.clone();
            tasks.push(tokio::spawn(async move {
                run(&deps, &shutdown, |_| {}).await;
            }));
        }
        for kind in [COMMENT_ASSESSED, ALERT_SAFEGUARDING] {
            let deps = RelayDeps {
                store: Arc::new(store.clone()),
                publisher: Arc::new(RabbitPublisher::new(Arc::clone(&config), kind, pulse.clone())),
                pulse: pulse.clone(),
                stored: Arc::clone(&stored),
                kind,
                owner: kind.to_owned(),
                settings: RelaySettings::default(),
            };
            let shutdown = shutdown.clone();
            tasks.push(tokio::spawn(async move {
                let last = shutdown.stop_intake.clone();
                outbox::run(&deps, &shutdown, &last).await;
            }));
        }
        Self { _bench: bench, store, judge, queue, pulse, shutdown, tasks }
    }

    async fn has(&self, what: &str, holds: impl Fn(&moothall::pipeline::ports::Funnel) -> bool) {
        wait_until(what, async || holds(&self.store.funnel(&mentoring()).await.unwrap())).await;
    }

    async fn stop(self) {
        self.shutdown.stop_intake.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        self.queue.close().await;
    }
}

fn created(id: &str, text: &str) -> Vec<u8> {
    let event = json!({"specversion": "1.0", "id": format!("e-{id}"), "source": "site", "type": "comment.created.v1",
                       "time": "2026-11-01T10:00:00Z", "data": {"id": id, "text": text}});
    serde_json::to_vec(&event).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_messages_are_parked_with_their_reason_and_the_next_good_one_is_judged() {
    let vhost = vhost().await;
    let service = Service::start(config(&vhost.url())).await;
    let client = Client::new(&vhost.url()).await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let event = |kind: &str| json!({"specversion": "1.0", "id": "e", "source": "s", "type": kind, "data": {"id": "1", "text": "x"}});
    let big = serde_json::to_vec(&json!({"id": "big", "text": "x".repeat(10_000_000)})).unwrap();
    let hostile: Vec<(Vec<u8>, &str)> = vec![
        (b"{\"id\": \"1\", \"text\": ".to_vec(), "ends early"),
        (b"not json at all".to_vec(), "not JSON"),
        (Vec::new(), "ends early"),
        (b"{\"id\":\"1\",\"text\":\"\xff\xfe\"}".to_vec(), "not JSON"),
        (br#"{"id":"1","text":"\ud800"}"#.to_vec(), "not JSON"),
        (b"[1, 2, 3]".to_vec(), "`(body)`"),
        (br#"{"id": "1"}"#.to_vec(), "`text`"),
        (br#"{"id": 1, "text": {"a": 1}}"#.to_vec(), "`text`"),
        (br#"{"id": "1", "text": "x", "revision": "two"}"#.to_vec(), "`revision`"),
        (deep.into_bytes(), "nested too deeply"),
        (serde_json::to_vec(&event("comment.created.v2")).unwrap(), "`type`"),
        (serde_json::to_vec(&json!({"specversion": "9", "id": "1"})).unwrap(), "`specversion`"),
        (br#"{"id": "1", "text": "x", "consultation": "elsewhere"}"#.to_vec(), "no rulebook"),
        (big, "10000"),
    ];
    for (n, (body, _)) in hostile.iter().enumerate() {
        client.comment("comment.created.mentoring", body).await;
        client.comment("comment.created.mentoring", &created(&format!("good-{n}"), &format!("fine {n}"))).await;
    }
    let count = hostile.len() as u64;
    service.has("every good comment is stored", |funnel| funnel.accepted == count).await;
    wait_until("every hostile message is parked", async || {
        inspect(&config(&vhost.url())).await.unwrap().parked() == count
    })
    .await;
    let parked = service.queue.parked(None, 100).await.unwrap();
    for (parked, (_, reason)) in parked.iter().zip(&hostile) {
        assert!(parked.reason.contains(reason), "{} should say {reason}", parked.reason);
        assert_eq!(parked.attempts, 1);
    }
    // The whole message is kept, and a look does not take it away.
    let (_, bytes) = client_get_raw(&client, "moothall.parked").await;
    assert_eq!(bytes, hostile[0].0);
    assert_eq!(service.judge.judged() as u64, count);
    service.stop().await;
}

async fn client_get_raw(client: &Client, queue: &str) -> (BasicProperties, Vec<u8>) {
    let message = client.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap().unwrap();
    (message.properties.clone(), message.data.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_and_alerts_go_out_once_each_by_their_own_exchanges() {
    let vhost = vhost().await;
    let service = Service::start(config(&vhost.url())).await;
    service.queue.publish(&[comment("1", "fine"), comment("2", "spam"), comment("3", "help")]).await.unwrap();
    service.has("all are stored", |funnel| funnel.received() == 3).await;
    wait_until("all are sent", async || service.store.backlog(None).await.unwrap().unsent == 0).await;
    let client = Client::new(&vhost.url()).await;
    let mut verdicts = Vec::new();
    while let Some((event, properties)) = client.get("moothall.results").await {
        assert_eq!(event["type"], COMMENT_ASSESSED);
        assert_eq!(event["source"], "moothall-test");
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), event["id"].as_str().unwrap());
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert!(event["data"].get("text").is_none());
        verdicts.push(format!(
            "{}/{}",
            event["data"]["id"].as_str().unwrap(),
            event["data"]["verdict"].as_str().unwrap()
        ));
    }
    verdicts.sort();
    assert_eq!(verdicts, ["1/accept", "2/reject", "3/escalate"]);
    let (alert, _) = client.get("moothall.alerts").await.unwrap();
    assert_eq!((alert["type"].as_str(), alert["data"]["id"].as_str()), (Some(ALERT_SAFEGUARDING), Some("3")));
    assert!(client.get("moothall.alerts").await.is_none());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_message_takes_effect() {
    let vhost = vhost().await;
    let service = Service::start(config(&vhost.url())).await;
    let client = Client::new(&vhost.url()).await;
    let event = |kind: &str, time: &str, data: Value| {
        serde_json::to_vec(
            &json!({"specversion": "1.0", "id": "e", "source": "site", "type": kind, "time": time, "data": data}),
        )
        .unwrap()
    };
    // Out of order: the edit first, then what it edits.
    let edited = event("comment.edited.v1", "2026-11-01T11:00:00Z", json!({"id": "1", "text": "second"}));
    let created = event("comment.created.v1", "2026-11-01T10:00:00Z", json!({"id": "1", "text": "first"}));
    client.comment("comment.edited.mentoring", &edited).await;
    client.comment("comment.created.mentoring", &created).await;
    // The deletion overtakes its comment.
    client
        .comment("comment.deleted.mentoring", &event("comment.deleted.v1", "2026-11-01T10:00:00Z", json!({"id": "2"})))
        .await;
    client
        .comment(
            "comment.created.mentoring",
            &event("comment.created.v1", "2026-11-01T09:00:00Z", json!({"id": "2", "text": "gone"})),
        )
        .await;
    // Plain JSON without an envelope, in the urgent lane.
    client.comment("comment.urgent.mentoring", br#"{"id": 3, "text": "help"}"#).await;
    // Nothing to judge, and a row that failed where a file was read.
    client.comment("comment.created.mentoring", "{\"id\": 4, \"text\": \" \u{200b} \"}".as_bytes()).await;
    service.queue.fail(&[failed(7)]).await.unwrap();
    service.has("all have taken effect", |f| (f.accepted, f.withdrawn, f.escalated, f.failed) == (1, 1, 1, 2)).await;
    let page = service.store.page(&mentoring(), 0, 9).await.unwrap();
    let one = page.iter().find(|stored| stored.comment.key.id.as_str() == "1").unwrap();
    assert_eq!(one.comment.text, "second");
    assert_eq!(one.comment.key.source.as_str(), "site");
    let reasons: Vec<_> =
        service.store.failures(&mentoring()).await.unwrap().into_iter().map(|row| row.reason).collect();
    assert!(reasons.iter().all(|reason| reason == "blank"), "{reasons:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_storm_has_one_effect_each() {
    let vhost = vhost().await;
    let service = Service::start(config(&vhost.url())).await;
    let comments: Vec<_> = (0..60).map(|n| revision(&n.to_string(), 1, &format!("text {}", n % 7))).collect();
    for _ in 0..5 {
        service.queue.publish(&comments).await.unwrap();
    }
    service.has("all are stored", |funnel| funnel.accepted == 60).await;
    wait_until("nothing waits", async || {
        let depth = service.queue.depth(None).await.unwrap();
        (depth.waiting, depth.in_flight) == (0, 0)
    })
    .await;
    wait_until("all are sent", async || service.store.backlog(None).await.unwrap().unsent == 0).await;
    assert_eq!(
        inspect(&config(&vhost.url()))
            .await
            .unwrap()
            .queues
            .iter()
            .find(|q| q.name == "moothall.results")
            .unwrap()
            .ready,
        60
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leads_nowhere_lies_in_the_unrouted_queue() {
    let vhost = vhost().await;
    let queue = process(config(&vhost.url()), &Pulse::default()).await;
    let client = Client::new(&vhost.url()).await;
    client.comment("komment.created", b"{}").await;
    // A connection that is open already; a new one would bind again.
    queue.publish(&[comment("0", "a")]).await.unwrap();
    client
        .channel
        .queue_unbind("moothall.work".into(), "moothall.in".into(), "comment.created.#".into(), FieldTable::default())
        .await
        .unwrap();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    wait_until("both are there", async || inspect(&config(&vhost.url())).await.unwrap().unrouted() == 2).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topology_that_differs_is_refused_with_every_difference_and_nothing_is_deleted() {
    let vhost = vhost().await;
    let client = Client::new(&vhost.url()).await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    for queue in ["moothall.work", "moothall.results"] {
        client.channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
    }
    client.publish("", "moothall.work", b"precious", BasicProperties::default()).await;
    let error =
        RabbitQueue::subscribe(Arc::new(config(&vhost.url())), Clock::system(), Pulse::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(error.needs_a_person(), "{text}");
    assert!(text.contains("`moothall.work` differs") && text.contains("`moothall.results` differs"), "{text}");
    assert!(text.contains("x-queue-type") || text.contains("x-overflow") || text.contains("x-d"), "{text}");
    assert_eq!(client.get_text("moothall.work").await, "precious");
}

impl Client {
    async fn get_text(&self, queue: &str) -> String {
        String::from_utf8(client_get_raw(self, queue).await.1).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_right_to_configure_works_where_everything_is_there() {
    let vhost = vhost().await;
    process(config(&vhost.url()), &Pulse::default()).await.close().await;
    vhost.add_user("worker", "secret").await;
    let writes = r"^moothall\.(in|out|retry|dead|alerts)$";
    vhost.permissions("worker", "^$", writes, r"^moothall\.(work|urgent|parked)$").await;
    let url = vhost.url_for("worker", "secret", vhost.node().amqp_port());
    for (earlier, mode) in [(0, Mode::Check), (1, Mode::Declare)] {
        let config = RabbitConfig { mode, ..config(&url) };
        let service = Service::start(config.clone()).await;
        let id = format!("{mode:?}");
        service.queue.publish(&[comment(&id, "help"), comment(&format!("{id}-2"), "panic")]).await.unwrap();
        service.has("it is stored", |funnel| funnel.escalated == 1).await;
        wait_until("the other is parked", async || inspect(&config).await.unwrap().parked() == earlier + 1).await;
        // The one of the round before is parked still, for the same reason.
        assert_eq!(service.queue.replay(None).await.unwrap(), earlier + 1);
        wait_until("all is sent", async || service.store.backlog(None).await.unwrap().unsent == 0).await;
        wait_until("it is parked again", async || inspect(&config).await.unwrap().parked() == earlier + 1).await;
        probe(&Arc::new(config)).await.unwrap();
        service.stop().await;
    }
    let error = RabbitQueue::subscribe(
        Arc::new(RabbitConfig {
            mode: Mode::Check,
            names: moothall::broker::rabbitmq::Names::with_prefix("other"),
            ..config(&url)
        }),
        Clock::system(),
        Pulse::default(),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("queue `other.work` is missing"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_or_vhost_is_told_at_once() {
    let vhost = vhost().await;
    for url in [vhost.url_for("guest", "wrong", vhost.node().amqp_port()), vhost.url().replace(&vhost.name, "nowhere")]
    {
        let started = std::time::Instant::now();
        let config = Arc::new(config(&url));
        let error = RabbitQueue::subscribe(config, Clock::system(), Pulse::default()).await.unwrap_err();
        assert!(matches!(error, BrokerError::TurnedAway { .. }), "{error:?}");
        assert!(!error.to_string().contains("wrong"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_wire_loses_nothing_and_is_mended_by_itself() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.node().amqp_port()).await;
    let service = Service::start(config(&vhost.url_via(proxy.port()))).await;
    let feeder = RabbitQueue::publish_only(Arc::new(config(&vhost.url())), Clock::system(), Pulse::default());
    for round in 0..6 {
        let comments: Vec<_> =
            (0..50).map(|n| comment(&format!("{round}-{n}"), &format!("text {round} {n}"))).collect();
        feeder.publish(&comments).await.unwrap();
        proxy.refuse(true);
        proxy.cut().await;
        proxy.refuse(false);
    }
    service.has("all are stored", |funnel| funnel.accepted == 300).await;
    wait_until("all are sent", async || service.store.backlog(None).await.unwrap().unsent == 0).await;
    wait_until("it is well again", async || service.pulse.troubles().is_empty()).await;
    let client = Client::new(&vhost.url()).await;
    let mut ids = std::collections::BTreeSet::new();
    while let Some((event, _)) = client.get("moothall.results").await {
        ids.insert(event["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 300);
    assert_eq!(inspect(&config(&vhost.url())).await.unwrap().parked(), 0);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_wire_is_noticed_and_mended_by_itself() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.node().amqp_port()).await;
    let quick =
        RabbitConfig { heartbeat_s: 1, timeout: Duration::from_secs(2), ..config(&vhost.url_via(proxy.port())) };
    let service = Service::start(quick).await;
    proxy.stall(crate::broker::proxy::Direction::FromBroker);
    wait_until("it is noticed", async || !service.pulse.troubles().is_empty()).await;
    let troubles = format!("{:?}", service.pulse.troubles());
    assert!(troubles.contains("lane"), "{troubles}");
    proxy.flow();
    service.queue.publish(&[comment("1", "a")]).await.ok();
    let feeder = RabbitQueue::publish_only(Arc::new(config(&vhost.url())), Clock::system(), Pulse::default());
    feeder.publish(&[comment("1", "a")]).await.unwrap();
    service.has("it is stored", |funnel| funnel.accepted == 1).await;
    wait_until("it is well again", async || service.pulse.troubles().is_empty()).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_said_and_made_again() {
    let vhost = vhost().await;
    let service = Service::start(config(&vhost.url())).await;
    vhost.delete_queue("moothall.work").await;
    wait_until("it is there again", async || {
        service.queue.publish(&[comment("1", "a")]).await.ok();
        service.store.funnel(&mentoring()).await.unwrap().accepted == 1
    })
    .await;
    wait_until("it is well again", async || service.pulse.troubles().is_empty()).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_results_queue_is_waited_for_and_no_result_is_lost() {
    let vhost = vhost().await;
    let service = Service::start(config(&vhost.url())).await;
    vhost
        .node()
        .put(
            &format!("policies/{}/small", vhost.name),
            &json!({"pattern": "results", "apply-to": "queues", "definition": {"max-length": 5}}),
        )
        .await;
    let path = format!("queues/{}/moothall.results", vhost.name);
    wait_until("the policy is in force", async || vhost.node().get(&path).await["policy"] == "small").await;
    let comments: Vec<_> = (0..400).map(|n| comment(&n.to_string(), &format!("text {n}"))).collect();
    service.queue.publish(&comments).await.unwrap();
    service.has("all are stored", |funnel| funnel.accepted == 400).await;
    wait_until("the refusal is told", async || service.pulse.troubles().values().any(|why| why.contains("full"))).await;
    let client = Client::new(&vhost.url()).await;
    let mut results = client
        .channel
        .basic_consume(
            "moothall.results".into(),
            "reader".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let mut ids = std::collections::BTreeSet::new();
    while ids.len() < 400 {
        let message = tokio::time::timeout(Duration::from_mins(1), results.next()).await.unwrap().unwrap().unwrap();
        let event: Value = serde_json::from_slice(&message.data).unwrap();
        ids.insert(event["id"].as_str().unwrap().to_owned());
        message.acker.ack(BasicAckOptions::default()).await.unwrap();
    }
    wait_until("it is well again", async || service.pulse.troubles().is_empty()).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_headers_do_no_harm_and_survive_a_retry() {
    let vhost = vhost().await;
    let queue = process(config(&vhost.url()), &Pulse::default()).await;
    let client = Client::new(&vhost.url()).await;
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("a-bool", AMQPValue::Boolean(true)),
        ("a-number", AMQPValue::LongLongInt(-1)),
        ("a-double", AMQPValue::Double(0.5)),
        ("a-void", AMQPValue::Void),
        ("a-time", AMQPValue::Timestamp(1)),
        ("traceparent", AMQPValue::LongString("not a traceparent".into())),
        ("moothall-attempts", AMQPValue::LongString("many".into())),
        ("x-death", AMQPValue::LongString("not a table".into())),
        ("large", AMQPValue::LongString("x".repeat(64_000).into())),
    ] {
        headers.insert(name.into(), value);
    }
    let properties = BasicProperties::default().with_headers(headers).with_timestamp(u64::MAX);
    client.publish("moothall.in", "comment.created", &created("1", "x"), properties).await;
    let shared: Arc<dyn Queue> = Arc::new(queue.clone());
    for attempt in 1..=2 {
        let held = take(&shared, 1).await;
        assert_eq!(held[0].attempt, attempt);
        let again = Settlement::Retry { after_ms: 200, counts: true };
        queue.settle(&[(held[0].tag, again)]).await.unwrap();
    }
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_urgent_comment_overtakes_a_flood() {
    let vhost = vhost().await;
    let service = Service::start(config(&vhost.url())).await;
    service.judge.pause_ms.store(50, std::sync::atomic::Ordering::SeqCst);
    let flood: Vec<_> = (0..640).map(|n| comment(&n.to_string(), &format!("text {n}"))).collect();
    service.queue.publish(&flood).await.unwrap();
    let client = Client::new(&vhost.url()).await;
    client.comment("comment.urgent.mentoring", br#"{"id": "urgent", "text": "help"}"#).await;
    service.has("the urgent one is stored", |funnel| funnel.escalated == 1).await;
    let waiting = 640 - service.store.funnel(&mentoring()).await.unwrap().accepted;
    assert!(waiting > 0, "the flood was over before: the test shows nothing");
    service.has("the flood is stored", |funnel| funnel.accepted == 640).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_published_by_one_process_are_stored_by_another_with_their_failed_rows() {
    let vhost = vhost().await;
    let service = Service::start(config(&vhost.url())).await;
    let feeder = Arc::new(RabbitQueue::publish_only(Arc::new(config(&vhost.url())), Clock::system(), Pulse::default()));
    let deps = IntakeDeps {
        queue: feeder.clone(),
        failed: feeder.clone() as Arc<dyn FailedRows>,
        limits: IntakeLimits { text_bytes: 100, ..IntakeLimits::default() },
    };
    let rows = vec![
        Ok(comment("1", "a")),
        Err(failed(1)),
        Ok(comment("2", " ")),
        Ok(comment("3", &"x".repeat(200))),
        Ok(comment("1", "a")),
    ];
    let rows = moothall::pipeline::intake::read_ahead(rows.into_iter());
    let counts = moothall::pipeline::intake::run(rows, &deps, &Shutdown::new(), |_| {}).await.unwrap();
    assert_eq!((counts.read, counts.new, counts.known, counts.failed), (5, 1, 1, 3));
    service.has("everything is accounted for", |f| (f.accepted, f.failed) == (1, 3)).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_on_one_store_send_each_row_once() {
    let vhost = vhost().await;
    let bench = Bench::new();
    let config = Arc::new(config(&vhost.url()));
    process((*config).clone(), &Pulse::default()).await.close().await;
    let store = SqliteStore::new(bench.database().await, Clock::system());
    let all: Vec<_> =
        (0..500).map(|n| judged(comment(&n.to_string(), &format!("t{n}")), n + 1, Verdict::Accept)).collect();
    store.record(&all).await.unwrap();
    let last = CancellationToken::new();
    last.cancel();
    let relay = |owner: &str| RelayDeps {
        store: Arc::new(store.clone()),
        publisher: Arc::new(RabbitPublisher::new(Arc::clone(&config), "relay", Pulse::default())),
        pulse: Pulse::default(),
        stored: Arc::default(),
        kind: COMMENT_ASSESSED,
        owner: owner.to_owned(),
        settings: RelaySettings { batch: 7, ..RelaySettings::default() },
    };
    let (one, two, shutdown) = (relay("one"), relay("two"), Shutdown::new());
    tokio::join!(outbox::run(&one, &shutdown, &last), outbox::run(&two, &shutdown, &last));
    assert_eq!(store.backlog(None).await.unwrap().unsent, 0);
    let inspection = inspect(&config).await.unwrap();
    assert_eq!(inspection.queues.iter().find(|queue| queue.name == "moothall.results").unwrap().ready, 500);
}
