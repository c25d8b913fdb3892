//! What an operator must look at on the link. Each new alarm goes to the audit log; `status` shows those that stand.

use std::collections::BTreeMap;

use valise_common::ids::Serial;
use valise_common::limits::DATAGRAM_OVERHEAD_BYTES;
use valise_common::units::UtcTime;

use crate::io::outbox::OutboxError;
use crate::io::view::AlarmView;

/// The alarms of transmit that stand.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: BTreeMap<&'static str, (UtcTime, String)>,
    fresh: Vec<&'static str>,
    unsendable: BTreeMap<Serial, Why>,
}

/// Why a container cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It, or the file beside it, is not what gate wrote.
    Damaged,
    /// It was cut for symbols of so many bytes.
    Cut {
        /// Bytes of its symbols.
        symbol_bytes: u16,
    },
    /// The system's log says why.
    Other,
}

impl From<&OutboxError> for Why {
    fn from(error: &OutboxError) -> Self {
        match error {
            OutboxError::Io(_) => Why::Other,
            OutboxError::Malformed { .. }
            | OutboxError::Hash { .. }
            | OutboxError::Length { .. } => Why::Damaged,
        }
    }
}

impl Alarms {
    /// Raises an alarm; it is new unless it stands already.
    pub fn raise(&mut self, word: &'static str, now: UtcTime, text: String) {
        match self.standing.get_mut(word) {
            Some((_, standing)) => *standing = text,
            None => {
                self.standing.insert(word, (now, text));
                self.fresh.push(word);
            }
        }
    }

    /// Ends an alarm whose cause is gone.
    pub fn clear(&mut self, word: &'static str) {
        self.standing.remove(word);
    }

    /// A container cannot be sent, and gate still has it as queued.
    pub fn handle_unsendable(&mut self, serial: Serial, why: Why, now: UtcTime) {
        self.unsendable.insert(serial, why);
        self.tell_unsendable(now);
    }

    /// A container came anew, or gate has deleted it.
    pub fn handle_mended(&mut self, serial: Serial, now: UtcTime) {
        if self.unsendable.remove(&serial).is_some() {
            self.tell_unsendable(now);
        }
    }

    /// Containers that cannot be sent.
    pub fn unsendable(&self) -> impl Iterator<Item = Serial> {
        self.unsendable.keys().copied()
    }

    fn tell_unsendable(&mut self, now: UtcTime) {
        let Some((serial, why)) = self.unsendable.first_key_value() else {
            return self.clear("container");
        };
        let mut text = match why {
            Why::Damaged => format!(
                "the container of serial {serial} is not what gate sealed: the disk changed it or the file beside it. Nothing \
                 more of it is sent: look at the health of the disk, restart gate, and if the alarm stays have the drafter \
                 submit the cable again"
            ),
            Why::Cut { symbol_bytes } => format!(
                "the container of serial {serial} was cut for link.datagram_bytes = {}: set it back until it is sent",
                symbol_bytes.saturating_add(DATAGRAM_OVERHEAD_BYTES)
            ),
            Why::Other => format!(
                "the container of serial {serial} in the outbox cannot be read; the system's log says why"
            ),
        };
        let others = self.unsendable.len() - 1;
        if others > 0 {
            text.push_str(&format!("; {others} more cannot be sent"));
        }
        self.raise("container", now, text);
    }

    /// The next new alarm, for the log.
    pub fn poll_fresh(&mut self) -> Option<&'static str> {
        if self.fresh.is_empty() {
            None
        } else {
            Some(self.fresh.remove(0))
        }
    }

    /// What `status` shows.
    pub fn views(&self) -> Vec<AlarmView> {
        let view = |(word, (since, text)): (&&str, &(UtcTime, String))| AlarmView {
            alarm: (*word).to_owned(),
            text: text.clone(),
            since: *since,
        };
        self.standing.iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_alarm_is_new_once_until_its_cause_is_gone() {
        let mut alarms = Alarms::default();
        let now = UtcTime::from_s(7);
        let serial = |number| Serial::new(number).unwrap();
        alarms.handle_unsendable(serial(5), Why::Damaged, now);
        alarms.handle_unsendable(
            serial(3),
            Why::Cut {
                symbol_bytes: 1_400,
            },
            now,
        );
        assert_eq!(alarms.poll_fresh(), Some("container"));
        assert_eq!(alarms.poll_fresh(), None);
        let text = alarms.views()[0].text.clone();
        for part in [
            "serial 3 was cut",
            "datagram_bytes = 1472",
            "; 1 more cannot be sent",
        ] {
            assert!(text.contains(part), "{text}");
        }
        alarms.handle_mended(serial(9), now);
        alarms.handle_mended(serial(3), now);
        let text = alarms.views()[0].text.clone();
        assert!(text.contains("serial 5 is not what gate sealed"), "{text}");
        alarms.handle_mended(serial(5), now);
        assert!(alarms.views().is_empty());
        alarms.handle_unsendable(serial(5), Why::Other, now);
        assert_eq!(alarms.poll_fresh(), Some("container"));
    }
}
