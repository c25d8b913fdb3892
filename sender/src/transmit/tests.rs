#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::UdpSocket;

use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{setsockopt, sockopt};
use valise_common::fec::{BlockBuffer, BlockCodec, plan};
use valise_common::history::log::AuditLog;
use valise_common::host::folders::OutboxName;
use valise_common::ids::{BundleId, ChannelId, ContainerHash, LinkKeyId, Serial, SessionId};
use valise_common::precedence::Precedence;
use valise_common::secret::Secret32;
use valise_common::units::{Percent, UtcTime};
use valise_common::wire::{self, Beacon, DatagramBytes, EntryState, EpochKey, InnerHeader, SetId};

use super::view::{LinkState, TransmitView};
use super::*;
use crate::spool::link_key::{self, StoredLinkKey};
use crate::spool::outbox::{FecFile, SpoolBeacon};
use crate::spool::progress;

/// Starts transmit as `run` does, but for the fences: those would stand for all tests of this process.
fn start(config: &SenderConfig) -> Result<Transmit, TransmitError> {
    Transmit::start(config, Claimed::take(config)?, Threading::Beside)
}

/// A sender's state with a container in it, and the far end of its link.
struct World {
    folder: tempfile::TempDir,
    state: SenderState,
    sink: UdpSocket,
    keys: BTreeMap<u8, [u8; 32]>,
    datagram_bytes: u16,
    buffers: BTreeMap<(SetId, u32), BlockBuffer>,
    arrived: Vec<(SessionId, u64, InnerHeader)>,
    beacons: Vec<Beacon>,
}

impl World {
    fn new(datagram_bytes: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        state.create_all().unwrap();
        AuditLog::create(&state.audit(), "transmit", "valise/test/transmit").unwrap();
        let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt(&sink, sockopt::RcvBuf, &(2 << 20)).unwrap();
        sink.set_nonblocking(true).unwrap();
        let mut world = Self {
            folder,
            state,
            sink,
            keys: BTreeMap::new(),
            datagram_bytes,
            buffers: BTreeMap::new(),
            arrived: Vec::new(),
            beacons: Vec::new(),
        };
        world.import_key(1);
        world
    }

    fn import_key(&mut self, bundle: u8) {
        let stored = StoredLinkKey {
            bundle: BundleId(u32::from(bundle)),
            key_id: LinkKeyId(bundle),
            key: Secret32::new([bundle; 32]),
            channel: ChannelId::from_bytes([3; 16]),
        };
        link_key::place(&self.state, &stored).unwrap();
        self.state.handover().give(stored.bundle).unwrap();
        self.keys.insert(bundle, [bundle; 32]);
    }

    fn start(&self, rate: &str) -> Transmit {
        let (root, to) = (
            self.folder.path().display(),
            self.sink.local_addr().unwrap(),
        );
        let datagram_bytes = self.datagram_bytes;
        let config = format!(
            "state = \"{root}\"\n[link]\nkind = \"udp\"\nto = \"{to}\"\ndatagram_bytes = {datagram_bytes}\n\
             rate = \"{rate}\"\n[fec]\ninterleave = \"5 ms\"\n"
        );
        let config = SenderConfig::parse(&config).unwrap();
        let begun = clock::mono_now();
        loop {
            match start(&config) {
                // A child that another test is starting holds a copy of the lock until its `exec`.
                Err(TransmitError::Running) if clock::mono_now().since_us(begun) < 60_000_000 => {
                    std::thread::yield_now();
                }
                started => return started.unwrap(),
            }
        }
    }

