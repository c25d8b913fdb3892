//! Gate's rows in the register, which a registry officer queries.

use std::collections::BTreeSet;
use std::path::Path;

use valise_common::audit::Recorded;
use valise_common::history::index::{Index, IndexError, Place, Row};
use valise_common::history::log::AuditLog;
use valise_common::ids::MessageId;
use valise_common::role::Role;

use crate::model::event::Event;
use crate::model::ledger::{Cable, Ledger};

/// The layout of the rows below.
const LAYOUT: i64 = 6;

const LIVE: &str = "live";
const ENDED: &str = "ended";

impl Row for Cable {
    const KIND: &'static str = "cable";

    fn key(&self) -> String {
        self.id.to_string()
    }

    /// A repeated request gets the same answer.
    fn alias(&self) -> Option<String> {
        Some(self.request.to_string())
    }

    fn state(&self) -> Option<&'static str> {
        Some(if self.phase.is_final() { ENDED } else { LIVE })
    }

    fn place(&self) -> u64 {
        self.changed.as_s()
    }
}

/// What the ledger knows besides its cables.
impl Row for Ledger {
    const KIND: &'static str = "host";

    fn key(&self) -> String {
        String::new()
    }
}

/// The register of gate.
#[derive(Debug)]
pub struct Register(Index);

