//! Stored comments as readers get them, in the order of their positions.

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{FromRow, QueryBuilder, Sqlite};

use crate::domain::comment::ConsultationId;
use crate::pipeline::ports::{Disagreement, StoreError};
use crate::sqlite::store_error;
use crate::store::rows::{DisagreementRow, StoredRow};

/// Every column of a [`StoredRow`]; `more` is another column with its comma.
/// A condition follows, then [`page`].
pub fn stored(more: &str) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(StoredRow::SELECT);
    query.push(more).push(StoredRow::FROM);
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
    let rows: Vec<DisagreementRow> = sqlx::query_as(DisagreementRow::SELECT)
        .bind(consultation.as_str())
        .fetch_all(reader)
        .await
        .map_err(store_error)?;
    rows.into_iter().map(|row| row.disagreement(consultation)).collect()
}
