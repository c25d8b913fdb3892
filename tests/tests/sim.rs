//! Hundreds of simulated runs, each twice, and every seed that ever showed a fault.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use valise_tests::harness::remark;

/// The number of seeds that each of two processes runs.
const SEEDS: u64 = 100;

fn start(seed: u64, count: u64, processor: u64) -> Child {
    Command::new(env!("CARGO_BIN_EXE_valise-sim"))
        .args([seed.to_string(), format!("--count={count}")])
        .arg(format!("--processor={processor}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns whether this user may not mount the disks, and prints that.
fn is_skipped() -> bool {
    let is_skipped = !nix::unistd::geteuid().is_root();
    if is_skipped {
        remark("no run is simulated: only root mounts the disks");
    }
    is_skipped
}

fn check(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains(" 0 with faults"), "{text}");
}

#[test]
fn whatever_goes_wrong_cables_arrive_once_and_whole_or_are_reported() {
    if is_skipped() {
        return;
    }
    let processes = [start(1, SEEDS, 0), start(1 + SEEDS, SEEDS, 1)];
    for process in processes {
        check(&process.wait_with_output().unwrap());
    }
}

#[test]
fn a_seed_that_once_showed_a_fault_shows_none() {
    if is_skipped() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let seeds: Vec<u64> = lines
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        check(&start(seed, 1, 0).wait_with_output().unwrap());
    }
}
