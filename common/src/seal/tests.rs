//! Helpers of the tests beside the code.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

use crate::limits;
use std::path::PathBuf;

use super::*;
use crate::ids::{BundleId, ChannelId, Serial};
use crate::secret::{Secret, Secret32};

/// The folder of the shared vectors.
pub fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors")
}

/// One vector by its name.
pub fn vector(name: &str) -> serde_json::Value {
    let path = vectors().join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A vector's field of hexadecimal digits.
pub fn bytes(vector: &serde_json::Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().unwrap()).unwrap()
}

/// A slot that depends on nothing but the number.
pub fn slot(number: u8) -> SlotSecret {
    SlotSecret::new(Secret32::new([number; 32]), Secret32::new([!number; 32]))
}

/// Randomness that depends on nothing but the number.
pub fn randomness(number: u8) -> SealRandomness {
    Secret::new([number; 96])
}

/// A header for a package of P bytes.
pub fn header(padded_bytes: u64) -> Header {
    Header {
        channel: ChannelId::from_bytes([0xc4; 16]),
        serial: Serial::new(10).unwrap(),
        bundle: BundleId(3),
        padded_bytes,
    }
}

/// Seals a whole package.
pub fn seal_all(package: &[u8], slot: &SlotPublic, randomness: SealRandomness) -> Vec<u8> {
    let header = header(package.len() as u64);
    let (prefix, mut sealer) = Sealer::new(&header, slot, randomness).unwrap();
    let mut container = prefix.to_vec();
    let mut rest = package;
    let mut segment = Vec::new();
    while !sealer.finished() {
        let (now, behind) = rest.split_at(sealer.next_bytes());
        segment.clear();
        segment.extend_from_slice(now);
        sealer.seal_segment(&mut segment).unwrap();
        container.extend_from_slice(&segment);
        rest = behind;
    }
    container
}

/// Opens a whole container, as `release` does: length first, then every segment.
pub fn open_all(container: &[u8], slot: &SlotSecret) -> Result<Vec<u8>, OpenError> {
    let Some((prefix, mut rest)) =
        container.split_first_chunk::<{ limits::CONTAINER_PREFIX_BYTES }>()
    else {
        return Err(OpenError::Kind);
    };
    let mut opener = Opener::new(prefix, slot)?;
    let padded_bytes = opener.header().padded_bytes;
    if container_bytes(padded_bytes) != container.len() as u64 {
        return Err(OpenError::Length { padded_bytes });
    }
    let (mut package, mut segment) = (Vec::new(), Vec::new());
    while !opener.finished() {
        let (now, behind) = rest.split_at(opener.next_bytes());
        segment.clear();
        segment.extend_from_slice(now);
        opener.open_segment(&mut segment)?;
        package.extend_from_slice(&segment);
        rest = behind;
    }
    assert!(rest.is_empty());
    Ok(package)
}
