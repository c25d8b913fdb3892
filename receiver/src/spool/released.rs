//! A released cable's folder, as whoever reads it checks it: every byte, the approvals, and the trust list that released it.
//! Nothing but the folder and the administrators' keys is needed, so that this works on any machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use valise_common::approval::{Refusal, check_approvals, check_policy};
use valise_common::host::trust_store::{LIST_FILE, SignedList, TrustStoreError};
use valise_common::ids::Sha256Digest;
use valise_common::limits;
use valise_common::manifest::{Manifest, ManifestError};
use valise_common::os::durable;
use valise_common::sshsig::{Signature, SshsigError};
use valise_common::trust::TrustList;
use valise_common::units::UtcTime;

use crate::spool::regular::{is_in_the_way, open_regular};
use crate::steps::publish::{
    MANIFEST_FILE, PAPER_FOLDERS, RECORD_FILE, ReleaseRecord, SUMS_FILE, approval_path, part_files,
    sums, trust_path,
};

/// The most files of a folder: parts, approvals, the list with its signatures, and three more.
const FILES_MAX: usize =
    limits::PARTS_MAX + limits::APPROVALS_MAX + 1 + limits::ADMINISTRATOR_SIGNATURES_MAX + 3;

/// Bytes that are hashed at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Why a folder is not a cable as it was released.
#[derive(Debug, Error)]
pub enum Fault {
    /// The system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is absent.
    #[error("{file} is absent")]
    Absent {
        /// Its path in the folder.
        file: String,
    },
    /// A file cannot be one that was released.
    #[error("{file} is not a file of a released cable: {source}")]
    Unfit {
        /// Its path in the folder.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file was added.
    #[error("{file} was not released with the cable")]
    Foreign {
        /// Its path in the folder.
        file: String,
    },
    /// More files than any cable has.
    #[error("the folder holds more than {FILES_MAX} files")]
    TooMany,
    /// A file has other bytes than `SHA256SUMS` says.
    #[error("{file} does not match {SUMS_FILE}")]
    Sum {
        /// Its path in the folder.
        file: String,
    },
    /// A line of `SHA256SUMS` is of no file.
    #[error("{SUMS_FILE} does not match the files of the folder")]
    Sums,
    /// The manifest is not one.
    #[error("{MANIFEST_FILE} is refused: {0}")]
    Manifest(#[from] ManifestError),
    /// The record is not one.
    #[error("{RECORD_FILE} is refused: {0}")]
    Record(#[from] serde_json::Error),
    /// A part is not the one of the manifest.
    #[error("{file} is not the part that the officers approved")]
    Part {
        /// Its path in the folder.
        file: String,
    },
    /// An approval is not a signature.
    #[error("{file} is refused: {source}")]
    Approval {
        /// Its path in the folder.
        file: String,
        /// Why.
        source: SshsigError,
    },
    /// A signature is sound, and not written as the receiver writes it.
    #[error("{file} is not as the receiver wrote it")]
    Spelling {
        /// Its path in the folder.
        file: String,
    },
    /// The trust list is not one.
    #[error("the trust list is refused: {0}")]
    List(TrustStoreError),
    /// The list does not allow the cable, or does not count its approvals.
    #[error("the trust list of the folder does not release the cable: {0}")]
    Refused(#[from] Refusal),
    /// The record differs from what follows from the other files.
    #[error("{RECORD_FILE} does not agree with the manifest, the approvals and the trust list")]
    OtherRecord,
    /// The cable was judged before its list existed.
    #[error("the cable was verified at {verified}, before its trust list was issued at {issued}")]
    Early {
        /// The time of the record.
        verified: UtcTime,
        /// The time of the list.
        issued: UtcTime,
    },
}

/// A folder in which everything agrees. Only [`ReleasedCable::check`] makes one. Who vouches for its trust list is another
/// question: [`SignedList::verify`].
#[derive(Debug)]
pub struct ReleasedCable {
    manifest: Manifest,
    record: ReleaseRecord,
    signed: SignedList,
    list: TrustList,
}

impl ReleasedCable {
    /// Checks every file of a released cable's folder.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn check(folder: &Path) -> Result<ReleasedCable, Fault> {
        let hashes = hash_files(folder)?;
        check_sums(folder, &hashes)?;
        let manifest_bytes = read(folder, MANIFEST_FILE, limits::MANIFEST_BYTES_MAX)?;
        let manifest = Manifest::decode(&manifest_bytes)?;
        let parts = part_files(&manifest);
        for (file, part) in parts.iter().zip(&manifest.parts) {
            // SHA-256 of another length is another: the manifest's length needs no check of its own, but costs none.
            let length = hashes.get(file).map(|hashed| hashed.bytes);
            let sha256 = hash_of(&hashes, file)?;
            if *sha256.as_bytes() != part.sha256 || length != Some(part.length) {
                return Err(Fault::Part { file: file.clone() });
            }
        }
        let record =
            ReleaseRecord::decode(&read(folder, RECORD_FILE, limits::RELEASED_TEXT_BYTES_MAX)?)?;
        let signed = read_list(folder)?;
        let list = signed.parse().map_err(|error| Fault::List(error.into()))?;
        let approvals: Vec<String> = record.approved_by.iter().map(approval_path).collect();
        let signatures = approvals
            .iter()
            .map(|file| read_approval(folder, file))
            .collect::<Result<Vec<_>, _>>()?;
        let (verified, issued) = (record.verified, list.issued());
        if verified < issued {
            return Err(Fault::Early { verified, issued });
        }
        check_policy(&manifest, &list, verified)?;
        let officers = check_approvals(&manifest, &manifest_bytes, &signatures, &list, verified)?;
        let expected = ReleaseRecord::new(
            &manifest,
            (record.serial, record.container),
            officers,
            (verified, list.version()),
        );
        if record != expected {
            return Err(Fault::OtherRecord);
        }
        // What release writes of the approvals and of the list is determined: the files here are exactly that.
        let mut papers: BTreeMap<String, Vec<u8>> = signed
            .files()
            .into_iter()
            .map(|(name, bytes)| (trust_path(&name), bytes))
            .collect();
        let armor = signatures
            .iter()
            .map(|signature| signature.to_armor().into_bytes());
        papers.extend(approvals.into_iter().zip(armor));
        for (file, bytes) in &papers {
            if *hash_of(&hashes, file)?.as_bytes() != <[u8; 32]>::from(Sha256::digest(bytes)) {
                return Err(Fault::Spelling { file: file.clone() });
            }
        }
        let is_known = |file: &String| {
            file == MANIFEST_FILE
                || file == RECORD_FILE
                || parts.contains(file)
                || papers.contains_key(file)
        };
        match hashes.keys().find(|file| !is_known(file)) {
            Some(file) => Err(Fault::Foreign { file: file.clone() }),
            None => Ok(ReleasedCable {
                manifest,
                record,
                signed,
                list,
            }),
        }
    }

    /// Returns the manifest that the officers signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the receiver recorded.
    pub fn record(&self) -> &ReleaseRecord {
        &self.record
    }

    /// Returns the trust list that released the cable.
    pub fn list(&self) -> &TrustList {
        &self.list
    }

    /// Returns the list's bytes with the administrators' signatures.
    pub fn signed(&self) -> &SignedList {
        &self.signed
    }
}

/// What a file holds.
struct Hashed {
    bytes: u64,
    sha256: Sha256Digest,
}

/// Hashes every file of the folder but `SHA256SUMS`.
fn hash_files(folder: &Path) -> Result<BTreeMap<String, Hashed>, Fault> {
    let mut files = Vec::new();
    list_files(folder, "", &mut files)?;
    for name in PAPER_FOLDERS {
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => list_files(&path, &format!("{name}/"), &mut files)?,
            Ok(_) => {
                return Err(Fault::Foreign {
                    file: name.to_owned(),
                });
            }
            Err(source) => return Err(failed(folder, name, source)),
        }
    }
    let mut hashes = BTreeMap::new();
    for file in files {
        let hashed =
            hash_file(&folder.join(&file)).map_err(|error| failed(folder, &file, error))?;
        hashes.insert(file, hashed);
    }
    Ok(hashes)
}

fn list_files(folder: &Path, prefix: &str, files: &mut Vec<String>) -> Result<(), Fault> {
    let io = |source| Fault::Io {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let file = format!("{prefix}{}", name.to_string_lossy());
        if name.to_str().is_none() {
            return Err(Fault::Foreign { file });
        }
        if file == SUMS_FILE || PAPER_FOLDERS.contains(&file.as_str()) {
            continue;
        }
        if files.len() >= FILES_MAX {
            return Err(Fault::TooMany);
        }
        files.push(file);
    }
    Ok(())
}

fn hash_file(path: &Path) -> io::Result<Hashed> {
    let (mut file, _) = open_regular(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    let mut bytes: u64 = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            let sha256 = Sha256Digest::from_bytes(hasher.finalize().into());
            return Ok(Hashed { bytes, sha256 });
        }
        hasher.update(&buffer[..count]);
        bytes = bytes.saturating_add(u64::try_from(count).map_err(io::Error::other)?);
    }
}

fn hash_of(hashes: &BTreeMap<String, Hashed>, file: &str) -> Result<Sha256Digest, Fault> {
    let hashed = hashes.get(file).ok_or_else(|| Fault::Absent {
        file: file.to_owned(),
    })?;
    Ok(hashed.sha256)
}

/// Compares `SHA256SUMS` with the text that belongs to these files.
fn check_sums(folder: &Path, hashes: &BTreeMap<String, Hashed>) -> Result<(), Fault> {
    let found = read(folder, SUMS_FILE, limits::RELEASED_TEXT_BYTES_MAX)?;
    let hashes = hashes
        .iter()
        .map(|(file, hashed)| (file.clone(), hashed.sha256));
    let hashes: BTreeMap<String, Sha256Digest> = hashes.collect();
    let expected = sums(&hashes);
    if found == expected.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&found);
    let lines: BTreeSet<&str> = found.lines().collect();
    let mut files = expected.lines().zip(hashes.into_keys());
    match files.find(|(line, _)| !lines.contains(line)) {
        Some((_, file)) => Err(Fault::Sum { file }),
        None => Err(Fault::Sums),
    }
}

