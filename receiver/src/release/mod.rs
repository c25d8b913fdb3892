//! `release`: opens, verifies and publishes what `receive` left in the inbox. It has no network.

mod acts;
mod arrivals;
mod bundles;
mod cables;
mod commit;
mod daemon;
mod error;
mod foreign;
mod host;
mod inbox;
pub mod ledger;
mod link;
mod observe;
pub mod request;
pub mod requests;
mod shown;
mod slots;
mod startup;
mod verdicts;
mod view;
mod worker;

pub use daemon::{Daemon, run};
pub use error::ReleaseError;
pub use host::Release;
pub use view::shortened;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
