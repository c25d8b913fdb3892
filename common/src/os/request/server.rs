//! The end of a daemon: find requests, copy them, answer, forget.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, faccessat, geteuid};

use super::{Answer, Kind, REQUEST_FILE, is_request_name, read_answer};
use crate::limits::REQUEST_TEXT_BYTES_MAX;
use crate::os::durable::{Access, StagedFile, SyncBatch, make_dir, open_dir, remove_any};

/// Requests without an answer that one scan returns; the others are found when these are done.
pub(super) const FOUND_MAX: usize = 10_000;

/// Requests of one owner among them. Nobody waits behind more of another's than this.
pub(super) const FOUND_OF_OWNER_MAX: usize = 1_000;

/// Names that one scan looks at, so that a requester who fills the directory costs a bounded time.
const NAMES_MAX: usize = 1_000_000;

/// A daemon's end of `requests/`.
#[derive(Debug)]
pub struct Requests {
    requests: PathBuf,
    tmp: PathBuf,
}

/// A request folder that stands in `requests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name: `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`.
    pub name: String,
    /// The user who owns the folder, and so the person who asks.
    pub owner_uid: u32,
    /// True if an answer stands beside it: a refused folder that its author left, or one that a
    /// crash kept from being deleted.
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
    /// Which placing of a request this is, in hexadecimal: the same as long as the folder stands there unchanged, over
    /// restarts too, and another when a request of the same name and content is placed again.
    pub placing: String,
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
    /// It vanished, or has another owner than when it was found.
    #[error(
        "the request folder was changed while it was being read; place it again under a new name"
    )]
    Changed,
    /// Something in it is no regular file.
    #[error("the request folder may hold regular files only: no links, folders, pipes or devices")]
    NotRegular,
    /// A file has a second name, through which it could be changed or which it could give away.
    #[error("a file of the request has more than one link; copy it into the folder instead")]
    Linked,
    /// A file belongs to somebody else than the folder.
    #[error("a file of the request belongs to another user than its folder; copy it as yourself")]
    Foreign,
    /// Another program holds a lease on a file, and may still be writing it.
    #[error(
        "a file of the request is held by another program; place the request again when it is done"
    )]
    Busy,
    /// A file's name is not UTF-8.
    #[error("the name of a file in the request folder is not UTF-8; rename it")]
    Name,
    /// Too many files.
    #[error("the request folder holds more than {files_max} files")]
    Files {
        /// The limit.
        files_max: usize,
    },
    /// Too many bytes.
    #[error("the files of the request exceed {bytes_max} bytes together")]
    Bytes {
        /// The limit.
        bytes_max: u64,
    },
    /// No `request.toml`, or one that is too long or not UTF-8.
    #[error("the request folder needs a file request.toml of UTF-8 text, at most 64 KiB")]
    NoText,
    /// The daemon may not read it.
    #[error(
        "the daemon may not read the request; give its user the right, best by a default ACL on \
         requests/"
    )]
    Unreadable,
    /// The daemon could not delete it afterwards, and so would leave plaintext behind.
    #[error(
        "the daemon could not delete the request afterwards; give its user the right to write the \
         folder, best by a default ACL on requests/"
    )]
    Undeletable,
    /// An error of the system on the daemon's side: not the requester's fault.
    #[error("system failure: the request could not be copied: {0}")]
    System(#[from] io::Error),
}

impl Requests {
    /// Serves the host's `requests/`, staging answers in `tmp`.
    pub fn new(requests: PathBuf, tmp: PathBuf) -> Self {
        Self { requests, tmp }
    }

    /// Lists the request folders: first those without an answer, the owners taking turns and each owner's in the order of
    /// their names, then those that have one. Whatever else lies there is passed over.
    ///
    /// # Errors
    /// If the directory cannot be read.
    ///
    /// # Bounds
    /// A million names; 10,000 folders without an answer, at most 1,000 of them of one owner; 10,000 with one.
    pub fn scan(&self) -> io::Result<Vec<Found>> {
        let mut unanswered: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        let mut answered = BTreeMap::new();
        for entry in fs::read_dir(&self.requests)?.take(NAMES_MAX) {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if !is_request_name(&name) {
                continue;
            }
            let metadata = match fs::symlink_metadata(self.requests.join(&name)) {
                Ok(metadata) if metadata.is_dir() => metadata,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let owner_uid = metadata.uid();
            if self.answer_of(&name)?.is_some() {
                answered.insert(name, owner_uid);
                if answered.len() > FOUND_MAX {
                    answered.pop_last();
                }
            } else {
                let names = unanswered.entry(owner_uid).or_default();
                names.insert(name);
                if names.len() > FOUND_OF_OWNER_MAX {
                    names.pop_last();
                }
            }
        }
        let mut found = take_turns(unanswered);
        found.truncate(FOUND_MAX);
        found.extend(answered.into_iter().map(|(name, owner_uid)| Found {
            name,
            owner_uid,
            answered: true,
        }));
        Ok(found)
    }

    /// The bytes of a request's files as they are now, to choose a thread for the copying.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn size(&self, found: &Found) -> io::Result<u64> {
        let mut bytes = 0_u64;
        for entry in fs::read_dir(self.requests.join(&found.name))?.take(NAMES_MAX) {
            bytes = bytes.saturating_add(entry?.metadata()?.len());
        }
        Ok(bytes)
    }

