//! Retagging and the shadow as loops: what a stop leaves, what a failure touches.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use moothall::domain::assessment::Assessment;
use moothall::domain::comment::{Comment, ConsultationId};
use moothall::domain::decision::Verdict;
use moothall::domain::policy::{Policy, UnsupportedLanguage};
use moothall::domain::rulebook::{Consultation, PipelineVersion, Rulebook};
use moothall::domain::score::Probability;
use moothall::pipeline::ports::{EngineError, Judge, Queue as _, Rulebooks as _, Shadows as _, Store as _};
use moothall::pipeline::pulse::Pulse;
use moothall::pipeline::retag::{Retag, RetagDeps, Retagged, retag};
use moothall::pipeline::shadow::{Pace, ShadowDeps, pass, run};
use moothall::pipeline::shutdown::Shutdown;
use moothall::pipeline::worker::{self, WorkerDeps, WorkerSettings};
use moothall::store::sqlite::SqliteStore;

use crate::contract::rulebooks::snapshot;
use crate::support::judge::StubJudge;
use crate::support::{Bench, assessment, comment, judged, key, mentoring, wait_until};

/// Judges as [`StubJudge`] does, with a version of its own; `held` is held by it.
struct Later(Arc<StubJudge>);

#[async_trait]
impl Judge for Later {
    fn version(&self, _: &ConsultationId) -> Option<PipelineVersion> {
        Some(PipelineVersion("v2".to_owned()))
    }

    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError> {
        let judged = self.0.judge(comments).await?;
        Ok(comments
            .iter()
            .zip(judged)
            .map(|(comment, judged)| {
                let verdict = if comment.text.starts_with("held") { Verdict::Hold } else { judged.verdict };
                assessment(verdict, "v2")
            })
            .collect())
    }
}

fn rulebook() -> Rulebook {
    Rulebook {
        consultation: Consultation {
            id: mentoring(),
            title: String::new(),
            question: String::new(),
            organisation: String::new(),
            time_zone: "Europe/London".to_owned(),
            opens_at: None,
            closes_at: None,
            safeguarding_contact: None,
        },
        heads: None,
        policy: Policy {
            extra_scorers: Vec::new(),
            rules: Vec::new(),
            unsupported_language: UnsupportedLanguage::Hold,
            hold_above_chars: 1_000,
            link_farm_from: 3,
        },
        codebook: None,
        languages: vec!["en".to_owned()],
        model_version: "1".to_owned(),
        off_topic_from: None,
        first_stage: false,
        version: PipelineVersion("v2".to_owned()),
    }
}

/// 300 comments judged under v1; every tenth has a text that v2 holds, and two the same text.
async fn stored(bench: &Bench) -> SqliteStore {
    let store = bench.store().await;
    assert!(store.adopt_rulebook(&snapshot("v1"), None).await.unwrap());
    let text = |n: i64| if n % 10 == 0 { format!("held {}", n / 20) } else { format!("fine {n}") };
    let batch: Vec<_> = (0..300).map(|n| judged(comment(&n.to_string(), &text(n)), n, Verdict::Accept)).collect();
    store.record(&batch).await.unwrap();
    store
}

async fn run_retag(store: &SqliteStore, judge: &Arc<StubJudge>, what: Retag) -> (Retagged, Vec<String>) {
    let (later, rulebook, listed) = (Later(judge.clone()), rulebook(), RefCell::new(Vec::new()));
    let deps = RetagDeps { store, judge: &later, rulebook: &rulebook };
    let each = |stored: &moothall::pipeline::ports::StoredComment, _: &_| {
        listed.borrow_mut().push(stored.comment.key.id.to_string());
        Ok(())
    };
    let done = retag(deps, what, &Shutdown::new(), each, |_| {}).await.unwrap();
    (done, listed.into_inner())
}

