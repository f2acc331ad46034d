//! The store on PostgreSQL as an operator runs it: set up by the page, copied into, killed, backed up, restored.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/control.rs"]
mod control;
#[path = "support/postgres/mod.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use authority::Authority;
use moothall::domain::comment::{Comment, CommentId, CommentKey, ConsultationId, SourceName};
use moothall::domain::decision::Verdict;
use moothall::domain::rulebook::PipelineVersion;
use moothall::domain::{assessment::Assessment, comment};
use moothall::pipeline::clock::Clock;
use moothall::pipeline::identity::text_hash;
use moothall::pipeline::ports::{FailedRow, FailedRows as _, Funnel, Judged, Store};
use moothall::sqlite::Database as File;
use moothall::store::postgres::{PostgresConfig, PostgresDatabase, PostgresStore, StoreUrl};
use moothall::store::sqlite::SqliteStore;
use server::{Database, Server};
use tempfile::TempDir;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const AS_AT: &str = "2026-11-24T09:00:00Z";

/// An output folder, and commands that work on it.
struct Site {
    folder: TempDir,
    /// `MOOTHALL_STORE_URL`, where the store is a server.
    url: Option<String>,
}

impl Site {
    fn new(url: Option<String>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), url }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn file(&self) -> PathBuf {
        self.out().join("restricted/moothall.db")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moothall"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).stdin(Stdio::null());
        for name in
            ["MOOTHALL_RABBITMQ_URL", "MOOTHALL_RABBITMQ_URL_FILE", "MOOTHALL_CONSULTATION", "MOOTHALL_STORE_URL"]
        {
            command.env_remove(name);
        }
        command.env("MOOTHALL_PSEUDONYM_KEY", KEY).env("MOOTHALL_OUT", self.out());
        if let Some(url) = &self.url {
            command.env("MOOTHALL_STORE_URL", url);
        }
        command
    }

    /// Exit code and everything that was printed.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        ended(&mut self.command(arguments))
    }

    fn done(&self, arguments: &[&str]) -> String {
        let (code, said) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    }

    /// Every shared file of the report, without what a run says of itself.
    fn report(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.done(&["report", "--as-at", AS_AT]);
        let mut files = BTreeMap::new();
        let mut folders = vec![self.out()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.strip_prefix(self.out()).unwrap().to_owned();
                if path.is_dir() && !name.starts_with("restricted") {
                    folders.push(path);
                } else if path.is_file() && name != Path::new("run.json") {
                    files.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        assert!(files.len() > 5, "{:?}", files.keys());
        files
    }

    fn store(&self) -> PostgresStore {
        opened(self.url.as_deref().unwrap())
    }
}

fn ended(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.code().unwrap(), text)
}

fn opened(url: &str) -> PostgresStore {
    let config = PostgresConfig::new(StoreUrl::parse(url).unwrap());
    PostgresStore::new(PostgresDatabase::new(config), Clock::system())
}

fn mentoring() -> ConsultationId {
    ConsultationId::new("mentoring").unwrap()
}

fn judged(id: &str, text: &str, sequence: i64, verdict: Verdict) -> Judged {
    let key = comment::CommentKey {
        consultation: mentoring(),
        source: SourceName::new("test").unwrap(),
        id: CommentId::new(id).unwrap(),
    };
    let assessment = Assessment::bare(verdict, PipelineVersion("v1".to_owned()));
    Judged { comment: Comment::bare(key, text), sequence, assessment, trace: None }
}

