//! Everything at once, in an order that the seed says.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::catalogue::hostile;
use crate::catalogue::stores::Lock;
use crate::client::Client;
use crate::comments::some;
use crate::site::{Expect, Longest, Setup, Site};
use crate::table::{Outcome, Shape};

const COUNT: usize = 3_000;
const FAULTS: usize = 12;

pub async fn mixed(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let mut workers = vec![site.ready_worker().await?, site.ready_worker().await?];
    let (mut recovery, mut unreadable, mut said) = (Longest::default(), 0, String::new());
    let share = COUNT / FAULTS;
    for part in 0..FAULTS {
        let feeding = site.feed(some(part * share..(part + 1) * share));
        site.pause(1, 80).await;
        let kinds = match setup.shape {
            Shape::Embedded => 3,
            Shape::Rabbit => 7,
            Shape::Servers => 8,
        };
        let kind = site.random().below(kinds);
        said.push_str(["k", "t", "l", "h", "c", "r", "b", "s"][kind]);
        let mut at = Instant::now();
        match kind {
            0 => {
                let which = site.random().below(2);
                workers[which].kill();
                workers[which] = site.worker()?;
            }
            1 => {
                let next = site.ready_worker().await?;
                workers.remove(0).stop().await?;
                workers.push(next);
            }
            2 => {
                let lock = Lock::take(&site).await?;
                site.pause(200, 1_500).await;
                lock.give_back().await?;
                at = Instant::now();
            }
            3 => {
                let client = Client::new(&site.vhost()?.url()).await?;
                let bodies = hostile();
                for _ in 0..5 {
                    let which = site.random().below(bodies.len());
                    client.send(&bodies[which].0).await?;
                    unreadable += 1;
                }
            }
            4 => site.vhost()?.close_connections().await,
            5 => {
                site.vhost()?.node().ctl(&["stop_app"]).await;
                site.vhost()?.node().ctl(&["start_app"]).await;
                at = Instant::now();
            }
            7 => {
                let database = site.database.as_ref().context("a server")?;
                database.server().kill().await;
                database.server().start_again().await;
                at = Instant::now();
            }
            _ => {
                site.vhost()?.node().kill().await;
                site.vhost()?.node().start_again().await;
                at = Instant::now();
            }
        }
        recovery.add(site.recovery(at).await?);
        feeding.await??;
    }
    let within = Duration::from_secs(90);
    let mut outcome = site.account(Expect { within, unreadable }).await?;
    outcome.injected = FAULTS as u64;
    outcome.recovery = recovery.0;
    // A copy whose original was not acknowledged in time is parked twice.
    outcome.promise(outcome.parked >= unreadable, format!("{} parked, {unreadable} expected", outcome.parked));
    outcome.note(format!("{said}: kill, term, lock, hostile, close, restart, broker, server"));
    for worker in workers {
        worker.stop().await?;
    }
    Ok(outcome)
}
