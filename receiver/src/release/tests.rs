//! `release` as a whole, in one process and without its loop: containers in, folders or reasons out.
#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use valise_common::history::index::IndexError;
use valise_common::history::log::AuditLogError;
use valise_common::host::folders::{InboxName, Role};
use valise_common::host::requests::{RequestService, Requests};
use valise_common::host::slots::SlotsHeader;
use valise_common::host::trust_store::SignedList;
use valise_common::host::worker::Threading;
use valise_common::ids::{BundleId, ContainerId, LinkKeyId, Serial};
use valise_common::manifest::Manifest;
use valise_common::os::clock;
use valise_common::trust::TrustList;
use valise_common::units::{Percent, UtcTime};
use valise_common::wire::{Beacon, BeaconEntry, EntryState};

use super::testing::{Keys, World, config_of, make_bundle, name_of, trust_text};
use crate::model::event::Asker;
use crate::model::rows::{CableRow, Claim};
use crate::release::commit::Batch;
use crate::release::inbox::{Due, Incoming, Origin};
use crate::release::requests::Verdict;
use crate::release::{Release, ReleaseError};
use crate::spool::containers::{OpenTask, OpenedFile, open_container};
use crate::spool::publish::{Groups, Published};
use crate::spool::slots_key::SlotsKey;
use crate::steps::verify::{Judged, Policy, verify};

/// Serves what was placed without a notice.
fn look_and_serve(release: &mut Release) {
    release.requests.look_at_all();
    release.serve_requests().unwrap();
}

/// Waits for the worker's work, as the loop does.
fn await_worker(release: &mut Release) {
    let mut fds = [PollFd::new(release.worker.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE).unwrap();
    release.take_done().unwrap();
}

/// Answers are staged in a folder that is not there, so that none is written, as on a full disk or before a kill.
fn keep_from_answering(world: &World, release: &mut Release) {
    let absent = world.state.tmp(Role::Release).join("absent");
    let requests = Requests::new(world.state.requests(), absent);
    release.requests = RequestService::new(requests).unwrap();
}

/// Lets the daemon work until nothing is left that it could do.
fn settle(release: &mut Release) {
    release.scan_inbox().unwrap();
    release.read_beacon().unwrap();
    look_and_serve(release);
    loop {
        let more = release.release_some().unwrap();
        release.recheck_some().unwrap();
        let busy = release.worker.is_busy();
        if busy {
            await_worker(release);
        }
        if !more && !busy && release.inbox.rechecks.is_empty() {
            break;
        }
    }
    release.log_alarms().unwrap();
    release.show();
}

fn row(release: &Release, serial: u64) -> Option<CableRow> {
    release
        .ledger
        .register()
        .cable(Serial::new(serial).unwrap())
        .unwrap()
}

/// Places a request as another program would.
fn place(world: &World, name: &str, text: &str) {
    let requests = world.state.requests();
    let hidden = requests.join(format!(".{name}"));
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("request.toml"), text).unwrap();
    fs::rename(&hidden, requests.join(name)).unwrap();
}

/// The answer to a request: `accepted` or `refused`, and the text.
fn answer(world: &World, name: &str) -> (&'static str, String) {
    let read = |end: &str| fs::read_to_string(world.state.requests().join(format!("{name}.{end}")));
    match (read("accepted"), read("refused")) {
        (Ok(text), Err(_)) => ("accepted", text),
        (Err(_), Ok(text)) => ("refused", text),
        other => panic!("{other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Delivers a container that must be held for this reason, and checks what did not happen.
#[track_caller]
fn assert_held(world: &World, serial: u64, container: &[u8], code: &str) {
    let name = world.deliver(serial, container);
    let mut release = world.release();
    settle(&mut release);
    let row = row(&release, serial).unwrap();
    assert_eq!(
        (row.claim, row.code.as_deref()),
        (Claim::Quarantined, Some(code))
    );
    assert!(row.reason.is_some_and(|reason| !reason.is_empty()));
    world.assert_nothing_visible();
    assert!(!world.state.container(&name).exists());
    assert_eq!(fs::read(world.state.quarantined(&name)).unwrap(), container);
    assert!(!world.slot_is_erased(serial));
}

/// Delivers a container that does not open, and checks that it changes nothing.
#[track_caller]
fn assert_unopened(world: &World, serial: u64, container: &[u8], code: &str) {
    let name = world.deliver(serial, container);
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(row(&release, serial), None);
    assert_eq!(release.inbox.counters.unopened, 1);
    world.assert_nothing_visible();
    assert!(!world.state.container(&name).exists() && !world.state.quarantined(&name).exists());
    assert!(!world.slot_is_erased(serial));
    assert!(
        world.log_text().contains(&format!("\"code\":\"{code}\"")),
        "{}",
        world.log_text()
    );
    drop(release);
    // The true cable still goes the whole way.
    world.deliver(serial, &world.honest(serial, &[b"true"]));
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(row(&release, serial).unwrap().claim, Claim::Released);
}

#[test]
fn a_cable_is_released_to_each_mailbox_and_its_slot_destroyed() {
    let world = World::new();
    world.import_trust(&trust_text(world.channel, 7));
    let parts: [&[u8]; 3] = [b"the cable\n", b"", b"its annex"];
    let manifest = world.manifest(&parts);
    let name = world.deliver(
        1,
        &world.approved(1, &manifest, &["b", "c"], &parts.concat()),
    );
    let mut release = world.release();
    settle(&mut release);
    for mailbox in ["paris-desk", "protocol"] {
        let folders = world.folder_of(mailbox);
        assert_eq!(folders.len(), 1);
        let folder = &folders[0];
        let expected = format!("1-{}", manifest.message_id);
        assert_eq!(
            folder.file_name().unwrap().to_str(),
            Some(expected.as_str())
        );
        assert_eq!(mode(folder), 0o700, "no group may take it");
        for papers in ["approvals", "trust"] {
            assert_eq!(mode(&folder.join(papers)), 0o700);
        }
        for (file, part) in ["part-001.txt", "part-002.txt", "part-003.txt"]
            .iter()
            .zip(parts)
        {
            assert_eq!(fs::read(folder.join(file)).unwrap(), part);
            assert_eq!(mode(&folder.join(file)), 0o400);
        }
        assert_eq!(
            fs::read(folder.join("manifest.txt")).unwrap(),
            manifest.encode().unwrap()
        );
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("release.json")).unwrap()).unwrap();
        assert_eq!(json["serial"], 1);
        assert_eq!(json["trust_version"], 7);
        assert_eq!(
            json["approved_by"],
            serde_json::json!(["b.officer", "c.officer"])
        );
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "SHA256SUMS",
                "approvals",
                "manifest.txt",
                "part-001.txt",
                "part-002.txt",
                "part-003.txt",
                "release.json",
                "trust",
            ]
        );
        ssh_keygen_accepts(folder, "b.officer", "b");
        ssh_keygen_accepts(folder, "c.officer", "c");
    }
    assert!(world.slot_is_erased(1) && !world.slot_is_erased(2));
    assert!(!world.state.container(&name).exists());
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
    assert_eq!(
        (world.log_count("publishing"), world.log_count("released")),
        (1, 1)
    );
    let log = world.log_text();
    assert!(!log.contains("conclusions") && !log.contains("passwd") && !log.contains("cable\\n"));
}

/// Opens a container as `release` does at this time.
fn open_at(
    now: UtcTime,
    release: &Release,
    world: &World,
    serial: u64,
    container: &[u8],
) -> OpenedFile {
    let name = world.deliver(serial, container);
    let slots = &release.slots.open[&world.bundle.id];
    let task = OpenTask {
        path: world.state.container(&name),
        name,
        channel: world.channel,
        bundle: world.bundle.id,
        slot: slots.slot(name.serial).unwrap().unwrap(),
        list: Arc::clone(&release.trust.as_ref().unwrap().list),
        now,
        tmp: world.state.tmp(Role::Release),
    };
    open_container(&task).unwrap()
}

#[test]
fn a_judgement_counts_for_its_own_cable_its_list_and_its_time_alone() {
    let world = World::new();
    let release = world.release();
    let list = Arc::clone(&release.trust.as_ref().unwrap().list);
    let text = trust_text(world.channel, 2).replace(
        "id = \"b.officer\"\n",
        "id = \"b.officer\"\nrevoked = \"2025-01-01T00:00:00Z\"\n",
    );
    let newer = TrustList::parse(text.as_bytes()).unwrap();
    let container = world.honest(1, &[b"text"]);
    let now = clock::utc_now();
    let sound = || match open_at(now, &release, &world, 1, &container) {
        OpenedFile::Opened(opened, judged, _) => (opened, judged),
        other => panic!("{other:?}"),
    };
    let verified = |opened, judged: Judged, list: &TrustList, now: UtcTime| {
        let policy = Policy {
            channel: world.channel,
            list,
            now,
        };
        verify(opened, Some(judged), &policy, |_| None).map_err(|held| held.code)
    };
    let (opened, judged) = sound();
    let cable = verified(opened, judged, &list, now).unwrap();
    assert_eq!((cable.trust_version(), cable.verified_at()), (1, now));
    // The list has changed since, or its time is over.
    let (opened, judged) = sound();
    let refused = verified(opened, judged, &newer, now).unwrap_err();
    assert_eq!(refused, "revoked");
    let (opened, judged) = sound();
    let refused = verified(opened, judged, &list, now.plus_s(2 * 86_400)).unwrap_err();
    assert_eq!(refused, "expired");
    // Judged was another cable.
    let manifest = world.manifest(&[b"text"]);
    let container = world.approved(2, &manifest, &["b"], b"text");
    let (_, judged) = sound();
    match open_at(now, &release, &world, 2, &container) {
        OpenedFile::Refused(opened, _) => {
            let refused = verified(opened, judged, &list, now).unwrap_err();
            assert_eq!(refused, "quorum");
        }
        other => panic!("{other:?}"),
    }
}

fn ssh_keygen_accepts(folder: &Path, person: &str, key: &str) {
    let signers = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        signers.path(),
        format!("{person} {}\n", Keys::shared().public_line(key)),
    )
    .unwrap();
    let status = Command::new("ssh-keygen")
        .args([
            "-q",
            "-Y",
            "verify",
            "-n",
            "cable-approval@valise",
            "-I",
            person,
            "-f",
        ])
        .arg(signers.path())
        .arg("-s")
        .arg(folder.join("approvals").join(format!("{person}.sig")))
        .stdin(Stdio::from(
            fs::File::open(folder.join("manifest.txt")).unwrap(),
        ))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_large_cable_goes_by_the_second_thread_and_many_small_ones_share_a_batch() {
    let world = World::new();
    let large = vec![7; 5 << 20];
    world.deliver(1, &world.honest(1, &[&large]));
    for serial in 2..=9 {
        world.deliver(serial, &world.honest(serial, &[b"small"]));
    }
    let mut release = world.release();
    settle(&mut release);
    let folders = world.folder_of("paris-desk");
    assert_eq!(folders.len(), 9);
    assert_eq!(fs::read(folders[0].join("part-001.txt")).unwrap(), large);
    assert!((1..=9).all(|serial| world.slot_is_erased(serial)));
    assert_eq!(release.inbox.counters.released, 9);
}

