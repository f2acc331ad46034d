//! The PostgreSQL store: the contract, and what only it does.

use std::sync::Arc;

use moothall::domain::comment::{CommentId, CommentKey, SourceName};
use moothall::domain::decision::Verdict;
use moothall::pipeline::clock::{Clock, ManualClock};
use moothall::pipeline::ports::{FailedRow, FailedRows as _, Recorded, Store, StoreError};
use moothall::store::postgres::{PostgresDatabase, PostgresStore, schema_version};

use crate::contract::store::{StoreUnderTest, store_contract};
use crate::postgres::{Database, Server};
use crate::support::postgres::{config, opened, store};
use crate::support::{comment, failed, judged, key, mentoring, revision};

struct Postgres {
    store: Arc<dyn Store>,
    clock: Clock,
    hand: ManualClock,
    _database: Database,
}

#[async_trait::async_trait]
impl StoreUnderTest for Postgres {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }
    async fn pass_ms(&self, ms: i64) {
        self.hand.advance_ms(ms);
    }
    async fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}

#[tokio::test]
async fn the_postgres_store_keeps_the_contract() {
    store_contract(async || {
        let (clock, hand) = Clock::manual(1_700_000_000_000);
        let (store, database) = store(&clock).await;
        Postgres { store: Arc::new(store), clock, hand, _database: database }
    })
    .await;
}

async fn fresh() -> (PostgresStore, Database) {
    store(&Clock::manual(1_700_000_000_000).0).await
}

#[tokio::test]
async fn what_a_name_may_hold_is_kept_as_it_came() {
    let (store, _database) = fresh().await;
    // Longer than what an index takes, and with what PostgreSQL's texts cannot hold.
    let long: String = (0..20_000u32).map(|n| char::from_u32(0x4e00 + n % 7_000).unwrap()).collect();
    let names = ["a\u{0}b".to_owned(), "\u{10ffff}0".to_owned(), long, "a".to_owned()];
    let mut batch = Vec::new();
    for (n, name) in (0..).zip(&names) {
        let mut one = comment("x", &format!("help \u{0} {n}"));
        one.key = CommentKey {
            consultation: mentoring(),
            source: SourceName::new(format!("s{name}s")).unwrap(),
            id: CommentId::new(format!("i{name}i")).unwrap(),
        };
        batch.push(judged(one, n, Verdict::Hold));
    }
    assert_eq!(store.record(&batch).await.unwrap(), [Recorded::New; 4]);
    assert_eq!(store.record(&batch).await.unwrap(), [Recorded::AlreadyKnown; 4]);
    let page = store.page(&mentoring(), i64::MIN, 9).await.unwrap();
    for (stored, judged) in page.iter().zip(&batch) {
        assert_eq!((&stored.comment, stored.sequence), (&judged.comment, judged.sequence));
        let hash = moothall::pipeline::identity::text_hash(&judged.comment.text);
        assert!(store.decide(&judged.comment.key, &hash, Verdict::Reject, "Lee\u{0}").await.unwrap());
    }
    let found = store.disagreements(&mentoring()).await.unwrap();
    let keys: Vec<_> = found.iter().map(|one| &one.key).collect();
    assert_eq!(keys, batch.iter().map(|one| &one.comment.key).collect::<Vec<_>>());
    assert!(found.iter().all(|one| one.decided.by == "Lee\u{0}"));

    let row = FailedRow {
        source: "s\u{0}".to_owned(),
        id: Some("i\u{0}".to_owned()),
        detail: "d\u{0}".to_owned(),
        raw: "\u{0}\u{10ffff}".to_owned(),
        ..failed(1)
    };
    assert_eq!(store.fail(std::slice::from_ref(&row)).await.unwrap(), 1);
    assert_eq!(store.failures(&mentoring()).await.unwrap(), [row]);
}

