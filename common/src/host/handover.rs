//! Link keys on their way from one role of a host to the other, each a user of its own.
//!
//! Gate and release, which know bundles, put a key into `keys/handover/`; transmit and receive,
//! which use it, take it into `keys/link/`, where nobody else reads it. A key is in one of three
//! states, and a crash leaves it in one of them:
//!
//! | in `keys/handover/` | in `keys/link/` | is |
//! |---|---|---|
//! | `.N.new` | – | placed: its bundle may not be in the log yet |
//! | `N.key` | – | handed over |
//! | `N.key` | `N.key` | being taken; taken once more, it is the same |
//! | – | `N.key` | taken |
//!
//! `ended` names the bundles whose keys are over, so that a key need not be deleted by a role that
//! cannot reach it.

use crate::limits;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::ids::BundleId;
use crate::os::durable::{
    self, Access, StagedFile, Sync, erase, finish_erasing, read_bounded, read_handed_key,
    read_secret_file, remove_any, rename_new, replace, sync_dir,
};

/// Both ends of a host's handover.
#[derive(Clone, Debug)]
pub struct Handover {
    folder: PathBuf,
    link_keys: PathBuf,
}

impl Handover {
    /// Takes the two folders of a host.
    pub fn new(folder: PathBuf, link_keys: PathBuf) -> Self {
        Self { folder, link_keys }
    }

    /// Writes a key durably under a name that nobody reads before [`Handover::give`].
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn place(&self, bundle: BundleId, key: &[u8]) -> io::Result<()> {
        let path = self.placed(bundle);
        erase(&path)?;
        let name = path.file_name().unwrap_or_default();
        let mut staged = StagedFile::create_named(&self.folder, name)?;
        // Whoever takes it overwrites it.
        staged.set_access(Access::GroupWrite)?;
        staged.write_all(key)?;
        let _in_place = staged.finish()?;
        sync_dir(&self.folder)
    }

