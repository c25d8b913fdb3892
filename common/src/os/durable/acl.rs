//! Access control lists: a file that its owner and one other user may read, a folder that some users may enter (acl(5)).

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
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
const ENTER: u16 = 1;

/// The id of an entry that needs none.
const NOBODY: u32 = u32::MAX;

/// Who may list and enter a folder besides its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The folder's group.
    Group,
    /// These users, whatever their groups.
    Users(BTreeSet<u32>),
}

/// Opens a folder to these readers and to nobody else besides its owner. What is inside is not changed: nobody reaches it but
/// through the folder.
///
/// # Errors
/// Any error of the system, such as [`io::ErrorKind::Unsupported`] if the file system has no access control lists, or no room
/// for one of so many users. The folder is then its owner's alone.
pub fn share_folder(folder: &Path, readers: &Readers) -> io::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(folder)?;
    let (group, users, without_list) = match readers {
        Readers::Group => (READ | ENTER, None, 0o750),
        Readers::Users(users) if users.is_empty() => (0, None, 0o700),
        Readers::Users(users) => (0, Some(users), 0o700),
    };
    let mut entries = vec![(OWNER, READ | WRITE | ENTER, NOBODY)];
    let users = users.into_iter().flatten();
    entries.extend(users.map(|uid| (USER, READ | ENTER, *uid)));
    let has_users = entries.len() > 1;
    entries.push((GROUP, group, NOBODY));
    if has_users {
        entries.push((MASK, READ | ENTER, NOBODY));
    }
    entries.push((OTHER, 0, NOBODY));
    // A list without users is a mode, and the kernel stores it as one: the users of an older list are gone with it.
    match fsetxattr(
        &folder,
        ATTRIBUTE,
        &attribute(&entries),
        XattrFlags::empty(),
    ) {
        Ok(()) => Ok(()),
        Err(errno) => {
            folder.set_permissions(Permissions::from_mode(without_list))?;
            let error = io::Error::from(errno);
            match error.kind() {
                io::ErrorKind::Unsupported if !has_users => Ok(()),
                _ => Err(error),
            }
        }
    }
}

/// Lets the owner read and write a file, one other user read it, and nobody else do either.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if the file system has no access control lists; any other error of the system.
pub(super) fn set_owner_and_reader(file: &File, reader_uid: u32) -> io::Result<()> {
    let list = attribute(&[
        (OWNER, READ | WRITE, NOBODY),
        (USER, READ, reader_uid),
        (GROUP, 0, NOBODY),
        (MASK, READ, NOBODY),
        (OTHER, 0, NOBODY),
    ]);
    Ok(fsetxattr(file, ATTRIBUTE, &list, XattrFlags::empty())?)
}

/// Returns the version, u32, and for each entry its kind, u16, its rights, u16, and its id, u32; little-endian.
fn attribute(entries: &[(u16, u16, u32)]) -> Vec<u8> {
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

    /// The kinds and rights of a folder's list, and its mode; no kinds if the mode says everything.
    fn shared(folder: &Path, readers: &Readers) -> (Vec<(u8, u8)>, u32) {
        share_folder(folder, readers).unwrap();
        let mut list = [0; 256];
        let length = rustix::fs::getxattr(folder, ATTRIBUTE, &mut list).unwrap_or(4);
        let entries = list[4..length].chunks(8);
        let mode = folder.metadata().unwrap().mode() & 0o7777;
        (entries.map(|entry| (entry[0], entry[2])).collect(), mode)
    }

    #[test]
    fn a_folder_is_its_groups_or_that_of_some_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let users = |uids: &[u32]| Readers::Users(uids.iter().copied().collect());
        assert_eq!(shared(path, &Readers::Group), (vec![], 0o750));
        let listed = vec![(1, 7), (2, 5), (2, 5), (4, 0), (16, 5), (32, 0)];
        assert_eq!(shared(path, &users(&[65_533, 65_534])), (listed, 0o750));
        let listed = vec![(1, 7), (2, 5), (4, 0), (16, 5), (32, 0)];
        assert_eq!(shared(path, &users(&[65_533])), (listed, 0o750));
        // Nobody is left of the list before.
        assert_eq!(shared(path, &users(&[])), (vec![], 0o700));
        assert_eq!(shared(path, &users(&[65_533])).0.len(), 5);
        assert_eq!(shared(path, &Readers::Group), (vec![], 0o750));
    }

    #[test]
    fn a_link_is_not_followed_and_a_file_is_not_shared() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, link) = (folder.path().join("inside"), folder.path().join("link"));
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink(&inside, &link).unwrap();
        let before = inside.metadata().unwrap().mode();
        assert!(share_folder(&link, &Readers::Users(BTreeSet::new())).is_err());
        assert_eq!(inside.metadata().unwrap().mode(), before);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(share_folder(&file, &Readers::Group).is_err());
    }

    #[test]
    fn a_file_system_without_lists_is_told_from_other_errors() {
        let file = File::open("/proc/self/comm").unwrap();
        let error = set_owner_and_reader(&file, 65_534).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
