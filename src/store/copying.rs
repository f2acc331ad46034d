//! A store from a SQLite file to a PostgreSQL server, row for row, and proof that nothing is missing.
//!
//! Rows go in batches; each batch and the place up to which it has come are one transaction, so a
//! copy that was cut off anywhere goes on from there. At the end both sides are read whole and
//! compared by count and hash. Until then the server's store says that it is being copied, and no
//! service works on it.

use futures_util::TryStreamExt;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Connection};

use crate::pipeline::ports::StoreError;
use crate::sqlite::{self, Database};
use crate::store::postgres::{COPYING, PostgresDatabase, store_error};
use crate::store::tables::{TABLES, Table, Tallied, Tally, Value};

/// Rows of one batch, and about how many bytes.
const ROWS: usize = 2_000;
const BYTES: usize = 8 * 1024 * 1024;

/// Why a copy did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two stores.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The target is no empty store.
    #[error("the target holds {0} already: copy into an empty database")]
    NotEmpty(String),
    /// Something else is being copied into the target.
    #[error("the target holds the beginning of a copy from {0}: go on with that one, or copy into an empty database")]
    OtherCopy(String),
    /// Another process copies into it at this moment.
    #[error("another process is copying into the target")]
    TwoAtOnce,
    /// The two sides are not the same.
    #[error(
        "table {table} differs after the copy: {} rows in the file, {} on the server; something wrote into one of them \
         meanwhile: stop every service and copy again into an empty database",
        from.rows,
        to.rows
    )]
    Differs {
        /// Which table.
        table: &'static str,
        /// What the file holds.
        from: Tallied,
        /// What the server holds.
        to: Tallied,
    },
    /// Asked to stop. What was copied stays, and the next run goes on.
    #[error("stopped; run the same command again and it goes on from here")]
    Stopped,
}

/// What was copied, by table.
pub type Copied = Vec<(&'static str, Tallied)>;

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many rows are on the server, of so many.
    Copied(u64, u64),
    /// So many rows were compared, of so many.
    Compared(u64, u64),
}

/// Copies everything and compares it. `name` is what the source is called, the same each time.
///
/// # Errors
/// [`CopyError`]; nothing is ever deleted on either side.
pub async fn copy(
    from: &Database,
    to: &PostgresDatabase,
    name: &str,
    stop: impl Fn() -> bool,
    progress: impl Fn(Step),
) -> Result<Copied, CopyError> {
    to.bring_up().await?;
    let mut server = to.apart().await?;
    claim(&mut server, name).await?;
    let reader = from.reader();
    let mut total = 0;
    for table in &TABLES {
        total += count(reader, table).await?;
    }
    let mut done = 0;
    for table in &TABLES {
        done = copy_table(reader, &mut server, table, done, &|done| progress(Step::Copied(done, total)), &stop).await?;
        if table.numbered {
            count_on(&mut server, table).await?;
        }
    }
    let mut copied = Copied::new();
    let mut compared = 0;
    for table in &TABLES {
        if stop() {
            return Err(CopyError::Stopped);
        }
        let (file, there) = (tally_file(reader, table).await?, tally_server(&mut server, table).await?);
        if file != there {
            return Err(CopyError::Differs { table: table.name, from: file, to: there });
        }
        compared += file.rows;
        progress(Step::Compared(compared, total));
        copied.push((table.name, file));
    }
    finish(&mut server).await?;
    Ok(copied)
}

async fn count(reader: &SqlitePool, table: &Table) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar(AssertSqlSafe(table.count())).fetch_one(reader).await.map_err(sqlite::store_error)?;
    Ok(count as u64)
}

/// Makes sure that the target is ours: empty, or the beginning of this very copy.
async fn claim(server: &mut PgConnection, name: &str) -> Result<(), CopyError> {
    // Held as long as the connection.
    let alone: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '/copy-store', 0))")
            .fetch_one(&mut *server)
            .await
            .map_err(store_error)?;
    if !alone {
        return Err(CopyError::TwoAtOnce);
    }
    let begun: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
        .bind(COPYING)
        .fetch_optional(&mut *server)
        .await
        .map_err(store_error)?;
    match begun {
        Some(begun) if begun == name => return Ok(()),
        Some(begun) => return Err(CopyError::OtherCopy(begun)),
        None => {}
    }
    for table in &TABLES {
        let rows: i64 =
            sqlx::query_scalar(AssertSqlSafe(table.count())).fetch_one(&mut *server).await.map_err(store_error)?;
        if rows > 0 {
            return Err(CopyError::NotEmpty(format!("{rows} rows of {}", table.name)));
        }
    }
    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2)")
        .bind(COPYING)
        .bind(name)
        .execute(server)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Under which key of the server's `meta` stands how far a table is.
