//! Differences between two judgements, as `codebook retag` and `shadow report` show them:
//! ids and numbers, never a comment's text.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{Failure, usage};
use crate::assess::compare::{Compared, LABELS, Totals};
use crate::domain::decision::Verdict;
use crate::domain::rulebook::PipelineVersion;
use crate::export::cells::neutral;
use crate::pipeline::ports::StoredComment;

/// Comments that the terminal lists; a file has all.
const LISTED: u64 = 40;

enum Form {
    None,
    Csv(Box<csv::Writer<BufWriter<File>>>),
    Json(BufWriter<File>),
}

/// The list of comments that differ: the first on the terminal, all in a file.
pub struct Differences {
    form: Form,
    after: PipelineVersion,
    count: u64,
}

impl Differences {
    /// Lists into `file` (`.csv` or `.json`) as well, if one is named. The file is for its
    /// owner only: it tells which comments were escalated.
    pub fn open(file: Option<&Path>, after: &PipelineVersion) -> Result<Self, Failure> {
        let form = match file {
            None => Form::None,
            Some(path) => match path.extension().and_then(|ending| ending.to_str()) {
                Some("csv") => {
                    let mut table = csv::Writer::from_writer(private(path)?);
                    table.write_record(COLUMNS)?;
                    Form::Csv(Box::new(table))
                }
                Some("json") => {
                    let mut text = private(path)?;
                    text.write_all(b"{\"comments\": [")?;
                    Form::Json(text)
                }
                _ => return Err(usage(&format!("--changes {} must end in .csv or .json", path.display()))),
            },
        };
        Ok(Self { form, after: after.clone(), count: 0 })
    }

    /// Adds one comment.
    pub fn add(&mut self, stored: &StoredComment, compared: &Compared) -> io::Result<()> {
        self.count += 1;
        if self.count <= LISTED {
            print_one(stored, compared);
        } else if self.count == LISTED + 1 {
            println!("  ... --changes FILE.csv lists every comment");
        }
        match &mut self.form {
            Form::None => Ok(()),
            Form::Csv(table) => table.write_record(row(stored, compared, &self.after)).map_err(io::Error::from),
            Form::Json(text) => {
                let comma = if self.count > 1 { "," } else { "" };
                write!(text, "{comma}\n{}", object(stored, compared, &self.after))
            }
        }
    }

    /// Ends the file.
    pub fn finish(self, totals: &Totals) -> Result<(), Failure> {
        match self.form {
            Form::None => {}
            Form::Csv(mut table) => table.flush()?,
            Form::Json(mut text) => {
                writeln!(text, "\n], \"totals\": {:#}}}", totals_json(totals))?;
                text.flush()?;
            }
        }
        Ok(())
    }
}

fn private(path: &Path) -> Result<BufWriter<File>, Failure> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| anyhow::anyhow!("write {}: {error}", path.display()))?;
    Ok(BufWriter::new(file))
}

const COLUMNS: [&str; 20] = [
    "source",
    "id",
    "verdict_before",
    "verdict_after",
    "machine_before",
    "machine_after",
    "person",
    "themes_gained",
    "themes_lost",
    "stance_before",
    "stance_after",
    "sentiment_before",
    "sentiment_after",
    "tone_before",
    "tone_after",
    "off_topic_before",
    "off_topic_after",
    "pipeline_before",
    "pipeline_after",
    "why",
];

fn person(stored: &StoredComment) -> &'static str {
    stored.decided.as_ref().map_or("", |decided| decided.verdict.key())
}

