//! The trust list on disk, with its administrators' signatures beside it. A new list takes the old one's place as a whole
//! folder, after the log has named it: the log's line is the commit point.
//!
//! | the log names | in `trust/` | in `trust.next/` | becomes |
//! |---|---|---|---|
//! | a list | this list | anything | in force; `trust.next/` is deleted |
//! | a list | another, or nothing that can be read | this list | exchanged, and in force |
//! | a list | another, or nothing that can be read | neither this list | an alarm, until a list is imported |
//! | none | nothing | anything | `trust.next/` is deleted |

mod signed_list;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use signed_list::check_succession;
pub use signed_list::{
    Held, LIST_FILE, SignedList, TrustStoreError, VerifiedList, read_signatures, signature_name,
    signed_files,
};

use crate::ids::Sha256Digest;
use crate::limits;
use crate::os::durable::{self, Access};
use crate::sshsig::PublicKey;
use crate::trust::TrustList;
use signed_list::sha256_of;

/// The trust list of a host: only the role whose log names it writes here.
#[derive(Debug)]
pub struct TrustStore {
    root: PathBuf,
    tmp: PathBuf,
}

impl TrustStore {
    /// Takes the state folder of the host and the role's folder below its `tmp/`.
    pub fn new(root: &Path, tmp: PathBuf) -> Self {
        Self {
            root: root.to_owned(),
            tmp,
        }
    }

    /// Where the list in force is.
    pub fn folder(&self) -> PathBuf {
        self.root.join("trust")
    }

    fn list(&self) -> PathBuf {
        self.folder().join(LIST_FILE)
    }

    fn next(&self) -> PathBuf {
        self.root.join("trust.next")
    }

    /// Writes a list and its signatures where [`TrustStore::put_into_force`] finds them, durably. Nothing changes yet.
    ///
    /// # Errors
    /// The system's.
    pub fn stage(&self, verified: &VerifiedList) -> io::Result<()> {
        let next = self.next();
        durable::remove_any(&next)?;
        durable::make_dir(&next, 0o755)?;
        for (name, bytes) in verified.signed().files() {
            durable::write_new(&self.tmp, &next.join(name), &bytes, Access::Everyone)?;
        }
        durable::sync_dir(&self.root)
    }

    /// Puts the staged list into the place of the old one. The log must have named it.
    ///
    /// # Errors
    /// The system's.
    pub fn put_into_force(&self) -> io::Result<()> {
        durable::exchange(&self.next(), &self.folder())?;
        durable::sync_dir(&self.root)?;
        self.discard_staged()
    }

    /// Deletes what is beside the list in force.
    ///
    /// # Errors
    /// If something stays.
    pub(crate) fn discard_staged(&self) -> io::Result<()> {
        durable::remove_any(&self.next())?;
        // Where the file system cannot exchange folders, the old one was put away.
        durable::finish_erasing(&self.root).map(drop)
    }

    /// As `discard_staged`, at a start: what cannot be deleted is not in force, and keeps no role from working.
    pub fn discard_what_can_be(&self) {
        if let Err(error) = self.discard_staged() {
            tracing::warn!(%error, "a trust list that is not in force could not be deleted");
        }
    }

    /// Reads the list that the log names at start-up. An import that a crash cut short after its line is finished. A list
    /// that is damaged or gone is returned as the text of its alarm.
    ///
    /// # Errors
    /// The system's.
    pub fn load(
        &self,
        administrators: &[PublicKey],
        is_named: impl Fn(&SignedList) -> bool,
    ) -> io::Result<Result<VerifiedList, String>> {
        let named = |list: &Path| SignedList::read(list).ok().filter(&is_named);
        let mut held = named(&self.list());
        if held.is_none() && named(&self.next().join(LIST_FILE)).is_some() {
            self.put_into_force()?;
            held = named(&self.list());
        }
        self.discard_what_can_be();
        let verified = match held {
            Some(signed) => signed
                .verify(administrators)
                .map_err(|error| error.to_string()),
            None => Err("its hash differs, or it cannot be read".to_owned()),
        };
        Ok(verified.map_err(|fault| {
            format!(
                "{} or a signature beside it is not what was imported last ({fault})",
                self.list().display()
            )
        }))
    }

