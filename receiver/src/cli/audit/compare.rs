//! What both hosts' logs say of each serial, gathered line by line. Pure: lines in, rows out.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use valise_common::audit::{AuditRecord, Recorded};
use valise_common::ids::{BundleId, ChannelId, ContainerHash, MessageId, Serial, Sha256Digest};

use super::row::{Received, ReceivedState, Row, Sent};
use crate::model::event::Event;
use valise_common::serial_set::SerialSet;

/// What `gate` writes that matters here. The sender's program is another one: only the format of its lines is shared.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum SenderEvent {
    Sealing {
        id: MessageId,
        serial: Serial,
    },
    Sealed {
        id: MessageId,
        serial: Serial,
        container: ContainerHash,
    },
    Transmitted {
        serial: Serial,
    },
    GivenUp {
        serial: Serial,
        reason: String,
    },
    BundleImported {
        bundle: BundleId,
        channel: ChannelId,
        sha256: Sha256Digest,
    },
    #[serde(other)]
    Other,
}

/// A line that verified and yet is not what its program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no line of {0}: is it another role's log?")]
pub(super) struct NotOfRole(&'static str);

/// Both logs, as far as they were read.
///
/// # Bounds
/// A row a serial, and the bundles; lines that name no serial cost nothing.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    rows: BTreeMap<Serial, Row>,
    gaps: SerialSet,
    not_sent: SerialSet,
    /// Serials of void bundles whose containers had arrived before.
    kept: SerialSet,
    made: BTreeMap<BundleId, Made>,
    imported: BTreeMap<BundleId, Sha256Digest>,
    channels: [Option<ChannelId>; 2],
}

/// A bundle that the receiver made.
#[derive(Debug)]
struct Made {
    first: Serial,
    last: Serial,
    sha256: String,
    is_void: bool,
}

impl Comparison {
    /// Takes a line of gate's log.
    ///
    /// # Errors
    /// [`NotOfRole`] for a line of another shape.
    pub(super) fn take_sender(&mut self, line: &[u8]) -> Result<(), NotOfRole> {
        let event = serde_json::from_slice(line).map_err(|_| NotOfRole("gate"))?;
        match event {
            SenderEvent::Sealing { id, serial } => self.sent(serial).id = Some(id),
            SenderEvent::Sealed {
                id,
                serial,
                container,
            } => {
                let sent = self.sent(serial);
                sent.id = Some(id);
                sent.containers.push(container);
            }
            SenderEvent::Transmitted { serial } => self.sent(serial).is_transmitted = true,
            SenderEvent::GivenUp { serial, reason } => {
                self.sent(serial).given_up = Some(reason.into_boxed_str());
            }
            SenderEvent::BundleImported {
                bundle,
                channel,
                sha256,
            } => {
                self.channels[0] = Some(channel);
                self.imported.insert(bundle, sha256);
            }
            SenderEvent::Other => {}
        }
        Ok(())
    }

    fn sent(&mut self, serial: Serial) -> &mut Sent {
        let row = self.rows.entry(serial).or_default();
        row.sent.get_or_insert_default()
    }

    /// Takes a line of release's log.
    ///
    /// # Errors
    /// [`NotOfRole`] for a line of another shape.
    pub(super) fn take_receiver(&mut self, line: &[u8]) -> Result<(), NotOfRole> {
        let record = AuditRecord::parse(line).ok_or(NotOfRole("release"))?;
        if record.event == "init" {
            let channel = record.fields.get("channel").and_then(Value::as_str);
            self.channels[1] = channel.and_then(|text| text.parse().ok());
            return Ok(());
        }
        let Recorded { event, .. } = record.read().map_err(|_| NotOfRole("release"))?;
        match event {
            Event::Publishing {
                serial,
                container,
                message_id,
                ..
            } => self.received(serial).claim(
                ReceivedState::Publishing,
                Some(container),
                Some(message_id),
                None,
            ),
            Event::Released { serial, message_id } => {
                self.received(serial)
                    .claim(ReceivedState::Released, None, Some(message_id), None)
            }
            Event::Quarantined {
                serial,
                container,
                message_id,
                code,
                ..
            } => self.received(serial).claim(
                ReceivedState::Quarantined,
                Some(container),
                message_id,
                Some(code.into_boxed_str()),
            ),
            Event::Rechecked { serial, code, .. } => self.received(serial).claim(
                ReceivedState::Quarantined,
                None,
                None,
                Some(code.into_boxed_str()),
            ),
            Event::Discarded { serial, reason, .. } => self.received(serial).claim(
                ReceivedState::Discarded,
                None,
                None,
                Some(reason.into_boxed_str()),
            ),
            Event::Gap { first, last, .. } => self.gaps.insert_range(first, last),
            Event::GapWithdrawn { first, last } => self.gaps.remove_range(first, last),
            Event::NotSent { first, last, .. } => self.not_sent.insert_range(first, last),
            Event::NotSentWithdrawn { first, last } => self.not_sent.remove_range(first, last),
            Event::BundleCreated {
                bundle,
                first,
                count,
                replaces,
                kept,
                sha256,
                ..
            } => {
                self.void(replaces, &kept);
                let last = first.plus(u64::from(count.saturating_sub(1)));
                let made = Made {
                    first,
                    last: last.unwrap_or(first),
                    sha256,
                    is_void: false,
                };
                self.made.insert(bundle, made);
            }
            Event::BundleVoided { bundle, kept, .. } => self.void(Some(bundle), &kept),
            Event::SlotsKept { kept, .. } => self.void(None, &kept),
            _ => {}
        }
        Ok(())
    }

