//! The state of cables and bundles: a pure fold over the events of gate's audit log.

mod cable;
pub mod event;
pub mod ledger;