    /// Reads the list in force and its hash, for a command that only shows it.
    ///
    /// # Errors
    /// [`TrustStoreError`] when it cannot be read.
    pub fn show(&self) -> Result<Option<(Sha256Digest, TrustList)>, TrustStoreError> {
        let bytes = match durable::read_bounded(&self.list(), limits::TRUST_LIST_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        Ok(Some((sha256_of(&bytes), TrustList::parse(&bytes)?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::signed_list::signature_path;
    use super::signed_list::tests::{administrators, signed};
    use super::*;
    use crate::host::folders::SenderState;

    fn verified(version: u32) -> VerifiedList {
        signed(version).verify(&administrators()).unwrap()
    }

    struct Site {
        _folder: tempfile::TempDir,
        state: SenderState,
        store: TrustStore,
    }

    impl Site {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let state = SenderState::new(folder.path().join("state"));
            state.create_all().unwrap();
            let store = state.trust_store();
            Self {
                _folder: folder,
                state,
                store,
            }
        }

        fn import(&self, version: u32) {
            self.store.stage(&verified(version)).unwrap();
            self.store.put_into_force().unwrap();
        }

        /// What start-up makes of the state, when the log names this version.
        fn load(&self, version: u32) -> Result<u32, String> {
            let named = signed(version).sha256();
            let is_named = |list: &SignedList| list.sha256() == named;
            let loaded = self.store.load(&administrators(), is_named).unwrap();
            assert!(!self.store.next().exists());
            loaded.map(|verified| verified.list.version())
        }
    }

    #[test]
    fn a_list_comes_into_force_with_its_signatures_and_everybody_may_read_it() {
        let site = Site::new();
        assert!(site.store.show().unwrap().is_none());
        site.import(7);
        site.import(8);
        let mut names: Vec<_> = fs::read_dir(site.store.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["trust.toml", "trust.toml.1.sig", "trust.toml.2.sig"]
        );
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&site.store.folder()), 0o755);
        assert_eq!(mode(&site.store.list()), 0o644);
        let (sha256, list) = site.store.show().unwrap().unwrap();
        assert_eq!((sha256, list.version()), (signed(8).sha256(), 8));
        assert_eq!(site.load(8), Ok(8));
    }

    #[test]
    fn an_import_ends_as_the_log_says_wherever_a_kill_cut_it_short() {
        let site = Site::new();
        site.import(7);
        // Staged, whole or not, and not in the log.
        site.store.stage(&verified(8)).unwrap();
        assert_eq!(site.load(7), Ok(7));
        fs::create_dir(site.store.next()).unwrap();
        assert_eq!(site.load(7), Ok(7));
        // In the log, and not exchanged.
        site.store.stage(&verified(8)).unwrap();
        assert_eq!(site.load(8), Ok(8));
        assert_eq!(site.load(8), Ok(8));
        // Exchanged, and the old list is still beside it.
        site.store.stage(&verified(9)).unwrap();
        durable::exchange(&site.store.next(), &site.store.folder()).unwrap();
        assert_eq!(site.load(9), Ok(9));
        // Where folders cannot be exchanged, between the two renames.
        site.store.stage(&verified(10)).unwrap();
        let away = durable::put_away(&site.store.folder(), site.state.root()).unwrap();
        site.state.create_all().unwrap();
        assert_eq!(site.load(10), Ok(10));
        assert!(!away.unwrap().exists());
        // Staged by the first import, which the log does not know.
        site.store.stage(&verified(11)).unwrap();
        site.store.discard_staged().unwrap();
        assert!(!site.store.next().exists());
    }

    #[test]
    fn a_list_that_is_not_the_one_of_the_log_is_an_alarm() {
        let site = Site::new();
        assert!(site.load(7).unwrap_err().contains("trust.toml or a sig"));
        site.import(7);
        site.load(8).unwrap_err();
        site.store.stage(&verified(9)).unwrap();
        site.load(8).unwrap_err();
        assert_eq!(site.load(7), Ok(7));
        fs::remove_file(signature_path(&site.store.list(), 2)).unwrap();
        assert!(site.load(7).unwrap_err().contains("1 of the two"));
        fs::write(site.store.list(), "version = ").unwrap();
        site.load(7).unwrap_err();
        assert!(matches!(site.store.show(), Err(TrustStoreError::List(_))));
    }
}
