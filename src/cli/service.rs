//! What `run` and `worker` share: the line as a service, on the embedded queue or on a broker.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::broker::BrokerArgs;
use super::output::{self, Output};
use super::{Failure, encoder_threads};
use crate::app::{self, LineJudge, Storage};
use crate::broker::rabbitmq::{BrokerError, Lane, RabbitConfig, RabbitPublisher, RabbitQueue};
use crate::domain::comment::{ConsultationId, SourceName};
use crate::domain::rulebook::Rulebook;
use crate::engine::manifest::ManifestFile;
use crate::lifecycle::Lifecycle;
use crate::pipeline::clock::Clock;
use crate::pipeline::outbox::{self, RelayDeps, RelaySettings};
use crate::pipeline::ports::Publisher;
use crate::pipeline::pulse::Pulse;
use crate::pipeline::worker::WorkerDeps;
use crate::pipeline::{watch, worker};
use crate::settings::Settings;
use crate::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};
use crate::wire::incoming::Defaults;

/// Options of `run` and `worker`.
#[derive(Debug, Args)]
pub struct ServiceArguments {
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Judge what is in the store anew when models, policy or codebook have changed
    #[arg(long)]
    pub adopt: bool,
}

/// The line, put together and not started.
pub struct Service {
    pub settings: Settings,
    pub manifest: ManifestFile,
    pub rulebook: Arc<Rulebook>,
    pub storage: Storage,
    pub pulse: Pulse,
    deps: WorkerDeps,
    broker: Option<Broker>,
}

struct Broker {
    config: Arc<RabbitConfig>,
    queue: RabbitQueue,
}

impl Service {
    /// Opens everything.
    pub async fn open(
        arguments: &ServiceArguments,
        settings: Settings,
        manifest: ManifestFile,
        rulebook: Rulebook,
    ) -> Result<Self, Failure> {
        let rulebook = Arc::new(rulebook);
        warn_without_contact(&rulebook);
        let pulse = Pulse::default();
        let consultation = &rulebook.consultation.id;
        let (storage, broker) = match arguments.broker.config(&settings, consultation)? {
            None => (arguments.output.open(&settings, Some(consultation)).await?, None),
            Some(config) => {
                arguments.output.make_folders()?;
                let clock = Clock::system();
                let queue = subscribe(&config, &clock, &pulse).await?;
                let path = arguments.output.store_path(&settings);
                let storage = Storage::beside(Arc::new(queue.clone()), clock, &path).await?;
                (storage, Some(Broker { config, queue }))
            }
        };
        let judge = Arc::new(LineJudge::start(
            &manifest.folder,
            Arc::clone(&rulebook),
            settings.engine,
            encoder_threads(settings.threads),
        )?);
        output::check_version(&storage, &rulebook, judge.as_ref(), arguments.adopt).await?;
        let deps = WorkerDeps { pulse: pulse.clone(), ..storage.worker(judge, &settings) };
        Ok(Self { settings, manifest, rulebook, storage, pulse, deps, broker })
    }

    /// Starts workers, relays and the watch as tasks of `lifecycle`.
    pub fn start(&self, lifecycle: &mut Lifecycle) -> Result<(), Failure> {
        let shutdown = lifecycle.shutdown();
        let (queue, store, pulse) = (&self.storage.queue, &self.storage.store, &self.pulse);
        let watch = watch::run(
            Arc::clone(queue),
            Arc::clone(store),
            pulse.clone(),
            self.storage.clock.clone(),
            shutdown.clone(),
        );
        lifecycle.spawn("watch", async move {
            watch.await;
            Ok(())
        });
        let Some(broker) = &self.broker else {
            let deps = self.deps.clone();
            lifecycle.spawn("worker", async move {
                worker::run(&deps, &shutdown, |_| {}).await;
                Ok(())
            });
            return Ok(());
        };
        // The relays end after the last worker has stored its last judgement.
        let last = CancellationToken::new();
        for (kind, role) in [(ALERT_SAFEGUARDING, "broker (alerts)"), (COMMENT_ASSESSED, "broker (results)")] {
            let deps = self.relay(broker, kind, role)?;
            let (shutdown, last) = (shutdown.clone(), last.clone());
            lifecycle.spawn(role, async move {
                outbox::run(&deps, &shutdown, &last).await;
                Ok(())
            });
        }
        let lanes = Lane::ALL.map(|lane| {
            let mut deps = self.deps.clone();
            deps.queue = Arc::new(broker.queue.only(lane));
            // The lane itself waits a moment for its first delivery.
            deps.settings.idle_ms = 1;
            deps
        });
        let queue = broker.queue.clone();
        lifecycle.spawn("worker", async move {
            let [urgent, work] = &lanes;
            tokio::join!(worker::run(urgent, &shutdown, |_| {}), worker::run_two(work, &shutdown));
            queue.close().await;
            last.cancel();
            Ok(())
        });
        Ok(())
    }

    fn relay(&self, broker: &Broker, kind: &'static str, role: &'static str) -> Result<RelayDeps, Failure> {
        let publisher = RabbitPublisher::new(Arc::clone(&broker.config), role, self.pulse.clone());
        Ok(RelayDeps {
            store: Arc::clone(&self.storage.store),
            publisher: Arc::new(publisher) as Arc<dyn Publisher>,
            pulse: self.pulse.clone(),
            stored: Arc::<Notify>::clone(&self.deps.stored),
            kind,
            owner: app::random_name()?,
            settings: RelaySettings {
                // Above what sending one claim may take.
                lease_ms: (self.settings.rabbitmq.timeout_ms.saturating_mul(6)).clamp(60_000, 3_600_000) as i64,
                ..RelaySettings::default()
            },
        })
    }

    /// Tasks and the order in which they end.
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle::new(self.pulse.clone(), Duration::from_millis(self.settings.grace_ms))
    }

    /// Says in the log what runs.
    pub fn announce(&self) {
        let broker = self.broker.as_ref().map(|broker| broker.config.url.to_string());
        tracing::info!(
            consultation = %self.rulebook.consultation.id,
            pipeline = %self.rulebook.version,
            models = %self.rulebook.model_version,
            broker = broker.as_deref().unwrap_or("embedded"),
            "moothall runs"
        );
    }
}

async fn subscribe(config: &Arc<RabbitConfig>, clock: &Clock, pulse: &Pulse) -> Result<RabbitQueue, Failure> {
    RabbitQueue::subscribe(Arc::clone(config), clock.clone(), pulse.clone()).await.map_err(|error| refused(&error))
}

/// A broker's refusal with what to do about it.
pub fn refused(error: &BrokerError) -> Failure {
    let advice = error.advice();
    Failure::Failed(anyhow::anyhow!("{error}\n  what to do: {advice}"))
}

/// What a message belongs to when it does not say so.
pub fn defaults(settings: &Settings, consultation: &ConsultationId, source: &str) -> Result<Defaults, Failure> {
    Ok(Defaults {
        consultation: consultation.clone(),
        source: SourceName::new(source).ok_or_else(|| anyhow::anyhow!("a source without a name"))?,
        fields: settings.fields.clone(),
    })
}

fn warn_without_contact(rulebook: &Rulebook) {
    if rulebook.consultation.safeguarding_contact.is_none() {
        tracing::warn!(
            consultation = %rulebook.consultation.id,
            "nobody is named to read disclosures of harm: set safeguarding_contact in consultation.toml"
        );
    }
}
