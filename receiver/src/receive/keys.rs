//! Which link keys are in force: the newest, and older ones for a day after a newer one first verified a datagram, or until
//! release calls them ended.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use valise_common::limits;

use serde::Deserialize;
use valise_common::host::handover::Handover;
use valise_common::ids::{BundleId, ChannelId, LinkKeyId, Serial};
use valise_common::limits::LINK_KEY_OVERLAP_S;
use valise_common::os::durable::{
    self, Access, Sync, add_check, checked, read_bounded, read_secret_file, replace,
};
use valise_common::secret::Secret32;
use valise_common::units::UtcTime;
use zeroize::Zeroizing;

use crate::steps::deframe::HeldKey;

/// `keys/link/<bundle>.key`, as `bundle create` writes it.
#[derive(Deserialize)]
struct KeyFile {
    bundle: BundleId,
    key_id: LinkKeyId,
    key: String,
    channel: ChannelId,
    #[expect(dead_code, reason = "named so that the file's every key is known")]
    first_serial: Serial,
    last_serial: Serial,
}

/// The keys in force.
#[derive(Default)]
pub(super) struct InForce {
    /// The keys.
    pub keys: Vec<HeldKey>,
    /// The highest serial that has a slot; 0 if there is none.
    pub issued_last: u64,
    /// Key files that cannot be used, with why.
    pub faults: Vec<String>,
}

/// The link keys of this host, and when each first verified.
#[derive(Debug)]
pub(super) struct LinkKeys {
    folder: PathBuf,
    handover: Handover,
    channel: ChannelId,
    verified_path: PathBuf,
    tmp: PathBuf,
    verified: BTreeMap<BundleId, UtcTime>,
}

impl LinkKeys {
    /// Reads when each key first verified. `verified_path` is written by this process alone.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub(super) fn open(
        (folder, handover): (PathBuf, Handover),
        channel: ChannelId,
        verified_path: PathBuf,
        tmp: PathBuf,
    ) -> io::Result<Self> {
        let verified = match read_bounded(&verified_path, limits::LINK_KEY_TIMES_BYTES_MAX) {
            Ok(bytes) => checked(&bytes).and_then(parse_verified).unwrap_or_else(|| {
                let path = verified_path.display();
                tracing::warn!(%path, "the times of the link keys' first use are damaged and begin anew");
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            folder,
            handover,
            channel,
            verified_path,
            tmp,
            verified,
        })
    }

    /// Takes what release hands over, reads the key files and chooses those in force.
    ///
    /// # Errors
    /// If a folder cannot be read, or a key cannot be taken or erased durably.
    pub(super) fn load(&self, now: UtcTime) -> io::Result<InForce> {
        let mut in_force = InForce::default();
        match self.handover.take(&self.tmp) {
            // The list of ended keys: what was handed over is taken.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                in_force.faults.push(error.to_string());
            }
            taken => taken?,
        }
        let mut held = Vec::new();
        for entry in durable::list(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "key") {
                continue;
            }
            match read_key(&path, self.channel) {
                Ok((key, last)) => {
                    in_force.issued_last = in_force.issued_last.max(last.get());
                    held.push(key);
                }
                // Retired between the listing and now.
                Err(KeyFault::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(fault) => in_force.faults.push(format!("{}: {fault}", path.display())),
            }
        }
        let bundles: Vec<BundleId> = held.iter().map(|key| key.bundle).collect();
        held.retain(|key| is_in_force(key.bundle, &bundles, &self.verified, now));
        in_force.keys = held;
        Ok(in_force)
    }

    /// Returns whether a bundle's key never verified a datagram before.
    pub(super) fn is_new(&self, bundle: BundleId) -> bool {
        !self.verified.contains_key(&bundle)
    }

    /// Notes that a bundle's key verified a datagram for the first time.
    ///
    /// # Errors
    /// If it cannot be made durable.
    pub(super) fn handle_verified(&mut self, bundle: BundleId, now: UtcTime) -> io::Result<()> {
        self.verified.insert(bundle, now);
        let lines = self.verified.iter();
        let text: String = lines
            .map(|(bundle, time)| format!("{bundle} {time}\n"))
            .collect();
        let mut text = text.into_bytes();
        add_check(&mut text);
        replace(
            &self.tmp,
            &self.verified_path,
            &text,
            Access::Owner,
            Sync::Yes,
        )
    }
}

#[derive(Debug, thiserror::Error)]
enum KeyFault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("not a link key as bundle create writes it: {0}")]
    Form(String),
    #[error("a link key of another channel")]
    Channel,
}

