//! Judgement: pure functions over domain values. No I/O, no clock, no randomness.

pub mod language;
pub mod links;
pub mod pii;
pub mod read;
pub mod redact;
pub mod sentences;

mod disguise;
mod emoji;
mod features;
mod lookalikes;
mod markup;
mod names;
mod normalise;
mod schools;
mod scripts;
mod shapes;
mod vocabulary;
