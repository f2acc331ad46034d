//! What the webhook calls of every [`Store`] do: each target has each message of its
//! kinds once, each call is one process's at a time, and none is forgotten.

use std::collections::BTreeSet;

use moothall::domain::decision::Verdict;
use moothall::pipeline::ports::{Call, CallEnd, ClaimCalls, Store, WebhookState};
use moothall::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};

use super::store::StoreUnderTest;
use crate::support::{comment, judged};

const LEASE_MS: i64 = 1_000;

/// Runs this part of the store's suite, each test on a store of its own.
pub async fn contract<F, T>(make: &F)
where
    F: AsyncFn() -> T,
    T: StoreUnderTest,
{
    each_target_is_told_its_kinds_from_its_first_day_on(make().await).await;
    a_call_is_one_owners_at_a_time(make().await).await;
    a_call_that_failed_waits_its_time_and_keeps_its_count(make().await).await;
    delivered_is_final_and_any_other_end_is_the_owners(make().await).await;
    parked_calls_are_kept_shown_and_replayed(make().await).await;
    a_target_that_is_removed_is_told_no_more(make().await).await;
    a_body_is_kept_for_as_long_as_a_target_needs_it(make().await).await;
}

async fn write(store: &dyn Store, ids: impl IntoIterator<Item = u32>) {
    let batch: Vec<_> = ids
        .into_iter()
        .map(|n| judged(comment(&n.to_string(), &format!("text {n}")), i64::from(n), Verdict::Accept))
        .collect();
    store.record(&batch).await.unwrap();
}

fn by<'a>(target: &'a str, kind: &'a str, owner: &'a str, limit: u32) -> ClaimCalls<'a> {
    ClaimCalls { target, kind, owner, limit, lease_ms: LEASE_MS }
}

async fn claim(store: &dyn Store, target: &str, owner: &str, limit: u32) -> Vec<Call> {
    store.end_then_claim_calls(&[], by(target, COMMENT_ASSESSED, owner, limit)).await.unwrap()
}

async fn end(store: &dyn Store, owner: &str, ends: &[(i64, CallEnd)]) {
    let none = store.end_then_claim_calls(ends, by("site", COMMENT_ASSESSED, owner, 0)).await.unwrap();
    assert!(none.is_empty());
}

async fn state(store: &dyn Store, target: &str, kind: &str) -> WebhookState {
    let states = store.webhook_states().await.unwrap();
    states.into_iter().find(|state| state.target == target && state.kind == kind).unwrap()
}

fn numbers(calls: &[Call]) -> Vec<i64> {
    calls.iter().map(|call| call.no).collect()
}

async fn each_target_is_told_its_kinds_from_its_first_day_on(bench: impl StoreUnderTest) {
    let store = bench.store();
    assert!(store.webhook_states().await.unwrap().is_empty());
    write(&*store, 0..1).await;
    store.subscribe("site", &[COMMENT_ASSESSED]).await.unwrap();
    store.subscribe("site", &[COMMENT_ASSESSED]).await.unwrap();
    store.subscribe("lead", &[ALERT_SAFEGUARDING, COMMENT_ASSESSED]).await.unwrap();
    // Many at once, one by one, known ones, and a disclosure.
    write(&*store, 1..40).await;
    write(&*store, 1..2).await;
    store.record(&[judged(comment("40", "help"), 40, Verdict::Escalate)]).await.unwrap();
    let told = claim(&*store, "site", "a", 100).await;
    assert_eq!(told.len(), 40, "each message once, and none of before");
    let events: BTreeSet<_> = told.iter().map(|call| call.message.event_id.clone()).collect();
    assert_eq!(events.len(), 40);
    assert!(told.iter().all(|call| call.attempts == 0 && call.message.kind == COMMENT_ASSESSED));
    assert!(told.iter().all(|call| call.message.body.contains("verdict")));
    assert_eq!(claim(&*store, "lead", "b", 100).await.len(), 40);
    let alerts = store.end_then_claim_calls(&[], by("lead", ALERT_SAFEGUARDING, "c", 9)).await.unwrap();
    assert_eq!(alerts.len(), 1, "an alert waits behind no result");
    // One that takes fewer kinds from now on is told no more of the others.
    store.subscribe("lead", &[ALERT_SAFEGUARDING]).await.unwrap();
    write(&*store, 50..51).await;
    assert_eq!(state(&*store, "lead", COMMENT_ASSESSED).await.waiting, 40);
    assert_eq!(claim(&*store, "site", "a", 100).await.len(), 41, "what it holds is its own to claim again");
    // The broker's side of the outbox knows nothing of it.
    assert_eq!(store.backlog(Some(COMMENT_ASSESSED)).await.unwrap().unsent, 42);
}

async fn a_call_is_one_owners_at_a_time(bench: impl StoreUnderTest) {
    let store = bench.store();
    store.subscribe("site", &[COMMENT_ASSESSED]).await.unwrap();
    write(&*store, 0..60).await;
    let claims = (0..6).map(|n| {
        let store = bench.store();
        async move { claim(&*store, "site", &format!("relay {n}"), 10).await }
    });
    let claimed: Vec<_> = futures_util::future::join_all(claims).await.into_iter().flatten().collect();
    assert_eq!((claimed.len(), numbers(&claimed).into_iter().collect::<BTreeSet<_>>().len()), (60, 60));
    bench.pass_ms(LEASE_MS - 1).await;
    assert!(claim(&*store, "site", "other", 100).await.is_empty());
    bench.pass_ms(1).await;
    assert_eq!(claim(&*store, "site", "other", 100).await.len(), 60);
}

