//! A worker process: the library's real line with a stub for a judge.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moothall::broker::embedded::{EmbeddedLimits, EmbeddedQueue};
use moothall::broker::rabbitmq::{BrokerUrl, Lane, Mode, Names, RabbitConfig, RabbitPublisher, RabbitQueue, Tls};
use moothall::domain::comment::SourceName;
use moothall::lifecycle::{self, Lifecycle};
use moothall::pipeline::clock::Clock;
use moothall::pipeline::intake::IntakeLimits;
use moothall::pipeline::outbox::{self, RelayDeps, RelaySettings};
use moothall::pipeline::ports::{Publisher, Queue, Store};
use moothall::pipeline::pulse::Pulse;
use moothall::pipeline::worker::{self, WorkerDeps, WorkerSettings};
use moothall::sqlite::Database;
use moothall::store::postgres::{PostgresConfig, PostgresDatabase, PostgresStore, StoreUrl};
use moothall::store::sqlite::SqliteStore;
use moothall::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};
use moothall::wire::incoming::{Defaults, FieldMap};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::comments::mentoring;
use crate::judge::Stub;
use crate::ports::{Failpoint, FileSink, Tally, WatchedPublisher, WatchedQueue, WatchedStore};

/// The variable in which a worker process finds what it is to be.
pub const SPEC: &str = "MOOTHALL_FAULTS_WORKER";

/// What a worker process is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LineSpec {
    pub name: String,
    /// Where it notes what it did.
    pub folder: PathBuf,
    pub store: StoreSpec,
    /// Without one the queue is in the store's file.
    pub broker: Option<BrokerSpec>,
    pub batch: usize,
    pub spin_us: u64,
    pub wait_us: u64,
    pub lease_ms: i64,
    pub relay_lease_ms: i64,
    pub budget: u32,
    pub failpoint: Option<Failpoint>,
    /// Whether its judge can judge what others cannot.
    pub mended: bool,
    /// A file with milliseconds by which the clock is wrong.
    pub clock: PathBuf,
}

/// Where comments are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StoreSpec {
    Sqlite(PathBuf),
    Postgres(String),
}

/// How the broker is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BrokerSpec {
    pub url: String,
    pub prefetch: u16,
    pub heartbeat_s: u16,
    pub timeout_ms: u64,
    pub stall_ms: u64,
    pub retry_ms: Vec<u64>,
    pub delivery_limit: u32,
}

impl BrokerSpec {
    /// Small and quick, so that a fault is noticed in seconds.
    pub fn quick(url: String) -> Self {
        Self {
            url,
            prefetch: 256,
            heartbeat_s: 2,
            timeout_ms: 3_000,
            stall_ms: 2_000,
            retry_ms: vec![200, 1_000],
            delivery_limit: 20,
        }
    }

    pub fn config(&self, budget: u32) -> RabbitConfig {
        RabbitConfig {
            url: BrokerUrl::parse(&self.url).unwrap(),
            tls: Tls::default(),
            names: Names::with_prefix("moothall"),
            mode: Mode::Declare,
            prefetch: self.prefetch,
            heartbeat_s: self.heartbeat_s,
            timeout: Duration::from_millis(self.timeout_ms),
            retry: self.retry_ms.iter().copied().map(Duration::from_millis).collect(),
            max_message_bytes: 1_000_000,
            stall: Duration::from_millis(self.stall_ms),
            delivery_budget: budget,
            delivery_limit: self.delivery_limit,
            defaults: Defaults {
                consultation: mentoring(),
                source: SourceName::new("faults").unwrap(),
                fields: FieldMap::default(),
            },
            origin: "moothall-faults".to_owned(),
        }
    }
}

/// Limits of what a comment may be, for intake and workers alike.
pub fn limits() -> IntakeLimits {
    IntakeLimits { text_bytes: 200_000, ..IntakeLimits::default() }
}

/// Works until it is asked to stop, is killed, or its parent is gone.
pub async fn work(spec: &str) -> ExitCode {
    let spec: LineSpec = serde_json::from_str(spec).unwrap();
    moothall::telemetry::init_logs(moothall::telemetry::LogFormat::Human, Some("warn,moothall=info")).unwrap();
    // The parent holds the other end of our input: its end is the parent's end.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(9);
    });
    match run(spec).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the worker ends");
            ExitCode::FAILURE
        }
    }
}

