//! A request folder → a request that can be judged. Copies, parses and measures; runs on gate's loop for small requests and
//! on its worker for large ones, and so holds nothing of gate's state.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use valise_common::host::requests::{Found, Requests, TakeLimits, Taken, TakenFile};
use valise_common::host::trust_store::SignedList;
use valise_common::ids::MessageId;
use valise_common::limits;
use valise_common::os::durable::{SyncBatch, put_away};
use valise_common::os::entropy;
use valise_common::serial_set::SerialSet;
use valise_common::sshsig::{PublicKey, Signature};
use valise_common::units::ByteSize;

use super::courier::{BUNDLE_BYTES_MAX, read_signature, verify_bundle};
use super::host::DISK_RESERVE_BYTES;
use super::intake_error::{IntakeError, Refused, content};
use super::request::{Prepared, PreparedSubmission, Request, RequestText};
use crate::steps::submit::{Draft, Measured};

/// Characters of an officer's reason for a rejection.
pub const REASON_CHARS_MAX: usize = 500;

/// What does not happen: parts are chosen among the files that were taken.
const MISSING: &str = "a chosen file is missing";

/// Reads request folders.
#[derive(Debug, Clone)]
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

    /// Copies a request and reads it. `Some(batch)` syncs the parts of a submission with it.
    ///
    /// # Errors
    /// [`Refused`]; gate's copy is put away then.
    pub fn prepare(&self, found: &Found) -> Result<Prepared, Refused> {
        let mut kind = "request";
        self.act(found, &mut kind)
            .map(|act| Prepared {
                found: found.clone(),
                kind,
                act,
            })
            .map_err(|reason| Refused {
                found: found.clone(),
                kind,
                reason,
            })
    }

    fn act(&self, found: &Found, kind: &mut &'static str) -> Result<Request, IntakeError> {
        let random = entropy::bytes::<8>().map_err(io::Error::other)?;
        let folder = self
            .tmp
            .join(format!("request-{:016x}", u64::from_be_bytes(random)));
        let take_limits = TakeLimits {
            files_max: limits::REQUEST_FILES_MAX,
            bytes_max: self.bytes_max(),
            reserve_bytes: DISK_RESERVE_BYTES,
        };
        // Only the parts of a submission must be durable before the answer, and they are synced where they end up.
        let mut unsynced = SyncBatch::new(&self.tmp)?;
        let taken = self
            .requests
            .intake(found, &folder, take_limits, &mut unsynced);
        let act = match taken {
            Ok(taken) => self.act_of(found, &taken, &folder, kind),
            // What was copied by then is plaintext too.
            Err(error) => Err(error.into()),
        };
        if !matches!(act, Ok(Request::Submit(_))) {
            put_away(&folder, &self.tmp)?;
        }
        act
    }

    fn act_of(
        &self,
        found: &Found,
        taken: &Taken,
        folder: &Path,
        kind: &mut &'static str,
    ) -> Result<Request, IntakeError> {
        let text: RequestText = toml::from_str(&taken.toml)
            .map_err(|error| IntakeError::Toml(toml_fault(&taken.toml, &error)))?;
        *kind = text.as_str();
        Ok(match text {
            RequestText::Submit(draft) => {
                Request::Submit(Box::new(self.submission(found, taken, folder, draft)?))
            }
            RequestText::Approve { id } => Request::Approve {
                id,
                signature: Box::new(only_signature(&taken.files)?),
            },
            RequestText::Reject { id, reason } => {
                let reason =
                    valise_common::manifest::FreeText::normalize(&reason, REASON_CHARS_MAX)
                        .map_err(|error| content("reason", "reason", &error))?;
                Request::Reject {
                    id,
                    reason: reason.as_str().to_owned(),
                }
            }
            RequestText::Withdraw { id } => Request::Withdraw { id },
            RequestText::Resend { serials } => Request::Resend {
                serials: SerialSet::parse(&serials)
                    .map_err(|text| content("serials", "serials", &text))?,
                digest: id_of(digest_of(found, taken).update(taken.idempotency_key.as_bytes())),
            },
            RequestText::BundleImport {} => {
                let path_of = |name: &str| taken.files.get(name).map(|file| file.path.clone());
                Request::BundleImport(Box::new(verify_bundle(path_of, &self.administrators)?))
            }
            RequestText::TrustImport {} => {
                Request::TrustImport(Box::new(SignedList::of_request(&taken.files)?))
            }
            RequestText::ClockAccept {} => Request::ClockAccept,
        })
    }

    fn submission(
        &self,
        found: &Found,
        taken: &Taken,
        folder: &Path,
        draft: Draft,
    ) -> Result<PreparedSubmission, IntakeError> {
        let bytes: u64 = taken.files.values().map(|file| file.bytes).sum();
        if bytes > self.submission_bytes_max {
            let max = ByteSize(self.submission_bytes_max);
            let reason = format!("{bytes} bytes are too many; the configuration takes {max}");
            return Err(content("too-large", "the submission", &reason));
        }
        let chosen = draft
            .choose_parts(&taken.files)
            .map_err(|error| IntakeError::Content {
                code: error.code(),
                what: "the submission",
                reason: error.to_string(),
            })?;
        let mut digest = digest_of(found, taken);
        let mut parts = Vec::with_capacity(chosen.len());
        let mut copies = Vec::with_capacity(chosen.len());
        for part in chosen {
            let Some(file) = taken.files.get(&part.file) else {
                return Err(IntakeError::Files(MISSING));
            };
            let sha256 = *taken
                .sha256
                .get(&part.file)
                .ok_or(IntakeError::Files(MISSING))?;
            let measured = Measured {
                length: file.bytes,
                sha256,
            };
            digest.update(&sha256);
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

/// What a repeated request has in common with the first, but for its files. A submission that is placed again is the same
/// cable; a resend that is placed again is to send again, so that it takes its placing too.
fn digest_of(found: &Found, taken: &Taken) -> blake3::Hasher {
    let mut digest = blake3::Hasher::new_derive_key("valise v1 repeated request");
    for text in [&found.name, &taken.toml] {
        digest.update(&u64::try_from(text.len()).unwrap_or(0).to_be_bytes());
        digest.update(text.as_bytes());
    }
    digest.update(&found.owner_uid.to_be_bytes());
    digest
}

/// Where a request's text is wrong, and how. The parser's own text would repeat the line.
fn toml_fault(text: &str, error: &toml::de::Error) -> String {
    let fault = error.message().replace('\n', " ");
    if let Some(before) = error.span().and_then(|span| text.get(..span.start)) {
        return format!("line {}: {fault}", before.matches('\n').count() + 1);
    }
    // The parser does not tell which key it was: one that holds no text, or where texts are asked for no array.
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let is_at_fault = |(key, value): &(&String, &toml::Value)| match key.as_str() {
        "to" | "files" => !value.is_array(),
        _ => !value.is_str(),
    };
    match table.iter().find(is_at_fault) {
        Some((key, _)) => format!("{}: {fault}", key.escape_default()),
        None => fault,
    }
}

fn id_of(digest: &blake3::Hasher) -> MessageId {
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize().as_bytes()[..16]);
    MessageId::from_bytes(id)
}

fn only_signature(files: &BTreeMap<String, TakenFile>) -> Result<Signature, IntakeError> {
    let mut values = files.values();
    let (Some(file), None) = (values.next(), values.next()) else {
        return Err(IntakeError::Files(
            "an approval needs exactly one signature file",
        ));
    };
    read_signature(&file.path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn a_wrong_request_text_is_told_with_its_line_and_key() {
        let told = |text: &str| {
            let error = toml::from_str::<RequestText>(text).unwrap_err();
            toml_fault(text, &error)
        };
        let least = "request = 'submit'\nlabel = 'EU'\nprecedence = 'flash'\nsubject = 'S'\n";
        let fault = told(&format!("{least}to = 'paris-desk'\n"));
        assert!(fault.starts_with("to: invalid type"), "{fault}");
        let fault = told(&format!(
            "{least}to = ['a']\nnot-after = 2026-12-05T00:00:00Z\n"
        ));
        assert!(fault.starts_with("not-after: "), "{fault}");
        let fault = told(&format!("{least}secret words = [\n"));
        assert!(
            fault.starts_with("line 5: ") && !fault.contains("words"),
            "{fault}"
        );
    }
}
