//! `moothall shadow run|report`: another rulebook looks on, and what it would do otherwise.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::differences::{Differences, print_totals};
use super::files::stop_on_interrupt;
use super::output::Place;
use super::progress::Line;
use super::{Carried, Common, Failure, encoder_threads, usage};
use crate::app::{LineJudge, open_store};
use crate::assess::compare::Totals;
use crate::domain::rulebook::Rulebook;
use crate::pipeline::clock::Clock;
use crate::pipeline::ports::Store;
use crate::pipeline::shadow::{Pace, ShadowDeps, compare_machines, pass};
use crate::settings::{RulebookFiles, Settings};

/// Comments of one page of the report.
const PAGE: u32 = 500;

/// Which rulebook looks on.
#[derive(Clone, Debug, Args)]
pub struct ShadowArgs {
    /// Folder of the consultation whose rulebook looks on and changes nothing
    #[arg(long, global = true, value_name = "DIR")]
    shadow: Option<PathBuf>,
}

impl ShadowArgs {
    /// The rulebook that looks on; `None` where nobody asks for one.
    ///
    /// # Errors
    /// When its files cannot be used, or are for another consultation.
    pub fn load(&self, common: &Common, settings: &Settings) -> Result<Option<Carried>, Failure> {
        let Some(folder) = self.shadow.as_ref().or(settings.shadow_folder.as_ref()) else { return Ok(None) };
        let models = settings.shadow_models.clone().unwrap_or_else(|| common.models_folder(settings));
        let carried = Carried::load(&RulebookFiles::at(folder)?, &models)?;
        let id = &carried.rulebook.consultation.id;
        if id.as_str() == common.consultation {
            return Ok(Some(carried));
        }
        Err(usage(&format!(
            "the shadow in {} is for consultation `{id}`, not `{}`",
            folder.display(),
            common.consultation
        )))
    }
}

/// Options of `shadow`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    moothall run --shadow next/mentoring --out out       the service judges by the active rulebook; this one looks on\n  \
    moothall shadow run --shadow next/mentoring --out out     or: let it judge now what is stored\n  \
    moothall shadow report --shadow next/mentoring --out out  where it would judge otherwise, and why\n\n\
    To take it: moothall rulebook adopt --from next/mentoring --out out")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    which: ShadowArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Judge what is stored and was not judged in the shadow yet
    Run {
        /// Encoder threads; 0 means one per core
        #[arg(long, default_value_t = 0, value_name = "N")]
        threads: usize,
    },
    /// Show agreement, differences by comment with their reasons, and disclosures that either missed
    Report {
        /// Write every comment that differs into this file (.csv or .json): ids and numbers, no text
        #[arg(long, value_name = "FILE")]
        changes: Option<PathBuf>,
    },
}

/// Runs the chosen action.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let place = arguments.place.store(&settings)?;
    super::existing(&place)?;
    let carried = arguments.which.load(common, &settings)?.ok_or_else(|| {
        usage("no rulebook looks on: name its folder with --shadow DIR or shadow.consultation in the settings")
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store = open_store(&place).await?;
        match &arguments.action {
            Action::Run { threads } => {
                let threads = if *threads > 0 { *threads } else { settings.threads };
                let deps = deps(carried, &store, &Clock::system(), &settings, encoder_threads(threads))?;
                let funnel = store.funnel(&deps.rulebook.consultation.id).await?;
                let line = Line::comments("looking on", funnel.received() - funnel.failed);
                let shutdown = stop_on_interrupt();
                let done = pass(&deps, Pace::Steady, &shutdown, |done| line.set(done)).await?;
                line.finish(&format!("{done} comments judged in the shadow by {}", deps.rulebook.version));
                let stopped = shutdown.stop_intake.is_cancelled();
                Ok(if stopped { ExitCode::FAILURE } else { ExitCode::SUCCESS })
            }
            Action::Report { changes } => {
                let list = Differences::open(changes.as_deref(), &carried.rulebook.version)?;
                report(store.as_ref(), &carried.rulebook, list).await
            }
        }
    })
}

/// Loads what looks on.
pub fn deps(
    carried: Carried,
    store: &Arc<dyn Store>,
    clock: &Clock,
    settings: &Settings,
    threads: usize,
) -> Result<ShadowDeps, Failure> {
    let rulebook = Arc::new(carried.rulebook);
    let judge = LineJudge::start(&carried.manifest.folder, Arc::clone(&rulebook), settings.engine, threads)?;
    Ok(ShadowDeps {
        store: Arc::clone(store),
        judge: Arc::new(judge),
        rulebook,
        sample: settings.shadow_sample,
        clock: clock.clone(),
    })
}

async fn report(store: &dyn Store, rulebook: &Rulebook, mut list: Differences) -> Result<ExitCode, Failure> {
    let (id, version) = (&rulebook.consultation.id, &rulebook.version);
    let (mut totals, mut after) = (Totals::default(), i64::MIN);
    loop {
        let page = store.shadowed(id, version, after, PAGE).await?;
        let Some((end, _)) = page.last() else { break };
        after = end.sequence;
        for (stored, shadow) in &page {
            let compared = compare_machines(stored, shadow, rulebook);
            totals.add(&compared);
            if compared.differs() {
                list.add(stored, &compared)?;
            }
        }
    }
    list.finish(&totals)?;
    if totals.compared == 0 {
        println!("Rulebook {version} has judged nothing in the shadow yet: moothall shadow run");
        return Ok(ExitCode::SUCCESS);
    }
    print_totals(&totals, true, ["active", "shadow"]);
    if totals.escalated > 0 {
        println!("Read them: the active rulebook alerts nobody of what only the shadow sees.");
    }
    Ok(ExitCode::SUCCESS)
}
