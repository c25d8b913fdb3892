//! A thread that erases, so that no loop waits until large files are overwritten.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::erase::{finish_erasing, finish_erasing_but, put_away};

/// What the thread needs of stack; the default would only lock more memory.
const STACK_BYTES: usize = 256 << 10;

/// Erases what its owner puts away in a folder, usually the role's own below `tmp/`.
///
/// The folder is the queue: what a kill leaves there is erased after the next start. Dropped, it erases what is left.
///
/// # Bounds
/// One thread and 256 KiB of buffer, whatever is put away.
#[derive(Debug)]
pub struct Eraser {
    folder: PathBuf,
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Thread {
    wake: SyncSender<()>,
    done: Receiver<io::Result<u64>>,
    handle: JoinHandle<()>,
}

impl Eraser {
    /// Erases in this folder. Until [`Eraser::start`] whatever is put away only waits: a thread that begins before the fences
    /// would be outside of them.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            thread: None,
        }
    }

    /// Starts the thread, which begins with what a kill left.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(&mut self) -> io::Result<()> {
        // One wake-up may wait: the thread looks at the whole folder.
        let (wake, woken) = sync_channel(1);
        let (tell, done) = channel();
        let folder = self.folder.clone();
        let handle = Builder::new()
            .name("eraser".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&folder, &woken, &tell))?;
        self.thread = Some(Thread { wake, done, handle });
        self.wake();
        Ok(())
    }

    /// Renames a file or folder out of its judged name, and has it erased; what is gone already is no error.
    ///
    /// # Errors
    /// If it stays under its name.
    pub fn put(&self, path: &Path) -> io::Result<()> {
        put_away(path, &self.folder)?;
        self.wake();
        Ok(())
    }

    /// Has the thread look at the folder, in which somebody else may have put something away.
    pub fn wake(&self) {
        if let Some(thread) = &self.thread
            && let Err(TrySendError::Disconnected(())) = thread.wake.try_send(())
        {
            tracing::error!("the thread that erases has ended; the next start erases what waits");
        }
    }

    /// Returns how many files could not be overwritten, or not even deleted, since it was last asked. Without a thread, erases
    /// what waits first.
    ///
    /// # Errors
    /// A failure of the disk, after which the process must end.
    pub fn take_left(&self) -> io::Result<u64> {
        match &self.thread {
            Some(thread) => thread.done.try_iter().sum(),
            None => finish_erasing_but(&self.folder, &mut BTreeSet::new()),
        }
    }
}

impl Drop for Eraser {
    fn drop(&mut self) {
        match self.thread.take() {
            Some(Thread { wake, handle, .. }) => {
                drop(wake);
                let _ = handle.join();
            }
            None => {
                if let Err(error) = finish_erasing(&self.folder) {
                    tracing::warn!("{error}; the next start tries again");
                }
            }
        }
    }
}

fn work(folder: &Path, woken: &Receiver<()>, tell: &Sender<io::Result<u64>>) {
    let mut staying = BTreeSet::new();
    loop {
        let last = woken.recv().is_err();
        match finish_erasing_but(folder, &mut staying) {
            Ok(0) => {}
            done => {
                if let Err(error) = &done {
                    tracing::error!("{error}");
                }
                let _ = tell.send(done);
            }
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::fs::{self, File};
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_put_away_is_erased_with_a_thread_and_without_one() {
        for with_thread in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            fs::create_dir(path("tmp")).unwrap();
            // As a kill leaves it.
            fs::write(path("tmp/.erase-0123456789abcdef"), b"left").unwrap();
            let mut eraser = Eraser::new(path("tmp"));
            if with_thread {
                eraser.start().unwrap();
            }
            let held: Vec<File> = (0..100)
                .map(|number| {
                    let file = path(&number.to_string());
                    fs::write(&file, vec![7; number * 1_000]).unwrap();
                    let held = File::open(&file).unwrap();
                    eraser.put(&file).unwrap();
                    held
                })
                .collect();
            eraser.put(&path("absent")).unwrap();
            assert_eq!(eraser.take_left().unwrap(), 0);
            drop(eraser);
            for (number, mut file) in held.iter().enumerate() {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, vec![0; number * 1_000]);
            }
            assert_eq!(fs::read_dir(path("tmp")).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_could_only_be_deleted_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("tmp")).unwrap();
        fs::write(path("kept"), b"kept").unwrap();
        fs::hard_link(path("kept"), path("linked")).unwrap();
        let mut eraser = Eraser::new(path("tmp"));
        eraser.start().unwrap();
        eraser.put(&path("linked")).unwrap();
        let mut left = 0;
        while left == 0 {
            left = eraser.take_left().unwrap();
            std::thread::yield_now();
        }
        assert_eq!((left, fs::read(path("kept")).unwrap()), (1, b"kept".into()));
    }
}
