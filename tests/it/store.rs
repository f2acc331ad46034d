//! The SQLite store: the contract, and what only it does.

use std::sync::Arc;

use moothall::domain::decision::Verdict;
use moothall::pipeline::ports::{Store, StoreError};
use moothall::sqlite::Database;

use crate::contract::store::{StoreUnderTest, store_contract};
use crate::support::{Bench, comment, judged, mentoring};

struct Sqlite {
    bench: Bench,
    store: Arc<dyn Store>,
}

#[async_trait::async_trait]
impl StoreUnderTest for Sqlite {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }
    async fn pass_ms(&self, ms: i64) {
        self.bench.hand.advance_ms(ms);
    }
    async fn now_ms(&self) -> i64 {
        self.bench.clock.now_ms()
    }
}

#[tokio::test]
async fn the_sqlite_store_keeps_the_contract() {
    store_contract(async || {
        let bench = Bench::new();
        let store = Arc::new(bench.store().await);
        Sqlite { bench, store }
    })
    .await;
}

#[tokio::test]
async fn what_was_recorded_is_there_after_reopening() {
    let bench = Bench::new();
    bench.store().await.record(&[judged(comment("1", "a"), 1, Verdict::Hold)]).await.unwrap();
    let funnel = bench.store().await.funnel(&mentoring()).await.unwrap();
    assert_eq!(funnel.held, 1);
}

#[tokio::test]
async fn a_store_of_a_newer_binary_is_refused() {
    let bench = Bench::new();
    let database = bench.database().await;
    let mut tx = database.write().await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, x'00', 0)",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    database.close().await;
    match Database::open(&bench.path()).await {
        Err(StoreError::NewerSchema { found, known }) => assert!(found == 9999 && known < 9999),
        other => panic!("opened a newer store: {other:?}"),
    }
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let store = bench.store().await;
    store.record(&[judged(comment("1", "a"), 1, Verdict::Hold)]).await.unwrap();
    let mode = |path: std::path::PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bench.path()), 0o600);
    assert_eq!(mode(bench.path().with_extension("db-wal")), 0o600);
    assert_eq!(mode(bench.path().parent().unwrap().to_owned()), 0o700);
}

#[tokio::test]
async fn several_processes_may_open_a_new_file_together() {
    for _ in 0..5 {
        let bench = Bench::new();
        let path = bench.path();
        let opened = tokio::join!(Database::open(&path), Database::open(&path), Database::open(&path));
        assert!(opened.0.is_ok() && opened.1.is_ok() && opened.2.is_ok(), "{opened:?}");
    }
}
