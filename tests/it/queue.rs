//! The embedded queue: the contract, and what only it does.

use std::sync::Arc;
use std::time::Instant;

use moothall::broker::embedded::{EmbeddedLimits, EmbeddedQueue};
use moothall::domain::comment::ConsultationId;
use moothall::pipeline::ports::{Delivery, Depth, Lane, Published, Queue, Settlement, Store};

use crate::contract::queue::{QueueUnderTest, queue_contract};
use crate::support::{Bench, arrived, comment, mentoring};

const LIMITS: EmbeddedLimits = EmbeddedLimits { lease_ms: 60_000, delivery_budget: 5, most_waiting: 0 };

struct Embedded {
    bench: Bench,
    queue: Arc<dyn Queue>,
    /// Which process is the first by now.
    first: u32,
}

/// The kernel drops the lock of a killed process and leaves its file.
fn kill(bench: &Bench, owner: &str) {
    let lock = bench.path().with_file_name("moothall.db.owners").join(owner);
    // A file of the same name that nobody has locked: other handles keep the old one.
    let _ = std::fs::remove_file(&lock);
    std::fs::write(lock, "").unwrap();
}

#[async_trait::async_trait]
impl QueueUnderTest for Embedded {
    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }
    async fn another_process(&self) -> Arc<dyn Queue> {
        Arc::new(self.bench.queue_with("another", LIMITS).await)
    }
    async fn kill_first(&mut self) -> Arc<dyn Queue> {
        kill(&self.bench, &format!("first{}", self.first));
        self.first += 1;
        self.queue = Arc::new(self.bench.queue_with(&format!("first{}", self.first), LIMITS).await);
        self.queue.clone()
    }
    async fn pass_ms(&self, ms: u64) {
        self.bench.hand.advance_ms(ms.cast_signed());
    }
    fn retry_ms(&self) -> u64 {
        500
    }
    fn delivery_budget(&self) -> u32 {
        LIMITS.delivery_budget
    }
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.bench.store().await)
    }
    async fn limit(&mut self, most: Option<u64>) {
        self.first += 1;
        let limits = EmbeddedLimits { most_waiting: most.unwrap_or(0), ..LIMITS };
        self.queue = Arc::new(self.bench.queue_with(&format!("first{}", self.first), limits).await);
    }
}

#[tokio::test]
async fn the_embedded_queue_keeps_the_contract() {
    queue_contract(async || {
        let bench = Bench::new();
        let queue = Arc::new(bench.queue_with("first0", LIMITS).await);
        Embedded { bench, queue, first: 0 }
    })
    .await;
}

async fn bench_and_queue() -> (Bench, EmbeddedQueue) {
    let bench = Bench::new();
    let queue = bench.queue_with("one", LIMITS).await;
    (bench, queue)
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|d| arrived(d).key.id.as_str()).collect()
}

fn tags(deliveries: &[Delivery]) -> Vec<i64> {
    deliveries.iter().map(|d| d.tag).collect()
}

fn all(deliveries: &[Delivery], settlement: &Settlement) -> Vec<(i64, Settlement)> {
    deliveries.iter().map(|d| (d.tag, settlement.clone())).collect()
}

