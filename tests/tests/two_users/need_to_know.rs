//! A waiting cable is open to the users who need to know it, and to nobody else, with our commands or without.

use std::path::PathBuf;
use std::process::Output;

use valise_tests::harness::{Role, Roster, User};

use super::answers::Mounted;
use super::people::Person as _;
use super::site::{Site, is_skipped};

/// Returns whether a user can list the folder of a cable and read its files, without our programs.
fn reads(site: &Site, who: &User, id: &str) -> bool {
    let folder = site.state("sender").join("pending").join(id);
    let tries = [
        who.run("/bin/ls", std::slice::from_ref(&folder)),
        who.run("/bin/cat", &[folder.join("manifest.txt")]),
        who.run("/bin/cat", &[folder.join("part-001")]),
        who.run("/bin/ls", &[folder.join("approvals")]),
    ];
    let succeeded = tries.iter().filter(|tried| tried.status.success()).count();
    assert!(
        succeeded == 0 || succeeded == tries.len(),
        "half of it: {tries:?}"
    );
    succeeded > 0
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Puts a list in force on the sender; with a limit, the second officer may know only `rome-desk`.
fn import(site: &Site, version: u32, limit: Option<&str>) {
    let id = format!("id = \"{}\"\n", Roster::OFFICERS[1]);
    let file: PathBuf = match limit {
        None => site.signed_list(version),
        Some(limit) => site.signed_list_with(version, &id, &format!("{id}{limit}\n")),
    };
    let import = ["trust", "import", &file.display().to_string()];
    site.run_ok("sender", &site.root, &import);
}

#[test]
fn an_officer_outside_of_his_limits_reads_nothing_of_a_waiting_cable() {
    if is_skipped() {
        return;
    }
    let mut site = Site::install();
    site.commission();
    site.start(Role::Gate);
    let [one, two] = [site.officers[0].clone(), site.officers[1].clone()];
    // A member of the officers' group who is not in the trust list.
    let stranger = one.colleague();
    let submit = |site: &Site, subject: &str| {
        let file = site.cable(subject);
        let submitted = site.submit(&site.drafter, &file, subject);
        assert!(submitted.status.success(), "{submitted:?}");
        String::from_utf8(submitted.stdout)
            .unwrap()
            .trim()
            .to_owned()
    };

    // Without limits the group decides, whose members the administrator of the host chooses.
    let before = submit(&site, "before");
    for who in [&one, &two, &stranger] {
        assert!(reads(&site, who, &before));
    }

    // A list that limits one of them closes waiting cables at once.
    let limit = "mailboxes = [\"rome-desk\"]";
    import(&site, 2, Some(limit));
    let behind = submit(&site, "behind");
    for id in [&before, &behind] {
        assert!(reads(&site, &one, id));
        assert!(!reads(&site, &two, id));
        assert!(!reads(&site, &stranger, id));
        let folder = site.path(&format!("reading-{id}")).display().to_string();
        for command in [&["read", id][..], &["export", id, &folder]] {
            let refused = site.run("sender", &two, command);
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            assert!(words(&refused).contains("limits of o.two"), "{refused:?}");
            let refused = site.run("sender", &stranger, command);
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            assert!(words(&refused).contains("need to know"), "{refused:?}");
        }
        let shown = site.run_ok("sender", &two, &["show", id]);
        assert!(!shown.contains("VALISE-MANIFEST"), "{shown}");
        let refused = site.run("sender", &two, &["reject", id, "--reason", "no"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let mine = site.run_ok("sender", &one, &["list", "--mine"]);
        assert!(mine.contains(id.as_str()), "{mine}");
    }
    let mine = site.run_ok("sender", &two, &["list", "--mine"]);
    assert_eq!(mine, "");

    // After a start the folders are still closed, and a list without the limit opens them.
    site.stop(Role::Gate);
    site.start(Role::Gate);
    assert!(reads(&site, &one, &before) && !reads(&site, &two, &before));
    import(&site, 3, None);
    for who in [&one, &two, &stranger] {
        assert!(reads(&site, who, &before) && reads(&site, who, &behind));
    }
    // A limit that covers the cable closes it to nobody.
    import(&site, 4, Some("mailboxes = [\"paris-desk\"]"));
    assert!(reads(&site, &two, &before) && reads(&site, &stranger, &before));
    site.approve(&before);
}

/// With this option bindfs has no access control lists.
#[test]
fn where_a_cable_cannot_be_opened_to_some_it_is_closed_to_all_under_an_alarm() {
    if is_skipped() {
        return;
    }
    let mut site = Site::install();
    site.commission();
    site.start(Role::Gate);
    let file = site.cable("closed");
    let submitted = site.submit(&site.drafter, &file, "closed");
    assert!(submitted.status.success(), "{submitted:?}");
    let id = String::from_utf8_lossy(&submitted.stdout).trim().to_owned();
    assert!(reads(&site, &site.officers[0], &id));
    site.stop(Role::Gate);
    let state = site.state("sender");
    let Some(_mounted) = Mounted::over(&state) else {
        return;
    };
    import(&site, 2, Some("mailboxes = [\"rome-desk\"]"));
    site.start(Role::Gate);
    let alarm = site.await_some("the alarm", &[state.join("view")], |site| {
        let status = site.run("sender", &site.root, &["status", "--check"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        text.contains("pending-closed").then_some(text)
    });
    assert!(alarm.contains(&format!("pending/{id}")), "{alarm}");
    for officer in &site.officers {
        assert!(!reads(&site, officer, &id));
    }
    site.stop(Role::Gate);
}
