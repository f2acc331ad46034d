//! `models/manifest.toml`: what the models are, which files they need, what they
//! were trained on, and the operating points that a command derived for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pipeline::ports::EngineError;

/// The whole manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// What the set of models is called.
    pub name: String,
    /// Its version, printed at start and kept with every assessment.
    pub version: String,
    /// The encoder that ours was trained from.
    pub base: Base,
    /// Encoder files.
    pub encoder: EncoderFiles,
    /// Head weights.
    pub heads: HeadFiles,
    /// What settles plain spam without the encoder; nothing where it was not trained.
    #[serde(default)]
    pub first_stage: Option<FirstStageFiles>,
    /// What marks the words that carry abuse; without it the abuse heads themselves do.
    #[serde(default)]
    pub spans: Option<SpanFiles>,
    /// One entry per head.
    #[serde(rename = "head")]
    pub head: Vec<Head>,
    /// Calibrated probabilities by label and name: `[operating_points.insult] reject = 0.9`.
    #[serde(default)]
    pub operating_points: BTreeMap<String, BTreeMap<String, f32>>,
}

/// The encoder that ours was trained from.
#[derive(Clone, Debug, Deserialize)]
pub struct Base {
    /// Its name.
    pub name: String,
    /// SPDX licence.
    pub licence: String,
    /// Where it came from.
    pub source: String,
}

/// Encoder files, relative to the manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct EncoderFiles {
    /// `model.safetensors`.
    pub weights: String,
    /// Hex SHA-256.
    pub weights_sha256: String,
    /// Hugging Face `config.json`.
    pub config: String,
    /// Hex SHA-256.
    pub config_sha256: String,
    /// Hugging Face `tokenizer.json`.
    pub tokenizer: String,
    /// Hex SHA-256.
    pub tokenizer_sha256: String,
    /// Window, `[CLS]` and `[SEP]` included.
    pub max_tokens: usize,
    /// Tokens that neighbouring windows share.
    pub overlap_tokens: usize,
    /// Languages (ISO 639-1) that the heads were measured on.
    pub languages: Vec<String>,
}

/// The file of all heads.
#[derive(Clone, Debug, Deserialize)]
pub struct HeadFiles {
    /// `heads.safetensors`.
    pub weights: String,
    /// Hex SHA-256.
    pub weights_sha256: String,
}

/// The first stage and its operating point (`train.py firststage`).
#[derive(Clone, Debug, Deserialize)]
pub struct FirstStageFiles {
    /// `first_stage.safetensors`.
    pub weights: String,
    /// Hex SHA-256.
    pub weights_sha256: String,
    /// Hex SHA-256 of the heads that taught it.
    pub heads_sha256: String,
    /// Surface features by name, in the order of their weights.
    pub features: Vec<String>,
    /// The spam logit from which a text is settled.
    pub settle_from: f32,
    /// The harm logit below which it may be.
    pub harm_below: f32,
}

/// What tells the words that carry abuse from the rest (`train.py spans`).
#[derive(Clone, Debug, Deserialize)]
pub struct SpanFiles {
    /// `spans.safetensors`.
    pub weights: String,
    /// Hex SHA-256.
    pub weights_sha256: String,
    /// Hex SHA-256 of the encoder whose vectors it reads.
    pub encoder_sha256: String,
    /// The logit from which a word is marked.
    pub mark_from: f32,
}

/// Whether a head's labels exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// Each label on its own.
    Multilabel,
    /// Exactly one label.
    Multiclass,
}

/// One head.
#[derive(Clone, Debug, Deserialize)]
pub struct Head {
    /// Prefix of its tensors.
    pub name: String,
    /// Independent or exclusive labels.
    pub kind: HeadKind,
    /// In the order of its rows.
    pub labels: Vec<String>,
    /// Surface features behind the pooled vector, by name.
    #[serde(default)]
    pub features: Vec<String>,
    /// Its version.
    pub version: String,
    /// Its model card.
    #[serde(default)]
    pub card: Option<String>,
    /// Figures on data that it never saw, as the evaluation wrote them.
    #[serde(default)]
    pub metrics: toml::Table,
}

