//! What every [`Queue`] does, whatever keeps it.
//!
//! A broker hands out with a short delay, tells its counts late, knows no arrivals,
//! and counts in flight only what the asking process holds: the suite asks for
//! nothing beyond that. What the embedded queue promises on top is in `queue.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use moothall::domain::comment::{Author, ConsultationId};
use moothall::domain::decision::Verdict;
use moothall::pipeline::ports::{
    Arrival, Delivery, Depth, Judged, Keep, Lane, ParkedArrival, ParkedWhole, Published, Queue, Settlement, Store,
};
use tokio::time::Instant;

use crate::support::{arrived, comment, judged, mentoring, revision, wait_until};

/// A queue, empty at first, with a hand on its time and its workers.
#[async_trait::async_trait]
pub trait QueueUnderTest: Send + Sync {
    /// The queue as the first worker process sees it.
    fn queue(&self) -> Arc<dyn Queue>;
    /// The same queue as another process sees it.
    async fn another_process(&self) -> Arc<dyn Queue>;
    /// Ends the first process as SIGKILL does, and gives the queue as its successor
    /// sees it; [`QueueUnderTest::queue`] gives that too from now on.
    async fn kill_first(&mut self) -> Arc<dyn Queue>;
    /// Lets this much time pass, as the queue sees it.
    async fn pass_ms(&self, ms: u64);
    /// A pause that this queue keeps exactly.
    fn retry_ms(&self) -> u64;
    /// Attempts until an arrival is parked.
    fn delivery_budget(&self) -> u32;
    /// A throwaway store.
    async fn store(&self) -> Arc<dyn Store>;
    /// The queue refuses more once some `most` comments wait (a broker's limit is not exact);
    /// `None` takes the limit away. [`QueueUnderTest::queue`] gives it so from now on.
    async fn limit(&mut self, most: Option<u64>);
}

/// Runs the whole suite, each part on a queue of its own.
pub async fn queue_contract<F, T>(make: F)
where
    F: AsyncFn() -> T,
    T: QueueUnderTest,
{
    arrivals_come_in_order_and_once(make().await).await;
    a_known_arrival_changes_nothing(make().await).await;
    every_field_of_a_comment_survives(make().await).await;
    an_edit_stays_behind_its_creation(make().await).await;
    edits_take_effect_in_their_order_whatever_the_order_of_arrival(make().await).await;
    settling_twice_is_harmless(make().await).await;
    a_delivery_in_hand_survives_its_process(make().await).await;
    two_processes_share_the_work(make().await).await;
    a_retry_waits_its_time(make().await).await;
    uncounted_retries_never_end_in_parking(make().await).await;
    counted_retries_end_in_parking_and_a_replay_begins_anew(make().await).await;
    crashes_end_in_parking(make().await).await;
    a_parked_arrival_can_be_replayed_twice(make().await).await;
    a_parked_arrival_that_fails_again_is_parked_with_its_new_reason(make().await).await;
    what_is_urgent_overtakes_a_flood_and_stays_urgent(make().await).await;
    a_full_queue_refuses_and_loses_nothing_that_it_answered_for(make().await).await;
    only_deaths_are_counted_as_deaths(make().await).await;
    what_is_purged_was_kept_first(make().await).await;
    what_cannot_be_kept_is_not_purged(make().await).await;
    what_is_given_back_comes_again(make().await).await;
    a_drained_queue_holds_nothing(make().await).await;
}

/// How long a delivery may take to come.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(5);

/// Receives from all until `n` deliveries are in hand; each with the queue that gave it.
async fn collect(queues: &[&Arc<dyn Queue>], n: usize) -> Vec<(usize, Delivery)> {
    let deadline = Instant::now() + PATIENCE;
    let mut held = Vec::new();
    while held.len() < n {
        assert!(Instant::now() < deadline, "{} of {n} deliveries came", held.len());
        let before = held.len();
        for (from, queue) in queues.iter().enumerate() {
            // A few at a time, so that several queues take turns.
            let max = (n - held.len()).min(4);
            let some = queue.receive(max).await.unwrap();
            assert!(some.len() <= max, "asked for {max}, got {}", some.len());
            held.extend(some.into_iter().map(|delivery| (from, delivery)));
        }
        if held.len() == before {
            tokio::time::sleep(PAUSE).await;
        }
    }
    held
}

/// The next `n` deliveries.
pub async fn take(queue: &Arc<dyn Queue>, n: usize) -> Vec<Delivery> {
    collect(&[queue], n).await.into_iter().map(|(_, delivery)| delivery).collect()
}

