//! The result of a command is not lost with its standard output.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use valise_tests::harness::{Host, Programs, Roster, Settings, Submission, World};

/// The shell's redirection of standard output.
const CLOSED: &str = ">&-";
const DISCARDED: &str = ">/dev/null";
const FULL: &str = ">/dev/full";

/// No redirection: the test gives the output.
const GIVEN: &str = "";

/// Runs a program; returns its exit status and its standard error.
fn run(program: &Path, words: &[String], redirection: &str, output: Stdio) -> (i32, String) {
    let script = format!("exec \"$@\" {redirection}");
    let child = Command::new("/bin/sh")
        .args(["-c", &script, "sh"])
        .arg(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn();
    let ended = child.unwrap().wait_with_output().unwrap();
    let errors = String::from_utf8(ended.stderr).unwrap();
    (ended.status.code().unwrap(), errors)
}

/// A pipe whose reader is gone.
fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn of_host(world: &World, host: Host, words: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let config = world.configuration(host).display().to_string();
    words.extend(["--config".to_owned(), config]);
    words
}

fn ids(world: &World) -> Vec<String> {
    let list = world.json(Host::Sender, &["list"]).unwrap();
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_was_done_is_told_when_standard_output_is_closed_full_or_not_read() {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    world.start_roles().unwrap();
    let file = world.generate_file("cable.txt", 10, 1).unwrap();
    let submission = Submission::new("output", &[file]).arguments();
    let submission: Vec<&str> = submission.iter().map(String::as_str).collect();
    for (redirection, output, status, told) in [
        // Rust opens /dev/null in place of a closed descriptor, and nothing fails.
        (CLOSED, Stdio::null(), 0, ""),
        (FULL, Stdio::null(), 3, "No space left on device"),
        (GIVEN, broken_pipe(), 3, "Broken pipe"),
    ] {
        let before = ids(&world);
        let words = of_host(&world, Host::Sender, &submission);
        let ended = run(world.program(Host::Sender), &words, redirection, output);
        let mut new = ids(&world);
        new.retain(|id| !before.contains(id));
        assert_eq!((ended.0, new.len()), (status, 1), "{ended:?}");
        assert!(
            ended.1.contains(&new[0]) && ended.1.contains(told),
            "{ended:?}"
        );
        assert_eq!(ended.1.contains("it is done"), status == 3, "{ended:?}");
        assert_eq!(ended.1.lines().count(), 1, "{ended:?}");
    }
    // A person who discards the output does not need it.
    let words = of_host(&world, Host::Sender, &submission);
    let ended = run(
        world.program(Host::Sender),
        &words,
        DISCARDED,
        Stdio::null(),
    );
    assert_eq!(ended, (0, String::new()));
    // The other host's commands, and a command that only shows something.
    for (words, redirection, output, status, told) in [
        (&["clock", "accept"][..], CLOSED, Stdio::null(), 0, "now is"),
        (&["clock", "accept"], FULL, Stdio::null(), 3, "it is done"),
        (&["clock", "accept", "--json"], GIVEN, broken_pipe(), 3, "{"),
        (
            &["list"],
            FULL,
            Stdio::null(),
            3,
            "standard output: No space",
        ),
        (&["list"], GIVEN, broken_pipe(), 0, ""),
    ] {
        let arguments = of_host(&world, Host::Receiver, words);
        let program = world.program(Host::Receiver);
        let ended = run(program, &arguments, redirection, output);
        assert_eq!(ended.0, status, "{words:?} {redirection}: {ended:?}");
        assert!(ended.1.contains(told), "{words:?} {redirection}: {ended:?}");
        assert_eq!(ended.1.is_empty(), told.is_empty(), "{ended:?}");
    }
}

#[test]
fn no_host_is_commissioned_whose_first_keys_nobody_would_see() {
    let programs = Programs::built().unwrap();
    for (program, role) in [(&programs.sender, "gate"), (&programs.receiver, "release")] {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::generate(folder.path()).unwrap();
        let state = folder.path().join("state");
        let config = folder.path().join("config.toml");
        let way = match role {
            "gate" => "to",
            _ => "listen",
        };
        let link = format!("[link]\nkind = \"udp\"\n{way} = \"127.0.0.1:9\"\n");
        fs::write(&config, format!("state = \"{}\"\n{link}", state.display())).unwrap();
        let mut words = vec!["init".to_owned()];
        words.extend(roster.administrator_arguments());
        words.extend(["--config".to_owned(), config.display().to_string()]);
        let (status, errors) = run(program, &words, CLOSED, Stdio::null());
        assert!(status == 2 && errors.contains("--out"), "{errors}");
        assert!(!state.join("host.toml").exists());
        let log = state.join(format!("audit/{role}.log"));
        assert!(!log.exists());
        let (status, errors) = run(program, &words, FULL, Stdio::null());
        let told = ["standard output", "nothing was changed"];
        assert_eq!(status, 3, "{errors}");
        assert!(told.iter().all(|part| errors.contains(part)), "{errors}");
        assert!(!state.join("host.toml").exists() && !log.exists());
        // With a file for the auditor, standard output is not needed.
        let out = folder.path().join("auditor.txt");
        words.extend(["--out".to_owned(), out.display().to_string()]);
        let (status, errors) = run(program, &words, CLOSED, Stdio::null());
        assert!(
            status == 0 && errors.contains("commissioned in"),
            "{errors}"
        );
        assert!(fs::read_to_string(&out).unwrap().contains(role));
    }
}
