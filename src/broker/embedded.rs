//! A durable queue in the embedded SQLite file.
//!
//! An arrival is one row, from its first sight to for ever: waiting, leased,
//! then done (its payload removed) or parked (its payload kept). A commit that
//! returned is the publisher's confirm; a lease is the unacknowledged delivery,
//! and a lease that ran out or whose process is gone is the broken connection.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::owners::{self, OwnerLock};
use crate::domain::comment::{Comment, CommentId, CommentKey, ConsultationId, SourceName};
use crate::domain::trace::Trace;
use crate::pipeline::clock::Clock;
use crate::pipeline::identity::arrival_key;
use crate::pipeline::ports::{
    Arrival, Delivery, Depth, Keep, Lane, ParkedArrival, ParkedWhole, Published, Queue, QueueError, Settlement,
};
use crate::sql::from_row;
use crate::sqlite::{Database, queue_error};
use crate::wire::{CommentV1, traced};

/// Rows of one INSERT: 9 values each stay far below SQLite's 32,766.
const ROWS_PER_INSERT: usize = 200;
/// Tags of one UPDATE.
const TAGS_PER_UPDATE: usize = 500;

/// Parked arrivals that are kept elsewhere and then removed together.
const PURGED_AT_ONCE: u32 = 200;
/// No retry waits longer: what seems to was put off by a clock that ran ahead.
const LONGEST_PAUSE_MS: i64 = 3_600_000;

/// How patient the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedLimits {
    /// How long a delivery may stay unsettled and unrenewed.
    pub lease_ms: i64,
    /// Counted attempts after which an arrival is parked.
    pub delivery_budget: u32,
    /// With so many waiting or in hand the queue is full and refuses more; 0 is no limit.
    pub most_waiting: u64,
}

impl Default for EmbeddedLimits {
    fn default() -> Self {
        Self { lease_ms: 60_000, delivery_budget: 20, most_waiting: 0 }
    }
}

/// The embedded [`Queue`].
#[derive(Clone, Debug)]
pub struct EmbeddedQueue {
    database: Database,
    clock: Clock,
    owner: Arc<str>,
    limits: EmbeddedLimits,
    only: Option<ConsultationId>,
    /// The lane that `receive` looks at; both without one.
    lane: Option<Lane>,
    _alive: Arc<OwnerLock>,
}

impl EmbeddedQueue {
    /// Keeps to one consultation's arrivals: others are neither handed out nor
    /// counted where no consultation is named.
    #[must_use]
    pub fn only(mut self, consultation: Option<ConsultationId>) -> Self {
        self.only = consultation;
        self
    }

    /// A queue over an open file. `owner` is this process's own random name; the
    /// leases of owners on this machine that are gone are taken back at once.
    pub async fn open(
        database: Database,
        clock: Clock,
        owner: &str,
        limits: EmbeddedLimits,
    ) -> Result<Self, QueueError> {
        let (alive, dead) = lock(database.path(), owner)?;
        let queue =
            Self { database, clock, owner: owner.into(), limits, only: None, lane: None, _alive: Arc::new(alive) };
        for owner in dead {
            let released = queue.release(&owner, true).await?;
            if released > 0 {
                tracing::info!(released, "took back deliveries of a process that is gone");
            }
        }
        Ok(queue)
    }

