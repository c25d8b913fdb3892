//! Each role, while it runs, is made to call what it must not: `probe.c` is loaded into it. Without the fence the same
//! call works, so a probe that cannot fail would be detected.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::libc;
use nix::unistd::geteuid;
use valise_tests::harness::{HarnessError, Host, Role, World, await_condition, remark};

use super::{CAPSET, LANDLOCK, SECCOMP, launcher_words, world_of};

const ROLES: [Role; 4] = [Role::Gate, Role::Transmit, Role::Receive, Role::Release];

/// The calls that end every role.
const FORBIDDEN: [&str; 23] = [
    "bpf",
    "capset",
    "clone-namespace",
    "execve",
    "init_module",
    "io_uring_setup",
    "keyctl",
    "kill",
    "listen",
    "memfd_create",
    "mount",
    "perf_event_open",
    "personality",
    "pidfd_open",
    "process_vm_readv",
    "ptrace",
    "sched_setaffinity",
    "setns",
    "setpriority",
    "setuid",
    "tiocsti",
    "unshare",
    "userfaultfd",
];

/// The calls that are refused to every role.
const REFUSED: [&str; 17] = [
    "clone-process",
    "clone3",
    "dumpable",
    "interface",
    "limit",
    "mmap-code",
    "mprotect-code",
    "others-limit",
    "others-signal",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "socket-inet",
    "socket-inet6",
    "socket-netlink",
    "socket-unix",
];

/// The further calls that are refused to a role.
fn refused_to(role: Role) -> &'static [&'static str] {
    match role {
        Role::Gate | Role::Release => &["whom-to-signal", "connect", "sendmmsg", "recvmmsg"],
        Role::Receive => &["whom-to-signal", "connect", "sendmmsg"],
        Role::Transmit => &["whom-to-signal", "recvmmsg"],
    }
}

struct Probe {
    library: PathBuf,
    _folder: tempfile::TempDir,
}

impl Probe {
    fn compile() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("probe.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fences/probe.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]);
        assert!(
            compiler
                .args([&library, &source])
                .status()
                .unwrap()
                .success()
        );
        Self {
            library,
            _folder: folder,
        }
    }

    fn variables(&self, probes: &[&str]) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("VALISE_TEST_PROBES", probes.join("\n")),
        ]
    }

    /// Runs a role with probes until it ends, with one fence refused or none.
    fn run(&self, world: &World, role: Role, without: Option<&str>, probes: &[&str]) -> Output {
        let mut words: Vec<String> = Vec::new();
        if let Some(fence) = without {
            words = launcher_words(fence, libc::EPERM);
        }
        // The library must not be loaded into the launcher itself.
        words.push("/usr/bin/env".to_owned());
        for (name, value) in self.variables(probes) {
            words.push(format!("{name}={value}"));
        }
        words.push(world.program(role.host()).display().to_string());
        Command::new(&words[0])
            .args(&words[1..])
            .args([role.word(), "--config"])
            .arg(world.configuration(role.host()))
            .output()
            .unwrap()
    }

    /// The error of each probe, 0 if the call worked.
    fn errors(
        &self,
        world: &World,
        role: Role,
        without: Option<&str>,
        probes: &[&str],
    ) -> Vec<i32> {
        let output = self.run(world, role, without, probes);
        let text = String::from_utf8_lossy(&output.stderr);
        let of = |probe: &&str| {
            let start = format!("probe {probe}: ");
            let mut lines = text.lines();
            let line = lines.find_map(|line| line.strip_prefix(&start));
            line.unwrap_or_else(|| panic!("{role:?} {probe}: {text}"))
                .parse()
                .unwrap()
        };
        probes.iter().map(of).collect()
    }
}

fn unfenced() -> World {
    world_of("[sandbox]\nrequired = false\n", true)
}

#[test]
fn what_no_role_ever_calls_ends_each_of_them() {
    let (probe, world) = (Probe::compile(), unfenced());
    for role in ROLES {
        for forbidden in FORBIDDEN {
            let ended = probe.run(&world, role, None, &[forbidden]).status;
            assert_eq!(ended.signal(), Some(libc::SIGSYS), "{role:?} {forbidden}");
        }
        let lives = probe.run(&world, role, Some(SECCOMP), &FORBIDDEN);
        assert_eq!(lives.status.code(), Some(0), "{role:?} {lives:?}");
    }
}

#[test]
fn what_a_role_does_not_do_is_refused_to_it() {
    let (probe, world) = (Probe::compile(), unfenced());
    for role in ROLES {
        let probes = [&REFUSED, refused_to(role)].concat();
        let refused = probe.errors(&world, role, None, &probes);
        let allowed = probe.errors(&world, role, Some(SECCOMP), &probes);
        for (name, (refused, allowed)) in probes.iter().zip(refused.iter().zip(allowed)) {
            // A role without a socket of its own has no call that could be refused.
            let has_no_socket = *refused == libc::ENOTSOCK && allowed == libc::ENOTSOCK;
            assert!(
                *refused == libc::ENOSYS || has_no_socket,
                "{role:?} {name}: {refused}"
            );
            assert_ne!(allowed, libc::ENOSYS, "{role:?} {name}");
        }
    }
}

