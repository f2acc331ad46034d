//! The store in one SQLite file.
//!
//! A comment has one row; its revisions and their judgements are only ever
//! added, and the comment's row points at the current pair. SQL is written to
//! run unchanged on PostgreSQL.

mod fresh;
mod outbox;
mod positions;
mod reading;
mod recording;
mod rulebooks;
mod shadow;

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite};

use crate::domain::assessment::Assessment;
use crate::domain::comment::{CommentKey, ConsultationId};
use crate::domain::decision::Verdict;
use crate::domain::rulebook::PipelineVersion;
use crate::pipeline::clock::Clock;
use crate::pipeline::ports::{
    Backlog, Disagreement, Disclosure, FailedRow, FailedRows, Funnel, Judged, OutboxRow, Recorded, Store, StoreError,
    StoredComment,
};
use crate::sqlite::{Database, store_error};
use crate::store::record::assessment_from_row;
use crate::store::rows::{DisclosureRow, FailureRow, StoredRow, consultations, funnel};
use crate::store::standing::Tell;

/// Hashes of one lookup.
const HASHES_PER_QUERY: usize = 500;

/// The embedded [`Store`].
#[derive(Clone, Debug)]
pub struct SqliteStore {
    database: Database,
    clock: Clock,
}

impl SqliteStore {
    /// A store over an open file.
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock }
    }
}

#[async_trait]
impl FailedRows for SqliteStore {
    async fn fail(&self, rows: &[FailedRow]) -> Result<u64, StoreError> {
        let now_ms = self.clock.now_ms();
        let mut tx = self.database.write().await.map_err(store_error)?;
        let mut new = 0;
        for row in rows {
            new += sqlx::query(
                "INSERT INTO failures (consultation, source, id, row_number, reason, detail, raw, \
                 fingerprint, failed_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                 ON CONFLICT (consultation, source, fingerprint) DO NOTHING",
            )
            .bind(row.consultation.as_str())
            .bind(&row.source)
            .bind(&row.id)
            .bind(row.row as i64)
            .bind(&row.reason)
            .bind(&row.detail)
            .bind(&row.raw)
            .bind(&row.fingerprint)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?
            .rows_affected();
        }
        tx.commit().await.map_err(store_error)?;
        Ok(new)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn record(&self, judged: &[Judged]) -> Result<Vec<Recorded>, StoreError> {
        let now_ms = self.clock.now_ms();
        let mut tx = self.database.write().await.map_err(store_error)?;
        recording::only_active(&mut tx, judged).await?;
        let fresh = fresh::choose(&mut tx, judged).await?;
        let chosen: Vec<&Judged> = judged.iter().zip(&fresh).filter_map(|(one, fresh)| fresh.then_some(one)).collect();
        fresh::record(&mut tx, &chosen, now_ms).await?;
        let mut recorded = Vec::with_capacity(judged.len());
        for (one, fresh) in judged.iter().zip(fresh) {
            recorded.push(if fresh {
                Recorded::New
            } else {
                recording::record_one(&mut tx, one, Tell::Once, now_ms).await?
            });
        }
        tx.commit().await.map_err(store_error)?;
        Ok(recorded)
    }

    async fn failures(&self, consultation: &ConsultationId) -> Result<Vec<FailedRow>, StoreError> {
        let rows: Vec<FailureRow> = sqlx::query_as(
            "SELECT source, id, row_number, reason, detail, raw, fingerprint FROM failures \
             WHERE consultation = $1 ORDER BY source, row_number, no",
        )
        .bind(consultation.as_str())
        .fetch_all(self.database.reader())
        .await
        .map_err(store_error)?;
        Ok(rows.into_iter().map(|row| row.failed(consultation)).collect())
    }

    async fn cached(
        &self,
        version: &PipelineVersion,
        text_hashes: &[String],
    ) -> Result<Vec<Option<Assessment>>, StoreError> {
        let mut found = Vec::with_capacity(text_hashes.len());
        for hashes in text_hashes.chunks(HASHES_PER_QUERY) {
            // One row is enough for each: a flood of one text has thousands.
            let mut query = QueryBuilder::<Sqlite>::new(
                "SELECT h.column1, (SELECT a.assessment FROM revisions r JOIN assessments a ON a.revision_no = r.no \
                 WHERE r.text_hash = h.column1 AND a.pipeline_version = ",
            );
            query.push_bind(&version.0).push(" LIMIT 1) FROM (");
            query.push_values(hashes, |mut row, hash| {
                row.push_bind(hash);
            });
            query.push(") AS h");
            let rows: Vec<(String, Option<String>)> =
                query.build_query_as().fetch_all(self.database.reader()).await.map_err(store_error)?;
            let by_hash: HashMap<String, String> =
                rows.into_iter().filter_map(|(hash, row)| Some((hash, row?))).collect();
            for hash in hashes {
                found.push(by_hash.get(hash).map(|row| assessment_from_row(row)).transpose()?);
            }
        }
        Ok(found)
    }

    async fn page(
        &self,
        consultation: &ConsultationId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredComment>, StoreError> {
        let mut query = reading::stored("");
        query.push(" WHERE c.consultation = ").push_bind(consultation.as_str());
        reading::page(self.database.reader(), query, after, limit).await?.into_iter().map(StoredRow::stored).collect()
    }

    async fn funnel(&self, consultation: &ConsultationId) -> Result<Funnel, StoreError> {
        // One statement is one snapshot: a row cannot move between two counts.
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT CASE WHEN withdrawn_at_ms IS NOT NULL THEN 'withdrawn' ELSE verdict END, \
             count(*) FROM comments WHERE consultation = $1 AND current_revision IS NOT NULL \
             GROUP BY 1 \
             UNION ALL SELECT 'failed', count(*) FROM failures WHERE consultation = $1",
        )
        .bind(consultation.as_str())
        .fetch_all(self.database.reader())
        .await
        .map_err(store_error)?;
        funnel(rows)
    }

    async fn disclosures(&self, consultation: Option<&ConsultationId>) -> Result<Vec<Disclosure>, StoreError> {
        let rows: Vec<DisclosureRow> = sqlx::query_as(
            "SELECT r.comment, a.assessment, d.escalated_at_ms, d.acknowledged_at_ms, \
             d.acknowledged_by FROM disclosures d \
             JOIN comments c ON c.no = d.comment_no \
             JOIN revisions r ON r.no = d.revision_no \
             JOIN assessments a ON a.no = d.assessment_no \
             WHERE $1 IS NULL OR c.consultation = $1 \
             ORDER BY CASE WHEN d.acknowledged_at_ms IS NULL THEN 0 ELSE 1 END, \
             d.escalated_at_ms, d.comment_no",
        )
        .bind(consultation.map(ConsultationId::as_str))
        .fetch_all(self.database.reader())
        .await
        .map_err(store_error)?;
        rows.into_iter().map(DisclosureRow::disclosure).collect()
    }

    async fn acknowledge(&self, key: &CommentKey, by: &str) -> Result<bool, StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        // The first person to look is the one who is kept.
        let found = sqlx::query(
            "UPDATE disclosures SET \
             acknowledged_at_ms = COALESCE(acknowledged_at_ms, $1), \
             acknowledged_by = COALESCE(acknowledged_by, $2) \
             WHERE comment_no = (SELECT no FROM comments \
                 WHERE consultation = $3 AND source = $4 AND id = $5)",
        )
        .bind(self.clock.now_ms())
        .bind(by)
        .bind(key.consultation.as_str())
        .bind(key.source.as_str())
        .bind(key.id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(store_error)?
        .rows_affected();
        tx.commit().await.map_err(store_error)?;
        Ok(found > 0)
    }

    async fn withdraw(&self, key: &CommentKey, revision: Option<i64>) -> Result<bool, StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        let changed = sqlx::query(
            "INSERT INTO comments (consultation, source, id, withdrawn_at_ms, withdrawn_revision) \
             VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (consultation, source, id) DO UPDATE SET \
             withdrawn_at_ms = excluded.withdrawn_at_ms, \
             withdrawn_revision = excluded.withdrawn_revision \
             WHERE comments.withdrawn_at_ms IS NULL \
             AND NOT EXISTS (SELECT 1 FROM revisions r WHERE r.no = comments.current_revision \
                 AND r.revision > excluded.withdrawn_revision)",
        )
        .bind(key.consultation.as_str())
        .bind(key.source.as_str())
        .bind(key.id.as_str())
        .bind(self.clock.now_ms())
        .bind(revision)
        .execute(&mut *tx)
        .await
        .map_err(store_error)?
        .rows_affected();
        tx.commit().await.map_err(store_error)?;
        Ok(changed > 0)
    }

