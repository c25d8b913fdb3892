//! Where each file of a host's state stands. No other place in the programs joins these paths.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::handover::Handover;
use crate::ids::{BundleId, ContainerId, MailboxId, MessageId, PersonId, Serial, parse_decimal};
use crate::os::durable::make_dir;
use crate::precedence::Precedence;
pub use crate::role::Role;
use crate::units::UtcTime;

/// The name of a container in `outbox/`: what `transmit` orders its queue by, without opening
/// anything.
///
/// # Shape
/// `<precedence 0–3>-<serial>-<not-after, seconds since 1970>`, then `.container` or, for its
/// geometry, `.fec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxName {
    /// 0 is FLASH.
    pub precedence: Precedence,
    /// The cable's serial.
    pub serial: Serial,
    /// When the cable is no longer worth sending.
    pub not_after: UtcTime,
}

impl OutboxName {
    /// Reads the name of a `.container` file; any other name is none.
    pub fn of_container(name: &OsStr) -> Option<Self> {
        name.to_str()?.strip_suffix(".container")?.parse().ok()
    }

    /// Reads the name of a `.fec` file; any other name is none.
    pub fn of_geometry(name: &OsStr) -> Option<Self> {
        name.to_str()?.strip_suffix(".fec")?.parse().ok()
    }
}

impl fmt::Display for OutboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}-{}",
            self.precedence.index(),
            self.serial,
            self.not_after.as_s()
        )
    }
}

/// A file name that no program of this host wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a container")]
pub struct NameError;

impl FromStr for OutboxName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut fields = text.split('-').map(parse_decimal);
        let mut field = || fields.next().and_then(Result::ok).ok_or(NameError);
        let index = u8::try_from(field()?).map_err(|_| NameError)?;
        let serial = Serial::new(field()?).ok_or(NameError)?;
        let not_after_s = field()?;
        let name = Self {
            precedence: Precedence::from_index(index).ok_or(NameError)?,
            serial,
            not_after: UtcTime::from_s(not_after_s),
        };
        if fields.next().is_some() || name.not_after.as_s() != not_after_s {
            return Err(NameError);
        }
        Ok(name)
    }
}

/// The name of a container in `inbox/` and in `quarantine/`: `<serial>-<container id>.container`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InboxName {
    /// The serial that its datagrams named.
    pub serial: Serial,
    /// The container's id.
    pub container: ContainerId,
}

impl InboxName {
    /// Reads the name of a `.container` file; any other name is none.
    pub fn of_container(name: &OsStr) -> Option<Self> {
        name.to_str()?.strip_suffix(".container")?.parse().ok()
    }
}

impl fmt::Display for InboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.serial, self.container)
    }
}

impl FromStr for InboxName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (serial, container) = text.split_once('-').ok_or(NameError)?;
        Ok(Self {
            serial: serial.parse().map_err(|_| NameError)?,
            container: container.parse().map_err(|_| NameError)?,
        })
    }
}

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

/// What stands on both hosts.
macro_rules! common_paths {
    () => {
        /// Takes the folder that the configuration names.
        pub fn new(root: impl Into<PathBuf>) -> Self {
            Self { root: root.into() }
        }

        /// The folder that the configuration names.
        pub fn root(&self) -> &Path {
            &self.root
        }

        /// Where a role stages what it writes; no other role and no start-up but its own touches
        /// it.
        pub fn tmp(&self, role: Role) -> PathBuf {
            self.root.join("tmp").join(role.as_str())
        }

        /// The room that a role holds on the disk: beside its log, where start-up deletes nothing.
        pub fn reserve(&self, role: Role) -> PathBuf {
            self.audit().join(format!("{role}.reserve"))
        }

        /// The files of a role's audit log after the first.
        pub fn audit_files(&self, role: Role) -> PathBuf {
            self.audit().join(role.as_str())
        }

        /// The checkpoints of a role's audit log, which the role opens again while it works.
        pub fn checkpoints(&self, role: Role) -> PathBuf {
            self.audit().join(format!("{role}.checkpoints"))
        }

        /// The ends of a role by forbidden calls, which its next start reports.
        pub fn forbidden_call(&self, role: Role) -> PathBuf {
            self.audit().join(format!("{role}.forbidden-call"))
        }

        /// Held by a role's daemon as long as it lives.
        pub fn lock(&self, role: Role) -> PathBuf {
            self.root.join(format!("{role}.lock"))
        }

        /// The link key that came with a bundle.
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

        /// The slots of a bundle.
        pub fn slots_of(&self, bundle: BundleId) -> PathBuf {
            self.slots().join(format!("{bundle}.slots"))
        }

        /// The n-th administrator's signature of the trust list, counted from 1.
        pub fn trust_signature(&self, number: usize) -> PathBuf {
            self.trust().join(format!("trust.toml.{number}.sig"))
        }

        /// What a role shows to `list` and `status`.
        pub fn view_of(&self, role: Role) -> PathBuf {
            self.view().join(format!("{role}.json"))
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
            /// The trust list and its signatures.
            trust => "trust";
            /// The trust list.
            trust_list => "trust/trust.toml";
            /// The audit logs of both roles.
            audit => "audit";
            /// The index over the audit log.
            register => "register.db";
        }
    };
}

/// The state of a sender host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderState {
    root: PathBuf,
}

impl SenderState {
    common_paths!();

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

