//! `moothall report`: writes report and tables again from what is in the store.

use std::process::ExitCode;

use clap::Args;

use super::output::{self, Output};
use super::{Common, Failure};

/// Options of `report`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
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
        let storage = arguments.output.open(&settings, None).await?;
        let outcome = output::write(&storage, &rulebook, &manifest, &arguments.output, as_at).await?;
        output::print(&outcome, &arguments.output, &rulebook);
        Ok(ExitCode::SUCCESS)
    })
}
