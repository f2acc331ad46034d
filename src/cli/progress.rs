//! One progress line: a bar on a terminal, a sentence now and then elsewhere.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two sentences where no terminal shows a bar.
const SENTENCE_EVERY: Duration = Duration::from_secs(15);

/// Progress of one long piece of work.
pub struct Line {
    bar: ProgressBar,
    plain: Option<Mutex<Plain>>,
    name: String,
    unit: &'static str,
}

struct Plain {
    started: Instant,
    last: Instant,
}

impl Line {
    /// Counts comments.
    pub fn comments(name: &str, total: u64) -> Self {
        Self::new(name, Some(total), "comments", "{msg} {bar:30} {percent}%  {pos}/{len}  {per_sec}  {eta} left")
    }

    /// Counts rows of a store.
    pub fn rows(name: &str, total: u64) -> Self {
        Self::new(name, Some(total), "rows", "{msg} {bar:30} {percent}%  {pos}/{len}  {per_sec}  {eta} left")
    }

    /// Counts steps of work that has no better measure.
    pub fn steps(name: &str, total: u64) -> Self {
        Self::new(name, Some(total), "steps", "{msg} {bar:30} {percent}%  {eta} left")
    }

    /// Counts bytes of a file.
    pub fn bytes(name: &str, total: Option<u64>) -> Self {
        let template = if total.is_some() {
            "{msg} {bar:30} {percent}%  {binary_bytes_per_sec}  {eta} left"
        } else {
            "{msg} {spinner} {binary_bytes}  {binary_bytes_per_sec}"
        };
        Self::new(name, total, "bytes", template)
    }

    fn new(name: &str, total: Option<u64>, unit: &'static str, template: &str) -> Self {
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("#> "));
        }
        bar.set_message(name.to_owned());
        let now = Instant::now();
        let plain = bar.is_hidden().then(|| Mutex::new(Plain { started: now, last: now }));
        Self { bar, plain, name: name.to_owned(), unit }
    }

    /// How far it is.
    pub fn set(&self, position: u64) {
        self.bar.set_position(position);
        let Some(Ok(mut plain)) = self.plain.as_ref().map(Mutex::lock) else { return };
        if plain.last.elapsed() < SENTENCE_EVERY {
            return;
        }
        plain.last = Instant::now();
        let spent = plain.started.elapsed().as_secs_f64();
        let rate = position as f64 / spent;
        match self.bar.length() {
            Some(total) if total > 0 => {
                let share = position * 100 / total;
                let left = (total.saturating_sub(position)) as f64 / rate.max(1e-9);
                eprintln!("{}: {share} %, {rate:.0} {}/s, about {left:.0} s left", self.name, self.unit);
            }
            _ => eprintln!("{}: {position} {}, {rate:.0} {}/s", self.name, self.unit, self.unit),
        }
    }

    /// Ends the line with a sentence.
    pub fn finish(self, sentence: &str) {
        self.bar.finish_and_clear();
        eprintln!("{sentence}");
    }
}
