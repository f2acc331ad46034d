//! `moothall eval`: the shipped judgement, and other systems beside it, measured
//! against what people said.

mod suite;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use self::suite::{Against, SetFile, Suite};
use super::progress::Line;
use super::{Common, Failure, encoder_threads, usage};
use crate::app::LineJudge;
use crate::domain::rulebook::Rulebook;
use crate::engine::manifest::ManifestFile;
use crate::eval::labelled::{self, Labelled, Reading};
use crate::eval::labels::Codes;
use crate::eval::predicted::{self, Answer, System};
use crate::eval::report::{Report, SetReport, VERSION};
use crate::eval::{Board, Resampling, html, markdown, terminal};
use crate::export::words::thousands;
use crate::settings::Settings;

/// Comments judged together.
const BATCH: usize = 128;

/// Options of `eval`.
#[derive(Debug, Args)]
#[command(
    after_help = "Labels are found by their column's name: toxic, severe, insult, threat, identity_attack, profanity,\n\
    sexual, spam, safeguarding, off_topic (1, 0, yes, no, or a share of raters between 0 and 1); verdict,\n\
    sentiment, stance, tone; themes (`stigma;organic`, `none`, or a JSON list) or one column for each theme;\n\
    spans (character offsets or [start, end) pairs). An empty cell is unknown, never \"no\".\n\n\
    Examples:\n  \
    moothall eval coded.csv --column text=Response --column toxic=\"Is it abusive?\" --html quality.html\n  \
    moothall eval coded.csv --group ward --against \"Second coder\"=second.jsonl\n  \
    moothall eval --suite dev/suite.toml --markdown REPORT.md\n\n\
    What every figure means: docs/evaluation.md"
)]
pub struct Arguments {
    /// Labelled comments: CSV, TSV or JSON Lines, plain or gzipped; each file is measured by itself
    #[arg(value_name = "FILE", required_unless_present = "suite", conflicts_with = "suite")]
    files: Vec<PathBuf>,
    /// A TOML file that names sets, consultations and other systems
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    /// Where a label or `text`, `id`, `source`, `split` is, when its column has another name
    #[arg(long, value_name = "LABEL=COLUMN", value_parser = pair, conflicts_with = "suite")]
    column: Vec<(String, String)>,
    /// A column of groups (`a;b` is both): figures for each group, and bias towards it
    #[arg(long, value_name = "COLUMN", conflicts_with = "suite")]
    group: Vec<String>,
    /// Only rows whose `split` is this
    #[arg(long, value_name = "NAME", conflicts_with = "suite")]
    split: Option<String>,
    /// Use what `moothall assess` printed, instead of judging again
    #[arg(long, value_name = "FILE", conflicts_with = "suite")]
    predictions: Option<PathBuf>,
    /// Another system beside ours: JSON Lines as `assess` prints them, paired by id
    #[arg(long, value_name = "NAME=FILE", value_parser = pair, conflicts_with = "suite")]
    against: Vec<(String, String)>,
    /// What our own column is called
    #[arg(long, value_name = "NAME", default_value = "Moothall")]
    name: String,
    /// Resamples behind each interval; 0 gives none
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    resamples: usize,
    /// The same seed gives the same intervals
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many of the most wrong rows are named, for each label
    #[arg(long, value_name = "N", default_value_t = 10)]
    worst: usize,
    /// Write a page to read in a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every figure for programs
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write tables for a repository; no ids of comments
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Threads to judge and to measure on; 0 means one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// Measures and prints tables.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let suite = arguments.suite()?;
    // A folder that is not there is said before an hour of judging, not after.
    for path in [&arguments.html, &arguments.json, &arguments.markdown].into_iter().flatten() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(usage(&format!("{}: no folder {}", path.display(), folder.display())));
        }
    }
    let mut bench = Bench::new(common, arguments, &settings)?;
    let mut report = Report {
        version: VERSION,
        title: if suite.title.is_empty() { "How well comments are judged".to_owned() } else { suite.title.clone() },
        note: suite.note.clone(),
        ..Report::default()
    };
    // Files are read before the first is judged, so that a wrong label ends nothing half-way.
    let mut read = Vec::new();
    for set in &suite.sets {
        let place = bench.place(set.consultation.as_deref())?;
        read.push((set, place, bench.read(set, place)?));
    }
    for (set, place, labelled) in read {
        report.sets.push(bench.measure(set, place, &labelled)?);
    }
    report.facts = bench.facts();
    print!("{}", terminal::render(&report, arguments.suite.is_none()));
    let write = |path: &Option<PathBuf>, make: &dyn Fn() -> anyhow::Result<String>| -> anyhow::Result<()> {
        let Some(path) = path else { return Ok(()) };
        std::fs::write(path, make()?).with_context(|| path.display().to_string())?;
        eprintln!("written: {}", path.display());
        Ok(())
    };
    write(&arguments.html, &|| Ok(html::render(&report)?))?;
    write(&arguments.json, &|| Ok(serde_json::to_string_pretty(&report)? + "\n"))?;
    write(&arguments.markdown, &|| Ok(markdown::render(&report)))?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn suite(&self) -> Result<Suite, Failure> {
        if let Some(path) = &self.suite {
            return Suite::read(path).map_err(Failure::Usage);
        }
        if self.files.len() > 1 && (self.predictions.is_some() || !self.against.is_empty()) {
            return Err(usage("--predictions and --against go with one FILE; write a --suite for several"));
        }
        let set = |file: &PathBuf| SetFile {
            file: file.clone(),
            columns: self.column.clone(),
            groups: self.group.clone(),
            split: self.split.clone(),
            predictions: self.predictions.clone(),
            against: self
                .against
                .iter()
                .map(|(name, file)| Against { name: name.clone(), file: PathBuf::from(file) })
                .collect(),
            ..SetFile::default()
        };
        Ok(Suite { sets: self.files.iter().map(set).collect(), ..Suite::default() })
    }
}

