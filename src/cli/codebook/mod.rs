//! `moothall codebook ...`: what comments are coded by, as an officer keeps it.
//!
//! One file for each action; a new action is a variant of [`Action`] and a line
//! in [`run`].

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Common, Failure};

mod check;
mod retag;

/// Options of `codebook`.
#[derive(Debug, Args)]
#[command(after_help = "Write themes in config/NAME/codebook.toml, look for problems, train, and tags follow:\n\n  \
    moothall codebook check config/mentoring\n  \
    moothall codebook train config/mentoring")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Name every problem of a codebook and its examples, by file and key
    Check(check::Arguments),
    /// Judge stored comments anew by a changed codebook, policy or model: first show, then do
    Retag(retag::Arguments),
}

/// Runs the chosen action.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.action {
        Action::Check(arguments) => check::run(common, arguments),
        Action::Retag(arguments) => retag::run(common, arguments),
    }
}
