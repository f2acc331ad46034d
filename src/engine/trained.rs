//! The heads of a codebook on disk: `heads/<version>/heads.toml` beside the codebook,
//! its weights, and `heads/active.toml`, which names the version in force.
//!
//! Earlier versions stay, so going back is one line in `active.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::HeadKind;
use crate::domain::heads::{GramList, HeadCalibration, HeadFigure, TrainedHead, TrainedHeads};
use crate::pipeline::ports::EngineError;

/// The description's name.
pub const DESCRIPTION: &str = "heads.toml";

/// The weights' name.
pub const WEIGHTS: &str = "heads.safetensors";

/// The pointer's name, in the folder of all versions.
pub const ACTIVE: &str = "active.toml";

/// `heads.toml`: what the heads are, and everything that went into them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Names the folder.
    pub version: String,
    /// What they serve.
    pub codebook: CodebookPart,
    /// What they read.
    pub encoder: EncoderPart,
    /// Checksum of the weights.
    pub weights_sha256: String,
    /// How they were trained.
    pub training: TrainingPart,
    /// Probability from which a label is tagged, by best F1 of scores out of fold.
    pub points: BTreeMap<String, f32>,
    /// One for each head.
    #[serde(rename = "head")]
    pub heads: Vec<HeadPart>,
    /// One for each file of examples.
    #[serde(rename = "data", default)]
    pub data: Vec<DataPart>,
    /// One for each label: its figures.
    #[serde(rename = "label", default)]
    pub labels: Vec<LabelPart>,
}

/// Which codebook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodebookPart {
    /// Its key.
    pub id: String,
    /// Its version, as its author wrote it.
    pub version: String,
    /// SHA-256 (hex) of what it taught.
    pub sha256: String,
}

/// Which encoder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EncoderPart {
    /// SHA-256 (hex) of its weights.
    pub weights_sha256: String,
    /// Length of its vectors.
    pub width: usize,
}

/// How it was trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingPart {
    /// Of folds and resamples.
    pub seed: u64,
    /// Whether 12 % of the files' rows were held out for reporting.
    pub held_out: bool,
    /// Texts learnt from.
    pub texts: usize,
    /// Reviewed corrections among them.
    pub corrections: usize,
    /// Blind codes that were offered and left out.
    pub blind_codes_left_out: usize,
}

/// One head.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadPart {
    /// Its name.
    pub name: String,
    /// Independent or exclusive labels.
    pub kind: HeadKind,
    /// In the order of its rows.
    pub labels: Vec<String>,
    /// Chosen by cross-validation: inverse penalty of each eight labels.
    pub inverse_penalty: Vec<f32>,
    /// Chosen by cross-validation: weight of the vector beside the words.
    pub vector_scale: Vec<f32>,
    /// `[value, low, high]` of F1 over all decisions (exclusive labels: accuracy), cross-validated.
    pub micro_f1: [f64; 3],
    /// The same for the mean of the labels' F1.
    pub macro_f1: [f64; 3],
    /// Rows behind both.
    pub rows: usize,
    /// On the rows that were held out.
    pub held_out_micro_f1: [f64; 3],
    /// On the rows that were held out.
    pub held_out_macro_f1: [f64; 3],
    /// Rows behind both.
    pub held_out_rows: usize,
}

/// One file of examples.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataPart {
    /// As the codebook names it.
    pub file: String,
    /// SHA-256 (hex) of its bytes.
    pub sha256: String,
    /// Rows that it has.
    pub rows: usize,
    /// Of these, learnt from.
    pub trained: usize,
    /// Of these, held out.
    pub held_out: usize,
}

/// One label's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelPart {
    /// Its head.
    pub head: String,
    /// The label.
    pub label: String,
    /// Examples learnt from.
    pub examples: usize,
    /// `[value, low, high]`, cross-validated.
    pub f1: [f64; 3],
    /// Of the tagged, rightly.
    pub precision: f64,
    /// Of those to tag, tagged.
    pub recall: f64,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// Measured rows with the label.
    pub measured_yes: usize,
    /// `[value, low, high]` on held-out rows.
    pub held_out_f1: [f64; 3],
    /// Held-out rows with the label.
    pub held_out_yes: usize,
    /// Too few rows to lean on these figures.
    pub thin: bool,
}

