//! What a command reports to a user who lacks the group that the state's files ask for.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, User, getegid, geteuid, getgrouplist, getgroups};

use super::CliError;

/// Checks that this user may read what the daemons show, before a command reports what it has not found there.
///
/// # Errors
/// [`CliError::System`], with the group that has the right: that of `requests`.
pub fn check_reader(view: &Path, requests: &Path) -> Result<(), CliError> {
    match std::fs::read_dir(view) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(state_failure(&error, view, requests))
        }
        // A folder that is not there yet shows nothing.
        _ => Ok(()),
    }
}

/// Returns the failure of a command that only root can do where each role has a user of its own.
pub fn needs_root(command: &str) -> CliError {
    CliError::System(format!(
        "{command} is for root on this host, where each role has a user of its own: sudo {command}"
    ))
}

/// Returns the failure of a command on a file of the host's state. A missing right is reported with the group of `shared`
/// that has it, and with what its user can do.
pub fn state_failure(error: &io::Error, path: &Path, shared: &Path) -> CliError {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return CliError::System(format!("{}: {error}", path.display()));
    }
    let advice = match shared.metadata() {
        Ok(metadata) if metadata.mode() & 0o050 == 0o050 => advice(Gid::from_raw(metadata.gid())),
        Ok(metadata) => format!("it belongs to user {} alone", user_name(metadata.uid())),
        Err(_) => return CliError::System(format!("{}: {error}", path.display())),
    };
    CliError::System(format!(
        "{} is not open to this user: {advice}",
        path.display()
    ))
}

/// Returns what gives the calling user the rights of a group.
fn advice(gid: Gid) -> String {
    let group = match Group::from_gid(gid) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    };
    let is_in_session = getegid() == gid || getgroups().is_ok_and(|groups| groups.contains(&gid));
    if is_in_session {
        // The folder was made without the rights that `systemd-tmpfiles` gives it.
        return format!(
            "the group {group} should have the right; run systemd-tmpfiles --create on this host"
        );
    }
    let user = User::from_uid(geteuid()).ok().flatten();
    let is_member = user.as_ref().is_some_and(|user| {
        std::ffi::CString::new(user.name.as_bytes())
            .ok()
            .and_then(|name| getgrouplist(&name, user.gid).ok())
            .is_some_and(|groups| groups.contains(&gid))
    });
    if is_member {
        return format!("they joined the group {group} after this session began; log in again");
    }
    let name = user_name(geteuid().as_raw());
    format!(
        "the group {group} has the right; let root run usermod -aG {group} {name}, then log in again"
    )
}

fn user_name(uid: u32) -> String {
    match User::from_uid(uid.into()) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}
