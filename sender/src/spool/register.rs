//! The register: an index over the audit log that a registry officer queries. SQLite is used nowhere else.
//!
//! It holds no content, no subject and no key. It may lag behind the log after a crash, never run ahead of it in
//! meaning: each row is written with the number of the log line up to which it is true, and start-up rolls it forward.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use thiserror::Error;
use valise_common::ids::{BundleId, ContainerHash, MailboxId, MessageId, PersonId, Serial};
use valise_common::label::Label;
use valise_common::os::durable::{remove_any, with_reserve};
use valise_common::precedence::Precedence;
use valise_common::units::UtcTime;

use crate::model::ledger::{Cable, HeldBundle, Issued, Ledger, Phase};

/// Why the register could not be used.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// SQLite failed.
    #[error("the register failed: {source}; {advice}", source = .0, advice = advice(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// A row does not hold what this program writes.
    #[error(
        "the register holds a value that was not written here; gate builds it again from the audit log when it starts"
    )]
    Value,
    /// The file cannot be deleted.
    #[error("register.db cannot be deleted: {0}")]
    Io(#[from] std::io::Error),
}

impl RegisterError {
    /// Whether the file is at fault, so that it is rebuilt from the log, and not the disk or the rights.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            RegisterError::Value => true,
            RegisterError::Io(_) => false,
            RegisterError::Sqlite(error) => !matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::PermissionDenied
                        | ErrorCode::ReadOnly
                        | ErrorCode::CannotOpen
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::OutOfMemory
                )
            ),
        }
    }
}

/// On a full disk a register that is rebuilt would only need more room.
fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "make room on the disk",
        _ => "a damaged one is built again from the audit log when gate starts",
    }
}

/// Whether the disk is full: SQLite found no room in its file, or none for the memory that its readers share.
fn is_full(error: &RegisterError) -> bool {
    let RegisterError::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) = error else {
        return false;
    };
    failure.code == rusqlite::ErrorCode::DiskFull
        || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
}

