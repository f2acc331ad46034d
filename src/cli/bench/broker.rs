//! The whole worker loop on RabbitMQ against a bare client that consumes, publishes
//! and acknowledges with the same confirms: how much of the broker is left.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation};

use super::clock::{Stopwatch, Took};
use super::line::{comments, encoder_alone};
use super::texts::texts;
use crate::app::{LineJudge, Storage, StorePlace};
use crate::broker::rabbitmq::{Lane, RabbitConfig, RabbitPublisher, RabbitQueue, short};
use crate::cli::Failure;
use crate::domain::assessment::Assessment;
use crate::domain::comment::{Comment, ConsultationId};
use crate::domain::rulebook::{PipelineVersion, Rulebook};
use crate::engine::Models;
use crate::pipeline::clock::Clock;
use crate::pipeline::outbox::{self, RelayDeps, RelaySettings};
use crate::pipeline::ports::{EngineError, Judge, Judged, OutboxRow, Publisher, Queue};
use crate::pipeline::pulse::Pulse;
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::worker;
use crate::settings::Settings;
use crate::wire::event::{AssessedEventV1, COMMENT_ASSESSED, outbox_event};

/// Messages of the bare client under way at once.
const WINDOW: usize = 256;
/// Deliveries that either side holds at most.
const PREFETCH: u16 = 2_048;
/// Words of a comment.
const WORDS: usize = 32;
/// Comments of a round with the real engine.
const JUDGED: usize = 512;
/// Comments of one publish, so that the memory stays small.
const CHUNK: usize = 1_000;

/// What the bench works with.
pub struct BrokerBench<'a> {
    pub settings: &'a Settings,
    pub rulebook: &'a Arc<Rulebook>,
    pub models: &'a Arc<Models>,
    pub config: RabbitConfig,
    pub count: usize,
    pub rounds: usize,
}