    /// Copies a request into the new folder `into`, and leaves the sync of the copies to `batch`.
    ///
    /// # Errors
    /// [`RequestRefused`] for a folder that breaks a rule; then `into` is gone again.
    pub fn intake(
        &self,
        found: &Found,
        into: &Path,
        limits: TakeLimits,
        batch: &mut SyncBatch,
    ) -> Result<Taken, RequestRefused> {
        let folder = open_dir(&self.requests.join(&found.name)).map_err(of_requester)?;
        let metadata = folder.metadata()?;
        if metadata.uid() != found.owner_uid {
            return Err(RequestRefused::Changed);
        }
        self.check_deletable(&folder, &metadata)?;
        make_dir(into, 0o700)?;
        let taken = copy_all(&folder, found, into, limits, batch);
        if taken.is_err() {
            remove_any(into)?;
        }
        taken
    }

    /// Answers yes. The batch must be committed before [`Requests::forget`].
    ///
    /// Other than everything else an answer gets its name before it is synced. That is safe because
    /// it is no state: until the batch is committed the folder is still there, and an answer that a
    /// crash tore lacks its LF and counts as none.
    ///
    /// # Errors
    /// If the answer cannot be written.
    pub fn answer_accepted(&self, name: &str, text: &str, batch: &mut SyncBatch) -> io::Result<()> {
        self.answer(Kind::Accepted, name, text, batch)
    }

    /// Answers no; the folder stays where its author put it.
    ///
    /// # Errors
    /// If the answer cannot be written.
    pub fn answer_refused(
        &self,
        name: &str,
        reason: &str,
        batch: &mut SyncBatch,
    ) -> io::Result<()> {
        self.answer(Kind::Refused, name, reason, batch)
    }

