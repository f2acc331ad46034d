//! Stored comments as readers get them, in the order of their positions.

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::recording::verdict;
use super::text;
use crate::domain::comment::{CommentId, CommentKey, ConsultationId, SourceName};
use crate::domain::decision::Decided;
use crate::domain::rulebook::PipelineVersion;
use crate::pipeline::ports::{Disagreement, StoreError, StoredComment};
use crate::sqlite::store_error;
use crate::store::record::{assessment_from_row, comment_from_row};

/// Every column that a [`StoredComment`] is made of; `more` is another column with its comma.
/// A condition follows, then [`page`].
pub fn stored(more: &str) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "SELECT c.sequence, r.comment, a.assessment, d.acknowledged_at_ms, c.withdrawn_at_ms, \
         CASE WHEN d.text_hash = c.text_hash THEN 1 ELSE 0 END AS escalated, \
         p.verdict AS decided, p.decided_by, p.decided_at_ms",
    );
    query.push(more).push(
        " FROM comments c JOIN revisions r ON r.no = c.current_revision \
         JOIN assessments a ON a.no = c.current_assessment \
         LEFT JOIN disclosures d ON d.comment_no = c.no \
         LEFT JOIN decisions p ON p.no = (SELECT MAX(q.no) FROM decisions q \
             WHERE q.comment_no = c.no AND q.text_hash = c.text_hash)",
    );
    query
}

/// The rows after a position, in order.
pub async fn page(
    reader: &SqlitePool,
    mut query: QueryBuilder<Sqlite>,
    after: i64,
    limit: u32,
) -> Result<Vec<SqliteRow>, StoreError> {
    query.push(" AND c.sequence > ").push_bind(after);
    query.push(" ORDER BY c.sequence, c.no LIMIT ").push_bind(i64::from(limit));
    query.build().fetch_all(reader).await.map_err(store_error)
}

/// The comment in a row of [`stored`].
pub fn stored_comment(row: &SqliteRow) -> Result<StoredComment, StoreError> {
    let withdrawn_at_ms: Option<i64> = row.try_get("withdrawn_at_ms").map_err(store_error)?;
    let escalated: i64 = row.try_get("escalated").map_err(store_error)?;
    let decided: Option<String> = row.try_get("decided").map_err(store_error)?;
    Ok(StoredComment {
        comment: comment_from_row(&text(row, "comment")?)?,
        sequence: row.try_get("sequence").map_err(store_error)?,
        assessment: assessment_from_row(&text(row, "assessment")?)?,
        acknowledged_at_ms: row.try_get("acknowledged_at_ms").map_err(store_error)?,
        withdrawn: withdrawn_at_ms.is_some(),
        escalated: escalated != 0,
        decided: decided.map(|key| decision(row, &key)).transpose()?,
    })
}

fn decision(row: &SqliteRow, key: &str) -> Result<Decided, StoreError> {
    Ok(Decided {
        verdict: verdict(key)?,
        by: text(row, "decided_by")?,
        at_ms: row.try_get("decided_at_ms").map_err(store_error)?,
    })
}

/// See [`Store::disagreements`](crate::pipeline::ports::Store::disagreements).
pub async fn disagreements(
    reader: &SqlitePool,
    consultation: &ConsultationId,
) -> Result<Vec<Disagreement>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.source, c.id, p.verdict AS decided, p.decided_by, p.decided_at_ms, a.verdict, a.pipeline_version \
         FROM decisions p JOIN comments c ON c.no = p.comment_no AND c.text_hash = p.text_hash \
         JOIN assessments a ON a.no = c.current_assessment \
         WHERE c.consultation = $1 AND a.verdict <> p.verdict AND NOT EXISTS (SELECT 1 FROM decisions q \
             WHERE q.comment_no = p.comment_no AND q.text_hash = p.text_hash AND q.no > p.no) ORDER BY p.no",
    )
    .bind(consultation.as_str())
    .fetch_all(reader)
    .await
    .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let (Some(source), Some(id)) = (SourceName::new(text(row, "source")?), CommentId::new(text(row, "id")?))
            else {
                return Err(StoreError::Damaged("a comment without source or id".to_owned()));
            };
            Ok(Disagreement {
                key: CommentKey { consultation: consultation.clone(), source, id },
                decided: decision(row, &text(row, "decided")?)?,
                machine: verdict(&text(row, "verdict")?)?,
                version: PipelineVersion(text(row, "pipeline_version")?),
            })
        })
        .collect()
}
