//! The refusals of the isolated host, whoever the sender is: containers sealed without any of the sender's checks, by
//! somebody who has the courier's bundle.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use valise_common::ids::MessageId;
use valise_common::manifest::{FileName, FreeText, Manifest, MediaType, Part};
use valise_common::units::UtcTime;
use valise_common::wire::DatagramBytes;
use valise_tests::attack::{Loot, Thief, container_id, deliver, sign, transmit};
use valise_tests::harness::{self, Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(60);
const BODY: &[u8] = b"the body of a cable\n";

fn now() -> UtcTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    UtcTime::from_s(since.as_secs())
}

/// A world in which only the receiver runs, and the thief of its bundle.
fn world() -> (World, Thief) {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    world.start_role(Role::Receive).unwrap();
    world.start_role(Role::Release).unwrap();
    let thief = Thief::of(&world).unwrap();
    (world, thief)
}

/// A manifest that is valid in every respect.
fn manifest(thief: &Thief, number: u8) -> Manifest {
    Manifest {
        channel: thief.bundle().channel,
        message_id: MessageId::from_bytes([number; 16]),
        label: "EU-RESTRICTED LIMITE".parse().unwrap(),
        precedence: "ROUTINE".parse().unwrap(),
        to: vec!["paris-desk".parse().unwrap()],
        drafter: "d.drafter".parse().unwrap(),
        reference: None,
        subject: FreeText::parse("A cable", 120).unwrap(),
        created: now(),
        not_after: now().plus_s(86_400),
        act_by: None,
        parts: vec![Part {
            length: BODY.len().try_into().unwrap(),
            media_type: MediaType::for_extension("txt"),
            sha256: Sha256::digest(BODY).into(),
            name: FileName::parse("cable.txt").unwrap(),
        }],
    }
}

/// Asserts that nothing of the loot is visible in any mailbox.
fn assert_nothing_released(world: &World) {
    assert_eq!(world.released().unwrap(), [], "something became visible");
}

#[test]
fn a_container_that_is_right_is_released_so_that_the_others_are_refused_for_their_fault() {
    let (mut world, thief) = world();
    let [one, two, _] = &world.roster.officers;
    let loot = Loot::signed(&world, &manifest(&thief, 1), BODY, &[one, two]).unwrap();
    deliver(&world, 1, &thief.seal(1, &loot).unwrap()).unwrap();
    world.await_state(1, "released", LIMIT).unwrap();
    assert_eq!(world.released().unwrap().len(), 1);
}

/// The lines of release's log with this event.
fn audited(world: &World, event: &str) -> Vec<serde_json::Value> {
    let log = world.state(Host::Receiver).join("audit/release.log");
    harness::audited(&log, event).unwrap()
}

#[test]
fn what_a_command_refuses_is_in_the_log_whether_a_daemon_runs_or_not() {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    let good = world.trust_list(2).unwrap();
    let no_quorum = good.replace("officers = 2", "officers = 0");
    assert_ne!(no_quorum, good);
    let path = |name: &str| world.folder().join(name).display().to_string();
    let (no_quorum_file, no_signature_file) = (path("no-quorum.toml"), path("no-signature.toml"));
    let unsigned_file = path("unsigned.toml");
    fs::write(&unsigned_file, &no_quorum).unwrap();
    fs::write(&no_quorum_file, no_quorum).unwrap();
    for (number, key) in (1..).zip(&world.roster.administrators) {
        let file = Path::new(&no_quorum_file);
        key.sign_as_administrator("trust-list@valise", file, number)
            .unwrap();
    }
    fs::write(&no_signature_file, good).unwrap();
    fs::write(format!("{no_signature_file}.1.sig"), "no signature").unwrap();
    let out = path("out");
    let commands: [(&str, &[&str], &str); 4] = [
        // Data that nobody signed are not read.
        (
            "trust-import",
            &["trust", "import", &unsigned_file],
            "0 of the two",
        ),
        (
            "trust-import",
            &["trust", "import", &no_quorum_file],
            "officers",
        ),
        (
            "trust-import",
            &["trust", "import", &no_signature_file],
            "signature 1",
        ),
        (
            "bundle-create",
            &[
                "bundle",
                "create",
                "--slots",
                "4",
                "--replaces",
                "9",
                "--out",
                &out,
            ],
            "no bundle 9",
        ),
    ];
    let mut count = audited(&world, "request-refused").len();
    for daemon in [false, true] {
        if daemon {
            world.start_role(Role::Release).unwrap();
        }
        for (request, command, reason) in commands {
            let answer = world.run(Host::Receiver, command).unwrap();
            assert_eq!(answer.status, 1, "{command:?}: {}", answer.errors);
            let refused = audited(&world, "request-refused");
            count += 1;
            assert_eq!(refused.len(), count, "{command:?} left no line");
            let line = &refused[count - 1];
            assert_eq!(line["request"], request);
            let told = line["reason"].as_str().unwrap();
            assert!(told.contains(reason), "{told}");
            assert!(answer.errors.contains(told), "{}", answer.errors);
        }
    }
}

