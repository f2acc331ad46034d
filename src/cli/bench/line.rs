//! The whole line against its encoder, and floods of what need not be read again.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;

use super::clock::{Stopwatch, Took};
use super::table::{Bar, Figure, Table};
use super::texts::{advertisements, mixed_lengths, texts};
use super::{Arguments, Failure};
use crate::app::{LineJudge, Storage, StorePlace};
use crate::assess::read::{ReadHints, read};
use crate::domain::comment::{Comment, CommentId, CommentKey, SourceName};
use crate::domain::reading::Reading;
use crate::domain::rulebook::Rulebook;
use crate::engine::{Models, Scorer};
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::worker;
use crate::settings::Settings;

/// Comments of a flood for each distinct one: they cost little.
const FLOOD: usize = 8;

/// What the line runs with.
pub struct Line<'a> {
    pub runtime: &'a Runtime,
    pub folder: &'a std::path::Path,
    pub rulebook: &'a Arc<Rulebook>,
    pub settings: &'a Settings,
    pub models: &'a Arc<Models>,
}

/// The encoder alone and the whole line, by length and number of threads.
pub fn measure(arguments: &Arguments, line: &Line<'_>) -> Result<Table, Failure> {
    let columns = ["encoder /s", "line /s", "encoder /cpu-s", "line /cpu-s", "line costs %"];
    let mut rows = Vec::new();
    let mut dearest = 0.0f64;
    for (name, words) in [("short", 8), ("medium", 32), ("long", 120)] {
        for threads in [1, 2] {
            let mut figures: [Vec<f64>; 5] = Default::default();
            for round in 0..arguments.rounds {
                let texts = texts(arguments.comments.max(threads), words, round * 2 + threads);
                let alone = encoder_alone(line.models, &texts, threads)?;
                let whole = line.run(&texts, threads)?;
                let cost = whole.processor.as_secs_f64() / alone.processor.as_secs_f64().max(1e-9) - 1.0;
                let rates = [alone.wall, whole.wall, alone.processor, whole.processor]
                    .map(|time| texts.len() as f64 / time.as_secs_f64().max(1e-9));
                for (figure, value) in figures.iter_mut().zip(rates.into_iter().chain([cost * 100.0])) {
                    figure.push(value);
                }
            }
            let figures = figures.map(Figure::of);
            if name == "medium" {
                dearest = dearest.max(figures[4].median);
            }
            let threads = if threads == 1 { "1 thread" } else { "2 threads" };
            rows.push((format!("{name}, {threads}"), figures.map(Some).to_vec()));
        }
    }
    Ok(Table {
        key: "line",
        title: "Encoder and whole line, comments per second and per second of processor time".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
        bars: vec![Bar::at_most(
            "what the line costs above the encoder on comments of medium length, %",
            dearest,
            10.0,
        )],
        notes: vec!["line: reading, tokenising, judging, queue and store; lengths of 8, 32 and 120 words".to_owned()],
    })
}

/// The whole line on distinct comments, on one comment again and again, and on plain spam.
pub fn floods(arguments: &Arguments, line: &Line<'_>) -> Result<Table, Failure> {
    let names = ["distinct comments", "one comment again and again", "plain spam, each different"];
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..arguments.rounds {
        let count = arguments.comments;
        let words = mixed_lengths(count, round);
        let distinct: Vec<String> =
            words.into_iter().enumerate().map(|(at, words)| texts(1, words, round * count + at).concat()).collect();
        let repeats = vec![texts(1, 42, round + 77).concat(); count * FLOOD];
        for (rates, texts) in rates.iter_mut().zip([distinct, repeats, advertisements(count, round)]) {
            let took = line.run(&texts, 1)?;
            rates.push(texts.len() as f64 / took.processor.as_secs_f64().max(1e-9));
        }
    }
    let times = |at: usize| Figure::of(rates[at].iter().zip(&rates[0]).map(|(one, distinct)| one / distinct).collect());
    let (repeats, spam) = (times(1), times(2));
    let times = [None, Some(repeats), Some(spam)];
    let rows = names.into_iter().zip(rates).zip(times);
    Ok(Table {
        key: "floods",
        title: "Floods through the whole line, one encoder thread".to_owned(),
        columns: ["comments /cpu-s", "times distinct"].map(str::to_owned).to_vec(),
        rows: rows.map(|((name, rates), times)| (name.to_owned(), vec![Some(Figure::of(rates)), times])).collect(),
        bars: vec![
            Bar::at_least("a flood of repeats / distinct comments", repeats.median, 20.0),
            Bar::at_least("a flood of plain spam / distinct comments", spam.median, 20.0),
        ],
        notes: Vec::new(),
    })
}

impl Line<'_> {
    fn run(&self, texts: &[String], threads: usize) -> Result<Took, Failure> {
        self.runtime.block_on(whole_line(self.folder, self.rulebook, self.settings, texts, threads))
    }
}

/// The encoder with its heads over texts that are read already, on `threads` threads.
pub fn encoder_alone(models: &Arc<Models>, texts: &[String], threads: usize) -> Result<Took, Failure> {
    let readings: Vec<Reading> = texts.iter().map(|text| read(text, ReadHints::default())).collect();
    let mut scorers: Vec<Scorer> = (0..threads).map(|_| Scorer::new(Arc::clone(models))).collect();
    let share = readings.len().div_ceil(threads);
    let windows: Vec<Vec<Vec<u32>>> = readings.iter().map(|reading| scorers[0].window_ids(reading)).collect();
    let watch = Stopwatch::start()?;
    std::thread::scope(|scope| {
        for (scorer, windows) in scorers.iter_mut().zip(windows.chunks(share)) {
            scope.spawn(move || {
                for some in windows.chunks(8) {
                    let sequences: Vec<&[u32]> = some.iter().flatten().map(Vec::as_slice).collect();
                    scorer.encode_only(&sequences);
                }
            });
        }
    });
    Ok(watch.took()?)
}

/// A folder that goes with its value.
pub struct Folder(std::path::PathBuf);

impl Folder {
    /// Beside other temporary ones.
    pub fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("moothall-bench-{}", crate::app::random_name()?));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Queue, reading, encoder, judgement, store, settling: from a comment to its stored judgement.
async fn whole_line(
    models: &std::path::Path,
    rulebook: &Arc<Rulebook>,
    settings: &Settings,
    texts: &[String],
    threads: usize,
) -> Result<Took, Failure> {
    let folder = Folder::new()?;
    let storage = Storage::embedded(&StorePlace::File(folder.path().join("bench.db")), settings, None).await?;
    let judge = Arc::new(LineJudge::start(models, Arc::clone(rulebook), settings.engine, threads)?);
    let comments = comments(texts, rulebook)?;
    let deps = storage.worker(judge, settings);
    let watch = Stopwatch::start()?;
    storage.queue.publish(&comments).await?;
    worker::drain(&deps, &Shutdown::new(), |_| {}).await?;
    Ok(watch.took()?)
}

/// Comments with these texts, under a source of their own.
pub fn comments(texts: &[String], rulebook: &Rulebook) -> Result<Vec<Comment>, Failure> {
    let source = SourceName::new("bench").context("a name")?;
    let key = |index: usize| {
        Some(CommentKey {
            consultation: rulebook.consultation.id.clone(),
            source: source.clone(),
            id: CommentId::new(index.to_string())?,
        })
    };
    let comment = |(index, text): (usize, &String)| Ok(Comment::bare(key(index).context("an id")?, text));
    texts.iter().enumerate().map(comment).collect()
}
