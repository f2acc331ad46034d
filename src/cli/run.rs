//! `moothall run`: intake, workers and pages as one service.

use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Context;
use axum::body::Bytes;
use clap::Args;
use jiff::Timestamp;
use tokio::net::TcpListener;

use super::output::{self, Output};
use super::service::{self, Service, ServiceArguments};
use super::{Common, Failure};
use crate::app::{self, Storage};
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::Rulebook;
use crate::engine::manifest::ManifestFile;
use crate::lifecycle;
use crate::pipeline::ports::Funnel;
use crate::pipeline::shutdown::Shutdown;
use crate::settings::Settings;
use crate::telemetry;
use crate::web::{RateLimits, WebDeps, WebLimits, router, serve};

/// Options of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Send a comment:\n  \
    curl -sS 127.0.0.1:8080/v1/comments -H 'content-type: application/json' \\\n    \
    -d '{\"id\":\"c1\",\"text\":\"My mentor never gave up on me.\"}'\n\n\
    The report is at http://127.0.0.1:8080/report and, with every table, in the output folder.\n\
    SIGTERM finishes what is in hand and exits 0; a second one leaves it for the next start.")]
pub struct Arguments {
    #[command(flatten)]
    service: ServiceArguments,
}

/// Serves until asked to stop.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let carried = common.carried(&settings)?;
    super::start_logging(&settings, "info");
    let metrics = telemetry::init_metrics()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // The port first: a second service on it must not touch the store.
        let listener = TcpListener::bind(settings.listen).await.with_context(|| {
            format!("cannot listen on {}: choose another with MOOTHALL_SERVER_LISTEN", settings.listen)
        })?;
        let mut service = Service::open(common, &arguments.service, settings, carried).await?;
        let mut lifecycle = service.lifecycle();
        let shutdown = lifecycle.shutdown();
        let page = Page::default();
        let consultation = service.rulebook.consultation.id.clone();
        let web = WebDeps {
            queue: Arc::clone(&service.storage.queue),
            store: Arc::clone(&service.storage.store),
            report: Arc::new(page.source()),
            pulse: service.pulse.clone(),
            clock: service.storage.clock.clone(),
            defaults: service::defaults(&service.settings, &consultation, "http")?,
            knows: Arc::new(move |asked: &ConsultationId| *asked == consultation),
            metrics: Some(Arc::new(move || metrics.render())),
            limits: limits(&service.settings),
        };
        service.announce();
        let stop = shutdown.clone();
        lifecycle.spawn("web", async move { Ok(serve(listener, router(web), stop).await?) });
        service.start(&mut lifecycle)?;
        let reporter = Reporter {
            storage: service.storage.clone(),
            rulebook: Arc::clone(&service.rulebook),
            manifest: service.manifest.clone(),
            output: arguments.service.output.clone(),
            every: Duration::from_millis(service.settings.report_every_ms),
            page,
        };
        lifecycle.spawn("report", async move {
            reporter.run(&shutdown).await;
            Ok(())
        });
        lifecycle.run(lifecycle::signals()?).await?;
        telemetry::spans::flush().await;
        tracing::info!("stopped; what was not judged waits for the next start");
        Ok(ExitCode::SUCCESS)
    })
}

fn limits(settings: &Settings) -> WebLimits {
    let defaults = WebLimits::default();
    WebLimits {
        body_bytes: settings.max_body_bytes,
        intake: app::intake_limits(settings),
        // Behind a proxy the host name is the proxy's business.
        hosts: if settings.listen.ip().is_loopback() { defaults.hosts } else { Vec::new() },
        rate: RateLimits {
            client_per_minute: settings.client_requests_per_minute,
            per_minute: settings.requests_per_minute,
            // The settings take nothing that is no name of a header.
            client_header: settings.client_header.as_deref().and_then(|name| name.parse().ok()),
        },
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

/// What tells that a report is not the latest.
#[derive(PartialEq, Eq)]
struct Seen {
    funnel: Funnel,
    unread: usize,
    /// Comments by the rulebook of their judgement: a retagging may move no verdict and yet change themes.
    judged: Vec<u64>,
}

/// Writes the output folder again whenever comments have changed.
struct Reporter {
    storage: Storage,
    rulebook: Arc<Rulebook>,
    manifest: ManifestFile,
    output: Output,
    every: Duration,
    page: Page,
}

impl Reporter {
    async fn run(&self, shutdown: &Shutdown) {
        let mut last = None;
        while !shutdown.stop_intake.is_cancelled() {
            match self.turn(last.as_ref()).await {
                Ok(None) => {}
                Ok(seen) => last = seen,
                Err(failure) => tracing::error!(
                    error = format!("{:#}", failure.into_error()),
                    "the report could not be written; the earlier one stands"
                ),
            }
            shutdown.sleep(self.every).await;
        }
    }

    /// Writes the report unless nothing has changed since `last`.
    async fn turn(&self, last: Option<&Seen>) -> Result<Option<Seen>, Failure> {
        let consultation = &self.rulebook.consultation.id;
        let funnel = self.storage.store.funnel(consultation).await?;
        let disclosures = self.storage.store.disclosures(Some(consultation)).await?;
        let unread = disclosures.iter().filter(|disclosure| disclosure.acknowledged.is_none()).count();
        if unread > 0 {
            // Said again and again, on purpose, until somebody has acknowledged them.
            tracing::error!(unread, "possible disclosures of harm wait for a person: moothall safeguarding list");
        }
        let rulebooks = self.storage.store.rulebooks(consultation).await?;
        let seen = Seen { funnel, unread, judged: rulebooks.iter().map(|one| one.comments).collect() };
        if last == Some(&seen) {
            return Ok(None);
        }
        let outcome =
            output::write(&self.storage, &self.rulebook, &self.manifest, &self.output, Timestamp::now()).await?;
        self.page.set(tokio::fs::read(&outcome.report).await?);
        Ok(Some(seen))
    }
}