#[test]
fn a_forged_tail_that_a_command_puts_aside_is_in_the_log_and_on_its_standard_error() {
    let world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    let log = world.state(Host::Receiver).join("audit/release.log");
    let mut forged = fs::read(&log).unwrap();
    forged.extend_from_slice(b"{\"seq\":9,\"event\":\"released\",\"serial\":1}\n");
    fs::write(&log, forged).unwrap();
    let out = world.folder().join("out").display().to_string();
    let create = ["bundle", "create", "--slots", "4", "--out", &out];
    let answer = world.run(Host::Receiver, &create).unwrap();
    assert_eq!(answer.status, 0, "{}", answer.errors);
    assert!(
        answer.errors.contains("alarm audit-log"),
        "{}",
        answer.errors
    );
    let alarms = audited(&world, "alarm");
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0]["code"], "audit-log");
    let created = audited(&world, "bundle-created");
    assert!(alarms[0]["seq"].as_u64() < created.last().unwrap()["seq"].as_u64());
}

#[test]
fn a_cable_without_its_approvals_is_quarantined() {
    let (mut world, thief) = world();
    let roster = &world.roster;
    let [one, two, _] = &roster.officers;
    let good = manifest(&thief, 1);
    let signed =
        |keys: &[&valise_tests::harness::KeyPair]| Loot::signed(&world, &good, BODY, keys).unwrap();
    let changed = {
        let mut other = good.clone();
        other.subject = FreeText::parse("Another subject", 120).unwrap();
        let approvals = signed(&[one, two]).approvals;
        Loot {
            manifest: other.encode().unwrap(),
            approvals,
            body: BODY.to_vec(),
        }
    };
    let elsewhere = {
        let manifest = good.encode().unwrap();
        let approvals = sign(&world, "trust-list@valise", &manifest, &[one, two]).unwrap();
        Loot {
            manifest,
            approvals,
            body: BODY.to_vec(),
        }
    };
    let mut with_rubbish = signed(&[one, two]);
    with_rubbish
        .approvals
        .push(b"SSHSIG and nothing behind".to_vec());
    let cases = [
        ("one approval where two are needed", signed(&[one])),
        ("the drafter's own", signed(&[one, &roster.drafter])),
        (
            "one person with two keys",
            signed(&[two, &roster.second_key]),
        ),
        ("the same approval twice", signed(&[one, one])),
        (
            "a stranger beside two officers",
            signed(&[one, two, &roster.stranger]),
        ),
        (
            "an administrator",
            signed(&[one, &roster.administrators[0]]),
        ),
        ("signatures of another manifest", changed),
        ("signatures of another namespace", elsewhere),
        ("an approval that does not parse", with_rubbish),
    ];
    for (serial, (_, loot)) in (1..).zip(&cases) {
        deliver(&world, serial, &thief.seal(serial, loot).unwrap()).unwrap();
    }
    for (serial, (case, _)) in (1..).zip(&cases) {
        let reason = world.await_state(serial, "quarantined", LIMIT).unwrap();
        assert!(!reason.is_empty(), "{case} has no reason");
    }
    assert_nothing_released(&world);
}

