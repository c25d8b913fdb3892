//! The keys that open containers: the slots of every live bundle.

use std::collections::BTreeMap;

use valise_common::host::folders::ReceiverState;
use valise_common::host::slots::SlotsError;
use valise_common::ids::{BundleId, ChannelId, Serial};

use crate::model::rows::BundleRow;
use crate::spool::slots::SlotFile;
use crate::spool::slots_key::SlotsKey;

/// The slots of this host.
pub struct Slots {
    pub(super) open: BTreeMap<BundleId, SlotFile>,
    /// What covers new ones on the disk, if the operator wants that.
    pub(super) key: Option<SlotsKey>,
}

impl Slots {
    /// No file is open yet.
    pub(super) fn new(key: Option<SlotsKey>) -> Self {
        Self {
            open: BTreeMap::new(),
            key,
        }
    }

    /// Opens the files of bundles that are not open yet. A file that is damaged, gone or covered with a key that is not here is
    /// left out.
    ///
    /// # Errors
    /// [`SlotsError`] of any other kind.
    pub(super) fn open_all(
        &mut self,
        state: &ReceiverState,
        channel: ChannelId,
        bundles: &[BundleRow],
    ) -> Result<(), SlotsError> {
        for row in bundles {
            if !self.open.contains_key(&row.bundle) {
                let path = state.slots_of(row.bundle);
                match SlotFile::open(&path, channel, row, self.key.as_ref()) {
                    Err(error) if error.is_loss() => continue,
                    // The credential may be gone for good; with another one the start is refused instead.
                    Err(SlotsError::OtherKey { .. }) if self.key.is_none() => continue,
                    opened => self.open.insert(row.bundle, opened?),
                };
            }
        }
        Ok(())
    }

    /// The file of a bundle, if it is usable.
    pub(super) fn of(&self, bundle: BundleId) -> Option<&SlotFile> {
        self.open.get(&bundle)
    }

    /// Returns whether the slot of a serial can be read or is known to be used.
    pub(super) fn holds(&self, bundle: BundleId, serial: Serial) -> bool {
        self.of(bundle).is_some_and(|slots| slots.holds(serial))
    }

    /// Syncs every file.
    ///
    /// # Errors
    /// [`SlotsError`].
    pub(super) fn sync(&self) -> Result<(), SlotsError> {
        self.open.values().try_for_each(SlotFile::sync)
    }
}
