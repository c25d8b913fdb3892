//! The slots that this host holds, and their erasure in place.
//!
//! ```text
//! offset  bytes
//! 0       8      magic "VALSLT" 00 01
//! 8       4      bundle id
//! 12      8      first serial
//! 20      4      count
//! 24      8      zero
//! 32      1248·n per slot: PSK (32), X-Wing public key (1216)
//! ```
//!
//! An erased PSK is all zeros. What a flash disk still holds underneath is out of reach from here.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::libc;
use thiserror::Error;
use valise_common::bundle::{Bundle, SlotPublic};
use valise_common::host::folders::{Role, SenderState};
use valise_common::ids::{BundleId, Serial};
use valise_common::limits;
use valise_common::os::durable::{StagedFile, erase};
use valise_common::secret::Secret32;

const MAGIC: [u8; 8] = *b"VALSLT\x00\x01";
const HEADER_BYTES: u64 = 32;
const PSK_BYTES: usize = 32;
const RECORD_BYTES: usize = PSK_BYTES + limits::SLOT_PUBLIC_BYTES;

/// Why a slot cannot be had.
#[derive(Debug, Error)]
pub enum SlotsError {
    /// The system failed.
    #[error("slots of bundle {bundle}: {source}")]
    Io {
        /// The bundle.
        bundle: BundleId,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is not what an import wrote.
    #[error("slots/{bundle}.slots is damaged: it is not what the import of bundle {bundle} wrote")]
    Malformed {
        /// The bundle.
        bundle: BundleId,
    },
    /// Others than gate's user have a right to the file.
    #[error(
        "slots of bundle {bundle}: the file holds keys, but others may reach it; set its mode to 0600"
    )]
    OpenToOthers {
        /// The bundle.
        bundle: BundleId,
    },
    /// The serial is not of this bundle.
    #[error("serial {serial} has no slot in bundle {bundle}")]
    Outside {
        /// The bundle.
        bundle: BundleId,
        /// The serial.
        serial: Serial,
    },
    /// The slot has been used: it never seals again.
    #[error("the slot of serial {serial} is erased")]
    Erased {
        /// The serial.
        serial: Serial,
    },
}

/// Writes the slots of a bundle, durable but not yet in their place.
///
/// # Errors
/// Any error of the system.
pub fn stage(tmp: &Path, bundle: &Bundle) -> io::Result<StagedFile> {
    let mut staged = StagedFile::create(tmp)?;
    let mut buffer = Vec::with_capacity(RECORD_BYTES * 64);
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&bundle.id.0.to_be_bytes());
    buffer.extend_from_slice(&bundle.first.get().to_be_bytes());
    buffer.extend_from_slice(&bundle.count().to_be_bytes());
    buffer.extend_from_slice(&[0; 8]);
    staged.write_all(&buffer)?;
    for slots in bundle.slots.chunks(64) {
        buffer.clear();
        for slot in slots {
            buffer.extend_from_slice(slot.psk.expose());
            buffer.extend_from_slice(&slot.public[..]);
        }
        staged.write_all(&buffer)?;
    }
    zeroize::Zeroize::zeroize(&mut buffer);
    Ok(staged)
}

/// The slot files, each opened once.
#[derive(Debug)]
pub struct SlotStore {
    state: SenderState,
    open: BTreeMap<BundleId, Held>,
}

#[derive(Debug)]
struct Held {
    file: File,
    first: u64,
    count: u32,
}

impl SlotStore {
    /// A store over the host's `slots/`.
    pub fn new(state: &SenderState) -> Self {
        Self {
            state: state.clone(),
            open: BTreeMap::new(),
        }
    }

    /// The staging folder of gate.
    pub fn tmp(state: &SenderState) -> std::path::PathBuf {
        state.tmp(Role::Gate)
    }

    fn held(&mut self, bundle: BundleId) -> Result<&Held, SlotsError> {
        if !self.open.contains_key(&bundle) {
            let held = open(&self.state.slots_of(bundle), bundle)?;
            self.open.insert(bundle, held);
        }
        self.open
            .get(&bundle)
            .ok_or(SlotsError::Malformed { bundle })
    }

