//! `release`: opens, verifies and publishes what `receive` left in the inbox. It has no network.

mod bundles;
mod cables;
mod daemon;
pub mod event;
mod foreign;
pub mod ledger;
mod observe;
pub mod reply;
pub mod requests;
pub mod serial_set;
mod startup;
pub mod states;
pub mod told;
mod worker;

pub use daemon::{Daemon, Release, ReleaseError, run};
pub use observe::shortened;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
