//! The worker's loop over the embedded queue and store, with a stub judge.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moothall::broker::embedded::{EmbeddedLimits, EmbeddedQueue};
use moothall::domain::comment::{Comment, ConsultationId};
use moothall::domain::decision::Verdict;
use moothall::pipeline::ports::{Depth, Queue, Store};
use moothall::pipeline::pulse::Pulse;
use moothall::pipeline::shutdown::Shutdown;
use moothall::pipeline::worker::{DrainError, Ended, Progress, WorkerDeps, WorkerSettings, drain, run};
use moothall::store::sqlite::SqliteStore;

use crate::support::judge::StubJudge;
use crate::support::{Bench, arrived, comment, judged, key, mentoring, revision, wait_until};

struct Line {
    bench: Bench,
    queue: EmbeddedQueue,
    store: SqliteStore,
    judge: Arc<StubJudge>,
    deps: WorkerDeps,
}

async fn line() -> Line {
    let bench = Bench::new();
    // One open file for both, as the service has it.
    let database = bench.database().await;
    let limits = EmbeddedLimits::default();
    let queue = EmbeddedQueue::open(database.clone(), bench.clock.clone(), "one", limits).await.unwrap();
    let store = SqliteStore::new(database, bench.clock.clone());
    let judge = StubJudge::new();
    let deps = WorkerDeps {
        queue: Arc::new(queue.clone()),
        store: Arc::new(store.clone()),
        judge: judge.clone(),
        pulse: Pulse::default(),
        clock: bench.clock.clone(),
        settings: WorkerSettings { idle_ms: 5, ..WorkerSettings::default() },
        stored: Arc::default(),
        alone: Arc::default(),
    };
    Line { bench, queue, store, judge, deps }
}

impl Line {
    async fn publish(&self, comments: &[Comment]) {
        self.queue.publish(comments).await.unwrap();
    }

    async fn drain(&self) -> Progress {
        let last = std::sync::Mutex::new(Progress::default());
        let ended = drain(&self.deps, &Shutdown::new(), |progress| {
            *last.lock().unwrap() = progress;
        })
        .await
        .unwrap();
        assert_eq!(ended, Ended::Drained);
        last.into_inner().unwrap()
    }

    async fn unsent(&self) -> u64 {
        self.store.backlog(None).await.unwrap().unsent
    }

    async fn texts(&self) -> Vec<String> {
        let page = self.store.page(&mentoring(), 0, 1_000).await.unwrap();
        page.into_iter().map(|s| s.comment.text).collect()
    }
}

#[tokio::test]
async fn comments_go_from_the_queue_to_the_store() {
    let line = line().await;
    line.publish(&[comment("1", "fine"), comment("2", "spam"), comment("3", "help")]).await;
    let progress = line.drain().await;
    assert_eq!((progress.recorded, progress.judged), (3, 3));
    let funnel = line.store.funnel(&mentoring()).await.unwrap();
    assert_eq!((funnel.accepted, funnel.rejected, funnel.escalated), (1, 1, 1));
    assert_eq!(line.queue.depth(None).await.unwrap(), Depth::default());
    assert!(line.deps.pulse.troubles().is_empty());
    assert_eq!(line.deps.pulse.last_progress_ms(), line.bench.clock.now_ms());
}

#[tokio::test]
async fn ten_thousand_comments_and_their_duplicates_are_each_stored_once() {
    let line = line().await;
    let comments: Vec<_> = (0..10_000).map(|n| comment(&n.to_string(), &format!("text {}", n % 2_500))).collect();
    for chunk in comments.chunks(500) {
        line.publish(chunk).await;
        line.publish(chunk).await;
    }
    let started = std::time::Instant::now();
    let progress = line.drain().await;
    println!("judged and stored 10,000 comments in {:?}", started.elapsed());
    assert_eq!(progress.recorded, 10_000);
    assert_eq!((progress.judged, progress.reused), (2_500, 7_500));
    assert_eq!(line.judge.judged(), 2_500);
    assert_eq!(line.store.funnel(&mentoring()).await.unwrap().accepted, 10_000);
    assert_eq!(line.unsent().await, 10_000);
}