#[test]
fn each_role_reaches_its_own_files_and_no_others() {
    let (probe, world) = (Probe::compile(), unfenced());
    for role in ROLES {
        let state = world.state(role.host());
        let outside = world.folder().join("outside");
        fs::write(&outside, "").unwrap();
        let path = |name: &str| state.join(name).display().to_string();
        let mut probes = vec![
            format!("write {}", outside.display()),
            "read /etc/passwd".to_owned(),
            "read /proc/self/status".to_owned(),
            "read /proc/1/cmdline".to_owned(),
            "read /sys/devices/system/cpu/online".to_owned(),
            "read /usr/lib".to_owned(),
            "read /".to_owned(),
        ];
        match role {
            Role::Gate | Role::Release => {}
            Role::Transmit => {
                probes.extend(
                    ["slots", "trust", "audit/gate.log"].map(|name| format!("read {}", path(name))),
                );
            }
            Role::Receive => {
                probes.extend(
                    ["slots", "trust", "released", "audit/release.log"]
                        .map(|name| format!("read {}", path(name))),
                );
            }
        }
        let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
        for (name, error) in probes.iter().zip(probe.errors(&world, role, None, &probes)) {
            assert_eq!(error, libc::EACCES, "{role:?} {name}");
        }
        for (name, error) in probes
            .iter()
            .zip(probe.errors(&world, role, Some(LANDLOCK), &probes))
        {
            assert_eq!(error, 0, "{role:?} {name}");
        }
    }
}

#[test]
fn a_role_that_root_starts_has_no_right_of_root() {
    if !geteuid().is_root() {
        remark("SKIPPED: only root has capabilities to drop");
        return;
    }
    let (probe, world) = (Probe::compile(), unfenced());
    for role in ROLES {
        let state = world.state(role.host());
        let folder = match role {
            Role::Gate | Role::Release => "requests",
            Role::Transmit => "progress",
            Role::Receive => "inbox",
        };
        let file = state.join(folder).join("others");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        chown(&file, Some(65_534), Some(65_534)).unwrap();
        let read = format!("read {}", file.display());
        let errors = |without| probe.errors(&world, role, without, &[&read]);
        assert_eq!(errors(None), [libc::EACCES], "{role:?}");
        assert_eq!(errors(Some(CAPSET)), [0], "{role:?}");
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn an_end_by_a_forbidden_call_is_an_alarm_until_its_notes_are_taken_away() {
    let (probe, mut world) = (Probe::compile(), world_of("", true));
    let limit = Duration::from_secs(60);
    let hosts = [(Host::Sender, "gate"), (Host::Receiver, "release")];
    for (host, _) in hosts {
        let once = world.state(host).join("once");
        fs::write(&once, "").unwrap();
        let mut variables = probe.variables(&["execve"]).to_vec();
        variables.push(("VALISE_TEST_ONCE", once.display().to_string()));
        let words = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let words = ["/usr/bin/env".to_owned()].into_iter().chain(words);
        world.start_by(host, words.collect());
    }
    let alarm = |world: &World, host| {
        let answer = world.run(host, &["status", "--check"])?;
        let mut lines = answer.output.lines();
        let alarm = lines.find(|line| line.starts_with("forbidden-call: "));
        Ok(alarm.map(str::to_owned))
    };
    let stop = |world: &mut World| {
        for (host, _) in hosts {
            world.stop_host(host).unwrap();
        }
        world.stop("wire").unwrap();
    };
    // The role that makes the call ends, and `run` with it: once on each host.
    let mut ends = 0;
    for (host, role) in hosts {
        let text = loop {
            let started = world.start();
            let seen = started.and_then(|()| {
                world.await_alive("the alarm", limit, &[], |world| alarm(world, host))
            });
            match seen {
                Ok(text) => break text,
                Err(HarnessError::Ended { .. }) if ends < hosts.len() => ends += 1,
                Err(error) => panic!("{error}"),
            }
            stop(&mut world);
        };
        let expected = format!("the kernel ended {role} 1 time,");
        assert!(text.contains(&expected), "{text}");
        let notes = format!("audit/{role}.forbidden-call");
        fs::remove_file(world.state(host).join(notes)).unwrap();
        stop(&mut world);
    }
    assert_eq!(ends, hosts.len());
    world.start().unwrap();
    for (host, _) in hosts {
        let is_over = || Ok(alarm(&world, host)?.is_none().then_some(()));
        await_condition("the end of the alarm", limit, &[], is_over).unwrap();
    }
}

#[test]
fn the_service_managers_report_of_such_an_end_is_noted_and_no_other() {
    let world = world_of("", true);
    for role in ROLES {
        let host = role.host();
        let notes = world
            .state(host)
            .join(format!("audit/{}.forbidden-call", role.word()));
        for (code, status, is_noted) in [
            ("exited", "0", false),
            ("killed", "KILL", false),
            ("killed", "SYS", true),
        ] {
            let ended = Command::new(world.program(host))
                .args(["note-end", role.word(), "--config"])
                .arg(world.configuration(host))
                .env("EXIT_CODE", code)
                .env("EXIT_STATUS", status)
                .status()
                .unwrap();
            assert!(ended.success());
            assert_eq!(notes.exists(), is_noted, "{role:?} {status}");
        }
    }
}
