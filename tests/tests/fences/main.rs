//! A fence that the kernel or the service manager refuses ends a role at its start, or raises an alarm as long as the
//! role runs.
#![allow(clippy::unwrap_used)]

mod probes;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use valise_tests::harness::{Host, Programs, Role, Settings, World, await_condition, remark};

/// The variable that tells the launcher which calls to refuse, and with which error.
const REFUSAL: &str = "VALISE_TEST_REFUSAL";
const LANDLOCK: &str = "landlock";
const SECCOMP: &str = "seccomp";
const MLOCKALL: &str = "mlockall";
const CAPSET: &str = "capset";
const NETLINK: &str = "netlink";

/// The calls of a fence, by its name. The launcher's filter refuses them with an error; `socket` only for one family.
fn calls_of(name: &str) -> BTreeMap<i64, Vec<SeccompRule>> {
    let whole = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect();
    match name {
        LANDLOCK => whole(&[
            libc::SYS_landlock_create_ruleset,
            libc::SYS_landlock_add_rule,
            libc::SYS_landlock_restrict_self,
        ]),
        SECCOMP => whole(&[libc::SYS_seccomp]),
        MLOCKALL => whole(&[libc::SYS_mlockall]),
        CAPSET => whole(&[libc::SYS_capset]),
        NETLINK => {
            let (family, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
            let netlink = u64::try_from(libc::AF_NETLINK).unwrap();
            let condition = SeccompCondition::new(0, family, equal, netlink).unwrap();
            let rule = SeccompRule::new(vec![condition]).unwrap();
            BTreeMap::from([(libc::SYS_socket, vec![rule])])
        }
        other => panic!("{other}"),
    }
}

/// Becomes the program whose command line follows `--`, under a filter that refuses the calls of `REFUSAL`, like the
/// filter of a service manager. It runs in a process of its own: this test program, started again by
/// [`launcher_words`].
#[test]
fn launcher() {
    let Ok(refusal) = std::env::var(REFUSAL) else {
        return;
    };
    let (name, errno) = refusal.split_once(' ').unwrap();
    let filter: BpfProgram = SeccompFilter::new(
        calls_of(name),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.parse().unwrap()),
        TargetArch::try_from(std::env::consts::ARCH).unwrap(),
    )
    .unwrap()
    .try_into()
    .unwrap();
    if name == MLOCKALL {
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).unwrap();
    }
    seccompiler::apply_filter(&filter).unwrap();
    let mut words = std::env::args().skip_while(|word| word != "--").skip(1);
    let mut command = Command::new(words.next().unwrap());
    let error = command.args(words).env_remove(REFUSAL).exec();
    panic!("{error}");
}

/// The words that start a program in this way, to be put before its own command line.
fn launcher_words(name: &str, errno: i32) -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    let refusal = format!("{REFUSAL}={name} {errno}");
    [
        "/usr/bin/env",
        &refusal,
        &program,
        "--exact",
        "--nocapture",
        "launcher",
        "--",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Runs a role, or `run`, until it ends.
fn run_under(world: &World, host: Host, role: Option<Role>, name: &str, errno: i32) -> Output {
    let mut words = launcher_words(name, errno);
    words.extend(match role {
        Some(role) => world.program_as(role),
        None => vec![world.program(host).display().to_string()],
    });
    Command::new(&words[0])
        .args(&words[1..])
        .args([role.map_or("run", Role::word), "--config"])
        .arg(world.configuration(host))
        .output()
        .unwrap()
}

fn world(extra: &str) -> World {
    world_of(extra, false)
}

fn world_of(extra: &str, one_user: bool) -> World {
    let settings = Settings {
        one_user,
        sender_extra: extra.to_owned(),
        receiver_extra: extra.to_owned(),
        ..Settings::default()
    };
    World::commission(Programs::built().unwrap(), settings).unwrap()
}

fn assert_refused(output: &Output, fence: &str, advice: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    for expected in [fence, advice, "required = false"] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
}

fn may_lift_limit() -> bool {
    let mut command = Command::new("prlimit");
    let status = command
        .args(["--memlock=unlimited:unlimited", "true"])
        .status();
    let is_allowed = status.is_ok_and(|status| status.success());
    if !is_allowed {
        remark("SKIPPED in part: the limit on locked memory cannot be lifted here");
    }
    is_allowed
}

#[test]
fn a_refused_fence_ends_every_role_with_3_and_names_itself_and_what_to_do() {
    let world = world("");
    for role in Role::ALL {
        for (name, errno, fence, advice) in [
            (
                LANDLOCK,
                libc::EPERM,
                "files are not restricted",
                "SystemCallFilter=",
            ),
            (
                LANDLOCK,
                libc::ENOSYS,
                "files are not restricted",
                "CONFIG_SECURITY_LANDLOCK",
            ),
            (
                LANDLOCK,
                libc::EOPNOTSUPP,
                "files are not restricted",
                "lsm=",
            ),
            (
                SECCOMP,
                libc::EPERM,
                "system calls are not restricted",
                "SystemCallFilter=",
            ),
            (
                SECCOMP,
                libc::ENOSYS,
                "system calls are not restricted",
                "CONFIG_SECCOMP_FILTER",
            ),
        ] {
            let output = run_under(&world, role.host(), Some(role), name, errno);
            assert_refused(&output, fence, advice);
        }
    }
    // The lock is a fence only without a limit, and lifting the limit takes a capability.
    if may_lift_limit() {
        let output = run_under(
            &world,
            Host::Receiver,
            Some(Role::Release),
            MLOCKALL,
            libc::EPERM,
        );
        assert_refused(&output, "memory is not locked", "LimitMEMLOCK=");
    }
    let world = world_of("", true);
    for host in [Host::Sender, Host::Receiver] {
        let output = run_under(&world, host, None, LANDLOCK, libc::EPERM);
        assert_refused(
            &output,
            "files are not restricted",
            "landlock_restrict_self",
        );
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("nothing is left running"), "{errors}");
    }
}

