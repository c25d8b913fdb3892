//! What tests of `release` need: real `ssh-keygen` keys, a commissioned host, and a sender that is as honest as the test
//! wants it to be.
#![allow(clippy::unwrap_used, clippy::as_conversions, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use valise_common::bundle::Bundle;
use valise_common::config::ReceiverConfig;
use valise_common::history::log::AuditLog;
use valise_common::host::commissioned::Host;
use valise_common::host::folders::{InboxName, ReceiverState, Role};
use valise_common::host::trust_store::SignedList;
use valise_common::host::worker::Threading;
use valise_common::ids::{BundleId, ChannelId, ContainerHash, MessageId, Serial};
use valise_common::manifest::{FileName, FreeText, Manifest, Part};
use valise_common::os::clock;
use valise_common::os::durable;
use valise_common::os::entropy;
use valise_common::precedence::Precedence;
use valise_common::seal::{Header, PackageWriter, Sealer, encode_approvals};
use valise_common::sshsig::{PublicKey, Signature};
use valise_common::units::UtcTime;

use crate::model::event::Asker;
use crate::release::requests::Verdict;
use crate::release::{Release, ReleaseError};
use crate::spool::bundle_store::BUNDLE_FILE;
use crate::spool::publish::Groups;

/// Keys of all tests of a process: making them takes longer than most tests.
pub struct Keys {
    folder: tempfile::TempDir,
}

impl Keys {
    pub fn shared() -> &'static Keys {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        KEYS.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            for name in ["admin1", "admin2", "b", "b2", "c", "d", "stranger"] {
                let status = Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                    .arg(folder.path().join(name))
                    .stdin(Stdio::null())
                    .status()
                    .unwrap();
                assert!(status.success());
            }
            Keys { folder }
        })
    }

    pub fn public_line(&self, name: &str) -> String {
        let text = fs::read_to_string(self.folder.path().join(format!("{name}.pub"))).unwrap();
        text.split(' ')
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .to_owned()
    }

    pub fn public(&self, name: &str) -> PublicKey {
        PublicKey::parse_openssh(&self.public_line(name)).unwrap()
    }

    /// An armoured signature as `ssh-keygen` makes it.
    pub fn sign(&self, name: &str, namespace: &str, message: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("message");
        fs::write(&file, message).unwrap();
        let status = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(self.folder.path().join(name))
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        fs::read_to_string(folder.path().join("message.sig")).unwrap()
    }

    pub fn approve(&self, name: &str, manifest: &[u8]) -> Vec<u8> {
        let armor = self.sign(name, "cable-approval@valise", manifest);
        Signature::from_armor(&armor).unwrap().as_bytes().to_vec()
    }
}

/// A commissioned receiver, and the sender's half of its first bundle.
pub struct World {
    pub folder: tempfile::TempDir,
    pub state: ReceiverState,
    pub channel: ChannelId,
    pub bundle: Bundle,
}

pub fn trust_text(channel: ChannelId, version: u32) -> String {
    let key = |name: &str| Keys::shared().public_line(name);
    let person = |id: &str, roles: &str, keys: &[&str]| {
        let keys: Vec<String> = keys
            .iter()
            .map(|name| format!("\"{}\"", key(name)))
            .collect();
        format!(
            "[[person]]\nid = \"{id}\"\nroles = [{roles}]\nkeys = [{}]\n\
             valid-from = \"2020-01-01T00:00:00Z\"\nvalid-until = \"2090-01-01T00:00:00Z\"\n\n",
            keys.join(", ")
        )
    };
    let mut text = format!(
        "version = {version}\nchannel = \"{channel}\"\nissued = \"2024-01-01T00:00:00Z\"\n\
         allow-software-keys = true\n\n"
    );
    text += &person("a.drafter", "\"drafter\"", &[]);
    text += &person("b.officer", "\"officer\"", &["b", "b2"]);
    text += &person("c.officer", "\"officer\"", &["c"]);
    text += &person("d.both", "\"drafter\", \"officer\"", &["d"]);
    text += "[[classification]]\nid = \"EU-RESTRICTED\"\nmarking = \"RESTREINT UE\"\nofficers = 2\n\
             user-verification = false\nmedia-types = [\"text/plain\", \"application/pdf\"]\n\
             cable-bytes-max = 1073741824\nvalidity-days-max = 30\n\n\
             [[category]]\nid = \"LIMITE\"\n\n[[category]]\nid = \"CRISIS\"\n\n\
             [[mailbox]]\nid = \"paris-desk\"\nclassification-max = \"EU-RESTRICTED\"\n\
             categories = [\"LIMITE\"]\n\n\
             [[mailbox]]\nid = \"protocol\"\nclassification-max = \"EU-RESTRICTED\"\ncategories = [\"LIMITE\"]\n";
    text
}

