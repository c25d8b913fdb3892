//! The way of a cable on the sender, one file an arrow, in pipeline order. Pure: no clock, file, socket or entropy.

/// draft → Submission
pub mod submit;

/// Submission → Approved
pub mod approve;

/// Approved → Sealed
pub mod seal;

/// Sealed → the order in which containers' passes leave.
pub mod queue;

/// Datagrams → when they may leave.
pub mod pace;
