//! `moothall prepare`: what the models read of a text, for the training code, so
//! that training and judging can never see different things.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Common, Failure};
use crate::assess::read::{ReadHints, read};
use crate::domain::reading::{Reading, SurfaceFeatures};
use crate::engine::{Models, Scorer, first_stage};

/// Lines scored together.
const LINES: usize = 64;

/// Options of `prepare`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Add each head's logits before calibration, as judging combines them
    #[arg(long)]
    logits: bool,
    /// Add the buckets of the first stage's n-grams
    #[arg(long)]
    grams: bool,
}

/// JSON lines `{"id", "text"}` in; `{"id", "text", "sentences", "language", "features"}`
/// out, with `"logits": {head: [...]}` and `"grams": [...]` when asked for.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut scorer = if arguments.logits {
        let settings = common.settings()?;
        let (manifest, rulebook) = common.full_rulebook(&settings)?;
        Some(Scorer::new(Models::load(&manifest.folder, &rulebook, settings.engine)?))
    } else {
        None
    };
    let mut stdin = std::io::stdin().lock().lines();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    loop {
        let lines = stdin.by_ref().take(LINES).collect::<std::io::Result<Vec<String>>>()?;
        if lines.is_empty() {
            break;
        }
        print(&lines, scorer.as_mut(), arguments.grams, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn print(lines: &[String], scorer: Option<&mut Scorer>, grams: bool, out: &mut impl Write) -> Result<(), Failure> {
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
    let readings: Vec<Reading> =
        lines.iter().map(|line| read(line["text"].as_str().unwrap_or_default(), ReadHints::default())).collect();
    let logits = scorer.map(|scorer| scorer.combined_logits(&readings.iter().collect::<Vec<_>>()));
    for (index, (line, reading)) in lines.iter().zip(&readings).enumerate() {
        let features: Map<String, Value> = SurfaceFeatures::NAMES
            .iter()
            .zip(&reading.features.0)
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let sentences: Vec<[usize; 2]> = reading.sentences.iter().map(|span| [span.start, span.end]).collect();
        let mut prepared = json!({
            "id": line["id"],
            "text": reading.judged.text,
            "sentences": sentences,
            "language": reading.language.code(),
            "features": features,
        });
        if let Some(logits) = &logits {
            prepared["logits"] = logits[index]
                .iter()
                .map(|(head, values)| ((*head).to_owned(), json!(values)))
                .collect::<Map<_, _>>()
                .into();
        }
        if grams {
            prepared["grams"] = json!(first_stage::grams(&reading.judged.text));
        }
        writeln!(out, "{prepared}")?;
    }
    Ok(())
}
