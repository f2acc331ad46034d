//! Where comments and their judgements are kept.
//!
//! [`sqlite`] is the embedded store; [`record`] is the form in which a comment
//! and its assessment lie in a row, [`bodies`] that of a message with its trace, the
//! same for every database.

pub mod bodies;
pub mod parts;
pub mod record;
pub mod sqlite;
