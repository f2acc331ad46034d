//! A BERT encoder (Devlin et al., 2019) over ragged batches: no padding, so no
//! padding work, and one comment's numbers never depend on its neighbours.
//!
//! It reads the `model.safetensors` that the training code writes: half
//! precision on disk, expanded at load; the word table stays in half precision.

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::kernels::{self, Packed, Path};
use crate::pipeline::ports::EngineError;

/// The part of a Hugging Face `config.json` that shapes the arithmetic.
#[derive(Clone, Debug, Deserialize)]
pub struct EncoderConfig {
    /// Width of a token's vector.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Attention heads; they divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Longest sequence, `[CLS]` and `[SEP]` included.
    pub max_position_embeddings: usize,
    /// Word pieces.
    pub vocab_size: usize,
    /// Added to variances.
    pub layer_norm_eps: f32,
    /// Must be `gelu`: the exact form.
    pub hidden_act: String,
}

struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

struct Dense {
    weight: Packed,
    bias: Vec<f32>,
}

struct Layer {
    /// Query, key and value side by side.
    attention: Dense,
    attention_out: Dense,
    attention_norm: Norm,
    widen: Dense,
    narrow: Dense,
    out_norm: Norm,
}

/// The weights, read once and shared by every worker thread.
pub struct Weights {
    config: EncoderConfig,
    path: Path,
    words: Vec<f16>,
    /// Position and token-type vectors, added up.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Reader<'a> {
    tensors: SafeTensors<'a>,
    file: String,
    path: Path,
}

impl Reader<'_> {
    fn bad(&self, problem: String) -> EngineError {
        EngineError::Models { path: self.file.clone(), problem }
    }

    /// A tensor of exactly this many numbers, as `f32`.
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EngineError> {
        let tensor = self.tensors.tensor(name).map_err(|_| self.bad(format!("tensor `{name}` is missing")))?;
        if tensor.shape() != shape {
            return Err(self.bad(format!("tensor `{name}` has shape {:?}, not {shape:?}", tensor.shape())));
        }
        let floats: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F16 => {
                tensor.data().as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            }
            other => return Err(self.bad(format!("tensor `{name}` holds {other:?}, not F16 or F32"))),
        };
        if floats.iter().any(|number| !number.is_finite()) {
            return Err(self.bad(format!("tensor `{name}` holds a number that is not finite")));
        }
        Ok(floats)
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, EngineError> {
        Ok(Norm {
            scale: self.floats(&format!("{name}.weight"), &[width])?,
            shift: self.floats(&format!("{name}.bias"), &[width])?,
        })
    }

    /// Dense layers that read the same input, as one: the outputs stand side by side.
    fn dense(&self, names: &[String], depth: usize, columns: usize) -> Result<Dense, EngineError> {
        let mut weights = Vec::with_capacity(names.len());
        let mut bias = Vec::with_capacity(names.len() * columns);
        for name in names {
            weights.push(self.floats(&format!("{name}.weight"), &[columns, depth])?);
            bias.extend(self.floats(&format!("{name}.bias"), &[columns])?);
        }
        let weight = Packed::new(self.path, depth, columns * names.len(), |k, n| {
            weights[n / columns][(n % columns) * depth + k]
        });
        Ok(Dense { weight, bias })
    }
}

impl Weights {
    /// Reads and packs the weights; `file` names them in errors.
    pub fn read(bytes: &[u8], file: &str, config: EncoderConfig, path: Path) -> Result<Self, EngineError> {
        let bad = |problem: String| EngineError::Models { path: file.to_owned(), problem };
        if config.hidden_act != "gelu" {
            return Err(bad(format!("activation `{}` is not supported; `gelu` is", config.hidden_act)));
        }
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        if width == 0
            || heads == 0
            || !width.is_multiple_of(heads)
            || !width.is_multiple_of(32)
            || config.max_position_embeddings < 3
        {
            return Err(bad(format!("hidden_size {width} with {heads} heads is not a shape that this encoder runs")));
        }
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| bad(format!("not a safetensors file: {error}")))?;
        let reader = Reader { tensors, file: file.to_owned(), path };
        let words = reader
            .floats("bert.embeddings.word_embeddings.weight", &[config.vocab_size, width])?
            .iter()
            .map(|number| f16::from_f32(*number))
            .collect();
        let mut positions =
            reader.floats("bert.embeddings.position_embeddings.weight", &[config.max_position_embeddings, width])?;
        let kind = reader.floats("bert.embeddings.token_type_embeddings.weight", &[2, width])?;
        for row in positions.chunks_exact_mut(width) {
            for (value, extra) in row.iter_mut().zip(&kind) {
                *value += extra;
            }
        }
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let layer = format!("bert.encoder.layer.{index}");
                let own = ["query", "key", "value"].map(|part| format!("{layer}.attention.self.{part}"));
                let wide = config.intermediate_size;
                Ok(Layer {
                    attention: reader.dense(&own, width, width)?,
                    attention_out: reader.dense(&[format!("{layer}.attention.output.dense")], width, width)?,
                    attention_norm: reader.norm(&format!("{layer}.attention.output.LayerNorm"), width)?,
                    widen: reader.dense(&[format!("{layer}.intermediate.dense")], width, wide)?,
                    narrow: reader.dense(&[format!("{layer}.output.dense")], wide, width)?,
                    out_norm: reader.norm(&format!("{layer}.output.LayerNorm"), width)?,
                })
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        let norm = reader.norm("bert.embeddings.LayerNorm", width)?;
        Ok(Self { config, path, words, positions, norm, layers })
    }

    /// Width of a token's vector.
    pub fn width(&self) -> usize {
        self.config.hidden_size
    }

    /// Longest sequence that can be encoded.
    pub fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings
    }
}

