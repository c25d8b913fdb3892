//! The slots of a bundle on disk: the only keys that open containers. A slot is read when its container is opened, and
//! erased in place when its cable has been released; nothing else ever reads it.
//!
//! ```text
//! 0 magic "VALSLT" 00 01 (8)  8 channel (16)  24 bundle (4)  28 first serial (8)  36 count (4)  40 mark (24)
//! 64 + 64·n  seed (32)  PSK (32) of serial first + n; zeros once erased
//! ```
//!
//! The mark is zero if seeds and PSKs are stored as they are. If a key covers them, it identifies that key ([`super::slots_key`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use thiserror::Error;
use valise_common::ids::{BundleId, ChannelId, Serial};
use valise_common::limits;
use valise_common::seal::SlotSecret;
use valise_common::secret::{Secret, Secret32};

use super::slots_key::SlotsKey;
use crate::spool::register::BundleRow;

const MAGIC: &[u8; 8] = b"VALSLT\x00\x01";

/// Length of the header.
pub const HEADER_BYTES: usize = 64;

/// Length of a record.
pub const RECORD_BYTES: usize = 64;

/// Bytes of the header that tell of a bundle.
const BUNDLE_BYTES: usize = 40;

/// Length of the mark behind them.
pub const MARK_BYTES: usize = HEADER_BYTES - BUNDLE_BYTES;

/// Why slots cannot be used. Each ends the process: without its slots this host opens nothing.
#[derive(Debug, Error)]
pub enum SlotsError {
    /// The file cannot be opened, read or written.
    #[error("the slots in {path} cannot be {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may read the file.
    #[error(
        "{path} holds keys and is open to others: chmod 600 it, and renew the bundle if anyone may have read it"
    )]
    OpenToOthers {
        /// Where.
        path: PathBuf,
    },
    /// The slots are covered with a key that this process has not.
    #[error(
        "the slots in {path} are covered with the key of a credential, and this process has another or none: give \
         valise-receiver-release the credential valise-slots with which they were made, and set release.slots_credential"
    )]
    OtherKey {
        /// Where.
        path: PathBuf,
    },
    /// The file is not the one that the register knows.
    #[error("{path} is damaged: it does not hold the slots of bundle {bundle}")]
    Damaged {
        /// Where.
        path: PathBuf,
        /// The bundle that was expected.
        bundle: BundleId,
    },
}

/// The header of a slot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotsHeader {
    /// The channel.
    pub channel: ChannelId,
    /// The bundle.
    pub bundle: BundleId,
    /// The serial of the first record.
    pub first: Serial,
    /// The number of records.
    pub count: u32,
}

impl SlotsHeader {
    /// The header's bytes, for slots that are covered with a key, or not.
    pub fn encode(&self, key: Option<&SlotsKey>) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(self.channel.as_bytes());
        bytes[24..28].copy_from_slice(&self.bundle.0.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.first.get().to_be_bytes());
        bytes[36..40].copy_from_slice(&self.count.to_be_bytes());
        if let Some(key) = key {
            let mark = key.mark(&bytes[..BUNDLE_BYTES]);
            bytes[BUNDLE_BYTES..].copy_from_slice(&mark);
        }
        bytes
    }

    /// The record of one slot, as it is written.
    pub fn record(
        &self,
        serial: Serial,
        slot: &SlotSecret,
        key: Option<&SlotsKey>,
    ) -> Secret<RECORD_BYTES> {
        let plain = Secret::fill(|bytes: &mut [u8; RECORD_BYTES]| {
            bytes[..32].copy_from_slice(slot.seed.expose());
            bytes[32..].copy_from_slice(slot.psk.expose());
        });
        match key {
            Some(key) => self.covered(serial, &plain, key),
            None => plain,
        }
    }

    /// Covers a record, or uncovers it.
    fn covered(
        &self,
        serial: Serial,
        record: &Secret<RECORD_BYTES>,
        key: &SlotsKey,
    ) -> Secret<RECORD_BYTES> {
        let cover = key.cover(&self.encode(None)[..BUNDLE_BYTES], serial);
        Secret::fill(|bytes| {
            let pairs = record.expose().iter().zip(cover.expose());
            for (byte, (one, other)) in bytes.iter_mut().zip(pairs) {
                *byte = one ^ other;
            }
        })
    }
}

/// The slots of one bundle, open for reading and erasing.
pub struct SlotFile {
    file: File,
    path: PathBuf,
    header: SlotsHeader,
    /// What covers its records, if anything does.
    key: Option<SlotsKey>,
    /// Slots in the file.
    held: u32,
}