    /// Reads the slot of a serial.
    ///
    /// # Errors
    /// [`SlotsError`]; an erased slot is one.
    pub fn read(&mut self, bundle: BundleId, serial: Serial) -> Result<SlotPublic, SlotsError> {
        let held = self.held(bundle)?;
        let offset = held.offset(bundle, serial)?;
        let mut public = Box::new([0; limits::SLOT_PUBLIC_BYTES]);
        let io = |source| SlotsError::Io { bundle, source };
        // Read to where it stays: an array that is moved leaves copies on the stack.
        let psk = Secret32::try_fill(|psk| held.file.read_exact_at(psk, offset)).map_err(io)?;
        held.file
            .read_exact_at(&mut public[..], offset + PSK_OFFSET)
            .map_err(io)?;
        if *psk.expose() == [0; PSK_BYTES] {
            return Err(SlotsError::Erased { serial });
        }
        Ok(SlotPublic { psk, public })
    }

    /// Refuses a bundle's file that others may reach, before a serial of it is issued. One that is gone or damaged holds
    /// nothing.
    ///
    /// # Errors
    /// [`SlotsError`]
    pub fn examine(&mut self, bundle: BundleId) -> Result<(), SlotsError> {
        match self.held(bundle) {
            Err(error) if error.is_gone() => Ok(()),
            Err(SlotsError::Malformed { .. }) => Ok(()),
            held => held.map(drop),
        }
    }

    /// Tells whether a bundle's file is damaged: nothing is sealed from it, and no slot of it can be told from another.
    pub fn is_damaged(&mut self, bundle: BundleId) -> bool {
        matches!(self.held(bundle), Err(SlotsError::Malformed { .. }))
    }

