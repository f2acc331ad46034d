//! `moothall codebook check`: every problem of a codebook at once.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{counted, embed, typed};
use crate::cli::{Common, Failure, encoder_threads};
use crate::codebook::check::{Finding, Vectors, Weight, check};
use crate::engine::Models;
use crate::settings::{Problems, examples};

/// Options of `codebook check`.
#[derive(Debug, Args)]
#[command(after_help = "An error keeps `codebook train` from working; a warning is for a person to look at.\n\
    Ends with 0 when it is fine, with 2 on errors, and with --strict with 1 on warnings.")]
pub struct Arguments {
    /// The consultation's folder, or its codebook.toml
    #[arg(value_name = "DIR|FILE")]
    place: PathBuf,
    /// Look at the text alone, and not at what the encoder makes of it
    #[arg(long)]
    quick: bool,
    /// End with status 1 on warnings
    #[arg(long)]
    strict: bool,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Reads codebook and examples and prints what is wrong or doubtful.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let mut problems = Problems::default();
    let typed = typed(&arguments.place, &mut problems);
    let mut findings = Vec::new();
    let (mut themes, mut texts) = (0, 0);
    if let Some(codebook) = &typed.codebook {
        let found = examples::load(codebook, &typed.training, &typed.folder, None, false, &mut problems);
        (themes, texts) = (codebook.themes.len(), found.examples.len());
        let vectors = if arguments.quick {
            None
        } else {
            let models = Models::load_general(&common.models_folder(&settings))?;
            let labels = codebook.themes.iter().map(|theme| theme.label.as_str());
            let all: Vec<&str> = labels.chain(found.examples.iter().map(|example| example.text.as_str())).collect();
            Some(embed(&models, &all, encoder_threads(settings.threads)).1)
        };
        let vectors = vectors.as_ref().map(|all| Vectors { labels: &all[..themes], examples: &all[themes..] });
        findings = check(codebook, &typed.file, &found.examples, vectors);
    }
    // What is plainly wrong comes first.
    let wrong = problems.0.iter().map(|problem| Finding {
        weight: Weight::Error,
        place: if problem.key.is_empty() {
            problem.file.clone()
        } else {
            format!("{}: `{}`", problem.file, problem.key)
        },
        message: problem.message.clone(),
    });
    let mut all: Vec<Finding> = wrong.collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    all.append(&mut findings);
    let errors = all.iter().filter(|finding| finding.weight == Weight::Error).count();
    let warnings = all.len() - errors;
    if arguments.json {
        let list: Vec<_> = all
            .iter()
            .map(|finding| json!({"level": level(finding), "place": finding.place, "message": finding.message}))
            .collect();
        let summary =
            json!({"themes": themes, "texts": texts, "errors": errors, "warnings": warnings, "findings": list});
        println!("{summary}");
    } else {
        for finding in &all {
            println!("{:<8} {} {}", level(finding), finding.place, finding.message);
        }
        println!(
            "{}: {}, {}; {}, {}",
            typed.file,
            counted(themes, "theme"),
            counted(texts, "text"),
            counted(errors, "error"),
            counted(warnings, "warning")
        );
    }
    Ok(match (errors, warnings) {
        (1.., _) => ExitCode::from(2),
        (0, 1..) if arguments.strict => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn level(finding: &Finding) -> &'static str {
    match finding.weight {
        Weight::Error => "error",
        Weight::Warning => "warning",
    }
}
