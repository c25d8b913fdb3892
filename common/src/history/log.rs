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
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::audit::{CheckpointVerifier, Evidence, notes, verify};
    use crate::secret::Secret32;

    const TIME: UtcTime = UtcTime::from_s(1_763_812_800);
    const MONO: Mono = Mono(7_000_000);
    const HOUR_US: u64 = 3_600_000_000;

    struct World {
        folder: tempfile::TempDir,
        first_key: Secret32,
        log: Option<AuditLog>,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (log, first_key) =
                AuditLog::create(folder.path(), "gate", "valise/01/gate").unwrap();
            Self {
                folder,
                first_key,
                log: Some(log),
            }
        }

        fn log(&mut self) -> &mut AuditLog {
            self.log.as_mut().unwrap()
        }

        fn commit(&mut self, count: u64) {
            for number in 0..count {
                self.log()
                    .append(TIME, "sealed", &[("serial", json!(number))]);
            }
            self.log().commit().unwrap();
        }

        fn path(&self, suffix: &str) -> PathBuf {
            self.folder.path().join(format!("gate.{suffix}"))
        }

        fn reopen(&mut self) -> Result<Recovered, AuditLogError> {
            self.log = None;
            let (log, recovered) = AuditLog::open(self.folder.path(), "gate")?;
            self.log = Some(log);
            Ok(recovered)
        }

        fn lines(&self) -> u64 {
            let key = Secret32::new(*self.first_key.expose());
            let log: Vec<u8> = self
                .parts()
                .iter()
                .flat_map(|path| fs::read(path).unwrap())
                .collect();
            let verifier = fs::read_to_string(self.path("verifier")).unwrap();
            let verifier = CheckpointVerifier::parse(&verifier).unwrap();
            let file = fs::read_to_string(self.path("checkpoints")).unwrap();
            let checkpoints = notes(&file)
                .map(|note| verifier.verify(&note).unwrap())
                .collect();
            let evidence = Evidence {
                first_key: Some(key),
                checkpoints,
                key_state: None,
            };
            verify(&log[..], evidence).unwrap().state.next_seq
        }

        fn parts(&self) -> Vec<PathBuf> {
            let parts = parts(&self.path("log")).unwrap();
            parts.into_iter().map(|part| part.path).collect()
        }

        fn seqs_from(&self, seq: u64) -> Vec<u64> {
            let lines = self.log.as_ref().unwrap().lines_from(seq).unwrap();
            lines.map(|line| line.unwrap().seq).collect()
        }
    }

    const CLEAN: Recovered = Recovered {
        torn_bytes: 0,
        lines_forward: 0,
    };

    #[test]
    fn a_log_goes_on_after_each_opening_and_verifies_under_the_first_key() {
        let mut world = World::new();
        assert_eq!(world.log().last_time(), None);
        assert_eq!(world.reopen().unwrap(), CLEAN);
        world.commit(3);
        assert_eq!(world.reopen().unwrap(), CLEAN);
        assert_eq!(world.log().next_seq(), 3);
        assert_eq!(world.log().last_time(), Some(TIME));
        world.commit(2);
        world.log().checkpoint(MONO).unwrap();
        assert_eq!(world.lines(), 5);
        assert_eq!(world.seqs_from(3), [3, 4]);
        assert!(world.seqs_from(5).is_empty());
    }

    #[test]
    fn what_was_not_committed_has_not_happened() {
        let mut world = World::new();
        world.commit(1);
        world.log().append(TIME, "sealed", &[]);
        assert_eq!(world.log().next_seq(), 2);
        assert_eq!(world.seqs_from(0), [0]);
        assert_eq!(world.reopen().unwrap(), CLEAN);
        assert_eq!(world.log().next_seq(), 1);
    }

    #[test]
    fn a_second_log_is_not_begun_over_the_first() {
        let mut world = World::new();
        world.commit(1);
        let again = AuditLog::create(world.folder.path(), "gate", "valise/01/gate");
        assert!(matches!(
            again,
            Err(AuditLogError::Io {
                doing: "create",
                ..
            })
        ));
        assert_eq!(world.reopen().unwrap(), CLEAN);
    }

    #[test]
    fn a_creation_that_was_cut_short_is_done_again() {
        let world = World::new();
        fs::remove_file(world.path("log")).unwrap();
        let (mut log, first_key) =
            AuditLog::create(world.folder.path(), "gate", "valise/01/gate").unwrap();
        log.append(TIME, "start", &[]);
        log.commit().unwrap();
        let bytes = fs::read(world.path("log")).unwrap();
        let evidence = Evidence {
            first_key: Some(first_key),
            ..Evidence::default()
        };
        assert_eq!(verify(&bytes[..], evidence).unwrap().state.next_seq, 1);
    }

    #[test]
    fn a_torn_tail_goes_aside() {
        for torn in [&b"{\"seq\":2,\"time\":\"2025"[..], b"\0\0\0\0\n{}\n", b"\n"] {
            let mut world = World::new();
            world.commit(2);
            let whole = fs::read(world.path("log")).unwrap();
            fs::write(world.path("log"), [&whole[..], torn].concat()).unwrap();
            let torn_bytes = torn.len() as u64;
            assert_eq!(
                world.reopen().unwrap(),
                Recovered {
                    torn_bytes,
                    lines_forward: 0
                }
            );
            assert_eq!(fs::read(world.path("log")).unwrap(), whole);
            assert_eq!(fs::read(world.path("torn-2")).unwrap(), torn);
            world.commit(1);
            assert_eq!(world.lines(), 3);
        }
    }

    #[test]
    fn a_key_file_that_stands_behind_is_derived_forward() {
        let mut world = World::new();
        world.commit(2);
        let behind = fs::read(world.path("key")).unwrap();
        world.commit(3);
        let torn = [fs::read(world.path("log")).unwrap(), b"{".to_vec()].concat();
        fs::write(world.path("log"), torn).unwrap();
        fs::write(world.path("key"), behind).unwrap();
        assert_eq!(
            world.reopen().unwrap(),
            Recovered {
                torn_bytes: 1,
                lines_forward: 3
            }
        );
        assert_eq!(world.reopen().unwrap(), CLEAN);
        world.commit(1);
        assert_eq!(world.lines(), 6);
    }

    #[test]
    fn a_log_goes_on_in_another_file_when_one_has_its_size_and_is_one_chain() {
        let mut world = World::new();
        world.reopen().unwrap();
        world.log().set_part_bytes(1_000);
        for _ in 0..5 {
            // Three lines are longer than 600 bytes.
            world.commit(3);
        }
        let folder = world.path("log").with_extension("");
        let names = ["00000000000000000006.log", "00000000000000000012.log"];
        let expected: Vec<_> = [world.path("log")]
            .into_iter()
            .chain(names.map(|name| folder.join(name)))
            .collect();
        assert_eq!(world.parts(), expected);
        world.log().checkpoint(MONO).unwrap();
        assert_eq!(world.lines(), 15);
        for seq in [0, 5, 6, 7, 11, 12, 14, 15, 99] {
            let expected: Vec<_> = (seq..15).collect();
            assert_eq!(world.seqs_from(seq), expected, "{seq}");
        }
        assert_eq!(world.reopen().unwrap(), CLEAN);
        assert_eq!(world.log().last_time(), Some(TIME));
        world.commit(1);
        assert_eq!(world.seqs_from(13), [13, 14, 15]);
        assert_eq!(world.lines(), 16);
        // A file in the middle is gone: its lines are not passed over.
        fs::remove_file(&expected[1]).unwrap();
        assert_eq!(world.reopen().unwrap(), CLEAN);
        let lines: Vec<_> = world.log().lines_from(3).unwrap().collect();
        assert_eq!(lines.len(), 4, "lines 3 to 5, and the fault");
        let mismatch = AuditLogError::Mismatch { line: 7 };
        let fault = lines.last().unwrap().as_ref().unwrap_err();
        assert_eq!(fault.to_string(), mismatch.to_string());
    }

    #[test]
    fn a_kill_or_a_power_cut_around_the_beginning_of_a_file_loses_no_line() {
        for has_line in [false, true] {
            let mut world = World::new();
            world.reopen().unwrap();
            world.log().set_part_bytes(1);
            world.commit(2);
            let key_before = fs::read(world.path("key")).unwrap();
            world.commit(2);
            let [_, last] = world.parts().try_into().unwrap();
            // The key file was made durable before the file, and not since.
            fs::write(world.path("key"), key_before).unwrap();
            if !has_line {
                fs::write(&last, b"").unwrap();
            }
            let lines_forward = if has_line { 2 } else { 0 };
            let torn_bytes = 0;
            let found = world.reopen().unwrap();
            assert_eq!(
                found,
                Recovered {
                    torn_bytes,
                    lines_forward
                }
            );
            assert_eq!(world.log().last_time(), Some(TIME));
            world.commit(3);
            assert_eq!(
                world.parts().len(),
                2,
                "nothing is begun over an empty file"
            );
            assert_eq!(world.lines(), 5 + lines_forward);
        }
    }

    #[test]
    fn a_file_that_is_not_where_the_key_stands_and_another_thing_in_the_folder_s_place_are_refused()
    {
        let mut world = World::new();
        world.reopen().unwrap();
        world.log().set_part_bytes(1);
        world.commit(2);
        world.commit(2);
        let [_, last] = world.parts().try_into().unwrap();
        let later = last.with_file_name("00000000000000000009.log");
        fs::write(&later, b"").unwrap();
        assert!(matches!(
            world.reopen(),
            Err(AuditLogError::Mismatch { line: 4 })
        ));
        fs::remove_file(&later).unwrap();
        // Not a name of ours.
        fs::write(last.with_file_name("9.log"), b"").unwrap();
        assert_eq!(world.reopen().unwrap(), CLEAN);
        let folder = last.parent().unwrap();
        let away = folder.with_extension("away");
        fs::rename(folder, &away).unwrap();
        std::os::unix::fs::symlink(&away, folder).unwrap();
        let refusal = world.reopen().unwrap_err().to_string();
        assert!(refusal.contains("move it away"), "{refusal}");
    }

    #[test]
    fn a_cut_or_changed_log_is_not_opened() {
        let mut world = World::new();
        world.commit(3);
        let whole = fs::read(world.path("log")).unwrap();
        fs::write(world.path("log"), &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(
            world.reopen(),
            Err(AuditLogError::Mismatch { line: 3 })
        ));
        let mut changed = whole.clone();
        *changed.iter_mut().rev().nth(200).unwrap() ^= 1;
        fs::write(world.path("log"), changed).unwrap();
        assert!(matches!(
            world.reopen(),
            Err(AuditLogError::Mismatch { line: 3 })
        ));
        fs::write(world.path("log"), b"").unwrap();
        assert!(matches!(
            world.reopen(),
            Err(AuditLogError::Mismatch { line: 3 })
        ));
        fs::write(world.path("log"), &whole).unwrap();
        assert_eq!(world.reopen().unwrap(), CLEAN);
    }

    #[test]
    fn a_damaged_or_open_key_file_is_refused() {
        let mut world = World::new();
        world.commit(1);
        let good = fs::read(world.path("key")).unwrap();
        for at in [0, 20, 60, 119] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(world.path("key"), bad).unwrap();
            assert!(matches!(world.reopen(), Err(AuditLogError::KeyFile { .. })));
        }
        fs::write(world.path("key"), &good[..119]).unwrap();
        assert!(matches!(world.reopen(), Err(AuditLogError::KeyFile { .. })));
        fs::write(world.path("key"), &good).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(world.reopen(), Err(AuditLogError::Io { .. })));
    }

    #[test]
    fn the_key_file_never_holds_an_older_key() {
        let mut world = World::new();
        let first_key = *world.first_key.expose();
        let key_bytes = |world: &World| fs::read(world.path("key")).unwrap()[56..88].to_vec();
        assert_eq!(key_bytes(&world), first_key);
        world.commit(1);
        assert_eq!(
            key_bytes(&world),
            blake3::derive_key("valise v1 audit", &first_key)
        );
        let whole = fs::read(world.path("key")).unwrap();
        assert!(!whole.windows(32).any(|window| window == first_key));
    }

    #[test]
    fn half_a_checkpoint_is_written_anew() {
        let mut world = World::new();
        world.commit(1_500);
        let whole = fs::read(world.path("checkpoints")).unwrap();
        let one = whole.len() / 2;
        for torn_bytes in [1, 20, 75, one / 2, one - 1] {
            let torn = &whole[..one + torn_bytes];
            fs::write(world.path("checkpoints"), torn).unwrap();
            world.reopen().unwrap();
            let left = fs::read(world.path("checkpoints")).unwrap();
            let notes: Vec<_> = notes(str::from_utf8(&left).unwrap()).collect();
            assert_eq!(notes.len(), 1, "{torn_bytes} bytes of the second");
        }
        fs::write(world.path("checkpoints"), &whole[..one - 9]).unwrap();
        world.reopen().unwrap();
        assert_eq!(fs::read(world.path("checkpoints")).unwrap(), b"");
        world.commit(1);
        assert_eq!(world.lines(), 1_501);
        let whole = fs::read(world.path("checkpoints")).unwrap();
        world.reopen().unwrap();
        assert_eq!(fs::read(world.path("checkpoints")).unwrap(), whole);
    }

    #[test]
    fn checkpoints_fall_due_by_lines_and_by_time() {
        let mut world = World::new();
        let count =
            |world: &World| notes(&fs::read_to_string(world.path("checkpoints")).unwrap()).count();
        assert!(world.log().is_checkpoint_due(MONO), "just opened");
        world.commit(1);
        assert_eq!(count(&world), 1, "at start");
        world.commit(999);
        assert_eq!(count(&world), 1);
        world.commit(1);
        assert_eq!(count(&world), 2, "after 1,000 lines");
        world.commit(2_500);
        assert_eq!(count(&world), 4, "in the middle of one commit");
        world.log().checkpoint(MONO).unwrap();
        assert_eq!(count(&world), 5, "as a role does at its start");
        let later = MONO.plus_us(HOUR_US);
        assert!(!world.log().is_checkpoint_due(MONO.plus_us(HOUR_US - 1)));
        assert!(world.log().is_checkpoint_due(later));
        world.log().checkpoint(later).unwrap();
        assert_eq!(count(&world), 5, "no line since");
        world.log().append(TIME, "alarm", &[]);
        world.log().checkpoint(later).unwrap();
        assert_eq!(count(&world), 6, "after an hour");
        assert!(!world.log().is_checkpoint_due(later.plus_us(1)));
        world.log().append(TIME, "stop", &[]);
        world.log().checkpoint(later).unwrap();
        assert_eq!(count(&world), 7, "at stop");
        assert_eq!(world.lines(), 3_503);
    }

    #[test]
    fn a_clock_that_is_set_back_puts_no_hourly_checkpoint_off() {
        let mut world = World::new();
        let count =
            |world: &World| notes(&fs::read_to_string(world.path("checkpoints")).unwrap()).count();
        let mut mono = MONO;
        world.log().append(TIME, "start", &[]);
        world.log().checkpoint(mono).unwrap();
        assert_eq!(count(&world), 1);
        // "Now" stands still at the last line's time until the clock has caught up; the hours pass.
        for hour in 1..=3 {
            world.log().append(TIME, "alarm", &[]);
            world.log().commit().unwrap();
            assert!(!world.log().is_checkpoint_due(mono.plus_us(HOUR_US / 2)));
            mono = mono.plus_us(HOUR_US);
            assert!(world.log().is_checkpoint_due(mono));
            world.log().checkpoint(mono).unwrap();
            assert_eq!(count(&world), 1 + hour);
        }
    }

    #[test]
    fn lines_are_found_in_a_long_log() {
        let mut world = World::new();
        world.commit(3_000);
        for seq in [0, 1, 2, 400, 1_499, 1_500, 2_998, 2_999, 3_000, 9_999] {
            let expected: Vec<_> = (seq..3_000).collect();
            assert_eq!(world.seqs_from(seq), expected, "{seq}");
        }
        let bytes = fs::read(world.path("log")).unwrap();
        let mut bad = bytes.clone();
        bad[bytes.len() - 20] = b'\n';
        fs::write(world.path("log"), bad).unwrap();
        let lines: Vec<_> = world.log().lines_from(2_990).unwrap().collect();
        assert!(matches!(
            lines.last(),
            Some(Err(AuditLogError::Mismatch { line: 3_000 }))
        ));
    }
}
