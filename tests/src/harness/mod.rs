//! Both hosts on one machine: keys by `ssh-keygen`, a signed trust list, commissioning through the
//! real commands, the real programs as processes, and the lossy wire between them.
//!
//! Nothing here uses internals of the programs: a person could type everything that the harness does.
//! `valise-loopback`, the benchmarks and the end-to-end tests share it.

mod accounts;
mod acl;
mod audit;
mod awaiting;
mod bulk;
mod cable;
mod clock;
mod commission;
mod error;
mod keys;
mod observer;
mod process;
mod programs;
mod remark;
mod settings;
mod tokens;
mod world;

pub use accounts::{Accounts, User, obstacle};
pub use audit::audited;
pub use awaiting::await_condition;
pub use bulk::HiddenRequest;
pub use cable::{Released, Submission, compare_files};
pub use clock::TestClock;
pub(crate) use clock::compile_library;
pub use commission::{Courier, Roster};
pub(crate) use error::Context;
pub use error::{HarnessError, Result};
pub use keys::KeyPair;
pub use observer::{Observer, Sighting};
pub use process::{Process, Usage};
pub use programs::{Programs, source_root};
pub use remark::remark;
pub use settings::{Line, Link, Settings};
pub use tokens::{Asks, Tokens};
pub use world::{Answer, Host, Role, World};
