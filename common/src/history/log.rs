//! A role's audit log on disk.
//!
//! | file | holds |
//! |---|---|
//! | `ROLE.log` | the first lines |
//! | `ROLE/SEQ.log` | the lines from that number on, each begun when the file before has its size |
//! | `ROLE.key` | where the chain stands, and the key of the next line; no older one |
//! | `ROLE.checkpoints` | signed notes, an empty line behind each |
//! | `ROLE.signer`, `ROLE.verifier` | the key that signs them, and its public half for the auditor |
//! | `ROLE.torn-SEQ` | a torn tail that start-up put aside |

mod creation;
mod error;
mod files;
mod key_file;
mod lines;
mod notes;
mod parts;
mod recover;

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

pub use self::error::AuditLogError;
use self::files::{Paths, check_verifier, log_options, read_signer};
use self::key_file::KeyFile;
pub(crate) use self::key_file::read_key_state;
pub use self::parts::{InTurn, Part, parts};
pub use self::recover::Recovered;
use crate::audit::{AuditRecord, Chain, CheckpointKey, Fields, Written, read_seq};
use crate::config;
use crate::limits;
use crate::os::durable::{is_full, with_reserve};
use crate::os::service;
use crate::secret::wipe_stack;
use crate::units::{Mono, UtcTime};

/// A role's audit log, open for appending.
pub struct AuditLog {
    paths: Paths,
    /// Its files, the oldest first.
    parts: Vec<Part>,
    /// The last of them, and its bytes that are committed.
    log: File,
    log_bytes: u64,
    /// A file of so many bytes is the last no longer.
    part_bytes: u64,
    key_file: KeyFile,
    signer: CheckpointKey,
    chain: Chain,
    /// Lines of the next commit.
    pending: Vec<u8>,
    pending_time: Option<UtcTime>,
    /// Checkpoints that fell due among them.
    notes: String,
    last_time: Option<UtcTime>,
    /// Lines since the last checkpoint.
    lines_unsigned: u64,
    /// A checkpoint was signed since the log was opened.
    is_signed: bool,
    /// When the hour began after which a checkpoint is due.
    checkpoint_at: Option<Mono>,
    is_failed: bool,
}

/// The file that a log is written to.
struct Open {
    parts: Vec<Part>,
    log: File,
    log_bytes: u64,
    key_file: KeyFile,
}

impl AuditLog {
    /// Opens a log, verifies what lies beyond its key file and puts a torn tail aside. Creates the folder of the files after the
    /// first, because a role on the network cannot create it behind its fences.
    ///
    /// # Errors
    /// The system's, and a log that does not go with its key file.
    pub fn open(folder: &Path, role: &str) -> Result<(Self, Recovered), AuditLogError> {
        let opened = Self::read(folder, role);
        // The keys of lines beyond the key file, and what signing read.
        wipe_stack();
        opened
    }

    #[inline(never)]
    fn read(folder: &Path, role: &str) -> Result<(Self, Recovered), AuditLogError> {
        let io_error = AuditLogError::io;
        let paths = Paths {
            folder: folder.to_owned(),
            role: role.to_owned(),
        };
        let signer = read_signer(&paths)?;
        check_verifier(&paths, &signer)?;
        notes::drop_torn(&paths.of("checkpoints")).map_err(io_error("open"))?;
        let (key_file, held) = KeyFile::open(&paths.of("key")).map_err(io_error("open"))?;
        let held = held.ok_or_else(|| AuditLogError::KeyFile {
            path: paths.of("key"),
        })?;
        parts::make_folder(&paths.of("log")).map_err(io_error("open"))?;
        let parts = parts(&paths.of("log")).map_err(io_error("open"))?;
        let mismatch = AuditLogError::Mismatch {
            line: held.state.next_seq,
        };
        // The key file was synced before the last file was created, so it points to the beginning of that file, or further on.
        let (Some(newest), before) = (parts.last(), parts.iter().rev().nth(1)) else {
            return Err(mismatch);
        };
        let log_bytes = match held.state.next_seq.cmp(&newest.first_seq) {
            Ordering::Less => return Err(mismatch),
            Ordering::Equal => 0,
            Ordering::Greater => held.log_bytes,
        };
        let log = log_options().open(&newest.path).map_err(io_error("open"))?;
        let file_bytes = log.metadata().map_err(io_error("open"))?.len();
        if file_bytes < log_bytes {
            return Err(mismatch);
        }
        let last = match (log_bytes, before) {
            (0, None) => Ok(None),
            (0, Some(before)) => lines::last_line_of(&before.path),
            _ => lines::last_line(&log, log_bytes),
        };
        let last = last.map_err(io_error("read"))?;
        let is_head = match &last {
            Some(line) => *blake3::hash(line).as_bytes() == held.state.head,
            None => held.state.next_seq == 0,
        };
        if !is_head {
            return Err(mismatch);
        }
        let chain = Chain::resume(held.state, held.key);
        let open = Open {
            parts,
            log,
            log_bytes,
            key_file,
        };
        let mut opened = Self::new(paths, open, signer, chain);
        opened.last_time = last
            .and_then(|line| AuditRecord::parse(&line))
            .map(|line| line.time);
        let recovered = opened.roll_forward(file_bytes)?;
        Ok((opened, recovered))
    }

