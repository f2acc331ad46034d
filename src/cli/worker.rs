//! `moothall worker`: takes comments from a broker, judges them, sends results. No pages.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use super::service::{Service, ServiceArguments};
use super::{Common, Failure, usage};
use crate::app;
use crate::lifecycle;
use crate::telemetry;
use crate::web::{Probes, WebLimits, probes, serve};

/// Options of `worker`.
#[derive(Debug, Args)]
#[command(after_help = "Any number of workers share one broker and one store:\n  \
    moothall worker --amqp amqp://127.0.0.1/%2f --out out\n\n\
    The address may hold a password: set MOOTHALL_RABBITMQ_URL instead and write --amqp alone.\n\
    SIGTERM finishes what is in hand, sends its results and exits 0.")]
pub struct Arguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// Answer /healthz, /readyz and /metrics there [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// Works until asked to stop.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    if !app::names_a_broker(&settings, arguments.service.broker.amqp.as_deref()) {
        return Err(usage(
            "a worker works for a broker: give --amqp amqp://HOST/VHOST or set MOOTHALL_RABBITMQ_URL; \
             `moothall run` needs none",
        ));
    }
    let carried = common.carried(&settings)?;
    super::start_logging(&settings, "info");
    let metrics = telemetry::init_metrics()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = match arguments.listen {
            Some(address) => {
                Some(TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?)
            }
            None => None,
        };
        let mut service = Service::open(common, &arguments.service, settings, carried).await?;
        let mut lifecycle = service.lifecycle();
        if let Some(listener) = listener {
            let shutdown = lifecycle.shutdown();
            let router = probes(Probes {
                pulse: service.pulse.clone(),
                clock: service.storage.clock.clone(),
                metrics: Some(Arc::new(move || metrics.render())),
                stalled_ms: WebLimits::default().stalled_ms,
            });
            lifecycle.spawn("web", async move { Ok(serve(listener, router, shutdown).await?) });
        }
        service.announce();
        service.start(&mut lifecycle)?;
        lifecycle.run(lifecycle::signals()?).await?;
        tracing::info!("stopped; what was not judged went back to the broker");
        Ok(ExitCode::SUCCESS)
    })
}
