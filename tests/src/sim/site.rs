//! Two commissioned hosts as images of their disks, made once: every run begins with them.

use std::fs;
use std::path::{Path, PathBuf};

use valise_common::bundle::Bundle;
use valise_common::config::{ReceiverConfig, SenderConfig};
use valise_common::history::log::AuditLog;
use valise_common::host::commissioned::Host;
use valise_common::host::folders::{ReceiverState, Role, SenderState};
use valise_common::host::trust_store::SignedList;
use valise_common::host::worker::Threading;
use valise_common::ids::{ChannelId, LinkKeyId};
use valise_common::os::clock;
use valise_common::os::entropy;
use valise_common::secret::Secret32;
use valise_common::sshsig::PublicKey;
use valise_receiver::model::event::Asker;
use valise_receiver::release::requests::Verdict;
use valise_receiver::release::{self, Release};
use valise_receiver::spool::publish::Groups;
use valise_sender::gate;

use super::disk::{Disk, Image};
use super::host::Address;
use super::line::Ends;
use super::people::{Officer, place};
use super::plan::{ASSEMBLY_BYTES, Link, PASSES};
use super::{Result, wrong};
use crate::attack::Token;

/// Slots of the bundle: more than any run submits cables.
const SLOTS: u32 = 48;

/// Trust lists that are signed: more than any run imports.
const TRUST_VERSIONS: u32 = 5;

/// The courier's folder beside the receiver's state.
const COURIER: &str = "courier-stick";

/// The state that every run begins with.
pub struct Site {
    folder: tempfile::TempDir,
    /// Disks of the sender and of the receiver.
    images: [Image; 2],
    /// The first keys of the four audit logs.
    first_keys: Vec<(Role, Secret32)>,
    /// The link key of the bundle.
    link_key: Option<(LinkKeyId, Secret32)>,
    /// Both ends of the link.
    pub ends: Ends,
}

impl Site {
    /// Commissions both hosts in this process, by the functions that `init` and the imports call.
    ///
    /// # Errors
    /// The failure.
    pub fn make() -> Result<Self> {
        let folder = tempfile::tempdir().map_err(wrong)?;
        let ends = Ends::open(folder.path())?;
        for host in ["sender", "receiver"] {
            fs::create_dir(folder.path().join(host)).map_err(wrong)?;
        }
        let mut site = Self {
            folder,
            images: [Image::empty(), Image::empty()],
            first_keys: Vec::new(),
            link_key: None,
            ends,
        };
        let administrators = [Token::new(1), Token::new(2)];
        let keys: Vec<PublicKey> = administrators
            .iter()
            .map(|token| PublicKey::parse_openssh(&token.public_line()).map_err(wrong))
            .collect::<Result<_>>()?;
        let sender =
            Disk::mount(&Image::empty(), &site.mount_point(Address::Sender)).map_err(wrong)?;
        let receiver =
            Disk::mount(&Image::empty(), &site.mount_point(Address::Receiver)).map_err(wrong)?;
        let channel = ChannelId::from_bytes(entropy::bytes().map_err(wrong)?);
        site.commission_receiver(channel, &keys, &administrators)?;
        site.commission_sender(&keys, &administrators)?;
        site.images = [sender.image(), receiver.image()];
        Ok(site)
    }

    /// The folder that a host's disk is mounted on.
    pub fn mount_point(&self, host: Address) -> PathBuf {
        self.folder.path().join(match host {
            Address::Sender => "sender",
            Address::Receiver => "receiver",
        })
    }

    /// The disk of a host as every run begins.
    pub fn image(&self, host: Address) -> &Image {
        match host {
            Address::Sender => &self.images[0],
            Address::Receiver => &self.images[1],
        }
    }

    /// The state of the sender.
    pub fn sender_state(&self) -> SenderState {
        SenderState::new(self.mount_point(Address::Sender).join("state"))
    }

    /// The state of the receiver.
    pub fn receiver_state(&self) -> ReceiverState {
        ReceiverState::new(self.mount_point(Address::Receiver).join("state"))
    }

    /// The first key of a role's audit log.
    pub fn first_key(&self, role: Role) -> Option<Secret32> {
        let mut keys = self.first_keys.iter();
        let (_, key) = keys.find(|(other, _)| *other == role)?;
        Some(Secret32::new(*key.expose()))
    }

