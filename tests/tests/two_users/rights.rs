//! The result of each command for each kind of user: success, or a reason with the group and what to do.

use std::fs;
use std::path::Path;

use valise_tests::harness::{Process, Role, User};

use super::people::Person as _;
use super::site::{Site, is_skipped};

/// The exit status of a command, and a text in its output or its error line.
type Expected<'e> = (i32, &'e str);

/// The command is not tried as this user.
const NOT_TRIED: Expected = (-1, "");

/// Runs a command as each user in order, and compares the results.
fn check(site: &Site, host: &str, words: &str, users: &[(&User, Expected)]) {
    let words: Vec<&str> = words.split_whitespace().collect();
    for (user, (status, wanted)) in users.iter().filter(|(_, expected)| *expected != NOT_TRIED) {
        let output = site.run(host, user, &words);
        let told = [&output.stdout[..], &output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        let uid = user.uid;
        assert_eq!(
            output.status.code(),
            Some(*status),
            "{words:?} as {uid}: {told}"
        );
        assert!(
            told.contains(wanted),
            "{words:?} as {uid}: no {wanted:?} in {told}"
        );
        assert!(
            !told.contains("os error 13") || told.contains('/'),
            "{words:?} as {uid}: {told}"
        );
        if *status != 0 {
            let errors = String::from_utf8(output.stderr).unwrap();
            let reasons = errors
                .lines()
                .filter(|line| line.starts_with("valise-"))
                .filter(|line| !line.contains("warning:") && !line.ends_with("is not running"));
            assert_eq!(reasons.count(), 1, "{words:?} as {uid}: {errors}");
        }
    }
}

/// Follows the health of a host as a user; the output goes into a file.
fn follow(site: &Site, user: &User, host: &str, log: &Path) -> Process {
    let mut words = user.command_line(&site.program(host));
    words.extend(["status", "--follow", "--config"].map(str::to_owned));
    words.push(site.config(host));
    Process::start("follow", Path::new(&words[0]), &words[1..], log).unwrap()
}

#[test]
fn each_user_of_the_sender_gets_what_their_groups_allow_and_a_reason_for_the_rest() {
    if is_skipped() {
        return;
    }
    let mut site = Site::install();
    let needs_root = (3, "sudo valise-sender init");
    check(
        &site,
        "sender",
        &site.init(),
        &[(&site.drafter, needs_root), (&site.reader, needs_root)],
    );
    site.commission();
    site.start(Role::Gate);
    let file = site.cable("rights");
    let id = String::from_utf8(site.submit(&site.drafter, &file, "rights").stdout).unwrap();
    let id = id.trim();
    let list = site.signed_list(2).display().to_string();
    let courier = site.path("courier-1").display().to_string();
    let reading = site.officers[0].folder(site.path("reading"));
    let reading = reading.join("it").display().to_string();
    let lacks = |group: &str| {
        format!(
            "the group {} has the right; let root run usermod",
            site.gid(group)
        )
    };
    let (users, officers) = (lacks("valise-users"), lacks("valise-officers"));
    let (no_user, no_officer) = ((3, users.as_str()), (3, officers.as_str()));
    let [outsider, drafter, officer] = [&site.reader, &site.drafter, &site.officers[0]];
    let submit = format!(
        "submit --label EU-RESTRICTED --to paris-desk --precedence routine --subject S {}",
        file.display()
    );
    let key = "--key /nonexistent --yes";
    for (words, [first, second, third]) in [
        ("list".to_owned(), [no_user, (0, id), (0, id)]),
        (
            format!("show {id}"),
            [no_user, (0, id), (0, "subject: rights")],
        ),
        ("list --mine".to_owned(), [no_user, (0, ""), (0, id)]),
        (
            "status".to_owned(),
            [no_user, (0, "gate      running"), (0, "gate      running")],
        ),
        (
            "status --follow".to_owned(),
            [no_user, NOT_TRIED, NOT_TRIED],
        ),
        (
            "bundle status".to_owned(),
            [no_user, (0, "slots"), (0, "slots")],
        ),
        (
            format!("read {id}"),
            [no_officer, no_officer, (0, "| rights")],
        ),
        (
            format!("export {id} {reading}"),
            [no_officer, no_officer, (0, "")],
        ),
        (
            format!("approve {id} {key}"),
            [no_officer, no_officer, (2, "no such key file")],
        ),
        (
            format!("reject {id} --reason r"),
            [no_user, NOT_TRIED, (0, "rejected")],
        ),
        (
            format!("withdraw {id}"),
            [no_user, (1, "rejected"), (1, "only its drafter")],
        ),
        (
            "resend 1".to_owned(),
            [
                no_user,
                (1, "not retained, to be submitted again: "),
                (1, "not retained"),
            ],
        ),
        (
            "clock accept".to_owned(),
            [no_user, (1, "root"), (1, "root")],
        ),
        (format!("trust check {list}"), [(0, "version 2"); 3]),
        ("trust show".to_owned(), [(0, "version 1"); 3]),
        (
            format!("trust import {list}"),
            [
                no_user,
                (0, "trust list version 2 is in force"),
                (1, "in force already"),
            ],
        ),
        (
            format!("bundle import {courier}"),
            [(3, "courier-1/channel.bundle"); 3],
        ),
        ("audit verify".to_owned(), [(3, "run this as root"); 3]),
        (site.init(), [(1, "commissioned already"); 3]),
        ("check-config".to_owned(), [(0, ""); 3]),
        (submit, [(3, "cable.txt"), (0, ""), (3, "cable.txt")]),
    ] {
        let users = [(outsider, first), (drafter, second), (officer, third)];
        check(&site, "sender", &words, &users);
    }
    // A user who may place a request only while no daemon answers learns where it waits, and how to start the daemon.
    site.stop(Role::Gate);
    let waits = site.run("sender", &site.drafter, &["withdraw", id]);
    let told = String::from_utf8(waits.stderr).unwrap();
    assert_eq!(waits.status.code(), Some(3), "{told}");
    assert!(
        told.contains("sudo systemctl start valise-sender-gate"),
        "{told}"
    );
}

#[test]
fn each_user_of_the_isolated_host_gets_what_their_groups_allow_and_a_reason_for_the_rest() {
    if is_skipped() {
        return;
    }
    let mut site = Site::install();
    let needs_root = (3, "sudo valise-receiver init");
    check(
        &site,
        "receiver",
        &site.init(),
        &[(&site.operator, needs_root), (&site.reader, needs_root)],
    );
    site.commission();
    site.start(Role::Release);
    let list = site.signed_list(2).display().to_string();
    let log = site.path("follow.log");
    let follower = follow(&site, &site.operator, "receiver", &log);
    let printed = |log: &Path, wanted: &str| fs::read_to_string(log).unwrap().contains(wanted);
    site.await_some("the first report", &[], |_| {
        printed(&log, "trust     version 1").then_some(())
    });
    let lacks = format!(
        "the group {} has the right; let root run usermod",
        site.gid("valise-operators")
    );
    let no_operator = (3, lacks.as_str());
    let (outsider, operator) = (&site.reader, &site.operator);
    let out = site.path("out").display().to_string();
    for (words, [first, second]) in [
        ("list".to_owned(), [no_operator, (0, "")]),
        ("show 1".to_owned(), [no_operator, (1, "was not announced")]),
        ("gaps".to_owned(), [no_operator, (0, "nothing is missing")]),
        ("quarantine list".to_owned(), [no_operator, (0, "nothing")]),
        (
            "quarantine show 1".to_owned(),
            [no_operator, (1, "not in quarantine")],
        ),
        (
            "quarantine recheck 1".to_owned(),
            [no_operator, (1, "not in quarantine")],
        ),
        (
            "quarantine discard 1 --reason r".to_owned(),
            [no_operator, (1, "not in quarantine")],
        ),
        ("bundle status".to_owned(), [no_operator, (0, "slots")]),
        (
            "bundle void 9 --reason r".to_owned(),
            [no_operator, (1, "no bundle 9")],
        ),
        (
            "link-key retire 9".to_owned(),
            [no_operator, (1, "no link key 9")],
        ),
        ("status".to_owned(), [no_operator, (0, "release   running")]),
        ("clock accept".to_owned(), [no_operator, (0, "now is")]),
        (format!("trust check {list}"), [(0, "version 2"); 2]),
        ("trust show".to_owned(), [(0, "version 1"); 2]),
        (
            format!("trust import {list}"),
            [no_operator, (0, "2 is in force")],
        ),
        (
            format!("bundle create --slots 5 --out {out}"),
            [(3, "sudo valise-receiver bundle create"); 2],
        ),
        ("audit verify".to_owned(), [(3, "run this as root"); 2]),
        (site.init(), [(1, "commissioned already"); 2]),
        ("check-config".to_owned(), [(0, ""); 2]),
    ] {
        check(
            &site,
            "receiver",
            &words,
            &[(outsider, first), (operator, second)],
        );
    }
    assert!(!site.path("out").exists());
    assert_eq!(site.audited(Role::Release, "bundle-created").len(), 1);
    // For all of this, the follower prints only one more line for each change, and repeats nothing.
    site.await_some("the new line", &[], |_| {
        printed(&log, "trust     version 2").then_some(())
    });
    drop(follower);
    let printed = fs::read_to_string(&log).unwrap();
    for once in ["channel ", "serials ", "slots ", "trust     version 1"] {
        let count = printed
            .lines()
            .filter(|line| line.starts_with(once))
            .count();
        assert_eq!(count, 1, "{once}: {printed}");
    }
}