#[tokio::test]
async fn an_unchanged_text_is_judged_once() {
    let line = line().await;
    line.publish(&[comment("1", "same"), comment("2", "same")]).await;
    line.drain().await;
    line.publish(&[comment("3", "same")]).await;
    line.drain().await;
    assert_eq!(line.judge.judged(), 1);
    assert_eq!(line.texts().await.len(), 3);
}

#[tokio::test]
async fn edits_in_one_batch_end_with_the_newest() {
    let line = line().await;
    line.publish(&[
        revision("1", 1, "first"),
        revision("1", 3, "third"),
        revision("1", 2, "second"),
        comment("2", "early"),
        comment("2", "late"),
    ])
    .await;
    line.drain().await;
    assert_eq!(line.texts().await, ["third", "late"]);
}

#[tokio::test]
async fn one_poisoned_comment_is_parked_and_its_neighbours_are_not() {
    for poison in ["panic", "poison"] {
        let line = line().await;
        line.publish(&[comment("1", "fine"), comment("2", poison), comment("3", "spam")]).await;
        let progress = line.drain().await;
        assert_eq!((progress.recorded, progress.parked), (2, 1));
        let parked = line.queue.parked(None, 9).await.unwrap();
        assert_eq!(parked[0].key, Some(key("2")));
        assert!(!parked[0].reason.contains("comment that"), "{}", parked[0].reason);
        assert_eq!(line.texts().await, ["fine", "spam"]);
    }
}

#[tokio::test]
async fn a_comment_for_an_unknown_consultation_is_parked() {
    let line = line().await;
    let mut lost = comment("1", "fine");
    lost.key.consultation = ConsultationId::new("elsewhere").unwrap();
    line.publish(&[lost]).await;
    line.drain().await;
    let parked = line.queue.parked(None, 9).await.unwrap();
    assert!(parked[0].reason.contains("`elsewhere`"), "{}", parked[0].reason);
}

#[tokio::test]
async fn bytes_that_are_no_comment_are_parked() {
    let line = line().await;
    line.publish(&[comment("1", "fine"), comment("2", "fine too")]).await;
    let mut tx = line.bench.database().await.write().await.unwrap();
    sqlx::query("UPDATE queue SET payload = 'broken' WHERE id = '1'").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let progress = line.drain().await;
    assert_eq!((progress.recorded, progress.parked), (1, 1));
}

#[tokio::test]
async fn a_crash_between_record_and_settle_has_one_effect() {
    let line = line().await;
    line.publish(&[comment("1", "help")]).await;
    // The first worker stores its judgement and is gone before it settles.
    let held = line.queue.receive(1).await.unwrap();
    let stored = arrived(&held[0]).clone();
    line.store.record(&[judged(stored, held[0].sequence, Verdict::Escalate)]).await.unwrap();
    line.bench.hand.advance_ms(60_000);
    let progress = line.drain().await;
    assert_eq!((progress.recorded, progress.known, progress.judged), (0, 1, 0));
    assert_eq!(line.store.disclosures(None).await.unwrap().len(), 1);
    assert_eq!(line.unsent().await, 2);
}

#[tokio::test]
async fn a_worker_that_vanishes_at_any_point_loses_and_doubles_nothing() {
    let line = line().await;
    let comments: Vec<_> = (0..300).map(|n| comment(&n.to_string(), &format!("text {n}"))).collect();
    line.publish(&comments).await;
    // Dropping the future is what a kill looks like to the tables: whatever was
    // not committed is gone, and nothing is given back.
    for micros in 0..20 {
        let shutdown = Shutdown::new();
        let run = run(&line.deps, &shutdown, |_| {});
        let _ = tokio::time::timeout(Duration::from_micros(micros * 700), run).await;
        line.bench.hand.advance_ms(60_000);
    }
    line.drain().await;
    let funnel = line.store.funnel(&mentoring()).await.unwrap();
    let parked = line.queue.depth(None).await.unwrap().parked;
    assert_eq!(funnel.accepted + parked, 300);
    assert_eq!(line.unsent().await, funnel.accepted);
}

