//! A store that is locked, full, torn, out of its mind about the time, or another's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::comments::some;
use crate::line::StoreSpec;
use crate::ports::noted;
use crate::site::{Expect, Longest, Setup, Site};
use crate::table::{Outcome, Shape};

const COUNT: usize = 1_500;

fn file(setup: &Setup) -> PathBuf {
    setup.folder.join("store").join("moothall.db")
}

/// The right to write, held against everybody until it is given back.
pub enum Lock {
    File(SqliteConnection),
    Server(PgConnection),
}

impl Lock {
    pub async fn take(site: &Site) -> anyhow::Result<Self> {
        match &site.spec.store {
            StoreSpec::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(20));
                let mut connection = SqliteConnection::connect_with(&options).await?;
                sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await?;
                Ok(Self::File(connection))
            }
            StoreSpec::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                sqlx::query("BEGIN").execute(&mut connection).await?;
                sqlx::query("LOCK TABLE comments IN EXCLUSIVE MODE").execute(&mut connection).await?;
                Ok(Self::Server(connection))
            }
        }
    }

    pub async fn give_back(self) -> anyhow::Result<()> {
        match self {
            Self::File(mut connection) => {
                sqlx::query("ROLLBACK").execute(&mut connection).await?;
                connection.close().await?;
            }
            Self::Server(mut connection) => {
                sqlx::query("ROLLBACK").execute(&mut connection).await?;
                connection.close().await?;
            }
        }
        Ok(())
    }
}

