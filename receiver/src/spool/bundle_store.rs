//! Bundles: made here, carried to the sender by courier. What stays is one slot file and one link key a bundle.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use valise_common::bundle::{Bundle, BundleError, Statement};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::slots::SlotsHeader;
use valise_common::ids::{BundleId, ChannelId, LinkKeyId, Serial, Sha256Digest};
use valise_common::os::durable::{self, Access, StagedFile};
use valise_common::os::entropy::{self, EntropyError};
use valise_common::seal::SlotSecret;
use valise_common::secret::Secret32;

use crate::spool::slots::record;
use crate::spool::slots_key::SlotsKey;

/// Name of the bundle in the courier's folder.
pub(crate) const BUNDLE_FILE: &str = "channel.bundle";

/// Name of the statement that administrators sign.
pub(crate) const STATEMENT_FILE: &str = "channel.bundle.statement";

/// Why a bundle could not be made.
#[derive(Debug, Error)]
pub enum BundleStoreError {
    /// The disk.
    #[error("the bundle cannot be written: {0}")]
    Io(#[from] io::Error),
    /// The kernel gave no randomness.
    #[error("{0}")]
    Entropy(#[from] EntropyError),
    /// Serials or slots beyond their bounds.
    #[error("{0}")]
    Bundle(#[from] BundleError),
    /// The link key cannot be written as JSON.
    #[error("the link key cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a new bundle will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundlePlan {
    /// The channel.
    pub channel: ChannelId,
    /// Its number.
    pub bundle: BundleId,
    /// Its first serial.
    pub first: Serial,
    /// Number of slots.
    pub count: u32,
    /// The id of its link key.
    pub link_key: LinkKeyId,
    /// The bundle whose unused slots it makes void.
    pub replaces: Option<BundleId>,
}

/// The file of a link key: what `receive` needs of a bundle.
#[derive(Serialize, Deserialize)]
pub(crate) struct LinkKeyFile {
    /// The bundle that brought it.
    pub bundle: BundleId,
    /// Its id in datagrams.
    pub key_id: LinkKeyId,
    /// The key, in hexadecimal.
    pub key: String,
    /// The channel.
    pub channel: ChannelId,
    /// The bundle's first serial.
    pub first_serial: Serial,
    /// The bundle's last serial.
    pub last_serial: Serial,
}

/// Makes a bundle. Everything is written durably and nothing is in force: slots and link key have names that nobody
/// reads until [`settle`], and the courier's files are in `out`, which the caller shows only then. `key` covers the slots.
///
/// # Errors
/// [`BundleStoreError`]; what was written by then is swept by [`settle`] at the next start.
pub(crate) fn make(
    state: &ReceiverState,
    plan: &BundlePlan,
    out: &Path,
    key: Option<&SlotsKey>,
) -> Result<Sha256Digest, BundleStoreError> {
    let last = plan.first.plus(u64::from(plan.count.saturating_sub(1)));
    let last = last.ok_or(BundleError::Serials {
        first: plan.first.get(),
        count: plan.count,
    })?;
    let header = SlotsHeader {
        channel: plan.channel,
        bundle: plan.bundle,
        first: plan.first,
        count: plan.count,
    };
    let staged_slots = new_path(&state.slots(), plan.bundle);
    durable::erase(&staged_slots)?;
    let mut slots = StagedFile::create_named(&state.slots(), name_of(&staged_slots)?)?;
    let mark = key.map(|key| key.mark(&header.identity()));
    slots.write_all(&header.encode(mark.as_ref()))?;
    let mut bundle = Bundle {
        channel: plan.channel,
        id: plan.bundle,
        first: plan.first,
        link_key_id: plan.link_key,
        link_key: entropy::secret()?,
        slots: Vec::new(),
    };
    for index in 0..u64::from(plan.count) {
        let serial = plan.first.plus(index).unwrap_or(last);
        let secret = SlotSecret {
            seed: entropy::secret()?,
            psk: entropy::secret()?,
        };
        bundle.slots.push(secret.public());
        slots.write_all(record(&header, serial, &secret, key).expose())?;
    }
    let _in_place = slots.finish()?;
    durable::sync_dir(&state.slots())?;
    write_link_key(state, plan, last, &bundle.link_key)?;
    let bytes = bundle.encode()?;
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
    let statement = Statement {
        channel: plan.channel,
        bundle: plan.bundle,
        first_serial: plan.first,
        count: plan.count,
        replaces: plan.replaces,
        sha256: *sha256.as_bytes(),
    };
    write_file(out, BUNDLE_FILE, &bytes, Access::Owner)?;
    let text = statement.encode();
    // No secret: administrators read it to sign it.
    write_file(out, STATEMENT_FILE, text.as_bytes(), Access::Everyone)?;
    durable::sync_dir(out)?;
    Ok(sha256)
}

fn write_link_key(
    state: &ReceiverState,
    plan: &BundlePlan,
    last: Serial,
    key: &Secret32,
) -> Result<(), BundleStoreError> {
    let file = LinkKeyFile {
        bundle: plan.bundle,
        key_id: plan.link_key,
        key: key.to_hex().to_string(),
        channel: plan.channel,
        first_serial: plan.first,
        last_serial: last,
    };
    // The capacity is final: a growing vector would leave copies of its beginning on the heap.
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(512));
    serde_json::to_writer(&mut *text, &file)?;
    durable::add_check(&mut text);
    Ok(state.handover().place(plan.bundle, &text)?)
}

impl Drop for LinkKeyFile {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

fn write_file(
    folder: &Path,
    name: impl AsRef<OsStr>,
    bytes: &[u8],
    access: Access,
) -> io::Result<()> {
    let mut file = StagedFile::create_named(folder, name.as_ref())?;
    file.set_access(access)?;
    file.write_all(bytes)?;
    file.finish().map(drop)
}

/// Returns a name that no reader of the folder takes for a bundle's.
fn new_path(folder: &Path, bundle: BundleId) -> PathBuf {
    folder.join(format!(".{bundle}.new"))
}

fn name_of(path: &Path) -> io::Result<&OsStr> {
    path.file_name()
        .ok_or_else(|| io::Error::other("a path without a name"))
}

/// Puts the slots of a bundle into force that the log knows of. Done again, it changes nothing.
///
/// # Errors
/// The system's.
pub(crate) fn settle(state: &ReceiverState, bundle: BundleId) -> io::Result<()> {
    let folder = state.slots();
    match durable::rename_new(&new_path(&folder, bundle), &state.slots_of(bundle)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    durable::sync_dir(&folder)
}

/// At start-up: puts the slots of those bundles into force that the log knows of, and removes what else a crash left of
/// slots.
///
/// # Errors
/// The system's.
pub(crate) fn recover(state: &ReceiverState, known: &[BundleId]) -> io::Result<()> {
    for bundle in known {
        settle(state, *bundle)?;
    }
    for entry in durable::list(&state.slots())? {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.starts_with('.') && name.ends_with(".new"))
        {
            durable::erase(&entry.path())?;
        }
    }
    Ok(())
}

/// Hands the link keys of all known bundles over to `receive`, once their slots are in force: with a key it begins to take
/// datagrams. Ends those of `ended`, which are all that ever ended: `receive` erases what it has taken, and what it has
/// not is taken back. Done again, it changes nothing.
///
/// # Errors
/// The system's. `receive` may write in the folder, and put something into the way.
pub(crate) fn hand_over(
    state: &ReceiverState,
    known: &[BundleId],
    ended: &[BundleId],
) -> io::Result<()> {
    let handover = state.handover();
    known.iter().try_for_each(|bundle| handover.give(*bundle))?;
    // The list first: what is taken in between is erased by it.
    handover.write_ended(&state.tmp(Role::Release), &ended.iter().copied().collect())?;
    ended
        .iter()
        .try_for_each(|bundle| handover.take_back(*bundle))
}