    /// Hands a placed key over: its bundle is in the log. Done again, it changes nothing.
    ///
    /// # Errors
    /// If the rename or the sync fails, or what has the key's name stays.
    pub fn give(&self, bundle: BundleId) -> io::Result<()> {
        let (placed, given) = (self.placed(bundle), self.given(bundle));
        let renamed = match rename_new(&placed, &given) {
            // Only the role that places keys gives them this name: what has it beside a placed key was planted.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && fs::symlink_metadata(&placed).is_ok() =>
            {
                erase(&given)?;
                rename_new(&placed, &given)
            }
            renamed => renamed,
        };
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_dir(&self.folder),
        }
    }

    /// Removes what was placed and never given: the log does not know its bundle.
    ///
    /// # Errors
    /// If something stays.
    pub fn clear_placed(&self) -> io::Result<()> {
        finish_erasing(&self.folder)?;
        let mut paths = self.placed_paths()?.into_iter();
        paths.try_for_each(|path| erase(&path).map(drop))
    }

    /// Returns the keys that were placed and not given.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn placed_paths(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in durable::list(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_placed = |name: &str| name.starts_with('.') && name.ends_with(".new");
            if name.to_str().is_some_and(is_placed) {
                paths.push(entry.path());
            }
        }
        Ok(paths)
    }

    /// Takes back a key that the other role has not taken.
    ///
    /// # Errors
    /// If it stays.
    pub fn take_back(&self, bundle: BundleId) -> io::Result<()> {
        erase(&self.placed(bundle))?;
        erase(&self.given(bundle)).map(drop)
    }

    /// The bundles whose keys are handed over and not taken.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn given_bundles(&self) -> io::Result<BTreeSet<BundleId>> {
        bundles_in(&self.folder)
    }

    /// Says which keys are over. The list is whole each time, and written only if it differs.
    /// Whatever else stands there is replaced: this is its only writer, who need not read it.
    ///
    /// # Errors
    /// If it cannot be made durable, or what stands in its place stays.
    pub fn write_ended(&self, tmp: &Path, ended: &BTreeSet<BundleId>) -> io::Result<()> {
        if self.ended().is_ok_and(|stands| stands == *ended) {
            return Ok(());
        }
        let text: String = ended.iter().map(|bundle| format!("{bundle}\n")).collect();
        let path = self.ended_path();
        // A file takes the place of anything but a folder.
        if fs::symlink_metadata(&path).is_ok_and(|stands| stands.is_dir())
            && let Err(error) = remove_any(&path)
            // It has lost its name even if something in it cannot be deleted.
            && fs::symlink_metadata(&path).is_ok()
        {
            return Err(error);
        }
        replace(tmp, &path, text.as_bytes(), Access::Group, Sync::Yes)
    }

    /// Takes every key that was handed over, durably, into a file of its own that nobody else
    /// reads; and erases those that are over. Done again after a crash anywhere, it ends the same.
    ///
    /// # Errors
    /// If a key cannot be read or written, or the handed-over one cannot be removed.
    pub fn take(&self, tmp: &Path) -> io::Result<()> {
        finish_erasing(&self.folder)?;
        finish_erasing(&self.link_keys)?;
        for bundle in self.given_bundles()? {
            let given = self.given(bundle);
            let key = match read_handed_key(&given, limits::LINK_KEY_FILE_BYTES_MAX) {
                // Taken back between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let taken = self.taken(bundle);
            let stands = read_secret_file(&taken, limits::LINK_KEY_FILE_BYTES_MAX);
            if !stands.is_ok_and(|stands| stands == key) {
                // Erased first: a file that is replaced leaves its bytes on the disk. The handed-over one is still here.
                erase(&taken)?;
                replace(tmp, &taken, &key, Access::Owner, Sync::Yes)?;
            }
            erase(&given)?;
        }
        for bundle in self.ended()? {
            erase(&self.taken(bundle))?;
        }
        Ok(())
    }

    /// Erases the taken keys of bundles before this one.
    ///
    /// # Errors
    /// If one stays.
    pub fn drop_older(&self, newest: BundleId) -> io::Result<()> {
        let bundles = bundles_in(&self.link_keys)?;
        let mut older = bundles.range(..newest);
        older.try_for_each(|bundle| erase(&self.taken(*bundle)).map(drop))
    }

    fn ended(&self) -> io::Result<BTreeSet<BundleId>> {
        let bytes = match read_bounded(&self.ended_path(), limits::LINK_KEY_TIMES_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other?,
        };
        let damaged = || {
            let text = format!(
                "{} is damaged: restart release",
                self.ended_path().display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let text = str::from_utf8(&bytes).map_err(|_| damaged())?;
        let bundles = text.lines().map(|line| line.parse().map_err(|_| damaged()));
        bundles.collect()
    }

    fn placed(&self, bundle: BundleId) -> PathBuf {
        self.folder.join(format!(".{bundle}.new"))
    }

    fn given(&self, bundle: BundleId) -> PathBuf {
        self.folder.join(format!("{bundle}.key"))
    }

    fn taken(&self, bundle: BundleId) -> PathBuf {
        self.link_keys.join(format!("{bundle}.key"))
    }

    fn ended_path(&self) -> PathBuf {
        self.folder.join("ended")
    }
}

fn bundles_in(folder: &Path) -> io::Result<BTreeSet<BundleId>> {
    let mut bundles = BTreeSet::new();
    for entry in durable::list(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".key"));
        bundles.extend(number.and_then(|number| number.parse::<BundleId>().ok()));
    }
    Ok(bundles)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::PermissionsExt as _;

    struct Site {
        root: tempfile::TempDir,
        handover: Handover,
    }

    impl Site {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for name in ["given", "taken", "tmp"] {
                fs::create_dir(root.path().join(name)).unwrap();
            }
            let handover = Handover::new(root.path().join("given"), root.path().join("taken"));
            Self { root, handover }
        }

        fn names(&self, folder: &str) -> Vec<String> {
            let entries = fs::read_dir(self.root.path().join(folder)).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        fn take(&self) {
            self.handover.take(&self.root.path().join("tmp")).unwrap();
        }

        fn end(&self, bundles: &[u32]) {
            let bundles = bundles.iter().map(|bundle| BundleId(*bundle)).collect();
            let tmp = self.root.path().join("tmp");
            self.handover.write_ended(&tmp, &bundles).unwrap();
        }
    }

    #[test]
    fn a_key_is_taken_once_it_is_given_and_then_nobody_else_reads_it() {
        let site = Site::new();
        site.handover.place(BundleId(1), b"key").unwrap();
        site.take();
        assert!(site.names("taken").is_empty(), "it was not given");
        site.handover.give(BundleId(1)).unwrap();
        let given = site.root.path().join("given/1.key");
        assert_eq!(fs::metadata(given).unwrap().mode() & 0o777, 0o660);
        site.take();
        assert_eq!(site.names("taken"), ["1.key"]);
        assert!(site.names("given").is_empty() && site.names("tmp").is_empty());
        let taken = site.root.path().join("taken/1.key");
        assert_eq!(fs::read(&taken).unwrap(), b"key");
        assert_eq!(fs::metadata(&taken).unwrap().mode() & 0o777, 0o600);
        // Done again, nothing changes.
        site.handover.give(BundleId(1)).unwrap();
        site.take();
        assert_eq!(fs::read(&taken).unwrap(), b"key");
    }

    #[test]
    fn a_given_key_that_others_may_read_is_not_taken() {
        let site = Site::new();
        site.handover.place(BundleId(1), b"key").unwrap();
        site.handover.give(BundleId(1)).unwrap();
        let given = site.root.path().join("given/1.key");
        let tmp = site.root.path().join("tmp");
        for mode in [0o644, 0o664, 0o666] {
            fs::set_permissions(&given, fs::Permissions::from_mode(mode)).unwrap();
            let error = site.handover.take(&tmp).unwrap_err();
            assert!(
                error.to_string().contains("set its mode to 0660"),
                "{error}"
            );
            assert!(site.names("taken").is_empty());
        }
        fs::set_permissions(&given, fs::Permissions::from_mode(0o660)).unwrap();
        site.take();
        assert_eq!(site.names("taken"), ["1.key"]);
    }

    #[test]
    fn a_taking_that_was_killed_before_the_removal_is_done_again() {
        let site = Site::new();
        site.handover.place(BundleId(7), b"key").unwrap();
        site.handover.give(BundleId(7)).unwrap();
        fs::write(site.root.path().join("taken/7.key"), b"ke").unwrap();
        site.take();
        let taken = site.root.path().join("taken/7.key");
        assert_eq!(fs::read(taken).unwrap(), b"key");
        assert!(site.names("given").is_empty());
    }

    #[test]
    fn what_was_placed_without_a_line_in_the_log_goes() {
        let site = Site::new();
        site.handover.place(BundleId(1), b"one").unwrap();
        site.handover.place(BundleId(2), b"two").unwrap();
        site.handover.give(BundleId(2)).unwrap();
        site.handover.clear_placed().unwrap();
        assert_eq!(site.names("given"), ["2.key"]);
        site.handover.take_back(BundleId(2)).unwrap();
        assert!(site.names("given").is_empty());
    }

    #[test]
    fn ended_keys_are_erased_whether_taken_or_not() {
        let site = Site::new();
        for bundle in 1..=3 {
            site.handover.place(BundleId(bundle), b"key").unwrap();
            site.handover.give(BundleId(bundle)).unwrap();
            if bundle < 3 {
                site.take();
            }
        }
        site.end(&[1, 3]);
        site.take();
        assert_eq!(site.names("taken"), ["2.key"]);
        assert_eq!(site.names("given"), ["ended"]);
        site.handover.drop_older(BundleId(2)).unwrap();
        assert_eq!(site.names("taken"), ["2.key"]);
        site.handover.drop_older(BundleId(3)).unwrap();
        assert!(site.names("taken").is_empty());
    }

    #[test]
    fn what_stands_in_the_place_of_the_list_or_of_a_key_is_replaced_by_its_writer() {
        let site = Site::new();
        let given = |name: &str| site.root.path().join("given").join(name);
        let rubbish = |path: &Path| fs::write(path, "1\nx\n").unwrap();
        let link = |path: &Path| std::os::unix::fs::symlink("/nowhere", path).unwrap();
        let folder = |path: &Path| fs::create_dir_all(path.join("below")).unwrap();
        let plants: [&dyn Fn(&Path); 3] = [&rubbish, &link, &folder];
        for (plant, bundle) in plants.iter().zip(1..) {
            let _ = fs::remove_file(given("ended"));
            plant(&given("ended"));
            site.end(&[7]);
            assert_eq!(fs::read(given("ended")).unwrap(), b"7\n");
            plant(&given(&format!("{bundle}.key")));
            site.handover.place(BundleId(bundle), b"key").unwrap();
            site.handover.give(BundleId(bundle)).unwrap();
            site.handover.give(BundleId(bundle)).unwrap();
            assert_eq!(fs::read(given(&format!("{bundle}.key"))).unwrap(), b"key");
            // Nobody's key is over: an empty list is written over rubbish too.
            fs::remove_file(given("ended")).unwrap();
            plant(&given("ended"));
            site.end(&[]);
            assert_eq!(fs::read(given("ended")).unwrap(), b"");
        }
    }

    #[test]
    fn a_damaged_list_of_ended_keys_stops_the_taking() {
        let site = Site::new();
        fs::write(site.root.path().join("given/ended"), "1\nx\n").unwrap();
        assert!(site.handover.take(&site.root.path().join("tmp")).is_err());
    }
}
