//! A thief of the link key, whose datagrams are all authentic.

use std::fs;

use valise_common::wire::DatagramBytes;
use valise_tests::attack::{Forger, container_id, symbol_fields, transmit};
use valise_tests::harness::{Host, Role, Settings, Usage};

use crate::scene::{LIMIT, Scene};

const DATAGRAM_BYTES: usize = 1472;
const SYMBOL_BYTES: u64 = 1400;
/// A container length that can be, of four symbols.
const LENGTH: u64 = 1264 + 4096 + 16;
const ID: [u8; 12] = [0xab; 12];

fn forger(scene: &Scene) -> Forger {
    let bundle = scene.thief.bundle();
    Forger::new(bundle.link_key.expose(), bundle.link_key_id, [5; 8])
}

/// A counter of receive, as its view shows it.
fn counter(view: &serde_json::Value, name: &str) -> u64 {
    view["counters"][name].as_u64().unwrap_or(0)
}

/// Datagrams without effect: those that receive dropped, and those for which the kernel had no room.
fn dropped(view: &serde_json::Value) -> Option<u64> {
    let counters = view["counters"].as_object()?.values();
    let counted: u64 = counters.filter_map(serde_json::Value::as_u64).sum();
    Some(counted + view["kernel_drops"].as_u64()?)
}

fn await_view<T>(
    scene: &mut Scene,
    what: &str,
    mut ready: impl FnMut(&serde_json::Value) -> Option<T>,
) -> T {
    let folder = scene.state(Host::Receiver, "view");
    scene
        .world
        .await_alive(what, LIMIT, &[folder], |world| {
            Ok(world.view(Role::Receive).and_then(|view| ready(&view)))
        })
        .unwrap()
}

/// Sends a true container over the link and waits for its release.
fn assert_honest_crosses(scene: &mut Scene, serial: u64, number: u8) {
    let before = scene.world.released().unwrap().len();
    let container = scene.thief.seal(serial, &scene.honest(number)).unwrap();
    let size = DatagramBytes::new(1472).unwrap();
    let id = container_id(&container);
    let datagrams = scene
        .thief
        .datagrams(serial, &container, id, size, |_, _, _| {})
        .unwrap();
    transmit(&datagrams, scene.world.receiver_address()).unwrap();
    scene.await_state(serial, "released");
    assert_eq!(scene.world.released().unwrap().len(), before + 1);
}

/// A beacon's payload: highest, settled, lowest retained, time, trust version, and the entries' serials.
fn beacon(highest: u64, settled: u64, time_us: u64, entries: &[u64]) -> Vec<u8> {
    let mut payload = Vec::new();
    for field in [highest, settled, 0, time_us] {
        payload.extend_from_slice(&field.to_be_bytes());
    }
    payload.extend_from_slice(&1u32.to_be_bytes());
    payload.push(u8::try_from(entries.len()).unwrap());
    for serial in entries {
        payload.extend_from_slice(&serial.to_be_bytes());
        payload.extend_from_slice(&ID);
        payload.extend_from_slice(&LENGTH.to_be_bytes()[2..]);
        payload.push(2);
    }
    payload
}

/// The inner header of a beacon.
fn beacon_inner() -> [u8; 40] {
    let mut inner = [0; 40];
    inner[0] = 2;
    inner
}