#[test]
#[ignore = "a measurement: cargo test -p valise-receiver --lib a_thousand -- --ignored --nocapture"]
fn a_thousand_cables_share_their_syncs() {
    let world = World::with_slots(1_100);
    let part = [b'x'; 4_096];
    let deliver = |serial| {
        let mut manifest = world.manifest(&[&part]);
        manifest.to = vec!["paris-desk".parse().unwrap()];
        world.deliver(
            serial,
            &world.approved(serial, &manifest, &["b", "c"], &part),
        );
    };
    (1..=1_000).for_each(deliver);
    let mut release = world.release();
    let cpu = || {
        let usage =
            nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
        let ms = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000 + time.tv_usec() / 1_000;
        (ms(usage.user_time()), ms(usage.system_time()))
    };
    let (started, before) = (std::time::Instant::now(), cpu());
    settle(&mut release);
    let (took, after) = (started.elapsed(), cpu());
    assert_eq!(release.inbox.counters.released, 1_000);
    println!(
        "1000 cables in {took:?}: {:.0} a second; {} ms of user time, {} ms of the system's",
        1_000.0 / took.as_secs_f64(),
        after.0 - before.0,
        after.1 - before.1
    );
    let mut times = Vec::new();
    for serial in 1_001..=1_050 {
        deliver(serial);
        let started = std::time::Instant::now();
        release.scan_inbox().unwrap();
        release.release_some().unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    println!("one alone: median {:?}, most {:?}", times[25], times[49]);
}

#[test]
fn one_approval_where_two_are_needed_is_held() {
    let world = World::new();
    let manifest = world.manifest(&[b"x"]);
    assert_held(
        &world,
        1,
        &world.approved(1, &manifest, &["b"], b"x"),
        "quorum",
    );
}

#[test]
fn the_drafters_own_approval_is_held() {
    let world = World::new();
    let mut manifest = world.manifest(&[b"x"]);
    manifest.drafter = "d.both".parse().unwrap();
    let container = world.approved(1, &manifest, &["b", "d"], b"x");
    assert_held(&world, 1, &container, "own-cable");
}

#[test]
fn one_person_with_two_keys_is_held() {
    let world = World::new();
    let manifest = world.manifest(&[b"x"]);
    let container = world.approved(1, &manifest, &["b", "b2"], b"x");
    assert_held(&world, 1, &container, "repeated-approval");
}

#[test]
fn a_strangers_approval_is_held_even_beside_enough_good_ones() {
    let world = World::new();
    let manifest = world.manifest(&[b"x"]);
    let container = world.approved(1, &manifest, &["b", "c", "stranger"], b"x");
    assert_held(&world, 1, &container, "unknown-key");
}

#[test]
fn signatures_moved_to_a_changed_manifest_are_held() {
    let world = World::new();
    let signed = world.manifest(&[b"x"]);
    let bytes = signed.encode().unwrap();
    let approvals = ["b", "c"].map(|name| Keys::shared().approve(name, &bytes));
    let mut changed = signed;
    changed.to = vec!["protocol".parse().unwrap()];
    let container = world.sealed(1, &changed.encode().unwrap(), &approvals, b"x");
    assert_held(&world, 1, &container, "signature");
}

#[test]
fn an_approval_that_is_no_signature_is_held() {
    let world = World::new();
    let bytes = world.manifest(&[b"x"]).encode().unwrap();
    let approvals = vec![
        Keys::shared().approve("b", &bytes),
        b"not a signature".to_vec(),
    ];
    let container = world.sealed(1, &bytes, &approvals, b"x");
    assert_held(&world, 1, &container, "malformed-approval");
}

#[test]
fn an_unknown_mailbox_is_held() {
    let world = World::new();
    let mut manifest = world.manifest(&[b"x"]);
    manifest.to = vec!["nowhere".parse().unwrap()];
    let container = world.approved(1, &manifest, &["b", "c"], b"x");
    assert_held(&world, 1, &container, "unknown-mailbox");
}

#[test]
fn a_label_beyond_one_of_its_mailboxes_is_held() {
    let world = World::new();
    let mut manifest = world.manifest(&[b"x"]);
    manifest.label = "EU-RESTRICTED CRISIS".parse().unwrap();
    let container = world.approved(1, &manifest, &["b", "c"], b"x");
    assert_held(&world, 1, &container, "not-cleared");
}

#[test]
fn an_expired_cable_is_held() {
    let world = World::new();
    let mut manifest = world.manifest(&[b"x"]);
    manifest.created = UtcTime::from_s(manifest.created.as_s() - 7_200);
    manifest.not_after = UtcTime::from_s(manifest.created.as_s() + 3_600);
    let container = world.approved(1, &manifest, &["b", "c"], b"x");
    assert_held(&world, 1, &container, "expired");
}

#[test]
fn a_manifest_of_another_channel_is_held() {
    let world = World::new();
    let mut manifest = world.manifest(&[b"x"]);
    manifest.channel = valise_common::ids::ChannelId::from_bytes([9; 16]);
    let container = world.approved(1, &manifest, &["b", "c"], b"x");
    assert_held(&world, 1, &container, "other-channel");
}

#[test]
fn a_part_that_was_not_signed_is_held() {
    let world = World::new();
    let manifest = world.manifest(&[b"signed", b"annex!"]);
    for (serial, body, code) in [
        (1, &b"signedAnnex!"[..], "part-hash"),
        (2, &b"signedannex!!"[..], "body-length"),
    ] {
        let container = world.approved(serial, &manifest, &["b", "c"], body);
        assert_held(&world, serial, &container, code);
    }
}

#[test]
fn a_large_part_that_was_not_signed_leaves_nothing_behind() {
    let world = World::new();
    let mut body = vec![7; 5 << 20];
    let manifest = world.manifest(&[&body]);
    *body.last_mut().unwrap() ^= 1;
    assert_held(
        &world,
        1,
        &world.approved(1, &manifest, &["b", "c"], &body),
        "part-hash",
    );
}

#[test]
fn padding_that_is_not_zero_is_held() {
    let world = World::new();
    let bytes = world.manifest(&[b"x"]).encode().unwrap();
    let approvals = ["b", "c"].map(|name| Keys::shared().approve(name, &bytes));
    let approvals = valise_common::seal::encode_approvals(&approvals).unwrap();
    let mut writer =
        valise_common::seal::PackageWriter::new(&bytes, &approvals, 1, &b"x"[..]).unwrap();
    let mut package = Vec::new();
    let padded_bytes = writer.padded_bytes() as usize;
    writer.fill(&mut package, padded_bytes).unwrap();
    *package.last_mut().unwrap() = 1;
    assert_held(
        &world,
        1,
        &world.sealed_package(1, &package),
        "malformed-package",
    );
}

#[test]
fn packages_and_manifests_that_are_none_are_held() {
    let world = World::new();
    assert_held(
        &world,
        1,
        &world.sealed_package(1, &[0; 1024]),
        "malformed-package",
    );
    assert_held(
        &world,
        2,
        &world.sealed_package(2, &[0]),
        "malformed-package",
    );
    let container = world.sealed(3, b"VALISE-MANIFEST 1\nend\n", &[b"x".to_vec()], b"");
    assert_held(&world, 3, &container, "malformed-manifest");
    // A manifest that a lax reader would take: one line end too many.
    let mut bytes = world.manifest(&[b"x"]).encode().unwrap();
    bytes.push(b'\n');
    let container = world.sealed(4, &bytes, &[b"x".to_vec()], b"x");
    assert_held(&world, 4, &container, "malformed-manifest");
}

#[test]
fn a_second_cable_with_the_same_message_id_is_held() {
    let world = World::new();
    let manifest = world.manifest(&[b"x"]);
    world.deliver(1, &world.approved(1, &manifest, &["b", "c"], b"x"));
    let twin = world.approved(2, &manifest, &["b", "c"], b"x");
    let second = world.deliver(2, &twin);
    // Both in one batch: the first one's publishing is not committed when the second is judged.
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
    let held = row(&release, 2).unwrap();
    assert_eq!(
        (held.claim, held.code.as_deref()),
        (Claim::Quarantined, Some("message-id-seen"))
    );
    assert!(world.state.quarantined(&second).exists());
    assert_eq!(world.folder_of("paris-desk").len(), 1);
    drop(release);
    // And for ever: after a restart, and after the reader took the cable away.
    fs::remove_dir_all(&world.folder_of("paris-desk")[0]).unwrap();
    world.deliver(3, &world.approved(3, &manifest, &["b", "c"], b"x"));
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(
        row(&release, 3).unwrap().code.as_deref(),
        Some("message-id-seen")
    );
    assert!(world.folder_of("paris-desk").is_empty());
}

#[test]
fn a_flipped_bit_anywhere_does_not_open_and_burns_nothing() {
    let world = World::new();
    let good = world.honest(1, &[b"x"]);
    // One in each field of the prefix, one in a segment, one in the last tag.
    for at in [
        0, 8, 9, 15, 16, 39, 43, 44, 55, 56, 64, 1183, 1184, 1231, 1232, 1263, 1264,
    ] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        world.deliver(1, &bad);
    }
    let mut last = good.clone();
    *last.last_mut().unwrap() ^= 0x80;
    world.deliver(1, &last);
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(row(&release, 1), None);
    assert_eq!(release.inbox.counters.unopened, 18);
    // One line and one alarm for the serial, however many were thrown at it. Their hashes are their names: no disk did it.
    assert_eq!(world.log_count("unopened"), 1);
    assert!(handed_back(&world).is_empty());
    world.assert_nothing_visible();
    assert!(!world.slot_is_erased(1));
    drop(release);
    world.deliver(1, &good);
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
}

#[test]
fn headers_that_name_something_else_do_not_open() {
    let other = valise_common::ids::ChannelId::from_bytes([9; 16]);
    type Change = fn(valise_common::seal::Header) -> valise_common::seal::Header;
    let changes: [(Change, &str); 3] = [
        (
            |header| valise_common::seal::Header {
                serial: Serial::new(2).unwrap(),
                ..header
            },
            "other-serial",
        ),
        (
            |header| valise_common::seal::Header {
                bundle: BundleId(7),
                ..header
            },
            "other-bundle",
        ),
        (
            |header| valise_common::seal::Header {
                channel: valise_common::ids::ChannelId::from_bytes([9; 16]),
                ..header
            },
            "other-channel",
        ),
    ];
    assert_ne!(other.as_bytes(), &[0; 16]);
    for (change, code) in changes {
        let world = World::new();
        assert_unopened(&world, 1, &world.sealed_with(1, &[0; 1024], change), code);
    }
}

#[test]
fn a_container_of_another_length_or_name_does_not_open() {
    let world = World::new();
    let good = world.honest(1, &[b"x"]);
    for bad in [
        &good[..good.len() - 1],
        &good[..1264],
        &good[..10],
        &[good.clone(), vec![0]].concat(),
    ] {
        world.deliver(1, bad);
    }
    // Its name is not its hash.
    let wrong = InboxName {
        container: name_of(1, b"").container,
        ..name_of(1, &good)
    };
    fs::write(world.state.container(&wrong), &good).unwrap();
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(
        (release.inbox.counters.unopened, row(&release, 1)),
        (5, None)
    );
    assert_eq!(handed_back(&world).len(), 1, "the one whose name is wrong");
    world.assert_nothing_visible();
}

/// What `release` handed back to `receive`, by name.
fn handed_back(world: &World) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(world.state.damaged()).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// Flips one bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_container_that_the_disk_damaged_is_handed_back_and_released_when_it_comes_again() {
    let world = World::new();
    // A small one, and one of the second thread.
    for (serial, part) in [(1, vec![7; 10]), (2, vec![8; 5 << 20])] {
        let good = world.honest(serial, &[&part]);
        let name = world.deliver(serial, &good);
        damage(&world.state.container(&name));
        let mut release = world.release();
        settle(&mut release);
        assert!(!world.state.container(&name).exists());
        let back = world.state.handed_back(&name);
        assert!(back.exists() && handed_back(&world).len() == 1);
        assert_eq!(row(&release, serial), None);
        assert!(!world.slot_is_erased(serial));
        assert!(world.log_text().contains("\"code\":\"hash\""));
        release.observe().unwrap();
        let alarms = release.shown.alarms.views();
        let alarm = alarms.iter().find(|alarm| alarm.alarm == "damaged");
        let advice = format!("valise-sender resend {serial}");
        assert_eq!(alarm.unwrap().repair, advice, "{alarms:?}");
        // `receive` takes it back, and it comes again.
        fs::remove_file(back).unwrap();
        world.deliver(serial, &good);
        settle(&mut release);
        assert_eq!(row(&release, serial).unwrap().claim, Claim::Released);
        release.observe().unwrap();
        assert!(!alarm_codes(&release).contains(&"damaged".to_owned()));
    }
}

