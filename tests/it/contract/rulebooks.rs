//! Rulebooks, decisions of people, retagging and the shadow, whatever keeps them.

use std::collections::BTreeMap;

use moothall::domain::comment::ConsultationId;
use moothall::domain::decision::Verdict;
use moothall::domain::rulebook::{PipelineVersion, RulebookParts, RulebookSnapshot};
use moothall::domain::score::Probability;
use moothall::pipeline::identity::text_hash;
use moothall::pipeline::ports::{Judged, Recorded, Store, StoreError};

use super::outbox::messages;
use super::store::StoreUnderTest;
use crate::support::{assessment, comment, judged, key, mentoring, revision};

/// Runs this part of the suite, each test on a store of its own.
pub async fn contract<F, T>(make: &F)
where
    F: AsyncFn() -> T,
    T: StoreUnderTest,
{
    the_first_rulebook_is_taken_and_the_next_only_in_its_place(make().await).await;
    a_rulebooks_files_come_back_as_they_were(make().await).await;
    rulebooks_tell_since_when_and_how_many_they_judged(make().await).await;
    a_judgement_of_another_rulebook_is_refused_whole(make().await).await;
    a_persons_decision_stands_until_the_text_changes(make().await).await;
    an_escalation_stays_until_a_person_releases_it(make().await).await;
    retagging_tells_only_whom_it_is_told_to(make().await).await;
    a_new_escalation_is_raised_even_against_a_decision(make().await).await;
    a_retagging_that_an_edit_overtook_changes_nothing(make().await).await;
    the_shadow_is_in_nothing_but_its_own_list(make().await).await;
    a_sample_is_the_same_texts_every_time(make().await).await;
}

fn version(name: &str) -> PipelineVersion {
    PipelineVersion(name.to_owned())
}

/// A rulebook of that version, whose policy is its version's name.
pub fn snapshot(name: &str) -> RulebookSnapshot {
    let files = [("policy.toml", name), ("codebook.toml", "the same in all"), ("heads/1/heads.bin", "\u{0}\u{ff}")];
    RulebookSnapshot {
        consultation: mentoring(),
        version: version(name),
        parts: RulebookParts {
            judging_code: "1".to_owned(),
            policy: format!("policy of {name}"),
            codebook: Some("codebook".to_owned()),
            heads: None,
            encoder: "encoder".to_owned(),
            models: "models".to_owned(),
            model_version: "2026.11.1".to_owned(),
        },
        files: files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into(),
    }
}

async fn adopt(store: &dyn Store, name: &str) {
    let active = store.active_version(&mentoring()).await.unwrap();
    assert!(store.adopt_rulebook(&snapshot(name), active.as_ref()).await.unwrap());
}

fn anew(one: &Judged, verdict: Verdict, name: &str) -> Judged {
    Judged { assessment: assessment(verdict, name), ..one.clone() }
}

/// The verdicts that stand, by id, and the sum of the funnel.
async fn standing(store: &dyn Store) -> (BTreeMap<String, Verdict>, u64) {
    let page = store.page(&mentoring(), i64::MIN, 100).await.unwrap();
    let standing: BTreeMap<_, _> =
        page.iter().map(|stored| (stored.comment.key.id.to_string(), stored.verdict())).collect();
    let funnel = store.funnel(&mentoring()).await.unwrap();
    // The figures of the store are those that its comments give.
    let count = |verdict| page.iter().filter(|one| !one.withdrawn && one.verdict() == verdict).count() as u64;
    assert_eq!(
        (funnel.accepted, funnel.held, funnel.rejected, funnel.escalated),
        (count(Verdict::Accept), count(Verdict::Hold), count(Verdict::Reject), count(Verdict::Escalate))
    );
    (standing, funnel.received())
}

async fn kinds(store: &dyn Store) -> Vec<String> {
    messages(store).await.into_iter().map(|row| row.kind).collect()
}

async fn the_first_rulebook_is_taken_and_the_next_only_in_its_place(bench: impl StoreUnderTest) {
    let store = bench.store();
    assert_eq!(store.active_version(&mentoring()).await.unwrap(), None);
    assert!(store.adopt_rulebook(&snapshot("v1"), None).await.unwrap());
    assert_eq!(store.active_version(&mentoring()).await.unwrap(), Some(version("v1")));
    // Two processes that start on one store with different files: the second is told.
    assert!(!store.adopt_rulebook(&snapshot("v2"), None).await.unwrap());
    assert_eq!(store.active_version(&mentoring()).await.unwrap(), Some(version("v1")));
    assert!(store.adopt_rulebook(&snapshot("v2"), Some(&version("v1"))).await.unwrap());
    assert_eq!(store.active_version(&mentoring()).await.unwrap(), Some(version("v2")));
    let elsewhere = ConsultationId::new("elsewhere").unwrap();
    assert_eq!(store.active_version(&elsewhere).await.unwrap(), None);
}

