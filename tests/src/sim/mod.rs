//! A deterministic simulation of both hosts in one process.

pub mod disk;