#[test]
fn a_held_container_that_the_disk_damaged_is_replaced_by_the_one_that_is_sent_again() {
    let world = World::new();
    let parts: [&[u8]; 1] = [b"for the new desk"];
    let mut manifest = world.manifest(&parts);
    manifest.to = vec!["new-desk".parse().unwrap()];
    let good = world.approved(1, &manifest, &["b", "c"], parts[0]);
    let name = world.deliver(1, &good);
    let mut release = world.release();
    settle(&mut release);
    damage(&world.state.quarantined(&name));
    recheck(&mut release, &world, 1);
    let (end, text) = answer(&world, "recheck");
    assert_eq!(end, "refused");
    assert!(text.contains("resend 1"), "{text}");
    assert_eq!(handed_back(&world).len(), 1);
    release.observe().unwrap();
    assert!(alarm_codes(&release).contains(&"damaged".to_owned()));
    world.deliver(1, &good);
    settle(&mut release);
    assert_eq!(fs::read(world.state.quarantined(&name)).unwrap(), good);
    release.observe().unwrap();
    assert!(!alarm_codes(&release).contains(&"damaged".to_owned()));
    assert_eq!(release.inbox.counters.second_containers, 0);
    drop(release);
    let list = trust_text(world.channel, 2) + NEW_DESK;
    world.import_trust(&list);
    let mut release = world.release();
    settle(&mut release);
    fs::remove_file(world.state.requests().join("recheck.refused")).unwrap();
    fs::remove_dir_all(world.state.requests().join("recheck")).unwrap();
    recheck(&mut release, &world, 1);
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
}

const NEW_DESK: &str = "\n[[mailbox]]\nid = \"new-desk\"\nclassification-max = \"EU-RESTRICTED\"\ncategories = [\"LIMITE\"]\n";

#[test]
fn a_serial_without_a_slot_opens_nothing() {
    let world = World::new();
    let good = world.honest(1, &[b"x"]);
    let name = world.deliver(500, &good);
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(release.inbox.counters.unopened, 1);
    assert!(!world.state.container(&name).exists());
    assert!(world.log_text().contains("no-slot"));
}

#[test]
fn a_second_container_for_a_claimed_serial_changes_nothing() {
    let world = World::new();
    world.deliver(1, &world.honest(1, &[b"first"]));
    let mut manifest = world.manifest(&[b"x"]);
    manifest.to = vec!["nowhere".parse().unwrap()];
    let held = world.deliver(2, &world.approved(2, &manifest, &["b", "c"], b"x"));
    let mut release = world.release();
    settle(&mut release);
    for serial in [1, 2] {
        let before = row(&release, serial);
        let second = world.deliver(serial, &world.honest(serial, &[b"second"]));
        settle(&mut release);
        assert_eq!(row(&release, serial), before);
        assert!(!world.state.container(&second).exists());
    }
    assert_eq!(release.inbox.counters.second_containers, 2);
    assert_eq!(world.log_count("second-container"), 2);
    assert!(world.state.quarantined(&held).exists() && !world.slot_is_erased(2));
    assert_eq!(world.folder_of("paris-desk").len(), 1);
    let alarms = release.shown.alarms.views();
    let alarm = alarms
        .iter()
        .find(|alarm| alarm.alarm == "second-container");
    let alarm = alarm.unwrap();
    assert!(alarm.text.contains("serial 2"), "{alarm:?}");
    assert!(alarm.repair.contains(" --replaces 1, "), "{alarm:?}");
}

#[test]
fn the_first_of_two_that_opens_stands() {
    let world = World::new();
    let (one, two) = (world.honest(1, &[b"one"]), world.honest(1, &[b"two"]));
    world.deliver(1, &one);
    world.deliver(1, &two);
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(
        (
            release.inbox.counters.released,
            release.inbox.counters.second_containers
        ),
        (1, 1)
    );
    assert_eq!(world.folder_of("paris-desk").len(), 1);
}

fn recheck(release: &mut Release, world: &World, serial: u64) {
    let name = world.state.requests().join("recheck");
    fs::create_dir(world.state.requests().join(".recheck")).unwrap();
    fs::write(
        world.state.requests().join(".recheck/request.toml"),
        format!("request = \"quarantine-recheck\"\nserial = {serial}\n"),
    )
    .unwrap();
    fs::rename(world.state.requests().join(".recheck"), &name).unwrap();
    settle(release);
}

#[test]
fn recheck_after_a_newer_trust_list_releases() {
    let world = World::new();
    let parts: [&[u8]; 1] = [b"for the new desk"];
    let mut manifest = world.manifest(&parts);
    manifest.to = vec!["new-desk".parse().unwrap()];
    let name = world.deliver(1, &world.approved(1, &manifest, &["b", "c"], parts[0]));
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Quarantined);
    recheck(&mut release, &world, 1);
    let refused = fs::read_to_string(world.state.requests().join("recheck.refused")).unwrap();
    assert!(refused.contains("stays in quarantine"), "{refused}");
    assert_eq!(world.log_count("rechecked"), 1);
    fs::remove_file(world.state.requests().join("recheck.refused")).unwrap();
    fs::remove_dir_all(world.state.requests().join("recheck")).unwrap();
    let text = trust_text(world.channel, 2)
        + "[[mailbox]]\nid = \"new-desk\"\nclassification-max = \"EU-RESTRICTED\"\n\
           categories = [\"LIMITE\"]\n";
    let verdict = release
        .import_trust(SignedList::read(&world.signed_list(&text)), Asker::user(0))
        .unwrap();
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    recheck(&mut release, &world, 1);
    let accepted = fs::read_to_string(world.state.requests().join("recheck.accepted")).unwrap();
    assert!(accepted.contains("released"), "{accepted}");
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
    assert_eq!(world.folder_of("new-desk").len(), 1);
    assert!(world.slot_is_erased(1) && !world.state.quarantined(&name).exists());
}

/// A large cable that is staged by the second thread, which the loop has not heard of yet.
fn staged(world: &World, manifest: &Manifest, body: &[u8]) -> (Release, InboxName) {
    let name = world.deliver(1, &world.approved(1, manifest, &["b", "c"], body));
    let mut release = world.release();
    release.scan_inbox().unwrap();
    release.release_some().unwrap();
    await_worker(&mut release);
    assert!(release.worker.is_busy(), "it is being staged");
    (release, name)
}

fn import(world: &World, release: &mut Release, text: &str) {
    let path = world.signed_list(text);
    let verdict = release
        .import_trust(SignedList::read(&path), Asker::user(0))
        .unwrap();
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
}

fn is_held_for(release: &Release, code: &str) -> bool {
    row(release, 1)
        .is_some_and(|row| row.claim == Claim::Quarantined && row.code.as_deref() == Some(code))
}

#[test]
fn a_cable_is_not_released_by_a_list_that_changed_while_it_was_staged() {
    let body = vec![7; 5 << 20];
    let revoked = |text: String| {
        text.replace(
            "id = \"b.officer\"\n",
            "id = \"b.officer\"\nrevoked = \"2025-01-01T00:00:00Z\"\n",
        )
    };
    let without_mailbox = |text: String| {
        let (before, _) = text.split_once("[[mailbox]]\nid = \"protocol\"").unwrap();
        before.to_owned()
    };
    let lists: [(&dyn Fn(String) -> String, &str); 2] =
        [(&revoked, "revoked"), (&without_mailbox, "unknown-mailbox")];
    for (list, code) in lists {
        let world = World::new();
        let manifest = world.manifest(&[&body]);
        let (mut release, name) = staged(&world, &manifest, &body);
        import(&world, &mut release, &list(trust_text(world.channel, 2)));
        await_worker(&mut release);
        settle(&mut release);
        assert!(is_held_for(&release, code), "{:?}", row(&release, 1));
        assert_eq!(world.log_count("publishing"), 0);
        world.assert_nothing_visible();
        assert!(world.state.quarantined(&name).exists() && !world.slot_is_erased(1));
        // Its message-id is not spent: a list that allows it again lets it out.
        import(&world, &mut release, &trust_text(world.channel, 3));
        recheck(&mut release, &world, 1);
        assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
    }
}

#[test]
fn a_cable_that_a_newer_list_allows_too_is_staged_anew_and_names_that_list() {
    let body = vec![7; 5 << 20];
    let world = World::new();
    let manifest = world.manifest(&[&body]);
    let (mut release, name) = staged(&world, &manifest, &body);
    for version in 2..=3 {
        import(&world, &mut release, &trust_text(world.channel, version));
        await_worker(&mut release);
        assert_eq!(row(&release, 1), None, "it is judged anew");
        assert!(world.state.container(&name).exists());
        release.release_some().unwrap();
        await_worker(&mut release);
    }
    await_worker(&mut release);
    let [folder] = &world.folder_of("paris-desk")[..] else {
        panic!("it is not released once");
    };
    let json = fs::read_to_string(folder.join("release.json")).unwrap();
    assert!(json.contains("\"trust_version\": 3"), "{json}");
    let list = fs::read(folder.join("trust/trust.toml")).unwrap();
    assert_eq!(TrustList::parse(&list).unwrap().version(), 3);
    assert!(world.log_text().contains("\"trust_version\":3"));
    assert!(world.slot_is_erased(1) && !world.state.container(&name).exists());
    assert_eq!(fs::read_dir(world.state.stage()).unwrap().count(), 0);
}

#[test]
fn a_recheck_whose_list_changed_while_it_was_staged_is_judged_anew_and_answered() {
    let body = vec![7; 5 << 20];
    let world = World::new();
    let mut manifest = world.manifest(&[&body]);
    manifest.to = vec!["new-desk".parse().unwrap()];
    let name = world.deliver(1, &world.approved(1, &manifest, &["b", "c"], &body));
    let mut release = world.release();
    settle(&mut release);
    let with_desk = |version| {
        trust_text(world.channel, version)
            + "[[mailbox]]\nid = \"new-desk\"\nclassification-max = \"EU-RESTRICTED\"\n\
               categories = [\"LIMITE\"]\n"
    };
    import(&world, &mut release, &with_desk(2));
    for (request, version, claim) in [
        ("first", 3, Claim::Quarantined),
        ("second", 5, Claim::Released),
    ] {
        let text = "request = \"quarantine-recheck\"\nserial = 1\n";
        place(&world, request, text);
        look_and_serve(&mut release);
        release.recheck_some().unwrap();
        await_worker(&mut release);
        let list = match claim {
            Claim::Released => with_desk(version),
            _ => trust_text(world.channel, version),
        };
        import(&world, &mut release, &list);
        await_worker(&mut release);
        settle(&mut release);
        assert_eq!(row(&release, 1).unwrap().claim, claim);
        let (end, text) = answer(&world, request);
        match claim {
            Claim::Released => assert_eq!(end, "accepted", "{text}"),
            _ => assert!(end == "refused" && text.contains("new-desk"), "{text}"),
        }
        if version == 3 {
            import(&world, &mut release, &with_desk(4));
        }
    }
    assert!(world.slot_is_erased(1) && !world.state.quarantined(&name).exists());
}

#[test]
fn a_cable_that_expires_between_its_verdict_and_its_publishing_is_held() {
    let late = |release: &mut Release| {
        let now = release.now().plus_s(2 * 86_400);
        release
            .ledger
            .append(now, crate::model::event::Event::Stopped);
        release.ledger.commit().unwrap();
    };
    let body = vec![7; 5 << 20];
    let world = World::new();
    let (mut release, name) = staged(&world, &world.manifest(&[&body]), &body);
    late(&mut release);
    await_worker(&mut release);
    assert!(is_held_for(&release, "expired"), "{:?}", row(&release, 1));
    world.assert_nothing_visible();
    assert!(world.state.quarantined(&name).exists());
    // A small one, in a batch whose staging takes long.
    let world = World::new();
    let name = world.deliver(1, &world.honest(1, &[b"small"]));
    let mut release = world.release();
    let incoming = Incoming {
        name,
        path: world.state.container(&name),
        bytes: fs::metadata(world.state.container(&name)).unwrap().len(),
        origin: Origin::Inbox,
    };
    let mut batch = Batch::default();
    release.take_in(incoming, &mut batch).unwrap();
    assert_eq!(batch.ready.len(), 1);
    late(&mut release);
    release.commit(batch).unwrap();
    assert!(is_held_for(&release, "expired"), "{:?}", row(&release, 1));
    world.assert_nothing_visible();
}

