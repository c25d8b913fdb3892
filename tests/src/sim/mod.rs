//! A deterministic simulation of both hosts in one process.

pub mod disk;
pub mod virtual_time;
