//! Why `gate` ended.

use std::io;

use crate::spool::pending::PendingError;
use crate::steps::seal::SealingError;
use thiserror::Error;
use valise_common::history::index::IndexError;
use valise_common::history::log::AuditLogError;
use valise_common::host::commissioned::HostError;
use valise_common::host::slots::SlotsError;
use valise_common::ids::{BundleId, Serial};
use valise_common::os::sandbox::SandboxError;

/// Why `gate` ended. Whatever durability rests on is never tried twice: the next start finds a state that it knows.
#[derive(Debug, Error)]
pub enum GateError {
    /// Another process is this host's gate.
    #[error("gate runs already on this state folder")]
    AlreadyRunning,
    /// The host has no state, or a wrong one.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// The register failed.
    #[error(transparent)]
    Register(#[from] IndexError),
    /// The slots failed.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// A slot that is to seal has been used: it never seals again.
    #[error("the slot of serial {serial} is erased")]
    SlotErased {
        /// The serial.
        serial: Serial,
    },
    /// A waiting cable cannot be read.
    #[error(transparent)]
    Pending(#[from] PendingError),
    /// A container could not be made.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The geometry of a container could not be chosen.
    #[error("no geometry fits the container: {0}")]
    Geometry(#[from] valise_common::fec::GeometryError),
    /// The link key of a bundle that the log knows is not there.
    #[error("the link key of bundle {bundle} is missing; import a new bundle")]
    LinkKey {
        /// The bundle.
        bundle: BundleId,
    },
    /// The process could not be fenced in.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}
