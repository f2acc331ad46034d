//! Linear heads over the pooled vector, with their calibration.
//!
//! A head is linear so that a token's contribution to a label is exact: the
//! label's logit of a part of the text is the mean of its tokens' own logits.

use safetensors::{Dtype, SafeTensors};

use super::manifest::{Head, HeadKind};
use crate::domain::heads::{HeadCalibration, TrainedHead};
use crate::domain::reading::SurfaceFeatures;
use crate::domain::score::Probability;
use crate::pipeline::ports::EngineError;

/// One head, ready to use.
pub struct LinearHead {
    /// Its labels, in the order of every result.
    pub labels: Vec<String>,
    kind: HeadKind,
    width: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
    calibration: HeadCalibration,
    /// Index into the surface features, mean, standard deviation and the weights per label.
    features: Vec<Feature>,
}

struct Feature {
    index: usize,
    mean: f32,
    deviation: f32,
    weights: Vec<f32>,
}

impl LinearHead {
    /// Reads the tensors of `head` out of the heads file.
    pub fn read(tensors: &SafeTensors<'_>, file: &str, head: &Head, width: usize) -> Result<Self, EngineError> {
        let bad = |problem: String| EngineError::Models { path: file.to_owned(), problem };
        let floats = |part: &str, shape: &[usize]| -> Result<Vec<f32>, EngineError> {
            let name = format!("{}.{part}", head.name);
            let tensor = tensors.tensor(&name).map_err(|_| bad(format!("tensor `{name}` is missing")))?;
            if tensor.shape() != shape || tensor.dtype() != Dtype::F32 {
                return Err(bad(format!(
                    "tensor `{name}` is {:?} of shape {:?}, not F32 of {shape:?}",
                    tensor.dtype(),
                    tensor.shape()
                )));
            }
            let floats: Vec<f32> =
                tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if floats.iter().any(|number| !number.is_finite()) {
                return Err(bad(format!("tensor `{name}` holds a number that is not finite")));
            }
            Ok(floats)
        };
        let (labels, extra) = (head.labels.len(), head.features.len());
        let all = floats("weight", &[labels, width + extra])?;
        let weight = all.chunks_exact(width + extra).flat_map(|row| row[..width].to_vec()).collect();
        let mut features = Vec::with_capacity(extra);
        if extra > 0 {
            let mean = floats("feature_mean", &[extra])?;
            let deviation = floats("feature_std", &[extra])?;
            for (at, name) in head.features.iter().enumerate() {
                let index = SurfaceFeatures::index(name)
                    .ok_or_else(|| bad(format!("head `{}` needs the unknown surface feature `{name}`", head.name)))?;
                features.push(Feature {
                    index,
                    mean: mean[at],
                    deviation: deviation[at].max(1e-6),
                    weights: all.chunks_exact(width + extra).map(|row| row[width + at]).collect(),
                });
            }
        }
        let calibration = match head.kind {
            HeadKind::Multilabel => HeadCalibration::Platt(
                floats("calibration", &[labels, 2])?.as_chunks::<2>().0.iter().map(|[a, b]| (*a, *b)).collect(),
            ),
            HeadKind::Multiclass => {
                let temperature = floats("temperature", &[1])?[0];
                if temperature <= 0.0 {
                    return Err(bad(format!("`{}.temperature` is {temperature}, not above zero", head.name)));
                }
                HeadCalibration::Temperature(temperature)
            }
        };
        Ok(Self {
            labels: head.labels.clone(),
            kind: head.kind,
            width,
            weight,
            bias: floats("bias", &[labels])?,
            calibration,
            features,
        })
    }

    /// The part of a codebook's head that reads the pooled vector; [`Lexicon`] reads the words.
    ///
    /// [`Lexicon`]: super::lexicon::Lexicon
    pub fn trained(head: &TrainedHead) -> Self {
        Self {
            labels: head.labels.clone(),
            kind: match head.calibration {
                HeadCalibration::Platt(_) => HeadKind::Multilabel,
                HeadCalibration::Temperature(_) => HeadKind::Multiclass,
            },
            width: head.dense.len() / head.labels.len().max(1),
            weight: head.dense.clone(),
            bias: head.bias.clone(),
            calibration: head.calibration.clone(),
            features: Vec::new(),
        }
    }

    /// Whether the labels exclude each other.
    pub fn kind(&self) -> HeadKind {
        self.kind
    }

    /// One label's weights over the pooled vector.
    pub fn weight_of(&self, label: usize) -> &[f32] {
        &self.weight[label * self.width..(label + 1) * self.width]
    }

    /// One label's bias.
    pub fn bias_of(&self, label: usize) -> f32 {
        self.bias[label]
    }

    /// The logit at which a label of a multilabel head is as likely as not; zero for other heads.
    pub fn even_logit(&self, label: usize) -> f32 {
        match &self.calibration {
            HeadCalibration::Platt(pairs) if pairs[label].0.abs() > 1e-6 => -pairs[label].1 / pairs[label].0,
            _ => 0.0,
        }
    }

    /// What the surface features add to each label's logit.
    pub fn surface(&self, features: &SurfaceFeatures) -> Vec<f32> {
        let mut added = vec![0.0; self.labels.len()];
        for feature in &self.features {
            let value = features.0.get(feature.index).copied().unwrap_or(0.0);
            let standard = ((value - feature.mean) / feature.deviation).clamp(-8.0, 8.0);
            for (sum, weight) in added.iter_mut().zip(&feature.weights) {
                *sum += weight * standard;
            }
        }
        added
    }

    /// Calibrated probabilities, one per label.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<Probability> {
        match &self.calibration {
            HeadCalibration::Platt(pairs) => logits
                .iter()
                .zip(pairs)
                .map(|(logit, (a, b))| Probability::from_logit(a * logit + b).unwrap_or(Probability::ZERO))
                .collect(),
            HeadCalibration::Temperature(temperature) => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let powers: Vec<f32> = logits.iter().map(|logit| ((logit - largest) / temperature).exp()).collect();
                let total: f32 = powers.iter().sum();
                powers.iter().map(|power| Probability::new(power / total).unwrap_or(Probability::ZERO)).collect()
            }
        }
    }
}
