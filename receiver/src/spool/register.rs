//! The register: an index over the audit log in SQLite. It answers "which serial is in which state" and "was this
//! message-id published before" without reading the log; what it lacks, start-up rolls forward from the log, and what
//! is broken is built again from it. It holds no content, no subject, no file name and no key.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use thiserror::Error;
use valise_common::ids::{BundleId, ContainerHash, LinkKeyId, MessageId, Serial};
use valise_common::os::durable::{self, with_reserve};
use valise_common::os::group::give_to_group_of;
use valise_common::units::UtcTime;

use crate::model::attributed::Attributed;
use crate::model::event::{Event, Line, Recorded};
use crate::model::reply::Reply;
use crate::model::serial_set::SerialSet;

/// The layout below; another one is thrown away and built anew from the log.
const SCHEMA_VERSION: i64 = 3;

const SCHEMA: &str = "
CREATE TABLE meta (applied_seq INTEGER NOT NULL);
INSERT INTO meta VALUES (-1);
CREATE TABLE cables (
    serial INTEGER PRIMARY KEY, state TEXT NOT NULL, container TEXT NOT NULL, message_id TEXT,
    code TEXT, reason TEXT, mailboxes TEXT, claimed_at TEXT NOT NULL, updated_at TEXT NOT NULL, act_by TEXT);
CREATE INDEX cables_by_state ON cables (state) WHERE state != 'released';
CREATE TABLE seen (message_id TEXT PRIMARY KEY, serial INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE bundles (
    bundle INTEGER PRIMARY KEY, first INTEGER NOT NULL, count INTEGER NOT NULL,
    link_key INTEGER NOT NULL, void INTEGER NOT NULL, retired INTEGER NOT NULL);
CREATE TABLE ranges (
    kind TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, bundle INTEGER);
CREATE TABLE replies (asked TEXT PRIMARY KEY, accepted INTEGER NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trust (version INTEGER NOT NULL, sha256 TEXT NOT NULL);
";

/// Why the register cannot be used.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// SQLite reports an error.
    #[error("the register fails: {source}; {advice}", source = .0, advice = advice(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The file cannot be reached.
    #[error("the register cannot be opened: {0}")]
    Io(#[from] io::Error),
    /// A field holds what this program never writes.
    #[error(
        "the register holds a bad {0}; release builds it again from the audit log when it starts"
    )]
    Field(&'static str),
}

impl RegisterError {
    /// Whether the file is at fault, so that it is rebuilt from the log, and not the disk or the rights.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            RegisterError::Field(_) => true,
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

/// On a full disk a rebuilt register would only need more room.
fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "make room on the disk",
        _ => "a damaged one is built again from the audit log when release starts",
    }
}

/// Whether the disk is full: SQLite found no room in its file, or none for the memory that its readers share.
fn is_full(error: &RegisterError) -> bool {
    let RegisterError::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) = error else {
        return matches!(error, RegisterError::Io(source) if durable::is_full(source));
    };
    failure.code == rusqlite::ErrorCode::DiskFull
        || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
}

/// Where a container stands that claimed its serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Its publishing is committed; its folders may not all be visible yet.
    Publishing,
    /// All its folders were made visible.
    Released,
    /// It is held.
    Quarantined,
    /// It was held and destroyed.
    Discarded,
}

impl Claim {
    fn as_str(self) -> &'static str {
        match self {
            Claim::Publishing => "publishing",
            Claim::Released => "released",
            Claim::Quarantined => "quarantined",
            Claim::Discarded => "discarded",
        }
    }

    fn parse(text: &str) -> Option<Claim> {
        [
            Claim::Publishing,
            Claim::Released,
            Claim::Quarantined,
            Claim::Discarded,
        ]
        .into_iter()
        .find(|claim| claim.as_str() == text)
    }
}

