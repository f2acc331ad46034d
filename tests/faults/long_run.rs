//! The long run: a hundred thousand comments through kills, outages and hostile messages.
//!
//! Faults come at shares of the way, so each meets a queue with work in it. One worker is never
//! killed: its memory is what is watched.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_util::task::AbortOnDropHandle;

use crate::catalogue::stores::{Lock, SmallDisk};
use crate::client::Client;
use crate::comments::{comment, some};
use crate::process::Worker;
use crate::site::{Expect, Longest, Setup, Site};
use crate::table::{Outcome, Shape};

/// Comments that wait at most: the sender is told by the queue's length, as a site is by its visitors.
const AHEAD: u64 = 3_000;
/// One message in a hundred is bad.
const BAD_EVERY: usize = 100;
const WORKER_KILLS: usize = 20;
const BROKER_KILLS: usize = 10;
const OUTAGES: usize = 5;
const DISKS_FULL: usize = 2;

/// What is done to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    WorkerKilled,
    BrokerKilled,
    StoreOut,
    DiskFull,
}

/// Faults in the order in which they come, each at its share of `count`.
fn schedule(shape: Shape, count: usize) -> Vec<(u64, Fault)> {
    let mut all = Vec::new();
    let mut spread = |fault, times: usize, offset: f64| {
        for n in 0..times {
            all.push((((n as f64 + offset) / times as f64 * 0.94 * count as f64) as u64 + 200, fault));
        }
    };
    spread(Fault::WorkerKilled, WORKER_KILLS, 0.3);
    if shape.has_broker() {
        spread(Fault::BrokerKilled, BROKER_KILLS, 0.6);
    }
    spread(Fault::StoreOut, OUTAGES, 0.5);
    spread(Fault::DiskFull, DISKS_FULL, 0.45);
    all.sort_by_key(|(at, _)| *at);
    all
}

