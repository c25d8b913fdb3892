//! Containers that differ from what was sealed, slots that are used twice, the disk of either host in an attacker's
//! hands, and bundles that the receiver did not make.

use std::fs;
use std::path::{Path, PathBuf};

use valise_common::bundle::{Bundle, Statement};
use valise_common::ids::{BundleId, ChannelId, ContainerId, Serial};
use valise_common::seal::SlotSecret;
use valise_common::secret::Secret32;
use valise_common::wire::DatagramBytes;
use valise_tests::attack::{
    container_id, deliver, files_that_hold, remembered, stream_key, transmit,
};
use valise_tests::harness::{Host, KeyPair, Role, Settings, Submission, audited};

use crate::scene::{LIMIT, Scene};

/// A slot record of the receiver: the seed and the PSK of a serial.
const RECORD_BYTES: usize = 64;
/// The header of the receiver's slots.
const SLOTS_HEADER_BYTES: usize = 64;

/// Waits until no container is in the receiver's inbox: each is deleted after its line of the log.
fn await_empty_inbox(scene: &mut Scene) {
    let folder = scene.state(Host::Receiver, "inbox");
    let is_empty = || {
        let mut entries = fs::read_dir(&folder).unwrap().flatten();
        entries.all(|entry| entry.path().extension().is_none_or(|e| e != "container"))
    };
    scene
        .world
        .await_alive(
            "an empty inbox",
            LIMIT,
            std::slice::from_ref(&folder),
            |_| Ok(is_empty().then_some(())),
        )
        .unwrap();
}

/// Waits until release has written this number of events of a kind.
fn await_audited(scene: &mut Scene, event: &str, count: usize) -> Vec<serde_json::Value> {
    let folder = scene.state(Host::Receiver, "audit");
    let log = folder.join("release.log");
    scene
        .world
        .await_alive(event, LIMIT, std::slice::from_ref(&folder), |_| {
            let found = audited(&log, event)?;
            Ok((found.len() >= count).then_some(found))
        })
        .unwrap()
}

#[test]
fn somebody_alters_cuts_or_lengthens_containers_on_the_link() {
    let mut scene = Scene::receiver();
    let slots = scene.slots();
    let honest = scene.honest(1);
    // A field of the header each, the encapsulation, the sealed key, the commitment, the segments and the tag.
    let places = [
        0, 8, 9, 11, 13, 20, 39, 43, 45, 50, 60, 64, 1183, 1184, 1231, 1232, 1263, 1264,
    ];
    let mut altered: Vec<(u64, Vec<u8>)> = Vec::new();
    for (serial, place) in (1..).zip(places) {
        let mut container = scene.thief.seal(serial, &honest).unwrap();
        container[place] ^= 1;
        altered.push((serial, container));
    }
    let next = u64::try_from(altered.len()).unwrap() + 1;
    let mut with = |serial: u64, change: &dyn Fn(&mut Vec<u8>)| {
        let mut container = scene.thief.seal(serial, &honest).unwrap();
        change(&mut container);
        altered.push((serial, container));
    };
    with(next, &|container| *container.last_mut().unwrap() ^= 0x80);
    with(next + 1, &|container| {
        container.truncate(container.len() - 1)
    });
    with(next + 2, &|container| container.push(0));
    with(next + 3, &|container| container.truncate(1264 + 1 + 16));
    with(next + 4, &|container| {
        container.extend_from_slice(&[0; 1024])
    });
    // These are complete and authentic on the link: only opening shows the fault.
    let size = DatagramBytes::new(1472).unwrap();
    let send = |serial: u64, container: &[u8]| {
        let id = container_id(container);
        let datagrams = scene
            .thief
            .datagrams(serial, container, id, size, |_, _, _| {})
            .unwrap();
        transmit(&datagrams, scene.world.receiver_address()).unwrap();
    };
    for (serial, container) in &altered {
        send(*serial, container);
    }
    let unopened = await_audited(&mut scene, "unopened", altered.len());
    assert_eq!(unopened.len(), altered.len(), "each once: {unopened:?}");
    scene.assert_nothing_visible();
    await_empty_inbox(&mut scene);
    assert!(scene.slots() == slots, "a slot changed");
    let view = scene.state(Host::Receiver, "view");
    scene
        .world
        .await_alive("an alarm", LIMIT, &[view], |world| {
            let answer = world.run(Host::Receiver, &["status", "--check"])?;
            Ok((answer.status == 1).then_some(()))
        })
        .unwrap();
    // The true container of an attacked serial, over the same link.
    let container = scene.thief.seal(1, &honest).unwrap();
    let datagrams =
        scene
            .thief
            .datagrams(1, &container, container_id(&container), size, |_, _, _| {});
    transmit(&datagrams.unwrap(), scene.world.receiver_address()).unwrap();
    scene.await_state(1, "released");
    assert_eq!(scene.world.released().unwrap().len(), 1);
}

