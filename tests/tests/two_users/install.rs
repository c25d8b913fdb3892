//! What `make install`, `systemd-sysusers` and `systemd-tmpfiles` do, by number and in a folder: the shipped files are read,
//! each name stands for a number that no account has.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::acl;

/// The first number that is given to a name; users and groups share the sequence.
const FIRST_ID: u32 = 1_790_000;

/// The numbers of names, and who is in which group.
#[derive(Debug, Default)]
pub struct Names {
    ids: BTreeMap<String, u32>,
    member_of: BTreeMap<String, BTreeSet<u32>>,
}

/// A user as which a program runs.
#[derive(Debug, Clone)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    groups: BTreeSet<u32>,
}

fn shipped(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join("config").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let told = text.lines().filter(|line| !line.starts_with('#'));
    told.map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| !fields.is_empty())
}

impl Names {
    /// Reads the users and groups of both hosts.
    pub fn shipped() -> Self {
        let mut names = Self::default();
        for host in ["sender", "receiver"] {
            for fields in lines(&shipped(&format!("sysusers/valise-{host}.conf"))) {
                match fields[..2] {
                    ["g" | "u", name] => names.add(name),
                    ["m", user] => names.join(user, names.gid(fields[2])),
                    _ => panic!("{fields:?} is not understood"),
                }
            }
        }
        names
    }

    /// Makes a person, in these groups.
    pub fn person(&mut self, name: &str, groups: &[&str]) -> User {
        self.add(name);
        for group in groups {
            self.join(name, self.gid(group));
        }
        self.user(name)
    }

    fn add(&mut self, name: &str) {
        let next = FIRST_ID + u32::try_from(self.ids.len()).unwrap();
        self.ids.entry(name.to_owned()).or_insert(next);
    }

    /// Names the one who installs.
    pub fn add_root(&mut self) {
        self.ids.insert("root".to_owned(), 0);
    }

    /// Puts a user into a group.
    pub fn join(&mut self, user: &str, gid: u32) {
        self.member_of
            .entry(user.to_owned())
            .or_default()
            .insert(gid);
    }

    pub fn uid(&self, name: &str) -> u32 {
        *self
            .ids
            .get(name)
            .unwrap_or_else(|| panic!("no user {name}"))
    }

    pub fn gid(&self, name: &str) -> u32 {
        *self
            .ids
            .get(name)
            .unwrap_or_else(|| panic!("no group {name}"))
    }

    pub fn user(&self, name: &str) -> User {
        let mut groups = self.member_of.get(name).cloned().unwrap_or_default();
        groups.insert(self.gid(name));
        User {
            uid: self.uid(name),
            gid: self.gid(name),
            groups,
        }
    }

    /// The user of a role, with the groups that its unit adds.
    pub fn role(&mut self, host: &str, role: &str) -> User {
        let unit = shipped(&format!("systemd/valise-{host}-{role}.service"));
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
        let name = value("User=").unwrap().to_owned();
        assert_eq!(value("Group="), Some(name.as_str()));
        assert_eq!(value("UMask="), Some("0027"));
        for group in value("SupplementaryGroups=").unwrap().split_whitespace() {
            self.join(&name, self.gid(group));
        }
        self.user(&name)
    }

    /// Makes the folders of a host below `state`, as its file in `config/tmpfiles` says.
    pub fn make_folders(&self, host: &str, state: &Path) {
        let installed = format!("/var/lib/valise-{host}");
        let place = |path: &str| {
            let rest = path.strip_prefix(&installed).unwrap();
            state.join(rest.trim_start_matches('/'))
        };
        for fields in lines(&shipped(&format!("tmpfiles/valise-{host}.conf"))) {
            let path = place(fields[1]);
            match fields[0] {
                kind @ ("d" | "f") => {
                    match kind {
                        "d" => fs::create_dir(&path),
                        _ => fs::write(&path, ""),
                    }
                    .unwrap();
                    chown(&path, Some(self.uid(fields[3])), Some(self.gid(fields[4]))).unwrap();
                    let mode = u32::from_str_radix(fields[2], 8).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                }
                "a+" => acl::add(&path, fields[6], self),
                other => panic!("{other} is not understood"),
            }
        }
    }
}

impl User {
    /// The arguments of `setpriv` that run a program as this user with the umask of the units, without root's rights.
    pub fn arguments(&self, program: &Path) -> Vec<String> {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        let groups = groups.join(",");
        let setpriv = [
            "--reuid",
            &uid,
            "--regid",
            &gid,
            "--groups",
            &groups,
            "--no-new-privs",
        ];
        let shell = [
            "--pdeathsig",
            "KILL",
            "--",
            "/bin/sh",
            "-c",
            "umask 0027; exec \"$@\"",
            "sh",
        ];
        let program = program.display().to_string();
        let words = setpriv.iter().chain(&shell).map(|word| (*word).to_owned());
        words.chain([program]).collect()
    }

    /// Runs a program as this user.
    pub fn run<S: AsRef<OsStr>>(&self, program: impl AsRef<Path>, arguments: &[S]) -> Output {
        Command::new(SETPRIV)
            .args(self.arguments(program.as_ref()))
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A folder that is this user's alone.
    pub fn folder(&self, path: PathBuf) -> PathBuf {
        fs::create_dir(&path).unwrap();
        chown(&path, Some(self.uid), Some(self.gid)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        path
    }
}

/// Runs a program as another user.
pub const SETPRIV: &str = "/usr/bin/setpriv";
