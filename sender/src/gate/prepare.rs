//! A request folder → a wish that can be judged. Copies, parses and measures; runs on gate's loop for small requests and
//! on its worker for large ones, and so holds nothing of gate's state.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use valise_common::bundle::{Bundle, SLOT_RECORD_BYTES, Statement};
use valise_common::ids::{ContainerHash, MessageId, Serial};
use valise_common::limits;
use valise_common::os::durable::{SyncBatch, read_bounded, remove_any};
use valise_common::os::entropy;
use valise_common::os::request::{Found, RequestRefused, Requests, TakeLimits, Taken, TakenFile};
use valise_common::seal::check_public;
use valise_common::sshsig::{Namespace, PublicKey, Signature};
use valise_common::trust::verify_administrators;
use zeroize::Zeroizing;

use crate::io::trust_store::SignedList;
use crate::stage::submit::{ChosenPart, Draft, Measured};

/// Bytes of the largest bundle: its header, and a record for each slot.
const BUNDLE_BYTES_MAX: usize = 76 + 1_000_000 * SLOT_RECORD_BYTES;

const _: () = assert!(limits::SLOTS_MAX <= 1_000_000);

/// The names of a bundle's files in the courier's folder and in a request.
pub const BUNDLE_NAME: &str = "channel.bundle";
/// The statement that administrators sign.
pub const STATEMENT_NAME: &str = "channel.bundle.statement";
/// The trust list's name in a request.
pub const TRUST_NAME: &str = "trust.toml";

/// What `request.toml` asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Asked {
    /// Submit the other files as a cable.
    Submit(Draft),
    /// Take the one other file as an approval.
    Approve {
        /// The cable.
        id: MessageId,
    },
    /// End a submission, as an officer.
    Reject {
        /// The cable.
        id: MessageId,
        /// Why.
        reason: String,
    },
    /// End a submission, as its drafter.
    Withdraw {
        /// The cable.
        id: MessageId,
    },
    /// Queue retained containers again.
    Resend {
        /// Serials and ranges.
        serials: String,
    },
    /// Take the courier's material.
    BundleImport {},
    /// Take a trust list.
    TrustImport {},
    /// Take the clock as right.
    ClockAccept {},
}

impl Asked {
    fn word(&self) -> &'static str {
        match self {
            Asked::Submit(_) => "submit",
            Asked::Approve { .. } => "approve",
            Asked::Reject { .. } => "reject",
            Asked::Withdraw { .. } => "withdraw",
            Asked::Resend { .. } => "resend",
            Asked::BundleImport {} => "bundle-import",
            Asked::TrustImport {} => "trust-import",
            Asked::ClockAccept {} => "clock-accept",
        }
    }
}

/// A request that can be judged.
#[derive(Debug)]
pub struct Prepared {
    /// The folder's name.
    pub name: String,
    /// The folder's owner.
    pub owner_uid: u32,
    /// What is asked, with everything that it needs.
    pub wish: Wish,
}

/// What is asked, with everything that it needs.
#[derive(Debug)]
pub enum Wish {
    /// A cable, copied and measured.
    Submit(Box<PreparedSubmission>),
    /// An approval.
    Approve {
        /// The cable.
        id: MessageId,
        /// The approval.
        signature: Box<Signature>,
    },
    /// An officer's end of a submission.
    Reject {
        /// The cable.
        id: MessageId,
        /// Why.
        reason: String,
    },
    /// The drafter's end of a submission.
    Withdraw {
        /// The cable.
        id: MessageId,
    },
    /// Serials to queue again.
    Resend {
        /// Ranges with both ends.
        ranges: Vec<(Serial, Serial)>,
        /// Digest of the request: the same for a repeated one.
        digest: MessageId,
    },
    /// A bundle whose statement and keys have been verified.
    BundleImport(Box<VerifiedBundle>),
    /// A trust list, not yet verified.
    TrustImport(Box<SignedList>),
    /// The clock is right.
    ClockAccept,
}

/// A draft with gate's own copies of its parts.
#[derive(Debug)]
pub struct PreparedSubmission {
    /// What was asked.
    pub draft: Draft,
    /// The parts in order, measured.
    pub parts: Vec<(ChosenPart, Measured)>,
    /// Where the copies stand, in the same order; they are not synced unless `durable`.
    pub copies: Vec<PathBuf>,
    /// The folder that holds them.
    pub folder: PathBuf,
    /// Digest of the request: the same for a repeated one.
    pub digest: MessageId,
    /// Whether the copies have been synced already.
    pub durable: bool,
}

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

