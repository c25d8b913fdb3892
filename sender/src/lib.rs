//! The sender's host: `gate` takes, judges and seals; `transmit` sends what is sealed.

pub mod stage;

pub mod pipeline;

pub mod io;

pub mod gate;
pub mod transmit;

pub mod cli;
