//! Containers and the packages in them, opened and verified as the receiver does.

use sha2::{Digest as _, Sha256};
use valise_common::ids::{ContainerHash, Serial};
use valise_common::limits;
use valise_common::manifest::Manifest;
use valise_common::seal::HEADER_BYTES;
use valise_common::seal::{
    Header, Opener, Package, PackageError, PackageHeader, PackageReader, PackageWriter, Sealer,
    SlotSecret, container_bytes, encode_approvals, padded_of_container,
};
use valise_common::secret::Secret;
use valise_receiver::steps::open::{Expected, NotOpened, Opening, Outcome};
use valise_receiver::steps::verify::{Policy, verify};

use super::Seed;
use super::scene::{BODY, BUNDLE, SCENE, bytes, json_vectors, now};

/// Opens a container that arrived. Only those of the vectors were sealed for the slots of this host.
pub(super) fn container(data: &[u8]) {
    if let Some(padded_bytes) = padded_of_container(count(data.len())) {
        assert_eq!(container_bytes(padded_bytes), count(data.len()));
    }
    let Some((prefix, _)) = data.split_first_chunk::<{ limits::CONTAINER_PREFIX_BYTES }>() else {
        return;
    };
    let clear: &[u8; HEADER_BYTES] = prefix.first_chunk().expect("a header");
    let header = match Header::decode(clear) {
        Ok(header) => header,
        Err(error) => {
            let slot = &SCENE.containers[0].slot;
            assert_eq!(Opener::new(prefix, slot).err(), Some(error));
            return;
        }
    };
    assert_eq!(header.encode(), *clear, "one header has one form");
    let known = SCENE.containers.iter();
    let known = known
        .clone()
        .find(|known| known.serial == header.serial.get());
    let known = known.unwrap_or(&SCENE.containers[0]);
    let expected = expected(&header, data);
    let Ok((outcome, body)) = open(expected, data, &known.slot) else {
        return;
    };
    assert!(data == known.bytes, "a container that nobody sealed opens");
    let Outcome::Opened(opened) = outcome else {
        panic!("a container of the vectors is sound");
    };
    assert_eq!(count(body.len()), opened.preamble().manifest().body_bytes());
    let verified = verify(opened, None, &policy(), |_| None);
    assert!(verified.is_err(), "no officer of the list approved it");
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length")
}

fn policy() -> Policy<'static> {
    Policy {
        channel: SCENE.channel,
        list: &SCENE.list,
        now: now(),
    }
}

fn expected(header: &Header, container: &[u8]) -> Expected {
    Expected {
        channel: header.channel,
        serial: header.serial,
        bundle: header.bundle,
        container: ContainerHash::from_bytes(*blake3::hash(container).as_bytes()).id(),
        container_bytes: count(container.len()),
    }
}

/// Opens a container as `release` does; returns its kind, and the bytes of its parts.
fn open(
    expected: Expected,
    container: &[u8],
    slot: &SlotSecret,
) -> Result<(Outcome, Vec<u8>), NotOpened> {
    let (prefix, mut rest) = container.split_first_chunk().ok_or(NotOpened::Length)?;
    let mut opening = Opening::start(expected, prefix, slot)?;
    let mut body = Vec::new();
    while opening.next_bytes() > 0 {
        let next = rest.split_at_checked(opening.next_bytes());
        let (now, behind) = next.ok_or(NotOpened::Length)?;
        let mut segment = now.to_vec();
        for piece in opening.handle_segment(&mut segment)? {
            body.extend_from_slice(piece.bytes);
        }
        rest = behind;
    }
    Ok((opening.finish()?, body))
}

/// The vectors.
pub(super) fn container_seeds() -> Vec<Seed> {
    let vectors = json_vectors("container-").into_iter();
    vectors
        .map(|(name, vector)| (name, bytes(&vector["container"])))
        .collect()
}

/// Reads a package, and checks the result if somebody who has the bundle seals it.
pub(super) fn package(data: &[u8]) {
    let read_whole = read(data, data.len().max(1));
    assert_eq!(
        read_whole,
        read(data, 1 + data.len() / 7),
        "however it is cut"
    );
    if let Ok((package, body)) = &read_whole {
        check_package(package, body, data);
    }
    let Some(Ok(_)) = data.first_chunk().map(PackageHeader::decode) else {
        return;
    };
    // Sealing and opening cost as much as reading a hundred packages, so only a few malformed ones are sealed.
    if read_whole.is_err() && blake3::hash(data).as_bytes()[0] >= 16 {
        return;
    }
    let slot = &SCENE.containers[0].slot;
    let header = Header {
        channel: SCENE.channel,
        serial: Serial::FIRST,
        bundle: BUNDLE,
        padded_bytes: count(data.len()),
    };
    let container = seal(&header, data, slot);
    let opened = open(expected(&header, &container), &container, slot);
    let (outcome, body) = opened.expect("what was sealed for the slot opens");
    let sound = read_whole
        .ok()
        .filter(|(package, body)| is_sound(package, body));
    let Outcome::Opened(opened) = outcome else {
        assert!(sound.is_none(), "a sound package is called faulty");
        return;
    };
    let (package, sound_body) = sound.expect("a faulty package is called sound");
    assert_eq!(body, sound_body);
    assert_eq!(opened.preamble().manifest_bytes(), package.manifest);
    assert_eq!(opened.preamble().approvals(), package.approvals);
    if let Ok(verified) = verify(opened, None, &policy(), |_| None) {
        assert_eq!(verified.manifest_bytes(), SCENE.manifest.as_bytes());
        assert_eq!(body, BODY, "only what officers approved is released");
        assert!(verified.approvals().len() >= 2);
    }
}