#[tokio::test]
async fn a_dry_run_shows_what_applying_does_and_a_second_run_does_nothing() {
    let bench = Bench::new();
    let store = stored(&bench).await;
    let judge = StubJudge::new();
    let before = store.backlog(None).await.unwrap().unsent;
    let (shown, listed) = run_retag(&store, &judge, Retag::DryRun).await;
    assert_eq!((shown.totals.changed, shown.totals.compared, shown.recorded, listed.len()), (30, 300, 0, 30));
    assert_eq!(shown.totals.verdicts[&(Verdict::Accept, Verdict::Hold)], 30);
    assert_eq!(store.funnel(&mentoring()).await.unwrap().accepted, 300);
    // Of the fifteen pairs of equal texts one stands on two pages.
    assert_eq!(judge.judged(), 286, "an equal text of one page is judged once");

    let v1 = store.active_version(&mentoring()).await.unwrap();
    assert!(store.adopt_rulebook(&snapshot("v2"), v1.as_ref()).await.unwrap());
    let (done, changed) = run_retag(&store, &judge, Retag::Apply { publish: true }).await;
    assert_eq!((&done.totals, &changed, done.recorded), (&shown.totals, &listed, 300));
    let funnel = store.funnel(&mentoring()).await.unwrap();
    assert_eq!((funnel.accepted, funnel.held, funnel.received()), (270, 30, 300));
    assert_eq!(store.backlog(None).await.unwrap().unsent, before + 30, "only what changed is told");

    let times = judge.judged();
    let (again, _) = run_retag(&store, &judge, Retag::Apply { publish: true }).await;
    assert_eq!((again.totals.compared, again.recorded, again.already), (0, 0, 300));
    assert_eq!((store.backlog(None).await.unwrap().unsent, judge.judged()), (before + 30, times));
}

#[tokio::test]
async fn a_run_that_was_stopped_goes_on_where_it_was() {
    let bench = Bench::new();
    let store = stored(&bench).await;
    let v1 = store.active_version(&mentoring()).await.unwrap();
    assert!(store.adopt_rulebook(&snapshot("v2"), v1.as_ref()).await.unwrap());
    let (judge, rulebook, shutdown) = (StubJudge::new(), rulebook(), Shutdown::new());
    let later = Later(judge.clone());
    let deps = RetagDeps { store: &store, judge: &later, rulebook: &rulebook };
    let stop = shutdown.clone();
    let what = Retag::Apply { publish: false };
    let done = retag(deps, what, &shutdown, |_, _| Ok(()), |_| stop.stop_intake.cancel()).await.unwrap();
    assert!(done.stopped && done.recorded == 128, "{done:?}");
    assert_eq!(store.funnel(&mentoring()).await.unwrap().received(), 300);
    let times = judge.judged();
    let (rest, _) = run_retag(&store, &judge, what).await;
    assert_eq!((rest.recorded, rest.already), (172, 128));
    assert!(judge.judged() - times <= 172);
    let by: BTreeMap<_, _> =
        store.rulebooks(&mentoring()).await.unwrap().into_iter().map(|one| (one.version.0, one.comments)).collect();
    assert_eq!(by, [("v1".to_owned(), 0), ("v2".to_owned(), 300)].into());
}

#[tokio::test]
async fn a_worker_that_was_left_behind_judges_nothing_and_its_comments_wait() {
    let bench = Bench::new();
    let store = bench.store().await;
    assert!(store.adopt_rulebook(&snapshot("v1"), None).await.unwrap());
    let queue = bench.queue("one").await;
    let pulse = Pulse::default();
    let deps = WorkerDeps {
        queue: Arc::new(queue.clone()),
        store: Arc::new(store.clone()),
        judge: StubJudge::new(),
        pulse: pulse.clone(),
        clock: bench.clock.clone(),
        settings: WorkerSettings { idle_ms: 5, ..WorkerSettings::default() },
        stored: Arc::default(),
    };
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let working = tokio::spawn(async move { worker::run(&deps, &stop, |_| {}).await });
    queue.publish(&[comment("1", "fine")]).await.unwrap();
    wait_until("the first is stored", async || store.funnel(&mentoring()).await.unwrap().accepted == 1).await;

    let v1 = store.active_version(&mentoring()).await.unwrap();
    assert!(store.adopt_rulebook(&snapshot("v2"), v1.as_ref()).await.unwrap());
    queue.publish(&[comment("2", "fine too")]).await.unwrap();
    wait_until("the worker says why", async || pulse.troubles().contains_key("store")).await;
    let why = pulse.troubles()["store"].clone();
    assert!(why.contains("v1") && why.contains("v2") && why.contains("rulebook"), "{why}");
    shutdown.stop_intake.cancel();
    working.await.unwrap();
    let depth = queue.depth(None).await.unwrap();
    assert_eq!((depth.waiting + depth.in_flight, depth.parked), (1, 0));
    assert_eq!(store.funnel(&mentoring()).await.unwrap().received(), 1);
}