impl World {
    /// Takes what release handed over, as `receive` does, and tells which link keys it has then.
    pub fn link_keys(&self) -> Vec<BundleId> {
        self.state
            .handover()
            .take(&self.state.tmp(Role::Receive))
            .unwrap();
        let number = |name: &str| name.strip_suffix(".key").and_then(|name| name.parse().ok());
        let names = fs::read_dir(self.state.link_keys()).unwrap();
        let mut bundles: Vec<_> = names
            .filter_map(|entry| number(entry.unwrap().file_name().to_str().unwrap()))
            .collect();
        bundles.sort();
        bundles
    }

    pub fn new() -> World {
        World::with_slots(12)
    }

    pub fn with_slots(slots: u32) -> World {
        let folder = tempfile::tempdir().unwrap();
        let state = ReceiverState::new(folder.path().join("state"));
        state.create_all().unwrap();
        let channel = ChannelId::from_bytes(entropy::bytes().unwrap());
        for role in ["receive", "release"] {
            AuditLog::create(&state.audit(), role, &format!("valise/test/{role}")).unwrap();
        }
        let keys = Keys::shared();
        let administrators = vec![keys.public("admin1"), keys.public("admin2")];
        let host = Host {
            channel,
            administrators,
        };
        state.write_host(host).unwrap();
        let bundle = {
            let mut here = open(&state);
            make_bundle(&mut here, folder.path(), slots)
        };
        let world = World {
            folder,
            state,
            channel,
            bundle,
        };
        world.import_trust(&trust_text(channel, 1));
        world
    }

    /// The daemon, in this process.
    pub fn release(&self) -> Release {
        open(&self.state)
    }

    /// Writes a list, signed by both administrators, and returns its path.
    pub fn signed_list(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("trust.toml");
        fs::write(&path, text).unwrap();
        for (number, name) in [(1, "admin1"), (2, "admin2")] {
            let armor = Keys::shared().sign(name, "trust-list@valise", text.as_bytes());
            fs::write(
                self.folder.path().join(format!("trust.toml.{number}.sig")),
                armor,
            )
            .unwrap();
        }
        path
    }

    pub fn import_trust(&self, text: &str) {
        let path = self.signed_list(text);
        let verdict = self
            .release()
            .import_trust(SignedList::read(&path), Asker::user(0))
            .unwrap();
        assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    }

    /// A manifest that nothing is wrong with.
    pub fn manifest(&self, parts: &[&[u8]]) -> Manifest {
        let now = clock::utc_now();
        Manifest {
            channel: self.channel,
            message_id: MessageId::from_bytes(entropy::bytes().unwrap()),
            label: "EU-RESTRICTED LIMITE".parse().unwrap(),
            precedence: Precedence::Routine,
            to: vec!["paris-desk".parse().unwrap(), "protocol".parse().unwrap()],
            drafter: "a.drafter".parse().unwrap(),
            reference: None,
            subject: FreeText::parse("Draft conclusions", 120).unwrap(),
            created: UtcTime::from_s(now.as_s() - 60),
            not_after: now.plus_s(86_400),
            act_by: None,
            parts: parts
                .iter()
                .map(|part| Part {
                    length: part.len() as u64,
                    media_type: "text/plain".parse().unwrap(),
                    sha256: Sha256::digest(part).into(),
                    name: FileName::parse("../../etc/passwd").unwrap(),
                })
                .collect(),
        }
    }

    /// A cable that nothing is wrong with, sealed for a serial.
    pub fn honest(&self, serial: u64, parts: &[&[u8]]) -> Vec<u8> {
        let manifest = self.manifest(parts);
        self.approved(serial, &manifest, &["b", "c"], &parts.concat())
    }

    /// A cable of this manifest, approved by these keys.
    pub fn approved(
        &self,
        serial: u64,
        manifest: &Manifest,
        officers: &[&str],
        body: &[u8],
    ) -> Vec<u8> {
        let bytes = manifest.encode().unwrap();
        let approvals: Vec<_> = officers
            .iter()
            .map(|name| Keys::shared().approve(name, &bytes))
            .collect();
        self.sealed(serial, &bytes, &approvals, body)
    }