#[test]
fn a_cable_that_policy_forbids_is_quarantined() {
    let (mut world, thief) = world();
    let good = manifest(&thief, 1);
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        let [one, two, three] = &world.roster.officers;
        Loot::signed(&world, &manifest, BODY, &[one, two, three]).unwrap()
    };
    let cases = [
        (
            "an unknown mailbox",
            with(&|m| m.to = vec!["nowhere".parse().unwrap()]),
        ),
        (
            "one of two unknown",
            with(&|m| m.to.insert(0, "nowhere".parse().unwrap())),
        ),
        (
            "not cleared",
            with(&|m| m.label = "EU-CONFIDENTIAL".parse().unwrap()),
        ),
        (
            "unknown label",
            with(&|m| m.label = "EU-SECRET".parse().unwrap()),
        ),
        (
            "unknown category",
            with(&|m| m.label = "EU-RESTRICTED NOFORN".parse().unwrap()),
        ),
        (
            "expired",
            with(&|m| {
                m.created = UtcTime::from_s(now().as_s() - 100);
                m.not_after = UtcTime::from_s(now().as_s() - 10);
            }),
        ),
        (
            "from the future",
            with(&|m| m.created = now().plus_s(3_600)),
        ),
        (
            "valid too long",
            with(&|m| m.not_after = now().plus_s(400 * 86_400)),
        ),
        (
            "an unknown drafter",
            with(&|m| m.drafter = "x.nobody".parse().unwrap()),
        ),
        (
            "a drafter who is none",
            with(&|m| m.drafter = "o.three".parse().unwrap()),
        ),
        (
            "a foreign channel",
            with(&|m| m.channel = [9; 16].into_channel()),
        ),
        (
            "a media type",
            with(&|m| m.parts[0].media_type = "application/x-sh".parse().unwrap()),
        ),
        ("another hash", with(&|m| m.parts[0].sha256 = [0; 32])),
    ];
    for (serial, (_, loot)) in (1..).zip(&cases) {
        deliver(&world, serial, &thief.seal(serial, loot).unwrap()).unwrap();
    }
    for (serial, (case, _)) in (1..).zip(&cases) {
        let reason = world.await_state(serial, "quarantined", LIMIT).unwrap();
        assert!(!reason.is_empty(), "{case} has no reason");
    }
    assert_nothing_released(&world);
}

trait IntoChannel {
    fn into_channel(self) -> valise_common::ids::ChannelId;
}

impl IntoChannel for [u8; 16] {
    fn into_channel(self) -> valise_common::ids::ChannelId {
        valise_common::ids::ChannelId::from_bytes(self)
    }
}

#[test]
fn a_second_cable_with_the_same_message_id_is_quarantined() {
    let (mut world, thief) = world();
    let [one, two, _] = &world.roster.officers;
    let loot = Loot::signed(&world, &manifest(&thief, 1), BODY, &[one, two]).unwrap();
    deliver(&world, 1, &thief.seal(1, &loot).unwrap()).unwrap();
    world.await_state(1, "released", LIMIT).unwrap();
    deliver(&world, 2, &thief.seal(2, &loot).unwrap()).unwrap();
    world.await_state(2, "quarantined", LIMIT).unwrap();
    assert_eq!(world.released().unwrap().len(), 1, "released once");
    // Also when release has only the state on the disk.
    world.kill("release");
    world.start_role(Role::Release).unwrap();
    deliver(&world, 3, &thief.seal(3, &loot).unwrap()).unwrap();
    world.await_state(3, "quarantined", LIMIT).unwrap();
    assert_eq!(world.released().unwrap().len(), 1, "released once");
}

#[test]
fn a_flipped_bit_anywhere_in_a_container_releases_nothing_and_burns_nothing() {
    let (mut world, thief) = world();
    let [one, two, _] = &world.roster.officers;
    let body = vec![7; 200_000];
    let mut right = manifest(&thief, 1);
    right.parts[0].length = 200_000;
    right.parts[0].sha256 = Sha256::digest(&body).into();
    let loot = Loot::signed(&world, &right, &body, &[one, two]).unwrap();
    let container = thief.seal(1, &loot).unwrap();
    let inbox = world.state(Host::Receiver).join("inbox");
    let length = container.len();
    // Magic, suite, channel, serial, bundle, length, encapsulation, sealed key, commitment, the
    // first, a middle and the last segment, and the last tag.
    let places = [
        0,
        8,
        9,
        13,
        20,
        39,
        43,
        50,
        60,
        64,
        700,
        1183,
        1184,
        1231,
        1232,
        1263,
        1264,
        66_900,
        length / 2,
        length - 17,
        length - 1,
    ];
    for place in places {
        let mut flipped = container.clone();
        flipped[place] ^= 1 << (place % 8);
        deliver(&world, 1, &flipped).unwrap();
    }
    let mut shorter = container.clone();
    shorter.pop();
    deliver(&world, 1, &shorter).unwrap();
    let mut longer = container.clone();
    longer.push(0);
    deliver(&world, 1, &longer).unwrap();
    // A container that does not open is deleted.
    let empty = |_: &World| {
        let left = fs::read_dir(&inbox).unwrap().flatten();
        let left = left.filter(|entry| entry.path().extension().is_some_and(|e| e == "container"));
        Ok((left.count() == 0).then_some(()))
    };
    world
        .await_alive("the deletion", LIMIT, std::slice::from_ref(&inbox), empty)
        .unwrap();
    assert_nothing_released(&world);
    // Slot and serial stayed open for the true container.
    deliver(&world, 1, &container).unwrap();
    world.await_state(1, "released", LIMIT).unwrap();
    assert_eq!(world.released().unwrap().len(), 1);
}