async fn a_call_that_failed_waits_its_time_and_keeps_its_count(bench: impl StoreUnderTest) {
    let store = bench.store();
    store.subscribe("site", &[COMMENT_ASSESSED]).await.unwrap();
    write(&*store, 0..2).await;
    let calls = claim(&*store, "site", "a", 9).await;
    let run_at_ms = bench.now_ms().await + 500;
    let again = CallEnd::Again { run_at_ms, why: "answered 500".to_owned() };
    end(&*store, "a", &[(calls[0].no, again), (calls[1].no, CallEnd::Untried)]).await;
    let free = claim(&*store, "site", "b", 9).await;
    assert_eq!((numbers(&free), free[0].attempts), (vec![calls[1].no], 0), "what was not tried costs nothing");
    let seen = state(&*store, "site", COMMENT_ASSESSED).await;
    assert_eq!((seen.waiting, seen.failing, seen.last_error.as_deref()), (2, 1, Some("answered 500")));
    bench.pass_ms(500).await;
    let again = claim(&*store, "site", "c", 9).await;
    assert_eq!((numbers(&again), again[0].attempts), (vec![calls[0].no], 1));
    assert_eq!(again[0].message, calls[0].message);
}

async fn delivered_is_final_and_any_other_end_is_the_owners(bench: impl StoreUnderTest) {
    let store = bench.store();
    store.subscribe("site", &[COMMENT_ASSESSED]).await.unwrap();
    write(&*store, 0..1).await;
    let no = claim(&*store, "site", "slow", 9).await[0].no;
    bench.pass_ms(LEASE_MS).await;
    assert_eq!(claim(&*store, "site", "quick", 9).await.len(), 1);
    // It is the other's by now.
    end(&*store, "slow", &[(no, CallEnd::Parked("mine".to_owned()))]).await;
    assert_eq!(state(&*store, "site", COMMENT_ASSESSED).await.parked, 0);
    end(&*store, "slow", &[(no, CallEnd::Delivered)]).await;
    end(&*store, "quick", &[(no, CallEnd::Again { run_at_ms: 0, why: "late".to_owned() })]).await;
    bench.pass_ms(LEASE_MS * 2).await;
    assert!(claim(&*store, "site", "third", 9).await.is_empty());
    let seen = state(&*store, "site", COMMENT_ASSESSED).await;
    assert_eq!((seen.delivered, seen.waiting, seen.last_error), (1, 0, None));
    assert!(seen.last_delivered_ms.is_some() && seen.oldest_ms.is_none());
}

async fn parked_calls_are_kept_shown_and_replayed(bench: impl StoreUnderTest) {
    let store = bench.store();
    for target in ["lead", "site"] {
        store.subscribe(target, &[COMMENT_ASSESSED]).await.unwrap();
    }
    write(&*store, 0..1).await;
    for target in ["lead", "site"] {
        let call = claim(&*store, target, "a", 9).await.remove(0);
        end(&*store, "a", &[(call.no, CallEnd::Parked(format!("{target} is gone")))]).await;
        assert!(claim(&*store, target, "a", 9).await.is_empty());
    }
    let parked = store.parked_calls(Some("site"), 9).await.unwrap();
    assert_eq!((parked.len(), parked[0].reason.as_str(), parked[0].attempts), (1, "site is gone", 1));
    assert_eq!(store.parked_calls(None, 9).await.unwrap().len(), 2);
    assert_eq!(store.parked_calls(None, 1).await.unwrap().len(), 1);
    assert_eq!(store.replay_calls(Some("nobody")).await.unwrap(), 0);
    assert_eq!(store.replay_calls(Some("site")).await.unwrap(), 1);
    let again = claim(&*store, "site", "a", 9).await;
    assert_eq!((again.len(), again[0].attempts), (1, 0));
    assert_eq!(store.replay_calls(None).await.unwrap(), 1);
    assert!(store.parked_calls(None, 9).await.unwrap().is_empty());
}

async fn a_target_that_is_removed_is_told_no_more(bench: impl StoreUnderTest) {
    let store = bench.store();
    for target in ["lead", "site"] {
        store.subscribe(target, &[COMMENT_ASSESSED]).await.unwrap();
    }
    write(&*store, 0..3).await;
    let no = claim(&*store, "site", "a", 1).await[0].no;
    end(&*store, "a", &[(no, CallEnd::Delivered)]).await;
    assert_eq!(store.unsubscribe("site").await.unwrap(), 2);
    write(&*store, 3..5).await;
    let seen = state(&*store, "site", COMMENT_ASSESSED).await;
    assert_eq!((seen.subscribed, seen.delivered, seen.waiting), (false, 1, 0));
    assert_eq!(state(&*store, "lead", COMMENT_ASSESSED).await.waiting, 5);
}

/// The broker has it, and its body may go as far as the broker is concerned.
async fn a_body_is_kept_for_as_long_as_a_target_needs_it(bench: impl StoreUnderTest) {
    let store = bench.store();
    store.subscribe("site", &[COMMENT_ASSESSED]).await.unwrap();
    write(&*store, 0..3).await;
    let rows = store.claim(COMMENT_ASSESSED, "relay", 9, LEASE_MS).await.unwrap();
    store.sent(&rows.iter().map(|row| row.event_id.clone()).collect::<Vec<_>>()).await.unwrap();
    // An idle look is when bodies go.
    for _ in 0..3 {
        assert!(store.claim(COMMENT_ASSESSED, "relay", 9, LEASE_MS).await.unwrap().is_empty());
    }
    let calls = claim(&*store, "site", "a", 9).await;
    let bodies: Vec<_> = calls.into_iter().map(|call| call.message.body).collect();
    assert_eq!(bodies, rows.into_iter().map(|row| row.body).collect::<Vec<_>>());
}