/// Working memory of one thread; it grows to the largest batch and stays.
pub struct Scratch {
    hidden: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    scores: Vec<f32>,
    keys: Packed,
    values: Packed,
    context: Vec<f32>,
}

impl Scratch {
    /// Empty.
    pub fn new(weights: &Weights) -> Self {
        Self {
            hidden: Vec::new(),
            mixed: Vec::new(),
            wide: Vec::new(),
            scores: Vec::new(),
            keys: Packed::empty(weights.path),
            values: Packed::empty(weights.path),
            context: Vec::new(),
        }
    }
}

/// Encodes sequences of token ids, each 1 to `max_tokens` long.
///
/// Returns the last hidden states, token by token and sequence after sequence:
/// `width` floats for every token of the batch. Ids outside the vocabulary read
/// as id 0 and overlong sequences panic: both are bugs of the caller.
pub fn encode<'s>(weights: &Weights, scratch: &'s mut Scratch, sequences: &[&[u32]]) -> &'s [f32] {
    let width = weights.config.hidden_size;
    let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
    let path = weights.path;
    embed(weights, scratch, sequences, tokens);
    for layer in &weights.layers {
        dense(&layer.attention, &scratch.hidden, width, tokens, &mut scratch.wide);
        attend(weights, scratch, sequences);
        dense(&layer.attention_out, &scratch.context, width, tokens, &mut scratch.mixed);
        normalise(path, &mut scratch.mixed, &scratch.hidden, &layer.attention_norm, weights.config.layer_norm_eps);
        dense(&layer.widen, &scratch.mixed, width, tokens, &mut scratch.wide);
        kernels::gelu(path, &mut scratch.wide);
        dense(&layer.narrow, &scratch.wide, weights.config.intermediate_size, tokens, &mut scratch.hidden);
        normalise(path, &mut scratch.hidden, &scratch.mixed, &layer.out_norm, weights.config.layer_norm_eps);
    }
    &scratch.hidden
}

fn embed(weights: &Weights, scratch: &mut Scratch, sequences: &[&[u32]], tokens: usize) {
    let width = weights.config.hidden_size;
    scratch.hidden.resize(tokens * width, 0.0);
    let mut rows = scratch.hidden.chunks_exact_mut(width);
    for sequence in sequences {
        assert!(sequence.len() <= weights.config.max_position_embeddings, "sequence is longer than the position table");
        for (id, row) in sequence.iter().zip(&mut rows) {
            let id = if (*id as usize) < weights.config.vocab_size { *id as usize } else { 0 };
            weights.words[id * width..(id + 1) * width].convert_to_f32_slice(row);
        }
    }
    scratch.mixed.clear();
    for sequence in sequences {
        scratch.mixed.extend_from_slice(&weights.positions[..sequence.len() * width]);
    }
    normalise(weights.path, &mut scratch.hidden, &scratch.mixed, &weights.norm, weights.config.layer_norm_eps);
}

fn normalise(path: Path, rows: &mut [f32], residual: &[f32], norm: &Norm, epsilon: f32) {
    kernels::add_and_normalise(path, rows, residual, &norm.scale, &norm.shift, epsilon);
}

fn dense(layer: &Dense, input: &[f32], depth: usize, tokens: usize, out: &mut Vec<f32>) {
    out.clear();
    for _ in 0..tokens {
        out.extend_from_slice(&layer.bias);
    }
    kernels::multiply_add(input, depth, tokens, &layer.weight, out, layer.bias.len());
}

/// Scaled dot-product attention, sequence by sequence and head by head. Reads
/// query, key and value from `scratch.wide`, leaves the result in `scratch.context`.
fn attend(weights: &Weights, scratch: &mut Scratch, sequences: &[&[u32]]) {
    let width = weights.config.hidden_size;
    let head_width = width / weights.config.num_attention_heads;
    let scale = 1.0 / (head_width as f32).sqrt();
    let stride = 3 * width;
    scratch.context.clear();
    scratch.context.resize(scratch.wide.len() / 3, 0.0);
    let padded_head = weights.path.padded(head_width);
    let mut head_out = Vec::new();
    let mut first = 0;
    for sequence in sequences {
        let length = sequence.len();
        let rows = &scratch.wide[first * stride..(first + length) * stride];
        let padded = weights.path.padded(length);
        for head in 0..weights.config.num_attention_heads {
            let query = head * head_width;
            let (key, value) = (width + query, 2 * width + query);
            scratch.keys.fill(head_width, length, |k, n| rows[n * stride + key + k] * scale);
            scratch.values.fill(length, head_width, |k, n| rows[k * stride + value + n]);
            scratch.scores.clear();
            scratch.scores.resize(length * padded, 0.0);
            kernels::multiply_add(&rows[query..], stride, length, &scratch.keys, &mut scratch.scores, padded);
            for row in scratch.scores.chunks_exact_mut(padded) {
                kernels::softmax(weights.path, &mut row[..length]);
            }
            head_out.clear();
            head_out.resize(length * padded_head, 0.0);
            kernels::multiply_add(&scratch.scores, padded, length, &scratch.values, &mut head_out, padded_head);
            for (row, out) in head_out.chunks_exact(padded_head).enumerate() {
                let at = (first + row) * width + query;
                scratch.context[at..at + head_width].copy_from_slice(&out[..head_width]);
            }
        }
        first += length;
    }
}