    /// Whatever a dishonest sender puts into a package.
    pub fn sealed(
        &self,
        serial: u64,
        manifest: &[u8],
        approvals: &[Vec<u8>],
        body: &[u8],
    ) -> Vec<u8> {
        let approvals = encode_approvals(approvals).unwrap();
        let mut writer = PackageWriter::new(manifest, &approvals, body.len() as u64, body).unwrap();
        let mut package = Vec::new();
        let padded_bytes = writer.padded_bytes();
        writer.fill(&mut package, padded_bytes as usize).unwrap();
        self.sealed_package(serial, &package)
    }

    pub fn sealed_package(&self, serial: u64, package: &[u8]) -> Vec<u8> {
        self.sealed_with(serial, package, |header| header)
    }

    pub fn sealed_with(
        &self,
        serial: u64,
        package: &[u8],
        change: impl FnOnce(Header) -> Header,
    ) -> Vec<u8> {
        let header = change(Header {
            channel: self.channel,
            serial: Serial::new(serial).unwrap(),
            bundle: self.bundle.id,
            padded_bytes: package.len() as u64,
        });
        let slot = &self.bundle.slots[(serial - self.bundle.first.get()) as usize];
        let (prefix, mut sealer) = Sealer::new(&header, slot, entropy::secret().unwrap()).unwrap();
        let mut container = prefix.to_vec();
        for chunk in package.chunks(1 << 16) {
            let mut segment = chunk.to_vec();
            sealer.seal_segment(&mut segment).unwrap();
            container.extend_from_slice(&segment);
        }
        container
    }

    /// Puts a container where `receive` would.
    pub fn deliver(&self, serial: u64, container: &[u8]) -> InboxName {
        let name = name_of(serial, container);
        fs::write(self.state.container(&name), container).unwrap();
        name
    }

    pub fn folder_of(&self, mailbox: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.state.released().join(mailbox)) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// Nothing of any cable is visible, staged or in the clear anywhere.
    pub fn assert_nothing_visible(&self) {
        for mailbox in ["paris-desk", "protocol"] {
            assert_eq!(self.folder_of(mailbox), Vec::<PathBuf>::new());
        }
        for folder in [self.state.stage(), self.state.tmp(Role::Release)] {
            // What is put away is nothing any more but bytes to be overwritten.
            let entries = fs::read_dir(&folder).unwrap().map(Result::unwrap);
            let stands = entries.filter(|entry| !durable::is_erasing(&entry.file_name()));
            assert_eq!(stands.count(), 0, "{}", folder.display());
        }
    }

    pub fn slot_is_erased(&self, serial: u64) -> bool {
        let bytes = fs::read(self.state.slots_of(self.bundle.id)).unwrap();
        let at = 64 + 64 * (serial - self.bundle.first.get()) as usize;
        bytes[at..at + 64].iter().all(|byte| *byte == 0)
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(self.state.audit().join("release.log")).unwrap()
    }

    pub fn log_count(&self, event: &str) -> usize {
        self.log_text()
            .matches(&format!("\"event\":\"{event}\""))
            .count()
    }
}

pub fn name_of(serial: u64, container: &[u8]) -> InboxName {
    let hash = ContainerHash::from_bytes(*blake3::hash(container).as_bytes());
    InboxName {
        serial: Serial::new(serial).unwrap(),
        container: hash.id(),
    }
}

pub fn config_of(state: &ReceiverState) -> ReceiverConfig {
    let text = format!(
        "state = \"{}\"\n[link]\nkind = \"udp\"\nlisten = \"127.0.0.1:9\"\n",
        state.root().display()
    );
    ReceiverConfig::parse(&text).unwrap()
}

pub fn open(state: &ReceiverState) -> Release {
    loop {
        match Release::open(
            config_of(state),
            state.clone(),
            Groups::default(),
            Threading::Beside,
        ) {
            // A child that another test is starting holds a copy of the lock until its `exec`.
            Err(ReleaseError::Running(_)) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

pub fn make_bundle(here: &mut Release, folder: &Path, count: u32) -> Bundle {
    let plan = here.plan_bundle(count, None).unwrap().unwrap();
    let out = folder.join(format!("courier-{}", plan.bundle));
    fs::create_dir(&out).unwrap();
    here.make_bundle(&plan, &out, Asker::user(0)).unwrap();
    Bundle::decode(&fs::read(out.join(BUNDLE_FILE)).unwrap()).unwrap()
}
