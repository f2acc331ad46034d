//! The built-in engine: one small encoder, one pass per comment, every judgement.
//!
//! [`Models`] is what stands on disk, checked against its manifest; [`Scorer`]
//! turns readings into signals on one thread; [`EnginePool`] runs one scorer per
//! core behind the [`Engine`](crate::pipeline::ports::Engine) port.
//!
//! The encoder is a trait ([`encoding`]): the pure-Rust one ([`encoder`]) is always there,
//! the one on libtorch (`rust_bert`) with the feature of that name. The same feature runs
//! models of the operator's own beside ours ([`extra`]).

pub mod choice;
pub mod encoding;
pub mod extra;
pub mod first_stage;
pub mod heads;
pub mod lexicon;
pub mod manifest;
pub mod models;
pub mod pool;
#[cfg(feature = "rust-bert")]
pub mod rust_bert;
pub mod scorer;
pub mod spans;
pub mod trained;
pub mod windows;

pub use models::Models;
pub use moothall_numerics::{encoder, kernels};
pub use pool::EnginePool;
pub use scorer::Scorer;
