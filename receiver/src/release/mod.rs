//! `release`: opens, verifies and publishes what `receive` left in the inbox. It has no network.

mod bundles;
mod cables;
mod daemon;
mod foreign;
pub mod ledger;
mod observe;
pub mod requests;
mod startup;
mod worker;

pub use daemon::{Daemon, Release, ReleaseError, run};
pub use observe::shortened;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