fn looking_on(bench: &Bench, store: &SqliteStore, judge: &Arc<StubJudge>) -> ShadowDeps {
    ShadowDeps {
        store: Arc::new(store.clone()),
        judge: Arc::new(Later(judge.clone())),
        rulebook: Arc::new(rulebook()),
        sample: Probability::ONE,
        clock: bench.clock.clone(),
    }
}

#[tokio::test]
async fn the_shadow_judges_each_comment_once_and_alerts_nobody() {
    let bench = Bench::new();
    let store = stored(&bench).await;
    store.record(&[judged(comment("h", "help"), 400, Verdict::Accept)]).await.unwrap();
    let (judge, before) = (StubJudge::new(), store.backlog(None).await.unwrap());
    let deps = looking_on(&bench, &store, &judge);
    assert_eq!(pass(&deps, Pace::Steady, &Shutdown::new(), |_| {}).await.unwrap(), 301);
    assert_eq!(pass(&deps, Pace::Steady, &Shutdown::new(), |_| {}).await.unwrap(), 0);
    assert_eq!(store.backlog(None).await.unwrap(), before);
    assert!(store.disclosures(None).await.unwrap().is_empty());
    assert_eq!(store.funnel(&mentoring()).await.unwrap().accepted, 301);
    let seen = store.shadowed(&mentoring(), &PipelineVersion("v2".to_owned()), 399, 9).await.unwrap();
    assert_eq!(seen[0].1.verdict, Verdict::Escalate);
    assert_eq!(seen[0].0.comment.key, key("h"));
}

#[tokio::test]
async fn a_shadow_that_fails_leaves_the_rest_for_later_and_goes_on() {
    let bench = Bench::new();
    let store = stored(&bench).await;
    // One comment that its judge cannot judge spoils the batch that it is in, and no other.
    let more: Vec<_> =
        (300..320).map(|n| judged(comment(&n.to_string(), &format!("fine {n}")), n, Verdict::Accept)).collect();
    store.record(&more).await.unwrap();
    let poison = judged(comment("5", "poison"), 5, Verdict::Accept);
    store.record(&[poison]).await.unwrap();
    let judge = StubJudge::new();
    let deps = looking_on(&bench, &store, &judge);
    let done = pass(&deps, Pace::Steady, &Shutdown::new(), |_| {}).await.unwrap();
    let left =
        store.shadow_waiting(&mentoring(), &deps.rulebook.version, Probability::ONE, i64::MIN, 99).await.unwrap();
    assert_eq!(done + left.len() as u64, 320);
    assert!((1..=16).contains(&left.len()) && left.iter().any(|one| one.comment.text == "poison"), "{}", left.len());
    judge.broken.store(true, Ordering::SeqCst);
    assert_eq!(pass(&deps, Pace::Steady, &Shutdown::new(), |_| {}).await.unwrap(), 0);
    assert_eq!(store.funnel(&mentoring()).await.unwrap().received(), 320);
}

#[tokio::test]
async fn a_shadow_that_panics_ends_neither_itself_nor_the_process() {
    let bench = Bench::new();
    let store = bench.store().await;
    store.record(&[judged(comment("1", "panic"), 1, Verdict::Accept)]).await.unwrap();
    let judge = StubJudge::new();
    let shutdown = Shutdown::new();
    let running = tokio::spawn(run(looking_on(&bench, &store, &judge), shutdown.clone()));
    wait_until("it has met the one that panics", async || judge.calls.load(Ordering::SeqCst) == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.is_finished());
    shutdown.stop_intake.cancel();
    running.await.unwrap();
    assert_eq!(store.funnel(&mentoring()).await.unwrap().accepted, 1);
}
