//! How the server is found and reached, what of its errors passes by itself, and how long anything may take.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{Connection, Postgres, Transaction};

use crate::pipeline::ports::StoreError;
use crate::wire::address::has_password;

/// What an address may say after its `?`.
const PARAMETERS: [&str; 13] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];

/// Where the store is. Prints without its password.
#[derive(Clone)]
pub struct StoreUrl {
    options: PgConnectOptions,
    has_password: bool,
}

impl StoreUrl {
    /// Whether a text means a server rather than a file.
    pub fn is_meant(text: &str) -> bool {
        let text = text.trim();
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Reads `postgres://user:password@host:port/database`, with `?sslmode=verify-full` and the
    /// like after it. What it does not say is as for `psql`: `PGUSER`, `PGPASSWORD`, `~/.pgpass` and so on.
    ///
    /// # Errors
    /// A sentence that says what is wrong and quotes nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let form = "write it as postgres://user:password@host:5432/database (percent-encode `@`, `/` and `:` in a \
                    password)";
        if !Self::is_meant(text) {
            return Err(format!("is no address of a PostgreSQL server: {form}"));
        }
        let in_address = has_password(text).map_err(|why| format!("{why}; {form}"))?;
        let parameters = text.split_once('?').map_or("", |(_, parameters)| parameters);
        // The driver would only log what it does not know, with its value.
        for key in parameters.split('&').filter(|part| !part.is_empty()).map(|part| part.split('=').next()) {
            let key = key.unwrap_or_default();
            if !PARAMETERS.contains(&key) && !key.starts_with("options[") {
                return Err(format!("has a parameter `{key}` that is not known: {}", PARAMETERS.join(", ")));
            }
        }
        let options = PgConnectOptions::from_str(text).map_err(|_| format!("cannot be read: {form}"))?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(format!("names no database: {form}"));
        }
        let has_password = in_address || parameters.split('&').any(|part| part.starts_with("password="));
        Ok(Self { options, has_password })
    }

    /// Whether a password stands in it.
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    /// Whether it is on this machine: a socket or a loopback address.
    pub fn is_local(&self) -> bool {
        let host = self.options.get_host();
        self.socket().is_some()
            || host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether the server must show who it is, by a certificate for its name.
    pub fn is_verified(&self) -> bool {
        matches!(self.options.get_ssl_mode(), PgSslMode::VerifyFull)
    }

    /// The same server, trusting this authority, and with this client's certificate and key (PEM files).
    #[must_use]
    pub fn with_tls(mut self, ca: Option<PathBuf>, client: Option<(PathBuf, PathBuf)>) -> Self {
        if let Some(ca) = ca {
            self.options = self.options.ssl_root_cert(ca);
        }
        if let Some((certificate, key)) = client {
            self.options = self.options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        self
    }

    fn socket(&self) -> Option<String> {
        let host = self.options.get_host();
        let socket = self.options.get_socket().map(|path| path.display().to_string());
        socket.or_else(|| host.starts_with('/').then(|| host.to_owned()))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let host = self.socket().unwrap_or_else(|| options.get_host().to_owned());
        let (user, database) = (options.get_username(), options.get_database().unwrap_or_default());
        if host.starts_with('/') {
            write!(f, "postgres://{user}@/{database}?host={host}&port={}", options.get_port())
        } else {
            write!(f, "postgres://{user}@{host}:{}/{database}", options.get_port())
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where it is and what it may take.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Where.
    pub url: StoreUrl,
    /// Connections that this process holds at most.
    pub connections: u32,
    /// How long getting a connection, or waiting for another process's turn, may take.
    pub timeout: Duration,
    /// How long any one step may take, waiting included.
    pub step: Duration,
}

impl PostgresConfig {
    /// The server with limits that suit most.
    pub fn new(url: StoreUrl) -> Self {
        Self { url, connections: 8, timeout: Duration::from_secs(10), step: Duration::from_mins(1) }
    }
}

/// The connections of one process.
#[derive(Clone, Debug)]
pub struct PostgresDatabase {
    config: PostgresConfig,
    pool: PgPool,
}

impl PostgresDatabase {
    /// Connects when it is first needed, and again whenever it must.
    pub fn new(config: PostgresConfig) -> Self {
        let options = config.url.options.clone().application_name("moothall").options([
            // What our own limit gives up on, the server gives up on too, and lets go of its locks.
            ("statement_timeout", config.step.as_millis().to_string()),
            ("lock_timeout", config.timeout.as_millis().to_string()),
            ("idle_in_transaction_session_timeout", config.step.as_millis().to_string()),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(config.connections)
            .acquire_timeout(config.timeout)
            .connect_lazy_with(options);
        Self { config, pool }
    }

    /// Where it is and what it may take.
    pub fn config(&self) -> &PostgresConfig {
        &self.config
    }

    /// Closes the connections; further calls fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A connection. It goes back only from work that ended well ([`Lease::well`]).
    pub(super) async fn lease(&self) -> Result<Lease, StoreError> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(Lease { connection, well: false }),
            Err(sqlx::Error::PoolTimedOut) => Err(StoreError::Busy(format!(
                "{} gives no connection within {} s: it is down, cannot be reached, or all {} connections are in use",
                self.config.url,
                self.config.timeout.as_secs_f32(),
                self.config.connections
            ))),
            Err(error) => Err(match store_error(error) {
                StoreError::Busy(why) => StoreError::Busy(format!("{}: {why}", self.config.url)),
                StoreError::Refused(why) => StoreError::Refused(format!("{}: {why}", self.config.url)),
                other => other,
            }),
        }
    }

    /// A connection outside the pool and without its limits, for what may take long.
    pub(in crate::store) async fn apart(&self) -> Result<PgConnection, StoreError> {
        let connecting = PgConnection::connect_with(&self.config.url.options);
        match tokio::time::timeout(self.config.timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| match store_error(error) {
                StoreError::Busy(why) => StoreError::Busy(format!("{}: {why}", self.config.url)),
                StoreError::Refused(why) => StoreError::Refused(format!("{}: {why}", self.config.url)),
                other => other,
            }),
            Err(_) => Err(StoreError::Busy(format!(
                "{} does not answer within {} s",
                self.config.url,
                self.config.timeout.as_secs_f32()
            ))),
        }
    }

    /// The same as a pool of one, for what wants that.
    pub(super) fn apart_pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.config.timeout)
            .connect_lazy_with(self.config.url.options.clone())
    }

    /// Bounds a step: a server that hangs, or a host that is gone, answers nothing at all.
    pub(super) async fn in_time<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        // A little more than the server has, whose own words say more.
        let limit = self.config.timeout + self.config.step + Duration::from_secs(1);
        match tokio::time::timeout(limit, step).await {
            Ok(ended) => ended,
            Err(_) => {
                Err(StoreError::Busy(format!("{} did not answer within {} s", self.config.url, limit.as_secs_f32())))
            }
        }
    }
}

