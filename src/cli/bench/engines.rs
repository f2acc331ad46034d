//! The encoder against other runtimes on the same weights, cell by cell in turns.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::clock::Stopwatch;
use super::peer::{self, Measured, Peer};
use super::table::{Bar, Figure, Table};
use super::texts::{mixed_lengths, sequences};
use super::{Arguments, Failure};
use crate::domain::rulebook::Rulebook;
use crate::engine::choice::{Device, EngineChoice, HAS_RUST_BERT};
use crate::engine::encoder::EncoderConfig;
use crate::engine::encoding::Encode;
use crate::engine::kernels::{self, Path as Instructions};
use crate::engine::manifest::ManifestFile;
use crate::engine::{Models, Scorer};

/// Sequences that go through an engine together.
const BATCH: usize = 8;
/// Tokens of the cell that is held against the peak.
const LENGTH: usize = 32;
/// Sequences run one by one in each round.
const SINGLES: usize = 64;
/// Largest difference between two engines on the same weights.
const TOLERANCE: f32 = 1e-3;

/// One engine on one thread.
struct Contestant {
    name: String,
    runner: Runner,
}

enum Runner {
    /// Ragged batches, as they come.
    Ragged(Box<dyn Encode>),
    /// In this process, sorted by length first because it pads.
    Padding(Box<dyn Encode>),
    /// In a process of its own, which sorts too.
    Peer(Peer),
}

impl Contestant {
    fn run(&mut self, sequences: &[Vec<u32>], batch: usize) -> anyhow::Result<Measured> {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        let engine = match &mut self.runner {
            Runner::Peer(peer) => return peer.run(sequences, batch),
            Runner::Ragged(engine) => engine,
            Runner::Padding(engine) => {
                order.sort_by_key(|index| sequences[*index].len());
                engine
            }
        };
        let mut measured = Vec::with_capacity(sequences.len().div_ceil(batch));
        let mut first = Vec::new();
        let watch = Stopwatch::start()?;
        for some in order.chunks(batch) {
            let started = Instant::now();
            let rows: Vec<&[u32]> = some.iter().map(|index| sequences[*index].as_slice()).collect();
            let hidden = engine.encode(&rows);
            measured.push(started.elapsed().as_secs_f64() * 1e3);
            if let Some(at) = some.iter().position(|index| *index == 0) {
                let before: usize = rows[..at].iter().map(|row| row.len()).sum();
                let width = hidden.len() / rows.iter().map(|row| row.len()).sum::<usize>();
                first = hidden[before * width..][..8].to_vec();
            }
        }
        Ok(Measured { took: watch.took()?, walls_ms: measured, first, peak_mib: 0.0 })
    }
}

/// Measures every engine that is here.
pub fn measure(
    arguments: &Arguments,
    manifest: &ManifestFile,
    rulebook: &Rulebook,
    models: &Arc<Models>,
) -> Result<Table, Failure> {
    let mut notes = Vec::new();
    let mut contestants = contestants(arguments, manifest, rulebook, &mut notes)?;
    let config = manifest.folder.join(&manifest.manifest.encoder.config);
    let config: EncoderConfig = serde_json::from_slice(&std::fs::read(&config)?)?;
    let scorer = Scorer::new(Arc::clone(models));

    let columns = ["mixed by 8 /s", "8 x 32 /s", "8 x 32 of peak", "one by one /s", "p50 ms", "p99 ms"];
    let mut rounds: Vec<[Vec<f64>; 4]> = contestants.iter().map(|_| Default::default()).collect();
    let mut latencies: Vec<Vec<f64>> = contestants.iter().map(|_| Vec::new()).collect();
    let mut peaks = Vec::new();
    for round in 0..=arguments.rounds {
        let peak = peak()?;
        let lengths = mixed_lengths(arguments.comments, round);
        let cells = [
            (sequences(&scorer, &lengths, round), BATCH),
            (sequences(&scorer, &[LENGTH; 8 * BATCH], round), BATCH),
            (sequences(&scorer, &mixed_lengths(SINGLES, round + 1000), round), 1),
        ];
        let mut agreed: [Vec<f32>; 3] = Default::default();
        for turn in 0..contestants.len() {
            // Another one begins each round.
            let at = (turn + round) % contestants.len();
            for (cell, (sequences, batch)) in cells.iter().enumerate() {
                let measured = contestants[at].run(sequences, *batch)?;
                agree(&mut agreed[cell], &measured.first, &contestants[at].name)?;
                let second = measured.took.processor.as_secs_f64().max(1e-9);
                if round == 0 {
                    continue; // warms up
                }
                rounds[at][cell].push(sequences.len() as f64 / second);
                if cell == 1 {
                    rounds[at][3].push(sequences.len() as f64 * work(&config, LENGTH) / second / peak);
                }
                if cell == 2 {
                    latencies[at].extend(measured.walls_ms);
                }
            }
        }
        peaks.push(peak / 1e9);
    }
    notes.push("comments per second of processor time, one thread each, and wall milliseconds one by one".to_owned());
    notes.push(format!(
        "mixed: log-normal lengths, median 42 tokens, 8 to 128; peak: {:.0} GFLOP/s by multiply-adds in registers",
        Figure::of(peaks).median
    ));
    let ratio = |mine: usize, theirs: usize| {
        let pairs = rounds[mine][0].iter().zip(&rounds[theirs][0]);
        Figure::of(pairs.map(|(mine, theirs)| mine / theirs).collect())
    };
    let mut bars = vec![Bar::at_least("share of the peak at 8 x 32", Figure::of(rounds[0][3].clone()).median, 0.65)];
    for (at, contestant) in contestants.iter().enumerate().skip(1) {
        let ratio = ratio(0, at);
        if contestant.name.starts_with("onnxruntime") {
            bars.push(Bar::at_least("built-in / ONNX Runtime on the mixed stream", ratio.median, 1.0));
        }
        notes.push(format!("built-in / {}: {:.2} on the mixed stream", contestant.name, ratio.median));
    }
    let rows = contestants.iter().zip(rounds).zip(latencies).map(|((contestant, rounds), mut latencies)| {
        let [mixed, fixed, single, share] = rounds.map(|rounds| Some(Figure::of(rounds)));
        latencies.sort_by(f64::total_cmp);
        let quantile = |part: f64| {
            let median = latencies.get(((latencies.len() as f64 - 1.0) * part).round() as usize).copied()?;
            Some(Figure { median, spread: 0.0 })
        };
        (contestant.name.clone(), vec![mixed, fixed, share, single, quantile(0.5), quantile(0.99)])
    });
    Ok(Table {
        key: "engines",
        title: "Encoders on the same weights".to_owned(),
        rows: rows.collect(),
        columns: columns.map(str::to_owned).to_vec(),
        bars,
        notes,
    })
}