    fn new(paths: Paths, open: Open, signer: CheckpointKey, chain: Chain) -> Self {
        let Open {
            parts,
            log,
            log_bytes,
            key_file,
        } = open;
        Self {
            paths,
            parts,
            log,
            log_bytes,
            part_bytes: config::AuditFiles::default().file_bytes.0,
            key_file,
            signer,
            chain,
            pending: Vec::new(),
            pending_time: None,
            notes: String::new(),
            last_time: None,
            lines_unsigned: 0,
            is_signed: false,
            checkpoint_at: None,
            is_failed: false,
        }
    }

    /// Begins another file when the last has so many bytes.
    pub fn set_part_bytes(&mut self, bytes: u64) {
        self.part_bytes = bytes;
    }

    /// Adds a line to the next commit and returns its number. Nothing has happened before [`AuditLog::commit`] returns.
    pub fn append(&mut self, now: UtcTime, event: &str, fields: Fields<'_>) -> u64 {
        let seq = self.chain.append(&mut self.pending, now, event, fields);
        self.pending_time = Some(now);
        self.lines_unsigned += 1;
        if self.lines_unsigned >= limits::CHECKPOINT_LINES_MAX || !self.is_signed {
            self.sign();
        }
        seq
    }

    /// Adds an event as [`AuditLog::append`] does: its word is what serde writes as `event`, before its fields.
    ///
    /// # Panics
    /// If serde writes the event in another form.
    pub fn append_event(&mut self, now: UtcTime, event: &impl Serialize) -> u64 {
        let Written { word, fields } = Written::of(event).expect("an event has a word and fields");
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        self.append(now, &word, &fields)
    }

    /// Makes every appended line durable with one write and one sync, then replaces the key. Checkpoints that fell due, at
    /// the first line and after 1,000, are written besides.
    ///
    /// # Errors
    /// The caller must end the process: what the disk holds is unknown.
    pub fn commit(&mut self) -> Result<(), AuditLogError> {
        if self.is_failed {
            return Err(AuditLogError::Failed);
        }
        if self.pending.is_empty() && self.notes.is_empty() {
            return Ok(());
        }
        // Until the last write is through: an error leaves it set.
        self.is_failed = true;
        if !self.pending.is_empty() {
            self.write_lines()?;
        }
        if !self.notes.is_empty() {
            self.write_notes()
                .map_err(AuditLogError::io("write a checkpoint of"))?;
        }
        self.is_failed = false;
        Ok(())
    }

    fn write_lines(&mut self) -> Result<(), AuditLogError> {
        if self.log_bytes >= self.part_bytes {
            self.begin_part().map_err(AuditLogError::io("begin"))?;
        }
        let (log, log_bytes) = (&self.log, self.log_bytes);
        with_reserve(is_full, || append_whole(log, log_bytes, &self.pending))
            .map_err(AuditLogError::io("write"))?;
        self.log.sync_data().map_err(AuditLogError::io("sync"))?;
        self.log_bytes += u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        // They have happened now.
        service::log_events(&self.pending);
        self.pending.clear();
        self.last_time = self.pending_time.take().or(self.last_time);
        self.key_file
            .write(&self.chain, self.log_bytes)
            .map_err(AuditLogError::io("write the key of"))
    }

