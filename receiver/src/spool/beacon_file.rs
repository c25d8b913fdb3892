//! `inbox/beacon`: the newest beacon that `receive` believes, for `release` to read. The bundle whose link key verified it
//! stands in the same file, so that no crash can part the two.
//!
//! ```text
//! 0 magic "VALBCN" 00 02 (8)  8 bundle (4)  12 the beacon's payload  then BLAKE3 of all before it (32)
//! ```

use std::io::{self, Read};
use std::path::Path;

use valise_common::ids::BundleId;
use valise_common::limits::DATAGRAM_BYTES_MAX;

use crate::pipeline::SignedBeacon;
use crate::spool::regular::open_regular;

const MAGIC: &[u8; 8] = b"VALBCN\x00\x02";

const HASH_BYTES: usize = 32;

/// Returns the file's bytes.
pub(crate) fn encode(beacon: &SignedBeacon) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&beacon.bundle.0.to_be_bytes());
    bytes.extend_from_slice(&beacon.payload);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// Reads the file; `None` when there is none.
///
/// # Errors
/// The system's, with its number; [`io::ErrorKind::InvalidData`] for a file that `receive` did not write.
pub(crate) fn read(path: &Path) -> io::Result<Option<SignedBeacon>> {
    let bytes_max = MAGIC.len() + 4 + usize::from(DATAGRAM_BYTES_MAX) + HASH_BYTES;
    let file = match open_regular(path) {
        Ok((file, _)) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let limit = u64::try_from(bytes_max).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(foreign());
    }
    decode(&bytes).map(Some).ok_or_else(foreign)
}

fn decode(bytes: &[u8]) -> Option<SignedBeacon> {
    let (written, hash) = bytes.split_last_chunk::<HASH_BYTES>()?;
    if blake3::hash(written).as_bytes() != hash {
        return None;
    }
    let (bundle, payload) = written.strip_prefix(MAGIC)?.split_first_chunk()?;
    Some(SignedBeacon {
        bundle: BundleId(u32::from_be_bytes(*bundle)),
        payload: payload.to_vec(),
    })
}

fn foreign() -> io::Error {
    let text =
        "inbox/beacon is not what receive writes; remove it, the next one is written in a second";
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_beacon_and_its_bundle_are_read_back_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beacon");
        assert_eq!(read(&path).unwrap(), None);
        let beacon = SignedBeacon {
            bundle: BundleId(0x0102_0304),
            payload: vec![7; 512],
        };
        fs::write(&path, encode(&beacon)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(beacon));
        for foreign in [&[][..], &[0; 512], b"VALBCN\x00\x01\x00\x00"] {
            fs::write(&path, foreign).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_file_that_encodes_the_same_or_none(bytes: Vec<u8>, keep_magic: bool) {
            let bytes = if keep_magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            if let Some(beacon) = decode(&bytes) {
                prop_assert_eq!(encode(&beacon), bytes);
            }
        }
    }
}