/// The layout of the tables; another number has them built anew from the log.
const LAYOUT: i64 = 5;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS cable (
    id TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    phase TEXT NOT NULL,
    drafter TEXT NOT NULL,
    label TEXT NOT NULL,
    precedence TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    body_bytes INTEGER NOT NULL,
    needed INTEGER NOT NULL,
    approvals TEXT NOT NULL,
    serial INTEGER UNIQUE,
    bundle INTEGER,
    container TEXT,
    container_bytes INTEGER,
    passes INTEGER NOT NULL,
    reason TEXT,
    submitted INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    resent TEXT,
    rejected_by TEXT,
    checked TEXT NOT NULL,
    mailboxes TEXT NOT NULL,
    act_by INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS cable_request ON cable (request);
CREATE INDEX IF NOT EXISTS cable_phase ON cable (phase, changed);
CREATE TABLE IF NOT EXISTS bundle (
    id INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    void INTEGER NOT NULL,
    sha256 TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS host (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
";

/// The open register.
#[derive(Debug)]
pub struct Register {
    connection: Connection,
}

impl Register {
    /// Opens the register, or makes an empty one. One of another layout is emptied: the log rebuilds it.
    ///
    /// # Errors
    /// [`RegisterError`] if the file is no register.
    pub fn open(path: &Path) -> Result<Self, RegisterError> {
        with_reserve(is_full, || Self::open_as_is(path))
    }

    fn open_as_is(path: &Path) -> Result<Self, RegisterError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A lost transaction is rolled forward from the log, so it need not be synced; a torn one never shows.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.set_prepared_statement_cache_capacity(32);
        let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if layout != LAYOUT {
            connection.execute_batch(
                "DROP TABLE IF EXISTS cable; DROP TABLE IF EXISTS bundle; DROP TABLE IF EXISTS host;",
            )?;
            connection.pragma_update(None, "user_version", LAYOUT)?;
        }
        connection.execute_batch(TABLES)?;
        // An index that disagrees with its table would hide rows.
        let found: String =
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(RegisterError::Value);
        }
        Ok(Self { connection })
    }

    /// Deletes a register that nobody has open, to be built again from the log.
    ///
    /// # Errors
    /// [`RegisterError::Io`] if a file of it stays.
    pub fn remove(path: &Path) -> Result<(), RegisterError> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            remove_any(Path::new(&name))?;
        }
        Ok(())
    }

    /// Reads the ledger as far as the register knows it, with at most `ended_max` ended cables, and the number of the
    /// first log line that it does not know.
    ///
    /// # Errors
    /// [`RegisterError`] if a row cannot be read.
    pub fn load(&self, ended_max: usize) -> Result<(Ledger, u64), RegisterError> {
        let mut ledger = Ledger::default();
        let limit = i64::try_from(ended_max).unwrap_or(i64::MAX);
        let live =
            "SELECT * FROM cable WHERE phase NOT IN ('rejected','withdrawn','expired','retired')
            UNION ALL SELECT * FROM (SELECT * FROM cable
                WHERE phase IN ('rejected','withdrawn','expired','retired')
                ORDER BY changed DESC LIMIT ?1)";
        let mut statement = self.connection.prepare(live)?;
        let mut rows = statement.query(params![limit])?;
        while let Some(row) = rows.next()? {
            let cable = cable_of(row)?;
            if let Some(serial) = cable.serial() {
                ledger.serials.insert(serial, cable.id);
            }
            ledger.cables.insert(cable.id, cable);
        }
        let mut statement = self
            .connection
            .prepare("SELECT id, first, count, void, sha256 FROM bundle")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let held = HeldBundle {
                first: serial_of(row.get(1)?)?,
                count: row.get(2)?,
                void: row.get(3)?,
                sha256: parsed(&row.get::<_, String>(4)?)?,
            };
            ledger.bundles.insert(BundleId(row.get(0)?), held);
        }
        ledger.issued = self.number("issued")?.unwrap_or(0);
        ledger.channel = self
            .text("channel")?
            .map(|text| parsed(&text))
            .transpose()?;
        let trust = (self.number("trust_version")?, self.text("trust_hash")?);
        if let (Some(version), Some(hash)) = trust {
            let version = u32::try_from(version).map_err(|_| RegisterError::Value)?;
            ledger.trust = Some((version, parsed(&hash)?));
        }
        ledger.clock_leapt = self.number("clock_leapt")? == Some(1);
        let next_seq = self.number("next_seq")?.unwrap_or(0);
        let check = host_check(&ledger, next_seq);
        if self
            .text("checked")?
            .is_some_and(|checked| checked != check)
        {
            return Err(RegisterError::Value);
        }
        Ok((ledger, next_seq))
    }

    /// Writes the changed cables and what the ledger knows of the host, true up to before line `next_seq` of the log, in
    /// one transaction.
    ///
    /// # Errors
    /// [`RegisterError`] if SQLite fails.
    pub fn store<'a>(
        &mut self,
        ledger: &Ledger,
        changed: impl IntoIterator<Item = &'a Cable> + Clone,
        next_seq: u64,
    ) -> Result<(), RegisterError> {
        with_reserve(is_full, || {
            self.store_all(ledger, changed.clone(), next_seq)
        })
    }

    fn store_all<'a>(
        &mut self,
        ledger: &Ledger,
        changed: impl IntoIterator<Item = &'a Cable>,
        next_seq: u64,
    ) -> Result<(), RegisterError> {
        let transaction = self.connection.transaction()?;
        for cable in changed {
            put_cable(&transaction, cable)?;
        }
        for (id, held) in &ledger.bundles {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO bundle VALUES (?1,?2,?3,?4,?5)
                 ON CONFLICT (id) DO UPDATE SET void = excluded.void",
            )?;
            let first = signed(held.first.get())?;
            let sha256 = held.sha256.to_string();
            statement.execute(params![id.0, first, held.count, held.void, sha256])?;
        }
        let mut host = vec![
            ("issued", ledger.issued.to_string()),
            ("next_seq", next_seq.to_string()),
            ("clock_leapt", u8::from(ledger.clock_leapt).to_string()),
            ("checked", host_check(ledger, next_seq)),
        ];
        if let Some(channel) = ledger.channel {
            host.push(("channel", channel.to_string()));
        }
        if let Some((version, hash)) = ledger.trust {
            host.push(("trust_version", version.to_string()));
            host.push(("trust_hash", hash.to_string()));
        }
        for (name, value) in host {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO host VALUES (?1, ?2)")?
                .execute(params![name, value])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// One cable, whether it has ended or not.
    ///
    /// # Errors
    /// [`RegisterError`] if the row cannot be read.
    pub fn cable(&self, id: &MessageId) -> Result<Option<Cable>, RegisterError> {
        self.one("SELECT * FROM cable WHERE id = ?1", &id.to_string())
    }

    /// The cable that a request submitted, so that a repeated request gets the same answer.
    ///
    /// # Errors
    /// [`RegisterError`] if the row cannot be read.
    pub fn of_request(&self, request: &MessageId) -> Result<Option<Cable>, RegisterError> {
        self.one(
            "SELECT * FROM cable WHERE request = ?1",
            &request.to_string(),
        )
    }

    fn one(&self, query: &str, key: &str) -> Result<Option<Cable>, RegisterError> {
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query(params![key])?;
        rows.next()?.map(cable_of).transpose()
    }

    fn text(&self, name: &str) -> Result<Option<String>, RegisterError> {
        let query = "SELECT value FROM host WHERE name = ?1";
        Ok(self
            .connection
            .query_row(query, params![name], |row| row.get(0))
            .optional()?)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, RegisterError> {
        let text = self.text(name)?;
        text.map(|text| text.parse().map_err(|_| RegisterError::Value))
            .transpose()
    }
}

fn signed(number: u64) -> Result<i64, RegisterError> {
    i64::try_from(number).map_err(|_| RegisterError::Value)
}

fn unsigned(number: i64) -> Result<u64, RegisterError> {
    u64::try_from(number).map_err(|_| RegisterError::Value)
}

fn serial_of(number: i64) -> Result<Serial, RegisterError> {
    Serial::new(unsigned(number)?).ok_or(RegisterError::Value)
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, RegisterError> {
    text.parse().map_err(|_| RegisterError::Value)
}

/// SQLite does not notice a flipped bit in a value; a hash beside it does.
fn check_of(values: &impl std::fmt::Debug) -> String {
    let hash = blake3::hash(format!("{values:?}").as_bytes()).to_hex();
    hash[..16].to_owned()
}

fn host_check(ledger: &Ledger, next_seq: u64) -> String {
    let Ledger {
        bundles,
        issued,
        channel,
        trust,
        clock_leapt,
        ..
    } = ledger;
    check_of(&(bundles, issued, channel, trust, clock_leapt, next_seq))
}

fn put_cable(connection: &Connection, cable: &Cable) -> Result<(), RegisterError> {
    let issued = cable.issued.as_ref();
    let container = issued.and_then(|issued| issued.container);
    let approvals: Vec<&str> = cable.approvals.iter().map(PersonId::as_str).collect();
    let to: Vec<&str> = cable.to.iter().map(MailboxId::as_str).collect();
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO cable
         VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23)",
    )?;
    statement.execute(params![
        cable.id.to_string(),
        cable.request.to_string(),
        cable.phase.word(),
        cable.drafter.as_str(),
        cable.label.to_string(),
        cable.precedence.as_str(),
        signed(cable.not_after.as_s())?,
        signed(cable.body_bytes)?,
        cable.needed,
        approvals.join(" "),
        cable
            .serial()
            .map(|serial| signed(serial.get()))
            .transpose()?,
        issued.map(|issued| issued.bundle.0),
        container.map(|(hash, _)| hash.to_string()),
        container.map(|(_, bytes)| signed(bytes)).transpose()?,
        issued.map_or(0, |issued| issued.passes),
        cable.reason,
        signed(cable.submitted.as_s())?,
        signed(cable.changed.as_s())?,
        issued
            .and_then(|issued| issued.resent)
            .map(|request| request.to_string()),
        cable.rejected_by.as_ref().map(PersonId::as_str),
        check_of(cable),
        to.join(" "),
        cable
            .act_by
            .map(|act_by| signed(act_by.as_s()))
            .transpose()?,
    ])?;
    Ok(())
}

