//! What happens on the isolated side, as lines of the audit log. An event has happened when its line is durable; the
//! register is rolled forward from these lines, so that writing and reading them stand side by side here.

use serde::{Deserialize, Serialize};
use valise_common::ids::{
    BundleId, ContainerHash, ContainerId, LinkKeyId, MailboxId, MessageId, Serial,
};
use valise_common::units::UtcTime;

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// The user.
    pub uid: u32,
    /// Which placing of a request asked, so that the same placing gets the same answer after a crash; none if a command
    /// did it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
}

impl Asker {
    /// A user whose command does it by itself.
    pub fn user(uid: u32) -> Asker {
        Asker { uid, asked: None }
    }
}

/// One event of `release`. No content, no subject, no file name and no key is in any of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use serde_json::json;

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

    #[test]
    fn what_is_written_is_read_back() {
        for event in samples() {
            let (text, value) = (serde_json::to_string(&event).unwrap(), json!(event));
            for key in value.as_object().unwrap().keys() {
                assert!(!["seq", "time", "prev", "mac"].contains(&key.as_str()));
                assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{key}");
            }
            assert_eq!(serde_json::from_value::<Event>(value).unwrap(), event);
        }
    }

    #[test]
    fn a_line_has_its_fields_in_the_order_of_the_event_and_who_asked_behind_them() {
        let mut by = Asker::user(1000);
        for asked in [r#""#, r#","asked":"0f""#] {
            let event = Event::TrustImported {
                version: 7,
                sha256: "ab".to_owned(),
                by: by.clone(),
            };
            assert_eq!(
                serde_json::to_string(&event).unwrap(),
                format!(
                    r#"{{"event":"trust-imported","version":7,"sha256":"ab","uid":1000{asked}}}"#
                )
            );
            by.asked = Some("0f".to_owned());
        }
    }

    #[test]
    fn a_word_of_a_newer_program_changes_nothing() {
        let newer = json!({ "event": "from-the-future", "x": 1 });
        assert_eq!(
            serde_json::from_value::<Event>(newer).unwrap(),
            Event::Other
        );
        let lacking = json!({ "event": "released", "serial": 0 });
        assert!(serde_json::from_value::<Event>(lacking).is_err());
    }
}
