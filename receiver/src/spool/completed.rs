//! The durable list of completed containers: a line each, appended and now and then rewritten without superfluous lines.
//!
//! ```text
//! <serial> <BLAKE3 of the container, 64 hex digits>      completed
//! <serial> -<container id, 24 hex digits>                no longer: release has handed it back
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use valise_common::host::folders::InboxName;
use valise_common::ids::{ContainerHash, ContainerId, Serial};
use valise_common::limits::SETS_PER_SERIAL_MAX;
use valise_common::os::durable::{Access, Sync, SyncBatch, is_full, replace, with_reserve};

/// A completed container.
pub(crate) type Record = (Serial, ContainerHash);

/// Lines that may be superfluous before the list is rewritten.
const SUPERFLUOUS_MAX: usize = 4_096;

/// The list, open for appending.
#[derive(Debug)]
pub(crate) struct CompletedLog {
    path: PathBuf,
    tmp: PathBuf,
    file: File,
    lines: usize,
    live: usize,
}

impl CompletedLog {
    /// Opens the list, or begins one, and reads it. A line that a crash tore is left out.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub(crate) fn open(path: PathBuf, tmp: PathBuf) -> io::Result<(Self, Vec<Record>)> {
        let file = open_append(&path)?;
        let mut log = Self {
            path,
            tmp,
            file,
            lines: 0,
            live: 0,
        };
        let records = log.rewrite()?;
        Ok((log, records))
    }

    /// Adds containers and leaves the sync to a batch. With many superfluous lines, the list is rewritten first, durably.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn append(&mut self, records: &[Record], batch: &mut SyncBatch) -> io::Result<()> {
        if self.lines > self.live.saturating_mul(2).saturating_add(SUPERFLUOUS_MAX) {
            self.rewrite()?;
        }
        let text: String = records.iter().map(line).collect();
        self.write(&text, records.len(), batch)
    }

    /// Removes containers and leaves the sync to a batch.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn remove(&mut self, names: &[InboxName], batch: &mut SyncBatch) -> io::Result<()> {
        let line = |name: &InboxName| format!("{} -{}\n", name.serial, name.container);
        let text: String = names.iter().map(line).collect();
        self.write(&text, names.len(), batch)
    }

    fn write(&mut self, text: &str, lines: usize, batch: &mut SyncBatch) -> io::Result<()> {
        let bytes = self.file.metadata()?.len();
        with_reserve(is_full, || {
            // A torn end would be taken for a part of the next line.
            let written = self.file.write_all(text.as_bytes());
            written.inspect_err(|_| drop(self.file.set_len(bytes)))
        })?;
        self.lines += lines;
        batch.add_file(self.file.try_clone()?)
    }

    /// Reads the list, keeps the newest four of each serial, and writes it anew if that makes it shorter.
    fn rewrite(&mut self) -> io::Result<Vec<Record>> {
        let mut by_serial: BTreeMap<Serial, Vec<ContainerHash>> = BTreeMap::new();
        let (mut lines, mut damaged, mut text) = (0, 0, Vec::new());
        let mut reader = BufReader::new(File::open(&self.path)?);
        while reader.read_until(b'\n', &mut text)? > 0 {
            lines += 1;
            let record = text.strip_suffix(b"\n").and_then(parse);
            text.clear();
            let (serial, hash) = match record {
                None => {
                    damaged += 1;
                    continue;
                }
                Some(Line::Completed(record)) => record,
                Some(Line::HandedBack(serial, container)) => {
                    if let Some(hashes) = by_serial.get_mut(&serial) {
                        hashes.retain(|known| known.id() != container);
                    }
                    continue;
                }
            };
            let hashes = by_serial.entry(serial).or_default();
            hashes.retain(|known| *known != hash);
            if hashes.len() >= SETS_PER_SERIAL_MAX {
                hashes.remove(0);
            }
            hashes.push(hash);
        }
        let records: Vec<Record> = by_serial
            .into_iter()
            .flat_map(|(serial, hashes)| hashes.into_iter().map(move |hash| (serial, hash)))
            .collect();
        if damaged > 0 {
            let path = self.path.display();
            tracing::warn!(%path, damaged, "lines that cannot be read are left out of the list of completed containers");
        }
        if records.len() != lines {
            let text: String = records.iter().map(line).collect();
            replace(
                &self.tmp,
                &self.path,
                text.as_bytes(),
                Access::Owner,
                Sync::Yes,
            )?;
            self.file = open_append(&self.path)?;
        }
        (self.lines, self.live) = (records.len(), records.len());
        Ok(records)
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
}

fn line((serial, hash): &Record) -> String {
    format!("{serial} {hash}\n")
}

enum Line {
    Completed(Record),
    HandedBack(Serial, ContainerId),
}

fn parse(line: &[u8]) -> Option<Line> {
    let (serial, rest) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let serial = serial.parse().ok()?;
    Some(match rest.strip_prefix('-') {
        Some(container) => Line::HandedBack(serial, container.parse().ok()?),
        None => Line::Completed((serial, rest.parse().ok()?)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs;

    use super::*;

    fn record(serial: u64, hash: u8) -> Record {
        (
            Serial::new(serial).unwrap(),
            ContainerHash::from_bytes([hash; 32]),
        )
    }

    #[test]
    fn records_survive_a_restart_and_a_torn_line_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("completed");
        let open = || CompletedLog::open(path.clone(), folder.path().to_path_buf()).unwrap();
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        let (mut log, records) = open();
        assert!(records.is_empty());
        log.append(&[record(2, 1), record(1, 2)], &mut batch)
            .unwrap();
        log.append(&[record(2, 1)], &mut batch).unwrap();
        batch.commit().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"3 0101");
        fs::write(&path, bytes).unwrap();
        let (mut log, records) = open();
        assert_eq!(records, [record(1, 2), record(2, 1)]);
        log.append(&[record(3, 3)], &mut batch).unwrap();
        batch.commit().unwrap();
        assert_eq!(open().1, [record(1, 2), record(2, 1), record(3, 3)]);
    }

    #[test]
    fn a_container_that_was_handed_back_is_forgotten_over_a_restart_until_it_comes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("completed");
        let open = || CompletedLog::open(path.clone(), folder.path().to_path_buf()).unwrap();
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        let (mut log, _) = open();
        log.append(&[record(1, 1), record(1, 2), record(2, 1)], &mut batch)
            .unwrap();
        let (serial, hash) = record(1, 1);
        let container = hash.id();
        log.remove(&[InboxName { serial, container }], &mut batch)
            .unwrap();
        batch.commit().unwrap();
        let (mut log, records) = open();
        assert_eq!(records, [record(1, 2), record(2, 1)]);
        log.append(&[record(1, 1)], &mut batch).unwrap();
        assert_eq!(open().1, [record(1, 2), record(1, 1), record(2, 1)]);
    }

    #[test]
    fn a_thief_that_completes_forgeries_cannot_make_the_list_grow_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("completed");
        let (mut log, _) = CompletedLog::open(path.clone(), folder.path().to_path_buf()).unwrap();
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        for round in 0..3 * SUPERFLUOUS_MAX {
            log.append(&[record(9, round as u8)], &mut batch).unwrap();
        }
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= SUPERFLUOUS_MAX + 10, "{lines}");
        let (_, records) = CompletedLog::open(path, folder.path().to_path_buf()).unwrap();
        assert_eq!(records.len(), SETS_PER_SERIAL_MAX);
    }
}