    async fn write(&self) -> Result<Transaction<'static, Sqlite>, QueueError> {
        self.database.write().await.map_err(queue_error)
    }

    /// No lease that a process takes now ends later than this from now; another may be set to twice as long.
    fn longest_lease_ms(&self) -> i64 {
        self.limits.lease_ms.saturating_mul(2)
    }

    /// Whether anything waits whose time has come, or is leased for longer than it may.
    async fn is_due(&self, now_ms: i64) -> Result<bool, QueueError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM queue WHERE state = 'waiting' AND (run_at_ms <= $1 OR run_at_ms > $2)) \
             OR EXISTS (SELECT 1 FROM queue WHERE state = 'leased' AND (lease_until_ms <= $1 OR lease_until_ms > $3))",
        )
        .bind(now_ms)
        .bind(now_ms + LONGEST_PAUSE_MS)
        .bind(now_ms + self.longest_lease_ms())
        .fetch_one(self.database.reader())
        .await
        .map_err(queue_error)
    }

    /// Leases what one lane has ready, in order.
    async fn lease(
        &self,
        conn: &mut SqliteConnection,
        lane: Lane,
        max: usize,
        now_ms: i64,
    ) -> Result<Vec<Leased>, QueueError> {
        let mut update = QueryBuilder::<Sqlite>::new("UPDATE queue SET state = 'leased', lease_owner = ");
        update.push_bind(&*self.owner).push(", lease_until_ms = ").push_bind(now_ms + self.limits.lease_ms);
        update.push(
            ", attempts = attempts + 1, deliveries = deliveries + 1 WHERE sequence IN (SELECT sequence FROM queue ",
        );
        // Named, and the lane written out and not bound: else a flood would be walked for the few urgent ones.
        update.push(match lane {
            Lane::Urgent => "INDEXED BY queue_urgent ",
            Lane::Work => "",
        });
        update
            .push("WHERE state = 'waiting' AND lane = '")
            .push(lane.key())
            .push("' AND (run_at_ms <= ")
            .push_bind(now_ms)
            .push(" OR run_at_ms > ")
            .push_bind(now_ms + LONGEST_PAUSE_MS)
            .push(")");
        if let Some(only) = &self.only {
            update.push(" AND consultation = ").push_bind(only.as_str());
        }
        update.push(" ORDER BY sequence LIMIT ").push_bind(max as i64);
        update.push(") RETURNING sequence, consultation, source, payload, deliveries, deaths");
        let mut leased: Vec<Leased> = update.build_query_as().fetch_all(conn).await.map_err(queue_error)?;
        // RETURNING promises no order.
        leased.sort_unstable_by_key(|row| row.sequence);
        Ok(leased)
    }

    /// Takes back an owner's leases. Given back in good order the attempt does not count;
    /// by a process that is gone it counts, and so does its death.
    async fn release(&self, owner: &str, gone: bool) -> Result<u64, QueueError> {
        let mut tx = self.write().await?;
        let released = sqlx::query(
            "UPDATE queue SET state = 'waiting', lease_owner = NULL, lease_until_ms = NULL, \
             attempts = attempts - $1, deaths = deaths + $2 WHERE state = 'leased' AND lease_owner = $3",
        )
        .bind(i64::from(!gone))
        .bind(i64::from(gone))
        .bind(owner)
        .execute(&mut *tx)
        .await
        .map_err(queue_error)?
        .rows_affected();
        tx.commit().await.map_err(queue_error)?;
        Ok(released)
    }
}

fn lock(path: &Path, owner: &str) -> Result<(OwnerLock, Vec<String>), QueueError> {
    owners::take(path, owner).map_err(|error| QueueError::Failed(format!("lock beside {}: {error}", path.display())))
}

struct Leased {
    sequence: i64,
    consultation: String,
    source: String,
    /// As bytes: what is no UTF-8 must not keep its neighbours from being read.
    payload: Option<Vec<u8>>,
    deliveries: i64,
    deaths: i64,
}

from_row!(Leased { sequence, consultation, source, payload, deliveries, deaths });

impl Leased {
    fn decode(&self) -> Result<Comment, String> {
        let row = self.payload.as_deref().ok_or("the payload is missing")?;
        let payload = traced::parts(row).map_or(row, |(json, _)| json.as_bytes());
        let (Some(consultation), Some(source)) =
            (ConsultationId::new(&self.consultation), SourceName::new(&self.source))
        else {
            return Err("the row has no consultation or source".to_owned());
        };
        // The position and not the message: the message could quote the text.
        let wire: CommentV1 = serde_json::from_slice(payload)
            .map_err(|error| format!("not a comment at line {} column {}", error.line(), error.column()))?;
        wire.into_comment(&consultation, &source).map_err(|error| error.to_string())
    }