fn cable_of(row: &Row<'_>) -> Result<Cable, RegisterError> {
    let text = |index: usize| row.get::<_, String>(index);
    let time = |index: usize| -> Result<UtcTime, RegisterError> {
        Ok(UtcTime::from_s(unsigned(row.get(index)?)?))
    };
    let container = match (
        row.get::<_, Option<String>>(12)?,
        row.get::<_, Option<i64>>(13)?,
    ) {
        (Some(hash), Some(bytes)) => Some((parsed::<ContainerHash>(&hash)?, unsigned(bytes)?)),
        _ => None,
    };
    let issued = match (
        row.get::<_, Option<i64>>(10)?,
        row.get::<_, Option<u32>>(11)?,
    ) {
        (Some(serial), Some(bundle)) => Some(Issued {
            serial: serial_of(serial)?,
            bundle: BundleId(bundle),
            container,
            passes: row.get(14)?,
            resent: row
                .get::<_, Option<String>>(18)?
                .map(|request| parsed(&request))
                .transpose()?,
        }),
        _ => None,
    };
    let approvals: String = text(9)?;
    let to: String = text(21)?;
    let act_by: Option<i64> = row.get(22)?;
    let cable = Cable {
        id: parsed(&text(0)?)?,
        request: parsed(&text(1)?)?,
        phase: Phase::of_word(&text(2)?).ok_or(RegisterError::Value)?,
        drafter: parsed(&text(3)?)?,
        label: parsed::<Label>(&text(4)?)?,
        precedence: parsed::<Precedence>(&text(5)?)?,
        to: to
            .split_whitespace()
            .map(parsed)
            .collect::<Result<_, _>>()?,
        not_after: time(6)?,
        act_by: act_by.map(unsigned).transpose()?.map(UtcTime::from_s),
        body_bytes: unsigned(row.get(7)?)?,
        needed: row.get(8)?,
        approvals: approvals
            .split_whitespace()
            .map(parsed)
            .collect::<Result<_, _>>()?,
        issued,
        reason: row.get(15)?,
        rejected_by: row
            .get::<_, Option<String>>(19)?
            .map(|person| parsed(&person))
            .transpose()?,
        submitted: time(16)?,
        changed: time(17)?,
    };
    match text(20)? == check_of(&cable) {
        true => Ok(cable),
        false => Err(RegisterError::Value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use crate::model::event::Event;

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
    fn what_is_stored_loads_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.db");
        let mut ledger = Ledger::default();
        for event in events() {
            ledger.apply(UtcTime::from_s(50), &event);
        }
        let mut register = Register::open(&path).unwrap();
        assert_eq!(register.load(9).unwrap(), (Ledger::default(), 0));
        register.store(&ledger, ledger.cables.values(), 7).unwrap();
        drop(register);
        let register = Register::open(&path).unwrap();
        assert_eq!(register.load(9).unwrap(), (ledger.clone(), 7));
        let id = MessageId::from_bytes([5; 16]);
        let request = MessageId::from_bytes([6; 16]);
        assert_eq!(
            register.of_request(&request).unwrap().as_ref(),
            ledger.cables.get(&id)
        );
        assert_eq!(register.cable(&request).unwrap(), None);
    }

    #[test]
    fn ended_cables_beyond_the_bound_stay_in_the_register_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        for event in events() {
            ledger.apply(UtcTime::from_s(50), &event);
        }
        let serial = Serial::new(3).unwrap();
        ledger.apply(UtcTime::from_s(60), &Event::Retired { serial });
        let mut register = Register::open(&folder.path().join("register.db")).unwrap();
        register.store(&ledger, ledger.cables.values(), 8).unwrap();
        assert!(register.load(0).unwrap().0.cables.is_empty());
        assert!(
            register
                .cable(&MessageId::from_bytes([5; 16]))
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn a_register_of_another_layout_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.db");
        let mut ledger = Ledger::default();
        for event in events() {
            ledger.apply(UtcTime::from_s(50), &event);
        }
        let mut register = Register::open(&path).unwrap();
        register.store(&ledger, ledger.cables.values(), 7).unwrap();
        register
            .connection
            .pragma_update(None, "user_version", 99)
            .unwrap();
        drop(register);
        assert_eq!(
            Register::open(&path).unwrap().load(9).unwrap(),
            (Ledger::default(), 0)
        );
    }

    #[test]
    fn a_file_that_is_no_register_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.db");
        std::fs::write(&path, vec![7; 4096]).unwrap();
        assert!(Register::open(&path).is_err());
    }

    #[test]
    fn a_flipped_bit_never_changes_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.db");
        let mut ledger = Ledger::default();
        for event in events() {
            ledger.apply(UtcTime::from_s(50), &event);
        }
        let mut register = Register::open(&path).unwrap();
        register.store(&ledger, ledger.cables.values(), 7).unwrap();
        let read = |register: Register| register.load(9);
        let whole = read(register).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut damaged = 0;
        for place in (0..bytes.len()).step_by(29) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            Register::remove(&path).unwrap();
            std::fs::write(&path, &flipped).unwrap();
            match Register::open(&path).and_then(read) {
                // Emptied, because the layout's number differs: the log rebuilds it.
                Ok((_, 0)) => {}
                Ok(found) => assert_eq!(found, whole, "byte {place}"),
                Err(error) => {
                    assert!(error.is_damage(), "byte {place}: {error}");
                    damaged += 1;
                }
            }
        }
        assert!(damaged > 20, "{damaged}");
    }
}
