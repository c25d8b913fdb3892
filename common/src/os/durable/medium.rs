//! What the file system does with the blocks of a file that is overwritten.

use std::io;
use std::path::Path;

/// File systems that write changed data to other blocks and leave the old ones as they are, by their number of `statfs(2)`.
const COPYING: &[(u64, &str)] = &[
    (0x9123_683E, "btrfs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0x3434, "nilfs2"),
    (0x2405_1905, "ubifs"),
    (0x72B6, "jffs2"),
];

/// Returns the name of the file system of a path, if it copies on write: what is overwritten there stays on the disk.
///
/// # Errors
/// If the file system does not answer.
pub fn copies_on_write(path: &Path) -> io::Result<Option<&'static str>> {
    let number = rustix::fs::statfs(path)?.f_type;
    Ok(u64::try_from(number).ok().and_then(name_of))
}

/// Returns the text of the alarm `copies-on-write`.
pub fn copies_on_write_text(path: &Path, name: &str) -> String {
    format!("{} is on {name}, which copies on write", path.display())
}

fn name_of(number: u64) -> Option<&'static str> {
    // The number is 32 bits, and some systems extend its sign.
    let number = number & 0xFFFF_FFFF;
    COPYING
        .iter()
        .find_map(|(magic, name)| (*magic == number).then_some(*name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn file_systems_that_copy_are_known_and_others_are_not() {
        assert_eq!(name_of(0x9123_683E), Some("btrfs"));
        assert_eq!(name_of(0xFFFF_FFFF_9123_683E), Some("btrfs"));
        for in_place in [0xEF53, 0x5846_5342, 0x0102_1994] {
            assert_eq!(name_of(in_place), None, "ext4, xfs, tmpfs");
        }
        assert_eq!(copies_on_write(Path::new("/proc")).unwrap(), None);
        assert!(copies_on_write(Path::new("/absent")).is_err());
    }
}
