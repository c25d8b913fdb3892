//! Where each file of a host's state stands. No other place in the programs joins these paths.

mod names;

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::commissioned::{Host, HostError};
use super::handover::Handover;
use super::stand_in::StandIn;
use super::trust_store::TrustStore;
use crate::ids::{BundleId, ChannelId, MailboxId, MessageId, PersonId, Serial};
use crate::os::durable::make_dir;
pub use crate::role::Role;
pub use names::{InboxName, NameError, OutboxName};

/// Joins fixed names under the root, one method a path.
macro_rules! paths {
    ($($(#[$doc:meta])* $method:ident => $path:literal;)*) => {
        $(
            $(#[$doc])*
            pub fn $method(&self) -> PathBuf {
                self.root.join($path)
            }
        )*
    };
}

/// A host: its program and roles, and what is its own in the state folder.
pub trait Layout {
    /// The host's program.
    const PROGRAM: &'static str;

    /// The host's roles.
    const ROLES: [Role; 2];

    /// The role whose log names the trust list in force.
    const KEEPER: Role;

    /// Every folder, each after the one that holds it, and its mode.
    const FOLDERS: &'static [(&'static str, u32)];

    /// How `host.toml` holds the channel.
    type Channel: Serialize + DeserializeOwned + Copy + Into<Option<ChannelId>>;
}

/// The sender's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender;

impl Layout for Sender {
    const PROGRAM: &'static str = "valise-sender";
    const ROLES: [Role; 2] = [Role::Gate, Role::Transmit];
    const KEEPER: Role = Role::Gate;
    const FOLDERS: &'static [(&'static str, u32)] = &[
        ("", 0o751),
        ("tmp", 0o751),
        ("tmp/gate", 0o700),
        ("tmp/transmit", 0o700),
        ("requests", REQUESTS_MODE),
        ("pending", 0o2750),
        ("view", VIEW_MODE),
        ("outbox", 0o2750),
        ("progress", 0o2770),
        ("keys", 0o751),
        ("keys/link", 0o700),
        ("keys/handover", 0o2770),
        ("slots", 0o700),
        ("trust", 0o755),
        ("audit", AUDIT_MODE),
    ];
    // The first import fixes it, and the log holds it.
    type Channel = Option<ChannelId>;
}

/// The receiver's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver;

impl Layout for Receiver {
    const PROGRAM: &'static str = "valise-receiver";
    const ROLES: [Role; 2] = [Role::Receive, Role::Release];
    const KEEPER: Role = Role::Release;
    const FOLDERS: &'static [(&'static str, u32)] = &[
        ("", 0o751),
        ("tmp", 0o751),
        ("tmp/receive", 0o700),
        ("tmp/release", 0o700),
        ("requests", REQUESTS_MODE),
        ("view", VIEW_MODE),
        ("inbox", 0o2770),
        ("damaged", 0o2770),
        ("assembly", 0o700),
        ("released", 0o751),
        ("released/.stage", 0o700),
        ("quarantine", 0o700),
        ("keys", 0o751),
        ("keys/link", 0o700),
        ("keys/handover", 0o2770),
        ("slots", 0o700),
        ("trust", 0o755),
        ("audit", AUDIT_MODE),
    ];
    type Channel = ChannelId;
}

/// The state of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State<L> {
    root: PathBuf,
    layout: PhantomData<L>,
}

/// The state of a sender host.
pub type SenderState = State<Sender>;

/// The state of a receiver host.
pub type ReceiverState = State<Receiver>;

