//! Judgement: pure functions over domain values. No I/O, no clock, no randomness.
