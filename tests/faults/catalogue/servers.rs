//! A PostgreSQL server that stops, dies, freezes, is full, or has no place left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::Connection;

use crate::broker::proxy::Proxy;
use crate::comments::some;
use crate::line::StoreSpec;
use crate::postgres::Database;
use crate::site::{Expect, Longest, Setup, Site};
use crate::table::Outcome;

const COUNT: usize = 2_000;

fn database(site: &Site) -> anyhow::Result<Database> {
    site.database.clone().context("this row has no server")
}

/// Two workers, comments that keep coming, and something done to the server in between.
async fn under_load(
    setup: Setup,
    times: usize,
    mut fault: impl AsyncFnMut(&Arc<Site>, &Database) -> anyhow::Result<Instant>,
) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let database = database(&site)?;
    let mut outcome = site.under_load(COUNT, times, async || fault(&site, &database).await).await?;
    outcome.promise(outcome.parked == 0, "a store's fault was counted against comments");
    Ok(outcome)
}

pub async fn killed(setup: Setup) -> anyhow::Result<Outcome> {
    under_load(setup, 3, async |_, database| {
        database.server().kill().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        database.server().start_again().await;
        Ok(Instant::now())
    })
    .await
}

pub async fn stopped(setup: Setup) -> anyhow::Result<Outcome> {
    under_load(setup, 2, async |_, database| {
        database.server().shutdown().await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        database.server().start_again().await;
        Ok(Instant::now())
    })
    .await
}

pub async fn frozen(setup: Setup) -> anyhow::Result<Outcome> {
    under_load(setup, 1, async |_, database| {
        database.server().pause().await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        database.server().resume().await;
        Ok(Instant::now())
    })
    .await
}

/// Writes fail as on a disk without space.
pub async fn full(setup: Setup) -> anyhow::Result<Outcome> {
    under_load(setup, 2, async |site, database| {
        database.writes_fail("53100").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = site.committed().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(site.committed().await? == before, "something is stored on a full disk");
        database.writes_work().await;
        Ok(Instant::now())
    })
    .await
}

/// The server has no place for another client, and the workers lose theirs.
pub async fn too_many_connections(setup: Setup) -> anyhow::Result<Outcome> {
    under_load(setup, 1, async |_, database| {
        let mut held = Vec::new();
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE application_name NOT LIKE 'held%' AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let url = format!("{}?application_name=held", database.url());
        // Those that the workers lose are taken at once.
        for _ in 0..3 {
            while let Ok(connection) = sqlx::postgres::PgConnection::connect(&url).await {
                held.push(connection);
                ensure!(held.len() < 400, "the server takes any number");
            }
            if let Some(first) = held.first_mut() {
                sqlx::query(terminate).execute(&mut *first).await?;
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(held.len() > 50, "only {} connections were taken", held.len());
        for connection in held {
            let _ = connection.close().await;
        }
        Ok(Instant::now())
    })
    .await
}

/// Workers behind a proxy whose connections are reset again and again.
pub async fn cut(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let database = database(&site)?;
    let proxy = Proxy::start(database.server().port()).await;
    let store = StoreSpec::Postgres(database.url_via(proxy.port()));
    let worker = site.worker_with(|spec| spec.store = store.clone())?;
    site.publish(&some(0..COUNT)).await?;
    let (mut cuts, mut recovery) = (0, Longest::default());
    while cuts < 6 && site.committed().await? < COUNT as u64 {
        site.grows().await?;
        site.pause(1, 30).await;
        proxy.cut().await;
        cuts += 1;
        recovery.add(site.recovery(Instant::now()).await?);
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = cuts;
    outcome.recovery = recovery.0;
    outcome.promise(outcome.parked == 0, "a store's fault was counted against comments");
    worker.stop().await?;
    Ok(outcome)
}
