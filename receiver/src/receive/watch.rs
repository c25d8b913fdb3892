//! Notices what release changes on the disk: link keys, and containers that it hands back as damaged.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use valise_common::host::folders::{ReceiverState, Role};
use valise_common::ids::{BundleId, ChannelId};
use valise_common::os::watch::{DirIndex, DirWatch, Notice};
use valise_common::units::UtcTime;

use super::assemble::Input;
use super::keys::LinkKeys;
use super::way::Way;

/// Watches the folders that release writes for receive, and holds what the assembler does not know yet.
pub(super) struct StateWatch {
    watch: DirWatch,
    damaged: DirIndex,
    keys: LinkKeys,
    /// Why a key file cannot be used.
    key_fault: Option<String>,
    /// Something was handed back, and the assembler does not know it.
    is_handed_back: bool,
    /// The keys in force, while the assembler does not know them. Without them a beacon would outlive its key.
    keys_untold: Option<Input>,
}

impl StateWatch {
    /// Begins to watch. The keys that are there already must be loaded afterwards.
    ///
    /// # Errors
    /// If a folder cannot be watched, or the times of the keys' first use cannot be read.
    pub(super) fn open(state: &ReceiverState, channel: ChannelId) -> io::Result<Self> {
        let mut watch = DirWatch::new()?;
        watch.add(&state.link_keys(), Notice::ArrivalsAndRemovals)?;
        watch.add(&state.handover_folder(), Notice::Arrivals)?;
        let damaged = watch.add(&state.damaged(), Notice::Arrivals)?;
        let keys = LinkKeys::open(
            (state.link_keys(), state.handover()),
            channel,
            state.assembly().join("link-keys"),
            state.tmp(Role::Receive),
        )?;
        Ok(Self {
            watch,
            damaged,
            keys,
            key_fault: None,
            // A container may have come between the look of the start and the watch.
            is_handed_back: true,
            keys_untold: None,
        })
    }

    /// Takes what has changed, and passes it on as far as there is room; a tenth of a second later will do for the rest.
    ///
    /// # Errors
    /// If the keys cannot be read.
    pub(super) fn take_changes(&mut self, now: UtcTime, way: &Way) -> io::Result<()> {
        let changes = self.watch.drain()?;
        let is_damaged = |(folder, _): &(DirIndex, _)| *folder == self.damaged;
        self.is_handed_back |= changes.overflowed || changes.names.iter().any(is_damaged);
        if changes.overflowed || !changes.names.iter().all(is_damaged) {
            self.load_keys(now, way)?;
        }
        self.tell_keys(way);
        if self.is_handed_back {
            self.is_handed_back = way.tell(Input::HandedBack).is_err();
        }
        Ok(())
    }

    /// Loads the keys in force, and passes them on to the reader and the assembler.
    ///
    /// # Errors
    /// If the keys cannot be read.
    pub(super) fn load_keys(&mut self, now: UtcTime, way: &Way) -> io::Result<()> {
        let in_force = self.keys.load(now)?;
        let fault = in_force.faults.first();
        self.key_fault =
            fault.map(|fault| format!("{fault}; what is sent under such a key is not taken"));
        if in_force.keys.is_empty() {
            tracing::debug!("there is no link key: run bundle create");
        }
        let issued_last = in_force.issued_last;
        self.keys_untold = Some(Input::Keys {
            in_force: in_force.keys.iter().map(|key| key.bundle).collect(),
            issued_last,
        });
        way.shared().set_keys(in_force.keys, issued_last);
        self.tell_keys(way);
        Ok(())
    }

    /// Loads the keys once a minute: an old key ends by the clock, and a minute more or less does not matter.
    ///
    /// # Errors
    /// If the keys cannot be read.
    pub(super) fn load_keys_if_due(&mut self, now: UtcTime, way: &Way) -> io::Result<()> {
        match now.as_s().is_multiple_of(60) {
            true => self.load_keys(now, way),
            false => Ok(()),
        }
    }

    /// Returns whether the key of a bundle has never verified a datagram before.
    pub(super) fn is_new(&self, bundle: BundleId) -> bool {
        self.keys.is_new(bundle)
    }

    /// Notes that the key of a bundle verified a datagram, which ends older ones a day later.
    ///
    /// # Errors
    /// If the time cannot be written.
    pub(super) fn handle_verified(&mut self, bundle: BundleId, now: UtcTime) -> io::Result<()> {
        self.keys.handle_verified(bundle, now)
    }

    /// Returns the text of the alarm `link-key`, if a key file cannot be used.
    pub(super) fn key_alarm(&self) -> Option<&str> {
        self.key_fault.as_deref()
    }

    fn tell_keys(&mut self, way: &Way) {
        if let Some(keys) = self.keys_untold.take() {
            self.keys_untold = way.tell(keys).err();
        }
    }
}

impl AsFd for StateWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}
