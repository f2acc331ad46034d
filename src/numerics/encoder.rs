//! A BERT encoder (Devlin et al., 2019) over ragged batches: no padding, so no
//! padding work, and one comment's numbers never depend on its neighbours.
//!
//! It reads the `model.safetensors` that the training code writes: half
//! precision on disk, expanded at load; the word table stays in half precision.

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::kernels::{self, Packed, Path, Start};

/// Why weights cannot be used; the caller knows the name of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WeightsError(pub String);

/// Rows that go through the second half of a layer together: with their wide vectors they fill
/// less than 1 MiB of level-2 cache, and they make eight whole tiles.
const BLOCK: usize = 96;

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
    path: Path,
}

impl Reader<'_> {
    /// A tensor of exactly this shape.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>, WeightsError> {
        let tensor = self.tensors.tensor(name).map_err(|_| WeightsError(format!("tensor `{name}` is missing")))?;
        if tensor.shape() != shape {
            return Err(WeightsError(format!("tensor `{name}` has shape {:?}, not {shape:?}", tensor.shape())));
        }
        Ok(tensor)
    }

    /// A tensor of exactly this shape, as `f32`.
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let tensor = self.tensor(name, shape)?;
        let floats: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F16 => halves(tensor.data()).to_f32_vec(),
            other => return Err(WeightsError(format!("tensor `{name}` holds {other:?}, not F16 or F32"))),
        };
        finite(name, floats.iter().all(|number| number.is_finite()))?;
        Ok(floats)
    }

    /// A tensor of exactly this shape in half precision.
    fn halves(&self, name: &str, shape: &[usize]) -> Result<Vec<f16>, WeightsError> {
        let tensor = self.tensor(name, shape)?;
        if tensor.dtype() != Dtype::F16 {
            return Ok(self.floats(name, shape)?.iter().map(|number| f16::from_f32(*number)).collect());
        }
        let halves = halves(tensor.data());
        finite(name, halves.iter().all(|number| number.is_finite()))?;
        Ok(halves)
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, WeightsError> {
        Ok(Norm {
            scale: self.floats(&format!("{name}.weight"), &[width])?,
            shift: self.floats(&format!("{name}.bias"), &[width])?,
        })
    }

    /// Dense layers that read the same input, as one: the outputs stand side by side, each
    /// multiplied by its factor.
    fn dense(&self, parts: &[(String, f32)], depth: usize, columns: usize) -> Result<Dense, WeightsError> {
        let mut rows = Vec::with_capacity(parts.len() * columns * depth);
        let mut bias = Vec::with_capacity(parts.len() * columns);
        for (name, factor) in parts {
            rows.extend(self.floats(&format!("{name}.weight"), &[columns, depth])?.iter().map(|value| value * factor));
            bias.extend(self.floats(&format!("{name}.bias"), &[columns])?.iter().map(|value| value * factor));
        }
        let mut weight = Packed::empty(self.path);
        weight.fill_transposed(&rows, depth, depth, bias.len());
        Ok(Dense { weight, bias })
    }
}

fn finite(name: &str, is: bool) -> Result<(), WeightsError> {
    if is { Ok(()) } else { Err(WeightsError(format!("tensor `{name}` holds a number that is not finite"))) }
}

fn halves(bytes: &[u8]) -> Vec<f16> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect()
}