/// Absurd symbols, each with the name of the counter that it moves.
fn absurd_headers() -> Vec<(&'static str, [u8; 40])> {
    let good = symbol_fields(1, 1, ID, LENGTH, 0, 0, 4, 4);
    let changed = |offset: usize, byte: u8| {
        let mut inner = good;
        inner[offset] = byte;
        inner
    };
    let with = |codec, serial, length, block, index, k_max, m| {
        symbol_fields(codec, serial, ID, length, block, index, k_max, m)
    };
    vec![
        ("kind", changed(0, 3)),
        ("kind", changed(0, 0xff)),
        ("not-zero", changed(0, 0)),
        ("not-zero", changed(0, 2)),
        ("not-zero", changed(3, 1)),
        ("codec", changed(1, 0)),
        ("codec", changed(1, 3)),
        ("serial", with(1, 0, LENGTH, 0, 0, 4, 4)),
        ("serial", with(1, 1 << 63, LENGTH, 0, 0, 4, 4)),
        ("serial", with(1, u64::MAX, LENGTH, 0, 0, 4, 4)),
        ("container-length", with(1, 1, 0, 0, 0, 4, 4)),
        ("container-length", with(1, 1, 1264, 0, 0, 4, 4)),
        ("container-length", with(1, 1, 1264 + 16, 0, 0, 4, 4)),
        ("container-length", with(1, 1, (1 << 48) - 1, 0, 0, 4, 4)),
        ("geometry", with(1, 1, LENGTH, 0, 0, 0, 4)),
        ("geometry", with(1, 1, LENGTH, 0, 0, 252, 4)),
        ("geometry", with(1, 1, LENGTH, 0, 0, 4, u16::MAX)),
        ("geometry", with(2, 1, LENGTH, 0, 0, 32_769, 4)),
        ("geometry", with(2, 1, LENGTH, 0, 0, 4, 32_769)),
        ("geometry", with(2, 1, LENGTH, 0, 0, 8_000, 8_000)),
        ("geometry", with(2, 1, LENGTH, 0, 0, 4, 8 * 4 + 1)),
        ("geometry", with(2, 1, LENGTH, 0, 0, u16::MAX, u16::MAX)),
        ("block-number", with(1, 1, LENGTH, 1, 0, 4, 4)),
        ("block-number", with(1, 1, LENGTH, u32::MAX, 0, 4, 4)),
        ("symbol-index", with(1, 1, LENGTH, 0, 8, 4, 4)),
        ("symbol-index", with(1, 1, LENGTH, 0, u16::MAX, 4, 4)),
        ("serial-foreign", with(1, 65, LENGTH, 0, 0, 4, 4)),
        ("serial-foreign", with(1, (1 << 63) - 1, LENGTH, 0, 0, 4, 4)),
    ]
}

#[test]
fn a_thief_of_the_link_key_sends_absurd_datagrams() {
    let mut scene = Scene::receiver();
    let mut forger = forger(&scene);
    let mut sent: Vec<(&str, Vec<u8>)> = absurd_headers()
        .into_iter()
        .map(|(name, inner)| (name, forger.datagram(&inner, &[1; 64], DATAGRAM_BYTES)))
        .collect();
    let cover = [0; 40];
    sent.push(("not-zero", forger.datagram(&cover, &[1], DATAGRAM_BYTES)));
    // The last symbol of a container is not full, and its padding must be zero.
    let last = symbol_fields(1, 1, ID, LENGTH, 0, 3, 4, 4);
    let payload = vec![7; usize::try_from(SYMBOL_BYTES).unwrap()];
    sent.push(("not-zero", forger.datagram(&last, &payload, DATAGRAM_BYTES)));
    let beacons = [
        ("beacon-foreign", beacon(65, 0, 1, &[])),
        ("beacon-foreign", beacon(u64::MAX >> 1, 1, 1, &[])),
        ("beacon-fields", beacon(1, 2, 1, &[])),
        ("beacon-fields", beacon(u64::MAX, u64::MAX, u64::MAX, &[])),
        ("beacon-fields", beacon(1, 1, 1, &[0])),
        ("beacon-fields", {
            let mut crowded = beacon(1, 1, 1, &[1]);
            crowded[36] = 255;
            crowded
        }),
        ("beacon-fields", {
            let mut retained = beacon(1, 1, 1, &[]);
            retained[23] = 3;
            retained
        }),
    ];
    for (name, payload) in &beacons {
        let datagram = forger.datagram(&beacon_inner(), payload, DATAGRAM_BYTES);
        sent.push((*name, datagram));
    }
    let good = symbol_fields(1, 1, ID, LENGTH, 0, 0, 4, 4);
    for (name, bytes) in [("length", 584), ("length", 1470), ("length", 8972)] {
        sent.push((name, forger.datagram(&good, &[1; 64], bytes)));
    }
    for (name, offset) in [
        ("version", 0),
        ("key-unknown", 1),
        ("tag", 7),
        ("tag", 15),
        ("tag", 1471),
    ] {
        let mut datagram = forger.datagram(&good, &[1; 64], DATAGRAM_BYTES);
        datagram[offset] ^= 0x40;
        sent.push((name, datagram));
    }
    let log = scene.state(Host::Receiver, "audit/receive.log");
    // The thief's session is logged once, as the first of this key; later ones are not.
    let first = forger.datagram(&cover, &[], DATAGRAM_BYTES);
    // Of a later epoch of the session, with another key.
    forger.count_from(7 << 26);
    let later = forger.datagram(&cover, &[], DATAGRAM_BYTES);
    transmit(&[first, later], scene.world.receiver_address()).unwrap();
    await_view(&mut scene, "the covers", |view| {
        (view["covers"] == 2).then_some(())
    });
    let lines = |log: &std::path::Path| fs::read_to_string(log).unwrap().lines().count();
    let lines_before = lines(&log);
    for _ in 0..50 {
        let datagrams: Vec<Vec<u8>> = sent.iter().map(|(_, datagram)| datagram.clone()).collect();
        transmit(&datagrams, scene.world.receiver_address()).unwrap();
    }
    let all = u64::try_from(50 * sent.len()).unwrap();
    let view = await_view(&mut scene, "the counters", |view| {
        (dropped(view)? >= all).then(|| view.clone())
    });
    for (name, _) in &sent {
        let wanted = 50 * sent.iter().filter(|(other, _)| other == name).count();
        let wanted = u64::try_from(wanted).unwrap();
        let lost = view["kernel_drops"].as_u64().unwrap();
        let counted = counter(&view, name);
        assert!(
            counted <= wanted && counted + lost >= wanted,
            "{name}: {view}"
        );
        assert!(counted > 0, "{name}: {view}");
    }
    for nothing in [
        "assembling_count",
        "memory_bytes",
        "disk_bytes",
        "symbols",
        "beacons",
    ] {
        assert_eq!(view[nothing], 0, "{nothing}");
    }
    assert_eq!(lines(&log), lines_before, "a line for a datagram");
    scene.assert_nothing_visible();
    assert_eq!(
        scene.world.json(Host::Receiver, &["list"]).unwrap(),
        serde_json::json!([])
    );
    assert_honest_crosses(&mut scene, 1, 1);
}

