//! The trust list on disk, with its administrators' signatures beside it. A new list takes the old one's place as a whole
//! folder, after the log has named it: the log's line is the commit point.
//!
//! | the log names | in `trust/` | in `trust.next/` | becomes |
//! |---|---|---|---|
//! | a list | this list | anything | in force; `trust.next/` is deleted |
//! | a list | another, or nothing that can be read | this list | exchanged, and in force |
//! | a list | another, or nothing that can be read | neither this list | an alarm, until a list is imported |
//! | none | nothing | anything | `trust.next/` is deleted |

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::requests::TakenFile;
use crate::ids::{ChannelId, ContainerHash, Sha256Digest};
use crate::limits;
use crate::os::durable::{self, Access};
use crate::sshsig::{Namespace, PublicKey, Signature, SshsigError};
use crate::trust::{
    AdministratorError, IssuedAhead, SIGNATURES_NEEDED, TrustError, TrustList,
    verify_administrators,
};
use crate::units::UtcTime;

/// Name of the list in its folder and among the files of a request.
pub const LIST_FILE: &str = "trust.toml";

/// The most bytes of an armoured signature.
pub const SIGNATURE_FILE_BYTES_MAX: usize = 2 * limits::SIGNATURE_BYTES_MAX;

/// Why a trust list cannot be used.
#[derive(Debug, Error)]
pub enum TrustStoreError {
    /// The disk.
    #[error("a trust list or a signature cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// A request without a list.
    #[error("the request has no {LIST_FILE}")]
    Absent,
    /// A signature file is not one.
    #[error("signature {number} is refused: {source}")]
    Signature {
        /// The number in its file's name.
        number: usize,
        /// Why.
        source: SshsigError,
    },
    /// Too few administrators signed it, or one of them is a person of it.
    #[error(transparent)]
    Administrators(#[from] AdministratorError),
    /// It is not a list.
    #[error(transparent)]
    List(#[from] TrustError),
    /// It is for another channel.
    #[error("the trust list is for channel {found}, this host is of channel {expected}")]
    Channel {
        /// The list's channel.
        found: ChannelId,
        /// This host's.
        expected: ChannelId,
    },
    /// It is the list in force.
    #[error("trust list version {version} is in force already; nothing was changed")]
    InForce {
        /// Its version.
        version: u32,
    },
    /// Versions only rise.
    #[error(
        "the trust list has version {offered}, version {held} is in force; raise the version and sign again"
    )]
    Version {
        /// The offered version.
        offered: u32,
        /// The version in force.
        held: u32,
    },
    /// Issued in the future.
    #[error(transparent)]
    Issued(#[from] IssuedAhead),
}

impl TrustStoreError {
    /// One word for the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => "not-readable",
                io::ErrorKind::ResourceBusy => "changed",
                _ => "system",
            },
            Self::Absent => "files",
            Self::Signature { .. } => "signature",
            Self::Administrators(_) | Self::List(_) => "trust",
            Self::Channel { .. } => "foreign-channel",
            Self::InForce { .. } | Self::Version { .. } => "trust-rollback",
            Self::Issued(_) => "issued-ahead",
        }
    }

    /// Tells whether the system failed, so that nothing is wrong with the list.
    pub fn is_failure(&self) -> bool {
        self.code() == "system"
    }
}

/// A list as it was brought, with its signatures. Nothing is verified.
#[derive(Debug, Clone)]
pub struct SignedList {
    bytes: Vec<u8>,
    signatures: Vec<Signature>,
}

/// What the log says of the list in force, compared with a list that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its version.
    pub version: u32,
    /// Whether the offered list is this one.
    pub is_offered: bool,
    /// Whether it can be used; one that was damaged on the disk is replaced by itself.
    pub is_usable: bool,
}

/// A list that administrators signed. Only [`SignedList::verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedList {
    /// The list.
    pub list: Arc<TrustList>,
    signed: SignedList,
}

impl VerifiedList {
    /// The list's bytes and its signatures.
    pub fn signed(&self) -> &SignedList {
        &self.signed
    }
}

impl SignedList {
    /// Reads a list and the signatures beside it (`FILE.1.sig` to `FILE.16.sig`; other files are ignored).
    ///
    /// # Errors
    /// [`TrustStoreError::Io`] and [`TrustStoreError::Signature`].
    pub fn read(path: &Path) -> Result<Self, TrustStoreError> {
        Ok(Self {
            bytes: durable::read_bounded(path, limits::TRUST_LIST_BYTES_MAX)?,
            signatures: read_signatures(|number| Some(signature_path(path, number)))?,
        })
    }

    /// Reads a list and its signatures from the files of a request.
    ///
    /// # Errors
    /// [`TrustStoreError::Absent`], and as [`SignedList::read`].
    pub fn of_request(files: &BTreeMap<String, TakenFile>) -> Result<Self, TrustStoreError> {
        let path_of = |name: &str| files.get(name).map(|file| file.path.clone());
        let list = path_of(LIST_FILE).ok_or(TrustStoreError::Absent)?;
        Ok(Self {
            bytes: durable::read_bounded(&list, limits::TRUST_LIST_BYTES_MAX)?,
            signatures: read_signatures(|number| path_of(&signature_name(LIST_FILE, number)))?,
        })
    }

