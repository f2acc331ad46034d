//! A sequence classifier of the operator's own, read from a folder and run beside our heads.
//!
//! It reads what our models read: the judged text, with disguises undone. A long text is read
//! in windows that overlap; labels that stand alone count where they are likeliest, labels
//! that exclude each other by the windows' lengths, as with our own heads.

use std::sync::Arc;

use rust_bert::albert::AlbertForSequenceClassification;
use rust_bert::bert::BertForSequenceClassification;
use rust_bert::distilbert::DistilBertModelClassifier;
use rust_bert::pipelines::sequence_classification::SequenceClassificationOption;
use rust_bert::roberta::RobertaForSequenceClassification;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::nn::VarStore;

use super::tensors::Tensors;
use super::vocabulary::Vocabulary;
use super::{groups, numbers, open, rectangle, rows};
use crate::domain::policy::ExtraScorer;
use crate::domain::reading::Reading;
use crate::domain::score::{Attribute, Probability, Score, Signals};
use crate::engine::choice::Device;
use crate::engine::extra::{ExtraFolder, ExtraModel, ExtraWorker};
use crate::engine::windows::{tokenize, windows};
use crate::pipeline::ports::EngineError;

/// Longest window; what these models are trained on.
const LONGEST_WINDOW: usize = 512;

/// A classifier's weights and vocabulary, shared by every worker thread.
pub struct Classifier {
    found: ExtraFolder,
    config: Value,
    attributes: Vec<Option<Attribute>>,
    tensors: Tensors,
    vocabulary: Vocabulary,
    /// Longest window, first and last token included.
    window: usize,
    device: tch::Device,
}

impl Classifier {
    /// Reads the folder that the policy names.
    pub fn read(scorer: &ExtraScorer, device: Device) -> Result<Self, EngineError> {
        let device = open(device)?;
        let folder = &scorer.folder;
        let found = ExtraFolder::read(folder)?;
        let bad = |file: &str, problem: String| EngineError::Models {
            path: folder.join(file).display().to_string(),
            problem,
        };
        if found.sha256()? != scorer.sha256 || found.labels.len() != scorer.attributes.len() {
            return Err(bad("", "has changed since the policy was read; start again".to_owned()));
        }
        let bytes = |file: &str| {
            std::fs::read(folder.join(file)).map_err(|error| bad(file, format!("cannot be read: {error}")))
        };
        let mut config: Value = serde_json::from_slice(&bytes("config.json")?)
            .map_err(|error| bad("config.json", format!("is not a model's configuration: {error}")))?;
        // rust-bert counts the outputs by it, and files of two outputs may leave it out.
        config["id2label"] =
            found.labels.iter().enumerate().map(|(id, label)| (id.to_string(), label.as_str())).collect();
        // rust-bert wants them of a DistilBERT; they say nothing about a forward pass.
        for (key, usual) in [("tie_weights_", true), ("sinusoidal_pos_embds", false)] {
            if config[key].is_null() {
                config[key] = usual.into();
            }
        }
        let vocabulary = Vocabulary::read(folder, found.vocabulary).map_err(|problem| bad("", problem))?;
        let positions = config["max_position_embeddings"].as_u64().unwrap_or(0) as usize;
        // RoBERTa counts positions from behind the filling token's id.
        let lost = if found.model_type.contains("roberta") { vocabulary.pad as usize + 1 } else { 0 };
        let window = positions.saturating_sub(lost).min(LONGEST_WINDOW);
        if window < 8 {
            return Err(bad(
                "config.json",
                format!("`max_position_embeddings` is {positions}, which leaves no window"),
            ));
        }
        if config["vocab_size"].as_u64().unwrap_or(0) < vocabulary.tokenizer.get_vocab_size(true) as u64 {
            return Err(bad("config.json", "`vocab_size` is smaller than the vocabulary".to_owned()));
        }
        let weights = bytes(found.weights)?;
        let tensors = match found.weights {
            "rust_model.ot" => Tensors::of_torch(&weights, device),
            _ => Tensors::of_safetensors(&weights, device),
        }
        .map_err(|problem| bad(found.weights, problem))?;
        let attributes = scorer.attributes.clone();
        let classifier = Self { found, config, attributes, tensors, vocabulary, window, device };
        // What is missing is said now and not by a worker thread.
        classifier.model().map_err(|problem| bad(classifier.found.weights, problem))?;
        Ok(classifier)
    }

