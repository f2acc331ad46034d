//! `moothall codebook train`: from a codebook and its examples to heads beside it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use moothall_numerics::figures::Figure;
use sha2::{Digest, Sha256};

use super::{counted, embed, typed};
use crate::cli::{Common, Failure, encoder_threads, usage};
use crate::codebook::check::{ENOUGH, FEWEST};
use crate::codebook::example::{Example, Origin, Part};
use crate::codebook::fit::{Data, Options, Trained, train};
use crate::codebook::report::{HeadReport, Measured};
use crate::codebook::taught;
use crate::domain::codebook::Codebook;
use crate::engine::Models;
use crate::engine::manifest::HeadKind;
use crate::engine::trained::{
    ACTIVE, CodebookPart, DESCRIPTION, DataPart, Description, EncoderPart, HeadPart, LabelPart, TrainingPart, WEIGHTS,
    weights_file,
};
use crate::settings::Problems;
use crate::settings::examples::{Examples, load};

/// Changes when the same examples give other heads.
const LEARNER: &str = "1";

/// F1 under which a theme is called weak.
const WEAK_F1: f64 = 0.5;

/// Rows set aside for reporting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Holdout {
    /// 12 % of the files' rows, always the same ones, chosen by a hash of the text
    Dev,
    /// None but those of files with `heldout` in their names
    None,
}