/// Looks a few times: nothing is handed out.
async fn nothing_comes(queue: &Arc<dyn Queue>) {
    for _ in 0..3 {
        let held = queue.receive(9).await.unwrap();
        assert!(held.is_empty(), "{} came", ids(&held).join(", "));
        tokio::time::sleep(PAUSE).await;
    }
}

/// The parked arrivals once there are `n`, while nothing is handed out.
async fn parked(queue: &Arc<dyn Queue>, n: usize) -> Vec<ParkedArrival> {
    wait_until("they are parked", async || {
        // A queue may find out only when it would hand it out.
        assert!(queue.receive(9).await.unwrap().is_empty());
        queue.parked(None, 10).await.unwrap().len() == n
    })
    .await;
    queue.parked(None, 10).await.unwrap()
}

/// Replays `n` parked arrivals. What was looked at a moment ago may still be on its way back.
async fn replay(queue: &Arc<dyn Queue>, n: u64) {
    let deadline = Instant::now() + PATIENCE;
    let mut replayed = 0;
    while replayed < n {
        assert!(Instant::now() < deadline, "{replayed} of {n} were replayed");
        replayed += queue.replay(None).await.unwrap();
    }
    assert_eq!(replayed, n);
}

async fn is_empty(queue: &Arc<dyn Queue>) {
    wait_until("nothing is left", async || queue.depth(None).await.unwrap() == Depth::default()).await;
    nothing_comes(queue).await;
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| arrived(delivery).key.id.to_string()).collect()
}

fn all(deliveries: &[Delivery], settlement: &Settlement) -> Vec<(i64, Settlement)> {
    deliveries.iter().map(|d| (d.tag, settlement.clone())).collect()
}

async fn done(queue: &Arc<dyn Queue>, deliveries: &[Delivery]) {
    queue.settle(&all(deliveries, &Settlement::Done)).await.unwrap();
}

async fn arrivals_come_in_order_and_once(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    let comments: Vec<_> = (0..10).map(|n| comment(&n.to_string(), &format!("text {n}"))).collect();
    let published = queue.publish(&comments).await.unwrap();
    assert_eq!(published, Published { new: 10, known: 0 });
    let first = take(&queue, 4).await;
    let rest = take(&queue, 6).await;
    assert_eq!(ids(&first), ["0", "1", "2", "3"]);
    assert_eq!(ids(&rest), ["4", "5", "6", "7", "8", "9"]);
    let both = || first.iter().chain(&rest);
    assert!(both().all(|d| d.attempt == 1));
    assert!(both().is_sorted_by_key(|d| d.sequence));
    // Microseconds of some time after 2017.
    assert!(both().all(|d| d.sequence > 1_500_000_000_000_000));
    done(&queue, &first).await;
    done(&queue, &rest).await;
    is_empty(&queue).await;
}

/// Stores everything that comes, as a worker does that accepts everything.
async fn drain_into(store: &dyn Store, queue: &Arc<dyn Queue>) {
    wait_until("the queue is drained", async || {
        let held = queue.receive(16).await.unwrap();
        let batch: Vec<Judged> = held.iter().map(|d| judged(arrived(d).clone(), d.sequence, Verdict::Accept)).collect();
        store.record(&batch).await.unwrap();
        done(queue, &held).await;
        held.is_empty() && queue.depth(None).await.unwrap() == Depth::default()
    })
    .await;
}

/// The queue may know it already, and the store does.
async fn a_known_arrival_changes_nothing(bench: impl QueueUnderTest) {
    let (queue, store) = (bench.queue(), bench.store().await);
    let batch = [comment("1", "a"), comment("1", "a"), revision("2", 1, "b"), comment("3", "old"), comment("3", "new")];
    for _ in 0..3 {
        let published = queue.publish(&batch).await.unwrap();
        assert_eq!(published.new + published.known, batch.len() as u64);
        drain_into(&*store, &queue).await;
        bench.pass_ms(2).await;
    }
    let page = store.page(&mentoring(), i64::MIN, 9).await.unwrap();
    let mut current: Vec<_> = page.iter().map(|s| (s.comment.key.id.as_str(), s.comment.text.as_str())).collect();
    current.sort_unstable();
    assert_eq!(current, [("1", "a"), ("2", "b"), ("3", "new")]);
    // One for each arrival that became current.
    assert_eq!(store.backlog(None).await.unwrap().unsent, 4);
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
    let held = take(&queue, 1).await;
    assert_eq!(held[0].arrival, Ok(Arrival::Comment(Box::new(full))));
}

