#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::geteuid;
use proptest::prelude::*;

use super::unanswered::Unanswered;
use super::*;
use crate::host::folders::{Role, SenderState};
use crate::os::durable::SyncBatch;
use crate::os::lock::HostLock;
use crate::units::Mono;

const LIMITS: TakeLimits = TakeLimits {
    files_max: 4,
    bytes_max: 1000,
    reserve_bytes: 0,
};

struct Host {
    _folder: tempfile::TempDir,
    state: SenderState,
    server: Requests,
    batch: SyncBatch,
}

fn host() -> Host {
    let folder = tempfile::tempdir().unwrap();
    let state = SenderState::new(folder.path().join("state"));
    state.create_all().unwrap();
    let server = Requests::new(state.requests(), state.tmp(Role::Gate));
    let batch = SyncBatch::new(state.root()).unwrap();
    Host {
        _folder: folder,
        state,
        server,
        batch,
    }
}

impl Host {
    fn taken_at(&self) -> PathBuf {
        self.state.tmp(Role::Gate).join("taken")
    }

    fn take(&mut self) -> Result<Taken, RequestRefused> {
        let found = self.found().remove(0);
        let into = self.taken_at();
        let taken = self.server.intake(&found, &into, LIMITS, &mut self.batch);
        assert_eq!(
            into.exists(),
            taken.is_ok(),
            "nothing is left of a refused request"
        );
        taken
    }

    /// Returns the requests that a daemon would take in hand.
    fn found(&self) -> Vec<Found> {
        let mut service = RequestService::new(self.server.clone()).unwrap();
        let mut found = Vec::new();
        while service.is_due(Mono(0)) {
            service.begin(Mono(0)).unwrap();
            found.extend(std::iter::from_fn(|| service.next(Mono(0))));
        }
        found
    }

    /// A request placed by hand, with one file and room for a fault.
    fn by_hand(&self, toml: &str) -> PathBuf {
        let folder = self.state.requests().join("by-hand");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("request.toml"), toml).unwrap();
        fs::write(folder.join("cable.txt"), b"text").unwrap();
        folder
    }
}

#[test]
fn a_request_is_invisible_until_placed_then_taken_answered_and_forgotten() {
    let mut host = host();
    let lock_path = host.state.lock(Role::Gate);
    let _lock = HostLock::try_take(&lock_path).unwrap().unwrap();
    let mut request = Request::new(&host.state.requests()).unwrap();
    assert_eq!(
        request.add_file("cable.txt", &mut &b"hello"[..]).unwrap(),
        5
    );
    assert!(request.add_file("../escape", &mut &b""[..]).is_err());
    assert!(request.add_file("..", &mut &b""[..]).is_err());
    assert!(host.found().is_empty());
    let placed = request.place("request = \"submit\"\n").unwrap();
    let found = host.found();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].name.as_str(), found[0].answered),
        (placed.name(), false)
    );
    assert_eq!(host.server.size(&found[0]).unwrap(), 5 + 19);
    let taken = host.take().unwrap();
    assert_eq!(taken.toml, "request = \"submit\"\n");
    assert_eq!(taken.owner_uid, nix::unistd::geteuid().as_raw());
    assert_eq!(taken.files.keys().collect::<Vec<_>>(), ["cable.txt"]);
    let file = &taken.files["cable.txt"];
    assert_eq!(
        (fs::read(&file.path).unwrap().as_slice(), file.bytes),
        (&b"hello"[..], 5)
    );
    let hash = hex::encode(&taken.sha256["cable.txt"][..8]);
    assert_eq!(hash, "2cf24dba5fb0a30e");

    let name = placed.name().to_owned();
    // The answer comes while the client is waiting.
    let waiter =
        std::thread::spawn(move || placed.wait(Duration::from_secs(120), &lock_path).unwrap());
    host.server
        .answer_accepted(&name, geteuid().as_raw(), "00ff", &mut host.batch)
        .unwrap();
    host.batch.commit().unwrap();
    assert!(host.found()[0].answered);
    host.server.forget(&name).unwrap();
    assert_eq!(waiter.join().unwrap(), Answer::Accepted("00ff".into()));
    assert!(host.found().is_empty());
    assert_eq!(
        host.server.answer_of(&name),
        Some(Answer::Accepted("00ff".into()))
    );
    assert_eq!(
        host.server.expire_answers(Duration::from_secs(60)).unwrap(),
        0
    );
    assert_eq!(host.server.expire_answers(Duration::ZERO).unwrap(), 1);
    assert_eq!(host.server.answer_of(&name), None);
}

