//! `moothall codebook ...`: what comments are coded by, as an officer keeps it.
//!
//! One file for each action; a new action is a variant of [`Action`] and a line
//! in [`run`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, Subcommand};

use super::progress::Line;
use super::{Common, Failure};
use crate::assess::read::{ReadHints, read};
use crate::domain::codebook::Codebook;
use crate::engine::{Models, Scorer};
use crate::settings::examples::{Training, read_training};
use crate::settings::{Problems, codebook};

mod check;
mod curve;
mod retag;
mod train;

/// Options of `codebook`.
#[derive(Debug, Args)]
#[command(
    after_help = "Write themes in the consultation's codebook.toml, look for problems, train, and tags follow:\n\n  \
    moothall codebook check config/mentoring\n  \
    moothall codebook train config/mentoring\n  \
    moothall process comments.csv"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Name every problem of a codebook and its examples, by file and key
    Check(check::Arguments),
    /// Learn to tag by a codebook from its definitions and examples, and say how well
    Train(train::Arguments),
    /// Show how good tags get with more examples, against counting words alone
    Curve(curve::Arguments),
    /// Judge stored comments anew by a changed codebook, policy or model: first show, then do
    Retag(retag::Arguments),
}

/// Runs the chosen action.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.action {
        Action::Check(arguments) => check::run(common, arguments),
        Action::Train(arguments) => train::run(common, arguments),
        Action::Curve(arguments) => curve::run(common, arguments),
        Action::Retag(arguments) => retag::run(common, arguments),
    }
}

/// A codebook as it was typed.
struct Typed {
    /// The consultation's folder.
    folder: PathBuf,
    /// The file's name, for people.
    file: String,
    /// Empty of themes where nothing could be read.
    codebook: Option<Codebook>,
    training: Training,
}

/// Reads the codebook at a folder or file. What is wrong with it is added to `problems`.
fn typed(place: &Path, problems: &mut Problems) -> Typed {
    let folder = if place.is_dir() { place.to_owned() } else { place.parent().unwrap_or(place).to_owned() };
    let path = if place.is_dir() { place.join("codebook.toml") } else { place.to_owned() };
    let file = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            // Tag points come from training, which is yet to come.
            let codebook = codebook::read(&file, &text, &|_, _| Some(0.5), problems);
            Typed { training: read_training(&file, &text, problems), folder, file, codebook }
        }
        Err(error) => {
            problems.add(&file, "", format!("cannot be read: {error}"));
            Typed { folder, file, codebook: None, training: Training::default() }
        }
    }
}

/// A text as it is judged, and its vector.
type Embedded = (String, Vec<f32>);

/// Texts as they are judged, and the encoder's vector of each, on `threads` threads.
fn embed(models: &Arc<Models>, texts: &[&str], threads: usize) -> (Vec<String>, Vec<Vec<f32>>) {
    const AT_ONCE: usize = 16;
    let line = Line::comments("reading examples", texts.len() as u64);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let chunks: Vec<&[&str]> = texts.chunks(AT_ONCE).collect();
    let work = || {
        let mut scorer = Scorer::new(Arc::clone(models));
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(at) else { return found };
            let readings: Vec<_> = chunk.iter().map(|text| read(text, ReadHints::default())).collect();
            let vectors = scorer.embed(&readings.iter().collect::<Vec<_>>());
            line.set(done.fetch_add(chunk.len(), Ordering::Relaxed) as u64);
            let judged = readings.into_iter().map(|reading| reading.judged.text);
            found.push((at, judged.zip(vectors).collect::<Vec<_>>()));
        }
    };
    let mut found: Vec<(usize, Vec<Embedded>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    found.sort_by_key(|(at, _)| *at);
    line.finish(&format!("read {} texts", texts.len()));
    found.into_iter().flat_map(|(_, chunk)| chunk).unzip()
}

/// `one example`, `2 examples`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
