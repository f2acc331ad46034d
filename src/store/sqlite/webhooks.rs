//! Calls of webhooks: claimed by one process, tried, ended.

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use crate::pipeline::ports::{Call, CallEnd, ClaimCalls, ParkedCall, StoreError, WebhookState, Webhooks};
use crate::sqlite::store_error;
use crate::store::calls::{CallRow, ParkedCallRow, StateRow, end};

#[async_trait]
impl Webhooks for SqliteStore {
    async fn subscribe(&self, target: &str, kinds: &[&str]) -> Result<(), StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        for kind in kinds {
            sqlx::query(
                "INSERT INTO webhook_subscriptions (target, kind, since_ms) VALUES ($1, $2, $3) \
                 ON CONFLICT (target, kind) DO NOTHING",
            )
            .bind(target)
            .bind(kind)
            .bind(self.clock.now_ms())
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        }
        let mut delete = QueryBuilder::<Sqlite>::new("DELETE FROM webhook_subscriptions WHERE target = ");
        delete.push_bind(target);
        if !kinds.is_empty() {
            delete.push(" AND kind NOT IN (");
            let mut list = delete.separated(", ");
            for kind in kinds {
                list.push_bind(*kind);
            }
            delete.push(")");
        }
        delete.build().execute(&mut *tx).await.map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }

    async fn unsubscribe(&self, target: &str) -> Result<u64, StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
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
        Ok(dropped)
    }

    async fn end_then_claim_calls(
        &self,
        ends: &[(i64, CallEnd)],
        claim: ClaimCalls<'_>,
    ) -> Result<Vec<Call>, StoreError> {
        let now_ms = self.clock.now_ms();
        // Most looks find nothing: they must not take the write lock from the worker.
        if ends.is_empty() && !self.is_due(&claim, now_ms).await? {
            return Ok(Vec::new());
        }
        let mut tx = self.database.write().await.map_err(store_error)?;
        let until_ms = now_ms.saturating_add(claim.lease_ms);
        for (no, end) in ends {
            end_one(&mut tx, *no, end, claim.owner, now_ms).await?;
        }
        // What the owner holds already is handed out again: its answer was lost on the way.
        sqlx::query(
            "UPDATE webhook_calls SET lease_owner = $1, lease_until_ms = $2 WHERE no IN (\
                 SELECT no FROM webhook_calls WHERE state = 'waiting' AND target = $3 AND kind = $4 \
                 AND run_at_ms <= $5 AND (lease_until_ms IS NULL OR lease_until_ms <= $5 OR lease_owner = $1) \
                 ORDER BY run_at_ms, no LIMIT $6)",
        )
        .bind(claim.owner)
        .bind(until_ms)
        .bind(claim.target)
        .bind(claim.kind)
        .bind(now_ms)
        .bind(i64::from(claim.limit))
        .execute(&mut *tx)
        .await
        .map_err(store_error)?;
        let rows: Vec<CallRow> = sqlx::query_as(
            "SELECT c.no, c.attempts, c.run_at_ms, o.event_id, o.kind, o.created_at_ms, b.body FROM webhook_calls c \
             JOIN outbox o ON o.no = c.message_no LEFT JOIN outbox_bodies b ON b.no = o.no \
             WHERE c.state = 'waiting' AND c.target = $1 AND c.kind = $2 AND c.lease_owner = $3 \
             AND c.lease_until_ms = $4 ORDER BY c.run_at_ms, c.no",
        )
        .bind(claim.target)
        .bind(claim.kind)
        .bind(claim.owner)
        .bind(until_ms)
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        rows.into_iter().map(CallRow::call).collect()
    }

    async fn webhook_states(&self) -> Result<Vec<WebhookState>, StoreError> {
        let rows: Vec<StateRow> =
            sqlx::query_as(StateRow::SELECT).fetch_all(self.database.reader()).await.map_err(store_error)?;
        Ok(rows.into_iter().map(StateRow::state).collect())
    }

    async fn parked_calls(&self, target: Option<&str>, limit: u32) -> Result<Vec<ParkedCall>, StoreError> {
        let rows: Vec<ParkedCallRow> = sqlx::query_as(
            "SELECT c.target, c.kind, o.event_id, c.attempts, c.ended_at_ms, c.last_error FROM webhook_calls c \
             JOIN outbox o ON o.no = c.message_no \
             WHERE c.state = 'parked' AND ($1 IS NULL OR c.target = $1) ORDER BY c.no LIMIT $2",
        )
        .bind(target)
        .bind(i64::from(limit))
        .fetch_all(self.database.reader())
        .await
        .map_err(store_error)?;
        Ok(rows.into_iter().map(ParkedCallRow::call).collect())
    }

    async fn replay_calls(&self, target: Option<&str>) -> Result<u64, StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        let replayed = sqlx::query(
            "UPDATE webhook_calls SET state = 'waiting', attempts = 0, run_at_ms = $1, ended_at_ms = NULL \
             WHERE state = 'parked' AND ($2 IS NULL OR target = $2)",
        )
        .bind(self.clock.now_ms())
        .bind(target)
        .execute(&mut *tx)
        .await
        .map_err(store_error)?
        .rows_affected();
        tx.commit().await.map_err(store_error)?;
        Ok(replayed)
    }
}

impl SqliteStore {
    async fn is_due(&self, claim: &ClaimCalls<'_>, now_ms: i64) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM webhook_calls WHERE state = 'waiting' AND target = $1 AND kind = $2 \
             AND run_at_ms <= $3 AND (lease_until_ms IS NULL OR lease_until_ms <= $3))",
        )
        .bind(claim.target)
        .bind(claim.kind)
        .bind(now_ms)
        .fetch_one(self.database.reader())
        .await
        .map_err(store_error)
    }
}

async fn end_one(
    conn: &mut SqliteConnection,
    no: i64,
    end: &CallEnd,
    owner: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let query = match end {
        CallEnd::Delivered => sqlx::query(end::DELIVERED).bind(now_ms).bind(no),
        CallEnd::Again { run_at_ms, why } => sqlx::query(end::AGAIN).bind(run_at_ms).bind(why).bind(no).bind(owner),
        CallEnd::Parked(why) => sqlx::query(end::PARKED).bind(now_ms).bind(why).bind(no).bind(owner),
        CallEnd::Untried => sqlx::query(end::UNTRIED).bind(no).bind(owner),
    };
    query.execute(conn).await.map_err(store_error)?;
    Ok(())
}
