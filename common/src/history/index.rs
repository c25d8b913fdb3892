//! The register: an index over a role's audit log, in SQLite, which is used nowhere else.
//!
//! The log alone decides what has happened. After a crash the register may lack the log's last lines; it is never ahead of the
//! log. The register also holds the number of lines that its rows come from. Start-up rolls it forward from that line. A damaged register is
//! built again from the whole log.
//!
//! All rows are in one table. A row is JSON under the name of its kind and a key. A hash beside it shows a flipped bit,
//! which SQLite does not notice in a value. No row holds content, a subject, a file name or a key that opens anything.

mod error;
mod place;
mod row;

use std::ops::Deref;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use serde::de::DeserializeOwned;

pub use self::error::{IndexError, rebuilt_text};
use self::error::{io, sqlite};
pub use self::place::Place;
use self::row::{Entry, Known};
pub use self::row::{Row, number_key};
use super::log::{AuditLog, AuditLogError};
use crate::audit::Recorded;
use crate::os::durable::with_reserve;
use crate::os::service;
use crate::role::Role;

/// Lines that are rolled forward in one transaction.
const ROLL_LINES: usize = 1_000;

/// How long a transaction waits for another process that reads.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const TABLE: &str = "
CREATE TABLE entry (
    kind TEXT NOT NULL, key TEXT NOT NULL, alias TEXT, state TEXT, place INTEGER NOT NULL,
    value TEXT NOT NULL, checked TEXT NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
CREATE INDEX entry_alias ON entry (kind, alias) WHERE alias IS NOT NULL;
CREATE INDEX entry_state ON entry (kind, state, place) WHERE state IS NOT NULL;
";

/// An open register.
#[derive(Debug)]
pub struct Index {
    db: Connection,
    role: Role,
}

impl Index {
    /// Opens a role's register and rolls it forward: `load` reads what the role needs of it, `take` takes lines of the log in
    /// and stores them. A damaged register is deleted and built again from the whole log, once. Returns also whether it was
    /// built again from a log with a history.
    ///
    /// # Errors
    /// [`IndexError`]; a register that knows more lines than the log has is one.
    pub fn follow<T, E: DeserializeOwned>(
        log: &AuditLog,
        place: &Place<'_>,
        load: impl Fn(Index) -> Result<T, IndexError>,
        take: impl Fn(&mut T, &[Recorded<E>]) -> Result<(), IndexError>,
    ) -> Result<(T, bool), IndexError> {
        let follow = || -> Result<(T, bool), IndexError> {
            let index = with_reserve(IndexError::is_full, || Self::open(place))?;
            let known = index.known()?;
            log.check_index(known)?;
            let mut loaded = load(index)?;
            let mut lines = Vec::new();
            for record in log.lines_from(known)? {
                let record = record?;
                let foreign = AuditLogError::Foreign {
                    line: record.seq,
                    role: place.role,
                };
                lines.push(record.read().map_err(|_| foreign)?);
                if lines.len() == ROLL_LINES {
                    take(&mut loaded, &lines)?;
                    lines.clear();
                    service::extend_start();
                }
            }
            if !lines.is_empty() {
                take(&mut loaded, &lines)?;
            }
            Ok((loaded, known == 0 && log.next_seq() > 1))
        };
        match follow() {
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "the register is built again from the audit log");
                place.remove()?;
                follow()
            }
            followed => followed,
        }
    }

    fn open(place: &Place<'_>) -> Result<Self, IndexError> {
        let role = place.role;
        service::extend_start();
        place.create()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let path = place.resolved().map_err(io(role))?;
        let db = Connection::open_with_flags(path, flags).map_err(sqlite(role))?;
        let index = Self { db, role };
        if index.prepare().map_err(sqlite(role))? == 0 {
            let schema = format!("{TABLE} PRAGMA user_version = {}", place.layout);
            index.commit(0, |_| index.db.execute_batch(&schema).map_err(sqlite(role)))?;
        }
        index.check_layout(place)?;
        index.check_entries()?;
        if let Some(readers) = place.readers {
            place.give(readers).map_err(io(role))?;
        }
        Ok(index)
    }

    /// Sets how SQLite works, and returns the layout, 0 for an empty file.
    fn prepare(&self) -> rusqlite::Result<i64> {
        self.db.busy_timeout(BUSY_TIMEOUT)?;
        // The log is the commit point: a transaction that is lost with the power is rolled forward again, so that none waits
        // for the disk. The write-ahead log keeps the file whole in any case.
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        self.layout()
    }

    fn layout(&self) -> rusqlite::Result<i64> {
        self.db
            .pragma_query_value(None, "user_version", |row| row.get(0))
    }

    fn check_layout(&self, place: &Place<'_>) -> Result<(), IndexError> {
        match self.layout().map_err(sqlite(self.role))? == place.layout {
            true => Ok(()),
            false => Err(self.damaged("layout")),
        }
    }

    /// Checks the whole file: a damaged row must show at the start, not in the middle of the work.
    fn check_entries(&self) -> Result<(), IndexError> {
        let check = || {
            // An index that disagrees with its table would hide rows.
            let query = "PRAGMA integrity_check(1)";
            let found: String = self.db.query_row(query, [], |row| row.get(0))?;
            if found != "ok" {
                return Ok(Some("index"));
            }
            let mut statement = self.db.prepare("SELECT * FROM entry")?;
            let mut entries = statement.query([])?;
            while let Some(row) = entries.next()? {
                if Entry::read(row)?.is_none() {
                    return Ok(Some("row"));
                }
            }
            Ok(None)
        };
        match check().map_err(sqlite(self.role))? {
            Some(what) => Err(self.damaged(what)),
            None => Ok(()),
        }
    }

    /// Opens a register for a command that only reads, whether or not its owner runs.
    ///
    /// # Errors
    /// [`IndexError`] if the register is absent or closed to this user.
    pub fn open_to_read(place: &Place<'_>) -> Result<Self, IndexError> {
        let role = place.role;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let mut uri = String::from("file:");
        let path = place.resolved().map_err(io(role))?;
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                    uri.push(char::from(*byte));
                }
                _ => uri.push_str(&format!("%{byte:02X}")),
            }
        }
        let attempt = |query: &str| -> Result<Self, IndexError> {
            let db = Connection::open_with_flags(format!("{uri}{query}"), flags)
                .map_err(sqlite(role))?;
            db.busy_timeout(BUSY_TIMEOUT).map_err(sqlite(role))?;
            let index = Self { db, role };
            index.check_layout(place)?;
            index.known()?;
            Ok(index)
        };
        match attempt("?mode=ro") {
            // Who may not write the folder, or finds no room, cannot make the side files of a register at rest, and needs none.
            Err(error) if error.is_unreachable() || error.is_full() => {
                attempt("?mode=ro&immutable=1")
            }
            opened => opened,
        }
    }

    /// Stores rows that lines of the log up to before number `known` made, all or none. On a full disk `write` is repeated.
    ///
    /// # Errors
    /// [`IndexError`], also of `write`.
    pub fn store(
        &mut self,
        known: u64,
        write: impl Fn(&Rows<'_>) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        with_reserve(IndexError::is_full, || self.commit(known, &write))
    }

    fn commit(
        &self,
        known: u64,
        write: impl Fn(&Rows<'_>) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let failed = sqlite(self.role);
        let transaction = self.db.unchecked_transaction().map_err(failed)?;
        let rows = Rows(self);
        write(&rows)?;
        rows.put(&Known(known))?;
        transaction.commit().map_err(failed)
    }

    /// Returns the number of lines of the log that the rows come from.
    fn known(&self) -> Result<u64, IndexError> {
        match self.get("")? {
            Some(Known(lines)) => Ok(lines),
            None => Err(self.damaged("number of lines")),
        }
    }

    /// Returns the row under a key.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn get<R: Row>(&self, key: &str) -> Result<Option<R>, IndexError> {
        Ok(self.select("key = ?2", Some(key), 1)?.pop())
    }

    /// Returns the row with an alias; the first of several in the order of their keys.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn by_alias<R: Row>(&self, alias: &str) -> Result<Option<R>, IndexError> {
        Ok(self
            .select("alias = ?2 ORDER BY key", Some(alias), 1)?
            .pop())
    }

    /// Returns the rows in a state, from the highest place down, at most `count_max`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn in_state<R: Row>(&self, state: &str, count_max: usize) -> Result<Vec<R>, IndexError> {
        self.select("state = ?2 ORDER BY place DESC", Some(state), count_max)
    }

    /// Returns every row of a kind, in the order of the keys.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn all<R: Row>(&self) -> Result<Vec<R>, IndexError> {
        self.select("?2 IS NULL ORDER BY key", None, usize::MAX)
    }

    fn select<R: Row>(
        &self,
        which: &str,
        value: Option<&str>,
        count_max: usize,
    ) -> Result<Vec<R>, IndexError> {
        let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
        let query = format!("SELECT * FROM entry WHERE kind = ?1 AND {which} LIMIT ?3");
        // Each row is parsed at once: the text of a million rows is several times their size.
        let select = || {
            let mut statement = self.db.prepare_cached(&query)?;
            let mut entries = statement.query(params![R::KIND, value, count_max])?;
            let mut rows = Vec::new();
            while let Some(entry) = entries.next()? {
                let read = Entry::read(entry)?;
                match read.and_then(|entry| serde_json::from_str(&entry.value).ok()) {
                    Some(row) => rows.push(row),
                    None => return Ok(None),
                }
            }
            Ok(Some(rows))
        };
        let rows = select().map_err(sqlite(self.role))?;
        rows.ok_or_else(|| self.damaged(R::KIND))
    }

    /// Returns the keys of every row of a kind, in their order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn keys<R: Row>(&self) -> Result<Vec<String>, IndexError> {
        let select = || {
            let query = "SELECT key FROM entry WHERE kind = ?1 ORDER BY key";
            let mut statement = self.db.prepare_cached(query)?;
            let keys = statement.query_map(params![R::KIND], |row| row.get(0))?;
            keys.collect::<rusqlite::Result<Vec<String>>>()
        };
        select().map_err(sqlite(self.role))
    }

    fn damaged(&self, what: &'static str) -> IndexError {
        IndexError::Damaged {
            role: self.role,
            what,
        }
    }
}

