//! What the line asks of its adapters, as written contracts.
//!
//! Every adapter of a port passes the same suite in `tests/it/contract/`.

use async_trait::async_trait;

use crate::domain::assessment::Assessment;
use crate::domain::comment::{Comment, CommentKey, ConsultationId};
use crate::domain::decision::{Decided, Verdict, standing_verdict};
use crate::domain::reading::Reading;
use crate::domain::rulebook::{PipelineVersion, RulebookParts, RulebookSnapshot};
use crate::domain::score::{Probability, Signals};

/// Why a queue could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue is there but refuses more for now (full, locked, blocked).
    #[error("queue refuses work for now: {0}")]
    Busy(String),
    /// The queue's storage or connection failed.
    #[error("queue failed: {0}")]
    Failed(String),
}

impl QueueError {
    /// Whether the same call may succeed later without a person's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_))
    }
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Locked or out of reach for now.
    #[error("store is busy: {0}")]
    Busy(String),
    /// It turns us away: a wrong user, password, certificate or database, a missing right or schema.
    /// A person must look, and no comment is to blame.
    #[error("store turns us away: {0}")]
    Refused(String),
    /// The schema was written by a newer Moothall.
    #[error("store schema {found} is newer than this binary's {known}: use the newer moothall")]
    NewerSchema {
        /// Version in the store.
        found: i64,
        /// Newest version that this binary knows.
        known: i64,
    },
    /// Another rulebook than the carried one is the store's active one.
    #[error(
        "the store's active rulebook for `{consultation}` is {active}, and this process carries {carried}: \
         start it with the files and models of the active one, or have its own adopted (`moothall rulebook list`)"
    )]
    OtherRulebook {
        /// Whose.
        consultation: ConsultationId,
        /// What the store names.
        active: PipelineVersion,
        /// What judged.
        carried: PipelineVersion,
    },
    /// A row does not hold what it should.
    #[error("store row is damaged: {0}")]
    Damaged(String),
    /// Anything else from the database.
    #[error("store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// What a double that only reads answers to the rest.
    fn read_only() -> Self {
        Self::Failed("this store only reads".to_owned())
    }

    /// Whether the same call may succeed later without a person's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_))
    }
}

/// Why an engine gave no signals.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file is missing, has another checksum, or does not hold what its manifest says.
    #[error("models at {path}: {problem}")]
    Models {
        /// Folder or file.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The engine thread ended.
    #[error("engine stopped: {0}")]
    Stopped(String),
    /// One of the comments cannot be judged; the engine itself is well.
    #[error("engine cannot judge a comment: {0}")]
    Comment(String),
}

/// What became of a published batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Arrivals that the queue had not seen.
    pub new: u64,
    /// Arrivals that it already knew; nothing changed.
    pub known: u64,
}

/// What a sender asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Judge this comment.
    Comment(Box<Comment>),
    /// Its author or site has deleted it.
    Withdrawal {
        /// Which comment.
        key: CommentKey,
        /// The revision that was deleted, where the source counts.
        revision: Option<i64>,
    },
    /// A row that could not become a comment where it was read: keep it and count it.
    Failed(Box<FailedRow>),
}

impl Arrival {
    /// Whom it concerns.
    pub fn consultation(&self) -> &ConsultationId {
        match self {
            Self::Comment(comment) => &comment.key.consultation,
            Self::Withdrawal { key, .. } => &key.consultation,
            Self::Failed(row) => &row.consultation,
        }
    }
}

/// One arrival, handed out. It must be settled; an unsettled delivery comes again.
#[must_use = "an unsettled delivery is delivered again"]
#[derive(Debug)]
pub struct Delivery {
    /// The queue's own handle on this delivery.
    pub tag: i64,
    /// What arrived, or why the bytes are nothing that can be read.
    pub arrival: Result<Arrival, String>,
    /// How often it has been handed out, this time included.
    pub attempt: u32,
    /// When it was published: microseconds since 1970, which a queue in one file makes
    /// strictly increasing and a broker takes from the sender. Larger is later.
    pub sequence: i64,
}

