#![allow(clippy::unwrap_used, clippy::as_conversions)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::fec::Codec;
use crate::ids::{ContainerId, Serial};
use crate::testing::{bytes, vector, vectors};
use crate::wire::{Beacon, BeaconEntry, EntryState, SymbolHeader};

const SESSION: SessionId = SessionId::from_bytes([8; 8]);

fn key() -> EpochKey {
    key_of(Epoch::FIRST)
}

fn key_of(epoch: Epoch) -> EpochKey {
    EpochKey::derive(&LinkKey::new([7; 32]), SESSION, epoch)
}

fn clear(counter: u64) -> ClearHeader {
    ClearHeader {
        key_id: LinkKeyId(1),
        counter,
        session: SESSION,
    }
}

fn sealed(inner: &InnerHeader) -> Vec<u8> {
    let mut buffer = vec![0; 1_472];
    seal(&key(), &clear(9), inner, &mut buffer);
    buffer
}

fn number(vector: &Value, name: &str) -> u64 {
    vector[name].as_u64().expect(name)
}

fn beacon_of(vector: &Value) -> Beacon {
    let entries = vector["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| BeaconEntry {
            serial: Serial::new(number(entry, "serial")).unwrap(),
            container: entry["container_id"].as_str().unwrap().parse().unwrap(),
            container_bytes: number(entry, "length"),
            state: match number(entry, "state") {
                0 => EntryState::Queued,
                1 => EntryState::OnLink,
                2 => EntryState::PassesDone,
                _ => EntryState::NotSent,
            },
        });
    Beacon {
        highest: number(vector, "highest"),
        settled: number(vector, "settled"),
        lowest_retained: number(vector, "lowest"),
        sender_time_us: number(vector, "sender_time_us"),
        trust_version: number(vector, "trust_version") as u32,
        entries: entries.collect(),
    }
}

#[test]
fn datagrams_are_those_of_the_vectors() {
    for name in vectors("datagram-")
        .iter()
        .filter(|name| !name.contains("-bad-"))
    {
        let vector = vector(name);
        let datagram = bytes(&vector["datagram"]);
        let size = DatagramBytes::new(datagram.len() as u16).unwrap();
        let link_key = LinkKey::from_slice(&bytes(&vector["link_key"])).unwrap();
        let expected = ClearHeader {
            key_id: LinkKeyId(number(&vector, "key_id") as u8),
            counter: number(&vector, "counter"),
            session: vector["session"].as_str().unwrap().parse().unwrap(),
        };
        let clear = peek(&datagram, size).unwrap();
        assert_eq!(clear, expected, "{name}");
        let key = EpochKey::derive(&link_key, clear.session, clear.epoch());
        let mut opened = datagram.clone();
        let (again, inner) = open(&key, &mut opened).unwrap();
        assert_eq!(again, clear);
        let symbol_bytes = usize::from(size.symbol_bytes());
        let payload = &opened[PAYLOAD_OFFSET..][..symbol_bytes];
        let mut resealed = vec![0xee; datagram.len()];
        let into = &mut resealed[PAYLOAD_OFFSET..][..symbol_bytes];
        match inner {
            InnerHeader::Cover => into.fill(0),
            InnerHeader::Beacon => {
                let beacon = beacon_of(&vector);
                assert_eq!(Beacon::decode(payload).as_ref(), Ok(&beacon));
                beacon.encode(into);
            }
            InnerHeader::Symbol(symbol) => {
                assert_eq!(inner.encode()[..], bytes(&vector["inner_header"]));
                assert_eq!(payload, bytes(&vector["payload"]));
                symbol.check(size.symbol_bytes()).unwrap();
                into.copy_from_slice(payload);
            }
        }
        seal(&key, &clear, &inner, &mut resealed);
        assert_eq!(resealed, datagram, "{name}");
    }
}

#[test]
fn what_the_vectors_call_bad_is_dropped_for_its_reason_and_not_read() {
    for name in vectors("datagram-") {
        let Some((_, fault)) = name.split_once("-bad-") else {
            continue;
        };
        let expected = match fault {
            "aad" | "clear-header" | "inner-header" | "payload" | "tag" => DropReason::Tag,
            "geometry" => DropReason::Geometry,
            "beacon-lowest" | "beacon-settled" => DropReason::BeaconFields,
            _ => panic!("{name}: an unknown fault"),
        };
        let vector = vector(&name);
        let datagram = bytes(&vector["datagram"]);
        let size = DatagramBytes::new(datagram.len() as u16).unwrap();
        let link_key = LinkKey::from_slice(&bytes(&vector["link_key"])).unwrap();
        let clear = peek(&datagram, size).unwrap();
        let key = EpochKey::derive(&link_key, clear.session, clear.epoch());
        let mut kept = datagram.clone();
        let opened = open(&key, &mut kept);
        let text = &kept[limits::CLEAR_BYTES..kept.len() - limits::TAG_BYTES];
        let reason = match opened {
            Err(reason) => {
                assert_eq!(
                    kept[..limits::CLEAR_BYTES],
                    datagram[..limits::CLEAR_BYTES],
                    "{name}"
                );
                let is_erased = text.iter().all(|byte| *byte == 0);
                assert!(is_erased, "{name}: nothing to read");
                reason
            }
            Ok((_, InnerHeader::Symbol(symbol))) => symbol.check(size.symbol_bytes()).unwrap_err(),
            Ok((_, InnerHeader::Beacon)) => {
                Beacon::decode(&text[limits::INNER_BYTES..]).unwrap_err()
            }
            Ok((_, InnerHeader::Cover)) => panic!("{name}: cover"),
        };
        assert_eq!(reason, expected, "{name}");
    }
}

