//! From what was typed to values that cannot be wrong any more.
//!
//! Three steps: a table as typed, checked with every problem found and reported
//! together by file and key, then domain values.

pub mod codebook;
pub mod consultation;
pub mod examples;
pub mod extra;
pub mod keys;
pub mod policy;
pub mod rabbitmq;
pub mod rulebook;
pub mod secret;
pub mod service;
pub mod snapshot;
pub mod store;

pub use keys::{Problem, Problems};
pub use rulebook::{RulebookFiles, load_consultation, load_rulebook};
pub use service::Settings;
pub use snapshot::snapshot;
