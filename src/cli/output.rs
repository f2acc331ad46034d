//! What `process`, `report` and the services share: the output folder and the last words on the terminal.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;

use super::{Failure, environment};
use crate::app::{self, Storage, StorePlace};
use crate::assess::redact;
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::Rulebook;
use crate::engine::manifest::ManifestFile;
use crate::export::{self, ExportOptions, Outcome, Redacted, Reliability, RunInfo};
use crate::settings::Settings;

/// Where results are and where the store is.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Output folder; queue, store and disclosures live in its `restricted` part
    #[arg(long, global = true, value_name = "DIR", default_value = "out", env = "MOOTHALL_OUT")]
    pub out: PathBuf,
    /// The SQLite file, or `postgres://USER@HOST/DATABASE` [default: as `[store]` in the settings says,
    /// else restricted/moothall.db in the output folder]
    #[arg(long, global = true, value_name = "FILE|URL")]
    pub store: Option<OsString>,
}

impl Place {
    /// Where the store is.
    pub fn store(&self, settings: &Settings) -> Result<StorePlace, Failure> {
        StorePlace::find(self.store.as_deref(), settings, &self.out).map_err(Failure::Usage)
    }
}

/// Where results go, where the store is, and what the report says of time.
#[derive(Clone, Debug, Args)]
pub struct Output {
    #[command(flatten)]
    pub place: Place,
    /// The time that the report speaks of [default: now]
    #[arg(long, value_name = "TIME")]
    as_at: Option<String>,
}

impl Output {
    /// The time that the report speaks of.
    pub fn as_at(&self) -> Result<Timestamp, Failure> {
        super::process::parse_as_at(self.as_at.as_deref())
    }

    /// Where the store is.
    pub fn store(&self, settings: &Settings) -> Result<StorePlace, Failure> {
        self.place.store(settings)
    }

    /// Makes the output folder and its restricted part.
    pub fn make_folders(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.place.out)
            .map_err(|error| anyhow::anyhow!("folder {}: {error}", self.place.out.display()))?;
        Ok(app::private_folder(&self.place.out.join(export::RESTRICTED))?)
    }

    /// Makes the folders and opens queue and store; `only` keeps to one consultation's queue.
    pub async fn open(&self, settings: &Settings, only: Option<&ConsultationId>) -> Result<Storage, Failure> {
        self.make_folders()?;
        let storage = Storage::embedded(&self.store(settings)?, settings, only).await?;
        storage.ready().await?;
        Ok(storage)
    }
}

/// Says loudly that nobody is named to read disclosures.
pub fn warn_without_contact(rulebook: &Rulebook) {
    if rulebook.consultation.safeguarding_contact.is_none() {
        eprintln!(
            "WARNING: nobody is named to read disclosures of harm. Set `safeguarding_contact` in the\n         \
             consultation.toml of `{}`; until then they wait in the restricted folder only.",
            rulebook.consultation.id
        );
    }
}

/// Writes report and tables.
pub async fn write(
    storage: &Storage,
    rulebook: &Rulebook,
    manifest: &ManifestFile,
    output: &Output,
    as_at: Timestamp,
) -> Result<Outcome, Failure> {
    let restricted = output.place.out.join(export::RESTRICTED);
    let options = ExportOptions {
        out_dir: output.place.out.clone(),
        as_at,
        pseudonym_key: app::pseudonym_key(&restricted, &environment)?,
        in_queue: storage.queue.depth(Some(&rulebook.consultation.id)).await?,
        restricted: true,
        redactor: Arc::new(|text, pii| {
            let redacted = redact::redact(text, pii);
            Redacted { text: redacted.text.clone(), map: Box::new(move |span| redacted.map(span)) }
        }),
        run: RunInfo {
            id: format!("{}-{as_at}", rulebook.consultation.id),
            started_at: Timestamp::now(),
            software: format!("moothall {}", env!("CARGO_PKG_VERSION")),
        },
        reliability: reliability(manifest, rulebook),
    };
    Ok(export::write_all(storage.store.as_ref(), rulebook, options).await?)
}

/// The measured figures of the heads that this rulebook uses, from the codebook's heads and the manifest.
fn reliability(manifest: &ManifestFile, rulebook: &Rulebook) -> Vec<Reliability> {
    let mut notes = Vec::new();
    for figure in rulebook.heads.iter().flat_map(|heads| &heads.figures) {
        notes.push(Reliability {
            name: figure.name.clone(),
            figure: figure.value,
            interval: Some((figure.low, figure.high)),
            n: figure.rows as u64,
            data: if figure.held_out {
                "comments that the heads never trained on".to_owned()
            } else {
                "cross-validation: each comment judged by heads trained without it".to_owned()
            },
        });
    }
    // With a codebook opinion is attitude, and nothing in the report rests on the general mood.
    let rests_on = |head: &str| head != "polarity" || rulebook.codebook.is_none();
    for head in manifest.manifest.head.iter().filter(|head| rests_on(&head.name)) {
        for (name, metric) in &head.metrics {
            let number = |key: &str| {
                metric.get(key).and_then(|value| value.as_float().or_else(|| value.as_integer().map(|n| n as f64)))
            };
            let Some(figure) = number("value") else { continue };
            if name.ends_with("_ece") {
                continue;
            }
            let measure = metric.get("measure").and_then(|value| value.as_str()).unwrap_or(name);
            notes.push(Reliability {
                name: format!("{}: {}", head.name.replace('_', " "), measure.replace('_', " ")),
                figure,
                interval: number("low").zip(number("high")),
                n: number("n").unwrap_or(0.0) as u64,
                data: "development split that the models never trained on".to_owned(),
            });
        }
    }
    notes
}

/// The closing table and where to look.
pub fn print(outcome: &Outcome, output: &Output, rulebook: &Rulebook) {
    print!("{}", export::terminal_summary(&outcome.summary));
    let disclosures = outcome.summary.disclosures;
    if disclosures.escalated > 0 {
        let contact = rulebook
            .consultation
            .safeguarding_contact
            .as_deref()
            .unwrap_or("nobody is named: set safeguarding_contact");
        println!("\nSafeguarding contact: {contact}");
        println!("Read them: moothall safeguarding list --out {}", quoted(&output.place.out));
    }
    println!("\nOpen {}", std::path::absolute(&outcome.report).unwrap_or_else(|_| outcome.report.clone()).display());
}

/// A path as it can be pasted into a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c)) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
