//! What the courier brings, from files to a bundle that is verified.

use std::io;
use std::path::{Path, PathBuf};

use valise_common::bundle::{Bundle, SLOT_RECORD_BYTES, Statement};
use valise_common::host::trust_store::{read_signatures, signature_name};
use valise_common::ids::ContainerHash;
use valise_common::limits;
use valise_common::os::durable::read_bounded;
use valise_common::seal::check_public;
use valise_common::sshsig::{Namespace, PublicKey, Signature};
use valise_common::trust::verify_administrators;
use zeroize::Zeroizing;

use super::intake_error::{IntakeError, content};

/// Bytes of the largest bundle: its header, and a record for each slot.
pub(super) const BUNDLE_BYTES_MAX: usize = 76 + 1_000_000 * SLOT_RECORD_BYTES;

const _: () = assert!(limits::SLOTS_MAX <= 1_000_000);

/// The names of a bundle's files in the courier's folder and in a request.
pub const BUNDLE_NAME: &str = "channel.bundle";

/// The statement that administrators sign.
pub const STATEMENT_NAME: &str = "channel.bundle.statement";

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
/// [`IntakeError`] with the first reason against it.
pub fn verify_bundle(
    path_of: impl Fn(&str) -> Option<PathBuf>,
    administrators: &[PublicKey],
) -> Result<VerifiedBundle, IntakeError> {
    let missing = "a bundle import needs channel.bundle and channel.bundle.statement";
    let bundle = path_of(BUNDLE_NAME).ok_or(IntakeError::Files(missing))?;
    let statement = path_of(STATEMENT_NAME).ok_or(IntakeError::Files(missing))?;
    let signatures = read_signatures(|number| path_of(&signature_name(STATEMENT_NAME, number)))?;
    let text = read(&statement, STATEMENT_NAME, limits::REQUEST_TEXT_BYTES_MAX)?;
    verify_administrators(&text, &signatures, Namespace::Bundle, administrators)
        .map_err(|error| content("not-signed", STATEMENT_NAME, &error))?;
    let statement =
        Statement::decode(&text).map_err(|error| content("statement", STATEMENT_NAME, &error))?;
    let bytes = Zeroizing::new(read(&bundle, BUNDLE_NAME, BUNDLE_BYTES_MAX)?);
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

pub(super) fn read_signature(path: &Path) -> Result<Signature, IntakeError> {
    let bytes = read(path, "a signature file", limits::REQUEST_TEXT_BYTES_MAX)?;
    std::str::from_utf8(&bytes)
        .map_err(|_| valise_common::sshsig::SshsigError::Armor)
        .and_then(Signature::from_armor)
        .map_err(|error| content("signature", "a signature file", &error))
}

/// Reads a file of a request. One that is too large, or no file, is its author's mistake.
fn read(path: &Path, what: &'static str, bytes_max: usize) -> Result<Vec<u8>, IntakeError> {
    read_bounded(path, bytes_max).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => {
            content("not-readable", what, &error)
        }
        io::ErrorKind::ResourceBusy => content("changed", what, &error),
        _ => IntakeError::System(error),
    })
}
