//! The work of `make install`, `systemd-sysusers` and `systemd-tmpfiles`, by numbers and in a folder: the shipped files
//! are read, and each name gets a number that no account has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::acl;
use super::error::{Context, HarnessError, Result};
use super::world::{Host, Role};

/// The first number that is given to a name; users and groups share the sequence.
const FIRST_ID: u32 = 1_790_000;
/// Runs a program as another user.
const SETPRIV: &str = "/usr/bin/setpriv";

impl Host {
    fn sysusers(self) -> &'static str {
        match self {
            Self::Sender => include_str!("../../../config/sysusers/valise-sender.conf"),
            Self::Receiver => include_str!("../../../config/sysusers/valise-receiver.conf"),
        }
    }

    fn tmpfiles(self) -> &'static str {
        match self {
            Self::Sender => include_str!("../../../config/tmpfiles/valise-sender.conf"),
            Self::Receiver => include_str!("../../../config/tmpfiles/valise-receiver.conf"),
        }
    }

    fn installed_state(self) -> &'static str {
        match self {
            Self::Sender => "/var/lib/valise-sender",
            Self::Receiver => "/var/lib/valise-receiver",
        }
    }
}

impl Role {
    fn unit(self) -> &'static str {
        match self {
            Self::Gate => include_str!("../../../config/systemd/valise-sender-gate.service"),
            Self::Transmit => {
                include_str!("../../../config/systemd/valise-sender-transmit.service")
            }
            Self::Receive => {
                include_str!("../../../config/systemd/valise-receiver-receive.service")
            }
            Self::Release => {
                include_str!("../../../config/systemd/valise-receiver-release.service")
            }
        }
    }
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let told = text.lines().filter(|line| !line.starts_with('#'));
    told.map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| !fields.is_empty())
}

fn not_understood<T>(what: &str) -> Result<T> {
    Err(HarnessError::Wrong(format!("{what} is not understood")))
}

/// Returns the reason why no program can run here as another user with its files below a folder, if there is one.
pub fn obstacle(folder: &Path) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can start programs as other users".to_owned());
    }
    if !Path::new(SETPRIV).exists() {
        return Some("setpriv (util-linux) is not installed".to_owned());
    }
    if let Some(closed) = folder.ancestors().find(|above| !is_open(above)) {
        return Some(format!("{} is closed to other users", closed.display()));
    }
    let id = FIRST_ID.to_string();
    let words = ["--reuid", &id, "--regid", &id, "--clear-groups"];
    let rights = ["--inh-caps", "+net_admin", "--ambient-caps", "+net_admin"];
    let tried = Command::new(SETPRIV)
        .args(words.iter().chain(&rights))
        .arg("/bin/true")
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        _ => Some("this root may not give a program another user and CAP_NET_ADMIN".to_owned()),
    }
}

/// Returns whether every user may enter a folder, or run a program. A path that cannot be read counts as closed.
pub(super) fn is_open(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || fs::metadata(folder).is_ok_and(|found| found.mode() & 1 == 1)
}

/// The numbers of names, and the members of groups.
#[derive(Debug, Default)]
pub struct Accounts {
    ids: BTreeMap<String, u32>,
    member_of: BTreeMap<String, BTreeSet<u32>>,
}

/// A user for running a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its own group.
    pub gid: u32,
    groups: BTreeSet<u32>,
    /// The capabilities that its unit gives it, as `setpriv` writes them.
    capabilities: Option<String>,
}

impl Accounts {
    /// The users and groups of both hosts, as shipped.
    ///
    /// # Errors
    /// If a shipped file has an unknown line.
    pub fn shipped() -> Result<Self> {
        // The units do the same: locked memory reaches no swap device.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        let mut accounts = Self::default();
        for host in [Host::Sender, Host::Receiver] {
            for fields in lines(host.sysusers()) {
                match fields[..] {
                    ["g" | "u", name, ..] => accounts.add(name),
                    ["m", user, group, ..] => accounts.join(user, accounts.id(group)?),
                    _ => return not_understood(&fields.join(" ")),
                }
            }
        }
        Ok(accounts)
    }

    /// Makes a person, in these groups.
    ///
    /// # Errors
    /// When no group has such a name.
    pub fn person(&mut self, name: &str, groups: &[&str]) -> Result<User> {
        self.add(name);
        for group in groups {
            self.join(name, self.id(group)?);
        }
        self.user(name)
    }

