//! What stands beyond the key file when a log is opened: whole lines are followed, a torn tail goes aside.

use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use super::files::{new_options, overwrite_options};
use super::{AuditLog, AuditLogError};
use crate::audit::AuditRecord;
use crate::os::durable::{is_full, sync_dir, with_reserve};

/// What opening a log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes behind the last good line, put aside: a commit that never returned, or a change. The caller writes a line about
    /// them.
    pub torn_bytes: u64,
    /// Whole lines beyond the key file: committed, or about to be, when the host went down.
    pub lines_forward: u64,
}

impl AuditLog {
    /// Follows the chain through what stands beyond the key file. Behind the last line that verifies all goes aside.
    pub(super) fn roll_forward(&mut self, file_bytes: u64) -> Result<Recovered, AuditLogError> {
        // A process that ended for a failed sync has left lines in memory that the kernel takes for written. They reach the disk
        // only if they are written again.
        let again = match self.parts.last() {
            Some(newest) if file_bytes > self.log_bytes => {
                let file = overwrite_options().open(&newest.path);
                Some(file.map_err(AuditLogError::io("open"))?)
            }
            _ => None,
        };
        let mut tail = self.log.try_clone().map_err(AuditLogError::io("read"))?;
        tail.seek(SeekFrom::Start(self.log_bytes))
            .map_err(AuditLogError::io("read"))?;
        let mut tail = BufReader::new(tail).take(file_bytes - self.log_bytes);
        let mut lines_forward = 0;
        let mut line = Vec::new();
        while tail
            .read_until(b'\n', &mut line)
            .map_err(AuditLogError::io("read"))?
            > 0
        {
            let Some(whole) = line.strip_suffix(b"\n") else {
                break;
            };
            if self.chain.follow(whole).is_err() {
                break;
            }
            self.last_time = AuditRecord::parse(whole).map(|record| record.time);
            if let Some(again) = &again {
                with_reserve(is_full, || again.write_all_at(&line, self.log_bytes))
                    .map_err(AuditLogError::io("write"))?;
            }
            self.log_bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
            lines_forward += 1;
            line.clear();
        }
        let torn_bytes = file_bytes - self.log_bytes;
        let settle = || {
            if torn_bytes > 0 {
                self.put_aside(torn_bytes)?;
            }
            // What was read back may have been in memory only: it becomes durable before anything is built on it.
            self.log.sync_all()?;
            // The name of a file that a killed process began, too.
            if let Some(folder) = self.parts.last().and_then(|newest| newest.path.parent()) {
                sync_dir(folder)?;
            }
            self.key_file.write(&self.chain, self.log_bytes)
        };
        settle().map_err(AuditLogError::io("recover"))?;
        Ok(Recovered {
            torn_bytes,
            lines_forward,
        })
    }

    fn put_aside(&self, torn_bytes: u64) -> io::Result<()> {
        let aside = self
            .paths
            .of(&format!("torn-{}", self.chain.state().next_seq));
        let copy = with_reserve(is_full, || {
            let mut tail = self.log.try_clone()?;
            tail.seek(SeekFrom::Start(self.log_bytes))?;
            let mut copy = new_options().truncate(true).mode(0o600).open(&aside)?;
            io::copy(&mut tail.take(torn_bytes), &mut copy)?;
            Ok(copy)
        })?;
        copy.sync_all()?;
        sync_dir(&self.paths.folder)?;
        self.log.set_len(self.log_bytes)
    }
}
