//! The subcommands, one small module each.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 (`process
//! --strict`) done but some rows failed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::StorePlace;
use crate::domain::rulebook::{Consultation, Rulebook, RulebookSnapshot};
use crate::engine::Models;
use crate::engine::choice::{CheapFirst, EngineChoice};
use crate::engine::manifest::{ManifestFile, find_folder};
use crate::pipeline::ports::EngineError;
use crate::settings::{Problems, RulebookFiles, Settings, load_consultation, load_rulebook, snapshot};
use crate::telemetry::{self, LogFormat};

mod adoption;
mod assess;
mod backup;
mod bench;
mod broker;
mod check_config;
mod codebook;
mod copy_store;
mod differences;
mod doctor;
mod eval;
mod files;
mod health;
mod known;
mod migrate;
mod output;
mod prepare;
mod process;
mod progress;
mod publish;
mod purge;
mod queue;
mod report;
mod rulebook;
mod run;
mod safeguarding;
mod service;
mod shadow;
mod webhook;
mod worker;

/// Comment moderation and sentiment for public consultations.
///
/// Every comment is read once by a small model on this machine, judged by a
/// written policy and coded by a written codebook. Nothing leaves the building,
/// nothing is deleted by a verdict, and a possible disclosure of harm goes to a
/// person before anything else.
#[derive(Debug, Parser)]
#[command(name = "moothall", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Settings file; see config/default.toml for every key
    #[arg(long, global = true, value_name = "FILE", env = "MOOTHALL_CONFIG")]
    config: Option<PathBuf>,
    /// Models folder [default: ./models, else `models` beside the executable or above it]
    #[arg(long, global = true, value_name = "DIR", env = "MOOTHALL_MODELS")]
    models: Option<PathBuf>,
    /// Folder with one folder per consultation [default: ./config, else the built-in ones]
    #[arg(long, global = true, value_name = "DIR", env = "MOOTHALL_CONSULTATIONS")]
    consultations: Option<PathBuf>,
    /// Whose codebook and policy to judge by; `none` judges bare texts
    #[arg(long, global = true, value_name = "ID", default_value = "mentoring", env = "MOOTHALL_CONSULTATION")]
    consultation: String,
    /// Encoder to judge with: `built-in` or `rust-bert` [default: as engine.kind says]
    #[arg(long, global = true, value_name = "NAME")]
    engine: Option<String>,
    /// What rust-bert computes on: `cpu` or a GPU such as `cuda:0` [default: as engine.device says]
    #[arg(long, global = true, value_name = "DEVICE")]
    device: Option<String>,
    /// Before the encoder: `on` (repeats and plain spam), `repeats`, `off` [default: as `engine.cheap_first` says]
    #[arg(long, global = true, value_name = "WHAT")]
    cheap_first: Option<String>,
    /// Whether the command line names a consultation, rather than the environment or nobody.
    #[arg(skip)]
    consultation_named: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read files of comments, judge them, and write a report with its tables
    Process(process::Arguments),
    /// Serve: take comments over HTTP, judge them, keep the report up to date
    Run(run::Arguments),
    /// Take comments from RabbitMQ, judge them and send the results; no pages
    Worker(worker::Arguments),
    /// Put a file's comments on RabbitMQ, for the workers
    Publish(publish::Arguments),
    /// What waits and what was given up on, on the broker or in the store's file
    Queue(queue::Arguments),
    /// Who is told over HTTP: how that goes, what was given up on, a test message
    Webhook(webhook::Arguments),
    /// Possible disclosures of harm: list them, acknowledge them
    Safeguarding(safeguarding::Arguments),
    /// Which standards judge and have judged: list them, adopt one, go back to one
    Rulebook(rulebook::Arguments),
    /// Let another rulebook look on, and see where it would judge otherwise
    Shadow(shadow::Arguments),
    /// Write report and tables again from what is in the store
    Report(report::Arguments),
    /// Judge JSON lines from standard input: one JSON line out for each, in order
    Assess(assess::Arguments),
    /// Measure the judgement against labelled comments, beside other systems
    Eval(eval::Arguments),
    /// Check, train and measure what comments are coded by
    Codebook(codebook::Arguments),
    /// Measure the encoder alone and the whole line on this machine
    Bench(bench::Arguments),
    /// Check settings, policy, codebook and models, and name every problem
    CheckConfig,
    /// Look at everything that work needs, and say what is wrong and what to do
    Doctor(doctor::Arguments),
    /// Bring the store's schema up to this binary's
    Migrate(migrate::Arguments),
    /// Copy a store from its SQLite file to a PostgreSQL server, and prove that nothing is missing
    CopyStore(copy_store::Arguments),
    /// Copy the SQLite store into a new file while services go on working
    Backup(backup::Arguments),
    /// Ask the service on this machine how it is
    Health(health::Arguments),
    /// Print what the models read of each JSON line: judging text, sentences and surface features
    #[command(hide = true)]
    Prepare(prepare::Arguments),
}

