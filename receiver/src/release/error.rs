//! Why `release` ended.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use valise_common::history::index::IndexError;
use valise_common::host::commissioned::HostError;
use valise_common::host::slots::SlotsError;
use valise_common::os::sandbox::SandboxError;

use crate::spool::bundle_store::BundleStoreError;
use crate::spool::publish::GroupError;
use crate::spool::slots_key::SlotsKeyError;

/// Why `release` ends, or does not begin.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// The system failed. After a failed sync what the disk holds is unknown, so the process ends and starts again.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The audit log or the register.
    #[error("{0}")]
    Register(#[from] IndexError),
    /// The slots.
    #[error("{0}")]
    Slots(#[from] SlotsError),
    /// The key that covers them.
    #[error("{0}")]
    SlotsKey(#[from] SlotsKeyError),
    /// The host was not commissioned.
    #[error("{0}")]
    Host(#[from] HostError),
    /// A bundle could not be made.
    #[error("{0}")]
    Bundle(#[from] BundleStoreError),
    /// `[mailboxes]`.
    #[error("{0}")]
    Groups(#[from] GroupError),
    /// The sandbox.
    #[error("{0}")]
    Sandbox(#[from] SandboxError),
    /// Another one runs.
    #[error("another release works in {0}: stop it first")]
    Running(PathBuf),
}
