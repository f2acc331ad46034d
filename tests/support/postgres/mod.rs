//! A private PostgreSQL server for tests, on loopback and a unix socket only.
//!
//! Each test binary takes it in with `#[path = "support/postgres/mod.rs"] mod postgres;`, and `support/control.rs` beside it.
//! One server serves all tests of a binary ([`Server::shared`]), because making one takes
//! seconds; each test has a [`Database`] of its own. A test that kills, stops or freezes
//! the server starts one for itself ([`Server::start`]).
//!
//! `server.sh` beside this file holds the processes and ends them with this one,
//! however this one ends. Nothing here is bound to a runtime: each test has its own.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::sync::OnceCell;

use crate::control::Control;

/// Where Debian keeps the servers, by version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Ports below those that Linux hands out by itself, and apart from the tests' brokers.
const FIRST_PORT: u16 = 16_000;
const PORTS: u16 = 4_000;

/// Two servers may have chosen one port at the same moment; a third collision is something else.
const STARTS: usize = 3;

/// A running server. Clones are the same server; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    control: Mutex<Control>,
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    databases: AtomicU64,
}

/// The newest server that is installed.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let found = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, path)| path.join("postgres").exists())
        .max();
    match found {
        Some((version, path)) if version >= 15 => path,
        _ => panic!(
            "PostgreSQL is missing: there is no {VERSIONS}/15/bin/postgres. `./test it` installs it, or: \
             apt-get install postgresql-15"
        ),
    }
}

fn free_port() -> u16 {
    for _ in 0..PORTS {
        let offset = RandomState::new().hash_one(std::process::id()) % u64::from(PORTS);
        let port = FIRST_PORT + u16::try_from(offset).unwrap();
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST_PORT}");
}

impl Server {
    /// The server that all tests of this binary share. Do not kill, stop or freeze it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Server> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Makes and starts a server of one's own, which takes seconds.
    pub async fn start() -> Self {
        tokio::task::spawn_blocking(Self::boot).await.unwrap()
    }

    fn boot() -> Self {
        let binaries = binaries();
        let mut wrong = Vec::new();
        for _ in 0..STARTS {
            let port = free_port();
            let folder = std::env::temp_dir().join(format!("moothall-postgres-{}-{port}", std::process::id()));
            let mut control = Control::spawn(
                "postgres/server.sh",
                &[binaries.as_os_str(), folder.as_os_str(), OsStr::new(&port.to_string())],
            );
            match control.answer("ready") {
                Ok(_) => {
                    let control = Mutex::new(control);
                    let databases = AtomicU64::default();
                    return Self { inner: Arc::new(Inner { control, binaries, folder, port, databases }) };
                }
                Err(error) => wrong.push(error),
            }
        }
        panic!("PostgreSQL did not start, {STARTS} times:\n{}", wrong.join("\n---\n"));
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// The folder with `pg_dump` and the like.
    pub fn binaries(&self) -> &Path {
        &self.inner.binaries
    }

    /// What the server keeps on disk (`data`), its socket (`run`) and its `log`; gone when the server is.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Kills all its processes at once, as a loss of power would. What it had on disk stays.
    pub async fn kill(&self) {
        self.command("kill").await;
    }

    /// Stops it in good order: every client is told and sent away.
    pub async fn shutdown(&self) {
        self.command("shutdown").await;
    }

    /// Starts it again after [`Server::kill`] or [`Server::shutdown`], with what it had on disk, on the same port.
    pub async fn start_again(&self) {
        self.command("start").await;
    }

    /// Freezes it: connections stay open and nothing answers.
    pub async fn pause(&self) {
        self.command("stop").await;
    }

    /// Lets a frozen server go on.
    pub async fn resume(&self) {
        self.command("cont").await;
    }

    /// The process ids of the server, the first one its own.
    pub async fn processes(&self) -> Vec<u32> {
        let said = self.command("pids").await;
        said[0].split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// A new, empty database, owned by the superuser `app`.
    pub async fn database(&self) -> Database {
        let name = format!("test{}", self.inner.databases.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}")).await;
        Database { name, server: self.clone() }
    }

    /// Runs statements in a database, as the superuser.
    pub async fn run(&self, database: &str, statements: &str) {
        let mut connection = self.connect(database).await;
        connection.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A connection of the superuser's.
    pub async fn connect(&self, database: &str) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port());
        PgConnection::connect_with(&options.username("app").database(database)).await.unwrap()
    }

    async fn command(&self, line: &'static str) -> Vec<String> {
        let inner = Arc::clone(&self.inner);
        let asked = tokio::task::spawn_blocking(move || {
            let said = inner.control.lock().unwrap_or_else(PoisonError::into_inner).ask(line);
            said.unwrap_or_else(|error| panic!("{line}: {error}"))
        });
        asked.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// A database: the store of one test, apart from all others.
#[derive(Clone, Debug)]
pub struct Database {
    /// What it is called, unique within its server.
    pub name: String,
    server: Server,
}

impl Database {
    /// Where it is, for the superuser, on loopback.
    pub fn url(&self) -> String {
        self.url_via(self.server.port())
    }

    /// Where it is, through a proxy on this port.
    pub fn url_via(&self, port: u16) -> String {
        format!("postgres://app@127.0.0.1:{port}/{}", self.name)
    }

    /// Where it is, for this user.
    pub fn url_for(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{}", self.server.port(), self.name)
    }

    /// Where it is, through the unix socket.
    pub fn socket_url(&self) -> String {
        let folder = self.server.folder().join("run").display().to_string().replace('/', "%2F");
        format!("postgres://app@{folder}:{}/{}", self.server.port(), self.name)
    }

    /// The server that it is on.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Runs statements in it, as the superuser.
    pub async fn run(&self, statements: &str) {
        self.server.run(&self.name, statements).await;
    }

    /// The first column of the first row that a query gives, as a number.
    pub async fn number(&self, query: &str) -> i64 {
        let mut connection = self.server.connect(&self.name).await;
        let number = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        number
    }

    /// Runs one of the server's own programs (`pg_dump`, `pg_restore`) on it.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.server.binaries().join(name));
        command.args(["-h", "127.0.0.1", "-p", &self.server.port().to_string(), "-U", "app", "-d", &self.name]);
        command
    }

    /// Has every write of comments and of the store's sign of life fail with this SQLSTATE, such as
    /// `53100` (disk full), until [`Database::writes_work`].
    pub async fn writes_fail(&self, code: &str) {
        self.run(&format!(
            "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 RAISE EXCEPTION 'made to fail by a test' USING ERRCODE = '{code}'; END $$; \
             CREATE TRIGGER fails BEFORE INSERT OR UPDATE ON comments EXECUTE FUNCTION fails(); \
             CREATE TRIGGER fails BEFORE INSERT OR UPDATE ON meta EXECUTE FUNCTION fails();"
        ))
        .await;
    }

    /// Ends [`Database::writes_fail`].
    pub async fn writes_work(&self) {
        self.run("DROP FUNCTION fails() CASCADE").await;
    }
}
