#![allow(clippy::unwrap_used, clippy::as_conversions)]

use crate::limits;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::limits::SEGMENT_BYTES;
use crate::seal::package::PackageReader;
use crate::seal::tests::{bytes, header, open_all, randomness, seal_all, slot, vector, vectors};
use crate::seal::{container_bytes, padded_of_container};
use crate::secret::Secret32;

fn slot_of(vector: &serde_json::Value) -> SlotSecret {
    let secret = |field| Secret32::from_hex(vector[field].as_str().unwrap()).unwrap();
    SlotSecret::new(secret("seed"), secret("psk"))
}

#[test]
fn the_containers_of_another_implementation_open() {
    for name in ["container-0-ok", "container-1-ok"] {
        let vector = vector(name);
        let container = bytes(&vector, "container");
        let header = Header::decode(&field(&container, 0)).unwrap();
        assert_eq!(header.serial.get(), vector["serial"].as_u64().unwrap());
        assert_eq!(
            u64::from(header.bundle.0),
            vector["bundle"].as_u64().unwrap()
        );
        assert_eq!(
            header.channel.to_string(),
            vector["channel"].as_str().unwrap()
        );
        assert_eq!(header.encode(), container[..HEADER_BYTES]);
        let hash = blake3::hash(&container);
        assert_eq!(
            hex::encode(&hash.as_bytes()[..12]),
            vector["container_id"].as_str().unwrap()
        );
        let package = open_all(&container, &slot_of(&vector)).unwrap();
        let digest = hex::encode(Sha256::digest(&package));
        assert_eq!(digest, vector["package_sha256"].as_str().unwrap());
        let mut reader = PackageReader::new(header.padded_bytes);
        let body = reader.push(&package).unwrap();
        let digest = hex::encode(Sha256::digest(body));
        assert_eq!(digest, vector["body_sha256"].as_str().unwrap());
        let manifest = reader.finish().unwrap().manifest;
        assert_eq!(
            String::from_utf8(manifest).unwrap(),
            vector["manifest"].as_str().unwrap()
        );
    }
}

#[test]
fn every_bad_vector_is_refused() {
    let mut count = 0;
    for entry in std::fs::read_dir(vectors()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name
            .strip_suffix(".json")
            .filter(|name| name.starts_with("container-bad"))
        else {
            continue;
        };
        let vector = vector(name);
        let opened = open_all(&bytes(&vector, "container"), &slot_of(&vector));
        assert!(opened.is_err(), "{name}");
        count += 1;
    }
    assert_eq!(count, 13);
}

#[test]
fn a_sealed_package_opens_again_at_every_segment_boundary() {
    for length in [1, 16, 1024, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let package: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let container = seal_all(&package, &slot(1).public(), randomness(5));
        assert_eq!(container.len() as u64, container_bytes(length));
        assert_eq!(padded_of_container(container.len() as u64), Some(length));
        assert_eq!(open_all(&container, &slot(1)).unwrap(), package);
    }
}

#[test]
fn every_byte_of_a_container_is_protected() {
    let container = seal_all(&[7; 100], &slot(1).public(), randomness(5));
    for at in 0..container.len() {
        let mut altered = container.clone();
        altered[at] ^= 1 << (at % 8);
        assert!(open_all(&altered, &slot(1)).is_err(), "byte {at}");
    }
}

#[test]
fn another_slot_and_another_psk_are_one_error() {
    let container = seal_all(&[7; 100], &slot(1).public(), randomness(5));
    assert_eq!(open_all(&container, &slot(2)), Err(OpenError::Key));
    let other_psk = SlotSecret::new(slot(1).seed, Secret32::new([0; 32]));
    assert_eq!(open_all(&container, &other_psk), Err(OpenError::Key));
}

#[test]
fn segments_cannot_be_swapped_cut_or_repeated() {
    let package = vec![7; 3 * SEGMENT_BYTES];
    let container = seal_all(&package, &slot(1).public(), randomness(5));
    let prefix = field::<{ limits::CONTAINER_PREFIX_BYTES }>(&container, 0);
    let segments: Vec<Vec<u8>> = container[limits::CONTAINER_PREFIX_BYTES..]
        .chunks(SEGMENT_BYTES + TAG_BYTES)
        .map(<[u8]>::to_vec)
        .collect();
    for (order, opened_count) in [
        ([1, 0, 2], 0),
        ([0, 2, 1], 1),
        ([0, 0, 1], 1),
        ([2, 1, 0], 0),
    ] {
        let mut opener = Opener::new(&prefix, &slot(1)).unwrap();
        let mut opened = 0;
        for index in order {
            let mut segment = segments[index].clone();
            match opener.open_segment(&mut segment) {
                Ok(()) => opened += 1,
                Err(_) => assert!(
                    segment.is_empty(),
                    "nothing of an altered segment is visible"
                ),
            }
        }
        assert_eq!(opened, opened_count, "{order:?}");
        assert!(!opener.finished());
    }
}

