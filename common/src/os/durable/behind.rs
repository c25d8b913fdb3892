//! A large file that is written by a thread of its own: whoever makes its bytes does not wait for the disk.
//!
//! Its bytes go to the disk as they come, so that the sync at its end has little left to do, and no sync of another file
//! waits for all of it.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::StagedFile;

/// Bytes of a buffer.
const BUFFER_BYTES: usize = 1 << 20;

/// Buffers on their way to the thread and back, the one that is being filled apart.
const BUFFERS: usize = 3;

/// So many bytes go to the disk at a time.
const SYNC_EVERY_BYTES: usize = 32 << 20;

/// What the thread needs of stack; the default would only lock more memory.
const STACK_BYTES: usize = 256 << 10;

/// A [`StagedFile`] whose bytes are on their way. Dropped, it is gone as a dropped staged file is.
///
/// # Bounds
/// 4 MiB of memory, whatever is written; who writes faster than the disk waits.
#[derive(Debug)]
pub struct WriteBehind {
    filling: Vec<u8>,
    // Both are none once the thread has been waited for.
    full: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<io::Result<StagedFile>>>,
    empty: Receiver<Vec<u8>>,
}

impl WriteBehind {
    /// Bytes that may be on their way and not yet in the file.
    pub(crate) const BYTES_MAX: u64 = 4 << 20;

    /// Goes on with a file.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(file: StagedFile) -> io::Result<Self> {
        let (full, to_write) = sync_channel::<Vec<u8>>(BUFFERS);
        let (give_back, empty) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            let _ = give_back.send(Vec::with_capacity(BUFFER_BYTES));
        }
        let thread = Builder::new()
            .name("writer".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || write_all(file, &to_write, &give_back))?;
        Ok(Self {
            filling: Vec::with_capacity(BUFFER_BYTES),
            full: Some(full),
            thread: Some(thread),
            empty,
        })
    }

    /// Waits until all bytes are in the file.
    ///
    /// # Errors
    /// Those of writing any of them, a full disk among them; the file is gone then.
    pub fn finish(mut self) -> io::Result<StagedFile> {
        if !self.filling.is_empty() {
            self.hand_over()?;
        }
        self.end()
    }

    /// Hands the filled buffer to the thread and takes an empty one.
    fn hand_over(&mut self) -> io::Result<()> {
        let filled = std::mem::take(&mut self.filling);
        let taken = self.full.as_ref().map(|full| full.send(filled));
        match (taken, self.empty.recv()) {
            (Some(Ok(())), Ok(empty)) => {
                self.filling = empty;
                Ok(())
            }
            // The thread has ended, and tells why.
            _ => match self.end() {
                Err(error) => Err(error),
                Ok(_) => Err(gone()),
            },
        }
    }

    /// Lets the thread end, and waits for it.
    fn end(&mut self) -> io::Result<StagedFile> {
        self.full = None;
        let thread = self.thread.take().ok_or_else(gone)?;
        thread.join().unwrap_or_else(|_| Err(gone()))
    }
}

impl Write for WriteBehind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BUFFER_BYTES - self.filling.len();
        let count = room.min(bytes.len());
        self.filling.extend_from_slice(&bytes[..count]);
        if self.filling.len() == BUFFER_BYTES {
            self.hand_over()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        // The file goes with what the thread returns.
        let _ = self.end();
    }
}

fn write_all(
    mut file: StagedFile,
    to_write: &Receiver<Vec<u8>>,
    give_back: &SyncSender<Vec<u8>>,
) -> io::Result<StagedFile> {
    let mut unsynced_bytes = 0;
    while let Ok(mut buffer) = to_write.recv() {
        file.write_all(&buffer)?;
        unsynced_bytes += buffer.len();
        if unsynced_bytes >= SYNC_EVERY_BYTES {
            unsynced_bytes = 0;
            file.file().sync_data()?;
        }
        buffer.clear();
        // There is room for every buffer that there is; behind the last one nobody takes it.
        let _ = give_back.send(buffer);
    }
    Ok(file)
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes a large file has ended")
}

const _: () = assert!(BUFFER_BYTES * (BUFFERS + 1) == 4 << 20);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn what_is_written_behind_is_what_was_given_in_pieces_of_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|n| (n / 251) as u8).collect();
        for length in [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, bytes.len()] {
            let mut behind =
                WriteBehind::start(StagedFile::create(folder.path()).unwrap()).unwrap();
            let mut left = &bytes[..length];
            for piece in [1, 65_536, 3, 2_500_000].into_iter().cycle() {
                if left.is_empty() {
                    break;
                }
                let (now, later) = left.split_at(left.len().min(piece));
                behind.write_all(now).unwrap();
                left = later;
            }
            let staged = behind.finish().unwrap();
            assert_eq!(staged.written_bytes(), length as u64);
            assert!(std::fs::read(staged.path()).unwrap() == bytes[..length]);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn dropped_in_the_middle_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut behind = WriteBehind::start(StagedFile::create(folder.path()).unwrap()).unwrap();
        behind.write_all(&vec![7; 3 * BUFFER_BYTES + 5]).unwrap();
        drop(behind);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_write_is_told_to_who_writes_on_and_to_who_finishes() {
        let folder = tempfile::tempdir().unwrap();
        let unwritable = || {
            let mut staged = StagedFile::create(folder.path()).unwrap();
            // Behind our back the file becomes one that takes nothing.
            staged.file = std::fs::File::open(staged.path()).unwrap();
            WriteBehind::start(staged).unwrap()
        };
        let mut behind = unwritable();
        let buffer = vec![7; BUFFER_BYTES];
        let error = (0..10)
            .find_map(|_| behind.write_all(&buffer).err())
            .unwrap();
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert!(behind.write_all(&buffer).is_err() && behind.finish().is_err());
        let mut behind = unwritable();
        behind.write_all(b"a little").unwrap();
        let error = behind.finish().unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
