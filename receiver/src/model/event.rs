//! What happens on the isolated side, as lines of the audit log. An event has happened when its line is durable; the
//! register is rolled forward from these lines, so that writing and reading them stand side by side here.

use serde::Deserialize;
use serde_json::{Value, json};
use valise_common::ids::{
    BundleId, ContainerHash, ContainerId, LinkKeyId, MailboxId, MessageId, Serial,
};
use valise_common::units::UtcTime;

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Asker {
    /// The user.
    pub uid: u32,
    /// Which placing of a request asked, so that the same placing gets the same answer after a crash; none if a command
    /// did it by itself.
    #[serde(default)]
    pub asked: Option<String>,
}

impl Asker {
    /// A user whose command does it by itself.
    pub fn user(uid: u32) -> Asker {
        Asker { uid, asked: None }
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let asked = self.asked.iter().map(|asked| ("asked", json!(asked)));
        std::iter::once(("uid", json!(self.uid)))
            .chain(asked)
            .collect()
    }
}

/// One event of `release`. No content, no subject, no file name and no key is in any of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The process began to work.
    Started {
        /// The program's version.
        version: String,
        /// Whether the trust list lets software keys approve.
        software_keys: bool,
    },
    /// The process ended in order.
    Stopped,
    /// A newer trust list decides from here on.
    TrustImported {
        /// Its version.
        version: u32,
        /// Its SHA-256, in hexadecimal.
        sha256: String,
        /// Who asked for it.
        #[serde(flatten)]
        by: Asker,
    },
    /// Serials of a bundle whose containers have arrived, more than the line has room for that will make the bundle void:
    /// that line follows, and has the last of them. For a bundle that is not void they mean nothing.
    SlotsKept {
        /// The bundle.
        bundle: BundleId,
        /// The serials.
        kept: Vec<(Serial, Serial)>,
    },
    /// A bundle was made for the courier.
    BundleCreated {
        /// Its number.
        bundle: BundleId,
        /// First serial.
        first: Serial,
        /// Number of slots.
        count: u32,
        /// The link key that it brings.
        link_key: LinkKeyId,
        /// The bundle whose unused slots became void.
        replaces: Option<BundleId>,
        /// Serials of the replaced bundle whose containers had arrived: they keep their slots until they are judged.
        #[serde(default)]
        kept: Vec<(Serial, Serial)>,
        /// SHA-256 of `channel.bundle`, in hexadecimal.
        sha256: String,
        /// Who asked for it.
        #[serde(flatten)]
        by: Asker,
    },
    /// The unused slots of a bundle were destroyed.
    BundleVoided {
        /// The bundle.
        bundle: BundleId,
        /// Serials whose containers had arrived: they keep their slots until they are judged.
        #[serde(default)]
        kept: Vec<(Serial, Serial)>,
        /// The operator's words.
        reason: String,
        /// Who asked for it.
        #[serde(flatten)]
        by: Asker,
    },
    /// An old link key was ended before its time.
    LinkKeyRetired {
        /// The key.
        link_key: LinkKeyId,
        /// The bundle that brought it; key ids come round again.
        bundle: BundleId,
        /// Who asked for it.
        #[serde(flatten)]
        by: Asker,
    },
    /// "Now" was set back to the clock. The line carries the clock's time, so that the last audit time follows.
    ClockAccepted {
        /// What "now" was before.
        before: UtcTime,
        /// What it is from here on: later than the line, if the trust list was issued later.
        now: UtcTime,
        /// Who asked for it.
        #[serde(flatten)]
        by: Asker,
    },
    /// Every folder of a cable is staged and durable; from here on its message-id is seen, for ever.
    Publishing {
        /// The serial.
        serial: Serial,
        /// The whole hash of the container.
        container: ContainerHash,
        /// The cable.
        message_id: MessageId,
        /// Who gets it.
        to: Vec<MailboxId>,
        /// When an answer is due.
        act_by: Option<UtcTime>,
        /// The trust list that decided.
        trust_version: u32,
        /// The placing of the request that asked for a recheck, if one did.
        #[serde(default)]
        asked: Option<String>,
    },
    /// Every folder of a cable was made visible.
    Released {
        /// The serial.
        serial: Serial,
        /// The cable.
        message_id: MessageId,
    },
    /// A container opened, but its cable may not be released. It claims its serial; its slot is kept.
    Quarantined {
        /// The serial.
        serial: Serial,
        /// The whole hash of the container.
        container: ContainerHash,
        /// The cable, when its manifest could be read.
        message_id: Option<MessageId>,
        /// The reason in one word.
        code: String,
        /// The reason in a sentence.
        reason: String,
    },
    /// A quarantined cable was verified again and is still held.
    Rechecked {
        /// The serial.
        serial: Serial,
        /// The reason in one word.
        code: String,
        /// The reason in a sentence.
        reason: String,
        /// Who asked for it.
        #[serde(flatten)]
        by: Asker,
    },
    /// A quarantined cable was destroyed.
    Discarded {
        /// The serial.
        serial: Serial,
        /// The operator's words.
        reason: String,
        /// Who asked for it.
        #[serde(flatten)]
        by: Asker,
    },
    /// A container did not open and was deleted; slot and serial stay open.
    Unopened {
        /// The serial that its name claimed.
        serial: Serial,
        /// Its name on the link.
        container: ContainerId,
        /// Why, in one word.
        code: String,
    },
    /// A second container for a claimed serial was deleted; nothing changed.
    SecondContainer {
        /// The claimed serial.
        serial: Serial,
        /// The other container's name on the link.
        container: ContainerId,
    },
    /// Serials are missing that were not known to be.
    Gap {
        /// First missing serial.
        first: Serial,
        /// Last missing serial.
        last: Serial,
        /// The bundle whose link key verified the beacon that told it.
        bundle: BundleId,
    },
    /// These serials are not missing after all: only beacons of an older link key said so, and the newer key's do not.
    GapWithdrawn {
        /// First serial.
        first: Serial,
        /// Last serial.
        last: Serial,
    },
    /// The sender says that these serials will not be sent.
    NotSent {
        /// First serial.
        first: Serial,
        /// Last serial.
        last: Serial,
        /// The bundle whose link key verified the beacon that told it.
        bundle: BundleId,
    },
    /// These serials may be sent after all: only beacons of an older link key said otherwise, and they are not believed
    /// any more.
    NotSentWithdrawn {
        /// First serial.
        first: Serial,
        /// Last serial.
        last: Serial,
    },
    /// An operator's request was refused.
    RequestRefused {
        /// What was asked for.
        request: String,
        /// Why not.
        reason: String,
        /// Who asked.
        #[serde(flatten)]
        by: Asker,
    },
    /// Something that an operator must look at.
    Alarm {
        /// What, in one word.
        code: String,
        /// What, in a sentence.
        text: String,
    },
    /// A line of a newer program; it changes nothing here.
    #[serde(other)]
    Other,
}

