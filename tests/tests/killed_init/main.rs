//! `init` is killed at each moment at which it changes something. The next `init` completes the work of the first; a
//! host that has a history is never changed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use valise_tests::harness::{Programs, Roster};

/// The exit status by which the helper reports that it killed.
const KILLED: i32 = 99;

/// A host that is not commissioned.
struct Bare {
    folder: tempfile::TempDir,
    program: PathBuf,
    roles: [&'static str; 2],
    roster: Vec<String>,
}

impl Bare {
    fn hosts() -> [Self; 2] {
        let programs = Programs::built().unwrap();
        [
            (programs.sender, "to", ["gate", "transmit"]),
            (programs.receiver, "listen", ["release", "receive"]),
        ]
        .map(|(program, way, roles)| {
            let folder = tempfile::tempdir().unwrap();
            let roster = Roster::generate(folder.path()).unwrap();
            let bare = Self {
                roster: roster.administrator_arguments(),
                program,
                roles,
                folder,
            };
            let link = format!("[link]\nkind = \"udp\"\n{way} = \"127.0.0.1:9\"\n");
            let state = bare.state("");
            let text = format!("state = \"{}\"\n{link}", state.display());
            fs::write(bare.path("config.toml"), text).unwrap();
            bare
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    /// Prepares a command of this host, started by the words of another program.
    fn run(&self, launcher: &[String], words: &[&str]) -> Output {
        let program = self.program.display().to_string();
        let mut all = launcher.to_vec();
        all.push(program);
        all.extend(words.iter().map(|word| (*word).to_owned()));
        if words[0] == "init" {
            all.extend(self.roster.iter().cloned());
        }
        let config = self.path("config.toml").display().to_string();
        all.extend(["--config".to_owned(), config]);
        Command::new(&all[0]).args(&all[1..]).output().unwrap()
    }

    fn init(&self, launcher: &[String]) -> Output {
        let out = self.path("auditor.txt").display().to_string();
        self.run(launcher, &["init", "--out", &out])
    }

    fn log(&self, role: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.state(&format!("audit/{role}.log"))).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// The auditor's file matches both logs, which hold only their beginning.
    fn assert_commissioned(&self, moment: u64) {
        for role in self.roles {
            let log = self.log(role);
            assert_eq!(log.len(), 1, "{moment}: {log:?}");
            assert_eq!(log[0]["event"], "init", "{moment}");
        }
        let key = self.path("auditor.txt").display().to_string();
        let verified = self.run(&[], &["audit", "verify", "--key", &key]);
        assert!(verified.status.success(), "{moment}: {verified:?}");
        let left = fs::read_dir(self.state("audit")).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let hidden: Vec<String> = left.filter(|name| name.starts_with('.')).collect();
        assert!(hidden.is_empty(), "{moment}: {hidden:?}");
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn an_init_that_is_killed_at_any_moment_is_finished_by_the_next_one() {
    let tools = tempfile::tempdir().unwrap();
    let helper = tools.path().join("kill_at");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/killed_init/kill_at.c");
    let compiled = Command::new("cc")
        .arg("-o")
        .args([&helper, &source])
        .status();
    assert!(compiled.unwrap().success());
    for bare in Bare::hosts() {
        let mut late_count = 0;
        for moment in 1.. {
            assert!(moment < 1_000);
            let launcher = [helper.display().to_string(), moment.to_string()];
            let killed = bare.init(&launcher);
            let is_over = killed.status.code() != Some(KILLED);
            if is_over {
                assert!(killed.status.success(), "{killed:?}");
            } else if bare.state("host.toml").exists() {
                // The host is commissioned, and the auditor has the keys: nothing is left to do.
                let again = bare.init(&[]);
                assert_eq!(again.status.code(), Some(1), "{moment}: {again:?}");
                assert!(errors(&again).contains("commissioned already"), "{again:?}");
                late_count += 1;
            } else {
                // No role works on an incomplete host, or writes into its log.
                for role in bare.roles {
                    let limited = ["timeout", "-k", "5", "60"].map(str::to_owned);
                    let ended = bare.run(&limited, &[role]);
                    assert_eq!(ended.status.code(), Some(2), "{moment}: {ended:?}");
                }
                let out = bare.path("auditor.txt");
                if out.exists() {
                    let told = errors(&bare.init(&[]));
                    assert!(
                        told.contains(&format!("shred -u {}", out.display())),
                        "{told}"
                    );
                    fs::remove_file(out).unwrap();
                }
                let again = bare.init(&[]);
                assert!(again.status.success(), "{moment}: {again:?}");
            }
            bare.assert_commissioned(moment);
            fs::remove_dir_all(bare.state("")).unwrap();
            fs::remove_file(bare.path("auditor.txt")).unwrap();
            if is_over {
                assert!(moment > 40, "{moment} moments");
                println!("{moment} moments, {late_count} of them after the end");
                break;
            }
        }
    }
}

#[test]
fn a_log_with_a_history_is_not_discarded_when_the_hosts_file_is_gone() {
    for bare in Bare::hosts() {
        assert!(bare.init(&[]).status.success());
        fs::remove_file(bare.path("auditor.txt")).unwrap();
        let host = bare.state("host.toml");
        fs::remove_file(&host).unwrap();
        let log = bare.state(&format!("audit/{}.log", bare.roles[1]));
        let mut text = fs::read_to_string(&log).unwrap();
        text.push_str("{\"seq\":1,\"event\":\"start\"}\n");
        fs::write(&log, &text).unwrap();
        let first = bare.log(bare.roles[0]);
        let refused = bare.init(&[]);
        let told = errors(&refused);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        for part in [&log.display().to_string()[..], "history", "backup"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(fs::read_to_string(&log).unwrap(), text);
        assert_eq!(bare.log(bare.roles[0]), first);
        assert!(!host.exists() && !bare.path("auditor.txt").exists());
    }
}