/// How a delivery ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Its effects are stored.
    Done,
    /// Not now; again after this many milliseconds.
    Retry {
        /// Pause before the next delivery.
        after_ms: u64,
        /// Whether the attempt counts toward the delivery budget.
        counts: bool,
    },
    /// Nobody can process it; kept with the reason for a person.
    Park(String),
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ready or waiting for a retry.
    pub waiting: u64,
    /// Handed out and not settled.
    pub in_flight: u64,
    /// Given up on, kept with a reason.
    pub parked: u64,
}

/// A durable queue of comments: at-least-once delivery.
///
/// - `publish` returns only when the comments survive a crash.
/// - A known arrival (same key, same revision or content) changes nothing: the queue
///   may know it already, and the store does.
/// - A delivery whose worker died comes again, and so does one that is held for too long.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Adds comments. After an error some may be in and some not: publishing the same again is safe.
    async fn publish(&self, comments: &[Comment]) -> Result<Published, QueueError>;
    /// Up to `max` deliveries in arrival order; empty when nothing is ready, for which it may wait a moment.
    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, QueueError>;
    /// Ends deliveries, by tag.
    async fn settle(&self, settlements: &[(i64, Settlement)]) -> Result<(), QueueError>;
    /// Counts, over one consultation or all. A queue that serves one consultation counts the whole of itself.
    async fn depth(&self, consultation: Option<&ConsultationId>) -> Result<Depth, QueueError>;
    /// Says that work on these deliveries goes on; their lease starts anew.
    async fn renew(&self, tags: &[i64]) -> Result<(), QueueError>;
    /// Gives back everything that this process holds, for redelivery.
    async fn release_all(&self) -> Result<u64, QueueError>;
    /// Parked arrivals, oldest first, at most `limit`.
    async fn parked(&self, consultation: Option<&ConsultationId>, limit: u32)
    -> Result<Vec<ParkedArrival>, QueueError>;
    /// Lets parked arrivals wait again with a fresh delivery budget. Returns how many.
    async fn replay(&self, consultation: Option<&ConsultationId>) -> Result<u64, QueueError>;
}

/// An arrival that was given up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedArrival {
    /// The comment's identity; `None` when the bytes do not tell.
    pub key: Option<CommentKey>,
    /// Position of the arrival.
    pub sequence: i64,
    /// How often it was handed out.
    pub attempts: u32,
    /// Why it was given up on. Holds no comment text.
    pub reason: String,
}

/// Scores readings. Decides nothing.
///
/// One comment's signals never depend on its neighbours in the batch, bit for bit.
#[async_trait]
pub trait Engine: Send + Sync {
    /// One [`Signals`] per reading, in order.
    async fn score(&self, readings: Vec<Reading>) -> Result<Vec<(Reading, Signals)>, EngineError>;
}

/// Turns comments into assessments: reading, engine and policy behind one call.
#[async_trait]
pub trait Judge: Send + Sync {
    /// The pipeline version that judges this consultation's comments; `None`
    /// when there is no rulebook for it.
    fn version(&self, consultation: &ConsultationId) -> Option<PipelineVersion>;
    /// One assessment per comment, in order. They may be of several consultations,
    /// all of which have a version.
    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError>;
    /// As [`Judge::judge`], with the scores behind it where the judge has them: what stayed
    /// below a mark is in no assessment.
    async fn judge_closely(&self, comments: &[Comment]) -> Result<Vec<(Assessment, Signals)>, EngineError> {
        let assessments = self.judge(comments).await?;
        Ok(assessments.into_iter().map(|assessment| (assessment, Signals::default())).collect())
    }
}

/// A comment with its judgement, ready to be stored.
#[derive(Clone, Debug)]
pub struct Judged {
    /// As it arrived.
    pub comment: Comment,
    /// Position of its arrival.
    pub sequence: i64,
    /// The judgement.
    pub assessment: Assessment,
}

/// What storing a judged comment changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// First assessment of this comment, of a newer revision, or of the current
    /// revision under another pipeline version: it is the current one now.
    New,
    /// Already there, or older than what is there (kept as history).
    AlreadyKnown,
}

