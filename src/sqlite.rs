//! The one SQLite file of the embedded shape, shared by its queue and its store.
//!
//! Owns how the file is opened, protected, migrated and locked, and which of
//! its errors may pass by themselves. What the tables mean is the business of
//! `store::sqlite` and `broker::embedded`, which do not know each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

use crate::pipeline::ports::{QueueError, StoreError};
use crate::sql::{last_version, migrations};

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    migrations!(
        "sqlite": "0001_first", "0002_outbox_leases", "0003_positions", "0004_outbox_bodies", "0005_rulebooks",
        "0006_shadow", "0007_webhooks", "0008_lanes_and_trials",
    )
});

/// The version of the schema that an open file has.
pub fn schema_version() -> i64 {
    last_version(&MIGRATOR)
}

/// How long a statement waits for another process's write, before it is `Busy`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the write lock at once.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// Rows that SQLite's thread may be ahead of their reader.
const ROWS_AHEAD: usize = 2_048;

/// Tries to open a file that another process is just making: five seconds' worth.
const OPEN_TRIES: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(50);

/// The open file: one connection that writes, a few that read.
#[derive(Clone, Debug)]
pub struct Database {
    path: PathBuf,
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Database {
    /// Opens the file, makes it where it is missing (mode 0600, new folders 0700)
    /// and brings its schema up to this binary's.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        protect(path).map_err(|error| StoreError::Failed(format!("open {}: {error}", path.display())))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Full: a commit that returned survives loss of power. With Normal
            // the last commits of a WAL could vanish after they were answered for.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            // A batch of comments writes some hundred pages. With the usual 1,000 pages every
            // few batches would be copied into the file and synced once more; 8,000 are 32 MB of log.
            .pragma("wal_autocheckpoint", "8000")
            // 16 MB, so that the indexes of a busy consultation stay in memory.
            .pragma("cache_size", "-16000")
            // Rows come from SQLite's thread; a small buffer would wake both sides for every few.
            .row_buffer_size(ROWS_AHEAD)
            .foreign_keys(true);
        let writer = open_writer(&options, path).await?;
        let reader = SqlitePoolOptions::new().max_connections(4).connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { path: path.to_owned(), writer, reader })
    }

    /// The version of a file's schema, without changing it; 0 for a new file.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] where a newer Moothall has been at work.
    pub async fn found_version(path: &Path) -> Result<i64, StoreError> {
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT);
        let reader = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(store_error)?;
        let found = found_version(&reader).await;
        reader.close().await;
        let (found, known) = (found?, schema_version());
        if found > known { Err(StoreError::NewerSchema { found, known }) } else { Ok(found) }
    }

    /// Copies the whole store into a new file at one moment of it, while others go on working.
    ///
    /// # Errors
    /// Where the new file is there already and holds something, or cannot be written.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        // Made by us, so that nobody else can read it, not even for a moment.
        protect(path).map_err(|error| StoreError::Failed(format!("open {}: {error}", path.display())))?;
        let target = path.to_str().ok_or_else(|| StoreError::Failed(format!("{} is no text", path.display())))?;
        // The writer's connection: a reader's refuses, although this only reads the store.
        sqlx::query("VACUUM INTO $1").bind(target).execute(&self.writer).await.map_err(store_error)?;
        Ok(())
    }

    /// Reads every page and index of the file: whether nothing is damaged.
    pub async fn is_whole(&self) -> Result<bool, StoreError> {
        let said: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&self.reader).await.map_err(store_error)?;
        Ok(said == ["ok"])
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Connections for reading; they refuse to write.
    pub fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    /// Begins a transaction that holds the write lock from its first moment.
    ///
    /// A deferred one would take the lock at its first write and could then fail
    /// on a snapshot that another process has overtaken.
    pub async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        match self.writer.begin_with(BEGIN).await {
            // A full disk makes SQLite end a transaction by itself. The driver's own end of it then
            // fails, and it takes the connection for one inside a transaction for ever after.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                self.writer.begin_with(BEGIN).await
            }
            begun => begun,
        }
    }

    /// Closes the file; further calls fail.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Makes the folder and the file before SQLite does, so that they are never
/// readable by others, not even for a moment. The WAL files copy the file's mode.
fn protect(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(parent)?;
    }
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    drop(file);
    Ok(())
}

/// Connects and migrates. Switching to WAL and migrating a new file need it
/// alone and do not wait as statements do, so the wait is here.
async fn open_writer(options: &SqliteConnectOptions, path: &Path) -> Result<SqlitePool, StoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_open_writer(options, path).await {
            Err(StoreError::Busy(_)) if tries < OPEN_TRIES => tokio::time::sleep(OPEN_PAUSE).await,
            opened => return opened,
        }
    }
}

async fn try_open_writer(options: &SqliteConnectOptions, path: &Path) -> Result<SqlitePool, StoreError> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone());
    let writer = pool.await.map_err(store_error)?;
    migrate(&writer, path).await?;
    Ok(writer)
}

async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let known = schema_version();
    let found = found_version(writer).await?;
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    if found == known {
        return Ok(());
    }
    // Processes that start together on a new or older file take turns: the second finds
    // the work done. The lock is the system's and ends with its process.
    let path = path.to_owned();
    let _turn = tokio::task::spawn_blocking(move || take_turn(&path))
        .await
        .map_err(|error| StoreError::Failed(format!("migrate: {error}")))?
        .map_err(|error| StoreError::Failed(format!("migrate: lock beside the store: {error}")))?;
    MIGRATOR.run(writer).await.map_err(migrate_error)
}

/// Version of the file's schema; 0 for a new file.
async fn found_version(writer: &SqlitePool) -> Result<i64, StoreError> {
    let table: Option<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'")
            .fetch_optional(writer)
            .await
            .map_err(store_error)?;
    if table.is_none() {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
        .fetch_one(writer)
        .await
        .map_err(store_error)
}

/// Waits for the lock on a file beside the store. Not on the store's own file: closing a
/// second handle on that would drop the locks that SQLite holds.
fn take_turn(path: &Path) -> std::io::Result<fs::File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".migrating");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(name)?;
    file.lock()?;
    Ok(file)
}

fn migrate_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => store_error(error),
        other => StoreError::Failed(format!("migrate: {other}")),
    }
}

/// How an error begins that only more space mends.
pub const DISK_IS_FULL: &str = "the disk of the store is full";

/// What is in the way for now and may pass, in words; `None` for anything else.
fn passing(error: &sqlx::Error) -> Option<String> {
    let code = match error {
        sqlx::Error::PoolTimedOut => return Some(error.to_string()),
        sqlx::Error::Database(database) => database.code()?.parse::<u32>().ok()?,
        _ => return None,
    };
    // Primary codes are the low byte: 5 busy, 6 locked, 13 full. 778 is a write that the system refused.
    match code & 0xff {
        5 | 6 => Some(error.to_string()),
        13 => Some(format!("{DISK_IS_FULL}: {error}")),
        _ if code == 778 => Some(format!("{DISK_IS_FULL} or refuses: {error}")),
        _ => None,
    }
}

/// The store's word for a database error.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub fn store_error(error: sqlx::Error) -> StoreError {
    passing(&error).map_or_else(|| StoreError::Failed(error.to_string()), StoreError::Busy)
}

/// The queue's word for a database error.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub fn queue_error(error: sqlx::Error) -> QueueError {
    passing(&error).map_or_else(|| QueueError::Failed(error.to_string()), QueueError::Busy)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_step_in_the_folder_is_taken() {
        crate::sql::tests::holds_all_of(&super::MIGRATOR, "sqlite");
    }
}
