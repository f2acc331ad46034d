//! Ports of the line with a tally beside them and a place to die in.
//!
//! The product has no hooks for tests: what a crash between two steps does is tried by
//! wrapping the ports between which the crash is.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moothall::domain::assessment::Assessment;
use moothall::domain::comment::{Comment, CommentKey, ConsultationId};
use moothall::domain::rulebook::PipelineVersion;
use moothall::domain::trace::Trace;
use moothall::pipeline::ports::{
    Backlog, Delivery, Depth, Disclosure, FailedRow, FailedRows, Funnel, Judged, Keep, Lane, OutboxRow, ParkedArrival,
    Published, Publisher, Queue, QueueError, Recorded, Rulebooks, SendError, Settlement, Shadows, Store, StoreError,
    StoredComment, Trials, Webhooks,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a worker ends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    /// Inside the transaction that stores a batch.
    InRecord,
    /// After the commit, before the acknowledgement.
    BeforeSettle,
    /// After messages were claimed, before they are sent.
    AfterClaim,
    /// After messages were confirmed, before they are marked.
    AfterSend,
}

/// The n-th time that a place is passed, the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failpoint {
    pub at: At,
    pub nth: u32,
}

/// What a worker notes outside its own memory, so that it survives the worker.
pub struct Tally {
    file: File,
    failpoint: Option<Failpoint>,
    passed: AtomicU32,
}

impl Tally {
    pub fn open(path: &Path, failpoint: Option<Failpoint>) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, failpoint, passed: AtomicU32::new(0) })
    }

    fn note(&self, what: &str, count: usize) {
        if count > 0 {
            // One write is one line, whole or not there.
            let _ = (&self.file).write_all(format!("{what} {count}\n").as_bytes());
        }
    }

    fn is_due(&self, at: At) -> bool {
        self.failpoint
            .is_some_and(|point| point.at == at && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == point.nth)
    }

    fn pass(&self, at: At) {
        if self.is_due(at) {
            self.note("died", 1);
            std::process::abort();
        }
    }
}

/// What all workers of a folder have noted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted {
    pub delivered: u64,
    pub new: u64,
    pub known: u64,
    pub died: u64,
}

/// Sums the tallies of a folder.
pub fn noted(folder: &Path) -> Noted {
    let mut noted = Noted::default();
    for (what, count) in lines(folder, "tally") {
        let Ok(count) = count.parse::<u64>() else { continue };
        match what.as_str() {
            "delivered" => noted.delivered += count,
            "new" => noted.new += count,
            "known" => noted.known += count,
            "died" => noted.died += count,
            _ => {}
        }
    }
    noted
}

/// Lines of two words in all files of a folder with this ending.
pub fn lines(folder: &Path, ending: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|found| found == ending) {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            // What was torn in its last line had not been confirmed.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            all.extend(
                whole.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())),
            );
        }
    }
    all
}

/// A queue that notes what it hands out.
pub struct WatchedQueue {
    pub inner: Arc<dyn Queue>,
    pub tally: Arc<Tally>,
}

#[async_trait]
impl Queue for WatchedQueue {
    async fn publish_in(
        &self,
        lane: Lane,
        comments: &[Comment],
        trace: Option<&Trace>,
    ) -> Result<Published, QueueError> {
        self.inner.publish_in(lane, comments, trace).await
    }
    fn only_lane(&self, lane: Lane) -> Arc<dyn Queue> {
        Arc::new(Self { inner: self.inner.only_lane(lane), tally: Arc::clone(&self.tally) })
    }
    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let deliveries = self.inner.receive(max).await?;
        self.tally.note("delivered", deliveries.len());
        Ok(deliveries)
    }
    async fn settle(&self, settlements: &[(i64, Settlement)]) -> Result<(), QueueError> {
        if settlements.iter().any(|(_, settlement)| *settlement == Settlement::Done) {
            self.tally.pass(At::BeforeSettle);
        }
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
    async fn purge_parked(
        &self,
        consultation: Option<&ConsultationId>,
        keep: &mut dyn Keep,
    ) -> Result<u64, QueueError> {
        self.inner.purge_parked(consultation, keep).await
    }
}

/// A store that notes what it stored. It has what the line asks for and no more.
pub struct WatchedStore {
    pub inner: Arc<dyn Store>,
    pub tally: Arc<Tally>,
}

#[async_trait]
impl FailedRows for WatchedStore {
    async fn fail(&self, rows: &[FailedRow]) -> Result<u64, StoreError> {
        self.inner.fail(rows).await
    }
}

#[async_trait]
impl Rulebooks for WatchedStore {
    async fn active_version(&self, consultation: &ConsultationId) -> Result<Option<PipelineVersion>, StoreError> {
        self.inner.active_version(consultation).await
    }
}

impl Shadows for WatchedStore {}