    fn received(&mut self, serial: Serial) -> &mut Received {
        let row = self.rows.entry(serial).or_default();
        row.received.get_or_insert_default()
    }

    fn void(&mut self, bundle: Option<BundleId>, kept: &[(Serial, Serial)]) {
        for (first, last) in kept {
            self.kept.insert_range(*first, *last);
        }
        if let Some(made) = bundle.and_then(|bundle| self.made.get_mut(&bundle)) {
            made.is_void = true;
        }
    }

    /// Goes over every serial that either log names.
    pub(super) fn finish(mut self) -> Compared {
        let missing: Vec<Serial> = self.gaps.iter().collect();
        for serial in missing {
            self.rows.entry(serial).or_default().is_gap = true;
        }
        for (serial, row) in &mut self.rows {
            row.is_not_sent = self.not_sent.contains(*serial);
            let is_in = |made: &Made| (made.first..=made.last).contains(serial);
            row.is_void = !self.kept.contains(*serial)
                && self.made.values().any(|made| made.is_void && is_in(made));
        }
        let faults = self.faults();
        Compared {
            rows: self.rows,
            faults,
        }
    }

    /// What is wrong with the channel as a whole.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let [Some(sender), Some(receiver)] = self.channels
            && sender != receiver
        {
            faults.push(format!(
                "the sender's log is of channel {sender}, this host's of {receiver}"
            ));
        }
        for (bundle, sha256) in &self.imported {
            match self.made.get(bundle) {
                None => faults.push(format!("bundle {bundle} was imported but never made here")),
                Some(made) if made.sha256 != sha256.to_string() => faults.push(format!(
                    "bundle {bundle} was imported with another hash than it was made with"
                )),
                Some(_) => {}
            }
        }
        faults
    }
}

/// Both logs, compared.
#[derive(Debug)]
pub(super) struct Compared {
    /// Every serial that either names.
    pub rows: BTreeMap<Serial, Row>,
    /// What is wrong with the channel as a whole.
    pub faults: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use serde_json::json;
    use valise_common::audit::Chain;
    use valise_common::secret::Secret32;
    use valise_common::units::UtcTime;

    use super::super::row::{Problem, State};
    use super::*;

    const CHANNEL: &str = "0123456789abcdef0123456789abcdef";

    fn id(serial: u64) -> MessageId {
        MessageId::from_bytes([serial as u8; 16])
    }

    fn hash(serial: u64) -> ContainerHash {
        ContainerHash::from_bytes([serial as u8; 32])
    }

    #[derive(Default)]
    struct Logs(Comparison);

    impl Logs {
        fn line(event: &str, fields: &[(&str, Value)]) -> Vec<u8> {
            let mut line = Vec::new();
            Chain::start(Secret32::new([1; 32])).append(&mut line, UtcTime::EPOCH, event, fields);
            line.pop();
            line
        }

        fn sender(&mut self, event: &str, fields: &[(&str, Value)]) -> &mut Self {
            self.0.take_sender(&Self::line(event, fields)).unwrap();
            self
        }

        fn receiver(&mut self, event: &str, fields: &[(&str, Value)]) -> &mut Self {
            self.0.take_receiver(&Self::line(event, fields)).unwrap();
            self
        }

        fn sealed(&mut self, serial: u64) -> &mut Self {
            let names = [("id", json!(id(serial))), ("serial", json!(serial))];
            let bundle = [&names[..], &[("bundle", json!(1))]].concat();
            let container = [&names[..], &[("container", json!(hash(serial)))]].concat();
            self.sender("sealing", &bundle).sender("sealed", &container)
        }

