//! `Verified → released`: what a mailbox gets, decided before anything is written.
//!
//! ```text
//! released/MAILBOX/SERIAL-MESSAGEID/  manifest.txt  part-001.txt …  approvals/PERSON.sig  release.json
//!                                     trust/trust.toml  trust/trust.toml.1.sig …  SHA256SUMS
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use valise_common::host::folders::{approval_file, part_file};
use valise_common::ids::{
    ChannelId, ContainerHash, MailboxId, MessageId, PersonId, Serial, Sha256Digest,
};
use valise_common::label::Label;
use valise_common::manifest::{Manifest, MediaType};
use valise_common::precedence::Precedence;
use valise_common::units::UtcTime;

use crate::steps::verify::Verified;

/// The name that a cable's folder has while it is staged: which cable, and whose.
///
/// # Shape
/// `SERIAL-MESSAGEID-MAILBOX`; serial and message-id hold no hyphen, so that the rest is the mailbox's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StageName {
    /// The serial.
    pub serial: Serial,
    /// The cable.
    pub message_id: MessageId,
    /// Whose folder it will be.
    pub mailbox: MailboxId,
}

impl StageName {
    /// Reads a name; any other is none.
    pub fn parse(name: &str) -> Option<StageName> {
        let mut fields = name.splitn(3, '-');
        let mut field = || fields.next();
        let (serial, message_id, mailbox) = (field()?, field()?, field()?);
        Some(StageName {
            serial: serial.parse().ok()?,
            message_id: message_id.parse().ok()?,
            mailbox: mailbox.parse().ok()?,
        })
    }
}

impl std::fmt::Display for StageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.serial, self.message_id, self.mailbox)
    }
}

/// Returns the file names of a cable's parts: numbered, with the extension of the media type. What the drafter called a file
/// never becomes a name here.
pub(crate) fn part_files(manifest: &Manifest) -> Vec<String> {
    let names = manifest.parts.iter().zip(1..);
    names
        .map(|(part, number)| part_file(number, part.media_type.extension()))
        .collect()
}

/// A file of a cable's folder that is not a part of the cable: its path in the folder, and its bytes.
pub(crate) type Paper = (String, Vec<u8>);

/// The folders of papers inside a cable's folder.
pub(crate) const PAPER_FOLDERS: [&str; 2] = [APPROVALS_FOLDER, TRUST_FOLDER];

/// The bytes that officers signed.
pub(crate) const MANIFEST_FILE: &str = "manifest.txt";

/// The [`ReleaseRecord`].
pub(crate) const RECORD_FILE: &str = "release.json";

/// What `sha256sum --check` takes: every other file of the folder, in byte order.
pub(crate) const SUMS_FILE: &str = "SHA256SUMS";

const APPROVALS_FOLDER: &str = "approvals";
const TRUST_FOLDER: &str = "trust";

/// Returns the path of an approval in a cable's folder: armoured, so that `ssh-keygen -Y verify` takes it.
pub(crate) fn approval_path(officer: &PersonId) -> String {
    format!("{APPROVALS_FOLDER}/{}", approval_file(officer))
}

/// Returns the path, in a cable's folder, of the trust list or of one of its signatures.
pub(crate) fn trust_path(file: &str) -> String {
    format!("{TRUST_FOLDER}/{file}")
}

/// What `release.json` holds. Its serial, container and time are the receiver's word; the rest follows from the other files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRecord {
    /// The cable's serial.
    pub serial: Serial,
    message_id: MessageId,
    channel: ChannelId,
    /// The whole hash of the cable's container.
    pub container: ContainerHash,
    label: Label,
    precedence: Precedence,
    to: Vec<MailboxId>,
    drafter: PersonId,
    /// When an answer is due; null if the cable asks for none.
    act_by: Option<UtcTime>,
    /// The officers, in the order of their approvals.
    pub approved_by: Vec<PersonId>,
    /// The time by which the cable was judged.
    pub verified: UtcTime,
    trust_version: u32,
    parts: Vec<PartRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartRecord {
    file: String,
    bytes: u64,
    media_type: MediaType,
    sha256: Sha256Digest,
}

