//! To be written.
pub mod audit_log;
