//! `moothall bench`: comments per second of the encoder alone and of the whole
//! line, in the same run, by length and number of threads.
//!
//! Both are given per second of processor time too, which stays steady on a
//! machine that others use; their ratio is the figure to look at.

mod broker;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::{Common, Failure, encoder_threads};
use crate::app::{self, LineJudge, Storage};
use crate::assess::read::{ReadHints, read};
use crate::broker::rabbitmq::Names;
use crate::domain::comment::{Author, Comment, CommentId, CommentKey, SourceName};
use crate::domain::reading::Reading;
use crate::domain::rulebook::Rulebook;
use crate::engine::{Models, Scorer};
use crate::pipeline::shutdown::Shutdown;
use crate::pipeline::worker;
use crate::settings::Settings;

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Comments of each length and round
    #[arg(long, default_value_t = 256, value_name = "N")]
    comments: usize,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Measure on RabbitMQ instead: the worker loop with a stub engine against a bare client
    /// [without URL: as rabbitmq.url says]
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    amqp: Option<String>,
    /// Messages of each round on RabbitMQ
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    messages: usize,
}

/// What one round took.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    processor: Duration,
}

/// Measures and prints a table.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let (manifest, rulebook) = common.rulebook(&settings)?;
    let rulebook = Arc::new(rulebook);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let models = Models::load(&manifest.folder, rulebook.heads.as_deref())?;
    if arguments.amqp.is_some() {
        let defaults = super::service::defaults(&settings, &rulebook.consultation.id, "bench")?;
        let mut config = app::rabbit_config(&settings, arguments.amqp.as_deref(), defaults).map_err(Failure::Usage)?;
        config.names = Names::with_prefix(&format!("moothall-bench-{}", app::random_name()?));
        let judge = Arc::new(LineJudge::start(&manifest.folder, Arc::clone(&rulebook), 1)?);
        let (count, rounds) = (arguments.messages, arguments.rounds);
        let bench =
            broker::BrokerBench { settings: &settings, rulebook: &rulebook, models: &models, config, count, rounds };
        runtime.block_on(bench.run(judge))?;
        return Ok(ExitCode::SUCCESS);
    }
    let cores = encoder_threads(0);
    println!(
        "moothall {}, models {}, {cores} cores; {} comments a round, median of {}",
        env!("CARGO_PKG_VERSION"),
        rulebook.model_version,
        arguments.comments,
        arguments.rounds
    );
    println!("\n                       comments per second        comments per processor-second");
    println!("length   threads       encoder     whole line     encoder     whole line     line costs");
    for (name, words) in [("short", 8), ("medium", 32), ("long", 120)] {
        for threads in [1, 2] {
            let (mut alone, mut whole) = (Vec::new(), Vec::new());
            for round in 0..arguments.rounds.max(1) {
                let texts = texts(arguments.comments.max(threads), words, round * 2 + threads);
                alone.push(encoder_alone(&models, &texts, threads)?);
                whole.push(runtime.block_on(whole_line(&manifest.folder, &rulebook, &settings, &texts, threads))?);
            }
            let (alone, whole) = (median(alone), median(whole));
            let per = |time: Duration| arguments.comments as f64 / time.as_secs_f64().max(1e-9);
            println!(
                "{name:<8} {threads:>7} {:>13.0} {:>14.0} {:>11.0} {:>14.0} {:>12.1} %",
                per(alone.wall),
                per(whole.wall),
                per(alone.processor),
                per(whole.processor),
                (whole.processor.as_secs_f64() / alone.processor.as_secs_f64().max(1e-9) - 1.0) * 100.0
            );
        }
    }
    if let Some(peak) = status_kib("VmHWM:") {
        println!("\npeak memory {} MiB", peak / 1024);
    }
    println!("line costs: processor time of reading, tokenising, judging, queue and store above the encoder alone");
    Ok(ExitCode::SUCCESS)
}

fn median(mut rounds: Vec<Took>) -> Took {
    rounds.sort_by_key(|round| round.processor);
    rounds[rounds.len() / 2]
}