/// A row that could not become a comment. Kept, counted and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRow {
    /// The consultation that it was meant for.
    pub consultation: ConsultationId,
    /// File stem or channel.
    pub source: String,
    /// The row's own identifier, if it could be read.
    pub id: Option<String>,
    /// Row or line number in the source, from 1, the header not counted; 0 when it has none.
    pub row: u64,
    /// Stable key: `blank`, `duplicate_id`, `unreadable`, `too_large`, `no_text`, ...
    pub reason: String,
    /// A sentence for a person. Holds no comment text.
    pub detail: String,
    /// What was there, cut to 64 KiB, for the restricted store only.
    pub raw: String,
    /// SHA-256 of the whole row as hex: the same failed row twice is one.
    pub fingerprint: String,
}

/// A stored comment with its current judgement, as reports read it.
#[derive(Clone, Debug)]
pub struct StoredComment {
    /// As it arrived.
    pub comment: Comment,
    /// Position of its arrival; reports are ordered by it.
    pub sequence: i64,
    /// The current judgement.
    pub assessment: Assessment,
    /// When the safeguarding lead acknowledged it (Unix milliseconds), for escalated ones.
    pub acknowledged_at_ms: Option<i64>,
    /// Whether the source has withdrawn (deleted) it.
    pub withdrawn: bool,
    /// Whether this text was ever escalated, by this rulebook or an earlier one.
    pub escalated: bool,
    /// What a person decided about this text.
    pub decided: Option<Decided>,
}

impl StoredComment {
    /// The verdict that stands, which every figure goes by.
    pub fn verdict(&self) -> Verdict {
        standing_verdict(self.decided.as_ref().map(|decided| decided.verdict), self.escalated, self.assessment.verdict)
    }
}

/// A rulebook that a store has met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRulebook {
    /// Its version.
    pub version: PipelineVersion,
    /// What it is made of; `None` where only its judgements are known.
    pub parts: Option<RulebookParts>,
    /// Whether new comments are judged under it.
    pub active: bool,
    /// When it was made the active one (Unix milliseconds), oldest first.
    pub adopted_at_ms: Vec<i64>,
    /// Comments whose current judgement was made under it.
    pub comments: u64,
}

/// A machine judgement that differs from what a person decided about the same text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The comment.
    pub key: CommentKey,
    /// What the person decided; it stands.
    pub decided: Decided,
    /// What the machine says.
    pub machine: Verdict,
    /// Under which rulebook.
    pub version: PipelineVersion,
}

/// Where every comment of a consultation is. `received` is the sum of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Funnel {
    /// In the queue.
    pub waiting: u64,
    /// Given up on, kept.
    pub parked: u64,
    /// Could not become a comment.
    pub failed: u64,
    /// Deleted at the source.
    pub withdrawn: u64,
    /// Verdict accept.
    pub accepted: u64,
    /// Verdict hold.
    pub held: u64,
    /// Verdict reject.
    pub rejected: u64,
    /// Verdict escalate.
    pub escalated: u64,
}

impl Funnel {
    /// Every comment that came in.
    pub fn received(&self) -> u64 {
        self.waiting
            + self.parked
            + self.failed
            + self.withdrawn
            + self.accepted
            + self.held
            + self.rejected
            + self.escalated
    }
}

/// A safeguarding disclosure, for the safeguarding lead's eyes.
#[derive(Clone, Debug)]
pub struct Disclosure {
    /// The comment as it arrived.
    pub comment: Comment,
    /// The judgement that escalated it.
    pub assessment: Assessment,
    /// When it was escalated (Unix milliseconds).
    pub escalated_at_ms: i64,
    /// When and by whom it was acknowledged.
    pub acknowledged: Option<(i64, String)>,
}

/// A message waiting to be sent: written in the same transaction as its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Stable across redeliveries.
    pub event_id: String,
    /// `comment.assessed.v1` or `alert.safeguarding.v1`.
    pub kind: String,
    /// The JSON body.
    pub body: String,
    /// When its cause was stored (Unix milliseconds).
    pub created_at_ms: i64,
}

/// What waits to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages not sent yet.
    pub unsent: u64,
    /// When the oldest of them was written (Unix milliseconds).
    pub oldest_ms: Option<i64>,
}

/// Why a message was not sent. It stays in the outbox and is tried again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not sent: {0}")]
pub struct SendError(pub String);