/// Another process holds the write lock for longer than anybody waits.
pub async fn locked(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    site.publish(&some(0..COUNT)).await?;
    site.reaches(50).await?;
    let lock = Lock::take(&site).await?;
    let before = site.committed().await?;
    // Whoever of them came to wait first.
    let words = [
        "the store takes nothing",
        "the queue gives nothing",
        "the queue settles nothing",
        "the outbox cannot be read",
    ];
    // A statement waits ten seconds; a busy machine is later to say so.
    let saying = async {
        while !words.iter().any(|words| worker.log().contains(words)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let said = tokio::time::timeout(Duration::from_mins(1), saying).await.is_ok();
    let during = site.committed().await?;
    lock.give_back().await?;
    let recovery = site.recovery(Instant::now()).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = u64::from(during == before && during < COUNT as u64);
    outcome.recovery = Some(recovery);
    outcome.promise(said, "the log does not say that the store takes nothing");
    outcome.promise(outcome.parked == 0, "a store's fault was counted against comments");
    worker.stop().await?;
    Ok(outcome)
}

/// A file system of its own, which a row may fill.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// # Errors
    /// Mounting needs root, and a container that may.
    pub fn mount(at: PathBuf, megabytes: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&at)?;
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).status()?;
        if !mounted.success() {
            bail!(
                "a disk that can be filled is a tmpfs, and it cannot be mounted: run as root, in a container with SYS_ADMIN"
            );
        }
        Ok(Self(at))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the space that is left.
    pub fn fill(&self) -> anyhow::Result<PathBuf> {
        use std::io::Write;
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path)?;
        for size in [1 << 20, 1 << 12] {
            let block = vec![1; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a worker that is just ending may still have the file open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The disk of the store is full, twice.
pub async fn disk_full(setup: Setup) -> anyhow::Result<Outcome> {
    let disk = SmallDisk::mount(setup.folder.join("disk"), 96)?;
    let site = Site::open_at(&setup, &disk.path().join("store").join("moothall.db")).await?;
    let worker = site.ready_worker().await?;
    let mut recovery = Longest::default();
    let mut full = 0;
    for part in 0..2 {
        let feeding = site.feed(some(part * COUNT..(part + 1) * COUNT));
        site.reaches((part * COUNT) as u64 + 100).await?;
        let filler = disk.fill()?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let stuck = site.committed().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let still = site.committed().await? == stuck && stuck < ((part + 1) * COUNT) as u64;
        full += u64::from(still && site.logs().contains("full"));
        std::fs::remove_file(filler)?;
        recovery.add(site.recovery(Instant::now()).await?);
        feeding.await??;
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = full;
    outcome.recovery = recovery.0;
    outcome.promise(outcome.parked == 0, "a full disk was counted against comments");
    worker.stop().await?;
    Ok(outcome)
}

/// The process is gone in the middle of a write, and what it had not finished is torn.
pub async fn torn(setup: Setup) -> anyhow::Result<Outcome> {
    let before = Site::open(&Setup { folder: made(&setup.folder.join("before"))?, ..setup.clone() }).await?;
    before.publish(&some(0..COUNT)).await?;
    let mut worker = before.ready_worker().await?;
    before.reaches(300).await?;
    before.pause(0, 30).await;
    worker.signal("-STOP")?;
    // What is on the disk at this moment, without the shared memory that only lives with processes.
    let store = made(&setup.folder.join("store"))?;
    for ending in ["", "-wal"] {
        let name = format!("moothall.db{ending}");
        std::fs::copy(before.folder.join("store").join(&name), store.join(&name)).with_context(|| name.clone())?;
    }
    let tear = 1 + before.random().below(4_000);
    let wal = store.join("moothall.db-wal");
    let mut bytes = std::fs::read(&wal)?;
    // Half a frame after the last one, as a write that was cut leaves it.
    bytes.extend((0..tear).map(|n| (n * 31 % 251) as u8));
    std::fs::write(&wal, bytes)?;
    for entry in std::fs::read_dir(&before.folder)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "tally" || ending == "sink") {
            std::fs::copy(&path, setup.folder.join(format!("before-{}", entry.file_name().to_string_lossy())))?;
        }
    }
    worker.kill();
    let site = Site::open(&setup).await?;
    site.inherit(&before);
    let at = Instant::now();
    let worker = site.worker_with(|spec| "after".clone_into(&mut spec.name))?;
    let recovery = site.recovery(at).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = 1;
    outcome.recovery = Some(recovery);
    outcome.note(format!("{tear} bytes of a torn frame"));
    worker.stop().await?;
    Ok(outcome)
}

fn made(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    Ok(folder.to_owned())
}

/// The clock jumps a day ahead, two days back, and is right again.
pub async fn clock_jumps(setup: Setup) -> anyhow::Result<Outcome> {
    const DAY_MS: i64 = 86_400_000;
    let site = Site::open(&setup).await?;
    let workers = [site.ready_worker().await?, site.ready_worker().await?];
    let mut recovery = Longest::default();
    let (mut jumps, jump) = (0, COUNT / 4);
    for (part, by_ms) in [DAY_MS, -DAY_MS, 0].into_iter().enumerate() {
        site.publish(&some(part * jump..(part + 1) * jump)).await?;
        site.grows().await?;
        std::fs::write(&site.spec.clock, by_ms.to_string())?;
        jumps += 1;
        recovery.add(site.recovery(Instant::now()).await?);
        site.reaches(((part + 1) * jump) as u64).await?;
    }
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = jumps;
    outcome.recovery = recovery.0;
    outcome.promise(outcome.parked == 0, "a wrong clock was counted against comments");
    outcome.note(format!("{} known to the store", noted(&site.folder).known));
    for worker in workers {
        worker.stop().await?;
    }
    Ok(outcome)
}

/// Every write is refused for a while, by a trigger that says why.
pub async fn refuses(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    site.publish(&some(0..COUNT)).await?;
    let worker = site.ready_worker().await?;
    site.reaches(50).await?;
    let until_stuck = async || {
        let before = site.committed().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        anyhow::Ok(site.committed().await? == before)
    };
    let stuck = if let Some(database) = &site.database {
        // A condition that no code of ours knows.
        database.writes_fail("55000").await;
        let stuck = until_stuck().await?;
        database.writes_work().await;
        stuck
    } else {
        let options = SqliteConnectOptions::new().filename(file(&setup)).busy_timeout(Duration::from_secs(20));
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::query(
            "CREATE TRIGGER refuses BEFORE INSERT ON revisions BEGIN SELECT RAISE(ABORT, 'refused by a fault'); END",
        )
        .execute(&mut connection)
        .await?;
        let stuck = until_stuck().await?;
        sqlx::query("DROP TRIGGER refuses").execute(&mut connection).await?;
        stuck
    };
    let recovery = site.recovery(Instant::now()).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = u64::from(stuck);
    outcome.recovery = Some(recovery);
    outcome.promise(outcome.parked == 0, format!("{} were parked for a fault of two seconds", outcome.parked));
    worker.stop().await?;
    Ok(outcome)
}

/// Another process adopts another rulebook, and then the first one again.
pub async fn other_rulebook(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    let worker = site.ready_worker().await?;
    site.publish(&some(0..COUNT)).await?;
    site.reaches(50).await?;
    let options = SqliteConnectOptions::new().filename(file(&setup)).busy_timeout(Duration::from_secs(20));
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let active = "INSERT INTO meta (key, value) VALUES ('pipeline_version/mentoring', 'another') \
                  ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    sqlx::query(active).execute(&mut connection).await?;
    // What was on its way when the rulebook changed is stored under the old one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = site.committed().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stuck = site.committed().await? == before && before < COUNT as u64;
    let said = worker.log().contains("active rulebook");
    sqlx::query("DELETE FROM meta WHERE key = 'pipeline_version/mentoring'").execute(&mut connection).await?;
    worker.stop().await?;
    let at = Instant::now();
    let worker = site.worker()?;
    let recovery = site.recovery(at).await?;
    let within = Duration::from_secs(90);
    let mut outcome = site.account(Expect { within, ..Expect::default() }).await?;
    outcome.injected = u64::from(stuck);
    outcome.recovery = Some(recovery);
    outcome.promise(said, "the log does not name the active rulebook");
    outcome.promise(outcome.parked == 0, "comments were parked for a rulebook");
    worker.stop().await?;
    Ok(outcome)
}

/// A row of the queue that cannot be read, in the middle of others.
pub async fn damaged_rows(setup: Setup) -> anyhow::Result<Outcome> {
    anyhow::ensure!(setup.shape == Shape::Embedded, "only a queue in the file has rows");
    let site = Site::open(&setup).await?;
    site.publish(&some(0..300)).await?;
    let options = SqliteConnectOptions::new().filename(file(&setup)).busy_timeout(Duration::from_secs(20));
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let damages = ["'{\"id\": '", "NULL", "'[]'", "x'ff00ff'", "'{\"id\": \"c5\", \"text\": 5}'"];
    for (n, damage) in damages.iter().enumerate() {
        let sql = format!("UPDATE queue SET payload = {damage} WHERE id = 'c{}'", n * 50 + 3);
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    let worker = site.worker()?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = damages.len() as u64;
    outcome.promise(
        outcome.parked == damages.len() as u64,
        format!("{} parked, {} expected", outcome.parked, damages.len()),
    );
    worker.stop().await?;
    Ok(outcome)
}
