//! Where comments wait until they are judged.
//!
//! [`embedded`] is the durable queue in the store's own SQLite file.

pub mod embedded;
mod owners;
