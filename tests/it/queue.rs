//! The embedded queue: the contract, and what only it does.

use std::sync::Arc;
use std::time::Instant;

use moothall::broker::embedded::EmbeddedLimits;
use moothall::pipeline::ports::{Queue, Settlement};

use crate::contract::queue::{QueueUnderTest, queue_contract};
use crate::support::{Bench, comment};

const LIMITS: EmbeddedLimits = EmbeddedLimits { lease_ms: 60_000, delivery_budget: 5 };

struct Embedded {
    bench: Bench,
    queue: Arc<dyn Queue>,
}

#[async_trait::async_trait]
impl QueueUnderTest for Embedded {
    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }
    async fn another_process(&self) -> Arc<dyn Queue> {
        Arc::new(self.bench.queue_with("another", LIMITS).await)
    }
    async fn pass_ms(&self, ms: i64) {
        self.bench.hand.advance_ms(ms);
    }
    fn lease_ms(&self) -> i64 {
        LIMITS.lease_ms
    }
    fn delivery_budget(&self) -> u32 {
        LIMITS.delivery_budget
    }
}

#[tokio::test]
async fn the_embedded_queue_keeps_the_contract() {
    queue_contract(async || {
        let bench = Bench::new();
        let queue = Arc::new(bench.queue_with("first", LIMITS).await);
        Embedded { bench, queue }
    })
    .await;
}

#[tokio::test]
async fn the_leases_of_a_process_that_is_gone_are_taken_back_at_start() {
    let bench = Bench::new();
    let gone = bench.queue("gone").await;
    gone.publish(&[comment("1", "a"), comment("2", "b")]).await.unwrap();
    let alive = bench.queue("alive").await;
    assert_eq!(gone.receive(1).await.unwrap().len(), 1);
    assert_eq!(alive.receive(1).await.unwrap().len(), 1);
    drop(gone);
    // Its file is removed in good order; a killed process leaves it, unlocked.
    let left = bench.path().with_file_name("moothall.db.owners/gone");
    std::fs::write(left, "").unwrap();
    let next = bench.queue("next").await;
    let held = next.receive(9).await.unwrap();
    let ids: Vec<_> = held.iter().map(|d| d.comment.as_ref().unwrap().key.id.as_str()).collect();
    assert_eq!(ids, ["1"]);
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
    let why = held[0].comment.as_ref().unwrap_err();
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