async fn a_rulebooks_files_come_back_as_they_were(bench: impl StoreUnderTest) {
    let store = bench.store();
    for name in ["v1", "v2"] {
        adopt(&*store, name).await;
    }
    for name in ["v1", "v2"] {
        let found = store.rulebook(&mentoring(), &version(name)).await.unwrap();
        assert_eq!(found, Some(snapshot(name)));
    }
    assert_eq!(store.rulebook(&mentoring(), &version("v3")).await.unwrap(), None);
    // Kept without being named; and what shapes no judgement is as it was last.
    let mut third = snapshot("v3");
    store.keep_rulebook(&third).await.unwrap();
    third.files.insert("consultation.toml".to_owned(), b"a contact".to_vec());
    third.files.remove("heads/1/heads.bin");
    store.keep_rulebook(&third).await.unwrap();
    assert_eq!(store.rulebook(&mentoring(), &version("v3")).await.unwrap(), Some(third));
    assert_eq!(store.active_version(&mentoring()).await.unwrap(), Some(version("v2")));
}

async fn rulebooks_tell_since_when_and_how_many_they_judged(bench: impl StoreUnderTest) {
    let store = bench.store();
    // A store of before rulebooks were kept has judgements all the same.
    store.record(&[Judged { assessment: assessment(Verdict::Hold, "v0"), ..one("0", 1) }]).await.unwrap();
    adopt(&*store, "v1").await;
    let first = bench.now_ms().await;
    store.record(&[one("1", 2), one("2", 3)]).await.unwrap();
    bench.pass_ms(5_000).await;
    adopt(&*store, "v2").await;
    store.record(&[Judged { assessment: assessment(Verdict::Hold, "v2"), ..one("3", 4) }]).await.unwrap();
    bench.pass_ms(5_000).await;
    adopt(&*store, "v1").await;
    let known = store.rulebooks(&mentoring()).await.unwrap();
    let told: Vec<_> = known
        .iter()
        .map(|one| (one.version.0.as_str(), one.active, one.comments, one.parts.is_some(), one.adopted_at_ms.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("v0", false, 1, false, vec![]),
            ("v1", true, 2, true, vec![first, first + 10_000]),
            ("v2", false, 1, true, vec![first + 5_000]),
        ]
    );
    assert!(store.rulebooks(&ConsultationId::new("elsewhere").unwrap()).await.unwrap().is_empty());
}

fn one(id: &str, sequence: i64) -> Judged {
    judged(comment(id, &format!("text {id}")), sequence, Verdict::Accept)
}

