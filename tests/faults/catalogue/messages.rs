//! Messages that are broken, hostile, repeated, reordered, or far too many.

use std::time::{Duration, Instant};

use anyhow::Context;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::client::Client;
use crate::comments::{comment, revision, some};
use crate::ports::noted;
use crate::site::{Expect, Setup, Site};
use crate::table::{Outcome, Shape};

/// Bodies that nobody can judge, and a word of the reason that each is parked with.
pub fn hostile() -> Vec<(Vec<u8>, &'static str)> {
    let event = |kind: &str| json!({"specversion": "1.0", "id": "e", "source": "s", "type": kind, "data": {"id": "1", "text": "x"}});
    let bytes = |value: Value| serde_json::to_vec(&value).unwrap();
    vec![
        (b"{\"id\": \"1\", \"text\": ".to_vec(), "ends early"),
        (b"not json at all".to_vec(), "not JSON"),
        (Vec::new(), "ends early"),
        (b"{\"id\":\"1\",\"text\":\"\xff\xfe\"}".to_vec(), "not JSON"),
        (br#"{"id":"1","text":"\ud800"}"#.to_vec(), "not JSON"),
        (b"[1, 2, 3]".to_vec(), "`(body)`"),
        (br#"{"id": "1"}"#.to_vec(), "`text`"),
        (br#"{"id": 1, "text": {"a": 1}}"#.to_vec(), "`text`"),
        (br#"{"id": "1", "text": "x", "revision": "two"}"#.to_vec(), "`revision`"),
        (format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)).into_bytes(), "nested too deeply"),
        (bytes(event("comment.created.v2")), "`type`"),
        (bytes(json!({"specversion": "9", "id": "1"})), "`specversion`"),
        (br#"{"id": "1", "text": "x", "consultation": "elsewhere"}"#.to_vec(), "no rulebook"),
        (bytes(json!({"id": "big", "text": "x".repeat(2_000_000)})), "bytes"),
    ]
}

pub async fn hostile_messages(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    let client = Client::new(&site.vhost()?.url()).await?;
    let hostile = hostile();
    for (n, (body, _)) in hostile.iter().enumerate() {
        client.send(body).await?;
        site.publish(&some(n * 10..(n + 1) * 10)).await?;
    }
    let unreadable = hostile.len() as u64;
    let mut outcome = site.account(Expect { unreadable, ..Expect::default() }).await?;
    let parked = site.parked().await?;
    outcome.injected = unreadable;
    outcome.promise(parked.len() as u64 == unreadable, format!("{} parked of {unreadable}", parked.len()));
    // Two loops share the lane: the order is theirs.
    for (_, reason) in &hostile {
        outcome.promise(parked.iter().any(|one| one.reason.contains(reason)), format!("no reason says {reason}"));
    }
    worker.stop().await?;
    Ok(outcome)
}

/// Comments that the judge panics at or refuses, in the middle of others.
pub async fn poison(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    let mut comments = some(0..300);
    for n in [5, 77, 140] {
        comments.insert(n, comment(&format!("panic{n}"), &format!("panic {n}")));
        comments.insert(n + 9, comment(&format!("poison{n}"), &format!("poison {n}")));
    }
    site.publish(&comments).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = 6;
    outcome.promise(outcome.parked == 6, format!("{} parked, 6 expected", outcome.parked));
    let reasons = site.parked().await?;
    outcome.promise(reasons.iter().all(|one| !one.reason.is_empty()), "a parked comment has no reason");
    worker.stop().await?;
    Ok(outcome)
}

/// A comment that ends every process that touches it. Its supervisor starts the next at once.
pub async fn poison_that_kills(setup: Setup) -> anyhow::Result<Outcome> {
    // On a broker the limit is the queue's own.
    let site = Site::open_with(&setup, |spec| {
        if spec.broker.is_none() {
            spec.budget = 8;
        }
    })
    .await?;
    let mut comments = some(0..200);
    comments.insert(100, comment("deadly", "abort this process"));
    site.publish(&comments).await?;
    let (mut deaths, started) = (0, Instant::now());
    let mut worker = site.worker()?;
    loop {
        let parked = site.parked().await.unwrap_or_default();
        if parked.iter().any(|one| one.key.as_ref().is_some_and(|key| key.id.as_str() == "deadly")) {
            break;
        }
        anyhow::ensure!(started.elapsed() < Duration::from_mins(3), "not parked after {deaths} deaths");
        if worker.ended().is_some() {
            deaths += 1;
            worker = site.worker()?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if worker.ended().is_some() {
        worker = site.worker()?;
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = deaths;
    outcome.recovery = None;
    outcome.note(format!("parked after {deaths} deaths"));
    outcome
        .promise(outcome.parked == 1, format!("{} neighbours were parked with it", outcome.parked.saturating_sub(1)));
    worker.stop().await?;
    Ok(outcome)
}

pub async fn duplicate_storm(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let workers = [site.ready_worker().await?, site.ready_worker().await?];
    let mut storm: Vec<_> = (0..5).flat_map(|_| some(0..300)).collect();
    site.random().shuffle(&mut storm);
    site.publish(&storm).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = (storm.len() - 300) as u64;
    outcome.promise(outcome.committed == 300, format!("{} stored, 300 expected", outcome.committed));
    let known = noted(&site.folder).known;
    outcome.note(format!("{known} known to the store"));
    for worker in workers {
        worker.stop().await?;
    }
    Ok(outcome)
}

/// Ten revisions of each comment in any order: the highest stands.
pub async fn edits_reordered(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let workers = [site.ready_worker().await?, site.ready_worker().await?];
    let mut edits: Vec<_> = (0..60)
        .flat_map(|n| (1..=10).map(move |r| revision(&format!("c{n}"), r, &format!("fine {n} as revised {r}"))))
        .collect();
    site.random().shuffle(&mut edits);
    site.publish(&edits).await?;
    let mut outcome = site.account(Expect::default()).await?;
    let page = site.store.page(&crate::comments::mentoring(), 0, 1_000).await?;
    outcome.injected = 1;
    outcome.promise(page.len() == 60, format!("{} comments, 60 expected", page.len()));
    let behind = page.iter().filter(|stored| stored.comment.revision != Some(10)).count();
    outcome.promise(behind == 0, format!("{behind} comments stand at an older revision"));
    for worker in workers {
        worker.stop().await?;
    }
    Ok(outcome)
}

/// The deletion overtakes what it deletes.
pub async fn deleted_before_created(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    let client = Client::new(&site.vhost()?.url()).await?;
    let event = |kind: &str, time: &str, data: Value| {
        json!({"specversion": "1.0", "id": "e", "source": "faults", "type": kind, "time": time, "data": data})
            .to_string()
    };
    let mut events = Vec::new();
    for n in 0..100 {
        let id = format!("c{n}");
        events.push(event("comment.deleted.v1", "2026-11-01T10:00:00Z", json!({"id": id, "revision": 2})));
        events.push(event(
            "comment.created.v1",
            "2026-11-01T09:00:00Z",
            json!({"id": id, "revision": 1, "text": format!("fine {n}")}),
        ));
    }
    site.random().shuffle(&mut events);
    for body in &events {
        client.send(body.as_bytes()).await?;
    }
    for n in 0..100 {
        site.confirmed(&format!("c{n}"));
    }
    let mut outcome = site.account(Expect::default()).await?;
    let funnel = site.store.funnel(&crate::comments::mentoring()).await?;
    outcome.injected = 100;
    outcome.promise(funnel.withdrawn == 100, format!("{} withdrawn, 100 expected", funnel.withdrawn));
    worker.stop().await?;
    Ok(outcome)
}

/// Every type of header that AMQP has, 64 kB of them, and traces that are none.
pub async fn odd_headers(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    let client = Client::new(&site.vhost()?.url()).await?;
    let mut table = FieldTable::default();
    table.insert("inner".into(), AMQPValue::LongString("x".into()));
    let text = |text: &str| AMQPValue::LongString(text.into());
    let odd: Vec<(&str, AMQPValue)> = vec![
        ("moothall-attempts", AMQPValue::Boolean(true)),
        ("moothall-attempts", AMQPValue::LongLongInt(-7)),
        ("moothall-attempts", text("many")),
        ("moothall-attempts", AMQPValue::LongLongInt(i64::MAX)),
        ("moothall-first-seen-us", AMQPValue::LongLongInt(i64::MIN)),
        ("moothall-first-seen-us", AMQPValue::LongLongInt(i64::MAX)),
        ("moothall-first-seen-us", AMQPValue::FieldTable(table.clone())),
        ("moothall-reason", AMQPValue::ByteArray(vec![0xff, 0x00].into())),
        ("moothall-routing-key", text("probe")),
        ("x-death", text("once")),
        ("x-delivery-count", AMQPValue::LongLongInt(i64::MAX)),
        ("traceparent", text("00-zz-xx-01")),
        ("traceparent", text("")),
        ("traceparent", AMQPValue::LongLongInt(5)),
        ("big", text(&"h".repeat(64_000))),
        ("a", AMQPValue::ShortShortInt(-1)),
        ("b", AMQPValue::ShortShortUInt(255)),
        ("c", AMQPValue::ShortInt(-1)),
        ("d", AMQPValue::ShortUInt(1)),
        ("e", AMQPValue::LongInt(-1)),
        ("f", AMQPValue::LongUInt(1)),
        ("g", AMQPValue::Float(1.5)),
        ("h", AMQPValue::Double(f64::MAX)),
        ("i", AMQPValue::Timestamp(u64::MAX >> 1)),
        ("j", AMQPValue::Void),
        ("k", AMQPValue::FieldTable(table)),
    ];
    let count = odd.len() as u64;
    for (n, (name, value)) in odd.into_iter().enumerate() {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), value);
        let properties = BasicProperties::default().with_headers(headers);
        let body = json!({"id": format!("odd{n}"), "text": format!("fine {n}")}).to_string();
        let key = "comment.created.mentoring";
        client.publish("moothall.in", key, body.as_bytes(), properties).await.with_context(|| format!("{n} {name}"))?;
        site.confirmed(&format!("odd{n}"));
    }
    site.publish(&some(0..100)).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = count;
    worker.stop().await?;
    Ok(outcome)
}

/// Parked messages are replayed twice, the second time with their cause mended.
pub async fn parked_replayed(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    // A worker without patience: what it cannot judge is parked at once.
    let comments: Vec<_> = (0..40).map(|n| comment(&format!("p{n}"), &format!("poison {n}"))).collect();
    site.publish(&comments).await?;
    site.publish(&some(0..100)).await?;
    let parked = async |count: usize| {
        site.until(&format!("{count} are parked"), async || Ok(site.parked().await?.len() == count)).await
    };
    parked(40).await?;
    replay(&site, 40).await?;
    // The same judge: they fail again, and come back with all they had.
    parked(40).await?;
    worker.stop().await?;
    let mended = site.worker_with(|spec| spec.mended = true)?;
    replay(&site, 40).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = 2;
    outcome.promise(outcome.parked == 0, format!("{} are still parked", outcome.parked));
    mended.stop().await?;
    Ok(outcome)
}

/// Replays so many. What a look at the parked queue held comes back to it a moment later.
async fn replay(site: &Site, count: u64) -> anyhow::Result<()> {
    let mut replayed = 0;
    site.until("all are replayed", async || {
        replayed += site.intake.replay(None).await?;
        Ok(replayed >= count)
    })
    .await
}

/// Ten times what a worker can do, and urgent comments in the middle of it.
pub async fn flood(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    site.publish(&some(0..500)).await?;
    site.reaches(500).await?;
    let before = worker.resident_kb();
    let feeding = site.feed(some(500..6_500));
    let mut slowest = Duration::ZERO;
    if setup.shape == Shape::Rabbit {
        let client = Client::new(&site.vhost()?.url()).await?;
        site.reaches(700).await?;
        for n in 0..20 {
            let id = format!("urgent{n}");
            let body = json!({"id": id, "text": format!("fine and urgent {n}")}).to_string();
            let at = Instant::now();
            client.publish("moothall.in", "comment.urgent", body.as_bytes(), BasicProperties::default()).await?;
            site.confirmed(&id);
            site.until("the urgent one is stored", async || site.has(&id).await).await?;
            slowest = slowest.max(at.elapsed());
        }
    }
    feeding.await??;
    site.reaches(4_000).await?;
    let during = worker.resident_kb();
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = 6_000;
    let grown = during.saturating_sub(before);
    outcome.promise(grown < 60_000, format!("the worker's memory grew by {grown} kB"));
    outcome.note(format!("memory {before} kB, {during} kB"));
    if setup.shape == Shape::Rabbit {
        outcome.promise(slowest < Duration::from_secs(3), format!("an urgent comment took {slowest:?}"));
        outcome.note(format!("slowest urgent {slowest:.1?}"));
    }
    worker.stop().await?;
    Ok(outcome)
}
