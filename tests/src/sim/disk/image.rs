//! A disk without power: what is on it can be read, changed, and mounted.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::libc;

use super::body::{Body, Meta};
use super::content::length;
use super::inode::Ino;
use super::names::Entries;
use super::store::ROOT;

/// A durable state of a disk. A clone costs nothing; changed, it shares what did not change.
///
/// Paths begin at the root of the disk, with or without a slash.
#[derive(Clone, Debug)]
pub struct Image(Arc<Tree>);

/// Everything on a disk.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub nodes: BTreeMap<Ino, Node>,
    pub next_ino: Ino,
}

/// An inode, and the names in it if it is a directory.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub body: Body,
    pub entries: Entries,
}

impl Image {
    /// Returns an empty disk, whose root is that of user 0, with mode 0755.
    pub fn empty() -> Self {
        let root = Node::new(libc::S_IFDIR | 0o755);
        Self(Arc::new(Tree {
            nodes: BTreeMap::from([(ROOT, root)]),
            next_ino: ROOT + 1,
        }))
    }

    /// Keeps of a tree what its root reaches.
    pub(super) fn of(mut tree: Tree) -> Self {
        let links = tree.links();
        tree.nodes.retain(|ino, _| links.contains_key(ino));
        Self(Arc::new(tree))
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.0
    }

    /// Returns the paths of everything on it, in order, the root apart.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        self.0.walk(
            ROOT,
            &mut |path, _| paths.push(path.to_owned()),
            &mut PathBuf::new(),
        );
        paths
    }

    /// Returns whether something has this path.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.0.find(path.as_ref()).is_ok()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If the path is absent.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let content = &self.node(path.as_ref())?.body.content;
        Ok(content.read(0, content.bytes()))
    }

    /// Returns the length of a file.
    ///
    /// # Errors
    /// If the path is absent.
    pub fn bytes(&self, path: impl AsRef<Path>) -> io::Result<u64> {
        Ok(self.node(path.as_ref())?.body.content.bytes())
    }

    /// Returns the user and the group that something belongs to.
    ///
    /// # Errors
    /// If the path is absent.
    pub fn owner(&self, path: impl AsRef<Path>) -> io::Result<(u32, u32)> {
        let meta = &self.node(path.as_ref())?.body.meta;
        Ok((meta.uid, meta.gid))
    }

    /// Returns the kind and the rights of something, as `st_mode`.
    ///
    /// # Errors
    /// If the path is absent.
    pub fn mode(&self, path: impl AsRef<Path>) -> io::Result<u32> {
        Ok(self.node(path.as_ref())?.body.meta.mode)
    }

    /// Gives something to a user and a group.
    ///
    /// # Errors
    /// If the path is absent.
    pub fn set_owner(&mut self, path: impl AsRef<Path>, uid: u32, gid: u32) -> io::Result<()> {
        let meta = &mut self.node_mut(path.as_ref())?.body.meta;
        (meta.uid, meta.gid) = (uid, gid);
        Ok(())
    }

    /// Sets the rights of something, as `chmod`.
    ///
    /// # Errors
    /// If the path is absent.
    pub fn set_mode(&mut self, path: impl AsRef<Path>, rights: u32) -> io::Result<()> {
        let meta = &mut self.node_mut(path.as_ref())?.body.meta;
        meta.mode = meta.mode & libc::S_IFMT | rights & 0o7777;
        Ok(())
    }

    /// Makes a directory of mode 0755.
    ///
    /// # Errors
    /// If the directory above is absent, or the name is taken.
    pub fn make_dir(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        self.make(path.as_ref(), libc::S_IFDIR | 0o755).map(drop)
    }

    /// Writes a file as a whole. A new one is that of user 0, with mode 0644.
    ///
    /// # Errors
    /// If the directory above is absent.
    pub fn write(&mut self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        if !self.exists(path) {
            self.make(path, libc::S_IFREG | 0o644)?;
        }
        let content = Arc::make_mut(&mut self.node_mut(path)?.body.content);
        content.set_bytes(0);
        content.write(0, bytes);
        Ok(())
    }

    /// Flips a bit of a file.
    ///
    /// # Shape
    /// Counted from the lowest bit of the first byte.
    ///
    /// # Errors
    /// If the path is absent, or the file shorter.
    pub fn flip_bit(&mut self, path: impl AsRef<Path>, bit: u64) -> io::Result<()> {
        let content = Arc::make_mut(&mut self.node_mut(path.as_ref())?.body.content);
        let mut byte = content.read(bit / 8, 1);
        let Some(first) = byte.first_mut() else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        *first ^= 1 << (bit % 8);
        content.write(bit / 8, &byte);
        Ok(())
    }

    /// Removes a name, and everything below it.
    ///
    /// # Errors
    /// If the path is absent.
    pub fn remove(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        self.0.find(path)?;
        let (above, name) = split(path)?;
        Arc::make_mut(&mut self.node_mut(above)?.entries).remove(name);
        let tree = Arc::unwrap_or_clone(Arc::clone(&self.0));
        *self = Self::of(tree);
        Ok(())
    }

    /// Returns a hash of everything on it except times: names, kinds, rights, owners, attributes and bytes.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&length(bytes).to_le_bytes()).update(bytes);
        };
        let mut visit = |path: &Path, ino: Ino| {
            let Some(node) = self.0.nodes.get(&ino) else {
                return;
            };
            let Meta {
                mode,
                uid,
                gid,
                device,
                ..
            } = &node.body.meta;
            add(path.as_os_str().as_bytes());
            let numbers = [*mode, *uid, *gid, *device].map(u32::to_le_bytes);
            add(&numbers.concat());
            add(&ino.to_le_bytes());
            add(&node.body.content.read(0, node.body.content.bytes()));
            add(node.body.target.as_bytes());
            for (name, value) in &*node.body.attributes {
                add(name.as_bytes());
                add(value);
            }
        };
        visit(Path::new("/"), ROOT);
        self.0.walk(ROOT, &mut visit, &mut PathBuf::new());
        *hasher.finalize().as_bytes()
    }

    fn make(&mut self, path: &Path, mode: u32) -> io::Result<Ino> {
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (above, name) = split(path)?;
        let above = self.0.find(above)?;
        let tree = Arc::make_mut(&mut self.0);
        let ino = tree.next_ino;
        tree.next_ino += 1;
        tree.nodes.insert(ino, Node::new(mode));
        let above = tree.nodes.get_mut(&above).ok_or(io::ErrorKind::NotFound)?;
        Arc::make_mut(&mut above.entries).insert(name.to_owned(), ino);
        Ok(ino)
    }

    fn node(&self, path: &Path) -> io::Result<&Node> {
        let ino = self.0.find(path)?;
        Ok(self.0.nodes.get(&ino).ok_or(io::ErrorKind::NotFound)?)
    }

    fn node_mut(&mut self, path: &Path) -> io::Result<&mut Node> {
        let ino = self.0.find(path)?;
        let tree = Arc::make_mut(&mut self.0);
        Ok(tree.nodes.get_mut(&ino).ok_or(io::ErrorKind::NotFound)?)
    }
}

