//! Files: the role's own, and no others.

use std::error::Error;
use std::io;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use nix::errno::Errno;

use super::{Fence, Profile, RefusedFence};
use crate::os::serial::Direction;

/// The Landlock version whose rights are taken away where the kernel knows them: Linux 6.12. A
/// kernel without one of them restricts the rest.
const VERSION: ABI = ABI::V6;

/// The Landlock version without which there is no fence: that of Debian 12's kernel, Linux 5.19.
const VERSION_LEAST: ABI = ABI::V2;

/// Restricts this process and its future children to the profile's files.
///
/// Paths that do not exist are passed over: they give no right.
pub(super) fn restrict(profile: &Profile) -> Result<(), RefusedFence> {
    // Landlock's crate asks the kernel for its version here and does not report why there is none.
    Errno::clear();
    let ruleset = Ruleset::default();
    let asked = Errno::last();
    let status = build(ruleset, profile).map_err(|error| match cause(&error) {
        Some(cause) => RefusedFence::new(Fence::Files, cause),
        None if asked != Errno::UnknownErrno => RefusedFence::new(Fence::Files, &asked.into()),
        None => RefusedFence::because(Fence::Files, error),
    })?;
    match status {
        // An older kernel restricts what it can.
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(RefusedFence::new(Fence::Files, &asked.into())),
    }
}

fn build(ruleset: Ruleset, profile: &Profile) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // No device is ever made, and truncation, renames between folders and device control come with
    // writing.
    let write = AccessFs::from_all(VERSION)
        & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::Execute);
    let port = profile.port.as_ref().map(|port| {
        let way = match port.direction {
            Direction::Send => AccessFs::WriteFile,
            Direction::Receive => AccessFs::ReadFile,
        };
        path_beneath_rules([&port.below], way | AccessFs::IoctlDev)
    });
    let status = ruleset
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(VERSION_LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(path_beneath_rules(&profile.read, read))?
        .add_rules(path_beneath_rules(&profile.write, write))?
        .add_rules(port.into_iter().flatten())?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Returns the system's error below an error of Landlock's crate.
fn cause(error: &RulesetError) -> Option<&io::Error> {
    let mut below: Option<&dyn Error> = Some(error);
    while let Some(error) = below {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        below = error.source();
    }
    None
}
