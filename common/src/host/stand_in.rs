//! What root does in place of a daemon is done as the daemon's user.
//!
//! Commissioning needs no daemon: `init`, imports and `bundle create` work on the state themselves,
//! and on a host with a user for each role it is root who calls them. Whatever they write must
//! belong to the role that goes on with it, or the daemon cannot open its own log. So root takes
//! on the user whom the role's folder in `tmp/` belongs to, which `systemd-tmpfiles` made, for just
//! that work. Any other caller, and root in a state that is all root's, does it as itself.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setegid, seteuid, setgroups};

/// The user whose work is done.
#[derive(Debug)]
pub struct StandIn(Whose);

#[derive(Debug)]
enum Whose {
    /// This process's own.
    Ours,
    /// The role's, by root.
    Roles(User),
    /// The role's, by a user who can take on nobody.
    Foreign,
}

#[derive(Debug)]
struct User {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Gives back what was laid down, whatever the work came to.
struct Back {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl StandIn {
    /// Finds the user of a role: the owner of its folder `tmp`, who is in the groups of the
    /// state's folders (`root`) and in those given besides.
    ///
    /// # Errors
    /// If the folders cannot be looked at. No `tmp` is no error: then nobody else is meant.
    pub fn of(root: &Path, tmp: &Path, groups: &[u32]) -> io::Result<Self> {
        let owner = match fs::symlink_metadata(tmp) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self(Whose::Ours)),
            other => other?,
        };
        if owner.uid() == geteuid().as_raw() {
            return Ok(Self(Whose::Ours));
        }
        if !geteuid().is_root() {
            return Ok(Self(Whose::Foreign));
        }
        let mut gids: BTreeSet<u32> = groups.iter().copied().collect();
        gids.insert(fs::symlink_metadata(root)?.gid());
        for entry in crate::os::durable::list(root)? {
            gids.insert(entry?.metadata()?.gid());
        }
        // A folder that was left to root makes nobody a member of root's group.
        gids.remove(&0);
        Ok(Self(Whose::Roles(User {
            uid: Uid::from_raw(owner.uid()),
            gid: Gid::from_raw(owner.gid()),
            groups: gids.into_iter().map(Gid::from_raw).collect(),
        })))
    }

    /// Returns whether the role has a user of its own, whom this process is not and cannot be: it has to ask the daemon.
    pub fn is_foreign(&self) -> bool {
        matches!(self.0, Whose::Foreign)
    }

    /// Does a piece of work as that user.
    ///
    /// # Errors
    /// If the user cannot be taken on; the work is not done then.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let Whose::Roles(user) = &self.0 else {
            return Ok(work());
        };
        // Groups first: without root's rights they cannot be changed.
        let _back = Back {
            uid: geteuid(),
            gid: getegid(),
            groups: getgroups()?,
        };
        setgroups(&user.groups)?;
        setegid(user.gid)?;
        seteuid(user.uid)?;
        Ok(work())
    }
}

/// A role that was started as another user than the one to whom its part of the state belongs.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} belongs to {owner}, and this is {us}: what it writes would be out of {owner}'s reach; run it as {owner} \
     (sudo -u {owner} …); nothing was changed"
)]
pub struct OtherOwner {
    path: String,
    owner: String,
    us: String,
}

/// Refuses to run a role on a state that is another user's: the owner of the role's folder `tmp`, or else of the state.
///
/// # Errors
/// [`OtherOwner`]. A state that is not there yet is nobody's.
pub fn check_owner(root: &Path, tmp: &Path) -> Result<(), OtherOwner> {
    let name = |uid: u32| {
        let user = nix::unistd::User::from_uid(Uid::from_raw(uid));
        user.ok()
            .flatten()
            .map_or_else(|| format!("user {uid}"), |user| user.name)
    };
    for path in [tmp, root] {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            continue;
        };
        let us = geteuid().as_raw();
        // Without its folder a role shares the state's folder with the host's other one.
        if metadata.uid() == us || (path == root && us != 0) {
            return Ok(());
        }
        return Err(OtherOwner {
            path: path.display().to_string(),
            owner: name(metadata.uid()),
            us: name(us),
        });
    }
    Ok(())
}

impl Drop for Back {
    fn drop(&mut self) {
        // Should it fail, the process has fewer rights than before, and its next step says so.
        let _ = seteuid(self.uid);
        let _ = setegid(self.gid);
        let _ = setgroups(&self.groups);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_role_is_run_by_the_owner_of_its_state_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (root, tmp) = (folder.path().join("state"), folder.path().join("state/tmp"));
        check_owner(&root, &tmp).unwrap();
        fs::create_dir_all(&tmp).unwrap();
        check_owner(&root, &tmp).unwrap();
        if !geteuid().is_root() {
            println!("SKIPPED in part: only root gives a folder away");
            return;
        }
        chown(&tmp, Some(65_534), None).unwrap();
        let told = check_owner(&root, &tmp).unwrap_err().to_string();
        assert!(
            told.contains("belongs to nobody") || told.contains("user 65534"),
            "{told}"
        );
        fs::remove_dir(&tmp).unwrap();
        check_owner(&root, &tmp).unwrap();
        chown(&root, Some(65_534), None).unwrap();
        check_owner(&root, &tmp).unwrap_err();
    }
}