    fn trace(&self) -> Option<Trace> {
        traced::parts(self.payload.as_deref()?)?.1
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn publish_in(
        &self,
        lane: Lane,
        comments: &[Comment],
        trace: Option<&Trace>,
    ) -> Result<Published, QueueError> {
        if comments.is_empty() {
            return Ok(Published::default());
        }
        let now_ms = self.clock.now_ms();
        // Written before the lock is taken, so that it is held for the inserts only.
        let rows = comments
            .iter()
            .map(|comment| {
                let payload = serde_json::to_string(&CommentV1::from(comment))
                    .and_then(|json| traced::to_row(json, trace))
                    .map_err(|error| QueueError::Failed(format!("write payload: {error}")))?;
                Ok((comment, arrival_key(comment), payload))
            })
            .collect::<Result<Vec<_>, QueueError>>()?;
        let mut tx = self.write().await?;
        has_room(&mut tx, self.limits.most_waiting, comments.len() as u64).await?;
        let mut sequence = next_sequence(&mut tx, now_ms).await?;
        let mut new = 0;
        for chunk in rows.chunks(ROWS_PER_INSERT) {
            let mut insert = QueryBuilder::<Sqlite>::new(
                "INSERT INTO queue (sequence, consultation, source, id, arrival_key, payload, state, \
                 run_at_ms, published_at_ms, lane) ",
            );
            insert.push_values(chunk, |mut row, (comment, key, payload)| {
                row.push_bind(sequence)
                    .push_bind(comment.key.consultation.as_str())
                    .push_bind(comment.key.source.as_str())
                    .push_bind(comment.key.id.as_str())
                    .push_bind(key)
                    .push_bind(payload)
                    .push("'waiting'")
                    // Due at once, whatever becomes of the clock.
                    .push_bind(0_i64)
                    .push_bind(now_ms)
                    .push_bind(lane.key());
                sequence += 1;
            });
            insert.push(" ON CONFLICT (consultation, source, id, arrival_key) DO NOTHING");
            new += insert.build().execute(&mut *tx).await.map_err(queue_error)?.rows_affected();
        }
        tx.commit().await.map_err(queue_error)?;
        Ok(Published { new, known: comments.len() as u64 - new })
    }

    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let now_ms = self.clock.now_ms();
        // Most looks find nothing: they are cheap enough to be frequent, and take the write lock from nobody.
        if !self.is_due(now_ms).await? {
            return Ok(Vec::new());
        }
        let mut tx = self.write().await?;
        expire(&mut tx, now_ms, now_ms + self.longest_lease_ms(), self.limits.delivery_budget).await?;
        let mut leased = Vec::new();
        for lane in Lane::ALL.into_iter().filter(|lane| self.lane.is_none_or(|only| only == *lane)) {
            let room = max - leased.len();
            if room > 0 {
                leased.extend(self.lease(&mut tx, lane, room, now_ms).await?);
            }
        }
        tx.commit().await.map_err(queue_error)?;
        Ok(leased
            .into_iter()
            .map(|row| Delivery {
                tag: row.sequence,
                arrival: row.decode().map(|comment| Arrival::Comment(Box::new(comment))),
                attempt: row.deliveries as u32,
                deaths: row.deaths as u32,
                sequence: row.sequence,
                trace: row.trace(),
            })
            .collect())
    }

    fn only_lane(&self, lane: Lane) -> Arc<dyn Queue> {
        Arc::new(Self { lane: Some(lane), ..self.clone() })
    }

    async fn settle(&self, settlements: &[(i64, Settlement)]) -> Result<(), QueueError> {
        if settlements.is_empty() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let mut tx = self.write().await?;
        let mut done = Vec::new();
        for (tag, settlement) in settlements {
            match settlement {
                Settlement::Done => done.push(*tag),
                Settlement::Retry { after_ms, counts } => {
                    let forgiven = i64::from(!*counts);
                    let run_at_ms = now_ms.saturating_add_unsigned(*after_ms);
                    retry(&mut tx, &self.owner, *tag, run_at_ms, forgiven).await?;
                }
                Settlement::Park(reason) => park(&mut tx, &self.owner, *tag, reason).await?,
            }
        }
        for tags in done.chunks(TAGS_PER_UPDATE) {
            // Only a lease of our own: one that ran out may be someone else's by now,
            // and the effects that we stored are found there when it is settled.
            let mut update = QueryBuilder::<Sqlite>::new(
                "UPDATE queue SET state = 'done', payload = NULL, last_error = NULL, \
                 lease_owner = NULL, lease_until_ms = NULL \
                 WHERE state = 'leased' AND lease_owner = ",
            );
            update.push_bind(&*self.owner).push(" AND sequence IN (");
            let mut list = update.separated(", ");
            for tag in tags {
                list.push_bind(*tag);
            }
            update.push(")");
            update.build().execute(&mut *tx).await.map_err(queue_error)?;
        }
        park_spent(&mut tx, self.limits.delivery_budget).await?;
        tx.commit().await.map_err(queue_error)
    }

