//! The slots of a bundle: the only keys that open containers. A slot is read when its container is opened, and erased in place
//! when its cable has been released; nothing else ever reads it. The record of a serial is its seed (32) and its PSK (32), as
//! they are or covered with a key ([`super::slots_key`]).

use std::path::Path;

use valise_common::host::slots::{SlotTable, SlotsError, SlotsHeader};
use valise_common::ids::{ChannelId, Serial};
use valise_common::seal::SlotSecret;
use valise_common::secret::{Secret, Secret32};

use super::slots_key::SlotsKey;
use crate::model::rows::BundleRow;

/// Length of a record.
pub(crate) const RECORD_BYTES: usize = 64;

/// Returns the record of one slot, as it is written.
pub(crate) fn record(
    header: &SlotsHeader,
    serial: Serial,
    slot: &SlotSecret,
    key: Option<&SlotsKey>,
) -> Secret<RECORD_BYTES> {
    let plain = Secret::fill(|bytes: &mut [u8; RECORD_BYTES]| {
        bytes[..32].copy_from_slice(slot.seed.expose());
        bytes[32..].copy_from_slice(slot.psk.expose());
    });
    match key {
        Some(key) => covered(header, serial, &plain, key),
        None => plain,
    }
}

/// Covers a record, or uncovers it.
fn covered(
    header: &SlotsHeader,
    serial: Serial,
    record: &Secret<RECORD_BYTES>,
    key: &SlotsKey,
) -> Secret<RECORD_BYTES> {
    let cover = key.cover(&header.identity(), serial);
    Secret::fill(|bytes| {
        let pairs = record.expose().iter().zip(cover.expose());
        for (byte, (one, other)) in bytes.iter_mut().zip(pairs) {
            *byte = one ^ other;
        }
    })
}

/// The slots of one bundle, open for reading and erasing.
pub(crate) struct SlotFile {
    table: SlotTable<RECORD_BYTES>,
    /// The key that covers the records, if one does.
    key: Option<SlotsKey>,
}

impl SlotFile {
    /// Opens the slots of a bundle, which may be covered with the key of this process.
    ///
    /// # Errors
    /// [`SlotsError`] when the file is absent, open to others, of another bundle, or covered with another key.
    pub(crate) fn open(
        path: &Path,
        channel: ChannelId,
        bundle: &BundleRow,
        key: Option<&SlotsKey>,
    ) -> Result<SlotFile, SlotsError> {
        let header = SlotsHeader {
            channel,
            bundle: bundle.bundle,
            first: bundle.first,
            count: bundle.count,
        };
        let mark = key.map(|key| key.mark(&header.identity()));
        let table = SlotTable::open(path, header, mark.as_ref())?;
        let key = key.filter(|_| table.is_covered()).cloned();
        Ok(SlotFile { table, key })
    }

    /// Returns whether the slot of a serial is in the file, erased or not: not if the file was cut.
    pub(crate) fn holds(&self, serial: Serial) -> bool {
        self.table.holds(serial)
    }

    /// Returns the slot of a serial; `None` when it is erased or not of this bundle.
    ///
    /// # Errors
    /// [`SlotsError`] when the disk fails.
    pub(crate) fn slot(&self, serial: Serial) -> Result<Option<SlotSecret>, SlotsError> {
        let Some(mut record) = self.table.read(serial)? else {
            return Ok(None);
        };
        if let Some(key) = &self.key {
            record = covered(self.table.header(), serial, &record, key);
        }
        let (seed, psk) = record.expose().split_at(32);
        let both = Secret32::from_slice(seed).zip(Secret32::from_slice(psk));
        Ok(both.map(|(seed, psk)| SlotSecret { seed, psk }))
    }

    /// Overwrites the slot of a serial with zeros. It is gone for sure only after [`SlotFile::sync`].
    ///
    /// # Errors
    /// [`SlotsError`] when the disk fails.
    pub(crate) fn erase(&self, serial: Serial) -> Result<(), SlotsError> {
        self.table.erase(serial)
    }

