//! Contact with the world: files, sockets and serial ports. Nothing here decides.

pub mod outbox;
pub mod progress;
