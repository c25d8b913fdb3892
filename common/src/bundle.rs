//! The bundle that a courier carries from receiver to sender, and the statement that administrators
//! sign for it.

mod statement;

use zeroize::Zeroizing;

pub use statement::{Statement, StatementError};

use crate::ids::{BundleId, ChannelId, LinkKeyId, Serial};
use crate::limits::{SLOT_PUBLIC_BYTES, SLOTS_MAX};
use crate::secret::{Secret, Secret32};

/// The first eight bytes of a bundle.
const MAGIC: [u8; 8] = *b"VALBDL\x00\x01";

/// Bytes in front of the slots.
const HEADER_BYTES: usize = 76;

/// Bytes of a slot in a bundle: PSK and public key.
pub const SLOT_RECORD_BYTES: usize = 32 + SLOT_PUBLIC_BYTES;

/// An X-Wing public key.
pub type SlotKey = [u8; SLOT_PUBLIC_BYTES];

/// The sender's half of a slot.
pub struct SlotPublic {
    /// Shared by both sides, and erased by the sender once it has sealed: it keeps a recorded
    /// container closed even if the KEM should fall.
    pub psk: Secret32,
    /// The receiver's one-time public key.
    pub public: Box<SlotKey>,
}

/// All that a sender needs to seal `slots.len()` cables.
///
/// # Shape
/// ```text
///  0  8  magic "VALBDL" 00 01        36  4  count
///  8 16  channel id                  40  1  link key id
/// 24  4  bundle id                   41  3  zero
/// 28  8  first serial                44 32  link key
/// 76  1248 · count  per slot: PSK (32), X-Wing public key (1216)
/// ```
pub struct Bundle {
    /// The channel that the bundle is for.
    pub channel: ChannelId,
    /// Rises with every bundle of a channel.
    pub id: BundleId,
    /// The serial of the first slot.
    pub first: Serial,
    /// Names the link key in every datagram.
    pub link_key_id: LinkKeyId,
    /// The new link key.
    pub link_key: Secret32,
    /// One slot a serial, without holes.
    pub slots: Vec<SlotPublic>,
}

/// Why bytes are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle of this version.
    #[error("not a bundle of this version; take channel.bundle from the courier's medium")]
    Magic,
    /// The length does not fit the number of slots.
    #[error("bundle is {bytes} bytes long, but {count} slots need {needed_bytes}; copy it again")]
    Length {
        /// Its length.
        bytes: usize,
        /// The number of slots that it tells.
        count: u32,
        /// The length for so many slots.
        needed_bytes: usize,
    },
    /// Shorter than its own header.
    #[error("bundle ends after {bytes} bytes, inside its header; copy it again")]
    Short {
        /// Its length.
        bytes: usize,
    },
    /// A field that must be zero is not.
    #[error("bundle has a nonzero reserved field")]
    Reserved,
    /// No slot, or too many.
    #[error("bundle tells {count} slots; 1 to {SLOTS_MAX} are allowed")]
    Count {
        /// The number of slots that it tells.
        count: u32,
    },
    /// Serials that do not exist.
    #[error("bundle begins at serial {first} with {count} slots; serials run from 1 to 2^63 - 1")]
    Serials {
        /// The first serial that it tells.
        first: u64,
        /// The number of slots that it tells.
        count: u32,
    },
}

/// Returns the length of a bundle of so many slots.
pub fn bundle_bytes(count: u32) -> usize {
    // SLOTS_MAX slots are 1.25 GB: within usize on the 64-bit hosts that this runs on.
    usize::try_from(count)
        .unwrap_or(usize::MAX)
        .saturating_mul(SLOT_RECORD_BYTES)
        + HEADER_BYTES
}

impl Bundle {
    /// Returns the number of slots.
    ///
    /// # Bounds
    /// 1 to [`SLOTS_MAX`].
    pub fn count(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Returns the serial after the last slot's.
    ///
    /// # Errors
    /// [`BundleError::Count`] or [`BundleError::Serials`] if the fields are beyond their bounds.
    pub fn end(&self) -> Result<Serial, BundleError> {
        end(self.first.get(), self.count())
    }

    /// Writes the file; it erases itself.
    ///
    /// # Errors
    /// [`BundleError::Count`] or [`BundleError::Serials`] if the fields are beyond their bounds.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        self.end()?;
        let count = self.count();
        // The capacity is final: a growing vector would leave copies of its beginning on the heap.
        let mut bytes = Zeroizing::new(Vec::with_capacity(bundle_bytes(count)));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(self.channel.as_bytes());
        bytes.extend_from_slice(&self.id.0.to_be_bytes());
        bytes.extend_from_slice(&self.first.get().to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&[self.link_key_id.0, 0, 0, 0]);
        bytes.extend_from_slice(self.link_key.expose());
        for slot in &self.slots {
            bytes.extend_from_slice(slot.psk.expose());
            bytes.extend_from_slice(&*slot.public);
        }
        Ok(bytes)
    }

