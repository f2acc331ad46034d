//! Messages on their way out: claimed by one process, sent, marked.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::pipeline::ports::{Backlog, OutboxRow, StoreError};
use crate::sqlite::{Database, store_error};
use crate::wire::traced;

/// Ids of one UPDATE.
const IDS: usize = 5_000;

/// Who takes which messages for how long.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    pub kind: &'a str,
    pub owner: &'a str,
    pub limit: u32,
    pub lease_ms: i64,
}

/// Marks `done` as sent and takes messages for an owner, in one transaction. The write
/// lock makes claims of two processes follow each other.
pub async fn sent_then_claim(
    database: &Database,
    now_ms: i64,
    done: &[String],
    claim: Claim<'_>,
) -> Result<Vec<OutboxRow>, StoreError> {
    // Most looks find nothing: they must not take the write lock from the worker.
    // A lease that ends later than any that is taken now was taken when the clock was ahead:
    // nobody waits for it. Another process may be set to twice as long.
    let latest_ms = now_ms.saturating_add(claim.lease_ms.saturating_mul(2));
    if done.is_empty() && !waits(database, now_ms, latest_ms, claim.kind).await? {
        forget(database).await?;
        return Ok(Vec::new());
    }
    let mut tx = database.write().await.map_err(store_error)?;
    mark(&mut tx, now_ms, done).await?;
    let mut rows: Vec<(i64, String, i64)> = sqlx::query_as(
        "UPDATE outbox SET lease_owner = $1, lease_until_ms = $2 WHERE no IN (\
             SELECT no FROM outbox WHERE sent_at_ms IS NULL AND kind = $3 \
             AND (lease_until_ms IS NULL OR lease_until_ms <= $4 OR lease_until_ms > $6) ORDER BY no LIMIT $5) \
         RETURNING no, event_id, created_at_ms",
    )
    .bind(claim.owner)
    .bind(now_ms.saturating_add(claim.lease_ms))
    .bind(claim.kind)
    .bind(now_ms)
    .bind(i64::from(claim.limit))
    .bind(latest_ms)
    .fetch_all(&mut *tx)
    .await
    .map_err(store_error)?;
    tx.commit().await.map_err(store_error)?;
    // RETURNING promises no order.
    rows.sort_unstable_by_key(|row| row.0);
    // They are ours now and do not change: the write lock is not needed to read them.
    let mut bodies = bodies(database, &rows).await?;
    rows.into_iter()
        .map(|(no, event_id, created_at_ms)| {
            let body =
                bodies.remove(&no).ok_or_else(|| StoreError::Damaged(format!("message {event_id} has no body")))?;
            let (body, trace) = traced::from_row(body);
            Ok(OutboxRow { event_id, kind: claim.kind.to_owned(), body, created_at_ms, trace })
        })
        .collect()
}

async fn bodies(database: &Database, rows: &[(i64, String, i64)]) -> Result<HashMap<i64, String>, StoreError> {
    let mut bodies = HashMap::with_capacity(rows.len());
    for rows in rows.chunks(IDS) {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT no, body FROM outbox_bodies WHERE no IN (");
        let mut list = query.separated(", ");
        for (no, ..) in rows {
            list.push_bind(*no);
        }
        query.push(")");
        let found: Vec<(i64, String)> =
            query.build_query_as().fetch_all(database.reader()).await.map_err(store_error)?;
        bodies.extend(found);
    }
    Ok(bodies)
}

/// Drops the bodies of messages that were sent and that no webhook needs: when nothing else is to be done, and not
/// for ever at once.
async fn forget(database: &Database) -> Result<(), StoreError> {
    const SENT: &str = "SELECT b.no FROM outbox_bodies b JOIN outbox o ON o.no = b.no \
                        WHERE o.sent_at_ms IS NOT NULL AND NOT EXISTS (SELECT 1 FROM webhook_calls c \
                        WHERE c.message_no = o.no AND c.state <> 'delivered') ORDER BY b.no LIMIT 5000";
    let first: Option<i64> = sqlx::query_scalar(SENT).fetch_optional(database.reader()).await.map_err(store_error)?;
    if first.is_none() {
        return Ok(());
    }
    let mut tx = database.write().await.map_err(store_error)?;
    let mut delete = QueryBuilder::<Sqlite>::new("DELETE FROM outbox_bodies WHERE no IN (");
    delete.push(SENT).push(")");
    delete.build().execute(&mut *tx).await.map_err(store_error)?;
    tx.commit().await.map_err(store_error)
}

async fn waits(database: &Database, now_ms: i64, latest_ms: i64, kind: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM outbox WHERE sent_at_ms IS NULL AND kind = $1 \
         AND (lease_until_ms IS NULL OR lease_until_ms <= $2 OR lease_until_ms > $3))",
    )
    .bind(kind)
    .bind(now_ms)
    .bind(latest_ms)
    .fetch_one(database.reader())
    .await
    .map_err(store_error)
}

/// Marks messages as sent. The row stays as the memory of the event; its body goes later.
pub async fn sent(database: &Database, now_ms: i64, event_ids: &[String]) -> Result<(), StoreError> {
    let mut tx = database.write().await.map_err(store_error)?;
    mark(&mut tx, now_ms, event_ids).await?;
    tx.commit().await.map_err(store_error)
}

async fn mark(conn: &mut SqliteConnection, now_ms: i64, event_ids: &[String]) -> Result<(), StoreError> {
    for ids in event_ids.chunks(IDS) {
        let mut update = QueryBuilder::<Sqlite>::new("UPDATE outbox SET lease_owner = NULL, sent_at_ms = ");
        update.push_bind(now_ms).push(" WHERE sent_at_ms IS NULL AND event_id IN (");
        let mut list = update.separated(", ");
        for id in ids {
            list.push_bind(id);
        }
        update.push(")");
        update.build().execute(&mut *conn).await.map_err(store_error)?;
    }
    Ok(())
}

/// Gives back what `owner` holds.
pub async fn release(database: &Database, owner: &str) -> Result<(), StoreError> {
    let mut tx = database.write().await.map_err(store_error)?;
    sqlx::query(
        "UPDATE outbox SET lease_owner = NULL, lease_until_ms = NULL WHERE sent_at_ms IS NULL AND lease_owner = $1",
    )
    .bind(owner)
    .execute(&mut *tx)
    .await
    .map_err(store_error)?;
    tx.commit().await.map_err(store_error)
}

/// What waits.
pub async fn backlog(database: &Database, kind: Option<&str>) -> Result<Backlog, StoreError> {
    let (unsent, oldest_ms): (i64, Option<i64>) = sqlx::query_as(
        "SELECT count(*), min(created_at_ms) FROM outbox WHERE sent_at_ms IS NULL AND ($1 IS NULL OR kind = $1)",
    )
    .bind(kind)
    .fetch_one(database.reader())
    .await
    .map_err(store_error)?;
    Ok(Backlog { unsent: unsent as u64, oldest_ms })
}
