//! The receiver's host: `receive` rebuilds containers; `release` opens, verifies and publishes them.

pub mod stage;

pub mod pipeline;

pub mod io;

pub mod receive;
pub mod release;

pub mod cli;