/// A cable that claimed its serial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CableRow {
    /// Its serial.
    pub serial: Serial,
    /// Where it stands.
    pub claim: Claim,
    /// The whole hash of its container.
    pub container: ContainerHash,
    /// The cable, when its manifest could be read.
    pub message_id: Option<MessageId>,
    /// Why it is held or was discarded, in one word.
    pub code: Option<String>,
    /// The same in a sentence.
    pub reason: Option<String>,
    /// Who got it, with spaces between.
    pub mailboxes: Option<String>,
    /// When an answer is due, if the cable asks for one and was released.
    pub act_by: Option<UtcTime>,
    /// When it claimed its serial.
    pub claimed_at: UtcTime,
    /// When it last changed.
    pub updated_at: UtcTime,
}

/// Whether a bundle's unused slots still exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleState {
    /// They open containers.
    Live,
    /// They were destroyed.
    Void,
}

/// A bundle that this host made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleRow {
    /// Its number.
    pub bundle: BundleId,
    /// Its first serial.
    pub first: Serial,
    /// Its last serial.
    pub last: Serial,
    /// Number of slots.
    pub count: u32,
    /// The link key that it brought.
    pub link_key: LinkKeyId,
    /// Whether its unused slots exist.
    pub state: BundleState,
}

impl BundleRow {
    /// Whether the bundle holds the slot of `serial`.
    pub fn holds(&self, serial: Serial) -> bool {
        self.first <= serial && serial <= self.last
    }
}

/// Serials of which only the beacon told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeKind {
    /// Known to be missing at some time.
    Gap,
    /// The sender will not send them.
    NotSent,
    /// Their containers had arrived when their bundle became void, so that they kept their slots.
    Kept,
}

/// What a row says of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saying {
    /// The key of this bundle told it.
    Attributed(BundleId),
    /// It is not believed any more.
    Withdrawn,
}

impl RangeKind {
    fn as_str(self) -> &'static str {
        match self {
            RangeKind::Gap => "gap",
            RangeKind::NotSent => "not-sent",
            RangeKind::Kept => "kept",
        }
    }
}

/// The register of `release`.
pub struct Register {
    db: Connection,
}

impl Register {
    /// Opens the register for its owner; what is broken or of another layout is removed and begun anew, to be rolled
    /// forward from the log.
    ///
    /// # Errors
    /// [`RegisterError`] when the disk refuses.
    pub fn open(path: &Path) -> Result<Register, RegisterError> {
        match with_reserve(is_full, || Register::open_as_is(path)) {
            Ok(register) => Ok(register),
            Err(error) if is_full(&error) => Err(error),
            Err(_) => {
                Register::remove(path)?;
                Register::open_as_is(path)
            }
        }
    }

