//! The history of a role: its audit log is the one commit point, and what stands in it is checked before it is believed.
//! The register is an index over it.

pub mod check;
pub mod index;
pub mod log;
