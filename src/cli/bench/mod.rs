//! `moothall bench`: how fast, how large and how soon, held against the bars.
//!
//! Everything that is compared is measured in the same run and in turns, per second of
//! processor time, which stays steady on a machine that others use; of several rounds the
//! median is given, with half of their spread behind it.

mod broker;
mod clock;
mod embedded;
mod engines;
mod footprint;
mod line;
mod peer;
mod questions;
mod stub;
mod sweep;
mod table;
mod texts;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Common, Failure, encoder_threads};
use crate::app::{self, LineJudge};
use crate::broker::rabbitmq::Names;
use crate::engine::Models;

/// Options of `bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  moothall bench\n  moothall bench --only engines,questions --python venv/bin/python --json > bench.json\n\n\
    Other engines are measured where they are found: rust-bert if this binary was built with it, ONNX Runtime and\n\
    PyTorch if the python has them (`pip install torch transformers safetensors onnx onnxruntime`)."
)]
pub struct Arguments {
    /// Comments of each kind and round
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = at_least_one)]
    comments: usize,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = at_least_one)]
    rounds: usize,
    /// Measure these parts alone
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Python that has `onnxruntime` and `torch`
    #[arg(long, default_value = "python3", value_name = "FILE")]
    python: PathBuf,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Write the tables as a page of the documentation too
    #[arg(long, value_name = "FILE", conflicts_with = "amqp")]
    markdown: Option<PathBuf>,
    /// Measure on RabbitMQ instead: the worker loop with a stub engine against a bare client
    /// [without URL: as rabbitmq.url says]
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    amqp: Option<String>,
    /// Messages of each round on RabbitMQ
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    messages: usize,
    /// On RabbitMQ: by prefetch, batch size, batch age and number of workers too
    #[arg(long, requires = "amqp")]
    sweep: bool,
    /// Be the fresh process that the footprint is taken of
    #[arg(long, hide = true)]
    probe: bool,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Start, memory and sizes
    Footprint,
    /// The encoder against other runtimes on the same weights
    Engines,
    /// One pass against one model per question
    Questions,
    /// The whole line against its encoder
    Line,
    /// Repeats and plain spam against distinct comments
    Floods,
    /// The embedded queue with a stub for the engine
    Queue,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "must be a whole number of at least 1".to_owned())
}

/// Measures and prints.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    if arguments.probe {
        return footprint::probe(common).map(|()| ExitCode::SUCCESS);
    }
    let settings = common.settings()?;
    let (manifest, rulebook) = common.rulebook(&settings)?;
    let rulebook = Arc::new(rulebook);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let models = Models::load(&manifest.folder, &rulebook, settings.engine)?;
    if arguments.amqp.is_some() {
        let defaults = super::service::defaults(&settings, &rulebook.consultation.id, "bench")?;
        let mut config = app::rabbit_config(&settings, arguments.amqp.as_deref(), defaults).map_err(Failure::Usage)?;
        config.names = Names::with_prefix(&format!("moothall-bench-{}", app::random_name()?));
        let judge = Arc::new(LineJudge::start(&manifest.folder, Arc::clone(&rulebook), settings.engine, 1)?);
        let (count, rounds) = (arguments.messages, arguments.rounds);
        let bench = broker::BrokerBench {
            settings: &settings,
            rulebook: &rulebook,
            models: &models,
            config,
            count,
            rounds,
            sweep: arguments.sweep,
        };
        runtime.block_on(bench.run(judge))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (cores, processor) = (encoder_threads(0), clock::processor_name());
    let load = clock::load().map_or_else(String::new, |load| format!(", load {load} at the start"));
    if !arguments.json {
        println!(
            "moothall {}, models {}; {processor}, {cores} cores{load}; {} comments a round, median of {} rounds",
            env!("CARGO_PKG_VERSION"),
            rulebook.model_version,
            arguments.comments,
            arguments.rounds
        );
    }
    let line = line::Line {
        runtime: &runtime,
        folder: &manifest.folder,
        rulebook: &rulebook,
        settings: &settings,
        models: &models,
    };
    let begun = clock::Stopwatch::start()?;
    let mut found = serde_json::Map::new();
    let mut pages = String::new();
    for part in Part::value_variants().iter().filter(|part| arguments.only.is_empty() || arguments.only.contains(part))
    {
        let table = match part {
            Part::Footprint => footprint::measure(common, arguments, &manifest),
            Part::Engines => engines::measure(arguments, &manifest, &rulebook, &models),
            Part::Questions => questions::measure(arguments, &models),
            Part::Line => line::measure(arguments, &line),
            Part::Floods => line::floods(arguments, &line),
            Part::Queue => embedded::measure(arguments, &line),
        }?;
        pages += &table.markdown();
        if arguments.json {
            found.insert(table.key.to_owned(), table.json());
        } else {
            print!("{table}");
        }
    }
    let took = begun.took()?;
    // Of this process alone: while a peer has its turn it waits.
    let (processor_s, wall_s) = (took.processor.as_secs_f64(), took.wall.as_secs_f64());
    if let Some(path) = &arguments.markdown {
        let end = clock::load().map_or_else(String::new, |load| format!(", {load} at the end"));
        let page = format!(
            "# Performance\n\nWritten by `moothall bench --markdown`; do not edit. {processor}, {cores} cores{load}{end}; moothall {}, \
             models {}; {} comments of each kind and round, median of {} rounds, ± half of their spread. What is compared was \
             measured in the same run and in turns, per second of processor time, which stays steady where others use the \
             machine too; what is on the wall clock (first answer, p50, p99) does not.\n\n{}\n",
            env!("CARGO_PKG_VERSION"),
            rulebook.model_version,
            arguments.comments,
            arguments.rounds,
            pages.trim_end()
        );
        std::fs::write(path, page).with_context(|| path.display().to_string())?;
    }
    if arguments.json {
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"), "models": rulebook.model_version, "processor": processor,
            "cores": cores, "load_at_start": clock::load(), "comments": arguments.comments, "rounds": arguments.rounds,
            "processor_s": processor_s, "wall_s": wall_s, "parts": found,
        });
        println!("{about:#}");
    } else {
        let load = clock::load().map_or_else(String::new, |load| format!(", load {load} at the end"));
        println!(
            "\ntook {wall_s:.0} s, {processor_s:.0} s of processor here{load}; ± is half the spread of the rounds"
        );
    }
    Ok(ExitCode::SUCCESS)
}