impl BrokerBench<'_> {
    /// Measures both sides in turn and prints the ratio. `judge` is the real one.
    pub async fn run(self, judge: Arc<LineJudge>) -> Result<(), Failure> {
        let config = Arc::new(RabbitConfig { prefetch: PREFETCH, ..self.config.clone() });
        let measured = self.measure(&config, &judge).await;
        // Everything that this bench has made under a prefix of its own.
        let cleaned = clean(&config).await;
        measured?;
        cleaned
    }

    async fn measure(&self, config: &Arc<RabbitConfig>, judge: &Arc<LineJudge>) -> Result<(), Failure> {
        let sample = judge.judge_texts(&[(texts(1, WORDS, 7)[0].as_str(), None)]).await?;
        let sample = sample.into_iter().next().context("one text, one assessment")?;
        let result = self.result(&sample)?;
        let stub: Arc<dyn Judge> = Arc::new(Stub { version: self.rulebook.version.clone(), sample });
        // Makes the topology and leaves.
        RabbitQueue::subscribe(Arc::clone(config), Clock::system(), Pulse::default()).await?.close().await;
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for round in 0..self.rounds.max(1) {
            bare.push(self.bare_client(config, &result, round * 2).await?);
            expect_empty(config, "the bare client").await?;
            ours.push(self.worker_loop(config, Arc::clone(&stub), self.count, round * 2 + 1).await?);
            expect_empty(config, "the worker loop").await?;
        }
        let (bare, ours) = (median(bare), median(ours));
        let per = |took: Took| self.count as f64 / took.wall.as_secs_f64().max(1e-9);
        println!("\non RabbitMQ, {} messages a round, median of {}: messages per second", self.count, self.rounds);
        println!("a bare client (consume, publish, confirm, acknowledge)   {:>9.0}", per(bare));
        println!("the worker loop with a stub engine, store and relay      {:>9.0}", per(ours));
        println!("ratio                                                    {:>9.2}", per(ours) / per(bare));
        self.with_the_engine(config, judge).await
    }

    /// The same line with the real engine, against the encoder alone in processor time.
    async fn with_the_engine(&self, config: &Arc<RabbitConfig>, judge: &Arc<LineJudge>) -> Result<(), Failure> {
        let (mut alone, mut whole) = (Vec::new(), Vec::new());
        for round in 0..self.rounds.max(1) {
            let seed = 1_000 + round;
            alone.push(encoder_alone(self.models, &texts(JUDGED, WORDS, seed), 1)?);
            let judge: Arc<dyn Judge> = Arc::clone(judge) as Arc<dyn Judge>;
            whole.push(self.worker_loop(config, judge, JUDGED, seed).await?);
        }
        let (alone, whole) = (median(alone), median(whole));
        let costs = whole.processor.as_secs_f64() / alone.processor.as_secs_f64().max(1e-9) - 1.0;
        println!("\nwith the real engine, {JUDGED} comments of {WORDS} words, in processor time of this process");
        println!("the line on RabbitMQ costs above the encoder alone       {:>8.1} %", costs * 100.0);
        Ok(())
    }

    /// Consumes, publishes as much again with confirms, acknowledges: nothing else.
    async fn bare_client(&self, config: &Arc<RabbitConfig>, result: &[u8], seed: usize) -> Result<Took, Failure> {
        let count = self.count;
        let (consuming, channel) = connect(config).await?;
        let (publishing, results) = connect(config).await?;
        results.confirm_select(ConfirmSelectOptions::default()).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let queue = short(&config.names.work_queue);
        let deliveries = channel.basic_consume(queue, short("bare"), options, FieldTable::default()).await?;
        // Both sides are connected and subscribed before the clock starts.
        self.fill(config, count, seed).await?;
        let watch = Stopwatch::start()?;
        let exchange = short(&config.names.out_exchange);
        let mut done = deliveries
            .take(count)
            .map(|delivery| {
                let (results, exchange) = (results.clone(), exchange.clone());
                async move {
                    let delivery = delivery?;
                    // Those of our own events: id, time, type and header come with the message.
                    let properties = delivery.properties.clone();
                    let key = COMMENT_ASSESSED.into();
                    let publish = BasicPublishOptions::default();
                    let confirm = results.basic_publish(exchange, key, publish, result, properties).await?.await?;
                    let confirmed = confirm == Confirmation::Ack(None);
                    let acknowledged = delivery.acker.ack(BasicAckOptions::default()).await?;
                    Ok::<bool, lapin::Error>(confirmed && acknowledged)
                }
            })
            .buffer_unordered(WINDOW);
        while let Some(confirmed) = tokio::time::timeout(Duration::from_mins(1), done.next()).await? {
            if !confirmed? {
                return Err(anyhow::anyhow!("a message of the bare client was refused or not acknowledged").into());
            }
        }
        let took = watch.took()?;
        drop(done);
        // Answered after the last acknowledgement: a connection that is closed at once may drop some.
        channel.basic_cancel(short("bare"), BasicCancelOptions::default()).await?;
        consuming.close(200, "bye".into()).await?;
        publishing.close(200, "bye".into()).await?;
        purge(config, &config.names.results_queue).await?;
        Ok(took)
    }

    /// The event that tells such an assessment, so that both sides publish as many bytes.
    fn result(&self, sample: &Assessment) -> Result<Vec<u8>, Failure> {
        let comment = comments(&texts(1, WORDS, 7), self.rulebook)?.pop().context("one text, one comment")?;
        let judged = Judged { comment, sequence: 1, assessment: sample.clone(), trace: None };
        let row = OutboxRow {
            event_id: "0".repeat(64),
            kind: COMMENT_ASSESSED.to_owned(),
            body: serde_json::to_string(&AssessedEventV1::from(&judged))?,
            created_at_ms: 1,
            trace: None,
        };
        Ok(outbox_event(&row, &self.config.origin)?)
    }

    /// Puts distinct comments on the work queue.
    async fn fill(&self, config: &Arc<RabbitConfig>, count: usize, seed: usize) -> Result<(), Failure> {
        let queue = RabbitQueue::publish_only(Arc::clone(config), Clock::system(), Pulse::default());
        let comments = comments(&texts(count, WORDS, seed), self.rulebook)?;
        for chunk in comments.chunks(CHUNK) {
            queue.publish(chunk).await?;
        }
        queue.close().await;
        Ok(())
    }

    /// Everything that a worker does, until all results are confirmed.
    async fn worker_loop(
        &self,
        config: &Arc<RabbitConfig>,
        judge: Arc<dyn Judge>,
        count: usize,
        seed: usize,
    ) -> Result<Took, Failure> {
        let folder = tempfile_folder()?;
        let result = async {
            let (clock, pulse, shutdown) = (Clock::system(), Pulse::default(), Shutdown::new());
            let queue = RabbitQueue::subscribe(Arc::clone(config), clock.clone(), pulse.clone()).await?;
            let storage = Storage::beside(
                Arc::new(queue.only(Lane::Work)),
                clock.clone(),
                &StorePlace::File(folder.join("bench.db")),
            )
            .await?;
            let mut deps = storage.worker(judge, self.settings);
            deps.settings.idle_ms = 1;
            deps.settings.batch = usize::from(PREFETCH) / 4;
            let publisher: Arc<dyn Publisher> =
                Arc::new(RabbitPublisher::new(Arc::clone(config), "bench", pulse.clone()));
            // Connected before the clock starts, as the bare client is.
            publisher.look().await;
            let relay = RelayDeps {
                store: Arc::clone(&storage.store),
                publisher,
                pulse,
                stored: Arc::clone(&deps.stored),
                kind: COMMENT_ASSESSED,
                owner: "bench".to_owned(),
                settings: RelaySettings::default(),
            };
            self.fill(config, count, seed).await.map_err(Failure::into_error)?;
            let watch = Stopwatch::start()?;
            let (store, stop) = (Arc::clone(&storage.store), shutdown.stop_intake.clone());
            // The service ends when it is asked to; here, when every result is confirmed.
            let watching = async move {
                while store.backlog(Some(COMMENT_ASSESSED)).await?.unsent > 0
                    || store.funnel(&self.rulebook.consultation.id).await?.received() < count as u64
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                stop.cancel();
                Ok::<(), anyhow::Error>(())
            };
            let last = shutdown.stop_intake.clone();
            let (watched, (), ()) =
                tokio::join!(watching, worker::run_two(&deps, &shutdown), outbox::run(&relay, &shutdown, &last));
            watched?;
            let took = watch.took()?;
            queue.close().await;
            let backlog = storage.store.backlog(Some(COMMENT_ASSESSED)).await?;
            anyhow::ensure!(backlog.unsent == 0, "{} results were not sent", backlog.unsent);
            let sent = purge(config, &config.names.results_queue).await?;
            anyhow::ensure!(sent == count as u64, "{sent} results on the queue, {count} expected");
            Ok(took)
        }
        .await;
        let _ = std::fs::remove_dir_all(&folder);
        Ok(result?)
    }
}

