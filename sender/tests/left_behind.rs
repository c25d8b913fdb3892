//! What a command that is ended leaves behind: nothing.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::{Host, Patience};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

fn submit(host: &Host, file: &str) -> Child {
    let label = [
        "submit",
        "--label",
        "EU-RESTRICTED LIMITE",
        "--to",
        "paris-desk",
    ];
    let rest = ["--precedence", "routine", "--subject", "S", file];
    let words = host.command(&[&label[..], &rest].concat());
    // Whoever started the tests may ignore a hangup, as nohup does.
    Command::new("env")
        .arg("--default-signal")
        .arg(words.get_program())
        .args(words.get_args())
        .current_dir(host.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn send(signal: Signal, process: i32) {
    kill(Pid::from_raw(process), signal).unwrap();
}

#[test]
fn a_submit_that_is_interrupted_erases_what_it_wrote() {
    let host = Host::commissioned(1);
    // It costs nothing and takes long.
    let large = fs::File::create(host.path("large.txt")).unwrap();
    large.set_len(32 << 30).unwrap();
    for signal in ENDING {
        let mut child = submit(&host, "large.txt");
        let patience = Patience::begin();
        while !host.is_being_copied() {
            assert!(child.try_wait().unwrap().is_none(), "submit has ended");
            patience.wait();
        }
        send(signal, child.id() as i32);
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32), "{status:?}");
        assert_eq!(host.requests(), Vec::<PathBuf>::new(), "{signal}");
    }
}

#[test]
fn a_submit_that_is_interrupted_while_it_waits_takes_its_request_back() {
    let mut host = Host::running(1);
    fs::write(host.path("cable.txt"), "text").unwrap();
    for signal in ENDING {
        // Gate has its lock, and judges nothing.
        send(Signal::SIGSTOP, host.gate_id());
        let mut child = submit(&host, "cable.txt");
        let is_shown = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            path.is_dir() && !name.starts_with('.')
        };
        let patience = Patience::begin();
        while !host.requests().iter().any(is_shown) {
            patience.wait();
        }
        send(signal, child.id() as i32);
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
        assert_eq!(host.requests(), Vec::<PathBuf>::new(), "{signal}");
        send(Signal::SIGCONT, host.gate_id());
    }
    host.submit("text", "routine");
    assert_eq!(
        host.audited("submitted").len(),
        1,
        "only the one that was not interrupted"
    );
    host.stop_gate();
}

#[test]
fn a_hangup_that_is_to_be_ignored_interrupts_no_submit() {
    let mut host = Host::running(1);
    fs::write(host.path("cable.txt"), "text").unwrap();
    send(Signal::SIGSTOP, host.gate_id());
    let program = env!("CARGO_BIN_EXE_valise-sender");
    let script = format!(
        "trap '' HUP; exec {program} submit --label 'EU-RESTRICTED LIMITE' --to paris-desk --precedence routine \
         --subject S cable.txt --config sender.toml"
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .current_dir(host.folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Patience::begin();
    while host.requests().is_empty() {
        patience.wait();
    }
    send(Signal::SIGHUP, child.id() as i32);
    send(Signal::SIGCONT, host.gate_id());
    assert!(child.wait().unwrap().success());
    host.stop_gate();
}
