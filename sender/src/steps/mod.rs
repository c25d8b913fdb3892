//! The way of a cable on the sender, one file an arrow, in pipeline order. Pure: no clock, file, socket or entropy.

/// draft → Submission
pub mod submit;

/// Submission → Approved
pub mod approve;

/// Approved → Sealed
pub mod seal;

/// Sealed → the order in which containers' passes leave.
pub(crate) mod queue;

/// Serials of a request → those that are sent again.
pub mod resend;

/// Container → source blocks.
pub(crate) mod chunk;

/// Blocks → their memory, for as long as they are on the link.
mod kept;

/// Source block → symbols.
pub(crate) mod fec;

/// Symbols → the order in which they leave.
pub(crate) mod interleave;

/// Symbol → datagram.
pub(crate) mod frame;

/// Datagrams → when they may leave.
pub(crate) mod pace;
