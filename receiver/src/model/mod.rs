//! The state of serials and bundles, from the events of release's audit log.

pub(crate) mod attributed;
pub mod event;
pub mod reply;
pub(crate) mod rows;
pub(crate) mod states;
