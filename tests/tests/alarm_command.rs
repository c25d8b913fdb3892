//! `[alarm] command` of the isolated host: a real release, with a command that the role itself is not allowed to run.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use valise_tests::harness::{Host, Programs, Role, Settings, World};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn release_has_the_alarm_command_write_where_it_cannot() {
    let outside = tempfile::tempdir().unwrap();
    // The command runs as the role's user.
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let told = outside.path().join("told");
    let script = format!("echo \"$1\" >>{}", told.display());
    let settings = Settings {
        receiver_extra: format!(
            "[release]\nsilence_alarm = '1 s'\n[alarm]\ncommand = ['/bin/sh', '-c', '{script}', 'sh']\n"
        ),
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    // Nothing arrives, because no sender runs.
    world.start_role(Role::Receive).unwrap();
    world.start_role(Role::Release).unwrap();
    let log = world.state(Host::Receiver).join("audit/release.log");
    let line = world
        .await_alive("a page", LIMIT, &[outside.path().to_owned()], |_| {
            let text = fs::read_to_string(&told).unwrap_or_default();
            Ok(text.split_once('\n').map(|(line, _)| line.to_owned()))
        })
        .unwrap();
    // By then it is in the audit log.
    let (word, _) = line.split_once(": ").unwrap();
    let audited = fs::read_to_string(log).unwrap();
    assert!(
        audited
            .lines()
            .any(|one| one.contains("\"alarm\"") && one.contains(word)),
        "{line} is not in {audited}"
    );
}
