//! A consultation's folder and the models' manifest to one [`Rulebook`].

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::keys::Problems;
use super::{codebook, consultation, policy};
use crate::domain::rulebook::{Consultation, PipelineVersion, Rulebook};
use crate::domain::score::Probability;
use crate::engine::manifest::ManifestFile;

/// Changes whenever the judging code gives another answer to the same text,
/// models and settings, so that cached judgements are not mixed.
pub(super) const JUDGING_CODE: &str = "2";

/// The texts of a consultation's files.
#[derive(Clone, Debug)]
pub struct RulebookFiles {
    /// Where they came from, for errors: a folder, or `built-in`.
    pub origin: String,
    /// That folder; none where they are compiled in.
    pub folder: Option<PathBuf>,
    /// `consultation.toml`.
    pub consultation: String,
    /// `policy.toml`.
    pub policy: String,
    /// `codebook.toml`, unless bare texts are judged.
    pub codebook: Option<String>,
}

impl RulebookFiles {
    /// The files of consultation `id`: from `folder/id`, or compiled in.
    pub fn find(id: &str, folder: Option<&Path>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            problems.add("--consultation", "", format!("`{id}` is no consultation key: letters, digits, `-` and `_`"));
            return Err(problems);
        }
        let base = folder.map_or_else(|| PathBuf::from("config"), Path::to_owned);
        let own = base.join(id);
        if own.join("consultation.toml").is_file() {
            return Self::at(&own);
        }
        match id {
            "mentoring" if folder.is_none() => Ok(Self {
                origin: "built-in/mentoring".to_owned(),
                folder: None,
                consultation: include_str!("../../config/mentoring/consultation.toml").to_owned(),
                policy: include_str!("../../config/mentoring/policy.toml").to_owned(),
                codebook: Some(include_str!("../../config/mentoring/codebook.toml").to_owned()),
            }),
            "none" => Ok(Self {
                origin: "built-in/none".to_owned(),
                folder: None,
                consultation: include_str!("../../config/none/consultation.toml").to_owned(),
                policy: include_str!("../../config/none/policy.toml").to_owned(),
                codebook: None,
            }),
            _ => {
                problems.add(
                    &own.display().to_string(),
                    "",
                    "has no consultation.toml: make the folder, or name another consultation with --consultation",
                );
                Err(problems)
            }
        }
    }

    /// The files of the consultation in this folder.
    pub fn at(folder: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut text = |name: &str, needed: bool| {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Some(text),
                Err(error) if !needed && error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    problems.add(&path.display().to_string(), "", format!("cannot be read: {error}"));
                    None
                }
            }
        };
        let (consultation, policy, codebook) =
            (text("consultation.toml", true), text("policy.toml", true), text("codebook.toml", false));
        problems.or(())?;
        Ok(Self {
            origin: folder.display().to_string(),
            folder: Some(folder.to_owned()),
            consultation: consultation.unwrap_or_default(),
            policy: policy.unwrap_or_default(),
            codebook,
        })
    }
}

/// The consultation alone, for those who judge nothing and need no models.
pub fn load_consultation(files: &RulebookFiles) -> Result<Consultation, Problems> {
    let mut problems = Problems::default();
    let name = format!("{}/consultation.toml", files.origin);
    match consultation::read(&name, &files.consultation, &mut problems) {
        Some(consultation) => problems.or(consultation),
        None => Err(problems),
    }
}

/// Checks a consultation's files against the models and makes one rulebook of them.
pub fn load_rulebook(files: &RulebookFiles, manifest: &ManifestFile) -> Result<Rulebook, Problems> {
    let mut problems = Problems::default();
    let name = |file: &str| format!("{}/{file}", files.origin);
    let points = |label: &str, point: &str| manifest.operating_point(label, point);
    let consultation = consultation::read(&name("consultation.toml"), &files.consultation, &mut problems);
    let policy = policy::read(&name("policy.toml"), &files.policy, &points, &mut problems);
    let codebook =
        files.codebook.as_ref().and_then(|text| codebook::read(&name("codebook.toml"), text, &points, &mut problems));
    let mut off_topic_from = None;
    if let Some(codebook) = &codebook {
        let heads: Vec<_> = manifest
            .manifest
            .head
            .iter()
            .filter(|head| head.codebook.as_deref() == Some(codebook.id.as_str()))
            .collect();
        let known: Vec<&String> =
            heads.iter().filter(|head| head.name == "themes").flat_map(|head| &head.labels).collect();
        for theme in &codebook.themes {
            if !known.iter().any(|label| *label == theme.id.as_str()) {
                problems.add(
                    &name("codebook.toml"),
                    format!("theme `{}`", theme.id),
                    format!(
                        "has no head in the models (codebook `{}` has: {})",
                        codebook.id,
                        known.iter().map(|label| label.as_str()).collect::<Vec<_>>().join(", ")
                    ),
                );
            }
        }
        if heads.iter().any(|head| head.name == "off_topic") {
            off_topic_from = manifest.operating_point("off_topic", "tag").and_then(Probability::new);
        }
    }
    let problems = problems;
    let Some(consultation) = consultation else { return Err(problems) };
    let rulebook = Rulebook {
        policy,
        languages: manifest.manifest.encoder.languages.clone(),
        model_version: manifest.manifest.version.clone(),
        off_topic_from,
        version: version(files, manifest),
        codebook,
        consultation,
    };
    problems.or(rulebook)
}

/// SHA-256 over everything that shapes a judgement, shortened to 16 hex digits.
/// Titles and contacts do not shape one; they stay out.
fn version(files: &RulebookFiles, manifest: &ManifestFile) -> PipelineVersion {
    let mut hash = Sha256::new();
    for part in [JUDGING_CODE, &manifest.sha256, &files.policy, files.codebook.as_deref().unwrap_or("")] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    PipelineVersion(hex::encode(&hash.finalize()[..8]))
}
