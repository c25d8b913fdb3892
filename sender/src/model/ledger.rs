//! What the audit log adds up to: every cable, every bundle, the serials issued. Pure: the same events give the same
//! ledger, in the running process and at start-up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use valise_common::ids::{BundleId, ChannelId, ContainerHash, MessageId, Serial};
use valise_common::units::UtcTime;

pub use super::cable::{Cable, HeldBundle, Issued, Phase};
use super::event::Event;

/// Everything that the log adds up to. Ended cables may be dropped from it; the register keeps them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Every cable that has not ended, and the latest of those that have.
    #[serde(skip)]
    pub cables: BTreeMap<MessageId, Cable>,
    /// Cables by serial, as far as `cables` holds them.
    #[serde(skip)]
    pub serials: BTreeMap<Serial, MessageId>,
    /// Every bundle ever imported.
    pub bundles: BTreeMap<BundleId, HeldBundle>,
    /// The highest serial issued, 0 if none.
    pub issued: u64,
    /// The channel, fixed by the first import.
    pub channel: Option<ChannelId>,
    /// The trust list in force: version and hash.
    pub trust: Option<(u32, ContainerHash)>,
    /// Whether the clock leapt ahead and was neither put back nor accepted since.
    pub clock_leapt: bool,
}

impl Ledger {
    /// Adds one event. Tells which cable changed.
    pub fn apply(&mut self, time: UtcTime, event: &Event) -> Option<MessageId> {
        match event {
            Event::Submitted { .. } => {
                let cable = Cable::submitted(time, event)?;
                let id = cable.id;
                self.cables.insert(id, cable);
                Some(id)
            }
            Event::Approved { id, by } => {
                let cable = self.cables.get_mut(id)?;
                if !cable.approvals.contains(by) {
                    cable.approvals.push(by.clone());
                }
                Some(*id)
            }
            Event::Rejected { id, by, reason } => {
                let cable = self.cables.get_mut(id)?;
                cable.rejected_by = Some(by.clone());
                self.end(time, id, Phase::Rejected, Some(reason.clone()))
            }
            Event::Withdrawn { id, .. } => self.end(time, id, Phase::Withdrawn, None),
            Event::Expired { id } => self.end(
                time,
                id,
                Phase::Expired,
                Some("not-after passed before sealing".into()),
            ),
            Event::Sealing { id, serial, bundle } => {
                self.issued = self.issued.max(serial.get());
                self.serials.insert(*serial, *id);
                let cable = self.cables.get_mut(id)?;
                cable.phase = Phase::Sealing;
                cable.changed = time;
                cable.issued = Some(Issued {
                    serial: *serial,
                    bundle: *bundle,
                    container: None,
                    passes: 0,
                    resent: None,
                });
                Some(*id)
            }
            Event::Sealed {
                id,
                container,
                container_bytes,
                passes,
                ..
            } => {
                let cable = self.cables.get_mut(id)?;
                let issued = cable.issued.as_mut()?;
                issued.container = Some((*container, *container_bytes));
                issued.passes = *passes;
                cable.phase = Phase::Sealed;
                cable.changed = time;
                Some(*id)
            }
            Event::Transmitted { serial, .. } => self.of_serial(*serial, |cable| {
                cable.phase = Phase::Transmitted;
                cable.changed = time;
            }),
            Event::Resent {
                serial,
                passes,
                request,
                ..
            } => self.of_serial(*serial, |cable| {
                if let Some(issued) = cable.issued.as_mut() {
                    issued.passes = *passes;
                    issued.resent = *request;
                }
                cable.phase = Phase::Sealed;
                cable.changed = time;
            }),
            Event::GivenUp { serial, reason } => self.of_serial(*serial, |cable| {
                cable.phase = Phase::Expired;
                cable.reason = Some(reason.clone());
                cable.changed = time;
            }),
            Event::Retired { serial } => self.of_serial(*serial, |cable| {
                cable.phase = Phase::Retired;
                cable.changed = time;
            }),
            Event::TrustImported {
                version,
                channel,
                hash,
            } => {
                self.channel.get_or_insert(*channel);
                self.trust = Some((*version, *hash));
                None
            }
            Event::BundleImported {
                bundle,
                channel,
                first_serial,
                count,
                replaces,
                sha256,
            } => {
                self.channel.get_or_insert(*channel);
                if let Some(old) = replaces.and_then(|id| self.bundles.get_mut(&id)) {
                    old.void = true;
                }
                let held = HeldBundle::new(*first_serial, *count, *sha256);
                self.bundles.insert(*bundle, held);
                None
            }
            Event::ClockLeapt { .. } => {
                self.clock_leapt = true;
                None
            }
            Event::ClockRestored | Event::ClockAccepted { .. } => {
                self.clock_leapt = false;
                None
            }
            Event::Start { .. }
            | Event::Stop
            | Event::Refused { .. }
            | Event::Alarm { .. }
            | Event::Other => None,
        }
    }

