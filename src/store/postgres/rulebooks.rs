//! Which rulebooks judge and have judged, with their files by content.

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;

use super::connection::store_error;
use super::texts::{given, kept};
use super::{PostgresStore, record};
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::{PipelineVersion, RulebookSnapshot};
use crate::pipeline::ports::{KnownRulebook, Rulebooks, StoreError};
use crate::store::parts::{active_key, parts_to_row, snapshot};
use crate::store::rows::RulebookRows;

/// The active version, as the transaction sees it.
async fn active(conn: &mut PgConnection, consultation: &ConsultationId) -> Result<Option<PipelineVersion>, StoreError> {
    let value: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
        .bind(kept(&active_key(consultation)))
        .fetch_optional(conn)
        .await
        .map_err(store_error)?;
    Ok(value.map(PipelineVersion))
}

/// The number of the latest adoption; 0 before any.
pub async fn adoption(conn: &mut PgConnection, consultation: &ConsultationId) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT COALESCE(MAX(no), 0) FROM rulebook_adoptions WHERE consultation = $1")
        .bind(kept(consultation.as_str()))
        .fetch_one(conn)
        .await
        .map_err(store_error)
}

#[async_trait]
impl Rulebooks for PostgresStore {
    async fn active_version(&self, consultation: &ConsultationId) -> Result<Option<PipelineVersion>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let active = active(&mut lease, consultation).await?;
            lease.well();
            Ok(active)
        };
        self.database.in_time(work).await
    }

    async fn keep_rulebook(&self, snapshot: &RulebookSnapshot) -> Result<(), StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            record::turn(&mut tx, [&snapshot.consultation]).await?;
            keep(&mut tx, snapshot, self.clock.now_ms()).await?;
            tx.commit().await.map_err(store_error)?;
            lease.well();
            Ok(())
        };
        self.database.in_time(work).await
    }

    async fn adopt_rulebook(
        &self,
        snapshot: &RulebookSnapshot,
        instead_of: Option<&PipelineVersion>,
    ) -> Result<bool, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            // A batch that is being stored ends first, and none begins until this has ended.
            record::turn(&mut tx, [&snapshot.consultation]).await?;
            let adopted = active(&mut tx, &snapshot.consultation).await?.as_ref() == instead_of;
            if adopted {
                adopt(&mut tx, snapshot, self.clock.now_ms()).await?;
            }
            tx.commit().await.map_err(store_error)?;
            lease.well();
            Ok(adopted)
        };
        self.database.in_time(work).await
    }

    async fn rulebooks(&self, consultation: &ConsultationId) -> Result<Vec<KnownRulebook>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let rows = rows(&mut lease, consultation).await?;
            lease.well();
            Ok(rows)
        };
        self.database.in_time(work).await?.known()
    }

    async fn rulebook(
        &self,
        consultation: &ConsultationId,
        version: &PipelineVersion,
    ) -> Result<Option<RulebookSnapshot>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let found = files(&mut lease, consultation, version).await?;
            lease.well();
            Ok(found)
        };
        let Some((parts, files)) = self.database.in_time(work).await? else { return Ok(None) };
        let files = files.into_iter().map(|(path, sha256, content)| (given(path), sha256, content)).collect();
        snapshot(consultation, version, &parts, files).map(Some)
    }
}

async fn rows(lease: &mut super::connection::Lease, consultation: &ConsultationId) -> Result<RulebookRows, StoreError> {
    // One transaction is one snapshot: no adoption comes between the lists.
    let mut tx = lease.snapshot().await?;
    let active = active(&mut tx, consultation).await?;
    let kept_rows = sqlx::query_as("SELECT pipeline_version, parts FROM rulebooks WHERE consultation = $1 ORDER BY no")
        .bind(kept(consultation.as_str()))
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
    let adoptions = sqlx::query_as(
        "SELECT pipeline_version, adopted_at_ms FROM rulebook_adoptions WHERE consultation = $1 ORDER BY no",
    )
    .bind(kept(consultation.as_str()))
    .fetch_all(&mut *tx)
    .await
    .map_err(store_error)?;
    let judged = sqlx::query_as(
        "SELECT a.pipeline_version, count(*) FROM comments c JOIN assessments a ON a.no = c.current_assessment \
         WHERE c.consultation = $1 GROUP BY 1 ORDER BY MIN(a.no)",
    )
    .bind(kept(consultation.as_str()))
    .fetch_all(&mut *tx)
    .await
    .map_err(store_error)?;
    tx.commit().await.map_err(store_error)?;
    Ok(RulebookRows { active, kept: kept_rows, adoptions, judged })
}

