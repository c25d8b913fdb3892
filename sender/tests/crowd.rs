//! One user's bad requests and junk in `requests/` cost the others nothing.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs;
use std::os::unix::fs::chown;
use std::time::Instant;

use common::{Host, Patience};

const STRANGER: u32 = 1_002;

/// How many, unless VALISE_CROWD says so: 250,000 is what docs/reliability.md measures.
fn crowd() -> u32 {
    let asked = std::env::var("VALISE_CROWD").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(2_000)
}

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: only root can place a request as another user");
    }
    is_root
}

#[test]
fn a_strangers_bad_requests_are_answered_so_many_a_minute_and_no_others_wait() {
    if !is_root() {
        return;
    }
    let mut host = Host::running(1);
    let stranger: Vec<_> = (0..crowd().min(4_000))
        .map(|number| {
            host.place_as(
                STRANGER,
                &format!("bad{number:06}"),
                "request = 'none'\n",
                None,
            )
        })
        .collect();
    let begun = Instant::now();
    host.submit("text", "routine");
    println!("a submit beside them took {:?}", begun.elapsed());
    let patience = Patience::begin();
    let held = |host: &Host| host.ok(&["status", "--json"]).contains("requests-held");
    while !held(&host) {
        patience.wait();
    }
    let lines = host.audited("refused").len();
    // A batch may be under way when the first of them is refused.
    assert!((100..400).contains(&lines), "{lines} lines");
    let is_answered =
        |request: &std::path::PathBuf| request.with_added_extension("refused").exists();
    let answers = stranger.iter().filter(|one| is_answered(one)).count();
    assert!(answers < 400, "{answers} answers");
    let begun = Instant::now();
    host.submit("text", "routine");
    println!("another took {:?}", begun.elapsed());
    host.stop_gate();
}

#[test]
fn names_without_end_in_requests_keep_nobody_waiting() {
    if !is_root() {
        return;
    }
    let mut host = Host::running(1);
    let requests = host.state("requests");
    for number in 0..crowd() {
        let path = requests.join(format!("junk{number:07}"));
        // Half of it asks for something, but says nothing.
        if number % 2 == 0 {
            fs::write(&path, b"").unwrap();
        } else {
            fs::create_dir(&path).unwrap();
        }
        chown(&path, Some(STRANGER), None).unwrap();
    }
    for round in 0..3 {
        let begun = Instant::now();
        host.submit(&format!("text {round}"), "routine");
        println!(
            "submit {round} beside {} names took {:?}",
            crowd(),
            begun.elapsed()
        );
    }
    // At the next start they are all looked at, and a submit is taken up meanwhile.
    host.kill_gate();
    host.start_gate();
    let begun = Instant::now();
    host.submit("after the start", "routine");
    println!("submit after the start took {:?}", begun.elapsed());
    assert_eq!(host.audited("submitted").len(), 4);
    host.stop_gate();
}
