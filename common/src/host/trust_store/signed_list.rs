//! A trust list with its administrators' signatures beside it: as it was brought, and verified.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::host::requests::TakenFile;
use crate::ids::{ChannelId, ContainerHash, Sha256Digest};
use crate::limits;
use crate::os::durable;
use crate::sshsig::{Namespace, PublicKey, Signature, SshsigError};
use crate::trust::{AdministratorError, IssuedAhead, TrustError, TrustList, verify_administrators};
use crate::units::UtcTime;

/// Name of the list in its folder and among the files of a request.
pub const LIST_FILE: &str = "trust.toml";

/// Why a trust list cannot be used.
#[derive(Debug, Error)]
pub enum TrustStoreError {
    /// The disk.
    #[error("a trust list or a signature cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// A request without a list.
    #[error("the request has no {LIST_FILE}")]
    Absent,
    /// A signature file is not one.
    #[error("signature {number} is refused: {source}")]
    Signature {
        /// The number in its file's name.
        number: usize,
        /// Why.
        source: SshsigError,
    },
    /// Too few administrators signed it, or one of them is a person of it.
    #[error(transparent)]
    Administrators(#[from] AdministratorError),
    /// It is not a list.
    #[error(transparent)]
    List(#[from] TrustError),
    /// It is for another channel.
    #[error("the trust list is for channel {found}, this host is of channel {expected}")]
    Channel {
        /// The list's channel.
        found: ChannelId,
        /// This host's.
        expected: ChannelId,
    },
    /// It is the list in force.
    #[error("trust list version {version} is in force already; nothing was changed")]
    InForce {
        /// Its version.
        version: u32,
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
    #[error(transparent)]
    Issued(#[from] IssuedAhead),
}

impl TrustStoreError {
    /// One word for the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => "not-readable",
                io::ErrorKind::ResourceBusy => "changed",
                _ => "system",
            },
            Self::Absent => "files",
            Self::Signature { .. } => "signature",
            Self::Administrators(_) | Self::List(_) => "trust",
            Self::Channel { .. } => "foreign-channel",
            Self::InForce { .. } | Self::Version { .. } => "trust-rollback",
            Self::Issued(_) => "issued-ahead",
        }
    }

    /// Returns whether the system failed, so that nothing is wrong with the list.
    pub fn is_failure(&self) -> bool {
        self.code() == "system"
    }
}

/// A list as it was brought, with its signatures. Nothing is verified.
#[derive(Debug, Clone)]
pub struct SignedList {
    bytes: Vec<u8>,
    signatures: Vec<Signature>,
}

/// What the log says of the list in force, compared with a list that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its version.
    pub version: u32,
    /// Whether the offered list is this one.
    pub is_offered: bool,
    /// Whether it can be used; one that was damaged on the disk is replaced by itself.
    pub is_usable: bool,
}

/// A list that administrators signed. Only [`SignedList::verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedList {
    /// The list.
    pub list: Arc<TrustList>,
    signed: SignedList,
}

impl VerifiedList {
    /// Returns the list's bytes and its signatures.
    pub fn signed(&self) -> &SignedList {
        &self.signed
    }
}

impl SignedList {
    /// Reads a list and the signatures beside it (`FILE.1.sig` to `FILE.16.sig`; other files are ignored).
    ///
    /// # Errors
    /// [`TrustStoreError::Io`] and [`TrustStoreError::Signature`].
    pub fn read(path: &Path) -> Result<Self, TrustStoreError> {
        Ok(Self {
            bytes: durable::read_bounded(path, limits::TRUST_LIST_BYTES_MAX)?,
            signatures: read_signatures(|number| Some(signature_path(path, number)))?,
        })
    }

    /// Reads a list and its signatures from the files of a request.
    ///
    /// # Errors
    /// [`TrustStoreError::Absent`], and as [`SignedList::read`].
    pub fn of_request(files: &BTreeMap<String, TakenFile>) -> Result<Self, TrustStoreError> {
        let path_of = |name: &str| files.get(name).map(|file| file.path.clone());
        let list = path_of(LIST_FILE).ok_or(TrustStoreError::Absent)?;
        Ok(Self {
            bytes: durable::read_bounded(&list, limits::TRUST_LIST_BYTES_MAX)?,
            signatures: read_signatures(|number| path_of(&signature_name(LIST_FILE, number)))?,
        })
    }

    /// Returns BLAKE3 of the list, by which the sender's log names it.
    pub fn blake3(&self) -> ContainerHash {
        ContainerHash::from_bytes(*blake3::hash(&self.bytes).as_bytes())
    }

