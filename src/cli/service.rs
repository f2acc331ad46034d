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
use crate::app::{self, LineJudge, Storage, StorePlace};
use crate::broker::rabbitmq::{BrokerError, Lane, RabbitConfig, RabbitPublisher, RabbitQueue};
use crate::domain::comment::{ConsultationId, SourceName};
use crate::domain::rulebook::{Rulebook, RulebookSnapshot};
use crate::engine::manifest::ManifestFile;
use crate::lifecycle::Lifecycle;
use crate::pipeline::clock::Clock;
use crate::pipeline::outbox::{self, RelayDeps, RelaySettings};
use crate::pipeline::ports::{Publisher, StoreError};
use crate::pipeline::pulse::Pulse;
use crate::pipeline::shadow::{self, ShadowDeps};
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::webhooks::{self, WebhookDeps, WebhookSettings};
use crate::pipeline::worker::WorkerDeps;
use crate::pipeline::{watch, worker};
use crate::settings::Settings;
use crate::telemetry;
use crate::webhook::Target;
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
    webhooks: Vec<(Target, Vec<&'static str>)>,
    shadow: Option<ShadowDeps>,
    place: StorePlace,
    /// What is left to do before work may begin, where the store was not there.
    opening: Option<Opening>,
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
        let webhooks = app::webhooks(&settings).map_err(Failure::Usage)?;
        warn_without_contact(&rulebook);
        if let Some(url) = &settings.otlp_url {
            telemetry::spans::start(url, "moothall").context("tracing.otlp_url")?;
        }
        let pulse = Pulse::default();
        let consultation = &rulebook.consultation.id;
        let place = arguments.output.store(&settings)?;
        arguments.output.make_folders()?;
        let (storage, broker) = match arguments.broker.config(&settings, consultation)? {
            None => (Storage::embedded(&place, &settings, Some(consultation)).await?, None),
            Some(config) => {
                let clock = Clock::system();
                let queue = subscribe(&config, &clock, &pulse).await?;
                let storage = Storage::beside(Arc::new(queue.clone()), clock, &place).await?;
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
        let told = webhooks.iter().map(|(target, kinds)| (target.name.clone(), kinds.clone())).collect();
        let opening =
            Opening { storage: storage.clone(), snapshot, adopt: arguments.adopt, told, pulse: pulse.clone() };
        let open = match tokio::time::timeout(FIRST_LOOK, opening.try_once()).await {
            Ok(open) => open?,
            Err(_) => false,
        };
        let opening = if open {
            None
        } else {
            // Where the look was cut off it has not said so itself.
            if !pulse.troubles().contains_key(OPENING) {
                pulse.trouble(OPENING, format!("{place} does not answer"));
                tracing::error!(store = %place, "the store does not answer and is waited for, nothing is judged");
            }
            Some(opening)
        };
        let deps = WorkerDeps { pulse: pulse.clone(), ..storage.worker(judge, &settings) };
        let shadow = looks_on(common, arguments, &settings, &storage, &rulebook);
        Ok(Self { settings, manifest, rulebook, storage, pulse, deps, broker, webhooks, shadow, place, opening })
    }

    /// Starts workers, relays and the watch as tasks of `lifecycle`. Where the store is not there
    /// yet, all but the watch begin when it is.
    pub fn start(&mut self, lifecycle: &mut Lifecycle) -> Result<(), Failure> {
        let shutdown = lifecycle.shutdown();
        let open = self.wait_for_store(lifecycle);
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
            let (shutdown, open) = (shutdown.clone(), open.clone());
            lifecycle.spawn("shadow", async move {
                opened(&open, &shutdown).await;
                shadow::run(deps, shutdown).await;
                Ok(())
            });
        }
        // The relays end after the last worker has stored its last judgement.
        let last = CancellationToken::new();
        self.start_webhooks(lifecycle, &last, &open)?;
        let Some(broker) = &self.broker else {
            let [urgent, work] = Lane::ALL.map(|lane| WorkerDeps { queue: queue.only_lane(lane), ..self.deps.clone() });
            lifecycle.spawn("worker", async move {
                opened(&open, &shutdown).await;
                tokio::join!(worker::run(&urgent, &shutdown, |_| {}), worker::run(&work, &shutdown, |_| {}));
                last.cancel();
                Ok(())
            });
            return Ok(());
        };
        for (kind, role) in [(ALERT_SAFEGUARDING, "broker (alerts)"), (COMMENT_ASSESSED, "broker (results)")] {
            let deps = self.relay(broker, kind, role)?;
            let (shutdown, last, open) = (shutdown.clone(), last.clone(), open.clone());
            lifecycle.spawn(role, async move {
                opened(&open, &shutdown).await;
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
            opened(&open, &shutdown).await;
            let [urgent, work] = &lanes;
            tokio::join!(worker::run(urgent, &shutdown, |_| {}), worker::run_two(work, &shutdown));
            queue.close().await;
            last.cancel();
            Ok(())
        });
        Ok(())
    }

    /// One loop for each target and kind: none waits for another.
    fn start_webhooks(
        &self,
        lifecycle: &mut Lifecycle,
        last: &CancellationToken,
        open: &CancellationToken,
    ) -> Result<(), Failure> {
        for (target, kinds) in &self.webhooks {
            for kind in kinds.iter().copied() {
                let deps = WebhookDeps {
                    store: Arc::clone(&self.storage.store),
                    caller: Arc::new(app::webhook_caller(target, &self.storage.clock)?),
                    pulse: self.pulse.clone(),
                    clock: self.storage.clock.clone(),
                    stored: Arc::<Notify>::clone(&self.deps.stored),
                    target: target.name.clone(),
                    kind,
                    owner: app::random_name()?,
                    settings: WebhookSettings {
                        concurrency: self.settings.webhooks.concurrency,
                        retry_ms: self.settings.webhooks.retry_ms.iter().map(|ms| ms.cast_signed()).collect(),
                        timeout_ms: target.timeout.as_millis() as i64,
                        idle: RelaySettings::default().idle,
                    },
                };
                tracing::info!(target = deps.target, kind, place = target.place(), "a webhook is told");
                let (shutdown, last, open) = (lifecycle.shutdown(), last.clone(), open.clone());
                lifecycle.spawn("webhook", async move {
                    opened(&open, &shutdown).await;
                    webhooks::run(&deps, &shutdown, &last).await;
                    Ok(())
                });
            }
        }
        Ok(())
    }

    /// Told when work may begin.
    fn wait_for_store(&mut self, lifecycle: &mut Lifecycle) -> CancellationToken {
        let open = CancellationToken::new();
        match self.opening.take() {
            None => open.cancel(),
            Some(opening) => {
                let (shutdown, told) = (lifecycle.shutdown(), open.clone());
                lifecycle.spawn("store", async move {
                    opening.wait(&shutdown).await.map_err(Failure::into_error)?;
                    told.cancel();
                    shutdown.stop_intake.cancelled().await;
                    Ok(())
                });
            }
        }
        open
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
            store = %self.place,
            "moothall runs"
        );
    }
}

