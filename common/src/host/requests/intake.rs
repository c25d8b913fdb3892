//! A request folder → a copy that only the daemon writes, or the reason why it is not even looked at.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, faccessat, geteuid};
use sha2::{Digest as _, Sha256};

use super::REQUEST_FILE;
use super::server::{Found, Requests};
use crate::limits::REQUEST_TEXT_BYTES_MAX;
use crate::manifest::shown_name;
use crate::os::durable::{
    StagedFile, Stamp, SyncBatch, WriteBehind, for_each_name, free_bytes, make_dir, open_dir,
    put_away,
};
use crate::units::ByteSize;

/// So much is copied between two looks at the free bytes of the disk.
const COPY_BYTES: u64 = 32 << 20;

/// So much is read at a time: it is hashed and written while the cache holds it.
const READ_BYTES: usize = 256 << 10;

/// Longer files are written by a thread of their own, while they are read and hashed.
const LARGE_FILE_BYTES: u64 = 4 << 20;

/// How much of a request to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeLimits {
    /// Files, `request.toml` included.
    pub files_max: usize,
    /// Bytes of all files together.
    pub bytes_max: u64,
    /// Bytes of the disk that stay free while files are copied.
    pub reserve_bytes: u64,
}

/// A request's files, copied to where only the daemon writes.
#[derive(Debug)]
pub struct Taken {
    /// The text of `request.toml`.
    pub toml: String,
    /// The other files by the names that their author gave them; never to be used as paths.
    pub files: BTreeMap<String, TakenFile>,
    /// SHA-256 of what was written into each of these copies.
    pub sha256: BTreeMap<String, [u8; 32]>,
    /// The user who owns the folder and every file.
    pub owner_uid: u32,
    /// Identifies this placing of the request, in hexadecimal: the same as long as the folder stands there unchanged, over
    /// restarts too, and another when a request of the same name and content is placed again.
    pub idempotency_key: String,
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
    #[error("the request changed while it was read; place it again under a new name")]
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
    #[error("the name of the file {shown} in the request folder is not UTF-8; rename it")]
    Name {
        /// The name, escaped.
        shown: String,
    },
    /// Too many files.
    #[error("the request folder holds more than {files_max} files")]
    Files {
        /// The limit.
        files_max: usize,
    },
    /// Too many bytes.
    #[error("the files of the request exceed {} together", ByteSize(*bytes_max))]
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
    /// The disk has no room for the copy. Others fill it too, so that it is looked at while copying.
    #[error("the disk is nearly full: the request cannot be copied")]
    NoRoom,
    /// An error of the system on the daemon's side: not the requester's fault.
    #[error("system failure: the request could not be copied: {0}")]
    System(#[from] io::Error),
}

impl RequestRefused {
    /// The reason as an audit log has it: without a name of a file.
    pub fn logged(&self) -> String {
        match self {
            Self::Name { .. } => "a file's name is not UTF-8".to_owned(),
            other => other.to_string(),
        }
    }
}

impl Requests {
    /// Copies a request into the new folder `into`, and leaves the sync of the copies to `batch`.
    ///
    /// # Errors
    /// [`RequestRefused`] for a folder that breaks a rule; then `into` is gone again, and what was copied is to be erased.
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
            put_away(into, &self.tmp)?;
        }
        taken
    }

    /// Reads a request's text where its author can still change it: good for choosing what to take first, and for nothing
    /// else.
    ///
    /// # Errors
    /// [`RequestRefused`] for a folder or a text that breaks a rule.
    pub fn text_now(&self, found: &Found) -> Result<String, RequestRefused> {
        let folder = open_dir(&self.requests.join(&found.name)).map_err(of_requester)?;
        read_text(open_regular(&folder, REQUEST_FILE, found.owner_uid)?)
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

fn copy_all(
    folder: &File,
    found: &Found,
    into: &Path,
    limits: TakeLimits,
    batch: &mut SyncBatch,
) -> Result<Taken, RequestRefused> {
    let owner_uid = found.owner_uid;
    let mut toml = None;
    let (mut files, mut sha256) = (BTreeMap::new(), BTreeMap::new());
    let mut left_bytes = limits.bytes_max;
    let too_large = || RequestRefused::Bytes {
        bytes_max: limits.bytes_max,
    };
    let mut file_count = 0;
    for_each_name(folder, |name| {
        if file_count >= limits.files_max {
            return Err(RequestRefused::Files {
                files_max: limits.files_max,
            });
        }
        let number = file_count;
        file_count += 1;
        let name = name.to_str().map_err(|_| RequestRefused::Name {
            shown: shown_name(OsStr::from_bytes(name.to_bytes())),
        })?;
        let file = open_regular(folder, name, owner_uid)?;
        if name == REQUEST_FILE {
            let idempotency_key = idempotency_key_of(&found.name, &file.metadata()?);
            let text = read_text(file)?;
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            left_bytes = left_bytes.checked_sub(length).ok_or_else(too_large)?;
            toml = Some((text, idempotency_key));
            return Ok(());
        }
        let copy = StagedFile::create_named(into, format!("file-{number:03}").as_ref())?;
        // One byte more than allowed shows that there is more.
        let bytes_max = left_bytes.saturating_add(1);
        let (copy, hash) = copy_file(&file, copy, bytes_max, limits.reserve_bytes)?;
        let bytes = copy.written_bytes();
        left_bytes = left_bytes.checked_sub(bytes).ok_or_else(too_large)?;
        let path = copy.finish_in(batch)?.path().to_path_buf();
        files.insert(name.to_owned(), TakenFile { path, bytes });
        sha256.insert(name.to_owned(), hash);
        Ok(())
    })?;
    batch.add_dir(into);
    let (toml, idempotency_key) = toml.ok_or(RequestRefused::NoText)?;
    Ok(Taken {
        toml,
        files,
        sha256,
        owner_uid,
        idempotency_key,
    })
}

/// Copies at most so many bytes of a file, as long as the reserve stays free; with the SHA-256 of what was written.
fn copy_file(
    from: &File,
    mut to: StagedFile,
    bytes_max: u64,
    reserve_bytes: u64,
) -> Result<(StagedFile, [u8; 32]), RequestRefused> {
    let disk = to.path().to_owned();
    let room = |next_bytes: u64| {
        let needed = reserve_bytes.saturating_add(next_bytes);
        Ok(reserve_bytes == 0 || free_bytes(&disk)? >= needed)
    };
    if from.metadata()?.len() <= LARGE_FILE_BYTES {
        let hash = copy_hashing(from, &mut to, bytes_max, room)?;
        return Ok((to, hash));
    }
    let mut behind = WriteBehind::start(to)?;
    let with_waiting = |next_bytes| room(next_bytes + WriteBehind::BYTES_MAX);
    let hash = copy_hashing(from, &mut behind, bytes_max, with_waiting)?;
    Ok((behind.finish()?, hash))
}

/// Copies as long as there is room for each stretch.
fn copy_hashing(
    mut from: &File,
    to: &mut dyn Write,
    bytes_max: u64,
    has_room: impl Fn(u64) -> io::Result<bool>,
) -> Result<[u8; 32], RequestRefused> {
    let stamp = Stamp::of(from)?;
    let length = stamp.bytes().min(bytes_max);
    let mut hasher = Sha256::new();
    // Memory is locked, so an idle part of a buffer costs as much as a used one.
    let mut buffer =
        vec![0; usize::try_from(length).map_or(READ_BYTES, |it| it.clamp(1, READ_BYTES))];
    let (mut copied, mut looked_up_to) = (0, 0);
    while copied < bytes_max {
        if copied >= looked_up_to {
            let left_to_read = from.metadata()?.len().saturating_sub(copied);
            if !has_room(COPY_BYTES.min(bytes_max - copied).min(left_to_read))? {
                return Err(RequestRefused::NoRoom);
            }
            looked_up_to = copied + COPY_BYTES;
        }
        let left = usize::try_from(bytes_max - copied).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let count = from.read(&mut buffer[..wanted])?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        copied += u64::try_from(count).map_err(io::Error::other)?;
    }
    // The copy alone is judged, so that it must be what its author placed. One that is too long is refused as such.
    if copied < bytes_max && !stamp.is_whole(from, copied)? {
        return Err(RequestRefused::Changed);
    }
    Ok(hasher.finalize().into())
}

/// What tells a request from a later one of the same name: its text's own file, and when that last changed.
fn idempotency_key_of(name: &str, text: &Metadata) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("valise v1 placed request");
    // Without the device: its number may be another one after a restart of the host.
    hasher.update(&text.ino().to_be_bytes());
    for time in [text.ctime(), text.ctime_nsec()] {
        hasher.update(&time.to_be_bytes());
    }
    hasher.update(name.as_bytes());
    let whole = hasher.finalize().to_hex();
    whole.as_str().chars().take(32).collect()
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
    let stamp = Stamp::of(&file)?;
    let count = (&file).take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() > REQUEST_TEXT_BYTES_MAX {
        return Err(RequestRefused::NoText);
    }
    if !stamp.is_whole(&file, u64::try_from(count).map_err(io::Error::other)?)? {
        return Err(RequestRefused::Changed);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A place for a copy that changes the file which is being copied, as its author may.
    struct Meddler<'a>(&'a dyn Fn());

    impl Write for Meddler<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            (self.0)();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_that_is_cut_or_grows_while_it_is_copied_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let bytes = u64::try_from(READ_BYTES).unwrap() * 3;
        for (new_bytes, is_refused) in [(bytes / 2, true), (bytes + 1, true), (bytes, false)] {
            let author = File::create(&path).unwrap();
            author.set_len(bytes).unwrap();
            author
                .set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
            let meddle = || {
                if new_bytes != bytes {
                    author.set_len(new_bytes).unwrap();
                }
            };
            let copied = copy_hashing(
                &File::open(&path).unwrap(),
                &mut Meddler(&meddle),
                u64::MAX,
                |_| Ok(true),
            );
            let told = matches!(copied, Err(RequestRefused::Changed));
            assert_eq!(
                (told, copied.is_ok()),
                (is_refused, !is_refused),
                "{new_bytes}"
            );
        }
    }
}