/// One consultation's rulebook, and its models once they are needed.
struct Place {
    consultation: String,
    manifest: ManifestFile,
    rulebook: Arc<Rulebook>,
    codes: Codes,
}

/// What all sets share.
struct Bench<'a> {
    common: &'a Common,
    arguments: &'a Arguments,
    settings: &'a Settings,
    runtime: tokio::runtime::Runtime,
    places: Vec<Place>,
    /// The judge of one of the places; models are heavy, so one at a time.
    judge: Option<(usize, LineJudge)>,
}

impl<'a> Bench<'a> {
    fn new(common: &'a Common, arguments: &'a Arguments, settings: &'a Settings) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { common, arguments, settings, runtime, places: Vec::new(), judge: None })
    }

    /// The place of a consultation, made when first asked for.
    fn place(&mut self, consultation: Option<&str>) -> Result<usize, Failure> {
        let consultation = consultation.unwrap_or(&self.common.consultation).to_owned();
        if let Some(known) = self.places.iter().position(|place| place.consultation == consultation) {
            return Ok(known);
        }
        let common = Common { consultation: consultation.clone(), ..self.common.clone() };
        let (manifest, rulebook) = common.full_rulebook(self.settings)?;
        let mildest = |label: &str| {
            let points = manifest.manifest.operating_points.get(label)?;
            points.values().copied().min_by(f32::total_cmp)
        };
        let codes = Codes::new(&rulebook, &mildest);
        self.places.push(Place { consultation, rulebook: Arc::new(rulebook), codes, manifest });
        Ok(self.places.len() - 1)
    }

    fn read(&self, set: &SetFile, place: usize) -> Result<Labelled, Failure> {
        let reading = Reading {
            columns: set.columns.clone(),
            groups: set.groups.clone(),
            split: set.split.clone(),
            texts: set.predictions.is_none(),
        };
        let name = set.file.display().to_string();
        let labelled = labelled::read(&name, open(&set.file)?, &reading, &self.places[place].codes)?;
        if !labelled.unused.is_empty() {
            eprintln!("{name}: columns that are no label: {}", labelled.unused.join(", "));
        }
        Ok(labelled)
    }

