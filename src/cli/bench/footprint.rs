//! Sizes on disk, memory, and the time to the first answer.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::clock::{processor_time, status_mib};
use super::table::{Bar, Figure, Table};
use super::texts::{mixed_lengths, texts};
use super::{Arguments, Failure};
use crate::app::LineJudge;
use crate::cli::{Common, encoder_threads};
use crate::engine::manifest::ManifestFile;

/// Comments judged before the memory is read a second time.
const MANY: usize = 256;

/// What a fresh process says of itself.
#[derive(Serialize, Deserialize)]
struct Probe {
    processor_s: f64,
    /// Peak memory after the first answer, if the system tells.
    peak_mib: Option<f64>,
}

/// Starts fresh processes and looks at the files.
pub fn measure(common: &Common, arguments: &Arguments, manifest: &ManifestFile) -> Result<Table, Failure> {
    let binary = std::env::current_exe()?;
    let (mut walls, mut processors, mut first, mut many) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let started = Instant::now();
        let mut child = Command::new(&binary)
            .arg("--models")
            .arg(&manifest.folder)
            .args(["--consultation", &common.consultation])
            .args(common.consultations.iter().flat_map(|folder| ["--consultations".as_ref(), folder.as_os_str()]))
            .args(common.config.iter().flat_map(|file| ["--config".as_ref(), file.as_os_str()]))
            .args(["bench", "--probe"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut next = || -> anyhow::Result<Probe> {
            Ok(serde_json::from_str(&lines.next().context("a fresh process gave no answer")??)?)
        };
        let answered = next()?;
        walls.push(started.elapsed().as_secs_f64());
        processors.push(answered.processor_s);
        first.extend(answered.peak_mib);
        many.extend(next()?.peak_mib);
        child.wait()?;
    }
    let mb = |bytes: u64| Figure { median: bytes as f64 / 1e6, spread: 0.0 };
    let models = size(&manifest.folder, &manifest.manifest.encoder.weights)?;
    let whole = mb(models + std::fs::metadata(&binary)?.len());
    let models = mb(models);
    let rows: [(&str, Figure); 6] = [
        ("first answer, s", Figure::of(walls)),
        ("first answer, s of processor", Figure::of(processors)),
        ("memory after it, MiB", Figure::of(first)),
        ("memory after many, MiB", Figure::of(many)),
        ("models, MB", models),
        ("binary and models, MB", whole),
    ];
    let [wall, _, _, memory, _, _] = rows.map(|(_, figure)| figure.median);
    Ok(Table {
        key: "footprint",
        title: "Footprint of a fresh process".to_owned(),
        columns: vec![String::from("median")],
        rows: rows.into_iter().map(|(name, figure)| (name.to_owned(), vec![Some(figure)])).collect(),
        bars: vec![
            Bar::at_most("seconds from start to first answer", wall, 1.0),
            Bar::at_most("peak memory with the models loaded, MiB", memory, 286.0),
            Bar::at_most("models, MB", models.median, 45.0),
            Bar::at_most("binary and models, MB", whole.median, 80.0),
        ],
        notes: vec![format!("many: {MANY} mixed comments at once; {} threads; 286 MiB are 300 MB", encoder_threads(0))],
    })
}

/// Bytes of the files in the models folder and beside the weights, without the pages that are for people.
fn size(folder: &Path, weights: &str) -> std::io::Result<u64> {
    let mut bytes = 0;
    let beside = folder.join(weights);
    let beside = beside.parent().filter(|beside| *beside != folder);
    for folder in std::iter::once(folder).chain(beside) {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let (file, page) = (entry.metadata()?, entry.path().extension().is_some_and(|kind| kind == "md"));
            bytes += if file.is_file() && !page { file.len() } else { 0 };
        }
    }
    Ok(bytes)
}

/// What a fresh process does: one comment, then many, and a line after each.
pub fn probe(common: &Common) -> Result<(), Failure> {
    let settings = common.settings()?;
    let (manifest, rulebook) = common.rulebook(&settings)?;
    let judge =
        LineJudge::start(&manifest.folder, Arc::new(rulebook), settings.engine, encoder_threads(settings.threads))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let many: Vec<String> =
        mixed_lengths(MANY, 0).into_iter().enumerate().map(|(at, words)| texts(1, words, at).concat()).collect();
    for texts in [&many[..1], &many] {
        let texts: Vec<(&str, Option<&str>)> = texts.iter().map(|text| (text.as_str(), None)).collect();
        runtime.block_on(judge.judge_texts(&texts))?;
        let probe = Probe { processor_s: processor_time()?.as_secs_f64(), peak_mib: status_mib("VmHWM:") };
        println!("{}", serde_json::to_string(&probe)?);
    }
    Ok(())
}
