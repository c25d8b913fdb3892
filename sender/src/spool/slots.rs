//! The slots that this host holds. The record of a serial is its PSK (32) and its X-Wing public key (1216). A bundle's file
//! that is damaged or absent is held as lost: nothing is sealed from it, and its slots count as erased.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use valise_common::bundle::{Bundle, SLOT_RECORD_BYTES, SlotPublic};
use valise_common::host::folders::SenderState;
use valise_common::host::slots::{SlotTable, SlotsError, SlotsHeader};
use valise_common::ids::{BundleId, Serial};
use valise_common::limits;
use valise_common::os::durable::{StagedFile, erase};
use valise_common::secret::Secret32;
use zeroize::Zeroize as _;

/// Bytes of the PSK, with which a record begins.
const PSK_BYTES: usize = 32;

/// Slots that are written at once.
const AT_ONCE: usize = 64;

/// Writes the slots of a bundle, durable but not yet in their place.
///
/// # Errors
/// Any error of the system.
pub(crate) fn stage(tmp: &Path, bundle: &Bundle) -> io::Result<StagedFile> {
    let mut staged = StagedFile::create(tmp)?;
    staged.write_all(&header_of(bundle).encode(None))?;
    let mut buffer = Vec::with_capacity(SLOT_RECORD_BYTES * AT_ONCE);
    for slots in bundle.slots.chunks(AT_ONCE) {
        buffer.clear();
        for slot in slots {
            buffer.extend_from_slice(slot.psk.expose());
            buffer.extend_from_slice(&slot.public[..]);
        }
        staged.write_all(&buffer)?;
    }
    buffer.zeroize();
    Ok(staged)
}

/// Returns the header of a bundle's slot file.
pub(crate) fn header_of(bundle: &Bundle) -> SlotsHeader {
    SlotsHeader {
        channel: bundle.channel,
        bundle: bundle.id,
        first: bundle.first,
        count: bundle.count(),
    }
}

/// The slot files of the bundles in force.
#[derive(Debug)]
pub struct SlotStore {
    state: SenderState,
    /// `None` if the file is damaged or absent. Not here if the bundle was destroyed.
    tables: BTreeMap<BundleId, Option<SlotTable<SLOT_RECORD_BYTES>>>,
}

impl SlotStore {
    /// Returns a store over the host's `slots/` that holds no bundle yet.
    pub fn new(state: &SenderState) -> Self {
        Self {
            state: state.clone(),
            tables: BTreeMap::new(),
        }
    }

    /// Opens the file of a bundle in force. One that is damaged or absent is held as lost.
    ///
    /// # Errors
    /// [`SlotsError`], if others may reach the file or the disk fails.
    pub fn open(&mut self, header: SlotsHeader) -> Result<(), SlotsError> {
        let path = self.state.slots_of(header.bundle);
        let table = match SlotTable::open(&path, header, None) {
            // No key covers slots on this host: another mark is damage.
            Err(SlotsError::OtherKey { .. }) => None,
            Err(error) if error.is_loss() => None,
            // No serial of a cut file is sealed: which are lost would be found out one by one.
            Ok(table) if !table.is_whole() => None,
            table => Some(table?),
        };
        self.tables.insert(header.bundle, table);
        Ok(())
    }

    /// Returns whether a bundle's file is lost: nothing is sealed from it, and no slot of it can be told from another.
    pub fn is_lost(&self, bundle: BundleId) -> bool {
        matches!(self.tables.get(&bundle), Some(None))
    }

    fn table(&self, bundle: BundleId) -> Option<&SlotTable<SLOT_RECORD_BYTES>> {
        self.tables.get(&bundle)?.as_ref()
    }

    /// Reads the slot of a serial; `None` if it is erased.
    ///
    /// # Errors
    /// [`SlotsError`], if the disk fails.
    pub fn read(&self, bundle: BundleId, serial: Serial) -> Result<Option<SlotPublic>, SlotsError> {
        let record = self.table(bundle).map(|table| table.read(serial));
        let Some(record) = record.transpose()?.flatten() else {
            return Ok(None);
        };
        let (psk, key) = record.expose().split_at(PSK_BYTES);
        let mut public = Box::new([0; limits::SLOT_PUBLIC_BYTES]);
        public.copy_from_slice(key);
        Ok(Secret32::from_slice(psk).map(|psk| SlotPublic { psk, public }))
    }

    /// Returns whether a serial's slot is erased. The slots of a bundle that was destroyed or lost are.
    ///
    /// # Errors
    /// [`SlotsError`], if the disk fails.
    pub fn is_erased(&self, bundle: BundleId, serial: Serial) -> Result<bool, SlotsError> {
        Ok(self.read(bundle, serial)?.is_none())
    }

