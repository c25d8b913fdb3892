//! The trust list on disk, with its administrators' signatures beside it. A new list takes the old one's place as a
//! whole folder, after the log has said so.

use std::fs;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::ids::{ChannelId, Sha256Digest};
use valise_common::limits;
use valise_common::os::durable::{self, Access};
use valise_common::sshsig::{Namespace, PublicKey, Signature, SshsigError};
use valise_common::trust::{
    AdministratorError, IssuedAhead, SIGNATURES_NEEDED, TrustError, TrustList,
    verify_administrators,
};
use valise_common::units::UtcTime;

use crate::spool::host::Host;

/// Name of the list among the files of a request.
pub const LIST_FILE: &str = "trust.toml";

/// Why a trust list is not taken.
#[derive(Debug, Error)]
pub enum TrustStoreError {
    /// The disk.
    #[error("the trust list cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// What it says.
    #[error("{0}")]
    List(#[from] TrustError),
    /// Who signed it.
    #[error("{0}")]
    Administrators(#[from] AdministratorError),
    /// A signature file that is none.
    #[error("signature {number} is refused: {source}")]
    Signature {
        /// The number in its file's name.
        number: usize,
        /// Why.
        source: SshsigError,
    },
    /// It is for another channel.
    #[error("the trust list is for channel {found}, this host is of channel {expected}")]
    Channel {
        /// The list's channel.
        found: ChannelId,
        /// This host's.
        expected: ChannelId,
    },
    /// Versions only rise.
    #[error(
        "the trust list has version {offered}, version {held} is in force; raise the version and sign again"
    )]
    Version {
        /// The offered version.
        offered: u32,
        /// The version in force.
        held: u32,
    },
    /// Issued in the future.
    #[error("{0}")]
    Issued(#[from] IssuedAhead),
    /// The list on disk is not the one that the log knows.
    #[error("its hash differs, or it cannot be read")]
    Changed,
}

/// A list with the signatures that put it into force.
#[derive(Debug, Clone)]
pub struct SignedList {
    /// The list.
    pub list: Arc<TrustList>,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of them.
    pub sha256: Sha256Digest,
    signatures: Vec<Signature>,
}

impl SignedList {
    /// Reads a list and the signatures beside it (`FILE.1.sig` to `FILE.16.sig`; other files are ignored).
    ///
    /// # Errors
    /// [`TrustStoreError`], except what [`SignedList::check`] asks.
    pub fn read(path: &Path) -> Result<SignedList, TrustStoreError> {
        let bytes = durable::read_bounded(path, limits::TRUST_LIST_BYTES_MAX)?;
        let mut signatures = Vec::new();
        for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
            match durable::read_bounded(&signature_path(path, number), SIGNATURE_FILE_BYTES_MAX) {
                Ok(armor) => signatures.push((number, armor)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        SignedList::new(bytes, signatures)
    }

    fn new(
        bytes: Vec<u8>,
        signatures: Vec<(usize, Vec<u8>)>,
    ) -> Result<SignedList, TrustStoreError> {
        let (read, mut faults): (Vec<_>, Vec<_>) = signatures
            .into_iter()
            .map(|(number, armor)| {
                std::str::from_utf8(&armor)
                    .map_err(|_| SshsigError::Armor)
                    .and_then(Signature::from_armor)
                    .map_err(|source| TrustStoreError::Signature { number, source })
            })
            .partition(Result::is_ok);
        let signatures: Vec<Signature> = read.into_iter().flatten().collect();
        // A file that is none does no harm beside two that are.
        if signatures.len() < SIGNATURES_NEEDED
            && let Some(Err(fault)) = faults.drain(..).next()
        {
            return Err(fault);
        }
        let list = Arc::new(TrustList::parse(&bytes)?);
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
        Ok(SignedList {
            list,
            bytes,
            sha256,
            signatures,
        })
    }

    /// Whether the list may be put into force on this host, in the place of `held`, while the clock says `clock`.
    ///
    /// # Errors
    /// [`TrustStoreError`] names the first reason against it.
    pub fn check(
        &self,
        host: &Host,
        held: Option<&TrustList>,
        clock: UtcTime,
    ) -> Result<(), TrustStoreError> {
        self.verify(host)?;
        let (offered, held) = (self.list.version(), held.map(TrustList::version));
        if let Some(held) = held.filter(|held| offered <= *held) {
            return Err(TrustStoreError::Version { offered, held });
        }
        // Last, so that only a list that is one tells anything of this host's clock.
        Ok(self.list.check_issued(clock)?)
    }

    /// Whether the list is this channel's, and signed. One in force stays so whatever the clock says.
    fn verify(&self, host: &Host) -> Result<(), TrustStoreError> {
        let (found, expected) = (self.list.channel(), host.channel);
        if found != expected {
            return Err(TrustStoreError::Channel { found, expected });
        }
        Ok(self.verify_signatures(&host.administrators)?)
    }

    /// Checks that enough of these administrators signed the list, and that none of them is a person of it.
    ///
    /// # Errors
    /// [`AdministratorError::NotSigned`], and [`AdministratorError::IsPerson`].
    pub fn verify_signatures(
        &self,
        administrators: &[PublicKey],
    ) -> Result<(), AdministratorError> {
        self.list.check_apart(administrators)?;
        verify_administrators(
            &self.bytes,
            &self.signatures,
            Namespace::TrustList,
            administrators,
        )
    }

    /// Returns the list and its signatures by the names of their files, as [`SignedList::read`] takes them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let signatures = self.signatures.iter().zip(1..).map(|(signature, number)| {
            let armor = signature.to_armor().into_bytes();
            (format!("{LIST_FILE}.{number}.sig"), armor)
        });
        iter::once((LIST_FILE.to_owned(), self.bytes.clone()))
            .chain(signatures)
            .collect()
    }

