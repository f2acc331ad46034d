//! From rows to the queue: each row is published, known, or kept as failed.
//!
//! Owns what a comment must be to come in at all, and the books of one source:
//! `read = new + known + failed`. How a file is read is the source's business.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::identity::{hash_of, is_visible};
use super::ports::{FailedRow, FailedRows, Published, Queue, QueueError, StoreError};
use super::shutdown::Shutdown;
use crate::domain::comment::Comment;
use crate::telemetry::metric;
use crate::wire::CommentV1;

/// What a source yields for one row.
pub type Row = Result<Comment, FailedRow>;

/// Rows that wait between the reader's thread and the intake.
const ROWS_AHEAD: usize = 256;
/// What is kept of a failed row, as [`FailedRow::raw`] says.
const RAW_BYTES: usize = 64 * 1024;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much comes in at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeLimits {
    /// Rows of one transaction.
    pub chunk_rows: usize,
    /// Text of one transaction, so that long texts do not fill the memory.
    pub chunk_bytes: usize,
    /// A longer text is `failed: too_large`.
    pub text_bytes: usize,
}

impl Default for IntakeLimits {
    fn default() -> Self {
        Self { chunk_rows: 500, chunk_bytes: 8 * 1024 * 1024, text_bytes: 1024 * 1024 }
    }
}

/// What an intake works with.
#[derive(Clone)]
pub struct IntakeDeps {
    /// Where comments go.
    pub queue: Arc<dyn Queue>,
    /// Where failed rows go.
    pub failed: Arc<dyn FailedRows>,
    /// How much at once.
    pub limits: IntakeLimits,
}

/// The books of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntakeCounts {
    /// Rows that the source gave: the sum of `new`, `known` and `failed`.
    pub read: u64,
    /// Comments that the queue had not seen.
    pub new: u64,
    /// Comments that came before, in this source or earlier.
    pub known: u64,
    /// Rows that could not become comments.
    pub failed: u64,
    /// Those of `failed` that were not kept already from an earlier run.
    pub failed_new: u64,
}

impl AddAssign for IntakeCounts {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.new += other.new;
        self.known += other.known;
        self.failed += other.failed;
        self.failed_new += other.failed_new;
    }
}

/// Why an intake ended early. Everything counted so far is durable.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The queue did not take a chunk.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store did not take a failed row.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IntakeError {
    /// Whether the same call may succeed later without a person's help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}

