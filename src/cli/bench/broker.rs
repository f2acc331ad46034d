//! The whole worker loop on RabbitMQ against a bare client that consumes, publishes
//! and acknowledges with the same confirms: how much of the broker is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation};

use super::clock::{Stopwatch, Took};
use super::embedded::Times;
use super::line::{Folder, comments, encoder_alone};
use super::stub::{Stub, WORDS};
use super::sweep::{self, Aged};
use super::texts::texts;
use crate::app::{LineJudge, Storage, StorePlace};
use crate::broker::rabbitmq::{Lane, RabbitConfig, RabbitPublisher, RabbitQueue, short};
use crate::cli::Failure;
use crate::domain::assessment::Assessment;
use crate::domain::rulebook::Rulebook;
use crate::engine::Models;
use crate::pipeline::clock::Clock;
use crate::pipeline::outbox::{self, RelayDeps, RelaySettings};
use crate::pipeline::ports::{Judge, Judged, OutboxRow, Publisher, Queue};
use crate::pipeline::pulse::Pulse;
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::worker::{self, WorkerDeps};
use crate::settings::Settings;
use crate::wire::event::{AssessedEventV1, COMMENT_ASSESSED, outbox_event};

/// Messages of the bare client under way at once.
const WINDOW: usize = 256;
/// Deliveries that either side holds at most.
const PREFETCH: u16 = 2_048;
/// Comments of a round with the real engine.
const JUDGED: usize = 512;
/// Comments of one publish, so that the memory stays small.
const CHUNK: usize = 1_000;
/// Comments that come one by one, and the pause between them: low load.
const ALONE: usize = 150;
const PAUSE: Duration = Duration::from_millis(20);

/// What the bench works with.
pub struct BrokerBench<'a> {
    pub settings: &'a Settings,
    pub rulebook: &'a Arc<Rulebook>,
    pub models: &'a Arc<Models>,
    pub config: RabbitConfig,
    pub count: usize,
    pub rounds: usize,
    pub sweep: bool,
}

/// How a worker takes comments.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Deliveries that it holds at most.
    pub prefetch: u16,
    /// Comments of one batch.
    pub batch: usize,
    /// How long a batch that is not full waits for more.
    pub age: Duration,
    /// Workers on one queue and one store.
    pub workers: usize,
}

