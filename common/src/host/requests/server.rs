//! The end of a daemon: find requests, answer, forget.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::geteuid;

use super::{Answer, Kind, answer_text, is_request_name, read_answer};
use crate::limits::REQUEST_FILES_MAX;
use crate::os::durable::{
    self, Access, FinishedFile, StagedFile, SyncBatch, erase, finish_erasing, for_each_name,
    open_dir, put_away, remove_any,
};

/// Names that one scan looks at, so that a requester who fills the directory costs a bounded time.
const NAMES_MAX: usize = 1_000_000;

/// Requests that are known to have been there when a daemon started.
const LEFT_OVER_MAX: usize = 100_000;

/// A daemon's end of `requests/`.
#[derive(Debug, Clone)]
pub struct Requests {
    pub(super) requests: PathBuf,
    pub(super) tmp: PathBuf,
    /// Whether an answer had to be readable to everybody.
    opened: Arc<AtomicBool>,
}

/// A request folder that stands in `requests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name: `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`.
    pub name: String,
    /// The user who owns the folder, and so the person who asks.
    pub owner_uid: u32,
    /// True if the answer `accepted` is beside it: the folder could not be deleted, or another one was placed under its name.
    pub answered: bool,
}

impl Requests {
    /// Serves the host's `requests/`, staging answers in `tmp`.
    pub fn new(requests: PathBuf, tmp: PathBuf) -> Self {
        Self {
            requests,
            tmp,
            opened: Arc::default(),
        }
    }

    /// The folder that is served.
    pub(super) fn folder(&self) -> &Path {
        &self.requests
    }

    /// Returns the names of the request folders that are there when a daemon starts, and erases what an earlier process left
    /// half erased. An earlier daemon may have done what they ask, and have been killed before it answered.
    ///
    /// # Errors
    /// If the directory cannot be read.
    ///
    /// # Bounds
    /// A million names are looked at, 100,000 are kept.
    pub(super) fn left_over(&self) -> io::Result<BTreeSet<String>> {
        self.finish_erasing()?;
        let mut names = BTreeSet::new();
        for entry in durable::list(&self.requests)?.take(NAMES_MAX) {
            let entry = entry?;
            // No name here may end the daemon.
            let is_folder = entry.file_type().is_ok_and(|found| found.is_dir());
            if is_folder
                && let Ok(name) = entry.file_name().into_string()
                && is_request_name(&name)
                && names.len() < LEFT_OVER_MAX
            {
                names.insert(name);
            }
        }
        Ok(names)
    }

