//! The process that takes submissions, collects approvals, judges and seals. It has no network and no key that opens
//! anything.
//!
//! | file | holds |
//! |---|---|
//! | `daemon`, `host` | the loop; the parts of gate, and what needs several of them |
//! | `intake`, `large`, `prepare`, `courier`, `request`, `intake_error` | a request folder, copied and read |
//! | `judge`, `acts`, `commission`, `refusal` | its effect, and its answer |
//! | `history`, `time` | log, ledger, register; the time of the next line, and doubt about it |
//! | `authority` | administrators, trust list, the persons that local users are |
//! | `waiting`, `blocked` | cables before their sealing, and what keeps them from it |
//! | `outgoing`, `sealing`, `worker` | slots and outbox; the steps of sealing; what takes long |
//! | `shown` | alarms, view, metrics |
//! | `upkeep`, `recover`, `aside` | what time brings; what a killed process left; files of others |

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