/// A bad message that can be told from all others.
fn bad(n: usize) -> Vec<u8> {
    match n % 8 {
        0 => format!("{{\"id\": \"bad-{n}-\", \"text\": ").into_bytes(),
        1 => format!("not json, bad-{n}-").into_bytes(),
        2 => [format!("{{\"id\":\"bad-{n}-\",\"text\":\"").as_bytes(), b"\xff\xfe\"}"].concat(),
        3 => format!(r#"{{"id":"bad-{n}-","text":"\ud800"}}"#).into_bytes(),
        4 => format!(r#"{{"id": "bad-{n}-"}}"#).into_bytes(),
        5 => format!(r#"{{"id": "bad-{n}-", "text": "x", "consultation": "elsewhere"}}"#).into_bytes(),
        6 => format!("{{\"id\": \"bad-{n}-\", \"text\": {}{}}}", "[".repeat(3_000), "]".repeat(3_000)).into_bytes(),
        _ => format!(r#"{{"specversion":"1.0","id":"bad-{n}-","source":"s","type":"comment.created.v9","data":{{}}}}"#)
            .into_bytes(),
    }
}

/// What the sender has told so far.
#[derive(Default)]
struct Sent {
    /// Good and bad ones that were confirmed.
    confirmed: AtomicU64,
    bad: Mutex<BTreeSet<usize>>,
    ended: AtomicBool,
}

async fn send_bad(site: &Site, client: &mut Option<Client>, n: usize) {
    let body = bad(n);
    loop {
        if client.is_none()
            && let Ok(vhost) = site.vhost()
        {
            *client = Client::new(&format!("{}?heartbeat=5", vhost.url())).await.ok();
        }
        if let Some(open) = client {
            let sending = tokio::time::timeout(Duration::from_secs(10), open.send(&body));
            if matches!(sending.await, Ok(Ok(()))) {
                return;
            }
        }
        *client = None;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Sends everything, never far ahead of the workers.
async fn feed(site: Arc<Site>, count: usize, sent: Arc<Sent>) -> anyhow::Result<()> {
    let mut client = None;
    let mut n = 0;
    while n < count {
        let end = (n + BAD_EVERY).min(count);
        site.publish(&some(n..end)).await?;
        sent.confirmed.fetch_add((end - n) as u64, Ordering::SeqCst);
        n = end;
        let which = n / BAD_EVERY;
        if site.shape.has_broker() && !which.is_multiple_of(5) {
            send_bad(&site, &mut client, which).await;
            sent.bad.lock().unwrap_or_else(PoisonError::into_inner).insert(which);
        } else {
            let kind = if which.is_multiple_of(2) { "poison" } else { "panic" };
            site.publish(&[comment(&format!("poison{which}"), &format!("{kind} {which}"))]).await?;
        }
        sent.confirmed.fetch_add(1, Ordering::SeqCst);
        // A store that cannot be asked for a moment holds nobody up for ever.
        while site.committed().await.is_ok_and(|done| done + AHEAD < sent.confirmed.load(Ordering::SeqCst)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    sent.ended.store(true, Ordering::SeqCst);
    Ok(())
}

/// Looks now and then whether every confirmed comment is in a place.
#[derive(Default)]
struct Samples {
    taken: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

async fn sample(site: Arc<Site>, sent: Arc<Sent>, samples: Arc<Samples>) {
    let mut parked = 0;
    loop {
        let confirmed = sent.confirmed.load(Ordering::SeqCst);
        // The broker counts a few times a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut last = None;
        // What moves between two queues may be in neither's count for a moment.
        for _ in 0..4 {
            match site.places().await {
                Ok(places) if places.too_early(parked) => {}
                Ok(places) if places.holds(confirmed) => {
                    parked = places.parked;
                    last = Some(None);
                    break;
                }
                Ok(places) => last = Some(Some(format!("{confirmed} confirmed, {places:?}"))),
                // A broker that is down cannot be counted.
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if let Some(found) = last {
            samples.taken.fetch_add(1, Ordering::SeqCst);
            if let Some(wrong) = found {
                samples.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
            }
        }
    }
}

/// Runs it on one shape.
pub async fn run(setup: Setup, count: usize) -> anyhow::Result<Outcome> {
    let disk = if setup.shape.has_server() { None } else { Some(SmallDisk::mount(setup.folder.join("disk"), 2_000)?) };
    let folder = disk.as_ref().map_or(setup.folder.as_path(), SmallDisk::path);
    // As patient as the service is: a broker that boots among others is slow and not gone.
    let site = Site::made(&setup, &folder.join("store").join("moothall.db"), |spec| {
        if let Some(broker) = &mut spec.broker {
            (broker.timeout_ms, broker.heartbeat_s, broker.stall_ms) = (10_000, 10, 10_000);
        }
    })
    .await?;
    let (sent, samples) = (Arc::new(Sent::default()), Arc::new(Samples::default()));
    let witness = site.worker_with(|spec| "witness".clone_into(&mut spec.name))?;
    let mut workers = vec![site.ready_worker().await?, site.ready_worker().await?];
    let started = Instant::now();
    let feeding = AbortOnDropHandle::new(tokio::spawn(feed(Arc::clone(&site), count, Arc::clone(&sent))));
    let _sampling =
        AbortOnDropHandle::new(tokio::spawn(sample(Arc::clone(&site), Arc::clone(&sent), Arc::clone(&samples))));
    let mut faults = schedule(setup.shape, count);
    faults.reverse();
    let mut done = [0_u64; 4];
    let (mut recovery, mut memory) = (Longest::default(), Vec::new());
    let mut marks = vec![count as u64 / 2, count as u64 / 20];
    let mut told = Instant::now();
    loop {
        let stored = site.committed().await.unwrap_or_default();
        if marks.pop_if(|mark| stored >= *mark).is_some() {
            memory.push(witness.resident_kb());
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("        {:4.0} s  {stored} stored, {done:?} faults", started.elapsed().as_secs_f64());
        }
        if let Some((_, fault)) = faults.pop_if(|(at, _)| stored >= *at) {
            let lifted = inject(fault, &site, disk.as_ref(), &mut workers).await?;
            recovery.add(site.recovery(lifted).await.with_context(|| format!("{fault:?}"))?);
            // The probe of the recovery is a comment like any other.
            sent.confirmed.fetch_add(1, Ordering::SeqCst);
            done[fault as usize] += 1;
        } else if sent.ended.load(Ordering::SeqCst) && faults.is_empty() {
            break;
        }
        ensure!(!feeding.is_finished() || sent.ended.load(Ordering::SeqCst), "the sender gave up");
        ensure!(started.elapsed() < Duration::from_mins(40), "not done within 40 minutes: {stored} stored");
        for worker in &mut workers {
            if worker.ended().is_some() {
                *worker = site.worker()?;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    feeding.await??;
    let bad: BTreeSet<usize> = sent.bad.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let within = Duration::from_mins(4);
    let mut outcome = site.account(Expect { within, unreadable: bad.len() as u64 }).await?;
    memory.push(witness.resident_kb());
    outcome.injected = done.iter().sum();
    outcome.recovery = recovery.0;
    let [kills, brokers, outages, disks] = done;
    outcome.note(format!(
        "{kills} worker kills, {brokers} broker kills, {outages} store outages, {disks} full disks, {} bad messages, \
         {:.0} s",
        count / BAD_EVERY,
        started.elapsed().as_secs_f64()
    ));
    outcome.note(format!("memory of a worker in kB at the start, middle and end: {memory:?}"));
    let flat = memory.first().zip(memory.last()).is_some_and(|(start, end)| *end < start + start / 4 + 16_000);
    outcome.promise(flat, "the worker's memory is not flat");
    let wrong = samples.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
    outcome.note(format!("{} samples, {} wrong", samples.taken.load(Ordering::SeqCst), wrong.len()));
    outcome.promise(wrong.is_empty(), format!("samples that do not add up: {wrong:?}"));
    let expected = [WORKER_KILLS, if setup.shape.has_broker() { BROKER_KILLS } else { 0 }, OUTAGES, DISKS_FULL];
    outcome.promise(done == expected.map(|times| times as u64), format!("faults {done:?}, wanted {expected:?}"));
    for parked in site.parked().await? {
        outcome.promise(!parked.reason.is_empty(), "a parked comment has no reason");
    }
    let found = found_bad(&site, &mut outcome).await?;
    outcome.promise(bad.is_subset(&found), format!("bad messages that are not parked: {:?}", bad.difference(&found)));
    for worker in workers.into_iter().chain([witness]) {
        worker.stop().await?;
    }
    Ok(outcome)
}

/// Takes the parked messages off and reads which of the bad ones they are.
async fn found_bad(site: &Site, outcome: &mut Outcome) -> anyhow::Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    let Ok(vhost) = site.vhost() else { return Ok(found) };
    let client = Client::new(&vhost.url()).await?;
    let mut twice = 0;
    while let Some(body) = client.take("moothall.parked").await? {
        let text = String::from_utf8_lossy(&body);
        let number = text.split("bad-").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
        if let Some(number) = number {
            twice += u64::from(!found.insert(number));
        }
    }
    if twice > 0 {
        outcome.note(format!("{twice} bad messages are parked twice"));
    }
    Ok(found)
}

/// Injects one fault and says when it was over.
async fn inject(
    fault: Fault,
    site: &Arc<Site>,
    disk: Option<&SmallDisk>,
    workers: &mut [Worker],
) -> anyhow::Result<Instant> {
    match fault {
        Fault::WorkerKilled => {
            let which = site.random().below(workers.len());
            workers[which].kill();
            let at = Instant::now();
            workers[which] = site.worker()?;
            Ok(at)
        }
        Fault::BrokerKilled => {
            let node = site.vhost()?.node().clone();
            node.kill().await;
            node.start_again().await;
            Ok(Instant::now())
        }
        Fault::StoreOut => outage(site).await,
        Fault::DiskFull => {
            if let Some(disk) = disk {
                let filler = disk.fill()?;
                tokio::time::sleep(Duration::from_secs(5)).await;
                std::fs::remove_file(filler)?;
            } else if let Some(database) = &site.database {
                database.writes_fail("53100").await;
                tokio::time::sleep(Duration::from_secs(5)).await;
                database.writes_work().await;
            }
            Ok(Instant::now())
        }
    }
}

/// The store is out of reach: its server is killed, or its file is locked for longer than anybody waits.
async fn outage(site: &Site) -> anyhow::Result<Instant> {
    if let Some(database) = &site.database {
        database.server().kill().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        database.server().start_again().await;
    } else {
        let lock = Lock::take(site).await?;
        tokio::time::sleep(Duration::from_secs(12)).await;
        lock.give_back().await?;
    }
    Ok(Instant::now())
}
