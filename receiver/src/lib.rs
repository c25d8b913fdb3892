//! The receiver's host: `receive` rebuilds containers; `release` opens, verifies and publishes them.

pub mod model;

pub mod steps;

pub mod pipeline;

pub mod spool;

pub mod receive;
pub mod release;

pub mod cli;
