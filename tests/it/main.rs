//! One integration binary; a module per concern.

mod contract;
mod intake;
mod pipeline;
mod queue;
mod store;
mod support;
