//! The loop of `release`: opens, verifies and publishes what `receive` left in the inbox.

pub mod event;
pub mod ledger;
pub mod serial_set;
pub mod states;