fn cursor(table: &Table) -> String {
    format!("copy/{}", table.name)
}

/// Copies what is not there yet; `done` is what was before it, and what is after it is returned.
async fn copy_table(
    reader: &SqlitePool,
    server: &mut PgConnection,
    table: &Table,
    mut done: u64,
    progress: &impl Fn(u64),
    stop: &impl Fn() -> bool,
) -> Result<u64, CopyError> {
    let cursor = cursor(table);
    let found: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
        .bind(&cursor)
        .fetch_optional(&mut *server)
        .await
        .map_err(store_error)?;
    // How far it is: the place in the file, and the rows up to there.
    let (mut place, mut rows) = match &found {
        None => (0, 0),
        Some(found) => found
            .split_once(' ')
            .and_then(|(place, rows)| Some((place.parse().ok()?, rows.parse().ok()?)))
            .ok_or_else(|| StoreError::Damaged(format!("`{cursor}` in meta")))?,
    };
    loop {
        progress(done + rows);
        if stop() {
            return Err(CopyError::Stopped);
        }
        let (batch, last) = read(reader, table, place).await?;
        let Some(last) = last else { break };
        rows += batch.len() as u64;
        place = last;
        let mut tx = server.begin().await.map_err(store_error)?;
        let insert = table.insert();
        table.bind(sqlx::query(AssertSqlSafe(insert)), &batch).execute(&mut *tx).await.map_err(store_error)?;
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(&cursor)
        .bind(format!("{place} {rows}"))
        .execute(&mut *tx)
        .await
        .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
    }
    done += rows;
    Ok(done)
}

/// The next rows of a table and the place of the last of them.
async fn read(reader: &SqlitePool, table: &Table, after: i64) -> Result<(Vec<Vec<Value>>, Option<i64>), StoreError> {
    let (mut rows, mut last, mut bytes) = (Vec::new(), None, 0);
    let mut found = sqlx::query(AssertSqlSafe(table.select_after())).bind(after).bind(ROWS as i64).fetch(reader);
    while let Some(row) = found.try_next().await.map_err(sqlite::store_error)? {
        let values = table.row_of_file(&row, 1)?;
        bytes += values.iter().map(Value::size_bytes).sum::<usize>();
        last = Some(sqlx::Row::try_get(&row, 0).map_err(sqlite::store_error)?);
        rows.push(values);
        if bytes >= BYTES {
            break;
        }
    }
    Ok((rows, last))
}

/// Has the server count on from the highest number.
async fn count_on(server: &mut PgConnection, table: &Table) -> Result<(), StoreError> {
    let name = table.name;
    let count_on = format!(
        "SELECT setval(pg_get_serial_sequence('{name}', 'no'), COALESCE(MAX(no), 1), MAX(no) IS NOT NULL) FROM {name}"
    );
    sqlx::query(AssertSqlSafe(count_on)).execute(server).await.map_err(store_error)?;
    Ok(())
}

async fn tally_file(reader: &SqlitePool, table: &Table) -> Result<Tallied, StoreError> {
    let mut tally = Tally::default();
    let mut rows = sqlx::query(AssertSqlSafe(table.select_all())).fetch(reader);
    while let Some(row) = rows.try_next().await.map_err(sqlite::store_error)? {
        tally.add(&table.row_of_file(&row, 0)?);
    }
    Ok(tally.done())
}

async fn tally_server(server: &mut PgConnection, table: &Table) -> Result<Tallied, StoreError> {
    let mut tally = Tally::default();
    let mut rows = sqlx::query(AssertSqlSafe(table.select_all())).fetch(server);
    while let Some(row) = rows.try_next().await.map_err(store_error)? {
        tally.add(&table.row_of_server(&row)?);
    }
    Ok(tally.done())
}

/// Lets services work on the store.
async fn finish(server: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM meta WHERE key LIKE 'copy/%'").execute(&mut *server).await.map_err(store_error)?;
    // Until it is told what the tables hold, the server would plan for empty ones.
    sqlx::query("ANALYZE").execute(server).await.map_err(store_error)?;
    Ok(())
}

/// Everything that a store holds, by table: what a restored one is held against.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn tally_of_file(database: &Database) -> Result<Copied, StoreError> {
    let mut tallies = Copied::new();
    for table in &TABLES {
        tallies.push((table.name, tally_file(database.reader(), table).await?));
    }
    Ok(tallies)
}