#[tokio::test]
async fn a_known_arrival_is_known_at_the_door() {
    let (_bench, queue) = bench_and_queue().await;
    let batch = [comment("1", "a"), comment("1", "a"), comment("1", "b")];
    assert_eq!(queue.publish(&batch).await.unwrap(), Published { new: 2, known: 1 });
    // Also once it is done or parked.
    let held = queue.receive(9).await.unwrap();
    let ends = [(held[0].tag, Settlement::Done), (held[1].tag, Settlement::Park("why".to_owned()))];
    queue.settle(&ends).await.unwrap();
    assert_eq!(queue.publish(&batch).await.unwrap(), Published { new: 0, known: 3 });
    assert!(queue.receive(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_delivery_that_is_held_too_long_comes_again() {
    let (bench, queue) = bench_and_queue().await;
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let first = queue.receive(9).await.unwrap();
    bench.hand.advance_ms(LIMITS.lease_ms - 1);
    assert!(queue.receive(9).await.unwrap().is_empty());
    bench.hand.advance_ms(1);
    let second = queue.receive(9).await.unwrap();
    assert_eq!(ids(&second), ["1"]);
    assert_eq!((first[0].attempt, second[0].attempt), (1, 2));
}

#[tokio::test]
async fn a_renewed_lease_is_kept() {
    let (bench, queue) = bench_and_queue().await;
    queue.publish(&[comment("1", "a")]).await.unwrap();
    let held = queue.receive(9).await.unwrap();
    for _ in 0..3 {
        bench.hand.advance_ms(LIMITS.lease_ms - 1);
        queue.renew(&tags(&held)).await.unwrap();
    }
    assert!(queue.receive(9).await.unwrap().is_empty());
    queue.settle(&all(&held, &Settlement::Done)).await.unwrap();
    assert_eq!(queue.depth(None).await.unwrap(), Depth::default());
}

#[tokio::test]
async fn leases_that_run_out_end_in_parking() {
    let (bench, queue) = bench_and_queue().await;
    queue.publish(&[comment("1", "a")]).await.unwrap();
    for _ in 0..LIMITS.delivery_budget {
        assert_eq!(queue.receive(1).await.unwrap().len(), 1);
        bench.hand.advance_ms(LIMITS.lease_ms);
    }
    assert!(queue.receive(1).await.unwrap().is_empty());
    assert_eq!(queue.depth(None).await.unwrap().parked, 1);
}

#[tokio::test]
async fn a_clock_that_was_ahead_keeps_nothing_waiting() {
    const DAY_MS: i64 = 86_400_000;
    let (bench, queue) = bench_and_queue().await;
    bench.hand.advance_ms(DAY_MS);
    queue.publish(&[comment("1", "a"), comment("2", "b"), comment("3", "c")]).await.unwrap();
    let held = queue.receive(1).await.unwrap();
    queue.settle(&all(&held, &Settlement::Retry { after_ms: 1_000, counts: true })).await.unwrap();
    assert_eq!(ids(&queue.receive(1).await.unwrap()), ["2"]);
    bench.hand.advance_ms(-DAY_MS);
    // Put off, leased, and never touched.
    assert_eq!(ids(&queue.receive(9).await.unwrap()), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_payload_that_is_no_text_keeps_no_neighbour_from_being_read() {
    let (bench, queue) = bench_and_queue().await;
    queue.publish(&[comment("1", "a"), comment("2", "b")]).await.unwrap();
    let mut tx = bench.database().await.write().await.unwrap();
    sqlx::query("UPDATE queue SET payload = x'ff00ff' WHERE id = '1'").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let deliveries = queue.receive(9).await.unwrap();
    assert!(deliveries[0].arrival.is_err());
    assert_eq!(ids(&deliveries[1..]), ["2"]);
}

#[tokio::test]
async fn what_is_given_back_in_good_order_costs_no_attempt() {
    let (_bench, queue) = bench_and_queue().await;
    queue.publish(&[comment("1", "a")]).await.unwrap();
    for _ in 0..LIMITS.delivery_budget * 2 {
        assert_eq!(queue.receive(1).await.unwrap().len(), 1);
        assert_eq!(queue.release_all().await.unwrap(), 1);
    }
    assert_eq!(queue.depth(None).await.unwrap().waiting, 1);
}

#[tokio::test]
async fn another_process_takes_over_where_the_first_stopped_and_touches_nothing_of_it() {
    let (bench, here) = bench_and_queue().await;
    let there = bench.queue_with("another", LIMITS).await;
    let comments: Vec<_> = (0..6).map(|n| comment(&n.to_string(), "a")).collect();
    here.publish(&comments).await.unwrap();
    let mine = here.receive(3).await.unwrap();
    let theirs = there.receive(9).await.unwrap();
    assert_eq!(ids(&mine), ["0", "1", "2"]);
    assert_eq!(ids(&theirs), ["3", "4", "5"]);
    for settlement in [Settlement::Done, Settlement::Park("not mine".to_owned())] {
        there.settle(&all(&mine, &settlement)).await.unwrap();
    }
    assert_eq!(there.release_all().await.unwrap(), 3);
    // The counts are those of all processes.
    for queue in [&here, &there] {
        let expected = Depth { waiting: 3, in_flight: 3, parked: 0 };
        assert_eq!(queue.depth(None).await.unwrap(), expected);
    }
    here.settle(&all(&mine, &Settlement::Done)).await.unwrap();
    assert_eq!(there.depth(None).await.unwrap().in_flight, 0);
}

#[tokio::test]
async fn urgent_comments_are_handed_out_before_those_that_came_earlier() {
    let (_bench, queue) = bench_and_queue().await;
    queue.publish(&[comment("1", "a"), comment("2", "a")]).await.unwrap();
    queue.publish_in(Lane::Urgent, &[comment("u1", "a"), comment("u2", "a")], None).await.unwrap();
    assert_eq!(ids(&queue.receive(3).await.unwrap()), ["u1", "u2", "1"]);
    assert_eq!(ids(&queue.receive(3).await.unwrap()), ["2"]);
}

#[tokio::test]
async fn depth_is_told_by_consultation() {
    let (_bench, queue) = bench_and_queue().await;
    let elsewhere = ConsultationId::new("elsewhere").unwrap();
    let mut other = comment("9", "a");
    other.key.consultation = elsewhere.clone();
    queue.publish(&[comment("1", "a"), comment("2", "a"), comment("3", "a"), other]).await.unwrap();
    let held = queue.receive(2).await.unwrap();
    queue.settle(&[(held[0].tag, Settlement::Park("why".to_owned()))]).await.unwrap();
    let depth = |waiting, in_flight, parked| Depth { waiting, in_flight, parked };
    assert_eq!(queue.depth(None).await.unwrap(), depth(2, 1, 1));
    assert_eq!(queue.depth(Some(&mentoring())).await.unwrap(), depth(1, 1, 1));
    assert_eq!(queue.depth(Some(&elsewhere)).await.unwrap(), depth(1, 0, 0));
}

#[tokio::test]
async fn arrivals_are_counted_in_microseconds_whatever_the_clock_does() {
    let (bench, queue) = bench_and_queue().await;
    let start_us = bench.clock.now_ms() * 1_000;
    // More rows than one statement takes.
    let batch = |from: u32, n: u32| (from..from + n).map(|n| comment(&n.to_string(), "a")).collect::<Vec<_>>();
    queue.publish(&batch(0, 450)).await.unwrap();
    // The clock stands still, half of the batch is known.
    queue.publish(&batch(400, 100)).await.unwrap();
    // It goes back by a day, on by two, and stands at a time before 1970.
    let day_ms = 24 * 60 * 60 * 1_000;
    for (n, by_ms) in [(500, -day_ms), (501, 2 * day_ms), (502, -bench.clock.now_ms() - 3 * day_ms)] {
        bench.hand.advance_ms(by_ms);
        queue.publish(&batch(n, 1)).await.unwrap();
    }
    bench.hand.advance_ms(30_000 * day_ms);
    let held = queue.receive(1_000).await.unwrap();
    let expected: Vec<_> = (0..503).map(|n| n.to_string()).collect();
    assert_eq!(ids(&held), expected);
    let sequences: Vec<_> = held.iter().map(|d| d.sequence).collect();
    assert!(sequences.is_sorted_by(|a, b| a < b));
    assert_eq!(sequences[..450], (start_us..start_us + 450).collect::<Vec<_>>());
    assert_eq!(sequences[501], start_us + day_ms * 1_000);
    assert_eq!(sequences[502], sequences[501] + 1);
}

#[tokio::test]
async fn rows_that_were_counted_from_one_stay_ahead() {
    let (bench, queue) = bench_and_queue().await;
    queue.publish(&[comment("1", "a"), comment("2", "a")]).await.unwrap();
    let mut tx = bench.database().await.write().await.unwrap();
    sqlx::query("UPDATE queue SET sequence = CAST(id AS INTEGER)").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    queue.publish(&[comment("3", "a")]).await.unwrap();
    let held = queue.receive(9).await.unwrap();
    assert_eq!(ids(&held), ["1", "2", "3"]);
    assert_eq!(tags(&held), [1, 2, bench.clock.now_ms() * 1_000]);
    queue.settle(&all(&held, &Settlement::Done)).await.unwrap();
    assert_eq!(queue.depth(None).await.unwrap(), Depth::default());
}

#[tokio::test]
async fn the_leases_of_a_process_that_is_gone_are_taken_back_at_start() {
    let bench = Bench::new();
    let gone = bench.queue("gone").await;
    gone.publish(&[comment("1", "a"), comment("2", "b")]).await.unwrap();
    let alive = bench.queue("alive").await;
    assert_eq!(gone.receive(1).await.unwrap().len(), 1);
    assert_eq!(alive.receive(1).await.unwrap().len(), 1);
    kill(&bench, "gone");
    let next = bench.queue("next").await;
    let held = next.receive(9).await.unwrap();
    assert_eq!(ids(&held), ["1"]);
    assert_eq!(next.depth(None).await.unwrap().in_flight, 2);
}

#[tokio::test]
async fn bytes_that_are_no_comment_are_delivered_as_such() {
    let bench = Bench::new();
    let queue = bench.queue("one").await;
    queue.publish(&[comment("1", "a secret")]).await.unwrap();
    let mut tx = bench.database().await.write().await.unwrap();
    sqlx::query("UPDATE queue SET payload = '{\"id\":\"1\",\"text\":[\"a secret\"]}'").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let held = queue.receive(1).await.unwrap();
    let why = held[0].arrival.as_ref().unwrap_err();
    assert!(why.contains("not a comment") && !why.contains("secret"), "{why}");
}

#[tokio::test]
async fn a_settled_comment_leaves_no_text_in_the_queue() {
    let bench = Bench::new();
    let queue = bench.queue("one").await;
    queue.publish(&[comment("1", "a secret")]).await.unwrap();
    let held = queue.receive(1).await.unwrap();
    queue.settle(&[(held[0].tag, Settlement::Done)]).await.unwrap();
    let database = bench.database().await;
    let payloads: i64 = sqlx::query_scalar("SELECT count(*) FROM queue WHERE payload IS NOT NULL")
        .fetch_one(database.reader())
        .await
        .unwrap();
    assert_eq!(payloads, 0);
}

#[tokio::test]
async fn twenty_thousand_rows_are_published_in_seconds() {
    let bench = Bench::new();
    let queue = bench.queue("one").await;
    let comments: Vec<_> = (0..20_000)
        .map(|n| comment(&n.to_string(), &format!("comment number {n}, of a usual length for a consultation")))
        .collect();
    let started = Instant::now();
    for chunk in comments.chunks(500) {
        queue.publish(chunk).await.unwrap();
    }
    let took = started.elapsed();
    println!("published 20,000 rows in {took:?}");
    // A rough guard only: test machines are shared. The bar is 20,000 a second.
    assert!(took.as_secs() < 10, "{took:?}");
}