async fn an_edit_stays_behind_its_creation(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[revision("1", 1, "a"), comment("2", "x"), revision("1", 2, "b")]).await.unwrap();
    queue.publish(&[revision("1", 3, "c")]).await.unwrap();
    let held = take(&queue, 4).await;
    let revisions: Vec<_> = held.iter().map(|d| arrived(d).revision).collect();
    assert_eq!(revisions, [Some(1), None, Some(2), Some(3)]);
}

/// A worker that is not sure whether it was heard says it again.
async fn settling_twice_is_harmless(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a"), comment("2", "b")]).await.unwrap();
    let held = take(&queue, 2).await;
    done(&queue, &held[..1]).await;
    done(&queue, &held).await;
    queue.settle(&all(&held, &Settlement::Park("too late".to_owned()))).await.unwrap();
    is_empty(&queue).await;
}

async fn a_delivery_in_hand_survives_its_process(mut bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let first = take(&queue, 1).await;
    let queue = bench.kill_first().await;
    let second = take(&queue, 1).await;
    assert_eq!(second[0].arrival, first[0].arrival);
    assert!(second[0].attempt > first[0].attempt, "{} then {}", first[0].attempt, second[0].attempt);
    done(&queue, &second).await;
    is_empty(&queue).await;
}

async fn two_processes_share_the_work(mut bench: impl QueueUnderTest) {
    let here = bench.queue();
    let there = bench.another_process().await;
    let comments: Vec<_> = (0..40).map(|n| comment(&n.to_string(), "a")).collect();
    here.publish(&comments).await.unwrap();
    let held = collect(&[&here, &there], 40).await;
    let distinct: BTreeSet<_> = held.iter().map(|(_, d)| arrived(d).key.id.as_str()).collect();
    assert_eq!(distinct.len(), 40, "none is handed out twice");
    let (mine, theirs): (Vec<_>, Vec<_>) = held.iter().partition(|(from, _)| *from == 0);
    assert!(!mine.is_empty());
    let tags = |of: &[&(usize, Delivery)]| of.iter().map(|(_, d)| (d.tag, Settlement::Done)).collect::<Vec<_>>();
    there.settle(&tags(&theirs)).await.unwrap();
    // Another's delivery cannot be settled.
    there.settle(&tags(&mine)).await.unwrap();
    let here = bench.kill_first().await;
    let again = collect(&[&here, &there], mine.len()).await;
    let id = |d: &Delivery| arrived(d).key.id.to_string();
    let expected: BTreeSet<_> = mine.iter().map(|(_, d)| id(d)).collect();
    assert_eq!(again.iter().map(|(_, d)| id(d)).collect::<BTreeSet<_>>(), expected);
    nothing_comes(&here).await;
    nothing_comes(&there).await;
}

async fn a_retry_waits_its_time(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a"), comment("2", "b")]).await.unwrap();
    let first = take(&queue, 1).await;
    let later = Settlement::Retry { after_ms: bench.retry_ms(), counts: true };
    queue.settle(&all(&first, &later)).await.unwrap();
    assert_eq!(ids(&take(&queue, 1).await), ["2"]);
    // One look only: a real pause is short.
    assert!(queue.receive(9).await.unwrap().is_empty());
    wait_until("the pause is counted", async || queue.depth(None).await.unwrap().waiting == 1).await;
    bench.pass_ms(bench.retry_ms()).await;
    let second = take(&queue, 1).await;
    assert_eq!(second[0].arrival, first[0].arrival);
    assert_eq!((first[0].attempt, second[0].attempt), (1, 2));
    // It keeps its place in the order of arrivals.
    assert_eq!(second[0].sequence, first[0].sequence);
}

async fn uncounted_retries_never_end_in_parking(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let now = Settlement::Retry { after_ms: 0, counts: false };
    for _ in 0..bench.delivery_budget() * 2 {
        let held = take(&queue, 1).await;
        queue.settle(&all(&held, &now)).await.unwrap();
    }
    let held = take(&queue, 1).await;
    assert_eq!(queue.depth(None).await.unwrap().parked, 0);
    done(&queue, &held).await;
    is_empty(&queue).await;
}