#[test]
fn discard_destroys_the_container_and_the_slot() {
    let world = World::new();
    let manifest = world.manifest(&[b"x"]);
    let name = world.deliver(1, &world.approved(1, &manifest, &["b"], b"x"));
    let mut release = world.release();
    settle(&mut release);
    let request = world.state.requests().join("drop");
    fs::create_dir(&request).unwrap();
    fs::write(
        request.join("request.toml"),
        "request = \"quarantine-discard\"\nserial = 1\nreason = \"asked by its drafter\"\n",
    )
    .unwrap();
    settle(&mut release);
    assert!(world.state.requests().join("drop.accepted").exists());
    let row = row(&release, 1).unwrap();
    assert_eq!(
        (row.claim, row.reason.as_deref()),
        (Claim::Discarded, Some("asked by its drafter"))
    );
    assert!(world.slot_is_erased(1) && !world.state.quarantined(&name).exists());
    // What is discarded is claimed: the same container again is a leftover, another one an alarm.
    world.deliver(1, &world.honest(1, &[b"again"]));
    settle(&mut release);
    assert_eq!(release.inbox.counters.second_containers, 1);
    world.assert_nothing_visible();
}

#[test]
fn without_a_trust_list_cables_wait() {
    let world = World::new();
    let name = world.deliver(1, &world.honest(1, &[b"x"]));
    let mut release = world.release();
    release.trust = None;
    settle(&mut release);
    release.observe().unwrap();
    assert!(world.state.container(&name).exists());
    assert!(
        release
            .shown
            .alarms
            .views()
            .iter()
            .any(|alarm| alarm.alarm == "trust-missing")
    );
    assert_eq!(release.channel_state().complete.to_string(), "1");
}

#[test]
fn a_log_that_went_back_is_refused_and_the_register_is_kept() {
    let world = World::new();
    let files = ["release.log", "release.key", "release.checkpoints"];
    let path = |name: &str| world.state.audit().join(name);
    let old = files.map(|name| fs::read(path(name)).unwrap());
    {
        let mut release = world.release();
        world.deliver(1, &world.honest(1, &[b"text"]));
        settle(&mut release);
        assert_eq!(world.log_count("released"), 1);
    }
    for (name, bytes) in files.iter().zip(old) {
        fs::write(path(name), bytes).unwrap();
    }
    let register = fs::read(world.state.register()).unwrap();
    let opened = Release::open(
        config_of(&world.state),
        world.state.clone(),
        Groups::default(),
        Threading::Caller,
    );
    let Err(ReleaseError::Register(IndexError::Log(AuditLogError::Cut {
        log,
        register: known,
    }))) = opened
    else {
        panic!("it starts on an old log")
    };
    assert!(log < known, "{log}, {known}");
    assert_eq!(fs::read(world.state.register()).unwrap(), register);
}

#[test]
fn a_rollback_or_an_unsigned_trust_list_is_refused() {
    let world = World::new();
    let mut release = world.release();
    let path = world.signed_list(&trust_text(world.channel, 1).replace("2024-", "2023-"));
    let Verdict::Refused(text) = release
        .import_trust(SignedList::read(&path), Asker::user(0))
        .unwrap()
    else {
        panic!()
    };
    assert!(text.contains("version 1"), "{text}");
    // The very list that is in force does not rise either.
    let path = world.signed_list(&trust_text(world.channel, 1));
    let Verdict::Refused(text) = release
        .import_trust(SignedList::read(&path), Asker::user(0))
        .unwrap()
    else {
        panic!()
    };
    assert!(text.contains("in force already"), "{text}");
    let path = world.signed_list(&trust_text(world.channel, 3));
    fs::remove_file(path.with_file_name("trust.toml.2.sig")).unwrap();
    assert!(matches!(
        release
            .import_trust(SignedList::read(&path), Asker::user(0))
            .unwrap(),
        Verdict::Refused(_)
    ));
    // What is no signature is told beside one, and does no harm beside two.
    fs::write(path.with_file_name("trust.toml.2.sig"), "no signature").unwrap();
    let Verdict::Refused(text) = release
        .import_trust(SignedList::read(&path), Asker::user(0))
        .unwrap()
    else {
        panic!()
    };
    assert!(text.contains("signature 2"), "{text}");
    let other = valise_common::ids::ChannelId::from_bytes([9; 16]);
    let path = world.signed_list(&trust_text(other, 3));
    assert!(matches!(
        release
            .import_trust(SignedList::read(&path), Asker::user(0))
            .unwrap(),
        Verdict::Refused(_)
    ));
    assert_eq!(release.trust.as_ref().unwrap().list.version(), 1);
    let path = world.signed_list(&trust_text(world.channel, 4));
    fs::write(path.with_file_name("trust.toml.3.sig"), [0xff; 10]).unwrap();
    assert!(matches!(
        release
            .import_trust(SignedList::read(&path), Asker::user(0))
            .unwrap(),
        Verdict::Accepted(_)
    ));
}

#[test]
fn a_trust_list_that_is_issued_ahead_of_the_clock_is_refused() {
    let world = World::new();
    let mut release = world.release();
    let before = release.now();
    let issued_in = |s: u64| {
        let issued = format!("issued = \"{}\"", clock::utc_now().plus_s(s));
        let text =
            trust_text(world.channel, 2).replace("issued = \"2024-01-01T00:00:00Z\"", &issued);
        assert!(text.contains(&issued));
        world.signed_list(&text)
    };
    let path = issued_in(3_600);
    let told = |text: &str| {
        assert!(text.contains("set the clock if it is wrong"), "{text}");
    };
    // As a request, and by a command of its own, it leaves a line.
    fs::create_dir(world.state.requests().join(".list")).unwrap();
    fs::write(
        world.state.requests().join(".list/request.toml"),
        "request = \"trust-import\"\n",
    )
    .unwrap();
    for file in ["trust.toml", "trust.toml.1.sig", "trust.toml.2.sig"] {
        let from = path.with_file_name(file);
        fs::copy(from, world.state.requests().join(".list").join(file)).unwrap();
    }
    fs::rename(
        world.state.requests().join(".list"),
        world.state.requests().join("list"),
    )
    .unwrap();
    settle(&mut release);
    let (word, text) = answer(&world, "list");
    assert_eq!(word, "refused");
    told(&text);
    let signed = SignedList::read(&path);
    match release.import_here(signed, Asker::user(0)).unwrap() {
        Verdict::Refused(text) => told(&text),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.log_count("request-refused"), 2);
    assert_eq!(world.log_count("trust-imported"), 1);
    let now = release.now();
    assert!(now.since(before) < 300, "{before} to {now}");
    // Clocks differ a little.
    let verdict = release
        .import_trust(SignedList::read(&issued_in(240)), Asker::user(0))
        .unwrap();
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
}

#[test]
fn a_clock_that_ran_ahead_is_set_back_by_clock_accept_only() {
    let world = World::new();
    let far = "2080-01-01T00:00:00Z".parse::<UtcTime>().unwrap();
    let mut release = world.release();
    release
        .ledger
        .append(far, crate::model::event::Event::Stopped);
    release.ledger.commit().unwrap();
    world.deliver(1, &world.honest(1, &[b"x"]));
    settle(&mut release);
    assert_eq!(row(&release, 1).unwrap().code.as_deref(), Some("expired"));
    release.observe().unwrap();
    assert!(
        release
            .shown
            .alarms
            .views()
            .iter()
            .any(|alarm| alarm.alarm == "clock")
    );
    let request = world.state.requests().join("clock");
    fs::create_dir(&request).unwrap();
    fs::write(request.join("request.toml"), "request = \"clock-accept\"\n").unwrap();
    let notes = || {
        let path = world.state.audit().join("release.checkpoints");
        fs::read_to_string(path).unwrap().matches("\n\n").count()
    };
    let before = notes();
    settle(&mut release);
    assert!(release.now() < far);
    assert!(
        notes() > before,
        "a checkpoint says that the clock went back"
    );
    recheck(&mut release, &world, 1);
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
}

#[test]
fn a_void_bundle_opens_nothing_and_keeps_what_it_released() {
    let world = World::new();
    world.deliver(1, &world.honest(1, &[b"x"]));
    let mut manifest = world.manifest(&[b"y"]);
    manifest.to = vec!["nowhere".parse().unwrap()];
    world.deliver(2, &world.approved(2, &manifest, &["b", "c"], b"y"));
    let late = world.honest(3, &[b"late"]);
    let mut release = world.release();
    settle(&mut release);
    let second = make_bundle(&mut release, world.folder.path(), 5);
    assert_eq!((second.id, second.first.get()), (BundleId(2), 13));
    assert_ne!(second.link_key_id, world.bundle.link_key_id);
    let request = world.state.requests().join("void");
    fs::create_dir(&request).unwrap();
    fs::write(
        request.join("request.toml"),
        "request = \"bundle-void\"\nbundle = 1\nreason = \"lost\"\n",
    )
    .unwrap();
    assert_eq!(world.link_keys(), [BundleId(1), BundleId(2)]);
    settle(&mut release);
    assert!(world.state.requests().join("void.accepted").exists());
    // A quarantined serial used its slot, and keeps it until it is decided.
    assert!((3..=12).all(|serial| world.slot_is_erased(serial)) && !world.slot_is_erased(2));
    assert_eq!(world.link_keys(), [BundleId(2)]);
    world.deliver(3, &late);
    settle(&mut release);
    assert_eq!(row(&release, 3), None);
    assert_eq!(release.channel_state().void.to_string(), "3-12");
}

#[test]
fn an_old_link_key_is_retired_and_the_newest_is_not() {
    let world = World::new();
    let mut release = world.release();
    assert_eq!(world.link_keys(), [BundleId(1)]);
    make_bundle(&mut release, world.folder.path(), 5);
    for (key, answer) in [(2, "refused"), (9, "refused"), (1, "accepted")] {
        let request = world.state.requests().join(format!("retire-{key}"));
        fs::create_dir(&request).unwrap();
        fs::write(
            request.join("request.toml"),
            format!("request = \"link-key-retire\"\nlink_key = {key}\n"),
        )
        .unwrap();
        settle(&mut release);
        let expected = world
            .state
            .requests()
            .join(format!("retire-{key}.{answer}"));
        assert!(expected.exists(), "{key} {answer}");
    }
    assert_eq!(world.link_keys(), [BundleId(2)]);
}

/// Puts a beacon where `receive` would, as if the link key of `bundle` had verified it.
fn announce(world: &World, bundle: u32, beacon: &Beacon) {
    let mut payload = vec![0; 512];
    beacon.encode(&mut payload);
    let bundle = BundleId(bundle);
    let written = crate::pipeline::SignedBeacon { bundle, payload };
    let bytes = crate::spool::beacon_file::encode(&written);
    fs::write(world.state.inbox_beacon(), bytes).unwrap();
}

fn beacon(highest: u64, settled: u64, entries: &[(u64, EntryState)]) -> Beacon {
    let entry = |(serial, state): &(u64, EntryState)| BeaconEntry {
        serial: Serial::new(*serial).unwrap(),
        container: ContainerId::from_bytes([1; 12]),
        container_bytes: 2_304,
        state: *state,
    };
    Beacon {
        highest,
        settled,
        lowest_retained: 1,
        sender_time_us: 1,
        trust_version: 1,
        entries: entries.iter().map(entry).collect(),
    }
}

