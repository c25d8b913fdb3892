//! The file system as its users see it, with what of it is durable.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::SystemTime;

use fuser::Errno;
use nix::libc;

use super::body::{Body, Change, Meta};
use super::content::PAGE_BYTES;
use super::image::{Image, Node, Tree};
use super::inode::{Extent, Ino, Inode, Pending, Standing};
use super::names::{Entries, NameChange, take_of};

/// The root directory's number, which the protocol sets.
pub(super) const ROOT: Ino = 1;

/// Room of a disk that nobody has filled.
const FREE_PAGES: u64 = 1 << 28;

pub(super) type Result<T> = std::result::Result<T, Errno>;

/// The whole file system.
#[derive(Debug)]
pub(super) struct Store {
    pub inodes: BTreeMap<Ino, Inode>,
    /// Names as the disk has them.
    pub durable: BTreeMap<Ino, Entries>,
    pub names: Vec<NameChange>,
    next_ino: Ino,
    order: u64,
    used_pages: u64,
    room_pages: u64,
    /// The owner of what is created.
    pub actor: (u32, u32),
}

impl Store {
    pub fn new(image: &Image) -> Self {
        let tree = image.tree();
        let mut inodes = BTreeMap::new();
        let mut durable = BTreeMap::new();
        let mut used_pages = 0;
        let links = tree.links();
        for (ino, node) in &tree.nodes {
            used_pages += node.body.content.page_count();
            if node.body.is(libc::S_IFDIR) {
                durable.insert(*ino, Arc::clone(&node.entries));
            }
            let inode = Inode {
                live: node.body.clone(),
                entries: Arc::clone(&node.entries),
                links: links.get(ino).copied().unwrap_or(0),
                synced: node.body.clone(),
                pending: Vec::new(),
            };
            inodes.insert(*ino, inode);
        }
        Self {
            inodes,
            durable,
            names: Vec::new(),
            next_ino: tree.next_ino,
            order: 0,
            used_pages,
            room_pages: used_pages + FREE_PAGES,
            actor: (0, 0),
        }
    }

    /// The state as if everything were synced.
    pub fn image(&self) -> Image {
        let nodes = self.inodes.iter().map(|(ino, inode)| {
            let entries = Arc::clone(&inode.entries);
            (
                *ino,
                Node {
                    body: inode.live.clone(),
                    entries,
                },
            )
        });
        Image::of(Tree {
            nodes: nodes.collect(),
            next_ino: self.next_ino,
        })
    }

    pub fn next_ino(&self) -> Ino {
        self.next_ino
    }

    pub fn last_order(&self) -> u64 {
        self.order
    }

    /// The pages that are used, and those that are free.
    pub fn room(&self) -> (u64, u64) {
        (
            self.used_pages,
            self.room_pages.saturating_sub(self.used_pages),
        )
    }

    /// Leaves this much room from now on.
    pub fn set_free(&mut self, bytes: Option<u64>) {
        let pages = bytes.map_or(FREE_PAGES, |bytes| bytes / PAGE_BYTES);
        self.room_pages = self.used_pages + pages;
    }

    pub fn inode(&self, ino: Ino) -> Result<&Inode> {
        self.inodes.get(&ino).ok_or(Errno::ENOENT)
    }

    fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    pub fn lookup(&self, directory: Ino, name: &OsStr) -> Result<Ino> {
        let found = self.inode(directory)?.entries.get(name);
        found.copied().ok_or(Errno::ENOENT)
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Changes an inode; a cut may lose it.
    pub fn change(&mut self, ino: Ino, change: Change, standing: Standing) -> Result<()> {
        let order = self.next_order();
        let inode = self.inode_mut(ino)?;
        let before = inode.live.content.page_count();
        inode.live.apply(&change);
        let (after, is_linked) = (inode.live.content.page_count(), inode.links > 0);
        inode.pending.push(Pending {
            order,
            change,
            standing,
        });
        if is_linked {
            self.used_pages = (self.used_pages + after).saturating_sub(before);
        }
        Ok(())
    }

    /// Changes the attributes of an inode.
    pub fn set_meta(&mut self, ino: Ino, set: impl FnOnce(&mut Meta)) -> Result<()> {
        let mut meta = self.inode(ino)?.live.meta.clone();
        meta.changed_at = SystemTime::now();
        set(&mut meta);
        self.change(ino, Change::Meta(meta), Standing::Unsynced)
    }

    /// Notes a changed content; the time is not worth a change of its own.
    pub fn stamp(&mut self, ino: Ino) {
        let now = SystemTime::now();
        if let Ok(inode) = self.inode_mut(ino) {
            inode.live.meta.modified_at = now;
            inode.live.meta.changed_at = now;
        }
    }

    /// Makes an inode with a name.
    pub fn create(
        &mut self,
        place: (Ino, &OsStr),
        mode: u32,
        device: u32,
        target: &OsStr,
    ) -> Result<Ino> {
        let (directory, name) = place;
        if self.lookup(directory, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        if self.room().1 == 0 {
            return Err(Errno::ENOSPC);
        }
        let parent = &self.inode(directory)?.live;
        let (uid, mut gid) = self.actor;
        let is_directory = mode & libc::S_IFMT == libc::S_IFDIR;
        let mut mode = mode;
        if parent.hands_down() {
            gid = parent.meta.gid;
            if is_directory {
                mode |= libc::S_ISGID;
            }
        }
        let ino = self.next_ino;
        self.next_ino += 1;
        let body = Body::new(Meta::new(mode, (uid, gid), device), target);
        let inode = Inode {
            live: body.clone(),
            entries: Entries::default(),
            links: if is_directory { 2 } else { 1 },
            synced: body,
            pending: Vec::new(),
        };
        self.inodes.insert(ino, inode);
        if is_directory {
            self.durable.insert(ino, Entries::default());
            self.inode_mut(directory)?.links += 1;
        }
        self.rename_places(vec![((directory, name.to_owned()), Some(ino))], None, false);
        Ok(ino)
    }

    pub fn link(&mut self, ino: Ino, directory: Ino, name: &OsStr) -> Result<()> {
        if self.lookup(directory, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        if self.inode(ino)?.live.is(libc::S_IFDIR) {
            return Err(Errno::EPERM);
        }
        self.inode_mut(ino)?.links += 1;
        self.rename_places(vec![((directory, name.to_owned()), Some(ino))], None, false);
        self.stamp_change(ino);
        Ok(())
    }

    pub fn remove(&mut self, directory: Ino, name: &OsStr, kind: Removal) -> Result<()> {
        let ino = self.lookup(directory, name)?;
        let is_directory = self.check_removal(ino, kind)?;
        let emptied = is_directory.then_some(ino);
        self.rename_places(vec![((directory, name.to_owned()), None)], emptied, false);
        self.unlink(ino, directory)
    }

    /// Checks that a name may go. Returns whether it is a directory's.
    fn check_removal(&self, ino: Ino, kind: Removal) -> Result<bool> {
        let inode = self.inode(ino)?;
        match (inode.live.is(libc::S_IFDIR), kind) {
            (true, Removal::File) => Err(Errno::EISDIR),
            (false, Removal::Directory) => Err(Errno::ENOTDIR),
            (true, Removal::Directory) if !inode.entries.is_empty() => Err(Errno::ENOTEMPTY),
            (is_directory, _) => Ok(is_directory),
        }
    }

    /// Counts a name less. The inode stays until the disk is unmounted: it may be open, and durable.
    fn unlink(&mut self, ino: Ino, directory: Ino) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        let is_directory = inode.live.is(libc::S_IFDIR);
        inode.links = if is_directory {
            0
        } else {
            inode.links.saturating_sub(1)
        };
        if inode.links == 0 {
            let pages = inode.live.content.page_count();
            self.used_pages = self.used_pages.saturating_sub(pages);
        }
        if is_directory {
            self.inode_mut(directory)?.links -= 1;
        }
        self.stamp_change(ino);
        Ok(())
    }

    pub fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr), mode: Replace) -> Result<()> {
        let ino = self.lookup(from.0, from.1)?;
        let moved_directory = self.inode(ino)?.live.is(libc::S_IFDIR);
        let replaced = self.lookup(to.0, to.1).ok();
        let places = |first, second| {
            vec![
                ((from.0, from.1.to_owned()), first),
                ((to.0, to.1.to_owned()), second),
            ]
        };
        let (names, emptied) = match (mode, replaced) {
            (Replace::Never, Some(_)) => return Err(Errno::EEXIST),
            (Replace::Exchange, None) => return Err(Errno::ENOENT),
            (Replace::Exchange, Some(other)) => {
                let other_directory = self.inode(other)?.live.is(libc::S_IFDIR);
                self.move_link(moved_directory, from.0, to.0)?;
                self.move_link(other_directory, to.0, from.0)?;
                self.rename_places(
                    places(Some(other), Some(ino)),
                    None,
                    moved_directory || other_directory,
                );
                return Ok(());
            }
            (_, Some(other)) if other == ino => return Ok(()),
            (_, Some(other)) => {
                let kind = if moved_directory {
                    Removal::Directory
                } else {
                    Removal::File
                };
                let emptied = self.check_removal(other, kind)?.then_some(other);
                self.unlink(other, to.0)?;
                (places(None, Some(ino)), emptied)
            }
            (_, None) => (places(None, Some(ino)), None),
        };
        self.move_link(moved_directory, from.0, to.0)?;
        self.rename_places(names, emptied, moved_directory);
        self.stamp_change(ino);
        Ok(())
    }