/// A manifest with the folder that it stands in.
#[derive(Clone, Debug)]
pub struct ManifestFile {
    /// The folder.
    pub folder: PathBuf,
    /// Its contents.
    pub manifest: Manifest,
    /// Hex SHA-256 of the file: the models' identity.
    pub sha256: String,
}

impl ManifestFile {
    /// Reads `manifest.toml` in `folder`.
    pub fn read(folder: &Path) -> Result<Self, EngineError> {
        let path = folder.join("manifest.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| EngineError::Models {
            path: path.display().to_string(),
            problem: format!("cannot be read ({error}); name the models folder with --models or MOOTHALL_MODELS"),
        })?;
        let manifest: Manifest = toml::from_str(&text).map_err(|error| EngineError::Models {
            path: path.display().to_string(),
            problem: format!("is not a manifest: {error}"),
        })?;
        let file = Self { folder: folder.to_owned(), manifest, sha256: hex::encode(Sha256::digest(text.as_bytes())) };
        file.check(&path)?;
        Ok(file)
    }

    fn check(&self, path: &Path) -> Result<(), EngineError> {
        let mut problems = Vec::new();
        let encoder = &self.manifest.encoder;
        if encoder.max_tokens < 8 || encoder.overlap_tokens + 4 >= encoder.max_tokens {
            problems.push(format!(
                "encoder.max_tokens {} and encoder.overlap_tokens {} leave no window",
                encoder.max_tokens, encoder.overlap_tokens
            ));
        }
        for (label, points) in &self.manifest.operating_points {
            for (name, value) in points {
                if !(value.is_finite() && (0.0..=1.0).contains(value)) {
                    problems.push(format!("operating_points.{label}.{name} = {value} is not a probability"));
                }
            }
        }
        for head in &self.manifest.head {
            if head.labels.is_empty() {
                problems.push(format!("head `{}` has no labels", head.name));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(EngineError::Models { path: path.display().to_string(), problem: problems.join("; ") })
    }

    /// The bytes of a file that the manifest names, if they have the checksum that it states.
    pub fn load(&self, name: &str, sha256: &str) -> Result<Vec<u8>, EngineError> {
        let path = self.folder.join(name);
        let bad = |problem: String| EngineError::Models { path: path.display().to_string(), problem };
        let bytes = std::fs::read(&path).map_err(|error| bad(format!("cannot be read: {error}")))?;
        let found = hex::encode(Sha256::digest(&bytes));
        if found != sha256.to_lowercase() {
            return Err(bad(format!(
                "has checksum {found} and the manifest says {sha256}; restore the file that belongs to this manifest"
            )));
        }
        Ok(bytes)
    }

    /// The head with this name.
    pub fn head(&self, name: &str) -> Option<&Head> {
        self.manifest.head.iter().find(|head| head.name == name)
    }

    /// The operating point `name` of `label`.
    pub fn operating_point(&self, label: &str, name: &str) -> Option<f32> {
        self.manifest.operating_points.get(label)?.get(name).copied()
    }
}

/// Finds the models folder: the given one, else `./models`, else `models` beside
/// the executable or in a folder above it.
pub fn find_folder(given: Option<&Path>) -> PathBuf {
    if let Some(folder) = given {
        return folder.to_owned();
    }
    let here = PathBuf::from("models");
    if here.join("manifest.toml").is_file() {
        return here;
    }
    std::env::current_exe()
        .ok()
        .and_then(|binary| {
            binary
                .ancestors()
                .skip(1)
                .map(|folder| folder.join("models"))
                .find(|folder| folder.join("manifest.toml").is_file())
        })
        .unwrap_or(here)
}
