//! Judgements of a rulebook that only looks on, in a table of their own.

use async_trait::async_trait;

use super::connection::store_error;
use super::texts::kept;
use super::{PostgresStore, reading, record};
use crate::domain::assessment::Assessment;
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::PipelineVersion;
use crate::domain::score::Probability;
use crate::pipeline::identity::arrival_key;
use crate::pipeline::ports::{Judged, Shadows, StoreError, StoredComment};
use crate::store::record::assessment_to_row;
use crate::store::rows::{ShadowedRow, StoredRow};
use crate::store::sample::sample_end;

#[async_trait]
impl Shadows for PostgresStore {
    async fn shadow_waiting(
        &self,
        consultation: &ConsultationId,
        version: &PipelineVersion,
        sample: Probability,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredComment>, StoreError> {
        let mut query = reading::stored("");
        query.push(" WHERE c.consultation = ").push_bind(kept(consultation.as_str()).into_owned());
        query.push(" AND c.withdrawn_at_ms IS NULL AND c.text_hash < ").push_bind(sample_end(sample));
        query.push(" AND NOT EXISTS (SELECT 1 FROM shadow_assessments s WHERE s.revision_no = r.no");
        query.push(" AND s.pipeline_version = ").push_bind(version.0.clone()).push(")");
        let rows: Vec<StoredRow> = reading::page(&self.database, query, after, limit).await?;
        rows.into_iter().map(|row| reading::given_stored(row).stored()).collect()
    }

    async fn record_shadow(&self, judged: &[Judged]) -> Result<u64, StoreError> {
        let assessments =
            judged.iter().map(|one| assessment_to_row(&one.assessment)).collect::<Result<Vec<_>, StoreError>>()?;
        let work = async {
            let mut lease = self.database.lease().await?;
            let new = sqlx::query(
                "INSERT INTO shadow_assessments (revision_no, pipeline_version, assessment, judged_at_ms) \
                 SELECT r.no, w.version, w.assessment, $5 \
                 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) \
                     AS w (key, arrival, version, assessment) \
                 JOIN comments c ON c.key_hash = decode(w.key, 'hex') \
                 JOIN revisions r ON r.comment_no = c.no AND r.arrival_key = w.arrival \
                 ORDER BY r.no ON CONFLICT (revision_no, pipeline_version) DO NOTHING",
            )
            .bind(judged.iter().map(|one| record::key_hash(&one.comment.key)).collect::<Vec<_>>())
            .bind(judged.iter().map(|one| arrival_key(&one.comment)).collect::<Vec<_>>())
            .bind(judged.iter().map(|one| one.assessment.pipeline_version.0.clone()).collect::<Vec<_>>())
            .bind(assessments)
            .bind(self.clock.now_ms())
            .execute(&mut *lease)
            .await
            .map_err(store_error)?
            .rows_affected();
            lease.well();
            Ok(new)
        };
        self.database.in_time(work).await
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
        query.push_bind(version.0.clone()).push(" WHERE c.consultation = ");
        query.push_bind(kept(consultation.as_str()).into_owned());
        let rows: Vec<ShadowedRow> = reading::page(&self.database, query, after, limit).await?;
        rows.into_iter()
            .map(|row| ShadowedRow { stored: reading::given_stored(row.stored), ..row }.shadowed())
            .collect()
    }
}
