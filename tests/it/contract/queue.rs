//! What every [`Queue`] does, whatever keeps it.

use std::sync::Arc;

use moothall::domain::comment::{Author, ConsultationId};
use moothall::pipeline::ports::{Delivery, Depth, Published, Queue, Settlement};

use crate::support::{comment, mentoring, revision};

/// A queue, empty at first, with a hand on its clock and its workers.
#[async_trait::async_trait]
pub trait QueueUnderTest: Send + Sync {
    /// The queue as the first worker process sees it.
    fn queue(&self) -> Arc<dyn Queue>;
    /// The same queue as another process sees it.
    async fn another_process(&self) -> Arc<dyn Queue>;
    /// Lets this much time pass, as the queue sees it.
    async fn pass_ms(&self, ms: i64);
    /// How long a lease lasts.
    fn lease_ms(&self) -> i64;
    /// Attempts until an arrival is parked.
    fn delivery_budget(&self) -> u32;
}

/// Runs the whole suite, each part on a queue of its own.
pub async fn queue_contract<F, T>(make: F)
where
    F: AsyncFn() -> T,
    T: QueueUnderTest,
{
    arrivals_come_in_order_and_once(make().await).await;
    a_known_arrival_changes_nothing(make().await).await;
    an_unsettled_delivery_comes_again(make().await).await;
    a_renewed_lease_is_kept(make().await).await;
    a_retry_waits_its_time(make().await).await;
    uncounted_retries_never_end_in_parking(make().await).await;
    counted_retries_end_in_parking(make().await).await;
    crashes_end_in_parking(make().await).await;
    a_parked_arrival_can_be_replayed(make().await).await;
    revisions_stay_in_order(make().await).await;
    two_processes_share_the_work(make().await).await;
    depth_is_told_by_consultation(make().await).await;
    what_is_given_back_comes_again_uncounted(make().await).await;
    every_field_of_a_comment_survives(make().await).await;
}

fn tags(deliveries: &[Delivery]) -> Vec<i64> {
    deliveries.iter().map(|d| d.tag).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| d.comment.as_ref().unwrap().key.id.to_string()).collect()
}

fn all(deliveries: &[Delivery], settlement: &Settlement) -> Vec<(i64, Settlement)> {
    deliveries.iter().map(|d| (d.tag, settlement.clone())).collect()
}

const LATER: Settlement = Settlement::Retry { after_ms: 500, counts: true };

async fn arrivals_come_in_order_and_once(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    let comments: Vec<_> = (0..10).map(|n| comment(&n.to_string(), &format!("text {n}"))).collect();
    let published = queue.publish(&comments).await.unwrap();
    assert_eq!(published, Published { new: 10, known: 0 });
    let first = queue.receive(4).await.unwrap();
    let rest = queue.receive(100).await.unwrap();
    assert_eq!(ids(&first), ["0", "1", "2", "3"]);
    assert_eq!(ids(&rest), ["4", "5", "6", "7", "8", "9"]);
    assert!(first.iter().chain(&rest).all(|d| d.attempt == 1));
    assert!(first.iter().chain(&rest).is_sorted_by_key(|d| d.sequence));
    queue.settle(&all(&first, &Settlement::Done)).await.unwrap();
    queue.settle(&all(&rest, &Settlement::Done)).await.unwrap();
    assert!(queue.receive(1).await.unwrap().is_empty());
    assert_eq!(queue.depth(None).await.unwrap(), Depth::default());
}

async fn a_known_arrival_changes_nothing(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    let batch = [comment("1", "a"), comment("1", "a"), comment("1", "b")];
    let published = queue.publish(&batch).await.unwrap();
    assert_eq!(published, Published { new: 2, known: 1 });
    let deliveries = queue.receive(9).await.unwrap();
    queue.settle(&all(&deliveries, &Settlement::Done)).await.unwrap();
    let again = queue.publish(&batch).await.unwrap();
    assert_eq!(again, Published { new: 0, known: 3 });
    assert!(queue.receive(9).await.unwrap().is_empty());
}

async fn an_unsettled_delivery_comes_again(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let first = queue.receive(9).await.unwrap();
    bench.pass_ms(bench.lease_ms() - 1).await;
    assert!(queue.receive(9).await.unwrap().is_empty());
    bench.pass_ms(1).await;
    let second = queue.receive(9).await.unwrap();
    assert_eq!(ids(&second), ["1"]);
    assert_eq!((first[0].attempt, second[0].attempt), (1, 2));
}

async fn a_renewed_lease_is_kept(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let held = queue.receive(9).await.unwrap();
    for _ in 0..3 {
        bench.pass_ms(bench.lease_ms() - 1).await;
        queue.renew(&tags(&held)).await.unwrap();
    }
    assert!(queue.receive(9).await.unwrap().is_empty());
    queue.settle(&all(&held, &Settlement::Done)).await.unwrap();
    assert_eq!(queue.depth(None).await.unwrap(), Depth::default());
}

async fn a_retry_waits_its_time(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a"), comment("2", "b")]).await.unwrap();
    let first = queue.receive(1).await.unwrap();
    queue.settle(&all(&first, &LATER)).await.unwrap();
    assert_eq!(ids(&queue.receive(9).await.unwrap()), ["2"]);
    bench.pass_ms(500).await;
    assert_eq!(ids(&queue.receive(9).await.unwrap()), ["1"]);
}

