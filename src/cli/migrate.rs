//! `moothall migrate`: brings the store's schema up to this binary's.

use std::process::ExitCode;

use clap::Args;

use super::output::Place;
use super::{Common, Failure, existing};
use crate::app::StorePlace;
use crate::cli::broker::block_on;
use crate::sqlite::{self, Database};
use crate::store::postgres::{self, PostgresDatabase};

/// Options of `migrate`.
#[derive(Debug, Args)]
#[command(after_help = "A file's schema is brought up whenever it is opened. On a server any number of workers may\n\
    start at once: one brings it up and the others wait. Where their user may not make tables, this\n\
    command does it beforehand, as the user who owns them:\n\n  \
    moothall migrate --store postgres://owner@db.example/moothall\n\n\
    Exit status: 0 the schema is this binary's, 1 it is not (--check) or could not be brought up.")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Only say what would be done
    #[arg(long)]
    check: bool,
}

/// Looks, and brings up what is behind.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let place = arguments.place.store(&settings)?;
    existing(&place)?;
    block_on(async {
        let (found, known) = match &place {
            StorePlace::File(path) => (Database::found_version(path).await?, sqlite::schema_version()),
            StorePlace::Server { config, .. } => {
                (PostgresDatabase::new((**config).clone()).found_version().await?, postgres::schema_version())
            }
        };
        let from = if found == 0 { "no schema yet".to_owned() } else { format!("schema {found}") };
        if found == known {
            println!("{place}: schema {known}, nothing to do");
            return Ok(ExitCode::SUCCESS);
        }
        if arguments.check {
            println!("{place}: {from}, this binary's is {known}: `moothall migrate` without --check brings it up");
            return Ok(ExitCode::FAILURE);
        }
        match &place {
            StorePlace::File(path) => Database::open(path).await?.close().await,
            StorePlace::Server { config, .. } => PostgresDatabase::new((**config).clone()).migrate().await?,
        }
        println!("{place}: {from} before, schema {known} now");
        Ok(ExitCode::SUCCESS)
    })
}