    /// Puts a container into the outbox as gate does, and returns its bytes.
    fn put(&self, serial: u64, precedence: Precedence, padded: u64, passes: u8) -> Vec<u8> {
        let length = 1_264 + padded + 16 * padded.div_ceil(65_536);
        let byte = |place: u64| (place.wrapping_mul(serial + 7) >> 3) as u8;
        let container: Vec<u8> = (0..length).map(byte).collect();
        let hash = ContainerHash::from_bytes(*blake3::hash(&container).as_bytes());
        let repair = Percent::from_ppm(250_000);
        let geometry = plan::choose(length, self.datagram_bytes - 72, repair, passes).unwrap();
        let fec = FecFile {
            geometry,
            passes,
            container: hash.id(),
            hash,
        };
        let name = self.name(serial, precedence);
        self.place(
            &serde_json::to_vec(&fec).unwrap(),
            &self.state.geometry(&name),
        );
        self.place(&container, &self.state.container(&name));
        container
    }

    fn name(&self, serial: u64, precedence: Precedence) -> OutboxName {
        let serial = Serial::new(serial).unwrap();
        OutboxName {
            precedence,
            serial,
            not_after: UtcTime::LAST,
        }
    }

    fn place(&self, bytes: &[u8], dest: &std::path::Path) {
        let staged = self.state.tmp(Role::Gate).join("staged");
        fs::write(&staged, bytes).unwrap();
        fs::rename(&staged, dest).unwrap();
    }

    /// Takes what has arrived; every datagram must open with the link key that it names.
    fn receive(&mut self) {
        let mut buffer = vec![0; 65_536];
        while let Ok(length) = self.sink.recv(&mut buffer) {
            let datagram = &mut buffer[..length];
            assert_eq!(length, usize::from(self.datagram_bytes));
            let size = DatagramBytes::new(self.datagram_bytes).unwrap();
            let clear = wire::peek(datagram, size).unwrap();
            let key = Secret32::new(self.keys[&clear.key_id.0]);
            let key = EpochKey::derive(&key, clear.session, clear.epoch());
            let (clear, inner) = wire::open(&key, datagram).unwrap();
            let payload = &datagram[wire::PAYLOAD_OFFSET..][..usize::from(size.symbol_bytes())];
            match inner {
                InnerHeader::Symbol(header) => {
                    let (set, shape) = header.check(size.symbol_bytes()).unwrap();
                    let new = || BlockBuffer::new(&set.geometry, &shape);
                    // Every eighth symbol is lost on the way.
                    if clear.counter % 8 != 0 || set.geometry.symbol_count() < 9 {
                        self.buffers
                            .entry((set, shape.number))
                            .or_insert_with(new)
                            .insert(header.index, payload);
                    }
                }
                InnerHeader::Beacon => self.beacons.push(Beacon::decode(payload).unwrap()),
                InnerHeader::Cover => assert!(payload.iter().all(|byte| *byte == 0)),
            }
            self.arrived.push((clear.session, clear.counter, inner));
        }
    }

    /// The container of a serial, rebuilt from what has arrived.
    fn rebuilt(&mut self, serial: u64) -> Option<Vec<u8>> {
        let mut codec = BlockCodec::new();
        let mut container = Vec::new();
        let of_serial = |set: &&(SetId, u32)| set.0.serial.get() == serial;
        let set = self.buffers.keys().find(of_serial)?.0;
        for shape in set.geometry.blocks() {
            let buffer = self.buffers.get_mut(&(set, shape.number))?;
            codec.rebuild(&set.geometry, buffer).ok()?;
            container.extend_from_slice(buffer.source().unwrap());
        }
        container.truncate(set.geometry.container_bytes() as usize);
        Some(container)
    }

    /// Lets transmit run until something holds, which it must within a minute.
    fn until(&mut self, transmit: &mut Transmit, mut holds: impl FnMut(&mut Self) -> bool) {
        let start = clock::mono_now();
        while !holds(self) {
            assert!(
                clock::mono_now().since_us(start) < 60_000_000,
                "it never came"
            );
            assert_eq!(transmit.step().unwrap(), Flow::GoOn);
            self.receive();
        }
    }

    fn symbols(&self, serial: u64) -> usize {
        let of_serial = |inner: &InnerHeader| matches!(inner, InnerHeader::Symbol(header) if header.serial.get() == serial);
        self.arrived
            .iter()
            .filter(|(_, _, inner)| of_serial(inner))
            .count()
    }

