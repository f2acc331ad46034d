//! `moothall prepare`: what the models read of a text, for the training code, so
//! that training and judging can never see different things.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::Failure;
use crate::assess::read::{ReadHints, read};
use crate::domain::reading::SurfaceFeatures;

/// JSON lines `{"id", "text"}` in; `{"id", "text", "sentences", "language", "features"}` out.
pub fn run() -> Result<ExitCode, Failure> {
    let stdin = std::io::stdin().lock();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in stdin.lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let text = line["text"].as_str().unwrap_or_default();
        let reading = read(text, ReadHints::default());
        let features: Map<String, Value> = SurfaceFeatures::NAMES
            .iter()
            .zip(&reading.features.0)
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let sentences: Vec<[usize; 2]> = reading.sentences.iter().map(|span| [span.start, span.end]).collect();
        let prepared = json!({
            "id": line["id"],
            "text": reading.judged.text,
            "sentences": sentences,
            "language": reading.language.code(),
            "features": features,
        });
        writeln!(out, "{prepared}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