/// Observes until what is missing has been missing for the grace.
fn observe_gaps(release: &mut Release) {
    release.link.pending_gaps = super::link::PendingGaps::default();
    release.observe().unwrap();
    // As if the grace were over.
    release.link.pending_gaps.since = None;
    release.observe().unwrap();
}

/// `SERIAL state` of every serial.
fn states(release: &Release) -> Vec<String> {
    let cables = release.ledger.register().cables(None).unwrap();
    let channel_state = release.channel_state();
    let rows = channel_state.rows(&cables);
    rows.map(|row| format!("{} {}", row.serial, row.state))
        .collect()
}

#[test]
fn what_a_stolen_link_key_announced_is_taken_back_by_a_newer_key() {
    let world = World::new();
    world.deliver(1, &world.honest(1, &[b"x"]));
    let mut release = world.release();
    settle(&mut release);
    // The thief hides serial 2, and calls everything else lost.
    announce(&world, 1, &beacon(12, 12, &[(2, EntryState::NotSent)]));
    observe_gaps(&mut release);
    assert_eq!(release.ledger.gaps().all().to_string(), "3-12");
    assert_eq!(
        states(&release)[..3],
        ["1 released", "2 not-sent", "3 missing"]
    );
    make_bundle(&mut release, world.folder.path(), 5);
    let truth = beacon(
        4,
        1,
        &[(2, EntryState::PassesDone), (3, EntryState::OnLink)],
    );
    announce(&world, 2, &truth);
    observe_gaps(&mut release);
    let expected = ["1 released", "2 missing", "3 announced", "4 announced"];
    assert_eq!(states(&release), expected);
    assert_eq!(release.channel_state().missing().to_string(), "2");
    // The log keeps both what was told and that it was taken back, and a restart knows the end of it.
    assert_eq!(world.log_count("gap-withdrawn"), 1);
    assert_eq!(world.log_count("not-sent-withdrawn"), 1);
    drop(release);
    let mut release = world.release();
    release.read_beacon().unwrap();
    assert_eq!(states(&release), expected);
    assert_eq!(release.ledger.gaps().all().to_string(), "2");
    // Once more: nothing is withdrawn twice.
    observe_gaps(&mut release);
    assert_eq!(world.log_count("gap-withdrawn"), 1);
    // What was called not sent arrives all the same.
    world.deliver(2, &world.honest(2, &[b"y"]));
    settle(&mut release);
    assert_eq!(states(&release)[1], "2 released");
}

#[test]
fn a_retired_link_key_is_not_heard_and_what_it_alone_gave_up_counts_again() {
    let world = World::new();
    let mut release = world.release();
    announce(&world, 1, &beacon(9, 1, &[(1, EntryState::NotSent)]));
    observe_gaps(&mut release);
    assert_eq!(states(&release).len(), 9);
    make_bundle(&mut release, world.folder.path(), 5);
    place(
        &world,
        "retire",
        "request = \"link-key-retire\"\nlink_key = 1\n",
    );
    settle(&mut release);
    // The file is still there: `receive` may be away.
    assert_eq!(release.link.beacon, None);
    assert_eq!(states(&release), Vec::<String>::new());
    announce(&world, 2, &beacon(2, 1, &[]));
    observe_gaps(&mut release);
    assert_eq!(states(&release), ["1 missing", "2 announced"]);
    fs::remove_file(world.state.inbox_beacon()).unwrap();
    release.observe().unwrap();
    assert_eq!(release.link.beacon, None);
}

#[test]
fn contradictions_of_one_link_key_do_not_fill_the_log() {
    let world = World::new();
    let mut release = world.release();
    let says = |state| beacon(3, 0, &[(2, state)]);
    for _ in 0..4 {
        announce(&world, 1, &says(EntryState::NotSent));
        observe_gaps(&mut release);
        announce(&world, 1, &says(EntryState::PassesDone));
        observe_gaps(&mut release);
        assert_eq!(states(&release)[1], "2 missing");
    }
    assert_eq!(
        (world.log_count("not-sent"), world.log_count("gap")),
        (1, 1)
    );
}

#[test]
fn a_bundle_on_request_waits_for_its_command_in_the_state_folder() {
    let world = World::new();
    let mut release = world.release();
    let request = world.state.requests().join("more");
    fs::create_dir(&request).unwrap();
    fs::write(
        request.join("request.toml"),
        "request = \"bundle-create\"\nslots = 3\nreplaces = 1\n",
    )
    .unwrap();
    settle(&mut release);
    let answer = fs::read_to_string(world.state.requests().join("more.accepted")).unwrap();
    let made: crate::model::reply::BundleMade = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (made.bundle, made.first.get(), made.count),
        (BundleId(2), 13, 3)
    );
    let folder = world.state.root().join(&made.folder);
    let statement = fs::read_to_string(folder.join("channel.bundle.statement")).unwrap();
    assert!(statement.contains("replaces: 1\n"), "{statement}");
    assert_eq!(mode(&folder.join("channel.bundle")), 0o600);
    assert!((1..=12).all(|serial| world.slot_is_erased(serial)));
}

fn alarm_codes(release: &Release) -> Vec<String> {
    let alarms = release.shown.alarms.views();
    alarms.into_iter().map(|alarm| alarm.alarm).collect()
}

#[test]
fn slots_are_low_at_a_fifth_and_without_any() {
    let world = World::with_slots(10);
    let mut release = world.release();
    release.observe().unwrap();
    let is_low = |release: &Release| alarm_codes(release).contains(&"slots-low".to_owned());
    for (percent, highest, low) in [
        (20, 7, false),
        (30, 7, true),
        (20, 8, true),
        (10, 8, false),
        (20, 10, true),
    ] {
        release.config.alarm.slots_low = Percent::from_ppm(percent * 10_000);
        announce(&world, 1, &beacon(highest, 0, &[]));
        release.observe().unwrap();
        assert_eq!(is_low(&release), low, "{percent} %, {highest}");
    }
    // The view, and with it `status --check`, says so too.
    release.show();
    let view = crate::spool::view::ReleaseView::read(&world.state.view_of(Role::Release)).unwrap();
    let codes: Vec<_> = view
        .unwrap()
        .alarms
        .into_iter()
        .map(|one| one.alarm)
        .collect();
    assert!(codes.contains(&"slots-low".to_owned()), "{codes:?}");
    make_bundle(&mut release, world.folder.path(), 10);
    release.observe().unwrap();
    assert!(!is_low(&release));
    for bundle in [1, 2] {
        let text = format!("request = \"bundle-void\"\nbundle = {bundle}\nreason = \"lost\"\n");
        place(&world, &format!("void-{bundle}"), &text);
    }
    settle(&mut release);
    release.observe().unwrap();
    assert!(is_low(&release));
}

#[test]
fn forged_symbols_are_an_alarm_once_however_many_there_are() {
    let world = World::new();
    let mut release = world.release();
    for poisoned in [0, 1, 5_000] {
        let text = format!(
            r#"{{"time":"2026-11-22T21:53:18Z","started":"2026-11-22T21:00:00Z","last_datagram":null,"symbols":0,"beacons":0,
            "covers":0,"counters":{{}},"kernel_drops":0,"socket_buffer_asked":0,"socket_buffer_granted":0,"completed":0,
            "poisoned":{poisoned},"yielded":0,"assembling_count":0,"assembling":[],"memory_bytes":0,"disk_bytes":0,"alarms":[]}}"#
        );
        fs::write(world.state.view_of(Role::Receive), text).unwrap();
        release.observe().unwrap();
        let alarmed = alarm_codes(&release).contains(&"forged".to_owned());
        assert_eq!(alarmed, poisoned > 0);
        release.log_alarms().unwrap();
    }
    assert_eq!(world.log_text().matches("\"code\":\"forged\"").count(), 1);
    // A damaged view ends no alarm.
    fs::write(world.state.view_of(Role::Receive), "{").unwrap();
    release.observe().unwrap();
    assert!(alarm_codes(&release).contains(&"forged".to_owned()));
}

/// Asks for the destruction of bundle 1 in one of the two ways.
fn ask_void(world: &World, replaces: bool) {
    place(
        world,
        "void",
        match replaces {
            true => "request = \"bundle-create\"\nslots = 3\nreplaces = 1\n",
            false => "request = \"bundle-void\"\nbundle = 1\nreason = \"lost\"\n",
        },
    );
}

#[test]
fn what_arrived_before_a_bundle_became_void_is_judged_and_what_comes_later_is_not() {
    for replaces in [false, true] {
        let world = World::new();
        let late = world.honest(5, &[b"late"]);
        world.deliver(3, &world.honest(3, &[b"in time"]));
        world.deliver(4, &[7; 2_000]);
        let mut release = world.release();
        ask_void(&world, replaces);
        look_and_serve(&mut release);
        if replaces {
            await_worker(&mut release);
        }
        assert_eq!(answer(&world, "void").0, "accepted");
        let erased = |serial| world.slot_is_erased(serial);
        assert!((1..=12).all(|serial| erased(serial) != matches!(serial, 3 | 4)));
        announce(&world, 1, &beacon(if replaces { 6 } else { 0 }, 0, &[]));
        // A kill here, before the loop has looked into the inbox, changes nothing.
        drop(release);
        let mut release = world.release();
        assert!((1..=12).all(|serial| erased(serial) != matches!(serial, 3 | 4)));
        release.scan_inbox().unwrap();
        assert_eq!(states(&release)[2..4], ["3 complete", "4 complete"]);
        world.deliver(5, &late);
        settle(&mut release);
        let expected = [
            "1 void",
            "2 void",
            "3 released",
            "4 void",
            "5 void",
            "6 void",
        ];
        let states = states(&release);
        assert_eq!(states[..], expected[..states.len()], "{replaces}");
        assert!((1..=12).all(erased), "the container of 4 did not open");
    }
}

#[test]
fn a_kill_while_a_bundle_is_destroyed_leaves_each_serial_in_one_state() {
    let world = World::new();
    let waiting = world.deliver(3, &world.honest(3, &[b"in time"]));
    let gone = world.deliver(4, &world.honest(4, &[b"too"]));
    let slots = world.state.slots_of(BundleId(1));
    let before = fs::read(&slots).unwrap();
    let mut release = world.release();
    ask_void(&world, false);
    look_and_serve(&mut release);
    drop(release);
    // As if the process had been killed behind the commit; and one container vanished, as a judged one does.
    fs::write(&slots, before).unwrap();
    fs::remove_file(world.state.container(&gone)).unwrap();
    let mut release = world.release();
    assert!((1..=12).all(|serial| world.slot_is_erased(serial) != (serial == 3)));
    settle(&mut release);
    assert!(!world.state.container(&waiting).exists());
    assert_eq!(row(&release, 3).unwrap().claim, Claim::Released);
    assert!((1..=12).all(|serial| world.slot_is_erased(serial)));
    assert_eq!(release.ledger.void().to_string(), "1-2,4-12");
}