/// A request that is refused before anybody judges it.
#[derive(Debug)]
pub struct Refused {
    /// The folder's name.
    pub name: String,
    /// The folder's owner.
    pub owner_uid: u32,
    /// What was asked, as far as it could be read.
    pub request: &'static str,
    /// Why.
    pub reason: Unfit,
}

/// Why a request is refused before anybody judges it.
#[derive(Debug, Error)]
pub enum Unfit {
    /// The folder breaks a rule.
    #[error(transparent)]
    Folder(#[from] RequestRefused),
    /// `request.toml` cannot be read.
    #[error("request.toml: {0}")]
    Toml(String),
    /// The request has other files than it should.
    #[error("{0}")]
    Files(&'static str),
    /// Something in it is not what it should be.
    #[error("{what}: {reason}")]
    Content {
        /// A word for the audit log.
        code: &'static str,
        /// Which part of the request.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The disk cannot take it.
    #[error("the disk is nearly full ({free_bytes} bytes free, {needed_bytes} needed)")]
    DiskFull {
        /// What is free.
        free_bytes: u64,
        /// What would be needed.
        needed_bytes: u64,
    },
    /// The system failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl Unfit {
    /// One word for the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Unfit::Folder(RequestRefused::System(_)) => "system",
            Unfit::Folder(_) => "folder",
            Unfit::Toml(_) => "request-toml",
            Unfit::Files(_) => "files",
            Unfit::Content { code, .. } => code,
            Unfit::DiskFull { .. } => "disk-full",
            Unfit::System(_) => "system",
        }
    }

    /// Whether the system failed, so that nothing is wrong with the request.
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            Unfit::DiskFull { .. } | Unfit::System(_) | Unfit::Folder(RequestRefused::System(_))
        )
    }
}

/// Turns request folders into wishes.
#[derive(Debug)]
pub struct Preparer {
    /// The host's requests.
    pub requests: Requests,
    /// Gate's staging folder.
    pub tmp: PathBuf,
    /// Whose signatures put bundles into force.
    pub administrators: Vec<PublicKey>,
    /// Bytes of one submission's parts together.
    pub submission_bytes_max: u64,
}

impl Preparer {
    /// Bytes of the largest request that is looked at.
    pub fn bytes_max(&self) -> u64 {
        self.submission_bytes_max
            .max(u64::try_from(BUNDLE_BYTES_MAX).unwrap_or(u64::MAX))
    }

    /// Copies a request and makes a wish of it. `Some(batch)` syncs the parts of a submission with it.
    ///
    /// # Errors
    /// [`Refused`]; gate's copy is gone then.
    pub fn prepare(&self, found: &Found) -> Result<Prepared, Refused> {
        let mut request = "request";
        self.wish(found, &mut request)
            .map(|wish| Prepared {
                name: found.name.clone(),
                owner_uid: found.owner_uid,
                wish,
            })
            .map_err(|reason| Refused {
                name: found.name.clone(),
                owner_uid: found.owner_uid,
                request,
                reason,
            })
    }

    fn wish(&self, found: &Found, request: &mut &'static str) -> Result<Wish, Unfit> {
        let random = entropy::bytes::<8>().map_err(io::Error::other)?;
        let folder = self
            .tmp
            .join(format!("request-{:016x}", u64::from_be_bytes(random)));
        let take_limits = TakeLimits {
            files_max: limits::REQUEST_FILES_MAX,
            bytes_max: self.bytes_max(),
        };
        // Only the parts of a submission must be durable before the answer, and they are synced where they end up.
        let mut unsynced = SyncBatch::new(&self.tmp)?;
        let taken = self
            .requests
            .intake(found, &folder, take_limits, &mut unsynced)?;
        let wish = self.wish_of(found, &taken, &folder, request);
        if !matches!(wish, Ok(Wish::Submit(_))) {
            if request == &"bundle-import" {
                for file in taken.files.values() {
                    // This copy holds every PSK. What the author's copy held is the author's to destroy.
                    let _ = overwrite(file);
                }
            }
            remove_any(&folder)?;
        }
        wish
    }