#[derive(Deserialize)]
struct Active {
    version: String,
}

fn bad(path: &str, problem: impl Into<String>) -> EngineError {
    EngineError::Models { path: path.to_owned(), problem: problem.into() }
}

/// The version in force in a codebook's `heads` folder; `None` where nothing was trained.
pub fn active(folder: &Path) -> Result<Option<String>, EngineError> {
    let path = folder.join(ACTIVE);
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(&name, format!("cannot be read: {error}"))),
    };
    let active: Active =
        toml::from_str(&text).map_err(|error| bad(&name, format!("does not name a version: {}", error.message())))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if active.version.is_empty() || active.version.starts_with('.') || !active.version.chars().all(plain) {
        return Err(bad(&name, format!("`version` is `{}`, which names no folder beside it", active.version)));
    }
    Ok(Some(active.version))
}

/// Reads one version's folder.
pub fn read(folder: &Path) -> Result<TrainedHeads, EngineError> {
    let load = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| bad(&path.display().to_string(), format!("cannot be read: {error}")))
    };
    parse(&folder.display().to_string(), &load(DESCRIPTION)?, &load(WEIGHTS)?)
}

/// Heads from the bytes of both files; `origin` names their folder in errors.
pub fn parse(origin: &str, description: &[u8], weights: &[u8]) -> Result<TrainedHeads, EngineError> {
    let (described, weighed) = (format!("{origin}/{DESCRIPTION}"), format!("{origin}/{WEIGHTS}"));
    let text = std::str::from_utf8(description).map_err(|_| bad(&described, "is not UTF-8"))?;
    let found: Description = toml::from_str(text)
        .map_err(|error| bad(&described, format!("does not describe heads: {}", error.message())))?;
    let sha256 = hex::encode(Sha256::digest(weights));
    if sha256 != found.weights_sha256 {
        return Err(bad(
            &weighed,
            format!("has checksum {sha256} and {DESCRIPTION} says {}; train again", found.weights_sha256),
        ));
    }
    let tensors =
        SafeTensors::deserialize(weights).map_err(|error| bad(&weighed, format!("not a safetensors file: {error}")))?;
    let reader = Reader { tensors, file: &weighed };
    let grams = |kind: &str| -> Result<GramList, EngineError> {
        let list = GramList {
            hashes: reader.hashes(&format!("{kind}.hash"))?,
            idf: reader.floats(&format!("{kind}.idf"), None)?,
        };
        if list.hashes.len() != list.idf.len() || !list.hashes.is_sorted() {
            return Err(bad(&weighed, format!("`{kind}` is no list of n-grams")));
        }
        Ok(list)
    };
    let (words, letters) = (grams("words")?, grams("letters")?);
    let count = words.hashes.len() + letters.hashes.len();
    let mut heads = Vec::with_capacity(found.heads.len());
    for part in &found.heads {
        let (name, labels) = (&part.name, part.labels.len());
        let floats = |what: &str, length: usize| reader.floats(&format!("{name}.{what}"), Some(length));
        let calibration = match part.kind {
            HeadKind::Multilabel => HeadCalibration::Platt(
                floats("calibration", labels * 2)?.as_chunks::<2>().0.iter().map(|[a, b]| (*a, *b)).collect(),
            ),
            HeadKind::Multiclass => HeadCalibration::Temperature(floats("temperature", 1)?[0]),
        };
        if matches!(calibration, HeadCalibration::Temperature(t) if t <= 0.0) {
            return Err(bad(&weighed, format!("`{name}.temperature` is not above zero")));
        }
        heads.push(TrainedHead {
            dense: floats("dense", labels * found.encoder.width)?,
            lexical: floats("lexical", labels * count)?,
            bias: floats("bias", labels)?,
            name: name.clone(),
            labels: part.labels.clone(),
            calibration,
        });
    }
    for (label, point) in &found.points {
        if !(0.0..=1.0).contains(point) {
            return Err(bad(&described, format!("`points.{label}` is {point}, not a probability")));
        }
    }
    Ok(TrainedHeads {
        version: found.version,
        codebook: found.codebook.id,
        codebook_sha256: found.codebook.sha256,
        encoder_sha256: found.encoder.weights_sha256,
        sha256: hex::encode(Sha256::digest(description)),
        words,
        letters,
        heads,
        figures: figures(&found.heads),
        points: found.points,
    })
}

