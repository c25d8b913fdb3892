//! What becomes of a large cable when a bundle or a trust list comes into force while it is being sealed.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use common::{Host, List};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

/// A body that is sealed on the worker, and a last part of which the worker waits for every byte.
const LARGE_BYTES: usize = 5 << 20;
const LAST: &[u8] = b"the end";

/// A cable in sealing, held up until [`Held::go_on`].
struct Held {
    id: String,
    pipe: File,
}

impl Held {
    fn begin(host: &Host) -> Self {
        fs::write(host.path("large.txt"), vec![b'x'; LARGE_BYTES]).unwrap();
        fs::write(host.path("last.txt"), LAST).unwrap();
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
            "large.txt",
            "last.txt",
        ]);
        let part = host.state(&format!("pending/{id}/part-002"));
        fs::remove_file(&part).unwrap();
        mkfifo(&part, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        // Open for both, so that who opens it to read does not wait, and who reads does.
        let pipe = OpenOptions::new()
            .read(true)
            .write(true)
            .open(part)
            .unwrap();
        host.approve(&id, "officer1");
        let told = host.approve(&id, "officer2");
        assert!(told.contains("being sealed as serial 1"), "{told}");
        assert_eq!(host.audited("sealing").len(), 1);
        Self { id, pipe }
    }

    /// Lets the worker read on to the end.
    fn go_on(mut self) -> String {
        self.pipe.write_all(LAST).unwrap();
        self.id
    }
}

fn files_in(host: &Host, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(host.state(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The cable has ended with a reason, nothing of it is left, and gate goes on: also after a kill.
fn assert_ended(host: &mut Host, id: &str, reason: &str) {
    host.await_empty("tmp/gate");
    for _ in 0..2 {
        let cable: Value = host.cable(id);
        assert_eq!(cable["state"], "expired", "{cable}");
        let told = cable["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
        assert!(!host.state(&format!("pending/{id}")).exists());
        let containers = files_in(host, "outbox");
        assert!(
            !containers
                .iter()
                .any(|path| path.extension().is_some_and(|end| end == "container")),
            "{containers:?}"
        );
        host.kill_gate();
        host.start_gate();
    }
    assert!(host.audited("sealed").is_empty());
    assert_eq!(host.audited("given-up").len(), 1);
}

#[test]
fn a_cable_whose_slot_becomes_void_while_it_is_sealed_ends_and_gate_goes_on() {
    let mut host = Host::running(3);
    host.make_bundle(2, 4, 3, Some(1));
    let held = Held::begin(&host);
    host.ok(&["bundle", "import", "courier-2"]);
    let id = held.go_on();
    assert_ended(&mut host, &id, "its slot became void");
    let next = host.submit("text", "flash");
    host.approve(&next, "officer1");
    host.approve(&next, "officer2");
    assert_eq!(host.cable(&next)["serial"], 4);
    host.stop_gate();
}

#[test]
fn a_cable_whose_officer_is_revoked_while_it_is_sealed_does_not_leave() {
    let mut host = Host::running(3);
    let list = List {
        version: 2,
        ..List::default()
    };
    let officer = format!("keys = [{:?}]\n", host.public("officer2"));
    let revoked = format!("revoked = \"2024-01-01T00:00:00Z\"\n{officer}");
    let text = host.list_text(&list).replace(&officer, &revoked);
    assert!(text.contains("revoked"));
    // One more officer, or the list would have too few.
    let third = host.public("officer1b");
    let text = text.replace(&format!(", {third:?}"), "");
    let more = format!(
        "[[person]]\nid = \"d.officer\"\nroles = [\"officer\"]\nkeys = [{third:?}]\n\
         valid-from = \"2020-01-01T00:00:00Z\"\nvalid-until = \"2090-01-01T00:00:00Z\"\n[[classification]]"
    );
    let text = text.replacen("[[classification]]", &more, 1);
    let path = host.signed_text("trust-2.toml", &text);
    let held = Held::begin(&host);
    host.ok(&["trust", "import", path.to_str().unwrap()]);
    let id = held.go_on();
    assert_ended(&mut host, &id, "revoked");
    host.stop_gate();
}