    /// Erases the slots of serials, with one sync a bundle. The slots of a bundle that was destroyed are erased already, the
    /// slots of a lost one are erased with the bundle.
    ///
    /// # Errors
    /// [`SlotsError`]; the process must end.
    pub fn erase(&self, serials: &[(BundleId, Serial)]) -> Result<(), SlotsError> {
        let mut touched = BTreeMap::new();
        for (bundle, serial) in serials {
            if let Some(table) = self.table(*bundle) {
                table.erase(*serial)?;
                touched.insert(*bundle, table);
            }
        }
        touched.into_values().try_for_each(SlotTable::sync)
    }

    /// Erases every slot of a bundle that a later one replaced, and deletes its file, if it is there.
    ///
    /// # Errors
    /// [`SlotsError::Io`]; the process must end.
    pub fn destroy(&mut self, bundle: BundleId) -> Result<(), SlotsError> {
        // In place first: that erases the slots under every name that the file may have.
        if let Some(Some(table)) = self.tables.remove(&bundle) {
            let SlotsHeader { first, count, .. } = *table.header();
            for serial in (0..u64::from(count)).filter_map(|index| first.plus(index)) {
                table.erase(serial)?;
            }
            table.sync()?;
        }
        let path = self.state.slots_of(bundle);
        match erase(&path) {
            Ok(_) => Ok(()),
            Err(source) => Err(SlotsError::Io {
                doing: "erased",
                path,
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::host::folders::Role;
    use valise_common::host::slots::HEADER_BYTES;
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
        let bundle = bundle(count);
        let staged = stage(&state.tmp(Role::Gate), &bundle).unwrap();
        staged
            .finish()
            .unwrap()
            .publish(&state.slots_of(bundle.id))
            .unwrap();
        let mut store = SlotStore::new(&state);
        store.open(header_of(&bundle)).unwrap();
        store
    }

    fn serial(number: u64) -> Serial {
        Serial::new(number).unwrap()
    }

    #[test]
    fn a_slot_reads_back_until_it_is_erased_and_its_neighbours_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 3);
        let read = |number| store.read(BundleId(3), serial(number)).unwrap();
        let slot = read(12).unwrap();
        assert_eq!((slot.psk.expose()[0], slot.public[1215]), (2, 2));
        store.erase(&[(BundleId(3), serial(12))]).unwrap();
        assert!(store.is_erased(BundleId(3), serial(12)).unwrap());
        assert!(read(12).is_none());
        assert_eq!(read(11).unwrap().public[1215], 1);
        assert_eq!(read(13).unwrap().psk.expose()[31], 3);
        let bytes = std::fs::read(folder.path().join("slots/3.slots")).unwrap();
        assert!(!bytes.windows(32).any(|window| window == [2; 32]));
        assert!(read(10).is_none() && read(14).is_none());
    }

    #[test]
    fn a_replaced_bundle_is_erased_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 2);
        let copy = folder.path().join("snapshot");
        std::fs::hard_link(folder.path().join("slots/3.slots"), &copy).unwrap();
        store.destroy(BundleId(3)).unwrap();
        store.destroy(BundleId(3)).unwrap();
        assert!(!folder.path().join("slots/3.slots").exists());
        let left = std::fs::read(copy).unwrap();
        assert!(left[HEADER_BYTES..].iter().all(|byte| *byte == 0));
        assert!(store.is_erased(BundleId(3), serial(11)).unwrap());
        assert!(!store.is_lost(BundleId(3)));
    }

    #[test]
    fn a_file_that_is_cut_damaged_or_absent_is_lost_and_counts_as_erased() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 2);
        let path = folder.path().join("slots/3.slots");
        let whole = std::fs::read(&path).unwrap();
        let mut other = whole.clone();
        other[30] ^= 1;
        other[35] ^= 1;
        for damaged in [Some(&whole[..whole.len() - 1]), Some(&other[..]), None] {
            match damaged {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            store.open(header_of(&bundle(2))).unwrap();
            assert!(store.is_lost(BundleId(3)));
            assert!(store.is_erased(BundleId(3), serial(11)).unwrap());
        }
    }

    #[test]
    fn a_byte_of_the_header_is_repaired_from_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 2);
        let path = folder.path().join("slots/3.slots");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..HEADER_BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
            store.open(header_of(&bundle(2))).unwrap();
            assert!(!store.is_lost(BundleId(3)), "byte {at}");
            assert_eq!(std::fs::read(&path).unwrap(), whole, "byte {at}");
        }
    }
}