fn tempfile_folder() -> Result<std::path::PathBuf, Failure> {
    let folder = std::env::temp_dir().join(format!("moothall-bench-{}", crate::app::random_name()?));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Answers with one assessment at once: what is left is the line.
struct Stub {
    version: PipelineVersion,
    sample: Assessment,
}

#[async_trait]
impl Judge for Stub {
    fn version(&self, _: &ConsultationId) -> Option<PipelineVersion> {
        Some(self.version.clone())
    }

    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError> {
        Ok(vec![self.sample.clone(); comments.len()])
    }
}

async fn connect(config: &RabbitConfig) -> Result<(lapin::Connection, Channel), Failure> {
    let connection = crate::broker::rabbitmq::connect(config, "bench").await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// A round that leaves something behind would be measured with the next.
async fn expect_empty(config: &RabbitConfig, who: &str) -> Result<(), Failure> {
    let left = purge(config, &config.names.work_queue).await?;
    if left > 0 {
        return Err(anyhow::anyhow!("{who} left {left} messages on the work queue").into());
    }
    Ok(())
}

async fn purge(config: &RabbitConfig, queue: &str) -> anyhow::Result<u64> {
    let (connection, channel) = connect(config).await.map_err(Failure::into_error)?;
    let purged = channel.queue_purge(short(queue), QueuePurgeOptions::default()).await?;
    connection.close(200, "bye".into()).await?;
    Ok(u64::from(purged))
}

/// Removes what was made under the bench's own prefix.
async fn clean(config: &Arc<RabbitConfig>) -> Result<(), Failure> {
    let (connection, channel) = connect(config).await?;
    for lane in Lane::ALL {
        for pause in &config.retry {
            let name = config.names.retry_queue(lane, *pause);
            channel.queue_delete(short(&name), QueueDeleteOptions::default()).await?;
        }
    }
    let mut names = config.names.clone();
    for (key, name) in names.entries() {
        if key.ends_with("_queue") {
            channel.queue_delete(short(name), QueueDeleteOptions::default()).await?;
        } else {
            channel.exchange_delete(short(name), ExchangeDeleteOptions::default()).await?;
        }
    }
    connection.close(200, "bye".into()).await?;
    Ok(())
}

/// The round in the middle by processor time.
fn median(mut rounds: Vec<Took>) -> Took {
    rounds.sort_by_key(|round| round.processor);
    rounds[rounds.len() / 2]
}