/// Where results and alerts go.
///
/// A message counts as sent only when the other side has it for good (a broker's plain
/// confirm). Delivery is at least once; `event_id` tells a repetition.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Sends messages; one answer each, in order.
    async fn send(&self, rows: &[OutboxRow]) -> Vec<Result<(), SendError>>;
    /// Called while nothing is to be sent: after a failure, looks whether sending would
    /// work again and says so, since no message may come for a long time.
    async fn look(&self) {}
}

/// Keeps rows that could not become comments.
#[async_trait]
pub trait FailedRows: Send + Sync {
    /// Keeps them; a known fingerprint changes nothing. Returns how many were new.
    async fn fail(&self, rows: &[FailedRow]) -> Result<u64, StoreError>;
}

/// Which rulebooks judge and have judged.
///
/// The methods with a body are what a double for readers need not have.
#[async_trait]
pub trait Rulebooks: Send + Sync {
    /// The version that new comments of the consultation are judged under; `None` before the first.
    async fn active_version(&self, consultation: &ConsultationId) -> Result<Option<PipelineVersion>, StoreError> {
        let _ = consultation;
        Err(StoreError::read_only())
    }
    /// Keeps a rulebook's files without making it the active one. What is known already is kept as given last.
    async fn keep_rulebook(&self, snapshot: &RulebookSnapshot) -> Result<(), StoreError> {
        let _ = snapshot;
        Err(StoreError::read_only())
    }
    /// Keeps the rulebook and makes it the active one, if `instead_of` is active now.
    /// `false` when another is: somebody was faster.
    async fn adopt_rulebook(
        &self,
        snapshot: &RulebookSnapshot,
        instead_of: Option<&PipelineVersion>,
    ) -> Result<bool, StoreError> {
        let _ = (snapshot, instead_of);
        Err(StoreError::read_only())
    }
    /// Every rulebook that was kept, adopted, or has judged, in the order in which they came.
    async fn rulebooks(&self, consultation: &ConsultationId) -> Result<Vec<KnownRulebook>, StoreError> {
        let _ = consultation;
        Err(StoreError::read_only())
    }
    /// A rulebook's files; `None` where they were never kept.
    async fn rulebook(
        &self,
        consultation: &ConsultationId,
        version: &PipelineVersion,
    ) -> Result<Option<RulebookSnapshot>, StoreError> {
        let _ = (consultation, version);
        Err(StoreError::read_only())
    }
}

