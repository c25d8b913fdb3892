//! Contact with the world.

pub mod containers;
pub mod host;
pub mod publish;
pub mod register;
pub mod slots;