#[test]
fn a_container_names_a_serial_a_channel_or_a_bundle_that_it_is_not_of() {
    let mut scene = Scene::receiver();
    let slots = scene.slots();
    let loot = scene.honest(1);
    let serial = |number| Serial::new(number).unwrap();
    let thief = &scene.thief;
    let count = u64::from(thief.bundle().count());
    let cases = [
        (
            1,
            "other-serial",
            thief.seal_as(1, &loot, |header| header.serial = serial(2)),
        ),
        (
            2,
            "not-opened",
            thief.seal_as(1, &loot, |header| header.serial = serial(2)),
        ),
        (
            3,
            "other-channel",
            thief.seal_as(3, &loot, |header| {
                header.channel = ChannelId::from_bytes([9; 16])
            }),
        ),
        (
            4,
            "other-bundle",
            thief.seal_as(4, &loot, |header| header.bundle = BundleId(2)),
        ),
        (
            count + 1,
            "no-slot",
            thief.seal_as(5, &loot, |header| header.serial = serial(count + 1)),
        ),
        (
            (1 << 63) - 1,
            "no-slot",
            thief.seal_as(6, &loot, |header| header.serial = serial((1 << 63) - 1)),
        ),
    ];
    let cases = cases.map(|(serial, code, container)| (serial, code, container.unwrap()));
    for (serial, _, container) in &cases {
        deliver(&scene.world, *serial, container).unwrap();
    }
    let unopened = await_audited(&mut scene, "unopened", cases.len());
    for (serial, code, _) in &cases {
        let line = unopened.iter().find(|line| line["serial"] == *serial);
        assert_eq!(line.unwrap()["code"], *code, "{unopened:?}");
    }
    scene.assert_nothing_visible();
    await_empty_inbox(&mut scene);
    assert!(scene.slots() == slots, "a slot changed");
    for number in 1..=6 {
        let honest = scene.honest(u8::try_from(number).unwrap());
        scene.assert_honest_arrives(number, &honest);
    }
}

#[test]
fn a_thief_of_the_bundle_seals_a_second_cable_under_a_serial() {
    let mut scene = Scene::receiver();
    // After one that was released.
    let [first, second] = [scene.honest(1), scene.honest(2)];
    scene.assert_honest_arrives(1, &first);
    scene.deliver(1, &second);
    let others = await_audited(&mut scene, "second-container", 1);
    assert_eq!(others[0]["serial"], 1);
    await_empty_inbox(&mut scene);
    let released = scene.world.released().unwrap();
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].message_id, "01".repeat(16));
    // After one that is held: the held one does not change.
    let officer = &scene.world.roster.officers[0];
    let manifest = scene.manifest(3);
    let bytes = manifest.encode().unwrap();
    let raw = valise_tests::attack::sign(&scene.world, "cable-approval@valise", &bytes, &[officer]);
    let held = scene.loot(&manifest, raw.unwrap());
    scene.deliver(2, &held);
    let reason = scene.await_state(2, "quarantined");
    scene.deliver(2, &second);
    await_audited(&mut scene, "second-container", 2);
    assert_eq!(scene.await_state(2, "quarantined"), reason);
    assert_eq!(scene.world.released().unwrap().len(), 1);
    let status = scene
        .world
        .run(Host::Receiver, &["status", "--check"])
        .unwrap();
    assert!(
        status.status == 1 && status.output.contains("second-container"),
        "{status:?}"
    );
    // The second cable was valid; under a serial of its own it arrives.
    scene.assert_honest_arrives(3, &second);
}