impl SlotFile {
    /// Opens the slots of a bundle, which may be covered with the key of this process.
    ///
    /// # Errors
    /// [`SlotsError`] when the file is absent, open to others, of another bundle, or covered with another key.
    pub fn open(
        path: &Path,
        channel: ChannelId,
        bundle: &BundleRow,
        key: Option<&SlotsKey>,
    ) -> Result<SlotFile, SlotsError> {
        let failed = |doing| {
            move |source| SlotsError::Io {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path)
            .map_err(failed("opened"))?;
        let metadata = file.metadata().map_err(failed("examined"))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(SlotsError::OpenToOthers {
                path: path.to_owned(),
            });
        }
        let damaged = || SlotsError::Damaged {
            path: path.to_owned(),
            bundle: bundle.bundle,
        };
        let header = SlotsHeader {
            channel,
            bundle: bundle.bundle,
            first: bundle.first,
            count: bundle.count,
        };
        let mut bytes = [0; HEADER_BYTES];
        let records_bytes = metadata.len().checked_sub(offset(0)).ok_or_else(damaged)?;
        if metadata.len() > offset(u64::from(bundle.count)) {
            return Err(damaged());
        }
        // What was cut off is lost; the slots before are not.
        let held = u32::try_from(records_bytes / offset(0)).map_err(|_| damaged())?;
        file.read_exact_at(&mut bytes, 0).map_err(failed("read"))?;
        let wrong = |key| {
            let whole = header.encode(key);
            bytes
                .iter()
                .zip(whole)
                .filter(|(is, was)| *is != was)
                .count()
        };
        let plain = wrong(None);
        let key = key.filter(|key| wrong(Some(key)) < plain);
        let whole = header.encode(key);
        match wrong(key) {
            0 => {}
            // The log has all that the header says, and another bundle's file differs in more.
            1 => {
                let path = path.display();
                tracing::warn!(%path, "a byte of the header was damaged, and is written again");
                file.write_all_at(&whole, 0)
                    .and_then(|()| file.sync_data())
                    .map_err(failed("written"))?;
            }
            _ if bytes[..BUNDLE_BYTES] == whole[..BUNDLE_BYTES] => {
                return Err(SlotsError::OtherKey {
                    path: path.to_owned(),
                });
            }
            _ => return Err(damaged()),
        }
        Ok(SlotFile {
            file,
            path: path.to_owned(),
            header,
            key: key.cloned(),
            held,
        })
    }

    /// Whether the slot of a serial is in the file, erased or not: not if the file was cut.
    pub fn holds(&self, serial: Serial) -> bool {
        self.offset_of(serial).is_some()
    }

    /// The slot of a serial; `None` when it is erased or not of this bundle.
    ///
    /// # Errors
    /// [`SlotsError`] when the disk fails.
    pub fn slot(&self, serial: Serial) -> Result<Option<SlotSecret>, SlotsError> {
        let Some(at) = self.offset_of(serial) else {
            return Ok(None);
        };
        let mut failure = None;
        let record = Secret::<RECORD_BYTES>::try_fill(|bytes| {
            self.file
                .read_exact_at(bytes, at)
                .map_err(|source| failure = Some(source))
        });
        let Ok(record) = record else {
            let source = failure.unwrap_or_else(|| io::Error::other("no bytes"));
            return Err(self.failed("read", source));
        };
        // A seed of zeros is an erased one; no random seed is, covered or not.
        if record.expose()[..32].iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let record = match &self.key {
            Some(key) => self.header.covered(serial, &record, key),
            None => record,
        };
        let (seed, psk) = record.expose().split_at(32);
        let (Some(seed), Some(psk)) = (Secret32::from_slice(seed), Secret32::from_slice(psk))
        else {
            return Ok(None);
        };
        Ok(Some(SlotSecret { seed, psk }))
    }

    /// Overwrites the slot of a serial with zeros. It is gone for sure only after [`SlotFile::sync`].
    ///
    /// # Errors
    /// [`SlotsError`] when the disk fails.
    pub fn erase(&self, serial: Serial) -> Result<(), SlotsError> {
        let Some(at) = self.offset_of(serial) else {
            return Ok(());
        };
        self.file
            .write_all_at(&[0; RECORD_BYTES], at)
            .map_err(|source| self.failed("erased", source))
    }

    /// Makes erasures durable.
    ///
    /// # Errors
    /// [`SlotsError`] when the disk fails; the process must end.
    pub fn sync(&self) -> Result<(), SlotsError> {
        self.file
            .sync_data()
            .map_err(|source| self.failed("synced", source))
    }

    fn offset_of(&self, serial: Serial) -> Option<u64> {
        let index = serial.get().checked_sub(self.header.first.get())?;
        (index < u64::from(self.held)).then(|| offset(index))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> SlotsError {
        SlotsError::Io {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

/// Where a record begins. The count is bounded, so that nothing saturates.
const fn offset(index: u64) -> u64 {
    64 + 64 * index
}

const _: () = assert!(limits::SLOTS_MAX < 1 << 24);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;
    use crate::spool::register::BundleState;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use valise_common::ids::LinkKeyId;

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
        let mut bytes = header.encode(key).to_vec();
        for (number, fill) in [(11, 5), (12, 6), (13, 7)] {
            let slot = SlotSecret {
                seed: Secret32::new([fill; 32]),
                psk: Secret32::new([fill + 1; 32]),
            };
            let record = header.record(serial(number), &slot, key);
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
