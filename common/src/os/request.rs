//! Requests: what a command asks of gate or release, as a folder.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::durable::SyncBatch;

/// A request being written, invisible to the daemon.
#[derive(Debug)]
pub struct Request {}

/// A request that the daemon can see.
#[derive(Debug)]
pub struct Placed {}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; the text is the answer (an id, a sentence).
    Accepted(String),
    /// Refused, and why.
    Refused(String),
    /// No daemon runs; the request stays and will be answered when one starts.
    NoDaemon,
    /// The daemon runs but has not answered in time; the request stays.
    Waiting,
}

impl Request {
    /// Begins a request in the host's `requests/`. Whatever this process creates from here on is its user's alone (umask 077).
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(_requests: &Path) -> io::Result<Self> {
        todo!()
    }

    /// Adds a file; returns its length.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add_file(&mut self, _name: &str, _content: &mut dyn Read) -> io::Result<u64> {
        todo!()
    }

    /// Writes `request.toml`, syncs everything and makes the request visible.
    ///
    /// # Errors
    /// If any step fails; nothing is left behind then.
    pub fn place(self, _toml: &str) -> io::Result<Placed> {
        todo!()
    }
}

impl Placed {
    /// The folder's name, by which the answer is found.
    pub fn name(&self) -> &str {
        todo!()
    }

    /// Waits for the answer, without end if no timeout is given and the daemon whose lock this is runs. The folder of a
    /// refused request is deleted: it holds only copies.
    ///
    /// # Errors
    /// If the answer cannot be read.
    pub fn wait(self, _timeout: Option<Duration>, _daemon_lock: &Path) -> io::Result<Answer> {
        todo!()
    }
}

/// A daemon's end of `requests/`.
#[derive(Debug)]
pub struct Requests {}

/// A request folder that stands in `requests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name: `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`.
    pub name: String,
    /// The user who owns the folder, and so the person who asks.
    pub owner_uid: u32,
    /// True if an answer stands beside it: a refused folder that its author left, or one that a crash kept from being
    /// deleted.
    pub answered: bool,
}

/// How much of a request to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeLimits {
    /// Files, `request.toml` included.
    pub files_max: usize,
    /// Bytes of all files together.
    pub bytes_max: u64,
}

/// A request's files, copied to where only the daemon writes.
#[derive(Debug)]
pub struct Taken {
    /// The text of `request.toml`.
    pub toml: String,
    /// The other files by the names that their author gave them; never to be used as paths.
    pub files: BTreeMap<String, TakenFile>,
    /// The user who owns the folder and every file.
    pub owner_uid: u32,
}

/// One copied file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenFile {
    /// Where the copy stands.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// Why a request is not even looked at.
#[derive(Debug, thiserror::Error)]
pub enum RequestRefused {
    /// An error of the system on the daemon's side: not the requester's fault, to be told as a failure.
    #[error("the request could not be copied: {0}")]
    System(#[from] io::Error),
}

impl Requests {
    /// Serves the host's `requests/`, staging answers in `tmp`.
    pub fn new(_requests: PathBuf, _tmp: PathBuf) -> Self {
        todo!()
    }

    /// Lists the request folders in the order of their names.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn scan(&self) -> io::Result<Vec<Found>> {
        todo!()
    }

    /// The bytes of a request's files as they are now, to choose a thread for the copying.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn size(&self, _found: &Found) -> io::Result<u64> {
        todo!()
    }

    /// Copies a request into the new folder `into`, and leaves the sync of the copies to `batch`.
    ///
    /// # Errors
    /// [`RequestRefused`] for a folder that breaks a rule; then `into` is gone again.
    pub fn intake(
        &self,
        _found: &Found,
        _into: &Path,
        _limits: TakeLimits,
        _batch: &mut SyncBatch,
    ) -> Result<Taken, RequestRefused> {
        todo!()
    }

    /// Answers yes. The batch must be committed before [`Requests::forget`].
    ///
    /// # Errors
    /// If the answer cannot be written.
    pub fn answer_accepted(
        &self,
        _name: &str,
        _text: &str,
        _batch: &mut SyncBatch,
    ) -> io::Result<()> {
        todo!()
    }

    /// Answers no; the folder stays where its author put it.
    ///
    /// # Errors
    /// If the answer cannot be written.
    pub fn answer_refused(
        &self,
        _name: &str,
        _reason: &str,
        _batch: &mut SyncBatch,
    ) -> io::Result<()> {
        todo!()
    }

    /// The answer that stands beside a name, for a repeated request.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn answer_of(&self, _name: &str) -> io::Result<Option<Answer>> {
        todo!()
    }

    /// Deletes an accepted request's folder.
    ///
    /// # Errors
    /// If something of it stays.
    pub fn forget(&self, _name: &str) -> io::Result<()> {
        todo!()
    }

    /// Deletes answers older than `age` whose folder is gone.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn expire_answers(&self, _age: Duration) -> io::Result<()> {
        todo!()
    }
}