    fn measure(&mut self, set: &SetFile, place: usize, labelled: &Labelled) -> Result<SetReport, Failure> {
        let rows = &labelled.rows;
        let mut remarks = Vec::new();
        let own = match &set.predictions {
            None => self.judged(set, place, labelled)?,
            Some(file) => {
                remarks.push(format!("Judgements of ours are read from {}.", file_name(file)));
                answers(file, "ours", labelled, &self.places[place].codes, &mut remarks)?
            }
        };
        let mut systems = vec![System::new(&self.arguments.name, true, own)];
        for system in &set.against {
            let codes = &self.places[place].codes;
            let found = answers(&system.file, &system.name, labelled, codes, &mut remarks)?;
            systems.push(System::new(&system.name, false, found));
        }
        let board = Board {
            rows,
            systems: &systems,
            codes: &self.places[place].codes,
            resampling: Resampling { times: self.arguments.resamples, seed: self.arguments.seed },
            worst: self.arguments.worst,
            threads: self.threads(),
        };
        let heading = set.heading();
        let line = Line::steps(&format!("measuring {heading}"), 1_000);
        let mut report = board.measure(&set.groups, &mut |done| line.set((done * 1_000.0) as u64));
        line.finish(&format!(
            "{heading}: {} rows, {} labels measured",
            thousands(rows.len() as u64),
            report.labels.len()
        ));
        report.name = heading;
        report.file = file_name(&set.file);
        report.note.clone_from(&set.note);
        report.consultation.clone_from(&self.places[place].consultation);
        report.remarks = remarks;
        Ok(report)
    }

    /// Our own judgement of every row.
    fn judged(&mut self, set: &SetFile, place: usize, labelled: &Labelled) -> Result<Vec<Option<Answer>>, Failure> {
        if self.judge.as_ref().is_none_or(|(at, _)| *at != place) {
            let Place { manifest, rulebook, .. } = &self.places[place];
            let judge = LineJudge::start(&manifest.folder, Arc::clone(rulebook), self.settings.engine, self.threads())?;
            self.judge = Some((place, judge));
        }
        let Some((_, judge)) = &self.judge else { return Ok(Vec::new()) };
        let line = Line::comments(&format!("judging {}", set.heading()), labelled.rows.len() as u64);
        let mut answers = Vec::with_capacity(labelled.rows.len());
        for rows in labelled.rows.chunks(BATCH) {
            let texts: Vec<(&str, Option<&str>)> = rows.iter().map(|row| (row.text.as_str(), None)).collect();
            let judged = self.runtime.block_on(judge.judge_with_signals(&texts))?;
            let codes = &self.places[place].codes;
            answers.extend(judged.iter().map(|(assessment, signals)| Some(Answer::of(assessment, signals, codes))));
            line.set(answers.len() as u64);
        }
        line.finish(&format!("{}: {} comments judged", set.heading(), thousands(answers.len() as u64)));
        Ok(answers)
    }

    fn threads(&self) -> usize {
        let asked = self.arguments.threads;
        encoder_threads(if asked > 0 { asked } else { self.settings.threads })
    }

    /// What the figures rest on. No time of day: the same files give the same report.
    fn facts(&self) -> Vec<(String, String)> {
        let Arguments { resamples, seed, .. } = self.arguments;
        let mut facts = vec![("Software".to_owned(), format!("moothall {}", env!("CARGO_PKG_VERSION")))];
        for place in &self.places {
            facts.push((
                format!("Judged by {}", place.consultation),
                format!("models {}, pipeline {}", place.rulebook.model_version, place.rulebook.version),
            ));
        }
        let intervals = match resamples {
            0 => "none".to_owned(),
            times => format!("95 %, {} resamples of the rows, seed {seed}", thousands(*times as u64)),
        };
        facts.push(("Intervals".to_owned(), intervals));
        facts
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    Ok(File::open(path).with_context(|| path.display().to_string())?)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A file of answers, with remarks on what does not fit the set.
fn answers(
    file: &Path,
    system: &str,
    labelled: &Labelled,
    codes: &Codes,
    remarks: &mut Vec<String>,
) -> Result<Vec<Option<Answer>>, Failure> {
    let name = file.display().to_string();
    let (answers, strangers) = predicted::read(&name, open(file)?, &labelled.rows, codes)?;
    let missing = answers.iter().filter(|answer| answer.is_none()).count();
    if missing > 0 {
        let count = thousands(missing as u64);
        remarks.push(format!("No answer of {system} to {count} rows: its figures and differences rest on the others."));
    }
    if strangers > 0 {
        remarks.push(format!("{} answers of {system} are to no row of this set.", thousands(strangers as u64)));
    }
    Ok(answers)
}
