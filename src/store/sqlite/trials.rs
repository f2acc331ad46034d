//! Trials: counted before they begin, forgotten when they end.

use async_trait::async_trait;

use super::SqliteStore;
use crate::pipeline::ports::{StoreError, Trials};
use crate::sqlite::store_error;

#[async_trait]
impl Trials for SqliteStore {
    async fn begin_trial(&self, name: &str) -> Result<u32, StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        let begun: i64 = sqlx::query_scalar(
            "INSERT INTO trials (name, unended, began_at_ms) VALUES ($1, 1, $2) \
             ON CONFLICT (name) DO UPDATE SET unended = trials.unended + 1, began_at_ms = excluded.began_at_ms \
             RETURNING unended",
        )
        .bind(name)
        .bind(self.clock.now_ms())
        .fetch_one(&mut *tx)
        .await
        .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok((begun - 1) as u32)
    }

    async fn end_trial(&self, name: &str) -> Result<(), StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        sqlx::query("DELETE FROM trials WHERE name = $1").bind(name).execute(&mut *tx).await.map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }
}
