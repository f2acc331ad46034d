//! How much a worker should take at once: measured, and the number of workers with it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Failure;
use super::broker::{BrokerBench, Setting};
use super::stub::Stub;
use crate::broker::rabbitmq::{RabbitConfig, RabbitQueue};
use crate::domain::comment::{Comment, ConsultationId};
use crate::domain::trace::Trace;
use crate::pipeline::ports::{Delivery, Depth, Keep, Lane, ParkedArrival, Published, Queue, QueueError, Settlement};

/// What one comment takes where workers are counted: about an encoder pass on one core.
const FIXED: Duration = Duration::from_millis(5);

/// Prints a Markdown table for prefetch and batch size, one for the age of a batch, one for the number of workers.
pub async fn run(bench: &BrokerBench<'_>, config: &Arc<RabbitConfig>, stub: &Stub) -> Result<(), Failure> {
    let (quick, count) = (stub.waiting(Duration::ZERO), bench.count);
    let rate = |count: usize, took: Duration| count as f64 / took.as_secs_f64().max(1e-9);
    println!("\n| batch | prefetch | messages/s |\n|--:|--:|--:|");
    for batch in [16, 64, 256, 512] {
        for times in [1, 2, 4] {
            let prefetch = u16::try_from(batch * times).unwrap_or(u16::MAX);
            let setting = Setting { prefetch, batch, age: Duration::ZERO, workers: 1 };
            let took = bench.worker_loop(config, Arc::clone(&quick), count, batch + times, setting).await?;
            println!("| {batch} | {prefetch} | {:.0} |", rate(count, took.wall));
        }
    }
    println!("\n| batch age, ms | messages/s |\n|--:|--:|");
    for age_ms in [0, 2, 10, 50] {
        let setting = Setting { prefetch: 256, batch: 64, age: Duration::from_millis(age_ms), workers: 1 };
        let took = bench.worker_loop(config, Arc::clone(&quick), count, 900 + age_ms as usize, setting).await?;
        println!("| {age_ms} | {:.0} |", rate(count, took.wall));
    }
    let (waiting, count) = (stub.waiting(FIXED), count / 4);
    println!("\n| workers | messages/s at {} ms of waiting each | times one |\n|--:|--:|--:|", FIXED.as_millis());
    let mut one = 0.0;
    for workers in [1, 2, 4] {
        let setting = Setting { prefetch: 256, batch: 64, age: Duration::ZERO, workers };
        let took = bench.worker_loop(config, Arc::clone(&waiting), count, 700 + workers, setting).await?;
        let rate = rate(count, took.wall);
        if workers == 1 {
            one = rate;
        }
        println!("| {workers} | {rate:.0} | {:.2} |", rate / one);
    }
    Ok(())
}

/// A queue whose batches wait for more when they are not full. The product's do not: what it
/// costs and brings is measured here.
pub struct Aged {
    pub inner: RabbitQueue,
    pub age: Duration,
}

#[async_trait]
impl Queue for Aged {
    async fn publish_in(
        &self,
        lane: Lane,
        comments: &[Comment],
        trace: Option<&Trace>,
    ) -> Result<Published, QueueError> {
        self.inner.publish_in(lane, comments, trace).await
    }
    fn only_lane(&self, lane: Lane) -> Arc<dyn Queue> {
        self.inner.only_lane(lane)
    }
    async fn purge_parked(
        &self,
        consultation: Option<&ConsultationId>,
        keep: &mut dyn Keep,
    ) -> Result<u64, QueueError> {
        self.inner.purge_parked(consultation, keep).await
    }
    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let mut deliveries = self.inner.receive(max).await?;
        if !self.age.is_zero() && !deliveries.is_empty() && deliveries.len() < max {
            tokio::time::sleep(self.age).await;
            deliveries.extend(self.inner.receive(max - deliveries.len()).await?);
        }
        Ok(deliveries)
    }
    async fn settle(&self, settlements: &[(i64, Settlement)]) -> Result<(), QueueError> {
        self.inner.settle(settlements).await
    }
    async fn depth(&self, consultation: Option<&ConsultationId>) -> Result<Depth, QueueError> {
        self.inner.depth(consultation).await
    }
    async fn renew(&self, tags: &[i64]) -> Result<(), QueueError> {
        self.inner.renew(tags).await
    }
    async fn release_all(&self) -> Result<u64, QueueError> {
        self.inner.release_all().await
    }
    async fn parked(
        &self,
        consultation: Option<&ConsultationId>,
        limit: u32,
    ) -> Result<Vec<ParkedArrival>, QueueError> {
        self.inner.parked(consultation, limit).await
    }
    async fn replay(&self, consultation: Option<&ConsultationId>) -> Result<u64, QueueError> {
        self.inner.replay(consultation).await
    }
}
