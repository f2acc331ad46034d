//! Messages on their way out: claimed by one process, sent, marked.

use sqlx::postgres::PgConnection;

use super::connection::{PostgresDatabase, store_error};
use crate::pipeline::ports::{Backlog, OutboxRow, StoreError};
use crate::wire::traced;

/// Who takes which messages for how long.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    pub kind: &'a str,
    pub owner: &'a str,
    pub limit: u32,
    pub lease_ms: i64,
}

/// Marks `done` as sent and takes messages for an owner, in one transaction.
pub async fn sent_then_claim(
    database: &PostgresDatabase,
    now_ms: i64,
    done: &[String],
    wanted: Claim<'_>,
) -> Result<Vec<OutboxRow>, StoreError> {
    let mut lease = database.lease().await?;
    let rows = if done.is_empty() {
        claim(&mut lease, now_ms, wanted).await?
    } else {
        let mut tx = lease.begin().await?;
        mark(&mut tx, now_ms, done).await?;
        let rows = claim(&mut tx, now_ms, wanted).await?;
        tx.commit().await.map_err(store_error)?;
        rows
    };
    lease.well();
    Ok(rows)
}

/// What another process is claiming at this moment is passed over, not waited for.
async fn claim(conn: &mut PgConnection, now_ms: i64, claim: Claim<'_>) -> Result<Vec<OutboxRow>, StoreError> {
    let mut rows: Vec<(i64, String, i64, Option<String>)> = sqlx::query_as(
        "WITH free AS (SELECT no FROM outbox WHERE sent_at_ms IS NULL AND kind = $3 \
             AND (lease_until_ms IS NULL OR lease_until_ms <= $4 OR lease_until_ms > $6) \
             ORDER BY no LIMIT $5 FOR UPDATE SKIP LOCKED) \
         UPDATE outbox o SET lease_owner = $1, lease_until_ms = $2 FROM free WHERE o.no = free.no \
         RETURNING o.no, o.event_id, o.created_at_ms, (SELECT b.body FROM outbox_bodies b WHERE b.no = o.no)",
    )
    .bind(claim.owner)
    .bind(now_ms.saturating_add(claim.lease_ms))
    .bind(claim.kind)
    .bind(now_ms)
    .bind(i64::from(claim.limit))
    // A lease that ends later than any that is taken now was taken when a clock was ahead: nobody
    // waits for it. Another process may be set to twice as long.
    .bind(now_ms.saturating_add(claim.lease_ms.saturating_mul(2)))
    .fetch_all(conn)
    .await
    .map_err(store_error)?;
    // RETURNING promises no order.
    rows.sort_unstable_by_key(|row| row.0);
    rows.into_iter()
        .map(|(_, event_id, created_at_ms, body)| {
            let body = body.ok_or_else(|| StoreError::Damaged(format!("message {event_id} has no body")))?;
            let (body, trace) = traced::from_row(body);
            Ok(OutboxRow { event_id, kind: claim.kind.to_owned(), body, created_at_ms, trace })
        })
        .collect()
}

/// Marks messages as sent. The row stays as the memory of the event; its body goes, unless a webhook needs it.
pub async fn sent(database: &PostgresDatabase, now_ms: i64, event_ids: &[String]) -> Result<(), StoreError> {
    let mut lease = database.lease().await?;
    mark(&mut lease, now_ms, event_ids).await?;
    lease.well();
    Ok(())
}

async fn mark(conn: &mut PgConnection, now_ms: i64, event_ids: &[String]) -> Result<(), StoreError> {
    // Locked in one order, so that two that mark the same never wait for each other.
    sqlx::query(
        "WITH mine AS (SELECT no FROM outbox WHERE event_id = ANY ($1) AND sent_at_ms IS NULL ORDER BY no FOR UPDATE), \
         marked AS (UPDATE outbox o SET lease_owner = NULL, sent_at_ms = $2 FROM mine WHERE o.no = mine.no \
             RETURNING o.no) \
         DELETE FROM outbox_bodies b USING marked WHERE b.no = marked.no AND NOT EXISTS \
             (SELECT 1 FROM webhook_calls c WHERE c.message_no = b.no AND c.state <> 'delivered')",
    )
    .bind(event_ids)
    .bind(now_ms)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}

/// Gives back what `owner` holds.
pub async fn release(database: &PostgresDatabase, owner: &str) -> Result<(), StoreError> {
    let mut lease = database.lease().await?;
    sqlx::query(
        "WITH mine AS (SELECT no FROM outbox WHERE sent_at_ms IS NULL AND lease_owner = $1 ORDER BY no FOR UPDATE) \
         UPDATE outbox o SET lease_owner = NULL, lease_until_ms = NULL FROM mine WHERE o.no = mine.no",
    )
    .bind(owner)
    .execute(&mut *lease)
    .await
    .map_err(store_error)?;
    lease.well();
    Ok(())
}

/// What waits.
pub async fn backlog(database: &PostgresDatabase, kind: Option<&str>) -> Result<Backlog, StoreError> {
    let mut lease = database.lease().await?;
    let (unsent, oldest_ms): (i64, Option<i64>) = sqlx::query_as(
        "SELECT count(*), min(created_at_ms) FROM outbox WHERE sent_at_ms IS NULL AND ($1::text IS NULL OR kind = $1)",
    )
    .bind(kind)
    .fetch_one(&mut *lease)
    .await
    .map_err(store_error)?;
    lease.well();
    Ok(Backlog { unsent: unsent as u64, oldest_ms })
}