#[test]
fn a_request_that_was_done_and_not_answered_gets_the_same_answer_after_the_kill() {
    let requests = [
        (
            "quarantine-discard\"\nserial = 1\nreason = \"wrong\"",
            "discarded",
            "accepted: serial 1 is discarded",
        ),
        (
            "quarantine-recheck\"\nserial = 1",
            "rechecked",
            "refused: serial 1 stays in quarantine: ",
        ),
        (
            "bundle-create\"\nslots = 3",
            "bundle-created",
            "accepted: {\"bundle\":3,",
        ),
        (
            "bundle-create\"\nslots = 3\nreplaces = 1",
            "bundle-created",
            "accepted: {\"bundle\":3,",
        ),
        (
            "bundle-void\"\nbundle = 1\nreason = \"lost\"",
            "bundle-voided",
            "accepted: bundle 1 is void: ",
        ),
        (
            "link-key-retire\"\nlink_key = 1",
            "link-key-retired",
            "accepted: link key 1 of bundle 1 is retired\n",
        ),
        ("clock-accept\"", "clock-accepted", "accepted: now is "),
        (
            "bundle-void\"\nbundle = 9\nreason = \"lost\"",
            "request-refused",
            "refused: there is no bundle 9",
        ),
    ];
    for (request, event, expected) in requests {
        let world = World::new();
        let manifest = world.manifest(&[b"x"]);
        world.deliver(1, &world.approved(1, &manifest, &["b"], b"x"));
        let mut release = world.release();
        settle(&mut release);
        make_bundle(&mut release, world.folder.path(), 5);
        let before = world.log_count(event);
        keep_from_answering(&world, &mut release);
        place(&world, "ask", &format!("request = \"{request}\n"));
        look_and_serve(&mut release);
        if release.worker.is_busy() {
            await_worker(&mut release);
        }
        release.recheck_some().unwrap();
        assert_eq!(world.log_count(event), before + 1, "{request}");
        let requests = world.state.requests();
        assert!(requests.join("ask").exists());
        assert!(!requests.join("ask.accepted").exists() && !requests.join("ask.refused").exists());
        drop(release);
        let mut release = world.release();
        settle(&mut release);
        let (kind, text) = answer(&world, "ask");
        let got = format!("{kind}: {text}");
        assert!(got.starts_with(expected), "{request}: {got}");
        assert_eq!(
            world.log_count(event),
            before + 1,
            "{request} was done twice"
        );
        if event == "bundle-created" {
            let made: crate::model::reply::BundleMade = serde_json::from_str(&text).unwrap();
            assert!(
                world
                    .state
                    .root()
                    .join(made.folder)
                    .join("channel.bundle")
                    .exists()
            );
        }
        // Placed again, it is another request, under its old name too.
        if kind == "refused" {
            fs::remove_dir_all(requests.join("ask")).unwrap();
        }
        fs::remove_file(requests.join(format!("ask.{kind}"))).unwrap();
        place(
            &world,
            "ask",
            "request = \"link-key-retire\"\nlink_key = 77\n",
        );
        settle(&mut release);
        assert_eq!(
            answer(&world, "ask"),
            ("refused", "there is no link key 77\n".to_owned())
        );
    }
}

#[test]
fn a_recheck_that_was_released_and_not_answered_is_answered_after_the_kill() {
    let world = World::new();
    let mut manifest = world.manifest(&[b"x"]);
    manifest.to = vec!["new-desk".parse().unwrap()];
    world.deliver(1, &world.approved(1, &manifest, &["b", "c"], b"x"));
    let mut release = world.release();
    settle(&mut release);
    let text = trust_text(world.channel, 2)
        + "[[mailbox]]\nid = \"new-desk\"\nclassification-max = \"EU-RESTRICTED\"\n\
           categories = [\"LIMITE\"]\n";
    let list = world.signed_list(&text);
    let verdict = release
        .import_trust(SignedList::read(&list), Asker::user(0))
        .unwrap();
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    place(
        &world,
        "again",
        "request = \"quarantine-recheck\"\nserial = 1\n",
    );
    look_and_serve(&mut release);
    let mut batch = release.next_recheck().unwrap();
    release.commit_verdicts(&mut batch).unwrap();
    assert_eq!(
        (world.log_count("publishing"), world.log_count("released")),
        (1, 0)
    );
    drop(release);
    let mut release = world.release();
    settle(&mut release);
    assert_eq!(
        answer(&world, "again"),
        ("accepted", "serial 1 is released\n".to_owned())
    );
    assert_eq!(world.folder_of("new-desk").len(), 1);
}

#[test]
fn a_pipe_or_a_leased_file_in_a_request_refuses_it_and_nothing_else() {
    use std::io::Read as _;
    let world = World::new();
    let mut release = world.release();
    let leased = world.state.requests().join("leased");
    fs::create_dir(&leased).unwrap();
    fs::write(leased.join("request.toml"), "request = \"clock-accept\"\n").unwrap();
    let script = "$SIG{IO} = 'IGNORE'; open(F, '+<', $ARGV[0]) && fcntl(F, 1024, 1) or die; \
                  $| = 1; print 'h'; <STDIN>";
    let mut holder = Command::new("perl")
        .args(["-e", script])
        .arg(leased.join("request.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    holder.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let piped = world.state.requests().join("piped");
    fs::create_dir(&piped).unwrap();
    nix::unistd::mkfifo(&piped.join("request.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    settle(&mut release);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let (kind, text) = answer(&world, "leased");
    assert!(
        kind == "refused" && text.contains("another program"),
        "{text}"
    );
    let (kind, text) = answer(&world, "piped");
    assert!(
        kind == "refused" && text.contains("regular files only"),
        "{text}"
    );
}

/// Runs one test of this file again on a file system of 32 MiB, where the system lets ordinary users mount one.
fn on_a_small_disk(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script =
        "mount -t tmpfs -o size=32m valise \"$TMPDIR\" || exit 77; exec \"$0\" --exact \"$1\"";
    let ran = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(format!("release::tests::{test}"))
        .env("TMPDIR", folder.path())
        .env("VALISE_TEST_SMALL_DISK", "1")
        .output()
        .unwrap();
    let refused = ran.status.code() == Some(77)
        || String::from_utf8_lossy(&ran.stderr).contains("unshare failed");
    assert!(ran.status.success() || refused, "{ran:?}");
}

#[test]
fn a_full_disk_refuses_a_request_as_the_systems_failure_and_the_daemon_goes_on() {
    if std::env::var_os("VALISE_TEST_SMALL_DISK").is_none() {
        return on_a_small_disk(
            "a_full_disk_refuses_a_request_as_the_systems_failure_and_the_daemon_goes_on",
        );
    }
    let world = World::new();
    let mut release = world.release();
    settle(&mut release);
    let free = valise_common::os::durable::free_bytes(world.state.root()).unwrap();
    let filler = world.folder.path().join("filler");
    fs::write(&filler, vec![1; free as usize - (60 << 10)]).unwrap();
    place(&world, "full", "request = \"clock-accept\"\n");
    settle(&mut release);
    let (kind, text) = answer(&world, "full");
    assert!(
        kind == "refused" && text.starts_with("system failure: the disk"),
        "{text}"
    );
    fs::remove_file(&filler).unwrap();
    place(&world, "room", "request = \"clock-accept\"\n");
    settle(&mut release);
    assert_eq!(answer(&world, "room").0, "accepted");
}

#[test]
fn a_file_whose_name_is_not_utf_8_is_named_in_the_answer_and_not_in_the_log() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new();
    let mut release = world.release();
    let hidden = world.state.requests().join(".named");
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("request.toml"), "request = \"clock-accept\"\n").unwrap();
    fs::write(hidden.join(std::ffi::OsStr::from_bytes(b"wunsch\xe9")), "").unwrap();
    fs::rename(&hidden, world.state.requests().join("named")).unwrap();
    settle(&mut release);
    let (kind, text) = answer(&world, "named");
    assert!(kind == "refused" && text.contains("wunsch\\xe9"), "{text}");
    assert_eq!(world.log_count("request-refused"), 1);
    let log = fs::read_to_string(world.state.audit().join("release.log")).unwrap();
    assert!(!log.contains("wunsch"), "{log}");
}

#[test]
fn a_folder_in_an_answers_place_ends_no_daemon() {
    let world = World::new();
    let mut release = world.release();
    for (name, end, text) in [
        ("yes", "accepted", "request = \"clock-accept\"\n"),
        ("no", "refused", "request = \"nothing\"\n"),
    ] {
        let planted = world.state.requests().join(format!("{name}.{end}"));
        fs::create_dir(planted).unwrap();
        place(&world, name, text);
        settle(&mut release);
        assert_eq!(answer(&world, name).0, end);
    }
}

#[test]
fn a_request_whose_answer_cannot_be_written_is_done_once_and_answered_later() {
    let world = World::new();
    let mut release = world.release();
    place(&world, "ask", "request = \"clock-accept\"\n");
    place(&world, "nonsense", "request = \"nothing\"\n");
    let requests = world.state.requests();
    let absent = world.state.tmp(Role::Release).join("absent");
    keep_from_answering(&world, &mut release);
    settle(&mut release);
    settle(&mut release);
    assert!(requests.join("ask").exists() && requests.join("nonsense").exists());
    fs::create_dir(absent).unwrap();
    release
        .keep_up_requests(release.mono().plus_us(60_000_000))
        .unwrap();
    settle(&mut release);
    assert_eq!(answer(&world, "ask").0, "accepted");
    assert_eq!(answer(&world, "nonsense").0, "refused");
    assert!(!world.state.requests().join("ask").exists());
    assert_eq!(world.log_count("clock-accepted"), 1);
    assert_eq!(world.log_count("request-refused"), 1);
}

#[test]
fn a_cable_whose_name_is_always_taken_waits_over_a_restart_and_is_released_then() {
    let world = World::new();
    let container = world.honest(1, &[b"x"]);
    let name = world.deliver(1, &container);
    let blocked = |release: &Release| alarm_codes(release).contains(&"blocked".to_owned());
    let mut release = world.release();
    release.scan_inbox().unwrap();
    let (mut batch, _) = release.next_batch(release.mono()).unwrap();
    release.commit_verdicts(&mut batch).unwrap();
    for staged in &batch.ready[0].names {
        release.note_published(staged, Published::Blocked);
    }
    release.settle(&batch).unwrap();
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Publishing);
    assert!(blocked(&release) && !world.slot_is_erased(1));
    assert!(
        !world.state.container(&name).exists(),
        "it is staged for good"
    );
    // As long as it is blocked, it keeps its staged folders.
    let rows = release.ledger.register().cables(Some(Claim::Publishing));
    assert_eq!(release.settle_published(&rows.unwrap()).unwrap(), 0);
    assert!(!world.slot_is_erased(1) && blocked(&release));
    release.clear_stage().unwrap();
    assert_eq!(fs::read_dir(world.state.stage()).unwrap().count(), 2);
    release.publish_blocked(release.mono()).unwrap();
    assert_eq!(
        row(&release, 1).unwrap().claim,
        Claim::Publishing,
        "too early"
    );
    release
        .publish_blocked(release.mono().plus_us(3_600_000_000))
        .unwrap();
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
    assert!(!blocked(&release) && world.slot_is_erased(1));
    for mailbox in ["paris-desk", "protocol"] {
        assert_eq!(world.folder_of(mailbox).len(), 1);
    }
    assert_eq!(
        (world.log_count("released"), release.inbox.counters.released),
        (1, 1)
    );
}

#[test]
fn a_reader_who_makes_and_removes_a_cables_folder_all_the_time_ends_no_release() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let world = World::new();
    let mut release = world.release();
    let containers: Vec<_> = (1..=10)
        .map(|serial| {
            let manifest = world.manifest(&[b"x"]);
            let id = manifest.message_id;
            let container = world.approved(serial, &manifest, &["b", "c"], b"x");
            (serial, id, container)
        })
        .collect();
    let places: Vec<_> = containers
        .iter()
        .map(|(serial, id, _)| {
            let mailbox = "paris-desk".parse().unwrap();
            let serial = Serial::new(*serial).unwrap();
            world.state.released_cable(&mailbox, serial, id)
        })
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for place in &places {
                    if fs::create_dir(place).is_ok() {
                        let _ = fs::remove_dir(place);
                    }
                }
            }
        });
        for (serial, _, container) in &containers {
            world.deliver(*serial, container);
        }
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            settle(&mut release);
        }));
        stop.store(true, Ordering::Relaxed);
        settled.unwrap();
    });
    release
        .publish_blocked(release.mono().plus_us(3_600_000_000))
        .unwrap();
    for (serial, ..) in &containers {
        assert_eq!(row(&release, *serial).unwrap().claim, Claim::Released);
    }
    for place in places {
        assert!(place.join("release.json").exists());
    }
}