#[test]
fn a_thief_of_the_link_key_burns_a_serial_or_blocks_it() {
    let mut scene = Scene::receiver();
    let slots = scene.slots();
    // Complete forgeries, whose id is their hash: receive can only hand them on.
    let honest = scene.thief.seal(3, &scene.honest(3)).unwrap();
    let size = DatagramBytes::new(1472).unwrap();
    for number in 0..12u8 {
        let forged: Vec<u8> = honest.iter().map(|byte| byte ^ number ^ 0x80).collect();
        let id = container_id(&forged);
        let datagrams = scene.thief.datagrams(3, &forged, id, size, |_, _, _| {});
        transmit(&datagrams.unwrap(), scene.world.receiver_address()).unwrap();
    }
    await_view(&mut scene, "a forgery", |view| {
        (view["completed"].as_u64()? > 0).then_some(())
    });
    // Sets that never become complete, more of them than a serial may have.
    let mut forger = forger(&scene);
    let mut unfinished = Vec::new();
    for number in 0..40u8 {
        for index in 0..3 {
            let inner = symbol_fields(1, 3, [number; 12], LENGTH, 0, index, 4, 4);
            unfinished.push(forger.datagram(&inner, &[number; 64], DATAGRAM_BYTES));
        }
    }
    transmit(&unfinished, scene.world.receiver_address()).unwrap();
    let sets = await_view(&mut scene, "the sets", |view| {
        (view["yielded"].as_u64()? > 10).then(|| view["assembling_count"].clone())
    });
    assert!(sets.as_u64().unwrap() <= 4, "{sets} sets of one serial");
    let folder = scene.state(Host::Receiver, "audit");
    scene
        .world
        .await_alive("release's opinion", LIMIT, &[folder], |world| {
            let path = world.state(Host::Receiver).join("audit/release.log");
            let text = fs::read_to_string(path).unwrap();
            Ok(text.contains("\"unopened\"").then_some(()))
        })
        .unwrap();
    scene.assert_nothing_visible();
    assert!(scene.slots() == slots, "a slot changed");
    assert_honest_crosses(&mut scene, 3, 3);
}

