//! What an operator must look at on the link. Each new alarm goes to the audit log; `status` shows those that stand.

use std::collections::{BTreeMap, BTreeSet};

use valise_common::ids::Serial;
use valise_common::units::{UtcTime, count_of};

use crate::io::view::AlarmView;

/// The alarms of transmit that stand.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: BTreeMap<&'static str, (UtcTime, String)>,
    fresh: Vec<&'static str>,
    unsendable: BTreeSet<Serial>,
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
    pub fn handle_unsendable(&mut self, serial: Serial, now: UtcTime) {
        self.unsendable.insert(serial);
        self.tell_unsendable(now);
    }

    /// A container came anew, or gate has deleted it.
    pub fn handle_mended(&mut self, serial: Serial, now: UtcTime) {
        if self.unsendable.remove(&serial) {
            self.tell_unsendable(now);
        }
    }

    /// Containers that cannot be sent.
    pub fn unsendable(&self) -> impl Iterator<Item = Serial> {
        self.unsendable.iter().copied()
    }

    fn tell_unsendable(&mut self, now: UtcTime) {
        let Some(first) = self.unsendable.first() else {
            return self.clear("container");
        };
        let text = format!(
            "the outbox holds {} that cannot be sent, the first of serial {first}; the system's log says why",
            count_of(self.unsendable.len(), "container")
        );
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
        alarms.handle_unsendable(serial(5), now);
        alarms.handle_unsendable(serial(3), now);
        assert_eq!(alarms.poll_fresh(), Some("container"));
        assert_eq!(alarms.poll_fresh(), None);
        assert!(alarms.views()[0].text.starts_with("2 containers"));
        assert!(alarms.views()[0].text.contains("serial 3;"));
        alarms.handle_mended(serial(9), now);
        alarms.handle_mended(serial(3), now);
        assert!(alarms.views()[0].text.starts_with("1 containers"));
        alarms.handle_mended(serial(5), now);
        assert!(alarms.views().is_empty());
        alarms.handle_unsendable(serial(5), now);
        assert_eq!(alarms.poll_fresh(), Some("container"));
    }
}
