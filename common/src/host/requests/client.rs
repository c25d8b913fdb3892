//! The end of a command: place a request, wait for its answer.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use zeroize::Zeroize as _;

use super::abandoned::hold as hold_folder;
use super::{Answer, REQUEST_FILE, read_answer};
use crate::host::unfinished::{self, Unfinished};
use crate::os::durable::{Stamp, changed_error, erase, open_dir, rename_new, sync_dir};
use crate::os::entropy;
use crate::os::lock::HostLock;
use crate::os::watch::{DirWatch, Notice};

/// How often to look whether the daemon still lives while waiting for its answer.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The same where the system has no watch left.
const LOOK_INTERVAL_UNWATCHED: Duration = Duration::from_millis(50);

/// How long a daemon that was seen running may be away: the service manager starts it again after a pause.
const RESTART_GRACE: Duration = Duration::from_secs(5);

/// How long a command waits for an answer at least.
const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon copies more than this in a second.
const COPIED_BYTES_PER_S: u64 = 4 << 20;

/// Bytes of a file that are copied at a time.
const COPY_BYTES: usize = 256 << 10;

/// A request being written, invisible to the daemon. It is erased if it is dropped, or if a signal ends the command.
///
/// Its folder is locked as long as the command lives: the daemon erases one that nobody holds.
#[derive(Debug)]
pub struct Request {
    requests: PathBuf,
    name: String,
    hidden: PathBuf,
    bytes: u64,
    unfinished: Unfinished,
    _held: Option<Flock<File>>,
}

/// A request that the daemon can see.
#[derive(Debug)]
pub struct Placed {
    requests: PathBuf,
    name: String,
    bytes: u64,
    /// None if the system has no watch left: then the answer is looked for.
    watch: Option<DirWatch>,
    /// The command is interrupted: it takes its request back.
    unfinished: Unfinished,
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
        let unfinished = Unfinished::begin(&hidden)?;
        DirBuilder::new().mode(0o770).create(&hidden)?;
        Ok(Self {
            requests: requests.to_path_buf(),
            name,
            bytes: 0,
            unfinished,
            _held: hold_folder(open_dir(&hidden)?),
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
        let mut length = 0;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = content.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            let _held = unfinished::hold();
            file.write_all(&buffer[..count])?;
            length += u64::try_from(count).map_err(io::Error::other)?;
        }
        buffer.zeroize();
        file.sync_all()?;
        self.bytes = self.bytes.saturating_add(length);
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
        let watch = DirWatch::new().and_then(|mut watch| {
            watch.add(&self.requests, Notice::Arrivals)?;
            Ok(watch)
        });
        let shown = self.requests.join(&self.name);
        let placed = Unfinished::on_signal(&shown)?;
        rename_new(&self.hidden, &shown)?;
        self.unfinished.done();
        sync_dir(&self.requests)?;
        Ok(Placed {
            requests: self.requests,
            name: self.name,
            bytes: self.bytes,
            watch: watch.ok(),
            unfinished: placed,
        })
    }
}

impl Placed {
    /// The folder's name, by which the answer is found.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long the answer may take: two minutes, and longer for a large request.
    pub fn patience(&self) -> Duration {
        PATIENCE + Duration::from_secs(self.bytes / COPIED_BYTES_PER_S)
    }

    /// Waits for the answer, at most so long, and as long as the daemon runs whose lock this is.
    ///
    /// The folder of a refused request is erased: it holds only copies.
    ///
    /// # Errors
    /// If the answer cannot be read.
    pub fn wait(mut self, timeout: Duration, daemon_lock: &Path) -> io::Result<Answer> {
        let answer = self.wait_for(timeout, daemon_lock);
        // Whatever came of it, a signal does not take the request back any more.
        self.unfinished.done();
        answer
    }

    fn wait_for(&mut self, timeout: Duration, daemon_lock: &Path) -> io::Result<Answer> {
        let daemon_uid = fs::metadata(&self.requests)?.uid();
        let begun = Instant::now();
        let (mut seen, mut missing_since) = (false, None);
        loop {
            if let Some(watch) = &mut self.watch {
                watch.drain()?;
            }
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
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(Answer::Waiting);
            }
            self.sleep(left.min(LOOK_INTERVAL))?;
        }
    }

    /// Waits for a change of `requests/`, or for the time to pass.
    fn sleep(&self, at_most: Duration) -> io::Result<()> {
        let Some(watch) = &self.watch else {
            std::thread::sleep(at_most.min(LOOK_INTERVAL_UNWATCHED));
            return Ok(());
        };
        let at_most = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::from(500_u16));
        let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, at_most) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