/// The machine's clock and what the file says on top.
fn clock(path: PathBuf) -> Clock {
    let wrong = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&wrong);
    std::thread::spawn(move || {
        loop {
            let by = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            told.store(by.unwrap_or(0), Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    Clock::new(move || now() + wrong.load(Ordering::SeqCst))
}

/// Opens a store, and the queue beside it where there is no broker.
pub async fn open(
    store: &StoreSpec,
    clock: &Clock,
    embedded: Option<(&str, EmbeddedLimits)>,
) -> anyhow::Result<(Arc<dyn Store>, Option<EmbeddedQueue>)> {
    match store {
        StoreSpec::Sqlite(path) => {
            let database = Database::open(path).await?;
            let queue = match embedded {
                Some((owner, limits)) => {
                    Some(EmbeddedQueue::open(database.clone(), clock.clone(), owner, limits).await?)
                }
                None => None,
            };
            Ok((Arc::new(SqliteStore::new(database, clock.clone())), queue))
        }
        StoreSpec::Postgres(url) => {
            let url = StoreUrl::parse(url).map_err(anyhow::Error::msg)?;
            let (timeout, step) = (Duration::from_secs(5), Duration::from_secs(10));
            let server = PostgresDatabase::new(PostgresConfig { timeout, step, ..PostgresConfig::new(url) });
            // A server that is away is waited for, as the service does.
            while let Err(error) = server.migrate().await {
                if !error.is_transient() {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok((Arc::new(PostgresStore::new(server, clock.clone())), None))
        }
    }
}

async fn run(spec: LineSpec) -> anyhow::Result<()> {
    let clock = clock(spec.clock.clone());
    let tally = Arc::new(Tally::open(&spec.folder.join(format!("{}.tally", spec.name)), spec.failpoint)?);
    let limits_of_queue =
        EmbeddedLimits { lease_ms: spec.lease_ms, delivery_budget: spec.budget, ..EmbeddedLimits::default() };
    let embedded = spec.broker.is_none().then_some((spec.name.as_str(), limits_of_queue));
    let (store, queue) = open(&spec.store, &clock, embedded).await?;
    let store: Arc<dyn Store> = Arc::new(WatchedStore { inner: store, tally: Arc::clone(&tally) });
    let pulse = Pulse::default();
    let mut lifecycle = Lifecycle::new(pulse.clone(), Duration::from_secs(10));
    let shutdown = lifecycle.shutdown();
    let config = spec.broker.as_ref().map(|broker| Arc::new(broker.config(spec.budget)));
    let stored = Arc::default();
    // One for all loops of the process: a suspect is judged with nothing else beside it.
    let alone = Arc::default();
    // The relays end after the last worker has stored its last judgement.
    let last = CancellationToken::new();
    for kind in [ALERT_SAFEGUARDING, COMMENT_ASSESSED] {
        let inner: Arc<dyn Publisher> = match &config {
            Some(config) => Arc::new(RabbitPublisher::new(Arc::clone(config), kind, pulse.clone())),
            None => Arc::new(FileSink { path: spec.folder.join(format!("{}-{kind}.sink", spec.name)) }),
        };
        let deps = RelayDeps {
            store: Arc::clone(&store),
            publisher: Arc::new(WatchedPublisher { inner, tally: Arc::clone(&tally) }),
            pulse: pulse.clone(),
            stored: Arc::clone(&stored),
            kind,
            owner: format!("{}-{kind}", spec.name),
            settings: RelaySettings { lease_ms: spec.relay_lease_ms, ..RelaySettings::default() },
        };
        let (shutdown, last) = (shutdown.clone(), last.clone());
        lifecycle.spawn("relay", async move {
            outbox::run(&deps, &shutdown, &last).await;
            Ok(())
        });
    }
    let deps = |queue: Arc<dyn Queue>| WorkerDeps {
        queue: Arc::new(WatchedQueue { inner: queue, tally: Arc::clone(&tally) }),
        store: Arc::clone(&store),
        judge: Arc::new(Stub {
            spin: Duration::from_micros(spec.spin_us),
            wait: Duration::from_micros(spec.wait_us),
            mended: spec.mended,
        }),
        pulse: pulse.clone(),
        clock: clock.clone(),
        settings: WorkerSettings {
            batch: spec.batch,
            idle_ms: if config.is_some() { 1 } else { 20 },
            renew_ms: u64::try_from(spec.lease_ms / 3).unwrap_or(1_000),
            limits: limits(),
            reuse: true,
        },
        stored: Arc::clone(&stored),
        alone: Arc::clone(&alone),
    };
    match (&config, queue) {
        (Some(config), _) => {
            let queue = RabbitQueue::subscribe(Arc::clone(config), clock.clone(), pulse.clone()).await?;
            let [urgent, work] = Lane::ALL.map(|lane| deps(Arc::new(queue.only(lane))));
            lifecycle.spawn("worker", async move {
                tokio::join!(worker::run(&urgent, &shutdown, |_| {}), worker::run_two(&work, &shutdown));
                queue.close().await;
                last.cancel();
                Ok(())
            });
        }
        (None, Some(queue)) => {
            let deps = deps(Arc::new(queue));
            lifecycle.spawn("worker", async move {
                worker::run(&deps, &shutdown, |_| {}).await;
                last.cancel();
                Ok(())
            });
        }
        (None, None) => anyhow::bail!("a store without a queue in it needs a broker"),
    }
    let signals = lifecycle::signals()?;
    std::fs::write(spec.folder.join(format!("{}.up", spec.name)), "")?;
    lifecycle.run(signals).await?;
    Ok(())
}