    fn wish_of(
        &self,
        found: &Found,
        taken: &Taken,
        folder: &Path,
        request: &mut &'static str,
    ) -> Result<Wish, Unfit> {
        // The parser's snippet would repeat lines of the request; its message names the fault alone.
        let asked: Asked = toml::from_str(&taken.toml)
            .map_err(|error| Unfit::Toml(error.message().replace('\n', " ")))?;
        *request = asked.word();
        Ok(match asked {
            Asked::Submit(draft) => {
                Wish::Submit(Box::new(self.submission(found, taken, folder, draft)?))
            }
            Asked::Approve { id } => Wish::Approve {
                id,
                signature: Box::new(only_signature(&taken.files)?),
            },
            Asked::Reject { id, reason } => {
                let reason = valise_common::manifest::FreeText::normalize(&reason, 500)
                    .map_err(|error| content("reason", "reason", &error))?;
                Wish::Reject {
                    id,
                    reason: reason.as_str().to_owned(),
                }
            }
            Asked::Withdraw { id } => Wish::Withdraw { id },
            Asked::Resend { serials } => Wish::Resend {
                ranges: parse_ranges(&serials)
                    .map_err(|text| content("serials", "serials", &text))?,
                digest: id_of(&digest_of(found, taken)),
            },
            Asked::BundleImport {} => {
                Wish::BundleImport(Box::new(verify_bundle(&taken.files, &self.administrators)?))
            }
            Asked::TrustImport {} => Wish::TrustImport(Box::new(signed_list(&taken.files)?)),
            Asked::ClockAccept {} => Wish::ClockAccept,
        })
    }

    fn submission(
        &self,
        found: &Found,
        taken: &Taken,
        folder: &Path,
        draft: Draft,
    ) -> Result<PreparedSubmission, Unfit> {
        let bytes: u64 = taken.files.values().map(|file| file.bytes).sum();
        if bytes > self.submission_bytes_max {
            let max = self.submission_bytes_max;
            let reason = format!("{bytes} bytes are too many; the configuration takes {max}");
            return Err(content("too-large", "the submission", &reason));
        }
        let chosen = draft
            .choose_parts(&taken.files)
            .map_err(|error| Unfit::Content {
                code: error.code(),
                what: "the submission",
                reason: error.to_string(),
            })?;
        let mut digest = digest_of(found, taken);
        let mut parts = Vec::with_capacity(chosen.len());
        let mut copies = Vec::with_capacity(chosen.len());
        for part in chosen {
            let Some(file) = taken.files.get(&part.file) else {
                return Err(Unfit::Files("a chosen file is missing"));
            };
            let measured = measure(&file.path)?;
            digest.update(&measured.sha256);
            parts.push((part, measured));
            copies.push(file.path.clone());
        }
        let digest = id_of(&digest);
        let folder = folder.to_owned();
        Ok(PreparedSubmission {
            draft,
            parts,
            copies,
            folder,
            digest,
            durable: false,
        })
    }
}

/// What a repeated request has in common with the first, but for its files.
fn digest_of(found: &Found, taken: &Taken) -> blake3::Hasher {
    let mut digest = blake3::Hasher::new_derive_key("valise v1 repeated request");
    for text in [&found.name, &taken.toml] {
        digest.update(&u64::try_from(text.len()).unwrap_or(0).to_be_bytes());
        digest.update(text.as_bytes());
    }
    digest.update(&found.owner_uid.to_be_bytes());
    digest
}

fn id_of(digest: &blake3::Hasher) -> MessageId {
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize().as_bytes()[..16]);
    MessageId::from_bytes(id)
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

impl VerifiedBundle {
    /// SHA-256 of the whole bundle, as the ledger keeps it.
    pub fn sha256(&self) -> ContainerHash {
        ContainerHash::from_bytes(self.statement.sha256)
    }
}

fn content(code: &'static str, what: &'static str, reason: &dyn std::fmt::Display) -> Unfit {
    Unfit::Content {
        code,
        what,
        reason: reason.to_string(),
    }
}

/// Reads a file of a request. One that is too large, or no file, is its author's mistake.
fn read(path: &Path, what: &'static str, bytes_max: usize) -> Result<Vec<u8>, Unfit> {
    read_bounded(path, bytes_max).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => {
            content("not-readable", what, &error)
        }
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
    let mut signatures = Vec::new();
    for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
        let Some(file) = files.get(&format!("{base}.{number}.sig")) else {
            continue;
        };
        signatures.push(read_signature(&file.path)?);
    }
    Ok(signatures)
}