    /// Removes a register that nobody has open, to be built anew from the log.
    ///
    /// # Errors
    /// [`RegisterError::Io`] when a file of it cannot be removed.
    pub fn remove(path: &Path) -> Result<(), RegisterError> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            match fs::remove_file(with_suffix(path, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn open_as_is(path: &Path) -> Result<Register, RegisterError> {
        // SQLite would create the file with the process's umask; its side files copy the mode. Operators read it.
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
        {
            Ok(file) => file.set_permissions(Permissions::from_mode(0o640))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let db = Connection::open_with_flags(resolved(path)?, flags)?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        // The log is the commit point: a commit lost with the power is rolled forward again, so that none waits for
        // the disk. The write-ahead log keeps the file whole in any case.
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => {
                db.execute_batch(&format!(
                    "BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                ))?;
            }
            SCHEMA_VERSION => {}
            _ => return Err(RegisterError::Field("layout version")),
        }
        let register = Register { db };
        register.applied_seq()?;
        // An index that disagrees with its table would hide rows.
        let found: String = register
            .db
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        match found.as_str() {
            "ok" => Ok(register),
            _ => Err(RegisterError::Field("index")),
        }
    }

    /// Lets the operators read an open register: they are the group that may place requests.
    ///
    /// # Errors
    /// The system's.
    pub fn give_to_operators(path: &Path, requests: &Path) -> io::Result<()> {
        // Its side files are there as long as it is open, and SQLite makes them with the owner's group.
        for suffix in ["", "-wal", "-shm"] {
            match give_to_group_of(requests, &with_suffix(path, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the register for a command that only reads, whether or not its owner runs.
    ///
    /// # Errors
    /// [`RegisterError`] when there is none or it may not be read.
    pub fn open_to_read(path: &Path) -> Result<Register, RegisterError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let resolved = resolved(path)?;
        let attempt = |query: &str| -> Result<Register, RegisterError> {
            let mut uri = String::from("file:");
            for byte in resolved.as_os_str().as_encoded_bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                        uri.push(char::from(*byte));
                    }
                    _ => uri.push_str(&format!("%{byte:02X}")),
                }
            }
            uri.push_str(query);
            let db = Connection::open_with_flags(uri, flags)?;
            db.busy_timeout(std::time::Duration::from_secs(10))?;
            let register = Register { db };
            register.applied_seq()?;
            Ok(register)
        };
        // A reader that may not write the folder cannot make the side files of a register at rest, and needs none.
        attempt("?mode=ro").or_else(|_| attempt("?mode=ro&immutable=1"))
    }

    /// The number of the last line of the log that is in the register; −1 when there is none.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn applied_seq(&self) -> Result<i64, RegisterError> {
        Ok(self
            .db
            .query_row("SELECT applied_seq FROM meta", [], |row| row.get(0))?)
    }

    /// Takes lines of the log in, all or none.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn apply<'a>(
        &mut self,
        lines: impl IntoIterator<Item = &'a Line> + Clone,
    ) -> Result<(), RegisterError> {
        with_reserve(is_full, || self.apply_all(lines.clone()))
    }

    fn apply_all<'a>(
        &mut self,
        lines: impl IntoIterator<Item = &'a Line>,
    ) -> Result<(), RegisterError> {
        let transaction = self.db.transaction()?;
        let mut last = None;
        for line in lines {
            let seq = match line {
                Line::Known(recorded) => {
                    apply_one(&transaction, recorded)?;
                    recorded.seq
                }
                Line::Other(seq) => *seq,
            };
            last = Some(seq);
        }
        if let Some(seq) = last {
            transaction
                .prepare_cached("UPDATE meta SET applied_seq = ?1")?
                .execute(params![i64::try_from(seq).unwrap_or(i64::MAX)])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The cable that claimed `serial`.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn cable(&self, serial: Serial) -> Result<Option<CableRow>, RegisterError> {
        let mut select = self
            .db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM cables WHERE serial = ?1"))?;
        let found = select.query_row(params![number(serial)], |row| Ok(cable_of(row)));
        found.optional()?.transpose()
    }

    /// Every cable that claimed its serial, or those that stand at `claim`, in the order of their serials.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn cables(&self, claim: Option<Claim>) -> Result<Vec<CableRow>, RegisterError> {
        let mut select = self.db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM cables WHERE ?1 IS NULL OR state = ?1 ORDER BY serial"
        ))?;
        let rows = select.query_map(params![claim.map(Claim::as_str)], |row| Ok(cable_of(row)))?;
        rows.map(|row| row?).collect()
    }

