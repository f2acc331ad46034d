//! What every [`Store`] does, whatever keeps it.

use std::collections::BTreeSet;
use std::sync::Arc;

use moothall::domain::comment::ConsultationId;
use moothall::domain::decision::Verdict;
use moothall::domain::rulebook::PipelineVersion;
use moothall::pipeline::identity::text_hash;
use moothall::pipeline::ports::{Funnel, Judged, Recorded, Store, StoredComment};

use super::outbox::{self, messages};
use super::{rulebooks, webhooks};
use crate::support::{assessment, comment, failed, judged, key, mentoring, revision};

/// A store, empty at first, with a hand on its clock.
#[async_trait::async_trait]
pub trait StoreUnderTest: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Lets this much time pass, as the store sees it.
    async fn pass_ms(&self, ms: i64);
    /// What time it is, as the store sees it.
    async fn now_ms(&self) -> i64;
}

/// Runs the whole suite, each part on a store of its own.
pub async fn store_contract<F, T>(make: F)
where
    F: AsyncFn() -> T,
    T: StoreUnderTest,
{
    a_repeated_record_has_one_effect(make().await).await;
    the_newest_revision_is_current_in_any_order(make().await).await;
    without_order_the_later_arrival_is_current(make().await).await;
    with_equal_order_what_is_recorded_later_is_current(make().await).await;
    an_arrival_that_is_counted_anew_keeps_its_place_in_time(make().await).await;
    an_edit_time_orders_when_there_is_no_revision(make().await).await;
    a_new_pipeline_version_replaces_the_judgement(make().await).await;
    pages_follow_the_arrivals(make().await).await;
    pages_lose_and_repeat_nothing_when_thousands_tie(make().await).await;
    every_comment_has_a_position_of_its_own(make().await).await;
    an_edit_moves_a_comment_and_a_new_judgement_does_not(make().await).await;
    the_funnel_accounts_for_every_comment(make().await).await;
    a_withdrawal_may_overtake_its_comment(make().await).await;
    a_known_failure_changes_nothing(make().await).await;
    judgements_are_found_by_text_and_version(make().await).await;
    a_disclosure_waits_for_a_person(make().await).await;
    an_overtaken_disclosure_still_reaches_a_person(make().await).await;
    outbox::contract(&make).await;
    rulebooks::contract(&make).await;
    webhooks::contract(&make).await;
    a_batch_is_stored_as_its_comments_one_by_one(make().await, make().await).await;
    make().await.store().ping().await.unwrap();
}

async fn current_text(store: &dyn Store) -> Vec<(String, Verdict)> {
    let page = store.page(&mentoring(), i64::MIN, 100).await.unwrap();
    page.into_iter().map(|stored| (stored.comment.text, stored.assessment.verdict)).collect()
}

async fn kinds(store: &dyn Store) -> Vec<String> {
    messages(store).await.into_iter().map(|row| row.kind).collect()
}

async fn a_repeated_record_has_one_effect(bench: impl StoreUnderTest) {
    let store = bench.store();
    let one = judged(comment("1", "a"), 1, Verdict::Hold);
    for expected in [Recorded::New, Recorded::AlreadyKnown, Recorded::AlreadyKnown] {
        assert_eq!(store.record(std::slice::from_ref(&one)).await.unwrap(), [expected]);
    }
    // Also when the queue counts it anew, as a broker does.
    let again = Judged { sequence: 9, ..one };
    assert_eq!(store.record(&[again]).await.unwrap(), [Recorded::AlreadyKnown]);
    assert_eq!(kinds(&*store).await, ["comment.assessed.v1"]);
    assert_eq!(store.funnel(&mentoring()).await.unwrap().received(), 1);
}

async fn the_newest_revision_is_current_in_any_order(bench: impl StoreUnderTest) {
    let store = bench.store();
    let recorded = store
        .record(&[
            judged(revision("1", 2, "second"), 1, Verdict::Accept),
            judged(revision("1", 1, "first"), 2, Verdict::Reject),
            judged(revision("1", 3, "third"), 3, Verdict::Hold),
        ])
        .await
        .unwrap();
    assert_eq!(recorded, [Recorded::New, Recorded::AlreadyKnown, Recorded::New]);
    assert_eq!(current_text(&*store).await, [("third".to_owned(), Verdict::Hold)]);
    assert_eq!(kinds(&*store).await.len(), 2);
}

