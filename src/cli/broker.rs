//! What the commands share that may work with a broker: which broker, and what its queues say to a person.

use std::sync::Arc;

use clap::Args;

use super::{Failure, service};
use crate::app;
use crate::broker::rabbitmq::{BrokerError, Inspection, Purpose, QueueState, RabbitConfig, inspect};
use crate::domain::comment::ConsultationId;
use crate::settings::Settings;

/// Which broker.
#[derive(Clone, Debug, Args)]
pub struct BrokerArgs {
    /// Use RabbitMQ instead of the queue in the store's file [without URL: as `[rabbitmq]` in
    /// the settings says]
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    pub amqp: Option<String>,
}

impl BrokerArgs {
    /// The broker that the command line or the settings name, if any.
    pub fn config(
        &self,
        settings: &Settings,
        consultation: &ConsultationId,
    ) -> Result<Option<Arc<RabbitConfig>>, Failure> {
        let amqp = self.amqp.as_deref();
        if !app::names_a_broker(settings, amqp) {
            return Ok(None);
        }
        let defaults = service::defaults(settings, consultation, "amqp")?;
        Ok(Some(Arc::new(app::rabbit_config(settings, amqp, defaults).map_err(Failure::Usage)?)))
    }
}

/// Runs `work` and ends with it: a host name that the system still looks up is not waited for.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    ended
}

/// Looks at the queues. That they are not there yet is no fault of the broker's.
pub async fn look(config: &RabbitConfig) -> Result<Inspection, Failure> {
    inspect(config).await.map_err(|error| match &error {
        BrokerError::Missing(_) => Failure::Failed(anyhow::anyhow!(
            "{error}\n  what to do: the first `moothall worker` or `moothall doctor` makes what is missing; \
             else check vhost and rabbitmq.prefix"
        )),
        _ => service::refused(&error),
    })
}

/// Something about the queues that a person should know, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// What it is about, in a word.
    pub about: &'static str,
    /// What is seen.
    pub seen: String,
    /// What to do about it.
    pub advice: &'static str,
}

/// What the broker's queues say.
pub fn hints(inspection: &Inspection) -> Vec<Hint> {
    inspection.queues.iter().filter_map(hint).collect()
}

fn hint(queue: &QueueState) -> Option<Hint> {
    let QueueState { name, ready, .. } = queue;
    let unread = queue.consumers == 0;
    let (about, seen, advice) = match queue.purpose {
        _ if *ready == 0 => return None,
        Purpose::Lane(_) if unread => (
            "workers",
            format!("nobody works: {} in {name} and no worker is connected", waiting(*ready, "comment")),
            "start `moothall worker` or `moothall run` with --amqp; its log says why if it does not stay",
        ),
        Purpose::Alerts if unread => (
            "alerts",
            format!("{} in {name} and nobody reads them", waiting(*ready, "safeguarding alert")),
            "connect whoever must hear of them; until then `moothall safeguarding list` beside the store shows them",
        ),
        Purpose::Results if unread => (
            "results",
            format!("{} in {name} and nobody reads them", waiting(*ready, "result")),
            "connect their reader, or give the queue a message-ttl by policy if nobody wants them",
        ),
        Purpose::Parked => (
            "parked",
            format!("{ready} given up on, kept in {name}"),
            "`moothall queue parked` tells why, `moothall queue replay` lets them try again",
        ),
        Purpose::Unrouted => (
            "unrouted",
            format!("{ready} led nowhere, kept in {name}"),
            "their routing key is bound to no queue: senders use comment.created.*, comment.edited.*, comment.deleted.* \
             or comment.urgent.*; or somebody has removed a binding, which a worker's start makes again",
        ),
        _ => return None,
    };
    Some(Hint { about, seen, advice })
}

fn waiting(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what} waits") } else { format!("{count} {what}s wait") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::rabbitmq::Lane;

    fn hints_of(purpose: Purpose, ready: u64, consumers: u64) -> Vec<Hint> {
        hints(&Inspection { queues: vec![QueueState { name: "q".to_owned(), purpose, ready, consumers }] })
    }

    #[test]
    fn a_queue_that_is_empty_or_read_says_nothing() {
        assert!(hints_of(Purpose::Lane(Lane::Work), 0, 0).is_empty());
        assert!(hints_of(Purpose::Lane(Lane::Urgent), 7, 1).is_empty());
        assert!(hints_of(Purpose::Alerts, 7, 1).is_empty());
        assert!(hints_of(Purpose::Retry(Lane::Work), 7, 0).is_empty());
    }

    #[test]
    fn work_without_workers_and_alerts_without_readers_are_said() {
        assert_eq!(
            hints_of(Purpose::Lane(Lane::Work), 1, 0)[0].seen,
            "nobody works: 1 comment waits in q and no worker is connected"
        );
        assert_eq!(hints_of(Purpose::Alerts, 2, 0)[0].seen, "2 safeguarding alerts wait in q and nobody reads them");
    }

    #[test]
    fn what_is_parked_or_unrouted_is_said_whoever_reads_it() {
        assert_eq!(hints_of(Purpose::Parked, 3, 1)[0].about, "parked");
        assert_eq!(hints_of(Purpose::Unrouted, 3, 1)[0].about, "unrouted");
    }
}
