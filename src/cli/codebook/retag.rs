//! `moothall codebook retag`: judges stored comments anew, at first only to show what would change.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::app::{LineJudge, open_store};
use crate::cli::adoption::{self, AdoptArgs};
use crate::cli::differences::{Differences, print_totals};
use crate::cli::files::stop_on_interrupt;
use crate::cli::output::Place;
use crate::cli::progress::Line;
use crate::cli::{Carried, Common, Failure, encoder_threads, existing, start_logging};
use crate::pipeline::ports::Store;
use crate::pipeline::retag::{Retag, RetagDeps, Retagged, retag};

/// Options of `codebook retag`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    moothall codebook retag --out out                            what would change, and why\n  \
    moothall codebook retag --out out --changes changes.csv      the same, comment by comment\n  \
    moothall codebook retag --out out --apply --adopt-rulebook   change it; every earlier judgement is kept\n\n\
    What a person decided stays. A possible disclosure that only the new rulebook sees goes to the safeguarding\n\
    lead at once. No result is sent unless --publish asks for it. A run that was stopped goes on when run again.")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Store the new judgements; without it nothing is changed
    #[arg(long)]
    apply: bool,
    /// Send a result for each comment that changed, as for a new comment
    #[arg(long, requires = "apply")]
    publish: bool,
    /// Write every comment that differs into this file (.csv or .json): ids and numbers, no text
    #[arg(long, value_name = "FILE")]
    changes: Option<PathBuf>,
    #[command(flatten)]
    adopt: AdoptArgs,
    /// Encoder threads; 0 means one per core
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// Judges anew what carries another rulebook's judgement.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    start_logging(&settings, "warn");
    let place = arguments.place.store(&settings)?;
    existing(&place)?;
    let Carried { manifest, rulebook, snapshot } = common.carried(&settings)?;
    let rulebook = Arc::new(rulebook);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = stop_on_interrupt();
        let store = open_store(&place).await?;
        let threads = encoder_threads(if arguments.threads > 0 { arguments.threads } else { settings.threads });
        let judge = LineJudge::start(&manifest.folder, Arc::clone(&rulebook), settings.engine, threads)?;
        let what = if arguments.apply {
            if let Some(said) = adoption::settle(store.as_ref(), &snapshot, arguments.adopt).await? {
                eprintln!("{said}");
            }
            Retag::Apply { publish: arguments.publish }
        } else {
            Retag::DryRun
        };
        let mut list = Differences::open(arguments.changes.as_deref(), &rulebook.version)?;
        let funnel = store.funnel(&rulebook.consultation.id).await?;
        let line = Line::comments("judging anew", funnel.received() - funnel.failed);
        let deps = RetagDeps { store: store.as_ref(), judge: &judge, rulebook: &rulebook };
        let done =
            retag(deps, what, &shutdown, |stored, compared| list.add(stored, compared), |seen| line.set(seen)).await?;
        line.finish(&format!("{} comments looked at, {} judged anew", done.seen, done.totals.compared));
        list.finish(&done.totals)?;
        say(&done, what, store.as_ref(), &rulebook.consultation.id).await?;
        if done.stopped {
            eprintln!("stopped; run the same command again and it goes on from here.");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn say(
    done: &Retagged,
    what: Retag,
    store: &dyn Store,
    consultation: &crate::domain::comment::ConsultationId,
) -> Result<(), Failure> {
    let Retagged { totals, already, recorded, .. } = done;
    if totals.compared == 0 {
        println!("Nothing to do: all {already} comments carry this rulebook's judgement.");
        return Ok(());
    }
    print_totals(totals, false, ["before", "after"]);
    if totals.overruled > 0 {
        println!(
            "Verdicts that do not take effect, because a person decided or must release an escalation: {}",
            totals.overruled
        );
    }
    match what {
        Retag::DryRun => println!("\nNothing was changed. --apply does it."),
        Retag::Apply { .. } => {
            println!("\n{recorded} judgements are current now; the earlier ones are kept.");
            let disagreements = store.disagreements(consultation).await?.len();
            if disagreements > 0 {
                println!("{disagreements} decisions of people differ from the machine's judgement now, and stand.");
            }
            println!("Write the report again: moothall report");
        }
    }
    Ok(())
}