async fn without_order_the_later_arrival_is_current(bench: impl StoreUnderTest) {
    let store = bench.store();
    let late = judged(comment("1", "later"), 8, Verdict::Accept);
    let early = judged(comment("1", "earlier"), 3, Verdict::Accept);
    let recorded = store.record(&[late, early]).await.unwrap();
    assert_eq!(recorded, [Recorded::New, Recorded::AlreadyKnown]);
    assert_eq!(current_text(&*store).await[0].0, "later");
}

async fn with_equal_order_what_is_recorded_later_is_current(bench: impl StoreUnderTest) {
    let store = bench.store();
    let edited = |text: &str| {
        let mut comment = comment("2", text);
        comment.edited_at = Some("2024-05-02T00:00:00Z".parse().unwrap());
        comment
    };
    for (first, second) in [(comment("1", "b"), comment("1", "a")), (edited("b"), edited("a"))] {
        let id = first.key.id.clone();
        let [first, second] = [first, second].map(|comment| judged(comment, 5, Verdict::Accept));
        // In two transactions for the one, in one for the other.
        if id.as_str() == "1" {
            assert_eq!(store.record(std::slice::from_ref(&first)).await.unwrap(), [Recorded::New]);
            assert_eq!(store.record(std::slice::from_ref(&second)).await.unwrap(), [Recorded::New]);
        } else {
            let both = [first.clone(), second.clone()];
            assert_eq!(store.record(&both).await.unwrap(), [Recorded::New, Recorded::New]);
        }
        // A redelivery of either changes nothing, in any order.
        for again in [&first, &second, &first] {
            assert_eq!(store.record(std::slice::from_ref(again)).await.unwrap(), [Recorded::AlreadyKnown]);
        }
        assert!(current_text(&*store).await.iter().all(|(text, _)| text == "a"));
    }
    assert_eq!(kinds(&*store).await.len(), 4);
}

async fn an_arrival_that_is_counted_anew_keeps_its_place_in_time(bench: impl StoreUnderTest) {
    let store = bench.store();
    let at = |text: &str, sequence| judged(comment("1", text), sequence, Verdict::Accept);
    store.record(&[at("old", 1), at("new", 2)]).await.unwrap();
    // The sender publishes the old text again: a broker gives it a later time.
    assert_eq!(store.record(&[at("old", 3)]).await.unwrap(), [Recorded::AlreadyKnown]);
    assert_eq!(current_text(&*store).await[0].0, "new");
    assert_eq!(kinds(&*store).await.len(), 2);
}

async fn an_edit_time_orders_when_there_is_no_revision(bench: impl StoreUnderTest) {
    let store = bench.store();
    let mut newer = comment("1", "newer");
    newer.edited_at = Some("2024-05-02T00:00:00Z".parse().unwrap());
    let mut older = comment("1", "older");
    older.edited_at = Some("2024-05-01T00:00:00Z".parse().unwrap());
    store.record(&[judged(newer, 1, Verdict::Accept), judged(older, 2, Verdict::Accept)]).await.unwrap();
    assert_eq!(current_text(&*store).await[0].0, "newer");
}