    fn progress(&self, serial: u64) -> Option<progress::Progress> {
        progress::read(&self.state.progress(), Serial::new(serial).unwrap()).unwrap()
    }

    fn state_of(&self, serial: u64) -> Option<EntryState> {
        let entries = &self.beacons.last()?.entries;
        entries
            .iter()
            .find(|entry| entry.serial.get() == serial)
            .map(|entry| entry.state)
    }
}

#[test]
fn containers_of_all_sizes_arrive_over_loss() {
    let mut world = World::new(1_472);
    let sizes = [1_024, 4_096, 60_000, 3_000_000];
    let sent: Vec<Vec<u8>> = (1..)
        .zip(sizes)
        .map(|(serial, size)| world.put(serial, Precedence::Routine, size, 2))
        .collect();
    let mut transmit = world.start("200 Mbit/s");
    world.until(&mut transmit, |world| {
        world.state_of(4) == Some(EntryState::PassesDone)
    });
    world.until(&mut transmit, |world| {
        (1..=4).all(|serial| world.rebuilt(serial).is_some())
    });
    for (serial, container) in (1..).zip(&sent) {
        assert!(
            world.rebuilt(serial).unwrap() == *container,
            "serial {serial}"
        );
    }
    assert_eq!(world.beacons.last().unwrap().settled, 4);
    transmit.stop().unwrap();
    assert_eq!(world.progress(4).unwrap().passes_done, 2);
    let log = fs::read_to_string(world.state.audit().join("transmit.log")).unwrap();
    for event in [
        "\"start\"",
        "\"session\"",
        "\"pass\"",
        "\"transmitted\"",
        "\"stop\"",
    ] {
        assert!(log.contains(event), "{event}");
    }
}

#[test]
fn jumbo_datagrams_carry_the_same() {
    let mut world = World::new(8_972);
    let container = world.put(1, Precedence::Routine, 2_000_000, 2);
    let mut transmit = world.start("400 Mbit/s");
    world.until(&mut transmit, |world| {
        world.state_of(1) == Some(EntryState::PassesDone)
    });
    assert!(world.rebuilt(1).unwrap() == container);
}

#[test]
fn counters_rise_by_one_and_each_start_has_its_own_session() {
    let mut world = World::new(1_472);
    world.put(1, Precedence::Routine, 60_000, 1);
    let mut sessions = BTreeSet::new();
    for _ in 0..2 {
        world.arrived.clear();
        world.beacons.clear();
        let mut transmit = world.start("100 Mbit/s");
        world.until(&mut transmit, |world| {
            world.state_of(1) == Some(EntryState::PassesDone)
        });
        transmit.stop().unwrap();
        for (counter, (session, arrived, _)) in (0..).zip(&world.arrived) {
            assert_eq!(*arrived, counter);
            sessions.insert(*session);
        }
    }
    assert_eq!(sessions.len(), 2);
}

#[test]
fn a_container_that_arrives_is_on_the_link_within_milliseconds() {
    let mut world = World::new(1_472);
    let mut transmit = world.start("100 Mbit/s");
    world.until(&mut transmit, |world| !world.beacons.is_empty());
    // Where the machine is busy with other things for a while, once more.
    let mut told = Vec::new();
    let is_soon = (0..5).any(|round| {
        let mut took = Vec::new();
        for serial in 11 * round + 1..=11 * round + 11 {
            world.put(serial, Precedence::Flash, 4_096, 1);
            let start = clock::mono_now();
            world.until(&mut transmit, |world| world.symbols(serial) > 0);
            took.push(clock::mono_now().since_us(start));
            world.until(&mut transmit, |world| {
                world.state_of(serial) == Some(EntryState::PassesDone)
            });
        }
        took.sort_unstable();
        told.push(took[5]);
        took[5] < 20_000
    });
    assert!(is_soon, "medians of {told:?} µs");
}