#[test]
fn a_refusal_is_told_in_one_line_and_the_command_takes_its_copy_back() {
    let mut host = host();
    let lock_path = host.state.lock(Role::Gate);
    let _lock = HostLock::try_take(&lock_path).unwrap().unwrap();
    let placed = Request::new(&host.state.requests())
        .unwrap()
        .place("x")
        .unwrap();
    let name = placed.name().to_owned();
    host.server
        .answer_refused(
            &name,
            geteuid().as_raw(),
            "label unknown\nask",
            &mut host.batch,
        )
        .unwrap();
    let answer = placed.wait(Duration::from_secs(120), &lock_path).unwrap();
    assert_eq!(answer, Answer::Refused("label unknown ask".into()));
    assert!(!host.state.requests().join(&name).exists());
}

#[test]
fn without_a_daemon_the_request_stays_and_the_command_says_so() {
    let host = host();
    let placed = Request::new(&host.state.requests())
        .unwrap()
        .place("x")
        .unwrap();
    let name = placed.name().to_owned();
    assert_eq!(
        placed
            .wait(Duration::from_secs(120), &host.state.lock(Role::Gate))
            .unwrap(),
        Answer::NoDaemon
    );
    assert_eq!(host.found()[0].name, name);
}

#[test]
fn a_busy_daemon_is_waited_for_no_longer_than_asked() {
    let host = host();
    let lock_path = host.state.lock(Role::Gate);
    let _lock = HostLock::try_take(&lock_path).unwrap().unwrap();
    let placed = Request::new(&host.state.requests())
        .unwrap()
        .place("x")
        .unwrap();
    let answer = placed.wait(Duration::from_millis(1), &lock_path).unwrap();
    assert_eq!(answer, Answer::Waiting);
}

#[test]
fn a_request_that_is_not_placed_leaves_nothing() {
    let host = host();
    let mut request = Request::new(&host.state.requests()).unwrap();
    request.add_file("a", &mut &b"x"[..]).unwrap();
    drop(request);
    assert_eq!(fs::read_dir(host.state.requests()).unwrap().count(), 0);
}

#[test]
fn a_symbolic_link_in_a_request_is_refused() {
    let mut host = host();
    let folder = host.by_hand("x");
    symlink("/etc/passwd", folder.join("annex.txt")).unwrap();
    assert!(matches!(host.take(), Err(RequestRefused::NotRegular)));
}

#[test]
fn a_hard_link_in_a_request_is_refused() {
    let mut host = host();
    let folder = host.by_hand("x");
    fs::hard_link(folder.join("cable.txt"), host.state.root().join("second")).unwrap();
    assert!(matches!(host.take(), Err(RequestRefused::Linked)));
}

#[test]
fn a_file_whose_name_is_not_utf_8_is_named_in_the_answer_and_not_in_a_log() {
    let mut host = host();
    let name = OsStr::from_bytes(b"wunsch\xe9.txt");
    fs::write(host.by_hand("x").join(name), b"text").unwrap();
    let refused = host.take().unwrap_err();
    assert!(refused.to_string().contains("wunsch\\xe9.txt"), "{refused}");
    assert!(!refused.logged().contains("wunsch"), "{}", refused.logged());
}