    /// Returns SHA-256 of the list, by which the receiver's log names it.
    pub fn sha256(&self) -> Sha256Digest {
        sha256_of(&self.bytes)
    }

    /// Returns whether anybody signed it.
    pub(crate) fn is_signed(&self) -> bool {
        !self.signatures.is_empty()
    }

    /// Returns what the list means, whoever made it.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn parse(&self) -> Result<TrustList, TrustError> {
        TrustList::parse(&self.bytes)
    }

    /// Verifies that enough of these administrators signed the list, and that none of them is a person of it.
    ///
    /// # Errors
    /// [`TrustStoreError::Administrators`] and [`TrustStoreError::List`].
    pub fn verify(self, administrators: &[PublicKey]) -> Result<VerifiedList, TrustStoreError> {
        // First, so that nothing is read that a stranger made.
        verify_administrators(
            &self.bytes,
            &self.signatures,
            Namespace::TrustList,
            administrators,
        )?;
        let list = self.parse()?;
        list.check_apart(administrators)?;
        Ok(VerifiedList {
            list: Arc::new(list),
            signed: self,
        })
    }

    /// Verifies a list that is to be put into force on a host of this channel, while the clock says `clock`.
    ///
    /// # Errors
    /// [`TrustStoreError`] with the first reason against it.
    pub fn admit(
        self,
        administrators: &[PublicKey],
        channel: Option<ChannelId>,
        held: Option<Held>,
        clock: UtcTime,
    ) -> Result<VerifiedList, TrustStoreError> {
        let verified = self.verify(administrators)?;
        check_succession(&verified.list, channel, held)?;
        // Last, so that only a list that is one tells anything of this host's clock.
        verified.list.check_issued(clock)?;
        Ok(verified)
    }

    /// Returns the list and its signatures by the names of their files, as [`SignedList::read`] takes them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let signatures = (1..).zip(&self.signatures).map(|(number, signature)| {
            let armor = signature.to_armor().into_bytes();
            (signature_name(LIST_FILE, number), armor)
        });
        iter::once((LIST_FILE.to_owned(), self.bytes.clone()))
            .chain(signatures)
            .collect()
    }
}

pub(super) fn sha256_of(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest::from_bytes(Sha256::digest(bytes).into())
}

/// Checks that a list is for this host's channel, and that its version is above the one in force.
///
/// # Errors
/// [`TrustStoreError::Channel`], [`TrustStoreError::InForce`] and [`TrustStoreError::Version`].
pub(crate) fn check_succession(
    list: &TrustList,
    channel: Option<ChannelId>,
    held: Option<Held>,
) -> Result<(), TrustStoreError> {
    let (found, offered) = (list.channel(), list.version());
    match (channel, held) {
        (Some(expected), _) if expected != found => {
            Err(TrustStoreError::Channel { found, expected })
        }
        (_, Some(held)) if held.is_offered && held.is_usable => {
            Err(TrustStoreError::InForce { version: offered })
        }
        (_, Some(held)) if !held.is_offered && offered <= held.version => {
            let held = held.version;
            Err(TrustStoreError::Version { offered, held })
        }
        _ => Ok(()),
    }
}

/// Reads the signatures of a list or a statement; numbers without a file are skipped.
///
/// # Errors
/// [`TrustStoreError::Io`], and [`TrustStoreError::Signature`] unless enough of the others are signatures.
pub fn read_signatures(
    path_of: impl Fn(usize) -> Option<PathBuf>,
) -> Result<Vec<Signature>, TrustStoreError> {
    let (mut signatures, mut fault) = (Vec::new(), None);
    for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
        let Some(path) = path_of(number) else {
            continue;
        };
        let armor = match durable::read_bounded(&path, limits::SIGNATURE_FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            armor => armor?,
        };
        let signature = std::str::from_utf8(&armor)
            .map_err(|_| SshsigError::Armor)
            .and_then(Signature::from_armor);
        match signature {
            Ok(signature) => signatures.push(signature),
            Err(source) => {
                fault = fault.or(Some(TrustStoreError::Signature { number, source }));
            }
        }
    }
    match fault {
        // A file that is not a signature does no harm beside two that are.
        Some(fault) if signatures.len() < limits::ADMINISTRATORS_MIN => Err(fault),
        _ => Ok(signatures),
    }
}

