//! What a host of Valise is, written once for both.

pub mod alarms;
pub mod metrics;
pub mod neighbour;
pub mod status;