impl Event {
    /// The event's name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Started { .. } => "started",
            Event::Stopped => "stopped",
            Event::TrustImported { .. } => "trust-imported",
            Event::SlotsKept { .. } => "slots-kept",
            Event::BundleCreated { .. } => "bundle-created",
            Event::BundleVoided { .. } => "bundle-voided",
            Event::LinkKeyRetired { .. } => "link-key-retired",
            Event::ClockAccepted { .. } => "clock-accepted",
            Event::Publishing { .. } => "publishing",
            Event::Released { .. } => "released",
            Event::Quarantined { .. } => "quarantined",
            Event::Rechecked { .. } => "rechecked",
            Event::Discarded { .. } => "discarded",
            Event::Unopened { .. } => "unopened",
            Event::SecondContainer { .. } => "second-container",
            Event::Gap { .. } => "gap",
            Event::GapWithdrawn { .. } => "gap-withdrawn",
            Event::NotSent { .. } => "not-sent",
            Event::NotSentWithdrawn { .. } => "not-sent-withdrawn",
            Event::RequestRefused { .. } => "request-refused",
            Event::Alarm { .. } => "alarm",
            Event::Other => "other",
        }
    }

    /// The event's fields in the order of the log.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        match self {
            Event::Started {
                version,
                software_keys,
            } => {
                vec![
                    ("version", json!(version)),
                    ("software_keys", json!(software_keys)),
                ]
            }
            Event::Stopped | Event::Other => Vec::new(),
            Event::TrustImported {
                version,
                sha256,
                by,
            } => [
                vec![("version", json!(version)), ("sha256", json!(sha256))],
                by.fields(),
            ]
            .concat(),
            Event::SlotsKept { bundle, kept } => {
                vec![("bundle", json!(bundle)), ("kept", json!(kept))]
            }
            Event::BundleCreated {
                bundle,
                first,
                count,
                link_key,
                replaces,
                kept,
                sha256,
                by,
            } => [
                vec![
                    ("bundle", json!(bundle)),
                    ("first", json!(first)),
                    ("count", json!(count)),
                    ("link_key", json!(link_key)),
                    ("replaces", json!(replaces)),
                    ("kept", json!(kept)),
                    ("sha256", json!(sha256)),
                ],
                by.fields(),
            ]
            .concat(),
            Event::BundleVoided {
                bundle,
                kept,
                reason,
                by,
            } => [
                vec![
                    ("bundle", json!(bundle)),
                    ("kept", json!(kept)),
                    ("reason", json!(reason)),
                ],
                by.fields(),
            ]
            .concat(),
            Event::LinkKeyRetired {
                link_key,
                bundle,
                by,
            } => [
                vec![("link_key", json!(link_key)), ("bundle", json!(bundle))],
                by.fields(),
            ]
            .concat(),
            Event::ClockAccepted { before, now, by } => [
                vec![("before", json!(before)), ("now", json!(now))],
                by.fields(),
            ]
            .concat(),
            Event::Publishing {
                serial,
                container,
                message_id,
                to,
                act_by,
                trust_version,
                asked,
            } => {
                let mut fields = vec![
                    ("serial", json!(serial)),
                    ("container", json!(container)),
                    ("message_id", json!(message_id)),
                    ("to", json!(to)),
                    ("act_by", json!(act_by)),
                    ("trust_version", json!(trust_version)),
                ];
                fields.extend(asked.iter().map(|asked| ("asked", json!(asked))));
                fields
            }
            Event::Released { serial, message_id } => {
                vec![("serial", json!(serial)), ("message_id", json!(message_id))]
            }
            Event::Quarantined {
                serial,
                container,
                message_id,
                code,
                reason,
            } => vec![
                ("serial", json!(serial)),
                ("container", json!(container)),
                ("message_id", json!(message_id)),
                ("code", json!(code)),
                ("reason", json!(reason)),
            ],
            Event::Rechecked {
                serial,
                code,
                reason,
                by,
            } => [
                vec![
                    ("serial", json!(serial)),
                    ("code", json!(code)),
                    ("reason", json!(reason)),
                ],
                by.fields(),
            ]
            .concat(),
            Event::Discarded { serial, reason, by } => [
                vec![("serial", json!(serial)), ("reason", json!(reason))],
                by.fields(),
            ]
            .concat(),
            Event::Unopened {
                serial,
                container,
                code,
            } => vec![
                ("serial", json!(serial)),
                ("container", json!(container)),
                ("code", json!(code)),
            ],
            Event::SecondContainer { serial, container } => {
                vec![("serial", json!(serial)), ("container", json!(container))]
            }
            Event::Gap {
                first,
                last,
                bundle,
            }
            | Event::NotSent {
                first,
                last,
                bundle,
            } => vec![
                ("first", json!(first)),
                ("last", json!(last)),
                ("bundle", json!(bundle)),
            ],
            Event::GapWithdrawn { first, last } | Event::NotSentWithdrawn { first, last } => {
                vec![("first", json!(first)), ("last", json!(last))]
            }
            Event::RequestRefused {
                request,
                reason,
                by,
            } => [
                vec![("request", json!(request)), ("reason", json!(reason))],
                by.fields(),
            ]
            .concat(),
            Event::Alarm { code, text } => vec![("code", json!(code)), ("text", json!(text))],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use valise_common::audit::AuditRecord;

    use super::*;

    fn samples() -> Vec<Event> {
        let serial = Serial::new(4).unwrap();
        let hash = ContainerHash::from_bytes([7; 32]);
        let message_id = MessageId::from_bytes([9; 16]);
        let by = Asker {
            uid: 1000,
            asked: Some("0f".to_owned()),
        };
        let text = "no \"content\"".to_owned();
        vec![
            Event::Started {
                version: "1".to_owned(),
                software_keys: true,
            },
            Event::Stopped,
            Event::TrustImported {
                version: 7,
                sha256: "ab".to_owned(),
                by: by.clone(),
            },
            Event::SlotsKept {
                bundle: BundleId(1),
                kept: vec![(serial, serial)],
            },
            Event::BundleCreated {
                bundle: BundleId(2),
                first: serial,
                count: 3,
                link_key: LinkKeyId(1),
                replaces: Some(BundleId(1)),
                kept: vec![(serial, serial)],
                sha256: "cd".to_owned(),
                by: by.clone(),
            },
            Event::BundleVoided {
                bundle: BundleId(2),
                kept: Vec::new(),
                reason: text.clone(),
                by: by.clone(),
            },
            Event::LinkKeyRetired {
                link_key: LinkKeyId(1),
                bundle: BundleId(1),
                by: by.clone(),
            },
            Event::ClockAccepted {
                before: "2036-01-01T00:00:00Z".parse().unwrap(),
                now: "2026-01-01T00:00:00Z".parse().unwrap(),
                by: by.clone(),
            },
            Event::Publishing {
                serial,
                container: hash,
                message_id,
                to: vec!["paris-desk".parse().unwrap()],
                act_by: "2026-11-30T12:00:00Z".parse().ok(),
                trust_version: 7,
                asked: Some("0f".to_owned()),
            },
            Event::Released { serial, message_id },
            Event::Quarantined {
                serial,
                container: hash,
                message_id: None,
                code: "expired".to_owned(),
                reason: text.clone(),
            },
            Event::Rechecked {
                serial,
                code: "expired".to_owned(),
                reason: text.clone(),
                by: by.clone(),
            },
            Event::Discarded {
                serial,
                reason: text.clone(),
                by: by.clone(),
            },
            Event::Unopened {
                serial,
                container: hash.id(),
                code: "sealed-key".to_owned(),
            },
            Event::SecondContainer {
                serial,
                container: hash.id(),
            },
            Event::Gap {
                first: serial,
                last: serial,
                bundle: BundleId(1),
            },
            Event::GapWithdrawn {
                first: serial,
                last: serial,
            },
            Event::NotSent {
                first: serial,
                last: serial,
                bundle: BundleId(1),
            },
            Event::NotSentWithdrawn {
                first: serial,
                last: serial,
            },
            Event::RequestRefused {
                request: "x".to_owned(),
                reason: text.clone(),
                by: by.clone(),
            },
            Event::Alarm {
                code: "x".to_owned(),
                text,
            },
        ]
    }

    fn read(word: &str, fields: Vec<(&'static str, Value)>) -> Result<Event, serde_json::Error> {
        let record = AuditRecord {
            seq: 3,
            time: UtcTime::from_s(50),
            event: word.to_owned(),
            fields: fields
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        };
        record.read().map(|recorded| recorded.event)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for event in samples() {
            let fields = event.fields();
            for (index, (key, _)) in fields.iter().enumerate() {
                assert!(!["seq", "time", "event", "prev", "mac"].contains(key));
                assert!(fields[..index].iter().all(|(other, _)| other != key));
            }
            assert_eq!(read(event.name(), fields).unwrap(), event);
        }
    }

    #[test]
    fn a_word_of_a_newer_program_changes_nothing() {
        let unknown = read("from-the-future", vec![("x", json!(1))]);
        assert_eq!(unknown.unwrap(), Event::Other);
        assert!(read("released", vec![("serial", json!(0))]).is_err());
    }
}
