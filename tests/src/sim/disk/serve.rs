//! The kernel's requests. One trait has them all, which makes the file longer than others.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use nix::libc;

use super::body::Change;
use super::content::PAGE_BYTES;
use super::faults::Operation;
use super::inode::{Extent, Standing};
use super::reply::{
    GENERATION, VALID, absent, attributes_or, empty, entry, kind, opened, sized, time,
};
use super::state::{Shared, State};
use super::store::{Removal, Replace, Result};

/// Bytes of a write.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// The file system that the kernel talks to.
pub(super) struct Server(pub Shared);

impl Server {
    /// Counts an operation and does it.
    fn counted<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.0.lock();
        state.faults.count(operation)?;
        act(&mut state)
    }

    /// Does what is not counted.
    fn passed<T>(&self, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.0.lock();
        state.faults.pass()?;
        act(&mut state)
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_POSIX_ACL
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_PASSTHROUGH;
        if config.add_capabilities(wanted).is_err()
            || config.set_max_write(WRITE_BYTES_MAX).is_err()
            || config.set_max_stack_depth(1).is_err()
        {
            return Err(io::Error::from_raw_os_error(libc::EPROTO));
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.passed(|state| match state.store.lookup(parent.0, name) {
            Err(_) => Ok(None),
            Ok(ino) => {
                state.note_name(ino, name);
                Ok(Some(state.attributes(ino)?))
            }
        });
        match found {
            // The kernel remembers that the name is absent.
            Ok(None) => reply.entry(&VALID, &absent(), GENERATION),
            Ok(Some(found)) => reply.entry(&VALID, &found, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attributes_or(reply, self.passed(|state| state.attributes(ino.0)));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        read_at: Option<TimeOrNow>,
        modified_at: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.counted(Operation::SetAttributes, |state| {
            if let Some(bytes) = size {
                state.set_bytes(ino.0, bytes)?;
            }
            if let Some(mode) = mode {
                state.set_mode(ino.0, mode)?;
            }
            if [uid, gid].iter().any(Option::is_some) || read_at.is_some() || modified_at.is_some()
            {
                state.store.set_meta(ino.0, |meta| {
                    meta.uid = uid.unwrap_or(meta.uid);
                    meta.gid = gid.unwrap_or(meta.gid);
                    meta.read_at = read_at.map_or(meta.read_at, time);
                    meta.modified_at = modified_at.map_or(meta.modified_at, time);
                })?;
            }
            state.attributes(ino.0)
        });
        attributes_or(reply, done);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.passed(|state| Ok(state.store.inode(ino.0)?.live.target.clone())) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let place = (parent.0, name);
        let made = self.counted(Operation::Create, |state| {
            state.create(place, mode, device, OsStr::new(""))
        });
        entry(reply, made);
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (place, mode) = ((parent.0, name), libc::S_IFDIR | mode & 0o7777);
        let made = self.counted(Operation::MakeDir, |state| {
            state.create(place, mode, 0, OsStr::new(""))
        });
        entry(reply, made);
    }

    fn symlink(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (place, mode) = ((parent.0, name), libc::S_IFLNK | 0o777);
        let made = self.counted(Operation::Symlink, |state| {
            state.create(place, mode, 0, target.as_os_str())
        });
        entry(reply, made);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let (place, mode) = ((parent.0, name), libc::S_IFREG | mode & 0o7777);
        match self.counted(Operation::Create, |state| {
            state.create(place, mode, 0, OsStr::new(""))
        }) {
            Ok(made) => {
                let mut state = self.0.lock();
                match state.backing(made.ino.0, |file| reply.open_backing(file)) {
                    Ok(None) => reply.created(&VALID, &made, GENERATION, FileHandle(0), opened()),
                    Ok(Some(id)) => {
                        let flags = FopenFlags::FOPEN_NOFLUSH;
                        reply.created_passthrough(
                            &VALID,
                            &made,
                            GENERATION,
                            FileHandle(0),
                            flags,
                            id,
                        );
                    }
                    Err(errno) => reply.error(errno),
                }
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.counted(Operation::Unlink, |state| {
            state.store.remove(parent.0, name, Removal::File)
        });
        empty(reply, removed);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.counted(Operation::RemoveDir, |state| {
            state.store.remove(parent.0, name, Removal::Directory)
        });
        empty(reply, removed);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            flags if flags.is_empty() => Replace::Always,
            RenameFlags::RENAME_NOREPLACE => Replace::Never,
            RenameFlags::RENAME_EXCHANGE => Replace::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        let (from, to) = ((parent.0, name), (newparent.0, newname));
        empty(
            reply,
            self.counted(Operation::Rename, |state| {
                state.store.rename(from, to, mode)
            }),
        );
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = self.counted(Operation::Link, |state| {
            state.store.link(ino.0, newparent.0, newname)?;
            state.attributes(ino.0)
        });
        entry(reply, linked);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let result = self.counted(Operation::Open, |state| {
            state.store.inode(ino.0)?;
            let is_cached = !state.faults.fails_reads();
            Ok(if is_cached {
                opened()
            } else {
                FopenFlags::FOPEN_NOFLUSH
            })
        });
        let mut state = self.0.lock();
        let backing = state.backing(ino.0, |file| reply.open_backing(file));
        match (result, backing) {
            (Ok(_), Ok(Some(id))) => {
                reply.opened_passthrough(FileHandle(0), FopenFlags::FOPEN_NOFLUSH, id);
            }
            (Ok(flags), Ok(None)) => reply.opened(FileHandle(0), flags),
            (Err(errno), _) | (_, Err(errno)) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.counted(Operation::Read, |state| {
            let content = &state.store.inode(ino.0)?.live.content;
            Ok(content.read(offset, u64::from(size)))
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The kernel writes pages of shared memory when it likes to.
        let written = if flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
            self.passed(|state| state.write(ino.0, offset, data, Standing::Mapped))
        } else {
            self.counted(Operation::Write, |state| {
                state.write(ino.0, offset, data, Standing::Unsynced)
            })
        };
        match written {
            Ok(bytes) => reply.written(bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let extent = if datasync { Extent::Data } else { Extent::All };
        empty(reply, self.0.lock().sync(Some(ino.0), extent));
    }

    fn fsyncdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.0.lock().sync(Some(ino.0), Extent::All));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.passed(|state| state.open_dir(ino.0)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.passed(|state| state.list(ino.0, handle.0, offset));
        match listed {
            Err(errno) => reply.error(errno),
            Ok(names) => {
                for (next, name, ino, mode) in names {
                    if reply.add(INodeNo(ino), next, kind(mode), name) {
                        break;
                    }
                }
                reply.ok();
            }
        }
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.0.lock().close_dir(handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (used, free, files) = {
            let state = self.0.lock();
            let (used, free) = state.store.room();
            (used, free, state.store.next_ino())
        };
        let page = u32::try_from(PAGE_BYTES).unwrap_or(u32::MAX);
        reply.statfs(used + free, free, free, files, 1 << 30, page, 255, page);
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        if name == super::SYNC_ALL {
            return empty(reply, self.0.lock().sync(None, Extent::All));
        }
        let set = self.counted(Operation::SetExtended, |state| {
            state.set_attribute(ino.0, name, value, flags)
        });
        empty(reply, set);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.passed(|state| {
            let value = state.store.inode(ino.0)?.live.attributes.get(name);
            value.cloned().ok_or(Errno::ENODATA)
        });
        sized(reply, size, value);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.passed(|state| {
            let attributes = &state.store.inode(ino.0)?.live.attributes;
            let ended = attributes
                .keys()
                .map(|name| [name.as_encoded_bytes(), &[0]].concat());
            Ok(ended.collect::<Vec<_>>().concat())
        });
        sized(reply, size, names);
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.counted(Operation::SetExtended, |state| {
            if !state.store.inode(ino.0)?.live.attributes.contains_key(name) {
                return Err(Errno::ENODATA);
            }
            let change = Change::Attribute {
                name: OsString::from(name),
                value: None,
            };
            state.store.change(ino.0, change, Standing::Unsynced)
        });
        empty(reply, removed);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(
            reply,
            self.counted(Operation::Allocate, |state| {
                state.allocate(ino.0, offset, length, mode)
            }),
        );
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let found = self.passed(|state| {
            let content = Arc::clone(&state.store.inode(ino.0)?.live.content);
            let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            let found = match whence {
                _ if offset >= content.bytes() => None,
                libc::SEEK_DATA => content.next_data(offset),
                libc::SEEK_HOLE => Some(content.next_hole(offset)),
                _ => return Err(Errno::EINVAL),
            };
            found
                .and_then(|found| i64::try_from(found).ok())
                .ok_or(Errno::ENXIO)
        });
        match found {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(errno),
        }
    }
}