    /// Tells whether a serial's slot is erased; one whose bundle is gone is, or whose bundle's file is damaged.
    ///
    /// # Errors
    /// [`SlotsError`] if the file cannot be read.
    pub fn is_erased(&mut self, bundle: BundleId, serial: Serial) -> Result<bool, SlotsError> {
        match self.read(bundle, serial) {
            Ok(_) => Ok(false),
            Err(SlotsError::Erased { .. }) => Ok(true),
            Err(error) if error.is_gone() => Ok(true),
            Err(SlotsError::Malformed { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Erases the slots of serials, with one sync a bundle. Those of a bundle that was destroyed are erased already, those of
    /// a damaged file are erased with the bundle.
    ///
    /// # Errors
    /// [`SlotsError`]; the process must end.
    pub fn erase(&mut self, serials: &[(BundleId, Serial)]) -> Result<(), SlotsError> {
        let mut bundles: Vec<BundleId> = Vec::new();
        for (bundle, serial) in serials {
            let bundle = *bundle;
            let held = match self.held(bundle) {
                Err(error) if error.is_gone() => continue,
                Err(SlotsError::Malformed { .. }) => continue,
                held => held?,
            };
            let offset = held.offset(bundle, *serial)?;
            held.file
                .write_all_at(&[0; PSK_BYTES], offset)
                .map_err(|source| SlotsError::Io { bundle, source })?;
            if !bundles.contains(&bundle) {
                bundles.push(bundle);
            }
        }
        for bundle in bundles {
            let synced = self.held(bundle)?.file.sync_data();
            synced.map_err(|source| SlotsError::Io { bundle, source })?;
        }
        Ok(())
    }

    /// Erases every slot of a bundle that a later one replaced, and deletes its file.
    ///
    /// # Errors
    /// [`SlotsError`]; a file that is gone already is none.
    pub fn destroy(&mut self, bundle: BundleId) -> Result<(), SlotsError> {
        let path = self.state.slots_of(bundle);
        let (first, count) = match self.held(bundle) {
            Ok(held) => (held.first, held.count),
            Err(error) if error.is_gone() => return Ok(()),
            Err(SlotsError::Malformed { .. }) => {
                let erased = erase(&path);
                return erased
                    .map(drop)
                    .map_err(|source| SlotsError::Io { bundle, source });
            }
            Err(error) => return Err(error),
        };
        let all: Vec<(BundleId, Serial)> = (first..first + u64::from(count))
            .filter_map(Serial::new)
            .map(|serial| (bundle, serial))
            .collect();
        self.erase(&all)?;
        self.open.remove(&bundle);
        std::fs::remove_file(path).map_err(|source| SlotsError::Io { bundle, source })
    }
}

impl SlotsError {
    /// Whether the bundle's file is gone.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

const PSK_OFFSET: u64 = 32;

impl Held {
    fn offset(&self, bundle: BundleId, serial: Serial) -> Result<u64, SlotsError> {
        let outside = SlotsError::Outside { bundle, serial };
        let Some(index) = serial.get().checked_sub(self.first) else {
            return Err(outside);
        };
        if index >= u64::from(self.count) {
            return Err(outside);
        }
        let record = u64::try_from(RECORD_BYTES).map_err(|_| SlotsError::Malformed { bundle })?;
        Ok(HEADER_BYTES + index * record)
    }
}

fn open(path: &Path, bundle: BundleId) -> Result<Held, SlotsError> {
    let io = |source| SlotsError::Io { bundle, source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
        .map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(SlotsError::OpenToOthers { bundle });
    }
    if metadata.len() < HEADER_BYTES {
        return Err(SlotsError::Malformed { bundle });
    }
    let mut header = [0; 32];
    file.read_exact_at(&mut header, 0).map_err(io)?;
    let number = |range: std::ops::Range<usize>| {
        header[range]
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (first, count) = (number(12..20), number(20..24));
    let record = u64::try_from(RECORD_BYTES).map_err(|_| SlotsError::Malformed { bundle })?;
    let length = metadata.len();
    let whole = header[..8] == MAGIC
        && number(8..12) == u64::from(bundle.0)
        && number(24..32) == 0
        && length == HEADER_BYTES + count * record;
    match u32::try_from(count) {
        Ok(count) if whole && first.checked_add(u64::from(count)).is_some() => {
            Ok(Held { file, first, count })
        }
        _ => Err(SlotsError::Malformed { bundle }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::ids::{ChannelId, LinkKeyId};

    use super::*;

    fn bundle(count: u8) -> Bundle {
        let slot = |byte: u8| SlotPublic {
            psk: Secret32::new([byte; 32]),
            public: Box::new([byte; limits::SLOT_PUBLIC_BYTES]),
        };
        Bundle {
            channel: ChannelId::from_bytes([1; 16]),
            id: BundleId(3),
            first: Serial::new(11).unwrap(),
            link_key_id: LinkKeyId(1),
            link_key: Secret32::new([9; 32]),
            slots: (1..=count).map(slot).collect(),
        }
    }

    fn store(folder: &Path, count: u8) -> SlotStore {
        let state = SenderState::new(folder);
        state.create_all().unwrap();
        let staged = stage(&SlotStore::tmp(&state), &bundle(count)).unwrap();
        staged
            .finish()
            .unwrap()
            .publish(&state.slots_of(BundleId(3)))
            .unwrap();
        SlotStore::new(&state)
    }

    #[test]
    fn a_slot_reads_back_until_it_is_erased_and_its_neighbours_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 3);
        let serial = |number| Serial::new(number).unwrap();
        let slot = store.read(BundleId(3), serial(12)).unwrap();
        assert_eq!((slot.psk.expose()[0], slot.public[1215]), (2, 2));
        store.erase(&[(BundleId(3), serial(12))]).unwrap();
        assert!(store.is_erased(BundleId(3), serial(12)).unwrap());
        assert!(matches!(
            store.read(BundleId(3), serial(12)),
            Err(SlotsError::Erased { .. })
        ));
        assert_eq!(
            store.read(BundleId(3), serial(13)).unwrap().psk.expose()[31],
            3
        );
        let text = std::fs::read(folder.path().join("slots/3.slots")).unwrap();
        assert!(
            !text
                .windows(32)
                .any(|window| window == [2; 32] && window[0] == 0)
        );
        for outside in [10, 14] {
            assert!(matches!(
                store.read(BundleId(3), serial(outside)),
                Err(SlotsError::Outside { .. })
            ));
        }
    }

    #[test]
    fn a_replaced_bundle_is_erased_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 2);
        store.destroy(BundleId(3)).unwrap();
        store.destroy(BundleId(3)).unwrap();
        assert!(!folder.path().join("slots/3.slots").exists());
        assert!(
            store
                .is_erased(BundleId(3), Serial::new(11).unwrap())
                .unwrap()
        );
    }

    #[test]
    fn a_cut_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 2);
        let path = folder.path().join("slots/3.slots");
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 1]).unwrap();
        assert!(matches!(
            store.read(BundleId(3), Serial::new(11).unwrap()),
            Err(SlotsError::Malformed { .. })
        ));
    }
}
