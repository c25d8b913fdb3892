//! What the courier and the administrators bring, from files to a bundle that is verified and a list that can be.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use valise_common::bundle::{Bundle, SLOT_RECORD_BYTES, Statement};
use valise_common::host::requests::TakenFile;
use valise_common::ids::ContainerHash;
use valise_common::limits;
use valise_common::os::durable::read_bounded;
use valise_common::seal::check_public;
use valise_common::sshsig::{Namespace, PublicKey, Signature};
use valise_common::trust::{SIGNATURES_NEEDED, verify_administrators};
use zeroize::Zeroizing;

use super::unfit::{Unfit, content};
use crate::spool::trust_store::SignedList;

/// Bytes of the largest bundle: its header, and a record for each slot.
pub(super) const BUNDLE_BYTES_MAX: usize = 76 + 1_000_000 * SLOT_RECORD_BYTES;

const _: () = assert!(limits::SLOTS_MAX <= 1_000_000);

/// The names of a bundle's files in the courier's folder and in a request.
pub const BUNDLE_NAME: &str = "channel.bundle";

/// The statement that administrators sign.
pub const STATEMENT_NAME: &str = "channel.bundle.statement";

/// The trust list's name in a request.
pub const TRUST_NAME: &str = "trust.toml";

/// A bundle that two administrators vouch for, with sound keys.
pub struct VerifiedBundle {
    /// The bundle.
    pub bundle: Bundle,
    /// What was signed.
    pub statement: Statement,
}

impl std::fmt::Debug for VerifiedBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedBundle")
            .field("statement", &self.statement)
            .finish_non_exhaustive()
    }
}

impl VerifiedBundle {
    /// SHA-256 of the whole bundle, as the ledger keeps it.
    pub fn sha256(&self) -> ContainerHash {
        ContainerHash::from_bytes(self.statement.sha256)
    }
}

/// Verifies a bundle as the courier brought it: two administrators vouch for it, and every key in it is sound.
///
/// # Errors
/// [`Unfit`] with the first reason against it.
pub fn verify_bundle(
    files: &BTreeMap<String, TakenFile>,
    administrators: &[PublicKey],
) -> Result<VerifiedBundle, Unfit> {
    let none = "a bundle import needs channel.bundle and channel.bundle.statement";
    let bundle = only_path(files, BUNDLE_NAME, none)?;
    let statement = only_path(files, STATEMENT_NAME, none)?;
    let signatures = signatures_of(files, STATEMENT_NAME)?;
    let text = read(statement, STATEMENT_NAME, limits::REQUEST_TEXT_BYTES_MAX)?;
    verify_administrators(&text, &signatures, Namespace::Bundle, administrators)
        .map_err(|error| content("not-signed", STATEMENT_NAME, &error))?;
    let statement =
        Statement::decode(&text).map_err(|error| content("statement", STATEMENT_NAME, &error))?;
    let bytes = Zeroizing::new(read(bundle, BUNDLE_NAME, BUNDLE_BYTES_MAX)?);
    statement
        .matches(&bytes)
        .map_err(|error| content("altered", BUNDLE_NAME, &error))?;
    let bundle =
        Bundle::decode(&bytes).map_err(|error| content("malformed", BUNDLE_NAME, &error))?;
    for slot in &bundle.slots {
        check_public(&slot.public).map_err(|error| content("weak-key", BUNDLE_NAME, &error))?;
    }
    Ok(VerifiedBundle { bundle, statement })
}

/// A trust list with its signatures, not yet verified.
///
/// # Errors
/// [`Unfit`] if the list is not there, or a signature file holds none.
pub fn signed_list(files: &BTreeMap<String, TakenFile>) -> Result<SignedList, Unfit> {
    let list = only_path(files, TRUST_NAME, "a trust import needs trust.toml")?;
    let bytes = read(list, TRUST_NAME, limits::TRUST_LIST_BYTES_MAX)?;
    Ok(SignedList {
        bytes,
        signatures: signatures_of(files, TRUST_NAME)?,
    })
}

/// The signatures `BASE.1.sig`, `BASE.2.sig` … among a request's files.
fn signatures_of(files: &BTreeMap<String, TakenFile>, base: &str) -> Result<Vec<Signature>, Unfit> {
    let (mut signatures, mut fault) = (Vec::new(), None);
    for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
        let Some(file) = files.get(&format!("{base}.{number}.sig")) else {
            continue;
        };
        match read_signature(&file.path) {
            Ok(signature) => signatures.push(signature),
            Err(unfit) if unfit.is_failure() => return Err(unfit),
            Err(unfit) => fault = fault.or(Some(unfit)),
        }
    }
    match fault {
        // A file that is none does no harm beside two that are.
        Some(fault) if signatures.len() < SIGNATURES_NEEDED => Err(fault),
        _ => Ok(signatures),
    }
}

pub(super) fn read_signature(path: &Path) -> Result<Signature, Unfit> {
    let bytes = read(path, "a signature file", limits::REQUEST_TEXT_BYTES_MAX)?;
    std::str::from_utf8(&bytes)
        .map_err(|_| valise_common::sshsig::SshsigError::Armor)
        .and_then(Signature::from_armor)
        .map_err(|error| content("signature", "a signature file", &error))
}

/// Reads a file of a request. One that is too large, or no file, is its author's mistake.
fn read(path: &Path, what: &'static str, bytes_max: usize) -> Result<Vec<u8>, Unfit> {
    read_bounded(path, bytes_max).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => {
            content("not-readable", what, &error)
        }
        io::ErrorKind::ResourceBusy => content("changed", what, &error),
        _ => Unfit::System(error),
    })
}

fn only_path<'a>(
    files: &'a BTreeMap<String, TakenFile>,
    name: &str,
    none: &'static str,
) -> Result<&'a Path, Unfit> {
    files
        .get(name)
        .map(|file| file.path.as_path())
        .ok_or(Unfit::Files(none))
}
