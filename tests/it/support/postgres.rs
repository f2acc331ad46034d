//! A PostgreSQL store for tests: a database of its own, and small limits.

use std::time::Duration;

use moothall::pipeline::clock::Clock;
use moothall::store::postgres::{PostgresConfig, PostgresDatabase, PostgresStore, StoreUrl};

use crate::postgres::{Database, Server};

/// Few connections and short waits.
pub fn config(url: &str) -> PostgresConfig {
    PostgresConfig {
        connections: 8,
        timeout: Duration::from_secs(5),
        step: Duration::from_secs(30),
        ..PostgresConfig::new(StoreUrl::parse(url).unwrap())
    }
}

/// An empty store in a database of its own, and the database.
pub async fn store(clock: &Clock) -> (PostgresStore, Database) {
    let database = Server::shared().await.database().await;
    (opened(&database.url(), clock).await, database)
}

/// The store at an address, its schema brought up.
pub async fn opened(url: &str, clock: &Clock) -> PostgresStore {
    let database = PostgresDatabase::new(config(url));
    database.migrate().await.unwrap();
    PostgresStore::new(database, clock.clone())
}
