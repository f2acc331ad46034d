//! Which rulebooks judge and have judged, with their files by content.

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::SqliteConnection;

use super::SqliteStore;
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::{PipelineVersion, RulebookSnapshot};
use crate::pipeline::ports::{KnownRulebook, Rulebooks, StoreError};
use crate::sqlite::store_error;
use crate::store::parts::{active_key, parts_to_row, snapshot};
use crate::store::rows::RulebookRows;

/// The active version, as the transaction sees it.
pub async fn active(
    conn: &mut SqliteConnection,
    consultation: &ConsultationId,
) -> Result<Option<PipelineVersion>, StoreError> {
    let value: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
        .bind(active_key(consultation))
        .fetch_optional(conn)
        .await
        .map_err(store_error)?;
    Ok(value.map(PipelineVersion))
}

/// The number of the latest adoption; 0 before any.
pub async fn adoption(conn: &mut SqliteConnection, consultation: &ConsultationId) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT COALESCE(MAX(no), 0) FROM rulebook_adoptions WHERE consultation = $1")
        .bind(consultation.as_str())
        .fetch_one(conn)
        .await
        .map_err(store_error)
}

#[async_trait]
impl Rulebooks for SqliteStore {
    async fn active_version(&self, consultation: &ConsultationId) -> Result<Option<PipelineVersion>, StoreError> {
        let mut conn = self.database.reader().acquire().await.map_err(store_error)?;
        active(&mut conn, consultation).await
    }

    async fn keep_rulebook(&self, snapshot: &RulebookSnapshot) -> Result<(), StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        keep(&mut tx, snapshot, self.clock.now_ms()).await?;
        tx.commit().await.map_err(store_error)
    }

    async fn adopt_rulebook(
        &self,
        snapshot: &RulebookSnapshot,
        instead_of: Option<&PipelineVersion>,
    ) -> Result<bool, StoreError> {
        let now_ms = self.clock.now_ms();
        let mut tx = self.database.write().await.map_err(store_error)?;
        if active(&mut tx, &snapshot.consultation).await?.as_ref() != instead_of {
            return Ok(false);
        }
        keep(&mut tx, snapshot, now_ms).await?;
        sqlx::query(
            "INSERT INTO rulebook_adoptions (consultation, pipeline_version, adopted_at_ms) VALUES ($1, $2, $3)",
        )
        .bind(snapshot.consultation.as_str())
        .bind(&snapshot.version.0)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(store_error)?;
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(active_key(&snapshot.consultation))
        .bind(&snapshot.version.0)
        .execute(&mut *tx)
        .await
        .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn rulebooks(&self, consultation: &ConsultationId) -> Result<Vec<KnownRulebook>, StoreError> {
        // One transaction is one snapshot: no adoption comes between the lists.
        let mut tx = self.database.reader().begin().await.map_err(store_error)?;
        let active = active(&mut tx, consultation).await?;
        let kept: Vec<(String, String)> =
            sqlx::query_as("SELECT pipeline_version, parts FROM rulebooks WHERE consultation = $1 ORDER BY no")
                .bind(consultation.as_str())
                .fetch_all(&mut *tx)
                .await
                .map_err(store_error)?;
        let adoptions: Vec<(String, i64)> = sqlx::query_as(
            "SELECT pipeline_version, adopted_at_ms FROM rulebook_adoptions WHERE consultation = $1 ORDER BY no",
        )
        .bind(consultation.as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
        let judged: Vec<(String, i64)> = sqlx::query_as(
            "SELECT a.pipeline_version, count(*) FROM comments c JOIN assessments a ON a.no = c.current_assessment \
             WHERE c.consultation = $1 GROUP BY 1 ORDER BY MIN(a.no)",
        )
        .bind(consultation.as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
        RulebookRows { active, kept, adoptions, judged }.known()
    }

    async fn rulebook(
        &self,
        consultation: &ConsultationId,
        version: &PipelineVersion,
    ) -> Result<Option<RulebookSnapshot>, StoreError> {
        let mut tx = self.database.reader().begin().await.map_err(store_error)?;
        let kept: Option<(i64, String)> =
            sqlx::query_as("SELECT no, parts FROM rulebooks WHERE consultation = $1 AND pipeline_version = $2")
                .bind(consultation.as_str())
                .bind(&version.0)
                .fetch_optional(&mut *tx)
                .await
                .map_err(store_error)?;
        let Some((no, parts)) = kept else { return Ok(None) };
        let files: Vec<(String, String, Vec<u8>)> = sqlx::query_as(
            "SELECT f.path, f.sha256, c.content FROM rulebook_files f \
             JOIN rulebook_contents c ON c.sha256 = f.sha256 WHERE f.rulebook_no = $1",
        )
        .bind(no)
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
        snapshot(consultation, version, &parts, files).map(Some)
    }
}

async fn keep(conn: &mut SqliteConnection, snapshot: &RulebookSnapshot, now_ms: i64) -> Result<(), StoreError> {
    let no: i64 = sqlx::query_scalar(
        "INSERT INTO rulebooks (consultation, pipeline_version, parts, kept_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (consultation, pipeline_version) DO UPDATE SET parts = excluded.parts RETURNING no",
    )
    .bind(snapshot.consultation.as_str())
    .bind(&snapshot.version.0)
    .bind(parts_to_row(&snapshot.parts)?)
    .bind(now_ms)
    .fetch_one(&mut *conn)
    .await
    .map_err(store_error)?;
    // What shapes no judgement (a title, a contact) may differ under one version: the latest counts.
    sqlx::query("DELETE FROM rulebook_files WHERE rulebook_no = $1")
        .bind(no)
        .execute(&mut *conn)
        .await
        .map_err(store_error)?;
    for (path, content) in &snapshot.files {
        let sha256 = hex::encode(Sha256::digest(content));
        sqlx::query("INSERT INTO rulebook_contents (sha256, content) VALUES ($1, $2) ON CONFLICT (sha256) DO NOTHING")
            .bind(&sha256)
            .bind(content.as_slice())
            .execute(&mut *conn)
            .await
            .map_err(store_error)?;
        sqlx::query("INSERT INTO rulebook_files (rulebook_no, path, sha256) VALUES ($1, $2, $3)")
            .bind(no)
            .bind(path)
            .bind(&sha256)
            .execute(&mut *conn)
            .await
            .map_err(store_error)?;
    }
    Ok(())
}