/// Each head's figures: on held-out rows where there are any, else cross-validated.
fn figures(heads: &[HeadPart]) -> Vec<HeadFigure> {
    let mut figures = Vec::new();
    for head in heads {
        let held_out = head.held_out_rows > 0;
        let (micro, mean, rows) = if held_out {
            (head.held_out_micro_f1, head.held_out_macro_f1, head.held_out_rows)
        } else {
            (head.micro_f1, head.macro_f1, head.rows)
        };
        let share = if head.kind == HeadKind::Multilabel { "micro F1" } else { "accuracy" };
        for (measure, [value, low, high]) in [(share, micro), ("macro F1", mean)] {
            let name = format!("{}: {measure}", head.name.replace('_', " "));
            figures.push(HeadFigure { name, value, low, high, rows, held_out });
        }
    }
    figures
}

struct Reader<'a> {
    tensors: SafeTensors<'a>,
    file: &'a str,
}

impl Reader<'_> {
    fn tensor(&self, name: &str) -> Result<TensorView<'_>, EngineError> {
        self.tensors.tensor(name).map_err(|_| bad(self.file, format!("tensor `{name}` is missing")))
    }

    fn floats(&self, name: &str, length: Option<usize>) -> Result<Vec<f32>, EngineError> {
        let tensor = self.tensor(name)?;
        let floats: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F16 => {
                tensor.data().as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            }
            other => return Err(bad(self.file, format!("tensor `{name}` holds {other:?}, not F16 or F32"))),
        };
        if length.is_some_and(|length| length != floats.len()) {
            return Err(bad(self.file, format!("tensor `{name}` holds {} numbers", floats.len())));
        }
        if floats.iter().any(|number| !number.is_finite()) {
            return Err(bad(self.file, format!("tensor `{name}` holds a number that is not finite")));
        }
        Ok(floats)
    }

    fn hashes(&self, name: &str) -> Result<Vec<u32>, EngineError> {
        let tensor = self.tensor(name)?;
        if tensor.dtype() != Dtype::U32 {
            return Err(bad(self.file, format!("tensor `{name}` holds {:?}, not U32", tensor.dtype())));
        }
        Ok(tensor.data().as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }
}

/// The bytes of the weights' file. Weights of n-grams are stored in half precision.
pub fn weights_file(words: &GramList, letters: &GramList, heads: &[TrainedHead]) -> Result<Vec<u8>, EngineError> {
    let mut parts: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let single = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let half =
        |values: &[f32]| values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect::<Vec<u8>>();
    for (kind, list) in [("words", words), ("letters", letters)] {
        let hashes = list.hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        parts.insert(format!("{kind}.hash"), (Dtype::U32, vec![list.hashes.len()], hashes));
        parts.insert(format!("{kind}.idf"), (Dtype::F32, vec![list.idf.len()], single(&list.idf)));
    }
    for head in heads {
        let labels = head.labels.len();
        let mut add = |what: &str, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>| {
            parts.insert(format!("{}.{what}", head.name), (dtype, shape, bytes));
        };
        add("dense", Dtype::F32, vec![labels, head.dense.len() / labels.max(1)], single(&head.dense));
        add("lexical", Dtype::F16, vec![head.lexical.len() / labels.max(1), labels], half(&head.lexical));
        add("bias", Dtype::F32, vec![labels], single(&head.bias));
        match &head.calibration {
            HeadCalibration::Platt(pairs) => {
                let flat: Vec<f32> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
                add("calibration", Dtype::F32, vec![labels, 2], single(&flat));
            }
            HeadCalibration::Temperature(t) => add("temperature", Dtype::F32, vec![1], single(&[*t])),
        }
    }
    let failed = |error: safetensors::SafeTensorError| bad(WEIGHTS, format!("cannot be written: {error}"));
    let views = parts
        .iter()
        .map(|(name, (dtype, shape, bytes))| Ok((name, TensorView::new(*dtype, shape.clone(), bytes).map_err(failed)?)))
        .collect::<Result<Vec<_>, EngineError>>()?;
    safetensors::serialize(views, None).map_err(failed)
}
