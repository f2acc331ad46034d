//! `moothall codebook curve`: how good tags get with more examples.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use moothall_numerics::figures::Figure;

use super::embed;
use crate::cli::{Common, Failure, encoder_threads, usage};
use crate::codebook::curve::{over_seeds, sample};
use crate::codebook::example::{Example, Origin, Part, part_of, split_key};
use crate::codebook::fit::{Data, Options, train};
use crate::engine::Models;

/// Options of `codebook curve`.
#[derive(Debug, Args)]
#[command(
    after_help = "The table needs columns `text` and `themes` (separated by `|`), `.csv` or `.csv.gz`. 12 % of its\n\
    rows, chosen by a hash of the text, are held out and measured on. Both sides learn from the same rows\n\
    and choose strength and tag points in the same way; one of them sees words alone (TF-IDF)."
)]
pub struct Arguments {
    /// Labelled table
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Examples for each theme; `0` means all
    #[arg(long, value_delimiter = ',', value_name = "N,N", default_value = "4,8,16,64,0")]
    sizes: Vec<usize>,
    /// Draws of each size
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// Themes with fewer rows, held-out ones included, are left out
    #[arg(long, value_name = "N", default_value_t = 80)]
    fewest: usize,
    /// Write the table as Markdown to this file too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

const INTERVAL: &str = "± is half the 95 % interval: over draws, and for all examples over resampled held-out rows";

/// Prints a table of micro- and macro-F1.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let (themes, examples) = read(arguments)?;
    let held = examples.iter().filter(|example| example.part == Part::HeldOut).count();
    if themes.is_empty() || held == 0 {
        return Err(usage(&format!("{} has no theme with {} rows", arguments.file.display(), arguments.fewest)));
    }
    let models = Models::load_general(&common.models_folder(&settings))?;
    let threads = encoder_threads(settings.threads);
    let texts: Vec<&str> = examples.iter().map(|example| example.text.as_str()).collect();
    let (texts, vectors) = embed(&models, &texts, threads);
    println!(
        "{}: {} themes, {} rows, {held} of them held out\n",
        arguments.file.display(),
        themes.len(),
        examples.len()
    );
    let mut written = format!(
        "# How many examples\n\nWritten by `moothall codebook curve`: {}, {} themes with {} rows or more, {held} of {} rows held \
         out, {} draws of each size. Encoder of models {}. Both sides learn from the same rows; TF-IDF sees the words alone.\n\n\
         | examples a theme | rows | micro-F1, heads | micro-F1, TF-IDF | macro-F1, heads | macro-F1, TF-IDF |\n\
         | --- | ---: | --- | --- | --- | --- |\n",
        arguments.file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default(),
        themes.len(),
        arguments.fewest,
        examples.len(),
        arguments.seeds.max(1),
        models.manifest.manifest.version,
    );
    println!("examples  rows   micro-F1                       macro-F1");
    println!("a theme          heads          TF-IDF          heads          TF-IDF");
    for &size in &arguments.sizes {
        let each = (size > 0).then_some(size);
        let seeds = if each.is_some() { arguments.seeds.max(1) } else { 1 };
        let mut found: [[Vec<Figure>; 2]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| Vec::new()));
        let mut rows_learnt = 0;
        for seed in 0..seeds {
            let rows = sample(&examples, each, seed);
            let of = |rows: &[usize]| -> (Vec<Example>, Vec<String>, Vec<Vec<f32>>) {
                rows.iter().map(|row| (examples[*row].clone(), texts[*row].clone(), vectors[*row].clone())).collect()
            };
            let (drawn, texts, vectors) = of(&rows);
            rows_learnt += drawn.iter().filter(|example| example.part != Part::HeldOut).count();
            let data = Data { themes: &themes, stance: false, examples: &drawn, texts: &texts, vectors: &vectors };
            for (side, vectors) in [true, false].into_iter().enumerate() {
                let trained = train(&data, &Options { seed, threads, vectors, words: true });
                let measured = &trained.reports.first().context("no head came of the rows")?.held_out;
                found[0][side].push(measured.micro);
                found[1][side].push(measured.macro_f1);
            }
        }
        let cell = |figures: &[Figure]| {
            if figures.len() == 1 {
                return format!("{:.3} ±{:.3}", figures[0].value, (figures[0].high - figures[0].low) / 2.0);
            }
            let (mean, half) = over_seeds(&figures.iter().map(|figure| figure.value).collect::<Vec<_>>());
            format!("{mean:.3} ±{half:.3}")
        };
        let each = each.map_or_else(|| "all".to_owned(), |each| each.to_string());
        let learnt = rows_learnt / seeds as usize;
        let [micro, micro_by_words, even_f1, even_by_words] =
            [&found[0][0], &found[0][1], &found[1][0], &found[1][1]].map(|figures| cell(figures));
        println!("{each:<8} {learnt:>5}   {micro:<14} {micro_by_words:<15} {even_f1:<14} {even_by_words}");
        _ = writeln!(written, "| {each} | {learnt} | {micro} | {micro_by_words} | {even_f1} | {even_by_words} |");
    }
    println!("\n{INTERVAL}");
    if let Some(path) = &arguments.markdown {
        let page = format!("{written}\n{INTERVAL}.\n");
        std::fs::write(path, page).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Themes that are frequent enough, and every row with its labels.
fn read(arguments: &Arguments) -> Result<(Vec<String>, Vec<Example>), Failure> {
    let file = std::fs::File::open(&arguments.file).with_context(|| arguments.file.display().to_string())?;
    let packed = arguments.file.extension().is_some_and(|ending| ending == "gz");
    let bytes: Box<dyn std::io::Read> =
        if packed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = csv::Reader::from_reader(bytes);
    let names = reader.headers().context("no header")?.clone();
    let column = |name: &str| {
        names
            .iter()
            .position(|one| one == name)
            .with_context(|| format!("{} has no column `{name}`", arguments.file.display()))
    };
    let (text, themes) = (column("text")?, column("themes")?);
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| arguments.file.display().to_string())?;
        let (text, themes) = (record.get(text).unwrap_or_default(), record.get(themes).unwrap_or_default());
        // An empty cell says that nobody coded the row.
        if !text.trim().is_empty() && !themes.trim().is_empty() {
            rows.push((text.to_owned(), themes.split('|').map(|one| one.trim().to_owned()).collect()));
        }
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().flat_map(|(_, themes)| themes).for_each(|theme| *counts.entry(theme).or_default() += 1);
    let kept: Vec<String> =
        counts.iter().filter(|(_, count)| **count >= arguments.fewest).map(|(theme, _)| (*theme).to_owned()).collect();
    let examples = rows
        .iter()
        .enumerate()
        .map(|(at, (text, themes))| {
            let group = split_key(text);
            Example {
                text: text.clone(),
                place: format!("row {}", at + 2),
                part: part_of(&group),
                group,
                origin: Origin::Coded,
                seen: false,
                themes: kept.iter().map(|theme| Some(themes.contains(theme))).collect(),
                off_topic: None,
                stance: None,
                attitude: None,
                tone: None,
            }
        })
        .collect();
    Ok((kept, examples))
}