#[test]
fn another_size_or_version_is_dropped_before_any_key() {
    let size = DatagramBytes::new(1_472).unwrap();
    let mut datagram = sealed(&InnerHeader::Beacon);
    for length in [0, 1, 15, 16, 71, 1_471] {
        assert_eq!(peek(&datagram[..length], size), Err(DropReason::Length));
    }
    for version in [0, 1, 3] {
        datagram[0] = version;
        assert_eq!(peek(&datagram, size), Err(DropReason::Version));
        assert_eq!(open(&key(), &mut datagram), Err(DropReason::Version));
    }
}

#[test]
fn another_session_epoch_or_key_does_not_open() {
    let datagram = sealed(&InnerHeader::Beacon);
    let link_key = LinkKey::new([7; 32]);
    let session = EpochKey::derive(&link_key, SessionId::from_bytes([9; 8]), Epoch::FIRST);
    assert_eq!(open(&session, &mut datagram.clone()), Err(DropReason::Tag));
    let epoch = key_of(Epoch(1));
    assert_eq!(open(&epoch, &mut datagram.clone()), Err(DropReason::Tag));
    let other = EpochKey::derive(&LinkKey::new([8; 32]), SESSION, Epoch::FIRST);
    assert_eq!(open(&other, &mut datagram.clone()), Err(DropReason::Tag));
    assert_eq!(
        open(&key(), &mut datagram.clone()),
        Ok((clear(9), InnerHeader::Beacon))
    );
}

#[test]
fn an_epoch_is_the_upper_part_of_the_counter_and_has_a_key_of_its_own() {
    for (counter, epoch) in [
        (0, 0),
        ((1 << 26) - 1, 0),
        (1 << 26, 1),
        ((7 << 26) + 5, 7),
        (limits::COUNTER_MAX, (1 << 22) - 1),
    ] {
        assert_eq!(Epoch::of(counter), Epoch(epoch), "{counter}");
        let mut datagram = vec![0; 136];
        let header = clear(counter);
        seal(
            &key_of(Epoch(epoch)),
            &header,
            &InnerHeader::Cover,
            &mut datagram,
        );
        let other = key_of(Epoch(epoch ^ 1));
        assert!(!other.is_for(&header));
        // The counter is the same, so the nonce is: the keys differ.
        let other_cipher = other.cipher.open(header.nonce(), &mut datagram.clone());
        assert_eq!(other_cipher, Err(aead::Forged));
        assert_eq!(
            open(&key_of(Epoch(epoch)), &mut datagram),
            Ok((header, InnerHeader::Cover))
        );
    }
}

#[test]
#[should_panic(expected = "another session or epoch")]
fn no_key_seals_for_another_epoch() {
    let mut datagram = vec![0; 136];
    seal(&key(), &clear(1 << 26), &InnerHeader::Cover, &mut datagram);
}

#[test]
fn cover_that_carries_something_is_dropped() {
    let mut buffer = vec![0; 1_472];
    buffer[1_455] = 1;
    seal(&key(), &clear(9), &InnerHeader::Cover, &mut buffer);
    assert_eq!(open(&key(), &mut buffer), Err(DropReason::NotZero));
}

#[test]
fn only_even_sizes_within_bounds_are_sizes() {
    for bytes in [0, 72, 134, 137, 1_473, 9_154, u16::MAX] {
        assert_eq!(DatagramBytes::new(bytes), None, "{bytes}");
    }
    for bytes in [136, 584, 1_472, 8_972, 9_152] {
        assert_eq!(
            DatagramBytes::new(bytes).unwrap().symbol_bytes(),
            bytes - 72
        );
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_no_flipped_bit_does(
        half in 68_usize..800, counter in 0_u64..1 << 48, fill: u8, at: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let inner = InnerHeader::Symbol(SymbolHeader {
            codec: Codec::Rs16,
            pass: 1,
            serial: Serial::FIRST,
            container: ContainerId::from_bytes([3; 12]),
            container_bytes: 1_281,
            block: 0,
            index: 1,
            k_max: 3,
            m: 4,
        });
        let mut datagram = vec![fill; half * 2];
        let key = key_of(Epoch::of(counter));
        seal(&key, &clear(counter), &inner, &mut datagram);
        let mut opened = datagram.clone();
        prop_assert_eq!(open(&key, &mut opened), Ok((clear(counter), inner)));
        prop_assert!(opened[PAYLOAD_OFFSET..half * 2 - 16].iter().all(|byte| *byte == fill));
        let at = at.index(datagram.len());
        datagram[at] ^= 1 << bit;
        prop_assert!(open(&key, &mut datagram).is_err());
    }

    #[test]
    fn any_bytes_are_dropped(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(first) = bytes.first_mut() {
            *first %= 3;
        }
        // The key's own session and epoch, so that the tag is what decides.
        if let Some(header) = bytes.get_mut(2..16) {
            header[..3].fill(0);
            header[6..].fill(8);
        }
        prop_assert!(open(&key(), &mut bytes).is_err());
    }
}