    /// Every serial that a container has claimed.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn claimed(&self) -> Result<SerialSet, RegisterError> {
        let mut select = self
            .db
            .prepare_cached("SELECT serial FROM cables ORDER BY serial")?;
        let mut set = SerialSet::new();
        for serial in select.query_map([], |row| row.get::<_, i64>(0))? {
            set.insert(serial_of(serial?)?);
        }
        Ok(set)
    }

    /// The serial under which a message-id was published.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn seen(&self, message_id: &MessageId) -> Result<Option<Serial>, RegisterError> {
        let mut select = self
            .db
            .prepare_cached("SELECT serial FROM seen WHERE message_id = ?1")?;
        let found = select.query_row(params![message_id.to_string()], |row| row.get::<_, i64>(0));
        found.optional()?.map(serial_of).transpose()
    }

    /// Every bundle that this host made, the oldest first.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn bundles(&self) -> Result<Vec<BundleRow>, RegisterError> {
        let mut select = self.db.prepare_cached(
            "SELECT bundle, first, count, link_key, void FROM bundles ORDER BY bundle",
        )?;
        let rows = select.query_map([], |row| {
            Ok((
                row.get::<_, u32>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, u32>(2)?,
                row.get::<_, u8>(3)?,
                row.get::<_, bool>(4)?,
            ))
        })?;
        rows.map(|row| {
            let (bundle, first, count, link_key, void) = row?;
            let first = serial_of(first)?;
            let last = u64::from(count)
                .checked_sub(1)
                .and_then(|count| first.plus(count));
            Ok(BundleRow {
                bundle: BundleId(bundle),
                first,
                last: last.ok_or(RegisterError::Field("slot count"))?,
                count,
                link_key: LinkKeyId(link_key),
                state: if void {
                    BundleState::Void
                } else {
                    BundleState::Live
                },
            })
        })
        .collect()
    }

    /// The link keys that were retired, by the bundle that brought them.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn retired(&self) -> Result<Vec<BundleId>, RegisterError> {
        let mut select = self
            .db
            .prepare_cached("SELECT bundle FROM bundles WHERE retired != 0")?;
        let rows = select.query_map([], |row| row.get::<_, u32>(0))?;
        rows.map(|row| Ok(BundleId(row?))).collect()
    }

    /// The serials of one kind of range, without those that were withdrawn.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn ranges(&self, kind: RangeKind) -> Result<Attributed, RegisterError> {
        // Rows are only ever added, so that the last word on a serial is the last row.
        let mut select = self.db.prepare_cached(
            "SELECT first, last, bundle FROM ranges WHERE kind = ?1 ORDER BY rowid",
        )?;
        let rows = select.query_map(params![kind.as_str()], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Option<u32>>(2)?,
            ))
        })?;
        let mut told = Attributed::default();
        for row in rows {
            let (first, last, bundle) = row?;
            let (first, last) = (serial_of(first)?, serial_of(last)?);
            match bundle {
                Some(bundle) => told.insert_range(BundleId(bundle), first, last),
                None => told.remove_range(first, last),
            }
        }
        Ok(told)
    }

    /// What the placing of a request was answered, or was to be when the process ended.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn reply(&self, asked: &str) -> Result<Option<Reply>, RegisterError> {
        let mut select = self
            .db
            .prepare_cached("SELECT accepted, text FROM replies WHERE asked = ?1")?;
        let found = select.query_row(params![asked], |row| {
            let text = row.get(1)?;
            Ok(match row.get(0)? {
                true => Reply::Accepted(text),
                false => Reply::Refused(text),
            })
        });
        Ok(found.optional()?)
    }

    /// Version and SHA-256 of the trust list that was imported last.
    ///
    /// # Errors
    /// [`RegisterError`] when SQLite fails.
    pub fn trust(&self) -> Result<Option<(u32, String)>, RegisterError> {
        let found = self.db.query_row(
            "SELECT version, sha256 FROM trust ORDER BY rowid DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        );
        Ok(found.optional()?)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The same file below its folder's real path: SQLite refuses a link anywhere in a path, where only a link in the
/// state folder itself would be a danger.
fn resolved(path: &Path) -> Result<PathBuf, io::Error> {
    let none = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the register's path has no folder",
        )
    };
    let folder = path.parent().ok_or_else(none)?.canonicalize()?;
    Ok(folder.join(path.file_name().ok_or_else(none)?))
}

const COLUMNS: &str =
    "serial, state, container, message_id, code, reason, mailboxes, claimed_at, updated_at, act_by";

fn number(serial: Serial) -> i64 {
    // A serial is below 2^63.
    i64::try_from(serial.get()).unwrap_or(i64::MAX)
}