/// Why a command ended.
#[derive(Debug)]
pub enum Failure {
    /// Wrong usage or settings: exit 2.
    Usage(anyhow::Error),
    /// Anything else: exit 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        if error.is::<Problems>() { Self::Usage(error) } else { Self::Failed(error) }
    }
}

impl Failure {
    /// What went wrong, whatever the exit code.
    fn into_error(self) -> anyhow::Error {
        match self {
            Self::Usage(error) | Self::Failed(error) => error,
        }
    }
}

fn parse() -> Cli {
    let matches = Cli::command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.common.consultation_named = matches.value_source("consultation") == Some(ValueSource::CommandLine);
    cli
}

/// Parses the command line, runs the command and turns its end into an exit code.
pub fn main() -> ExitCode {
    let cli = parse();
    let result = match &cli.command {
        Command::Process(arguments) => process::run(&cli.common, arguments),
        Command::Safeguarding(arguments) => safeguarding::run(&cli.common, arguments),
        Command::Rulebook(arguments) => rulebook::run(&cli.common, arguments),
        Command::Shadow(arguments) => shadow::run(&cli.common, arguments),
        Command::Report(arguments) => report::run(&cli.common, arguments),
        Command::Assess(arguments) => assess::run(&cli.common, arguments),
        Command::Eval(arguments) => eval::run(&cli.common, arguments),
        Command::Codebook(arguments) => codebook::run(&cli.common, arguments),
        Command::Bench(arguments) => bench::run(&cli.common, arguments),
        Command::Run(arguments) => run::run(&cli.common, arguments),
        Command::Worker(arguments) => worker::run(&cli.common, arguments),
        Command::Publish(arguments) => publish::run(&cli.common, arguments),
        Command::Queue(arguments) => queue::run(&cli.common, arguments),
        Command::Webhook(arguments) => webhook::run(&cli.common, arguments),
        Command::Doctor(arguments) => doctor::run(&cli.common, arguments),
        Command::Migrate(arguments) => migrate::run(&cli.common, arguments),
        Command::CopyStore(arguments) => copy_store::run(&cli.common, arguments),
        Command::Backup(arguments) => backup::run(&cli.common, arguments),
        Command::Health(arguments) => health::run(&cli.common, arguments),
        Command::CheckConfig => check_config::run(&cli.common),
        Command::Prepare(arguments) => prepare::run(&cli.common, arguments),
    };
    match result {
        Ok(code) => code,
        Err(Failure::Usage(error)) => {
            eprintln!("moothall: {error:#}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("moothall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Common {
    /// Settings: defaults, file, environment.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let text = match &self.config {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    let mut problems = Problems::default();
                    problems.add(&path.display().to_string(), "", format!("cannot be read: {error}"));
                    problems
                })?;
                Some((path.display().to_string(), text))
            }
        };
        let file = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
        // Flags stand above the environment, under the same names and with the same checks.
        let above = |name: &str| {
            let flag = match name {
                "MOOTHALL_ENGINE_KIND" => &self.engine,
                "MOOTHALL_ENGINE_DEVICE" => &self.device,
                "MOOTHALL_ENGINE_CHEAP_FIRST" => &self.cheap_first,
                _ => &None,
            };
            flag.clone().or_else(|| environment(name))
        };
        Ok(Settings::load(file, &above)?)
    }

    /// The models folder.
    pub fn models_folder(&self, settings: &Settings) -> PathBuf {
        find_folder(self.models.as_deref().or(settings.models_folder.as_deref()))
    }

    /// The chosen consultation alone, for commands that judge nothing and need no models.
    pub fn consultation(&self, settings: &Settings) -> Result<Consultation, Failure> {
        Ok(load_consultation(&self.rulebook_files(settings)?)?)
    }

    fn rulebook_files(&self, settings: &Settings) -> Result<RulebookFiles, Problems> {
        let folder = self.consultations.as_deref().or(settings.consultations_folder.as_deref());
        RulebookFiles::find(&self.consultation, folder)
    }

    /// The manifest and the rulebook of the chosen consultation, as the line judges by it.
    pub fn rulebook(&self, settings: &Settings) -> Result<(ManifestFile, Rulebook), Failure> {
        let Carried { manifest, rulebook, .. } = self.carried(settings)?;
        Ok((manifest, rulebook))
    }

    /// The same with every comment's judgement in full: no first stage settles anything.
    pub fn full_rulebook(&self, settings: &Settings) -> Result<(ManifestFile, Rulebook), Failure> {
        let files = self.rulebook_files(settings)?;
        let Carried { manifest, rulebook, .. } =
            Carried::load(&files, &self.models_folder(settings), CheapFirst::Repeats)?;
        Ok((manifest, rulebook))
    }

    /// Everything that this process judges the chosen consultation by.
    pub fn carried(&self, settings: &Settings) -> Result<Carried, Failure> {
        let files = self.rulebook_files(settings)?;
        Ok(Carried::load(&files, &self.models_folder(settings), settings.cheap_first)?)
    }
}

