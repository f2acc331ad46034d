//! Rows to the queue, with their books.

use std::sync::Arc;

use moothall::pipeline::intake::{self, IntakeCounts, IntakeDeps, IntakeLimits, Row};
use moothall::pipeline::ports::Store;
use moothall::pipeline::shutdown::Shutdown;
use moothall::store::sqlite::SqliteStore;

use crate::support::{Bench, comment, failed, mentoring, revision};

struct Door {
    deps: IntakeDeps,
    store: SqliteStore,
    _bench: Bench,
}

async fn door() -> Door {
    let bench = Bench::new();
    let store = bench.store().await;
    let deps = IntakeDeps {
        queue: Arc::new(bench.queue("one").await),
        failed: Arc::new(store.clone()),
        limits: IntakeLimits { chunk_rows: 3, text_bytes: 100, ..IntakeLimits::default() },
    };
    Door { deps, store, _bench: bench }
}

impl Door {
    async fn take(&self, rows: Vec<Row>) -> IntakeCounts {
        let rows = intake::read_ahead(rows.into_iter());
        intake::run(rows, &self.deps, &Shutdown::new(), |_| {}).await.unwrap()
    }

    async fn failures(&self) -> Vec<(u64, String)> {
        let failed = self.store.failures(&mentoring()).await.unwrap();
        failed.into_iter().map(|f| (f.row, f.reason)).collect()
    }
}

fn rows() -> Vec<Row> {
    vec![
        Ok(comment("1", "a")),
        Ok(comment("2", " \u{200b}\n")),
        Ok(comment("3", &"x".repeat(101))),
        Ok(comment("1", "a")),
        Ok(comment("1", "b")),
        Ok(comment("1", "a")),
        Err(failed(99)),
        Ok(comment("4", "a")),
    ]
}

#[tokio::test]
async fn every_row_is_in_the_books() {
    let door = door().await;
    let counts = door.take(rows()).await;
    let expected = IntakeCounts { read: 8, new: 2, known: 2, failed: 4, failed_new: 4 };
    assert_eq!(counts, expected);
    let reasons = [(2, "blank"), (3, "too_large"), (5, "duplicate_id"), (99, "blank")];
    let reasons = reasons.map(|(row, reason)| (row, reason.to_owned()));
    assert_eq!(door.failures().await, reasons);
    assert_eq!(door.deps.queue.depth(None).await.unwrap().waiting, 2);
}

#[tokio::test]
async fn the_same_file_again_changes_nothing() {
    let door = door().await;
    door.take(rows()).await;
    let again = door.take(rows()).await;
    let expected = IntakeCounts { read: 8, new: 0, known: 4, failed: 4, failed_new: 0 };
    assert_eq!(again, expected);
    assert_eq!(door.failures().await.len(), 4);
}

#[tokio::test]
async fn another_text_in_a_later_file_is_an_edit() {
    let door = door().await;
    door.take(vec![Ok(comment("1", "a"))]).await;
    let counts = door.take(vec![Ok(comment("1", "b"))]).await;
    assert_eq!((counts.new, counts.failed), (1, 0));
}

#[tokio::test]
async fn a_history_of_revisions_in_one_file_is_no_duplicate() {
    let door = door().await;
    let counts = door.take(vec![Ok(revision("1", 1, "a")), Ok(revision("1", 2, "b"))]).await;
    assert_eq!((counts.new, counts.failed), (2, 0));
}

#[tokio::test]
async fn a_request_to_stop_ends_the_intake_with_true_books() {
    let door = door().await;
    let shutdown = Shutdown::new();
    let stop = shutdown.stop_intake.clone();
    let endless = (0..).map(|n| Ok(comment(&format!("{n}"), "a")));
    let counts = intake::run(intake::read_ahead(endless), &door.deps, &shutdown, |counts| {
        if counts.read >= 30 {
            stop.cancel();
        }
    })
    .await
    .unwrap();
    let waiting = door.deps.queue.depth(None).await.unwrap().waiting;
    assert!(counts.read >= 30);
    assert_eq!((counts.new, counts.new), (counts.read, waiting));
}