    /// Begins the file for the lines of this commit. One that a kill leaves empty is what the next opening goes on with.
    fn begin_part(&mut self) -> io::Result<()> {
        let Some(first_seq) = read_seq(&self.pending) else {
            return Ok(());
        };
        // It says where the file before ends: what is made now must not be there without it.
        self.key_file.sync()?;
        let (part, log) = parts::begin(&self.paths.of("log"), first_seq)?;
        self.parts.push(part);
        (self.log, self.log_bytes) = (log, 0);
        Ok(())
    }

    fn write_notes(&mut self) -> io::Result<()> {
        let file = log_options()
            .create(true)
            .open(self.paths.of("checkpoints"))?;
        let bytes = file.metadata()?.len();
        with_reserve(is_full, || {
            append_whole(&file, bytes, self.notes.as_bytes())
        })?;
        file.sync_all()?;
        self.key_file.sync()?;
        self.notes.clear();
        Ok(())
    }

    /// Signs where the chain stands, for the next commit. A second note of the same line would say nothing new.
    fn sign(&mut self) {
        if self.lines_unsigned == 0 && self.is_signed {
            return;
        }
        if let Some(note) = self.signer.sign(&self.chain.state()) {
            self.notes.push_str(&note);
            self.notes.push('\n');
        }
        self.lines_unsigned = 0;
        self.is_signed = true;
    }

    /// Commits, and writes a checkpoint now: at start, at stop, and once an hour (see [`AuditLog::is_checkpoint_due`]).
    ///
    /// # Errors
    /// As [`AuditLog::commit`].
    pub fn checkpoint(&mut self, mono: Mono) -> Result<(), AuditLogError> {
        self.sign();
        self.checkpoint_at = Some(mono);
        self.commit()
    }

    /// Returns whether an hour has passed since the last checkpoint that was asked for; at once for a log that was just opened. It is
    /// counted, not read from the wall clock: "now" is never before the last line, so behind a clock that was set back it
    /// stands still for as long.
    pub fn is_checkpoint_due(&self, mono: Mono) -> bool {
        let hour_us = limits::CHECKPOINT_S_MAX * 1_000_000;
        self.checkpoint_at
            .is_none_or(|at| mono.since_us(at) >= hour_us)
    }

    /// Returns the public half of the key that signs checkpoints, for the auditor.
    pub fn verifier_text(&self) -> String {
        self.signer.verifier_text()
    }

    /// Returns the number of the next line.
    pub fn next_seq(&self) -> u64 {
        self.chain.state().next_seq
    }

    /// Checks that an index does not know more lines than there are.
    ///
    /// # Errors
    /// [`AuditLogError::Cut`].
    pub(crate) fn check_index(&self, known: u64) -> Result<(), AuditLogError> {
        match self.next_seq() {
            log if known > log => Err(AuditLogError::Cut {
                log,
                register: known,
            }),
            _ => Ok(()),
        }
    }

    /// Returns the last committed line's time: "now" is never before it.
    pub fn last_time(&self) -> Option<UtcTime> {
        self.last_time
    }

    /// Returns the committed lines from number `seq` on, for rolling the register forward. Finds the first by bisection.
    ///
    /// # Errors
    /// The system's; a line that cannot be parsed is an error in the iterator.
    pub(crate) fn lines_from(
        &self,
        seq: u64,
    ) -> Result<impl Iterator<Item = Result<AuditRecord, AuditLogError>> + use<>, AuditLogError>
    {
        lines::Lines::new(&self.parts, self.log_bytes, seq).map_err(AuditLogError::io("read"))
    }
}

/// Appends to a file of so many bytes. On a full disk nothing of it stays: a torn end would have to be put aside, for which
/// there would be no room either.
fn append_whole(mut file: &File, file_bytes: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes).inspect_err(|_| {
        let _ = file.set_len(file_bytes);
    })
}

#[cfg(test)]
mod tests;
