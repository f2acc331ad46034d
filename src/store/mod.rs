//! Where comments and their judgements are kept.
//!
//! [`sqlite`] is the embedded store, [`postgres`] the one of several hosts. What they share
//! knows no database: [`record`] and [`parts`] are the forms in which values lie in a row,
//! [`standing`] what a new judgement means for a comment, [`rows`] and [`calls`] what rows are to readers.
//! [`copying`] moves a store from the one to the other.

pub mod calls;
pub mod copying;
pub mod parts;
pub mod postgres;
pub mod record;
pub mod rows;
pub mod sample;
pub mod sqlite;
pub mod standing;
pub mod tables;