#[test]
fn somebody_takes_the_receivers_disk_after_a_release() {
    let mut scene = Scene::receiver();
    let slots = scene.slots();
    let record = |serial: usize| {
        let start = SLOTS_HEADER_BYTES + RECORD_BYTES * (serial - 1);
        slots[start..start + RECORD_BYTES].to_vec()
    };
    let [used, unused] = [record(1), record(2)];
    let psk = scene.thief.bundle().slots[0].psk.expose();
    assert_eq!(used[32..], psk[..], "the record is where it is looked for");
    let loot = scene.honest(1);
    let container = scene.thief.seal(1, &loot).unwrap();
    scene.assert_honest_arrives(1, &loot);
    // Erased when the release is reported. Halves are searched, so that no copy of a part stays either.
    let state = scene.world.state(Host::Receiver);
    for part in used.chunks(16) {
        assert!(files_that_hold(&state, part).is_empty());
    }
    for part in unused.chunks(16) {
        assert_eq!(files_that_hold(&state, part).len(), 1, "the search finds");
    }
    await_empty_inbox(&mut scene);
    // Even with the recording of the link the container can no longer be opened.
    deliver(&scene.world, 1, &container).unwrap();
    await_empty_inbox(&mut scene);
    assert_eq!(scene.world.released().unwrap().len(), 1);
}

/// A process has none of these in its memory; `known`, which it needs, shows that the search works.
#[track_caller]
fn assert_forgotten(pid: u32, needles: &[(&str, Vec<u8>)], known: &[u8]) {
    // If the kernel allows nobody to read the memory, an attacker finds nothing either.
    if let Some(found) = remembered(pid, needles) {
        assert!(found.is_empty(), "remembered: {found:#?}");
        let known = remembered(pid, &[("known", known.to_vec())]);
        assert!(
            known.is_some_and(|found| !found.is_empty()),
            "the search finds"
        );
    }
}

#[test]
fn somebody_takes_the_memory_of_both_hosts_after_a_cable_was_sealed_and_released() {
    let mut scene = Scene::with(Settings::default(), &Role::ALL);
    let slots = scene.slots();
    // The second halves, because the system's allocator writes its lists over the beginning of freed memory.
    let seed = slots[SLOTS_HEADER_BYTES + 16..SLOTS_HEADER_BYTES + 32].to_vec();
    let secrets = [0, 1].map(|index| {
        let record = &slots[SLOTS_HEADER_BYTES + RECORD_BYTES * index..][..RECORD_BYTES];
        let [seed, psk] = [0, 32].map(|at| Secret32::from_slice(&record[at..at + 32]).unwrap());
        SlotSecret::new(seed, psk)
    });
    let mut keys = Vec::new();
    // One body that gate and release handle in their loops, and one for which each starts a second thread.
    let bodies = [
        ("the-body-of-a-cable-", 5_000),
        ("of-a-large-cable-", 250_000),
    ];
    let names = ["a-name-that-nobody-keeps", "another-name-that-goes"];
    for (serial, ((text, count), name)) in (1..).zip(bodies.into_iter().zip(names)) {
        let file = scene.world.cables().join(format!("{name}.txt"));
        fs::write(&file, text.repeat(count)).unwrap();
        let submission = Submission::new(&format!("subject of {name}"), &[file]);
        let id = scene.world.send(&submission).unwrap();
        scene.world.await_released(&id, &submission, LIMIT).unwrap();
        scene.await_state(serial, "released");
        // The key of the container's stream: the cipher stores its halves separately.
        let container = only_file(&scene.state(Host::Sender, "outbox"), &format!("-{serial}-"));
        let slot = &secrets[usize::try_from(serial).unwrap() - 1];
        let key = stream_key(&fs::read(container).unwrap(), slot).unwrap();
        keys.extend(
            key.chunks(16)
                .map(|half| ("a container's key", half.to_vec())),
        );
    }
    let [used, unused] = [0, 2].map(|slot| {
        let slots = &scene.thief.bundle().slots;
        slots[slot].psk.expose()[16..].to_vec()
    });
    let sender = scene.world.state(Host::Sender);
    let pending = scene.state(Host::Sender, "pending");
    valise_tests::harness::await_condition("erasure", LIMIT, &[pending], || {
        Ok(files_that_hold(&sender, &used).is_empty().then_some(()))
    })
    .unwrap();
    assert!(
        !files_that_hold(&sender, &unused).is_empty(),
        "the search finds"
    );
    let texts = bodies.iter().map(|(text, _)| text.repeat(3).into_bytes());
    let texts = texts.map(|text| ("a body", text));
    let names = names.map(|name| {
        (
            "a subject, and the name of a file",
            name.as_bytes().to_vec(),
        )
    });
    let needles: Vec<(&str, Vec<u8>)> = texts
        .chain(names)
        .chain([("the slot's psk", used), ("the slot's seed", seed)])
        .chain(keys)
        .collect();
    let receiver = scene.world.state(Host::Receiver);
    let released = scene.world.released_folder();
    scene.world.await_erased().unwrap();
    for (what, needle) in &needles {
        let mut found = files_that_hold(&receiver, needle);
        found.retain(|path| !path.starts_with(&released));
        found.extend(files_that_hold(&sender, needle));
        assert!(found.is_empty(), "{what}: {found:?}");
    }
    let channel = scene.thief.bundle().channel.as_bytes().to_vec();
    let [gate, release] =
        [Role::Gate, Role::Release].map(|role| scene.world.role_pid(role).unwrap());
    assert_forgotten(gate, &needles, &channel);
    // On the isolated host the cable is in a mailbox, and nowhere else.
    assert_forgotten(release, &needles, &channel);
}