    async fn depth(&self, consultation: Option<&ConsultationId>) -> Result<Depth, QueueError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT state, count(*) FROM queue WHERE state IN ('waiting', 'leased', 'parked') \
             AND ($1 IS NULL OR consultation = $1) GROUP BY state",
        )
        .bind(consultation.or(self.only.as_ref()).map(ConsultationId::as_str))
        .fetch_all(self.database.reader())
        .await
        .map_err(queue_error)?;
        let mut depth = Depth::default();
        for (state, count) in rows {
            match state.as_str() {
                "waiting" => depth.waiting = count as u64,
                "leased" => depth.in_flight = count as u64,
                _ => depth.parked = count as u64,
            }
        }
        Ok(depth)
    }

    async fn renew(&self, tags: &[i64]) -> Result<(), QueueError> {
        let mut tx = self.write().await?;
        for tags in tags.chunks(TAGS_PER_UPDATE) {
            let mut update = QueryBuilder::<Sqlite>::new("UPDATE queue SET lease_until_ms = ");
            update
                .push_bind(self.clock.now_ms() + self.limits.lease_ms)
                .push(" WHERE state = 'leased' AND lease_owner = ")
                .push_bind(&*self.owner)
                .push(" AND sequence IN (");
            let mut list = update.separated(", ");
            for tag in tags {
                list.push_bind(*tag);
            }
            update.push(")");
            update.build().execute(&mut *tx).await.map_err(queue_error)?;
        }
        tx.commit().await.map_err(queue_error)
    }

    async fn release_all(&self) -> Result<u64, QueueError> {
        self.release(&self.owner, false).await
    }

    async fn parked(
        &self,
        consultation: Option<&ConsultationId>,
        limit: u32,
    ) -> Result<Vec<ParkedArrival>, QueueError> {
        let rows = parked_rows(self.database.reader(), consultation, i64::MIN, limit).await?;
        rows.into_iter().map(|row| Ok(row.whole()?.arrival)).collect()
    }

    async fn replay(&self, consultation: Option<&ConsultationId>) -> Result<u64, QueueError> {
        let mut tx = self.write().await?;
        let replayed = sqlx::query(
            "UPDATE queue SET state = 'waiting', attempts = 0, deaths = 0, run_at_ms = 0 \
             WHERE state = 'parked' AND ($1 IS NULL OR consultation = $1)",
        )
        .bind(consultation.map(ConsultationId::as_str))
        .execute(&mut *tx)
        .await
        .map_err(queue_error)?
        .rows_affected();
        tx.commit().await.map_err(queue_error)?;
        Ok(replayed)
    }

    async fn purge_parked(
        &self,
        consultation: Option<&ConsultationId>,
        keep: &mut dyn Keep,
    ) -> Result<u64, QueueError> {
        let (mut purged, mut after) = (0, i64::MIN);
        loop {
            let rows = parked_rows(self.database.reader(), consultation, after, PURGED_AT_ONCE).await?;
            let Some(last) = rows.last().map(|row| row.sequence) else { return Ok(purged) };
            let whole = rows.into_iter().map(ParkedRow::whole).collect::<Result<Vec<_>, _>>()?;
            keep.keep(&whole).await.map_err(QueueError::NotKept)?;
            let mut tx = self.write().await?;
            for one in &whole {
                // The row stays as the memory of the arrival; what it said goes.
                purged += sqlx::query(
                    "UPDATE queue SET state = 'done', payload = NULL WHERE sequence = $1 AND state = 'parked'",
                )
                .bind(one.arrival.sequence)
                .execute(&mut *tx)
                .await
                .map_err(queue_error)?
                .rows_affected();
            }
            tx.commit().await.map_err(queue_error)?;
            after = last;
        }
    }
}

struct ParkedRow {
    consultation: String,
    source: String,
    id: String,
    sequence: i64,
    deliveries: i64,
    last_error: Option<String>,
    lane: String,
    payload: Option<Vec<u8>>,
}

from_row!(ParkedRow { consultation, source, id, sequence, deliveries, last_error, lane, payload });

impl ParkedRow {
    fn whole(self) -> Result<ParkedWhole, QueueError> {
        let key = ConsultationId::new(self.consultation)
            .zip(SourceName::new(self.source))
            .zip(CommentId::new(self.id))
            .map(|((consultation, source), id)| CommentKey { consultation, source, id })
            .ok_or_else(|| QueueError::Failed("a parked row without a name".to_owned()))?;
        let arrival = ParkedArrival {
            key: Some(key),
            sequence: self.sequence,
            attempts: self.deliveries as u32,
            reason: self.last_error.unwrap_or_default(),
        };
        let lane = if self.lane == Lane::Urgent.key() { Lane::Urgent } else { Lane::Work };
        let row = self.payload.unwrap_or_default();
        let body = traced::parts(&row).map(|(json, _)| json.as_bytes().to_vec());
        Ok(ParkedWhole { arrival, lane, body: body.unwrap_or(row) })
    }
}