    /// Returns the trust list of a version with its signatures, as a courier brings it.
    ///
    /// # Errors
    /// If there is none.
    pub fn trust_list(&self, version: u32) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        let folder = self.folder.path().join(format!("trust-{version}"));
        let names = ["trust.toml", "trust.toml.1.sig", "trust.toml.2.sig"];
        let read = |name: &str| Ok((name.to_owned(), fs::read(folder.join(name))?));
        names.into_iter().map(read).collect()
    }

    /// Returns the link key of the bundle that both hosts have.
    pub fn link_key(&self) -> Option<(LinkKeyId, Secret32)> {
        let (id, key) = self.link_key.as_ref()?;
        Some((*id, Secret32::new(*key.expose())))
    }

    /// The configuration of the sender. The persons are users that every Debian has.
    ///
    /// # Errors
    /// If it does not parse.
    pub fn sender_config(&self, link: Link) -> Result<SenderConfig> {
        let link_table = self.ends.sender_table(link)?;
        let persons: Vec<String> = Officer::ALL
            .iter()
            .map(|officer| format!("{} = \"{}\"\n", officer.user(), officer.person()))
            .collect();
        SenderConfig::parse(&format!(
            "state = {:?}\n[persons]\ndaemon = \"a.drafter\"\n{}[link]\n{link_table}\
             [fec]\nrepair = \"25 %\"\npasses = {PASSES}\ninterleave = \"20 ms\"\n[metrics]\nfolder = {:?}\n",
            self.sender_state().root(),
            persons.concat(),
            self.mount_point(Address::Sender).join("metrics"),
        ))
        .map_err(wrong)
    }

    /// The configuration of the receiver.
    ///
    /// # Errors
    /// If it does not parse.
    pub fn receiver_config(&self, link: Link) -> Result<ReceiverConfig> {
        ReceiverConfig::parse(&format!(
            "state = {:?}\n[link]\n{}[memory]\nassembly = \"{ASSEMBLY_BYTES} B\"\n[metrics]\nfolder = {:?}\n",
            self.receiver_state().root(),
            self.ends.receiver_table(link),
            self.mount_point(Address::Receiver).join("metrics"),
        ))
        .map_err(wrong)
    }

    fn begin_log(&mut self, audit: &Path, role: Role) -> Result<()> {
        let origin = format!("valise/sim/{role}");
        let (mut log, key) = AuditLog::create(audit, role.as_str(), &origin).map_err(wrong)?;
        log.append(clock::utc_now(), "init", &[]);
        log.commit().map_err(wrong)?;
        self.first_keys.push((role, key));
        Ok(())
    }

    fn commission_receiver(
        &mut self,
        channel: ChannelId,
        keys: &[PublicKey],
        administrators: &[Token],
    ) -> Result<()> {
        let state = self.receiver_state();
        state.create_all().map_err(wrong)?;
        fs::create_dir(self.mount_point(Address::Receiver).join("metrics")).map_err(wrong)?;
        for role in [Role::Receive, Role::Release] {
            self.begin_log(&state.audit(), role)?;
        }
        let host = Host {
            channel,
            administrators: keys.to_vec(),
        };
        state.write_host(host).map_err(wrong)?;
        let config = self.receiver_config(Link::Udp)?;
        let mut here =
            Release::open(config, state, Groups::default(), Threading::Caller).map_err(wrong)?;
        let stick = self.mount_point(Address::Receiver).join(COURIER);
        fs::create_dir(&stick).map_err(wrong)?;
        let plan = here
            .plan_bundle(SLOTS, None)
            .map_err(wrong)?
            .map_err(wrong)?;
        here.make_bundle(&plan, &stick, Asker::user(0))
            .map_err(wrong)?;
        for name in ["channel.bundle", "channel.bundle.statement"] {
            let from = stick.join(name);
            fs::copy(&from, self.folder.path().join(name)).map_err(wrong)?;
        }
        let bundle = fs::read(self.folder.path().join("channel.bundle")).map_err(wrong)?;
        let bundle = Bundle::decode(&bundle).map_err(wrong)?;
        self.link_key = Some((bundle.link_key_id, Secret32::new(*bundle.link_key.expose())));
        let list = self.folder.path().join("trust.toml");
        sign(
            &list,
            trust_list(channel, 1).as_bytes(),
            "trust-list@valise",
            administrators,
        )?;
        for version in 2..=TRUST_VERSIONS {
            let folder = self.folder.path().join(format!("trust-{version}"));
            fs::create_dir(&folder).map_err(wrong)?;
            let text = trust_list(channel, version);
            let list = folder.join("trust.toml");
            sign(&list, text.as_bytes(), "trust-list@valise", administrators)?;
        }
        let verdict = here
            .import_trust(SignedList::read(&list), Asker::user(0))
            .map_err(wrong)?;
        match verdict {
            Verdict::Accepted(_) => {}
            refused => return Err(wrong(format!("the trust list: {refused:?}"))),
        }
        release::Daemon::start(here)
            .and_then(|mut daemon| daemon.stop())
            .map_err(wrong)
    }

    fn commission_sender(&mut self, keys: &[PublicKey], administrators: &[Token]) -> Result<()> {
        let state = self.sender_state();
        state.create_all().map_err(wrong)?;
        fs::create_dir(self.mount_point(Address::Sender).join("metrics")).map_err(wrong)?;
        for role in [Role::Gate, Role::Transmit] {
            self.begin_log(&state.audit(), role)?;
        }
        let host = Host {
            channel: None,
            administrators: keys.to_vec(),
        };
        state.write_host(host).map_err(wrong)?;
        let statement = self.folder.path().join("channel.bundle.statement");
        let text = fs::read(&statement).map_err(wrong)?;
        sign(&statement, &text, "bundle@valise", administrators)?;
        let gate = gate::host::Gate::open(&self.sender_config(Link::Udp)?).map_err(wrong)?;
        let mut daemon = gate::Daemon::start(gate, Vec::new(), Threading::Caller).map_err(wrong)?;
        for (request, base) in [
            (
                "bundle-import",
                &["channel.bundle", "channel.bundle.statement"][..],
            ),
            ("trust-import", &["trust.toml"]),
        ] {
            let mut files: Vec<String> = base.iter().map(|name| (*name).to_owned()).collect();
            let signed = base[base.len() - 1];
            files.extend((1..=2).map(|number| format!("{signed}.{number}.sig")));
            let files: Vec<(String, Vec<u8>)> = files
                .into_iter()
                .map(|name| {
                    Ok((
                        name.clone(),
                        fs::read(self.folder.path().join(name)).map_err(wrong)?,
                    ))
                })
                .collect::<Result<_>>()?;
            let name = format!("r-{request}");
            place(
                &state.requests(),
                &name,
                &format!("request = \"{request}\"\n"),
                &files,
            )
            .map_err(wrong)?;
            daemon.turn().map_err(wrong)?;
            let answer = state.requests().join(format!("{name}.accepted"));
            if fs::symlink_metadata(&answer).is_err() {
                let refused = fs::read_to_string(answer.with_extension("refused"));
                return Err(wrong(format!("{request}: {refused:?}")));
            }
        }
        daemon.stop().map_err(wrong)
    }
}

