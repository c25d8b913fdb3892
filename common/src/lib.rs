//! What both hosts of a Valise channel must agree on.
//!
//! The modules stand in the order of their dependency: each uses only those above it. Everything but [`os`], [`history`] and
//! [`host`] is pure: no clock, no file, no socket, no entropy.

pub mod secret;

pub mod limits;
pub mod units;

pub mod ids;
pub mod precedence;
pub mod role;

pub mod label;
pub mod manifest;

pub mod sshsig;
pub mod trust;

pub mod bundle;

pub mod approval;

pub mod seal;

pub mod fec;

pub mod wire;

pub mod audit;

pub mod config;

pub mod alarm;

pub mod os;

pub mod history;

pub mod host;

#[cfg(test)]
mod testing;
