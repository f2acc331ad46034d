//! One row's own queue, store, sink and workers, and the count of what is in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use moothall::broker::embedded::EmbeddedLimits;
use moothall::broker::rabbitmq::RabbitQueue;
use moothall::domain::comment::Comment;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::ports::{ParkedArrival, Queue, Store};
use moothall::pipeline::pulse::Pulse;
use moothall_numerics::seeded::Seeded;
use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use tokio_util::task::AbortOnDropHandle;

use crate::broker::{Node, Vhost};
use crate::comments::{comment, some};
use crate::line::{BrokerSpec, LineSpec, StoreSpec, open};
use crate::ports::noted;
use crate::postgres::{Database, Server};
use crate::process::Worker;
use crate::sink::Sink;
use crate::table::{Outcome, Shape};

/// How long a sender goes on trying.
const PATIENCE: Duration = Duration::from_mins(2);
/// Comments of one publish.
const CHUNK: usize = 200;

/// What a row is given.
#[derive(Clone, Debug)]
pub struct Setup {
    pub shape: Shape,
    pub seed: u64,
    pub folder: PathBuf,
    /// A broker for the shapes with one; a rough row has it for itself.
    pub node: Option<Node>,
    /// A PostgreSQL for the shape with one, in the same way.
    pub server: Option<Server>,
}

#[derive(Default)]
struct Books {
    /// Ids of comments that were confirmed.
    ids: BTreeSet<String>,
    /// Messages that were confirmed.
    messages: u64,
    /// Times that the queue refused.
    refused: u64,
}

/// Everything of one row.
pub struct Site {
    pub shape: Shape,
    pub folder: PathBuf,
    pub vhost: Option<Vhost>,
    /// What a worker is, before a row changes it.
    pub spec: LineSpec,
    pub intake: Arc<dyn Queue>,
    pub store: Arc<dyn Store>,
    pub sink: Sink,
    /// The database, where the store is a server.
    pub database: Option<Database>,
    counts: Counts,
    books: Mutex<Books>,
    random: Mutex<Seeded>,
    workers: AtomicUsize,
    probes: AtomicUsize,
}

/// What a row expects beside its comments.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// Until everything is in its place.
    pub within: Duration,
    /// Messages that can only be parked.
    pub unreadable: u64,
}

impl Default for Expect {
    fn default() -> Self {
        Self { within: Duration::from_mins(1), unreadable: 0 }
    }
}

/// A connection of the count's own.
enum Counts {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Counts {
    /// One row, from either.
    async fn row<T>(&self, sql: &'static str) -> anyhow::Result<T>
    where
        T: for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(match self {
            Self::Sqlite(pool) => sqlx::query_as(sql).fetch_one(pool).await?,
            Self::Postgres(pool) => sqlx::query_as(sql).fetch_one(pool).await?,
        })
    }
}

/// Counts in the store, asked without the product's code.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    comments: u64,
    withdrawn: u64,
    failures: u64,
    outbox: u64,
    sent: u64,
    revisions: u64,
    assessments: u64,
}

impl Stored {
    fn committed(&self) -> u64 {
        self.comments + self.withdrawn + self.failures
    }
}

impl Site {
    pub async fn open(setup: &Setup) -> anyhow::Result<Arc<Self>> {
        Self::open_with(setup, |_| {}).await
    }

    /// With other workers.
    pub async fn open_with(setup: &Setup, change: impl FnOnce(&mut LineSpec)) -> anyhow::Result<Arc<Self>> {
        Self::made(setup, &setup.folder.join("store").join("moothall.db"), change).await
    }

    /// With the store's file in a place of its own.
    pub async fn open_at(setup: &Setup, path: &Path) -> anyhow::Result<Arc<Self>> {
        Self::made(setup, path, |_| {}).await
    }

