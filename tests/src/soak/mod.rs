//! `valise-soak`: both hosts at work for a long time over a bad line, and the resources of each role.

mod load;
mod measure;
mod options;
mod page;
mod report;
mod run;
mod statistics;

pub use options::Options;
pub use report::Report;
pub use run::run;