/// How long a start waits for its store before it goes on without: probes want an answer.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// A pause between two looks for a store that is not there.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// What a store must have had done to it before a comment is judged: its schema brought up, its
/// active rulebook compared with the carried one.
struct Opening {
    storage: Storage,
    snapshot: RulebookSnapshot,
    adopt: AdoptArgs,
    /// Whom messages are meant for from now on, with the kinds that each takes.
    told: Vec<(String, Vec<&'static str>)>,
    pulse: Pulse,
}

impl Opening {
    /// `false` where the store is away for now: it is waited for, as the broker is.
    async fn try_once(&self) -> Result<bool, Failure> {
        match self.open().await {
            Ok(()) => {
                self.pulse.well(OPENING);
                Ok(true)
            }
            Err(failure) => {
                let error = failure.into_error();
                match error.downcast_ref::<StoreError>() {
                    Some(busy) if busy.is_transient() => {
                        if self.pulse.trouble(OPENING, busy.to_string()) {
                            tracing::error!(error = %busy, "the store is waited for, nothing is judged");
                        }
                        Ok(false)
                    }
                    _ => Err(error.into()),
                }
            }
        }
    }

    async fn open(&self) -> Result<(), Failure> {
        self.storage.ready().await?;
        if let Some(said) = adoption::settle(self.storage.store.as_ref(), &self.snapshot, self.adopt).await? {
            tracing::warn!("{said}");
        }
        // Before the first judgement is stored.
        for (target, kinds) in &self.told {
            self.storage.store.subscribe(target, kinds).await?;
        }
        Ok(())
    }

    async fn wait(&self, shutdown: &Shutdown) -> Result<(), Failure> {
        while !shutdown.stop_intake.is_cancelled() {
            shutdown.sleep(STORE_PAUSE).await;
            if self.try_once().await? {
                tracing::info!("the store is there, work begins");
                break;
            }
        }
        Ok(())
    }
}

/// What readiness calls a store that is not there yet.
const OPENING: &str = "opening the store";

/// Waits until work may begin, or until nobody wants it any more.
async fn opened(open: &CancellationToken, shutdown: &Shutdown) {
    tokio::select! {
        () = open.cancelled() => {}
        () = shutdown.stop_intake.cancelled() => {}
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
        let deps = |carried| cli_shadow::deps(carried, &storage.store, &storage.clock, settings, 1);
        other.map(deps).transpose()
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