fn serial_of(number: i64) -> Result<Serial, RegisterError> {
    u64::try_from(number)
        .ok()
        .and_then(Serial::new)
        .ok_or(RegisterError::Field("serial"))
}

fn cable_of(row: &Row<'_>) -> Result<CableRow, RegisterError> {
    let text = |index: usize| row.get::<_, String>(index);
    let time = |index: usize| -> Result<UtcTime, RegisterError> {
        text(index)?
            .parse()
            .map_err(|_| RegisterError::Field("time"))
    };
    let message_id = row.get::<_, Option<String>>(3)?;
    Ok(CableRow {
        serial: serial_of(row.get(0)?)?,
        claim: Claim::parse(&text(1)?).ok_or(RegisterError::Field("state"))?,
        container: text(2)?
            .parse()
            .map_err(|_| RegisterError::Field("container"))?,
        message_id: message_id
            .map(|id| id.parse().map_err(|_| RegisterError::Field("message-id")))
            .transpose()?,
        code: row.get(4)?,
        reason: row.get(5)?,
        mailboxes: row.get(6)?,
        act_by: row
            .get::<_, Option<String>>(9)?
            .map(|act_by| act_by.parse().map_err(|_| RegisterError::Field("time")))
            .transpose()?,
        claimed_at: time(7)?,
        updated_at: time(8)?,
    })
}