/// Everything that a store can hold, `count` comments of it.
async fn fill(store: &SqliteStore, count: i64) {
    let verdicts = [Verdict::Accept, Verdict::Hold, Verdict::Reject, Verdict::Escalate];
    let one =
        |n: i64, edit: &str| judged(&format!("c{n}"), &format!("text {n} \u{0}{edit}"), n, verdicts[(n % 4) as usize]);
    let batch: Vec<_> = (0..count).map(|n| one(n, "")).collect();
    for chunk in batch.chunks(1_000) {
        store.record(chunk).await.unwrap();
    }
    let edits: Vec<_> = (0..count / 10)
        .map(|n| one(n * 10, "edited"))
        .map(|one| Judged { sequence: count + one.sequence, ..one })
        .collect();
    store.record(&edits).await.unwrap();
    for n in 0..20 {
        let Judged { comment, .. } = one(n * 4 + 3, "");
        store.acknowledge(&comment.key, "Lee").await.unwrap();
        store.decide(&comment.key, &text_hash(&comment.text), Verdict::Accept, "Kim \u{0}").await.unwrap();
    }
    let gone: CommentKey = judged("never came", "", 0, Verdict::Accept).comment.key;
    store.withdraw(&gone, Some(2)).await.unwrap();
    let rows: Vec<_> = (0..count / 20)
        .map(|n| FailedRow {
            consultation: mentoring(),
            source: "test".to_owned(),
            id: None,
            row: n as u64,
            reason: "blank".to_owned(),
            detail: "nothing was written".to_owned(),
            raw: "\u{0}".to_owned(),
            fingerprint: format!("f{n}"),
        })
        .collect();
    store.fail(&rows).await.unwrap();
    let claimed = store.claim("comment.assessed.v1", "a relay", 100, 1_000_000).await.unwrap();
    store.sent(&claimed[..50].iter().map(|row| row.event_id.clone()).collect::<Vec<_>>()).await.unwrap();
    store
        .record_shadow(&[Judged { assessment: Assessment { word_count: 2, ..one(1, "").assessment }, ..one(1, "") }])
        .await
        .unwrap();
}

use moothall::pipeline::ports::Shadows as _;