    /// The folder of a pending submission.
    pub fn pending_of(&self, id: &MessageId) -> PathBuf {
        self.pending().join(id.to_string())
    }

    /// A sealed container.
    pub fn container(&self, name: &OutboxName) -> PathBuf {
        self.outbox().join(format!("{name}.container"))
    }

    /// The geometry of a sealed container.
    pub fn geometry(&self, name: &OutboxName) -> PathBuf {
        self.outbox().join(format!("{name}.fec"))
    }

    /// The passes of a serial.
    pub fn progress_of(&self, serial: Serial) -> PathBuf {
        self.progress().join(serial.to_string())
    }

    /// Every folder, each behind the one that holds it, and its mode.
    const FOLDERS: &[(&str, u32)] = &[
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

    /// Makes every folder that is absent; those that stand keep their owner and mode.
    ///
    /// # Errors
    /// If a folder cannot be made, or something else has its name.
    pub fn create_all(&self) -> io::Result<()> {
        create(&self.root, Self::FOLDERS)
    }

    /// Looks whether every folder that this process can see is one, and no link to somewhere else; for roles that make none.
    ///
    /// # Errors
    /// If something else has its name.
    pub fn check_all(&self) -> io::Result<()> {
        check(&self.root, Self::FOLDERS)
    }
}

/// The state of a receiver host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverState {
    root: PathBuf,
}

impl ReceiverState {
    common_paths!();

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

    /// A received container.
    pub fn container(&self, name: &InboxName) -> PathBuf {
        self.inbox().join(format!("{name}.container"))
    }

    /// A container that release hands back.
    pub fn handed_back(&self, name: &InboxName) -> PathBuf {
        self.damaged().join(format!("{name}.container"))
    }

    /// A container in quarantine.
    pub fn quarantined(&self, name: &InboxName) -> PathBuf {
        self.quarantine().join(format!("{name}.container"))
    }

    /// A mailbox's folder.
    pub fn mailbox(&self, mailbox: &MailboxId) -> PathBuf {
        self.released().join(mailbox.as_str())
    }

    /// A cable published to a mailbox.
    pub fn released_cable(&self, mailbox: &MailboxId, serial: Serial, id: &MessageId) -> PathBuf {
        self.mailbox(mailbox).join(format!("{serial}-{id}"))
    }

    /// Every folder, each behind the one that holds it, and its mode.
    const FOLDERS: &[(&str, u32)] = &[
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

    /// Makes every folder that is absent; those that stand keep their owner and mode.
    ///
    /// # Errors
    /// If a folder cannot be made, or something else has its name.
    pub fn create_all(&self) -> io::Result<()> {
        create(&self.root, Self::FOLDERS)
    }

    /// Looks whether every folder that this process can see is one, and no link to somewhere else; for roles that make none.
    ///
    /// # Errors
    /// If something else has its name.
    pub fn check_all(&self) -> io::Result<()> {
        check(&self.root, Self::FOLDERS)
    }
}

/// The file of a part in a pending or released folder: `part-001` and the media type's extension.
pub fn part_file(number: usize, extension: &str) -> String {
    format!("part-{number:03}{extension}")
}

/// The file of an officer's approval in a pending or released folder.
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

fn create(root: &Path, folders: &[(&str, u32)]) -> io::Result<()> {
    folders.iter().try_for_each(|(name, mode)| match *name {
        "" => make_dir(root, *mode),
        name => make_dir(&root.join(name), *mode),
    })
}

fn check(root: &Path, folders: &[(&str, u32)]) -> io::Result<()> {
    for (name, _) in folders.iter().filter(|(name, _)| !name.is_empty()) {
        let path = root.join(name);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn outbox_names_round_trip_and_order_by_precedence_then_serial() {
        let name = OutboxName {
            precedence: Precedence::Flash,
            serial: Serial::new(12).unwrap(),
            not_after: UtcTime::from_s(1_800_000_000),
        };
        assert_eq!(name.to_string(), "0-12-1800000000");
        assert_eq!(
            OutboxName::of_container(OsStr::new("0-12-1800000000.container")),
            Some(name)
        );
        assert_eq!(
            OutboxName::of_geometry(OsStr::new("0-12-1800000000.fec")),
            Some(name)
        );
        assert_eq!(
            OutboxName::of_geometry(OsStr::new("0-12-1800000000.container")),
            None
        );
        let later = OutboxName {
            serial: Serial::new(9).unwrap(),
            precedence: Precedence::Routine,
            ..name
        };
        assert!(name < later);
    }

    #[test]
    fn names_that_no_program_wrote_are_not_read() {
        for bad in [
            "",
            "beacon",
            "4-1-1",
            "0-0-1",
            "0-01-1",
            "0-1",
            "0-1-1-1",
            "0-1-",
            "0--1",
            "0-1-99999999999999",
        ] {
            assert_eq!(bad.parse::<OutboxName>(), Err(NameError), "{bad}");
        }
        for bad in [
            "",
            "1",
            "1-",
            "0-001122334455667788990011",
            "1-00112233445566778899001",
            "1-00112233445566778899001A",
        ] {
            assert_eq!(bad.parse::<InboxName>(), Err(NameError), "{bad}");
        }
        let name = InboxName {
            serial: Serial::FIRST,
            container: ContainerId::from_bytes([0xab; 12]),
        };
        assert_eq!(name.to_string().parse(), Ok(name));
    }

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