#[test]
fn a_serial_of_a_void_bundle_keeps_its_slot_for_a_container_that_the_loop_has_not_seen() {
    let world = World::new();
    let (forged, honest) = ([7; 2_000], world.honest(4, &[b"true"]));
    world.deliver(4, &forged);
    world.deliver(4, &honest);
    let mut release = world.release();
    ask_void(&world, false);
    look_and_serve(&mut release);
    release.arrive(name_of(4, &forged)).unwrap();
    release.release_some().unwrap();
    assert_eq!(release.inbox.counters.unopened, 1);
    settle(&mut release);
    assert_eq!(row(&release, 4).unwrap().claim, Claim::Released);
    assert!(world.slot_is_erased(4));
}

#[test]
fn rubbish_for_every_second_serial_of_a_large_bundle_keeps_no_bundle_from_being_destroyed() {
    const ARRIVED: u32 = 25_000;
    let first = Serial::new(1_000_000_000_000_000_000).unwrap();
    for replaces in [false, true] {
        let world = World::new();
        let mut release = world.release();
        let large = crate::model::event::Event::BundleCreated {
            bundle: BundleId(2),
            first,
            count: 2 * ARRIVED,
            link_key: LinkKeyId(2),
            replaces: None,
            kept: Vec::new(),
            sha256: "00".repeat(32),
            by: Asker::user(0),
        };
        let header = SlotsHeader {
            channel: world.channel,
            bundle: BundleId(2),
            first,
            count: 2 * ARRIVED,
        };
        let mut slots = header.encode(None).to_vec();
        slots.resize(slots.len() + 64 * 2 * ARRIVED as usize, 0);
        let path = world.state.slots_of(BundleId(2));
        fs::write(&path, slots).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        release.ledger.append(clock::utc_now(), large);
        release.ledger.commit().unwrap();
        release.open_slots().unwrap();
        for number in 0..ARRIVED {
            let name = InboxName {
                serial: first.plus(u64::from(2 * number)).unwrap(),
                container: ContainerId::from_bytes([7; 12]),
            };
            fs::write(world.state.container(&name), b"").unwrap();
        }
        if replaces {
            let plan = release.plan_bundle(1, Some(BundleId(2))).unwrap().unwrap();
            let out = world.folder.path().join("next");
            fs::create_dir(&out).unwrap();
            release.make_bundle(&plan, &out, Asker::user(0)).unwrap();
        } else {
            let voided = release.void_bundle(BundleId(2), "stolen", Asker::user(0));
            let Verdict::Accepted(text) = voided.unwrap() else {
                panic!("it is not void");
            };
            assert!(text.contains("still judged"), "{text}");
        }
        assert_eq!(world.log_count("slots-kept"), 3);
        assert!(release.ledger.void().contains(first));
        assert_eq!(release.ledger.kept().serial_count(), u64::from(ARRIVED));
        // The same from the lines alone.
        drop(release);
        fs::remove_file(world.state.register()).unwrap();
        let release = world.release();
        assert_eq!(release.ledger.kept().serial_count(), u64::from(ARRIVED));
        assert!(release.ledger.void().contains(first));
    }
}

#[test]
fn a_kill_before_a_bundle_became_void_leaves_the_slots_that_it_was_to_keep() {
    let world = World::new();
    let mut release = world.release();
    let serial = Serial::new(4).unwrap();
    let kept = crate::model::event::Event::SlotsKept {
        bundle: world.bundle.id,
        kept: vec![(serial, serial)],
    };
    release.ledger.append(clock::utc_now(), kept);
    release.ledger.commit().unwrap();
    drop(release);
    assert_unopened(&world, 4, &[7; 2_000], "not-opened");
}

#[test]
fn a_thief_who_alternates_beacons_and_one_who_renames_links_fill_no_log() {
    let world = World::new();
    let mut release = world.release();
    let gap = beacon(1, 0, &[(1, EntryState::PassesDone)]);
    let under_way = beacon(1, 0, &[(1, EntryState::OnLink)]);
    announce(&world, 1, &gap);
    observe_gaps(&mut release);
    let missing = |release: &Release| alarm_codes(release).contains(&"missing".to_owned());
    let link = InboxName {
        serial: Serial::new(2).unwrap(),
        container: ContainerId::from_bytes([0; 12]),
    };
    std::os::unix::fs::symlink("/nowhere", world.state.container(&link)).unwrap();
    for told in [&under_way, &gap].repeat(50) {
        announce(&world, 1, told);
        release.observe().unwrap();
        assert_eq!(missing(&release), told == &gap, "what is shown is true");
        release.arrive(link).unwrap();
        release.log_alarms().unwrap();
    }
    let text = world.log_text();
    for code in ["missing", "foreign-file"] {
        let code = format!("\"event\":\"alarm\",\"code\":\"{code}\"");
        assert_eq!(text.matches(&code).count(), 1, "{code}");
    }
    let named = release.shown.alarms.views();
    let foreign = named.iter().find(|alarm| alarm.alarm == "foreign-file");
    let path = world.state.container(&link);
    assert!(
        foreign
            .unwrap()
            .text
            .starts_with(&path.display().to_string()),
        "{named:?}"
    );
    fs::remove_file(path).unwrap();
    release.observe().unwrap();
    assert!(!alarm_codes(&release).contains(&"foreign-file".to_owned()));
}

/// Has this thread, and those that it starts, do without root's rights to files, so that a file's mode counts.
struct WithoutRights;

impl WithoutRights {
    const UID: u32 = 65_534;

    fn in_world(world: &World) -> WithoutRights {
        fn give(path: &Path) {
            std::os::unix::fs::lchown(path, Some(WithoutRights::UID), None).unwrap();
            if fs::symlink_metadata(path).unwrap().is_dir() {
                for entry in fs::read_dir(path).unwrap() {
                    give(&entry.unwrap().path());
                }
            }
        }
        if nix::unistd::geteuid().is_root() {
            give(world.folder.path());
            nix::unistd::setfsuid(WithoutRights::UID.into());
        }
        WithoutRights
    }
}

impl Drop for WithoutRights {
    fn drop(&mut self) {
        nix::unistd::setfsuid(nix::unistd::geteuid());
    }
}

fn close(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    assert!(fs::read(path).is_err(), "its mode counts");
}

#[test]
fn what_somebody_plants_among_the_link_keys_and_as_the_beacon_ends_no_release() {
    let link = |path: &Path| std::os::unix::fs::symlink("/nowhere", path).unwrap();
    let folder = |path: &Path| fs::create_dir(path).unwrap();
    let rubbish = |path: &Path| fs::write(path, "x\n").unwrap();
    let closed = |path: &Path| {
        fs::write(path, "x\n").unwrap();
        close(path);
    };
    let plants: [&dyn Fn(&Path); 4] = [&link, &folder, &rubbish, &closed];
    for plant in plants {
        let world = World::new();
        let honest = world.honest(1, &[b"x"]);
        let _rights = WithoutRights::in_world(&world);
        plant(&world.state.root().join("keys/handover/ended"));
        plant(&world.state.inbox_beacon());
        let mut release = world.release();
        world.deliver(1, &honest);
        settle(&mut release);
        release.observe().unwrap();
        assert!(alarm_codes(&release).contains(&"beacon".to_owned()));
        assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
        // The list of what has ended is written all the same, and the key ends.
        plant_again(plant, &world.state.root().join("keys/handover/ended"));
        let voided = release.void_bundle(BundleId(1), "stolen", Asker::user(0));
        assert!(matches!(voided.unwrap(), Verdict::Accepted(_)));
        let ended = fs::read(world.state.root().join("keys/handover/ended")).unwrap();
        assert_eq!(ended, b"1\n");
    }
}

fn plant_again(plant: &dyn Fn(&Path), path: &Path) {
    valise_common::os::durable::remove_any(path).unwrap();
    plant(path);
}

#[test]
fn what_cannot_be_cleared_away_among_the_link_keys_is_told_and_tried_again() {
    let world = World::new();
    let _rights = WithoutRights::in_world(&world);
    let handover = world.state.root().join("keys/handover");
    let ended = handover.join("ended");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut release = world.release();
    mode(&handover, 0o500);
    let voided = release.void_bundle(BundleId(1), "stolen", Asker::user(0));
    assert!(matches!(voided.unwrap(), Verdict::Accepted(_)));
    release.observe().unwrap();
    assert!(alarm_codes(&release).contains(&"foreign-file".to_owned()));
    assert!(release.link.handover_is_behind);
    drop(release);
    let mut release = world.release();
    assert!(alarm_codes(&release).contains(&"foreign-file".to_owned()));
    mode(&handover, 0o700);
    release.observe().unwrap();
    assert!(!release.link.handover_is_behind);
    assert!(!alarm_codes(&release).contains(&"foreign-file".to_owned()));
    assert_eq!(fs::read(&ended).unwrap(), b"1\n");
    // A folder that cannot be deleted loses its name, and is in nobody's way.
    fs::remove_file(&ended).unwrap();
    fs::create_dir_all(ended.join("below/deep")).unwrap();
    mode(&ended.join("below"), 0o500);
    release.hand_over().unwrap();
    assert!(!release.link.handover_is_behind);
    assert_eq!(fs::read(&ended).unwrap(), b"1\n");
}

