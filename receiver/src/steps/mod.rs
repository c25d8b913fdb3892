//! What is decided at each step of a cable's way, without a clock, a file or a socket. In the order of the way:

/// datagram → symbol
pub mod deframe;

/// symbol → full block
pub(crate) mod collect;

/// full block → source block
pub(crate) mod fec;

/// source block → container
pub(crate) mod reassemble;

/// sealed container → opened
pub mod open;

/// opened → verified
pub mod verify;

/// verified → released
pub mod publish;