impl<L: Layout> State<L> {
    /// Takes the folder that the configuration names.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            layout: PhantomData,
        }
    }

    /// Returns the folder that the configuration names.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a role stages what it writes; no other role and no start-up but its own touches
    /// it.
    pub fn tmp(&self, role: Role) -> PathBuf {
        self.root.join("tmp").join(role.as_str())
    }

    /// Returns the file that holds room for a role on the disk: beside its log, where start-up deletes nothing.
    pub fn reserve(&self, role: Role) -> PathBuf {
        self.audit().join(format!("{role}.reserve"))
    }

    /// Returns the files of a role's audit log after the first.
    pub(crate) fn audit_files(&self, role: Role) -> PathBuf {
        self.audit().join(role.as_str())
    }

    /// Returns the checkpoints of a role's audit log, which the role opens again while it works.
    pub fn checkpoints(&self, role: Role) -> PathBuf {
        self.audit().join(format!("{role}.checkpoints"))
    }

    /// The ends of a role by forbidden calls, which its next start reports.
    pub(crate) fn forbidden_call(&self, role: Role) -> PathBuf {
        self.audit().join(format!("{role}.forbidden-call"))
    }

    /// Held by a role's daemon as long as it lives.
    pub fn lock(&self, role: Role) -> PathBuf {
        self.root.join(format!("{role}.lock"))
    }

    /// Returns the link key that came with a bundle.
    pub fn link_key(&self, bundle: BundleId) -> PathBuf {
        self.link_keys().join(format!("{bundle}.key"))
    }

    /// The link key of a bundle until transmit or receive has taken it.
    pub fn handed_key(&self, bundle: BundleId) -> PathBuf {
        self.handover_folder().join(format!("{bundle}.key"))
    }

    /// How link keys go from the role that knows bundles to the one that uses them.
    pub fn handover(&self) -> Handover {
        Handover::new(self.handover_folder(), self.link_keys())
    }

    /// Returns the slots of a bundle.
    pub fn slots_of(&self, bundle: BundleId) -> PathBuf {
        self.slots().join(format!("{bundle}.slots"))
    }

    /// Returns the trust list and its signatures.
    pub fn trust_store(&self) -> TrustStore {
        TrustStore::new(&self.root, self.tmp(L::KEEPER))
    }

    /// Reads `host.toml`.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn read_host(&self) -> Result<Host<L::Channel>, HostError> {
        Host::read(&self.host(), L::PROGRAM)
    }

    /// Writes `host.toml`, once: with it the host is commissioned.
    ///
    /// # Errors
    /// The system's, for a file that exists too.
    pub fn write_host(&self, host: Host<L::Channel>) -> io::Result<()> {
        host.write_new(&self.tmp(L::KEEPER), &self.host())
    }

    /// Checks that `init` was run here. What else may be wrong with `host.toml` is the daemons' to report.
    ///
    /// # Errors
    /// [`HostError::NotCommissioned`].
    pub fn check_commissioned(&self) -> Result<(), HostError> {
        match self.read_host() {
            Err(error @ HostError::NotCommissioned { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whose work a command does where root calls it. `groups` are those that the role's user is in besides.
    ///
    /// # Errors
    /// As [`StandIn::of`].
    pub fn stand_in(&self, role: Role, groups: &[u32]) -> io::Result<StandIn> {
        StandIn::of(&self.root, &self.tmp(role), groups)
    }

    /// What a role shows to `list` and `status`.
    pub fn view_of(&self, role: Role) -> PathBuf {
        self.view().join(format!("{role}.json"))
    }

    /// Makes every folder that is absent; those that stand keep their owner and mode.
    ///
    /// # Errors
    /// If a folder cannot be made, or something else has its name.
    pub fn create_all(&self) -> io::Result<()> {
        L::FOLDERS.iter().try_for_each(|(name, mode)| match *name {
            "" => make_dir(&self.root, *mode),
            name => make_dir(&self.root.join(name), *mode),
        })
    }

    /// Looks whether every folder that this process can see is one, and no link to somewhere else; for roles that make none.
    ///
    /// # Errors
    /// If something else has its name.
    pub fn check_all(&self) -> io::Result<()> {
        for (name, _) in L::FOLDERS.iter().filter(|(name, _)| !name.is_empty()) {
            let path = self.root.join(name);
            // What is absent or closed to this role cannot lead it anywhere.
            if std::fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
                let text = format!(
                    "{} must be a folder and no link: put it right",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
            }
        }
        Ok(())
    }

    paths! {
        /// Where commands and other programs place requests.
        requests => "requests";
        /// What `list` and `status` read.
        view => "view";
        /// The link keys: of transmit or receive alone.
        link_keys => "keys/link";
        /// Where gate or release hands link keys over to transmit or receive.
        handover_folder => "keys/handover";
        /// The channel and its administrators, fixed when the host was commissioned.
        host => "host.toml";
        /// The slots of all bundles.
        slots => "slots";
        /// The audit logs of both roles.
        audit => "audit";
        /// The index over the audit log.
        register => "register.db";
    }
}

impl SenderState {
    paths! {
        /// Submissions that wait for approvals.
        pending => "pending";
        /// Sealed containers, their geometry, and what gate tells transmit.
        outbox => "outbox";
        /// What gate knows of all serials.
        outbox_beacon => "outbox/beacon";
        /// How far transmit has come.
        progress => "progress";
    }

    /// Returns the folder of a pending submission.
    pub fn pending_of(&self, id: &MessageId) -> PathBuf {
        self.pending().join(id.to_string())
    }

    /// Returns a sealed container.
    pub fn container(&self, name: &OutboxName) -> PathBuf {
        self.outbox().join(format!("{name}.container"))
    }

    /// Returns the geometry of a sealed container.
    pub fn geometry(&self, name: &OutboxName) -> PathBuf {
        self.outbox().join(format!("{name}.fec"))
    }

    /// Returns the passes of a serial.
    pub fn progress_of(&self, serial: Serial) -> PathBuf {
        self.progress().join(serial.to_string())
    }
}

impl ReceiverState {
    paths! {
        /// Whole containers, as received.
        inbox => "inbox";
        /// The newest verified beacon.
        inbox_beacon => "inbox/beacon";
        /// Containers that were damaged after they arrived: release hands them back, so that receive takes them again.
        damaged => "damaged";
        /// Containers that receive is collecting.
        assembly => "assembly";
        /// What receive has completed, so that it is not collected again.
        completed => "assembly/completed";
        /// Published cables, a folder a mailbox.
        released => "released";
        /// Cables on their way to being published.
        stage => "released/.stage";
        /// Containers that were opened but not released.
        quarantine => "quarantine";
    }

    /// Returns a received container.
    pub fn container(&self, name: &InboxName) -> PathBuf {
        self.inbox().join(format!("{name}.container"))
    }

    /// Returns a container that release hands back.
    pub fn handed_back(&self, name: &InboxName) -> PathBuf {
        self.damaged().join(format!("{name}.container"))
    }

    /// Returns a container in quarantine.
    pub fn quarantined(&self, name: &InboxName) -> PathBuf {
        self.quarantine().join(format!("{name}.container"))
    }

    /// Returns a mailbox's folder.
    pub fn mailbox(&self, mailbox: &MailboxId) -> PathBuf {
        self.released().join(mailbox.as_str())
    }

    /// Returns a cable published to a mailbox.
    pub fn released_cable(&self, mailbox: &MailboxId, serial: Serial, id: &MessageId) -> PathBuf {
        self.mailbox(mailbox).join(format!("{serial}-{id}"))
    }
}

/// Returns the file of a part in a pending or released folder: `part-001` and the media type's extension.
pub fn part_file(number: usize, extension: &str) -> String {
    format!("part-{number:03}{extension}")
}

/// Returns the file of an officer's approval in a pending or released folder.
pub fn approval_file(officer: &PersonId) -> String {
    format!("{officer}.sig")
}

/// The group may place requests, and the sticky bit keeps them from deleting each other's.
const REQUESTS_MODE: u32 = 0o3770;

/// Both roles of a host write here, and the sticky bit keeps each from deleting the other's log: on an installed host the
/// folder is root's.
const AUDIT_MODE: u32 = 0o3770;

/// Both roles of a host write here, and the sticky bit keeps the role on the network from replacing the other's view.
const VIEW_MODE: u32 = 0o3770;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn folders_are_made_once_with_their_modes() {
        let folder = tempfile::tempdir().unwrap();
        let sender = SenderState::new(folder.path().join("sender"));
        let receiver = ReceiverState::new(folder.path().join("receiver"));
        for _ in 0..2 {
            sender.create_all().unwrap();
            receiver.create_all().unwrap();
        }
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(sender.requests()), 0o3770);
        assert_eq!(mode(sender.tmp(Role::Gate)), 0o700);
        assert_eq!(mode(sender.link_keys()), 0o700);
        assert_eq!(mode(sender.handover_folder()), 0o2770);
        assert_eq!(mode(receiver.audit()), 0o3770);
        assert_eq!(mode(receiver.view()), 0o3770);
        assert_eq!(mode(receiver.slots()), 0o700);
        assert_eq!(mode(receiver.stage()), 0o700);
    }

    #[test]
    fn a_planted_link_in_place_of_a_folder_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let sender = SenderState::new(folder.path().join("sender"));
        std::fs::create_dir(sender.root()).unwrap();
        std::os::unix::fs::symlink(folder.path(), sender.outbox()).unwrap();
        assert!(sender.create_all().is_err());
    }
}