#[test]
fn a_restart_goes_on_where_the_pass_stood() {
    let mut world = World::new(1_472);
    let container = world.put(1, Precedence::Routine, 6_000_000, 1);
    let mut transmit = world.start("40 Mbit/s");
    world.until(&mut transmit, |world| world.symbols(1) > 2_000);
    transmit.stop().unwrap();
    let stood = world.progress(1).unwrap();
    assert_eq!((stood.passes_done, stood.pass), (0, 0));
    assert!(stood.position > 1_900, "{stood:?}");
    let mut transmit = world.start("400 Mbit/s");
    world.until(&mut transmit, |world| {
        world.state_of(1) == Some(EntryState::PassesDone)
    });
    assert!(world.rebuilt(1).unwrap() == container);
    let in_a_pass: u32 = plan::choose(container.len() as u64, 1_400, Percent::from_ppm(250_000), 1)
        .unwrap()
        .blocks()
        .map(|shape| plan::pass_symbols(&shape, Percent::from_ppm(250_000), 0).count())
        .sum();
    let sent = world.symbols(1);
    assert!(
        (in_a_pass as usize..in_a_pass as usize + 20).contains(&sent),
        "{sent} of {in_a_pass}"
    );
}

#[test]
fn deleted_and_damaged_containers_stop_nothing() {
    let mut world = World::new(1_472);
    world.put(1, Precedence::Flash, 60_000_000, 1);
    let cut_short = world.name(2, Precedence::Flash);
    world.put(2, Precedence::Flash, 4_096, 1);
    fs::write(world.state.container(&cut_short), "short").unwrap();
    fs::write(
        world.state.outbox().join("1-3-9999999999.container"),
        "no geometry",
    )
    .unwrap();
    fs::write(world.state.outbox().join("1-4-9999999999.fec"), "{").unwrap();
    fs::write(world.state.outbox().join("1-4-9999999999.container"), "").unwrap();
    fs::write(world.state.outbox().join("nonsense"), "").unwrap();
    let mut transmit = world.start("100 Mbit/s");
    world.until(&mut transmit, |world| world.symbols(1) > 100);
    let gone = world.name(1, Precedence::Flash);
    fs::remove_file(world.state.container(&gone)).unwrap();
    fs::remove_file(world.state.geometry(&gone)).unwrap();
    let container = world.put(5, Precedence::Routine, 60_000, 1);
    world.until(&mut transmit, |world| {
        world.state_of(5) == Some(EntryState::PassesDone)
    });
    assert!(world.rebuilt(5).unwrap() == container);
    assert_eq!(world.state_of(1), None);
    // What is queued and cannot be sent is told: the file that was cut short, and the geometry that is none.
    let text = container_alarm(&transmit).unwrap();
    assert!(
        text.contains("serial 2 is not what gate sealed")
            && text.ends_with("; 1 more cannot be sent"),
        "{text}"
    );
    fs::remove_file(world.state.outbox().join("1-4-9999999999.fec")).unwrap();
    fs::remove_file(world.state.outbox().join("1-4-9999999999.container")).unwrap();
    fs::remove_file(world.state.container(&cut_short)).unwrap();
    fs::remove_file(world.state.geometry(&cut_short)).unwrap();
    while container_alarm(&transmit).is_some() {
        assert_eq!(transmit.step().unwrap(), Flow::GoOn);
    }
    transmit.stop().unwrap();
    let log = fs::read_to_string(world.state.audit().join("transmit.log")).unwrap();
    assert_eq!(log.matches("\"alarm\":\"container\"").count(), 1, "{log}");
}