/// Judgements of a rulebook that only looks on. They are in no result, alert, figure or export.
///
/// The methods with a body are what a double for readers need not have.
#[async_trait]
pub trait Shadows: Send + Sync {
    /// Current comments, not withdrawn, that `version` has not judged in the shadow, above
    /// `after` in order; of a sample that depends on the texts alone.
    async fn shadow_waiting(
        &self,
        consultation: &ConsultationId,
        version: &PipelineVersion,
        sample: Probability,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredComment>, StoreError> {
        let _ = (consultation, version, sample, after, limit);
        Err(StoreError::read_only())
    }
    /// Keeps judgements of stored comments beside the current ones; known ones and
    /// comments that are not stored change nothing. Returns how many were new.
    async fn record_shadow(&self, judged: &[Judged]) -> Result<u64, StoreError> {
        let _ = judged;
        Err(StoreError::read_only())
    }
    /// Current comments that `version` has judged in the shadow, with its judgement, above `after` in order.
    async fn shadowed(
        &self,
        consultation: &ConsultationId,
        version: &PipelineVersion,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(StoredComment, Assessment)>, StoreError> {
        let _ = (consultation, version, after, limit);
        Err(StoreError::read_only())
    }
}

/// Durable state: comments, current assessments, failures, disclosures.
///
/// The methods with a body are what a double for readers need not have; an
/// adapter has them all, and the contract suite asks for each.
#[async_trait]
pub trait Store: FailedRows + Rulebooks + Shadows {
    /// Stores judgements and their outbox rows in one transaction; effects happen once.
    /// All or nothing; [`StoreError::OtherRulebook`] where one was made under another
    /// version than the active one, if one is active.
    async fn record(&self, judged: &[Judged]) -> Result<Vec<Recorded>, StoreError>;
    /// Rows kept by [`FailedRows::fail`], by source and row.
    async fn failures(&self, consultation: &ConsultationId) -> Result<Vec<FailedRow>, StoreError>;
    /// Assessments already made under one pipeline version of what
    /// [`judged_hash`](super::identity::judged_hash) gives these hashes.
    async fn cached(
        &self,
        version: &PipelineVersion,
        text_hashes: &[String],
    ) -> Result<Vec<Option<Assessment>>, StoreError>;
    /// Current comments with `sequence` above `after`, in order, at most `limit`.
    async fn page(
        &self,
        consultation: &ConsultationId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredComment>, StoreError>;
    /// Counts of everything outside the queue (`waiting` and `parked` are zero here).
    async fn funnel(&self, consultation: &ConsultationId) -> Result<Funnel, StoreError>;
    /// Escalated comments, unacknowledged first, oldest first.
    async fn disclosures(&self, consultation: Option<&ConsultationId>) -> Result<Vec<Disclosure>, StoreError>;
    /// Records that a person has looked. `false` when the key is no escalated comment.
    async fn acknowledge(&self, key: &CommentKey, by: &str) -> Result<bool, StoreError>;
    /// Marks a comment as deleted at its source, also before the comment itself has
    /// arrived. A comment that then comes with an explicit revision above `revision`
    /// counts as written anew. `false` when it was withdrawn already.
    async fn withdraw(&self, key: &CommentKey, revision: Option<i64>) -> Result<bool, StoreError> {
        let _ = (key, revision);
        Err(StoreError::read_only())
    }
    /// Stores judgements of known comments made anew under the active rulebook, as
    /// [`Store::record`] does, but sends a result only where `tell` says so: in each
    /// adoption of a rulebook once. Alerts are always sent. No result is sent of a verdict
    /// that does not stand.
    async fn retag(&self, judged: &[Judged], tell: &[bool]) -> Result<Vec<Recorded>, StoreError> {
        let _ = (judged, tell);
        Err(StoreError::read_only())
    }
    /// Records what a person decided about a text, by its
    /// [`text_hash`](super::identity::text_hash): it stands until the text changes or a person
    /// decides anew. `false` when the comment's current text is another, or it has none.
    async fn decide(&self, key: &CommentKey, text_hash: &str, verdict: Verdict, by: &str) -> Result<bool, StoreError> {
        let _ = (key, text_hash, verdict, by);
        Err(StoreError::read_only())
    }
    /// Current judgements that differ from what a person decided about the same text.
    async fn disagreements(&self, consultation: &ConsultationId) -> Result<Vec<Disagreement>, StoreError> {
        let _ = consultation;
        Err(StoreError::read_only())
    }
    /// Takes unsent messages of one kind for `owner` alone, oldest first, at most `limit`.
    /// They are nobody else's until they are sent, released, or `lease_ms` are over.
    async fn claim(&self, kind: &str, owner: &str, limit: u32, lease_ms: i64) -> Result<Vec<OutboxRow>, StoreError> {
        self.sent_then_claim(&[], kind, owner, limit, lease_ms).await
    }
    /// Marks messages as sent; their bodies may go.
    async fn sent(&self, event_ids: &[String]) -> Result<(), StoreError> {
        let _ = event_ids;
        Err(StoreError::read_only())
    }
    /// Marks some as sent and claims others, as one step.
    async fn sent_then_claim(
        &self,
        event_ids: &[String],
        kind: &str,
        owner: &str,
        limit: u32,
        lease_ms: i64,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let _ = (event_ids, kind, owner, limit, lease_ms);
        Err(StoreError::read_only())
    }
    /// Gives back what `owner` has claimed and not sent.
    async fn release(&self, owner: &str) -> Result<(), StoreError> {
        let _ = owner;
        Err(StoreError::read_only())
    }
    /// What waits to be sent, of one kind or of all.
    async fn backlog(&self, kind: Option<&str>) -> Result<Backlog, StoreError> {
        let _ = kind;
        Err(StoreError::read_only())
    }
    /// Consultations with at least one comment or failure.
    async fn consultations(&self) -> Result<Vec<ConsultationId>, StoreError>;
    /// Succeeds when the store can be written to.
    async fn ping(&self) -> Result<(), StoreError>;
}
