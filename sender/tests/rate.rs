//! How fast gate is, by itself: `cargo test --release -p valise-sender --test rate -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use common::Host;

fn place(host: &Host, name: &str, text: &str, file: (&str, &[u8])) -> (PathBuf, PathBuf) {
    let folder = host.state(&format!("requests/.{name}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("request.toml"), text).unwrap();
    fs::write(folder.join(file.0), file.1).unwrap();
    (folder, host.state(&format!("requests/{name}")))
}

fn await_answers(requests: &[(PathBuf, PathBuf)]) -> Vec<String> {
    let answers = requests
        .iter()
        .map(|(_, to)| to.with_added_extension("accepted"));
    answers
        .map(|path| {
            loop {
                if let Ok(text) = fs::read_to_string(&path)
                    && text.ends_with('\n')
                {
                    return text.trim().to_owned();
                }
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        })
        .collect()
}

fn reveal(requests: &[(PathBuf, PathBuf)]) {
    for (from, to) in requests {
        fs::rename(from, to).unwrap();
    }
}

/// Approvals of many cables by one officer, hidden until they are wanted.
fn approvals(host: &Host, ids: &[String], officer: &str) -> Vec<(PathBuf, PathBuf)> {
    let folder = host.path(&format!("{officer}-signs"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-Y", "sign", "-n", "cable-approval@valise", "-f"])
        .arg(host.path(officer));
    for id in ids {
        let copy = folder.join(id);
        fs::copy(host.state(&format!("pending/{id}/manifest.txt")), &copy).unwrap();
        command.arg(copy);
    }
    assert!(command.output().unwrap().status.success());
    ids.iter()
        .map(|id| {
            let text = format!("request = 'approve'\nid = '{id}'\n");
            let signature = fs::read(folder.join(format!("{id}.sig"))).unwrap();
            place(
                host,
                &format!("{officer}-{id}"),
                &text,
                ("x.sig", &signature),
            )
        })
        .collect()
}

fn submit(host: &Host, count: usize, bytes: usize, precedence: &str) -> Vec<String> {
    let text = format!(
        "request = 'submit'\nlabel = 'EU-RESTRICTED'\nto = ['paris-desk']\n\
         precedence = '{precedence}'\nsubject = 'S'\n"
    );
    let body = vec![b'x'; bytes];
    let name = |number| format!("{precedence}-{bytes}-{number}");
    let requests: Vec<_> = (0..count)
        .map(|number| place(host, &name(number), &text, ("a.txt", &body)))
        .collect();
    let begun = Instant::now();
    reveal(&requests);
    let ids = await_answers(&requests);
    println!(
        "{count} submissions of {bytes} bytes: {:?}",
        begun.elapsed()
    );
    ids
}

#[test]
#[ignore = "a measurement: cargo test --release -p valise-sender --test rate -- --ignored --nocapture"]
fn a_thousand_cables_and_a_flash() {
    let mut host = Host::commissioned(1_100);
    host.start_gate();
    let ids = submit(&host, 1_000, 4_096, "routine");
    for officer in ["officer1", "officer2"] {
        let requests = approvals(&host, &ids, officer);
        let begun = Instant::now();
        reveal(&requests);
        await_answers(&requests);
        let rate = 1_000.0 / begun.elapsed().as_secs_f64();
        println!(
            "1000 approvals by {officer}: {:?}, {rate:.0} a second",
            begun.elapsed()
        );
    }
    assert_eq!(host.outbox().len(), 1_000);
    let mut times = Vec::new();
    for round in 0..20 {
        let ids = submit(&host, 1, 4_096 + round, "flash");
        for officer in ["officer1", "officer2"] {
            let requests = approvals(&host, &ids, officer);
            let sealed = host.outbox().len() + usize::from(officer == "officer2");
            let begun = Instant::now();
            reveal(&requests);
            while host.outbox().len() < sealed {
                std::thread::yield_now();
            }
            if officer == "officer2" {
                times.push(begun.elapsed());
            }
            await_answers(&requests);
        }
    }
    times.sort();
    println!(
        "FLASH, last approval to outbox: median {:?}, most {:?}",
        times[10], times[19]
    );
}

#[test]
#[ignore = "a measurement: cargo test --release -p valise-sender --test rate -- --ignored --nocapture"]
fn a_large_cable_and_a_flash_beside_it() {
    let mut host = Host::bare();
    host.write_config("limits = { submission_bytes_max = \"2 GiB\" }\n");
    host.init();
    host.make_bundle(1, 1, 10, None);
    host.ok(&["bundle", "import", "courier-1"]);
    let text = host
        .list_text(&common::List::default())
        .replace("67108864", "2000000000");
    let path = host.path("large.toml");
    fs::write(&path, text).unwrap();
    for number in [1, 2] {
        let signature = path.with_added_extension(format!("{number}.sig"));
        host.sign(
            &format!("admin{number}"),
            "trust-list@valise",
            &path,
            &signature,
        );
    }
    host.ok(&["trust", "import", path.to_str().unwrap()]);
    host.start_gate();
    let begun = Instant::now();
    fs::write(host.path("large.bin"), vec![7_u8; 1_000_000_000]).unwrap();
    println!("writing the file: {:?}", begun.elapsed());
    let begun = Instant::now();
    let large = host.ok(&[
        "submit",
        "--label",
        "EU-RESTRICTED",
        "--to",
        "paris-desk",
        "--precedence",
        "routine",
        "--subject",
        "S",
        "large.bin",
    ]);
    println!("submit of 1 GB: {:?}", begun.elapsed());
    let flash = submit(&host, 1, 4_096, "flash");
    host.approve(&large, "officer1");
    let begun = Instant::now();
    println!("{}", host.approve(&large, "officer2"));
    host.approve(&flash[0], "officer1");
    let flash_begun = Instant::now();
    println!("{}", host.approve(&flash[0], "officer2"));
    println!(
        "FLASH beside it, with its commands: {:?}",
        flash_begun.elapsed()
    );
    while host.outbox().len() < 2 {
        std::thread::yield_now();
    }
    println!("1 GB sealed after {:?}", begun.elapsed());
    let memory = fs::read_to_string(format!("/proc/{}/status", host.gate_id())).unwrap();
    println!(
        "{}",
        memory
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap()
    );
}
