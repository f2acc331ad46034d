//! The store: is it there, can it be written, what waits in it.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::{Checks, shown};
use crate::app::{Storage, StorePlace, open_store};
use crate::cli::output::quoted;
use crate::cli::queue::age;
use crate::cli::webhook;
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::Rulebook;
use crate::pipeline::ports::{Depth, StoreError, WebhookState};
use crate::settings::Settings;
use crate::sqlite;
use crate::store::postgres::{PostgresConfig, PostgresDatabase};

/// An outbox whose oldest message waits longer is not being emptied.
const OUTBOX_LATE_MS: i64 = 5 * 60 * 1_000;

/// A message that is younger than now by more was written under another time.
const CLOCK_AHEAD_MS: i64 = 60 * 1_000;

/// Everything that is asked of a store.
pub struct StoreCheck<'a> {
    pub store: &'a StorePlace,
    pub out: &'a Path,
    pub settings: &'a Settings,
    /// The most that one question may take.
    pub limit: Duration,
}

impl StoreCheck<'_> {
    /// Looks at it.
    pub async fn look(
        &self,
        consultation: &ConsultationId,
        rulebook: Option<&Rulebook>,
        broker: bool,
        checks: &mut Checks,
    ) {
        if let StorePlace::File(path) = self.store
            && !path.exists()
        {
            let advice = "the first `moothall process`, `run` or `worker` makes it; else name its folder with --out";
            checks.warn("store", format!("none yet at {}", shown(path)), advice);
            return;
        }
        let server = matches!(self.store, StorePlace::Server { .. });
        if let Err(why) = Box::pin(self.questions(consultation, rulebook, broker, checks)).await {
            let advice = match why {
                StoreError::Busy(_) if server => {
                    "look whether the server runs, its disk has room and a firewall is in the way; work goes on by \
                     itself when it answers"
                }
                StoreError::Busy(ref why) if why.starts_with(sqlite::DISK_IS_FULL) => {
                    "free space there; everything goes on by itself, and what was not stored comes again"
                }
                StoreError::Busy(_) => "another process holds it: look for one that hangs (lsof), and end it",
                StoreError::Refused(_) => {
                    "check user, password, database and certificate in the address, and this user's rights \
                     (docs/postgresql.md)"
                }
                StoreError::NewerSchema { .. } => "use the newer moothall",
                _ if server => "look into the server's log; restore a backup if it is damaged",
                _ => "check that it is Moothall's file and can be written, else restore a backup",
            };
            checks.fail("store", format!("{}: {why}", self.store), advice);
        }
    }

    /// What only a server is asked. `false` where it holds no store yet.
    async fn server(&self, config: &PostgresConfig, checks: &mut Checks) -> Result<bool, StoreError> {
        let database = PostgresDatabase::new(config.clone());
        let facts = Box::pin(self.in_time(database.facts())).await?;
        database.close().await;
        if facts.schema == 0 {
            let found = format!("{}: PostgreSQL {} answers, no store there yet", config.url, facts.version);
            checks.warn("store", found, "`moothall migrate` makes it, and so does the first worker whose user may");
        }
        if !facts.durable {
            checks.fail(
                "store safety",
                "the server answers before what was written is safe (fsync or synchronous_commit is off)",
                "switch both on: a loss of power loses comments that were acknowledged",
            );
        }
        if !config.url.is_local() && !facts.encrypted {
            checks.warn(
                "store TLS",
                "comments and the password travel to the server in the clear",
                "add ?sslmode=verify-full to the address (and store.ca_file for an authority of your own)",
            );
        } else if !config.url.is_local() && !config.url.is_verified() {
            checks.warn(
                "store TLS",
                "the connection is encrypted, and the server need not show who it is",
                "add ?sslmode=verify-full to the address",
            );
        }
        if facts.superuser {
            checks.warn(
                "store user",
                "it may do everything on the whole server",
                "make a user of Moothall's own with no more rights than it needs (docs/postgresql.md)",
            );
        }
        let (used, most) = facts.connections;
        if used * 10 > most * 9 {
            checks.warn(
                "store limit",
                format!("{used} of {most} connections are in use"),
                "raise max_connections, or lower store.connections of each worker",
            );
        }
        Ok(facts.schema > 0)
    }

    async fn questions(
        &self,
        consultation: &ConsultationId,
        rulebook: Option<&Rulebook>,
        broker: bool,
        checks: &mut Checks,
    ) -> Result<(), StoreError> {
        let schema = match self.store {
            StorePlace::File(_) => sqlite::schema_version(),
            StorePlace::Server { config, .. } => {
                if !Box::pin(self.server(config, checks)).await? {
                    return Ok(());
                }
                crate::store::postgres::schema_version()
            }
        };
        // Beside a server the queue is a broker's, unless a service without one has made a file.
        let with_queue = !broker || self.store.queue_path().is_file();
        let opening = async {
            let opened = if with_queue {
                let storage = Storage::embedded(self.store, self.settings, None).await;
                storage.map(|storage| (storage.store, Some(storage.queue)))
            } else {
                open_store(self.store).await.map(|store| (store, None))
            };
            opened.map_err(|error| match error.downcast::<StoreError>() {
                Ok(error) => error,
                Err(error) => StoreError::Failed(format!("{error:#}")),
            })
        };
        let (store, queue) = Box::pin(self.in_time(opening)).await?;
        self.in_time(store.ping()).await?;
        checks.ok("store", format!("{}, can be written, schema {schema}", self.store));

        if let Some(rulebook) = rulebook {
            match self.in_time(store.active_version(consultation)).await? {
                None => checks.ok("pipeline", format!("nothing is judged yet for `{consultation}`")),
                Some(active) if active == rulebook.version => {
                    checks.ok("pipeline", format!("{active}, as the store's judgements were made"));
                }
                Some(active) => checks.fail(
                    "pipeline",
                    format!("the store's active rulebook is {active}, these files and models make {}", rulebook.version),
                    "`moothall rulebook adopt` (or --adopt-rulebook) to judge by these, `moothall rulebook rollback` to go back",
                ),
            }
        }

        let backlog = self.in_time(store.backlog(None)).await?;
        let now = Timestamp::now().as_millisecond();
        if let Some(ahead_ms) = backlog.oldest_ms.map(|ms| ms - now).filter(|ahead_ms| *ahead_ms > CLOCK_AHEAD_MS) {
            checks.warn(
                "clock",
                format!("the store holds messages from {} s in the future: the clock was set back", ahead_ms / 1_000),
                "set this machine's clock right (timedatectl); what waits for its time waits longer by as much",
            );
        }
        let waits = backlog.oldest_ms.map(|ms| format!(", the oldest for {}", age(ms))).unwrap_or_default();
        let found = format!("{} results and alerts not sent yet{waits}", backlog.unsent);
        match backlog.oldest_ms {
            None => checks.ok("outbox", "everything is sent"),
            // Without a broker they are kept for the day that one is named.
            Some(_) if !broker => checks.ok("outbox", format!("{} results and alerts kept for a broker", backlog.unsent)),
            Some(ms) if now - ms > OUTBOX_LATE_MS => checks.warn(
                "outbox",
                found,
                "a running `moothall worker` or `run` with --amqp sends them; if one runs, its log says what is in the way",
            ),
            Some(_) => checks.ok("outbox", found),
        }

        let queue_error = |error: crate::pipeline::ports::QueueError| StoreError::Failed(error.to_string());
        let depth = match queue {
            Some(queue) => self.in_time(async { queue.depth(None).await.map_err(queue_error) }).await?,
            None => Depth::default(),
        };
        if broker && depth.waiting > 0 {
            checks.warn(
                "queue",
                format!(
                    "{} comments wait in the store's own queue, which a broker's workers do not look at",
                    depth.waiting
                ),
                "work them off with `moothall process` or with `moothall run` without a broker",
            );
        } else if depth.parked > 0 {
            checks.warn(
                "queue",
                format!("{} given up on in the store's own queue", depth.parked),
                "`moothall queue parked` tells why, `moothall queue replay` lets them try again",
            );
        } else if !broker {
            checks.ok("queue", format!("{} waiting, {} in flight", depth.waiting, depth.in_flight));
        }

        let disclosures = self.in_time(store.disclosures(Some(consultation))).await?;
        let unread = disclosures.iter().filter(|disclosure| disclosure.acknowledged.is_none()).count();
        if unread > 0 {
            checks.warn(
                "disclosures",
                format!("{unread} possible disclosures of harm that nobody has acknowledged"),
                format!("moothall safeguarding --out {} list", quoted(self.out)),
            );
        } else {
            checks.ok("disclosures", "none waits for a person");
        }
        let webhooks = self.in_time(store.webhook_states()).await?;
        self.check_webhooks(&webhooks, checks);
        Ok(())
    }

    /// Webhooks of which a person should know.
    fn check_webhooks(&self, states: &[WebhookState], checks: &mut Checks) {
        for state in states {
            let WebhookState { target, kind, waiting, parked, .. } = state;
            if let Some(advice) = webhook::advice(state, webhook::is_set(self.settings, target)) {
                checks.warn("webhook", format!("{target} ({kind}): {waiting} waiting, {parked} given up on"), advice);
            }
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.limit, work).await {
            Ok(ended) => ended,
            Err(_) => Err(StoreError::Busy(format!("no answer within {} s", self.limit.as_secs_f32()))),
        }
    }
}
