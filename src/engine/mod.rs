//! The built-in engine: one small encoder, one pass per comment, every judgement.
//!
//! [`Models`] is what stands on disk, checked against its manifest; [`Scorer`]
//! turns readings into signals on one thread; [`EnginePool`] runs one scorer per
//! core behind the [`Engine`](crate::pipeline::ports::Engine) port.

pub mod encoder;
pub mod heads;
pub mod kernels;
pub mod lexicon;
pub mod manifest;
pub mod models;
pub mod pool;
pub mod scorer;
pub mod spans;
pub mod trained;
pub mod windows;

pub use models::Models;
pub use pool::EnginePool;
pub use scorer::Scorer;