/// Distinct invented comments of about `words` words.
fn texts(count: usize, words: usize, seed: usize) -> Vec<String> {
    const WORDS: [&str; 48] = [
        "mentor",
        "school",
        "council",
        "young",
        "people",
        "the",
        "a",
        "every",
        "week",
        "listened",
        "because",
        "nobody",
        "helped",
        "with",
        "my",
        "son",
        "and",
        "our",
        "club",
        "funding",
        "was",
        "cut",
        "training",
        "matters",
        "they",
        "should",
        "have",
        "asked",
        "us",
        "before",
        "it",
        "works",
        "when",
        "someone",
        "cares",
        "buddy",
        "scheme",
        "teacher",
        "trusted",
        "friends",
        "not",
        "forms",
        "confidence",
        "grew",
        "after",
        "months",
        "of",
        "talking",
    ];
    let mut state = seed as u32 ^ 0x9E37_79B9;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize
    };
    (0..count)
        .map(|_| {
            let mut text = String::new();
            for at in 0..words {
                text.push_str(WORDS[next() % WORDS.len()]);
                text.push_str(if at + 1 == words || at % 14 == 13 { ". " } else { " " });
            }
            text
        })
        .collect()
}

/// The encoder with its heads over texts that are read already, on `threads` threads.
fn encoder_alone(models: &Arc<Models>, texts: &[String], threads: usize) -> Result<Took, Failure> {
    let readings: Vec<Reading> = texts.iter().map(|text| read(text, ReadHints::default())).collect();
    let mut scorers: Vec<Scorer> = (0..threads).map(|_| Scorer::new(Arc::clone(models))).collect();
    let share = readings.len().div_ceil(threads);
    let windows: Vec<Vec<Vec<u32>>> = readings.iter().map(|reading| scorers[0].window_ids(reading)).collect();
    let started = (Instant::now(), processor_time()?);
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
    Ok(Took { wall: started.0.elapsed(), processor: processor_time()?.saturating_sub(started.1) })
}

/// Queue, reading, encoder, judgement, store, settling: from a comment to its stored judgement.
async fn whole_line(
    models: &std::path::Path,
    rulebook: &Arc<Rulebook>,
    settings: &Settings,
    texts: &[String],
    threads: usize,
) -> Result<Took, Failure> {
    let folder = std::env::temp_dir().join(format!("moothall-bench-{}-{}", std::process::id(), threads));
    let result = async {
        let storage = Storage::embedded(&folder.join("bench.db"), settings, None).await?;
        let judge = Arc::new(LineJudge::start(models, Arc::clone(rulebook), threads)?);
        let comments = comments(texts, rulebook)?;
        let deps = storage.worker(judge, settings);
        let started = (Instant::now(), processor_time()?);
        storage.queue.publish(&comments).await?;
        worker::drain(&deps, &Shutdown::new(), |_| {}).await?;
        Ok(Took { wall: started.0.elapsed(), processor: processor_time()?.saturating_sub(started.1) })
    }
    .await;
    let _ = std::fs::remove_dir_all(&folder);
    result
}

/// Comments with these texts, under a source of their own.
fn comments(texts: &[String], rulebook: &Rulebook) -> Result<Vec<Comment>, Failure> {
    let source = SourceName::new("bench").context("a name")?;
    let key = |index: usize| {
        Some(CommentKey {
            consultation: rulebook.consultation.id.clone(),
            source: source.clone(),
            id: CommentId::new(index.to_string())?,
        })
    };
    let comment = |(index, text): (usize, &String)| {
        Ok(Comment {
            key: key(index).context("an id")?,
            revision: None,
            edited_at: None,
            text: text.clone(),
            posted_at: None,
            author: Author::default(),
            url: None,
            parent_id: None,
            language: None,
            groups: std::collections::BTreeMap::new(),
        })
    };
    texts.iter().enumerate().map(comment).collect()
}

/// Processor time of this process so far, all threads, user and system.
fn processor_time() -> anyhow::Result<Duration> {
    // Fields 14 and 15 of /proc/self/stat, in ticks of 1/100 s (proc(5)); the
    // name in field 2 may hold spaces, so counting starts behind its bracket.
    let text = std::fs::read_to_string("/proc/self/stat")
        .context("processor time is read from /proc, which this system lacks")?;
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// A figure of /proc/self/status, in KiB.
fn status_kib(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find(|line| line.starts_with(name))?.split_whitespace().nth(1)?.parse().ok()
}
