//! A deterministic simulation of both hosts in one process.
//!
//! The real roles run on disks that lose their power, under clocks and random bytes that follow from a seed; between them is
//! a line that loses what the seed says. One seed gives one run: its log is the same each time.

pub mod disk;
pub mod virtual_time;

mod acts;
mod arrivals;
mod cables;
mod finish;
mod host;
mod in_time;
mod line;
mod log;
mod memory;
mod people;
mod plan;
mod run;
mod site;

pub use log::Log;
pub use run::Run;
pub use site::Site;

/// A fault of the simulation itself. One of the hosts is a violation in the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SimError(String);

type Result<T> = std::result::Result<T, SimError>;

fn wrong(error: impl ToString) -> SimError {
    SimError(error.to_string())
}
