//! Only the user who asked can read an answer, although others may list `requests/`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use valise_tests::harness::{Role, User, remark};

use super::people::Person as _;
use super::site::{Site, is_skipped};

#[test]
fn an_answer_is_read_by_who_asked_and_by_nobody_else() {
    if is_skipped() {
        return;
    }
    let mut site = Site::install();
    site.commission();
    site.start(Role::Gate);
    site.start(Role::Release);
    let file = site.cable("answer");
    site.run_ok("sender", &site.drafter, &["list"]);
    assert!(site.submit(&site.drafter, &file, "answer").status.success());
    let refused = site.run("sender", &site.drafter, &["resend", "1"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    site.run_ok("receiver", &site.operator, &["clock", "accept"]);
    let refused = site.run("receiver", &site.operator, &["link-key", "retire", "9"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    for (host, who, role) in [
        ("sender", &site.drafter, Role::Gate),
        ("receiver", &site.operator, Role::Release),
    ] {
        let answers = answers(&site.state(host));
        assert_eq!(answers.len(), 2, "{answers:?}");
        for answer in answers {
            assert!(reads(who, &answer));
            assert!(reads(&site.role(role), &answer));
            assert!(!reads(&who.colleague(), &answer), "{}", answer.display());
        }
    }
    // The owner of the daemon's files needs no access control list.
    site.run_ok("sender", &site.root, &["clock", "accept"]);
    let mut modes = answers(&site.state("sender"))
        .into_iter()
        .map(|answer| fs::metadata(answer).unwrap().mode() & 0o777);
    assert!(modes.any(|mode| mode == 0o600));
}

/// With this option bindfs has no access control lists.
#[test]
fn who_asks_where_there_are_no_access_control_lists_is_answered_under_an_alarm() {
    if is_skipped() {
        return;
    }
    let mut site = Site::install();
    site.commission();
    let state = site.state("sender");
    let Some(_mounted) = Mounted::over(&state) else {
        return;
    };
    site.start(Role::Gate);
    // Without a list gate also has no right to the command's files, and the answer reports that.
    let file = site.cable("answer");
    let refused = site.submit(&site.drafter, &file, "answer");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    let answer = answers(&state).pop().unwrap();
    let reason = fs::read_to_string(&answer).unwrap();
    assert!(told.contains(reason.trim()), "{told} but {reason}");
    assert!(reads(&site.drafter.colleague(), &answer));
    let alarm = site.await_some("the alarm", &[state.join("view")], |site| {
        let status = site.run("sender", &site.root, &["status", "--check"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        text.contains("answers-open").then_some(text)
    });
    assert!(
        alarm.contains("move the state folder to ext4 or xfs"),
        "{alarm}"
    );
    site.stop(Role::Gate);
}

fn answers(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state.join("requests")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "accepted" || end == "refused")
        })
        .collect()
}

fn reads(who: &User, answer: &Path) -> bool {
    who.run("/bin/cat", &[answer]).status.success()
}

/// A folder that is mounted over itself, without access control lists.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn over(folder: &Path) -> Option<Self> {
        let mut bindfs = Command::new("bindfs");
        bindfs.args(["--xattr-none", "-o", "nonempty"]);
        match bindfs.args([folder, folder]).output() {
            Ok(output) if output.status.success() => Some(Self(folder.to_owned())),
            other => {
                remark(&format!("SKIPPED: bindfs cannot mount here: {other:?}"));
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