    /// Reads the file. Whether the public keys are keys is for the seal to say (`check_public`).
    ///
    /// # Errors
    /// [`BundleError`] for anything that a receiver would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let short = BundleError::Short { bytes: bytes.len() };
        let (header, records) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
        if header[..8] != MAGIC {
            return Err(BundleError::Magic);
        }
        if header[41..44] != [0; 3] {
            return Err(BundleError::Reserved);
        }
        let first = u64::from_be_bytes(field(header, 28));
        let count = u32::from_be_bytes(field(header, 36));
        end(first, count)?;
        let needed_bytes = bundle_bytes(count);
        if bytes.len() != needed_bytes {
            return Err(BundleError::Length {
                bytes: bytes.len(),
                count,
                needed_bytes,
            });
        }
        let slots = records
            .chunks_exact(SLOT_RECORD_BYTES)
            .filter_map(|record| {
                let (psk, public) = record.split_at(32);
                let mut key = Box::new([0; SLOT_PUBLIC_BYTES]);
                key.copy_from_slice(public);
                Some(SlotPublic {
                    psk: Secret32::from_slice(psk)?,
                    public: key,
                })
            });
        Ok(Self {
            channel: ChannelId::from_bytes(field(header, 8)),
            id: BundleId(u32::from_be_bytes(field(header, 24))),
            first: Serial::new(first).ok_or(BundleError::Serials { first, count })?,
            link_key_id: LinkKeyId(header[40]),
            link_key: Secret::from_slice(&header[44..]).ok_or(short)?,
            slots: slots.collect(),
        })
    }
}

/// Returns the serial after `count` serials from `first`. Fails if `count` is out of range or the serials run out.
fn end(first: u64, count: u32) -> Result<Serial, BundleError> {
    if !(1..=SLOTS_MAX).contains(&count) {
        return Err(BundleError::Count { count });
    }
    Serial::new(first)
        .and_then(|serial| serial.plus(u64::from(count)))
        .ok_or(BundleError::Serials { first, count })
}

/// A field of `N` bytes at an offset that lies within by construction.
fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;

    /// Returns the bundle of the shared vectors, and its statement.
    pub fn vector() -> (Vec<u8>, String) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/bundle.json");
        let vector: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let text = |field: &str| vector[field].as_str().unwrap().to_owned();
        (hex::decode(text("bundle")).unwrap(), text("statement"))
    }

    #[test]
    fn the_bundle_of_another_implementation_is_read_and_written_alike() {
        let (file, statement) = vector();
        let bundle = Bundle::decode(&file).unwrap();
        assert_eq!((bundle.count(), bundle.slots.len()), (4, 4));
        assert_eq!(bundle.end().unwrap().get(), bundle.first.get() + 4);
        assert_eq!(*bundle.encode().unwrap(), file);
        let decoded = Statement::decode(statement.as_bytes()).unwrap();
        assert_eq!(decoded.matches(&file), Ok(()));
        assert_eq!(decoded.encode(), statement);
        assert_eq!(Statement::of(&file, decoded.replaces).unwrap(), decoded);
    }

    #[test]
    fn damaged_bundles_are_refused_with_their_cause() {
        let (good, _) = vector();
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            Bundle::decode(&bytes).err().unwrap()
        };
        assert_eq!(refused(&|bytes| bytes[7] = 2), BundleError::Magic);
        assert_eq!(refused(&|bytes| bytes[42] = 1), BundleError::Reserved);
        assert_eq!(
            refused(&|bytes| bytes.truncate(75)),
            BundleError::Short { bytes: 75 }
        );
        assert!(matches!(
            refused(&|bytes| bytes.push(0)),
            BundleError::Length { count: 4, .. }
        ));
        assert!(matches!(
            refused(&|bytes| bytes[39] = 5),
            BundleError::Length { count: 5, .. }
        ));
        assert_eq!(
            refused(&|bytes| bytes[39] = 0),
            BundleError::Count { count: 0 }
        );
        assert_eq!(
            refused(&|bytes| bytes[36] = 0xff),
            BundleError::Count { count: 0xff00_0004 }
        );
        let zero = BundleError::Serials { first: 0, count: 4 };
        assert_eq!(refused(&|bytes| bytes[28..36].fill(0)), zero);
        let last = BundleError::Serials {
            first: (1 << 63) - 1,
            count: 4,
        };
        let set =
            |bytes: &mut Vec<u8>| bytes[28..36].copy_from_slice(&(u64::MAX >> 1).to_be_bytes());
        assert_eq!(refused(&set), last);
    }

    proptest! {
        #[test]
        fn any_bytes_return(
            mut noise in proptest::collection::vec(any::<u8>(), 0..4000),
            like_ours: bool,
        ) {
            if like_ours && noise.len() > HEADER_BYTES {
                noise.resize(HEADER_BYTES + SLOT_RECORD_BYTES, 1);
                noise[..8].copy_from_slice(&MAGIC);
                noise[36..44].copy_from_slice(&[0, 0, 0, 1, 9, 0, 0, 0]);
            }
            if let Ok(bundle) = Bundle::decode(&noise) {
                prop_assert_eq!(&*bundle.encode().unwrap(), &noise);
            }
        }
    }
}
