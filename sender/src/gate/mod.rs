//! The process that takes submissions, collects approvals, judges and seals. It has no network and no key that opens
//! anything.

pub mod acts;
mod aside;
mod authority;
mod blocked;
pub mod commission;
pub mod courier;
mod daemon;
pub mod error;
mod history;
pub mod host;
mod intake;
pub mod intake_error;
pub mod judge;
mod large;
mod outgoing;
pub mod prepare;
pub mod recover;
pub mod refusal;
pub mod request;
pub mod sealing;
mod shown;
pub mod time;
pub mod upkeep;
mod waiting;
pub mod worker;

pub use authority::persons_by_uid;
pub use daemon::{Daemon, run};
pub use error::GateError;
