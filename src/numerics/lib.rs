//! What takes the time: the encoder with its kernels, the fit of heads, figures with their intervals.
//!
//! A package of its own, so that a build for tests can compile it with full optimisation and everything
//! else, for which that takes minutes, with none. It knows numbers and no words.

pub mod encoder;
pub mod figures;
pub mod kernels;
pub mod logistic;
pub mod seeded;
