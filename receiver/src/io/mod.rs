//! Contact with the world.

pub mod register;
