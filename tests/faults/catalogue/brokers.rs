//! A broker that dies, freezes, refuses, forgets, or is cut off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use moothall::broker::rabbitmq::RabbitQueue;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::ports::Queue;
use moothall::pipeline::pulse::Pulse;
use serde_json::json;

use crate::broker::proxy::{Direction, Proxy};
use crate::broker::{Node, until};
use crate::client::Client;
use crate::comments::some;
use crate::ports::noted;
use crate::site::{Expect, Longest, Setup, Site};
use crate::table::Outcome;

/// What a worker holds unacknowledged when the broker loses it, on both lanes together.
const COUNT: usize = 3_000;

fn node(setup: &Setup) -> anyhow::Result<Node> {
    setup.node.clone().context("this row has no broker")
}

/// Two workers, comments that keep coming, and something done to the broker in between.
async fn under_load(
    setup: Setup,
    times: usize,
    mut fault: impl AsyncFnMut(&Arc<Site>, &Node) -> anyhow::Result<Instant>,
) -> anyhow::Result<Outcome> {
    let (site, node) = (Site::open(&setup).await?, node(&setup)?);
    let mut outcome = site.under_load(COUNT, times, async || fault(&site, &node).await).await?;
    outcome.promise(outcome.parked == 0, "innocents are parked");
    if site.refusals() > 0 {
        outcome.note(format!("the sender tried again {} times", site.refusals()));
    }
    Ok(outcome)
}

pub async fn killed(setup: Setup) -> anyhow::Result<Outcome> {
    under_load(setup, 2, async |_, node| {
        node.kill().await;
        node.start_again().await;
        Ok(Instant::now())
    })
    .await
}

pub async fn restarted(setup: Setup) -> anyhow::Result<Outcome> {
    under_load(setup, 2, async |_, node| {
        node.ctl(&["stop_app"]).await;
        node.ctl(&["start_app"]).await;
        Ok(Instant::now())
    })
    .await
}

pub async fn connections_closed(setup: Setup) -> anyhow::Result<Outcome> {
    under_load(setup, 3, async |site, _| {
        site.vhost()?.close_connections().await;
        Ok(Instant::now())
    })
    .await
}

