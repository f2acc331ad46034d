//! `moothall run`: intake, worker and pages as one service on the embedded queue.

use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Context;
use axum::body::Bytes;
use clap::Args;
use jiff::Timestamp;
use tokio::net::TcpListener;

use super::publish::{self, Output};
use super::{Common, Failure, encoder_threads};
use crate::app::{Embedded, LineJudge};
use crate::domain::comment::{ConsultationId, SourceName};
use crate::domain::rulebook::Rulebook;
use crate::engine::manifest::ManifestFile;
use crate::lifecycle::{self, Lifecycle};
use crate::pipeline::intake::IntakeLimits;
use crate::pipeline::ports::Funnel;
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::{watch, worker};
use crate::settings::Settings;
use crate::telemetry;
use crate::web::router::Defaults;
use crate::web::{WebDeps, WebLimits, router, serve};

/// Options of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Send a comment:\n  \
    curl -sS 127.0.0.1:8080/v1/comments -H 'content-type: application/json' \\\n    \
    -d '{\"id\":\"c1\",\"text\":\"My mentor never gave up on me.\"}'\n\n\
    The report is at http://127.0.0.1:8080/report and, with every table, in the output folder.\n\
    SIGTERM finishes what is in hand and exits 0; a second one leaves it for the next start.")]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Judge what is in the store anew when models, policy or codebook have changed
    #[arg(long)]
    adopt: bool,
}

/// Serves until asked to stop.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let (manifest, rulebook) = common.rulebook(&settings)?;
    super::start_logging(&settings, "info");
    let metrics = telemetry::init_metrics()?;
    let rulebook = Arc::new(rulebook);
    if rulebook.consultation.safeguarding_contact.is_none() {
        tracing::warn!(
            consultation = %rulebook.consultation.id,
            "nobody is named to read disclosures of harm: set safeguarding_contact in consultation.toml"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // The port first: a second service on it must not touch the store.
        let listener = TcpListener::bind(settings.listen).await.with_context(|| {
            format!("cannot listen on {}: choose another with MOOTHALL_SERVER_LISTEN", settings.listen)
        })?;
        let consultation = rulebook.consultation.id.clone();
        let embedded = arguments.output.open(&settings, Some(&consultation)).await?;
        let judge =
            Arc::new(LineJudge::start(&manifest.folder, Arc::clone(&rulebook), encoder_threads(settings.threads))?);
        publish::check_version(&embedded, &rulebook, judge.as_ref(), arguments.adopt).await?;
        let deps = embedded.worker(judge, &settings);

        let mut service = Lifecycle::new(deps.pulse.clone(), Duration::from_millis(settings.grace_ms));
        let shutdown = service.shutdown();
        let page = Page::default();
        let web = WebDeps {
            queue: Arc::clone(&embedded.queue),
            store: Arc::clone(&embedded.store),
            report: Arc::new(page.source()),
            pulse: deps.pulse.clone(),
            clock: embedded.clock.clone(),
            defaults: Defaults {
                consultation: consultation.clone(),
                source: SourceName::new("http").context("a name")?,
                fields: settings.fields.clone(),
            },
            knows: Arc::new(move |asked: &ConsultationId| *asked == consultation),
            metrics: Some(Arc::new(move || metrics.render())),
            limits: limits(&settings),
        };
        tracing::info!(
            address = %settings.listen,
            consultation = %rulebook.consultation.id,
            pipeline = %rulebook.version,
            models = %rulebook.model_version,
            "moothall runs"
        );
        let watched = (Arc::clone(&embedded.queue), Arc::clone(&embedded.store), deps.pulse.clone(), shutdown.clone());
        service.spawn("watch", async move {
            watch::run(watched.0, watched.1, watched.2, watched.3).await;
            Ok(())
        });
        let stop = shutdown.clone();
        service.spawn("web", async move { Ok(serve(listener, router(web), stop).await?) });
        let stop = shutdown.clone();
        service.spawn("worker", async move {
            worker::run(&deps, &stop, |_| {}).await;
            Ok(())
        });
        let reporter = Reporter {
            embedded,
            rulebook: Arc::clone(&rulebook),
            manifest,
            output: arguments.output.clone(),
            every: Duration::from_millis(settings.report_every_ms),
            page,
        };
        service.spawn("report", async move {
            reporter.run(&shutdown).await;
            Ok(())
        });
        service.run(lifecycle::signals()?).await?;
        tracing::info!("stopped; what was not judged waits for the next start");
        Ok(ExitCode::SUCCESS)
    })
}

fn limits(settings: &Settings) -> WebLimits {
    let defaults = WebLimits::default();
    WebLimits {
        body_bytes: settings.max_body_bytes,
        intake: IntakeLimits { text_bytes: settings.max_text_bytes, ..IntakeLimits::default() },
        // Behind a proxy the host name is the proxy's business.
        hosts: if settings.listen.ip().is_loopback() { defaults.hosts } else { Vec::new() },
        ..defaults
    }
}

/// The latest report page, shared between the one who writes it and those who read it.
#[derive(Clone, Default)]
struct Page(Arc<RwLock<Option<Bytes>>>);

impl Page {
    fn source(&self) -> impl Fn(&ConsultationId) -> Option<Bytes> + Send + Sync + 'static {
        let page = Arc::clone(&self.0);
        move |_: &ConsultationId| page.read().ok()?.clone()
    }

    fn set(&self, bytes: Vec<u8>) {
        if let Ok(mut page) = self.0.write() {
            *page = Some(Bytes::from(bytes));
        }
    }
}

/// Writes the output folder again whenever comments have changed.
struct Reporter {
    embedded: Embedded,
    rulebook: Arc<Rulebook>,
    manifest: ManifestFile,
    output: Output,
    every: Duration,
    page: Page,
}

impl Reporter {
    async fn run(&self, shutdown: &Shutdown) {
        let mut last: Option<(Funnel, usize)> = None;
        while !shutdown.stop_intake.is_cancelled() {
            match self.turn(last).await {
                Ok(seen) => last = seen,
                Err(error) => tracing::error!(
                    error = format!("{error:?}"),
                    "the report could not be written; the earlier one stands"
                ),
            }
            shutdown.sleep(self.every).await;
        }
    }

    /// Writes the report unless nothing has changed since `last`.
    async fn turn(&self, last: Option<(Funnel, usize)>) -> Result<Option<(Funnel, usize)>, Failure> {
        let consultation = &self.rulebook.consultation.id;
        let funnel = self.embedded.store.funnel(consultation).await?;
        let disclosures = self.embedded.store.disclosures(Some(consultation)).await?;
        let unread = disclosures.iter().filter(|disclosure| disclosure.acknowledged.is_none()).count();
        if unread > 0 {
            // Said again and again, on purpose, until somebody has acknowledged them.
            tracing::error!(unread, "possible disclosures of harm wait for a person: moothall safeguarding list");
        }
        if last == Some((funnel, unread)) {
            return Ok(last);
        }
        let outcome =
            publish::write(&self.embedded, &self.rulebook, &self.manifest, &self.output, Timestamp::now()).await?;
        self.page.set(tokio::fs::read(&outcome.report).await?);
        Ok(Some((funnel, unread)))
    }
}
