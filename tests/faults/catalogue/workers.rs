//! Workers that are killed, stopped, replaced and multiplied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::comments::some;
use crate::ports::{At, Failpoint, noted};
use crate::process::Worker;
use crate::site::{Expect, Longest, Setup, Site};
use crate::table::Outcome;

/// Comments of a row about workers.
const COUNT: usize = 1_500;
const KILLS: u64 = 5;

pub async fn killed(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let mut worker = site.worker()?;
    let (mut kills, mut recovery) = (0, Longest::default());
    while kills < KILLS {
        more(&site, kills as usize).await?;
        site.pause(1, 40).await;
        worker.kill();
        kills += 1;
        let at = Instant::now();
        worker = site.worker()?;
        recovery.add(site.recovery(at).await?);
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = kills;
    outcome.recovery = recovery.0;
    let in_hand = site.spec.broker.as_ref().map_or(site.spec.batch as u64, |broker| 2 * u64::from(broker.prefetch));
    let most = kills * in_hand;
    outcome.promise(outcome.redelivered <= most, format!("{} came again, at most {most}", outcome.redelivered));
    worker.stop().await?;
    Ok(outcome)
}

/// Another share of the comments, of which the first are stored.
async fn more(site: &Site, share: usize) -> anyhow::Result<()> {
    const SHARE: usize = COUNT / KILLS as usize;
    let before = site.committed().await?;
    site.publish(&some(share * SHARE..(share + 1) * SHARE)).await?;
    site.reaches(before + 1).await
}

/// Workers that end themselves at a place, five in a row; then one that does not.
async fn dying(setup: Setup, at: At, nth: u32) -> anyhow::Result<(Arc<Site>, Outcome)> {
    let site = Site::open(&setup).await?;
    site.publish(&some(0..COUNT)).await?;
    let mut recovery = Longest::default();
    for _ in 0..KILLS {
        let mut worker = site.worker_with(|spec| spec.failpoint = Some(Failpoint { at, nth }))?;
        let status = worker.end(Duration::from_secs(30)).await?;
        if status.success() {
            bail!("the worker ended well, {status}");
        }
    }
    let ended = Instant::now();
    let worker: Worker = site.worker()?;
    recovery.add(site.recovery(ended).await?);
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = noted(&site.folder).died;
    outcome.recovery = recovery.0;
    worker.stop().await?;
    Ok((site, outcome))
}

pub async fn killed_in_transaction(setup: Setup) -> anyhow::Result<Outcome> {
    Ok(dying(setup, At::InRecord, 2).await?.1)
}

pub async fn killed_before_ack(setup: Setup) -> anyhow::Result<Outcome> {
    let (site, mut outcome) = dying(setup, At::BeforeSettle, 2).await?;
    let known = noted(&site.folder).known;
    outcome.promise(known > 0, "nothing that was stored came again");
    outcome.note(format!("{known} came again and were known"));
    Ok(outcome)
}

pub async fn killed_before_send(setup: Setup) -> anyhow::Result<Outcome> {
    Ok(dying(setup, At::AfterClaim, 1).await?.1)
}

pub async fn killed_before_mark(setup: Setup) -> anyhow::Result<Outcome> {
    let (_, mut outcome) = dying(setup, At::AfterSend, 1).await?;
    outcome.promise(outcome.repeated > 0, "nothing was sent again");
    Ok(outcome)
}

/// SIGTERM again and again under load, each time with a successor.
pub async fn rolling_restart(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let mut worker = site.ready_worker().await?;
    let (mut stops, mut recovery) = (0, Longest::default());
    while stops < KILLS {
        more(&site, stops as usize).await?;
        let next = site.ready_worker().await?;
        let at = Instant::now();
        std::mem::replace(&mut worker, next).stop().await?;
        stops += 1;
        recovery.add(site.recovery(at).await?);
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = stops;
    outcome.recovery = recovery.0;
    outcome.promise(outcome.parked == 0, "something was parked");
    let known = noted(&site.folder).known;
    outcome.promise(known == 0, format!("{known} that were stored came again"));
    worker.stop().await?;
    Ok(outcome)
}

/// One worker, then four, then one.
pub async fn scaled(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let slow = |spec: &mut crate::line::LineSpec| spec.wait_us = 2_000;
    let feeding = site.feed(some(0..COUNT * 2));
    let first = site.worker_with(slow)?;
    site.reaches(COUNT as u64 / 5).await?;
    let at = Instant::now();
    let before = site.committed().await?;
    let mut more = [site.worker_with(slow)?, site.worker_with(slow)?, site.worker_with(slow)?];
    for worker in &mut more {
        // A process that has not come so far yet does not hear that it should stop.
        site.up(worker).await?;
    }
    site.reaches(COUNT as u64).await?;
    let rate = (COUNT as u64 - before) as f64 / at.elapsed().as_secs_f64();
    for worker in more {
        worker.stop().await?;
    }
    feeding.await??;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = 2;
    outcome.promise(outcome.parked == 0, "something was parked");
    outcome.note(format!("{rate:.0}/s with four"));
    first.stop().await?;
    Ok(outcome)
}

/// Three workers meet an empty file at the same moment.
pub async fn started_together(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let path = setup.folder.join("store").join("moothall.db");
    // A file that is not there yet, beside the one that is counted.
    let other = setup.folder.join("new").join("moothall.db");
    let fresh = |spec: &mut crate::line::LineSpec| {
        spec.store = crate::line::StoreSpec::Sqlite(other.clone());
    };
    let mut together = [site.worker_with(fresh)?, site.worker_with(fresh)?, site.worker_with(fresh)?];
    for worker in &mut together {
        site.up(worker).await?;
    }
    for worker in together {
        worker.stop().await?;
    }
    let mut workers = [site.worker()?, site.worker()?, site.worker()?];
    site.publish(&some(0..600)).await?;
    for worker in &mut workers {
        site.up(worker).await?;
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = u64::from(path.exists() && other.exists());
    for worker in workers {
        worker.stop().await?;
    }
    Ok(outcome)
}