/// A connection on loan. Where work failed or was cut off it is closed: an answer may still
/// be on its way, and another's work must not read it.
pub struct Lease {
    connection: PoolConnection<Postgres>,
    well: bool,
}

impl Lease {
    /// Begins a transaction.
    pub async fn begin(&mut self) -> Result<Transaction<'_, Postgres>, StoreError> {
        self.connection.begin().await.map_err(store_error)
    }

    /// Begins a transaction that reads one moment of the store and writes nothing.
    pub async fn snapshot(&mut self) -> Result<Transaction<'_, Postgres>, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.connection.begin_with(begin).await.map_err(store_error)
    }

    /// Says that the work ended well.
    pub fn well(mut self) {
        self.well = true;
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.well {
            self.connection.close_on_drop();
        }
    }
}

/// The store's word for a database error.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub fn store_error(error: sqlx::Error) -> StoreError {
    match &error {
        // A certificate that one side does not believe does not get better by waiting.
        sqlx::Error::Io(io) if matches!(io.get_ref(), Some(inner) if inner.is::<rustls::Error>()) => {
            StoreError::Refused(error.to_string())
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => StoreError::Busy(error.to_string()),
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => StoreError::Refused(error.to_string()),
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            by_code(&code, format!("{} ({code})", database.message()))
        }
        _ => StoreError::Failed(error.to_string()),
    }
}