    /// The answer that stands beside a name, for a repeated request.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn answer_of(&self, name: &str) -> io::Result<Option<Answer>> {
        read_answer(&self.requests, name, geteuid().as_raw())
    }

    /// Deletes an accepted request's folder.
    ///
    /// # Errors
    /// If something of it stays: its author may have changed its rights meanwhile. That is to be
    /// logged, not to end the process; the answer beside it keeps it from being judged again.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        remove_any(&self.requests.join(name))
    }

    /// Deletes this daemon's answers whose folder is gone and which are older than `age`. Returns
    /// how many.
    ///
    /// # Errors
    /// If the directory cannot be read, or an answer cannot be deleted.
    pub fn expire_answers(&self, age: Duration) -> io::Result<usize> {
        let now = SystemTime::now();
        let mut count = 0;
        for entry in fs::read_dir(&self.requests)?.take(NAMES_MAX) {
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
            let old = now
                .duration_since(metadata.modified()?)
                .is_ok_and(|since| since > age);
            if old
                && metadata.is_file()
                && metadata.uid() == geteuid().as_raw()
                && fs::symlink_metadata(self.requests.join(name)).is_err()
            {
                remove_any(&entry.path())?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn answer(&self, kind: Kind, name: &str, text: &str, batch: &mut SyncBatch) -> io::Result<()> {
        assert!(
            is_request_name(name),
            "names come from scan, which returns no others"
        );
        let mut staged = StagedFile::create(&self.tmp)?;
        staged.set_access(Access::Everyone)?;
        // One write: an answer that a crash tears cannot end in this LF.
        staged.write_all(format!("{}\n", text.replace('\n', " ")).as_bytes())?;
        staged
            .finish_in(batch)?
            .replace_in(&self.requests.join(kind.file(name)), batch)
    }

    /// Refuses what could not be deleted when it has been taken: plaintext would stay behind.
    fn check_deletable(&self, folder: &File, metadata: &Metadata) -> Result<(), RequestRefused> {
        let sticky = |metadata: &Metadata| {
            metadata.mode() & Mode::S_ISVTX.bits() != 0 && !geteuid().is_root()
        };
        let us = geteuid().as_raw();
        let requests = fs::metadata(&self.requests)?;
        let may_write = |directory: &File| {
            let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
            faccessat(directory, ".", wanted, AtFlags::AT_EACCESS).is_ok()
        };
        let blocked_above = sticky(&requests) && requests.uid() != us && metadata.uid() != us;
        let blocked_inside = sticky(metadata) && metadata.uid() != us;
        if blocked_above || blocked_inside || !may_write(folder) {
            return Err(RequestRefused::Undeletable);
        }
        if !may_write(&open_dir(&self.requests)?) {
            return Err(RequestRefused::Undeletable);
        }
        Ok(())
    }
}

/// The first of each owner, then the second of each, and so on.
pub(super) fn take_turns(unanswered: BTreeMap<u32, BTreeSet<String>>) -> Vec<Found> {
    let mut turns: Vec<(usize, u32, String)> = Vec::new();
    for (owner_uid, names) in unanswered {
        let numbered = names.into_iter().enumerate();
        turns.extend(numbered.map(|(turn, name)| (turn, owner_uid, name)));
    }
    turns.sort();
    let found = turns.into_iter().map(|(_, owner_uid, name)| Found {
        name,
        owner_uid,
        answered: false,
    });
    found.collect()
}

fn copy_all(
    folder: &File,
    found: &Found,
    into: &Path,
    limits: TakeLimits,
    batch: &mut SyncBatch,
) -> Result<Taken, RequestRefused> {
    let owner_uid = found.owner_uid;
    let mut toml = None;
    let mut files = BTreeMap::new();
    let mut left_bytes = limits.bytes_max;
    let too_large = || RequestRefused::Bytes {
        bytes_max: limits.bytes_max,
    };
    let mut listing = Dir::from_fd(folder.try_clone()?.into()).map_err(io::Error::from)?;
    for (number, name) in names(&mut listing).enumerate() {
        let name = name?;
        if number >= limits.files_max {
            return Err(RequestRefused::Files {
                files_max: limits.files_max,
            });
        }
        let name = name.into_string().map_err(|_| RequestRefused::Name)?;
        let file = open_regular(folder, &name, owner_uid)?;
        if name == REQUEST_FILE {
            let placing = placing_of(&found.name, &file.metadata()?);
            let text = read_text(file)?;
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            left_bytes = left_bytes.checked_sub(length).ok_or_else(too_large)?;
            toml = Some((text, placing));
            continue;
        }
        let copy = StagedFile::create_named(into, format!("file-{number:03}").as_ref())?;
        // One byte more than allowed shows that there is more. From file to file, the kernel copies
        // by itself.
        let bytes = io::copy(
            &mut file.take(left_bytes.saturating_add(1)),
            &mut copy.file(),
        )?;
        left_bytes = left_bytes.checked_sub(bytes).ok_or_else(too_large)?;
        let path = copy.finish_in(batch)?.path().to_path_buf();
        files.insert(name, TakenFile { path, bytes });
    }
    batch.add_dir(into);
    let (toml, placing) = toml.ok_or(RequestRefused::NoText)?;
    Ok(Taken {
        toml,
        files,
        owner_uid,
        placing,
    })
}

/// What tells a request from a later one of the same name: its text's own file, and when that last changed.
fn placing_of(name: &str, text: &Metadata) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("valise v1 placed request");
    for number in [text.dev(), text.ino()] {
        hasher.update(&number.to_be_bytes());
    }
    for time in [text.ctime(), text.ctime_nsec()] {
        hasher.update(&time.to_be_bytes());
    }
    hasher.update(name.as_bytes());
    let whole = hasher.finalize().to_hex();
    whole.as_str().chars().take(32).collect()
}

/// The names in a directory, without itself and its parent.
fn names(listing: &mut Dir) -> impl Iterator<Item = io::Result<std::ffi::CString>> {
    listing.iter().filter_map(|entry| match entry {
        Ok(entry) => {
            let name: &CStr = entry.file_name();
            (name != c"." && name != c"..").then(|| Ok(name.to_owned()))
        }
        Err(errno) => Some(Err(errno.into())),
    })
}

/// Opens a file of a request without following links or waiting on pipes, and checks what it is.
fn open_regular(folder: &File, name: &str, owner_uid: u32) -> Result<File, RequestRefused> {
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let opened = openat(folder, name, flags, Mode::empty());
    let file = opened
        .map(File::from)
        .map_err(|errno| of_requester(errno.into()))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(RequestRefused::NotRegular);
    }
    if metadata.nlink() != 1 {
        return Err(RequestRefused::Linked);
    }
    if metadata.uid() != owner_uid {
        return Err(RequestRefused::Foreign);
    }
    Ok(file)
}

fn read_text(file: File) -> Result<String, RequestRefused> {
    let limit = u64::try_from(REQUEST_TEXT_BYTES_MAX).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() > REQUEST_TEXT_BYTES_MAX {
        return Err(RequestRefused::NoText);
    }
    String::from_utf8(bytes).map_err(|_| RequestRefused::NoText)
}

/// Tells what the requester did from what failed on our side.
fn of_requester(error: io::Error) -> RequestRefused {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => RequestRefused::Changed,
        Some(Errno::EAGAIN | Errno::ETXTBSY) => RequestRefused::Busy,
        Some(Errno::EACCES | Errno::EPERM) => RequestRefused::Unreadable,
        Some(Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO) => RequestRefused::NotRegular,
        _ => RequestRefused::System(error),
    }
}