impl ReleaseRecord {
    /// Makes the record of a cable that was judged at `verified` by the list of version `trust_version`.
    pub fn new(
        manifest: &Manifest,
        (serial, container): (Serial, ContainerHash),
        approved_by: Vec<PersonId>,
        (verified, trust_version): (UtcTime, u32),
    ) -> ReleaseRecord {
        let parts = manifest.parts.iter().zip(part_files(manifest));
        ReleaseRecord {
            serial,
            message_id: manifest.message_id,
            channel: manifest.channel,
            container,
            label: manifest.label.clone(),
            precedence: manifest.precedence,
            to: manifest.to.clone(),
            drafter: manifest.drafter.clone(),
            act_by: manifest.act_by,
            approved_by,
            verified,
            trust_version,
            parts: parts
                .map(|(part, file)| PartRecord {
                    file,
                    bytes: part.length,
                    media_type: part.media_type.clone(),
                    sha256: Sha256Digest::from_bytes(part.sha256),
                })
                .collect(),
        }
    }

    fn of(cable: &Verified) -> ReleaseRecord {
        let persons = cable.approvals().iter().map(|(person, _)| person.clone());
        ReleaseRecord::new(
            cable.manifest(),
            (cable.serial(), cable.container()),
            persons.collect(),
            (cable.verified_at(), cable.trust_version()),
        )
    }

    /// Returns the bytes of `release.json`.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("writing to memory succeeds");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the bytes of `release.json`.
    ///
    /// # Errors
    /// The parser's.
    pub fn decode(bytes: &[u8]) -> Result<ReleaseRecord, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// Returns the files beside the parts, the same in every mailbox. `list` holds the trust list that decided, and its
/// signatures, by file name.
pub(crate) fn papers(cable: &Verified, list: Vec<(String, Vec<u8>)>) -> Vec<Paper> {
    let mut papers = vec![
        (MANIFEST_FILE.to_owned(), cable.manifest_bytes().to_vec()),
        (RECORD_FILE.to_owned(), ReleaseRecord::of(cable).encode()),
    ];
    papers.extend(
        cable
            .approvals()
            .iter()
            .map(|(person, signature)| (approval_path(person), signature.to_armor().into_bytes())),
    );
    papers.extend(
        list.into_iter()
            .map(|(name, bytes)| (trust_path(&name), bytes)),
    );
    let manifest = cable.manifest();
    let parts = manifest.parts.iter().map(|part| part.sha256);
    let hashes = papers
        .iter()
        .map(|(path, bytes)| (path.clone(), Sha256::digest(bytes).into()))
        .chain(part_files(manifest).into_iter().zip(parts))
        .map(|(path, sha256)| (path, Sha256Digest::from_bytes(sha256)));
    let sums = sums(&hashes.collect());
    papers.push((SUMS_FILE.to_owned(), sums.into_bytes()));
    papers
}

/// Returns the text of `SHA256SUMS` for files by path.
pub(crate) fn sums(hashes: &BTreeMap<String, Sha256Digest>) -> String {
    hashes.iter().fold(String::new(), |text, (path, sha256)| {
        text + &format!("{sha256}  {path}\n")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    #[test]
    fn a_stage_name_round_trips_whatever_the_mailbox_is_called() {
        for mailbox in ["paris-desk", "0", "a.b-c"] {
            let name = StageName {
                serial: Serial::new(17).unwrap(),
                message_id: MessageId::from_bytes([0xab; 16]),
                mailbox: mailbox.parse().unwrap(),
            };
            assert_eq!(StageName::parse(&name.to_string()), Some(name));
        }
    }

    #[test]
    fn foreign_names_are_none() {
        let id = "ab".repeat(16);
        for name in [
            String::new(),
            "17".into(),
            format!("17-{id}"),
            format!("0-{id}-a"),
            format!("17-{id}-A"),
        ] {
            assert_eq!(StageName::parse(&name), None, "{name}");
        }
    }
}
