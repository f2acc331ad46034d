//! What every [`Store`] does, whatever keeps it.

use std::sync::Arc;

use moothall::domain::comment::ConsultationId;
use moothall::domain::decision::Verdict;
use moothall::domain::rulebook::PipelineVersion;
use moothall::pipeline::identity::text_hash;
use moothall::pipeline::ports::{Funnel, Judged, Recorded, Store};

use crate::support::{assessment, comment, failed, judged, key, mentoring, revision};

/// A store, empty at first, with a hand on its clock.
#[async_trait::async_trait]
pub trait StoreUnderTest: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Lets this much time pass, as the store sees it.
    async fn pass_ms(&self, ms: i64);
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
    an_edit_time_orders_when_there_is_no_revision(make().await).await;
    a_new_pipeline_version_replaces_the_judgement(make().await).await;
    pages_follow_the_arrivals(make().await).await;
    the_funnel_accounts_for_every_comment(make().await).await;
    a_withdrawal_may_overtake_its_comment(make().await).await;
    a_known_failure_changes_nothing(make().await).await;
    judgements_are_found_by_text_and_version(make().await).await;
    a_disclosure_waits_for_a_person(make().await).await;
    an_overtaken_disclosure_still_reaches_a_person(make().await).await;
    messages_are_kept_until_sent(make().await).await;
    the_active_version_is_remembered(make().await).await;
    a_batch_is_stored_as_its_comments_one_by_one(make().await, make().await).await;
    make().await.store().ping().await.unwrap();
}

async fn current_text(store: &dyn Store) -> Vec<(String, Verdict)> {
    let page = store.page(&mentoring(), i64::MIN, 100).await.unwrap();
    page.into_iter().map(|stored| (stored.comment.text, stored.assessment.verdict)).collect()
}

async fn kinds(store: &dyn Store) -> Vec<String> {
    let rows = store.unsent(100).await.unwrap();
    rows.into_iter().map(|row| row.kind).collect()
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

async fn messages_are_kept_until_sent(bench: impl StoreUnderTest) {
    let store = bench.store();
    store.record(&[judged(comment("1", "a secret"), 1, Verdict::Escalate)]).await.unwrap();
    let rows = store.unsent(9).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| !row.body.contains("secret")));
    store.sent(&[rows[0].event_id.clone()]).await.unwrap();
    assert_eq!(store.unsent(9).await.unwrap(), rows[1..]);
}

async fn the_active_version_is_remembered(bench: impl StoreUnderTest) {
    let store = bench.store();
    assert_eq!(store.active_version(&mentoring()).await.unwrap(), None);
    for name in ["v1", "v2"] {
        let version = PipelineVersion(name.to_owned());
        store.adopt_version(&mentoring(), &version).await.unwrap();
        assert_eq!(store.active_version(&mentoring()).await.unwrap(), Some(version));
    }
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
        let mut messages: Vec<_> =
            store.unsent(1_000).await.unwrap().into_iter().map(|row| (row.event_id, row.body)).collect();
        messages.sort();
        let disclosed = store.disclosures(None).await.unwrap().len();
        seen.push((page, messages, disclosed, store.funnel(&mentoring()).await.unwrap()));
    }
    assert_eq!(seen[0].0.len(), 450);
    assert!(seen[0] == seen[1]);
}
