//! The appliance as its users have it: two hosts under a real systemd, real users, and the commands of README.md and
//! docs/operations.md, run exactly as printed.

mod cable_link;
mod container;
mod days;
mod host;
mod line_days;
mod options;
mod power;
mod root;
mod scenario;
mod script;
mod serial_line;
mod site;
mod terminal;
mod virtual_machine;

pub use options::Options;
pub use scenario::run;

use crate::harness::Result;
