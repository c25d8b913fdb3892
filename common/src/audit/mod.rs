//! The audit log's form: a chain of lines that nobody can change afterwards without it showing.
//!
//! Each line names the hash of the line before, and carries a MAC under a key that is replaced by its own derivation after
//! every line. Who takes the machine later finds only the next key, and can rewrite nothing that was before. Where the lines
//! are kept is [`crate::history::log`]'s business.

mod chain;
mod checkpoint;
mod line;
mod verify;

pub use chain::{Chain, ChainState};
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointKey, CheckpointVerifier, notes};
pub use line::{AuditRecord, Fields, LineFault, Recorded};
pub(crate) use line::{Written, read_seq};
pub use verify::{AuditError, Evidence, Summary, Verifier, Witness, verify};
