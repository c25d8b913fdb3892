//! The administrators' public keys, as files that a caller names.

use std::path::PathBuf;

use super::{CliError, warn};
use crate::limits;
use crate::os::durable::read_bounded;
use crate::sshsig::{KeyKind, PublicKey};
use crate::trust::check_administrators;

/// Reads the keys of at least two administrators, and warns of a software key.
///
/// # Errors
/// [`CliError`] if a file cannot be read, is not a key, or the keys together are not administrators.
pub fn read_administrators(program: &str, files: &[PathBuf]) -> Result<Vec<PublicKey>, CliError> {
    let mut administrators = Vec::new();
    for path in files {
        let shown = path.display();
        let bytes = read_bounded(path, limits::REQUEST_TEXT_BYTES_MAX)
            .map_err(|error| CliError::of_given(path, &error))?;
        let key = PublicKey::parse_openssh(String::from_utf8_lossy(&bytes).trim())
            .map_err(|error| CliError::Usage(format!("{shown}: {error}")))?;
        let is_software = key.kind() == KeyKind::Ed25519;
        warn(
            program,
            is_software.then(|| {
                format!("warning: {shown} is a software key; whoever copies its file is an administrator")
            }),
        );
        administrators.push(key);
    }
    check_administrators(&administrators).map_err(CliError::usage)?;
    Ok(administrators)
}
