//! A suite: several labelled files measured by one command.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

/// A suite as it is typed. Files are named from the suite's own folder.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Heading of the report.
    #[serde(default)]
    pub title: String,
    /// What a reader should know first.
    #[serde(default)]
    pub note: String,
    /// In the order of the report.
    #[serde(rename = "set")]
    pub sets: Vec<SetFile>,
}

/// One labelled file and what goes with it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFile {
    /// Heading; the file's stem if not given.
    #[serde(default)]
    pub name: String,
    /// The labelled rows.
    pub file: PathBuf,
    /// By whose rulebook it is judged; the command line's if not given.
    #[serde(default)]
    pub consultation: Option<String>,
    /// What the rows are, in a sentence or two.
    #[serde(default)]
    pub note: String,
    /// `[["toxic", "Is it abusive?"]]`: where a label is, when its column has another name.
    #[serde(default)]
    pub columns: Vec<(String, String)>,
    /// Columns of groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Only rows of this split.
    #[serde(default)]
    pub split: Option<String>,
    /// Stored judgements, instead of judging.
    #[serde(default)]
    pub predictions: Option<PathBuf>,
    /// Other systems.
    #[serde(default)]
    pub against: Vec<Against>,
}

/// Another system's answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Against {
    /// What tables call it.
    pub name: String,
    /// JSON Lines in the shape that `assess` prints.
    pub file: PathBuf,
}

impl Suite {
    /// Reads a suite and puts its folder before every file.
    ///
    /// # Errors
    /// Names the file, and the line and key of what is wrong in it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("suite {}", path.display()))?;
        let mut suite: Self = toml::from_str(&text).with_context(|| format!("suite {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for set in &mut suite.sets {
            set.file = folder.join(&set.file);
            set.predictions = set.predictions.as_ref().map(|file| folder.join(file));
            for system in &mut set.against {
                system.file = folder.join(&system.file);
            }
        }
        Ok(suite)
    }
}

impl SetFile {
    /// The heading.
    pub fn heading(&self) -> String {
        if self.name.is_empty() { stem(&self.file) } else { self.name.clone() }
    }
}

/// `abuse` for `dev/abuse.jsonl.gz`.
fn stem(path: &Path) -> String {
    let mut name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for end in [".gz", ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json"] {
        if name.len() > end.len() && name.to_lowercase().ends_with(end) {
            name.truncate(name.len() - end.len());
        }
    }
    name
}
