//! The alarm of containers that cannot be sent.

use std::collections::BTreeMap;

use valise_common::ids::Serial;
use valise_common::limits::DATAGRAM_OVERHEAD_BYTES;

use crate::spool::outbox::OutboxError;

/// Containers that cannot be sent, and that gate still has as queued.
#[derive(Debug, Default)]
pub(super) struct Unsendable {
    serials: BTreeMap<Serial, Why>,
}

/// Why a container cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
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

impl Unsendable {
    /// Notes a container that cannot be sent, and that gate still has as queued.
    pub(super) fn insert(&mut self, serial: Serial, why: Why) {
        self.serials.insert(serial, why);
    }

    /// Forgets a container that came again, or that gate has deleted.
    pub(super) fn remove(&mut self, serial: Serial) {
        self.serials.remove(&serial);
    }

    /// Returns their serials.
    pub(super) fn serials(&self) -> impl Iterator<Item = Serial> {
        self.serials.keys().copied()
    }

    /// Returns the text of the alarm: the first of them, and how many more there are.
    pub(super) fn alarm(&self) -> Option<String> {
        let (serial, why) = self.serials.first_key_value()?;
        let mut text = describe(*serial, *why);
        let others = self.serials.len() - 1;
        if others > 0 {
            text.push_str(&format!("; {others} more cannot be sent"));
        }
        Some(text)
    }
}

fn describe(serial: Serial, why: Why) -> String {
    match why {
        Why::Damaged => format!(
            "the container of serial {serial} is not what gate sealed: the disk changed it or the file beside it. Nothing \
             more of it is sent. Look at the health of the disk; if the alarm stays, the drafter has to submit the cable again"
        ),
        Why::Cut { symbol_bytes } => format!(
            "the container of serial {serial} was cut for link.datagram_bytes = {}: set it back until it is sent",
            symbol_bytes.saturating_add(DATAGRAM_OVERHEAD_BYTES)
        ),
        Why::Other => format!(
            "the container of serial {serial} in the outbox cannot be read; the system's log says why"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_alarm_is_about_the_first_and_lasts_as_long_as_there_is_one() {
        let mut unsendable = Unsendable::default();
        let serial = |number| Serial::new(number).unwrap();
        let cut = Why::Cut {
            symbol_bytes: 1_400,
        };
        assert_eq!(unsendable.alarm(), None);
        unsendable.insert(serial(5), Why::Damaged);
        unsendable.insert(serial(3), cut);
        let text = unsendable.alarm().unwrap();
        for part in [
            "serial 3 was cut",
            "datagram_bytes = 1472",
            "; 1 more cannot be sent",
        ] {
            assert!(text.contains(part), "{text}");
        }
        unsendable.remove(serial(9));
        unsendable.remove(serial(3));
        let text = unsendable.alarm().unwrap();
        assert!(text.contains("serial 5 is not what gate sealed"), "{text}");
        unsendable.remove(serial(5));
        assert_eq!(unsendable.alarm(), None);
    }
}
