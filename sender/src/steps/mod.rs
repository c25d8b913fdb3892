//! The way of a cable on the sender, one file an arrow, in pipeline order. Pure: no clock, file, socket or entropy.

/// draft → Submission
pub mod submit;

/// Submission → Approved
pub mod approve;

/// Approved → Sealed
pub mod seal;

/// Sealed → the order in which containers' passes leave.
pub mod queue;

/// Serials of a request → those that are sent again.
pub mod resend;

/// Container → source blocks.
pub mod chunk;

/// Blocks → their memory, for as long as they are on the link.
mod kept;

/// Source block → symbols.
pub mod fec;

/// Symbols → the order in which they leave.
pub mod interleave;

/// Symbol → datagram.
pub mod frame;

/// Datagrams → when they may leave.
pub mod pace;
