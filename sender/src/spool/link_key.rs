//! `keys/link/<bundle>.key`: the link keys that bundles brought. Gate hands one over at an import, transmit uses the newest.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use valise_common::limits;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use valise_common::host::folders::{Role, SenderState};
use valise_common::ids::{BundleId, ChannelId, LinkKeyId};
use valise_common::os::durable::{self, add_check, checked};
use valise_common::secret::Secret32;
use valise_common::wire::LinkKey;
use zeroize::{Zeroize as _, Zeroizing};

/// Why a link key cannot be used.
#[derive(Debug, Error)]
pub enum LinkKeyError {
    /// The system failed.
    #[error("link keys: {0}")]
    Io(#[from] io::Error),
    /// Others could have read it.
    #[error("the link key of bundle {bundle} is open to other users (mode {mode:o}); chmod 600 it")]
    Mode {
        /// Which.
        bundle: BundleId,
        /// Its mode.
        mode: u32,
    },
    /// Not what gate writes.
    #[error("keys/link/{bundle}.key, the link key of bundle {bundle}, is damaged")]
    Malformed {
        /// Which.
        bundle: BundleId,
    },
}

/// A link key and where it came from.
pub(crate) struct StoredLinkKey {
    /// The bundle that brought it.
    pub bundle: BundleId,
    /// Its id in datagrams.
    pub key_id: LinkKeyId,
    /// The key.
    pub key: LinkKey,
    /// The channel.
    pub channel: ChannelId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    bundle: BundleId,
    key_id: LinkKeyId,
    key: String,
    channel: ChannelId,
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Writes a bundle's link key for transmit, which sees it when it is given ([`Handover::give`]).
///
/// [`Handover::give`]: valise_common::host::handover::Handover::give
///
/// # Errors
/// If it cannot be written.
pub(crate) fn place(state: &SenderState, stored: &StoredLinkKey) -> io::Result<()> {
    let fields = Fields {
        bundle: stored.bundle,
        key_id: stored.key_id,
        key: stored.key.to_hex().to_string(),
        channel: stored.channel,
    };
    // The capacity is final: a growing vector would leave copies of its beginning on the heap.
    let mut text = Zeroizing::new(Vec::with_capacity(512));
    serde_json::to_writer(&mut *text, &fields)?;
    add_check(&mut text);
    state.handover().place(stored.bundle, &text)
}

/// Takes what gate has handed over; returns the key of the newest bundle, `None` before the first import.
///
/// # Errors
/// [`LinkKeyError`] if the newest cannot be used: an older one in its place would be what a receiver no longer takes.
pub(crate) fn newest(state: &SenderState) -> Result<Option<StoredLinkKey>, LinkKeyError> {
    state.handover().take(&state.tmp(Role::Transmit))?;
    let mut bundles = Vec::new();
    for entry in durable::list(&state.link_keys())? {
        let name = entry?.file_name();
        let bundle: Option<BundleId> = name
            .to_str()
            .and_then(|name| name.strip_suffix(".key")?.parse().ok());
        bundles.extend(bundle);
    }
    let newest: Option<BundleId> = bundles.into_iter().max();
    newest
        .map(|bundle| read(&state.link_key(bundle), bundle))
        .transpose()
}

fn read(path: &Path, bundle: BundleId) -> Result<StoredLinkKey, LinkKeyError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(LinkKeyError::Mode { bundle, mode });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(512));
    let bytes_max = u64::try_from(limits::LINK_KEY_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(bytes_max).read_to_end(&mut text)?;
    let malformed = LinkKeyError::Malformed { bundle };
    let fields = checked(&text).and_then(|text| serde_json::from_slice::<Fields>(text).ok());
    let Some(fields) = fields else {
        return Err(malformed);
    };
    let Some(key) = Secret32::from_hex(&fields.key) else {
        return Err(malformed);
    };
    if fields.bundle != bundle {
        return Err(malformed);
    }
    Ok(StoredLinkKey {
        bundle,
        key_id: fields.key_id,
        key,
        channel: fields.channel,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn state() -> (tempfile::TempDir, SenderState) {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        state.create_all().unwrap();
        (folder, state)
    }

    fn stored(bundle: u32) -> StoredLinkKey {
        StoredLinkKey {
            bundle: BundleId(bundle),
            key_id: LinkKeyId(bundle as u8),
            key: Secret32::new([bundle as u8; 32]),
            channel: ChannelId::from_bytes([3; 16]),
        }
    }

    fn hand_over(state: &SenderState, bundle: u32) {
        place(state, &stored(bundle)).unwrap();
        state.handover().give(BundleId(bundle)).unwrap();
    }

    #[test]
    fn the_newest_bundle_counts_by_number_not_by_name() {
        let (_folder, state) = state();
        assert!(newest(&state).unwrap().is_none());
        for bundle in [9, 10, 2] {
            hand_over(&state, bundle);
        }
        fs::write(state.link_keys().join("99.key.tmp"), "x").unwrap();
        let found = newest(&state).unwrap().unwrap();
        assert_eq!((found.bundle, found.key_id), (BundleId(10), LinkKeyId(10)));
        assert_eq!(found.key.expose(), &[10; 32]);
        assert_eq!(found.channel, ChannelId::from_bytes([3; 16]));
    }

    #[test]
    fn a_key_that_others_could_read_is_refused() {
        let (_folder, state) = state();
        hand_over(&state, 1);
        assert!(newest(&state).unwrap().is_some());
        let path = state.link_key(BundleId(1));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            newest(&state),
            Err(LinkKeyError::Mode { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_damaged_key_is_refused_without_showing_it() {
        let (_folder, state) = state();
        hand_over(&state, 1);
        assert!(newest(&state).unwrap().is_some());
        fs::write(
            state.link_key(BundleId(1)),
            "{\"bundle\":1,\"key\":\"0101\"}",
        )
        .unwrap();
        let Err(error) = newest(&state) else {
            panic!("it was used")
        };
        assert!(!error.to_string().contains("01010101"));
    }
}
