//! The state of cables and bundles: a pure fold over the events of gate's audit log.

pub mod event;
pub mod ledger;
