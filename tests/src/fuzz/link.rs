//! Datagrams, serial frames and beacons: input that anybody can put on the line.

use valise_common::fec::Geometry;
use valise_common::ids::{BundleId, LinkKeyId};
use valise_common::limits;
use valise_common::wire::{
    Beacon, CLEAR_BYTES, DatagramBytes, DropReason, FrameDecoder, INNER_BYTES, InnerHeader,
    LineFigures, LinkKey, PAYLOAD_OFFSET, SymbolHeader, frame_bytes_max, frame_encode,
};
use valise_receiver::steps::deframe::{Deframer, Frame, HeldKey, Symbol, payload};

use super::Seed;
use super::scene::{BUNDLE, SCENE, bytes, json_vectors};
use crate::attack::Forger;

/// The link key's id in the vectors.
const KEY_ID: LinkKeyId = LinkKeyId(7);

/// The highest serial that has a slot.
const ISSUED_LAST: u64 = 1 << 60;

/// Reads a datagram twice: as it came, and as one that a thief of the link key sealed.
pub(super) fn datagram(data: &[u8]) {
    let is_authentic = arrives(data);
    let Some((clear, text)) = data.split_first_chunk::<CLEAR_BYTES>() else {
        return;
    };
    let Some((inner, behind)) = text.split_first_chunk::<INNER_BYTES>() else {
        return;
    };
    let Some(size) = datagram_bytes(data) else {
        return;
    };
    let sealed = seal(clear, inner, behind, size.to_usize());
    assert!(arrives(&sealed), "what the link key sealed is authentic");
    if is_authentic {
        return;
    }
    // With one bit changed: the lowest bit of a byte that the input chooses.
    let place = data.iter().fold(0, |sum: usize, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    let mut flipped = sealed;
    let place = place % flipped.len();
    flipped[place] ^= 1;
    assert!(!arrives(&flipped), "a changed datagram is not authentic");
}

fn datagram_bytes(data: &[u8]) -> Option<DatagramBytes> {
    u16::try_from(data.len()).ok().and_then(DatagramBytes::new)
}

/// Seals a datagram under the link key, written from the formats page.
fn seal(clear: &[u8; CLEAR_BYTES], inner: &[u8; INNER_BYTES], text: &[u8], size: usize) -> Vec<u8> {
    let (counter, session) = (&clear[2..8], &clear[8..]);
    let counter = counter
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let session = session.try_into().expect("8 bytes");
    let mut forger = Forger::new(&SCENE.link_key, KEY_ID, session);
    forger.count_from(counter);
    forger.datagram(inner, text, size)
}

/// Lets a datagram arrive, and returns whether its tag verified.
fn arrives(datagram: &[u8]) -> bool {
    let Some(size) = datagram_bytes(datagram) else {
        let size = DatagramBytes::new(limits::DATAGRAM_BYTES_UDP).expect("a size");
        let dropped = deframer(size).handle_datagram(&mut datagram.to_vec());
        assert_eq!(dropped, Err(DropReason::Length));
        return false;
    };
    let mut deframer = deframer(size);
    let mut opened = datagram.to_vec();
    let result = deframer.handle_datagram(&mut opened);
    let is_first = deframer.poll_newly_verified() == Some(BUNDLE);
    if let Err(
        reason @ (DropReason::Length
        | DropReason::Version
        | DropReason::KeyUnknown
        | DropReason::Tag),
    ) = result
    {
        assert!(!is_first, "nothing has verified");
        let text = &opened[CLEAR_BYTES..opened.len() - limits::TAG_BYTES];
        let is_erased = text.iter().all(|byte| *byte == 0);
        assert!(reason != DropReason::Tag || is_erased, "nothing to read");
        return false;
    }
    // The tag verified: the key seals the opened text to this very datagram.
    let (clear, text) = opened.split_first_chunk().expect("a clear header");
    let (inner, behind) = text.split_first_chunk().expect("an inner header");
    assert_eq!(seal(clear, inner, behind, opened.len()), datagram);
    let header = InnerHeader::decode(inner);
    if let Ok(header) = header {
        assert_eq!(header.encode(), *inner, "one header has one form");
    }
    match result {
        Ok(Frame::Cover) => {
            assert_eq!(header, Ok(InnerHeader::Cover));
            assert!(payload(&opened).iter().all(|byte| *byte == 0));
        }
        Ok(Frame::Beacon(bundle)) => {
            assert_eq!((header, bundle), (Ok(InnerHeader::Beacon), BUNDLE));
            beacon(payload(&opened));
        }
        Ok(Frame::Symbol(symbol)) => {
            let Ok(InnerHeader::Symbol(header)) = header else {
                panic!("a symbol without a header");
            };
            check_symbol(&symbol, &header, size);
        }
        Err(reason) => match header {
            Err(expected) => assert_eq!(reason, expected),
            Ok(InnerHeader::Cover) => assert_eq!(reason, DropReason::NotZero),
            Ok(InnerHeader::Symbol(_)) => assert!(is_first, "{reason}"),
            Ok(InnerHeader::Beacon) => panic!("a beacon is dropped later, by its payload"),
        },
    }
    // The kept key opens it again.
    let mut again = datagram.to_vec();
    assert_eq!(deframer.handle_datagram(&mut again), result);
    assert_eq!(again, opened);
    true
}

fn deframer(size: DatagramBytes) -> Deframer {
    let mut deframer = Deframer::new(size);
    let held = |bundle: u32, key_id, key: [u8; 32]| HeldKey {
        bundle: BundleId(bundle),
        key_id,
        key: LinkKey::new(key),
    };
    let other = held(2, LinkKeyId(6), [6; 32]);
    let keys = vec![held(BUNDLE.0, KEY_ID, SCENE.link_key), other];
    deframer.handle_keys(keys, ISSUED_LAST);
    deframer
}

fn check_symbol(symbol: &Symbol, header: &SymbolHeader, size: DatagramBytes) {
    let (set, block) = (&symbol.set, &symbol.block);
    let again = SymbolHeader::new(set, header.pass, block, symbol.index);
    assert_eq!(again, *header);
    assert!(set.serial.get() <= ISSUED_LAST);
    assert!(u32::from(symbol.index) < block.symbol_count() && block.k >= 1);
    let geometry = &set.geometry;
    let same = Geometry::new(
        geometry.container_bytes(),
        geometry.codec(),
        geometry.k_max(),
        geometry.m(),
        size.symbol_bytes(),
    );
    assert_eq!(same.as_ref(), Ok(geometry));
    let block_bytes = geometry.source_bytes(block) + geometry.repair_bytes(block);
    assert!(u64::try_from(block_bytes).is_ok_and(|bytes| bytes <= limits::BLOCK_BYTES_MAX));
    let range = geometry.block_range(block);
    assert!(range.start < range.end && range.end <= geometry.container_bytes());
}

/// The vectors as they are sent, and opened, because [`datagram`] seals those again.
pub(super) fn datagram_seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, vector) in json_vectors("datagram-") {
        let datagram = bytes(&vector["datagram"]);
        let mut opened = datagram.clone();
        let size = datagram_bytes(&datagram).expect("a size");
        if deframer(size).handle_datagram(&mut opened) != Err(DropReason::Tag) {
            seeds.push((format!("{name}-opened"), opened));
        }
        seeds.push((name, datagram));
    }
    seeds
}