#[test]
fn a_resend_and_what_gate_knows_are_taken_up_at_once() {
    let mut world = World::new(1_472);
    world.put(1, Precedence::Routine, 60_000, 1);
    let mut transmit = world.start("100 Mbit/s");
    world.until(&mut transmit, |world| {
        world.state_of(1) == Some(EntryState::PassesDone)
    });
    let before = world.symbols(1);
    let name = world.name(1, Precedence::Routine);
    let text = fs::read(world.state.geometry(&name)).unwrap();
    let fec: FecFile = serde_json::from_slice(&text).unwrap();
    let raised = serde_json::to_vec(&FecFile { passes: 2, ..fec }).unwrap();
    world.place(&raised, &world.state.geometry(&name));
    world.until(&mut transmit, |world| world.symbols(1) == 2 * before);
    let sealing = vec![Serial::new(2).unwrap()];
    let spool = SpoolBeacon {
        issued: 2,
        trust_version: 7,
        in_sealing: sealing,
        ..SpoolBeacon::default()
    };
    world.place(
        &serde_json::to_vec(&spool).unwrap(),
        &world.state.outbox_beacon(),
    );
    world.until(&mut transmit, |world| {
        world.beacons.last().unwrap().highest == 2
    });
    let last = world.beacons.last().unwrap();
    assert_eq!((last.settled, last.trust_version), (1, 7));
}

#[test]
fn a_new_bundle_brings_its_key_to_the_link_at_once() {
    let mut world = World::new(1_472);
    let mut transmit = world.start("100 Mbit/s");
    world.until(&mut transmit, |world| !world.beacons.is_empty());
    world.import_key(2);
    let before = world.beacons.len();
    world.until(&mut transmit, |world| world.beacons.len() > before);
    assert_eq!(transmit.outlet.session().unwrap().bundle, BundleId(2));
    assert!(
        !world.state.link_key(BundleId(1)).exists() && world.state.link_key(BundleId(2)).exists()
    );
    assert_eq!(
        world.arrived.last().unwrap().0,
        transmit.outlet.session().unwrap().framer.session()
    );
}

#[test]
fn without_a_bundle_nothing_is_sent_until_one_comes() {
    let mut world = World::new(1_472);
    fs::remove_file(world.state.handed_key(BundleId(1))).unwrap();
    world.put(1, Precedence::Flash, 4_096, 1);
    let mut transmit = world.start("100 Mbit/s");
    for _ in 0..3 {
        assert_eq!(
            transmit.wait(Duration::from_millis(20)).unwrap(),
            Flow::GoOn
        );
        transmit.send(now()).unwrap();
    }
    world.receive();
    assert!(world.arrived.is_empty());
    assert_eq!(transmit.outlet.state(), LinkState::NoKey);
    world.import_key(2);
    world.until(&mut transmit, |world| {
        world.state_of(1) == Some(EntryState::PassesDone)
    });
}

#[test]
fn the_view_shows_what_is_on_the_link() {
    let mut world = World::new(1_472);
    world.put(1, Precedence::Routine, 60_000_000, 2);
    let mut transmit = world.start("50 Mbit/s");
    let path = world.state.view_of(Role::Transmit);
    let read = |path: &std::path::Path| -> Option<TransmitView> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    };
    // A busy machine holds it up in one second or another, but never makes it faster.
    world.until(&mut transmit, |_| {
        let Some(view) = read(&path).filter(|view| view.on_link.len() == 1) else {
            return false;
        };
        assert_eq!((view.link, view.on_link[0].passes), (LinkState::Up, 2));
        assert!(view.sent.symbols > 0 && view.on_link[0].position > 0);
        let rate = view.rate_achieved_bits;
        assert!(rate <= 51_500_000, "{rate}");
        rate >= 40_000_000
    });
}