/// Everything that one consultation is judged by.
pub struct Carried {
    /// The models.
    pub manifest: ManifestFile,
    /// What they are judged by.
    pub rulebook: Rulebook,
    /// The same as a store keeps it.
    pub snapshot: RulebookSnapshot,
}

impl Carried {
    /// Reads and checks a consultation's files against the models in a folder.
    pub fn load(files: &RulebookFiles, models: &Path, cheap_first: CheapFirst) -> anyhow::Result<Self> {
        let manifest = ManifestFile::read(models)?;
        let rulebook = load_rulebook(files, &manifest, cheap_first.settles())?;
        let snapshot = snapshot(files, &manifest, &rulebook)?;
        Ok(Self { manifest, rulebook, snapshot })
    }

    /// Reads the models whole, as judging does.
    pub fn check_models(&self) -> Result<(), EngineError> {
        Models::load(&self.manifest.folder, &self.rulebook, EngineChoice::BuiltIn).map(drop)
    }
}

/// The one place that reads the environment for settings.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Logs to standard error, at `level` unless the settings ask for another than the default.
fn start_logging(settings: &Settings, level: &str) {
    let level = if settings.log_level == "info" { level } else { &settings.log_level };
    let format = if settings.log_json { LogFormat::Json } else { LogFormat::Human };
    // What lapin calls errors is said by the broker's adapter, once and in our words.
    let lapin = if matches!(level, "debug" | "trace") { "warn" } else { "off" };
    if let Err(error) = telemetry::init_logs(format, Some(&format!("warn,lapin={lapin},moothall={level}"))) {
        eprintln!("moothall: no logs: {error}");
    }
}

/// Wrong usage, in a sentence.
fn usage(message: &str) -> Failure {
    Failure::Usage(anyhow::anyhow!("{message}"))
}

/// Refuses to work on a file that is not there, instead of making an empty one.
fn existing(store: &StorePlace) -> Result<(), Failure> {
    match store {
        StorePlace::File(path) if !path.is_file() => Err(usage(&format!(
            "no store at {}: run `moothall process` first, or name its folder with --out",
            path.display()
        ))),
        StorePlace::File(_) | StorePlace::Server { .. } => Ok(()),
    }
}

/// Threads for the encoder: what was asked for, else one per core.
pub fn encoder_threads(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, usize::from) }
}