/// Options of `codebook train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Heads are written to heads/VERSION beside the codebook, and heads/active.toml then names them.\n\
    Earlier versions stay: to go back, name one of them there.\n\n  \
    moothall codebook train config/mentoring --dry-run\n  \
    moothall codebook train config/mentoring"
)]
pub struct Arguments {
    /// The consultation's folder, or its codebook.toml
    #[arg(value_name = "DIR|FILE")]
    place: PathBuf,
    /// JSON Lines of comments that people decided on in review; blind codes among them are left out
    #[arg(long, value_name = "FILE")]
    corrections: Option<PathBuf>,
    /// Rows to set aside, so that figures are on comments that nothing was fitted on
    #[arg(long, value_enum, default_value = "dev")]
    holdout: Holdout,
    /// Of folds and intervals
    #[arg(long, value_name = "N", default_value_t = 20_261_123)]
    seed: u64,
    /// Train and print, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Trains, prints the figures and writes the heads.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let mut problems = Problems::default();
    let typed = typed(&arguments.place, &mut problems);
    let Some(codebook) = &typed.codebook else { return Err(problems.into()) };
    let hold_out = arguments.holdout == Holdout::Dev;
    let corrections = arguments.corrections.as_deref();
    let found = load(codebook, &typed.training, &typed.folder, corrections, hold_out, &mut problems);
    for (at, theme) in codebook.themes.iter().enumerate() {
        let count = found.examples.iter().filter(|example| teaches(example, at)).count();
        if count < FEWEST {
            let key = format!("theme `{}`.examples", theme.id);
            problems.add(&typed.file, key, format!("has {count} of at least {FEWEST} examples to learn from"));
        }
    }
    problems.or(())?;
    let models = Models::load_general(&common.models_folder(&settings))?;
    let threads = encoder_threads(settings.threads);
    let texts: Vec<&str> = found.examples.iter().map(|example| example.text.as_str()).collect();
    let (texts, vectors) = embed(&models, &texts, threads);
    if vectors.len() != found.examples.len() {
        return Err(usage("an encoder thread ended before its work was done"));
    }
    eprintln!("training ...");
    let themes: Vec<String> = codebook.themes.iter().map(|theme| theme.id.to_string()).collect();
    let data = Data {
        themes: &themes,
        stance: codebook.stance.is_some(),
        examples: &found.examples,
        texts: &texts,
        vectors: &vectors,
    };
    let options = Options { seed: arguments.seed, threads, vectors: true, words: true };
    let trained = train(&data, &options);
    print(codebook, &trained, &found);
    let weights = weights_file(&trained.words, &trained.letters, &trained.heads)?;
    let width = vectors.first().map_or(0, Vec::len);
    let encoder = EncoderPart { weights_sha256: models.manifest.manifest.encoder.weights_sha256.clone(), width };
    let description = describe(codebook, &found, &trained, encoder, arguments, &weights);
    if arguments.dry_run {
        println!("\nnothing written: this was a dry run of version {}", description.version);
        return Ok(ExitCode::SUCCESS);
    }
    let folder = typed.folder.join("heads");
    let text = format!(
        "# Written by `moothall codebook train`. Do not edit: run the command.\n{}",
        toml::to_string(&description).context("describing the heads")?
    );
    write(&folder, &description.version, &text, &weights)?;
    println!(
        "\nwrote {}, now in force by {}",
        folder.join(&description.version).display(),
        folder.join(ACTIVE).display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Whether an example teaches a theme: a comment that raises it and is not held out.
fn teaches(example: &Example, theme: usize) -> bool {
    example.part != Part::HeldOut
        && example.origin != Origin::Described
        && example.themes.get(theme) == Some(&Some(true))
}

/// Version, data and figures as `heads.toml` holds them. No time and no place in it, so that
/// the same training writes the same bytes.
fn describe(
    codebook: &Codebook,
    found: &Examples,
    trained: &Trained,
    encoder: EncoderPart,
    arguments: &Arguments,
    weights: &[u8],
) -> Description {
    let weights_sha256 = hex::encode(Sha256::digest(weights));
    let held_out = arguments.holdout == Holdout::Dev;
    let mut hash = Sha256::new();
    let corrections = format!("{} {}", found.corrections, found.blind);
    let sha256 = taught(codebook);
    let settings = format!("{} {held_out}", arguments.seed);
    let parts = [LEARNER, &sha256, &encoder.weights_sha256, &settings, &corrections, &weights_sha256];
    let files = found.files.iter().flat_map(|file| [file.name.as_str(), file.sha256.as_str()]);
    for part in parts.into_iter().chain(files) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let plain: String =
        codebook.version.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
    Description {
        version: format!("v{plain}-{}", hex::encode(&hash.finalize()[..4])),
        codebook: CodebookPart { id: codebook.id.clone(), version: codebook.version.clone(), sha256 },
        encoder,
        weights_sha256,
        training: TrainingPart {
            seed: arguments.seed,
            held_out,
            texts: found.examples.iter().filter(|example| example.part != Part::HeldOut).count(),
            corrections: found.corrections,
            blind_codes_left_out: found.blind,
        },
        points: trained.points.iter().map(|(label, point)| (label.clone(), *point)).collect(),
        heads: trained.reports.iter().map(head_part).collect(),
        data: found
            .files
            .iter()
            .map(|file| DataPart {
                file: file.name.clone(),
                sha256: file.sha256.clone(),
                rows: file.rows,
                trained: file.trained,
                held_out: file.held_out,
            })
            .collect(),
        labels: trained.reports.iter().flat_map(label_parts).collect(),
    }
}

/// To four digits, so that a file can be read.
fn short(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn triple(figure: Figure) -> [f64; 3] {
    [figure.value, figure.low, figure.high].map(short)
}

fn head_part(report: &HeadReport) -> HeadPart {
    HeadPart {
        name: report.name.clone(),
        kind: if report.exclusive { HeadKind::Multiclass } else { HeadKind::Multilabel },
        labels: report.labels.clone(),
        inverse_penalty: report.penalty.clone(),
        vector_scale: report.scale.clone(),
        micro_f1: triple(report.cross_validated.micro),
        macro_f1: triple(report.cross_validated.macro_f1),
        rows: report.cross_validated.rows,
        held_out_micro_f1: triple(report.held_out.micro),
        held_out_macro_f1: triple(report.held_out.macro_f1),
        held_out_rows: report.held_out.rows,
    }
}

fn label_parts(report: &HeadReport) -> Vec<LabelPart> {
    let figures = |measured: &Measured, at: usize| measured.labels.get(at).cloned().unwrap_or_default();
    (0..report.labels.len())
        .map(|at| {
            let (inside, outside) = (figures(&report.cross_validated, at), figures(&report.held_out, at));
            LabelPart {
                head: report.name.clone(),
                label: report.labels[at].clone(),
                examples: report.trained_yes[at],
                f1: triple(inside.f1),
                precision: short(inside.precision),
                recall: short(inside.recall),
                auc: short(inside.auc),
                calibration_error: short(inside.calibration_error),
                measured_yes: inside.yes,
                held_out_f1: triple(outside.f1),
                held_out_yes: outside.yes,
                thin: report.thin[at],
            }
        })
        .collect()
}

/// The folder appears whole or not at all, and the pointer moves last.
fn write(folder: &Path, version: &str, description: &str, weights: &[u8]) -> anyhow::Result<()> {
    let naming = || format!("writing heads to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(naming)?;
    let place = folder.join(version);
    let unfinished = folder.join(format!(".{version}.{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&unfinished);
    std::fs::create_dir(&unfinished).with_context(naming)?;
    std::fs::write(unfinished.join(WEIGHTS), weights).with_context(naming)?;
    std::fs::write(unfinished.join(DESCRIPTION), description).with_context(naming)?;
    // The version is a hash of everything that went in: what stands there already is the same,
    // unless somebody changed it by hand.
    let _ = std::fs::remove_dir_all(&place);
    std::fs::rename(&unfinished, &place).with_context(naming)?;
    let pointer = format!(
        "# The heads in force: a folder beside this file. To go back, name an earlier one; `moothall check-config`\n\
         # says whether it fits the codebook.\nversion = \"{version}\"\n"
    );
    let beside = folder.join(format!(".{ACTIVE}.{}", std::process::id()));
    std::fs::write(&beside, pointer).with_context(naming)?;
    std::fs::rename(&beside, folder.join(ACTIVE)).with_context(naming)
}

/// The figures as a table, and in words what to do about weak themes.
fn print(codebook: &Codebook, trained: &Trained, found: &Examples) {
    println!(
        "{} {}: {} learnt from, {} held out, {} in review, {} left out",
        codebook.id,
        codebook.version,
        counted(found.examples.iter().filter(|example| example.part != Part::HeldOut).count(), "text"),
        found.examples.iter().filter(|example| example.part == Part::HeldOut).count(),
        counted(found.corrections, "correction"),
        counted(found.blind, "blind code"),
    );
    let one = |figure: Figure| format!("{:.2} [{:.2}, {:.2}]", figure.value, figure.low, figure.high);
    for report in &trained.reports {
        println!(
            "\n{:<20} examples  F1, cross-validated    precision recall  AUC   tag from  F1, held out",
            report.name
        );
        for (at, label) in report.labels.iter().enumerate() {
            let figures = report.cross_validated.labels.get(at).cloned().unwrap_or_default();
            let outside = report.held_out.labels.get(at).filter(|outside| outside.yes > 0);
            println!(
                "{label:<20} {:>8}  {:<21} {:>9.2} {:>6.2} {:>5.2} {:>9}  {}{}",
                report.trained_yes[at],
                one(figures.f1),
                figures.precision,
                figures.recall,
                figures.auc,
                if report.exclusive { "-".to_owned() } else { format!("{:.2}", figures.point) },
                outside.map_or_else(|| "-".to_owned(), |outside| format!("{} ({})", one(outside.f1), outside.yes)),
                if report.thin[at] { "  *" } else { "" }
            );
        }
        let share = if report.exclusive { "accuracy" } else { "micro" };
        for (name, of) in [(share, 0), ("macro", 1)] {
            let pick = |measured: &Measured| if of == 0 { measured.micro } else { measured.macro_f1 };
            let (inside, outside) = (&report.cross_validated, &report.held_out);
            let held =
                if outside.rows > 0 { format!("{} ({})", one(pick(outside)), outside.rows) } else { "-".to_owned() };
            println!("{name:<20} {:>8}  {:<21} {:>33}  {held}", inside.rows, one(pick(inside)), "");
        }
    }
    if trained.reports.iter().any(|report| report.thin.contains(&true)) {
        println!("\n* too few comments to measure on, or all of them seen by the encoder: read the figure as a guess");
    }
    weak(codebook, trained);
}

/// Which themes not to lean on, and what helps.
fn weak(codebook: &Codebook, trained: &Trained) {
    let Some(report) = trained.reports.iter().find(|report| report.name == "themes") else { return };
    let mut lines = Vec::new();
    for (at, theme) in codebook.themes.iter().enumerate() {
        let examples = report.trained_yes[at];
        let figures = report.cross_validated.labels.get(at).cloned().unwrap_or_default();
        if examples < ENOUGH {
            lines.push(format!(
                "`{}` has {}: write or code at least {ENOUGH}, and its figures begin to mean something",
                theme.id,
                counted(examples, "example")
            ));
        } else if figures.f1.value < WEAK_F1 {
            let fault = if figures.precision < figures.recall {
                "often tagged where it is not raised: add comments that look like it and are not"
            } else {
                "often missed: add examples that say it in other words"
            };
            lines.push(format!("`{}` has F1 {:.2} and is {fault}", theme.id, figures.f1.value));
        }
    }
    if lines.is_empty() {
        return;
    }
    println!("\nWeak themes; say so beside their figures:");
    for line in lines {
        println!("  {line}");
    }
}