impl Register {
    /// Opens the register and rolls it forward. Returns the ledger with at most `ended_max` ended cables, and whether the
    /// register was built again from a log with a history.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(
        path: &Path,
        log: &AuditLog,
        ended_max: usize,
    ) -> Result<(Self, Ledger, bool), IndexError> {
        let place = Place {
            path,
            role: Role::Gate,
            layout: LAYOUT,
            // No command reads it: people read the view.
            readers: None,
        };
        let load = |index| {
            let register = Self(index);
            let ledger = register.load(ended_max)?;
            Ok((register, ledger))
        };
        let take = |(register, ledger): &mut (Self, Ledger), lines: &[Recorded<Event>]| {
            let mut changed = BTreeSet::new();
            for Recorded { time, event, .. } in lines {
                changed.extend(ledger.apply(*time, event));
            }
            let changed = changed.iter().filter_map(|id| ledger.cables.get(id));
            let known = lines.last().map_or(0, |line| line.seq + 1);
            register.store(ledger, changed, known)?;
            ledger.forget_ended(ended_max);
            Ok(())
        };
        let ((register, ledger), is_rebuilt) = Index::follow(log, &place, load, take)?;
        Ok((register, ledger, is_rebuilt))
    }

    fn load(&self, ended_max: usize) -> Result<Ledger, IndexError> {
        let mut ledger: Ledger = self.0.get("")?.unwrap_or_default();
        let live = self.0.in_state::<Cable>(LIVE, usize::MAX)?;
        let ended = self.0.in_state::<Cable>(ENDED, ended_max)?;
        for cable in live.into_iter().chain(ended) {
            if let Some(serial) = cable.serial() {
                ledger.serials.insert(serial, cable.id);
            }
            ledger.cables.insert(cable.id, cable);
        }
        Ok(ledger)
    }

    /// Writes the changed cables and what the ledger knows of the host, true up to before line `known` of the log.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn store<'a>(
        &mut self,
        ledger: &Ledger,
        changed: impl Iterator<Item = &'a Cable> + Clone,
        known: u64,
    ) -> Result<(), IndexError> {
        self.0.store(known, |rows| {
            changed.clone().try_for_each(|cable| rows.put(cable))?;
            rows.put(ledger)
        })
    }

    /// One cable, ended or not.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn cable(&self, id: &MessageId) -> Result<Option<Cable>, IndexError> {
        self.0.get(&id.to_string())
    }

    /// Returns the cable that a request submitted.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn of_request(&self, request: &MessageId) -> Result<Option<Cable>, IndexError> {
        self.0.by_alias(&request.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::ids::{BundleId, ContainerHash, Serial};
    use valise_common::precedence::Precedence;
    use valise_common::units::UtcTime;

    use super::*;

    struct World {
        folder: tempfile::TempDir,
        log: AuditLog,
        /// What the lines of the log add up to.
        ledger: Ledger,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (log, _) = AuditLog::create(folder.path(), "gate", "valise/01/gate").unwrap();
            let mut world = Self {
                folder,
                log,
                ledger: Ledger::default(),
            };
            events().iter().for_each(|event| world.append(event));
            world
        }

        fn append(&mut self, event: &Event) {
            let now = UtcTime::from_s(50);
            self.log.append_event(now, event);
            self.log.commit().unwrap();
            self.ledger.apply(now, event);
        }

        fn open(&self, ended_max: usize) -> Result<(Register, Ledger, bool), IndexError> {
            let path = self.folder.path().join("register.db");
            Register::open(&path, &self.log, ended_max)
        }
    }

    fn events() -> Vec<Event> {
        let id = MessageId::from_bytes([5; 16]);
        let rejected = MessageId::from_bytes([7; 16]);
        let serial = Serial::new(3).unwrap();
        let hash = ContainerHash::from_bytes([8; 32]);
        vec![
            Event::BundleImported {
                bundle: BundleId(1),
                channel: "0123456789abcdef0123456789abcdef".parse().unwrap(),
                first_serial: serial,
                count: 4,
                replaces: None,
                sha256: hash,
            },
            Event::TrustImported {
                version: 7,
                channel: "0123456789abcdef0123456789abcdef".parse().unwrap(),
                hash,
            },
            Event::Submitted {
                id,
                request: MessageId::from_bytes([6; 16]),
                drafter: "a.person".parse().unwrap(),
                label: "EU-RESTRICTED LIMITE".parse().unwrap(),
                precedence: Precedence::Flash,
                to: vec!["paris-desk".parse().unwrap(), "protocol".parse().unwrap()],
                not_after: UtcTime::from_s(1_000),
                act_by: Some(UtcTime::from_s(900)),
                body_bytes: 77,
                needed: 2,
            },
            Event::Approved {
                id,
                by: "b.officer".parse().unwrap(),
            },
            Event::Approved {
                id,
                by: "c.officer".parse().unwrap(),
            },
            Event::Sealing {
                id,
                serial,
                bundle: BundleId(1),
            },
            Event::Sealed {
                id,
                serial,
                container: hash,
                container_bytes: 9_000,
                passes: 2,
            },
            Event::Submitted {
                id: rejected,
                request: rejected,
                drafter: "a.person".parse().unwrap(),
                label: "EU-RESTRICTED".parse().unwrap(),
                precedence: Precedence::Routine,
                to: vec!["paris-desk".parse().unwrap()],
                not_after: UtcTime::from_s(1_000),
                act_by: None,
                body_bytes: 7,
                needed: 2,
            },
            Event::Rejected {
                id: rejected,
                by: "b.officer".parse().unwrap(),
                reason: "wrong label".to_owned(),
            },
        ]
    }

    #[test]
    fn what_the_log_adds_up_to_is_stored_and_loads_as_it_was() {
        let mut world = World::new();
        let (register, ledger, is_rebuilt) = world.open(9).unwrap();
        assert_eq!((ledger, is_rebuilt), (world.ledger.clone(), true));
        drop(register);
        world.append(&Event::ClockLeapt {
            clock: UtcTime::from_s(60),
        });
        for _ in 0..2 {
            let (register, ledger, is_rebuilt) = world.open(9).unwrap();
            assert_eq!((ledger, is_rebuilt), (world.ledger.clone(), false));
            let id = MessageId::from_bytes([5; 16]);
            let request = MessageId::from_bytes([6; 16]);
            let cable = world.ledger.cables.get(&id);
            assert_eq!(register.cable(&id).unwrap().as_ref(), cable);
            assert_eq!(register.of_request(&request).unwrap().as_ref(), cable);
            assert_eq!(register.cable(&request).unwrap(), None);
        }
    }

    #[test]
    fn ended_cables_beyond_the_bound_stay_in_the_register_alone() {
        let mut world = World::new();
        let serial = Serial::new(3).unwrap();
        world.append(&Event::Retired { serial });
        // Once from the lines, and once from the rows.
        for _ in 0..2 {
            let (register, ledger, _) = world.open(0).unwrap();
            assert!(ledger.cables.is_empty() && ledger.serials.is_empty());
            let id = MessageId::from_bytes([5; 16]);
            assert_eq!(
                register.cable(&id).unwrap().as_ref(),
                world.ledger.cables.get(&id)
            );
        }
    }

    #[test]
    fn a_line_that_gate_does_not_write_ends_the_start() {
        let mut world = World::new();
        world.log.append(UtcTime::from_s(50), "expired", &[]);
        world.log.commit().unwrap();
        let error = world.open(9).unwrap_err().to_string();
        assert_eq!(
            error,
            "line 9 of the audit log is not what gate writes; run audit verify"
        );
    }
}
