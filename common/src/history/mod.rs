//! The history of a role. The audit log is the one commit point; each line is verified before it is used.
//! The register is an index over it.

pub mod check;
pub mod index;
pub mod log;