fn read_signature(path: &Path) -> Result<Signature, Unfit> {
    let bytes = read(path, "a signature file", limits::REQUEST_TEXT_BYTES_MAX)?;
    std::str::from_utf8(&bytes)
        .map_err(|_| valise_common::sshsig::SshsigError::Armor)
        .and_then(Signature::from_armor)
        .map_err(|error| content("signature", "a signature file", &error))
}

fn only_signature(files: &BTreeMap<String, TakenFile>) -> Result<Signature, Unfit> {
    let mut values = files.values();
    let (Some(file), None) = (values.next(), values.next()) else {
        return Err(Unfit::Files("an approval needs exactly one signature file"));
    };
    read_signature(&file.path)
}

fn measure(path: &Path) -> io::Result<Measured> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    // Memory is locked, so an idle part of a buffer costs as much as a used one.
    let bytes = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // It holds plaintext, which must not stay on the heap behind the sealing.
    let mut buffer = Zeroizing::new(vec![0; bytes.clamp(1, 256 << 10)]);
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Measured {
                length,
                sha256: hasher.finalize().into(),
            });
        }
        hasher.update(&buffer[..count]);
        length += u64::try_from(count).map_err(io::Error::other)?;
    }
}

fn overwrite(file: &TakenFile) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let opened = std::fs::OpenOptions::new().write(true).open(&file.path)?;
    let zeros = vec![0; 64 << 10];
    let mut offset = 0;
    while offset < file.bytes {
        let count = usize::try_from(file.bytes - offset)
            .unwrap_or(zeros.len())
            .min(zeros.len());
        opened.write_all_at(&zeros[..count], offset)?;
        offset += u64::try_from(count).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Reads `41-43,50`: serials and ranges with both ends, ascending or not.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_ranges(text: &str) -> Result<Vec<(Serial, Serial)>, String> {
    let parse = |text: &str| {
        text.trim().parse::<Serial>().map_err(|_| {
            "serials and ranges of them, with commas between them, such as 41-43,50".to_owned()
        })
    };
    let mut ranges = Vec::new();
    for range in text.split(',') {
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (parse(first)?, parse(last)?),
            None => (parse(range)?, parse(range)?),
        };
        if last < first {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        ranges.push((first, last));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn every_request_is_understood_and_unknown_keys_are_refused() {
        let id = "0123456789abcdef0123456789abcdef";
        for (text, word) in [
            (
                "request = 'submit'\nlabel = 'EU'\nto = ['a']\nprecedence = 'flash'\nsubject = 'S'"
                    .to_owned(),
                "submit",
            ),
            (format!("request = 'approve'\nid = '{id}'"), "approve"),
            (
                format!("request = 'reject'\nid = '{id}'\nreason = 'r'"),
                "reject",
            ),
            (format!("request = 'withdraw'\nid = '{id}'"), "withdraw"),
            ("request = 'resend'\nserials = '1-2'".to_owned(), "resend"),
            ("request = 'bundle-import'".to_owned(), "bundle-import"),
            ("request = 'trust-import'".to_owned(), "trust-import"),
            ("request = 'clock-accept'".to_owned(), "clock-accept"),
        ] {
            assert_eq!(toml::from_str::<Asked>(&text).unwrap().word(), word);
            let surprising = format!("{text}\nsurprise = 1");
            assert!(toml::from_str::<Asked>(&surprising).is_err(), "{word}");
        }
        assert!(toml::from_str::<Asked>("request = 'release'").is_err());
    }

    #[test]
    fn ranges_are_read_with_both_ends() {
        let serial = |number| Serial::new(number).unwrap();
        assert_eq!(
            parse_ranges("41-43, 50").unwrap(),
            [(serial(41), serial(43)), (serial(50), serial(50))]
        );
        for wrong in ["", "0", "3-1", "1-", "x", "1,,2", "V1-ABCD"] {
            assert!(parse_ranges(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_measured_and_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        std::fs::write(&path, b"abc").unwrap();
        let measured = measure(&path).unwrap();
        assert_eq!(measured.length, 3);
        assert_eq!(hex::encode(&measured.sha256[..4]), "ba7816bf");
        overwrite(&TakenFile {
            path: path.clone(),
            bytes: 3,
        })
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [0; 3]);
    }
}