async fn a_new_pipeline_version_replaces_the_judgement(bench: impl StoreUnderTest) {
    let store = bench.store();
    let first = judged(comment("1", "a"), 1, Verdict::Accept);
    let retagged = Judged { assessment: assessment(Verdict::Hold, "v2"), ..first.clone() };
    store.record(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(store.record(&[retagged]).await.unwrap(), [Recorded::New]);
    assert_eq!(current_text(&*store).await[0].1, Verdict::Hold);
    assert_eq!(store.funnel(&mentoring()).await.unwrap().received(), 1);
    // And back again, as a roll-back does.
    store.record(&[first]).await.unwrap();
    assert_eq!(current_text(&*store).await[0].1, Verdict::Accept);
}

async fn pages_follow_the_arrivals(bench: impl StoreUnderTest) {
    let store = bench.store();
    let batch: Vec<_> = (1..=5).rev().map(|n| judged(comment(&n.to_string(), "a"), n, Verdict::Accept)).collect();
    store.record(&batch).await.unwrap();
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = store.page(&mentoring(), after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.sequence;
        seen.extend(page.iter().map(|stored| stored.sequence));
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    let elsewhere = ConsultationId::new("elsewhere").unwrap();
    assert!(store.page(&elsewhere, 0, 9).await.unwrap().is_empty());
}

/// Every comment, page by page.
async fn paged(store: &dyn Store, limit: u32) -> Vec<StoredComment> {
    let (mut all, mut after) = (Vec::new(), i64::MIN);
    loop {
        let page = store.page(&mentoring(), after, limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        let Some(last) = page.last() else { return all };
        after = last.sequence;
        all.extend(page);
    }
}

fn ids(stored: &[StoredComment]) -> BTreeSet<String> {
    stored.iter().map(|stored| stored.comment.key.id.to_string()).collect()
}

async fn pages_lose_and_repeat_nothing_when_thousands_tie(bench: impl StoreUnderTest) {
    const SECOND: i64 = 1_700_000_000_000_000;
    let store = bench.store();
    let verdicts = [Verdict::Accept, Verdict::Hold, Verdict::Accept, Verdict::Accept, Verdict::Escalate];
    let tied = |n: usize| judged(comment(&n.to_string(), &format!("t{n}")), SECOND, verdicts[n % verdicts.len()]);
    // Some who count exactly stand in the same second.
    let exact = |n: i64| judged(comment(&format!("exact {n}"), "a"), SECOND + n * 250, Verdict::Accept);
    store.record(&(1..=4).map(exact).collect::<Vec<_>>()).await.unwrap();
    let batch: Vec<_> = (0..3_000).map(tied).collect();
    for chunk in batch.chunks(64) {
        store.record(chunk).await.unwrap();
    }
    store.record(&(5..=8).map(exact).collect::<Vec<_>>()).await.unwrap();
    let all = paged(&*store, 97).await;
    assert_eq!((all.len(), ids(&all).len()), (3_008, 3_008));
    assert!(all.is_sorted_by(|a, b| a.sequence < b.sequence));
    // They stay close to where they belong.
    assert!(all[0].sequence == SECOND && all[3_007].sequence < SECOND + 100_000, "{}", all[3_007].sequence);
    // The whole batch again, as after a crash, moves nobody.
    for chunk in batch.chunks(500) {
        assert!(store.record(chunk).await.unwrap().iter().all(|recorded| *recorded == Recorded::AlreadyKnown));
    }
    let again = paged(&*store, 1_000).await;
    let places = |of: &[StoredComment]| of.iter().map(|s| (s.comment.key.clone(), s.sequence)).collect::<Vec<_>>();
    assert_eq!(places(&again), places(&all));
    // Another consultation has positions of its own.
    let mut other = tied(1);
    other.comment.key.consultation = ConsultationId::new("elsewhere").unwrap();
    store.record(std::slice::from_ref(&other)).await.unwrap();
    let page = store.page(&other.comment.key.consultation, SECOND - 1, 9).await.unwrap();
    assert_eq!(page[0].sequence, SECOND);
}

async fn every_comment_has_a_position_of_its_own(bench: impl StoreUnderTest) {
    let store = bench.store();
    // Neighbours that are displaced onto each other, ends of the ranges that a search
    // may use, and what is no time at all.
    let mut sequences = vec![100, 100, 101, 101, 100, 102];
    for power in 0..=26 {
        sequences.extend([(1 << power) - 1, 1 << power, (1 << power) + 99]);
    }
    sequences.extend([0, 0, -1, i64::MIN, i64::MIN, i64::MAX, i64::MAX, i64::MAX - 1]);
    // As they come, and then all of them once more.
    let count = sequences.len();
    let batch: Vec<_> =
        (0..2 * count).map(|n| judged(comment(&n.to_string(), "a"), sequences[n % count], Verdict::Accept)).collect();
    for chunk in batch.chunks(50) {
        store.record(chunk).await.unwrap();
    }
    let all = paged(&*store, 7).await;
    assert_eq!((all.len(), ids(&all).len()), (2 * count, 2 * count));
    assert!(all.is_sorted_by(|a, b| a.sequence < b.sequence));
    assert!(all[0].sequence >= 0, "readers may begin at nought");
}

async fn an_edit_moves_a_comment_and_a_new_judgement_does_not(bench: impl StoreUnderTest) {
    let store = bench.store();
    let batch: Vec<_> = (1..=3).map(|n| judged(comment(&n.to_string(), "a"), 10, Verdict::Accept)).collect();
    store.record(&batch).await.unwrap();
    let place = async |id: &str| {
        let all = paged(&*store, 9).await;
        all.iter().find(|stored| stored.comment.key == key(id)).unwrap().sequence
    };
    assert_eq!((place("1").await, place("2").await, place("3").await), (10, 11, 12));
    // As the one who judges anew reads them: at their positions.
    let page = paged(&*store, 9).await;
    let anew: Vec<_> = page
        .into_iter()
        .map(|s| Judged {
            comment: s.comment,
            sequence: s.sequence,
            assessment: assessment(Verdict::Hold, "v2"),
            trace: None,
        })
        .collect();
    assert_eq!(store.record(&anew).await.unwrap(), [Recorded::New; 3]);
    assert_eq!((place("1").await, place("2").await, place("3").await), (10, 11, 12));
    // An edit at the time of another comment, and one at its own.
    store.record(&[judged(comment("1", "b"), 11, Verdict::Accept)]).await.unwrap();
    assert_eq!(place("1").await, 13);
    store.record(&[judged(comment("4", "a"), 20, Verdict::Accept)]).await.unwrap();
    store.record(&[judged(comment("4", "b"), 20, Verdict::Accept)]).await.unwrap();
    assert!(place("4").await >= 20);
    // The place that it left is free.
    store.record(&[judged(comment("5", "a"), 10, Verdict::Accept)]).await.unwrap();
    assert_eq!(place("5").await, 10);
    assert_eq!(paged(&*store, 2).await.len(), 5);
}

async fn the_funnel_accounts_for_every_comment(bench: impl StoreUnderTest) {
    let store = bench.store();
    let verdicts = [Verdict::Accept, Verdict::Accept, Verdict::Hold, Verdict::Reject, Verdict::Escalate];
    let batch: Vec<_> =
        (1..).zip(verdicts).map(|(n, verdict)| judged(comment(&n.to_string(), &format!("t{n}")), n, verdict)).collect();
    store.record(&batch).await.unwrap();
    store.fail(&[failed(1)]).await.unwrap();
    store.withdraw(&key("2"), None).await.unwrap();
    let funnel = store.funnel(&mentoring()).await.unwrap();
    let expected =
        Funnel { failed: 1, withdrawn: 1, accepted: 1, held: 1, rejected: 1, escalated: 1, ..Funnel::default() };
    assert_eq!(funnel, expected);
    assert_eq!(store.consultations().await.unwrap(), [mentoring()]);
}

async fn a_withdrawal_may_overtake_its_comment(bench: impl StoreUnderTest) {
    let store = bench.store();
    assert!(store.withdraw(&key("1"), Some(2)).await.unwrap());
    assert!(!store.withdraw(&key("1"), Some(2)).await.unwrap());
    // Not counted before anything came in.
    assert_eq!(store.funnel(&mentoring()).await.unwrap().received(), 0);
    assert!(store.consultations().await.unwrap().is_empty());
    store.record(&[judged(revision("1", 1, "a"), 1, Verdict::Accept)]).await.unwrap();
    assert_eq!(store.funnel(&mentoring()).await.unwrap().withdrawn, 1);
    assert!(store.page(&mentoring(), 0, 9).await.unwrap()[0].withdrawn);
    // Written anew by its author.
    store.record(&[judged(revision("1", 3, "b"), 2, Verdict::Accept)]).await.unwrap();
    assert_eq!(store.funnel(&mentoring()).await.unwrap().accepted, 1);
    // An old deletion that comes late does not undo that.
    assert!(!store.withdraw(&key("1"), Some(2)).await.unwrap());
    assert_eq!(store.funnel(&mentoring()).await.unwrap().withdrawn, 0);
}

async fn a_known_failure_changes_nothing(bench: impl StoreUnderTest) {
    let store = bench.store();
    assert_eq!(store.fail(&[failed(2), failed(1), failed(2)]).await.unwrap(), 2);
    assert_eq!(store.fail(&[failed(1)]).await.unwrap(), 0);
    let kept = store.failures(&mentoring()).await.unwrap();
    assert_eq!(kept, [failed(1), failed(2)]);
}

async fn judgements_are_found_by_text_and_version(bench: impl StoreUnderTest) {
    let store = bench.store();
    store.record(&[judged(comment("1", "a"), 1, Verdict::Hold)]).await.unwrap();
    let hashes = [text_hash("b"), text_hash("a")];
    let version = |name: &str| PipelineVersion(name.to_owned());
    let found = store.cached(&version("v1"), &hashes).await.unwrap();
    assert_eq!(found, [None, Some(assessment(Verdict::Hold, "v1"))]);
    let found = store.cached(&version("v2"), &hashes).await.unwrap();
    assert_eq!(found, [None, None]);
}

async fn a_disclosure_waits_for_a_person(bench: impl StoreUnderTest) {
    let store = bench.store();
    let at = |text: &str, sequence| judged(comment("1", text), sequence, Verdict::Escalate);
    store.record(&[at("help", 1)]).await.unwrap();
    let started = store.disclosures(None).await.unwrap()[0].escalated_at_ms;
    bench.pass_ms(1_000).await;
    assert!(store.acknowledge(&key("1"), "Lee").await.unwrap());
    assert!(store.acknowledge(&key("1"), "Kim").await.unwrap());
    assert!(!store.acknowledge(&key("2"), "Lee").await.unwrap());
    let found = store.disclosures(Some(&mentoring())).await.unwrap();
    assert_eq!(found[0].acknowledged, Some((started + 1_000, "Lee".to_owned())));
    let page = store.page(&mentoring(), 0, 9).await.unwrap();
    assert_eq!(page[0].acknowledged_at_ms, Some(started + 1_000));
    // The same text under another version asks nobody again; a new text does.
    let retagged = Judged { assessment: assessment(Verdict::Escalate, "v2"), ..at("help", 1) };
    store.record(&[retagged]).await.unwrap();
    assert!(store.disclosures(None).await.unwrap()[0].acknowledged.is_some());
    store.record(&[at("help me", 2)]).await.unwrap();
    let found = store.disclosures(None).await.unwrap();
    assert_eq!(found[0].acknowledged, None);
    assert_eq!(found[0].comment.text, "help me");
    let alerts = kinds(&*store).await;
    let alerts = alerts.iter().filter(|kind| *kind == "alert.safeguarding.v1");
    assert_eq!(alerts.count(), 2);
}

async fn an_overtaken_disclosure_still_reaches_a_person(bench: impl StoreUnderTest) {
    let store = bench.store();
    store
        .record(&[
            judged(revision("1", 2, "never mind"), 1, Verdict::Accept),
            judged(revision("1", 1, "help"), 2, Verdict::Escalate),
            judged(revision("2", 1, "help"), 3, Verdict::Escalate),
            judged(revision("2", 2, "never mind"), 4, Verdict::Accept),
        ])
        .await
        .unwrap();
    let found = store.disclosures(None).await.unwrap();
    let texts: Vec<_> = found.iter().map(|d| d.comment.text.as_str()).collect();
    assert_eq!(texts, ["help", "help"]);
}

async fn a_batch_is_stored_as_its_comments_one_by_one(together: impl StoreUnderTest, apart: impl StoreUnderTest) {
    let verdicts = [Verdict::Accept, Verdict::Hold, Verdict::Escalate, Verdict::Reject];
    let mut batch: Vec<_> =
        (1..=450).map(|n| judged(comment(&n.to_string(), &format!("text {n}")), n, verdicts[n as usize % 4])).collect();
    // Edits within the batch, and of what an earlier batch has stored.
    batch.extend((1..=30).map(|n| judged(revision(&(n * 7).to_string(), n, "edited"), 500 + n, Verdict::Accept)));
    for chunk in [&batch[..100], &batch[100..]] {
        together.store().record(chunk).await.unwrap();
    }
    for one in &batch {
        apart.store().record(std::slice::from_ref(one)).await.unwrap();
    }
    let mut seen = Vec::new();
    for store in [together.store(), apart.store()] {
        let page = store.page(&mentoring(), 0, 1_000).await.unwrap();
        let page: Vec<_> = page.into_iter().map(|s| (s.sequence, s.comment, s.assessment)).collect();
        let mut messages: Vec<_> = messages(&*store).await.into_iter().map(|row| (row.event_id, row.body)).collect();
        messages.sort();
        let disclosed = store.disclosures(None).await.unwrap().len();
        seen.push((page, messages, disclosed, store.funnel(&mentoring()).await.unwrap()));
    }
    assert_eq!(seen[0].0.len(), 450);
    assert!(seen[0] == seen[1]);
}
