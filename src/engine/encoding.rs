//! What a scorer asks of an encoder, whoever does the arithmetic.
//!
//! An [`Encoder`] is the weights, read once and shared; [`Encoder::worker`] gives
//! each thread one [`Encode`] with its own working memory. Heads, windows and
//! spans are the same for every encoder.

use std::sync::Arc;

use super::encoder::{self, Scratch, Weights};

/// An encoder's weights, shared by every worker thread.
pub trait Encoder: Send + Sync {
    /// Width of a token's vector.
    fn width(&self) -> usize;

    /// One thread's view of the weights.
    fn worker(self: Arc<Self>) -> Box<dyn Encode>;
}

/// One thread's encoder.
pub trait Encode: Send {
    /// The last hidden states of ragged sequences of token ids, each 1 to
    /// `max_position_embeddings` long: token by token, sequence after sequence, in
    /// the order given, `width` floats for every token. No padding comes out.
    fn encode(&mut self, sequences: &[&[u32]]) -> &[f32];
}

impl Encoder for Weights {
    fn width(&self) -> usize {
        Self::width(self)
    }

    fn worker(self: Arc<Self>) -> Box<dyn Encode> {
        Box::new(BuiltIn { scratch: Scratch::new(&self), weights: self })
    }
}

/// The pure-Rust encoder on one thread.
struct BuiltIn {
    weights: Arc<Weights>,
    scratch: Scratch,
}

impl Encode for BuiltIn {
    fn encode(&mut self, sequences: &[&[u32]]) -> &[f32] {
        encoder::encode(&self.weights, &mut self.scratch, sequences)
    }
}
