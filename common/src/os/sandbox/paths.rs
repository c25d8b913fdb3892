//! Files: the role's own, and the few of the system that its libraries read.

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::{Profile, SandboxError};

/// The Landlock version whose rights are taken away where the kernel knows them: Linux 6.12. A
/// kernel without one of them restricts the rest.
const VERSION: ABI = ABI::V6;

/// What the C library reads to map users and groups, to load its modules for that, and to know the
/// machine; and what SQLite seeds the names of its journals from.
const SYSTEM_READ: [&str; 16] = [
    "/dev/urandom",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/lib",
    "/lib64",
    "/proc",
    "/run/systemd",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/usr/lib",
    "/usr/lib64",
];

/// Restricts this process and its future children to the profile's files. Returns whether the
/// kernel can.
///
/// Paths that do not exist are passed over: they give no right.
pub(super) fn restrict(profile: &Profile) -> Result<bool, SandboxError> {
    build(profile).map_err(SandboxError::Paths)
}

fn build(profile: &Profile) -> Result<bool, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // No device is ever made, and truncation, renames between folders and device control come with
    // writing.
    let write = AccessFs::from_all(VERSION)
        & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::Execute);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM_READ, read))?
        .add_rules(path_beneath_rules(
            ["/dev/null"],
            read | AccessFs::WriteFile,
        ))?
        .add_rules(path_beneath_rules(&profile.read, read))?
        .add_rules(path_beneath_rules(&profile.write, write))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