fn read(data: &[u8], cut: usize) -> Result<(Package, Vec<u8>), PackageError> {
    let mut reader = PackageReader::new(count(data.len()));
    let mut body = Vec::new();
    for piece in data.chunks(cut) {
        body.extend_from_slice(reader.push(piece)?);
    }
    reader.finish().map(|package| (package, body))
}

fn check_package(package: &Package, body: &[u8], data: &[u8]) {
    assert_eq!(package.body_bytes, count(body.len()));
    assert!(package.manifest.len() <= limits::MANIFEST_BYTES_MAX);
    assert!((1..=limits::APPROVALS_MAX).contains(&package.approvals.len()));
    let approvals = encode_approvals(&package.approvals).expect("what was decoded");
    let bytes = package.body_bytes;
    let mut writer = PackageWriter::new(&package.manifest, &approvals, bytes, body)
        .expect("what was read can be written");
    let padded = usize::try_from(writer.padded_bytes()).expect("a length");
    let mut written = Vec::new();
    writer.fill(&mut written, padded).expect("memory is read");
    // A reader accepts any padding, and so also the writer's.
    let longest = written.len().max(data.len());
    let mut data = data.to_vec();
    data.resize(longest, 0);
    written.resize(longest, 0);
    assert_eq!(
        written, data,
        "one package has one form, but for its padding"
    );
}

/// Returns whether a package matches its manifest.
fn is_sound(package: &Package, body: &[u8]) -> bool {
    let Ok(manifest) = Manifest::decode(&package.manifest) else {
        return false;
    };
    let mut rest = body;
    let parts_fit = manifest.parts.iter().all(|part| {
        let next = usize::try_from(part.length).ok();
        let Some((now, behind)) = next.and_then(|length| rest.split_at_checked(length)) else {
            return false;
        };
        rest = behind;
        Sha256::digest(now)[..] == part.sha256
    });
    parts_fit && rest.is_empty()
}

fn seal(header: &Header, package: &[u8], slot: &SlotSecret) -> Vec<u8> {
    let sealer = Sealer::new(header, &slot.public(), Secret::new([9; 96]));
    let (prefix, mut sealer) = sealer.expect("the slot and the length are sound");
    let (mut container, mut rest) = (prefix.to_vec(), package);
    while !sealer.finished() {
        let (now, behind) = rest.split_at(sealer.next_bytes());
        let mut segment = now.to_vec();
        sealer
            .seal_segment(&mut segment)
            .expect("a segment that fits");
        container.extend_from_slice(&segment);
        rest = behind;
    }
    assert_eq!(count(container.len()), container_bytes(header.padded_bytes));
    container
}

/// The package that officers approved, and the same with one property changed.
pub(super) fn package_seeds() -> Vec<Seed> {
    let scene = &*SCENE;
    let other = scene.manifest.replace("ROUTINE", "FLASH");
    let write = |manifest: &str, approvals: &[Vec<u8>], body: &[u8]| {
        let approvals = encode_approvals(approvals).expect("approvals");
        let writer = PackageWriter::new(manifest.as_bytes(), &approvals, count(body.len()), body);
        let mut writer = writer.expect("a package");
        let padded_bytes = usize::try_from(writer.padded_bytes()).expect("a length");
        let mut package = Vec::new();
        writer
            .fill(&mut package, padded_bytes)
            .expect("memory is read");
        package
    };
    let both = &scene.approvals;
    [
        ("approved", write(&scene.manifest, both, BODY)),
        ("approved-once", write(&scene.manifest, &both[..1], BODY)),
        ("other-manifest", write(&other, both, BODY)),
        ("other-body", write(&scene.manifest, both, &BODY[1..])),
    ]
    .map(|(name, package)| (name.to_owned(), package))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_seeds_the_approved_package_alone_verifies() {
        for (name, package) in package_seeds() {
            let slot = &SCENE.containers[0].slot;
            let header = Header {
                channel: SCENE.channel,
                serial: Serial::FIRST,
                bundle: BUNDLE,
                padded_bytes: count(package.len()),
            };
            let container = seal(&header, &package, slot);
            let opened = open(expected(&header, &container), &container, slot);
            let is_verified = match opened.expect("it opens").0 {
                Outcome::Opened(opened) => verify(opened, None, &policy(), |_| None).is_ok(),
                Outcome::Faulty { .. } => false,
            };
            assert_eq!(is_verified, name == "approved", "{name}");
        }
    }
}