/// The only container in a folder whose name holds this.
fn only_file(folder: &Path, part: &str) -> PathBuf {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "container")
            && path.file_name().unwrap().to_str().unwrap().contains(part)
    };
    let found: Vec<PathBuf> = entries.filter(is_it).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// Writes a bundle into a folder of its own, with its statement signed by these keys.
fn courier(
    scene: &Scene,
    name: &str,
    bundle: &[u8],
    statement: &str,
    keys: &[&KeyPair],
) -> PathBuf {
    let folder = scene.world.folder().join(name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("channel.bundle"), bundle).unwrap();
    let file = folder.join("channel.bundle.statement");
    fs::write(&file, statement).unwrap();
    for (number, key) in (1..).zip(keys) {
        key.sign_as_administrator("bundle@valise", &file, number)
            .unwrap();
    }
    folder
}

#[test]
fn somebody_swaps_the_couriers_bundle_for_one_whose_slots_he_can_open() {
    let mut scene = Scene::with(Settings::default(), &[Role::Gate]);
    // The receiver makes the next bundle, but another one reaches the sender.
    let next = scene.world.folder().join("next");
    let text = next.display().to_string();
    let arguments = ["bundle", "create", "--slots", "4", "--out", &text];
    scene.world.expect(Host::Receiver, &arguments).unwrap();
    let bytes = fs::read(next.join("channel.bundle")).unwrap();
    let statement = fs::read_to_string(next.join("channel.bundle.statement")).unwrap();
    let changed = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = Bundle::decode(&bytes).unwrap();
        change(&mut bundle);
        bundle.encode().unwrap().to_vec()
    };
    let stated = |bytes: &[u8]| Statement::of(bytes, None).unwrap().encode();
    let [one, two] = scene.world.roster.administrators.each_ref();
    let both: &[&KeyPair] = &[one, two];
    let his = changed(&|bundle| {
        let mut seed = [3; 32];
        for slot in &mut bundle.slots {
            seed[0] += 1;
            slot.public =
                valise_common::seal::public_of(&valise_common::secret::Secret32::new(seed));
        }
    });
    let weak = changed(&|bundle| {
        let public = &mut bundle.slots[2].public;
        let start = public.len() - 32;
        public[start..].fill(0);
    });
    let foreign = changed(&|bundle| bundle.channel = ChannelId::from_bytes([9; 16]));
    let overlapping = changed(&|bundle| bundle.first = Serial::new(64).unwrap());
    let older = changed(&|bundle| bundle.id = BundleId(1));
    let flipped = {
        let mut flipped = bytes.clone();
        flipped[50] ^= 1;
        flipped
    };
    let stranger = &scene.world.roster.stranger;
    let cases: [(&str, &[u8], String, &[&KeyPair]); 11] = [
        ("unsigned", &bytes, statement.clone(), &[]),
        ("of-one", &bytes, statement.clone(), &[one]),
        ("of-one-twice", &bytes, statement.clone(), &[one, one]),
        (
            "of-one-and-a-stranger",
            &bytes,
            statement.clone(),
            &[one, stranger],
        ),
        (
            "his-keys-under-the-true-statement",
            &his,
            statement.clone(),
            both,
        ),
        (
            "his-keys-under-his-signatures",
            &his,
            stated(&his),
            &[stranger, stranger],
        ),
        ("weak-keys", &weak, stated(&weak), both),
        ("another-channel", &foreign, stated(&foreign), both),
        ("overlapping", &overlapping, stated(&overlapping), both),
        ("an-old-number", &older, stated(&older), both),
        ("altered", &flipped, statement.clone(), both),
    ];
    let slots = |scene: &Scene| {
        let status = scene
            .world
            .json(Host::Sender, &["bundle", "status"])
            .unwrap();
        status["slots_left"].as_u64().unwrap()
    };
    let keys = |scene: &Scene| {
        // Without transmit the key waits in `keys/handover`.
        let folders = ["keys/handover", "keys/link"].map(|name| scene.state(Host::Sender, name));
        let mut names = folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap());
        let name = names.next().unwrap().unwrap();
        (name.file_name(), fs::read(name.path()).unwrap())
    };
    let before = (slots(&scene), keys(&scene));
    for (name, bundle, statement, signers) in cases {
        let folder = courier(&scene, name, bundle, &statement, signers);
        assert_import_refused(&scene, name, &folder);
        assert!((slots(&scene), keys(&scene)) == before, "{name}");
        assert_eq!(
            fs::read_dir(scene.state(Host::Sender, "slots"))
                .unwrap()
                .count(),
            1
        );
    }
    // The true bundle is taken, and cables continue.
    let true_one = courier(&scene, "true", &bytes, &statement, both);
    let text = true_one.display().to_string();
    scene
        .world
        .expect(Host::Sender, &["bundle", "import", &text])
        .unwrap();
    assert_eq!(slots(&scene), before.0 + 4);
    let submission = scene.cable("a cable");
    scene.world.send(&submission).unwrap();
    scene.await_sealed(1);
}

