//! `damaged/`: containers that `release` found damaged after they had arrived. They count as completed, so that every
//! resend would be dropped; `receive` takes them back.
//!
//! The order is: release renames a container into the folder · its line leaves the list, durably · the file is deleted.
//! A kill anywhere leaves the file, and taking it back again changes nothing.

use std::io;
use std::path::Path;
use valise_common::limits;

use valise_common::host::folders::InboxName;
use valise_common::os::durable::{self, SyncBatch, remove_any};

use crate::spool::completed::CompletedLog;

/// Whether somebody looks at what was handed back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Looking {
    /// Nobody does.
    #[default]
    No,
    /// The publisher does.
    Now,
    /// The publisher does, and something came since it began.
    Again,
}

/// Takes back the files in the folder, durably. Returns the containers that may be collected again.
///
/// # Errors
/// Those of the disk.
pub(super) fn take_back(
    damaged: &Path,
    completed: &mut CompletedLog,
    sync: &mut SyncBatch,
) -> io::Result<Vec<InboxName>> {
    let mut names = Vec::new();
    for entry in durable::list(damaged)? {
        names.extend(InboxName::of_container(&entry?.file_name()));
        if names.len() >= limits::HANDED_BACK_MAX {
            break;
        }
    }
    if names.is_empty() {
        return Ok(names);
    }
    completed.remove(&names, sync)?;
    sync.commit()?;
    for name in &names {
        remove_any(&damaged.join(super::publish::file_name(name)))?;
    }
    sync.add_dir(damaged);
    sync.commit()?;
    Ok(names)
}
