//! The line itself: from a delivery to a stored, settled assessment.

pub mod clock;
pub mod identity;
pub mod intake;
mod judging;
pub mod outbox;
pub mod ports;
pub mod pulse;
pub mod retag;
pub mod shadow;
pub mod shutdown;
mod trial;
pub mod watch;
pub mod webhooks;
pub mod worker;