async fn counted_retries_end_in_parking_and_a_replay_begins_anew(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let later = Settlement::Retry { after_ms: bench.retry_ms(), counts: true };
    for attempt in 1..=bench.delivery_budget() {
        let held = take(&queue, 1).await;
        assert_eq!(held[0].attempt, attempt);
        queue.settle(&all(&held, &later)).await.unwrap();
        bench.pass_ms(bench.retry_ms()).await;
    }
    let kept = parked(&queue, 1).await;
    assert!(kept[0].reason.contains("budget"), "{}", kept[0].reason);
    assert_eq!(kept[0].attempts, bench.delivery_budget());
    replay(&queue, 1).await;
    let held = take(&queue, 1).await;
    queue.settle(&all(&held, &later)).await.unwrap();
    bench.pass_ms(bench.retry_ms()).await;
    let held = take(&queue, 1).await;
    done(&queue, &held).await;
    is_empty(&queue).await;
}

/// It may be the comment itself that ends every process that touches it.
async fn crashes_end_in_parking(mut bench: impl QueueUnderTest) {
    bench.queue().publish(&[comment("1", "a")]).await.unwrap();
    for _ in 0..bench.delivery_budget() {
        let queue = bench.queue();
        assert_eq!(ids(&take(&queue, 1).await), ["1"]);
        bench.kill_first().await;
    }
    let kept = parked(&bench.queue(), 1).await;
    assert!(!kept[0].reason.is_empty());
    assert_eq!(kept[0].key, Some(comment("1", "a").key));
}

async fn a_parked_arrival_can_be_replayed_twice(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a"), comment("2", "b")]).await.unwrap();
    let held = take(&queue, 2).await;
    done(&queue, &held[1..]).await;
    let mut one = held.into_iter().take(1).collect::<Vec<_>>();
    for reason in ["panicked", "panicked again"] {
        queue.settle(&all(&one, &Settlement::Park(reason.to_owned()))).await.unwrap();
        let kept = parked(&queue, 1).await;
        assert_eq!(kept[0].reason, reason);
        assert_eq!(kept[0].key, Some(comment("1", "a").key));
        assert_eq!(queue.parked(Some(&mentoring()), 10).await.unwrap(), kept);
        wait_until("it is counted", async || {
            queue.depth(None).await.unwrap() == Depth { parked: 1, ..Depth::default() }
        })
        .await;
        let elsewhere = ConsultationId::new("elsewhere").unwrap();
        assert!(queue.parked(Some(&elsewhere), 10).await.unwrap().is_empty());
        assert_eq!(queue.replay(Some(&elsewhere)).await.unwrap(), 0);
        replay(&queue, 1).await;
        one = take(&queue, 1).await;
        assert_eq!(*arrived(&one[0]), comment("1", "a"));
    }
    done(&queue, &one).await;
    is_empty(&queue).await;
    assert!(queue.parked(None, 10).await.unwrap().is_empty());
}

async fn what_is_given_back_comes_again(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    let comments: Vec<_> = (0..10).map(|n| comment(&n.to_string(), "a")).collect();
    queue.publish(&comments).await.unwrap();
    let held = take(&queue, 10).await;
    assert_eq!(queue.release_all().await.unwrap(), 10);
    // What was given back is nobody's to settle.
    done(&queue, &held).await;
    let again = take(&queue, 10).await;
    assert_eq!(ids(&again).into_iter().collect::<BTreeSet<_>>(), ids(&held).into_iter().collect::<BTreeSet<_>>());
    done(&queue, &again).await;
    is_empty(&queue).await;
}

/// Each of the orders in which three revisions may arrive, and a redelivery of the first.
async fn edits_take_effect_in_their_order_whatever_the_order_of_arrival(bench: impl QueueUnderTest) {
    let (queue, store) = (bench.queue(), bench.store().await);
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for (n, order) in orders.iter().enumerate() {
        for edit in order {
            queue.publish(&[revision(&n.to_string(), *edit, &format!("text {edit}"))]).await.unwrap();
        }
    }
    drain_into(&*store, &queue).await;
    for n in 0..orders.len() {
        queue.publish(&[revision(&n.to_string(), 1, "text 1")]).await.unwrap();
    }
    drain_into(&*store, &queue).await;
    let page = store.page(&mentoring(), i64::MIN, 99).await.unwrap();
    assert_eq!(page.len(), orders.len());
    assert!(page.iter().all(|stored| stored.comment.text == "text 3"));
}

