//! Models of the operator's own: what stands in such a folder, read without running it.
//!
//! The folder is what Hugging Face saves of a sequence classifier: `config.json`,
//! weights, and a vocabulary. Running one needs the rust-bert engine.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::reading::Reading;
use crate::domain::score::Signals;
use crate::pipeline::ports::EngineError;

/// Architectures that can be run, by `model_type` of `config.json`: those of rust-bert 0.23 whose
/// probabilities were the same as those of Hugging Face transformers 4.44. Its `MobileBERT` and
/// `DeBERTa` gave others.
pub const MODEL_TYPES: [&str; 5] = ["bert", "distilbert", "roberta", "xlm-roberta", "albert"];

/// Weights, the first that is there.
const WEIGHTS: [&str; 2] = ["model.safetensors", "rust_model.ot"];

/// Vocabularies, the first whose files are all there.
const VOCABULARIES: [&[&str]; 3] = [&["tokenizer.json"], &["vocab.txt"], &["vocab.json", "merges.txt"]];

/// Files that are read where they are there.
const OPTIONAL: [&str; 1] = ["tokenizer_config.json"];

/// Extra models, loaded and shared by every worker thread.
pub trait ExtraModel: Send + Sync {
    /// One thread's view of the weights.
    fn worker(self: std::sync::Arc<Self>) -> Box<dyn ExtraWorker>;
}

/// One thread's extra model.
pub trait ExtraWorker: Send {
    /// Adds what the model says of each reading to the signals in the same place. A blank
    /// reading stays without.
    fn add(&mut self, readings: &[&Reading], signals: &mut [Signals]);
}

/// A folder that holds a sequence classifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraFolder {
    /// Where it is.
    pub folder: PathBuf,
    /// One of [`MODEL_TYPES`].
    pub model_type: String,
    /// `id2label`, in the order of the outputs.
    pub labels: Vec<String>,
    /// Whether the labels exclude each other (softmax) or stand alone (sigmoid).
    pub exclusive: bool,
    /// File name of the weights.
    pub weights: &'static str,
    /// File names of the vocabulary.
    pub vocabulary: &'static [&'static str],
}

impl ExtraFolder {
    /// Looks into `folder` and reads its `config.json`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Models`] names the file and what is wrong with it or missing.
    pub fn read(folder: &Path) -> Result<Self, EngineError> {
        let bad = |file: &str, problem: String| EngineError::Models {
            path: folder.join(file).display().to_string(),
            problem,
        };
        let text = std::fs::read_to_string(folder.join("config.json"))
            .map_err(|error| bad("config.json", format!("cannot be read: {error}")))?;
        let config: Value = serde_json::from_str(&text)
            .map_err(|error| bad("config.json", format!("is not a model's configuration: {error}")))?;
        let model_type = config["model_type"].as_str().unwrap_or_default();
        if !MODEL_TYPES.contains(&model_type) {
            let known = MODEL_TYPES.join(", ");
            return Err(bad("config.json", format!("`model_type` is `{model_type}`, must be one of {known}")));
        }
        let there = |file: &&str| folder.join(file).is_file();
        let weights = WEIGHTS
            .into_iter()
            .find(there)
            .ok_or_else(|| bad("", format!("has no weights: {}", WEIGHTS.join(" or "))))?;
        let vocabulary = VOCABULARIES.into_iter().find(|files| files.iter().all(there)).ok_or_else(|| {
            bad("", "has no vocabulary: tokenizer.json, or vocab.txt, or vocab.json with merges.txt".to_owned())
        })?;
        let labels = labels(&config).map_err(|problem| bad("config.json", problem))?;
        // As the training code of Hugging Face has it; one output alone can only be a sigmoid.
        let exclusive = match config["problem_type"].as_str() {
            None | Some("single_label_classification") => labels.len() > 1,
            Some("multi_label_classification") => false,
            Some(other) => {
                return Err(bad(
                    "config.json",
                    format!("`problem_type` is `{other}`, and a score must be a probability"),
                ));
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            model_type: model_type.to_owned(),
            labels,
            exclusive,
            weights,
            vocabulary,
        })
    }

