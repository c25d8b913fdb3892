//! Contact with the world: files, folders, the register, the link.

pub mod register;

pub mod outbox;
pub mod progress;
