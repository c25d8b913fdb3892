//! `[alarm] command`: what a real gate has run, and what it may not hold.

#![allow(clippy::unwrap_used, clippy::as_conversions, missing_docs)]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;

use common::{Host, Patience};

/// A host without a trust list, of which its gate tells at the start.
fn host(command: &str) -> Host {
    let mut host = Host::bare();
    host.write_config(&format!("[alarm]\ncommand = [{command}]\n"));
    host.init();
    host.start_gate();
    host
}

fn await_text(path: &PathBuf) -> String {
    let patience = Patience::begin();
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => patience.wait(),
        }
    }
}

/// The runner of this host's gate: its one child process.
fn runner(host: &Host) -> String {
    let gate = host.gate_id();
    let children: Vec<String> = fs::read_dir(format!("/proc/{gate}/task"))
        .unwrap()
        .map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap())
        .flat_map(|list| {
            list.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let [runner] = &children[..] else {
        panic!("not one child: {children:?}")
    };
    runner.clone()
}

#[test]
fn the_alarm_command_reaches_files_and_networks_that_gate_does_not() {
    let page = UdpSocket::bind("127.0.0.1:0").unwrap();
    let outside = tempfile::tempdir().unwrap();
    let told = outside.path().join("told");
    let script = format!(
        "echo \"$1\" >/dev/udp/127.0.0.1/{}; echo \"$1\" >>{}",
        page.local_addr().unwrap().port(),
        told.display()
    );
    let host = host(&format!("'/bin/bash', '-c', '{script}', 'bash'"));
    let text = await_text(&told);
    assert!(text.starts_with("trust-missing: no trust list is in force (since 20"));
    assert!(text.ends_with("; repair: valise-sender trust import FILE)\n"));
    let mut datagram = [0; 300];
    let length = page.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], text.as_bytes());
    let audited = host.audited("alarm");
    assert_eq!(audited[0]["alarm"], "trust-missing");
}

#[test]
fn the_runner_of_the_alarm_command_holds_nothing_of_gate_and_ends_with_it() {
    let outside = tempfile::tempdir().unwrap();
    let told = outside.path().join("told");
    // It ends never: gate answers all the same.
    let script = format!("echo $PPID >{}; exec sleep 600", told.display());
    let mut host = host(&format!("'/bin/sh', '-c', '{script}', 'sh'"));
    let runner = runner(&host);
    assert_eq!(await_text(&told).trim(), runner);
    host.import_list(&common::List::default());
    let state = host.path("state");
    for descriptor in fs::read_dir(format!("/proc/{runner}/fd")).unwrap() {
        let target = fs::read_link(descriptor.unwrap().path()).unwrap();
        assert!(!target.starts_with(&state), "{target:?}");
    }
    let command = fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).unwrap();
    host.kill_gate();
    let patience = Patience::begin();
    // A process that nobody buries yet is gone too.
    while fs::read_to_string(format!("/proc/{runner}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
    {
        patience.wait();
    }
    let command = nix::unistd::Pid::from_raw(command.trim().parse().unwrap());
    nix::sys::signal::kill(command, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn without_a_command_gate_starts_no_process() {
    let mut host = Host::bare();
    host.init();
    host.start_gate();
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", host.gate_id()));
    assert_eq!(children.unwrap(), "");
}
