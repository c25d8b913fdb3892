//! Access control lists as `systemd-tmpfiles` sets them, so that no tool must be installed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};

use super::accounts::Accounts;
use super::error::{Context, HarnessError, Result};

// The kernel's numbers of an entry's kind, in the order that it requires.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJECT: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// The id of entries without a user or group.
const NOBODY: u32 = u32::MAX;
/// The version of the attribute.
const VERSION: u32 = 2;

/// The entries of one `a+` line: (kind, id) and rights, for the folder itself and for new files in it.
type Entries = BTreeMap<(u16, u32), u16>;

/// Adds the entries of an `a+` line to a folder that has no list yet.
///
/// # Errors
/// If an entry is unknown, or the file system has no such lists.
pub(super) fn add(path: &Path, text: &str, accounts: &Accounts) -> Result<()> {
    let (mut access, mut default) = (Entries::new(), Entries::new());
    for one in text.split(',') {
        let (list, one) = match one.strip_prefix("default:") {
            Some(rest) => (&mut default, rest),
            None => (&mut access, one),
        };
        let fields: Vec<&str> = one.split(':').collect();
        let (key, rights) = match fields[..] {
            ["user", "", rights] => ((OWNER, NOBODY), rights),
            ["group", "", rights] => ((GROUP_OBJECT, NOBODY), rights),
            ["other", "", rights] => ((OTHER, NOBODY), rights),
            ["user", name, rights] => ((USER, accounts.id(name)?), rights),
            ["group", name, rights] => ((GROUP, accounts.id(name)?), rights),
            _ => return Err(HarnessError::Wrong(format!("{one} is no entry"))),
        };
        let bits = [('r', 4), ('w', 2), ('x', 1)];
        let bits = bits.iter().filter(|(letter, _)| rights.contains(*letter));
        list.insert(key, bits.map(|(_, bit)| bit).sum());
    }
    for (attribute, list) in [
        ("system.posix_acl_access", access),
        ("system.posix_acl_default", default),
    ] {
        if !list.is_empty() {
            set(path, attribute, list)?;
        }
    }
    Ok(())
}

/// Absent entries are taken from the folder's mode. The mask is the union of the rights of all groups and named users.
fn set(path: &Path, attribute: &str, mut list: Entries) -> Result<()> {
    let mode = fs::metadata(path).context("look at", path)?.mode();
    for (kind, shift) in [(OWNER, 6), (GROUP_OBJECT, 3), (OTHER, 0)] {
        let rights = u16::try_from((mode >> shift) & 7).unwrap_or(0);
        list.entry((kind, NOBODY)).or_insert(rights);
    }
    let classed = list
        .iter()
        .filter(|((kind, _), _)| matches!(*kind, USER | GROUP_OBJECT | GROUP));
    let mask = classed.fold(0, |mask, (_, rights)| mask | rights);
    list.insert((MASK, NOBODY), mask);
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for ((kind, id), rights) in list {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    setxattr(path, attribute, &bytes, XattrFlags::empty())
        .map_err(std::io::Error::from)
        .context("set the access list of", path)
}
