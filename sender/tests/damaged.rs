//! Files at rest that a disk changed, and files that gate did not make: what the alarms say, and that they end.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs;
use std::path::Path;

use common::{Host, Patience};

/// Flips one bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The text of an alarm, if it stands.
fn alarm(host: &Host, word: &str) -> Option<String> {
    let check = host.run(&["status", "--check"]);
    let text = String::from_utf8(check.stdout).unwrap() + &String::from_utf8(check.stderr).unwrap();
    let line = text.lines().find(|line| line.starts_with(word));
    line.map(str::to_owned)
}

fn await_alarm(host: &Host, word: &str) -> String {
    let patience = Patience::begin();
    loop {
        if let Some(text) = alarm(host, word) {
            return text;
        }
        patience.wait();
    }
}

fn await_end(host: &Host, word: &str) {
    let patience = Patience::begin();
    while alarm(host, word).is_some() {
        patience.wait();
    }
}

/// Signs a waiting cable's manifest as it was submitted.
fn signature(host: &Host, id: &str, officer: &str) -> String {
    let reading = format!("reading-{officer}-{id}");
    host.ok(&["export", id, &reading]);
    let file = format!("{officer}-{id}.sig");
    let manifest = host.path(&reading).join("manifest.txt");
    host.sign(
        officer,
        "cable-approval@valise",
        &manifest,
        &host.path(&file),
    );
    file
}

#[test]
fn a_waiting_cable_that_the_disk_changed_is_named_with_what_to_do_and_gate_goes_on() {
    let mut host = Host::running(4);
    let id = host.submit("text", "routine");
    let signatures = ["officer1", "officer2"].map(|officer| signature(&host, &id, officer));
    let manifest = host.state(&format!("pending/{id}/manifest.txt"));
    let whole = fs::read(&manifest).unwrap();
    damage(&manifest);
    let refused = host.refused(1, &["approve", &id, "--signature", &signatures[0]]);
    assert!(refused.contains("withdraw the cable"), "{refused}");
    let text = await_alarm(&host, "pending-damaged");
    assert!(
        text.contains(&format!("pending/{id}: manifest.txt")) && text.contains("submit it again"),
        "{text}"
    );
    // A backup of the file is enough.
    fs::write(&manifest, &whole).unwrap();
    await_end(&host, "pending-damaged");
    host.ok(&["approve", &id, "--signature", &signatures[0]]);
    // So is a stored approval named, which would take part in the sealing.
    let approvals = host.state(&format!("pending/{id}/approvals"));
    let stored = fs::read_dir(approvals).unwrap().next().unwrap().unwrap();
    damage(&stored.path());
    host.ok(&["approve", &id, "--signature", &signatures[1]]);
    let text = await_alarm(&host, "pending-damaged");
    assert!(
        text.contains(&id) && text.contains("a stored approval"),
        "{text}"
    );
    assert!(host.outbox().is_empty());
    // Neither does it end gate at its next start.
    host.stop_gate();
    host.start_gate();
    assert!(await_alarm(&host, "pending-damaged").contains(&id));
    host.ok(&["withdraw", &id]);
    await_end(&host, "pending-damaged");
    // Other cables go their way.
    let other = host.submit("other", "routine");
    host.approve(&other, "officer1");
    host.approve(&other, "officer2");
    let patience = Patience::begin();
    while host.outbox().is_empty() {
        patience.wait();
    }
    host.stop_gate();
}

#[test]
fn what_was_put_aside_is_named_until_it_is_taken_away_over_a_restart_too() {
    let mut host = Host::running(2);
    host.stop_gate();
    fs::write(host.state("pending/planted"), "x").unwrap();
    for _ in 0..2 {
        host.start_gate();
        let text = await_alarm(&host, "aside");
        let path = host.state("aside/planted");
        assert!(text.contains(&path.display().to_string()), "{text}");
        host.stop_gate();
    }
    host.start_gate();
    fs::remove_file(host.state("aside/planted")).unwrap();
    await_end(&host, "aside");
    host.stop_gate();
}