#[tokio::test]
async fn several_processes_bring_up_one_schema() {
    let database = Server::shared().await.database().await;
    let up = (0..6).map(|_| {
        let process = PostgresDatabase::new(config(&database.url()));
        async move { process.migrate().await }
    });
    for ended in futures_util::future::join_all(up).await {
        ended.unwrap();
    }
    let process = PostgresDatabase::new(config(&database.url()));
    assert_eq!(process.found_version().await.unwrap(), schema_version());
    assert_eq!(database.number("SELECT count(*) FROM _sqlx_migrations").await, schema_version());
}

#[tokio::test]
async fn a_schema_of_a_newer_binary_is_refused() {
    let (_store, database) = fresh().await;
    database
        .run(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'from the future', true, '\\x00', 0)",
        )
        .await;
    match PostgresDatabase::new(config(&database.url())).migrate().await {
        Err(StoreError::NewerSchema { found, known }) => assert!(found == 9999 && known < 9999),
        other => panic!("took a newer schema: {other:?}"),
    }
}

#[tokio::test]
async fn a_step_that_was_cut_off_leaves_nothing_behind() {
    let database = Server::shared().await.database().await;
    // The schema's last table is there already: the step fails near its end.
    database.run("CREATE TABLE meta (other INT)").await;
    let process = PostgresDatabase::new(config(&database.url()));
    process.migrate().await.unwrap_err();
    assert_eq!(database.number("SELECT count(*) FROM pg_tables WHERE tablename = 'comments'").await, 0);
    database.run("DROP TABLE meta").await;
    process.migrate().await.unwrap();
}

#[tokio::test]
async fn two_workers_with_one_batch_have_one_effect() {
    let (clock, _hand) = Clock::manual(1_700_000_000_000);
    let (one, database) = store(&clock).await;
    let other = opened(&database.url(), &clock).await;
    for round in 0..20_i64 {
        let mut batch: Vec<_> = (0..40)
            .map(|n| judged(comment(&format!("{round} {n}"), &format!("t{n}")), 1_000 * round + n % 7, Verdict::Accept))
            .collect();
        batch.extend((0..10).map(|n| judged(revision(&format!("{round} {n}"), n, "edited"), n, Verdict::Escalate)));
        let mut turned = batch.clone();
        turned.reverse();
        let (first, second) = tokio::join!(one.record(&batch), other.record(&turned));
        let new = |answer: Vec<Recorded>| answer.iter().filter(|one| **one == Recorded::New).count();
        let (first, second) = (new(first.unwrap()), new(second.unwrap()));
        assert!(first + second <= 50, "{first} and {second}");
    }
    assert_eq!(one.funnel(&mentoring()).await.unwrap().received(), 800);
    assert_eq!(one.disclosures(None).await.unwrap().len(), 200);
    let doubled =
        "SELECT count(*) FROM (SELECT comment_no, arrival_key FROM revisions GROUP BY 1, 2 HAVING count(*) > 1) x";
    assert_eq!(database.number(doubled).await, 0);
    assert_eq!(database.number("SELECT count(*) FROM outbox WHERE kind = 'alert.safeguarding.v1'").await, 200);
}

