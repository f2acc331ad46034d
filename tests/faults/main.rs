//! The fault table: each fault is really injected, and what went in is counted against what came out.
//!
//! ```sh
//! cargo test --test faults                     # the short form, in CI
//! cargo test --test faults -- --full           # every fault
//! cargo test --test faults -- --long-run       # 100,000 comments through kills and outages
//! cargo test --test faults -- --only broker --seed 7 --markdown table.md
//! ```
//!
//! A row fails when a comment is lost, when an effect happened twice, when what the fault is
//! said to do did not happen, or when the fault was not injected at all. Everything runs on
//! loopback, for a limited time, and ends only processes that it started: worker processes are
//! this binary itself, started with [`line::SPEC`] in the environment.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "../support/broker/mod.rs"]
mod broker;
mod catalogue;
mod client;
mod comments;
#[path = "../support/control.rs"]
mod control;
mod judge;
mod line;
mod long_run;
mod ports;
#[path = "../support/postgres/mod.rs"]
mod postgres;
mod process;
mod runner;
mod sink;
mod site;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::runner::Choice;

/// What can be asked for.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(name = "faults", about = "Injects faults and counts what became of every comment", version)]
struct Arguments {
    /// Only faults whose name holds this
    name: Option<String>,
    /// Every fault, not the short form alone
    #[arg(long)]
    full: bool,
    /// Only these faults, by a part of their names; also those that --full alone runs
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Only this queue and store, by a part of their names: embedded, sqlite, rabbitmq, postgres
    #[arg(long, value_name = "SHAPE")]
    shape: Option<String>,
    /// Seed of everything that is random [default: another one each time, printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Name the faults and end
    #[arg(long)]
    list: bool,
    /// Write the table as Markdown too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the table as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The long run, on every shape that --shape leaves
    #[arg(long)]
    long_run: bool,
    /// Comments of the long run
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    comments: usize,
    /// Keep the folders of rows that failed and say where they are
    #[arg(long)]
    keep: bool,
    /// As the other test binaries have them; no row prints anything before its end
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true, value_name = "N")]
    test_threads: Option<usize>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(spec) = std::env::var(line::SPEC) {
        return runtime.block_on(line::work(&spec));
    }
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(comments::fresh_seed);
    let mut only = arguments.only;
    only.extend(arguments.name);
    let choice = Choice { full: arguments.full, only, shape: arguments.shape, seed, keep: arguments.keep };
    if arguments.list {
        runner::list(&choice);
        return ExitCode::SUCCESS;
    }
    let table = runtime.block_on(async {
        if arguments.long_run {
            Box::pin(runner::long_run(&choice, arguments.comments)).await
        } else {
            runner::run(&choice).await
        }
    });
    print!("{table}");
    for (path, text) in [(arguments.markdown, table.markdown()), (arguments.json, table.json())] {
        if let Some(path) = path
            && let Err(error) = std::fs::write(&path, text)
        {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    println!("{}", table.verdict());
    // Rows and their parts hold nothing that must be waited for.
    runtime.shutdown_background();
    if table.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
