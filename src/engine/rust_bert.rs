//! The encoder on libtorch, by rust-bert: the same files as the built-in one, the same
//! answers but for float noise, and NVIDIA GPUs.
//!
//! libtorch wants rectangles, so sequences are sorted by length and padded, few at a time.
//! The padding is masked out, and its share of an attention row is exactly zero; but the
//! shape of a batch decides the order in which libtorch adds up, so that a comment's numbers
//! may differ from batch to batch in their last bits (a test holds them within 1e-5).

use std::sync::Arc;

use rust_bert::bert::{BertConfig, BertEmbeddings, BertModel};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::choice::Device;
use super::encoder::EncoderConfig;
use super::encoding::{Encode, Encoder};
use crate::pipeline::ports::EngineError;
use tensors::Tensors;

pub mod classifier;
mod tensors;
mod vocabulary;

/// Sequences in one rectangle. On a processor more of them only leave its cache; a GPU wants many.
fn rows(device: tch::Device) -> usize {
    if device == tch::Device::Cpu { 8 } else { 64 }
}

/// The device as libtorch names it, if it is there. Each worker thread computes alone, so
/// libtorch is told to start none of its own.
fn open(device: Device) -> Result<tch::Device, EngineError> {
    tch::set_num_threads(1);
    let Device::Cuda(number) = device else { return Ok(tch::Device::Cpu) };
    let missing = |why: String| EngineError::Stopped(format!("{device} cannot be used: {why}"));
    if !tch::Cuda::is_available() {
        return Err(missing("libtorch sees no GPU; it must be the one of `scripts/libtorch --cuda`".to_owned()));
    }
    let count = tch::Cuda::device_count();
    if i64::try_from(number).is_ok_and(|number| number < count) {
        Ok(tch::Device::Cuda(number))
    } else {
        Err(missing(format!("there are {count} GPUs, counted from 0")))
    }
}

/// Places of `lengths` in groups that are padded together: shortest first, so that a group's
/// members are about as long as each other.
fn groups(lengths: &[usize], rows: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|place| lengths[*place]);
    order.chunks(rows).map(<[usize]>::to_vec).collect()
}

/// Ids and mask of a group as `[rows, longest]` of 64-bit integers, filled up with `pad`.
fn rectangle(sequences: &[&[u32]], pad: i64, device: tch::Device) -> (Tensor, Tensor) {
    let longest = sequences.iter().map(|sequence| sequence.len()).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(sequences.len() * longest);
    let mut mask = Vec::with_capacity(ids.capacity());
    for sequence in sequences {
        ids.extend(sequence.iter().map(|id| i64::from(*id)));
        mask.extend(sequence.iter().map(|_| 1_i64));
        ids.resize(ids.len() + longest - sequence.len(), pad);
        mask.resize(ids.len(), 0);
    }
    let shape = [sequences.len() as i64, longest as i64];
    let tensor = |numbers: &[i64]| Tensor::from_slice(numbers).view(shape).to_device(device);
    (tensor(&ids), tensor(&mask))
}

/// All numbers of a tensor, row by row.
fn numbers(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut numbers = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut numbers, tensor.numel());
    numbers
}

/// BERT weights on a device, shared by every worker thread.
pub struct TorchEncoder {
    tensors: Tensors,
    config: BertConfig,
    device: tch::Device,
}

impl TorchEncoder {
    /// Takes the bytes of `model.safetensors` and `config.json`; `file` names them in errors.
    pub fn read(
        weights: &[u8],
        file: &str,
        known: &EncoderConfig,
        config: &[u8],
        device: Device,
    ) -> Result<Self, EngineError> {
        let device = open(device)?;
        let bad = |problem: String| EngineError::Models { path: file.to_owned(), problem };
        let config: BertConfig = serde_json::from_slice(config)
            .map_err(|error| bad(format!("its configuration cannot be read by rust-bert: {error}")))?;
        // rust-bert knows one epsilon only (its bert/embeddings.rs and bert/encoder.rs).
        if (known.layer_norm_eps - 1e-12).abs() > 1e-13 {
            return Err(bad(format!("layer_norm_eps is {}, and rust-bert computes with 1e-12", known.layer_norm_eps)));
        }
        let tensors = Tensors::of_safetensors(weights, device).map_err(bad)?;
        let encoder = Self { tensors, config, device };
        // What is missing is said now and not by a worker thread.
        encoder.model().map_err(bad)?;
        Ok(encoder)
    }

    fn model(&self) -> Result<BertModel<BertEmbeddings>, String> {
        let store = VarStore::new(self.device);
        let model = BertModel::new_with_optional_pooler(store.root() / "bert", &self.config, false);
        self.tensors.put_into(&store)?;
        Ok(model)
    }
}

impl Encoder for TorchEncoder {
    fn width(&self) -> usize {
        self.config.hidden_size as usize
    }

    fn worker(self: Arc<Self>) -> Box<dyn Encode> {
        let model = self.model().expect("every tensor was there when the encoder was read");
        Box::new(TorchWorker { model, hidden: Vec::new(), encoder: self })
    }
}

/// One thread's model over the shared weights.
struct TorchWorker {
    encoder: Arc<TorchEncoder>,
    model: BertModel<BertEmbeddings>,
    hidden: Vec<f32>,
}

impl Encode for TorchWorker {
    fn encode(&mut self, sequences: &[&[u32]]) -> &[f32] {
        let (width, device) = (self.encoder.width(), self.encoder.device);
        let vocabulary = self.encoder.config.vocab_size as u32;
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.len()).collect();
        let starts: Vec<usize> = lengths
            .iter()
            .scan(0, |at, length| {
                *at += length;
                Some((*at - length) * width)
            })
            .collect();
        self.hidden.resize(lengths.iter().sum::<usize>() * width, 0.0);
        let _no_grad = tch::no_grad_guard();
        for group in groups(&lengths, rows(device)) {
            // Ids outside the vocabulary read as id 0, as in the built-in encoder.
            let known: Vec<Vec<u32>> = group
                .iter()
                .map(|place| sequences[*place].iter().map(|id| if *id < vocabulary { *id } else { 0 }).collect())
                .collect();
            let members: Vec<&[u32]> = known.iter().map(Vec::as_slice).collect();
            let (ids, mask) = rectangle(&members, 0, device);
            let output = self
                .model
                .forward_t(Some(&ids), Some(&mask), None, None, None, None, None, false)
                .expect("ids and mask are of one shape");
            let rectangle = numbers(&output.hidden_state);
            for (row, place) in rectangle.chunks_exact(ids.size()[1] as usize * width).zip(group) {
                let count = lengths[place] * width;
                self.hidden[starts[place]..][..count].copy_from_slice(&row[..count]);
            }
        }
        &self.hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_holds_sequences_of_about_one_length() {
        assert_eq!(groups(&[9, 1, 8, 2, 3], 2), [vec![1, 3], vec![4, 2], vec![0]]);
        assert!(groups(&[], 8).is_empty());
    }

    #[test]
    fn a_rectangle_is_filled_up_and_masked() {
        let (ids, mask) = rectangle(&[&[7, 8, 9], &[5]], 1, tch::Device::Cpu);
        assert_eq!(numbers(&ids), [7.0, 8.0, 9.0, 5.0, 1.0, 1.0]);
        assert_eq!(numbers(&mask), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_gpu_that_is_not_there_is_named() {
        let error = open(Device::Cuda(4096)).unwrap_err().to_string();
        assert!(error.contains("cuda:4096"), "{error}");
    }
}
