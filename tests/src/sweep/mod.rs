//! `valise-sweep`: one fault in one system call of one role, while several cables are sent, for every role, fault and
//! call.
//!
//! A pair of hosts is commissioned once and copied for each case. `strace` injects the fault. A role that ended is
//! started again without it, as its supervisor would do. Then every promise is checked.

mod case;
mod check;
mod options;
mod plan;
mod report;
mod request;
mod run;
mod strace;
mod template;
mod way;

pub use case::{Case, Fault, Phase};
pub use options::Options;
pub use report::Report;
pub use run::{run, run_cases};
