//! What has been completed before, so that later passes and replays of it are not rebuilt.

use valise_common::ids::{ContainerId, Serial};
use valise_common::limits::SETS_PER_SERIAL_MAX;

/// The completed containers.
///
/// Ids are kept by their first eight bytes. Only a completed container makes a record, so whoever wants a true container
/// to be taken for completed must find a second preimage of 64 bits, and gains no more than silence on the link would.
///
/// # Bounds
/// Four records a serial, 16 bytes each: a thief of the link key can complete containers of their own, which `release` then
/// deletes. The oldest record of a serial yields; at worst a replay is rebuilt once more.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    // By serial; those of one serial in the order of their completion.
    records: Vec<(u64, u64)>,
}

impl Completed {
    /// Returns whether a container has been completed.
    pub(crate) fn contains(&self, serial: Serial, container: &ContainerId) -> bool {
        let (start, end) = self.range(serial);
        let prefix = prefix(container);
        self.records[start..end]
            .iter()
            .any(|(_, known)| *known == prefix)
    }

    /// Adds a container; adding it twice changes nothing.
    pub(crate) fn insert(&mut self, serial: Serial, container: &ContainerId) {
        if self.contains(serial, container) {
            return;
        }
        let (start, end) = self.range(serial);
        if end - start >= SETS_PER_SERIAL_MAX {
            self.records.remove(start);
            self.records
                .insert(end - 1, (serial.get(), prefix(container)));
        } else {
            // Serials complete nearly in order: this is an append, or close to one.
            self.records.insert(end, (serial.get(), prefix(container)));
        }
    }

    /// Removes a container: it is collected again when it comes.
    pub(crate) fn remove(&mut self, serial: Serial, container: &ContainerId) {
        let (start, end) = self.range(serial);
        let prefix = prefix(container);
        let place = self.records[start..end]
            .iter()
            .position(|(_, known)| *known == prefix);
        if let Some(place) = place {
            self.records.remove(start + place);
        }
    }

    fn range(&self, serial: Serial) -> (usize, usize) {
        let serial = serial.get();
        let start = self.records.partition_point(|(known, _)| *known < serial);
        let same = self.records[start..]
            .iter()
            .take_while(|(known, _)| *known == serial)
            .count();
        (start, start + same)
    }
}

fn prefix(container: &ContainerId) -> u64 {
    let bytes = container.as_bytes();
    bytes
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(first: u8) -> ContainerId {
        ContainerId::from_bytes([first; 12])
    }

    #[test]
    fn a_serial_keeps_its_four_newest_containers() {
        let mut completed = Completed::default();
        let serial = |number| Serial::new(number).unwrap();
        completed.insert(serial(7), &id(1));
        completed.insert(serial(5), &id(2));
        completed.insert(serial(6), &id(3));
        for first in 10..15 {
            completed.insert(serial(6), &id(first));
            completed.insert(serial(6), &id(first));
        }
        assert!(completed.contains(serial(7), &id(1)) && completed.contains(serial(5), &id(2)));
        assert!(!completed.contains(serial(6), &id(3)) && !completed.contains(serial(6), &id(10)));
        assert!((11..15).all(|first| completed.contains(serial(6), &id(first))));
        assert!(!completed.contains(serial(7), &id(2)) && !completed.contains(serial(8), &id(1)));
        assert_eq!(completed.records.len(), 6);
        completed.remove(serial(6), &id(12));
        completed.remove(serial(6), &id(12));
        completed.remove(serial(9), &id(12));
        assert!(!completed.contains(serial(6), &id(12)) && completed.contains(serial(6), &id(13)));
        assert_eq!(completed.records.len(), 5);
    }
}
