//! Notices what gate does in `outbox/` and `keys/handover/`, and reads what changed there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use valise_common::host::folders::{OutboxName, SenderState};
use valise_common::ids::Serial;
use valise_common::os::watch::{Changes, DirIndex, DirWatch, Notice};

use super::unsendable::Why;
use super::{During as _, TransmitError};
use crate::pipeline::Sealed;
use crate::spool::outbox::{Outbox, OutboxError, OutboxFile, SpoolBeacon};
use crate::spool::progress::{self, Progress};

/// What may have changed.
#[derive(Debug, Default)]
pub(super) struct SpoolChanges {
    /// A link key.
    pub keys: bool,
    /// What gate knows.
    spool: bool,
    /// Containers or their geometry.
    names: BTreeSet<OutboxName>,
    /// Names are missing: everything must be read again.
    everything: bool,
}

/// What has changed of the containers.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// New, or with other wanted passes.
    pub arrived: Vec<Arrived>,
    /// Deleted by gate.
    pub gone: Vec<Serial>,
    /// There, with a file that is not what gate writes, or that may not be read.
    pub damaged: Vec<(Serial, Why)>,
}

/// A container in the outbox.
#[derive(Debug)]
pub(super) struct Arrived {
    /// What transmit knows of it.
    pub sealed: Sealed,
    /// How far an earlier process came.
    pub progress: Option<Progress>,
}

/// Watches the folders that gate writes for transmit.
pub(super) struct StateWatch {
    state: SenderState,
    outbox: Outbox,
    watch: DirWatch,
    outbox_index: DirIndex,
}

impl SpoolChanges {
    /// Everything must be read again.
    pub(super) fn everything() -> Self {
        Self {
            keys: true,
            spool: true,
            names: BTreeSet::new(),
            everything: true,
        }
    }

    fn add(&mut self, changes: Changes, outbox: DirIndex) {
        if changes.overflowed {
            *self = Self::everything();
        }
        for (folder, name) in changes.names {
            if folder == outbox {
                self.add_name(name);
            } else {
                self.keys = true;
            }
        }
    }

    fn add_name(&mut self, name: OsString) {
        match OutboxFile::parse(&name) {
            Some(OutboxFile::Beacon) => self.spool = true,
            Some(OutboxFile::Container(name) | OutboxFile::Fec(name)) => {
                self.names.insert(name);
            }
            None => {}
        }
    }
}

/// Returns the name of a container's files in the outbox.
pub(super) fn name_of(sealed: &Sealed) -> OutboxName {
    let Sealed {
        precedence,
        serial,
        not_after,
        ..
    } = *sealed;
    OutboxName {
        precedence,
        serial,
        not_after,
    }
}

impl StateWatch {
    /// Begins to watch. What is there already must be read afterwards: [`SpoolChanges::everything`].
    pub(super) fn new(state: &SenderState) -> Result<Self, TransmitError> {
        let mut watch = DirWatch::new().during("watch folders")?;
        let outbox = watch.add(&state.outbox(), Notice::ArrivalsAndRemovals);
        let outbox_index = outbox.during("watch outbox/")?;
        watch
            .add(&state.handover_folder(), Notice::Arrivals)
            .during("watch keys/handover/")?;
        let outbox = Outbox::new(state.clone());
        Ok(Self {
            state: state.clone(),
            outbox,
            watch,
            outbox_index,
        })
    }

    /// Takes what has changed.
    pub(super) fn take(&mut self) -> Result<SpoolChanges, TransmitError> {
        let mut changes = SpoolChanges::default();
        changes.add(
            self.watch.drain().during("watch folders")?,
            self.outbox_index,
        );
        Ok(changes)
    }

    /// What gate knows, if that changed. Adds to `changes` the containers that had arrived when gate wrote it.
    pub(super) fn spool(
        &mut self,
        changes: &mut SpoolChanges,
    ) -> Result<Option<SpoolBeacon>, TransmitError> {
        let mut spool = None;
        while changes.spool {
            changes.spool = false;
            spool = self.told(self.outbox.beacon())?.or(spool);
            // Gate puts a container into the outbox before it stops calling it "in sealing". So whatever this beacon relies
            // on has been noticed by now.
            changes.add(
                self.watch.drain().during("watch folders")?,
                self.outbox_index,
            );
        }
        Ok(spool)
    }

    /// What has changed of the containers; `known` are those that transmit knows.
    pub(super) fn containers(
        &self,
        changes: SpoolChanges,
        known: impl Fn(Serial) -> Option<OutboxName>,
        all: impl Iterator<Item = Serial>,
    ) -> Result<Found, TransmitError> {
        let mut found = Found::default();
        let mut names = changes.names;
        if changes.everything {
            let there = self.outbox.containers()?;
            found
                .gone
                .extend(all.filter(|serial| !there.contains_key(serial)));
            names.extend(there.into_values());
        }
        for name in names {
            if !self.state.container(&name).exists() {
                if known(name.serial).is_none_or(|known| known == name) {
                    found.gone.push(name.serial);
                }
                continue;
            }
            match self.arrived(&name) {
                Ok(arrived) => found.arrived.extend(arrived),
                Err(error) => {
                    let why = Why::from(&error);
                    self.told::<()>(Err(error))?;
                    found.damaged.push((name.serial, why));
                }
            }
        }
        Ok(found)
    }

    fn arrived(&self, name: &OutboxName) -> Result<Option<Arrived>, OutboxError> {
        let Some(fec) = self.outbox.fec(name)? else {
            return Ok(None);
        };
        if fec.container != fec.hash.id() {
            return Err(OutboxError::Hash {
                serial: name.serial,
            });
        }
        let progress = progress::read(&self.state.progress(), name.serial)?;
        let sealed = Sealed {
            serial: name.serial,
            precedence: name.precedence,
            not_after: name.not_after,
            container: fec.container,
            hash: fec.hash,
            geometry: fec.geometry,
            passes: fec.passes,
        };
        Ok(Some(Arrived { sealed, progress }))
    }

    /// One damaged file, or one that may not be read, stops nothing but its own container.
    fn told<T>(&self, result: Result<T, OutboxError>) -> Result<Option<T>, TransmitError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(OutboxError::Io(error)) if !is_of_a_file(&error) => {
                Err(error).during("read outbox/")
            }
            Err(error) => {
                tracing::error!(%error, "a file of the outbox is left out");
                Ok(None)
            }
        }
    }
}

/// Returns whether an error is about one file: its rights, its type, or the sectors that it is on.
fn is_of_a_file(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::EACCES
                | Errno::EPERM
                | Errno::ELOOP
                | Errno::EISDIR
                | Errno::EIO
                | Errno::EBADMSG
                | Errno::EUCLEAN
        )
    )
}

impl AsFd for StateWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}
