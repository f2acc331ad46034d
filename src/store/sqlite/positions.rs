//! Where a comment stands in its consultation: at its arrival's sequence, or at the
//! next free place after it. Exports page by the position and name comments by it,
//! so no two comments share one, whatever their senders' clocks say.

use sqlx::SqliteConnection;

use crate::pipeline::ports::StoreError;
use crate::sqlite::store_error;
use crate::store::standing::LATEST;

/// A free position at `sequence` or a little above it.
///
/// Each window after it offers the place behind its last comment, unless that is the
/// window's end; the nearest offer is taken. So a lookup costs the same behind one tie
/// and behind a hundred thousand, and ties lie close together. Ends of all windows
/// taken is the work of someone who tries: then it is the place behind everything.
pub async fn free(conn: &mut SqliteConnection, consultation: &str, sequence: i64) -> Result<i64, StoreError> {
    sqlx::query_scalar(
        "WITH windows (size) AS (VALUES (1), (16), (256), (4096), (65536), (1048576), (16777216)), \
         offers (position, beyond) AS (SELECT COALESCE((SELECT c.sequence + 1 FROM comments c \
             WHERE c.consultation = $1 AND c.sequence >= $2 AND c.sequence < $2 + size \
             ORDER BY c.sequence DESC LIMIT 1), $2), $2 + size FROM windows) \
         SELECT COALESCE((SELECT MIN(position) FROM offers WHERE position < beyond), \
             (SELECT MAX(c.sequence) + 1 FROM comments c WHERE c.consultation = $1))",
    )
    .bind(consultation)
    .bind(sequence.clamp(0, LATEST))
    .fetch_one(conn)
    .await
    .map_err(store_error)
}
