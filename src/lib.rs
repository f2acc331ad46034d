//! Moothall: comment moderation and sentiment for public consultations.
//!
//! One straight line, and the modules in the order in which a comment meets them:
//!
//! ```text
//! source -> broker (queue) -> assess::read -> engine -> assess -> store -> export, web
//! ```
//!
//! [`domain`] holds the words, [`assess`] the judgement (pure), [`pipeline`] the
//! line and the traits that adapters implement; everything else is an adapter.

pub mod app;
pub mod assess;
pub mod broker;
pub mod cli;
pub mod codebook;
pub mod domain;
pub mod engine;
pub mod eval;
pub mod export;
pub mod lifecycle;
pub mod pipeline;
pub mod settings;
pub mod source;
mod sql;
pub mod sqlite;
pub mod store;
pub mod telemetry;
pub mod web;
pub mod webhook;
pub mod wire;
