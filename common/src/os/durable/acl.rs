//! Access control lists: a file that its owner and one other user may read (acl(5)).

use std::fs::File;
use std::io;

use rustix::fs::{XattrFlags, fsetxattr};

const ATTRIBUTE: &str = "system.posix_acl_access";

/// The version of the attribute.
const VERSION: u32 = 2;

// The kernel's numbers of an entry's kind, in the order that it requires.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

const READ: u16 = 4;
const WRITE: u16 = 2;

/// The id of an entry that needs none.
const NOBODY: u32 = u32::MAX;

/// Lets the owner read and write a file, one other user read it, and nobody else do either.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if the file system has no access control lists; any other error of the system.
pub(super) fn set_owner_and_reader(file: &File, reader_uid: u32) -> io::Result<()> {
    let list = attribute([
        (OWNER, READ | WRITE, NOBODY),
        (USER, READ, reader_uid),
        (GROUP, 0, NOBODY),
        (MASK, READ, NOBODY),
        (OTHER, 0, NOBODY),
    ]);
    Ok(fsetxattr(file, ATTRIBUTE, &list, XattrFlags::empty())?)
}

/// The version, u32, and for each entry its kind, u16, its rights, u16, and its id, u32; little-endian.
fn attribute(entries: [(u16, u16, u32); 5]) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (kind, rights, id) in entries {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn one_user_is_added_to_the_owner_and_nobody_else() {
        let file = tempfile::tempfile().unwrap();
        set_owner_and_reader(&file, 65_534).unwrap();
        let mut list = [0; 64];
        let length = rustix::fs::fgetxattr(&file, ATTRIBUTE, &mut list).unwrap();
        assert_eq!(length, 4 + 5 * 8);
        let entries: Vec<_> = list[4..length].chunks(8).map(|entry| entry[2]).collect();
        assert_eq!(entries, [6, 4, 0, 4, 0]);
        // Where a list is, the mode's group bits are its mask.
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_system_without_lists_is_told_from_other_errors() {
        let file = File::open("/proc/self/comm").unwrap();
        let error = set_owner_and_reader(&file, 65_534).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