/// Reads `rows` on a thread for blocking work, a bounded number ahead. The
/// reading ends when the receiver is dropped.
pub fn read_ahead<I>(rows: I) -> mpsc::Receiver<Row>
where
    I: Iterator<Item = Row> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(ROWS_AHEAD);
    tokio::task::spawn_blocking(move || {
        for row in rows {
            if sender.blocking_send(row).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Whether a comment may come in: it shows something and is not too large.
pub fn admit(comment: Comment, row: u64, limits: &IntakeLimits) -> Row {
    let size = comment.text.len();
    if size > limits.text_bytes {
        let most = limits.text_bytes;
        let detail = format!("the text has {size} bytes, at most {most} are taken");
        return Err(failed_row(&comment, row, "too_large", detail));
    }
    if !is_visible(&comment.text) {
        let detail = "nothing visible was written".to_owned();
        return Err(failed_row(&comment, row, "blank", detail));
    }
    Ok(comment)
}

fn failed_row(comment: &Comment, row: u64, reason: &str, detail: String) -> FailedRow {
    let mut raw = serde_json::to_string(&CommentV1::from(comment)).unwrap_or_default();
    let fingerprint = hash_of(&[reason, &raw]);
    if raw.len() > RAW_BYTES {
        raw.truncate(raw.floor_char_boundary(RAW_BYTES));
    }
    FailedRow {
        consultation: comment.key.consultation.clone(),
        source: comment.key.source.to_string(),
        id: Some(comment.key.id.to_string()),
        row,
        reason: reason.to_owned(),
        detail,
        raw,
        fingerprint,
    }
}

/// Takes in everything that one source gives.
///
/// A queue or store that is busy is waited for; a request to stop ends the
/// intake after the chunk in hand.
pub async fn run(
    mut rows: mpsc::Receiver<Row>,
    deps: &IntakeDeps,
    shutdown: &Shutdown,
    progress: impl Fn(IntakeCounts) + Send + Sync,
) -> Result<IntakeCounts, IntakeError> {
    let mut intake = Intake {
        deps,
        shutdown,
        seen: Seen::default(),
        counts: IntakeCounts::default(),
        comments: Vec::new(),
        failed: Vec::new(),
        bytes: 0,
        read: 0,
    };
    loop {
        let row = tokio::select! {
            biased;
            () = shutdown.stop_intake.cancelled() => None,
            row = rows.recv() => row,
        };
        let ended = row.is_none();
        if let Some(row) = row {
            intake.take(row);
        }
        if ended || intake.is_full() {
            intake.flush().await?;
            progress(intake.counts);
        }
        if ended {
            return Ok(intake.counts);
        }
    }
}

struct Intake<'a> {
    deps: &'a IntakeDeps,
    shutdown: &'a Shutdown,
    seen: Seen,
    counts: IntakeCounts,
    comments: Vec<Comment>,
    failed: Vec<FailedRow>,
    bytes: usize,
    read: u64,
}

impl Intake<'_> {
    fn take(&mut self, row: Row) {
        self.read += 1;
        let limits = &self.deps.limits;
        match row.and_then(|comment| admit(comment, self.read, limits)) {
            Ok(comment) => match self.seen.meet(&comment) {
                Met::First => {
                    self.bytes += comment.text.len();
                    self.comments.push(comment);
                }
                Met::Same => {
                    self.counts.read += 1;
                    self.counts.known += 1;
                }
                Met::OtherText => {
                    let detail = "the id stands above with another text; that one was taken".to_owned();
                    self.fail(failed_row(&comment, self.read, "duplicate_id", detail));
                }
            },
            Err(failed) => self.fail(failed),
        }
    }

    fn fail(&mut self, failed: FailedRow) {
        self.bytes += failed.raw.len();
        self.failed.push(failed);
    }

    fn is_full(&self) -> bool {
        let limits = &self.deps.limits;
        self.comments.len() + self.failed.len() >= limits.chunk_rows || self.bytes >= limits.chunk_bytes
    }

    async fn flush(&mut self) -> Result<(), IntakeError> {
        let mut pause = Duration::from_millis(100);
        while let Err(error) = self.try_flush().await {
            if !error.is_transient() || self.shutdown.stop_intake.is_cancelled() {
                return Err(error);
            }
            tracing::warn!(%error, "intake waits");
            self.shutdown.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// What was flushed is counted and emptied at once, so a second try does
    /// only the rest.
    async fn try_flush(&mut self) -> Result<(), IntakeError> {
        if !self.comments.is_empty() {
            let Published { new, known } = self.deps.queue.publish(&self.comments).await?;
            self.counts.read += self.comments.len() as u64;
            self.counts.new += new;
            self.counts.known += known;
            metrics::counter!(metric::COMMENTS_RECEIVED).increment(new);
            self.comments.clear();
        }
        if !self.failed.is_empty() {
            let new = self.deps.failed.fail(&self.failed).await?;
            self.counts.read += self.failed.len() as u64;
            self.counts.failed += self.failed.len() as u64;
            self.counts.failed_new += new;
            metrics::counter!(metric::ROWS_FAILED).increment(new);
            self.failed.clear();
        }
        self.bytes = 0;
        Ok(())
    }
}

enum Met {
    First,
    Same,
    OtherText,
}

/// What one source has given so far, in 24 bytes a comment: half of a SHA-256
/// of the identity, and a quarter of one of the text.
///
/// An explicit revision or time of editing is part of the identity: a source
/// that lists a comment's whole history lists edits and no duplicates.
#[derive(Default)]
struct Seen(HashMap<[u8; 16], u64>);

impl Seen {
    fn meet(&mut self, comment: &Comment) -> Met {
        let key = &comment.key;
        let revision = comment.revision.map(|r| r.to_string()).unwrap_or_default();
        let edited_at = comment.edited_at.map(|t| t.to_string()).unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [key.consultation.as_str(), key.source.as_str(), key.id.as_str(), &revision, &edited_at] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let identity = first_bytes(&hash.finalize());
        let text = u64::from_le_bytes(first_bytes(&Sha256::digest(comment.text.as_bytes())));
        match self.0.insert(identity, text) {
            None => Met::First,
            Some(earlier) if earlier == text => Met::Same,
            Some(earlier) => {
                // The text that was taken is the one that later rows are held against.
                self.0.insert(identity, earlier);
                Met::OtherText
            }
        }
    }
}

fn first_bytes<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&bytes[..N]);
    first
}