    /// Returns BLAKE3 of the list, by which the sender's log names it.
    pub fn blake3(&self) -> ContainerHash {
        ContainerHash::from_bytes(*blake3::hash(&self.bytes).as_bytes())
    }

    /// Returns SHA-256 of the list, by which the receiver's log names it.
    pub fn sha256(&self) -> Sha256Digest {
        sha256_of(&self.bytes)
    }

    /// Tells whether anybody signed it.
    pub fn is_signed(&self) -> bool {
        !self.signatures.is_empty()
    }

    /// Returns what the list means, whoever made it.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn parse(&self) -> Result<TrustList, TrustError> {
        TrustList::parse(&self.bytes)
    }

    /// Verifies that enough of these administrators signed the list, and that none of them is a person of it.
    ///
    /// # Errors
    /// [`TrustStoreError::Administrators`] and [`TrustStoreError::List`].
    pub fn verify(self, administrators: &[PublicKey]) -> Result<VerifiedList, TrustStoreError> {
        // First, so that nothing is read that a stranger made.
        verify_administrators(
            &self.bytes,
            &self.signatures,
            Namespace::TrustList,
            administrators,
        )?;
        let list = self.parse()?;
        list.check_apart(administrators)?;
        Ok(VerifiedList {
            list: Arc::new(list),
            signed: self,
        })
    }

    /// Verifies a list that is to be put into force on a host of this channel, while the clock says `clock`.
    ///
    /// # Errors
    /// [`TrustStoreError`] with the first reason against it.
    pub fn admit(
        self,
        administrators: &[PublicKey],
        channel: Option<ChannelId>,
        held: Option<Held>,
        clock: UtcTime,
    ) -> Result<VerifiedList, TrustStoreError> {
        let verified = self.verify(administrators)?;
        check_succession(&verified.list, channel, held)?;
        // Last, so that only a list that is one tells anything of this host's clock.
        verified.list.check_issued(clock)?;
        Ok(verified)
    }

    /// Returns the list and its signatures by the names of their files, as [`SignedList::read`] takes them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let signatures = (1..).zip(&self.signatures).map(|(number, signature)| {
            let armor = signature.to_armor().into_bytes();
            (signature_name(LIST_FILE, number), armor)
        });
        iter::once((LIST_FILE.to_owned(), self.bytes.clone()))
            .chain(signatures)
            .collect()
    }
}

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
        for (name, bytes) in verified.signed.files() {
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
    pub fn discard_staged(&self) -> io::Result<()> {
        durable::remove_any(&self.next())?;
        // Where the file system cannot exchange folders, the old one was put away.
        durable::finish_erasing(&self.root).map(drop)
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
        self.discard_staged()?;
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

fn sha256_of(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest::from_bytes(Sha256::digest(bytes).into())
}

/// Checks that a list is for this host's channel, and that its version is above the one in force.
///
/// # Errors
/// [`TrustStoreError::Channel`], [`TrustStoreError::InForce`] and [`TrustStoreError::Version`].
pub fn check_succession(
    list: &TrustList,
    channel: Option<ChannelId>,
    held: Option<Held>,
) -> Result<(), TrustStoreError> {
    let (found, offered) = (list.channel(), list.version());
    match (channel, held) {
        (Some(expected), _) if expected != found => {
            Err(TrustStoreError::Channel { found, expected })
        }
        (_, Some(held)) if held.is_offered && held.is_usable => {
            Err(TrustStoreError::InForce { version: offered })
        }
        (_, Some(held)) if !held.is_offered && offered <= held.version => {
            let held = held.version;
            Err(TrustStoreError::Version { offered, held })
        }
        _ => Ok(()),
    }
}

/// Reads the signatures of a list or a statement; numbers without a file are skipped.
///
/// # Errors
/// [`TrustStoreError::Io`], and [`TrustStoreError::Signature`] unless enough of the others are signatures.
pub fn read_signatures(
    path_of: impl Fn(usize) -> Option<PathBuf>,
) -> Result<Vec<Signature>, TrustStoreError> {
    let (mut signatures, mut fault) = (Vec::new(), None);
    for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
        let Some(path) = path_of(number) else {
            continue;
        };
        let armor = match durable::read_bounded(&path, SIGNATURE_FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            armor => armor?,
        };
        let signature = std::str::from_utf8(&armor)
            .map_err(|_| SshsigError::Armor)
            .and_then(Signature::from_armor);
        match signature {
            Ok(signature) => signatures.push(signature),
            Err(source) => {
                fault = fault.or(Some(TrustStoreError::Signature { number, source }));
            }
        }
    }
    match fault {
        // A file that is not a signature does no harm beside two that are.
        Some(fault) if signatures.len() < SIGNATURES_NEEDED => Err(fault),
        _ => Ok(signatures),
    }
}

/// Finds a signed file and the signatures beside it, for a request in which it is called `name`.
///
/// # Errors
/// The system's, for a file that is not there too.
pub fn signed_files(path: &Path, name: &str) -> io::Result<Vec<(String, PathBuf)>> {
    fs::metadata(path)?;
    let mut files = vec![(name.to_owned(), path.to_owned())];
    for number in 1..=limits::ADMINISTRATOR_SIGNATURES_MAX {
        let signature = signature_path(path, number);
        match fs::symlink_metadata(&signature) {
            Ok(_) => files.push((signature_name(name, number), signature)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// Returns the name of the n-th signature beside a file, counted from 1.
pub fn signature_name(name: &str, number: usize) -> String {
    format!("{name}.{number}.sig")
}

/// Returns the path of the n-th signature beside a file, counted from 1.
pub fn signature_path(path: &Path, number: usize) -> PathBuf {
    path.with_added_extension(format!("{number}.sig"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::host::folders::SenderState;
    use crate::sshsig::KeyKind;
    use crate::sshsig::forge::Forge;
    use crate::trust::sample;

    const ADMINISTRATORS: [u8; 3] = [71, 72, 73];

    fn administrators() -> Vec<PublicKey> {
        let key = |seed| Forge::new(KeyKind::SkEd25519, seed).public_key();
        ADMINISTRATORS.map(key).to_vec()
    }

    fn signature(seed: u8, text: &str) -> String {
        let mut forge = Forge::new(KeyKind::SkEd25519, seed);
        forge.namespace = Namespace::TrustList.as_str();
        forge.signature(text.as_bytes()).to_armor()
    }

    /// The sample list of a version, signed by two administrators.
    fn signed(version: u32) -> SignedList {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any name");
        let text = sample::changed("version = 7", &format!("version = {version}"));
        fs::write(&path, &text).unwrap();
        for (number, seed) in [(2, 71), (5, 73)] {
            fs::write(signature_path(&path, number), signature(seed, &text)).unwrap();
        }
        SignedList::read(&path).unwrap()
    }

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

    #[test]
    fn a_list_is_admitted_by_signatures_then_channel_then_version_then_issue() {
        let (channel, other) = (sample::list().channel(), ChannelId::from_bytes([9; 16]));
        let now = sample::list().issued();
        let past = UtcTime::from_s(now.as_s() - 3_600);
        let held = |version, is_offered, is_usable| {
            Some(Held {
                version,
                is_offered,
                is_usable,
            })
        };
        let judge = |channel, held, clock| {
            let admitted = signed(7).admit(&administrators(), channel, held, clock);
            admitted.map_or_else(|error| error.code(), |_| "admitted")
        };
        for (held, code) in [
            (None, "admitted"),
            (held(6, false, true), "admitted"),
            (held(7, false, true), "trust-rollback"),
            (held(7, false, false), "trust-rollback"),
            (held(8, false, true), "trust-rollback"),
            (held(7, true, true), "trust-rollback"),
            // Its own copy repairs a damaged list.
            (held(7, true, false), "admitted"),
        ] {
            assert_eq!(judge(Some(channel), held, now), code, "{held:?}");
            assert_eq!(judge(Some(other), held, now), "foreign-channel");
        }
        assert_eq!(judge(None, None, now), "admitted");
        assert_eq!(judge(None, None, past), "issued-ahead");
        assert_eq!(judge(None, held(8, false, true), past), "trust-rollback");
        let strangers = &administrators()[..2];
        let refused = signed(7).admit(strangers, Some(other), None, past);
        assert_eq!(refused.unwrap_err().code(), "trust");
    }

    #[test]
    fn a_file_that_is_no_signature_does_no_harm_beside_two_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LIST_FILE);
        let text = sample::text();
        fs::write(&path, &text).unwrap();
        assert!(!SignedList::read(&path).unwrap().is_signed());
        fs::write(signature_path(&path, 1), [0xff; 10]).unwrap();
        fs::write(signature_path(&path, 3), signature(71, &text)).unwrap();
        assert!(matches!(
            SignedList::read(&path),
            Err(TrustStoreError::Signature { number: 1, .. })
        ));
        fs::write(signature_path(&path, 16), signature(72, &text)).unwrap();
        fs::write(signature_path(&path, 17), "too many").unwrap();
        let read = SignedList::read(&path).unwrap();
        let verified = read.verify(&administrators()).unwrap();
        assert_eq!(verified.signed().files().len(), 3);
        // A request has the same files under the same names.
        let files = signed_files(&path, LIST_FILE).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["", ".1.sig", ".3.sig", ".16.sig"].map(|end| format!("trust.toml{end}"));
        assert_eq!(names, expected);
        let mut taken: BTreeMap<String, TakenFile> = files
            .into_iter()
            .map(|(name, path)| (name, TakenFile { path, bytes: 0 }))
            .collect();
        let asked = SignedList::of_request(&taken).unwrap();
        asked.verify(&administrators()).unwrap();
        taken.remove(LIST_FILE);
        let refused = SignedList::of_request(&taken).unwrap_err();
        assert_eq!(refused.code(), "files");
    }
}
