//! One pass of Moothall against one large model per question.

use std::sync::Arc;

use super::clock::Stopwatch;
use super::peer::Peer;
use super::table::{Bar, Figure, Table};
use super::texts::{mixed_lengths, sequences};
use super::{Arguments, Failure};
use crate::assess::read::{ReadHints, read};
use crate::domain::reading::Reading;
use crate::engine::{Models, Scorer};

/// Comments that the pipeline is given in each round: it takes a second or two for each.
const FEW: usize = 8;

/// Measures both in turns; without `torch` there is nothing to compare with.
pub fn measure(arguments: &Arguments, models: &Arc<Models>) -> Result<Table, Failure> {
    let mut table = Table {
        key: "questions",
        title: "One pass against one model per question".to_owned(),
        columns: ["comments /s", "ms of processor"].map(str::to_owned).to_vec(),
        ..Table::default()
    };
    let mut peer = match Peer::start(&arguments.python, &["pipeline"]) {
        Ok(peer) => peer,
        Err(error) => {
            table.notes.push(format!("PyTorch is absent: {error:#} (another python: --python)"));
            return Ok(table);
        }
    };
    let mut scorer = Scorer::new(Arc::clone(models));
    let (mut ours, mut theirs, mut peak_mib) = (Vec::new(), Vec::new(), 0.0);
    for round in 0..arguments.rounds {
        let lengths = mixed_lengths(FEW, round);
        let sequences = sequences(&scorer, &lengths, round);
        // The same number of words; ours are read and tokenised inside the clock, theirs are not.
        let readings: Vec<String> =
            lengths.iter().map(|length| super::texts::texts(1, length - 3, round).concat()).collect();
        let watch = Stopwatch::start()?;
        let repeats = 8;
        for _ in 0..repeats {
            let readings: Vec<Reading> = readings.iter().map(|text| read(text, ReadHints::default())).collect();
            std::hint::black_box(scorer.score(&readings.iter().collect::<Vec<_>>()));
        }
        ours.push((FEW * repeats) as f64 / watch.took()?.processor.as_secs_f64().max(1e-9));
        let measured = peer.run(&sequences, FEW)?;
        theirs.push(FEW as f64 / measured.took.processor.as_secs_f64().max(1e-9));
        peak_mib = measured.peak_mib;
    }
    let ratio = Figure::of(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect());
    for (name, rounds) in [("moothall, every question in one pass", ours), ("one model per question", theirs)] {
        let figure = Figure::of(rounds);
        let time = Figure { median: 1e3 / figure.median, spread: figure.spread };
        table.rows.push((name.to_owned(), vec![Some(figure), Some(time)]));
    }
    table.bars.push(Bar::at_least("one pass / one model per question", ratio.median, 50.0));
    table.notes = vec![
        format!("one model per question, {}: DistilBERT for sentiment (6 layers of 768), BERT-base for abuse (12 of", peer.name),
        "768), BART-large-MNLI for four themes (12 and 12 of 1024, a pass for each theme), with random weights of these".to_owned(),
        format!("shapes; {peak_mib:.0} MiB at their peak; ours reads and tokenises inside the clock, theirs gets token ids"),
    ];
    Ok(table)
}