/// By SQLSTATE, as appendix A of PostgreSQL's manual lists them.
fn by_code(code: &str, said: String) -> StoreError {
    match code {
        // Serialization failure, deadlock, a lock not got in time, a statement or transaction that took too long,
        // a standby that takes no writes.
        "40001" | "40P01" | "55P03" | "55006" | "57014" | "25006" | "25P03"
        // The server stops, crashed, or starts.
        | "57P01" | "57P02" | "57P03" | "57P05" => StoreError::Busy(said),
        // A connection broke; disk, memory or connections are used up; the system under it failed.
        _ if ["08", "53", "58"].contains(&code.get(..2).unwrap_or_default()) => StoreError::Busy(said),
        // Who we are, where we go, what we may do, and a schema that is not there: no comment's fault.
        "3D000" | "3F000" | "42501" | "42P01" | "42703" | "57P04" => StoreError::Refused(said),
        _ if code.starts_with("28") => StoreError::Refused(said),
        _ => StoreError::Failed(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_without_its_password() {
        for (text, shown, password) in [
            ("postgres://app:s3cret@db.example:5433/moothall", "postgres://app@db.example:5433/moothall", true),
            ("postgresql://app@127.0.0.1/m?password=s3cret", "postgres://app@127.0.0.1:5432/m", true),
            ("postgres://app@127.0.0.1/m?sslmode=verify-full", "postgres://app@127.0.0.1:5432/m", false),
            ("postgres://app@%2Frun%2Fpg/m", "postgres://app@/m?host=/run/pg&port=5432", false),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.has_password()), (shown, password));
            assert!(!format!("{url:?}{:?}", PostgresConfig::new(url.clone())).contains("s3cret"));
        }
    }

    #[test]
    fn a_wrong_address_is_refused_and_not_quoted() {
        for text in [
            "postgres://a/:s3cret@h/d",
            "postgres://a:?s3cret@h/d",
            "mysql://a:s3cret@h/d",
            "postgres://a:s3cret@h:port/d",
            "postgres://a:s3cret@h/d?sslmod=s3cret",
            "",
        ] {
            let why = StoreUrl::parse(text).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
        let why = StoreUrl::parse("postgres://a@h/d?sslmod=require").unwrap_err();
        assert!(why.contains("`sslmod`") && why.contains("sslmode"), "{why}");
    }

    #[test]
    fn what_is_near_and_what_is_verified_is_told() {
        let url = |text: &str| StoreUrl::parse(text).unwrap();
        assert!(url("postgres://a@localhost/d").is_local() && url("postgres://a@%2Frun/d").is_local());
        assert!(!url("postgres://a@db.example/d").is_local() && !url("postgres://a@db.example/d").is_verified());
        assert!(url("postgres://a@db.example/d?sslmode=verify-full").is_verified());
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_needs_a_person() {
        let kind = |code| match by_code(code, String::new()) {
            StoreError::Busy(_) => "busy",
            StoreError::Refused(_) => "refused",
            StoreError::Failed(_) => "failed",
            other => panic!("{other}"),
        };
        for code in ["40001", "40P01", "53100", "53300", "57P01", "57P03", "08006", "25006", "57014", "58030"] {
            assert_eq!(kind(code), "busy", "{code}");
        }
        for code in ["28P01", "28000", "3D000", "42501", "42P01"] {
            assert_eq!(kind(code), "refused", "{code}");
        }
        for code in ["23505", "22021", "54000", ""] {
            assert_eq!(kind(code), "failed", "{code}");
        }
    }
}