#[test]
fn pipes_folders_and_sockets_in_a_request_are_refused() {
    for kind in ["pipe", "folder", "socket"] {
        let mut host = host();
        let path = host.by_hand("x").join("annex");
        match kind {
            "pipe" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "folder" => fs::create_dir(&path).unwrap(),
            _ => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
        }
        assert!(
            matches!(host.take(), Err(RequestRefused::NotRegular)),
            "{kind}"
        );
    }
}

#[test]
fn a_file_that_another_program_leases_is_refused_and_taken_when_it_is_free() {
    use std::io::Read as _;
    use std::process::{Command, Stdio};
    let mut host = host();
    let path = host.by_hand("x").join("cable.txt");
    // F_SETLEASE and F_WRLCK: whoever opens the file waits for its holder, or is told to try again.
    let script = "$SIG{IO} = 'IGNORE'; open(F, '+<', $ARGV[0]) && fcntl(F, 1024, 1) or die; \
                  $| = 1; print 'h'; <STDIN>";
    let mut holder = Command::new("perl")
        .args(["-e", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    holder.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    assert!(matches!(host.take(), Err(RequestRefused::Busy)));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(host.take().unwrap().files.len(), 1);
}

#[test]
fn the_same_placing_is_known_again_and_another_is_not() {
    let mut host = host();
    let folder = host.by_hand("x");
    let again = |host: &mut Host| {
        let taken = host.take().unwrap();
        fs::remove_dir_all(host.taken_at()).unwrap();
        taken.idempotency_key
    };
    let first = again(&mut host);
    assert_eq!(again(&mut host), first);
    fs::rename(&folder, host.state.requests().join("renamed")).unwrap();
    assert_ne!(again(&mut host), first);
    fs::rename(host.state.requests().join("renamed"), &folder).unwrap();
    assert_eq!(again(&mut host), first);
    // Placed again while the first one is still there, so that it cannot get the same inode.
    fs::rename(&folder, host.state.root().join("aside")).unwrap();
    host.by_hand("x");
    assert_ne!(again(&mut host), first);
}

#[test]
fn answered_folders_hide_no_request() {
    let mut host = host();
    let requests = host.state.requests();
    for number in 0..5_000 {
        let name = format!("a{number:05}");
        fs::create_dir(requests.join(&name)).unwrap();
        fs::write(requests.join(format!("{name}.refused")), "no\n").unwrap();
    }
    host.by_hand("x");
    let found = host.found();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "by-hand");
    host.take().unwrap();
}

#[test]
fn a_request_that_is_itself_a_link_is_not_found() {
    let host = host();
    symlink(host.state.root(), host.state.requests().join("link")).unwrap();
    fs::write(host.state.requests().join("file"), b"").unwrap();
    fs::create_dir(host.state.requests().join("name with spaces")).unwrap();
    fs::create_dir(host.state.requests().join("x.accepted")).unwrap();
    assert_eq!(host.found(), []);
}

#[test]
fn too_many_files_too_many_bytes_and_no_text_are_refused() {
    let mut first = host();
    let folder = first.by_hand("x");
    fs::write(folder.join("large"), [0; 996]).unwrap();
    assert!(matches!(
        first.take(),
        Err(RequestRefused::Bytes { bytes_max: 1000 })
    ));
    fs::write(folder.join("large"), [0; 995]).unwrap();
    assert_eq!(first.take().unwrap().files.len(), 2);

    let mut second = host();
    let folder = second.by_hand("x");
    for name in ["a", "b", "c"] {
        fs::write(folder.join(name), b"").unwrap();
    }
    assert!(matches!(
        second.take(),
        Err(RequestRefused::Files { files_max: 4 })
    ));

    let mut third = host();
    let folder = third.by_hand("x");
    fs::write(folder.join("request.toml"), [0xff]).unwrap();
    assert!(matches!(third.take(), Err(RequestRefused::NoText)));
    fs::write(folder.join("request.toml"), vec![b' '; 65_537]).unwrap();
    assert!(matches!(third.take(), Err(RequestRefused::NoText)));
    fs::remove_file(folder.join("request.toml")).unwrap();
    assert!(matches!(third.take(), Err(RequestRefused::NoText)));
}

#[test]
fn a_copy_that_would_take_the_reserve_of_the_disk_is_refused() {
    let mut host = host();
    host.by_hand("x");
    let found = host.found().remove(0);
    let into = host.taken_at();
    let limits = TakeLimits {
        reserve_bytes: u64::MAX,
        ..LIMITS
    };
    let taken = host.server.intake(&found, &into, limits, &mut host.batch);
    assert!(matches!(taken, Err(RequestRefused::NoRoom)));
    assert!(!into.exists());
}

#[test]
fn a_file_of_many_stretches_is_copied_whole() {
    let mut host = host();
    let folder = host.by_hand("x");
    let bytes = 70 << 20;
    let large = fs::File::create(folder.join("large")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&large, b"end", bytes - 3).unwrap();
    let found = host.found().remove(0);
    let limits = TakeLimits {
        bytes_max: bytes + 100,
        reserve_bytes: 1,
        ..LIMITS
    };
    let into = host.taken_at();
    let taken = host.server.intake(&found, &into, limits, &mut host.batch);
    let copy = &taken.unwrap().files["large"];
    assert_eq!(copy.bytes, bytes);
    assert!(fs::read(&copy.path).unwrap().ends_with(b"\0end"));
}

#[test]
fn a_text_is_read_ahead_by_the_same_rules() {
    let host = host();
    let folder = host.by_hand("x");
    let found = host.found().remove(0);
    assert_eq!(host.server.text_now(&found).unwrap(), "x");
    fs::remove_file(folder.join("request.toml")).unwrap();
    symlink("/etc/hostname", folder.join("request.toml")).unwrap();
    assert!(host.server.text_now(&found).is_err());
}

#[test]
fn a_folder_of_another_owner_than_found_is_refused() {
    let mut host = host();
    host.by_hand("x");
    let mut found = host.found().remove(0);
    found.owner_uid += 1;
    let into = host.taken_at();
    let taken = host.server.intake(&found, &into, LIMITS, &mut host.batch);
    assert!(matches!(taken, Err(RequestRefused::Changed)));
    found.name = "gone".into();
    let taken = host.server.intake(&found, &into, LIMITS, &mut host.batch);
    assert!(matches!(taken, Err(RequestRefused::Changed)));
}

/// Runs one test of this file again as an ordinary user, where root would be allowed everything.
fn as_nobody(test: &str) {
    use std::os::unix::process::CommandExt as _;
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("host::requests::tests::{test}")])
        .current_dir("/")
        .env("TMPDIR", "/tmp")
        .gid(65_534)
        .uid(65_534)
        .output();
    match ran {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        // The build folder may be out of an ordinary user's reach.
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
    }
}

