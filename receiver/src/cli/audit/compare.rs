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
mod tests;