async fn a_parked_arrival_that_fails_again_is_parked_with_its_new_reason(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let later = Settlement::Retry { after_ms: bench.retry_ms(), counts: true };
    // By a reason, then by its budget, then by a reason again.
    let held = take(&queue, 1).await;
    queue.settle(&all(&held, &Settlement::Park("no rulebook".to_owned()))).await.unwrap();
    assert_eq!(parked(&queue, 1).await[0].reason, "no rulebook");
    replay(&queue, 1).await;
    for _ in 0..bench.delivery_budget() {
        let held = take(&queue, 1).await;
        queue.settle(&all(&held, &later)).await.unwrap();
        bench.pass_ms(bench.retry_ms()).await;
    }
    assert!(parked(&queue, 1).await[0].reason.contains("budget"));
    replay(&queue, 1).await;
    let held = take(&queue, 1).await;
    queue.settle(&all(&held, &Settlement::Park("panicked".to_owned()))).await.unwrap();
    assert_eq!(parked(&queue, 1).await[0].reason, "panicked");
}

async fn what_is_urgent_overtakes_a_flood_and_stays_urgent(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    let flood: Vec<_> = (0..30).map(|n| comment(&n.to_string(), "a")).collect();
    queue.publish(&flood).await.unwrap();
    queue.publish_in(Lane::Urgent, &[comment("u1", "help"), comment("u2", "help me")], None).await.unwrap();
    wait_until("all is there", async || queue.depth(None).await.unwrap().waiting == 32).await;
    let (urgent, work) = (queue.only_lane(Lane::Urgent), queue.only_lane(Lane::Work));
    // A slot of its own: the flood is all in hand, and nothing of it comes by the urgent lane.
    let held = take(&work, 30).await;
    let first = take(&urgent, 2).await;
    assert_eq!(ids(&first), ["u1", "u2"]);
    nothing_comes(&urgent).await;
    nothing_comes(&work).await;
    // Retried, parked and replayed it is urgent still.
    let later = Settlement::Retry { after_ms: bench.retry_ms(), counts: true };
    let ends = [(first[0].tag, later), (first[1].tag, Settlement::Park("why".to_owned()))];
    urgent.settle(&ends).await.unwrap();
    bench.pass_ms(bench.retry_ms()).await;
    let again = take(&urgent, 1).await;
    assert_eq!(ids(&again), ["u1"]);
    wait_until("it is parked", async || queue.parked(None, 9).await.unwrap().len() == 1).await;
    replay(&queue, 1).await;
    let replayed = take(&urgent, 1).await;
    assert_eq!(ids(&replayed), ["u2"]);
    nothing_comes(&work).await;
    done(&urgent, &again).await;
    done(&urgent, &replayed).await;
    done(&work, &held).await;
    // A worker that takes both is given both.
    queue.publish(&[comment("a", "a")]).await.unwrap();
    queue.publish_in(Lane::Urgent, &[comment("u3", "help")], None).await.unwrap();
    let held = take(&queue, 2).await;
    assert_eq!(ids(&held).into_iter().collect::<BTreeSet<_>>(), ["a", "u3"].map(str::to_owned).into());
    done(&queue, &held).await;
    is_empty(&queue).await;
}

async fn a_full_queue_refuses_and_loses_nothing_that_it_answered_for(mut bench: impl QueueUnderTest) {
    bench.limit(Some(20)).await;
    let queue = bench.queue();
    let mut answered = BTreeSet::new();
    let mut refused = None;
    for n in 0..400 {
        let batch: Vec<_> = (0..3).map(|part| comment(&format!("{n}-{part}"), "a")).collect();
        match queue.publish(&batch).await {
            Ok(published) => {
                assert_eq!(published.new, 3);
                answered.extend(batch.iter().map(|one| one.key.id.to_string()));
            }
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                assert!(error.to_string().contains("full"), "{error}");
                refused = Some(batch);
                break;
            }
        }
    }
    let refused = refused.expect("400 batches went into a queue of 20");
    assert!(!answered.is_empty());
    bench.limit(None).await;
    let queue = bench.queue();
    // Everything that it answered for is there; of what it refused some may be.
    let mut seen = BTreeSet::new();
    come(&queue, &mut seen, &answered).await;
    // And it takes more again: sent once more, all of it is there.
    wait_until("it takes more", async || queue.publish(&refused).await.is_ok()).await;
    let again: BTreeSet<_> = refused.iter().map(|one| one.key.id.to_string()).collect();
    come(&queue, &mut seen, &again).await;
}

/// Takes and settles what comes until all of `wanted` has been seen.
async fn come(queue: &Arc<dyn Queue>, seen: &mut BTreeSet<String>, wanted: &BTreeSet<String>) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted.is_subset(seen) {
        assert!(Instant::now() < deadline, "{:?} did not come", wanted.difference(seen));
        let held = queue.receive(16).await.unwrap();
        seen.extend(ids(&held));
        done(queue, &held).await;
    }
}

