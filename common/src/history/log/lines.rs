//! Reading a log's committed lines, from a number on.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Take};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::AuditLogError;
use super::parts::{InTurn, Part};
use crate::audit::{AuditRecord, read_seq};

/// Bytes below which a part of the log is read rather than halved.
const SCAN_BYTES: u64 = 64 * 1024;

/// The lines of a log from one number on, up to a length that was committed.
pub(super) struct Lines {
    reader: Take<BufReader<InTurn>>,
    line: Vec<u8>,
    from_seq: u64,
    is_over: bool,
}

impl Lines {
    /// Begins in one of the files of a log; `last_bytes` of the last one are committed.
    pub(super) fn new(parts: &[Part], last_bytes: u64, from_seq: u64) -> io::Result<Self> {
        let behind = parts.partition_point(|part| part.first_seq <= from_seq);
        let parts = parts.get(behind.saturating_sub(1)..).unwrap_or_default();
        let (Some((first, next)), Some(last)) = (parts.split_first(), parts.last()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let bytes_of = |part: &Part| match part == last {
            true => Ok(last_bytes),
            false => Ok::<_, io::Error>(part.path.metadata()?.len()),
        };
        let mut file = File::open(&first.path)?;
        let file_bytes = bytes_of(first)?;
        let start = find(&file, file_bytes, from_seq)?;
        file.seek(SeekFrom::Start(start))?;
        let mut limit = file_bytes - start;
        for part in next {
            limit += bytes_of(part)?;
        }
        let in_turn = InTurn::new(file, next.iter().map(|part| part.path.clone()));
        let reader = BufReader::with_capacity(64 * 1024, in_turn).take(limit);
        Ok(Self {
            reader,
            line: Vec::new(),
            from_seq,
            is_over: false,
        })
    }

    /// Returns the next line's record, skipping those before the number that was asked for.
    fn read(&mut self) -> Result<Option<AuditRecord>, AuditLogError> {
        loop {
            self.line.clear();
            if self
                .reader
                .read_until(b'\n', &mut self.line)
                .map_err(AuditLogError::io("read"))?
                == 0
            {
                return Ok(None);
            }
            let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
            let mismatch = AuditLogError::Mismatch {
                line: self.from_seq.saturating_add(1),
            };
            match read_seq(line) {
                Some(seq) if seq < self.from_seq => {}
                Some(seq) if seq == self.from_seq => {
                    self.from_seq += 1;
                    return AuditRecord::parse(line).map(Some).ok_or(mismatch);
                }
                _ => return Err(mismatch),
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<AuditRecord, AuditLogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read().transpose();
        self.is_over = !matches!(read, Some(Ok(_)));
        read
    }
}

/// Returns the start of some line not far before number `seq`: bisection, for a log may have millions of lines.
fn find(file: &File, log_bytes: u64, seq: u64) -> io::Result<u64> {
    // The line at `low` is not behind the one sought.
    let (mut low, mut high) = (0, log_bytes);
    let mut chunk = vec![0; 8 * 1024];
    while high - low > SCAN_BYTES {
        let middle = low + (high - low) / 2;
        match line_behind(file, middle, high, &mut chunk)? {
            Some((start, found)) if found <= seq => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Returns the first line that begins after `offset` and before `end`, with its number.
fn line_behind(
    file: &File,
    offset: u64,
    end: u64,
    chunk: &mut [u8],
) -> io::Result<Option<(u64, u64)>> {
    let mut at = offset;
    while at < end {
        let count = file.read_at(chunk, at)?;
        if count == 0 {
            return Ok(None);
        }
        if let Some(place) = chunk[..count].iter().position(|byte| *byte == b'\n') {
            let start = at + u64::try_from(place).unwrap_or(0) + 1;
            // Its number stands within its first bytes; at the log's end there is none.
            let head_bytes = file.read_at(&mut chunk[..64], start)?;
            let seq = read_seq(&chunk[..head_bytes]);
            return Ok(seq.filter(|_| start < end).map(|seq| (start, seq)));
        }
        at += u64::try_from(count).unwrap_or(u64::MAX);
    }
    Ok(None)
}

/// Returns the last line of a whole file, without its LF; `None` if it does not end in one.
pub(super) fn last_line_of(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    last_line(&file, file_bytes)
}

/// Returns the last line of the first `log_bytes` bytes, without its LF; `None` if they do not end in one.
pub(super) fn last_line(file: &File, log_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut length = 1_024_u64;
    loop {
        let length_now = length.min(log_bytes);
        line.resize(usize::try_from(length_now).unwrap_or(usize::MAX), 0);
        file.read_exact_at(&mut line, log_bytes - length_now)?;
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        if let Some(place) = line.iter().rposition(|byte| *byte == b'\n') {
            line.drain(..=place);
            return Ok(Some(line));
        }
        if length_now == log_bytes {
            return Ok(Some(line));
        }
        length = length.saturating_mul(4);
    }
}
