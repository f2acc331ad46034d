//! `moothall codebook check`: every problem of a codebook at once.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::{Common, Failure};

/// Options of `codebook check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The consultation's folder, or its codebook.toml
    #[arg(value_name = "DIR|FILE")]
    place: PathBuf,
}

/// Reads the codebook with the whole rulebook around it.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let (_, rulebook) = common.rulebook(&settings)?;
    println!("{}: {} themes", arguments.place.display(), rulebook.codebook.map_or(0, |codebook| codebook.themes.len()));
    Ok(ExitCode::SUCCESS)
}
