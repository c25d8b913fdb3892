//! The way of a cable through the sender, with the real program and real signatures.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs;

use common::Host;

#[test]
fn a_cable_is_submitted_approved_by_two_and_sealed() {
    let mut host = Host::running(3);
    let id = host.submit("MARKER-OF-THE-PLAINTEXT", "flash");
    assert_eq!(id.len(), 32);
    assert_eq!(host.cable(&id)["state"], "submitted");
    assert_eq!(host.approve(&id, "officer1"), "approved: 1 of 2");
    let waiting = host.cable(&id);
    assert_eq!(
        (waiting["state"].as_str(), waiting["still_needed"].as_u64()),
        (Some("approved"), Some(1))
    );
    assert!(host.outbox().is_empty());
    assert_eq!(
        host.approve(&id, "officer2"),
        "approved: 2 of 2; sealed as serial 1"
    );

    let listed = host.json(&["list", "--json"]);
    assert_eq!(listed[0]["serial"], 1);
    assert_eq!(listed[0]["state"], "queued");
    let containers = host.outbox();
    assert_eq!(containers.len(), 1);
    assert!(
        containers[0]
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("0-1-")
    );
    assert!(containers[0].with_extension("fec").exists());
    let package = host.open(&containers[0]);
    assert_eq!(package.approvals.len(), 2);
    assert!(
        String::from_utf8(package.manifest)
            .unwrap()
            .contains("precedence: FLASH")
    );

    // Plaintext, subject and the slot's PSK are nowhere below the state any more.
    assert_eq!(
        host.state_holds(b"MARKER-OF-THE-PLAINTEXT"),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(
        host.state_holds(b"Draft conclusions"),
        Vec::<std::path::PathBuf>::new()
    );
    assert!(host.state_holds(host.secrets[0].psk.expose()).is_empty());
    assert_eq!(host.state_holds(host.secrets[1].psk.expose()).len(), 1);
    host.stop_gate();
    assert_eq!(
        fs::read_dir(host.state("requests"))
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().path().is_dir() })
            .count(),
        0
    );
}
