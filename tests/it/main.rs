//! One integration binary; a module per concern.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod api;
#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/broker/mod.rs"]
mod broker;
mod contract;
#[path = "../support/control.rs"]
mod control;
mod intake;
mod model;
mod pipeline;
mod poison;
#[path = "../support/postgres/mod.rs"]
mod postgres;
mod postgres_store;
mod queue;
mod rabbitmq;
mod retag;
mod rights;
mod secrets;
mod shutdown;
mod store;
mod support;
mod tls;
mod trace;
mod webhooks;
