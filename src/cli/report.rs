//! `moothall report`: writes report and tables again from what is in the store.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::broker::BrokerArgs;
use super::output::{self, Output};
use super::{Common, Failure, usage};
use crate::app::{Storage, StorePlace};
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
    let place = arguments.output.store(&settings)?;
    super::existing(&place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let storage = match arguments.broker.config(&settings, &rulebook.consultation.id)? {
            None => {
                where_comments_wait(&place)?;
                arguments.output.open(&settings, None).await?
            }
            // What waits and what is parked is the broker's to tell.
            Some(config) => {
                let clock = Clock::system();
                let queue = RabbitQueue::publish_only(config, clock.clone(), Pulse::default());
                let storage = Storage::beside(Arc::new(queue), clock, &place).await?;
                storage.ready().await?;
                storage
            }
        };
        let outcome = output::write(&storage, &rulebook, &manifest, &arguments.output, as_at).await?;
        output::print(&outcome, &arguments.output, &rulebook);
        Ok(ExitCode::SUCCESS)
    })
}

/// A report counts what waits. Beside a server that is on a broker, or in a file of this output folder.
fn where_comments_wait(place: &StorePlace) -> Result<(), Failure> {
    match place {
        StorePlace::Server { queue, .. } if !queue.is_file() => Err(usage(&format!(
            "comments for the store at {place} wait on a broker, and none is named: give --amqp or set \
             MOOTHALL_RABBITMQ_URL (there is no queue at {} either)",
            queue.display()
        ))),
        StorePlace::Server { .. } | StorePlace::File(_) => Ok(()),
    }
}