async fn uncounted_retries_never_end_in_parking(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let now = Settlement::Retry { after_ms: 0, counts: false };
    for _ in 0..bench.delivery_budget() * 2 {
        let held = queue.receive(1).await.unwrap();
        assert_eq!(held.len(), 1);
        queue.settle(&all(&held, &now)).await.unwrap();
    }
    assert_eq!(queue.depth(None).await.unwrap().parked, 0);
}

async fn counted_retries_end_in_parking(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    for attempt in 1..=bench.delivery_budget() {
        let held = queue.receive(1).await.unwrap();
        assert_eq!(held[0].attempt, attempt);
        queue.settle(&all(&held, &LATER)).await.unwrap();
        bench.pass_ms(500).await;
    }
    assert!(queue.receive(1).await.unwrap().is_empty());
    let parked = queue.parked(None, 10).await.unwrap();
    assert!(parked[0].reason.contains("budget"), "{}", parked[0].reason);
}

async fn crashes_end_in_parking(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    for _ in 0..bench.delivery_budget() {
        assert_eq!(queue.receive(1).await.unwrap().len(), 1);
        bench.pass_ms(bench.lease_ms()).await;
    }
    assert!(queue.receive(1).await.unwrap().is_empty());
    assert_eq!(queue.depth(None).await.unwrap().parked, 1);
}

async fn a_parked_arrival_can_be_replayed(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let held = queue.receive(1).await.unwrap();
    let why = Settlement::Park("panicked".to_owned());
    queue.settle(&all(&held, &why)).await.unwrap();
    assert!(queue.receive(1).await.unwrap().is_empty());
    let parked = queue.parked(Some(&mentoring()), 10).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].reason, "panicked");
    assert_eq!(parked[0].key, comment("1", "a").key);
    // Parked is known: it does not come in a second time by the door.
    let published = queue.publish(&[comment("1", "a")]).await.unwrap();
    assert_eq!(published, Published { new: 0, known: 1 });
    let elsewhere = ConsultationId::new("elsewhere").unwrap();
    assert_eq!(queue.replay(Some(&elsewhere)).await.unwrap(), 0);
    assert_eq!(queue.replay(None).await.unwrap(), 1);
    assert_eq!(ids(&queue.receive(1).await.unwrap()), ["1"]);
}

async fn revisions_stay_in_order(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[revision("1", 1, "a"), comment("2", "x"), revision("1", 2, "b")]).await.unwrap();
    let held = queue.receive(9).await.unwrap();
    let revisions: Vec<_> = held.iter().map(|d| d.comment.as_ref().unwrap().revision).collect();
    assert_eq!(revisions, [Some(1), None, Some(2)]);
}

async fn two_processes_share_the_work(bench: impl QueueUnderTest) {
    let here = bench.queue();
    let there = bench.another_process().await;
    let comments: Vec<_> = (0..6).map(|n| comment(&n.to_string(), "a")).collect();
    here.publish(&comments).await.unwrap();
    let mine = here.receive(3).await.unwrap();
    let theirs = there.receive(9).await.unwrap();
    assert_eq!(ids(&mine), ["0", "1", "2"]);
    assert_eq!(ids(&theirs), ["3", "4", "5"]);
    // Another's delivery cannot be settled.
    there.settle(&all(&mine, &Settlement::Done)).await.unwrap();
    there.release_all().await.unwrap();
    let depth = here.depth(None).await.unwrap();
    assert_eq!((depth.waiting, depth.in_flight), (3, 3));
    here.settle(&all(&mine, &Settlement::Done)).await.unwrap();
    assert_eq!(here.depth(None).await.unwrap().in_flight, 0);
}

async fn depth_is_told_by_consultation(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    let elsewhere = ConsultationId::new("elsewhere").unwrap();
    let mut other = comment("9", "a");
    other.key.consultation = elsewhere.clone();
    queue.publish(&[comment("1", "a"), comment("2", "a"), comment("3", "a"), other]).await.unwrap();
    let held = queue.receive(2).await.unwrap();
    let park = Settlement::Park("why".to_owned());
    queue.settle(&[(held[0].tag, park)]).await.unwrap();
    let depth = |waiting, in_flight, parked| Depth { waiting, in_flight, parked };
    assert_eq!(queue.depth(None).await.unwrap(), depth(2, 1, 1));
    assert_eq!(queue.depth(Some(&mentoring())).await.unwrap(), depth(1, 1, 1));
    assert_eq!(queue.depth(Some(&elsewhere)).await.unwrap(), depth(1, 0, 0));
}

async fn what_is_given_back_comes_again_uncounted(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    for _ in 0..bench.delivery_budget() * 2 {
        assert_eq!(queue.receive(1).await.unwrap().len(), 1);
        assert_eq!(queue.release_all().await.unwrap(), 1);
    }
    assert_eq!(queue.depth(None).await.unwrap().waiting, 1);
}

async fn every_field_of_a_comment_survives(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    let mut full = revision("ü 1", 7, "line\n\u{0}\"👍");
    full.edited_at = Some("2024-05-01T10:00:00.123456789Z".parse().unwrap());
    full.posted_at = Some("2024-04-01T10:00:00Z".parse().unwrap());
    full.author = Author { id: None, name: Some("Ann".to_owned()), email: Some("ann@example.org".to_owned()) };
    full.url = Some("https://example.org/1".to_owned());
    full.parent_id = Some("0".to_owned());
    full.language = Some("en-GB".to_owned());
    full.groups.insert("ward".to_owned(), "North".to_owned());
    queue.publish(std::slice::from_ref(&full)).await.unwrap();
    let held = queue.receive(1).await.unwrap();
    assert_eq!(held[0].comment, Ok(full));
}
