//! Comments, assessments and throwaway databases for tests.

pub mod hook;
pub mod judge;
pub mod postgres;
pub mod rabbit;

use std::path::PathBuf;
use std::time::Duration;

use moothall::broker::embedded::{EmbeddedLimits, EmbeddedQueue};
use moothall::domain::assessment::Assessment;
use moothall::domain::comment::{Comment, CommentId, CommentKey, ConsultationId, SourceName};
use moothall::domain::decision::Verdict;
use moothall::domain::rulebook::PipelineVersion;
use moothall::pipeline::clock::{Clock, ManualClock};
use moothall::pipeline::ports::{Arrival, Delivery, FailedRow, Judged};
use moothall::sqlite::Database;
use moothall::store::sqlite::SqliteStore;
use tempfile::TempDir;

/// The tests' consultation.
pub fn mentoring() -> ConsultationId {
    ConsultationId::new("mentoring").unwrap()
}

/// A key in the tests' consultation.
pub fn key(id: &str) -> CommentKey {
    CommentKey { consultation: mentoring(), source: SourceName::new("test").unwrap(), id: CommentId::new(id).unwrap() }
}

/// A comment with no order of its own.
pub fn comment(id: &str, text: &str) -> Comment {
    Comment::bare(key(id), text)
}

/// A comment with an explicit revision.
pub fn revision(id: &str, revision: i64, text: &str) -> Comment {
    Comment { revision: Some(revision), ..comment(id, text) }
}

/// The comment in a delivery that holds one.
pub fn arrived(delivery: &Delivery) -> &Comment {
    match &delivery.arrival {
        Ok(Arrival::Comment(comment)) => comment,
        other => panic!("no comment arrived: {other:?}"),
    }
}

/// A judgement that says nothing but its verdict.
pub fn assessment(verdict: Verdict, version: &str) -> Assessment {
    Assessment::bare(verdict, PipelineVersion(version.to_owned()))
}

/// A judged comment under version `v1`.
pub fn judged(comment: Comment, sequence: i64, verdict: Verdict) -> Judged {
    Judged { comment, sequence, assessment: assessment(verdict, "v1"), trace: None }
}

/// A row that failed, told apart by `n`.
pub fn failed(n: u64) -> FailedRow {
    FailedRow {
        consultation: mentoring(),
        source: "test".to_owned(),
        id: None,
        row: n,
        reason: "blank".to_owned(),
        detail: "nothing was written".to_owned(),
        raw: String::new(),
        fingerprint: format!("f{n}"),
    }
}

/// A database in a folder of its own, under a clock that stands still.
pub struct Bench {
    pub folder: TempDir,
    pub clock: Clock,
    pub hand: ManualClock,
}

impl Bench {
    pub fn new() -> Self {
        let (clock, hand) = Clock::manual(1_700_000_000_000);
        Self { folder: tempfile::tempdir().unwrap(), clock, hand }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("data/moothall.db")
    }

    pub async fn database(&self) -> Database {
        Database::open(&self.path()).await.unwrap()
    }

    pub async fn store(&self) -> SqliteStore {
        SqliteStore::new(self.database().await, self.clock.clone())
    }

    pub async fn queue(&self, owner: &str) -> EmbeddedQueue {
        self.queue_with(owner, EmbeddedLimits::default()).await
    }

    pub async fn queue_with(&self, owner: &str, limits: EmbeddedLimits) -> EmbeddedQueue {
        EmbeddedQueue::open(self.database().await, self.clock.clone(), owner, limits).await.unwrap()
    }
}

/// Waits for `holds` with a deadline; sleeps never decide a test.
pub async fn wait_until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