fn read_list(folder: &Path) -> Result<SignedList, Fault> {
    let file = trust_path(LIST_FILE);
    SignedList::read(&folder.join(&file)).map_err(|error| match error {
        TrustStoreError::Io(source) => failed(folder, &file, source),
        other => Fault::List(other),
    })
}

fn read_approval(folder: &Path, file: &str) -> Result<Signature, Fault> {
    let armor = read(folder, file, limits::SIGNATURE_FILE_BYTES_MAX)?;
    let text = std::str::from_utf8(&armor).map_err(|_| SshsigError::Armor);
    text.and_then(Signature::from_armor)
        .map_err(|source| Fault::Approval {
            file: file.to_owned(),
            source,
        })
}

fn read(folder: &Path, file: &str, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    durable::read_bounded(&folder.join(file), bytes_max)
        .map_err(|source| failed(folder, file, source))
}

/// Tells what is not as it was released from a system that fails.
fn failed(folder: &Path, file: &str, source: io::Error) -> Fault {
    let file = file.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => Fault::Absent { file },
        io::ErrorKind::PermissionDenied => Fault::Io {
            path: folder.join(file),
            source,
        },
        _ if is_in_the_way(&source) => Fault::Unfit { file, source },
        _ => Fault::Io {
            path: folder.join(file),
            source,
        },
    }
}
