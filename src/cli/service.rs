//! What `run` and `worker` share: the line as a service, on the embedded queue or on a broker.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::adoption::{self, AdoptArgs};
use super::broker::BrokerArgs;
use super::output::Output;
use super::shadow::{self as cli_shadow, ShadowArgs};
use super::{Carried, Common, Failure, encoder_threads};
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
use crate::pipeline::shadow::{self, ShadowDeps};
use crate::pipeline::worker::WorkerDeps;
use crate::pipeline::{watch, worker};
use crate::settings::Settings;
use crate::telemetry;
use crate::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};
use crate::wire::incoming::Defaults;

/// Options of `run` and `worker`.
#[derive(Debug, Args)]
pub struct ServiceArguments {
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    pub adopt: AdoptArgs,
    #[command(flatten)]
    pub shadow: ShadowArgs,
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
    shadow: Option<ShadowDeps>,
}

struct Broker {
    config: Arc<RabbitConfig>,
    queue: RabbitQueue,
}

impl Service {
    /// Opens everything.
    pub async fn open(
        common: &Common,
        arguments: &ServiceArguments,
        settings: Settings,
        carried: Carried,
    ) -> Result<Self, Failure> {
        let Carried { manifest, rulebook, snapshot, .. } = carried;
        let rulebook = Arc::new(rulebook);
        warn_without_contact(&rulebook);
        if let Some(url) = &settings.otlp_url {
            telemetry::spans::start(url, "moothall").context("tracing.otlp_url")?;
        }
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
        // After the models are found to be whole: what cannot judge is not adopted.
        if let Some(said) = adoption::settle(storage.store.as_ref(), &snapshot, arguments.adopt).await? {
            tracing::warn!("{said}");
        }
        let deps = WorkerDeps { pulse: pulse.clone(), ..storage.worker(judge, &settings) };
        let shadow = looks_on(common, arguments, &settings, &storage, &rulebook);
        Ok(Self { settings, manifest, rulebook, storage, pulse, deps, broker, shadow })
    }

    /// Starts workers, relays and the watch as tasks of `lifecycle`.
    pub fn start(&self, lifecycle: &mut Lifecycle) -> Result<(), Failure> {
        let shutdown = lifecycle.shutdown();
        let (queue, store, pulse) = (&self.storage.queue, &self.storage.store, &self.pulse);
        let watch = watch::run(
            Arc::clone(queue),
            Arc::clone(store),
            Arc::clone(&self.rulebook),
            pulse.clone(),
            self.storage.clock.clone(),
            shutdown.clone(),
        );
        lifecycle.spawn("watch", async move {
            watch.await;
            Ok(())
        });
        if let Some(deps) = self.shadow.clone() {
            let shutdown = shutdown.clone();
            lifecycle.spawn("shadow", async move {
                shadow::run(deps, shutdown).await;
                Ok(())
            });
        }
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

/// The rulebook that looks on, where one is asked for. What is wrong with it is said and
/// keeps nobody from work.
fn looks_on(
    common: &Common,
    arguments: &ServiceArguments,
    settings: &Settings,
    storage: &Storage,
    active: &Rulebook,
) -> Option<ShadowDeps> {
    let loaded = arguments.shadow.load(common, settings).and_then(|carried| {
        let other = carried.filter(|carried| carried.rulebook.version != active.version);
        other.map(|carried| cli_shadow::deps(carried, storage, settings, 1)).transpose()
    });
    match loaded {
        Ok(Some(deps)) => {
            tracing::info!(pipeline = %deps.rulebook.version, "a shadow rulebook looks on");
            Some(deps)
        }
        Ok(None) => None,
        Err(failure) => {
            tracing::error!(error = format!("{:#}", failure.into_error()), "no shadow rulebook looks on");
            None
        }
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