/// Reads bytes of a serial line, whole and cut, and then a frame after them.
pub(super) fn frame(data: &[u8]) {
    for bytes in [limits::DATAGRAM_BYTES_MIN, limits::DATAGRAM_BYTES_SERIAL] {
        let size = DatagramBytes::new(bytes).expect("a size");
        let (found, figures) = take_off(size, [data]);
        let cut = 1 + data.len() / 7;
        assert_eq!(
            (&found, figures),
            (&take_off(size, data.chunks(cut)).0, figures)
        );
        check_figures(&found, &figures, data);
        for datagram in found.iter().flatten() {
            assert_eq!(datagram.len(), size.to_usize());
            assert!(data.windows(2).any(|pair| pair[0] != 0 && pair[1] == 0));
            let mut line = Vec::new();
            frame_encode(datagram, &mut line);
            assert!(line.len() <= frame_bytes_max(size));
            assert_eq!(take_off(size, [&line[..]]).0, [Ok(datagram.clone())]);
        }
        // Whatever was on the line before, the next frame arrives.
        let mut datagram: Vec<u8> = data.iter().rev().take(size.to_usize()).copied().collect();
        datagram.resize(size.to_usize(), 0);
        let mut line = data.to_vec();
        frame_encode(&datagram, &mut line);
        let (mut found_now, _) = take_off(size, [&line[..]]);
        assert_eq!(found_now.pop(), Some(Ok(datagram)));
        found_now.truncate(found.len());
        assert_eq!(found_now, found);
    }
}