    /// Whether a request that was found is there still.
    pub fn is_there(&self, found: &Found) -> bool {
        fs::symlink_metadata(self.requests.join(&found.name))
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == found.owner_uid)
    }

    /// The bytes of a request's files as they are now, to choose a thread for the copying. Of a folder that holds too many
    /// files only the first ones count: it is refused for their number.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn size(&self, found: &Found) -> io::Result<u64> {
        let folder = open_dir(&self.requests.join(&found.name))?;
        let mut left = REQUEST_FILES_MAX.saturating_add(1);
        let mut bytes = 0_u64;
        let listed = for_each_name(&folder, |name| {
            left = left.checked_sub(1).ok_or(io::ErrorKind::InvalidInput)?;
            let metadata = fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            let length = u64::try_from(metadata.st_size).map_err(io::Error::other)?;
            bytes = bytes.saturating_add(length);
            io::Result::Ok(())
        });
        match listed {
            Err(error) if left > 0 => Err(error),
            _ => Ok(bytes),
        }
    }

    /// Answers yes, for the user who asked alone. The batch must be committed before [`Requests::forget`].
    ///
    /// Other than everything else an answer gets its name before it is synced. That is safe because
    /// it is no state: until the batch is committed the folder is still there, and an answer that a
    /// crash tore lacks its LF and counts as none.
    ///
    /// # Errors
    /// If the answer cannot be written.
    pub fn answer_accepted(
        &self,
        name: &str,
        owner_uid: u32,
        text: &str,
        batch: &mut SyncBatch,
    ) -> io::Result<()> {
        self.answer(Kind::Accepted, name, owner_uid, text, batch)
    }

    /// Answers no, for the user who asked alone; the folder stays where its author put it.
    ///
    /// # Errors
    /// If the answer cannot be written.
    pub fn answer_refused(
        &self,
        name: &str,
        owner_uid: u32,
        reason: &str,
        batch: &mut SyncBatch,
    ) -> io::Result<()> {
        self.answer(Kind::Refused, name, owner_uid, reason, batch)
    }

    /// Whether everybody who may look into `requests/` can read an answer, because its file system has no access control
    /// lists.
    pub(super) fn has_opened(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }

    /// The answer beside a name, for a repeated request. One that cannot be read does not count, so that it is replaced and
    /// ends no daemon.
    pub fn answer_of(&self, name: &str) -> Option<Answer> {
        let read = read_answer(&self.requests, name, geteuid().as_raw());
        read.unwrap_or_else(|error| {
            tracing::warn!("an answer cannot be read and is written again: {error}");
            None
        })
    }

    /// Returns whether a request has the answer `accepted`.
    pub fn is_accepted(&self, name: &str) -> bool {
        matches!(self.answer_of(name), Some(Answer::Accepted(_)))
    }

    /// Has the answer `accepted` of a request synced with the batch.
    ///
    /// # Errors
    /// If the answer cannot be opened.
    pub(super) fn sync_accepted(&self, name: &str, batch: &mut SyncBatch) -> io::Result<()> {
        let answer = self.requests.join(Kind::Accepted.file(name));
        batch.add_file(fs::File::open(answer)?)?;
        batch.add_dir(&self.requests);
        Ok(())
    }

    /// Takes a hidden folder away that its writer left behind, in one step, into the daemon's `tmp/`. Its eraser erases it there.
    ///
    /// # Errors
    /// If it stays: its writer may have closed it to this user.
    pub fn take_away(&self, hidden: &str) -> io::Result<()> {
        assert!(hidden.starts_with('.') && !hidden.contains('/'));
        put_away(&self.requests.join(hidden), &self.tmp).map(drop)
    }

    /// Takes an accepted request's folder away, in one step, into the daemon's `tmp/`. Its [`Eraser`] erases it there.
    ///
    /// # Errors
    /// If it stays: its author may have changed its rights meanwhile. That is to be logged, not to
    /// end the process; the answer beside it keeps it from being judged again.
    ///
    /// [`Eraser`]: crate::os::durable::Eraser
    pub fn forget(&self, name: &str) -> io::Result<()> {
        put_away(&self.requests.join(name), &self.tmp).map(drop)
    }

    /// Erases what a command or an earlier daemon began to erase in `requests/` itself and was killed. What its owner closed
    /// to this user stays.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn finish_erasing(&self) -> io::Result<()> {
        finish_erasing(&self.requests).map(drop)
    }

    /// Deletes this daemon's answers whose folder is gone and which are older than `age`. Returns
    /// how many. One that cannot be deleted stays.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn expire_answers(&self, age: Duration) -> io::Result<usize> {
        let now = SystemTime::now();
        let mut count = 0;
        for entry in durable::list(&self.requests)?.take(NAMES_MAX) {
            let entry = entry?;
            let Ok(file) = entry.file_name().into_string() else {
                continue;
            };
            let name = Kind::ALL
                .iter()
                .find_map(|kind| file.strip_suffix(kind.suffix()));
            let Some(name) = name.filter(|name| is_request_name(name)) else {
                continue;
            };
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let modified = metadata.modified().unwrap_or(now);
            let old = now.duration_since(modified).is_ok_and(|since| since > age);
            if old
                && metadata.is_file()
                && metadata.uid() == geteuid().as_raw()
                && fs::symlink_metadata(self.requests.join(name)).is_err()
            {
                match remove_any(&entry.path()) {
                    Ok(()) => count += 1,
                    Err(error) => tracing::warn!("an old answer stays: {error}"),
                }
            }
        }
        Ok(count)
    }

    fn answer(
        &self,
        kind: Kind,
        name: &str,
        owner_uid: u32,
        text: &str,
        batch: &mut SyncBatch,
    ) -> io::Result<()> {
        assert!(is_request_name(name), "the queue holds no other names");
        let mut staged = StagedFile::create(&self.tmp)?;
        self.let_read(&staged, owner_uid)?;
        // One write: an answer that a crash tears cannot end in this LF.
        staged.write_all(format!("{}\n", answer_text(text)).as_bytes())?;
        let finished = staged.finish_in(batch)?;
        let (from, to) = (
            finished.path().to_owned(),
            self.requests.join(kind.file(name)),
        );
        let placed = finished.replace_in(&to, batch).or_else(|_| {
            // Anybody who may ask can make a folder of this name, over which no file can be renamed.
            if let Err(error) = erase(&to) {
                // What a stranger keeps in a folder of their own cannot be deleted, but it has lost its name.
                tracing::warn!("what stood in an answer's place cannot be deleted: {error}");
            }
            FinishedFile::found(from.clone()).replace_in(&to, batch)
        });
        placed.inspect_err(|_| {
            // Start-up empties tmp/ too, so a failure here loses nothing.
            let _ = fs::remove_file(&from);
        })
    }

    /// Gives an answer to the user who asked. Where the file system cannot, everybody may read it: who asked must get it.
    fn let_read(&self, answer: &StagedFile, owner_uid: u32) -> io::Result<()> {
        // Root may read everything, and the daemon owns the file.
        if owner_uid == 0 || owner_uid == geteuid().as_raw() {
            return Ok(());
        }
        match answer.set_access(Access::OwnerAnd(owner_uid)) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.opened.store(true, Ordering::Relaxed);
                answer.set_access(Access::Everyone)
            }
            given => given,
        }
    }
}
