//! Release's rows in the register: which serial is in which state, which message-id was published, what was answered.

use std::path::Path;

use serde::{Deserialize, Serialize};
use valise_common::audit::Recorded;
use valise_common::history::index::{Index, IndexError, Place, Row, Rows, number_key};
use valise_common::history::log::AuditLog;
use valise_common::host::folders::ReceiverState;
use valise_common::ids::{BundleId, MessageId, Serial};
use valise_common::role::Role;

use crate::model::event::Event;
use crate::model::reply::Reply;
use crate::model::rows::{BundleRow, BundleState, CableRow, Claim, RangeRow};
use valise_common::serial_set::SerialSet;

/// The layout of the rows below.
const LAYOUT: i64 = 4;

impl Row for CableRow {
    const KIND: &'static str = "cable";

    fn key(&self) -> String {
        number_key(self.serial.get())
    }

    /// A message-id is published once, for ever.
    fn alias(&self) -> Option<String> {
        let is_published = matches!(self.claim, Claim::Publishing | Claim::Released);
        let published = self.message_id.filter(|_| is_published);
        published.map(|id| id.to_string())
    }

    fn state(&self) -> Option<&'static str> {
        Some(self.claim.as_str())
    }

    fn place(&self) -> u64 {
        self.serial.get()
    }
}

impl Row for BundleRow {
    const KIND: &'static str = "bundle";

    fn key(&self) -> String {
        number_key(self.bundle.0.into())
    }
}

impl Row for RangeRow {
    const KIND: &'static str = "range";

    /// The last word on a serial is the last row.
    fn key(&self) -> String {
        number_key(self.seq)
    }
}

/// What the placing of a request was answered.
#[derive(Debug, Serialize, Deserialize)]
struct AnswerRow {
    asked: String,
    reply: Reply,
}

impl Row for AnswerRow {
    const KIND: &'static str = "answer";

    fn key(&self) -> String {
        self.asked.clone()
    }
}

/// Version and SHA-256 of the trust list that was imported last.
#[derive(Debug, Serialize, Deserialize)]
struct TrustRow(u32, String);

impl Row for TrustRow {
    const KIND: &'static str = "trust";

    fn key(&self) -> String {
        String::new()
    }
}

/// The register of release.
pub struct Register(Index);

impl Register {
    /// Opens the register and rolls it forward. Returns also whether it was built again from a log with a history.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(state: &ReceiverState, log: &AuditLog) -> Result<(Register, bool), IndexError> {
        let (path, requests) = (state.register(), state.requests());
        // Operators read it: they are the group that may place requests.
        let readers = Some(requests.as_path());
        let place = Place {
            readers,
            ..place(&path)
        };
        let load = |index| Ok(Register(index));
        Index::follow(log, &place, load, Register::apply)
    }

    /// Opens the register for a command that only reads, whether or not its owner runs.
    ///
    /// # Errors
    /// [`IndexError`] if there is none or it may not be read.
    pub fn open_to_read(path: &Path) -> Result<Register, IndexError> {
        Index::open_to_read(&place(path)).map(Register)
    }

    /// Takes lines of the log in, all or none.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn apply(&mut self, lines: &[Recorded<Event>]) -> Result<(), IndexError> {
        let Some(last) = lines.last() else {
            return Ok(());
        };
        self.0.store(last.seq + 1, |rows| {
            lines.iter().try_for_each(|line| put(rows, line))
        })
    }

    /// Returns the cable that claimed `serial`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn cable(&self, serial: Serial) -> Result<Option<CableRow>, IndexError> {
        self.0.get(&number_key(serial.get()))
    }

    /// Returns every cable that claimed its serial, or those that stand at `claim`, in the order of their serials.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn cables(&self, claim: Option<Claim>) -> Result<Vec<CableRow>, IndexError> {
        let Some(claim) = claim else {
            return self.0.all();
        };
        let mut rows = self.0.in_state(claim.as_str(), usize::MAX)?;
        rows.reverse();
        Ok(rows)
    }

    /// Returns every serial that a cable has claimed.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn claimed(&self) -> Result<SerialSet, IndexError> {
        let mut claimed = SerialSet::new();
        let keys = self.0.keys::<CableRow>()?;
        let serials = keys.iter().filter_map(|key| Serial::new(key.parse().ok()?));
        serials.for_each(|serial| claimed.insert(serial));
        Ok(claimed)
    }

    /// Returns the serial under which a message-id was published.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn seen(&self, message_id: &MessageId) -> Result<Option<Serial>, IndexError> {
        let published: Option<CableRow> = self.0.by_alias(&message_id.to_string())?;
        Ok(published.map(|cable| cable.serial))
    }

    /// Returns every bundle that this host made, the oldest first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn bundles(&self) -> Result<Vec<BundleRow>, IndexError> {
        self.0.all()
    }

    /// What lines of the log report of ranges, in their order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn ranges(&self) -> Result<Vec<RangeRow>, IndexError> {
        self.0.all()
    }

    /// What the placing of a request was answered, or was to be when the process ended.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn reply(&self, asked: &str) -> Result<Option<Reply>, IndexError> {
        let answer: Option<AnswerRow> = self.0.get(asked)?;
        Ok(answer.map(|answer| answer.reply))
    }

    /// Version and SHA-256 of the trust list that was imported last.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn trust(&self) -> Result<Option<(u32, String)>, IndexError> {
        let trust: Option<TrustRow> = self.0.get("")?;
        Ok(trust.map(|TrustRow(version, sha256)| (version, sha256)))
    }
}