impl Weights {
    /// Reads and packs the weights.
    ///
    /// # Errors
    /// A configuration of another kind or shape, a file that is no safetensors file, and a tensor that is missing, of another
    /// shape or type, or holds a number that is not finite.
    pub fn read(bytes: &[u8], config: EncoderConfig, path: Path) -> Result<Self, WeightsError> {
        if config.hidden_act != "gelu" {
            return Err(WeightsError(format!("activation `{}` is not supported; `gelu` is", config.hidden_act)));
        }
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        if width == 0
            || heads == 0
            || !width.is_multiple_of(heads)
            || !(width / heads).is_multiple_of(32)
            || !config.intermediate_size.is_multiple_of(32)
            || config.max_position_embeddings < 3
        {
            return Err(WeightsError(format!(
                "hidden_size {width} with {heads} heads and intermediate_size {} is not a shape that this encoder runs",
                config.intermediate_size
            )));
        }
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| WeightsError(format!("not a safetensors file: {error}")))?;
        let reader = Reader { tensors, path };
        let words = reader.halves("bert.embeddings.word_embeddings.weight", &[config.vocab_size, width])?;
        let mut positions =
            reader.floats("bert.embeddings.position_embeddings.weight", &[config.max_position_embeddings, width])?;
        let kind = reader.floats("bert.embeddings.token_type_embeddings.weight", &[2, width])?;
        for row in positions.chunks_exact_mut(width) {
            for (value, extra) in row.iter_mut().zip(&kind) {
                *value += extra;
            }
        }
        // Attention divides by the square root of a head's width: the queries do so beforehand.
        let scale = 1.0 / ((width / heads) as f32).sqrt();
        let read_layer = &|index: usize| -> Result<Layer, WeightsError> {
            let layer = format!("bert.encoder.layer.{index}");
            let own = [("query", scale), ("key", 1.0), ("value", 1.0)]
                .map(|(part, factor)| (format!("{layer}.attention.self.{part}"), factor));
            let plain = |name: &str| [(format!("{layer}.{name}"), 1.0)];
            let wide = config.intermediate_size;
            Ok(Layer {
                attention: reader.dense(&own, width, width)?,
                attention_out: reader.dense(&plain("attention.output.dense"), width, width)?,
                attention_norm: reader.norm(&format!("{layer}.attention.output.LayerNorm"), width)?,
                widen: reader.dense(&plain("intermediate.dense"), width, wide)?,
                narrow: reader.dense(&plain("output.dense"), wide, width)?,
                out_norm: reader.norm(&format!("{layer}.output.LayerNorm"), width)?,
            })
        };
        // Each on a thread of its own: packing is most of a start.
        let layers = std::thread::scope(|scope| {
            let reading: Vec<_> =
                (0..config.num_hidden_layers).map(|index| scope.spawn(move || read_layer(index))).collect();
            let joined = reading.into_iter().map(|layer| match layer.join() {
                Ok(layer) => layer,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect::<Result<Vec<_>, WeightsError>>()
        })?;
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
    /// Token vectors; the result in the end.
    hidden: Vec<f32>,
    /// Query, key and value of every token, side by side.
    attention: Vec<f32>,
    /// What attention gathered for every token.
    context: Vec<f32>,
    /// One head's attention of one sequence.
    scores: Vec<f32>,
    keys: Packed,
    values: Packed,
    /// Token vectors of a block of rows, and the wide layer of the same.
    mixed: Vec<f32>,
    wide: Vec<f32>,
}

impl Scratch {
    /// Empty.
    pub fn new(weights: &Weights) -> Self {
        Self {
            hidden: Vec::new(),
            attention: Vec::new(),
            context: Vec::new(),
            scores: Vec::new(),
            keys: Packed::empty(weights.path),
            values: Packed::empty(weights.path),
            mixed: Vec::new(),
            wide: Vec::new(),
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
    embed(weights, scratch, sequences);
    for layer in &weights.layers {
        layer.attention.apply(&scratch.hidden, width, &mut scratch.attention);
        attend(weights, scratch, sequences);
        // The rest of a layer looks at one token at a time, so it is done block by block,
        // and what one step writes is still in the core's own cache when the next reads it.
        for block in (0..scratch.hidden.len()).step_by(BLOCK * width) {
            let rows = block..(block + BLOCK * width).min(scratch.hidden.len());
            let hidden = &mut scratch.hidden[rows.clone()];
            layer.attention_out.apply(&scratch.context[rows], width, &mut scratch.mixed);
            layer.attention_norm.apply(weights, &mut scratch.mixed, hidden);
            layer.widen.apply(&scratch.mixed, width, &mut scratch.wide);
            kernels::gelu(weights.path, &mut scratch.wide);
            layer.narrow.apply_to(&scratch.wide, weights.config.intermediate_size, hidden);
            layer.out_norm.apply(weights, hidden, &scratch.mixed);
        }
    }
    &scratch.hidden
}

fn embed(weights: &Weights, scratch: &mut Scratch, sequences: &[&[u32]]) {
    let width = weights.config.hidden_size;
    let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
    scratch.hidden.resize(tokens * width, 0.0);
    let mut rows = scratch.hidden.chunks_exact_mut(width);
    for sequence in sequences {
        assert!(sequence.len() <= weights.config.max_position_embeddings, "sequence is longer than the position table");
        for (id, row) in sequence.iter().zip(&mut rows) {
            let id = if (*id as usize) < weights.config.vocab_size { *id as usize } else { 0 };
            weights.words[id * width..(id + 1) * width].convert_to_f32_slice(row);
        }
    }
    let mut first = 0;
    for sequence in sequences {
        let end = first + sequence.len() * width;
        weights.norm.apply(weights, &mut scratch.hidden[first..end], &weights.positions);
        first = end;
    }
}

impl Norm {
    fn apply(&self, weights: &Weights, rows: &mut [f32], residual: &[f32]) {
        kernels::add_and_normalise(
            weights.path,
            rows,
            residual,
            &self.scale,
            &self.shift,
            weights.config.layer_norm_eps,
        );
    }
}

impl Dense {
    fn apply(&self, input: &[f32], depth: usize, out: &mut Vec<f32>) {
        out.resize(input.len() / depth * self.bias.len(), 0.0);
        self.apply_to(input, depth, out);
    }

    fn apply_to(&self, input: &[f32], depth: usize, out: &mut [f32]) {
        let rows = input.len() / depth;
        kernels::multiply(input, depth, rows, &self.weight, Start::Row(&self.bias), out, self.bias.len());
    }
}

/// Scaled dot-product attention, sequence by sequence and head by head. Reads query, key and
/// value from `scratch.attention` (queries come scaled), leaves the result in `scratch.context`.
fn attend(weights: &Weights, scratch: &mut Scratch, sequences: &[&[u32]]) {
    let width = weights.config.hidden_size;
    let head_width = width / weights.config.num_attention_heads;
    let stride = 3 * width;
    scratch.context.resize(scratch.hidden.len(), 0.0);
    let mut first = 0;
    for sequence in sequences {
        let length = sequence.len();
        let rows = &scratch.attention[first * stride..(first + length) * stride];
        let context = &mut scratch.context[first * width..(first + length) * width];
        let padded = weights.path.padded(length);
        scratch.scores.resize(length * padded, 0.0);
        for query in (0..width).step_by(head_width) {
            scratch.keys.fill_transposed(&rows[width + query..], stride, head_width, length);
            scratch.values.fill_rows(&rows[2 * width + query..], stride, length, head_width);
            let scores = &mut scratch.scores;
            kernels::multiply(&rows[query..], stride, length, &scratch.keys, Start::Zero, scores, padded);
            kernels::softmax(weights.path, scores, padded, length);
            kernels::multiply(scores, padded, length, &scratch.values, Start::Zero, &mut context[query..], width);
        }
        first += length;
    }
}
