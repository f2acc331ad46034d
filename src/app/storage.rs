//! Queue and store: in one file, or each where an operator wants it.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::{intake_limits, random_name, read_text};
use crate::broker::embedded::{EmbeddedLimits, EmbeddedQueue};
use crate::domain::comment::ConsultationId;
use crate::export::RESTRICTED;
use crate::pipeline::clock::Clock;
use crate::pipeline::ports::{Judge, Queue, Store, StoreError};
use crate::pipeline::pulse::Pulse;
use crate::pipeline::worker::{WorkerDeps, WorkerSettings};
use crate::settings::Settings;
use crate::sqlite::Database;
use crate::store::postgres::{PostgresConfig, PostgresDatabase, PostgresStore, StoreUrl};
use crate::store::sqlite::SqliteStore;

/// Where the store is.
#[derive(Clone, Debug)]
pub enum StorePlace {
    /// In a SQLite file, with the embedded queue.
    File(PathBuf),
    /// On a PostgreSQL server.
    Server {
        /// Which one.
        config: Box<PostgresConfig>,
        /// Where the embedded queue is, for a service without a broker.
        queue: PathBuf,
    },
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server { config, .. } => config.url.fmt(f),
        }
    }
}

impl StorePlace {
    /// As the command line says (a path, or an address), else as set, else in the output folder's
    /// restricted part.
    ///
    /// # Errors
    /// An address that cannot be read, or a file named for one.
    pub fn find(given: Option<&OsStr>, settings: &Settings, out: &Path) -> anyhow::Result<Self> {
        let set = &settings.store;
        let restricted = out.join(RESTRICTED);
        let (text, from) = match given {
            Some(given) => match given.to_str().filter(|text| StoreUrl::is_meant(text)) {
                Some(url) => (url.to_owned(), "--store".to_owned()),
                None => return Ok(Self::File(given.into())),
            },
            None => match (&set.url, &set.url_file, &set.path) {
                (Some(url), ..) => (url.0.clone(), "store.url (MOOTHALL_STORE_URL)".to_owned()),
                (None, Some(path), _) => (read_text(path, "store.url_file")?, path.display().to_string()),
                (None, None, Some(path)) => return Ok(Self::File(path.clone())),
                (None, None, None) => return Ok(Self::File(restricted.join("moothall.db"))),
            },
        };
        let url = StoreUrl::parse(&text).map_err(|why| anyhow::anyhow!("{from}: {why}"))?;
        if from == "--store" && url.has_password() {
            tracing::warn!(
                "everybody on this machine can read the password in --store: set MOOTHALL_STORE_URL or store.url_file"
            );
        }
        let client = set.client_cert_file.clone().zip(set.client_key_file.clone());
        let config = PostgresConfig {
            url: url.with_tls(set.ca_file.clone(), client),
            connections: set.connections,
            timeout: Duration::from_millis(set.timeout_ms),
            step: Duration::from_millis(set.step_ms),
        };
        Ok(Self::Server { config: Box::new(config), queue: restricted.join("queue.db") })
    }

    /// The file of the embedded queue.
    pub fn queue_path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Server { queue: path, .. } => path,
        }
    }

    /// Opens the store. A server need not be there yet: see [`Storage::ready`].
    async fn open(&self, clock: &Clock) -> anyhow::Result<(Arc<dyn Store>, Option<PostgresDatabase>)> {
        match self {
            Self::File(path) => {
                let store = SqliteStore::new(open_file(path).await?, clock.clone());
                Ok((Arc::new(store), None))
            }
            Self::Server { config, .. } => {
                let server = PostgresDatabase::new((**config).clone());
                Ok((Arc::new(PostgresStore::new(server.clone(), clock.clone())), Some(server)))
            }
        }
    }
}

async fn open_file(path: &Path) -> anyhow::Result<Database> {
    Database::open(path).await.with_context(|| format!("store {}", path.display()))
}

/// Where comments wait and where judgements are kept.
#[derive(Clone)]
pub struct Storage {
    /// The durable queue.
    pub queue: Arc<dyn Queue>,
    /// Comments and judgements.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Clock,
    /// Where the store is a server.
    server: Option<PostgresDatabase>,
}

impl Storage {
    /// The embedded queue, in the store's SQLite file, or in a file of its own where the store is a
    /// server. A file is made where it is missing. `only` keeps this process to one consultation's queue.
    pub async fn embedded(
        place: &StorePlace,
        settings: &Settings,
        only: Option<&ConsultationId>,
    ) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let (database, store, server): (_, Arc<dyn Store>, _) = match place {
            StorePlace::File(path) => {
                let database = open_file(path).await?;
                (database.clone(), Arc::new(SqliteStore::new(database, clock.clone())), None)
            }
            StorePlace::Server { queue, .. } => {
                let (store, server) = place.open(&clock).await?;
                (open_file(queue).await?, store, server)
            }
        };
        let limits = EmbeddedLimits {
            lease_ms: i64::try_from(settings.lease_ms).unwrap_or(i64::MAX),
            delivery_budget: settings.max_attempts,
            most_waiting: settings.max_waiting,
        };
        let queue = EmbeddedQueue::open(database, clock.clone(), &random_name()?, limits).await?.only(only.cloned());
        Ok(Self { queue: Arc::new(queue), store, clock, server })
    }

    /// A queue of its own beside a store.
    pub async fn beside(queue: Arc<dyn Queue>, clock: Clock, place: &StorePlace) -> anyhow::Result<Self> {
        let (store, server) = place.open(&clock).await?;
        Ok(Self { queue, store, clock, server })
    }

    /// Brings up the schema of a server; a file's is up since it was opened.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while the server is away: try again.
    pub async fn ready(&self) -> Result<(), StoreError> {
        match &self.server {
            Some(server) => server.migrate().await,
            None => Ok(()),
        }
    }

    /// What a worker needs, with a fresh pulse.
    pub fn worker(&self, judge: Arc<dyn Judge>, settings: &Settings) -> WorkerDeps {
        WorkerDeps {
            queue: Arc::clone(&self.queue),
            store: Arc::clone(&self.store),
            judge,
            pulse: Pulse::default(),
            clock: self.clock.clone(),
            settings: WorkerSettings {
                batch: settings.batch,
                renew_ms: (settings.lease_ms / 3).max(1),
                limits: intake_limits(settings),
                reuse: settings.cheap_first.reuses(),
                ..WorkerSettings::default()
            },
            stored: Arc::default(),
            alone: Arc::default(),
        }
    }
}

/// A store without its queue, for commands that only look or decide.
///
/// # Errors
/// Where there is none on a server, in words that say what makes one.
pub async fn open_store(place: &StorePlace) -> anyhow::Result<Arc<dyn Store>> {
    let (store, server) = place.open(&Clock::system()).await?;
    if let Some(server) = server {
        if server.found_version().await? == 0 {
            anyhow::bail!("no store at {} yet: `moothall migrate` makes one there", server.config().url);
        }
        server.migrate().await?;
    }
    Ok(store)
}