/// Parked rows after a position, in order.
async fn parked_rows(
    pool: &SqlitePool,
    consultation: Option<&ConsultationId>,
    after: i64,
    limit: u32,
) -> Result<Vec<ParkedRow>, QueueError> {
    sqlx::query_as(
        "SELECT consultation, source, id, sequence, deliveries, last_error, lane, payload FROM queue \
         WHERE state = 'parked' AND sequence > $1 AND ($2 IS NULL OR consultation = $2) ORDER BY sequence LIMIT $3",
    )
    .bind(after)
    .bind(consultation.map(ConsultationId::as_str))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(queue_error)
}

/// Refuses before anything is written: a part of a batch would be claimed to be refused.
async fn has_room(conn: &mut SqliteConnection, most: u64, more: u64) -> Result<(), QueueError> {
    if most == 0 {
        return Ok(());
    }
    let here: i64 =
        sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM queue WHERE state IN ('waiting', 'leased') LIMIT $1)")
            .bind(most as i64)
            .fetch_one(conn)
            .await
            .map_err(queue_error)?;
    if here as u64 + more > most {
        return Err(QueueError::Busy(format!("it is full: {here} wait, at most {most} may")));
    }
    Ok(())
}

/// The first position of a publication: now in microseconds, or the next after the
/// last one where the clock stands still or went back. The transaction holds the
/// write lock: nobody else takes positions now.
async fn next_sequence(conn: &mut SqliteConnection, now_ms: i64) -> Result<i64, QueueError> {
    let last: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(sequence), 0) FROM queue")
        .fetch_one(conn)
        .await
        .map_err(queue_error)?;
    Ok(now_ms.saturating_mul(1_000).max(last + 1))
}

async fn retry(
    conn: &mut SqliteConnection,
    owner: &str,
    tag: i64,
    run_at_ms: i64,
    forgiven: i64,
) -> Result<(), QueueError> {
    sqlx::query(
        "UPDATE queue SET state = 'waiting', run_at_ms = $1, attempts = attempts - $2, \
         lease_owner = NULL, lease_until_ms = NULL \
         WHERE sequence = $3 AND state = 'leased' AND lease_owner = $4",
    )
    .bind(run_at_ms)
    .bind(forgiven)
    .bind(tag)
    .bind(owner)
    .execute(conn)
    .await
    .map_err(queue_error)?;
    Ok(())
}

async fn park(conn: &mut SqliteConnection, owner: &str, tag: i64, reason: &str) -> Result<(), QueueError> {
    sqlx::query(
        "UPDATE queue SET state = 'parked', last_error = $1, lease_owner = NULL, \
         lease_until_ms = NULL WHERE sequence = $2 AND state = 'leased' AND lease_owner = $3",
    )
    .bind(reason)
    .bind(tag)
    .bind(owner)
    .execute(conn)
    .await
    .map_err(queue_error)?;
    Ok(())
}

/// Takes back leases that ran out, or end later than one that is taken now could: the clock was
/// ahead then, and nobody waits for it. Their attempt counts: it may be the comment
/// itself that ends every process that touches it.
async fn expire(
    conn: &mut SqliteConnection,
    now_ms: i64,
    latest_ms: i64,
    delivery_budget: u32,
) -> Result<(), QueueError> {
    sqlx::query(
        "UPDATE queue SET state = 'waiting', lease_owner = NULL, lease_until_ms = NULL, deaths = deaths + 1 \
         WHERE state = 'leased' AND (lease_until_ms <= $1 OR lease_until_ms > $2)",
    )
    .bind(now_ms)
    .bind(latest_ms)
    .execute(&mut *conn)
    .await
    .map_err(queue_error)?;
    park_spent(conn, delivery_budget).await
}

/// Parks what has used up its delivery budget.
async fn park_spent(conn: &mut SqliteConnection, delivery_budget: u32) -> Result<(), QueueError> {
    let parked = sqlx::query(
        // `attempts > 0` is what the partial index asks for.
        "UPDATE queue SET state = 'parked', last_error = $1 \
         WHERE state = 'waiting' AND attempts > 0 AND attempts >= $2",
    )
    .bind(format!("delivery budget of {delivery_budget} attempts spent"))
    .bind(i64::from(delivery_budget))
    .execute(conn)
    .await
    .map_err(queue_error)?
    .rows_affected();
    if parked > 0 {
        tracing::error!(parked, "parked deliveries whose budget is spent");
    }
    Ok(())
}