async fn a_judgement_of_another_rulebook_is_refused_whole(bench: impl StoreUnderTest) {
    let store = bench.store();
    adopt(&*store, "v1").await;
    store.record(&[one("1", 1)]).await.unwrap();
    adopt(&*store, "v2").await;
    let batch = [anew(&one("2", 2), Verdict::Accept, "v2"), one("3", 3)];
    for refused in [store.record(&batch).await, store.retag(&batch, &[true, true]).await] {
        match refused {
            Err(StoreError::OtherRulebook { active, carried, .. }) => {
                assert_eq!((active, carried), (version("v2"), version("v1")));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(standing(&*store).await.1, 1);
}

async fn a_persons_decision_stands_until_the_text_changes(bench: impl StoreUnderTest) {
    let store = bench.store();
    let first = judged(revision("1", 1, "a"), 1, Verdict::Accept);
    store.record(std::slice::from_ref(&first)).await.unwrap();
    assert!(!store.decide(&key("2"), &text_hash("a"), Verdict::Hold, "Lee").await.unwrap());
    // Who has read an earlier text has decided nothing about this one.
    assert!(!store.decide(&key("1"), &text_hash("an earlier text"), Verdict::Hold, "Lee").await.unwrap());
    for (verdict, by) in [(Verdict::Reject, "Lee"), (Verdict::Hold, "Kim")] {
        assert!(store.decide(&key("1"), &text_hash("a"), verdict, by).await.unwrap());
    }
    assert_eq!(standing(&*store).await.0["1"], Verdict::Hold);
    // Another rulebook's judgement is kept beside it and changes nothing.
    store.retag(&[anew(&first, Verdict::Reject, "v2")], &[true]).await.unwrap();
    assert_eq!(standing(&*store).await, ([("1".to_owned(), Verdict::Hold)].into(), 1));
    let found = store.disagreements(&mentoring()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].decided.by.as_str(), found[0].decided.verdict), ("Kim", Verdict::Hold));
    assert_eq!((found[0].machine, &found[0].version), (Verdict::Reject, &version("v2")));
    // A result that says what does not stand is not sent.
    assert_eq!(kinds(&*store).await, ["comment.assessed.v1"]);
    store.record(&[Judged { sequence: 2, ..judged(revision("1", 2, "b"), 2, Verdict::Accept) }]).await.unwrap();
    assert_eq!(standing(&*store).await.0["1"], Verdict::Accept);
    assert!(store.disagreements(&mentoring()).await.unwrap().is_empty());
    // The same words again are the words that a person decided about.
    store.record(&[judged(revision("1", 3, "a"), 3, Verdict::Accept)]).await.unwrap();
    assert_eq!(standing(&*store).await.0["1"], Verdict::Hold);
}

async fn an_escalation_stays_until_a_person_releases_it(bench: impl StoreUnderTest) {
    let store = bench.store();
    let first = judged(comment("1", "help"), 1, Verdict::Escalate);
    store.record(std::slice::from_ref(&first)).await.unwrap();
    store.retag(&[anew(&first, Verdict::Accept, "v2")], &[true]).await.unwrap();
    assert_eq!(standing(&*store).await.0["1"], Verdict::Escalate);
    store.acknowledge(&key("1"), "Lee").await.unwrap();
    assert_eq!(standing(&*store).await.0["1"], Verdict::Escalate);
    assert_eq!(store.disclosures(None).await.unwrap().len(), 1);
    assert!(store.decide(&key("1"), &text_hash("help"), Verdict::Accept, "Lee").await.unwrap());
    assert_eq!(standing(&*store).await.0["1"], Verdict::Accept);
    // A text that a person has read and released is no news to a later rulebook.
    store.retag(&[anew(&first, Verdict::Escalate, "v3")], &[true]).await.unwrap();
    assert_eq!(standing(&*store).await.0["1"], Verdict::Accept);
    assert_eq!(kinds(&*store).await.iter().filter(|kind| *kind == "alert.safeguarding.v1").count(), 1);
}

async fn retagging_tells_only_whom_it_is_told_to(bench: impl StoreUnderTest) {
    let store = bench.store();
    adopt(&*store, "v1").await;
    let batch: Vec<_> = (1..=3).map(|n| one(&n.to_string(), n)).collect();
    store.record(&batch).await.unwrap();
    let told = async || kinds(&*store).await.len();
    assert_eq!(told().await, 3);
    adopt(&*store, "v2").await;
    let holds: Vec<_> = batch.iter().map(|one| anew(one, Verdict::Hold, "v2")).collect();
    assert_eq!(store.retag(&holds, &[false, true, false]).await.unwrap(), [Recorded::New; 3]);
    assert_eq!(told().await, 4);
    let body = &messages(&*store).await[3].body;
    assert!(body.contains("\"v2\"") && body.contains("\"2\"") && body.contains("hold"), "{body}");
    // A second run, or the page that a crash cut off, changes nothing and tells nobody.
    assert_eq!(store.retag(&holds, &[true; 3]).await.unwrap(), [Recorded::AlreadyKnown; 3]);
    assert_eq!(told().await, 4);
    // Back to the first: its judgements are news again, although they were told once.
    adopt(&*store, "v1").await;
    assert_eq!(store.retag(&batch, &[true; 3]).await.unwrap(), [Recorded::New; 3]);
    assert_eq!(told().await, 7);
    assert!(standing(&*store).await.0.values().all(|verdict| *verdict == Verdict::Accept));
}

async fn a_new_escalation_is_raised_even_against_a_decision(bench: impl StoreUnderTest) {
    let store = bench.store();
    let (plain, decided) = (one("1", 1), one("2", 2));
    store.record(&[plain.clone(), decided.clone()]).await.unwrap();
    assert!(store.decide(&key("2"), &text_hash("text 2"), Verdict::Reject, "Kim").await.unwrap());
    let later = [anew(&plain, Verdict::Escalate, "v2"), anew(&decided, Verdict::Escalate, "v2")];
    store.retag(&later, &[false, false]).await.unwrap();
    let (verdicts, received) = standing(&*store).await;
    assert_eq!((verdicts["1"], verdicts["2"], received), (Verdict::Escalate, Verdict::Reject, 2));
    let kinds = kinds(&*store).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "alert.safeguarding.v1").count(), 2);
    let waiting = store.disclosures(None).await.unwrap();
    assert_eq!(waiting.iter().filter(|disclosure| disclosure.acknowledged.is_none()).count(), 2);
}

