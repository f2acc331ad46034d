//! One integration binary; a module per concern.

mod contract;
mod queue;
mod store;
mod support;
