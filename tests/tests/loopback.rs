//! The harness, run as a person runs it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use valise_tests::harness::Programs;

fn loopback() -> Command {
    Programs::built().unwrap();
    Command::new(env!("CARGO_BIN_EXE_valise-loopback"))
}

fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("samples")
        .join(name)
        .display()
        .to_string()
}

#[test]
fn samples_arrive_over_a_bad_line_and_the_report_says_how() {
    let output = loopback()
        .args([sample("telegram.txt"), sample("annex.pdf")])
        .args([
            "--loss",
            "5%",
            "--burst",
            "5ms",
            "--reorder",
            "2%",
            "--duplicate",
            "1%",
        ])
        .args(["--corrupt", "0.1%", "--seed", "5", "--json"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["cables"].as_array().unwrap().len(), 2);
    for cable in report["cables"].as_array().unwrap() {
        assert!(cable["failure"].is_null());
        assert!(cable["seconds"].as_f64().unwrap() > 0.0);
        let approvals = cable["approvals"].as_array().unwrap();
        let persons: Vec<_> = approvals.iter().map(|one| &one["person"]).collect();
        assert_eq!(persons, ["o.one", "o.two"]);
        assert!(approvals.iter().all(|one| one["key_kind"] == "ssh-ed25519"));
        // The steps are in the order of their times, with the approvals before the steps that follow from them.
        let steps = cable["steps"].as_array().unwrap();
        let times: Vec<f64> = steps
            .iter()
            .map(|step| step["at_s"].as_f64().unwrap())
            .collect();
        assert!(times.is_sorted(), "{steps:?}");
        assert!(steps.iter().any(|step| step["state"] == "approved 2 of 2"));
    }
    assert!(report["wire"]["received"].as_u64().unwrap() > 0);
}

#[test]
fn a_sample_arrives_over_a_noisy_serial_line_and_the_report_counts_its_bytes() {
    let output = loopback()
        .args([&sample("telegram.txt"), "--link", "serial", "--json"])
        .args(["--loss", "0.05%", "--corrupt", "0.05%", "--seed", "5"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["baud"]),
        (&true.into(), &115_200.into())
    );
    let wire = |what: &str| report["wire"][what].as_u64().unwrap();
    let telegram_bytes = std::fs::metadata(sample("telegram.txt")).unwrap().len();
    // Two passes of the cable, and a quarter of repair.
    assert!(wire("received") > 2 * telegram_bytes, "{report}");
    assert!(wire("lost") > 0 && wire("corrupted") > 0, "{report}");
    assert_eq!(wire("sent"), wire("received") - wire("lost"));
}

#[test]
fn what_a_short_run_did_to_the_receiver_is_in_the_report() {
    let output = loopback()
        .args([
            "--size",
            "20000",
            "--corrupt",
            "10%",
            "--seed",
            "2",
            "--json",
        ])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let corrupted = report["wire"]["corrupted"].as_u64().unwrap();
    assert!(corrupted > 0, "{report}");
    let counters = &report["receiver"]["counters"];
    let refused: u64 = ["tag", "key-unknown", "version", "length"]
        .iter()
        .filter_map(|reason| counters[reason].as_u64())
        .sum();
    assert_eq!(refused, corrupted, "{counters}");
    assert_eq!(report["receiver"]["completed"], 1);
}

#[test]
fn a_line_that_loses_everything_is_told_by_the_exit_status() {
    let output = loopback()
        .args([sample("telegram.txt"), "--loss".into(), "100%".into()])
        .args(["--timeout", "5s"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("RED"));
}

#[test]
fn wrong_usage_is_status_two() {
    let output = loopback().args(["--loss", "much"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let occupied = tempfile::tempdir().unwrap();
    std::fs::write(occupied.path().join("x"), "x").unwrap();
    let occupied = occupied.path().to_str().unwrap();
    for wrong in [
        ["--link", "cable"],
        ["--count", "0"],
        ["--keep", occupied],
        ["--seed", "1 and a file"],
        ["--baud", "9600"],
    ] {
        let output = loopback().args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    for (option, value) in [("--rate", "1 Mbit/s"), ("--reorder", "1%")] {
        let output = loopback()
            .args(["--link", "serial", option, value])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(option));
    }
    for path in ["no-such-file", occupied] {
        let output = loopback().arg(path).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{path}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(path));
    }
}