#[test]
fn a_folder_that_could_not_be_deleted_is_refused() {
    if nix::unistd::geteuid().is_root() {
        return as_nobody("a_folder_that_could_not_be_deleted_is_refused");
    }
    let mut host = host();
    let folder = host.by_hand("x");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    assert!(matches!(host.take(), Err(RequestRefused::Undeletable)));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o300)).unwrap();
    assert!(matches!(host.take(), Err(RequestRefused::Unreadable)));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(folder.join("cable.txt"), fs::Permissions::from_mode(0o200)).unwrap();
    assert!(matches!(host.take(), Err(RequestRefused::Unreadable)));
}

#[test]
fn a_torn_answer_counts_as_none() {
    let mut host = host();
    host.by_hand("x");
    fs::write(host.state.requests().join("by-hand.accepted"), b"00f").unwrap();
    assert!(!host.found()[0].answered);
    host.server
        .answer_accepted("by-hand", geteuid().as_raw(), "00ff", &mut host.batch)
        .unwrap();
    assert!(host.found()[0].answered);
}

#[test]
fn an_answer_is_one_line_that_its_reader_takes_whatever_it_quotes() {
    let mut host = host();
    host.by_hand("x");
    let reason = format!("unknown word {}\u{1b}[2J", "0\n".repeat(40_000));
    host.server
        .answer_refused("by-hand", geteuid().as_raw(), &reason, &mut host.batch)
        .unwrap();
    let Some(Answer::Refused(told)) = host.server.answer_of("by-hand") else {
        panic!("no answer");
    };
    assert!(told.starts_with("unknown word 0 0 0") && told.ends_with('…'));
    // What another version or a stranger of the same user wrote is replaced, and ends nothing.
    let path = host.state.requests().join("by-hand.refused");
    fs::write(&path, vec![b'n'; ANSWER_BYTES_MAX + 1]).unwrap();
    assert!(!host.found()[0].answered);
}