fn row(stored: &StoredComment, compared: &Compared, after: &PipelineVersion) -> Vec<String> {
    let joined = |themes: &[crate::domain::codebook::ThemeId]| {
        themes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let key = &stored.comment.key;
    let mut row = vec![
        neutral(key.source.as_str()),
        neutral(key.id.as_str()),
        compared.verdict.0.key().to_owned(),
        compared.verdict.1.key().to_owned(),
        compared.machine.0.key().to_owned(),
        compared.machine.1.key().to_owned(),
        person(stored).to_owned(),
        joined(&compared.gained),
        joined(&compared.lost),
    ];
    for label in compared.labels {
        row.extend([label.before, label.after].map(|label| label.unwrap_or_default().to_owned()));
    }
    row.extend([stored.assessment.pipeline_version.to_string(), after.to_string(), compared.why.join("; ")]);
    row
}

fn object(stored: &StoredComment, compared: &Compared, after: &PipelineVersion) -> Value {
    let verdicts = |(before, after): (Verdict, Verdict)| json!({"before": before.key(), "after": after.key()});
    let key = &stored.comment.key;
    let mut object = json!({
        "consultation": key.consultation.as_str(),
        "source": key.source.as_str(),
        "id": key.id.as_str(),
        "verdict": verdicts(compared.verdict),
        "machine": verdicts(compared.machine),
        "person": stored.decided.as_ref().map(|decided| decided.verdict.key()),
        "themes": {
            "gained": compared.gained.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "lost": compared.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "pipeline_version": {"before": stored.assessment.pipeline_version.0, "after": after.0},
        "why": compared.why,
    });
    for (name, label) in LABELS.iter().zip(compared.labels).filter(|(_, label)| label.moved()) {
        object[*name] = json!({"before": label.before, "after": label.after});
    }
    object
}

/// The sums, as files have them.
pub fn totals_json(totals: &Totals) -> Value {
    let moves = |of: &std::collections::BTreeMap<(Verdict, Verdict), u64>| -> Vec<Value> {
        of.iter()
            .map(|((before, after), count)| json!({"before": before.key(), "after": after.key(), "comments": count}))
            .collect()
    };
    json!({
        "compared": totals.compared,
        "changed": totals.changed,
        "verdicts": moves(&totals.verdicts),
        "machine": moves(&totals.machine),
        "themes": totals.themes.iter()
            .map(|(theme, moved)| (theme.clone(), json!({"gained": moved.gained, "lost": moved.lost, "kept": moved.kept})))
            .collect::<serde_json::Map<_, _>>(),
        "labels_moved": LABELS.iter().zip(totals.labels)
            .map(|(name, moved)| ((*name).to_owned(), json!(moved)))
            .collect::<serde_json::Map<_, _>>(),
        "new_escalations": totals.escalated,
        "escalations_missed": totals.missed,
        "overruled": totals.overruled,
    })
}

fn print_one(stored: &StoredComment, compared: &Compared) {
    let key = &stored.comment.key;
    let (before, after) = compared.verdict;
    let verdict =
        if before == after { before.key().to_owned() } else { format!("{} -> {}", before.key(), after.key()) };
    println!("{}  (source {})  {verdict}", neutral(key.id.as_str()), neutral(key.source.as_str()));
    for why in &compared.why {
        println!("    {why}");
    }
}

/// The sums for a terminal. `moves` are the verdicts to show, `sides` what the two are called.
pub fn print_totals(totals: &Totals, machine: bool, sides: [&str; 2]) {
    println!("\nCompared {:>10}\nDiffer   {:>10}", totals.compared, totals.changed);
    let verdicts = if machine { &totals.machine } else { &totals.verdicts };
    println!("\nVerdicts: {} in rows, {} in columns", sides[0], sides[1]);
    print!("{:<10}", "");
    for after in Verdict::ALL {
        print!("{:>10}", after.key());
    }
    println!();
    for before in Verdict::ALL {
        print!("{:<10}", before.key());
        for after in Verdict::ALL {
            print!("{:>10}", verdicts.get(&(before, after)).copied().unwrap_or(0));
        }
        println!();
    }
    if !totals.themes.is_empty() {
        println!("\n{:<24}{:>8}{:>8}{:>8}{:>8}", "Theme", "gained", "lost", "kept", "kappa");
        for (theme, moves) in &totals.themes {
            let kappa = moves.kappa(totals.compared).map_or_else(|| "-".to_owned(), |kappa| format!("{kappa:.2}"));
            println!("{theme:<24}{:>8}{:>8}{:>8}{kappa:>8}", moves.gained, moves.lost, moves.kept);
        }
    }
    println!("\n{:<24}{:>7.1} % agree", "verdict", share(totals.same_verdict(), totals.compared));
    for (name, moved) in LABELS.iter().zip(totals.labels) {
        println!("{:<24}{:>7.1} % agree", name.replace('_', " "), share(totals.compared - moved, totals.compared));
    }
    println!("\nPossible disclosures that only {} sees: {}", sides[1], totals.escalated);
    println!("Possible disclosures that only {} sees: {}", sides[0], totals.missed);
}

/// In per cent; nothing agrees with nothing.
fn share(count: u64, of: u64) -> f64 {
    if of == 0 { 100.0 } else { count as f64 * 100.0 / of as f64 }
}