    fn add(&mut self, name: &str) {
        let next = FIRST_ID + u32::try_from(self.ids.len()).unwrap_or(0);
        self.ids.entry(name.to_owned()).or_insert(next);
    }

    /// Adds root, who installs the hosts.
    pub fn add_root(&mut self) {
        self.ids.insert("root".to_owned(), 0);
    }

    /// Puts a user into a group.
    pub fn join(&mut self, user: &str, gid: u32) {
        let groups = self.member_of.entry(user.to_owned()).or_default();
        groups.insert(gid);
    }

    /// The number of a user or a group.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn id(&self, name: &str) -> Result<u32> {
        if name == "root" {
            return Ok(0);
        }
        let unknown = || HarnessError::Wrong(format!("nobody is named {name}"));
        self.ids.get(name).copied().ok_or_else(unknown)
    }

    /// A user with all its groups.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn user(&self, name: &str) -> Result<User> {
        let id = self.id(name)?;
        let mut groups = self.member_of.get(name).cloned().unwrap_or_default();
        groups.insert(id);
        Ok(User {
            uid: id,
            gid: id,
            groups,
            capabilities: None,
        })
    }

    /// The user of a role, with its groups and the capabilities that its unit adds.
    ///
    /// # Errors
    /// If the unit differs from the constants of the program that uses it.
    pub fn role(&self, role: Role) -> Result<User> {
        let value = |key: &str| {
            let mut lines = role.unit().lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        let name = value("User").unwrap_or_default();
        if value("UMask") != Some("0077") {
            return not_understood(&format!("the unit of {}", role.word()));
        }
        // In place of systemd, which binds the link's socket with a receive buffer above the system's limit.
        let capabilities = (role == Role::Receive).then(|| "+net_admin".to_owned());
        Ok(User {
            gid: self.id(value("Group").unwrap_or(name))?,
            capabilities,
            ..self.user(name)?
        })
    }

    /// Makes the folders of a host below `state`, by its file in `config/tmpfiles`.
    ///
    /// # Errors
    /// If a line is unknown, or the system refuses something.
    pub fn make_folders(&self, host: Host, state: &Path) -> Result<()> {
        for fields in lines(host.tmpfiles()) {
            let path = fields.get(1).unwrap_or(&"");
            let Some(rest) = path.strip_prefix(host.installed_state()) else {
                return not_understood(&fields.join(" "));
            };
            let path = state.join(rest.trim_start_matches('/'));
            match fields[..] {
                [kind @ ("d" | "f"), _, mode, user, group] => {
                    let made = match kind {
                        "d" => fs::create_dir(&path),
                        _ => fs::write(&path, ""),
                    };
                    made.context("make", &path)?;
                    let (uid, gid) = (self.id(user)?, self.id(group)?);
                    chown(&path, Some(uid), Some(gid)).context("give away", &path)?;
                    let Ok(mode) = u32::from_str_radix(mode, 8) else {
                        return not_understood(mode);
                    };
                    fs::set_permissions(&path, Permissions::from_mode(mode))
                        .context("set the mode of", &path)?;
                }
                ["a+", _, _, _, _, _, entries] => acl::add(&path, entries, self)?,
                _ => return not_understood(&fields.join(" ")),
            }
        }
        Ok(())
    }
}

impl User {
    /// Another user, in the same groups.
    #[must_use]
    pub fn colleague(&self) -> Self {
        Self {
            uid: self.uid + 1_000,
            ..self.clone()
        }
    }

    /// The command line that runs a program as this user with the umask of the units, without root's rights.
    pub fn command_line(&self, program: &Path) -> Vec<String> {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let mut words: Vec<String> = vec![SETPRIV.to_owned()];
        for (option, value) in [
            ("--reuid", self.uid.to_string()),
            ("--regid", self.gid.to_string()),
            ("--groups", groups.join(",")),
        ] {
            words.extend([option.to_owned(), value]);
        }
        if let Some(capabilities) = &self.capabilities {
            for option in ["--inh-caps", "--ambient-caps"] {
                words.extend([option.to_owned(), capabilities.clone()]);
            }
        }
        let rest = [
            "--no-new-privs",
            "--pdeathsig",
            "KILL",
            "--",
            "/bin/sh",
            "-c",
            "umask 0077; exec \"$@\"",
            "sh",
        ];
        words.extend(rest.map(str::to_owned));
        words.push(program.display().to_string());
        words
    }
}
