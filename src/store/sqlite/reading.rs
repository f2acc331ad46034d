//! Stored comments as readers get them, in the order of their positions.

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{FromRow, QueryBuilder, Sqlite};

use crate::domain::comment::ConsultationId;
use crate::pipeline::ports::{Disagreement, StoreError};
use crate::sqlite::store_error;
use crate::store::rows::DisagreementRow;

/// Every column of a [`StoredRow`](crate::store::rows::StoredRow); `more` is another column with its comma.
/// A condition follows, then [`page`].
pub fn stored(more: &str) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "SELECT c.sequence, r.comment, a.assessment, d.acknowledged_at_ms, c.withdrawn_at_ms, \
         COALESCE(d.text_hash = c.text_hash, FALSE) AS escalated, \
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
pub async fn page<T>(
    reader: &SqlitePool,
    mut query: QueryBuilder<Sqlite>,
    after: i64,
    limit: u32,
) -> Result<Vec<T>, StoreError>
where
    T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
{
    query.push(" AND c.sequence > ").push_bind(after);
    query.push(" ORDER BY c.sequence, c.no LIMIT ").push_bind(i64::from(limit));
    query.build_query_as().fetch_all(reader).await.map_err(store_error)
}

/// See [`Store::disagreements`](crate::pipeline::ports::Store::disagreements).
pub async fn disagreements(
    reader: &SqlitePool,
    consultation: &ConsultationId,
) -> Result<Vec<Disagreement>, StoreError> {
    let rows: Vec<DisagreementRow> = sqlx::query_as(
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
    rows.into_iter().map(|row| row.disagreement(consultation)).collect()
}