#[test]
fn without_a_required_fence_each_role_works_under_a_standing_alarm() {
    let mut world = world("[sandbox]\nrequired = false\n");
    for role in Role::ALL {
        world.start_by(role.host(), launcher_words(LANDLOCK, libc::EPERM));
        world.start_role(role).unwrap();
    }
    let file = world.generate_file("cable.bin", 1_000, 1).unwrap();
    let submission = valise_tests::harness::Submission::new("unfenced", &[file]);
    let limit = Duration::from_secs(60);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, limit).unwrap();
    for (host, roles) in [
        (Host::Sender, ["gate works", "transmit works"]),
        (Host::Receiver, ["release works", "receive works"]),
    ] {
        await_condition("the alarm of each role", limit, &[], || {
            let answer = world.run(host, &["status", "--check"])?;
            let alarms: Vec<&str> = answer
                .output
                .lines()
                .filter(|line| line.starts_with("fence: "))
                .collect();
            let told = roles
                .iter()
                .all(|role| alarms.iter().any(|line| line.contains(role)));
            Ok((answer.status == 1 && told).then_some(()))
        })
        .unwrap();
    }
    // All fences work again, but the configuration that allows the contrary still raises the alarm.
    for role in Role::ALL {
        world.stop(role.word()).unwrap();
        world.start_by(role.host(), Vec::new());
        world.start_role(role).unwrap();
    }
    for host in [Host::Sender, Host::Receiver] {
        await_condition("the alarm of the setting", limit, &[], || {
            let answer = world.run(host, &["status", "--check"])?;
            let is_told = answer
                .output
                .contains("has all of its fences, and would start without");
            Ok((is_told && !answer.output.contains("works without")).then_some(()))
        })
        .unwrap();
        let path = world.configuration(host);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("required = false", "required = true")).unwrap();
    }
    for role in Role::ALL {
        world.stop(role.word()).unwrap();
        world.start_role(role).unwrap();
    }
    for host in [Host::Sender, Host::Receiver] {
        await_condition("the end of the alarm", limit, &[], || {
            let answer = world.run(host, &["status", "--check"])?;
            Ok((!answer.output.contains("fence: ")).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn transmit_that_cannot_see_the_link_sends_under_an_alarm() {
    let mut world = world("");
    world.start_by(Host::Sender, launcher_words(NETLINK, libc::EAFNOSUPPORT));
    world.start_roles().unwrap();
    let file = world.generate_file("cable.bin", 1_000, 1).unwrap();
    let submission = valise_tests::harness::Submission::new("unseen", &[file]);
    let limit = Duration::from_secs(60);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, limit).unwrap();
    let (status, alarm) = await_condition("the alarm", limit, &[], || {
        let answer = world.run(Host::Sender, &["status", "--check"])?;
        let mut lines = answer.output.lines();
        let alarm = lines.find(|line| line.starts_with("link-unwatched: "));
        Ok(alarm.map(|alarm| (answer.status, alarm.to_owned())))
    })
    .unwrap();
    assert!(alarm.contains("AF_NETLINK"), "{alarm}");
    assert_eq!(status, 1);
}
