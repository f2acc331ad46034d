//! Judgements of a rulebook that only looks on, in a table of their own.

use async_trait::async_trait;

use super::{SqliteStore, reading};
use crate::domain::assessment::Assessment;
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::PipelineVersion;
use crate::domain::score::Probability;
use crate::pipeline::identity::arrival_key;
use crate::pipeline::ports::{Judged, Shadows, StoreError, StoredComment};
use crate::sqlite::store_error;
use crate::store::record::assessment_to_row;
use crate::store::rows::{ShadowedRow, StoredRow};
use crate::store::sample::sample_end;

#[async_trait]
impl Shadows for SqliteStore {
    async fn shadow_waiting(
        &self,
        consultation: &ConsultationId,
        version: &PipelineVersion,
        sample: Probability,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredComment>, StoreError> {
        let mut query = reading::stored("");
        query.push(" WHERE c.consultation = ").push_bind(consultation.as_str());
        query.push(" AND c.withdrawn_at_ms IS NULL AND c.text_hash < ").push_bind(sample_end(sample));
        query.push(" AND NOT EXISTS (SELECT 1 FROM shadow_assessments s WHERE s.revision_no = r.no");
        query.push(" AND s.pipeline_version = ").push_bind(version.0.as_str()).push(")");
        reading::page(self.database.reader(), query, after, limit).await?.into_iter().map(StoredRow::stored).collect()
    }

    async fn record_shadow(&self, judged: &[Judged]) -> Result<u64, StoreError> {
        let now_ms = self.clock.now_ms();
        let mut tx = self.database.write().await.map_err(store_error)?;
        let mut new = 0;
        for one in judged {
            let key = &one.comment.key;
            new += sqlx::query(
                "INSERT INTO shadow_assessments (revision_no, pipeline_version, assessment, judged_at_ms) \
                 SELECT r.no, $1, $2, $3 FROM comments c JOIN revisions r ON r.comment_no = c.no \
                 WHERE c.consultation = $4 AND c.source = $5 AND c.id = $6 AND r.arrival_key = $7 \
                 ON CONFLICT (revision_no, pipeline_version) DO NOTHING",
            )
            .bind(&one.assessment.pipeline_version.0)
            .bind(assessment_to_row(&one.assessment)?)
            .bind(now_ms)
            .bind(key.consultation.as_str())
            .bind(key.source.as_str())
            .bind(key.id.as_str())
            .bind(arrival_key(&one.comment))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?
            .rows_affected();
        }
        tx.commit().await.map_err(store_error)?;
        Ok(new)
    }

    async fn shadowed(
        &self,
        consultation: &ConsultationId,
        version: &PipelineVersion,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(StoredComment, Assessment)>, StoreError> {
        let mut query = reading::stored(", s.assessment AS shadow");
        query.push(" JOIN shadow_assessments s ON s.revision_no = r.no AND s.pipeline_version = ");
        query.push_bind(version.0.as_str()).push(" WHERE c.consultation = ").push_bind(consultation.as_str());
        reading::page(self.database.reader(), query, after, limit)
            .await?
            .into_iter()
            .map(ShadowedRow::shadowed)
            .collect()
    }
}