/// The engines that are here, the one that Moothall uses first; a note for each that is not.
fn contestants(
    arguments: &Arguments,
    manifest: &ManifestFile,
    rulebook: &Rulebook,
    notes: &mut Vec<String>,
) -> Result<Vec<Contestant>, Failure> {
    let mut contestants = Vec::new();
    for path in Instructions::available().into_iter().rev() {
        let models = Models::load_with(&manifest.folder, rulebook.heads.as_deref(), path)?;
        let engine = Arc::clone(&models.encoder).worker();
        contestants
            .push(Contestant { name: format!("built-in {path:?}").to_lowercase(), runner: Runner::Ragged(engine) });
    }
    if HAS_RUST_BERT {
        let models = Models::load(&manifest.folder, rulebook, EngineChoice::RustBert(Device::Cpu))?;
        let engine = Arc::clone(&models.encoder).worker();
        contestants.push(Contestant { name: "rust-bert on cpu".to_owned(), runner: Runner::Padding(engine) });
    } else {
        notes.push("rust-bert is absent: this binary was built without that feature".to_owned());
    }
    let python = &arguments.python;
    let folder = encoder_folder(manifest)?;
    let exported = std::env::temp_dir().join(format!("moothall-bench-{}.onnx", std::process::id()));
    let onnx = peer::export(python, &folder, &exported)
        .and_then(|()| Peer::start(python, &["onnxruntime", &exported.display().to_string()]));
    let _ = std::fs::remove_file(&exported);
    for (name, peer) in
        [("ONNX Runtime", onnx), ("PyTorch", Peer::start(python, &["torch", &folder.display().to_string()]))]
    {
        match peer {
            Ok(peer) => contestants.push(Contestant { name: peer.name.clone(), runner: Runner::Peer(peer) }),
            Err(error) => notes.push(format!("{name} is absent: {error:#} (another python: --python)")),
        }
    }
    Ok(contestants)
}

/// The folder that holds `config.json` and `model.safetensors`.
fn encoder_folder(manifest: &ManifestFile) -> anyhow::Result<PathBuf> {
    let weights = manifest.folder.join(&manifest.manifest.encoder.weights);
    weights.parent().map(Path::to_owned).context("the encoder's folder")
}

/// Refuses engines that compute something else.
fn agree(agreed: &mut Vec<f32>, found: &[f32], name: &str) -> anyhow::Result<()> {
    if agreed.is_empty() {
        found.clone_into(agreed);
    }
    let furthest = agreed.iter().zip(found).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    anyhow::ensure!(
        furthest <= TOLERANCE && found.len() == agreed.len(),
        "{name} gives other numbers on the same weights: {furthest} off"
    );
    Ok(())
}

/// Floating-point operations of one sequence: the dense layers, and attention's two products.
fn work(config: &EncoderConfig, length: usize) -> f64 {
    let (width, wide, length) = (config.hidden_size as f64, config.intermediate_size as f64, length as f64);
    let dense = 2.0 * length * (4.0 * width * width + 2.0 * width * wide);
    config.num_hidden_layers as f64 * (dense + 4.0 * length * length * width)
}

/// Operations a second that one core does in registers alone, by its best instructions.
fn peak() -> anyhow::Result<f64> {
    let mut best = 0.0f64;
    for path in Instructions::available() {
        for _ in 0..3 {
            let watch = Stopwatch::start()?;
            let operations = kernels::operate(path, 2_000_000);
            best = best.max(operations / watch.took()?.processor.as_secs_f64().max(1e-9));
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_disagree_are_refused() {
        let mut agreed = Vec::new();
        agree(&mut agreed, &[1.0, 2.0], "one").unwrap();
        agree(&mut agreed, &[1.0, 2.000_01], "two").unwrap();
        let error = agree(&mut agreed, &[1.0, 2.1], "three").unwrap_err();
        assert!(error.to_string().contains("three gives other numbers"), "{error}");
        agree(&mut agreed, &[1.0], "four").unwrap_err();
    }

    #[test]
    fn the_work_of_a_sequence_is_that_of_its_products() {
        let config = EncoderConfig {
            hidden_size: 384,
            intermediate_size: 1536,
            num_attention_heads: 12,
            num_hidden_layers: 6,
            max_position_embeddings: 512,
            vocab_size: 100,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".to_owned(),
        };
        // 6 layers of 2 x (4 x 384^2 + 2 x 384 x 1536) a token, and 4 x 384 x length^2.
        assert!((work(&config, 32) / 1e6 - 688.9).abs() < 0.1, "{}", work(&config, 32));
    }
}
