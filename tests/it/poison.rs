//! A comment that ends the process that judges it: it alone is parked, all others are judged.
//!
//! The processes are real: this test binary starts itself as a worker whose judge aborts at
//! a word. The product knows nothing of that word.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moothall::broker::embedded::{EmbeddedLimits, EmbeddedQueue};
use moothall::broker::rabbitmq::{RabbitConfig, RabbitQueue};
use moothall::domain::assessment::Assessment;
use moothall::domain::comment::{Comment, ConsultationId};
use moothall::domain::rulebook::PipelineVersion;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::ports::{EngineError, Judge, Queue, Store};
use moothall::pipeline::pulse::Pulse;
use moothall::pipeline::shutdown::Shutdown;
use moothall::pipeline::worker::{WorkerDeps, WorkerSettings, drain};
use moothall::sqlite::Database;
use moothall::store::sqlite::SqliteStore;

use crate::broker::Node;
use crate::support::judge::StubJudge;
use crate::support::rabbit::{config, process};
use crate::support::{comment, mentoring};

/// Names the store's file to a process of its own; in all others that test does nothing.
const STORE: &str = "MOOTHALL_TEST_POISON_STORE";
/// The broker's address; without it the queue is in the store's file.
const BROKER: &str = "MOOTHALL_TEST_POISON_BROKER";
const COMMENTS: usize = 60;
/// Every process that is started ends or has done all within this time.
const PATIENCE: Duration = Duration::from_mins(2);

/// Aborts the process at a text.
struct Fatal(Arc<StubJudge>);

#[async_trait]
impl Judge for Fatal {
    fn version(&self, consultation: &ConsultationId) -> Option<PipelineVersion> {
        self.0.version(consultation)
    }

    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError> {
        if comments.iter().any(|comment| comment.text.starts_with("abort")) {
            std::process::abort();
        }
        self.0.judge(comments).await
    }
}

fn limits(url: &str) -> RabbitConfig {
    RabbitConfig { delivery_budget: 20, delivery_limit: 20, ..config(url) }
}

async fn queue(store: &Path, broker: Option<&str>, owner: &str) -> Arc<dyn Queue> {
    if let Some(url) = broker {
        return Arc::new(process(limits(url), &Pulse::default()).await);
    }
    let database = Database::open(store).await.unwrap();
    Arc::new(EmbeddedQueue::open(database, Clock::system(), owner, EmbeddedLimits::default()).await.unwrap())
}

/// No test by itself: a worker, in the processes that the tests below start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_its_own() {
    let Some(path) = std::env::var_os(STORE).map(PathBuf::from) else { return };
    let broker = std::env::var(BROKER).ok();
    let owner = format!("worker-{}", std::process::id());
    let deps = WorkerDeps {
        queue: queue(&path, broker.as_deref(), &owner).await,
        store: Arc::new(SqliteStore::new(Database::open(&path).await.unwrap(), Clock::system())),
        judge: Arc::new(Fatal(StubJudge::new())),
        pulse: Pulse::default(),
        clock: Clock::system(),
        settings: WorkerSettings { batch: 16, idle_ms: 5, ..WorkerSettings::default() },
        stored: Arc::default(),
        alone: Arc::default(),
    };
    // Two loops, as a service has: what the one judges alone must not end the other's.
    let shutdown = Shutdown::new();
    let (one, two) = tokio::join!(drain(&deps, &shutdown, |_| {}), drain(&deps, &shutdown, |_| {}));
    one.unwrap();
    two.unwrap();
}

/// The queue for publishing and looking: it takes no delivery, and so none dies with it.
async fn looker(store: &Path, broker: Option<&str>) -> Arc<dyn Queue> {
    match broker {
        Some(url) => Arc::new(RabbitQueue::publish_only(Arc::new(limits(url)), Clock::system(), Pulse::default())),
        None => queue(store, None, "looker").await,
    }
}

/// Starts a worker and waits for its end; whether it ended well.
fn work(store: &Path, broker: Option<&str>) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "poison::a_worker_of_its_own", "--nocapture", "--test-threads=1"])
        .env(STORE, store)
        .env_remove(BROKER)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(url) = broker {
        command.env(BROKER, url);
    }
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("a worker neither ends nor finishes");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

async fn the_guilty_are_parked_and_all_others_are_judged(broker: Option<&str>, guilty: &[usize]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moothall.db");
    let store = SqliteStore::new(Database::open(&path).await.unwrap(), Clock::system());
    if let Some(url) = broker {
        // Makes what is missing.
        process(limits(url), &Pulse::default()).await.close().await;
    }
    {
        let queue = looker(&path, broker).await;
        let text = |n: usize| if guilty.contains(&n) { format!("abort {n}") } else { format!("text {n}") };
        let all: Vec<_> = (0..COMMENTS).map(|n| comment(&n.to_string(), &text(n))).collect();
        queue.publish(&all).await.unwrap();
    }
    let mut deaths = 0;
    let innocent = (COMMENTS - guilty.len()) as u64;
    let parked = loop {
        let (store_path, url) = (path.clone(), broker.map(str::to_owned));
        let well = tokio::task::spawn_blocking(move || work(&store_path, url.as_deref())).await.unwrap();
        deaths += u32::from(!well);
        let parked = looker(&path, broker).await.parked(None, 99).await.unwrap();
        let accepted = store.funnel(&mentoring()).await.unwrap().accepted;
        if parked.len() == guilty.len() && accepted == innocent {
            break parked;
        }
        assert!(deaths < 25, "{accepted} judged, parked: {parked:?}");
    };
    println!("{} of {COMMENTS} ended {deaths} processes", guilty.len());
    let ids: Vec<_> = parked.iter().map(|one| one.key.as_ref().unwrap().id.to_string()).collect();
    assert_eq!(ids, guilty.iter().map(usize::to_string).collect::<Vec<_>>());
    assert!(parked.iter().all(|one| one.reason == "judged alone it ended 3 processes"), "{parked:?}");
    // Each: twice together, before anybody is suspected, and three times alone.
    assert!(deaths <= 5 * guilty.len() as u32, "{deaths} processes ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_that_ends_processes_costs_its_neighbours_nothing_on_the_embedded_queue() {
    the_guilty_are_parked_and_all_others_are_judged(None, &[7]).await;
    the_guilty_are_parked_and_all_others_are_judged(None, &[0, 20, 59]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_that_ends_processes_costs_its_neighbours_nothing_on_rabbitmq() {
    let vhost = Node::shared().await.vhost().await;
    the_guilty_are_parked_and_all_others_are_judged(Some(&vhost.url()), &[7, 30]).await;
}
