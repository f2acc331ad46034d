//! `moothall report`: writes report and tables again from what is in the store.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::broker::BrokerArgs;
use super::output::{self, Output};
use super::{Common, Failure};
use crate::app::Storage;
use crate::broker::rabbitmq::RabbitQueue;
use crate::pipeline::clock::Clock;
use crate::pipeline::pulse::Pulse;

/// Options of `report`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Writes the output folder from the store; judges nothing.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let (manifest, rulebook) = common.rulebook(&settings)?;
    let as_at = arguments.output.as_at()?;
    super::existing(&arguments.output.store_path(&settings))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let storage = match arguments.broker.config(&settings, &rulebook.consultation.id)? {
            None => arguments.output.open(&settings, None).await?,
            // What waits and what is parked is the broker's to tell.
            Some(config) => {
                let clock = Clock::system();
                let queue = RabbitQueue::publish_only(config, clock.clone(), Pulse::default());
                Storage::beside(Arc::new(queue), clock, &arguments.output.store_path(&settings)).await?
            }
        };
        let outcome = output::write(&storage, &rulebook, &manifest, &arguments.output, as_at).await?;
        output::print(&outcome, &arguments.output, &rulebook);
        Ok(ExitCode::SUCCESS)
    })
}
