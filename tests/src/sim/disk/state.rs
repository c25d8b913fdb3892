//! What requests do to the file system.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackingId, Errno, FileAttr};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::body::{Change, is_access_list, list_with_mode, split_list};
use super::content::{PAGE_BYTES, index};
use super::faults::{Faults, Operation};
use super::inode::{Extent, Ino, Standing};
use super::reply::attributes;
use super::store::{Result, Store};

/// A mounted disk: the file system, and what is to happen to it.
#[derive(Debug)]
pub(super) struct State {
    pub store: Store,
    pub faults: Faults,
    /// The names of each open directory, as they were when it was last read from its beginning.
    listings: BTreeMap<u64, Vec<(OsString, Ino)>>,
    next_handle: u64,
    /// Files that processes share memory through, by their names.
    shared_memory: BTreeMap<Ino, Option<Backing>>,
}

/// The file that the kernel reads, writes and maps instead of asking this process.
#[derive(Debug)]
struct Backing {
    file: File,
    id: BackingId,
}

/// The end of the name of SQLite's shared memory. Were it served from here, the kernel would wait for this process to take
/// its pages while it holds this process's address space, which the answer may need: neither would go on.
const SHARED_MEMORY: &[u8] = b"-shm";

/// The state, which requests and the test take turns at.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(State {
            store,
            faults: Faults::default(),
            listings: BTreeMap::new(),
            next_handle: 1,
            shared_memory: BTreeMap::new(),
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub fn attributes(&self, ino: Ino) -> Result<FileAttr> {
        let mut found = attributes(ino, self.store.inode(ino)?);
        if let Some(Some(backing)) = self.shared_memory.get(&ino) {
            found.size = backing.file.metadata()?.len();
        }
        Ok(found)
    }

    /// Notes the name of a file that is shared memory.
    pub fn note_name(&mut self, ino: Ino, name: &OsStr) {
        if name.as_encoded_bytes().ends_with(SHARED_MEMORY) {
            self.shared_memory.entry(ino).or_default();
        }
    }

    /// Returns what the kernel is to read, write and map instead of this file; none if it is to ask.
    pub fn backing(
        &mut self,
        ino: Ino,
        open: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Result<Option<&BackingId>> {
        let Some(backing) = self.shared_memory.get_mut(&ino) else {
            return Ok(None);
        };
        if backing.is_none() {
            let flags = MFdFlags::MFD_CLOEXEC;
            let memory = memfd_create("valise", flags).map_err(io::Error::from)?;
            let mut file = File::from(memory);
            let content = &self.store.inode(ino)?.live.content;
            file.write_all(&content.read(0, content.bytes()))?;
            let id = open(&file)?;
            *backing = Some(Backing { file, id });
        }
        Ok(backing.as_ref().map(|backing| &backing.id))
    }

    pub fn create(
        &mut self,
        place: (Ino, &OsStr),
        mode: u32,
        device: u32,
        target: &OsStr,
    ) -> Result<FileAttr> {
        let ino = self.store.create(place, mode, device, target)?;
        self.note_name(ino, place.1);
        self.attributes(ino)
    }

    /// Writes as much as there is room for.
    pub fn write(&mut self, ino: Ino, offset: u64, data: &[u8], standing: Standing) -> Result<u32> {
        let content = &self.store.inode(ino)?.live.content;
        let mut free = self.store.room().1;
        let end = offset + super::content::length(data);
        let fits = |page: &u64| {
            let fits = content.has_room(*page) || free > 0;
            free -= u64::from(fits && !content.has_room(*page));
            fits
        };
        let pages = offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
        let full_at = pages
            .clone()
            .take_while(fits)
            .last()
            .map_or(offset, |page| (page + 1) * PAGE_BYTES);
        let bytes = &data[..index(end.min(full_at).saturating_sub(offset))];
        if bytes.is_empty() && !data.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let change = Change::Write {
            offset,
            bytes: Arc::from(bytes),
        };
        self.store.change(ino, change, standing)?;
        self.store.stamp(ino);
        u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)
    }

    pub fn set_bytes(&mut self, ino: Ino, bytes: u64) -> Result<()> {
        if let Some(Some(backing)) = self.shared_memory.get(&ino) {
            backing.file.set_len(bytes)?;
        }
        if self.store.inode(ino)?.live.content.bytes() != bytes {
            self.store
                .change(ino, Change::Length(bytes), Standing::Unsynced)?;
        }
        self.store.stamp(ino);
        Ok(())
    }

    pub fn allocate(&mut self, ino: Ino, offset: u64, bytes: u64, mode: i32) -> Result<()> {
        let content = &self.store.inode(ino)?.live.content;
        let end = offset.checked_add(bytes).ok_or(Errno::EFBIG)?;
        let longer =
            (mode & libc::FALLOC_FL_KEEP_SIZE == 0 && end > content.bytes()).then_some(end);
        let change = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => {
                let pages = offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
                // So large a range cannot fit, and is not worth counting.
                let free = self.store.room().1;
                if pages.end - pages.start > free + content.page_count()
                    || u64::try_from(pages.filter(|page| !content.has_room(*page)).count())
                        .is_ok_and(|new| new > free)
                {
                    return Err(Errno::ENOSPC);
                }
                Change::Reserve { offset, bytes }
            }
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE => {
                Change::Punch { offset, bytes }
            }
            _ => return Err(Errno::EOPNOTSUPP),
        };
        self.store.change(ino, change, Standing::Unsynced)?;
        if let Some(end) = longer {
            self.store
                .change(ino, Change::Length(end), Standing::Unsynced)?;
        }
        self.store.stamp(ino);
        Ok(())
    }

    /// Sets the mode, and what an access control list holds of it.
    pub fn set_mode(&mut self, ino: Ino, mode: u32) -> Result<()> {
        let attributes = &self.store.inode(ino)?.live.attributes;
        if let Some(list) = attributes.get(OsStr::new(super::body::ACCESS_LIST)) {
            let value = Some(list_with_mode(list, mode));
            let name = OsString::from(super::body::ACCESS_LIST);
            self.store
                .change(ino, Change::Attribute { name, value }, Standing::Unsynced)?;
        }
        self.store.set_meta(ino, |meta| {
            meta.mode = meta.mode & libc::S_IFMT | mode & 0o7777
        })
    }

    /// Sets an extended attribute; an access control list sets the mode too, and is no more than that if the mode says it all.
    pub fn set_attribute(
        &mut self,
        ino: Ino,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<()> {
        let exists = self.store.inode(ino)?.live.attributes.contains_key(name);
        if flags & libc::XATTR_CREATE != 0 && exists {
            return Err(Errno::EEXIST);
        }
        if flags & libc::XATTR_REPLACE != 0 && !exists {
            return Err(Errno::ENODATA);
        }
        let (rights, value) = if is_access_list(name) {
            let (rights, list) = split_list(value).ok_or(Errno::EINVAL)?;
            (Some(rights), list)
        } else {
            (None, Some(value.to_vec()))
        };
        let name = name.to_owned();
        self.store
            .change(ino, Change::Attribute { name, value }, Standing::Unsynced)?;
        self.store.set_meta(ino, |meta| {
            meta.mode = rights.map_or(meta.mode, |rights| meta.mode & !0o777 | rights);
        })
    }

    /// Syncs an inode, or everything. If that fails, what was to be written is lost.
    pub fn sync(&mut self, ino: Option<Ino>, extent: Extent) -> Result<()> {
        let is_killed = self.faults.is_killed();
        self.faults.count(Operation::Sync).inspect_err(|_| {
            // A dead process's sync did not happen.
            if !is_killed && !self.faults.is_killed() {
                self.store.fail_sync(ino);
            }
        })?;
        match ino {
            Some(ino) => self.store.sync(ino, extent),
            None => {
                self.store.sync_all();
                Ok(())
            }
        }
    }

    pub fn open_dir(&mut self, ino: Ino) -> Result<u64> {
        self.store.inode(ino)?;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.listings.insert(handle, Vec::new());
        Ok(handle)
    }

    pub fn close_dir(&mut self, handle: u64) {
        self.listings.remove(&handle);
    }

    /// Returns names of an open directory, by name, with the offset of the next and the mode.
    pub fn list(
        &mut self,
        ino: Ino,
        handle: u64,
        offset: u64,
    ) -> Result<Vec<(u64, OsString, Ino, u32)>> {
        let entries = Arc::clone(&self.store.inode(ino)?.entries);
        let listing = self.listings.get_mut(&handle).ok_or(Errno::EBADF)?;
        if offset == 0 {
            // The kernel does not look at the number of the directory above.
            *listing = [(OsString::from("."), ino), (OsString::from(".."), ino)].into();
            listing.extend(entries.iter().map(|(name, ino)| (name.clone(), *ino)));
        }
        let store = &self.store;
        let names = (1..)
            .zip(&*listing)
            .skip(index(offset))
            .filter_map(|(next, (name, other))| {
                let is_there = next <= 2 || entries.get(name) == Some(other);
                let mode = store.inode(*other).ok()?.live.meta.mode;
                is_there.then(|| (next, name.clone(), *other, mode))
            });
        Ok(names.collect())
    }
}
