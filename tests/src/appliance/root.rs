//! Debian systems for the installation: made once with `mmdebstrap`, kept in `target/`, unpacked for each run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Result;
use super::script::Side;
use crate::harness::{HarnessError, source_root};

/// The packages that README.md requires on a host, and those that the test needs to examine it.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,openssh-client,iproute2,nftables,sudo,procps,python3-minimal,acl,zstd";

/// Returns the folder with all files of this test.
///
/// # Errors
/// If the sources are not here.
pub fn folder() -> Result<PathBuf> {
    Ok(source_root()?.join("target/appliance"))
}

/// Runs a tool of this machine that must succeed.
///
/// # Errors
/// If it is missing or fails; its output is in the error.
pub fn tool(words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| HarnessError::io("run (is it installed?)", Path::new(program), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(HarnessError::Command {
        command: words.join(" "),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The packed root of a Debian release; `extra` packages make another one.
///
/// # Errors
/// If `mmdebstrap` fails.
pub fn packed(debian: &str, extra: &str) -> Result<PathBuf> {
    let name = format!("{debian}{}.tar", if extra.is_empty() { "" } else { "-vm" });
    let folder = folder()?;
    let packed = folder.join(name);
    if packed.is_file() {
        return Ok(packed);
    }
    fs::create_dir_all(&folder).map_err(|error| HarnessError::io("make", &folder, error))?;
    println!("appliance: making a root of Debian {debian} (once)");
    let making = packed.with_extension("making.tar");
    // OpenSSH's own test module replaces a hardware token; it must be the module of the same release.
    let token = "chroot \"$1\" sh -ec 'cd /tmp && apt-get -qq download openssh-tests && dpkg -x openssh-tests_*.deb x && \
                 install -D x/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so /opt/token/sk-dummy.so && rm -r x openssh-tests_*'";
    let mut include = PACKAGES.to_owned();
    if !extra.is_empty() {
        include.push(',');
        include.push_str(extra);
    }
    tool(&[
        "mmdebstrap",
        "--variant=minbase",
        &format!("--include={include}"),
        &format!("--customize-hook={token}"),
        debian,
        &making.display().to_string(),
    ])?;
    fs::rename(&making, &packed).map_err(|error| HarnessError::io("rename", &making, error))?;
    Ok(packed)
}

/// The people who have accounts on a host before Valise is installed.
pub const fn people(side: Side) -> &'static [&'static str] {
    match side {
        Side::Sender => &["admin", "anna", "ben", "carla"],
        Side::Receiver => &["admin", "ada", "otto", "olga", "rosa"],
    }
}

/// Unpacks a root for a host and prepares it: accounts, tokens, media, an administrator with `sudo`, and the packages
/// of `make deb` on a medium of their own.
///
/// # Errors
/// If the disk or a tool fails.
pub fn unpack(packed: &Path, root: &Path, side: Side) -> Result<()> {
    let shown = root.display().to_string();
    if root.exists() {
        tool(&["rm", "-rf", "--one-file-system", &shown])?;
    }
    fs::create_dir_all(root).map_err(|error| HarnessError::io("make", root, error))?;
    tool(&["tar", "-xf", &packed.display().to_string(), "-C", &shown])?;
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::write(&path, text).map_err(|error| HarnessError::io("write", &path, error))
    };
    write("etc/hostname", &format!("valise-{}\n", side.word()))?;
    write(
        "etc/hosts",
        &format!("127.0.0.1 localhost\n127.0.1.1 valise-{}\n", side.word()),
    )?;
    write("etc/machine-id", "")?;
    write("etc/sudoers.d/admin", "admin ALL=(ALL) NOPASSWD: ALL\n")?;
    write(
        "etc/profile.d/token.sh",
        "export SSH_SK_PROVIDER=/opt/token/sk-dummy.so\n",
    )?;
    let mut line = String::from("set -e; chmod 0440 /etc/sudoers.d/admin; ");
    for person in people(side) {
        line.push_str(&format!(
            "useradd -m -s /bin/bash {person}; install -d -o {person} -g {person} -m 0700 /home/{person}/.ssh; "
        ));
    }
    line.push_str("install -d -m 0777 /media/courier; install -d -m 0700 /media/auditor");
    tool(&["chroot", &shown, "/bin/sh", "-c", &line])?;
    let packages = source_root()?.join("target/debian").display().to_string();
    let line = format!("install -D -m 0644 -t {shown}/media/packages {packages}/*.deb");
    tool(&["sh", "-c", &line]).map(drop)
}
