//! Stored comments as readers get them, in the order of their positions.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Postgres, QueryBuilder};

use super::connection::{PostgresDatabase, store_error};
use super::texts::{given, kept};
use crate::domain::comment::ConsultationId;
use crate::pipeline::ports::{Disagreement, StoreError};
use crate::store::rows::{DisagreementRow, StoredRow};

/// Every column of a [`StoredRow`]; `more` is another column with its comma.
/// A condition follows, then [`page`].
pub fn stored(more: &str) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(StoredRow::SELECT);
    query.push(more).push(StoredRow::FROM);
    query
}

/// The rows after a position, in order.
pub async fn page<T>(
    database: &PostgresDatabase,
    mut query: QueryBuilder<Postgres>,
    after: i64,
    limit: u32,
) -> Result<Vec<T>, StoreError>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    query.push(" AND c.sequence > ").push_bind(after);
    query.push(" ORDER BY c.sequence LIMIT ").push_bind(i64::from(limit));
    let work = async {
        let mut lease = database.lease().await?;
        let rows = query.build_query_as().fetch_all(&mut *lease).await.map_err(store_error)?;
        lease.well();
        Ok(rows)
    };
    database.in_time(work).await
}

/// With the texts of people as they were given.
pub fn given_stored(row: StoredRow) -> StoredRow {
    StoredRow { decided_by: row.decided_by.map(given), ..row }
}

/// See [`Store::disagreements`](crate::pipeline::ports::Store::disagreements).
pub async fn disagreements(
    database: &PostgresDatabase,
    consultation: &ConsultationId,
) -> Result<Vec<Disagreement>, StoreError> {
    let work = async {
        let mut lease = database.lease().await?;
        let rows: Vec<DisagreementRow> = sqlx::query_as(DisagreementRow::SELECT)
            .bind(kept(consultation.as_str()))
            .fetch_all(&mut *lease)
            .await
            .map_err(store_error)?;
        lease.well();
        Ok(rows)
    };
    let rows = database.in_time(work).await?;
    rows.into_iter()
        .map(|row| {
            let (source, id, decided_by) = (given(row.source), given(row.id), given(row.decided_by));
            DisagreementRow { source, id, decided_by, ..row }.disagreement(consultation)
        })
        .collect()
}
