//! `valise-loopback`: the whole way of a cable on one PC, with a report.

mod options;
mod report;
mod run;

pub use options::{LinkKind, Options};
pub use report::{CableReport, Report, Step};
pub use run::run;