#[test]
fn a_container_for_another_serial_or_of_a_stranger_claims_no_serial() {
    let (mut world, thief) = world();
    let [one, two, _] = &world.roster.officers;
    let loot = Loot::signed(&world, &manifest(&thief, 1), BODY, &[one, two]).unwrap();
    let right = thief.seal(5, &loot).unwrap();
    // Under the name of another serial.
    deliver(&world, 4, &right).unwrap();
    deliver(&world, 5, &right).unwrap();
    world.await_state(5, "released", LIMIT).unwrap();
    let list = world.json(Host::Receiver, &["list"]).unwrap();
    let fourth = list
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["serial"] == 4);
    assert!(
        fourth.is_none_or(|entry| entry["state"] != "released" && entry["state"] != "quarantined"),
        "{fourth:?}"
    );
    assert_eq!(world.released().unwrap().len(), 1);
}

#[test]
fn a_set_poisoned_with_the_link_key_does_not_stop_the_true_cable() {
    let settings = Settings {
        rate: "20 Mbit/s".into(),
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    world.start_role(Role::Receive).unwrap();
    world.start_role(Role::Release).unwrap();
    world.start_role(Role::Gate).unwrap();
    let file = world.generate_file("cable.bin", 400_000, 1).unwrap();
    let submission = Submission::new("the true cable", &[file]);
    let id = world.send(&submission).unwrap();
    // The thief sees the datagrams on the link. Under the true id, the thief sends the symbols of the true container
    // with changes, before the true ones.
    let outbox = world.state(Host::Sender).join("outbox");
    let container = world
        .await_alive("sealing", LIMIT, std::slice::from_ref(&outbox), |_| {
            let mut found = fs::read_dir(&outbox)
                .unwrap()
                .flatten()
                .map(|entry| entry.path());
            Ok(found.find(|path| path.extension().is_some_and(|e| e == "container")))
        })
        .unwrap();
    let container = fs::read(container).unwrap();
    let thief = Thief::of(&world).unwrap();
    let size = DatagramBytes::new(1472).unwrap();
    let claimed = container_id(&container);
    let poisoned = thief
        .datagrams(1, &container, claimed, size, |_, index, symbol| {
            if index % 7 == 0 {
                symbol[100] ^= 0x40;
            }
        })
        .unwrap();
    // Also complete forged sets under other ids.
    let forged: Vec<u8> = container.iter().map(|byte| byte ^ 0x55).collect();
    let others = thief
        .datagrams(
            1,
            &forged,
            container_id(b"no such container"),
            size,
            |_, _, _| {},
        )
        .unwrap();
    transmit(&others, world.receiver_address()).unwrap();
    transmit(&poisoned, world.receiver_address()).unwrap();
    world.start_role(Role::Transmit).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
    assert_eq!(world.released().unwrap().len(), 1);
}

#[test]
fn rubbish_at_line_rate_moves_counters_only() {
    let (mut world, thief) = world();
    let mut prng = valise_tests::wire::Prng::new(9);
    let mut rubbish: Vec<Vec<u8>> = Vec::new();
    for length in [0usize, 1, 15, 16, 71, 72, 1471, 1472, 1473, 9000] {
        for _ in 0..50 {
            let mut datagram = vec![0; length];
            prng.fill(&mut datagram);
            rubbish.push(datagram);
        }
    }
    // Of the right form, with a wrong tag.
    for number in 0u8..200 {
        let mut datagram = vec![number; 1472];
        datagram[0] = 2;
        datagram[1] = thief.bundle().link_key_id.0;
        rubbish.push(datagram);
    }
    let count = |world: &World| -> u64 {
        let view = world.view(Role::Receive).unwrap_or_default();
        let counters = view["counters"].as_object();
        let counted: u64 = counters.map_or(0, |all| {
            all.values().filter_map(serde_json::Value::as_u64).sum()
        });
        // If the system grants only a small buffer, the kernel drops some of them itself.
        counted + view["kernel_drops"].as_u64().unwrap_or(0)
    };
    let state = world.state(Host::Receiver);
    let files_before = fs::read_dir(state.join("assembly")).unwrap().count();
    transmit(&rubbish, world.receiver_address()).unwrap();
    let wanted = u64::try_from(rubbish.len()).unwrap();
    let view = state.join("view");
    world
        .await_alive("the counters", LIMIT, &[view], |world| {
            Ok((count(world) >= wanted).then_some(()))
        })
        .unwrap();
    assert_eq!(
        fs::read_dir(state.join("assembly")).unwrap().count(),
        files_before
    );
    assert_eq!(
        fs::read_dir(state.join("inbox"))
            .unwrap()
            .flatten()
            .filter(|entry| { entry.path().extension().is_some_and(|e| e == "container") })
            .count(),
        0
    );
}
