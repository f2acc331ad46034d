//! Judgement: pure functions over domain values. No I/O, no clock, no randomness.

pub mod repeats;
pub mod report;
