//! The host's fixed administrators, the trust list in force, and how both stand on disk.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use valise_common::host::folders::{Role, SenderState};
use valise_common::ids::{ChannelId, ContainerHash};
use valise_common::limits;
use valise_common::os::durable::{Access, Sync, add_check, checked, read_bounded, replace};
use valise_common::sshsig::{Namespace, PublicKey, Signature, SshsigError};
use valise_common::trust::{
    AdministratorError, SIGNATURES_NEEDED, TrustError, TrustList, check_administrators,
    verify_administrators,
};

/// Why the host's trust cannot be read.
#[derive(Debug, Error)]
pub enum TrustStoreError {
    /// The host has not been commissioned.
    #[error("this host is not commissioned: run valise-sender init first")]
    NotCommissioned,
    /// The system failed.
    #[error("trust: {0}")]
    Io(#[from] io::Error),
    /// `host.toml` is not what `init` wrote.
    #[error(
        "{path} is damaged ({reason}): put back a copy of the file, or write into it again what it held, the public keys of the \
         administrators and the channel"
    )]
    Host {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A signature file beside a list or a statement is no signature.
    #[error("signature {number} cannot be used: {error}")]
    SignatureFile {
        /// Its number in the name.
        number: usize,
        /// What is wrong.
        error: SshsigError,
    },
    /// The list on disk is not the one that the log names.
    #[error("its hash differs")]
    Changed,
    /// The administrators are too few or not distinct.
    #[error(transparent)]
    Administrators(#[from] AdministratorError),
    /// The list is not valid.
    #[error(transparent)]
    List(#[from] TrustError),
}

/// `host.toml`: what was fixed when the host was commissioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Whose signatures put trust lists and bundles into force.
    pub administrators: Vec<PublicKey>,
    /// The channel, once the first import has fixed it.
    pub channel: Option<ChannelId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostFile {
    administrators: Vec<String>,
    channel: Option<ChannelId>,
}

impl Host {
    /// Reads the host's file.
    ///
    /// # Errors
    /// [`TrustStoreError::NotCommissioned`] before `init`, and whatever is wrong with the file.
    pub fn load(state: &SenderState) -> Result<Self, TrustStoreError> {
        let bytes = match read_bounded(&state.host(), limits::CONFIG_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TrustStoreError::NotCommissioned);
            }
            bytes => bytes?,
        };
        let wrong = |error: &dyn std::fmt::Display| TrustStoreError::Host {
            path: state.host(),
            reason: error.to_string(),
        };
        let text = checked(&bytes).ok_or_else(|| wrong(&"its hash differs"))?;
        let text = std::str::from_utf8(text).map_err(|error| wrong(&error))?;
        let file: HostFile = toml::from_str(text).map_err(|error| wrong(&error.message()))?;
        let administrators = file
            .administrators
            .iter()
            .map(|line| PublicKey::parse_openssh(line))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&error))?;
        check_administrators(&administrators).map_err(|error| wrong(&error))?;
        Ok(Self {
            administrators,
            channel: file.channel,
        })
    }

    /// Writes the host's file durably, in place of an older one.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn store(&self, state: &SenderState) -> Result<(), TrustStoreError> {
        let file = HostFile {
            administrators: self
                .administrators
                .iter()
                .map(PublicKey::to_openssh)
                .collect(),
            channel: self.channel,
        };
        let text = toml::to_string(&file).map_err(io::Error::other)?;
        let mut text = text.into_bytes();
        add_check(&mut text);
        let tmp = state.tmp(Role::Gate);
        replace(&tmp, &state.host(), &text, Access::Everyone, Sync::Yes)?;
        Ok(())
    }
}

/// A trust list with its signatures, as one file each.
#[derive(Debug, Clone)]
pub struct SignedList {
    /// The list's exact bytes.
    pub bytes: Vec<u8>,
    /// The signatures.
    pub signatures: Vec<Signature>,
}

impl SignedList {
    /// BLAKE3 of the list's bytes: which list the audit log means.
    pub fn hash(&self) -> ContainerHash {
        ContainerHash::from_bytes(*blake3::hash(&self.bytes).as_bytes())
    }

    /// Reads a list and `FILE.1.sig`, `FILE.2.sig` … beside it.
    ///
    /// # Errors
    /// An error of the system, and a signature file that is none.
    pub fn read(path: &Path) -> Result<Self, TrustStoreError> {
        let bytes = read_bounded(path, limits::TRUST_LIST_BYTES_MAX)?;
        Ok(Self {
            bytes,
            signatures: signatures_beside(path)?,
        })
    }

