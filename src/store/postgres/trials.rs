//! Trials: counted before they begin, forgotten when they end.

use async_trait::async_trait;

use super::PostgresStore;
use super::connection::store_error;
use crate::pipeline::ports::{StoreError, Trials};

#[async_trait]
impl Trials for PostgresStore {
    async fn begin_trial(&self, name: &str) -> Result<u32, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let begun: i64 = sqlx::query_scalar(
                "INSERT INTO trials (name, unended, began_at_ms) VALUES ($1, 1, $2) \
                 ON CONFLICT (name) DO UPDATE SET unended = trials.unended + 1, began_at_ms = excluded.began_at_ms \
                 RETURNING unended",
            )
            .bind(name)
            .bind(self.clock.now_ms())
            .fetch_one(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            Ok((begun - 1) as u32)
        };
        self.database.in_time(work).await
    }

    async fn end_trial(&self, name: &str) -> Result<(), StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            sqlx::query("DELETE FROM trials WHERE name = $1")
                .bind(name)
                .execute(&mut *lease)
                .await
                .map_err(store_error)?;
            lease.well();
            Ok(())
        };
        self.database.in_time(work).await
    }
}
