//! The words of Moothall: plain data with no I/O, no async and no wire format.
//!
//! Every other room hands these values on. A value that exists is valid: what
//! can be wrong is checked where the value is made.

pub mod assessment;
pub mod codebook;
pub mod comment;
pub mod decision;
pub mod heads;
pub mod opinion;
pub mod policy;
pub mod reading;
pub mod rulebook;
pub mod score;
pub mod trace;
