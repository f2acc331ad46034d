//! Where comments wait until they are judged.
//!
//! [`embedded`] is the durable queue in the store's own SQLite file; [`rabbitmq`] is
//! the one that several workers on several hosts share.

pub mod embedded;
mod owners;
pub mod rabbitmq;