#[test]
fn an_opener_that_failed_opens_nothing_more() {
    let container = seal_all(&[7; 100_000], &slot(1).public(), randomness(5));
    let prefix = field::<{ limits::CONTAINER_PREFIX_BYTES }>(&container, 0);
    let good = container[limits::CONTAINER_PREFIX_BYTES
        ..limits::CONTAINER_PREFIX_BYTES + SEGMENT_BYTES + TAG_BYTES]
        .to_vec();
    let mut opener = Opener::new(&prefix, &slot(1)).unwrap();
    let mut bad = good.clone();
    bad[0] ^= 1;
    assert_eq!(
        opener.open_segment(&mut bad),
        Err(OpenError::Segment { index: 0 })
    );
    assert_eq!(opener.next_bytes(), 0);
    assert!(opener.open_segment(&mut good.clone()).is_err());
    assert!(!opener.finished());
}

#[test]
fn a_segment_of_another_length_is_refused() {
    let (_, mut sealer) = Sealer::new(&header(100), &slot(1).public(), randomness(1)).unwrap();
    let wrong = SealError::Segment {
        bytes: 99,
        needed_bytes: 100,
    };
    assert_eq!(sealer.seal_segment(&mut vec![0; 99]), Err(wrong));
    sealer.seal_segment(&mut vec![0; 100]).unwrap();
    assert!(sealer.finished());
    let beyond = SealError::Segment {
        bytes: 0,
        needed_bytes: 0,
    };
    assert_eq!(sealer.seal_segment(&mut Vec::new()), Err(beyond));
    for padded_bytes in [0, PACKAGE_BYTES_MAX + 1] {
        let sealed = Sealer::new(&header(padded_bytes), &slot(1).public(), randomness(1));
        assert_eq!(sealed.err(), Some(SealError::Length { padded_bytes }));
    }
}

#[test]
fn two_sealings_of_one_serial_share_nothing_but_the_header() {
    let first = seal_all(&[7; 100], &slot(1).public(), randomness(5));
    let second = seal_all(&[7; 100], &slot(1).public(), randomness(6));
    assert_eq!(first[..HEADER_BYTES], second[..HEADER_BYTES]);
    let same = first[HEADER_BYTES..]
        .iter()
        .zip(&second[HEADER_BYTES..])
        .filter(|(a, b)| a == b);
    assert!(same.count() < 40, "about 1 byte in 256 agrees by chance");
}

#[test]
fn lengths_that_no_package_gives_are_told_apart() {
    assert_eq!(padded_of_container(0), None);
    assert_eq!(padded_of_container(1264), None);
    assert_eq!(padded_of_container(1264 + 16), None);
    assert_eq!(padded_of_container(1264 + 17), Some(1));
    assert_eq!(padded_of_container(1264 + 65_552), Some(65_536));
    // A second segment of a tag alone does not exist.
    assert_eq!(padded_of_container(1264 + 65_552 + 16), None);
    assert_eq!(padded_of_container(1264 + 65_552 + 17), Some(65_537));
    assert_eq!(
        padded_of_container(container_bytes(PACKAGE_BYTES_MAX)),
        Some(PACKAGE_BYTES_MAX)
    );
    assert_eq!(
        padded_of_container(container_bytes(PACKAGE_BYTES_MAX) + 17),
        None
    );
    assert_eq!(padded_of_container(u64::MAX), None);
}

proptest! {
    #[test]
    fn a_length_and_its_container_are_inverse(padded_bytes in 1..=PACKAGE_BYTES_MAX) {
        prop_assert_eq!(padded_of_container(container_bytes(padded_bytes)), Some(padded_bytes));
    }

    #[test]
    fn any_length_returns(bytes: u64) {
        if let Some(padded_bytes) = padded_of_container(bytes) {
            prop_assert_eq!(container_bytes(padded_bytes), bytes);
        }
    }

    #[test]
    fn any_header_returns(mut noise: [u8; HEADER_BYTES], like_ours: bool) {
        if like_ours {
            noise[..16].copy_from_slice(&header(1).encode()[..16]);
            noise[44..48].fill(0);
            noise[56..].fill(0);
            noise[48..50].fill(0);
        }
        if let Ok(header) = Header::decode(&noise) {
            prop_assert_eq!(header.encode(), noise);
        }
    }

    #[test]
    fn any_prefix_returns(noise in proptest::collection::vec(any::<u8>(), limits::CONTAINER_PREFIX_BYTES)) {
        let mut prefix: [u8; limits::CONTAINER_PREFIX_BYTES] = noise.try_into().unwrap();
        prefix[..HEADER_BYTES].copy_from_slice(&header(1).encode());
        prop_assert_eq!(Opener::new(&prefix, &slot(1)).err(), Some(OpenError::Key));
    }
}