    /// Writes list and signatures where [`swap`] finds them, durably. Nothing changes yet.
    ///
    /// # Errors
    /// The system's.
    pub fn stage(&self, state: &ReceiverState) -> io::Result<()> {
        let folder = next(state);
        durable::remove_any(&folder)?;
        durable::make_dir(&folder, 0o755)?;
        let write = |name: String, bytes: &[u8]| {
            durable::write_new(
                &state.tmp(Role::Release),
                &folder.join(name),
                bytes,
                Access::Everyone,
            )
        };
        for (name, bytes) in self.files() {
            write(name, &bytes)?;
        }
        durable::sync_dir(state.root())
    }
}

/// The most bytes of an armoured signature.
pub const SIGNATURE_FILE_BYTES_MAX: usize = 2 * limits::SIGNATURE_BYTES_MAX;

/// The path of a signature beside its list.
pub fn signature_path(list: &Path, number: usize) -> PathBuf {
    let mut name = list.as_os_str().to_owned();
    name.push(format!(".{number}.sig"));
    PathBuf::from(name)
}

fn next(state: &ReceiverState) -> PathBuf {
    state.root().join("trust.next")
}

/// Puts the staged list into the place of the old one. The log must have said so.
///
/// # Errors
/// The system's.
pub fn swap(state: &ReceiverState) -> io::Result<()> {
    let (next, trust) = (next(state), state.trust());
    durable::exchange(&next, &trust)?;
    durable::sync_dir(state.root())?;
    durable::remove_any(&next)
}

/// Reads the list in force at start-up. `imported` is what the log says of the last import; a swap that a crash kept
/// from happening is made up for.
///
/// # Errors
/// [`TrustStoreError::Changed`] when the list is not the one that the log knows; the others when it cannot be used.
pub fn load(
    state: &ReceiverState,
    host: &Host,
    imported: Option<(u32, &str)>,
) -> Result<Option<SignedList>, TrustStoreError> {
    let Some((_, sha256)) = imported else {
        durable::remove_any(&next(state))?;
        return Ok(None);
    };
    let named = |signed: &SignedList| signed.sha256.to_string() == sha256;
    let held = SignedList::read(&state.trust_list());
    let signed = match held {
        Ok(signed) if named(&signed) => {
            durable::remove_any(&next(state))?;
            signed
        }
        _ => {
            let staged = SignedList::read(&next(state).join(LIST_FILE));
            if !staged.is_ok_and(|staged| named(&staged)) {
                return Err(TrustStoreError::Changed);
            }
            swap(state)?;
            SignedList::read(&state.trust_list())?
        }
    };
    signed.verify(host)?;
    Ok(Some(signed))
}

/// The list in force, for a command that only shows it.
///
/// # Errors
/// [`TrustStoreError`] when it cannot be read.
pub fn show(state: &ReceiverState) -> Result<Option<SignedList>, TrustStoreError> {
    match fs::symlink_metadata(state.trust_list()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
        Ok(_) => SignedList::read(&state.trust_list()).map(Some),
    }
}

/// Copies a list and its signatures for a request; returns the names and paths to hand over.
///
/// # Errors
/// The system's.
pub fn files_of(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = vec![(LIST_FILE.to_owned(), path.to_owned())];
    for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
        let signature = signature_path(path, number);
        match fs::symlink_metadata(&signature) {
            Ok(_) => files.push((format!("{LIST_FILE}.{number}.sig"), signature)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}