#[tokio::test]
async fn what_passes_by_itself_is_busy_and_what_needs_a_person_is_refused() {
    let (store, database) = fresh().await;
    let one = judged(comment("1", "a"), 1, Verdict::Hold);
    for code in ["53100", "53300", "40001", "40P01", "57P01", "25006", "58030"] {
        database.writes_fail(code).await;
        for failed in [store.record(std::slice::from_ref(&one)).await.map(drop), store.ping().await] {
            match failed {
                Err(StoreError::Busy(why)) => assert!(why.contains(code), "{why}"),
                other => panic!("{code}: {other:?}"),
            }
        }
        database.writes_work().await;
    }
    database.writes_fail("42501").await;
    assert!(matches!(store.ping().await, Err(StoreError::Refused(_))));
    database.writes_work().await;
    assert_eq!(store.record(&[one]).await.unwrap(), [Recorded::New]);

    database.run("CREATE ROLE stranger LOGIN PASSWORD 'right'").await;
    let strange = PostgresDatabase::new(config(&database.url_for("stranger", "s3cret")));
    match strange.migrate().await {
        Err(StoreError::Refused(why)) => {
            assert!(why.contains("stranger@127.0.0.1") && !why.contains("s3cret"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let (url, name) = (database.url(), &database.name);
    let nowhere = PostgresDatabase::new(config(&url.replace(name.as_str(), "nowhere")));
    assert!(matches!(nowhere.migrate().await, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn a_server_that_goes_and_comes_again_is_worked_with_again() {
    let server = Server::start().await;
    let database = server.database().await;
    let (clock, _hand) = Clock::manual(1_700_000_000_000);
    let store = opened(&database.url(), &clock).await;
    let record = async |id: &str, n| store.record(&[judged(comment(id, "a"), n, Verdict::Hold)]).await;
    record("1", 1).await.unwrap();
    server.kill().await;
    assert!(matches!(record("2", 2).await, Err(StoreError::Busy(_))));
    assert!(matches!(store.funnel(&mentoring()).await, Err(StoreError::Busy(_))));
    server.start_again().await;
    assert_eq!(record("2", 2).await.unwrap(), [Recorded::New]);
    server.shutdown().await;
    assert!(matches!(record("3", 3).await, Err(StoreError::Busy(_))));
    server.start_again().await;
    assert_eq!(record("3", 3).await.unwrap(), [Recorded::New]);
    assert_eq!(record("1", 1).await.unwrap(), [Recorded::AlreadyKnown]);
    assert_eq!(store.funnel(&mentoring()).await.unwrap().held, 3);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_on_and_holds_nobody_back() {
    let server = Server::start().await;
    let database = server.database().await;
    let clock = Clock::manual(1_700_000_000_000).0;
    opened(&database.url(), &clock).await;
    let mut short = config(&database.url());
    (short.timeout, short.step) = (std::time::Duration::from_millis(300), std::time::Duration::from_millis(300));
    let store = PostgresStore::new(PostgresDatabase::new(short), clock);
    store.ping().await.unwrap();
    server.pause().await;
    // More often than there are connections.
    for _ in 0..10 {
        assert!(matches!(store.withdraw(&key("1"), None).await, Err(StoreError::Busy(_))));
    }
    server.resume().await;
    crate::support::wait_until("it is worked with again", async || store.ping().await.is_ok()).await;
    store.record(&[judged(comment("2", "a"), 1, Verdict::Hold)]).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_hangs_in_its_turn_holds_the_others_back_for_a_moment_only() {
    let (clock, _hand) = Clock::manual(1_700_000_000_000);
    let (_other, database) = store(&clock).await;
    let mut short = config(&database.url());
    (short.timeout, short.step) = (std::time::Duration::from_millis(200), std::time::Duration::from_secs(5));
    let store = PostgresStore::new(PostgresDatabase::new(short), clock);
    let one = judged(comment("1", "a"), 1, Verdict::Hold);
    store.record(std::slice::from_ref(&one)).await.unwrap();
    let mut hanging = database.server().connect(&database.name).await;
    let mut tx = sqlx::Connection::begin(&mut hanging).await.unwrap();
    sqlx::query("SELECT 1 FROM comments FOR UPDATE").execute(&mut *tx).await.unwrap();
    sqlx::query("LOCK TABLE comments").execute(&mut *tx).await.unwrap();
    match store.record(&[judged(comment("2", "b"), 2, Verdict::Hold)]).await {
        Err(StoreError::Busy(why)) => assert!(why.contains("55P03"), "{why}"),
        other => panic!("{other:?}"),
    }
    tx.rollback().await.unwrap();
    assert_eq!(store.record(&[judged(comment("2", "b"), 2, Verdict::Hold)]).await.unwrap(), [Recorded::New]);
}

#[tokio::test]
async fn the_socket_is_an_address_too() {
    let (_store, database) = fresh().await;
    let clock = Clock::manual(1_700_000_000_000).0;
    let store = opened(&database.socket_url(), &clock).await;
    store.ping().await.unwrap();
}