#[test]
fn a_thief_of_the_link_key_fills_the_memory_of_receive() {
    let bound: u64 = 64 << 20;
    let settings = Settings {
        receiver_extra: "[memory]\nassembly = \"64 MiB\"\n".into(),
        ..Settings::default()
    };
    let mut scene = Scene::with(settings, &[Role::Receive, Role::Release]);
    let mut forger = forger(&scene);
    // Claims of 100 GiB, each small enough for the disk: every datagram begins another block, of the largest possible
    // size.
    let package: u64 = 6 << 30;
    let length = 1264 + package + 16 * package.div_ceil(65_536);
    let before = Usage::of(scene.world.role_pid(Role::Receive).unwrap()).unwrap();
    let mut sent = 0;
    for round in 0..4u32 {
        let mut datagrams = Vec::new();
        for serial in 1..=16u64 {
            for block in 0..10u32 {
                let inner = symbol_fields(
                    2,
                    serial,
                    [u8::try_from(serial).unwrap(); 12],
                    length,
                    round * 10 + block,
                    0,
                    11_000,
                    900,
                );
                datagrams.push(forger.datagram(&inner, &[9; 1400], DATAGRAM_BYTES));
            }
        }
        transmit(&datagrams, scene.world.receiver_address()).unwrap();
        sent += u64::try_from(datagrams.len()).unwrap();
        // Each round is taken before the next, so that the memory and not the socket overflows.
        let view = await_view(&mut scene, "a round", |view| {
            (view["symbols"].as_u64()? + dropped(view)? >= sent).then(|| view.clone())
        });
        assert!(view["memory_bytes"].as_u64().unwrap() <= bound, "{view}");
        // The flood was not refused at once: its claims would fill the memory many times over.
        let block_bytes = 11_000 * SYMBOL_BYTES;
        let begun = view["symbols"].as_u64().unwrap();
        assert!(begun * block_bytes > 4 * bound, "{view}");
    }
    let usage = Usage::of(scene.world.role_pid(Role::Receive).unwrap()).unwrap();
    let grown = usage.memory_peak_bytes - before.memory_peak_bytes;
    assert!(grown <= bound + (32 << 20), "receive grew by {grown} bytes");
    scene.assert_nothing_visible();
    assert_honest_crosses(&mut scene, 20, 1);
    // Also a serial that the flood claimed.
    assert_honest_crosses(&mut scene, 1, 2);
}

#[test]
fn a_thief_of_the_link_key_outbids_the_true_beacons() {
    let mut scene = Scene::with(Settings::default(), &Role::ALL);
    let submission = scene.cable("a cable");
    let id = scene.world.send(&submission).unwrap();
    scene.world.await_released(&id, &submission, LIMIT).unwrap();
    // The largest values: every slot issued and settled, at the end of time.
    let mut forger = forger(&scene);
    let payload = beacon(64, 64, u64::MAX, &[64, 63]);
    let lie = forger.datagram(&beacon_inner(), &payload, DATAGRAM_BYTES);
    transmit(std::slice::from_ref(&lie), scene.world.receiver_address()).unwrap();
    let missing = |list: &serde_json::Value| {
        let states = list.as_array().unwrap().iter();
        states.filter(|entry| entry["state"] == "missing").count()
    };
    let view = scene.state(Host::Receiver, "view");
    scene
        .world
        .await_alive("the lie", LIMIT, std::slice::from_ref(&view), |world| {
            let list = world.json(Host::Receiver, &["list"])?;
            // A false alarm, but a visible one.
            let is_seen = list.as_array().unwrap().len() == 64 && missing(&list) == 63;
            Ok(is_seen.then_some(()))
        })
        .unwrap();
    // Cables still arrive.
    let id = scene.world.send(&submission).unwrap();
    scene.world.await_released(&id, &submission, LIMIT).unwrap();
    // The repair: a new bundle brings a new link key, and the old one is retired.
    let next = scene.next_bundle();
    scene
        .world
        .expect(Host::Sender, &["bundle", "import", &next])
        .unwrap();
    scene
        .world
        .expect(Host::Receiver, &["link-key", "retire", "1"])
        .unwrap();
    let id = scene.world.send(&submission).unwrap();
    scene.world.await_released(&id, &submission, LIMIT).unwrap();
    scene
        .world
        .await_alive("the truth", LIMIT, &[view], |world| {
            let list = world.json(Host::Receiver, &["list"])?;
            let is_told = list.as_array().unwrap().len() == 3 && missing(&list) == 0;
            Ok(is_told.then_some(()))
        })
        .unwrap();
    // The forged beacon no longer counts.
    let believed = scene.world.view(Role::Receive).unwrap()["beacons"].as_u64();
    transmit(&[lie], scene.world.receiver_address()).unwrap();
    await_view(&mut scene, "its drop", |view| {
        (counter(view, "key-unknown") > 0).then_some(())
    });
    assert!(believed.is_some());
    let list = scene.world.json(Host::Receiver, &["list"]).unwrap();
    assert_eq!(missing(&list), 0);
    assert_eq!(scene.world.released().unwrap().len(), 3);
}