fn read_key(path: &Path, channel: ChannelId) -> Result<(HeldKey, Serial), KeyFault> {
    let bytes = read_secret_file(path, limits::LINK_KEY_FILE_BYTES_MAX)?;
    // The parser's text would show the line, and with it the key.
    let text = checked(&bytes).ok_or_else(|| KeyFault::Form("its hash differs".to_owned()))?;
    let file: KeyFile = serde_json::from_slice(text)
        .map_err(|error| KeyFault::Form(format!("line {}", error.line())))?;
    let digits = Zeroizing::new(file.key);
    if file.channel != channel {
        return Err(KeyFault::Channel);
    }
    let key = Secret32::from_hex(&digits).ok_or_else(|| KeyFault::Form("key".to_owned()))?;
    Ok((
        HeldKey {
            bundle: file.bundle,
            key_id: file.key_id,
            key,
        },
        file.last_serial,
    ))
}

/// A key is in force until a day after a newer one, whose file is still there, first verified.
fn is_in_force(
    bundle: BundleId,
    bundles: &[BundleId],
    verified: &BTreeMap<BundleId, UtcTime>,
    now: UtcTime,
) -> bool {
    let newer = bundles.iter().filter(|other| **other > bundle);
    !newer
        .filter_map(|other| verified.get(other))
        .any(|time| now.since(*time) >= LINK_KEY_OVERLAP_S)
}

fn parse_verified(bytes: &[u8]) -> Option<BTreeMap<BundleId, UtcTime>> {
    let lines = std::str::from_utf8(bytes).ok()?.lines();
    lines
        .map(|line| {
            let (bundle, time) = line.split_once(' ')?;
            Some((bundle.parse().ok()?, time.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const CHANNEL: [u8; 16] = [7; 16];

    fn write_key(folder: &Path, bundle: u32, channel: [u8; 16], mode: u32) {
        let path = folder.join(format!("{bundle}.key"));
        let text = format!(
            r#"{{"bundle":{bundle},"key_id":{bundle},"key":"{}","channel":"{}","first_serial":{},"last_serial":{}}}"#,
            "ab".repeat(32),
            ChannelId::from_bytes(channel),
            bundle * 10,
            bundle * 10 + 9,
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn open(folder: &Path) -> LinkKeys {
        let keys = folder.join("keys");
        let _ = fs::create_dir(&keys);
        let given = folder.join("given");
        let _ = fs::create_dir(&given);
        let verified = folder.join("verified");
        LinkKeys::open(
            (keys.clone(), Handover::new(given, keys)),
            ChannelId::from_bytes(CHANNEL),
            verified,
            folder.to_path_buf(),
        )
        .unwrap()
    }

    fn bundles(keys: &LinkKeys, now: u64) -> Vec<u32> {
        let mut bundles: Vec<u32> = keys
            .load(UtcTime::from_s(now))
            .unwrap()
            .keys
            .iter()
            .map(|key| key.bundle.0)
            .collect();
        bundles.sort_unstable();
        bundles
    }

    #[test]
    fn an_older_key_ends_a_day_after_a_newer_one_first_verified() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = open(folder.path());
        for bundle in 1..=3 {
            write_key(&folder.path().join("keys"), bundle, CHANNEL, 0o600);
        }
        assert_eq!(bundles(&keys, 1_000_000), [1, 2, 3]);
        assert!(keys.is_new(BundleId(2)));
        keys.handle_verified(BundleId(2), UtcTime::from_s(1_000))
            .unwrap();
        assert!(!keys.is_new(BundleId(2)));
        assert_eq!(bundles(&keys, 1_000 + 86_399), [1, 2, 3]);
        // The time survives a restart.
        let keys = open(folder.path());
        assert_eq!(bundles(&keys, 1_000 + 86_400), [2, 3]);
        assert_eq!(keys.load(UtcTime::EPOCH).unwrap().issued_last, 39);
        // Retired by hand.
        fs::remove_file(folder.path().join("keys/2.key")).unwrap();
        assert_eq!(bundles(&keys, 1_000 + 86_400), [1, 3]);
    }

    #[test]
    fn a_key_file_that_cannot_be_trusted_is_named_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let keys = open(folder.path());
        let place = folder.path().join("keys");
        write_key(&place, 1, CHANNEL, 0o644);
        write_key(&place, 2, [8; 16], 0o600);
        fs::write(place.join("3.key"), "{\"key\":\"abab\"").unwrap();
        fs::set_permissions(place.join("3.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(place.join("note"), "not a key").unwrap();
        let in_force = keys.load(UtcTime::EPOCH).unwrap();
        assert!(in_force.keys.is_empty());
        assert_eq!(in_force.faults.len(), 3);
        assert!(
            in_force
                .faults
                .iter()
                .all(|fault| !fault.contains("abababab"))
        );
    }
}