#[test]
fn the_time_in_the_beacons_goes_on_from_that_of_the_process_before() {
    let mut world = World::new(1_472);
    let mut transmit = world.start("100 Mbit/s");
    let state = transmit.state.clone();
    let last = || TransmitView::of_last_process(&state).filter(|view| view.beacon_time_us > 0);
    world.until(&mut transmit, |_| last().is_some());
    transmit.stop().unwrap();
    // As if the clock had been an hour ahead then, and was put right.
    let mut view = last().unwrap();
    view.beacon_time_us += 3_600_000_000;
    fs::write(
        state.view_of(Role::Transmit),
        serde_json::to_vec(&view).unwrap(),
    )
    .unwrap();
    world.receive();
    world.beacons.clear();
    let mut transmit = world.start("100 Mbit/s");
    world.until(&mut transmit, |world| !world.beacons.is_empty());
    assert!(world.beacons[0].sender_time_us >= view.beacon_time_us);
}

#[test]
fn only_one_transmit_runs_and_none_without_its_audit_log() {
    let world = World::new(1_472);
    let _transmit = world.start("100 Mbit/s");
    let (root, to) = (
        world.folder.path().display(),
        world.sink.local_addr().unwrap(),
    );
    let config = format!("state = \"{root}\"\n[link]\nkind = \"udp\"\nto = \"{to}\"\n");
    let config = SenderConfig::parse(&config).unwrap();
    assert!(matches!(start(&config), Err(TransmitError::Running)));
    let bare = tempfile::tempdir().unwrap();
    SenderState::new(bare.path()).create_all().unwrap();
    let config = SenderConfig {
        state: bare.path().to_owned(),
        ..config
    };
    let error = start(&config).err().unwrap();
    assert!(matches!(error, TransmitError::Audit(_)), "{error}");
    assert!(!error.is_configuration());
}

#[test]
fn cover_without_a_rate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display();
    SenderState::new(folder.path()).create_all().unwrap();
    let link = "kind = \"udp\"\nto = \"127.0.0.1:9\"\nrate = \"unlimited\"\ncover = true";
    let config = format!("state = \"{root}\"\n[link]\n{link}\n");
    let Err(error) = start(&SenderConfig::parse(&config).unwrap()) else {
        panic!("it ran")
    };
    assert!(error.is_configuration());
    assert!(error.to_string().contains("link.rate"), "{error}");
}

#[test]
fn a_signal_ends_it_in_order() {
    let mut world = World::new(1_472);
    world.put(1, Precedence::Routine, 60_000_000, 1);
    let mut transmit = world.start("100 Mbit/s");
    world.until(&mut transmit, |world| world.symbols(1) > 500);
    raise(Signal::SIGTERM).unwrap();
    while transmit.step().unwrap() == Flow::GoOn {}
    transmit.stop().unwrap();
    assert!(world.progress(1).unwrap().position >= 500);
}

