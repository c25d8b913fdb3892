//! What the kernel is answered.

use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry,
    ReplyXattr, TimeOrNow,
};
use nix::libc;

use super::content::{PAGE_BYTES, length};
use super::inode::{Ino, Inode};
use super::store::Result;

/// Only this mount's kernel changes the tree, so what it knows stays true.
pub(super) const VALID: Duration = Duration::from_secs(1 << 30);

pub(super) const GENERATION: Generation = Generation(0);

pub(super) fn entry(reply: ReplyEntry, result: Result<FileAttr>) {
    match result {
        Ok(attributes) => reply.entry(&VALID, &attributes, GENERATION),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn empty(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn sized(reply: ReplyXattr, bytes_max: u32, result: Result<Vec<u8>>) {
    match result {
        Err(errno) => reply.error(errno),
        Ok(value) => match u32::try_from(value.len()).unwrap_or(u32::MAX) {
            bytes if bytes_max == 0 => reply.size(bytes),
            bytes if bytes > bytes_max => reply.error(Errno::ERANGE),
            _ => reply.data(&value),
        },
    }
}

pub(super) fn attributes_or(reply: ReplyAttr, result: Result<FileAttr>) {
    match result {
        Ok(found) => reply.attr(&VALID, &found),
        Err(errno) => reply.error(errno),
    }
}

/// How a file is opened: the kernel keeps its pages, and does not ask at each close.
pub(super) fn opened() -> FopenFlags {
    FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
}

pub(super) fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

pub(super) fn kind(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// What the kernel is shown of an inode.
pub(super) fn attributes(ino: Ino, inode: &Inode) -> FileAttr {
    let (meta, content) = (&inode.live.meta, &inode.live.content);
    let target = length(inode.live.target.as_encoded_bytes());
    FileAttr {
        ino: INodeNo(ino),
        size: content.bytes().max(target),
        blocks: content.page_count() * (PAGE_BYTES / 512),
        atime: meta.read_at,
        mtime: meta.modified_at,
        ctime: meta.changed_at,
        crtime: meta.modified_at,
        kind: kind(meta.mode),
        perm: u16::try_from(meta.mode & 0o7777).unwrap_or(0),
        nlink: inode.links,
        uid: meta.uid,
        gid: meta.gid,
        rdev: meta.device,
        blksize: u32::try_from(PAGE_BYTES).unwrap_or(u32::MAX),
        flags: 0,
    }
}

/// No inode.
pub(super) fn absent() -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}