        fn claimed(&mut self, event: &str, serial: u64, container: ContainerHash) -> &mut Self {
            let fields = [
                ("serial", json!(serial)),
                ("container", json!(container)),
                ("message_id", json!(id(serial))),
                ("to", json!(["paris-desk"])),
                ("trust_version", json!(1)),
                ("code", json!("expired")),
                ("reason", json!("too late")),
            ];
            self.receiver(event, &fields)
        }

        fn released(&mut self, serial: u64) -> &mut Self {
            let fields = [("serial", json!(serial)), ("message_id", json!(id(serial)))];
            self.receiver("released", &fields)
        }

        fn bundle(&mut self, bundle: u32, first: u64, replaces: Option<u32>) -> &mut Self {
            let fields = [
                ("bundle", json!(bundle)),
                ("first", json!(first)),
                ("count", json!(10)),
                ("link_key", json!(bundle)),
                ("replaces", json!(replaces)),
                ("sha256", json!("ab".repeat(32))),
                ("uid", json!(0)),
            ];
            self.receiver("bundle-created", &fields)
        }

        fn imported(&mut self, bundle: u32, channel: &str, sha256: &str) -> &mut Self {
            let fields = [
                ("bundle", json!(bundle)),
                ("channel", json!(channel)),
                ("sha256", json!(sha256.repeat(32))),
            ];
            self.sender("bundle-imported", &fields)
        }

        fn states(self) -> Vec<(u64, State, Option<Problem>)> {
            let rows = self.0.finish().rows;
            rows.iter()
                .map(|(serial, row)| (serial.get(), row.state(), row.problem()))
                .collect()
        }
    }

    #[test]
    fn each_serial_is_in_the_state_that_both_logs_give_it() {
        let mut logs = Logs::default();
        for serial in 1..=7 {
            logs.sealed(serial);
        }
        logs.sender("sealing", &[("id", json!(id(8))), ("serial", json!(8))]);
        for serial in [1, 2, 3, 4] {
            logs.sender("transmitted", &[("serial", json!(serial))]);
        }
        logs.sender(
            "given-up",
            &[("serial", json!(5)), ("reason", json!("void"))],
        );
        logs.claimed("publishing", 1, hash(1)).released(1);
        logs.claimed("quarantined", 2, hash(2));
        logs.claimed("quarantined", 3, hash(3)).receiver(
            "discarded",
            &[
                ("serial", json!(3)),
                ("reason", json!("withdrawn")),
                ("uid", json!(0)),
            ],
        );
        let range = |first: u64, last: u64| {
            [
                ("first", json!(first)),
                ("last", json!(last)),
                ("bundle", json!(1)),
            ]
        };
        logs.receiver("gap", &range(6, 7));
        logs.receiver("gap-withdrawn", &range(7, 7)[..2]);
        logs.receiver("not-sent", &range(7, 7));
        logs.receiver("not-sent-withdrawn", &range(7, 7)[..2]);
        assert_eq!(
            logs.states(),
            [
                (1, State::Released, None),
                (2, State::Quarantined, None),
                (3, State::Discarded, None),
                (4, State::Missing, None),
                (5, State::NotSent, None),
                (6, State::Missing, None),
                (7, State::Sealed, None),
                (8, State::Issued, None),
            ]
        );
    }

    #[test]
    fn what_a_beacon_calls_not_sent_is_missing_unless_the_senders_log_gives_it_up() {
        let mut logs = Logs::default();
        logs.sealed(1).sealed(2);
        let reason = [("serial", json!(2)), ("reason", json!("expired"))];
        logs.sender("given-up", &reason);
        let all = [
            ("first", json!(1)),
            ("last", json!(3)),
            ("bundle", json!(1)),
        ];
        logs.receiver("not-sent", &all);
        let told: Vec<_> = logs.states().into_iter().take(2).collect();
        assert_eq!(
            told,
            [
                (1, State::Missing, Some(Problem::ToldNotSent)),
                (2, State::NotSent, None),
            ]
        );
    }

    #[test]
    fn what_was_never_sealed_is_named_whatever_the_receiver_made_of_it() {
        let mut logs = Logs::default();
        logs.claimed("publishing", 1, hash(1)).released(1);
        logs.claimed("quarantined", 2, hash(2));
        logs.sender("sealing", &[("id", json!(id(3))), ("serial", json!(3))]);
        logs.claimed("publishing", 3, hash(3));
        let unsealed = Some(Problem::Unsealed);
        assert_eq!(
            logs.states(),
            [
                (1, State::ReleasedUnsealed, unsealed),
                (2, State::Quarantined, unsealed),
                (3, State::ReleasedUnsealed, unsealed),
            ]
        );
    }