#[tokio::test]
async fn a_broken_engine_makes_comments_wait_and_costs_no_attempts() {
    let line = line().await;
    line.publish(&[comment("1", "fine")]).await;
    line.judge.broken.store(true, Ordering::SeqCst);
    for _ in 0..30 {
        let error = drain(&line.deps, &Shutdown::new(), |_| {}).await.unwrap_err();
        assert!(matches!(error, DrainError::Engine(_)), "{error}");
        line.bench.hand.advance_ms(5_000);
    }
    let troubles = line.deps.pulse.troubles();
    assert!(troubles["engine"].contains("pulled the plug"), "{troubles:?}");
    let depth = line.queue.depth(None).await.unwrap();
    assert_eq!((depth.waiting, depth.parked), (1, 0));
    line.judge.broken.store(false, Ordering::SeqCst);
    line.drain().await;
    assert!(line.deps.pulse.troubles().is_empty());
    assert_eq!(line.texts().await, ["fine"]);
}

#[tokio::test]
async fn a_request_to_stop_finishes_the_batch_in_hand() {
    let line = line().await;
    line.judge.pause_ms.store(50, Ordering::SeqCst);
    line.publish(&[comment("1", "fine")]).await;
    let shutdown = Shutdown::new();
    let judge = line.judge.clone();
    let (ended, ()) = tokio::join!(run(&line.deps, &shutdown, |_| {}), async {
        wait_until("the judge is at work", async || judge.calls.load(Ordering::SeqCst) > 0).await;
        shutdown.stop_intake.cancel();
    });
    assert_eq!(ended, Ended::Stopped);
    assert_eq!(line.texts().await, ["fine"]);
}

#[tokio::test]
async fn a_request_to_let_go_leaves_the_rest_for_redelivery() {
    let line = line().await;
    line.judge.pause_ms.store(60_000, Ordering::SeqCst);
    line.publish(&[comment("1", "fine")]).await;
    let shutdown = Shutdown::new();
    let judge = line.judge.clone();
    let (ended, ()) = tokio::join!(run(&line.deps, &shutdown, |_| {}), async {
        wait_until("the judge is at work", async || judge.calls.load(Ordering::SeqCst) > 0).await;
        shutdown.stop_intake.cancel();
        shutdown.abandon.cancel();
    });
    assert_eq!(ended, Ended::Abandoned);
    let depth = line.queue.depth(None).await.unwrap();
    assert_eq!((depth.waiting, depth.in_flight), (1, 0));
    line.judge.pause_ms.store(0, Ordering::SeqCst);
    line.drain().await;
    assert_eq!(line.texts().await, ["fine"]);
}

#[tokio::test]
async fn a_long_judgement_keeps_its_lease() {
    let mut line = line().await;
    line.deps.settings.renew_ms = 5;
    line.judge.pause_ms.store(100, Ordering::SeqCst);
    line.publish(&[comment("1", "fine")]).await;
    let hand = line.bench.hand.clone();
    let other = line.bench.queue("other").await;
    let stolen = AtomicU64::new(0);
    let judge = line.judge.clone();
    let watch = async {
        wait_until("the judge is at work", async || judge.calls.load(Ordering::SeqCst) > 0).await;
        // Two leases' time in steps of half a lease.
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            hand.advance_ms(30_000);
            let got = other.receive(1).await.unwrap().len();
            stolen.fetch_add(got as u64, Ordering::SeqCst);
        }
    };
    tokio::join!(line.drain(), watch);
    assert_eq!(stolen.load(Ordering::SeqCst), 0);
    assert_eq!(line.texts().await, ["fine"]);
}

#[tokio::test]
async fn several_loops_share_one_queue() {
    let line = line().await;
    let comments: Vec<_> = (0..500).map(|n| comment(&n.to_string(), &format!("text {n}"))).collect();
    line.publish(&comments).await;
    tokio::join!(line.drain(), line.drain(), line.drain());
    assert_eq!(line.judge.judged(), 500);
    assert_eq!(line.store.funnel(&mentoring()).await.unwrap().accepted, 500);
}