/// Finds a signed file and the signatures beside it, for a request in which it is called `name`.
///
/// # Errors
/// The system's, for a file that is not there too.
pub fn signed_files(path: &Path, name: &str) -> io::Result<Vec<(String, PathBuf)>> {
    fs::metadata(path)?;
    let mut files = vec![(name.to_owned(), path.to_owned())];
    for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
        let signature = signature_path(path, number);
        match fs::symlink_metadata(&signature) {
            Ok(_) => files.push((signature_name(name, number), signature)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// Returns the name of the n-th signature beside a file, counted from 1.
pub fn signature_name(name: &str, number: usize) -> String {
    format!("{name}.{number}.sig")
}

/// Returns the path of the n-th signature beside a file, counted from 1.
pub(crate) fn signature_path(path: &Path, number: usize) -> PathBuf {
    path.with_added_extension(format!("{number}.sig"))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sshsig::KeyKind;
    use crate::sshsig::forge::Forge;
    use crate::trust::sample;

    const ADMINISTRATORS: [u8; 3] = [71, 72, 73];

    pub(in super::super) fn administrators() -> Vec<PublicKey> {
        let key = |seed| Forge::new(KeyKind::SkEd25519, seed).public_key();
        ADMINISTRATORS.map(key).to_vec()
    }

    fn signature(seed: u8, text: &str) -> String {
        let mut forge = Forge::new(KeyKind::SkEd25519, seed);
        forge.namespace = Namespace::TrustList.as_str();
        forge.signature(text.as_bytes()).to_armor()
    }

    /// The sample list of a version, signed by two administrators.
    pub(in super::super) fn signed(version: u32) -> SignedList {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any name");
        let text = sample::changed("version = 7", &format!("version = {version}"));
        fs::write(&path, &text).unwrap();
        for (number, seed) in [(2, 71), (5, 73)] {
            fs::write(signature_path(&path, number), signature(seed, &text)).unwrap();
        }
        SignedList::read(&path).unwrap()
    }

    #[test]
    fn a_list_is_admitted_by_signatures_then_channel_then_version_then_issue() {
        let (channel, other) = (sample::list().channel(), ChannelId::from_bytes([9; 16]));
        let now = sample::list().issued();
        let past = UtcTime::from_s(now.as_s() - 3_600);
        let held = |version, is_offered, is_usable| {
            Some(Held {
                version,
                is_offered,
                is_usable,
            })
        };
        let judge = |channel, held, clock| {
            let admitted = signed(7).admit(&administrators(), channel, held, clock);
            admitted.map_or_else(|error| error.code(), |_| "admitted")
        };
        for (held, code) in [
            (None, "admitted"),
            (held(6, false, true), "admitted"),
            (held(7, false, true), "trust-rollback"),
            (held(7, false, false), "trust-rollback"),
            (held(8, false, true), "trust-rollback"),
            (held(7, true, true), "trust-rollback"),
            // Its own copy repairs a damaged list.
            (held(7, true, false), "admitted"),
        ] {
            assert_eq!(judge(Some(channel), held, now), code, "{held:?}");
            assert_eq!(judge(Some(other), held, now), "foreign-channel");
        }
        assert_eq!(judge(None, None, now), "admitted");
        assert_eq!(judge(None, None, past), "issued-ahead");
        assert_eq!(judge(None, held(8, false, true), past), "trust-rollback");
        let strangers = &administrators()[..2];
        let refused = signed(7).admit(strangers, Some(other), None, past);
        assert_eq!(refused.unwrap_err().code(), "trust");
    }

    #[test]
    fn a_file_that_is_no_signature_does_no_harm_beside_two_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LIST_FILE);
        let text = sample::text();
        fs::write(&path, &text).unwrap();
        assert!(!SignedList::read(&path).unwrap().is_signed());
        fs::write(signature_path(&path, 1), [0xff; 10]).unwrap();
        fs::write(signature_path(&path, 3), signature(71, &text)).unwrap();
        assert!(matches!(
            SignedList::read(&path),
            Err(TrustStoreError::Signature { number: 1, .. })
        ));
        fs::write(signature_path(&path, 16), signature(72, &text)).unwrap();
        fs::write(signature_path(&path, 17), "too many").unwrap();
        let read = SignedList::read(&path).unwrap();
        let verified = read.verify(&administrators()).unwrap();
        assert_eq!(verified.signed().files().len(), 3);
        // A request has the same files under the same names.
        let files = signed_files(&path, LIST_FILE).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["", ".1.sig", ".3.sig", ".16.sig"].map(|end| format!("trust.toml{end}"));
        assert_eq!(names, expected);
        let mut taken: BTreeMap<String, TakenFile> = files
            .into_iter()
            .map(|(name, path)| (name, TakenFile { path, bytes: 0 }))
            .collect();
        let asked = SignedList::of_request(&taken).unwrap();
        asked.verify(&administrators()).unwrap();
        taken.remove(LIST_FILE);
        let refused = SignedList::of_request(&taken).unwrap_err();
        assert_eq!(refused.code(), "files");
    }
}
