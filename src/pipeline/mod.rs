//! The line itself: from a delivery to a stored, settled assessment.

pub mod ports;