    /// Hex SHA-256 over every file that shapes the answers, each with its name and size.
    pub fn sha256(&self) -> Result<String, EngineError> {
        let optional = OPTIONAL.into_iter().filter(|file| self.folder.join(file).is_file());
        let mut hash = Sha256::new();
        for file in ["config.json", self.weights].into_iter().chain(self.vocabulary.iter().copied()).chain(optional) {
            let path = self.folder.join(file);
            hash_file(&path, file, &mut hash).map_err(|error| EngineError::Models {
                path: path.display().to_string(),
                problem: format!("cannot be read: {error}"),
            })?;
        }
        Ok(hex::encode(hash.finalize()))
    }
}

fn hash_file(path: &Path, name: &str, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    hash.update(name.as_bytes());
    hash.update(file.metadata()?.len().to_le_bytes());
    let mut part = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut part)?;
        if count == 0 {
            return Ok(());
        }
        hash.update(&part[..count]);
    }
}

/// `id2label` in order. A configuration without one has two outputs under the names that the
/// Hugging Face library gives by default.
fn labels(config: &Value) -> Result<Vec<String>, String> {
    let Some(map) = config["id2label"].as_object() else {
        return Ok(vec!["LABEL_0".to_owned(), "LABEL_1".to_owned()]);
    };
    if map.is_empty() {
        return Err("`id2label` is empty".to_owned());
    }
    (0..map.len())
        .map(|id| {
            let label = map.get(&id.to_string()).and_then(Value::as_str);
            label.map(str::to_owned).ok_or_else(|| format!("`id2label` has {} labels and none for {id}", map.len()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str) -> Result<ExtraFolder, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("config.json", config), ("model.safetensors", ""), ("vocab.txt", "[PAD]\n")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        ExtraFolder::read(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_come_in_the_order_of_the_outputs() {
        let labels = r#"{"10":"k","2":"c","0":"a","1":"b","3":"d","4":"e","5":"f","6":"g","7":"h","8":"i","9":"j"}"#;
        let found = check(&format!(r#"{{"model_type":"bert","id2label":{labels}}}"#)).unwrap();
        assert_eq!(found.labels.concat(), "abcdefghijk");
        assert!(found.exclusive);
    }

    #[test]
    fn labels_that_stand_alone_are_told_from_those_that_exclude_each_other() {
        let config = r#"{"model_type":"roberta","problem_type":"multi_label_classification"}"#;
        let found = check(config).unwrap();
        assert_eq!(
            (found.labels.as_slice(), found.exclusive),
            (["LABEL_0".to_owned(), "LABEL_1".to_owned()].as_slice(), false)
        );
        assert!(!check(r#"{"model_type":"bert","id2label":{"0":"toxic"}}"#).unwrap().exclusive);
    }

    #[test]
    fn a_folder_that_cannot_be_run_is_refused_with_the_reason() {
        for (config, expected) in [
            ("{", "is not a model's configuration"),
            (r#"{"model_type":"gpt2"}"#, "`model_type` is `gpt2`, must be one of bert, distilbert"),
            (r#"{"model_type":"bert","problem_type":"regression"}"#, "must be a probability"),
            (r#"{"model_type":"bert","id2label":{"0":"a","2":"b"}}"#, "none for 1"),
        ] {
            let error = check(config).unwrap_err();
            assert!(error.contains(expected) && error.contains("config.json"), "{error}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(ExtraFolder::read(empty.path()).unwrap_err().to_string().contains("config.json"));
    }

    #[test]
    fn another_file_gives_another_hash() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("config.json", r#"{"model_type":"bert"}"#);
        write("model.safetensors", "weights");
        write("vocab.txt", "[PAD]\n");
        let hash = || ExtraFolder::read(folder.path()).unwrap().sha256().unwrap();
        let first = hash();
        assert_eq!(hash(), first);
        write("model.safetensors", "weightS");
        let second = hash();
        write("tokenizer_config.json", "{}");
        assert!(first != second && second != hash());
    }
}