fn assert_import_refused(scene: &Scene, name: &str, folder: &Path) {
    let text = folder.display().to_string();
    let answer = scene
        .world
        .run(Host::Sender, &["bundle", "import", &text])
        .unwrap();
    assert_eq!(answer.status, 1, "{name}: {answer:?}");
    assert_eq!(answer.errors.trim_end().lines().count(), 1, "{answer:?}");
}

#[test]
fn somebody_claims_another_id_for_a_container() {
    let mut scene = Scene::receiver();
    let loot = scene.honest(1);
    let container = scene.thief.seal(1, &loot).unwrap();
    let size = DatagramBytes::new(1472).unwrap();
    let claimed = ContainerId::from_bytes([7; 12]);
    let datagrams = scene
        .thief
        .datagrams(1, &container, claimed, size, |_, _, _| {});
    transmit(&datagrams.unwrap(), scene.world.receiver_address()).unwrap();
    // Also under its name in the inbox, as if receive had been taken over.
    let inbox_folder = scene.state(Host::Receiver, "inbox");
    let temporary = scene.state(Host::Receiver, "tmp/claimed");
    fs::write(&temporary, &container).unwrap();
    scene.world.give_to(Role::Receive, &temporary).unwrap();
    fs::rename(
        &temporary,
        inbox_folder.join(format!("1-{claimed}.container")),
    )
    .unwrap();
    let unopened = await_audited(&mut scene, "unopened", 1);
    assert_eq!(unopened[0]["code"], "hash", "{unopened:?}");
    scene.assert_nothing_visible();
    scene.assert_honest_arrives(1, &loot);
}