async fn only_deaths_are_counted_as_deaths(mut bench: impl QueueUnderTest) {
    let queue = bench.queue();
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let now = Settlement::Retry { after_ms: 0, counts: false };
    for _ in 0..3 {
        let held = take(&queue, 1).await;
        assert_eq!(held[0].deaths, 0);
        queue.settle(&all(&held, &now)).await.unwrap();
    }
    let held = take(&queue, 1).await;
    queue.settle(&all(&held, &Settlement::Retry { after_ms: bench.retry_ms(), counts: true })).await.unwrap();
    bench.pass_ms(bench.retry_ms()).await;
    assert_eq!(take(&queue, 1).await[0].deaths, 0);
    for deaths in 1..=2 {
        let queue = bench.kill_first().await;
        assert_eq!(take(&queue, 1).await[0].deaths, deaths);
    }
}

/// Keeps in memory what is handed to it, until it is told to fail.
#[derive(Default)]
struct Memory {
    kept: Vec<ParkedWhole>,
    fails: bool,
}

#[async_trait::async_trait]
impl Keep for Memory {
    async fn keep(&mut self, parked: &[ParkedWhole]) -> Result<(), String> {
        if self.fails {
            return Err("no space left on device".to_owned());
        }
        self.kept.extend_from_slice(parked);
        Ok(())
    }
}

/// Parks what is published.
async fn park(queue: &Arc<dyn Queue>, lane: Lane, id: &str) {
    queue.publish_in(lane, &[comment(id, "a secret")], None).await.unwrap();
    let held = take(queue, 1).await;
    queue.settle(&all(&held, &Settlement::Park(format!("reason {id}")))).await.unwrap();
}

async fn what_is_purged_was_kept_first(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    for (lane, id) in [(Lane::Work, "1"), (Lane::Urgent, "2"), (Lane::Work, "3")] {
        park(&queue, lane, id).await;
    }
    queue.publish(&[comment("4", "waits")]).await.unwrap();
    let shown = parked(&bench.another_process().await.only_lane(Lane::Urgent), 3).await;
    let mut memory = Memory::default();
    let elsewhere = ConsultationId::new("elsewhere").unwrap();
    assert_eq!(queue.purge_parked(Some(&elsewhere), &mut memory).await.unwrap(), 0);
    assert!(memory.kept.is_empty());
    wait_until("what was looked at is back", async || queue.depth(None).await.unwrap().parked == 3).await;
    assert_eq!(queue.purge_parked(Some(&mentoring()), &mut memory).await.unwrap(), 3);
    assert_eq!(memory.kept.iter().map(|one| one.arrival.clone()).collect::<Vec<_>>(), shown);
    assert_eq!(memory.kept.iter().map(|one| one.lane).collect::<Vec<_>>(), [Lane::Work, Lane::Urgent, Lane::Work]);
    assert!(memory.kept.iter().all(|one| String::from_utf8_lossy(&one.body).contains("a secret")));
    wait_until("they are gone", async || queue.depth(None).await.unwrap().parked == 0).await;
    assert_eq!(queue.replay(None).await.unwrap(), 0);
    assert_eq!(queue.purge_parked(None, &mut memory).await.unwrap(), 0);
    assert_eq!(ids(&take(&queue, 1).await), ["4"]);
}

async fn what_cannot_be_kept_is_not_purged(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    park(&queue, Lane::Work, "1").await;
    park(&queue, Lane::Work, "2").await;
    wait_until("both are parked", async || queue.depth(None).await.unwrap().parked == 2).await;
    let mut memory = Memory { fails: true, ..Memory::default() };
    let error = queue.purge_parked(None, &mut memory).await.unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    wait_until("both are there still", async || queue.depth(None).await.unwrap().parked == 2).await;
    replay(&queue, 2).await;
    assert_eq!(take(&queue, 2).await.len(), 2);
}

async fn a_drained_queue_holds_nothing(bench: impl QueueUnderTest) {
    let queue = bench.queue();
    let comments: Vec<_> = (0..150).map(|n| comment(&n.to_string(), &format!("text {n}"))).collect();
    for chunk in comments.chunks(50) {
        queue.publish(chunk).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 150 {
        let held = take(&queue, 15).await;
        seen.extend(ids(&held));
        done(&queue, &held).await;
    }
    is_empty(&queue).await;
}
