//! After sealing nothing on the sender opens the container: neither a file below its state nor the memory of a process.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::process::Child;

use common::{Host, List, Patience};
use valise_common::os::entropy;

/// What must be nowhere, by a name that a failing test may print.
struct Secret {
    name: String,
    bytes: Vec<u8>,
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// The names of the secrets that stand in a process's memory, with the mapping where they do.
fn found_in_memory(id: u32, secrets: &[Secret]) -> io::Result<Vec<String>> {
    let memory = fs::File::open(format!("/proc/{id}/mem"))?;
    let maps = fs::read_to_string(format!("/proc/{id}/maps"))?;
    let mut found = Vec::new();
    let mut scanned_bytes = 0;
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        if !rest.starts_with('r') {
            continue;
        }
        let mut bytes = vec![0; (to - from) as usize];
        // A mapping may go between the listing and the look.
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        scanned_bytes += bytes.len();
        for secret in secrets {
            if contains(&bytes, &secret.bytes) {
                found.push(format!("{} in {line}", secret.name));
            }
        }
    }
    assert!(scanned_bytes > 1 << 20, "nothing was looked at");
    Ok(found)
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The allocator writes its lists over the beginning of what is freed; the end of it stays.
fn second_half(secret: &[u8; 32]) -> Vec<u8> {
    secret[16..].to_vec()
}

/// How often the body of the cable of many parts repeats its text.
const MANY_PARTS: usize = 2;

fn random_text() -> String {
    hex::encode(entropy::bytes::<24>().unwrap())
}

#[test]
fn after_sealing_neither_state_nor_memory_holds_plaintext_psk_or_seed() {
    let mut host = Host::bare();
    host.init();
    host.start_gate();
    // Imported by the running gate, so that its memory has held every PSK.
    host.make_bundle(1, 1, 7, None);
    host.ok(&["bundle", "import", "courier-1"]);
    host.import_list(&List::default());
    let transmit = Ended(
        host.command(&["transmit"])
            .stderr(fs::File::create(host.path("transmit.err")).unwrap())
            .spawn()
            .unwrap(),
    );
    let [subject, reference, name] = [(); 3].map(|()| random_text());
    let none: [std::path::PathBuf; 0] = [];
    let submit = |marker: &str, count: usize| {
        let part = |number: usize| format!("{name} {number:0100}.txt");
        let parts: Vec<String> = (0..if count == MANY_PARTS { 60 } else { 1 })
            .map(part)
            .collect();
        for part in &parts {
            fs::write(host.path(part), marker.repeat(count)).unwrap();
        }
        let mut arguments = vec![
            "submit",
            "--label",
            "EU-RESTRICTED",
            "--to",
            "paris-desk",
            "--precedence",
            "flash",
            "--subject",
            &subject,
            "--reference",
            &reference,
        ];
        arguments.extend(parts.iter().map(String::as_str));
        host.ok(&arguments)
    };
    // From one line to what gate's worker seals, in several segments.
    let bodies = [1, 60, 600, 2_500, 150_000, MANY_PARTS].map(|count| (random_text(), count));
    let ids = bodies
        .each_ref()
        .map(|(marker, count)| submit(marker, *count));
    let gate_id = host.gate_id() as u32;
    let probe = [Secret {
        name: "probe".to_owned(),
        bytes: b"valise-sender".to_vec(),
    }];
    match found_in_memory(gate_id, &probe) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("SKIPPED: this kernel lets no test read another process's memory: {error}");
            return;
        }
        found => assert!(!found.unwrap().is_empty(), "what is there is found"),
    }
    // A listing of the last request's many long names would stay until something large needs its memory: nothing does
    // while gate waits.
    let names = [Secret {
        name: "file name".to_owned(),
        bytes: name.clone().into_bytes(),
    }];
    let patience = Patience::begin();
    while !found_in_memory(gate_id, &names).unwrap().is_empty() {
        patience.wait();
    }
    for id in &ids {
        host.approve(id, "officer1");
        host.approve(id, "officer2");
    }
    for id in &ids {
        let patience = Patience::begin();
        while host.cable(id)["state"] != "transmitted" {
            patience.wait();
        }
    }
    let mut secrets: Vec<Secret> = bodies
        .into_iter()
        .map(|(marker, count)| Secret {
            name: format!("body of {} bytes", marker.len() * count),
            bytes: marker.into_bytes(),
        })
        .collect();
    for (number, slot) in (1..).zip(&host.secrets) {
        secrets.push(Secret {
            name: format!("seed of slot {number}"),
            bytes: second_half(slot.seed.expose()),
        });
        if number <= ids.len() {
            secrets.push(Secret {
                name: format!("PSK of slot {number}"),
                bytes: second_half(slot.psk.expose()),
            });
        }
    }
    for (what, text) in [
        ("subject", subject),
        ("reference", reference),
        ("file name", name),
    ] {
        secrets.push(Secret {
            name: what.to_owned(),
            bytes: text.into_bytes(),
        });
    }
    for secret in &secrets {
        assert_eq!(host.state_holds(&secret.bytes), none, "{}", secret.name);
    }
    for (role, id) in [("gate", gate_id), ("transmit", transmit.0.id())] {
        let found = found_in_memory(id, &secrets).unwrap();
        assert!(found.is_empty(), "{role}: {found:#?}");
    }
    host.stop_gate();
}