impl Tree {
    /// Counts the links of what the root reaches, as `st_nlink`.
    pub fn links(&self) -> BTreeMap<Ino, u32> {
        let mut links = BTreeMap::from([(ROOT, 2)]);
        let mut open = vec![ROOT];
        while let Some(directory) = open.pop() {
            let entries = self.nodes.get(&directory).map(|node| &node.entries);
            for ino in entries.into_iter().flat_map(|entries| entries.values()) {
                let Some(node) = self.nodes.get(ino) else {
                    continue;
                };
                if node.body.is(libc::S_IFDIR) {
                    links.insert(*ino, 2);
                    *links.entry(directory).or_default() += 1;
                    open.push(*ino);
                } else {
                    *links.entry(*ino).or_default() += 1;
                }
            }
        }
        links
    }

    fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut ino = ROOT;
        for part in path.components() {
            match part {
                Component::Normal(name) => {
                    let node = self.nodes.get(&ino).ok_or(io::ErrorKind::NotFound)?;
                    ino = *node.entries.get(name).ok_or(io::ErrorKind::NotFound)?;
                }
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            }
        }
        Ok(ino)
    }

    fn walk(&self, ino: Ino, visit: &mut impl FnMut(&Path, Ino), path: &mut PathBuf) {
        let Some(node) = self.nodes.get(&ino) else {
            return;
        };
        for (name, ino) in &*node.entries {
            path.push(name);
            visit(path, *ino);
            self.walk(*ino, visit, path);
            path.pop();
        }
    }
}

impl Node {
    fn new(mode: u32) -> Self {
        Self {
            body: Body::new(Meta::new(mode, (0, 0), 0), &OsString::new()),
            entries: Entries::default(),
        }
    }
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((path.parent().unwrap_or(Path::new("")), name))
}