    #[test]
    fn another_container_or_cable_than_was_sealed_is_named() {
        let mut logs = Logs::default();
        logs.sealed(1).sealed(2).sealed(3);
        logs.claimed("publishing", 1, hash(9)).released(1);
        logs.receiver(
            "released",
            &[("serial", json!(2)), ("message_id", json!(id(9)))],
        );
        // Sealed again after a crash: whichever of both arrived is the sender's own.
        let again = [
            ("id", json!(id(3))),
            ("serial", json!(3)),
            ("container", json!(hash(8))),
        ];
        logs.sender("sealed", &again);
        logs.claimed("publishing", 3, hash(3)).released(3);
        assert_eq!(
            logs.states(),
            [
                (1, State::Released, Some(Problem::ContainerDiffers)),
                (2, State::Released, Some(Problem::MessageIdDiffers)),
                (3, State::Released, None),
            ]
        );
    }

    #[test]
    fn a_cable_that_was_rechecked_is_released_or_held_for_the_later_reason() {
        let mut logs = Logs::default();
        logs.sealed(1);
        logs.claimed("quarantined", 1, hash(1));
        let later = [
            ("serial", json!(1)),
            ("code", json!("revoked")),
            ("reason", json!("an officer")),
            ("uid", json!(0)),
        ];
        logs.receiver("rechecked", &later);
        let mut held = Logs::default();
        held.sealed(1).claimed("quarantined", 1, hash(1));
        held.receiver("rechecked", &later);
        let rows = held.0.finish().rows;
        let row = rows.values().next().unwrap();
        assert_eq!(
            (row.state(), row.reason()),
            (State::Quarantined, Some("revoked"))
        );
        logs.claimed("publishing", 1, hash(1)).released(1);
        assert_eq!(logs.states(), [(1, State::Released, None)]);
    }

    #[test]
    fn unused_serials_of_a_replaced_or_void_bundle_are_void() {
        let mut logs = Logs::default();
        logs.bundle(1, 1, None);
        logs.sealed(1).sealed(2);
        logs.claimed("publishing", 1, hash(1)).released(1);
        logs.bundle(2, 11, Some(1)).bundle(3, 21, None);
        logs.sealed(11).sealed(21).sealed(22);
        let reason = [
            ("bundle", json!(3)),
            ("kept", json!([[22, 22]])),
            ("reason", json!("lost")),
            ("uid", json!(0)),
        ];
        logs.sealed(23);
        let kept = [("bundle", json!(3)), ("kept", json!([[23, 23]]))];
        logs.receiver("slots-kept", &kept);
        logs.receiver("bundle-voided", &reason);
        assert_eq!(
            logs.states(),
            [
                (1, State::Released, None),
                (2, State::Void, None),
                (11, State::Sealed, None),
                (21, State::Void, None),
                (22, State::Sealed, None),
                (23, State::Sealed, None),
            ]
        );
    }

    #[test]
    fn a_foreign_channel_or_bundle_is_named() {
        let faults = |fill: fn(&mut Logs)| {
            let mut logs = Logs::default();
            let fields = [("channel", json!(CHANNEL)), ("administrators", json!(2))];
            logs.receiver("init", &fields).bundle(1, 1, None);
            fill(&mut logs);
            logs.0.finish().faults
        };
        assert!(
            faults(|logs| {
                logs.imported(1, CHANNEL, "ab");
            })
            .is_empty()
        );
        for fill in [
            (|logs| {
                logs.imported(1, &"f".repeat(32), "ab");
            }) as fn(&mut Logs),
            |logs| {
                logs.imported(1, CHANNEL, "cd");
            },
            |logs| {
                logs.imported(2, CHANNEL, "ab");
            },
        ] {
            assert_eq!(faults(fill).len(), 1);
        }
    }

    #[test]
    fn a_line_of_another_shape_is_no_line_of_gate() {
        let mut logs = Logs::default();
        let line = Logs::line("sealed", &[("serial", json!("one"))]);
        assert!(logs.0.take_sender(&line).is_err());
        assert!(logs.0.take_receiver(b"[]").is_err());
        let line = Logs::line("of-a-newer-program", &[("serial", json!("one"))]);
        assert!(logs.0.take_sender(&line).is_ok());
    }
}
