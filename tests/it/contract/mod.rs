//! One suite per port. Every adapter of the port passes it.

pub mod outbox;
pub mod queue;
pub mod rulebooks;
pub mod store;
pub mod webhooks;