    /// Verifies two administrators' signatures, then reads what they signed.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn verify(&self, administrators: &[PublicKey]) -> Result<TrustList, TrustStoreError> {
        let namespace = Namespace::TrustList;
        verify_administrators(&self.bytes, &self.signatures, namespace, administrators)?;
        let list = TrustList::parse(&self.bytes)?;
        list.check_apart(administrators)?;
        Ok(list)
    }

    /// Makes this the host's list: signatures first, the list last. Start-up repeats it if it was cut short.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn install(&self, state: &SenderState) -> io::Result<()> {
        let tmp = state.tmp(Role::Gate);
        for (number, signature) in (1..).zip(&self.signatures) {
            let path = state.trust_signature(number);
            replace(
                &tmp,
                &path,
                signature.to_armor().as_bytes(),
                Access::Everyone,
                Sync::Yes,
            )?;
        }
        for number in self.signatures.len() + 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
            remove_if_there(&state.trust_signature(number))?;
        }
        replace(
            &tmp,
            &state.trust_list(),
            &self.bytes,
            Access::Everyone,
            Sync::Yes,
        )
    }

    /// Writes the list into a folder of its own under gate's `tmp/`, from which start-up can repeat [`Self::install`].
    ///
    /// # Errors
    /// Any error of the system.
    pub fn stage(&self, state: &SenderState) -> io::Result<()> {
        let folder = staging(state);
        valise_common::os::durable::remove_any(&folder)?;
        valise_common::os::durable::make_dir(&folder, 0o700)?;
        let list = folder.join("trust.toml");
        for (number, signature) in (1..).zip(&self.signatures) {
            let armor = signature.to_armor();
            replace(
                &folder,
                &signature_path(&list, number),
                armor.as_bytes(),
                Access::Owner,
                Sync::Yes,
            )?;
        }
        replace(&folder, &list, &self.bytes, Access::Owner, Sync::Yes)
    }

    /// The list that [`Self::stage`] left, if there is one.
    ///
    /// # Errors
    /// Any error of reading it.
    pub fn staged(state: &SenderState) -> Result<Option<Self>, TrustStoreError> {
        let list = staging(state).join("trust.toml");
        if list.exists() {
            Self::read(&list).map(Some)
        } else {
            Ok(None)
        }
    }
}

/// The name of the staging folder in gate's `tmp/`.
pub const STAGING_NAME: &str = "trust-import";

fn staging(state: &SenderState) -> PathBuf {
    state.tmp(Role::Gate).join(STAGING_NAME)
}

/// Removes what [`SignedList::stage`] left.
///
/// # Errors
/// If something stays.
pub fn clear_staging(state: &SenderState) -> io::Result<()> {
    valise_common::os::durable::remove_any(&staging(state))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn signature_path(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}.sig"));
    PathBuf::from(name)
}

/// Reads `FILE.1.sig`, `FILE.2.sig` …; numbers that are not there are skipped.
///
/// # Errors
/// An error of the system, and a file that holds no signature, unless there are enough that do.
pub fn signatures_beside(path: &Path) -> Result<Vec<Signature>, TrustStoreError> {
    let (mut signatures, mut fault) = (Vec::new(), None);
    for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
        let text = match read_bounded(
            &signature_path(path, number),
            limits::REQUEST_TEXT_BYTES_MAX,
        ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text?,
        };
        let signature = std::str::from_utf8(&text)
            .map_err(|_| SshsigError::Armor)
            .and_then(Signature::from_armor)
            .map_err(|error| TrustStoreError::SignatureFile { number, error });
        match signature {
            Ok(signature) => signatures.push(signature),
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    match fault {
        Some(fault) if signatures.len() < SIGNATURES_NEEDED => Err(fault),
        _ => Ok(signatures),
    }
}

/// The list in force: the one whose hash the audit log names, verified again.
///
/// # Errors
/// Any error of reading it, and a list that does not verify.
pub fn load(
    state: &SenderState,
    administrators: &[PublicKey],
    expected: ContainerHash,
) -> Result<TrustList, TrustStoreError> {
    let list = SignedList::read(&state.trust_list())?;
    if list.hash() != expected {
        return Err(TrustStoreError::Changed);
    }
    list.verify(administrators)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDbvjqtR5AMlSNIcwfwSbFcBfyqZ2IzZ8PyU+4Vw2rdN";

    #[test]
    fn a_host_that_was_never_commissioned_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = Host::load(&SenderState::new(folder.path())).unwrap_err();
        assert!(error.to_string().contains("valise-sender init"), "{error}");
    }

    #[test]
    fn a_host_file_with_one_administrator_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        std::fs::write(state.host(), format!("administrators = ['{ONE}']\n")).unwrap();
        assert!(Host::load(&state).is_err());
        std::fs::write(state.host(), "administrators = 1").unwrap();
        assert!(matches!(
            Host::load(&state),
            Err(TrustStoreError::Host { .. })
        ));
    }

    #[test]
    fn a_list_without_signatures_reads_but_does_not_verify() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.toml");
        std::fs::write(&path, "version = 1").unwrap();
        let list = SignedList::read(&path).unwrap();
        assert!(list.signatures.is_empty());
        assert!(matches!(
            list.verify(&[]),
            Err(TrustStoreError::Administrators(_))
        ));
        std::fs::write(folder.path().join("trust.toml.2.sig"), "nonsense").unwrap();
        assert!(matches!(
            SignedList::read(&path),
            Err(TrustStoreError::SignatureFile { number: 2, .. })
        ));
    }
}
