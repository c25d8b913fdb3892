//! The content of an inode apart from names, and its changes that a power cut may lose.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::SystemTime;

use nix::libc;

use super::content::{Content, length};

/// The access control list, which is kept apart from the mode's bits by its mask.
pub(super) const ACCESS_LIST: &str = "system.posix_acl_access";

/// Attributes of an inode.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    /// Kind and rights, as `st_mode`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub device: u32,
    pub read_at: SystemTime,
    pub modified_at: SystemTime,
    pub changed_at: SystemTime,
}

/// The content of an inode apart from names.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub meta: Meta,
    pub attributes: Arc<BTreeMap<OsString, Vec<u8>>>,
    pub content: Arc<Content>,
    pub target: OsString,
}

impl Body {
    /// Returns whether it is of this kind, such as `S_IFDIR`.
    pub fn is(&self, kind: u32) -> bool {
        self.meta.mode & libc::S_IFMT == kind
    }

    /// Returns whether its directory hands its group down.
    pub fn hands_down(&self) -> bool {
        self.meta.mode & libc::S_ISGID != 0
    }

    /// Does a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => {
                Arc::make_mut(&mut self.content).write(*offset, bytes);
            }
            Change::Length(bytes) => Arc::make_mut(&mut self.content).set_bytes(*bytes),
            Change::Reserve { offset, bytes } => {
                Arc::make_mut(&mut self.content).reserve(*offset, *bytes);
            }
            Change::Punch { offset, bytes } => {
                Arc::make_mut(&mut self.content).punch(*offset, *bytes);
            }
            Change::Meta(meta) => self.meta = meta.clone(),
            Change::Attribute { name, value } => {
                let attributes = Arc::make_mut(&mut self.attributes);
                match value {
                    Some(value) => attributes.insert(name.clone(), value.clone()),
                    None => attributes.remove(name),
                };
            }
        }
    }
}

impl Body {
    /// An empty one.
    pub fn new(meta: Meta, target: &OsStr) -> Self {
        Self {
            meta,
            attributes: Arc::default(),
            content: Arc::new(Content::default()),
            target: target.to_owned(),
        }
    }
}

impl Meta {
    /// Those of something made now.
    pub fn new(mode: u32, (uid, gid): (u32, u32), device: u32) -> Self {
        let now = SystemTime::now();
        Self {
            mode,
            uid,
            gid,
            device,
            read_at: now,
            modified_at: now,
            changed_at: now,
        }
    }
}

/// One change of an inode.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Length(u64),
    Reserve {
        offset: u64,
        bytes: u64,
    },
    Punch {
        offset: u64,
        bytes: u64,
    },
    Meta(Meta),
    Attribute {
        name: OsString,
        value: Option<Vec<u8>>,
    },
}

impl Change {
    /// Returns whether a sync of the data alone makes it durable.
    pub fn is_data(&self) -> bool {
        !matches!(self, Self::Meta(_) | Self::Attribute { .. })
    }

    /// Returns the length that the file has at least with it.
    pub fn end(&self) -> u64 {
        match self {
            Self::Write { offset, bytes } => offset + length(bytes),
            _ => 0,
        }
    }
}

/// What a list says of the mode: its rights, and the list itself unless the mode says everything. None if it is invalid.
pub(super) fn split_list(list: &[u8]) -> Option<(u32, Option<Vec<u8>>)> {
    let mut rights = 0;
    let mut has_mask = false;
    for entry in entries(list)? {
        let (tag, right) = (entry.0, u32::from(entry.1));
        match tag {
            OWNER => rights |= right << 6,
            GROUP if !has_mask => rights |= right << 3,
            MASK => {
                rights = rights & !0o70 | right << 3;
                has_mask = true;
            }
            OTHER => rights |= right,
            _ => {}
        }
    }
    Some((rights, has_mask.then(|| list.to_vec())))
}

/// The list of a file whose mode is set.
pub(super) fn list_with_mode(list: &[u8], mode: u32) -> Vec<u8> {
    let mut list = list.to_vec();
    for entry in list.iter_mut().skip(4).collect::<Vec<_>>().chunks_mut(8) {
        let shift = match u16::from(*entry[0]) {
            OWNER => 6,
            MASK => 3,
            OTHER => 0,
            _ => continue,
        };
        *entry[2] = u8::try_from(mode >> shift & 7).unwrap_or(0);
    }
    list
}

const OWNER: u16 = 0x01;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The kind and the rights of each entry.
fn entries(list: &[u8]) -> Option<impl Iterator<Item = (u16, u16)>> {
    let (version, entries) = list.split_first_chunk::<4>()?;
    let is_valid = *version == 2_u32.to_le_bytes() && entries.len() % 8 == 0;
    let number = |entry: &[u8], at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
    is_valid.then(|| {
        entries
            .chunks(8)
            .map(move |entry| (number(entry, 0), number(entry, 2)))
    })
}

/// Returns whether a name is that of the access control list.
pub(super) fn is_access_list(name: &OsStr) -> bool {
    name == ACCESS_LIST
}