impl Webhooks for WatchedStore {}

#[async_trait]
impl Trials for WatchedStore {
    async fn begin_trial(&self, name: &str) -> Result<u32, StoreError> {
        self.inner.begin_trial(name).await
    }
    async fn end_trial(&self, name: &str) -> Result<(), StoreError> {
        self.inner.end_trial(name).await
    }
}

#[async_trait]
impl Store for WatchedStore {
    async fn record(&self, judged: &[Judged]) -> Result<Vec<Recorded>, StoreError> {
        if self.tally.is_due(At::InRecord) {
            // Its threads are at work in the database when the process ends.
            let tally = Arc::clone(&self.tally);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(800));
                tally.note("died", 1);
                std::process::abort();
            });
        }
        let recorded = self.inner.record(judged).await?;
        let new = recorded.iter().filter(|one| **one == Recorded::New).count();
        self.tally.note("new", new);
        self.tally.note("known", recorded.len() - new);
        Ok(recorded)
    }
    async fn failures(&self, consultation: &ConsultationId) -> Result<Vec<FailedRow>, StoreError> {
        self.inner.failures(consultation).await
    }
    async fn cached(
        &self,
        version: &PipelineVersion,
        text_hashes: &[String],
    ) -> Result<Vec<Option<Assessment>>, StoreError> {
        self.inner.cached(version, text_hashes).await
    }
    async fn page(
        &self,
        consultation: &ConsultationId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredComment>, StoreError> {
        self.inner.page(consultation, after, limit).await
    }
    async fn funnel(&self, consultation: &ConsultationId) -> Result<Funnel, StoreError> {
        self.inner.funnel(consultation).await
    }
    async fn disclosures(&self, consultation: Option<&ConsultationId>) -> Result<Vec<Disclosure>, StoreError> {
        self.inner.disclosures(consultation).await
    }
    async fn acknowledge(&self, key: &CommentKey, by: &str) -> Result<bool, StoreError> {
        self.inner.acknowledge(key, by).await
    }
    async fn withdraw(&self, key: &CommentKey, revision: Option<i64>) -> Result<bool, StoreError> {
        self.inner.withdraw(key, revision).await
    }
    async fn sent(&self, event_ids: &[String]) -> Result<(), StoreError> {
        self.inner.sent(event_ids).await
    }
    async fn sent_then_claim(
        &self,
        event_ids: &[String],
        kind: &str,
        owner: &str,
        limit: u32,
        lease_ms: i64,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let claimed = self.inner.sent_then_claim(event_ids, kind, owner, limit, lease_ms).await?;
        if !claimed.is_empty() {
            self.tally.pass(At::AfterClaim);
        }
        Ok(claimed)
    }
    async fn release(&self, owner: &str) -> Result<(), StoreError> {
        self.inner.release(owner).await
    }
    async fn backlog(&self, kind: Option<&str>) -> Result<Backlog, StoreError> {
        self.inner.backlog(kind).await
    }
    async fn consultations(&self) -> Result<Vec<ConsultationId>, StoreError> {
        self.inner.consultations().await
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

/// A publisher with a place to die in.
pub struct WatchedPublisher {
    pub inner: Arc<dyn Publisher>,
    pub tally: Arc<Tally>,
}

#[async_trait]
impl Publisher for WatchedPublisher {
    async fn send(&self, rows: &[OutboxRow]) -> Vec<Result<(), SendError>> {
        let answers = self.inner.send(rows).await;
        if answers.iter().any(Result::is_ok) {
            self.tally.pass(At::AfterSend);
        }
        answers
    }
    async fn look(&self) {
        self.inner.look().await;
    }
}

/// The sink of the embedded shape: a file of its own for each worker, one line a message.
pub struct FileSink {
    pub path: PathBuf,
}

#[async_trait]
impl Publisher for FileSink {
    async fn send(&self, rows: &[OutboxRow]) -> Vec<Result<(), SendError>> {
        let written = write(&self.path, rows).map_err(|error| SendError(error.to_string()));
        vec![written; rows.len()]
    }
}

fn write(path: &Path, rows: &[OutboxRow]) -> std::io::Result<()> {
    let line = |row: &OutboxRow| {
        let body: Value = serde_json::from_str(&row.body)?;
        Ok(format!("{} {}\n", row.event_id, subject(&row.kind, &body)))
    };
    let text = rows.iter().map(line).collect::<std::io::Result<String>>()?;
    // One write for all, so that a line is whole or torn and never mixed with another's.
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

/// What a message is about: two messages about the same under two ids are one too many.
pub fn subject(kind: &str, body: &Value) -> String {
    let id = body["id"].as_str().unwrap_or("?");
    let revision = body["revision"].as_i64().map_or_else(|| "-".to_owned(), |revision| revision.to_string());
    format!("{kind}/{id}/{revision}")
}