fn place(path: &Path) -> Place<'_> {
    Place {
        path,
        role: Role::Release,
        layout: LAYOUT,
        readers: None,
    }
}

/// Writes what a line of the log changes.
fn put(rows: &Rows<'_>, line: &Recorded<Event>) -> Result<(), IndexError> {
    let (time, event) = (line.time, &line.event);
    let change = |serial: &Serial, change: &dyn Fn(&mut CableRow)| {
        rows.change(&number_key(serial.get()), |row: &mut CableRow| {
            change(row);
            row.updated_at = time;
        })
    };
    let change_bundle = |bundle: &BundleId, change: &dyn Fn(&mut BundleRow)| {
        rows.change(&number_key(bundle.0.into()), |row| change(row))
    };
    if let (Some(asked), Some(reply)) = (event.asked(), event.reply(time)) {
        let asked = asked.to_owned();
        rows.put(&AnswerRow { asked, reply })?;
    }
    if let Some(row) = RangeRow::of(line.seq, event) {
        rows.put(&row)?;
    }
    match event {
        Event::Publishing { serial, .. } => {
            let held: Option<CableRow> = rows.get(&number_key(serial.get()))?;
            let claimed_at = held.map_or(time, |held| held.claimed_at);
            put_some(rows, CableRow::publishing(event, claimed_at, time))
        }
        Event::Released { serial, .. } => change(serial, &|row| row.claim = Claim::Released),
        Event::Quarantined { serial, .. } => {
            match rows.get::<CableRow>(&number_key(serial.get()))? {
                Some(_) => Ok(()),
                None => put_some(rows, CableRow::quarantined(event, time)),
            }
        }
        Event::Rechecked {
            serial,
            code,
            reason,
            ..
        } => change(serial, &|row| {
            row.code = Some(code.clone());
            row.reason = Some(reason.clone());
        }),
        Event::Discarded { serial, reason, .. } => change(serial, &|row| {
            // What was published stays so, whatever a log says.
            if row.claim == Claim::Quarantined {
                row.claim = Claim::Discarded;
                row.reason = Some(reason.clone());
            }
        }),
        Event::BundleCreated { replaces, .. } => {
            if let Some(old) = replaces {
                change_bundle(old, &|row| row.state = BundleState::Void)?;
            }
            put_some(rows, BundleRow::created(event))
        }
        // A bundle that was lost on its way takes its link key with it; one that was replaced does not.
        Event::BundleVoided { bundle, .. } => change_bundle(bundle, &|row| {
            row.state = BundleState::Void;
            row.retired = true;
        }),
        Event::LinkKeyRetired { bundle, .. } => change_bundle(bundle, &|row| row.retired = true),
        Event::TrustImported {
            version, sha256, ..
        } => rows.put(&TrustRow(*version, sha256.clone())),
        _ => Ok(()),
    }
}