fn apply_one(db: &Connection, recorded: &Recorded) -> Result<(), RegisterError> {
    let time = recorded.time.to_string();
    let reply = recorded.event.reply(recorded.time);
    if let (Some(asked), Some(reply)) = (recorded.event.asked(), reply) {
        let (accepted, text) = match reply {
            Reply::Accepted(text) => (true, text),
            Reply::Refused(text) => (false, text),
        };
        db.prepare_cached("INSERT OR REPLACE INTO replies VALUES (?1, ?2, ?3)")?
            .execute(params![asked, accepted, text])?;
    }
    match &recorded.event {
        Event::Publishing {
            serial,
            container,
            message_id,
            to,
            act_by,
            ..
        } => {
            let to: Vec<&str> = to.iter().map(AsRef::as_ref).collect();
            db.prepare_cached(
                "INSERT INTO cables VALUES (?1, 'publishing', ?2, ?3, NULL, NULL, ?4, ?5, ?5, ?6)
                 ON CONFLICT (serial) DO UPDATE SET state = 'publishing', code = NULL,
                 reason = NULL, message_id = ?3, mailboxes = ?4, updated_at = ?5, act_by = ?6",
            )?
            .execute(params![
                number(*serial),
                container.to_string(),
                message_id.to_string(),
                to.join(" "),
                time,
                act_by.map(|act_by| act_by.to_string())
            ])?;
            db.prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1, ?2)")?
                .execute(params![message_id.to_string(), number(*serial)])?;
        }
        Event::Released { serial, .. } => {
            db.prepare_cached(
                "UPDATE cables SET state = 'released', updated_at = ?2 WHERE serial = ?1",
            )?
            .execute(params![number(*serial), time])?;
        }
        Event::Quarantined {
            serial,
            container,
            message_id,
            code,
            reason,
        } => {
            db.prepare_cached(
                "INSERT OR IGNORE INTO cables VALUES
                 (?1, 'quarantined', ?2, ?3, ?4, ?5, NULL, ?6, ?6, NULL)",
            )?
            .execute(params![
                number(*serial),
                container.to_string(),
                message_id.map(|id| id.to_string()),
                code,
                reason,
                time
            ])?;
        }
        Event::Rechecked {
            serial,
            code,
            reason,
            ..
        } => {
            db.prepare_cached(
                "UPDATE cables SET code = ?2, reason = ?3, updated_at = ?4 WHERE serial = ?1",
            )?
            .execute(params![number(*serial), code, reason, time])?;
        }
        Event::Discarded { serial, reason, .. } => {
            db.prepare_cached(
                "UPDATE cables SET state = 'discarded', reason = ?2, updated_at = ?3
                 WHERE serial = ?1",
            )?
            .execute(params![number(*serial), reason, time])?;
        }
        Event::BundleCreated {
            bundle,
            first,
            count,
            link_key,
            replaces,
            kept,
            ..
        } => {
            db.execute(
                "INSERT OR REPLACE INTO bundles VALUES (?1, ?2, ?3, ?4, 0, 0)",
                params![bundle.0, number(*first), count, link_key.0],
            )?;
            if let Some(old) = replaces {
                db.execute(
                    "UPDATE bundles SET void = 1 WHERE bundle = ?1",
                    params![old.0],
                )?;
                for range_kept in kept {
                    range(db, RangeKind::Kept, *range_kept, Saying::Attributed(*old))?;
                }
            }
        }
        Event::SlotsKept { bundle, kept } => {
            for range_kept in kept {
                range(
                    db,
                    RangeKind::Kept,
                    *range_kept,
                    Saying::Attributed(*bundle),
                )?;
            }
        }
        Event::BundleVoided { bundle, kept, .. } => {
            for range_kept in kept {
                range(
                    db,
                    RangeKind::Kept,
                    *range_kept,
                    Saying::Attributed(*bundle),
                )?;
            }
            // A bundle that was lost on its way takes its link key with it; one that was replaced does not.
            db.execute(
                "UPDATE bundles SET void = 1, retired = 1 WHERE bundle = ?1",
                params![bundle.0],
            )?;
        }
        Event::LinkKeyRetired { bundle, .. } => {
            db.execute(
                "UPDATE bundles SET retired = 1 WHERE bundle = ?1",
                params![bundle.0],
            )?;
        }
        Event::Gap {
            first,
            last,
            bundle,
        } => range(
            db,
            RangeKind::Gap,
            (*first, *last),
            Saying::Attributed(*bundle),
        )?,
        Event::GapWithdrawn { first, last } => {
            range(db, RangeKind::Gap, (*first, *last), Saying::Withdrawn)?;
        }
        Event::NotSent {
            first,
            last,
            bundle,
        } => range(
            db,
            RangeKind::NotSent,
            (*first, *last),
            Saying::Attributed(*bundle),
        )?,
        Event::NotSentWithdrawn { first, last } => {
            range(db, RangeKind::NotSent, (*first, *last), Saying::Withdrawn)?;
        }
        Event::TrustImported {
            version, sha256, ..
        } => {
            db.execute(
                "INSERT INTO trust VALUES (?1, ?2)",
                params![version, sha256],
            )?;
        }
        Event::Started { .. }
        | Event::Stopped
        | Event::ClockAccepted { .. }
        | Event::Unopened { .. }
        | Event::SecondContainer { .. }
        | Event::RequestRefused { .. }
        | Event::Alarm { .. } => {}
    }
    Ok(())
}

