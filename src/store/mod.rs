//! Where comments and their judgements are kept.
//!
//! [`sqlite`] is the embedded store; [`record`] is the form in which a comment
//! and its assessment lie in a row, the same for every database.

pub mod parts;
pub mod record;
pub mod sqlite;
