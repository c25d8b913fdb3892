//! The state of serials and bundles, from the events of release's audit log.

pub mod attributed;
pub mod event;
pub mod reply;
pub mod rows;
pub mod states;