    /// Counts the `..` of a directory that moved.
    fn move_link(&mut self, is_directory: bool, from: Ino, to: Ino) -> Result<()> {
        if is_directory {
            self.inode_mut(from)?.links -= 1;
            self.inode_mut(to)?.links += 1;
        }
        Ok(())
    }

    fn stamp_change(&mut self, ino: Ino) {
        if let Ok(inode) = self.inode_mut(ino) {
            inode.live.meta.changed_at = SystemTime::now();
        }
    }

    fn rename_places(
        &mut self,
        names: Vec<((Ino, OsString), Option<Ino>)>,
        emptied: Option<Ino>,
        moves_directory: bool,
    ) {
        for ((directory, name), ino) in &names {
            if let Some(inode) = self.inodes.get_mut(directory) {
                let entries = Arc::make_mut(&mut inode.entries);
                match ino {
                    Some(ino) => entries.insert(name.clone(), *ino),
                    None => entries.remove(name),
                };
            }
            self.stamp(*directory);
        }
        let order = self.next_order();
        self.names.push(NameChange {
            order,
            names,
            emptied,
            moves_directory,
        });
    }

    /// Makes an inode's content durable, and its attributes; of a directory the names in it.
    pub fn sync(&mut self, ino: Ino, extent: Extent) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        inode.sync(extent);
        if inode.live.is(libc::S_IFDIR) {
            for change in take_of(&mut self.names, ino) {
                change.apply(&mut self.durable);
            }
        }
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync_all(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.sync(Extent::All);
        }
        for change in std::mem::take(&mut self.names) {
            change.apply(&mut self.durable);
        }
    }

    /// Drops what a failed sync was to write, as the kernel drops its pages: nothing makes it durable any more.
    pub fn fail_sync(&mut self, ino: Option<Ino>) {
        let failed = self
            .inodes
            .iter_mut()
            .filter(|(other, _)| ino.is_none_or(|ino| ino == **other));
        for pending in failed.flat_map(|(_, inode)| &mut inode.pending) {
            if pending.standing != Standing::Durable && pending.change.is_data() {
                pending.standing = Standing::Doubtful;
            }
        }
    }
}

/// What a removal is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    File,
    Directory,
}

/// What happens to the new name's holder when another gets the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replace {
    Always,
    Never,
    Exchange,
}