    async fn retag(&self, judged: &[Judged], tell: &[bool]) -> Result<Vec<Recorded>, StoreError> {
        let now_ms = self.clock.now_ms();
        let mut tx = self.database.write().await.map_err(store_error)?;
        recording::only_active(&mut tx, judged).await?;
        let mut recorded = Vec::with_capacity(judged.len());
        for (one, tell) in judged.iter().zip(tell) {
            let tell = if *tell {
                Tell::InAdoption(rulebooks::adoption(&mut tx, &one.comment.key.consultation).await?)
            } else {
                Tell::Nobody
            };
            recorded.push(recording::record_one(&mut tx, one, tell, now_ms).await?);
        }
        tx.commit().await.map_err(store_error)?;
        Ok(recorded)
    }

    async fn decide(&self, key: &CommentKey, text_hash: &str, verdict: Verdict, by: &str) -> Result<bool, StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        let decided = recording::decide(&mut tx, key, text_hash, (verdict, by), self.clock.now_ms()).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(decided)
    }

    async fn disagreements(&self, consultation: &ConsultationId) -> Result<Vec<Disagreement>, StoreError> {
        reading::disagreements(self.database.reader(), consultation).await
    }

    async fn sent_then_claim(
        &self,
        event_ids: &[String],
        kind: &str,
        owner: &str,
        limit: u32,
        lease_ms: i64,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let claim = outbox::Claim { kind, owner, limit, lease_ms };
        outbox::sent_then_claim(&self.database, self.clock.now_ms(), event_ids, claim).await
    }

    async fn sent(&self, event_ids: &[String]) -> Result<(), StoreError> {
        outbox::sent(&self.database, self.clock.now_ms(), event_ids).await
    }

    async fn release(&self, owner: &str) -> Result<(), StoreError> {
        outbox::release(&self.database, owner).await
    }

    async fn backlog(&self, kind: Option<&str>) -> Result<Backlog, StoreError> {
        outbox::backlog(&self.database, kind).await
    }

    async fn consultations(&self) -> Result<Vec<ConsultationId>, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT consultation FROM comments WHERE current_revision IS NOT NULL \
             UNION SELECT consultation FROM failures ORDER BY 1",
        )
        .fetch_all(self.database.reader())
        .await
        .map_err(store_error)?;
        consultations(&ids)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // A real write, so that a full or read-only disk shows.
        self.set("ping", &self.clock.now_ms().to_string()).await
    }
}

impl SqliteStore {
    async fn set(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let mut tx = self.database.write().await.map_err(store_error)?;
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(key)
        .bind(value)
        .execute(&mut *tx)
        .await
        .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }
}
