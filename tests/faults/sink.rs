//! An independent reader of results and alerts: a bare client that knows nothing of the line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::ports::{lines, subject};

/// What arrived, by what it is about.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub messages: u64,
    /// Subject to event ids.
    pub events: BTreeMap<String, BTreeSet<String>>,
}

impl Received {
    fn add(&mut self, subject: String, event: String) {
        self.messages += 1;
        self.events.entry(subject).or_default().insert(event);
    }

    pub fn distinct(&self) -> u64 {
        self.events.values().map(|events| events.len() as u64).sum()
    }

    /// Event ids beyond the first of the same subject.
    pub fn doubled(&self) -> u64 {
        self.distinct() - self.events.len() as u64
    }
}

/// Where messages of the outbox end.
pub enum Sink {
    /// Files that the workers' publishers append to.
    Files(PathBuf),
    /// Queues that are read all the time.
    Queues { received: Arc<Mutex<Received>>, reads: watch::Sender<bool>, _reading: AbortOnDropHandle<()> },
}

impl Sink {
    pub fn files(folder: &Path) -> Self {
        Self::Files(folder.to_owned())
    }

    /// Reads results and alerts until it is dropped, through every loss of the connection.
    pub fn queues(url: String) -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let shared = Arc::clone(&received);
        let reads = watch::Sender::new(true);
        let mut told = reads.subscribe();
        let reading = tokio::spawn(async move {
            while told.wait_for(|reads| *reads).await.is_ok() {
                tokio::select! {
                    _ = read(&url, &shared) => tokio::time::sleep(Duration::from_millis(300)).await,
                    _ = async { told.wait_for(|reads| !*reads).await.is_ok() } => {}
                }
            }
        });
        Self::Queues { received, reads, _reading: AbortOnDropHandle::new(reading) }
    }

    /// Whether it reads; what it does not read stays in the queues.
    pub fn reads(&self, does: bool) {
        if let Self::Queues { reads, .. } = self {
            reads.send_replace(does);
        }
    }

    pub fn received(&self) -> Received {
        match self {
            Self::Files(folder) => {
                let mut received = Received::default();
                for (event, subject) in lines(folder, "sink") {
                    received.add(subject, event);
                }
                received
            }
            Self::Queues { received, .. } => received.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Distinct messages so far.
    pub fn distinct(&self) -> u64 {
        match self {
            Self::Files(_) => self.received().distinct(),
            Self::Queues { received, .. } => received.lock().unwrap_or_else(PoisonError::into_inner).distinct(),
        }
    }
}

async fn read(url: &str, received: &Mutex<Received>) -> anyhow::Result<()> {
    let properties = ConnectionProperties::default().with_connection_name("sink".into());
    let url = format!("{url}?heartbeat=5");
    let connection = tokio::time::timeout(Duration::from_secs(5), Connection::connect(&url, properties)).await??;
    let channel = connection.create_channel().await?;
    channel.basic_qos(500, BasicQosOptions::default()).await?;
    let mut streams = Vec::new();
    for queue in ["moothall.results", "moothall.alerts"] {
        let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
        streams.push(channel.basic_consume(queue.into(), queue.into(), options, table).await?);
    }
    let mut all = futures_util::stream::select_all(streams);
    while let Some(delivery) = all.next().await {
        let delivery = delivery?;
        let event: Value = serde_json::from_slice(&delivery.data)?;
        let kind = event["type"].as_str().unwrap_or("?");
        let (subject, id) = (subject(kind, &event["data"]), event["id"].as_str().unwrap_or("?").to_owned());
        // Noted before it is acknowledged: the broker may bring it again, and must not forget it.
        received.lock().unwrap_or_else(PoisonError::into_inner).add(subject, id);
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    anyhow::bail!("the subscription ended")
}
