//! `Verified → released`: what a mailbox gets, decided before anything is written.
//!
//! ```text
//! released/MAILBOX/SERIAL-MESSAGEID/  manifest.txt  part-001.txt …  approvals/PERSON.sig  release.json
//! ```

use serde_json::json;
use valise_common::ids::{MailboxId, MessageId, Serial, Sha256Digest};
use valise_common::manifest::Manifest;
use valise_common::os::layout::{approval_file, part_file};

use crate::stage::verify::Verified;

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

/// The file names of a cable's parts: numbered, with the extension of the media type. What the drafter called a file
/// never becomes a name here.
pub fn part_files(manifest: &Manifest) -> Vec<String> {
    let names = manifest.parts.iter().zip(1..);
    names
        .map(|(part, number)| part_file(number, part.media_type.extension()))
        .collect()
}

/// The files of a cable's folder that stand beside its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Papers {
    /// `manifest.txt`: the bytes that officers signed.
    pub manifest: Vec<u8>,
    /// `approvals/PERSON.sig`, armoured, so that `ssh-keygen -Y verify` takes them.
    pub approvals: Vec<(String, String)>,
    /// `release.json`.
    pub release: Vec<u8>,
}

/// What stands beside the parts in the folder of every mailbox.
pub fn papers(cable: &Verified) -> Papers {
    let manifest = cable.manifest();
    let parts: Vec<_> = manifest
        .parts
        .iter()
        .zip(part_files(manifest))
        .map(|(part, file)| {
            json!({
                "file": file,
                "bytes": part.length,
                "media_type": part.media_type.as_str(),
                "sha256": Sha256Digest::from_bytes(part.sha256),
            })
        })
        .collect();
    let release = json!({
        "serial": cable.serial(),
        "message_id": manifest.message_id,
        "channel": manifest.channel,
        "container": cable.container(),
        "label": manifest.label,
        "precedence": manifest.precedence,
        "to": manifest.to,
        "drafter": manifest.drafter,
        "approved_by": cable.approvals().iter().map(|(person, _)| person).collect::<Vec<_>>(),
        "verified": cable.verified_at(),
        "trust_version": cable.trust_version(),
        "parts": parts,
    });
    let mut release = format!("{release:#}").into_bytes();
    release.push(b'\n');
    Papers {
        manifest: cable.manifest_bytes().to_vec(),
        approvals: cable
            .approvals()
            .iter()
            .map(|(person, signature)| (approval_file(person), signature.to_armor()))
            .collect(),
        release,
    }
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