#[test]
fn an_answer_planted_as_a_link_counts_as_none() {
    let host = host();
    host.by_hand("x");
    let elsewhere = host.state.root().join("elsewhere");
    fs::write(&elsewhere, b"accepted\n").unwrap();
    symlink(&elsewhere, host.state.requests().join("by-hand.accepted")).unwrap();
    assert!(!host.found()[0].answered);
}

proptest! {
    #[test]
    fn a_name_that_is_taken_is_one_plain_component(name in ".{0,120}") {
        if is_request_name(&name) {
            prop_assert!(!name.contains('/') && !name.starts_with('.') && name.len() <= 100);
            prop_assert_eq!(std::path::Path::new(&name).components().count(), 1);
        }
    }
}

#[test]
fn a_folder_in_an_answers_place_makes_way_for_the_answer() {
    let mut host = host();
    for (end, answer) in [
        ("accepted", Answer::Accepted("yes".into())),
        ("refused", Answer::Refused("no".into())),
    ] {
        host.by_hand("x");
        let place = host.state.requests().join(format!("by-hand.{end}"));
        fs::create_dir_all(place.join("deep")).unwrap();
        fs::write(place.join("deep/file"), b"mine").unwrap();
        let mut unanswered = Unanswered::default();
        assert!(unanswered.answer(
            &host.server,
            Mono(0),
            "by-hand",
            geteuid().as_raw(),
            answer.clone(),
            &mut host.batch
        ));
        host.batch.commit().unwrap();
        assert_eq!(host.server.answer_of("by-hand"), Some(answer));
        let left = fs::read_dir(host.state.requests()).unwrap();
        assert_eq!(left.count(), 2, "the request and its answer alone");
        fs::remove_file(place).unwrap();
        fs::remove_dir_all(host.state.requests().join("by-hand")).unwrap();
    }
}

#[test]
fn an_answer_that_cannot_be_written_waits_until_it_can() {
    let mut host = host();
    let request = host.by_hand("x");
    // Without its folder for staging the daemon writes nothing, as on a full disk.
    let (tmp, away) = (host.state.tmp(Role::Gate), host.state.root().join("away"));
    fs::rename(&tmp, &away).unwrap();
    let mut unanswered = Unanswered::default();
    let refused = Answer::Refused("no".into());
    let (now, later) = (Mono(0), Mono(60_000_000));
    assert!(!unanswered.answer(
        &host.server,
        now,
        "by-hand",
        geteuid().as_raw(),
        refused.clone(),
        &mut host.batch
    ));
    assert!(unanswered.holds("by-hand"));
    assert!(
        unanswered
            .retry(&host.server, later, &mut host.batch)
            .is_empty()
    );
    fs::rename(&away, &tmp).unwrap();
    assert!(
        unanswered
            .retry(&host.server, later, &mut host.batch)
            .is_empty(),
        "it is not time yet"
    );
    let later = Mono(later.0 * 2);
    assert_eq!(
        unanswered.retry(&host.server, later, &mut host.batch),
        ["by-hand"]
    );
    host.batch.commit().unwrap();
    assert_eq!(host.server.answer_of("by-hand"), Some(refused));
    assert!(!unanswered.holds("by-hand") && request.exists());
}

const MINUTE_US: u64 = 60_000_000;

