//! `status --follow`: what it prints as the host changes.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use common::Host;
use serde_json::Value;

/// A follower, ended with the test.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follow(command: &mut Command) -> Follower {
    Follower(command.spawn().unwrap())
}

/// Does what a health report shows (a submission) after what it does not (a refused request, for which gate writes its view anew).
fn change(host: &Host) {
    host.refused(1, &["resend", "7"]);
    host.submit("text", "routine");
}

#[test]
fn lines_are_printed_once_and_again_as_they_change() {
    let host = Host::running(10);
    let mut command = host.command(&["status", "--follow"]);
    let mut follower = follow(command.stdout(Stdio::piped()));
    let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    let mut until = |last: &str| -> Vec<String> {
        let mut read = Vec::new();
        loop {
            let line = lines.next().unwrap().unwrap();
            let is_last = line.starts_with(last);
            read.push(line);
            if is_last {
                return read;
            }
        }
    };
    // The line that changes by itself comes last, and is not printed again.
    let first = until("disk ");
    assert!(first.contains(&"cables    none".to_owned()), "{first:?}");
    assert!(first.contains(&"gate      running".to_owned()), "{first:?}");
    // A beginning that is not known would be another at each look, and news for ever.
    let alarm = first.iter().find(|line| line.starts_with("ALARM"));
    let never_ran = "ALARM     transmit-not-running: transmit is not running";
    assert_eq!(alarm.map(String::as_str), Some(never_ran));
    change(&host);
    let changed = until("cables    1 submitted");
    assert_eq!(changed, ["cables    1 submitted"]);
}

#[test]
fn as_json_each_change_is_one_document_on_one_line() {
    let host = Host::running(10);
    let mut command = host.command(&["status", "--follow", "--json"]);
    let mut follower = follow(command.stdout(Stdio::piped()));
    let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["cables"], serde_json::json!({}));
    change(&host);
    assert_eq!(next()["cables"], serde_json::json!({ "submitted": 1 }));
}

#[test]
fn on_a_terminal_it_is_redrawn_in_place() {
    let host = Host::running(10);
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = host.command(&["status", "--follow"]);
    let _follower = follow(command.stdout(terminal.slave));
    drop(command);
    let (mut master, mut shown) = (File::from(terminal.master), Vec::new());
    let mut until = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            // A read may end within a character.
            let text = String::from_utf8_lossy(&shown);
            if text.contains(wanted) {
                return text.into_owned();
            }
            let count = master.read(&mut buffer).unwrap();
            shown.extend_from_slice(&buffer[..count]);
        }
    };
    let first = until("\u{1b}[J");
    assert!(
        first.starts_with("\u{1b}[2J\u{1b}[Hgate      running\u{1b}[K"),
        "{first:?}"
    );
    change(&host);
    let both = until("cables    1 submitted");
    assert_eq!(
        both.matches("\u{1b}[2J").count(),
        1,
        "erased once, then drawn over: {both:?}"
    );
    assert!(both.matches("\u{1b}[Hgate ").count() >= 2, "{both:?}");
}

#[test]
fn what_no_role_has_shown_is_not_claimed() {
    let host = Host::bare();
    host.init();
    let text = host.ok(&["status"]);
    for word in ["channel ", "trust ", "serials ", "slots ", "cables "] {
        assert!(!text.lines().any(|line| line.starts_with(word)), "{text}");
    }
    let document = host.json(&["status", "--json"]);
    assert!(document.get("slots_left").is_none(), "{document}");
    assert_eq!(document["roles"]["gate"]["state"], "not running");
}
