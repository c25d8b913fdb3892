//! `valise-verify` on really released folders: unchanged, and each with one alteration.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use valise_common::sshsig::PublicKey;
use valise_receiver::spool::released::{Fault, ReleasedCable};
use valise_tests::harness::{KeyPair, Programs, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(60);

/// A cable of two parts that was released, and the keys of everybody.
struct Site {
    world: World,
    folder: PathBuf,
}

impl Site {
    /// Commissions both hosts and sends the cable.
    fn new() -> Site {
        let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
        world.start().unwrap();
        let files = ["cable.txt", "annex.pdf"].map(|name| {
            let file = world.cables().join(name);
            fs::write(&file, format!("This is {name}.\n")).unwrap();
            file
        });
        let submission = Submission::new("Nothing new", &files);
        let id = world.send(&submission).unwrap();
        let released = world.await_released(&id, &submission, LIMIT).unwrap();
        let folder = released[0].folder.clone();
        Site { world, folder }
    }

    /// Copies the released folder for a user who has the right to change it.
    fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        for file in names(&self.folder) {
            let to = folder.path().join(&file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(self.folder.join(&file), &to).unwrap();
            fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
        }
        let administrators = self.world.roster.administrators.iter();
        let keys = administrators.map(|pair| PublicKey::parse_openssh(pair.public_line()).unwrap());
        Copy {
            folder,
            administrators: keys.collect(),
        }
    }
}

struct Copy {
    folder: tempfile::TempDir,
    administrators: Vec<PublicKey>,
}

impl Copy {
    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = self.text(file);
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
    }

    /// Makes `SHA256SUMS` agree with the files, as an attacker would.
    fn rewrite_sums(&self) {
        let sums: String = names(self.folder.path())
            .iter()
            .filter(|file| *file != "SHA256SUMS")
            .map(|file| sum_line(file, &fs::read(self.path(file)).unwrap()))
            .collect();
        fs::write(self.path("SHA256SUMS"), sums).unwrap();
    }

    /// Checks the folder and the signatures of its trust list.
    fn check(&self) -> Result<(), String> {
        let cable = ReleasedCable::check(self.folder.path()).map_err(|fault| fault.to_string())?;
        cable
            .signed()
            .clone()
            .verify(&self.administrators)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn assert_refused(&self, words: &str) {
        let reason = self.check().unwrap_err();
        assert!(reason.contains(words), "{reason}");
    }
}

fn sum_line(file: &str, bytes: &[u8]) -> String {
    format!("{}  {file}\n", hex::encode(Sha256::digest(bytes)))
}

/// The files of a folder by their paths in it, in byte order.
fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(names(&path).iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// Runs the program over a folder, with these administrators' keys.
fn verify(folder: &Path, keys: &[&KeyPair], options: &[&str]) -> (Option<i32>, String, String) {
    let program = Programs::built().unwrap().receiver;
    let mut command = Command::new(program.with_file_name("valise-verify"));
    command.arg(folder).args(options);
    for key in keys {
        command.arg("--administrator").arg(key.public_file());
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_released_folder_verifies_anywhere_by_the_administrators_keys_alone() {
    let site = Site::new();
    let roster = &site.world.roster;
    let [one, two] = &roster.administrators;
    let copy = site.copy();
    for folder in [site.folder.as_path(), copy.folder.path()] {
        let (status, output, errors) = verify(folder, &[one, two], &[]);
        assert_eq!(status, Some(0), "{errors}");
        assert!(output.contains("approved-by   o.one o.two\n"), "{output}");
        assert!(output.contains("subject       Nothing new\n"), "{output}");
        assert!(
            output.contains("by the administrators that you named"),
            "{output}"
        );
    }
    let (status, output, _) = verify(copy.folder.path(), &[two, one], &["--json"]);
    let document: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!((status, &document["vouched"]), (Some(0), &true.into()));
    assert_eq!(document["release"]["serial"], 1);

    // Without keys, and with those of others, the folder is consistent but nobody vouches for it.
    let (status, output, errors) = verify(copy.folder.path(), &[], &["--json"]);
    assert_eq!(status, Some(1));
    assert!(
        errors.contains("nothing vouches for the trust list"),
        "{errors}"
    );
    assert_eq!(errors.lines().count(), 1, "{errors}");
    let document: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(document["vouched"], false);
    let (status, _, errors) = verify(copy.folder.path(), &[one, &roster.stranger], &[]);
    assert_eq!(status, Some(1));
    assert!(errors.contains("1 of the two"), "{errors}");

    // Wrong usage.
    assert_eq!(verify(copy.folder.path(), &[one], &[]).0, Some(2));
    assert_eq!(verify(copy.folder.path(), &[one, one], &[]).0, Some(2));
    assert_eq!(verify(&copy.path("absent"), &[one, two], &[]).0, Some(2));
    assert_eq!(
        verify(&copy.path("manifest.txt"), &[one, two], &[]).0,
        Some(2)
    );
}

#[test]
fn sha256sum_takes_the_sums_of_a_released_folder() {
    let site = Site::new();
    let mut command = Command::new("sha256sum");
    command.args(["--check", "--strict", "SHA256SUMS"]);
    let output = command.current_dir(&site.folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let files = names(&site.folder);
    assert_eq!(text.lines().count(), files.len() - 1);
    assert_eq!(
        files,
        [
            "SHA256SUMS",
            "approvals/o.one.sig",
            "approvals/o.two.sig",
            "manifest.txt",
            "part-001.txt",
            "part-002.pdf",
            "release.json",
            "trust/trust.toml",
            "trust/trust.toml.1.sig",
            "trust/trust.toml.2.sig",
        ]
    );
}

#[test]
fn each_altered_byte_is_found_whether_the_sums_follow_it_or_not() {
    let site = Site::new();
    let copy = site.copy();
    let sums = copy.text("SHA256SUMS");
    let mut lines: BTreeMap<String, String> = sums
        .lines()
        .map(|line| (line[66..].to_owned(), format!("{line}\n")))
        .collect();
    copy.check().unwrap();
    for file in names(&site.folder) {
        let path = copy.path(&file);
        let sound = fs::read(&path).unwrap();
        // No signature covers the serial, the container and the time: the program's manual page explains that.
        let text = String::from_utf8(sound.clone()).unwrap();
        let unsigned = |at: usize| {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let keys = ["serial", "container", "verified"];
            let named = |key| {
                text[line..]
                    .trim_start()
                    .starts_with(&format!("\"{key}\":"))
            };
            file == "release.json" && keys.into_iter().any(named)
        };
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(copy.check().is_err(), "byte {at} of {file}");
            if file == "SHA256SUMS" || unsigned(at) {
                continue;
            }
            let line = lines.insert(file.clone(), sum_line(&file, &bytes)).unwrap();
            let altered: String = lines.values().map(String::as_str).collect();
            fs::write(copy.path("SHA256SUMS"), altered).unwrap();
            assert!(copy.check().is_err(), "byte {at} of {file}, with its sum");
            fs::write(copy.path("SHA256SUMS"), &sums).unwrap();
            lines.insert(file.clone(), line);
        }
        fs::write(&path, &sound).unwrap();
    }
    copy.check().unwrap();
}

#[test]
fn each_absent_and_each_added_file_is_found() {
    let site = Site::new();
    for file in names(&site.folder) {
        let copy = site.copy();
        fs::remove_file(copy.path(&file)).unwrap();
        copy.check().unwrap_err();
        if file != "SHA256SUMS" {
            copy.rewrite_sums();
            copy.check().unwrap_err();
        }
        // In its place a link to it.
        symlink(site.folder.join(&file), copy.path(&file)).unwrap();
        copy.assert_refused(&file);
    }
    for file in [
        "part-003.txt",
        "note.txt",
        ".hidden",
        "approvals/o.three.sig",
        "approvals/note",
        "trust/trust.toml.3.sig",
        "trust/old.toml",
    ] {
        let copy = site.copy();
        fs::write(copy.path(file), "added\n").unwrap();
        copy.assert_refused(file);
        copy.rewrite_sums();
        copy.assert_refused(file);
    }
    let copy = site.copy();
    fs::create_dir(copy.path("folder")).unwrap();
    copy.assert_refused("folder");
}

#[test]
fn an_approval_that_is_anothers_or_too_few_or_twice_is_found() {
    let site = Site::new();
    let roster = &site.world.roster;
    let sign = |copy: &Copy, key: &KeyPair, person: &str| {
        key.sign("cable-approval@valise", &[copy.path("manifest.txt")])
            .unwrap();
        let approval = copy.path(&format!("approvals/{person}.sig"));
        fs::rename(copy.path("manifest.txt.sig"), approval).unwrap();
    };
    // A third officer's approval in place of another's: valid, but not by the person in the record.
    let copy = site.copy();
    sign(&copy, &roster.officers[2], "o.two");
    copy.rewrite_sums();
    copy.assert_refused("does not agree");
    copy.replace("release.json", "\"o.two\"", "\"o.three\"");
    let approval = |person: &str| copy.path(&format!("approvals/{person}.sig"));
    fs::rename(approval("o.two"), approval("o.three")).unwrap();
    copy.rewrite_sums();
    copy.check().unwrap();

    let copy = site.copy();
    sign(&copy, &roster.stranger, "o.two");
    copy.rewrite_sums();
    copy.assert_refused("a key that is not in the trust list");

    let copy = site.copy();
    sign(&copy, &roster.drafter, "o.two");
    copy.rewrite_sums();
    copy.assert_refused("drafted the cable");

    let copy = site.copy();
    let first = fs::read(copy.path("approvals/o.one.sig")).unwrap();
    fs::write(copy.path("approvals/o.two.sig"), first).unwrap();
    copy.rewrite_sums();
    copy.assert_refused("approved twice");

    let copy = site.copy();
    fs::remove_file(copy.path("approvals/o.two.sig")).unwrap();
    let record = copy.text("release.json");
    let from = record.find("\"o.one\"").unwrap() + "\"o.one\"".len();
    let to = record.find("\"o.two\"").unwrap() + "\"o.two\"".len();
    fs::write(
        copy.path("release.json"),
        format!("{}{}", &record[..from], &record[to..]),
    )
    .unwrap();
    copy.rewrite_sums();
    copy.assert_refused("1 of 2 officers approved");
}

#[test]
fn a_part_a_manifest_and_a_record_of_something_else_are_found() {
    let site = Site::new();
    let copy = site.copy();
    fs::write(copy.path("part-001.txt"), "This is another.\n").unwrap();
    copy.assert_refused("part-001.txt does not match SHA256SUMS");
    copy.rewrite_sums();
    copy.assert_refused("part-001.txt is not the part that the officers approved");

    // A manifest of the altered part, which nobody approved.
    let part = fs::read(copy.path("part-001.txt")).unwrap();
    let manifest = copy.text("manifest.txt");
    let line = manifest
        .lines()
        .find(|line| line.starts_with("part: 1 "))
        .unwrap();
    let sum = hex::encode(Sha256::digest(&part));
    let altered = format!("part: 1 {} text/plain sha256:{sum} cable.txt", part.len());
    copy.replace("manifest.txt", line, &altered);
    copy.rewrite_sums();
    copy.assert_refused("does not verify");

    for (from, to) in [
        ("\"paris-desk\"", "\"rome-desk\""),
        ("\"ROUTINE\"", "\"FLASH\""),
        ("\"trust_version\": 1", "\"trust_version\": 2"),
        ("\"d.drafter\"", "\"o.three\""),
    ] {
        let copy = site.copy();
        copy.replace("release.json", from, to);
        copy.rewrite_sums();
        copy.assert_refused("does not agree");
    }
    let copy = site.copy();
    copy.replace("release.json", "{", "{ \"more\": 1,");
    copy.rewrite_sums();
    copy.assert_refused("unknown field");
}

#[test]
fn a_list_that_does_not_release_the_cable_or_is_not_signed_is_found() {
    let site = Site::new();
    let roster = &site.world.roster;
    let alter = |from: &str, to: &str, signers: [&KeyPair; 2]| {
        let copy = site.copy();
        copy.replace("trust/trust.toml", from, to);
        for (key, number) in signers.into_iter().zip(1..) {
            key.sign_as_administrator("trust-list@valise", &copy.path("trust/trust.toml"), number)
                .unwrap();
        }
        copy.rewrite_sums();
        copy
    };
    let [one, two] = &roster.administrators;
    let comment = ("version = 1\n", "version = 1 # mine\n");
    // The same list is valid if the true administrators signed it, and not if others did.
    alter(comment.0, comment.1, [one, two]).check().unwrap();
    alter(comment.0, comment.1, [one, one]).assert_refused("1 of the two");
    let forged = alter(comment.0, comment.1, [&roster.stranger, &roster.drafter]);
    ReleasedCable::check(forged.folder.path()).unwrap();
    forged.assert_refused("0 of the two");

    alter("version = 1\n", "version = 2\n", [one, two]).assert_refused("does not agree");
    alter("officers = 2\n", "officers = 3\n", [one, two]).assert_refused("2 of 3 officers");
    let issued = "2099-01-01T00:00:00Z";
    let text = site.copy().text("trust/trust.toml");
    let line = text
        .lines()
        .find(|line| line.starts_with("issued"))
        .unwrap();
    let late = alter(line, &format!("issued = \"{issued}\""), [one, two]);
    let fault = ReleasedCable::check(late.folder.path()).unwrap_err();
    assert!(matches!(fault, Fault::Early { .. }), "{fault}");
}