/// A file's path, the SHA-256 of its content, and the content.
type Files = Vec<(String, String, Vec<u8>)>;

async fn files(
    lease: &mut super::connection::Lease,
    consultation: &ConsultationId,
    version: &PipelineVersion,
) -> Result<Option<(String, Files)>, StoreError> {
    let mut tx = lease.snapshot().await?;
    let found: Option<(i64, String)> =
        sqlx::query_as("SELECT no, parts FROM rulebooks WHERE consultation = $1 AND pipeline_version = $2")
            .bind(kept(consultation.as_str()))
            .bind(&version.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
    let mut rulebook = None;
    if let Some((no, parts)) = found {
        let files = sqlx::query_as(
            "SELECT f.path, f.sha256, c.content FROM rulebook_files f \
             JOIN rulebook_contents c ON c.sha256 = f.sha256 WHERE f.rulebook_no = $1",
        )
        .bind(no)
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
        rulebook = Some((parts, files));
    }
    tx.commit().await.map_err(store_error)?;
    Ok(rulebook)
}

async fn adopt(conn: &mut PgConnection, snapshot: &RulebookSnapshot, now_ms: i64) -> Result<(), StoreError> {
    keep(conn, snapshot, now_ms).await?;
    sqlx::query("INSERT INTO rulebook_adoptions (consultation, pipeline_version, adopted_at_ms) VALUES ($1, $2, $3)")
        .bind(kept(snapshot.consultation.as_str()))
        .bind(&snapshot.version.0)
        .bind(now_ms)
        .execute(&mut *conn)
        .await
        .map_err(store_error)?;
    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(kept(&active_key(&snapshot.consultation)))
        .bind(&snapshot.version.0)
        .execute(conn)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn keep(conn: &mut PgConnection, snapshot: &RulebookSnapshot, now_ms: i64) -> Result<(), StoreError> {
    let no: i64 = sqlx::query_scalar(
        "INSERT INTO rulebooks (consultation, pipeline_version, parts, kept_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (consultation, pipeline_version) DO UPDATE SET parts = excluded.parts RETURNING no",
    )
    .bind(kept(snapshot.consultation.as_str()))
    .bind(&snapshot.version.0)
    .bind(parts_to_row(&snapshot.parts)?)
    .bind(now_ms)
    .fetch_one(&mut *conn)
    .await
    .map_err(store_error)?;
    let paths: Vec<String> = snapshot.files.keys().map(|path| kept(path).into_owned()).collect();
    let contents: Vec<&[u8]> = snapshot.files.values().map(Vec::as_slice).collect();
    let hashes: Vec<String> = contents.iter().map(|content| hex::encode(Sha256::digest(content))).collect();
    // Another consultation may keep the same contents now: in one order, nobody waits for each other.
    sqlx::query(
        "INSERT INTO rulebook_contents (sha256, content) \
         SELECT DISTINCT ON (sha256) sha256, content FROM unnest($1::text[], $2::bytea[]) AS w (sha256, content) \
         ORDER BY sha256 ON CONFLICT (sha256) DO NOTHING",
    )
    .bind(&hashes)
    .bind(contents)
    .execute(&mut *conn)
    .await
    .map_err(store_error)?;
    // What shapes no judgement (a title, a contact) may differ under one version: the latest counts.
    sqlx::query("DELETE FROM rulebook_files WHERE rulebook_no = $1")
        .bind(no)
        .execute(&mut *conn)
        .await
        .map_err(store_error)?;
    sqlx::query(
        "INSERT INTO rulebook_files (rulebook_no, path, sha256) \
         SELECT $1, path, sha256 FROM unnest($2::text[], $3::text[]) AS w (path, sha256)",
    )
    .bind(no)
    .bind(paths)
    .bind(hashes)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(())
}
