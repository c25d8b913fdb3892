//! The clock is moved under a running gate. Nothing is lost by it, and nothing that expired is sealed.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs;

use common::{Host, List, Patience};
use valise_common::os::clock::utc_now;

const DAY_S: i64 = 86_400;

/// Waits until gate shows this alarm, or no longer shows it.
#[track_caller]
fn await_alarm(host: &Host, word: &str, stands: bool) -> String {
    let patience = Patience::begin();
    loop {
        let told = host.run(&["status", "--check"]);
        let told = String::from_utf8(told.stdout).unwrap();
        if told.lines().any(|line| line.starts_with(word)) == stands {
            return told;
        }
        patience.wait();
    }
}

fn submission_is_refused(host: &Host) {
    let refused = host.refused(
        1,
        &[
            "submit",
            "--label",
            "EU-RESTRICTED",
            "--to",
            "paris-desk",
            "--precedence",
            "flash",
            "--subject",
            "S",
            "cable.txt",
        ],
    );
    assert!(refused.contains("clock accept"), "{refused}");
}

/// The words of the audit log's lines that tell of the clock.
fn clock_events(host: &Host) -> Vec<String> {
    let lines = host.audit_lines().into_iter();
    lines
        .map(|line| line["event"].as_str().unwrap().to_owned())
        .filter(|word| word.starts_with("clock-"))
        .collect()
}

/// A gate with a cable that waits and one that is queued.
fn waiting_and_queued() -> (Host, String, String) {
    let mut host = Host::commissioned(4);
    host.make_clock();
    host.start_gate();
    let waiting = host.submit("waiting", "routine");
    let queued = host.submit("queued", "priority");
    host.approve(&queued, "officer1");
    host.approve(&queued, "officer2");
    (host, waiting, queued)
}

#[test]
fn a_clock_that_leaps_ten_years_ends_nothing_and_all_goes_on_when_it_is_put_back() {
    let (mut host, waiting, queued) = waiting_and_queued();
    host.set_clock_ahead(3_650 * DAY_S);
    let told = await_alarm(&host, "clock-ahead: ", true);
    assert!(told.contains("clock accept"), "{told}");
    submission_is_refused(&host);
    // Judged by the wrong time it has expired, so that it is not sealed; but it is not ended either.
    host.refused(1, &["approve", &waiting, "--key", "officer1", "--yes"]);
    assert_eq!(host.cable(&waiting)["state"], "submitted");
    assert_eq!(host.cable(&queued)["state"], "queued");
    assert_eq!(host.outbox().len(), 1);
    host.set_clock_ahead(0);
    await_alarm(&host, "clock-ahead: ", false);
    host.approve(&waiting, "officer1");
    assert_eq!(
        host.approve(&waiting, "officer2"),
        "approved: 2 of 2; sealed as serial 2"
    );
    host.submit("another", "routine");
    host.stop_gate();
    assert_eq!(clock_events(&host), ["clock-leapt", "clock-restored"]);
}

#[test]
fn a_leap_outlasts_a_restart_and_ends_cables_only_when_it_is_accepted() {
    let (mut host, waiting, queued) = waiting_and_queued();
    host.set_clock_ahead(40 * DAY_S);
    await_alarm(&host, "clock-ahead: ", true);
    host.kill_gate();
    host.start_gate();
    await_alarm(&host, "clock-ahead: ", true);
    submission_is_refused(&host);
    assert_eq!(host.cable(&waiting)["state"], "submitted");
    assert_eq!(host.outbox().len(), 1);
    assert_eq!(host.ok(&["clock", "accept"]), "the clock is accepted");
    await_alarm(&host, "clock-ahead: ", false);
    for id in [&waiting, &queued] {
        let patience = Patience::begin();
        while host.cable(id)["state"] != "expired" {
            patience.wait();
        }
    }
    assert!(host.outbox().is_empty());
    host.stop_gate();
    assert_eq!(clock_events(&host), ["clock-leapt", "clock-accepted"]);
}

#[test]
fn a_cable_that_has_a_serial_and_cannot_be_sealed_expires_too() {
    let mut host = Host::commissioned(4);
    host.make_clock();
    host.start_gate();
    fs::write(host.path("cable.txt"), "text").unwrap();
    let not_after = utc_now().plus_s(3_600).to_string();
    let id = host.ok(&[
        "submit",
        "--label",
        "EU-RESTRICTED",
        "--to",
        "paris-desk",
        "--precedence",
        "routine",
        "--subject",
        "S",
        "--not-after",
        &not_after,
        "cable.txt",
    ]);
    host.approve(&id, "officer1");
    // Its only part is gone when it is to be sealed.
    fs::remove_file(host.state(&format!("pending/{id}/part-001"))).unwrap();
    let answer = host.approve(&id, "officer2");
    assert!(answer.contains("being sealed as serial 1"), "{answer}");
    await_alarm(&host, "sealing-waits", true);
    // Without its slot it is not tried again, so that nothing else finds that its time is over.
    host.stop_gate();
    let slots = host.state("slots/1.slots");
    fs::write(&slots, &fs::read(&slots).unwrap()[..10]).unwrap();
    host.start_gate();
    await_alarm(&host, "slots-damaged", true);
    host.set_clock_ahead(2 * 3_600);
    let patience = Patience::begin();
    while host.cable(&id)["state"] != "expired" {
        patience.wait();
    }
    await_alarm(&host, "sealing-waits", false);
    assert!(!host.state(&format!("pending/{id}")).exists());
    host.stop_gate();
}