/// What is taken up now, as owner and name.
fn taken(waiting: &mut RequestQueue, now: Mono) -> Vec<(u32, String)> {
    let next = || waiting.take(now).map(|found| (found.owner_uid, found.name));
    std::iter::from_fn(next).collect()
}

fn looked(host: &Host, waiting: &mut RequestQueue, now: Mono) {
    waiting.lost();
    loop {
        waiting.look(&host.server, now).unwrap();
        if waiting.is_at_rest() {
            return;
        }
    }
}

#[test]
fn a_notice_leads_to_one_name_and_a_pass_to_all() {
    let host = host();
    let requests = host.state.requests();
    let us = nix::unistd::geteuid().as_raw();
    for name in ["b", "a", "c", "d.accepted", ".hidden", "with space"] {
        fs::create_dir(requests.join(name)).unwrap();
    }
    fs::write(requests.join("file"), b"").unwrap();
    fs::write(requests.join("c.refused"), b"no\n").unwrap();
    let mut waiting = RequestQueue::default();
    for name in [
        "b",
        "file",
        "gone",
        "c",
        ".hidden",
        "with space",
        "d.accepted",
    ] {
        waiting.notice(&host.server, name.as_ref()).unwrap();
    }
    assert_eq!(taken(&mut waiting, Mono(0)), [(us, "b".to_owned())]);
    // Its answer was taken away: it is a request again.
    fs::remove_file(requests.join("c.refused")).unwrap();
    waiting.notice(&host.server, "c.refused".as_ref()).unwrap();
    assert_eq!(taken(&mut waiting, Mono(0)), [(us, "c".to_owned())]);
    looked(&host, &mut waiting, Mono(0));
    let names: Vec<_> = taken(&mut waiting, Mono(0))
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(!waiting.is_due(Mono(0)));
    // Without a notice it is found by the next pass.
    fs::create_dir(requests.join("e")).unwrap();
    assert!(waiting.is_due(Mono(10 * MINUTE_US)));
}

#[test]
fn names_without_end_keep_no_other_owner_waiting() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root gives folders away");
        return;
    }
    let host = host();
    let requests = host.state.requests();
    let place = |uid: u32, name: &str| {
        fs::create_dir(requests.join(name)).unwrap();
        std::os::unix::fs::chown(requests.join(name), Some(uid), None).unwrap();
    };
    for number in 0..3_000 {
        place(1_001, &format!("junk{number:05}"));
        fs::write(requests.join(format!("file{number:05}")), b"").unwrap();
    }
    let mut waiting = RequestQueue::default();
    // A slice is not all of it, and a request of which a notice comes does not wait for the others.
    waiting.look(&host.server, Mono(0)).unwrap();
    assert!(!waiting.is_at_rest());
    place(1_002, "z");
    waiting.notice(&host.server, "z".as_ref()).unwrap();
    let first: Vec<_> = (0..2).filter_map(|_| waiting.take(Mono(0))).collect();
    assert!(
        first.iter().any(|found| found.owner_uid == 1_002),
        "{first:?}"
    );
    looked(&host, &mut waiting, Mono(0));
    let all = taken(&mut waiting, Mono(0));
    assert_eq!(
        all.len(),
        1_001,
        "a thousand of one owner, and the other one's"
    );
    assert_eq!(all[1], (1_002, "z".to_owned()), "owners take turns");
    // The others of the first owner are found when these are done.
    assert!(waiting.is_due(Mono(0)));
}

