//! The audit log's form: a chain of lines that nobody can change afterwards without it showing.
//!
//! Each line names the hash of the line before, and carries a MAC under a key that is replaced by its own derivation after
//! every line. Who takes the machine later finds only the next key, and can rewrite nothing that was before. Where the lines
//! are kept is [`crate::os::audit_log`]'s business.

mod chain;
mod checkpoint;

pub(crate) use chain::read_seq;
pub use chain::{AuditError, AuditRecord, Chain, ChainState, Fields, LineFault, Summary, verify};
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointKey, CheckpointVerifier, notes};