    fn model(&self) -> Result<SequenceClassificationOption, String> {
        use SequenceClassificationOption as Model;
        let store = VarStore::new(self.device);
        let root = store.root();
        let failed = |error: rust_bert::RustBertError| format!("rust-bert cannot make the model: {error}");
        let model = match self.found.model_type.as_str() {
            "bert" => Model::Bert(BertForSequenceClassification::new(root, &self.shape()?).map_err(failed)?),
            "distilbert" => Model::DistilBert(DistilBertModelClassifier::new(root, &self.shape()?).map_err(failed)?),
            "albert" => Model::Albert(AlbertForSequenceClassification::new(root, &self.shape()?).map_err(failed)?),
            _ => Model::Roberta(RobertaForSequenceClassification::new(root, &self.shape()?).map_err(failed)?),
        };
        self.tensors.put_into(&store)?;
        Ok(model)
    }

    /// `config.json` as one architecture of rust-bert takes it.
    fn shape<C: DeserializeOwned>(&self) -> Result<C, String> {
        serde_json::from_value(self.config.clone())
            .map_err(|error| format!("does not go with config.json, which rust-bert cannot read: {error}"))
    }

    /// The windows of a text as the model reads them.
    fn windows(&self, text: &str) -> Vec<Vec<u32>> {
        let tokens = tokenize(&self.vocabulary.tokenizer, text);
        let size = self.window - 2;
        let (first, last) = self.vocabulary.special;
        windows(tokens.len(), size, size / 4)
            .into_iter()
            .map(|(start, end)| {
                let ids = tokens[start..end].iter().map(|token| token.id);
                std::iter::once(first).chain(ids).chain([last]).collect()
            })
            .collect()
    }

    /// A text's probabilities from the logits of its windows, each with its number of tokens.
    fn probabilities(&self, windows: &[(usize, Vec<f32>)]) -> Vec<Option<Probability>> {
        let labels = 0..self.found.labels.len();
        if !self.found.exclusive {
            let highest =
                |label: usize| windows.iter().map(|(_, logits)| logits[label]).fold(f32::NEG_INFINITY, f32::max);
            return labels.map(|label| Probability::from_logit(highest(label))).collect();
        }
        let total: usize = windows.iter().map(|(tokens, _)| tokens).sum();
        let mean = |label: usize| {
            windows.iter().map(|(tokens, logits)| logits[label] * *tokens as f32).sum::<f32>() / total.max(1) as f32
        };
        let logits: Vec<f32> = labels.map(mean).collect();
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
        let sum: f32 = shares.iter().sum();
        shares.iter().map(|share| Probability::new(share / sum)).collect()
    }
}

impl ExtraModel for Classifier {
    fn worker(self: Arc<Self>) -> Box<dyn ExtraWorker> {
        let model = self.model().expect("every tensor was there when the classifier was read");
        Box::new(Worker { model, classifier: self })
    }
}

/// One thread's model over the shared weights.
struct Worker {
    classifier: Arc<Classifier>,
    model: SequenceClassificationOption,
}

impl Worker {
    /// The logits of each window.
    fn logits(&self, windows: &[&[u32]]) -> Vec<Vec<f32>> {
        let (device, pad) = (self.classifier.device, i64::from(self.classifier.vocabulary.pad));
        let labels = self.classifier.found.labels.len();
        let lengths: Vec<usize> = windows.iter().map(|window| window.len()).collect();
        let mut logits = vec![Vec::new(); windows.len()];
        let _no_grad = tch::no_grad_guard();
        for group in groups(&lengths, rows(device)) {
            let members: Vec<&[u32]> = group.iter().map(|place| windows[*place]).collect();
            let (ids, mask) = rectangle(&members, pad, device);
            let output = numbers(&self.model.forward_t(Some(&ids), Some(&mask), None, None, None, false));
            for (row, place) in output.chunks_exact(labels).zip(group) {
                logits[place] = row.to_vec();
            }
        }
        logits
    }
}

impl ExtraWorker for Worker {
    fn add(&mut self, readings: &[&Reading], signals: &mut [Signals]) {
        let mut windows: Vec<(usize, Vec<u32>)> = Vec::new();
        for (index, reading) in readings.iter().enumerate().filter(|(_, reading)| !reading.blank) {
            windows.extend(self.classifier.windows(&reading.judged.text).into_iter().map(|window| (index, window)));
        }
        let ids: Vec<&[u32]> = windows.iter().map(|(_, window)| window.as_slice()).collect();
        let mut of_reading: Vec<Vec<(usize, Vec<f32>)>> = vec![Vec::new(); readings.len()];
        for ((index, window), logits) in windows.iter().zip(self.logits(&ids)) {
            of_reading[*index].push((window.len(), logits));
        }
        for (windows, signals) in of_reading.iter().zip(signals).filter(|(windows, _)| !windows.is_empty()) {
            let probabilities = self.classifier.probabilities(windows);
            for (attribute, probability) in self.classifier.attributes.iter().zip(probabilities) {
                // A number that is no probability stays away, and a rule that needs it holds the comment.
                if let (Some(attribute), Some(probability)) = (attribute, probability) {
                    signals.attributes.insert(*attribute, Score { probability, span: None });
                }
            }
        }
    }
}