fn put_some<R: Row>(rows: &Rows<'_>, row: Option<R>) -> Result<(), IndexError> {
    row.map_or(Ok(()), |row| rows.put(&row))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use valise_common::ids::{ContainerHash, LinkKeyId};
    use valise_common::units::UtcTime;

    use super::*;
    use crate::model::event::Asker;

    fn serial(value: u64) -> Serial {
        Serial::new(value).unwrap()
    }

    struct World {
        _folder: tempfile::TempDir,
        state: ReceiverState,
        log: AuditLog,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let state = ReceiverState::new(folder.path());
            state.create_all().unwrap();
            let (log, _) =
                AuditLog::create(&state.audit(), "release", "valise/01/release").unwrap();
            World {
                _folder: folder,
                state,
                log,
            }
        }

        /// Writes the events into the log, and opens the register that lacks them.
        fn register(&mut self, events: &[Event]) -> Register {
            let now = "2026-11-22T21:53:18Z".parse().unwrap();
            for event in events {
                self.log.append_event(now, event);
            }
            self.log.commit().unwrap();
            Register::open(&self.state, &self.log).unwrap().0
        }
    }

    fn publishing(of: u64, id: u8) -> Event {
        Event::Publishing {
            serial: serial(of),
            container: ContainerHash::from_bytes([3; 32]),
            message_id: MessageId::from_bytes([id; 16]),
            to: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            act_by: Some("2026-11-30T12:00:00Z".parse().unwrap()),
            trust_version: 1,
            asked: None,
        }
    }

    #[test]
    fn a_released_cable_is_seen_for_ever() {
        let mut world = World::new();
        let id = MessageId::from_bytes([5; 16]);
        assert_eq!(world.register(&[]).seen(&id).unwrap(), None);
        let released = Event::Released {
            serial: serial(4),
            message_id: id,
        };
        let discarded = Event::Discarded {
            serial: serial(4),
            reason: "no".to_owned(),
            by: Asker::user(1),
        };
        for events in [&[publishing(4, 5), released][..], &[discarded], &[]] {
            let register = world.register(events);
            assert_eq!(register.seen(&id).unwrap(), Some(serial(4)));
            let row = register.cable(serial(4)).unwrap().unwrap();
            assert_eq!(
                (row.claim, row.mailboxes.as_deref()),
                (Claim::Released, Some("a b"))
            );
            assert_eq!(row.act_by, "2026-11-30T12:00:00Z".parse().ok());
        }
        let reader = Register::open_to_read(&world.state.register()).unwrap();
        assert_eq!(reader.cables(None).unwrap().len(), 1);
        assert_eq!(reader.cables(Some(Claim::Quarantined)).unwrap().len(), 0);
    }

    #[test]
    fn quarantine_is_left_by_recheck_or_discard() {
        let held = |of: u64| Event::Quarantined {
            serial: serial(of),
            container: ContainerHash::from_bytes([3; 32]),
            message_id: Some(MessageId::from_bytes([9; 16])),
            code: "expired".to_owned(),
            reason: "it expired".to_owned(),
        };
        let gone = Event::Discarded {
            serial: serial(2),
            reason: "asked".to_owned(),
            by: Asker::user(1),
        };
        let mut world = World::new();
        let register = world.register(&[held(1), held(2), held(3)]);
        let seen = register.seen(&MessageId::from_bytes([9; 16])).unwrap();
        assert_eq!(seen, None);
        let waiting = register.cables(Some(Claim::Quarantined)).unwrap();
        let waiting: Vec<u64> = waiting.iter().map(|row| row.serial.get()).collect();
        assert_eq!(waiting, [1, 2, 3]);
        drop(register);
        let register = world.register(&[publishing(1, 9), gone]);
        let row = register.cable(serial(1)).unwrap().unwrap();
        assert_eq!((row.claim, row.code), (Claim::Publishing, None));
        let row = register.cable(serial(2)).unwrap().unwrap();
        assert_eq!(
            (row.claim, row.reason.as_deref()),
            (Claim::Discarded, Some("asked"))
        );
        assert_eq!(row.code.as_deref(), Some("expired"));
    }

    #[test]
    fn a_replaced_bundle_is_void() {
        let bundle = |id: u32, first: u64, replaces: Option<BundleId>| Event::BundleCreated {
            bundle: BundleId(id),
            first: serial(first),
            count: 10,
            link_key: LinkKeyId(u8::try_from(id).unwrap()),
            replaces,
            kept: Vec::new(),
            sha256: String::new(),
            by: Asker::user(0),
        };
        let retired = Event::LinkKeyRetired {
            link_key: LinkKeyId(1),
            bundle: BundleId(1),
            by: Asker::user(0),
        };
        let register = World::new().register(&[
            bundle(1, 1, None),
            bundle(2, 11, Some(BundleId(1))),
            retired,
        ]);
        let bundles = register.bundles().unwrap();
        assert_eq!(
            (bundles[0].state, bundles[0].retired),
            (BundleState::Void, true)
        );
        assert_eq!(
            (bundles[1].state, bundles[1].retired),
            (BundleState::Live, false)
        );
        assert_eq!(bundles[1].last, serial(20));
        assert!(bundles[0].holds(serial(10)) && !bundles[0].holds(serial(11)));
    }

    #[test]
    fn a_line_that_release_does_not_write_ends_the_start() {
        let mut world = World::new();
        let now = UtcTime::from_s(50);
        world.log.append(now, "released", &[]);
        world.log.commit().unwrap();
        let opened = Register::open(&world.state, &world.log);
        assert_eq!(
            opened.err().unwrap().to_string(),
            "line 0 of the audit log is not what release writes; run audit verify"
        );
    }
}