/// Writes a file, and both administrators' signatures beside it.
fn sign(path: &Path, bytes: &[u8], namespace: &str, administrators: &[Token]) -> Result<()> {
    fs::write(path, bytes).map_err(wrong)?;
    for (number, token) in (1..).zip(administrators) {
        let token = token.with(|token| token.namespace = namespace.to_owned());
        let beside = format!("{}.{number}.sig", path.display());
        fs::write(beside, token.sign_armoured(bytes)).map_err(wrong)?;
    }
    Ok(())
}

fn trust_list(channel: ChannelId, version: u32) -> String {
    let person = |id: &str, role: &str, keys: String| {
        format!(
            "[[person]]\nid = \"{id}\"\nroles = [\"{role}\"]\nkeys = [{keys}]\n\
             valid-from = \"2020-01-01T00:00:00Z\"\nvalid-until = \"2090-01-01T00:00:00Z\"\n\n"
        )
    };
    let mut text = format!(
        "version = {version}\nchannel = \"{channel}\"\nissued = \"2024-01-01T00:00:00Z\"\nallow-software-keys = false\n\n"
    );
    text += &person("a.drafter", "drafter", String::new());
    for officer in Officer::ALL {
        let key = format!("\"{}\"", officer.token().public_line());
        text += &person(officer.person(), "officer", key);
    }
    text += "[[classification]]\nid = \"EU-RESTRICTED\"\nmarking = \"RESTREINT UE\"\nofficers = 2\n\
             user-verification = false\nmedia-types = [\"text/plain\"]\n\
             cable-bytes-max = 1073741824\nvalidity-days-max = 30\n\n[[category]]\nid = \"LIMITE\"\n\n";
    for mailbox in super::people::MAILBOXES {
        text += &format!(
            "[[mailbox]]\nid = \"{mailbox}\"\nclassification-max = \"EU-RESTRICTED\"\ncategories = [\"LIMITE\"]\n\n"
        );
    }
    text
}