#[test]
fn an_owner_who_is_refused_again_and_again_waits_and_nobody_else_does() {
    let host = host();
    let mut waiting = RequestQueue::default();
    let found = |owner_uid: u32, number: u64| Found {
        name: format!("r{number:05}"),
        owner_uid,
        answered: false,
    };
    for number in 0..900 {
        waiting.put_back(&found(1, number));
    }
    let mut served = Vec::new();
    for second in 0..120_u64 {
        let now = Mono(second * 1_000_000);
        let mut count = 0_u64;
        while let Some(one) = waiting.take(now) {
            assert_eq!(one.owner_uid, 1);
            waiting.refused(1, now);
            waiting.settled();
            count += 1;
        }
        served.push(count);
    }
    assert_eq!(served[0], 100);
    assert_eq!(served[1..61].iter().sum::<u64>(), 30, "thirty a minute");
    assert_eq!(served[61..].iter().sum::<u64>(), 29);
    let now = Mono(119_000_000);
    waiting.put_back(&found(2, 0));
    assert_eq!(waiting.take(now).map(|one| one.owner_uid), Some(2));
    let [held, left, open] = waiting.alarms(&host.server, now);
    assert!(
        held.1 == 1 && held.2.text.contains("user 1 wait"),
        "{held:?}"
    );
    assert_eq!((left.1, open.1), (0, 0));
    // An hour later it is forgotten.
    assert_eq!(waiting.alarms(&host.server, Mono(61 * MINUTE_US))[0].1, 0);
    drop(host);
}

#[test]
fn a_folder_that_its_writer_left_is_taken_away_and_one_that_is_held_or_grows_is_not() {
    let host = host();
    let requests = host.state.requests();
    let mut command = Request::new(&requests).unwrap();
    command.add_file("part", &mut &b"plaintext"[..]).unwrap();
    let hidden = |name: &str| {
        fs::create_dir(requests.join(name)).unwrap();
        fs::write(requests.join(name).join("part"), b"plaintext").unwrap();
    };
    hidden(".left");
    hidden(".grows");
    let mut waiting = RequestQueue::default();
    let mut look = |minute: u64| {
        let now = Mono(minute * MINUTE_US);
        looked(&host, &mut waiting, now);
        waiting.take_abandoned(&host.server, now);
        let mut names: Vec<_> = fs::read_dir(&requests)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(".erase-"))
            .collect();
        names.sort();
        names
    };
    assert_eq!(look(0).len(), 3);
    fs::write(requests.join(".grows/part"), b"plaintext and more").unwrap();
    assert_eq!(look(9).len(), 3, "the grace is not over");
    let names = look(10);
    assert_eq!(names.len(), 2);
    assert!(names.contains(&".grows".to_owned()), "{names:?}");
    assert_eq!(look(19).len(), 1, "nothing changed in it since it grew");
    // The command lives, and holds its folder; but not for ever.
    assert_eq!(look(1_000).len(), 1);
    assert_eq!(look(2 * 1_440).len(), 0);
    drop(command);
}

#[test]
fn a_request_in_hand_is_not_taken_again_and_its_folder_goes_after_its_answer() {
    let host = host();
    let folder = host.by_hand("x");
    let us = geteuid().as_raw();
    let mut service = RequestService::new(host.server.clone()).unwrap();
    service.take_over().unwrap();
    assert!(service.is_left_over("by-hand"));
    service.begin(Mono(0)).unwrap();
    let found = service.next(Mono(0)).unwrap();
    assert!(!found.answered);
    let take_all = |service: &mut RequestService| {
        service.look_at_all();
        service.begin(Mono(0)).unwrap();
        service.next(Mono(0))
    };
    assert_eq!(take_all(&mut service), None);
    service.postpone(found);
    let found = take_all(&mut service).unwrap();
    service.leave(&found.name);
    let found = take_all(&mut service).unwrap();
    let accepted = Answer::Accepted("yes".into());
    service.answer(Mono(0), &found.name, us, accepted.clone());
    assert!(folder.exists(), "its answer is not durable yet");
    service.finish().unwrap();
    assert!(!folder.exists());
    // Another one under the same name has its answer already.
    host.by_hand("y");
    let found = take_all(&mut service).unwrap();
    assert!(found.answered);
    service.repeated(&found.name);
    service.finish().unwrap();
    assert!(!folder.exists());
    assert_eq!(host.server.answer_of("by-hand"), Some(accepted));
}