    fn end(
        &mut self,
        time: UtcTime,
        id: &MessageId,
        phase: Phase,
        reason: Option<String>,
    ) -> Option<MessageId> {
        let cable = self.cables.get_mut(id)?;
        cable.phase = phase;
        cable.reason = reason;
        cable.changed = time;
        Some(*id)
    }

    fn of_serial(&mut self, serial: Serial, change: impl FnOnce(&mut Cable)) -> Option<MessageId> {
        let id = *self.serials.get(&serial)?;
        change(self.cables.get_mut(&id)?);
        Some(id)
    }

    /// The lowest serial whose container is kept or about to be. If there is none: the serial after the highest issued.
    pub fn lowest_retained(&self) -> u64 {
        let is_kept = |id: &MessageId| {
            let cable = self.cables.get(id);
            cable.is_some_and(|cable| {
                matches!(
                    cable.phase,
                    Phase::Sealing | Phase::Sealed | Phase::Transmitted
                )
            })
        };
        let lowest = self.serials.iter().find(|(_, id)| is_kept(id));
        lowest.map_or(self.issued + 1, |(serial, _)| serial.get())
    }

    /// Returns the cable of a serial.
    pub fn by_serial(&self, serial: Serial) -> Option<&Cable> {
        self.cables.get(self.serials.get(&serial)?)
    }

    /// Returns the next serial to issue and its bundle, if a slot is left.
    pub fn next_serial(&self) -> Option<(Serial, BundleId)> {
        self.bundles
            .iter()
            .filter(|(_, held)| !held.void)
            .find_map(|(id, held)| {
                let serial = Serial::new(held.first.get().max(self.issued.saturating_add(1)))?;
                (serial <= held.last()).then_some((serial, *id))
            })
    }

    /// Slots that are left, in all bundles, and the slots of those bundles in all.
    pub fn slots_left(&self) -> (u64, u64) {
        let mut slots = (0, 0);
        for held in self.bundles.values().filter(|held| !held.void) {
            let first = held.first.get().max(self.issued.saturating_add(1));
            let left = (held.last().get() + 1).saturating_sub(first);
            if left > 0 {
                slots.0 += left;
                slots.1 += u64::from(held.count);
            }
        }
        slots
    }

