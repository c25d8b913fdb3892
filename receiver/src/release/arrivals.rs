//! What `receive` left: containers in the inbox, and the newest beacon.

use std::fs;
use std::io;

use valise_common::alarm::Alarm;
use valise_common::host::folders::InboxName;
use valise_common::os::durable;
use valise_common::wire::Beacon;

use crate::pipeline::SignedBeacon;
use crate::release::error::ReleaseError;
use crate::release::foreign::Trouble;
use crate::release::host::Release;
use crate::release::inbox::{Due, Waiting};
use crate::release::link::VerifiedBeacon;
use crate::spool::beacon_file;
use crate::spool::regular::is_in_the_way;

/// A link or a folder in the place of a container: the text after its description.
pub(super) const NOT_A_CONTAINER: &str = " in the place of a container, and Valise did not make it";

impl Release {
    /// Notes a container that arrived.
    pub(super) fn arrive(&mut self, name: InboxName) -> Result<(), ReleaseError> {
        match fs::symlink_metadata(self.state.container(&name)) {
            Ok(metadata) if metadata.is_file() => {
                self.shown.dirty = true;
                let waiting = Waiting {
                    bytes: metadata.len(),
                    due: Due::Now,
                };
                self.inbox.waiting.entry(name).or_insert(waiting);
            }
            Ok(_) => {
                let path = self.state.container(&name);
                self.note_foreign(Trouble::Foreign, &path, NOT_A_CONTAINER);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Notes every container in the inbox.
    pub(super) fn scan_inbox(&mut self) -> Result<(), ReleaseError> {
        for entry in durable::list(&self.state.inbox())? {
            if let Some(name) = InboxName::of_container(&entry?.file_name())
                && self.inbox.in_work != Some(name.serial)
            {
                self.arrive(name)?;
            }
        }
        Ok(())
    }

    /// Reads the newest beacon that `receive` believes; there is none when the link key that verified it has ended.
    pub(super) fn read_beacon(&mut self) -> Result<(), ReleaseError> {
        let last = self
            .ledger
            .bundles()
            .iter()
            .map(|bundle| bundle.last.get())
            .max();
        let sound = |written: SignedBeacon| {
            let beacon = Beacon::decode(&written.payload).ok()?;
            let bundle = written.bundle;
            (Some(beacon.highest) <= last || beacon.highest == 0)
                .then_some(VerifiedBeacon { bundle, beacon })
        };
        let believed = match beacon_file::read(&self.state.inbox_beacon()) {
            Ok(None) => Ok(None),
            Ok(Some(written)) => sound(written).map(Some).ok_or(()),
            // `receive` writes the next one over it, if it can.
            Err(error) if is_in_the_way(&error) => Err(()),
            Err(error) => return Err(error.into()),
        };
        let now = self.now();
        self.shown
            .alarms
            .set(Alarm::Beacon, now, u64::from(believed.is_err()), || {
                "the beacon in inbox/ names serials that no bundle has, or cannot be read; \
                 it is ignored"
                    .to_owned()
            });
        if let Ok(believed) = believed {
            // `receive` drops it soon; until then an ended key must not be heard either.
            let ended = |believed: &VerifiedBeacon| self.ledger.is_retired(believed.bundle);
            let believed = believed.filter(|believed| !ended(believed));
            if self.link.beacon != believed {
                self.link.beacon = believed;
                self.shown.dirty = true;
            }
        }
        Ok(())
    }
}
