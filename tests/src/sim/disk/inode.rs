//! A file or directory, and which changes of it are durable.

use super::body::{Body, Change};
use super::names::Entries;

/// The number of an inode.
pub(super) type Ino = u64;

/// How far a change is from being durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// A power cut may lose it.
    Unsynced,
    /// Made through shared memory: a power cut loses it, since when it arrives here is the kernel's choice.
    Mapped,
    /// It is durable, but follows a change that may be lost.
    Durable,
    /// Its sync failed, so no later sync makes it durable.
    Doubtful,
}

/// A change that is not part of the synced body.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub order: u64,
    pub change: Change,
    pub standing: Standing,
}

/// A file, directory or anything else with a number.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub live: Body,
    pub entries: Entries,
    /// Directories that a name stands for, and other names.
    pub links: u32,
    pub synced: Body,
    pub pending: Vec<Pending>,
}

impl Inode {
    /// Makes changes durable, but for what a failed sync dropped.
    pub fn sync(&mut self, extent: Extent) {
        let is_in = |change: &Change| extent == Extent::All || change.is_data();
        for pending in self
            .pending
            .iter_mut()
            .filter(|pending| is_in(&pending.change))
        {
            if pending.standing != Standing::Doubtful {
                pending.standing = Standing::Durable;
            }
        }
        // What is durable becomes part of the body, up to the first data that is not. Data and attributes do not depend on
        // each other.
        let doubtful = self
            .pending
            .iter()
            .any(|pending| pending.standing == Standing::Doubtful);
        if !doubtful {
            let synced = &mut self.synced;
            self.pending.retain(|pending| {
                let is_durable = pending.standing == Standing::Durable;
                if is_durable {
                    synced.apply(&pending.change);
                }
                !is_durable
            });
            if self.pending.is_empty() {
                self.synced = self.live.clone();
            }
        }
    }
}

/// What a sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    Data,
}