#[test]
fn after_a_clock_that_ran_ahead_clock_accept_is_the_way_back() {
    let mut host = Host::commissioned(4);
    host.make_clock();
    // So far a host that was switched off may have come.
    host.set_clock_ahead(200 * DAY_S);
    host.start_gate();
    let early = host.submit("text", "routine");
    host.stop_gate();
    host.set_clock_ahead(0);
    host.start_gate();
    let told = await_alarm(&host, "clock: ", true);
    assert!(told.contains("clock accept"), "{told}");
    submission_is_refused(&host);
    assert_eq!(host.cable(&early)["state"], "submitted");
    let answer = host.json(&["clock", "accept", "--json"]);
    assert!(answer["now"].as_str().unwrap().ends_with('Z'), "{answer}");
    await_alarm(&host, "clock: ", false);
    let id = host.submit("text", "routine");
    host.approve(&id, "officer1");
    assert_eq!(
        host.approve(&id, "officer2"),
        "approved: 2 of 2; sealed as serial 1"
    );
    // It is not known to be from the future; officers who read `created` reject it, and the receiver refuses it.
    assert_eq!(host.cable(&early)["state"], "submitted");
    host.stop_gate();
    assert_eq!(clock_events(&host), ["clock-accepted"]);
}

#[test]
fn a_clock_is_accepted_when_gate_comes_back() {
    let mut host = Host::commissioned(1);
    let waits = host.refused(3, &["clock", "accept"]);
    assert!(waits.contains("gate is not running"), "{waits}");
    host.start_gate();
    let patience = Patience::begin();
    while !clock_events(&host).contains(&"clock-accepted".to_owned()) {
        patience.wait();
    }
    host.stop_gate();
}

#[test]
fn a_user_who_is_no_operator_cannot_accept_the_clock() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can place a request as another user");
        return;
    }
    let (mut host, waiting, queued) = waiting_and_queued();
    host.set_clock_ahead(40 * DAY_S);
    await_alarm(&host, "clock-ahead: ", true);
    let request = host.place_as(1_001, "theirs", "request = 'clock-accept'\n", None);
    let (accepted, told) = Host::await_answer(&request);
    assert!(!accepted && told.contains("have root"), "{told}");
    assert!(!clock_events(&host).contains(&"clock-accepted".to_owned()));
    // Nor does somebody who is no person take the link's time.
    let text = "request = 'resend'\nserials = '1'\n";
    let (accepted, told) = Host::await_answer(&host.place_as(1_001, "again", text, None));
    assert!(!accepted && told.contains("is no person"), "{told}");
    assert_eq!(host.cable(&waiting)["state"], "submitted");
    assert_eq!(host.cable(&queued)["state"], "queued");
    host.stop_gate();
    let refused = host.audited("refused");
    let reasons: Vec<&str> = refused
        .iter()
        .filter_map(|line| line["reason"].as_str())
        .collect();
    assert_eq!(reasons, ["not-operator", "unknown-user"]);
}

/// The second version of the trust list, issued so many seconds from now.
fn list_issued_in(host: &Host, s: u64) -> std::path::PathBuf {
    let list = List {
        version: 2,
        ..List::default()
    };
    let issued = format!("issued = \"{}\"", utc_now().plus_s(s));
    let text = host
        .list_text(&list)
        .replace("issued = \"2024-01-01T00:00:00Z\"", &issued);
    assert!(text.contains(&issued));
    host.signed_text("ahead.toml", &text)
}

#[test]
fn a_trust_list_from_the_future_is_refused_and_blocks_nothing() {
    let mut host = Host::running(1);
    let path = list_issued_in(&host, 3_600);
    let refused = host.refused(1, &["trust", "import", path.to_str().unwrap()]);
    assert!(
        refused.contains("set the clock if it is wrong"),
        "{refused}"
    );
    host.submit("text", "routine");
    host.stop_gate();
    assert_eq!(host.audited("refused")[0]["reason"], "issued-ahead");
    assert_eq!(host.audited("trust-imported").len(), 1);
}

#[test]
fn a_list_imported_while_the_clock_ran_ahead_blocks_nothing_once_the_clock_is_accepted() {
    let mut host = Host::commissioned(1);
    host.make_clock();
    host.set_clock_ahead(3 * 3_600);
    host.start_gate();
    let path = list_issued_in(&host, 2 * 3_600);
    host.ok(&["trust", "import", path.to_str().unwrap()]);
    host.set_clock_ahead(0);
    let told = await_alarm(&host, "clock: ", true);
    assert!(told.contains("but the log says"), "{told}");
    fs::write(host.path("cable.txt"), "text").unwrap();
    submission_is_refused(&host);
    let answer = host.ok(&["clock", "accept"]);
    assert!(answer.contains("the trust list is from"), "{answer}");
    await_alarm(&host, "clock: ", false);
    host.submit("text", "routine");
    // Nor do the lines that are written now put the log ahead of the clock again.
    host.stop_gate();
    host.start_gate();
    host.submit("more", "routine");
    host.stop_gate();
}