    /// Makes erasures durable.
    ///
    /// # Errors
    /// [`SlotsError`] when the disk fails; the process must end.
    pub(crate) fn sync(&self) -> Result<(), SlotsError> {
        self.table.sync()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;
    use crate::model::rows::BundleState;
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::PermissionsExt;
    use valise_common::ids::{BundleId, LinkKeyId};

    fn serial(value: u64) -> Serial {
        Serial::new(value).unwrap()
    }

    fn bundle() -> BundleRow {
        BundleRow {
            bundle: BundleId(3),
            first: serial(11),
            last: serial(13),
            count: 3,
            link_key: LinkKeyId(0),
            state: BundleState::Live,
            retired: false,
        }
    }

    fn write(path: &Path) {
        write_covered(path, None);
    }

    fn write_covered(path: &Path, key: Option<&SlotsKey>) {
        let header = SlotsHeader {
            channel: ChannelId::from_bytes([1; 16]),
            bundle: BundleId(3),
            first: serial(11),
            count: 3,
        };
        let mark = key.map(|key| key.mark(&header.identity()));
        let mut bytes = header.encode(mark.as_ref()).to_vec();
        for (number, fill) in [(11, 5), (12, 6), (13, 7)] {
            let slot = SlotSecret {
                seed: Secret32::new([fill; 32]),
                psk: Secret32::new([fill + 1; 32]),
            };
            let record = record(&header, serial(number), &slot, key);
            bytes.extend_from_slice(record.expose());
        }
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn an_erased_slot_is_gone_and_its_neighbours_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3.slots");
        write(&path);
        let slots = SlotFile::open(&path, ChannelId::from_bytes([1; 16]), &bundle(), None).unwrap();
        let slot = slots.slot(serial(12)).unwrap().unwrap();
        assert_eq!(
            (slot.seed.expose(), slot.psk.expose()),
            (&[6; 32], &[7; 32])
        );
        slots.erase(serial(12)).unwrap();
        slots.sync().unwrap();
        assert!(slots.slot(serial(12)).unwrap().is_none());
        assert!(slots.slot(serial(11)).unwrap().is_some());
        assert!(slots.slot(serial(13)).unwrap().is_some());
        let bytes = fs::read(&path).unwrap();
        assert!(bytes[128..192].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn covered_slots_open_with_their_key_alone_and_each_is_erased_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3.slots");
        let channel = ChannelId::from_bytes([1; 16]);
        let [key, other] = [1, 2].map(|fill| SlotsKey::from_slice(&[fill; 32]).unwrap());
        write_covered(&path, Some(&key));
        let on_disk = fs::read(&path).unwrap();
        for part in [[5; 32], [6; 32], [7; 32], [8; 32]] {
            assert!(!on_disk.windows(32).any(|window| window == part));
        }
        assert_ne!(
            on_disk[64..128],
            on_disk[128..192],
            "each has its own cover"
        );
        for wrong in [None, Some(&other)] {
            let opened = SlotFile::open(&path, channel, &bundle(), wrong);
            assert!(matches!(opened, Err(SlotsError::OtherKey { .. })));
        }
        // One damaged byte of the header is mended here too, wherever it is.
        for at in [9, 41, 63] {
            let mut bytes = on_disk.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            let slots = SlotFile::open(&path, channel, &bundle(), Some(&key)).unwrap();
            assert_eq!(
                slots.slot(serial(12)).unwrap().unwrap().seed.expose(),
                &[6; 32]
            );
            assert_eq!(fs::read(&path).unwrap(), on_disk);
        }
        let slots = SlotFile::open(&path, channel, &bundle(), Some(&key)).unwrap();
        slots.erase(serial(12)).unwrap();
        assert!(slots.slot(serial(12)).unwrap().is_none());
        let left = slots.slot(serial(13)).unwrap().unwrap();
        assert_eq!(
            (left.seed.expose(), left.psk.expose()),
            (&[7; 32], &[8; 32])
        );
        // Slots from before the credential stay as they are.
        write(&path);
        let slots = SlotFile::open(&path, channel, &bundle(), Some(&key)).unwrap();
        assert_eq!(
            slots.slot(serial(11)).unwrap().unwrap().seed.expose(),
            &[5; 32]
        );
    }

    #[test]
    fn serials_outside_have_no_slot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3.slots");
        write(&path);
        let slots = SlotFile::open(&path, ChannelId::from_bytes([1; 16]), &bundle(), None).unwrap();
        for outside in [1, 10, 14, (1 << 63) - 1] {
            assert!(slots.slot(serial(outside)).unwrap().is_none());
            slots.erase(serial(outside)).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 256);
    }

    #[test]
    fn foreign_linked_and_readable_files_are_refused_and_a_cut_one_has_what_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3.slots");
        let channel = ChannelId::from_bytes([1; 16]);
        write(&path);
        let other = ChannelId::from_bytes([2; 16]);
        assert!(matches!(
            SlotFile::open(&path, other, &bundle(), None),
            Err(SlotsError::Damaged { .. })
        ));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(
            SlotFile::open(&link, channel, &bundle(), None),
            Err(SlotsError::Io { .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            SlotFile::open(&path, channel, &bundle(), None),
            Err(SlotsError::OpenToOthers { .. })
        ));
        write(&path);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(255)
            .unwrap();
        let cut = SlotFile::open(&path, channel, &bundle(), None).unwrap();
        assert!(cut.holds(serial(12)) && !cut.holds(serial(13)));
        cut.erase(serial(13)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 255);
    }
}