/// Flips one bit in the middle of a file.
fn damage(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn container_alarm(transmit: &Transmit) -> Option<String> {
    transmit.containers.alarm()
}

/// Whether two containers cannot be sent.
fn names_two(transmit: &Transmit) -> bool {
    container_alarm(transmit).is_some_and(|text| text.ends_with("; 1 more cannot be sent"))
}

#[test]
fn nothing_of_a_container_leaves_that_the_disk_changed() {
    let mut world = World::new(1_472);
    // A small one, compared where it is opened, and a large one, compared by the thread; one of each is whole.
    let sizes = [4_096, 2_000_000, 4_096, 2_000_000];
    for (serial, size) in (1..).zip(sizes) {
        world.put(serial, Precedence::Routine, size, 2);
    }
    let damaged = [1, 2].map(|serial| {
        world
            .state
            .container(&world.name(serial, Precedence::Routine))
    });
    damaged.iter().for_each(|path| damage(path));
    let mut transmit = world.start("200 Mbit/s");
    world.until(&mut transmit, |world| {
        [3, 4]
            .iter()
            .all(|serial| world.state_of(*serial) == Some(EntryState::PassesDone))
    });
    let start = clock::mono_now();
    while !names_two(&transmit) {
        assert!(clock::mono_now().since_us(start) < 60_000_000);
        transmit.step().unwrap();
    }
    let text = container_alarm(&transmit).unwrap();
    assert!(
        text.contains("serial 1 is not what gate sealed") && text.contains("; 1 more"),
        "{text}"
    );
    assert_eq!((world.symbols(1), world.symbols(2)), (0, 0));
    // The receiver counts them as missing.
    world.beacons.clear();
    world.until(&mut transmit, |world| {
        world
            .beacons
            .last()
            .is_some_and(|beacon| beacon.settled == 4)
    });
    // Gate puts them there anew, whole.
    for (serial, size) in [(1, 4_096), (2, 2_000_000)] {
        world.put(serial, Precedence::Routine, size, 2);
    }
    world.until(&mut transmit, |world| {
        [1, 2]
            .iter()
            .all(|serial| world.state_of(*serial) == Some(EntryState::PassesDone))
    });
    assert_eq!(container_alarm(&transmit), None);
}

#[test]
fn a_resend_compares_again_and_so_does_a_restart() {
    let mut world = World::new(1_472);
    for (serial, size) in [(1, 4_096), (2, 2_000_000)] {
        world.put(serial, Precedence::Routine, size, 1);
    }
    let mut transmit = world.start("200 Mbit/s");
    let is_done = |world: &World| {
        [1, 2]
            .iter()
            .all(|serial| world.state_of(*serial) == Some(EntryState::PassesDone))
    };
    world.until(&mut transmit, |world| is_done(world));
    let before = [1, 2].map(|serial| world.symbols(serial));
    for serial in [1, 2] {
        let name = world.name(serial, Precedence::Routine);
        damage(&world.state.container(&name));
        let fec: FecFile =
            serde_json::from_slice(&fs::read(world.state.geometry(&name)).unwrap()).unwrap();
        let raised = serde_json::to_vec(&FecFile { passes: 2, ..fec }).unwrap();
        world.place(&raised, &world.state.geometry(&name));
    }
    for _ in 0..2 {
        let start = clock::mono_now();
        while !names_two(&transmit) {
            assert!(
                clock::mono_now().since_us(start) < 60_000_000,
                "{:?} {:?} {:?}",
                container_alarm(&transmit),
                transmit.containers.pipeline().serials().collect::<Vec<_>>(),
                transmit.outlet.state()
            );
            transmit.step().unwrap();
            world.receive();
        }
        assert_eq!([1, 2].map(|serial| world.symbols(serial)), before);
        transmit.stop().unwrap();
        // Nor is it said to be sent.
        for serial in [1, 2] {
            assert_eq!(world.progress(serial).unwrap().passes_done, 1);
        }
        transmit = world.start("200 Mbit/s");
    }
}

#[test]
fn a_flash_cable_never_waits_for_the_comparison_of_a_larger_one() {
    let mut world = World::new(1_472);
    // It is all holes, and takes no room on the disk; its hash is that of something else.
    let name = world.name(1, Precedence::Routine);
    world.put(1, Precedence::Routine, 1_000_000, 1);
    let fec = fs::read(world.state.geometry(&name)).unwrap();
    let fec: FecFile = serde_json::from_slice(&fec).unwrap();
    let padded: u64 = 2 << 30;
    let length = 1_264 + padded + 16 * padded.div_ceil(65_536);
    let geometry = plan::choose(length, 1_400, Percent::from_ppm(250_000), 1).unwrap();
    let sparse = FecFile { geometry, ..fec };
    world.place(
        &serde_json::to_vec(&sparse).unwrap(),
        &world.state.geometry(&name),
    );
    let file = fs::OpenOptions::new()
        .write(true)
        .open(world.state.container(&name))
        .unwrap();
    file.set_len(length).unwrap();
    let mut transmit = world.start("200 Mbit/s");
    world.put(2, Precedence::Flash, 1_000_000, 1);
    world.until(&mut transmit, |world| {
        world.state_of(2) == Some(EntryState::PassesDone)
    });
    // The large one is still being compared.
    assert_eq!(world.state_of(1), Some(EntryState::Queued));
    assert_eq!(container_alarm(&transmit), None);
}
