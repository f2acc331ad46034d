//! The door for machines and the window for readers, over HTTP.
//!
//! - `POST /v1/comments`: one comment, one event, or many as lines; durable
//!   before the answer says so.
//! - `GET /` and `/report`: the latest report.
//! - `GET /healthz`, `/readyz`, `/metrics`: for whoever runs it.
//!
//! There is no sign-in yet, so it listens on this machine only unless an
//! operator puts something in front of it. What a comment must be is decided
//! in `wire` and `pipeline::intake`; this room only translates.

mod comments;
pub mod error;
mod health;
mod rate;
mod report;
pub mod router;

pub use health::{Probes, probes};
pub use rate::RateLimits;
pub use report::ReportSource;
pub use router::{WebDeps, WebLimits, router, serve};