#[test]
fn a_refused_folder_stays_and_is_a_request_again_without_its_answer() {
    let host = host();
    let folder = host.by_hand("x");
    let mut service = RequestService::new(host.server.clone()).unwrap();
    service.begin(Mono(0)).unwrap();
    let found = service.next(Mono(0)).unwrap();
    let refused = Answer::Refused("no".into());
    service.answer(Mono(0), &found.name, geteuid().as_raw(), refused);
    service.finish().unwrap();
    service.end();
    service.look_at_all();
    service.begin(Mono(0)).unwrap();
    assert_eq!(service.next(Mono(0)), None);
    fs::remove_file(host.state.requests().join("by-hand.refused")).unwrap();
    service.notice("by-hand.refused".as_ref()).unwrap();
    assert!(folder.exists() && service.is_due(Mono(0)));
    assert_eq!(service.next(Mono(0)).unwrap().name, "by-hand");
}

#[test]
fn a_postponed_request_waits_until_something_changed_and_holds_up_no_other() {
    let host = host();
    for name in ["a", "b", "c"] {
        fs::create_dir(host.state.requests().join(name)).unwrap();
    }
    let mut service = RequestService::new(host.server.clone()).unwrap();
    service.begin(Mono(0)).unwrap();
    for name in ["a", "b"] {
        let found = service.next(Mono(0)).unwrap();
        assert_eq!(found.name, name);
        service.postpone(found);
    }
    service.end();
    // The next turn does not begin with them.
    service.begin(Mono(0)).unwrap();
    let other = service.next(Mono(0)).unwrap();
    assert_eq!(other.name, "c");
    service.leave(&other.name);
    service.end();
    while service.is_due(Mono(0)) {
        service.begin(Mono(0)).unwrap();
        assert_eq!(service.next(Mono(0)), None);
    }
    service.look_again();
    service.begin(Mono(0)).unwrap();
    assert_eq!(service.next(Mono(0)).unwrap().name, "a");
}

#[test]
fn a_folder_that_is_placed_before_an_answer_could_be_written_is_not_taken_away_unseen() {
    let host = host();
    let folder = host.by_hand("x");
    let us = geteuid().as_raw();
    let mut service = RequestService::new(host.server.clone()).unwrap();
    service.begin(Mono(0)).unwrap();
    let found = service.next(Mono(0)).unwrap();
    let (tmp, away) = (host.state.tmp(Role::Gate), host.state.root().join("away"));
    fs::rename(&tmp, &away).unwrap();
    service.answer(Mono(0), &found.name, us, Answer::Accepted("yes".into()));
    service.finish().unwrap();
    fs::rename(&away, &tmp).unwrap();
    // Its author takes it back, and another one comes under its name.
    fs::remove_dir_all(&folder).unwrap();
    host.by_hand("y");
    let mut alarms = crate::host::alarms::Alarms::new(Role::Gate, host.state.root());
    let later = Mono(MINUTE_US);
    service
        .keep_up(&mut alarms, crate::units::UtcTime::from_s(1), later)
        .unwrap();
    assert!(folder.exists());
    service.begin(later).unwrap();
    let found = service.next(later).unwrap();
    assert!(found.answered && found.name == "by-hand");
}

#[test]
fn refusals_that_are_counted_make_their_owner_wait() {
    let host = host();
    let us = geteuid().as_raw();
    let mut service = RequestService::new(host.server.clone()).unwrap();
    for number in 0..150 {
        fs::create_dir(host.state.requests().join(format!("r{number:03}"))).unwrap();
    }
    service.begin(Mono(0)).unwrap();
    let mut judged = 0;
    while let Some(found) = service.next(Mono(0)) {
        service.count_refusal(us, Mono(0));
        service.answer(Mono(0), &found.name, us, Answer::Refused("no".into()));
        service.end();
        judged += 1;
    }
    assert_eq!(judged, queue::REFUSED_AT_ONCE);
    assert!(!service.is_due(Mono(0)) || service.next(Mono(0)).is_none());
}