/// What a reader can see of a store.
async fn seen(store: &dyn Store) -> (Funnel, Vec<String>, Vec<String>, usize, u64) {
    let (mut page, mut after) = (Vec::new(), i64::MIN);
    loop {
        let more = store.page(&mentoring(), after, 1_000).await.unwrap();
        let Some(last) = more.last() else { break };
        after = last.sequence;
        page.extend(more.iter().map(|stored| format!("{stored:?}")));
    }
    let disclosures = store.disclosures(None).await.unwrap().iter().map(|one| format!("{one:?}")).collect();
    let failures = store.failures(&mentoring()).await.unwrap().len();
    let unsent = store.backlog(None).await.unwrap().unsent;
    (store.funnel(&mentoring()).await.unwrap(), page, disclosures, failures, unsent)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn ask(port: u16, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some((answer.split_whitespace().nth(1)?.parse().ok()?, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

fn get(port: u16, path: &str) -> Option<(u16, String)> {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

fn post(port: u16, id: &str, text: &str) -> u16 {
    let body = format!("{{\"id\":\"{id}\",\"text\":\"{text}\"}}");
    let head = format!(
        "POST /v1/comments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    ask(port, &format!("{head}{body}")).map_or(0, |(status, _)| status)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool, seen: impl Fn() -> String) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_mins(2), "waited in vain until {what}\n{}", seen());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Running {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Running {
    fn start(site: &Site) -> Self {
        let (port, log) = (free_port(), site.folder.path().join("log"));
        let child = site
            .command(&["run"])
            .env("MOOTHALL_SERVER_LISTEN", format!("127.0.0.1:{port}"))
            .env("MOOTHALL_STORE_TIMEOUT_MS", "1000")
            .env("MOOTHALL_REPORT_EVERY_MS", "500")
            .stderr(fs::File::create(&log).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn answers(&self, status: u16, words: &str) {
        let holds = async || get(self.port, "/readyz").is_some_and(|(s, body)| s == status && body.contains(words));
        until(&format!("/readyz says {status} `{words}`"), holds, || {
            format!("{:?}\n{}", get(self.port, "/readyz"), self.log())
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the page's own statements, with passwords in the place of its dots.
fn set_up_by_the_page(server: &Database) {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/postgresql.md")).unwrap();
    let statements = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap().replace("'...'", "'right'");
    let mut psql = server.program("psql");
    let mut child = psql.args(["-v", "ON_ERROR_STOP=1", "-q"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn the_page_gives_each_user_what_it_needs_and_no_more() {
    let server = Server::start().await;
    let any = server.database().await;
    set_up_by_the_page(&any);
    let url = |user: &str| format!("postgres://{user}:right@127.0.0.1:{}/moothall", server.port());
    let worker = Site::new(Some(url("moothall")));
    let (code, said) = worker.run(&["migrate"]);
    assert!(code == 1 && said.contains("moothall migrate") && said.contains("permission denied"), "{said}");
    let owner = Site::new(Some(url("moothall_owner")));
    let (code, said) = owner.run(&["migrate", "--check"]);
    assert!(code == 1 && said.contains("no schema yet"), "{said}");
    owner.done(&["migrate"]);
    assert!(owner.done(&["migrate", "--check"]).contains("nothing to do"));
    assert!(worker.done(&["migrate"]).contains("nothing to do"));
    // Everything that a service does, as the user with few rights.
    let said = worker.done(&["process", "examples/mentoring.csv", "--as-at", AS_AT]);
    assert!(!said.contains("right@"), "{said}");
    let (_, doctor) = worker.run(&["doctor"]);
    // The tests' own server is quick and not safe, and is told so; nothing else is wrong.
    let failing: Vec<&str> = doctor.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failing.len() == 1 && failing[0].contains("store safety"), "{doctor}");
    assert!(
        doctor.contains("can be written") && !doctor.contains("store user") && !doctor.contains("right@"),
        "{doctor}"
    );
    assert!(worker.done(&["rulebook", "list"]).contains("* "));
    worker.done(&["safeguarding", "list"]);
    worker.done(&["codebook", "retag"]);
    // What is given on the command line is told to be seen by all.
    let address = url("moothall");
    let said = Site::new(None).done(&["migrate", "--store", &address]);
    assert!(said.contains("everybody on this machine") && !said.contains("right@"), "{said}");
}

#[tokio::test]
async fn a_copy_that_is_killed_goes_on_and_ends_with_the_same_store() {
    let server = Server::shared().await;
    let database = server.database().await;
    let site = Site::new(Some(database.url()));
    fs::create_dir_all(site.file().parent().unwrap()).unwrap();
    let file = File::open(&site.file()).await.unwrap();
    let from = SqliteStore::new(file.clone(), Clock::system());
    fill(&from, 30_000).await;
    let expected = seen(&from).await;
    let path = site.file();
    let copy = ["copy-store", "--from", path.to_str().unwrap()];

    let mut kills = 0;
    let counted = "SELECT (SELECT count(*) FROM comments) + (SELECT count(*) FROM revisions) + (SELECT count(*) FROM assessments)";
    let mut before = 0;
    'kill: while kills < 4 {
        let mut child = site.command(&copy).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        loop {
            let there = "SELECT count(*) FROM pg_tables WHERE tablename = 'comments'";
            if database.number(there).await > 0 && database.number(counted).await > before {
                break;
            }
            assert!(started.elapsed() < Duration::from_mins(1), "nothing to kill");
            if child.try_wait().unwrap().is_some() {
                // It has come to its end between two looks.
                break 'kill;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        before = database.number(counted).await;
        if kills == 1 {
            let (code, said) = site.run(&["rulebook", "list"]);
            assert!(code == 1 && said.contains("has not come to its end"), "{said}");
            let other = site.folder.path().join("other.db");
            File::open(&other).await.unwrap().close().await;
            let (code, said) = site.run(&["copy-store", "--from", other.to_str().unwrap()]);
            assert!(code == 2 && said.contains("the beginning of a copy from"), "{said}");
        }
        if before > 60_000 {
            break;
        }
    }
    assert!(kills >= 1, "it was too quick to be killed");
    let (_, said) = site.run(&copy);
    assert!(
        said.contains("both hold the same") && said.contains("30001") || said.contains("copy into an empty database"),
        "{said}"
    );
    let there = opened(&database.url());
    assert_eq!(seen(&there).await, expected);
    // It counts on from where the file stood.
    there.record(&[judged("new", "new", 99_999, Verdict::Hold)]).await.unwrap();
    from.record(&[judged("new", "new", 99_999, Verdict::Hold)]).await.unwrap();
    assert_eq!(seen(&there).await, seen(&from).await);
    let (code, said) = site.run(&copy);
    assert!(code == 2 && said.contains("copy into an empty database"), "{said}");
}

#[tokio::test]
async fn what_waits_in_the_files_queue_is_not_left_behind_in_silence() {
    let server = Server::shared().await;
    let database = server.database().await;
    let site = Site::new(None);
    site.done(&["process", "examples/mentoring.csv", "--as-at", AS_AT]);
    let file = File::open(&site.file()).await.unwrap();
    let mut tx = file.write().await.unwrap();
    sqlx::query("UPDATE queue SET state = CASE sequence % 2 WHEN 0 THEN 'waiting' ELSE 'parked' END WHERE rowid IN (SELECT rowid FROM queue LIMIT 4)")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let (path, url) = (site.file(), database.url());
    let copy = ["copy-store", "--from", path.to_str().unwrap(), "--to", &url];
    let (code, said) = site.run(&copy);
    assert!(
        code == 2 && said.contains("comments wait in the file's queue") && said.contains("were given up on"),
        "{said}"
    );
    let said = site.done(&[&copy[..], &["--leave-queue"]].concat());
    assert!(said.contains("WARNING") && said.contains("both hold the same"), "{said}");
}

#[tokio::test]
async fn a_dump_that_is_restored_gives_the_same_report() {
    let server = Server::shared().await;
    let (first, second) = (server.database().await, server.database().await);
    let mut site = Site::new(Some(first.url()));
    site.done(&["process", "examples/mentoring.csv", "--as-at", AS_AT]);
    let before = site.report();
    let dump = site.folder.path().join("moothall.dump");
    assert!(first.program("pg_dump").args(["--format=custom", "--file"]).arg(&dump).status().unwrap().success());
    let mut restore = second.program("pg_restore");
    assert!(restore.args(["--exit-on-error", "--no-owner"]).arg(&dump).status().unwrap().success());
    site.url = Some(second.url());
    assert_eq!(site.report(), before);
    assert_eq!(seen(&opened(&second.url())).await, seen(&opened(&first.url())).await);
    // And it is worked on as before.
    let said = site.done(&["process", "examples/mentoring.csv", "--as-at", AS_AT]);
    assert!(said.contains("Nothing new"), "{said}");
}

#[tokio::test]
async fn the_file_and_the_server_give_the_same_report() {
    let server = Server::shared().await;
    let database = server.database().await;
    let (file, there) = (Site::new(None), Site::new(Some(database.url())));
    for site in [&file, &there] {
        site.done(&["process", "examples/mentoring.csv", "--as-at", AS_AT]);
    }
    assert_eq!(file.report(), there.report());
}

#[tokio::test]
async fn a_backup_of_the_file_that_is_put_back_gives_the_same_report() {
    let site = Site::new(None);
    site.done(&["process", "examples/mentoring.csv", "--as-at", AS_AT]);
    let before = site.report();
    let backup = site.folder.path().join("backup.db");
    let arguments = ["backup", "--to", backup.to_str().unwrap()];
    // While another process has the file open and writes into it.
    let file = File::open(&site.file()).await.unwrap();
    let store = SqliteStore::new(file.clone(), Clock::system());
    store.ping().await.unwrap();
    site.done(&arguments);
    let (code, said) = site.run(&arguments);
    assert!(code == 2 && said.contains("is there already"), "{said}");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&backup).unwrap().permissions()) & 0o777, 0o600);
    let late = FailedRow {
        consultation: mentoring(),
        source: "test".to_owned(),
        id: None,
        row: 1,
        reason: "blank".to_owned(),
        detail: "came after the backup".to_owned(),
        raw: String::new(),
        fingerprint: "late".to_owned(),
    };
    store.fail(&[late]).await.unwrap();
    assert_ne!(site.report(), before);
    file.close().await;
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{ending}", site.file().display()));
    }
    fs::copy(&backup, site.file()).unwrap();
    assert_eq!(site.report(), before);
}

#[tokio::test]
async fn a_service_waits_for_its_store_and_goes_on_when_it_comes_back() {
    let server = Server::start().await;
    let database = server.database().await;
    let site = Site::new(Some(database.url()));
    server.kill().await;
    let service = Running::start(&site);
    service.answers(503, "opening the store").await;
    assert_eq!(get(service.port, "/healthz").unwrap().0, 200);
    assert_eq!(post(service.port, "1", "My mentor never gave up on me."), 202);
    server.start_again().await;
    service.answers(200, "").await;
    let stored = async || site.store().funnel(&mentoring()).await.map_or(0, |funnel| funnel.received());
    until("the first is judged", async || stored().await == 1, || service.log()).await;

    server.kill().await;
    for n in 2..=9 {
        assert_eq!(post(service.port, &n.to_string(), &format!("Too few places in our town, again {n}.")), 202);
    }
    service.answers(503, "store").await;
    server.start_again().await;
    until("all are judged", async || stored().await == 9, || service.log()).await;
    service.answers(200, "").await;
    let queue = site.done(&["queue", "status", "--json"]);
    let queue: serde_json::Value = serde_json::from_str(queue.lines().last().unwrap()).unwrap();
    assert_eq!((&queue["waiting"], &queue["in_flight"], &queue["parked"]), (&0.into(), &0.into(), &0.into()));
}

#[tokio::test]
async fn a_service_that_is_turned_away_says_why_and_ends() {
    let server = Server::shared().await;
    let database = server.database().await;
    database.run("CREATE ROLE turned_away LOGIN PASSWORD 'right'").await;
    let site = Site::new(Some(database.url_for("turned_away", "s3cret")));
    let (code, said) = site.run(&["run"]);
    assert!(code == 1 && said.contains("turns us away") && said.contains("28P01"), "{said}");
    assert!(said.contains("turned_away@127.0.0.1") && !said.contains("s3cret"), "{said}");
    let (code, said) = site.run(&["doctor"]);
    assert!(code == 1 && said.contains("FAIL  store") && said.contains("check user, password"), "{said}");
}

/// Writes one of the server's own files, by the server.
async fn write(server: &Server, name: &str, text: &str) {
    let program = format!("umask 077 && cat > {name}");
    let lines = format!("SELECT unnest(string_to_array('{}', E'\\n'))", text.trim_end());
    server.run("postgres", &format!("COPY ({lines}) TO PROGRAM '{program}'")).await;
}

#[tokio::test]
async fn the_server_and_its_client_show_who_they_are() {
    let server = Server::start().await;
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let (certificate, key) = ours.sign(&["127.0.0.1"], false);
    write(&server, "server.crt", &certificate).await;
    write(&server, "server.key", &key).await;
    write(&server, "clients.crt", &ours.pem).await;
    let users = "local all app trust\nhostssl all council 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n\
                 host all app 127.0.0.1/32 trust";
    write(&server, "pg_hba.conf", users).await;
    server.run("postgres", "CREATE ROLE council LOGIN PASSWORD 'right'").await;
    for setting in ["ssl_ca_file = 'clients.crt'", "ssl = on"] {
        server.run("postgres", &format!("ALTER SYSTEM SET {setting}")).await;
    }
    server.run("postgres", "SELECT pg_reload_conf()").await;
    let database = server.database().await;
    database.run("GRANT ALL ON SCHEMA public TO council").await;

    let (client, client_key) = ours.sign(&["council"], false);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (ca, stranger) = (file("ca.pem", &ours.pem), file("stranger.pem", &other.pem));
    let (client, client_key) = (file("client.pem", &client), file("client.key", &client_key));
    let address = |host: &str, mode: &str| {
        format!("postgres://council:right@{host}:{}/{}?sslmode={mode}", server.port(), database.name)
    };
    let run = |url: String, ca: &Path, with_client: bool, arguments: &[&str]| {
        let site = Site::new(Some(url));
        let mut command = site.command(arguments);
        command.env("MOOTHALL_STORE_CA_FILE", ca);
        if with_client {
            command.env("MOOTHALL_STORE_CLIENT_CERT_FILE", &client).env("MOOTHALL_STORE_CLIENT_KEY_FILE", &client_key);
        }
        let (code, said) = ended(&mut command);
        assert!(!said.contains("right@"), "{said}");
        (code, said)
    };
    // The reload is not waited for by those who ask for it.
    let ready = async || run(address("127.0.0.1", "verify-full"), &ca, true, &["migrate"]).0 == 0;
    until("both are shown and believed", ready, || run(address("127.0.0.1", "verify-full"), &ca, true, &["migrate"]).1)
        .await;
    let (_, said) = run(address("127.0.0.1", "verify-full"), &ca, true, &["doctor"]);
    assert!(said.contains("can be written"), "{said}");

    for (what, url, ca, with_client, wanted) in [
        ("another authority", address("127.0.0.1", "verify-full"), &stranger, true, "UnknownIssuer"),
        ("another name", address("localhost", "verify-full"), &ca, true, "not valid for name"),
        ("no client", address("127.0.0.1", "verify-full"), &ca, false, "certificate"),
        ("in the clear", address("127.0.0.1", "disable"), &ca, true, "no encryption"),
    ] {
        let started = Instant::now();
        let (code, said) = run(url, ca, with_client, &["doctor"]);
        assert!(code == 1 && said.contains("FAIL  store") && said.contains(wanted), "{what}: {said}");
        assert!(said.contains("check user, password, database and certificate"), "{what}: {said}");
        assert!(started.elapsed() < Duration::from_secs(8), "{what} was waited for: {said}");
    }
}