/// A register in a transaction.
pub struct Rows<'a>(&'a Index);

impl Deref for Rows<'_> {
    type Target = Index;

    fn deref(&self) -> &Index {
        self.0
    }
}

impl Rows<'_> {
    /// Writes a row over the one under its key.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn put<R: Row>(&self, row: &R) -> Result<(), IndexError> {
        let entry = Entry {
            kind: R::KIND.to_owned(),
            key: row.key(),
            alias: row.alias(),
            state: row.state().map(str::to_owned),
            place: i64::try_from(row.place()).unwrap_or(i64::MAX),
            value: serde_json::to_string(row).map_err(|error| io(self.role)(error.into()))?,
        };
        let write = || {
            self.db
                .prepare_cached("INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    entry.kind,
                    entry.key,
                    entry.alias,
                    entry.state,
                    entry.place,
                    entry.value,
                    entry.check(),
                ])
        };
        write().map(|_| ()).map_err(sqlite(self.role))
    }

    /// Changes the row under a key, if there is one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn change<R: Row>(&self, key: &str, change: impl FnOnce(&mut R)) -> Result<(), IndexError> {
        let Some(mut row) = self.get(key)? else {
            return Ok(());
        };
        change(&mut row);
        self.put(&row)
    }
}

#[cfg(test)]
mod tests;