#[test]
fn a_container_that_cannot_be_read_is_an_alarm_and_waits_while_others_are_released() {
    let world = World::new();
    let honest = [1, 2].map(|serial| world.honest(serial, &[b"x"]));
    let large = world.honest(3, &[&vec![7; 5 << 20]]);
    let _rights = WithoutRights::in_world(&world);
    let names = [(1, &honest[0]), (3, &large)].map(|(serial, container)| {
        let name = world.deliver(serial, container);
        close(&world.state.container(&name));
        name
    });
    let mut release = world.release();
    world.deliver(2, &honest[1]);
    announce(&world, 1, &beacon(3, 3, &[]));
    settle(&mut release);
    assert_eq!(row(&release, 2).unwrap().claim, Claim::Released);
    release.observe().unwrap();
    assert_eq!(alarm_codes(&release), ["unreadable"]);
    let alarms = release.shown.alarms.views();
    let text = &alarms[0].text;
    let path = world.state.container(&names[0]);
    for part in [
        &path.display().to_string(),
        "mode 0000",
        "1 more",
        "chown --reference=",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // The cable is here: nobody is told to have it sent again.
    assert!(
        states(&release).contains(&"1 complete".to_owned()),
        "{:?}",
        states(&release)
    );
    // A link in a container's place is no cable.
    let link = name_of(4, b"link");
    std::os::unix::fs::symlink("/nowhere", world.state.container(&link)).unwrap();
    announce(&world, 1, &beacon(4, 4, &[]));
    settle(&mut release);
    release.observe().unwrap();
    assert!(states(&release).contains(&"4 missing".to_owned()));
    assert!(alarm_codes(&release).contains(&"foreign-file".to_owned()));
    fs::remove_file(world.state.container(&link)).unwrap();
    // Another one for a serial that is claimed is looked at alone.
    let second = world.deliver(2, b"another");
    close(&world.state.container(&second));
    settle(&mut release);
    assert!(world.state.container(&second).exists());
    for name in names {
        let path = world.state.container(&name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        settle(&mut release);
        assert_eq!(row(&release, name.serial.get()), None, "not yet");
        release.inbox.waiting.get_mut(&name).unwrap().due = Due::Permitted(release.mono());
        settle(&mut release);
        assert_eq!(
            row(&release, name.serial.get()).unwrap().claim,
            Claim::Released
        );
    }
    fs::remove_file(world.state.container(&second)).unwrap();
    release.observe().unwrap();
    assert!(!alarm_codes(&release).contains(&"unreadable".to_owned()));
}

#[test]
fn a_recheck_of_a_container_that_cannot_be_read_is_refused_as_the_systems_failure() {
    let world = World::new();
    let manifest = world.manifest(&[b"x"]);
    let name = world.deliver(1, &world.approved(1, &manifest, &["b"], b"x"));
    let _rights = WithoutRights::in_world(&world);
    let mut release = world.release();
    settle(&mut release);
    close(&world.state.quarantined(&name));
    let text = "request = \"quarantine-recheck\"\nserial = 1\n";
    place(&world, "recheck", text);
    settle(&mut release);
    let (end, text) = answer(&world, "recheck");
    assert!(
        end == "refused" && text.starts_with("system failure"),
        "{text}"
    );
    assert_eq!(row(&release, 1).unwrap().claim, Claim::Quarantined);
}

#[test]
fn a_list_that_is_placed_under_the_name_of_an_accepted_request_stays() {
    let world = World::new();
    let mut release = world.release();
    place(&world, "ask", "request = \"clock-accept\"\n");
    settle(&mut release);
    let requests = world.state.requests();
    assert_eq!(answer(&world, "ask").0, "accepted");
    assert!(!requests.join("ask").exists());
    // It would have no effect, and its author has no other copy.
    place(&world, "ask", "request = \"trust-import\"\n");
    fs::write(requests.join("ask/trust.toml"), "a list").unwrap();
    settle(&mut release);
    assert!(requests.join("ask/trust.toml").exists());
    // A request without files is taken away: its answer is there.
    fs::remove_dir_all(requests.join("ask")).unwrap();
    place(&world, "ask", "request = \"clock-accept\"\n");
    settle(&mut release);
    assert!(!requests.join("ask").exists());
    assert_eq!(world.log_count("clock-accepted"), 1);
}

#[test]
fn a_recheck_whose_container_is_gone_is_refused() {
    let world = World::new();
    let manifest = world.manifest(&[b"x"]);
    let name = world.deliver(1, &world.approved(1, &manifest, &["b"], b"x"));
    let mut release = world.release();
    settle(&mut release);
    place(
        &world,
        "again",
        "request = \"quarantine-recheck\"\nserial = 1\n",
    );
    look_and_serve(&mut release);
    fs::remove_file(world.state.quarantined(&name)).unwrap();
    release.recheck_some().unwrap();
    assert_eq!(answer(&world, "again").0, "refused");
}

#[test]
fn many_requests_are_served_by_turns_with_cables() {
    let world = World::new();
    let mut release = world.release();
    for number in 0..40 {
        place(
            &world,
            &format!("ask-{number}"),
            "request = \"clock-accept\"\n",
        );
    }
    look_and_serve(&mut release);
    assert!(release.requests.is_due(release.mono()));
    release.serve_requests().unwrap();
    assert!(!release.requests.is_due(release.mono()));
    assert_eq!(world.log_count("clock-accepted"), 40);
}

#[test]
fn requests_that_say_nothing_are_refused_and_logged() {
    let world = World::new();
    let mut release = world.release();
    for (name, text) in [("one", "request = \"open-sesame\"\n"), ("two", "\u{0}")] {
        let request = world.state.requests().join(name);
        fs::create_dir(&request).unwrap();
        fs::write(request.join("request.toml"), text).unwrap();
        settle(&mut release);
        assert!(
            world
                .state
                .requests()
                .join(format!("{name}.refused"))
                .exists()
        );
    }
    assert_eq!(world.log_count("request-refused"), 2);
}

/// Stops a daemon at one step of publishing, in each of the states that a crash can leave.
mod crashes {
    use super::*;

    fn published_once(world: &World, manifest: &Manifest) {
        let mut release = world.release();
        settle(&mut release);
        assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
        for mailbox in ["paris-desk", "protocol"] {
            let folders = world.folder_of(mailbox);
            assert_eq!(folders.len(), 1, "{mailbox}");
            let bytes = fs::read(folders[0].join("manifest.txt")).unwrap();
            assert_eq!(bytes, manifest.encode().unwrap());
        }
        assert_eq!(
            (world.log_count("publishing"), world.log_count("released")),
            (1, 1)
        );
        assert!(world.slot_is_erased(1));
        assert_eq!(fs::read_dir(world.state.stage()).unwrap().count(), 0);
        let left: Vec<_> = fs::read_dir(world.state.inbox()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// What the disk holds: everything but the folders that readers see, copied back and forth by name.
    fn copy(from: &Path, to: &Path) {
        let status = Command::new("cp")
            .arg("-a")
            .arg(from)
            .arg(to)
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// A world whose cable is released, and a copy of its state from before.
    fn before_and_after() -> (World, Manifest, InboxName, tempfile::TempDir) {
        let world = World::new();
        let manifest = world.manifest(&[b"x"]);
        let name = world.deliver(1, &world.approved(1, &manifest, &["b", "c"], b"x"));
        let before = tempfile::tempdir().unwrap();
        copy(world.state.root(), &before.path().join("state"));
        (world, manifest, name, before)
    }

    /// Runs the daemon up to "publishing", which is committed, and leaves the folders in the stage.
    fn stop_before_renaming(world: &World) {
        let mut release = world.release();
        release.scan_inbox().unwrap();
        let (mut batch, _) = release.next_batch(release.mono()).unwrap();
        release.commit_verdicts(&mut batch).unwrap();
        assert_eq!(world.log_count("publishing"), 1);
        assert_eq!(fs::read_dir(world.state.stage()).unwrap().count(), 2);
    }

    #[test]
    fn staged_and_not_committed_is_staged_anew() {
        let (world, manifest, _, _before) = before_and_after();
        let mut release = world.release();
        release.scan_inbox().unwrap();
        let _staged = release.next_batch(release.mono()).unwrap();
        assert_eq!(fs::read_dir(world.state.stage()).unwrap().count(), 2);
        assert_eq!(world.log_count("publishing"), 0);
        drop(release);
        published_once(&world, &manifest);
    }

    #[test]
    fn committed_and_not_renamed_is_renamed() {
        let (world, manifest, _, _before) = before_and_after();
        stop_before_renaming(&world);
        published_once(&world, &manifest);
    }

    #[test]
    fn renamed_for_one_mailbox_only_is_renamed_for_the_other() {
        let (world, manifest, _, _before) = before_and_after();
        stop_before_renaming(&world);
        let mut staged: Vec<_> = fs::read_dir(world.state.stage())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        staged.sort();
        let visible = world.state.released_cable(
            &"paris-desk".parse().unwrap(),
            Serial::new(1).unwrap(),
            &manifest.message_id,
        );
        fs::rename(&staged[0], &visible).unwrap();
        published_once(&world, &manifest);
    }

    #[test]
    fn renamed_and_fetched_already_is_not_published_again() {
        let (world, manifest, _, _before) = before_and_after();
        stop_before_renaming(&world);
        for entry in fs::read_dir(world.state.stage()).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        let mut release = world.release();
        settle(&mut release);
        assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
        assert_eq!(
            release
                .ledger
                .register()
                .seen(&manifest.message_id)
                .unwrap(),
            Serial::new(1)
        );
        assert!(world.folder_of("paris-desk").is_empty() && world.slot_is_erased(1));
    }

    #[test]
    fn released_and_not_erased_is_erased() {
        let (world, manifest, name, before) = before_and_after();
        published_once(&world, &manifest);
        // The container and the slot as they were before ⑤.
        let old = valise_common::host::folders::ReceiverState::new(before.path().join("state"));
        fs::copy(old.container(&name), world.state.container(&name)).unwrap();
        let slots = world.state.slots_of(world.bundle.id);
        fs::copy(old.slots_of(world.bundle.id), &slots).unwrap();
        assert!(!world.slot_is_erased(1));
        published_once(&world, &manifest);
        assert!(!world.state.container(&name).exists());
    }

    #[test]
    fn held_and_not_moved_is_moved() {
        let world = World::new();
        let manifest = world.manifest(&[b"x"]);
        let name = world.deliver(1, &world.approved(1, &manifest, &["b"], b"x"));
        let mut release = world.release();
        release.scan_inbox().unwrap();
        let (mut batch, _) = release.next_batch(release.mono()).unwrap();
        release.commit_verdicts(&mut batch).unwrap();
        assert!(world.state.container(&name).exists());
        drop(release);
        let mut release = world.release();
        settle(&mut release);
        assert!(world.state.quarantined(&name).exists() && !world.state.container(&name).exists());
        assert_eq!(world.log_count("quarantined"), 1);
        assert!(!world.slot_is_erased(1));
    }

    #[test]
    fn a_trust_list_that_was_committed_and_not_swapped_is_swapped() {
        let world = World::new();
        let held = world.folder.path().join("held");
        copy(&world.state.trust_store().folder(), &held);
        world.import_trust(&trust_text(world.channel, 2));
        // As before the swap: the new list beside, the old one in its place.
        let next = world.state.root().join("trust.next");
        fs::rename(world.state.trust_store().folder(), &next).unwrap();
        fs::rename(&held, world.state.trust_store().folder()).unwrap();
        let release = world.release();
        assert_eq!(release.trust.as_ref().unwrap().list.version(), 2);
        assert!(!next.exists());
    }

    #[test]
    fn a_lost_register_is_built_anew_from_the_log() {
        let (world, manifest, _, _before) = before_and_after();
        published_once(&world, &manifest);
        for entry in fs::read_dir(world.state.root()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("register.db")
            {
                fs::remove_file(path).unwrap();
            }
        }
        let release = world.release();
        assert_eq!(row(&release, 1).unwrap().claim, Claim::Released);
        assert_eq!(
            release
                .ledger
                .register()
                .seen(&manifest.message_id)
                .unwrap(),
            Serial::new(1)
        );
        assert_eq!(release.ledger.bundles().len(), 1);
    }

    #[test]
    fn something_planted_under_a_cables_name_is_put_aside() {
        let (world, manifest, _, _before) = before_and_after();
        let elsewhere = world.folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let visible = world.state.released_cable(
            &"paris-desk".parse().unwrap(),
            Serial::new(1).unwrap(),
            &manifest.message_id,
        );
        std::os::unix::fs::symlink(&elsewhere, &visible).unwrap();
        let mut release = world.release();
        settle(&mut release);
        assert!(visible.symlink_metadata().unwrap().is_dir());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert!(
            release
                .shown
                .alarms
                .views()
                .iter()
                .any(|alarm| alarm.alarm == "foreign-file")
        );
    }
}

#[test]
fn covered_slots_open_cables_and_wait_for_a_credential_that_is_gone() {
    let key = SlotsKey::from_slice(&[7; 32]).unwrap();
    let mut world = World::new();
    {
        let mut release = world.release();
        release.slots.key = Some(key.clone());
        world.bundle = make_bundle(&mut release, world.folder.path(), 5);
    }
    let [first, second] = [13, 14].map(|serial| (serial, world.honest(serial, &[b"text"])));
    // Nothing is judged, and nothing is lost, while the credential is gone.
    let mut release = world.release();
    world.deliver(first.0, &first.1);
    settle(&mut release);
    release.watch_slot_files(clock::utc_now());
    let alarms = release.shown.alarms.views();
    let alarm = alarms.iter().find(|view| view.alarm == "slots-damaged");
    assert!(
        alarm.unwrap().repair.contains(" --replaces 2, "),
        "{alarms:?}"
    );
    world.assert_nothing_visible();
    assert_eq!(world.log_count("unopened"), 0);
    drop(release);
    // It is back.
    let mut release = world.release();
    release.slots.key = Some(key);
    release.open_slots().unwrap();
    world.deliver(second.0, &second.1);
    settle(&mut release);
    assert_eq!(world.folder_of("paris-desk").len(), 2);
    release.watch_slot_files(clock::utc_now());
    assert!(
        release
            .shown
            .alarms
            .views()
            .iter()
            .all(|view| view.alarm != "slots-damaged")
    );
    let on_disk = fs::read(world.state.slots_of(BundleId(2))).unwrap();
    let records: Vec<_> = on_disk[64..].chunks(64).map(|one| one == [0; 64]).collect();
    assert_eq!(records, [true, true, false, false, false]);
}