pub async fn frozen(setup: Setup) -> anyhow::Result<Outcome> {
    let mut outcome = under_load(setup, 1, async |site, node| {
        node.pause().await;
        // A peer is given up after two heartbeats, of some seconds each; a busy machine may be later.
        let noticed = async {
            while !(site.logs().contains("not subscribed") || site.logs().contains("not published")) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let noticed = tokio::time::timeout(Duration::from_mins(1), noticed).await.is_ok();
        node.resume().await;
        if !noticed {
            bail!("nobody noticed that the broker was frozen\n{}", site.logs());
        }
        Ok(Instant::now())
    })
    .await?;
    outcome.note("noticed by its heartbeats");
    Ok(outcome)
}

/// Workers behind a proxy whose connections are reset again and again.
pub async fn network_cut(setup: Setup) -> anyhow::Result<Outcome> {
    let (site, node) = (Site::open(&setup).await?, node(&setup)?);
    let proxy = Proxy::start(node.amqp_port()).await;
    let url = site.vhost()?.url_via(proxy.port());
    let worker = site.worker_with(|spec| spec.broker.as_mut().unwrap().url.clone_from(&url))?;
    site.publish(&some(0..COUNT / 2)).await?;
    let (mut cuts, mut recovery) = (0, Longest::default());
    while cuts < 6 && site.committed().await? < COUNT as u64 / 2 {
        site.grows().await?;
        site.pause(1, 30).await;
        proxy.cut().await;
        cuts += 1;
        recovery.add(site.recovery(Instant::now()).await?);
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = cuts;
    outcome.recovery = recovery.0;
    outcome.promise(outcome.parked == 0, "innocents are parked");
    worker.stop().await?;
    Ok(outcome)
}

/// One direction hangs while the connection stays open.
async fn stalled(setup: Setup, direction: Direction) -> anyhow::Result<Outcome> {
    let (site, node) = (Site::open(&setup).await?, node(&setup)?);
    let proxy = Proxy::start(node.amqp_port()).await;
    let url = site.vhost()?.url_via(proxy.port());
    let worker = site.worker_with(|spec| spec.broker.as_mut().unwrap().url.clone_from(&url))?;
    site.publish(&some(0..COUNT / 2)).await?;
    site.reaches(50).await?;
    proxy.stall(direction);
    tokio::time::sleep(Duration::from_secs(6)).await;
    proxy.flow();
    let recovery = site.recovery(Instant::now()).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = 1;
    outcome.recovery = Some(recovery);
    outcome.promise(outcome.parked == 0, "innocents are parked");
    worker.stop().await?;
    Ok(outcome)
}

pub async fn acknowledgements_stalled(setup: Setup) -> anyhow::Result<Outcome> {
    stalled(setup, Direction::ToBroker).await
}

pub async fn deliveries_stalled(setup: Setup) -> anyhow::Result<Outcome> {
    stalled(setup, Direction::FromBroker).await
}

/// The broker has the messages and the sender never hears of it.
pub async fn confirms_lost(setup: Setup) -> anyhow::Result<Outcome> {
    let (site, node) = (Site::open(&setup).await?, node(&setup)?);
    let proxy = Proxy::start(node.amqp_port()).await;
    let mut broker = site.spec.broker.clone().context("a broker")?;
    broker.url = site.vhost()?.url_via(proxy.port());
    broker.timeout_ms = 1_000;
    let config = Arc::new(broker.config(site.spec.budget));
    let sender = RabbitQueue::publish_only(config, Clock::system(), Pulse::default());
    sender.publish(&[site.probe()]).await?;
    site.confirmed("probe0");
    let worker = site.ready_worker().await?;
    let mut lost = 0;
    for part in 0..3 {
        let comments = some(part * 200..(part + 1) * 200);
        proxy.stall(Direction::FromBroker);
        if sender.publish(&comments).await.is_err() {
            lost += 1;
        }
        proxy.flow();
        // As a sender does who was told nothing: the same again.
        site.publish(&comments).await?;
        until("the sender is connected again", async || sender.publish(&comments[..1]).await.is_ok()).await;
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = lost;
    let known = noted(&site.folder).known;
    outcome.promise(known >= 600, format!("only {known} duplicates were absorbed"));
    outcome.note(format!("{known} duplicates absorbed"));
    worker.stop().await?;
    Ok(outcome)
}

/// A copy for another attempt is confirmed, its original is never acknowledged.
pub async fn killed_between_copy_and_ack(setup: Setup) -> anyhow::Result<Outcome> {
    let (site, node) = (Site::open(&setup).await?, node(&setup)?);
    let proxy = Proxy::start(node.amqp_port()).await;
    let url = site.vhost()?.url_via(proxy.port());
    let mut worker = site.worker_with(|spec| spec.broker.as_mut().unwrap().url.clone_from(&url))?;
    site.up(&mut worker).await?;
    until("both lanes are subscribed", async || worker.log().matches("subscribed").count() >= 2).await;
    // Acknowledgements go by the lane's connection, copies by another.
    proxy.stall_only(Direction::ToBroker, "work lane");
    let client = Client::new(&site.vhost()?.url()).await?;
    let bodies: Vec<Vec<u8>> = (0..20).map(|n| format!("{{\"id\": \"bad{n}\"}}").into_bytes()).collect();
    for body in &bodies {
        client.send(body).await?;
    }
    site.publish(&some(0..100)).await?;
    let vhost = site.vhost()?;
    until("the copies are on the parked queue", async || vhost.queue_totals("moothall.parked").await.0 == 20).await;
    worker.kill();
    // With its connection goes what it had said and nobody heard.
    proxy.cut().await;
    proxy.flow();
    let at = Instant::now();
    let worker = site.worker()?;
    let recovery = site.recovery(at).await?;
    let mut outcome = site.account(Expect { unreadable: 20, ..Expect::default() }).await?;
    outcome.injected = 1;
    outcome.recovery = Some(recovery);
    outcome
        .promise(outcome.parked == 40, format!("{} parked, 20 and their second copies were expected", outcome.parked));
    outcome.note("each bad message is parked twice, whole");
    worker.stop().await?;
    Ok(outcome)
}

/// Sets a policy that a queue is under from now on.
async fn policy(site: &Site, queue: &str, definition: serde_json::Value) -> anyhow::Result<()> {
    let vhost = site.vhost()?;
    let body =
        json!({"pattern": format!("^{}$", queue.replace('.', "\\.")), "apply-to": "queues", "definition": definition});
    vhost.node().put(&format!("policies/{}/fault", vhost.name), &body).await;
    Ok(())
}

async fn no_policy(site: &Site) -> anyhow::Result<()> {
    let vhost = site.vhost()?;
    vhost.node().delete(&format!("policies/{}/fault", vhost.name)).await;
    Ok(())
}

/// The work queue is full: the sender is refused and knows it.
pub async fn queue_full(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    policy(&site, "moothall.work", json!({"max-length": 100})).await?;
    let feeding = site.feed(some(0..1_000));
    site.until("the sender is refused", async || Ok(site.refusals() > 2)).await?;
    let (ready, _) = site.vhost()?.queue_totals("moothall.work").await;
    let worker = site.ready_worker().await?;
    let recovery = site.recovery(Instant::now()).await?;
    no_policy(&site).await?;
    feeding.await??;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = site.refusals();
    outcome.recovery = Some(recovery);
    outcome.promise(ready < 1_000, format!("{ready} went into a queue for 100"));
    outcome.note(format!("{ready} were taken before the refusal"));
    worker.stop().await?;
    Ok(outcome)
}

/// Results are refused: they wait in the outbox, and alerts pass.
pub async fn results_full(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    policy(&site, "moothall.results", json!({"max-length": 50})).await?;
    site.sink.reads(false);
    // A reader that leaves still holds what was on its way to it, and that does not count towards the length.
    let client = Client::new(&site.vhost()?.url()).await?;
    for queue in ["moothall.results", "moothall.alerts"] {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = || client.channel.queue_declare(queue.into(), passive, FieldTable::default());
        site.until("nobody reads", async || Ok(asked().await?.consumer_count() == 0)).await?;
    }
    let worker = site.ready_worker().await?;
    site.publish(&some(0..400)).await?;
    site.reaches(400).await?;
    let alerts = some(0..400).iter().filter(|comment| comment.text.starts_with("help")).count() as u64;
    let vhost = site.vhost()?.clone();
    until("all alerts have passed", async || vhost.queue_totals("moothall.alerts").await.0 == alerts).await;
    let waiting = site.store.backlog(None).await?.unsent;
    no_policy(&site).await?;
    site.sink.reads(true);
    let at = Instant::now();
    site.until("results go out", async || Ok(site.store.backlog(None).await?.unsent < waiting)).await?;
    let recovery = at.elapsed();
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = waiting;
    outcome.recovery = Some(recovery);
    outcome.note(format!("{waiting} results waited, {alerts} alerts did not"));
    worker.stop().await?;
    Ok(outcome)
}

/// A binding is missing: what leads nowhere is put aside and can be brought back.
pub async fn unroutable(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let vhost = site.vhost()?.clone();
    let client = Client::new(&vhost.url()).await?;
    let (queue, exchange, key) = ("moothall.work".into(), "moothall.in".into(), "comment.created.#".into());
    client.channel.queue_unbind(queue, exchange, key, FieldTable::default()).await?;
    site.publish(&some(0..300)).await?;
    until("they are put aside", async || vhost.queue_totals("moothall.unrouted").await.0 == 300).await;
    // Whoever connects binds what is missing; then a person moves them back.
    let worker = site.ready_worker().await?;
    let (at, before) = (Instant::now(), site.committed().await?);
    let mut moved = 0;
    while let Some(body) = client.take("moothall.unrouted").await? {
        client.send(&body).await?;
        moved += 1;
    }
    site.reaches(before + 1).await?;
    let recovery = at.elapsed();
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = moved;
    outcome.recovery = Some(recovery);
    outcome.promise(moved == 300, format!("{moved} of 300 were put aside"));
    worker.stop().await?;
    Ok(outcome)
}

/// An alarm blocks publishing: judging and acknowledging go on, results wait.
async fn alarm(setup: Setup, on: &[&str], off: &[&str]) -> anyhow::Result<Outcome> {
    let (site, node) = (Site::open(&setup).await?, node(&setup)?);
    let mut worker = site.worker_with(|spec| spec.wait_us = 4_000)?;
    site.up(&mut worker).await?;
    site.publish(&some(0..800)).await?;
    site.reaches(1).await?;
    worker.signal("-STOP")?;
    node.ctl(on).await;
    until("the alarm is on", async || node.alarmed().await).await;
    worker.signal("-CONT")?;
    // All that the queue holds is judged, stored and acknowledged while nothing can be published.
    site.reaches(800).await?;
    let vhost = site.vhost()?.clone();
    until("all is acknowledged", async || vhost.queue_totals("moothall.work").await == (0, 0)).await;
    let waiting = site.store.backlog(None).await?.unsent;
    let says = async || worker.log().contains("blocks publishing");
    until("the log says that the broker blocks publishing", says).await;
    node.ctl(off).await;
    let at = Instant::now();
    site.until("results go out", async || Ok(site.store.backlog(None).await?.unsent == 0)).await?;
    let recovery = at.elapsed();
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = u64::from(waiting > 0);
    outcome.recovery = Some(recovery);
    outcome.note(format!("{waiting} results waited"));
    if let Some(status) = worker.ended() {
        bail!("the worker ended with {status}");
    }
    worker.stop().await?;
    Ok(outcome)
}

pub async fn memory_alarm(setup: Setup) -> anyhow::Result<Outcome> {
    alarm(setup, &["set_vm_memory_high_watermark", "0.0001"], &["set_vm_memory_high_watermark", "absolute", "1GB"])
        .await
}

pub async fn disk_alarm(setup: Setup) -> anyhow::Result<Outcome> {
    alarm(setup, &["set_disk_free_limit", "900000GB"], &["set_disk_free_limit", "50MB"]).await
}

/// The broker loses patience with a worker that holds deliveries for too long.
pub async fn ack_timeout(setup: Setup) -> anyhow::Result<Outcome> {
    let (site, node) = (Site::open(&setup).await?, node(&setup)?);
    let patience = |ms: u32| {
        format!(
            "application:set_env(rabbit, consumer_timeout, {ms}), application:set_env(rabbit, channel_tick_interval, 1000)."
        )
    };
    node.ctl(&["eval", &patience(3_000)]).await;
    let mut worker = site.worker_with(|spec| {
        spec.broker.as_mut().unwrap().heartbeat_s = 60;
        spec.broker.as_mut().unwrap().timeout_ms = 10_000;
        spec.wait_us = 5_000;
    })?;
    site.up(&mut worker).await?;
    site.publish(&some(0..600)).await?;
    site.reaches(1).await?;
    worker.signal("-STOP")?;
    tokio::time::sleep(Duration::from_secs(7)).await;
    worker.signal("-CONT")?;
    let at = Instant::now();
    until("the channel is closed by the broker", async || worker.log().contains("not subscribed")).await;
    let recovery = site.recovery(at).await?;
    let mut outcome = site.account(Expect::default()).await?;
    node.ctl(&["eval", &patience(1_800_000)]).await;
    outcome.injected = 1;
    outcome.recovery = Some(recovery);
    outcome.promise(outcome.parked == 0, "innocents are parked");
    worker.stop().await?;
    Ok(outcome)
}

/// The work queue is deleted under its consumer.
pub async fn queue_deleted(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    let vhost = site.vhost()?.clone();
    site.publish(&some(0..200)).await?;
    let mut recovery = Longest::default();
    for time in 0..3 {
        // What is in a queue goes with it, so it must be empty, and its count is a moment old.
        site.reaches(200 + time).await?;
        site.until("the queue is empty", async || Ok(vhost.queue_totals("moothall.work").await == (0, 0))).await?;
        let before = worker.log().matches("subscribed").count();
        vhost.delete_queue("moothall.work").await;
        let at = Instant::now();
        until("the worker has made it again", async || worker.log().matches("subscribed").count() > before + 1).await;
        recovery.add(site.recovery(at).await?);
    }
    let said = worker.log().contains("was the queue deleted");
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = 3;
    outcome.recovery = recovery.0;
    outcome.promise(said, "the log does not ask whether the queue was deleted");
    worker.stop().await?;
    Ok(outcome)
}

/// A queue of the same name is of another kind: nobody starts, and says why.
pub async fn topology_differs(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let vhost = site.vhost()?.clone();
    vhost.delete_queue("moothall.work").await;
    let classic = json!({"durable": true, "arguments": {"x-queue-type": "classic"}});
    vhost.node().put(&format!("queues/{}/moothall.work", vhost.name), &classic).await;
    let started = Instant::now();
    let mut worker = site.worker()?;
    let status = worker.end(Duration::from_secs(15)).await?;
    let refused = started.elapsed();
    let log = worker.log();
    vhost.delete_queue("moothall.work").await;
    let worker = site.ready_worker().await?;
    site.publish(&some(0..200)).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = 1;
    outcome.recovery = None;
    outcome.promise(!status.success(), "a worker started on a queue of another kind");
    outcome
        .promise(log.contains("x-queue-type") || log.contains("moothall.work"), "the log does not name what differs");
    outcome.note(format!("refused after {:.1} s", refused.as_secs_f64()));
    worker.stop().await?;
    Ok(outcome)
}
