//! What `gate` writes into its audit log, and reads back from it at start-up.
//!
//! The log is the commit point of every cable's history, so an event carries all that the register is rolled forward
//! from. It carries no content, no subject, no file name and no key.

use serde::{Deserialize, Serialize};
use valise_common::ids::{
    BundleId, ChannelId, ContainerHash, MailboxId, MessageId, PersonId, Serial,
};
use valise_common::label::Label;
use valise_common::precedence::Precedence;
use valise_common::units::UtcTime;

/// One act of `gate`. It has happened when its line is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The process began to take requests.
    Start {
        /// True while the trust list allows software keys.
        software_keys: bool,
    },
    /// The process ended as it was told to.
    Stop,
    /// A submission became durable.
    Submitted {
        /// The cable.
        id: MessageId,
        /// Digest of the request, so that a repeated one gets the same answer.
        request: MessageId,
        /// Who drafted it.
        drafter: PersonId,
        /// Its label.
        label: Label,
        /// Its precedence.
        precedence: Precedence,
        /// Its mailboxes.
        to: Vec<MailboxId>,
        /// Its last moment.
        not_after: UtcTime,
        /// When an answer is due.
        act_by: Option<UtcTime>,
        /// Bytes of its parts.
        body_bytes: u64,
        /// Distinct officers that its label asks for.
        needed: u8,
    },
    /// An officer's approval was verified and stored.
    Approved {
        /// The cable.
        id: MessageId,
        /// The officer.
        by: PersonId,
    },
    /// A request was refused. The reason is a word without content.
    Refused {
        /// What was asked.
        request: String,
        /// Which cable, where that is known.
        id: Option<MessageId>,
        /// Who asked: a person, or the number of an unmapped user.
        by: String,
        /// Why, as a fixed word.
        reason: String,
    },
    /// An officer ended a submission.
    Rejected {
        /// The cable.
        id: MessageId,
        /// The officer.
        by: PersonId,
        /// The officer's words.
        reason: String,
    },
    /// The drafter ended a submission.
    Withdrawn {
        /// The cable.
        id: MessageId,
        /// The drafter.
        by: PersonId,
    },
    /// A submission reached its last moment before it was sealed.
    Expired {
        /// The cable.
        id: MessageId,
    },
    /// A quorum is complete and a serial is issued: step ① of sealing.
    Sealing {
        /// The cable.
        id: MessageId,
        /// Its serial, for ever.
        serial: Serial,
        /// The bundle whose slot seals it.
        bundle: BundleId,
    },
    /// The container is durable: step ③ of sealing.
    Sealed {
        /// The cable.
        id: MessageId,
        /// Its serial.
        serial: Serial,
        /// BLAKE3 of the whole container.
        container: ContainerHash,
        /// Length of the container.
        container_bytes: u64,
        /// Passes that `transmit` is to make.
        passes: u8,
    },
    /// `transmit` has made every pass that was asked for.
    Transmitted {
        /// The cable's serial.
        serial: Serial,
        /// Passes made so far.
        passes: u8,
    },
    /// A retained container was queued again.
    Resent {
        /// The cable's serial.
        serial: Serial,
        /// Passes that `transmit` is to make in all.
        passes: u8,
        /// Who asked.
        by: String,
        /// Digest of the request, so that a repeated one has no second effect.
        #[serde(default)]
        request: Option<MessageId>,
    },
    /// A sealed cable was not sent, or not with all its passes, and never will be.
    GivenUp {
        /// The cable's serial.
        serial: Serial,
        /// Why, as a fixed word.
        reason: String,
    },
    /// A container that was sent is no longer kept.
    Retired {
        /// The cable's serial.
        serial: Serial,
    },
    /// A trust list took effect.
    TrustImported {
        /// Its version.
        version: u32,
        /// Its channel.
        channel: ChannelId,
        /// BLAKE3 of its bytes.
        hash: ContainerHash,
    },
    /// A bundle took effect.
    BundleImported {
        /// Its number.
        bundle: BundleId,
        /// Its channel.
        channel: ChannelId,
        /// Its first serial.
        first_serial: Serial,
        /// Its slots.
        count: u32,
        /// The bundle whose unused slots it makes void.
        replaces: Option<BundleId>,
        /// SHA-256 of the bundle, as its signed statement says.
        sha256: ContainerHash,
    },
    /// The clock leapt ahead; nothing expires until it is put back or accepted.
    ClockLeapt {
        /// What it says.
        clock: UtcTime,
    },
    /// A clock that had leapt ahead was put back.
    ClockRestored,
    /// "Now" was set to the clock. The line carries the clock's time, so that the last audit time follows.
    ClockAccepted {
        /// What "now" was before.
        before: UtcTime,
        /// The user that asked for it.
        uid: u32,
    },
    /// Something needs a person.
    Alarm {
        /// What, as a fixed word.
        alarm: String,
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

    #[test]
    fn every_event_reads_back_as_it_was_written() {
        let id: MessageId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let channel = ChannelId::from_bytes([9; 16]);
        let serial = Serial::new(41).unwrap();
        let hash = ContainerHash::from_bytes([3; 32]);
        let by: PersonId = "b.officer".parse().unwrap();
        let events = [
            Event::Start {
                software_keys: true,
            },
            Event::Stop,
            Event::Submitted {
                id,
                request: id,
                drafter: by.clone(),
                label: "EU-RESTRICTED LIMITE".parse().unwrap(),
                precedence: Precedence::Flash,
                to: vec!["paris-desk".parse().unwrap()],
                not_after: UtcTime::from_s(1_800_000_000),
                act_by: Some(UtcTime::from_s(1_700_000_000)),
                body_bytes: 4096,
                needed: 2,
            },
            Event::Approved { id, by: by.clone() },
            Event::Refused {
                request: "approve".into(),
                id: None,
                by: "uid 7".into(),
                reason: "unknown-key".into(),
            },
            Event::Rejected {
                id,
                by: by.clone(),
                reason: "not now".into(),
            },
            Event::Withdrawn { id, by },
            Event::Expired { id },
            Event::Sealing {
                id,
                serial,
                bundle: BundleId(1),
            },
            Event::Sealed {
                id,
                serial,
                container: hash,
                container_bytes: 6000,
                passes: 2,
            },
            Event::Transmitted { serial, passes: 2 },
            Event::Resent {
                serial,
                passes: 4,
                by: "a.person".into(),
                request: Some(id),
            },
            Event::GivenUp {
                serial,
                reason: "expired".into(),
            },
            Event::Retired { serial },
            Event::TrustImported {
                version: 7,
                channel,
                hash,
            },
            Event::BundleImported {
                bundle: BundleId(2),
                channel,
                first_serial: serial,
                count: 10,
                replaces: Some(BundleId(1)),
                sha256: hash,
            },
            Event::ClockLeapt {
                clock: UtcTime::from_s(1_900_000_000),
            },
            Event::ClockRestored,
            Event::ClockAccepted {
                before: UtcTime::from_s(1_900_000_000),
                uid: 1_000,
            },
            Event::Alarm {
                alarm: "slots-low".into(),
            },
        ];
        for event in events {
            let (text, value) = (serde_json::to_string(&event).unwrap(), json!(event));
            for key in value.as_object().unwrap().keys() {
                assert!(!["seq", "time", "prev", "mac"].contains(&key.as_str()));
                assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{key}");
            }
            assert_eq!(serde_json::from_value::<Event>(value).unwrap(), event);
        }
    }

    #[test]
    fn a_line_has_its_fields_in_the_order_of_the_event() {
        let event = Event::Resent {
            serial: Serial::new(41).unwrap(),
            passes: 4,
            by: "a.person".into(),
            request: None,
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"resent","serial":41,"passes":4,"by":"a.person","request":null}"#
        );
    }

    #[test]
    fn a_word_of_a_newer_program_changes_nothing() {
        let newer = json!({ "event": "checkpointed", "x": 1 });
        assert_eq!(
            serde_json::from_value::<Event>(newer).unwrap(),
            Event::Other
        );
        let lacking = json!({ "event": "expired" });
        assert!(serde_json::from_value::<Event>(lacking).is_err());
    }
}
