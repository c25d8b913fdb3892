//! The sender's host: `gate` takes, judges and seals; `transmit` sends what is sealed.

pub mod model;

pub mod steps;

pub mod pipeline;

pub mod spool;

pub mod gate;
pub mod transmit;

pub mod cli;