async fn a_retagging_that_an_edit_overtook_changes_nothing(bench: impl StoreUnderTest) {
    let store = bench.store();
    let first = judged(revision("1", 1, "a"), 1, Verdict::Accept);
    store.record(std::slice::from_ref(&first)).await.unwrap();
    let read = store.page(&mentoring(), i64::MIN, 9).await.unwrap().remove(0);
    store.record(&[judged(revision("1", 2, "b"), 2, Verdict::Hold)]).await.unwrap();
    let late = Judged {
        comment: read.comment,
        sequence: read.sequence,
        assessment: assessment(Verdict::Reject, "v2"),
        trace: None,
    };
    assert_eq!(store.retag(&[late], &[true]).await.unwrap(), [Recorded::AlreadyKnown]);
    assert_eq!(standing(&*store).await.0["1"], Verdict::Hold);
    assert_eq!(kinds(&*store).await.len(), 2);
}

async fn the_shadow_is_in_nothing_but_its_own_list(bench: impl StoreUnderTest) {
    let store = bench.store();
    adopt(&*store, "v1").await;
    store.record(&[one("1", 1), one("2", 2), one("3", 3)]).await.unwrap();
    store.withdraw(&key("3"), None).await.unwrap();
    let sees = async || {
        let page = store.page(&mentoring(), i64::MIN, 9).await.unwrap();
        let page: Vec<_> = page.into_iter().map(|one| (one.sequence, one.assessment, one.escalated)).collect();
        let cached = store.cached(&version("v9"), &[text_hash("text 1")]).await.unwrap();
        (page, cached, messages(&*store).await, store.disclosures(None).await.unwrap().len(), standing(&*store).await)
    };
    let before = sees().await;
    let all = Probability::ONE;
    let waiting = store.shadow_waiting(&mentoring(), &version("v9"), all, i64::MIN, 9).await.unwrap();
    assert_eq!(waiting.len(), 2, "what is withdrawn is nobody's to judge");
    let looked: Vec<_> = [1, 2, 7].map(|n| anew(&one(&n.to_string(), n), Verdict::Escalate, "v9")).into();
    assert_eq!(store.record_shadow(&looked).await.unwrap(), 2, "a comment that is not stored is passed over");
    assert_eq!(store.record_shadow(&looked).await.unwrap(), 0);
    assert_eq!(sees().await, before);
    let found = store.shadowed(&mentoring(), &version("v9"), i64::MIN, 9).await.unwrap();
    let found: Vec<_> = found.iter().map(|(stored, shadow)| (stored.sequence, shadow.verdict)).collect();
    assert_eq!(found, [(1, Verdict::Escalate), (2, Verdict::Escalate)]);
    assert!(store.shadowed(&mentoring(), &version("v8"), i64::MIN, 9).await.unwrap().is_empty());
    // An edit waits anew.
    store.record(&[judged(comment("1", "edited"), 5, Verdict::Accept)]).await.unwrap();
    let waiting = store.shadow_waiting(&mentoring(), &version("v9"), all, i64::MIN, 9).await.unwrap();
    assert_eq!(waiting.iter().map(|stored| stored.comment.text.as_str()).collect::<Vec<_>>(), ["edited"]);
}

async fn a_sample_is_the_same_texts_every_time(bench: impl StoreUnderTest) {
    let store = bench.store();
    store.record(&(0..400).map(|n| one(&n.to_string(), n)).collect::<Vec<_>>()).await.unwrap();
    let of = async |share| {
        let sample = Probability::new(share).unwrap();
        let found = store.shadow_waiting(&mentoring(), &version("v9"), sample, i64::MIN, 1_000).await.unwrap();
        found.into_iter().map(|stored| stored.sequence).collect::<Vec<_>>()
    };
    let quarter = of(0.25).await;
    assert!((60..140).contains(&quarter.len()), "{} of 400", quarter.len());
    let half = of(0.5).await;
    assert!(quarter.iter().all(|one| half.contains(one)));
    assert_eq!((of(0.0).await.len(), of(1.0).await.len()), (0, 400));
    assert_eq!(of(0.25).await, quarter);
}