type Found = Vec<Result<Vec<u8>, DropReason>>;

fn take_off<'a>(
    size: DatagramBytes,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Found, LineFigures) {
    let mut decoder = FrameDecoder::new(size);
    let mut found = Vec::new();
    for piece in pieces {
        decoder.feed(piece, |frame| {
            found.push(frame.map(|datagram| datagram.to_vec()))
        });
    }
    (found, decoder.figures())
}

fn check_figures(found: &Found, figures: &LineFigures, line: &[u8]) {
    let count = |number: usize| u64::try_from(number).expect("a count");
    assert_eq!(figures.bytes, count(line.len()));
    assert_eq!(figures.frames, count(found.iter().flatten().count()));
    let nonzero = line.iter().filter(|byte| **byte != 0).count();
    let whole: usize = found.iter().flatten().map(Vec::len).sum();
    assert!(figures.discarded_bytes + count(whole) <= count(nonzero));
    assert!(figures.burst_bytes_max <= figures.discarded_bytes);
}

/// The vectors' frames: alone, all on one line, and torn; and frames of the smallest datagram.
pub(super) fn frame_seeds() -> Vec<Seed> {
    let vectors = json_vectors("serial-frame");
    let cases = vectors[0].1["cases"].as_array().expect("cases");
    let frames: Vec<Vec<u8>> = cases.iter().map(|case| bytes(&case["frame"])).collect();
    let mut seeds: Vec<Seed> = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        let torn = [&frame[..frame.len() / 2], frame].concat();
        seeds.push((format!("torn-{number}"), torn));
        seeds.push((format!("frame-{number}"), frame.clone()));
        let mut small = Vec::new();
        frame_encode(
            &frame[..usize::from(limits::DATAGRAM_BYTES_MIN)],
            &mut small,
        );
        seeds.push((format!("small-{number}"), small));
    }
    seeds.push(("line".to_owned(), frames.concat()));
    seeds
}

/// Reads a beacon's payload.
pub(super) fn beacon(payload: &[u8]) {
    let Ok(beacon) = Beacon::decode(payload) else {
        return;
    };
    let mut again = vec![0xee; payload.len()];
    beacon.encode(&mut again);
    assert_eq!(again, payload, "one beacon has one form");
    assert!(beacon.entries.len() <= limits::BEACON_ENTRIES_MAX);
    assert!(beacon.highest <= limits::SERIAL_MAX && beacon.settled <= beacon.highest);
    assert!(beacon.lowest_retained <= beacon.highest + 1);
    for entry in &beacon.entries {
        assert!(entry.serial.get() <= beacon.highest);
    }
    assert!(beacon.supersedes(&beacon));
}

/// The payloads of the vectors' beacons.
pub(super) fn beacon_seeds() -> Vec<Seed> {
    let opened = datagram_seeds().into_iter();
    let beacons = opened.filter(|(name, _)| name.contains("beacon") && name.ends_with("-opened"));
    beacons
        .map(|(name, opened)| {
            let end = opened.len() - limits::TAG_BYTES;
            (name, opened[PAYLOAD_OFFSET..end].to_vec())
        })
        .collect()
}