impl Setting {
    /// What the ratio is measured with.
    const FULL: Self = Self { prefetch: PREFETCH, batch: PREFETCH as usize / 4, age: Duration::ZERO, workers: 1 };
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
        let stub = Stub::of(judge).await?;
        let result = self.result(stub.sample())?;
        let quick = stub.waiting(Duration::ZERO);
        // Makes the topology and leaves.
        RabbitQueue::subscribe(Arc::clone(config), Clock::system(), Pulse::default()).await?.close().await;
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for round in 0..self.rounds.max(1) {
            bare.push(self.bare_client(config, &result, round * 2).await?);
            expect_empty(config, "the bare client").await?;
            ours.push(self.worker_loop(config, Arc::clone(&quick), self.count, round * 2 + 1, Setting::FULL).await?);
            expect_empty(config, "the worker loop").await?;
        }
        let (bare, ours) = (median(bare), median(ours));
        let per = |took: Took| self.count as f64 / took.wall.as_secs_f64().max(1e-9);
        println!("\non RabbitMQ, {} messages a round, median of {}: messages per second", self.count, self.rounds);
        println!("a bare client (consume, publish, confirm, acknowledge)   {:>9.0}", per(bare));
        println!("the worker loop with a stub engine, store and relay      {:>9.0}", per(ours));
        println!("ratio                                                    {:>9.2}", per(ours) / per(bare));
        if self.sweep {
            return sweep::run(self, config, &stub).await;
        }
        let engine: Arc<dyn Judge> = Arc::clone(judge) as Arc<dyn Judge>;
        for (name, judge) in [("a stub for the engine", quick), ("the real engine", engine)] {
            let times = self.latency(judge).await?;
            let name = format!("published to result at low load, {name}");
            println!("{name:56} p50 {:.1} ms, p99 {:.1} ms", times.at(50), times.at(99));
        }
        self.with_the_engine(config, judge).await
    }

    /// The same line with the real engine, against the encoder alone in processor time.
    async fn with_the_engine(&self, config: &Arc<RabbitConfig>, judge: &Arc<LineJudge>) -> Result<(), Failure> {
        let (mut alone, mut whole) = (Vec::new(), Vec::new());
        for round in 0..self.rounds.max(1) {
            let seed = 1_000 + round;
            alone.push(encoder_alone(self.models, &texts(JUDGED, WORDS, seed), 1)?);
            let judge: Arc<dyn Judge> = Arc::clone(judge) as Arc<dyn Judge>;
            whole.push(self.worker_loop(config, judge, JUDGED, seed, Setting::FULL).await?);
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

    /// Everything that workers do, until all results are confirmed.
    pub async fn worker_loop(
        &self,
        config: &Arc<RabbitConfig>,
        judge: Arc<dyn Judge>,
        count: usize,
        seed: usize,
        setting: Setting,
    ) -> Result<Took, Failure> {
        let folder = Folder::new()?;
        let config = Arc::new(RabbitConfig { prefetch: setting.prefetch, ..(**config).clone() });
        let mut workers = Vec::new();
        for _ in 0..setting.workers {
            workers.push(self.worker(&config, &folder, &judge, setting).await?);
        }
        self.fill(&config, count, seed).await?;
        let watch = Stopwatch::start()?;
        let store = Arc::clone(&workers[0].deps.store);
        // The service ends when it is asked to; here, when every result is confirmed.
        let watching = async {
            while store.backlog(Some(COMMENT_ASSESSED)).await?.unsent > 0
                || store.funnel(&self.rulebook.consultation.id).await?.received() < count as u64
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            for worker in &workers {
                worker.shutdown.stop_intake.cancel();
            }
            Ok::<(), anyhow::Error>(())
        };
        let (watched, _) = tokio::join!(watching, join_all(workers.iter().map(Worker::run)));
        watched?;
        let took = watch.took()?;
        for worker in &workers {
            worker.queue.close().await;
        }
        let backlog = store.backlog(Some(COMMENT_ASSESSED)).await?;
        if backlog.unsent > 0 {
            return Err(anyhow::anyhow!("{} results were not sent", backlog.unsent).into());
        }
        let sent = purge(&config, &config.names.results_queue).await?;
        if sent != count as u64 {
            return Err(anyhow::anyhow!("{sent} results on the queue, {count} expected").into());
        }
        Ok(took)
    }

    /// A worker with a relay, connected and subscribed, as a process of its own would be.
    async fn worker(
        &self,
        config: &Arc<RabbitConfig>,
        folder: &Folder,
        judge: &Arc<dyn Judge>,
        setting: Setting,
    ) -> Result<Worker, Failure> {
        let (clock, pulse) = (Clock::system(), Pulse::default());
        let queue = RabbitQueue::subscribe(Arc::clone(config), clock.clone(), pulse.clone())
            .await
            .map_err(anyhow::Error::from)?;
        let lane = Aged { inner: queue.only(Lane::Work), age: setting.age };
        let storage = Storage::beside(Arc::new(lane), clock, &StorePlace::File(folder.path().join("bench.db"))).await?;
        let mut deps = storage.worker(Arc::clone(judge), self.settings);
        deps.settings.idle_ms = 1;
        deps.settings.batch = setting.batch;
        let publisher: Arc<dyn Publisher> = Arc::new(RabbitPublisher::new(Arc::clone(config), "bench", pulse.clone()));
        // Connected before the clock starts, as the bare client is.
        publisher.look().await;
        let relay = RelayDeps {
            store: Arc::clone(&storage.store),
            publisher,
            pulse,
            stored: Arc::clone(&deps.stored),
            kind: COMMENT_ASSESSED,
            owner: crate::app::random_name()?,
            settings: RelaySettings::default(),
        };
        Ok(Worker { queue, deps, relay, shutdown: Shutdown::new() })
    }

    /// One comment now and then, as the service is set: how long until its result is with a reader.
    async fn latency(&self, judge: Arc<dyn Judge>) -> Result<Times, Failure> {
        let folder = Folder::new()?;
        let config = Arc::new(self.config.clone());
        let setting =
            Setting { prefetch: config.prefetch, batch: self.settings.batch, age: Duration::ZERO, workers: 1 };
        let worker = self.worker(&config, &folder, &judge, setting).await?;
        let sender = RabbitQueue::publish_only(Arc::clone(&config), Clock::system(), Pulse::default());
        let (reading, channel) = connect(&config).await?;
        channel.basic_qos(16, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let queue = short(&config.names.results_queue);
        let mut results = channel.basic_consume(queue, short("reader"), options, FieldTable::default()).await?;
        let comments = comments(&texts(ALONE, WORDS, 4_242), self.rulebook)?;
        let sending = async {
            let mut times = Vec::with_capacity(comments.len());
            for comment in &comments {
                let at = Instant::now();
                sender.publish(std::slice::from_ref(comment)).await?;
                let result = tokio::time::timeout(Duration::from_secs(10), results.next()).await?;
                result.context("the reader's subscription ended")??;
                times.push(at.elapsed().as_secs_f64() * 1_000.0);
                tokio::time::sleep(PAUSE).await;
            }
            worker.shutdown.stop_intake.cancel();
            anyhow::Ok(Times::of(times))
        };
        let (times, ()) = tokio::join!(sending, worker.run());
        worker.queue.close().await;
        sender.close().await;
        reading.close(200, "bye".into()).await?;
        Ok(times?)
    }
}

/// One worker of a round.
struct Worker {
    queue: RabbitQueue,
    deps: WorkerDeps,
    relay: RelayDeps,
    shutdown: Shutdown,
}

impl Worker {
    async fn run(&self) {
        let last = self.shutdown.stop_intake.clone();
        tokio::join!(worker::run_two(&self.deps, &self.shutdown), outbox::run(&self.relay, &self.shutdown, &last));
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
