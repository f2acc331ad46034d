//! The schema's version, and how it is brought up.

use std::sync::LazyLock;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;

use super::connection::{PostgresDatabase, store_error};
use crate::pipeline::ports::StoreError;
use crate::sql::{last_version, migrations};

/// Under which key of `meta` stands what is being copied into the store.
pub const COPYING: &str = "copy/from";

static MIGRATOR: LazyLock<Migrator> =
    LazyLock::new(|| migrations!("postgres": "0001_first", "0002_webhooks_and_trials"));

/// The version of the schema that this binary works with.
pub fn schema_version() -> i64 {
    last_version(&MIGRATOR)
}

impl PostgresDatabase {
    /// The version of the store's schema; 0 where there is none yet.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] where a newer Moothall has been at work.
    pub async fn found_version(&self) -> Result<i64, StoreError> {
        self.in_time(async {
            let mut lease = self.lease().await?;
            let found = found(&mut lease).await?;
            lease.well();
            Ok(found)
        })
        .await
    }

    /// Brings the schema up. Processes that start together take turns by the server's own
    /// lock, and each step is a transaction: what was begun and not ended is not there.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`]; [`StoreError::Refused`] where the user may not make tables, or where a copy
    /// into the store was begun and not ended.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.bring_up().await?;
        let work = async {
            let mut lease = self.lease().await?;
            let copying: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
                .bind(COPYING)
                .fetch_optional(&mut *lease)
                .await
                .map_err(store_error)?;
            lease.well();
            Ok(copying)
        };
        match self.in_time(work).await? {
            None => Ok(()),
            Some(name) => Err(StoreError::Refused(format!(
                "a copy from {name} has not come to its end: finish it with `moothall copy-store`"
            ))),
        }
    }

    /// As [`PostgresDatabase::migrate`], also where a copy has not come to its end.
    pub(in crate::store) async fn bring_up(&self) -> Result<(), StoreError> {
        // Most starts find nothing to do and need no right to do it.
        if self.found_version().await? == schema_version() {
            return Ok(());
        }
        let apart = self.apart_pool();
        let ended = async {
            let mut connection = apart.acquire().await.map_err(store_error)?;
            encoding(&mut connection).await?;
            drop(connection);
            MIGRATOR.run(&apart).await.map_err(migrate_error)
        }
        .await;
        // The lock is the connection's and ends with it, also where a step failed.
        apart.close().await;
        ended.map_err(|error| match error {
            StoreError::Refused(why) => StoreError::Refused(format!(
                "{why}: the schema must be brought up by a user who may make tables: `moothall migrate --store URL`"
            )),
            other => other,
        })
    }
}

async fn found(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let known = schema_version();
    let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(store_error)?;
    if !there {
        return Ok(0);
    }
    let found: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(store_error)?;
    if found > known { Err(StoreError::NewerSchema { found, known }) } else { Ok(found) }
}

/// A comment in any script must have room.
async fn encoding(connection: &mut PgConnection) -> Result<(), StoreError> {
    let found: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(connection).await.map_err(store_error)?;
    if found == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "the database's encoding is {found} and must be UTF8: make it with CREATE DATABASE ... ENCODING 'UTF8' \
         TEMPLATE template0"
    )))
}

fn migrate_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => store_error(error),
        // Another process with a newer binary was faster.
        MigrateError::VersionMissing(found) => StoreError::NewerSchema { found, known: schema_version() },
        other => StoreError::Failed(format!("migrate: {other}")),
    }
}

/// What a person should know about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version, as it says it.
    pub version: String,
    /// The schema's version; 0 where there is none yet.
    pub schema: i64,
    /// Whether what was committed survives loss of power.
    pub durable: bool,
    /// Whether this connection is encrypted.
    pub encrypted: bool,
    /// Whether our user may do everything on the whole server.
    pub superuser: bool,
    /// Connections that are in use, and that the server takes.
    pub connections: (i64, i64),
}

impl PostgresDatabase {
    /// Asks the server about itself.
    pub async fn facts(&self) -> Result<ServerFacts, StoreError> {
        self.in_time(async {
            let mut lease = self.lease().await?;
            encoding(&mut lease).await?;
            let schema = found(&mut lease).await?;
            let (version, durable, encrypted, superuser, used, most) = sqlx::query_as(
                "SELECT current_setting('server_version'), \
                 current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off', \
                 COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), FALSE), \
                 current_setting('is_superuser') = 'on', \
                 (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
                 current_setting('max_connections')::bigint",
            )
            .fetch_one(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            Ok(ServerFacts { version, schema, durable, encrypted, superuser, connections: (used, most) })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_step_in_the_folder_is_taken() {
        crate::sql::tests::holds_all_of(&super::MIGRATOR, "postgres");
    }
}