fn range(
    db: &Connection,
    kind: RangeKind,
    (first, last): (Serial, Serial),
    saying: Saying,
) -> Result<(), RegisterError> {
    let bundle = match saying {
        Saying::Attributed(bundle) => Some(bundle.0),
        Saying::Withdrawn => None,
    };
    db.prepare_cached("INSERT INTO ranges VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind.as_str(), number(first), number(last), bundle])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;
    use crate::model::event::Asker;

    fn serial(value: u64) -> Serial {
        Serial::new(value).unwrap()
    }

    fn line(seq: u64, event: Event) -> Line {
        let time = "2026-11-22T21:53:18Z".parse().unwrap();
        Line::Known(Recorded { seq, time, event })
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
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.db");
        let id = MessageId::from_bytes([5; 16]);
        {
            let mut register = Register::open(&path).unwrap();
            assert_eq!(register.applied_seq().unwrap(), -1);
            assert_eq!(register.seen(&id).unwrap(), None);
            let released = Event::Released {
                serial: serial(4),
                message_id: id,
            };
            register
                .apply(&[line(0, publishing(4, 5)), line(1, released)])
                .unwrap();
        }
        let register = Register::open(&path).unwrap();
        assert_eq!(register.applied_seq().unwrap(), 1);
        assert_eq!(register.seen(&id).unwrap(), Some(serial(4)));
        let row = register.cable(serial(4)).unwrap().unwrap();
        assert_eq!(
            (row.claim, row.mailboxes.as_deref()),
            (Claim::Released, Some("a b"))
        );
        assert_eq!(row.act_by, "2026-11-30T12:00:00Z".parse().ok());
        assert_eq!(register.claimed().unwrap().to_string(), "4");
        let reader = Register::open_to_read(&path).unwrap();
        assert_eq!(reader.cables(None).unwrap().len(), 1);
        assert_eq!(reader.cables(Some(Claim::Quarantined)).unwrap().len(), 0);
    }

    #[test]
    fn quarantine_is_left_by_recheck_or_discard() {
        let folder = tempfile::tempdir().unwrap();
        let mut register = Register::open(&folder.path().join("register.db")).unwrap();
        let held = |of: u64| Event::Quarantined {
            serial: serial(of),
            container: ContainerHash::from_bytes([3; 32]),
            message_id: None,
            code: "expired".to_owned(),
            reason: "it expired".to_owned(),
        };
        let gone = Event::Discarded {
            serial: serial(2),
            reason: "asked".to_owned(),
            by: Asker::user(1),
        };
        register
            .apply(&[
                line(0, held(1)),
                line(1, held(2)),
                line(2, publishing(1, 9)),
                line(3, gone),
            ])
            .unwrap();
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
        let folder = tempfile::tempdir().unwrap();
        let mut register = Register::open(&folder.path().join("register.db")).unwrap();
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
        register
            .apply(&[
                line(0, bundle(1, 1, None)),
                line(1, bundle(2, 11, Some(BundleId(1)))),
                line(2, retired),
            ])
            .unwrap();
        let bundles = register.bundles().unwrap();
        assert_eq!(bundles[0].state, BundleState::Void);
        assert_eq!(
            (bundles[1].state, bundles[1].last),
            (BundleState::Live, serial(20))
        );
        assert!(bundles[0].holds(serial(10)) && !bundles[0].holds(serial(11)));
        assert_eq!(register.retired().unwrap(), [BundleId(1)]);
    }

    #[test]
    fn what_was_told_and_withdrawn_can_be_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut register = Register::open(&folder.path().join("register.db")).unwrap();
        let gap = |first: u64, last: u64, bundle: u32| Event::Gap {
            first: serial(first),
            last: serial(last),
            bundle: BundleId(bundle),
        };
        let withdrawn = Event::GapWithdrawn {
            first: serial(3),
            last: serial(9),
        };
        register
            .apply(&[
                line(0, gap(1, 9, 1)),
                line(1, withdrawn),
                line(2, gap(5, 5, 2)),
            ])
            .unwrap();
        let gaps = register.ranges(RangeKind::Gap).unwrap();
        assert_eq!(gaps.all().to_string(), "1-2,5");
        let old = gaps.reported_only_by(|bundle| bundle == BundleId(1));
        assert_eq!(old.to_string(), "1-2");
        assert!(
            register
                .ranges(RangeKind::NotSent)
                .unwrap()
                .all()
                .is_empty()
        );
    }

    #[test]
    fn a_broken_register_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.db");
        fs::write(&path, [0x55; 5000]).unwrap();
        let register = Register::open(&path).unwrap();
        assert_eq!(register.applied_seq().unwrap(), -1);
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, b"").unwrap();
        let path = folder.path().join("register.db");
        std::os::unix::fs::symlink(&other, &path).unwrap();
        // The link is removed as broken; what it points to stays as it was.
        Register::open(&path).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"");
        assert!(!path.symlink_metadata().unwrap().is_symlink());
    }
}
