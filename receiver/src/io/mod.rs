//! Contact with the world.

pub mod assembly;
pub mod completed;
pub mod containers;
pub mod host;
pub mod link_serial;
pub mod link_udp;
pub mod publish;
pub mod register;
pub mod slots;