    /// Drops ended cables, oldest change first, until at most `ended_max` are left.
    pub fn forget_ended(&mut self, ended_max: usize) {
        let mut ended: Vec<_> = self
            .cables
            .values()
            .filter(|cable| cable.phase.is_final())
            .map(|cable| (cable.changed, cable.id))
            .collect();
        if ended.len() <= ended_max {
            return;
        }
        ended.sort_unstable();
        let surplus = ended.len() - ended_max;
        for (_, id) in ended.into_iter().take(surplus) {
            if let Some(serial) = self.cables.remove(&id).and_then(|cable| cable.serial()) {
                self.serials.remove(&serial);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::precedence::Precedence;

    use super::*;

    fn at(s: u64) -> UtcTime {
        UtcTime::from_s(s)
    }

    fn submitted(byte: u8) -> Event {
        Event::Submitted {
            id: MessageId::from_bytes([byte; 16]),
            request: MessageId::from_bytes([byte; 16]),
            drafter: "a.person".parse().unwrap(),
            label: "EU-RESTRICTED".parse().unwrap(),
            precedence: Precedence::Routine,
            to: vec!["paris-desk".parse().unwrap()],
            not_after: at(1_000),
            act_by: None,
            body_bytes: 1,
            needed: 2,
        }
    }

    fn bundle(id: u32, first: u64, count: u32, replaces: Option<u32>) -> Event {
        Event::BundleImported {
            bundle: BundleId(id),
            channel: ChannelId::from_bytes([1; 16]),
            first_serial: Serial::new(first).unwrap(),
            count,
            replaces: replaces.map(BundleId),
            sha256: ContainerHash::from_bytes([0; 32]),
        }
    }

    fn sealing(byte: u8, serial: u64) -> Event {
        Event::Sealing {
            id: MessageId::from_bytes([byte; 16]),
            serial: Serial::new(serial).unwrap(),
            bundle: BundleId(1),
        }
    }

    #[test]
    fn a_cable_goes_its_way_through_the_phases() {
        let mut ledger = Ledger::default();
        let id = MessageId::from_bytes([5; 16]);
        let serial = Serial::new(3).unwrap();
        let hash = ContainerHash::from_bytes([8; 32]);
        ledger.apply(at(0), &bundle(1, 3, 2, None));
        assert_eq!(ledger.next_serial(), Some((serial, BundleId(1))));
        assert_eq!(ledger.apply(at(1), &submitted(5)), Some(id));
        for by in ["b.officer", "b.officer", "c.officer"] {
            ledger.apply(
                at(2),
                &Event::Approved {
                    id,
                    by: by.parse().unwrap(),
                },
            );
        }
        assert_eq!(ledger.cables[&id].approvals.len(), 2);
        ledger.apply(at(3), &sealing(5, 3));
        assert_eq!(ledger.issued, 3);
        let sealed = Event::Sealed {
            id,
            serial,
            container: hash,
            container_bytes: 9,
            passes: 2,
        };
        ledger.apply(at(4), &sealed);
        assert_eq!(ledger.by_serial(serial).unwrap().phase, Phase::Sealed);
        ledger.apply(at(5), &Event::Transmitted { serial, passes: 2 });
        ledger.apply(
            at(6),
            &Event::Resent {
                serial,
                passes: 4,
                by: "uid 0".into(),
                request: Some(id),
            },
        );
        let issued = ledger.cables[&id].issued.clone().unwrap();
        assert_eq!((issued.container, issued.passes), (Some((hash, 9)), 4));
        ledger.apply(at(7), &Event::Retired { serial });
        assert!(ledger.cables[&id].phase.is_final());
        ledger.forget_ended(0);
        assert!(ledger.cables.is_empty() && ledger.serials.is_empty());
        assert_eq!(ledger.issued, 3);
    }

    #[test]
    fn the_lowest_retained_serial_is_the_next_one_when_none_is_retained() {
        let mut ledger = Ledger::default();
        ledger.apply(at(0), &bundle(1, 1, 3, None));
        assert_eq!(ledger.lowest_retained(), 1);
        for byte in [1, 2] {
            ledger.apply(at(1), &submitted(byte));
            ledger.apply(at(2), &sealing(byte, byte.into()));
        }
        assert_eq!(ledger.lowest_retained(), 1, "it is being sealed");
        for (serial, lowest) in [(1, 2), (2, 3)] {
            let serial = Serial::new(serial).unwrap();
            ledger.apply(at(3), &Event::Retired { serial });
            assert_eq!(ledger.lowest_retained(), lowest);
        }
    }

    #[test]
    fn serials_go_on_in_the_next_bundle_and_void_slots_are_skipped() {
        let mut ledger = Ledger::default();
        ledger.apply(at(0), &bundle(1, 1, 2, None));
        ledger.apply(at(0), &bundle(2, 3, 2, None));
        assert_eq!(ledger.slots_left(), (4, 4));
        ledger.apply(at(1), &submitted(1));
        ledger.apply(at(1), &sealing(1, 1));
        ledger.apply(at(2), &bundle(3, 5, 2, Some(1)));
        assert_eq!(
            ledger.next_serial(),
            Some((Serial::new(3).unwrap(), BundleId(2)))
        );
        assert_eq!(ledger.slots_left(), (4, 4));
        ledger.apply(at(3), &sealing(1, 6));
        assert_eq!(ledger.next_serial(), None);
    }

    #[test]
    fn the_oldest_ended_cables_are_forgotten_first() {
        let mut ledger = Ledger::default();
        for byte in 1..=3 {
            ledger.apply(at(0), &submitted(byte));
            let id = MessageId::from_bytes([byte; 16]);
            ledger.apply(at(u64::from(byte)), &Event::Expired { id });
        }
        ledger.apply(at(9), &submitted(9));
        ledger.forget_ended(1);
        let left: Vec<u8> = ledger.cables.keys().map(|id| id.as_bytes()[0]).collect();
        assert_eq!(left, [3, 9]);
    }

    #[test]
    fn an_event_of_an_unknown_cable_changes_nothing() {
        let mut ledger = Ledger::default();
        let serial = Serial::new(7).unwrap();
        assert_eq!(ledger.apply(at(1), &Event::Retired { serial }), None);
        assert_eq!(ledger, Ledger::default());
    }
}
