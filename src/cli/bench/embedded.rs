//! The line on the queue in the store's file, without an encoder: how many comments, how soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::Stopwatch;
use super::line::{Line, comments};
use super::stub::{Stub, WORDS};
use super::table::{Bar, Figure, Table};
use super::texts::texts;
use super::{Arguments, Failure};
use crate::app::{LineJudge, Storage, StorePlace};
use crate::domain::comment::Comment;
use crate::pipeline::intake::IntakeLimits;
use crate::pipeline::ports::Judge;
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::worker;
use crate::settings::Settings;

/// Comments of a round for each one that is asked for: they cost little.
const TIMES: usize = 40;
/// Comments that come one by one.
const ALONE: usize = 150;
/// Pause between them: low load.
const PAUSE: Duration = Duration::from_millis(20);

/// Intake and worker by batch, and the time from publishing to the stored result.
pub fn measure(arguments: &Arguments, line: &Line<'_>) -> Result<Table, Failure> {
    let judge = LineJudge::start(line.folder, Arc::clone(line.rulebook), line.settings.engine, 1)?;
    let stub = line.runtime.block_on(Stub::of(&judge))?.waiting(Duration::ZERO);
    let mut batches = vec![16, 64, 256, 1_024, line.settings.batch];
    batches.sort_unstable();
    batches.dedup();
    let (mut rows, mut chosen) = (Vec::new(), 0.0);
    for (place, batch) in batches.into_iter().enumerate() {
        let settings = Settings { batch, ..line.settings.clone() };
        let mut figures: [Vec<f64>; 3] = Default::default();
        for round in 0..arguments.rounds {
            let comments = comments(&texts(arguments.comments * TIMES, WORDS, place * 31 + round), line.rulebook)?;
            let rates = line.runtime.block_on(throughput(&settings, Arc::clone(&stub), &comments))?;
            for (figure, rate) in figures.iter_mut().zip(rates) {
                figure.push(rate);
            }
        }
        let figures = figures.map(Figure::of);
        if batch == line.settings.batch {
            chosen = figures[1].median;
        }
        rows.push((format!("batch {batch}"), figures.map(Some).to_vec()));
    }
    let alone = comments(&texts(ALONE, WORDS, 99), line.rulebook)?;
    let soon = line.runtime.block_on(latency(line.settings, stub, &alone))?;
    Ok(Table {
        key: "queue",
        title: "The embedded queue with a stub for the engine, comments per second".to_owned(),
        columns: ["intake /s", "queue to store /s", "queue to store /cpu-s"].map(str::to_owned).to_vec(),
        rows,
        bars: vec![
            Bar::at_least("queue to store, comments per second at the set batch", chosen, 5_000.0),
            Bar::at_most("published to stored at low load, median, ms", soon.at(50), 30.0),
        ],
        notes: vec![format!("published to stored at low load: p50 {:.1} ms, p99 {:.1} ms", soon.at(50), soon.at(99))],
    })
}

/// Times in milliseconds.
pub struct Times(Vec<f64>);

impl Times {
    /// Sorts what was measured.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// This percentile, from 0 to 100.
    pub fn at(&self, percent: usize) -> f64 {
        self.0.get((self.0.len() * percent / 100).min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Comments per second: taken in, worked off, and worked off per second of processor time.
async fn throughput(settings: &Settings, judge: Arc<dyn Judge>, comments: &[Comment]) -> anyhow::Result<[f64; 3]> {
    let folder = super::line::Folder::new()?;
    let storage = Storage::embedded(&StorePlace::File(folder.path().join("bench.db")), settings, None).await?;
    let deps = storage.worker(judge, settings);
    let watch = Stopwatch::start()?;
    for chunk in comments.chunks(IntakeLimits::default().chunk_rows) {
        storage.queue.publish(chunk).await?;
    }
    let taken = watch.took()?;
    let watch = Stopwatch::start()?;
    worker::drain(&deps, &Shutdown::new(), |_| {}).await?;
    let worked = watch.took()?;
    let rate = |took: Duration| comments.len() as f64 / took.as_secs_f64().max(1e-9);
    Ok([rate(taken.wall), rate(worked.wall), rate(worked.processor)])
}

/// One comment now and then: how long until its judgement is stored.
async fn latency(settings: &Settings, judge: Arc<dyn Judge>, comments: &[Comment]) -> anyhow::Result<Times> {
    let folder = super::line::Folder::new()?;
    let storage = Storage::embedded(&StorePlace::File(folder.path().join("bench.db")), settings, None).await?;
    let (deps, shutdown) = (storage.worker(judge, settings), Shutdown::new());
    let sending = async {
        let mut times = Vec::with_capacity(comments.len());
        for comment in comments {
            let stored = deps.stored.notified();
            let at = Instant::now();
            storage.queue.publish(std::slice::from_ref(comment)).await?;
            tokio::time::timeout(Duration::from_secs(10), stored).await?;
            times.push(at.elapsed().as_secs_f64() * 1_000.0);
            tokio::time::sleep(PAUSE).await;
        }
        shutdown.stop_intake.cancel();
        anyhow::Ok(Times::of(times))
    };
    let (times, _) = tokio::join!(sending, worker::run(&deps, &shutdown, |_| {}));
    times
}
