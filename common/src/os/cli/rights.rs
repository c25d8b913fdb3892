//! What a command reports to a user who lacks the group that the state's files ask for.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, User, getegid, geteuid, getgrouplist, getgroups};

use super::CliError;

/// Returns the failure of a command on a file of the host's state. A missing right is reported with the group of `shared`
/// that has it, and with what its user can do.
pub fn state_failure(error: &io::Error, path: &Path, shared: &Path) -> CliError {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return CliError::System(format!("{}: {error}", path.display()));
    }
    let Ok(gid) = shared.metadata().map(|metadata| metadata.gid()) else {
        return CliError::System(format!("{}: {error}", path.display()));
    };
    CliError::System(format!(
        "{} is not open to this user: {}",
        path.display(),
        advice(Gid::from_raw(gid))
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
            "the group {group} should have it; run systemd-tmpfiles --create on this host"
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
        return format!("it joined the group {group} after this session began; log in again");
    }
    let name = user.map_or_else(|| geteuid().to_string(), |user| user.name);
    format!("the group {group} has it; let root run usermod -aG {group} {name}, and log in again")
}
