//! One integration binary; a module per concern.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod api;
#[path = "../support/broker/mod.rs"]
mod broker;
mod contract;
mod intake;
mod pipeline;
#[path = "../support/postgres/mod.rs"]
mod postgres;
mod postgres_store;
mod queue;
mod rabbitmq;
mod retag;
mod shutdown;
mod store;
mod support;
