//! The end of a command: place a request, wait for its answer.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};

use super::{Answer, REQUEST_FILE, read_answer};
use crate::os::durable::{Stamp, changed_error, erase, rename_new, sync_dir};
use crate::os::entropy;
use crate::os::lock::HostLock;
use crate::os::watch::{DirWatch, Notice};

/// How often to look whether the daemon still lives while waiting for its answer.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a daemon that was seen running may be away: its supervisor starts it again after a pause.
const RESTART_GRACE: Duration = Duration::from_secs(5);

/// A request being written, invisible to the daemon, and erased if it is dropped.
#[derive(Debug)]
pub struct Request {
    requests: PathBuf,
    name: String,
    hidden: PathBuf,
}

/// A request that the daemon can see.
#[derive(Debug)]
pub struct Placed {
    requests: PathBuf,
    name: String,
    watch: DirWatch,
}

impl Request {
    /// Begins a request in the host's `requests/`.
    ///
    /// From here on whatever this process creates is its user's alone (umask 077). Where
    /// `requests/` has a default ACL the kernel takes that instead of the umask, and so gives the
    /// daemon, and nobody else, its right to read and delete.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(requests: &Path) -> io::Result<Self> {
        umask(Mode::S_IRWXG | Mode::S_IRWXO);
        let random = entropy::bytes::<8>().map_err(io::Error::other)?;
        let name = format!("{:016x}", u64::from_be_bytes(random));
        let hidden = requests.join(format!(".{name}"));
        DirBuilder::new().mode(0o770).create(&hidden)?;
        Ok(Self {
            requests: requests.to_path_buf(),
            name,
            hidden,
        })
    }

    /// Adds a file; returns its length.
    ///
    /// # Errors
    /// If it cannot be written, or the name is not that of a file.
    pub fn add_file(&mut self, name: &str, content: &mut dyn Read) -> io::Result<u64> {
        let mut components = Path::new(name).components();
        let (Some(Component::Normal(_)), None) = (components.next(), components.next()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not the name of a file",
            ));
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o660)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(self.hidden.join(name))?;
        let length = io::copy(content, &mut file)?;
        file.sync_all()?;
        Ok(length)
    }

    /// Adds a file by its path.
    ///
    /// # Errors
    /// If it cannot be read or written, or the name is not that of a file; [`io::ErrorKind::ResourceBusy`] if it changed
    /// meanwhile, so that the copy may be neither the old file nor the new one.
    pub fn add_path(&mut self, name: &str, path: &Path) -> io::Result<u64> {
        // Not waited for: a pipe may have taken the file's name.
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        let stamp = Stamp::of(&file)?;
        let length = self.add_file(name, &mut file)?;
        if !stamp.is_whole(&file, length)? {
            return Err(changed_error());
        }
        Ok(length)
    }

    /// Writes `request.toml`, syncs everything and makes the request visible.
    ///
    /// # Errors
    /// If any step fails; nothing is left behind then.
    pub fn place(mut self, toml: &str) -> io::Result<Placed> {
        self.add_file(REQUEST_FILE, &mut toml.as_bytes())?;
        sync_dir(&self.hidden)?;
        // Watched before it is visible: an answer cannot come unnoticed.
        let mut watch = DirWatch::new()?;
        watch.add(&self.requests, Notice::Arrivals)?;
        rename_new(&self.hidden, &self.requests.join(&self.name))?;
        self.hidden = PathBuf::new();
        sync_dir(&self.requests)?;
        Ok(Placed {
            requests: self.requests.clone(),
            name: self.name.clone(),
            watch,
        })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.hidden.as_os_str().is_empty() {
            let _ = erase(&self.hidden);
        }
    }
}

impl Placed {
    /// The folder's name, by which the answer is found.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the answer: without end if no timeout is given, as long as the daemon runs whose
    /// lock this is.
    ///
    /// The folder of a refused request is erased: it holds only copies.
    ///
    /// # Errors
    /// If the answer cannot be read.
    pub fn wait(mut self, timeout: Option<Duration>, daemon_lock: &Path) -> io::Result<Answer> {
        let daemon_uid = fs::metadata(&self.requests)?.uid();
        let begun = Instant::now();
        let (mut seen, mut missing_since) = (false, None);
        loop {
            self.watch.drain()?;
            // Looked at first: a daemon that ends may have answered with its last breath.
            let runs = HostLock::is_held(daemon_lock)?;
            if let Some(answer) = read_answer(&self.requests, &self.name, daemon_uid)? {
                if matches!(answer, Answer::Refused(_)) {
                    erase(&self.requests.join(&self.name))?;
                }
                return Ok(answer);
            }
            if runs {
                (seen, missing_since) = (true, None);
            } else {
                // One look is no proof: it may be starting just now.
                let grace = if seen { RESTART_GRACE } else { LOOK_INTERVAL };
                let since = *missing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= grace {
                    return Ok(Answer::NoDaemon);
                }
            }
            let left = match timeout {
                Some(timeout) => timeout.saturating_sub(begun.elapsed()),
                None => LOOK_INTERVAL,
            };
            if left.is_zero() {
                return Ok(Answer::Waiting);
            }
            self.sleep(left.min(LOOK_INTERVAL))?;
        }
    }

    /// Waits for a change of `requests/`, or for the time to pass.
    fn sleep(&self, at_most: Duration) -> io::Result<()> {
        let at_most = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::from(500_u16));
        let mut ready = [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, at_most) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
