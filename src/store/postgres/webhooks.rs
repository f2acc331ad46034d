//! Calls of webhooks: claimed by one process, tried, ended.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::connection::store_error;
use crate::pipeline::ports::{Call, CallEnd, ClaimCalls, ParkedCall, StoreError, WebhookState, Webhooks};
use crate::store::calls::{CallRow, ParkedCallRow, StateRow, end};

#[async_trait]
impl Webhooks for PostgresStore {
    async fn subscribe(&self, target: &str, kinds: &[&str]) -> Result<(), StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            sqlx::query(
                "INSERT INTO webhook_subscriptions (target, kind, since_ms) \
                 SELECT $1, kind, $3 FROM unnest($2::text[]) AS w (kind) ORDER BY kind \
                 ON CONFLICT (target, kind) DO NOTHING",
            )
            .bind(target)
            .bind(kinds)
            .bind(self.clock.now_ms())
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
            sqlx::query("DELETE FROM webhook_subscriptions WHERE target = $1 AND kind <> ALL ($2::text[])")
                .bind(target)
                .bind(kinds)
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
            tx.commit().await.map_err(store_error)?;
            lease.well();
            Ok(())
        };
        self.database.in_time(work).await
    }

    async fn unsubscribe(&self, target: &str) -> Result<u64, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            sqlx::query("DELETE FROM webhook_subscriptions WHERE target = $1")
                .bind(target)
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
            let dropped = sqlx::query("DELETE FROM webhook_calls WHERE target = $1 AND state <> 'delivered'")
                .bind(target)
                .execute(&mut *tx)
                .await
                .map_err(store_error)?
                .rows_affected();
            tx.commit().await.map_err(store_error)?;
            lease.well();
            Ok(dropped)
        };
        self.database.in_time(work).await
    }

    async fn end_then_claim_calls(
        &self,
        ends: &[(i64, CallEnd)],
        claim: ClaimCalls<'_>,
    ) -> Result<Vec<Call>, StoreError> {
        let work = async {
            let now_ms = self.clock.now_ms();
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            end_all(&mut tx, ends, claim.owner, now_ms).await?;
            let mut rows: Vec<CallRow> = sqlx::query_as(CLAIM)
                .bind(claim.owner)
                .bind(now_ms.saturating_add(claim.lease_ms))
                .bind(claim.target)
                .bind(claim.kind)
                .bind(now_ms)
                .bind(i64::from(claim.limit))
                .fetch_all(&mut *tx)
                .await
                .map_err(store_error)?;
            tx.commit().await.map_err(store_error)?;
            lease.well();
            // RETURNING promises no order.
            rows.sort_unstable_by_key(|row| (row.run_at_ms, row.no));
            rows.into_iter().map(CallRow::call).collect()
        };
        self.database.in_time(work).await
    }

    async fn webhook_states(&self) -> Result<Vec<WebhookState>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let rows: Vec<StateRow> =
                sqlx::query_as(StateRow::SELECT).fetch_all(&mut *lease).await.map_err(store_error)?;
            lease.well();
            Ok(rows.into_iter().map(StateRow::state).collect())
        };
        self.database.in_time(work).await
    }

    async fn parked_calls(&self, target: Option<&str>, limit: u32) -> Result<Vec<ParkedCall>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let rows: Vec<ParkedCallRow> = sqlx::query_as(
                "SELECT c.target, c.kind, o.event_id, c.attempts, c.ended_at_ms, c.last_error FROM webhook_calls c \
                 JOIN outbox o ON o.no = c.message_no \
                 WHERE c.state = 'parked' AND ($1::text IS NULL OR c.target = $1) ORDER BY c.no LIMIT $2",
            )
            .bind(target)
            .bind(i64::from(limit))
            .fetch_all(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            Ok(rows.into_iter().map(ParkedCallRow::call).collect())
        };
        self.database.in_time(work).await
    }

    async fn replay_calls(&self, target: Option<&str>) -> Result<u64, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let replayed = sqlx::query(
                "UPDATE webhook_calls SET state = 'waiting', attempts = 0, run_at_ms = $1, ended_at_ms = NULL \
                 WHERE state = 'parked' AND ($2::text IS NULL OR target = $2)",
            )
            .bind(self.clock.now_ms())
            .bind(target)
            .execute(&mut *lease)
            .await
            .map_err(store_error)?
            .rows_affected();
            lease.well();
            Ok(replayed)
        };
        self.database.in_time(work).await
    }
}

/// What another process is claiming at this moment is passed over, not waited for. What the
/// owner holds already is handed out again: its answer was lost on the way.
const CLAIM: &str = "WITH free AS (SELECT no FROM webhook_calls WHERE state = 'waiting' AND target = $3 AND kind = $4 \
     AND run_at_ms <= $5 AND (lease_until_ms IS NULL OR lease_until_ms <= $5 OR lease_owner = $1) \
     ORDER BY run_at_ms, no LIMIT $6 FOR UPDATE SKIP LOCKED) \
 UPDATE webhook_calls c SET lease_owner = $1, lease_until_ms = $2 FROM free, outbox o \
 WHERE c.no = free.no AND o.no = c.message_no \
 RETURNING c.no, c.attempts, c.run_at_ms, o.event_id, o.kind, o.created_at_ms, \
     (SELECT b.body FROM outbox_bodies b WHERE b.no = o.no) AS body";

async fn end_all(conn: &mut PgConnection, ends: &[(i64, CallEnd)], owner: &str, now_ms: i64) -> Result<(), StoreError> {
    if ends.is_empty() {
        return Ok(());
    }
    // In one order, so that two that end the same call never wait for each other.
    let mut ends: Vec<&(i64, CallEnd)> = ends.iter().collect();
    ends.sort_unstable_by_key(|(no, _)| *no);
    let mut delivered = Vec::new();
    for (no, end) in ends {
        let query = match end {
            CallEnd::Delivered => {
                delivered.push(*no);
                sqlx::query(end::DELIVERED).bind(now_ms).bind(no)
            }
            CallEnd::Again { run_at_ms, why } => sqlx::query(end::AGAIN).bind(run_at_ms).bind(why).bind(no).bind(owner),
            CallEnd::Parked(why) => sqlx::query(end::PARKED).bind(now_ms).bind(why).bind(no).bind(owner),
            CallEnd::Untried => sqlx::query(end::UNTRIED).bind(no).bind(owner),
        };
        query.execute(&mut *conn).await.map_err(store_error)?;
    }
    // Bodies that a broker has had and that no target needs any more.
    sqlx::query(
        "DELETE FROM outbox_bodies b USING outbox o, webhook_calls c \
         WHERE c.no = ANY ($1) AND o.no = c.message_no AND b.no = o.no AND o.sent_at_ms IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM webhook_calls w WHERE w.message_no = o.no AND w.state <> 'delivered')",
    )
    .bind(delivered)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}
