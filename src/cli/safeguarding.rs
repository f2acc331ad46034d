//! `moothall safeguarding list|ack|release`: disclosures of harm, for the safeguarding lead.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::output::Output;
use super::{Common, Failure, usage};
use crate::app::open_store;
use crate::domain::comment::{Comment, CommentId, SourceName};
use crate::domain::decision::Verdict;
use crate::export::cells::neutral;
use crate::pipeline::identity::text_hash;
use crate::pipeline::ports::Disclosure;

/// Options of `safeguarding`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show every disclosure, those that nobody has acknowledged first
    List {
        /// Show the whole text and what is known of the author. Mind who sees your screen
        #[arg(long)]
        text: bool,
    },
    /// Record that a person has read a disclosure and acts on it
    Ack {
        /// The comment's id as `list` prints it
        id: String,
        /// Where it came from, when two sources use the same id
        #[arg(long)]
        source: Option<String>,
        /// Who has read it
        #[arg(long)]
        by: String,
    },
    /// Record that a person has read a text and that it discloses no harm: it counts and may be published again
    Release {
        /// The comment's id as `list` prints it
        id: String,
        /// Where it came from, when two sources use the same id
        #[arg(long)]
        source: Option<String>,
        /// Who has decided so
        #[arg(long)]
        by: String,
        /// What becomes of it
        #[arg(long, value_enum, default_value_t = Released::Accept)]
        verdict: Released,
    },
}

/// The verdicts that a person may give what was escalated.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Released {
    Accept,
    Hold,
    Reject,
}

impl From<Released> for Verdict {
    fn from(released: Released) -> Self {
        match released {
            Released::Accept => Self::Accept,
            Released::Hold => Self::Hold,
            Released::Reject => Self::Reject,
        }
    }
}

/// Lists or acknowledges disclosures of the chosen consultation.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let place = arguments.output.store(&settings)?;
    super::existing(&place)?;
    let consultation = crate::domain::comment::ConsultationId::new(&common.consultation)
        .ok_or_else(|| usage("--consultation is empty"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = open_store(&place).await?;
        let disclosures = store.disclosures(Some(&consultation)).await?;
        match &arguments.action {
            Action::List { text } => {
                list(&disclosures, *text);
                Ok(ExitCode::SUCCESS)
            }
            Action::Ack { id, source, by } => {
                let key = &chosen(&disclosures, id, source.as_deref(), by)?.comment.key;
                store.acknowledge(key, by.trim()).await?;
                println!("acknowledged: {id} by {}", neutral(by.trim()));
                Ok(ExitCode::SUCCESS)
            }
            Action::Release { id, source, by, verdict } => {
                let Comment { key, text, .. } = &chosen(&disclosures, id, source.as_deref(), by)?.comment;
                let verdict = Verdict::from(*verdict);
                if !store.decide(key, &text_hash(text), verdict, by.trim()).await? {
                    return Err(usage(&format!(
                        "`{id}` was edited since: its current text is another, and is judged for itself"
                    )));
                }
                store.acknowledge(key, by.trim()).await?;
                println!("released: {id} is `{}` by {}, until its text changes", verdict.key(), neutral(by.trim()));
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

/// The one disclosure that is meant.
fn chosen<'a>(
    disclosures: &'a [Disclosure],
    id: &str,
    source: Option<&str>,
    by: &str,
) -> Result<&'a Disclosure, Failure> {
    if by.trim().is_empty() {
        return Err(usage("--by is empty: say who has read it"));
    }
    let source = source.map(|name| SourceName::new(name).ok_or_else(|| usage("--source is empty"))).transpose()?;
    let id = CommentId::new(id).ok_or_else(|| usage("the id is empty"))?;
    let found: Vec<&Disclosure> = disclosures
        .iter()
        .filter(|one| {
            one.comment.key.id == id && source.as_ref().is_none_or(|source| one.comment.key.source == *source)
        })
        .collect();
    match found.as_slice() {
        [] => Err(usage(&format!("no disclosure has the id `{id}` in this consultation"))),
        [one] => Ok(one),
        _ => Err(usage(&format!("{} sources have a disclosure with the id `{id}`: add --source", found.len()))),
    }
}

fn list(disclosures: &[Disclosure], text: bool) {
    let waiting = disclosures.iter().filter(|disclosure| disclosure.acknowledged.is_none()).count();
    println!("{} possible disclosures of harm, {waiting} not acknowledged", disclosures.len());
    for disclosure in disclosures {
        let comment = &disclosure.comment;
        let at = |ms: i64| {
            Timestamp::from_millisecond(ms).map_or_else(|_| "unknown time".to_owned(), |time| format!("{time:.0}"))
        };
        let state = match &disclosure.acknowledged {
            None => "NOT ACKNOWLEDGED".to_owned(),
            Some((ms, by)) => format!("acknowledged {} by {}", at(*ms), neutral(by)),
        };
        let why = disclosure.assessment.reasons.first().map_or("", |reason| reason.key.as_str());
        println!("\n{}  (source {})  {why}", neutral(comment.key.id.as_str()), neutral(comment.key.source.as_str()));
        println!("  escalated {}, {state}", at(disclosure.escalated_at_ms));
        if text {
            let author = &comment.author;
            let known: Vec<String> =
                [&author.name, &author.email, &author.id].into_iter().flatten().map(|part| neutral(part)).collect();
            println!("  author: {}", if known.is_empty() { "not known".to_owned() } else { known.join(", ") });
            for line in neutral(&comment.text).lines() {
                println!("  | {line}");
            }
        }
    }
    if !text && !disclosures.is_empty() {
        println!("\nRead them with --text, or in disclosures.csv in the restricted folder.");
    }
}