    /// Both.
    pub async fn made(setup: &Setup, path: &Path, change: impl FnOnce(&mut LineSpec)) -> anyhow::Result<Arc<Self>> {
        let folder = setup.folder.clone();
        let vhost = match &setup.node {
            Some(node) if setup.shape.has_broker() => Some(node.vhost().await),
            _ => None,
        };
        let database = match &setup.server {
            Some(server) if setup.shape.has_server() => Some(server.database().await),
            _ => None,
        };
        let mut spec = LineSpec {
            name: "intake".to_owned(),
            folder: folder.clone(),
            store: match &database {
                Some(database) => StoreSpec::Postgres(database.url()),
                None => StoreSpec::Sqlite(path.to_owned()),
            },
            broker: vhost.as_ref().map(|vhost| BrokerSpec::quick(vhost.url())),
            batch: 64,
            spin_us: 0,
            wait_us: 300,
            lease_ms: 4_000,
            relay_lease_ms: 6_000,
            budget: 20,
            failpoint: None,
            mended: false,
            clock: folder.join("clock"),
        };
        change(&mut spec);
        let clock = Clock::system();
        let limits =
            EmbeddedLimits { lease_ms: spec.lease_ms, delivery_budget: spec.budget, ..EmbeddedLimits::default() };
        let embedded = vhost.is_none().then_some(("intake", limits));
        let (store, queue) = open(&spec.store, &clock, embedded).await?;
        let (intake, sink): (Arc<dyn Queue>, Sink) = match (&spec.broker, queue) {
            (None, Some(queue)) => (Arc::new(queue), Sink::files(&folder)),
            (Some(broker), _) => {
                let config = Arc::new(broker.config(spec.budget));
                let queue = RabbitQueue::publish_only(config, clock, Pulse::default());
                // Makes the topology; a broker under load may need a second try.
                let started = Instant::now();
                while let Err(error) = queue.depth(None).await {
                    if started.elapsed() > Duration::from_secs(30) {
                        return Err(error.into());
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                (Arc::new(queue), Sink::queues(broker.url.clone()))
            }
            (None, None) => bail!("no queue"),
        };
        let counts = if let Some(database) = &database {
            let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(5));
            Counts::Postgres(pool.connect_lazy(&format!("{}?application_name=held-by-the-count", database.url()))?)
        } else {
            let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(20));
            Counts::Sqlite(SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options))
        };
        Ok(Arc::new(Self {
            shape: setup.shape,
            folder,
            vhost,
            spec,
            intake,
            store,
            sink,
            database,
            counts,
            books: Mutex::default(),
            random: Mutex::new(Seeded(setup.seed)),
            workers: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
        }))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row's randomness, from its seed.
    pub fn random(&self) -> MutexGuard<'_, Seeded> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pause of random length.
    pub async fn pause(&self, from_ms: u64, to_ms: u64) {
        let ms = from_ms + self.random().below((to_ms - from_ms) as usize) as u64;
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// The broker of this row.
    pub fn vhost(&self) -> anyhow::Result<&Vhost> {
        self.vhost.as_ref().context("this row has no broker")
    }

    /// A worker as `change` wants it.
    pub fn worker_with(&self, change: impl FnOnce(&mut LineSpec)) -> anyhow::Result<Worker> {
        let mut spec = self.spec.clone();
        spec.name = format!("w{}", self.workers.fetch_add(1, Ordering::SeqCst));
        change(&mut spec);
        Worker::start(&spec)
    }

    pub fn worker(&self) -> anyhow::Result<Worker> {
        self.worker_with(|_| {})
    }

    /// A worker that has started.
    pub async fn ready_worker(&self) -> anyhow::Result<Worker> {
        let mut worker = self.worker()?;
        self.up(&mut worker).await?;
        Ok(worker)
    }

    /// Waits until a worker's line stands.
    pub async fn up(&self, worker: &mut Worker) -> anyhow::Result<()> {
        let started = Instant::now();
        while !worker.is_up() {
            if let Some(status) = worker.ended() {
                bail!("{} ended with {status}\n{}", worker.name, worker.tail());
            }
            if started.elapsed() > Duration::from_secs(30) {
                bail!("{} does not start\n{}", worker.name, worker.tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Publishes until each is confirmed.
    pub async fn publish(&self, comments: &[Comment]) -> anyhow::Result<()> {
        for chunk in comments.chunks(CHUNK) {
            let started = Instant::now();
            loop {
                match self.intake.publish(chunk).await {
                    Ok(published) => {
                        let mut books = self.books();
                        books.ids.extend(chunk.iter().map(|comment| comment.key.id.as_str().to_owned()));
                        books.messages += published.new;
                        break;
                    }
                    Err(error) if started.elapsed() > PATIENCE => {
                        bail!("the queue takes nothing for {PATIENCE:?}: {error}")
                    }
                    Err(_) => self.books().refused += 1,
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Publishes in the background.
    pub fn feed(self: &Arc<Self>, comments: Vec<Comment>) -> AbortOnDropHandle<anyhow::Result<()>> {
        let site = Arc::clone(self);
        AbortOnDropHandle::new(tokio::spawn(async move { site.publish(&comments).await }))
    }

    /// Counts a comment that was confirmed on another way.
    pub fn confirmed(&self, id: &str) {
        let mut books = self.books();
        books.ids.insert(id.to_owned());
        books.messages += 1;
    }

    /// Takes over what another site has promised.
    pub fn inherit(&self, other: &Self) {
        let (ids, messages) = {
            let books = other.books();
            (books.ids.clone(), books.messages)
        };
        let mut books = self.books();
        books.ids.extend(ids);
        books.messages += messages;
        self.probes.store(other.probes.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    pub fn refusals(&self) -> u64 {
        self.books().refused
    }

    async fn stored(&self) -> anyhow::Result<Stored> {
        let row: (i64, i64, i64, i64, i64, i64, i64) = self.counts.row(
            "SELECT (SELECT count(*) FROM comments WHERE withdrawn_at_ms IS NULL AND current_revision IS NOT NULL), \
             (SELECT count(*) FROM comments WHERE withdrawn_at_ms IS NOT NULL), \
             (SELECT count(*) FROM failures), (SELECT count(*) FROM outbox), \
             (SELECT count(*) FROM outbox WHERE sent_at_ms IS NOT NULL), \
             (SELECT count(*) FROM revisions), (SELECT count(*) FROM assessments)",
        )
        .await?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Stored {
            comments: count(row.0),
            withdrawn: count(row.1),
            failures: count(row.2),
            outbox: count(row.3),
            sent: count(row.4),
            revisions: count(row.5),
            assessments: count(row.6),
        })
    }

    /// Arrivals whose effect is stored.
    pub async fn committed(&self) -> anyhow::Result<u64> {
        Ok(self.stored().await?.committed())
    }

    /// Whether this urgent comment is stored.
    pub async fn has(&self, id: &str) -> anyhow::Result<bool> {
        let ids = self.ids("SELECT id FROM comments WHERE id LIKE 'urgent%' AND current_revision IS NOT NULL").await?;
        Ok(ids.contains(id))
    }

    /// Waits until the store holds at least so many.
    pub async fn reaches(&self, count: u64) -> anyhow::Result<()> {
        self.until(&format!("{count} are stored"), async || Ok(self.committed().await? >= count)).await
    }

    /// Waits until something more is stored.
    pub async fn grows(&self) -> anyhow::Result<()> {
        let before = self.committed().await?;
        self.reaches(before + 1).await
    }

    /// Checks until it holds, for a minute.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let answer = holds().await;
            match answer {
                Ok(true) => return Ok(()),
                Ok(false) | Err(_) if started.elapsed() < Duration::from_mins(1) => {}
                Ok(false) => bail!("waited in vain until {what}\n{}", self.logs()),
                Err(error) => return Err(error.context(format!("waiting until {what}"))),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Two workers, `count` comments that keep coming, and something done in between, `times` times.
    pub async fn under_load(
        self: &Arc<Self>,
        count: usize,
        times: usize,
        mut fault: impl AsyncFnMut() -> anyhow::Result<Instant>,
    ) -> anyhow::Result<Outcome> {
        let workers = [self.ready_worker().await?, self.ready_worker().await?];
        let share = count / (times + 1);
        self.publish(&some(0..share)).await?;
        let mut recovery = Longest::default();
        for time in 1..=times {
            self.reaches(50).await?;
            // The sender is in the middle of it.
            let feeding = self.feed(some(time * share..(time + 1) * share));
            self.pause(5, 60).await;
            let at = fault().await?;
            recovery.add(self.recovery(at).await?);
            feeding.await??;
        }
        let mut outcome = self.account(Expect::default()).await?;
        outcome.injected = times as u64;
        outcome.recovery = recovery.0;
        for worker in workers {
            worker.stop().await?;
        }
        Ok(outcome)
    }

    /// How long it takes from `since` until something more is stored. Publishes one more
    /// comment, in case nothing waits.
    pub async fn recovery(&self, since: Instant) -> anyhow::Result<Duration> {
        let before = self.committed().await?;
        let probe = self.probe();
        self.publish(std::slice::from_ref(&probe)).await?;
        self.reaches(before + 1).await.context("after the fault")?;
        Ok(since.elapsed())
    }

    /// One more comment.
    pub fn probe(&self) -> Comment {
        let n = self.probes.fetch_add(1, Ordering::SeqCst);
        comment(&format!("probe{n}"), &format!("fine, probe {n}"))
    }

    /// Messages of the broker's lanes and retry tiers: (ready, out for an acknowledgement).
    async fn on_the_broker(&self) -> anyhow::Result<(u64, u64)> {
        let vhost = self.vhost()?;
        let mut sum = (0, 0);
        for (name, ready, unacknowledged) in vhost.try_all_queue_totals().await.context("the broker does not count")? {
            if name.starts_with("moothall.work") || name.starts_with("moothall.urgent") {
                sum = (sum.0 + ready, sum.1 + unacknowledged);
            }
        }
        Ok(sum)
    }

    /// Where everything is, at one moment in the file and, on a broker, about one moment.
    pub async fn places(&self) -> anyhow::Result<Places> {
        if let Some(vhost) = &self.vhost {
            // The broker first: what goes on to the store meanwhile is counted twice, and nothing is missed.
            let (mut queued, mut parked) = (0, 0);
            for (name, ready, out) in vhost.try_all_queue_totals().await.context("the broker does not count")? {
                if name.starts_with("moothall.parked") {
                    parked += ready + out;
                } else if name.starts_with("moothall.work") || name.starts_with("moothall.urgent") {
                    queued += ready + out;
                }
            }
            let stored = self.stored().await?.committed();
            return Ok(Places { received: None, queued, parked, stored });
        }
        let row: (i64, i64, i64, i64) = self.counts.row(
            "SELECT (SELECT count(*) FROM queue), \
             (SELECT count(*) FROM queue q WHERE q.state IN ('waiting', 'leased') AND NOT EXISTS (\
                 SELECT 1 FROM comments c WHERE c.consultation = q.consultation AND c.source = q.source AND c.id = q.id \
                 AND c.current_revision IS NOT NULL)), \
             (SELECT count(*) FROM queue WHERE state = 'parked'), \
             (SELECT count(*) FROM comments WHERE current_revision IS NOT NULL)",
        )
        .await?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Places { received: Some(count(row.0)), queued: count(row.1), parked: count(row.2), stored: count(row.3) })
    }

    async fn in_the_queue(&self) -> anyhow::Result<u64> {
        if self.vhost.is_some() {
            let (ready, out) = self.on_the_broker().await?;
            return Ok(ready + out);
        }
        let depth = self.intake.depth(None).await?;
        Ok(depth.waiting + depth.in_flight)
    }

    /// What was given up on.
    pub async fn parked(&self) -> anyhow::Result<Vec<ParkedArrival>> {
        Ok(self.intake.parked(None, 100_000).await?)
    }

    /// The ends of all workers' logs.
    pub fn logs(&self) -> String {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "log"));
        let tail = |entry: std::fs::DirEntry| {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(4)..].join("\n  ");
            format!("{}: {tail}\n", entry.file_name().to_string_lossy())
        };
        logs.map(tail).collect()
    }

    /// Waits until everything is in its place, and counts.
    pub async fn account(&self, expect: Expect) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let unrest = loop {
            match self.at_rest(expect).await {
                Ok(None) => break None,
                _ if started.elapsed() < expect.within => {}
                Ok(why) => break why,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let mut outcome = self.count(expect).await?;
        if let Some(why) = unrest {
            // What still waits is late and not lost; the row fails all the same.
            outcome.lost = outcome.lost.saturating_sub(self.in_the_queue().await.unwrap_or_default());
            outcome.promise(false, format!("no rest within {:?}: {why}\n{}", expect.within, self.logs()));
        }
        Ok(outcome)
    }

    /// What still moves; `None` when nothing does.
    async fn at_rest(&self, expect: Expect) -> anyhow::Result<Option<String>> {
        let stored = self.stored().await?;
        if stored.sent < stored.outbox {
            return Ok(Some(format!("{} of {} messages are sent", stored.sent, stored.outbox)));
        }
        let waiting = self.in_the_queue().await?;
        if waiting > 0 {
            return Ok(Some(format!("{waiting} arrivals are in the queue")));
        }
        let received = self.sink.distinct();
        if received < stored.outbox {
            return Ok(Some(format!("{received} of {} messages have reached the sink", stored.outbox)));
        }
        let confirmed = self.books().ids.len() as u64 + expect.unreadable;
        if stored.committed() >= confirmed {
            return Ok(None);
        }
        let parked = self.parked().await?.len() as u64;
        Ok((stored.committed() + parked < confirmed)
            .then(|| format!("{} stored and {parked} parked of {confirmed}", stored.committed())))
    }

    async fn ids(&self, sql: &'static str) -> anyhow::Result<BTreeSet<String>> {
        let ids: Vec<String> = match &self.counts {
            Counts::Sqlite(pool) => sqlx::query_scalar(sql).fetch_all(pool).await?,
            Counts::Postgres(pool) => sqlx::query_scalar(sql).fetch_all(pool).await?,
        };
        Ok(ids.into_iter().collect())
    }

    /// The count, as things are.
    async fn count(&self, expect: Expect) -> anyhow::Result<Outcome> {
        let stored = self.stored().await?;
        let parked = self.parked().await?;
        let received = self.sink.received();
        let in_store = self.ids("SELECT id FROM comments").await?;
        let failed = self.ids("SELECT id FROM failures WHERE id IS NOT NULL").await?;
        let told =
            self.ids("SELECT id FROM comments WHERE current_revision IS NOT NULL AND withdrawn_at_ms IS NULL").await?;
        let escalated = self.ids("SELECT c.id FROM disclosures d JOIN comments c ON c.no = d.comment_no").await?;
        let (confirmed, messages) = {
            let books = self.books();
            (books.ids.clone(), books.messages)
        };
        let parked_ids: BTreeSet<&str> = parked.iter().filter_map(|one| Some(one.key.as_ref()?.id.as_str())).collect();
        let placed = |id: &String| in_store.contains(id) || failed.contains(id) || parked_ids.contains(id.as_str());
        let missing: Vec<&String> = confirmed.iter().filter(|id| !placed(id)).collect();
        let others = parked.len() - parked_ids.iter().filter(|id| confirmed.contains(**id)).count();
        // Results and alerts that the sink should have.
        let heard = |kind: &str| -> BTreeSet<String> {
            let of_kind = received.events.keys().filter_map(|subject| subject.strip_prefix(kind)?.strip_prefix('/'));
            of_kind.filter_map(|rest| Some(rest.rsplit_once('/')?.0.to_owned())).collect()
        };
        let (results, alerts) = (heard("comment.assessed.v1"), heard("alert.safeguarding.v1"));
        let untold = told.difference(&results).count() + escalated.difference(&alerts).count();
        let strangers = in_store.iter().filter(|id| !confirmed.contains(*id)).count();
        let noted = noted(&self.folder);
        let mut outcome = Outcome {
            confirmed: confirmed.len() as u64 + expect.unreadable,
            delivered: noted.delivered,
            committed: stored.committed(),
            sent: stored.sent,
            received: received.distinct(),
            repeated: received.messages - received.distinct(),
            lost: missing.len() as u64 + expect.unreadable.saturating_sub(others as u64) + untold as u64,
            doubled: received.doubled() + stored.assessments.saturating_sub(stored.revisions) + strangers as u64,
            parked: parked.len() as u64,
            redelivered: noted.delivered.saturating_sub(messages + expect.unreadable),
            ..Outcome::default()
        };
        if outcome.lost > 0 {
            let first: Vec<_> = missing.iter().take(5).collect();
            outcome.note(format!("missing {} such as {first:?}, untold {untold}", missing.len()));
        }
        Ok(outcome)
    }
}

/// Comments by where they are.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// What the queue has seen, where it remembers.
    received: Option<u64>,
    /// In the queue and not stored.
    queued: u64,
    /// Given up on.
    pub parked: u64,
    stored: u64,
}

impl Places {
    /// Whether a broker has come back and counts no queue yet: it knows of less parked than there was, and nobody
    /// takes that out. The file counts itself and is always right.
    pub fn too_early(&self, parked: u64) -> bool {
        self.received.is_none() && self.parked < parked
    }

    /// Whether so many confirmed ones are all somewhere, and the places add up.
    pub fn holds(&self, confirmed: u64) -> bool {
        let sum = self.queued + self.parked + self.stored;
        sum >= confirmed && self.received.is_none_or(|received| received == sum)
    }
}

/// The longest of several recoveries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest(pub Option<Duration>);

impl Longest {
    pub fn add(&mut self, took: Duration) {
        self.0 = Some(self.0.map_or(took, |longest| longest.max(took)));
    }
}
