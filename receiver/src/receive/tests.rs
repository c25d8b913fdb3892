//! The threads together, over a real socket and real files.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use valise_common::fec::{BlockCodec, Codec, Geometry};
use valise_common::host::folders::InboxName;
use valise_common::ids::{BundleId, ChannelId, ContainerHash, LinkKeyId, Serial, SessionId};
use valise_common::secret::Secret32;
use valise_common::wire::{
    ClearHeader, Epoch, EpochKey, InnerHeader, PAYLOAD_OFFSET, SetId, SymbolHeader, seal,
};

use valise_common::history::log::AuditLog;
use valise_common::host::commissioned::Host;
use valise_common::os::durable::SyncBatch;
use valise_common::os::watch::{DirWatch, Notice};

use super::assemble::Input;
use super::intake::Intake;
use super::listener::{Listener, Source};
use super::publish::file_name;
use super::*;
use crate::spool::net_tables::NetTables;
use crate::spool::view::ReceiveView;

const DATAGRAM: usize = 1_472;
const S: usize = 1_400;

/// A commissioned receiver host with one bundle of a hundred slots.
struct Site {
    folder: tempfile::TempDir,
    state: ReceiverState,
    config: ReceiverConfig,
}

fn channel() -> ChannelId {
    ChannelId::from_bytes([5; 16])
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("state");
        let state = ReceiverState::new(&root);
        state.create_all().unwrap();
        AuditLog::create(&state.audit(), "receive", "valise/test/receive").unwrap();
        let key = format!(
            r#"{{"bundle":1,"key_id":1,"key":"{}","channel":"{}","first_serial":1,"last_serial":100}}"#,
            "ab".repeat(32),
            channel(),
        );
        let path = state.link_keys().join("1.key");
        durable_key(&path, &key);
        let text = format!(
            "state = \"{}\"\n[link]\nkind = \"udp\"\nlisten = \"127.0.0.1:7000\"\nsocket_buffer = \"4 MiB\"\n",
            root.display()
        );
        let mut config = ReceiverConfig::parse(&text).unwrap();
        // Any free port; the file must name one.
        config.link.listen = Some("127.0.0.1:0".parse().unwrap());
        Self {
            config,
            folder,
            state,
        }
    }

    fn start(&self) -> (Receive, UdpSocket) {
        let listener = Listener::open(&self.config, Source::Own).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(listener.local_addr()).unwrap();
        let (audit, _) = AuditLog::open(&self.state.audit(), "receive").unwrap();
        let sync = SyncBatch::new(self.state.root()).unwrap();
        let host = Host {
            channel: channel(),
            administrators: Vec::new(),
        };
        let claimed = Claimed {
            host,
            audit,
            sync,
            intake: Intake::Udp(listener),
            tables: NetTables::open(),
            lock: HostLock::try_take(&self.state.lock(Role::Receive))
                .unwrap()
                .unwrap(),
        };
        let receive = Receive::start(&self.config, claimed, Threading::Beside).unwrap();
        (receive, sender)
    }

    fn inbox(&self, cut: &Cut) -> std::path::PathBuf {
        let name = InboxName {
            serial: cut.set.serial,
            container: cut.set.container,
        };
        self.state.container(&name)
    }

    /// Waits for a name in the inbox.
    fn await_inbox(&self, watch: &mut DirWatch, cut: &Cut) {
        while !self.inbox(cut).exists() {
            let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(Duration::from_secs(20)).unwrap();
            assert_eq!(poll(&mut ready, timeout).unwrap(), 1, "nothing arrived");
            watch.drain().unwrap();
        }
        assert_eq!(fs::read(self.inbox(cut)).unwrap(), cut.bytes);
    }

    fn watch(&self) -> DirWatch {
        let mut watch = DirWatch::new().unwrap();
        watch.add(&self.state.inbox(), Notice::Arrivals).unwrap();
        watch
    }

    fn completed(&self) -> String {
        fs::read_to_string(self.state.completed()).unwrap()
    }

    fn audit(&self) -> String {
        fs::read_to_string(self.state.audit().join("receive.log")).unwrap()
    }

    fn view(&self) -> ReceiveView {
        let path = self.state.view_of(Role::Receive);
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

fn durable_key(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A container and its datagrams.
struct Cut {
    set: SetId,
    bytes: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
}

fn cut(serial: u64, padded: u64, codec: Codec, k_max: u16, session: u8) -> Cut {
    let length = 1264 + padded + 16 * padded.div_ceil(65_536);
    let bytes: Vec<u8> = (0..length)
        .map(|n| (n * 31 + serial + n / 977) as u8)
        .collect();
    let id = ContainerHash::from_bytes(*blake3::hash(&bytes).as_bytes()).id();
    let geometry = Geometry::new(length, codec, k_max, 4, S as u16).unwrap();
    let set = SetId {
        serial: Serial::new(serial).unwrap(),
        container: id,
        geometry,
    };
    let session = SessionId::from_bytes([session; 8]);
    let key = EpochKey::derive(&Secret32::new([0xab; 32]), session, Epoch::FIRST);
    let (mut codec, mut datagrams) = (BlockCodec::new(), Vec::new());
    for shape in geometry.blocks() {
        let range = geometry.block_range(&shape);
        let mut source = bytes[range.start as usize..range.end as usize].to_vec();
        source.resize(geometry.source_bytes(&shape), 0);
        let mut repair = vec![0; geometry.repair_bytes(&shape)];
        codec.encode(&geometry, &shape, &source, &mut repair);
        // The first symbol of each block is lost on the way.
        for (index, symbol) in source.chunks(S).chain(repair.chunks(S)).enumerate().skip(1) {
            let mut datagram = vec![0; DATAGRAM];
            datagram[PAYLOAD_OFFSET..][..S].copy_from_slice(symbol);
            let header = SymbolHeader::new(&set, 0, &shape, index as u16);
            let counter = datagrams.len() as u64;
            let clear = ClearHeader {
                key_id: LinkKeyId(1),
                counter,
                session,
            };
            seal(&key, &clear, &InnerHeader::Symbol(header), &mut datagram);
            datagrams.push(datagram);
        }
    }
    Cut {
        set,
        bytes,
        datagrams,
    }
}

fn send(sender: &UdpSocket, datagrams: &[Vec<u8>]) {
    for datagram in datagrams {
        sender.send(datagram).unwrap();
    }
}

#[test]
fn containers_of_one_and_of_many_blocks_arrive_durably_once_and_are_remembered() {
    let site = Site::new();
    let (large, small) = (
        cut(1, 300_000, Codec::Rs16, 50, 1),
        cut(2, 1_024, Codec::Rs8, 40, 1),
    );
    let mut watch = site.watch();
    let (receive, sender) = site.start();
    send(&sender, &large.datagrams);
    site.await_inbox(&mut watch, &large);
    send(&sender, &small.datagrams);
    site.await_inbox(&mut watch, &small);
    receive.stop().unwrap();
    assert_eq!(site.completed().lines().count(), 2);
    assert_eq!(site.view().completed, 2);
    // `release` takes them away, and the link is replayed.
    fs::remove_file(site.inbox(&large)).unwrap();
    fs::remove_file(site.inbox(&small)).unwrap();
    let third = cut(3, 1_024, Codec::Rs8, 40, 1);
    let (receive, sender) = site.start();
    send(&sender, &large.datagrams);
    send(&sender, &small.datagrams);
    send(&sender, &third.datagrams);
    site.await_inbox(&mut watch, &third);
    receive.stop().unwrap();
    assert!(!site.inbox(&large).exists() && !site.inbox(&small).exists());
    assert_eq!(
        fs::read_dir(site.state.tmp(Role::Receive)).unwrap().count(),
        0
    );
    let replayed = large.datagrams.len() + small.datagrams.len();
    assert_eq!(
        site.view()
            .counters
            .of(valise_common::wire::DropReason::Completed),
        replayed as u64
    );
}

#[test]
fn what_was_collected_before_an_ordered_end_is_used_after_it() {
    let site = Site::new();
    let cuts = [
        cut(1, 300_000, Codec::Rs16, 50, 1),
        cut(2, 1_024, Codec::Rs8, 40, 1),
    ];
    let mut watch = site.watch();
    for part in 0..3 {
        let (receive, sender) = site.start();
        for cut in &cuts {
            let third: Vec<Vec<u8>> = cut
                .datagrams
                .iter()
                .skip(part)
                .step_by(3)
                .cloned()
                .collect();
            send(&sender, &third);
        }
        if part == 2 {
            cuts.iter()
                .for_each(|cut| site.await_inbox(&mut watch, cut));
        }
        // The reader hands over what the socket holds before it ends.
        let expected = cuts
            .iter()
            .map(|cut| cut.datagrams.len().div_ceil(3) as u64 - 1)
            .sum();
        receive.await_datagrams(expected);
        receive.stop().unwrap();
    }
    assert_eq!(site.completed().lines().count(), 2);
}

impl Receive {
    /// Waits until so many datagrams were opened.
    fn await_datagrams(&self, count: u64) {
        let opened = |receive: &Self| {
            let assembled = receive.way.shared().assembly().tally;
            assembled.total() + receive.way.shared().read().tally.total()
        };
        let start = std::time::Instant::now();
        while opened(self) < count {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "datagrams went missing"
            );
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_forged_set_is_discarded_and_audited_and_the_true_container_still_arrives() {
    let site = Site::new();
    let cut = cut(7, 300_000, Codec::Rs16, 50, 1);
    let mut forged = cut.datagrams[10].clone();
    let link_key = Secret32::new([0xab; 32]);
    let session = SessionId::from_bytes([1; 8]);
    let key = EpochKey::derive(&link_key, session, Epoch::FIRST);
    let (clear, inner) = valise_common::wire::open(&key, &mut forged).unwrap();
    forged[PAYLOAD_OFFSET] ^= 1;
    let clear = ClearHeader {
        counter: 1 << 40,
        ..clear
    };
    let key = EpochKey::derive(&link_key, session, clear.epoch());
    seal(&key, &clear, &inner, &mut forged);
    let mut watch = site.watch();
    let (receive, sender) = site.start();
    send(&sender, &[forged]);
    send(&sender, &cut.datagrams);
    let start = std::time::Instant::now();
    while receive.way.shared().assembly().sets.poisoned == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the forgery was not noticed"
        );
        std::thread::yield_now();
    }
    assert!(!site.inbox(&cut).exists());
    send(&sender, &cut.datagrams);
    site.await_inbox(&mut watch, &cut);
    receive.stop().unwrap();
    let told = r#""event":"poisoned","serials":[7],"sets":1"#;
    assert_eq!(site.audit().matches(told).count(), 1, "{}", site.audit());
    assert_eq!(
        fs::read_dir(site.state.assembly()).unwrap().count(),
        2,
        "the two lists alone"
    );
}

#[test]
fn forgeries_are_audited_at_once_and_then_together() {
    let site = Site::new();
    let (mut receive, _sender) = site.start();
    for serial in 1..=50 {
        let serial = Serial::new(serial).unwrap();
        receive.way.shared().forged().handle_set(serial);
        receive.tick().unwrap();
        assert_eq!(site.audit().matches("\"poisoned\"").count(), 1);
    }
    receive.stop().unwrap();
    // What was not due was told at the end: nothing is lost.
    assert_eq!(site.audit().matches("\"poisoned\"").count(), 2);
    assert!(site.audit().contains("\"sets\":49"), "{}", site.audit());
}

#[test]
fn a_retired_link_key_takes_the_written_beacon_with_it_over_a_restart_too() {
    use valise_common::wire::{Beacon, InnerHeader};
    let site = Site::new();
    let (receive, sender) = site.start();
    let beacon = Beacon {
        highest: 100,
        settled: 100,
        lowest_retained: 0,
        sender_time_us: u64::MAX,
        trust_version: 0,
        entries: Vec::new(),
    };
    let mut datagram = vec![0; DATAGRAM];
    beacon.encode(&mut datagram[PAYLOAD_OFFSET..][..S]);
    let session = SessionId::from_bytes([1; 8]);
    let clear = ClearHeader {
        key_id: LinkKeyId(1),
        counter: 0,
        session,
    };
    let key = EpochKey::derive(&Secret32::new([0xab; 32]), session, Epoch::FIRST);
    seal(&key, &clear, &InnerHeader::Beacon, &mut datagram);
    let mut watch = site.watch();
    send(&sender, &[datagram]);
    let path = site.state.inbox_beacon();
    while !path.exists() {
        let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(Duration::from_secs(20)).unwrap();
        assert_eq!(
            poll(&mut ready, timeout).unwrap(),
            1,
            "no beacon was written"
        );
        watch.drain().unwrap();
    }
    let written = crate::spool::beacon_file::read(&path).unwrap().unwrap();
    assert_eq!(written.bundle, BundleId(1));
    receive.stop().unwrap();
    // The key stays: so does the beacon.
    site.start().0.stop().unwrap();
    assert!(path.exists());
    fs::remove_file(site.state.link_keys().join("1.key")).unwrap();
    site.start().0.stop().unwrap();
    assert!(!path.exists());
}

#[test]
fn what_release_hands_back_is_collected_again_at_once_and_over_a_restart() {
    let site = Site::new();
    let (large, small) = (
        cut(1, 300_000, Codec::Rs16, 50, 1),
        cut(2, 1_024, Codec::Rs8, 40, 1),
    );
    let mut watch = site.watch();
    let (receive, sender) = site.start();
    for cut in [&large, &small] {
        send(&sender, &cut.datagrams);
        site.await_inbox(&mut watch, cut);
    }
    let hand_back = |cut: &Cut| {
        let from = site.inbox(cut);
        fs::rename(&from, site.state.damaged().join(from.file_name().unwrap())).unwrap();
    };
    // One by one, as datagrams of another session: those of this one were counted.
    hand_back(&large);
    receive.way.tell(Input::HandedBack).unwrap();
    let mut session = 2;
    while !site.inbox(&large).exists() {
        assert!(session < 200, "it is not collected again");
        send(
            &sender,
            &cut(1, 300_000, Codec::Rs16, 50, session).datagrams,
        );
        session += 1;
        let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(200_u8)).unwrap();
        watch.drain().unwrap();
    }
    assert_eq!(fs::read(site.inbox(&large)).unwrap(), large.bytes);
    assert_eq!(fs::read_dir(site.state.damaged()).unwrap().count(), 0);
    receive.stop().unwrap();
    hand_back(&small);
    // What a kill left before the file was deleted is the same.
    let id = small.set.container;
    let list = site.completed() + &format!("2 -{id}\n");
    fs::write(site.state.completed(), list).unwrap();
    let (receive, sender) = site.start();
    assert_eq!(fs::read_dir(site.state.damaged()).unwrap().count(), 0);
    send(&sender, &cut(2, 1_024, Codec::Rs8, 40, 201).datagrams);
    site.await_inbox(&mut watch, &small);
    receive.stop().unwrap();
}

#[test]
fn start_up_completes_what_a_killed_publisher_left() {
    let site = Site::new();
    let (staged, listed, unlisted) = (
        cut(1, 1_024, Codec::Rs8, 40, 1),
        cut(2, 1_024, Codec::Rs8, 40, 1),
        cut(3, 1_024, Codec::Rs8, 40, 1),
    );
    let hash = |cut: &Cut| blake3::hash(&cut.bytes).to_hex();
    let tmp = site.state.tmp(Role::Receive);
    let at = |cut: &Cut| {
        let name = InboxName {
            serial: cut.set.serial,
            container: cut.set.container,
        };
        tmp.join(file_name(&name))
    };
    // Killed between the line in the list and the rename; the second one was torn by a loss of power besides.
    fs::write(at(&staged), &staged.bytes).unwrap();
    fs::write(at(&listed), &listed.bytes[..100]).unwrap();
    fs::write(site.state.completed(), format!("1 {}\n", hash(&staged))).unwrap();
    // Power was lost before the list was on the disk.
    fs::write(site.inbox(&unlisted), &unlisted.bytes).unwrap();
    let (receive, _sender) = site.start();
    receive.stop().unwrap();
    assert_eq!(fs::read(site.inbox(&staged)).unwrap(), staged.bytes);
    assert!(!site.inbox(&listed).exists());
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    let expected = format!("1 {}\n3 {}\n", hash(&staged), hash(&unlisted));
    assert_eq!(site.completed(), expected);
}

#[test]
fn a_listed_container_is_published_whatever_a_loss_of_power_left_of_its_blocks_bits() {
    let site = Site::new();
    let large = cut(1, 300_000, Codec::Rs16, 50, 1);
    let data = crate::spool::assembly::data_path(&site.state.assembly(), &large.set);
    let folder = data.parent().unwrap();
    fs::create_dir(folder).unwrap();
    fs::write(&data, &large.bytes).unwrap();
    fs::write(folder.join("done"), []).unwrap();
    let hash = blake3::hash(&large.bytes).to_hex();
    fs::write(site.state.completed(), format!("1 {hash}\n")).unwrap();
    let (receive, _sender) = site.start();
    receive.stop().unwrap();
    assert_eq!(fs::read(site.inbox(&large)).unwrap(), large.bytes);
    assert!(!folder.exists());
    assert_eq!(site.completed(), format!("1 {hash}\n"));
}

#[test]
fn the_first_use_of_a_link_key_is_audited_once() {
    let site = Site::new();
    let small = cut(2, 1_024, Codec::Rs8, 40, 1);
    for _ in 0..2 {
        let (receive, sender) = site.start();
        send(&sender, &small.datagrams[..1]);
        receive.await_datagrams(1);
        receive.stop().unwrap();
    }
    assert_eq!(site.audit().matches("link-key-in-use").count(), 1);
    assert_eq!(site.audit().matches("\"stopped\"").count(), 2);
    let _ = site.folder.path();
}
