//! The receiving side against a link that does what it likes, in virtual time.

#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use valise_common::fec::{BlockCodec, Codec, Geometry};
use valise_common::ids::{BundleId, ContainerHash, ContainerId, LinkKeyId, Serial, SessionId};
use valise_common::secret::Secret32;
use valise_common::units::Mono;
use valise_common::wire::{
    Beacon, BeaconEntry, ClearHeader, DatagramBytes, DropReason, EntryState, Epoch, EpochKey,
    InnerHeader, PAYLOAD_OFFSET, SetId, SymbolHeader, seal,
};

use super::*;
use crate::steps::deframe::{Deframer, Frame, HeldKey, payload};
use crate::steps::reassemble::ContainerHasher;

/// Both halves, one after the other.
struct Pipeline {
    deframer: Deframer,
    assembler: Assembler,
    tally: Tally,
}

impl Pipeline {
    /// A pipeline without keys, with a bound of memory for blocks.
    fn new(size: DatagramBytes, memory_bytes: usize) -> Self {
        Self {
            deframer: Deframer::new(size),
            assembler: Assembler::new(memory_bytes),
            tally: Tally::default(),
        }
    }

    /// Sets the link keys in force and the highest serial that has a slot.
    fn handle_keys(&mut self, now: Mono, keys: Vec<HeldKey>, issued_last: u64) {
        let bundles: Vec<BundleId> = keys.iter().map(|key| key.bundle).collect();
        self.deframer.handle_keys(keys, issued_last);
        self.assembler.handle_keys(now, &bundles, issued_last);
    }

    /// Takes a datagram, whatever it is, and opens it in place. It moves exactly one counter.
    fn handle_datagram(&mut self, now: Mono, datagram: &mut [u8]) {
        match self.try_datagram(now, datagram) {
            Ok(Frame::Cover) => self.tally.covers += 1,
            Ok(Frame::Symbol(_)) => self.tally.symbols += 1,
            Ok(Frame::Beacon(_)) => self.tally.beacons += 1,
            Err(reason) => self.tally.dropped.count(reason),
        }
    }

    fn try_datagram(&mut self, now: Mono, datagram: &mut [u8]) -> Result<Frame, DropReason> {
        let frame = self.deframer.handle_datagram(datagram)?;
        match &frame {
            Frame::Cover => {}
            Frame::Symbol(symbol) => {
                self.assembler
                    .handle_symbol(now, symbol, payload(datagram))?;
            }
            Frame::Beacon(bundle) => {
                self.assembler
                    .handle_beacon(now, *bundle, payload(datagram))?;
            }
        }
        Ok(frame)
    }

    /// The next thing to do, in order; to be done before the next datagram.
    fn poll_effect(&mut self) -> Option<Effect> {
        self.assembler.poll_effect()
    }

    /// What became of the datagrams.
    fn tally(&self) -> &Tally {
        &self.tally
    }
}

const DATAGRAM: u16 = 136;
const S: u16 = 64;
const MEMORY: usize = 1 << 20;
const ISSUED: u64 = 100;

/// Deterministic noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn shuffle<T>(&mut self, things: &mut [T]) {
        for place in (1..things.len()).rev() {
            things.swap(place, self.below(place as u64 + 1) as usize);
        }
    }
}

/// A container, cut, with all its symbols.
struct Cut {
    set: SetId,
    bytes: Vec<u8>,
    blocks: Vec<Vec<Vec<u8>>>,
}

impl Cut {
    /// A container of `padded` bytes of package: random bytes will do, nobody here can open it.
    fn new(serial: u64, padded: u64, codec: Codec, k_max: u16, m: u16) -> Self {
        let length = 1264 + padded + 16 * padded.div_ceil(65_536);
        let mut noise = Noise(serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) + padded);
        let bytes: Vec<u8> = (0..length).map(|_| noise.next() as u8).collect();
        let id = ContainerHash::from_bytes(*blake3::hash(&bytes).as_bytes()).id();
        Self::of(serial, id, bytes, codec, k_max, m)
    }

    fn of(serial: u64, id: ContainerId, bytes: Vec<u8>, codec: Codec, k_max: u16, m: u16) -> Self {
        let geometry = Geometry::new(bytes.len() as u64, codec, k_max, m, S).unwrap();
        let set = SetId {
            serial: Serial::new(serial).unwrap(),
            container: id,
            geometry,
        };
        let mut codec = BlockCodec::new();
        let blocks = geometry.blocks().map(|shape| {
            let range = geometry.block_range(&shape);
            let mut source = bytes[range.start as usize..range.end as usize].to_vec();
            source.resize(geometry.source_bytes(&shape), 0);
            let mut repair = vec![0; geometry.repair_bytes(&shape)];
            codec.encode(&geometry, &shape, &source, &mut repair);
            let symbols = source.chunks(S.into()).chain(repair.chunks(S.into()));
            symbols.map(<[u8]>::to_vec).collect()
        });
        Self {
            set,
            blocks: blocks.collect(),
            bytes,
        }
    }

    /// A set that claims this container's id and holds other bytes.
    fn forged(&self) -> Self {
        let bytes = vec![0x66; self.bytes.len()];
        let geometry = &self.set.geometry;
        let (codec, k_max, m) = (geometry.codec(), geometry.k_max(), geometry.m());
        Self::of(
            self.set.serial.get(),
            self.set.container,
            bytes,
            codec,
            k_max,
            m,
        )
    }

    /// Every symbol: block and index.
    fn all(&self) -> Vec<(u32, u16)> {
        let blocks = self.blocks.iter().zip(0_u32..);
        blocks
            .flat_map(|(symbols, block)| (0..symbols.len() as u16).map(move |i| (block, i)))
            .collect()
    }

    fn source(&self) -> Vec<(u32, u16)> {
        let k = |block: u32| self.set.geometry.block(block).unwrap().k;
        self.all()
            .into_iter()
            .filter(|(block, index)| *index < k(*block))
            .collect()
    }

    fn header(&self, (block, index): (u32, u16)) -> SymbolHeader {
        SymbolHeader::new(
            &self.set,
            0,
            &self.set.geometry.block(block).unwrap(),
            index,
        )
    }

    fn symbol(&self, (block, index): (u32, u16)) -> &[u8] {
        &self.blocks[block as usize][index as usize]
    }
}

/// What is on disk of a set.
#[derive(Default, Clone)]
struct OnDisk {
    blocks: BTreeMap<u32, Vec<u8>>,
    parts: BTreeMap<u32, Vec<(u16, Vec<u8>)>>,
}

/// The pipeline and what a program would do for it, without a disk.
struct World {
    pipeline: Pipeline,
    now: Mono,
    session: EpochKey,
    key_id: LinkKeyId,
    counter: u64,
    disk: BTreeMap<SetId, OnDisk>,
    inbox: BTreeMap<(Serial, ContainerId), Vec<u8>>,
    // What was written, in order; `None` for taking it away.
    beacons: Vec<Option<Beacon>>,
    log: Vec<String>,
}

fn link_key() -> Secret32 {
    Secret32::new([3; 32])
}

fn held() -> HeldKey {
    held_of(1)
}

/// The link key of a bundle.
fn held_of(bundle: u32) -> HeldKey {
    HeldKey {
        bundle: BundleId(bundle),
        key_id: LinkKeyId(8 + bundle as u8),
        key: Secret32::new([2 + bundle as u8; 32]),
    }
}

impl World {
    fn new() -> Self {
        Self::with_memory(MEMORY)
    }

    fn with_memory(bytes: usize) -> Self {
        let mut pipeline = Pipeline::new(DatagramBytes::new(DATAGRAM).unwrap(), bytes);
        pipeline.handle_keys(Mono(0), vec![held()], ISSUED);
        Self {
            pipeline,
            now: Mono(1_000_000),
            session: EpochKey::derive(&link_key(), SessionId::from_bytes([1; 8]), Epoch::FIRST),
            key_id: LinkKeyId(9),
            counter: 0,
            disk: BTreeMap::new(),
            inbox: BTreeMap::new(),
            beacons: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The process ends in order and another begins with what is on disk.
    fn restart(&mut self, memory: usize) {
        self.pipeline.assembler.handle_stop();
        self.perform();
        self.kill(memory);
    }

    /// The process is gone; another begins with what is on disk.
    fn kill(&mut self, memory: usize) {
        let fresh = Self::with_memory(memory);
        self.pipeline = fresh.pipeline;
        for (serial, container) in self.inbox.keys() {
            self.pipeline
                .assembler
                .restore_completed(*serial, container);
        }
        for (set, found) in self.disk.clone() {
            let parts = found
                .parts
                .iter()
                .map(|(block, symbols)| (*block, symbols.len() as u16));
            let done = found.blocks.keys().copied();
            self.pipeline
                .assembler
                .restore_set(set, done, parts)
                .unwrap();
        }
        self.perform();
    }

    fn new_session(&mut self, first: u8) {
        self.session =
            EpochKey::derive(&link_key(), SessionId::from_bytes([first; 8]), Epoch::FIRST);
        self.counter = 0;
    }

    /// From here on the sender, or a thief, seals with the link key of this bundle.
    fn seal_with(&mut self, bundle: u32) {
        let held = held_of(bundle);
        self.session = EpochKey::derive(
            &held.key,
            SessionId::from_bytes([bundle as u8; 8]),
            Epoch::FIRST,
        );
        self.key_id = held.key_id;
    }

    /// The keys of these bundles are in force.
    fn keys_in_force(&mut self, bundles: &[u32]) {
        let keys = bundles.iter().map(|bundle| held_of(*bundle)).collect();
        self.pipeline.handle_keys(self.now, keys, ISSUED);
        self.perform();
    }

    fn sealed(&mut self, inner: &InnerHeader, payload: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; DATAGRAM.into()];
        datagram[PAYLOAD_OFFSET..][..payload.len()].copy_from_slice(payload);
        let session = self.session.session();
        let clear = ClearHeader {
            key_id: self.key_id,
            counter: self.counter,
            session,
        };
        self.counter += 1;
        seal(&self.session, &clear, inner, &mut datagram);
        datagram
    }

    fn handle(&mut self, mut datagram: Vec<u8>) {
        let before = self.pipeline.tally().total();
        self.pipeline.handle_datagram(self.now, &mut datagram);
        assert_eq!(
            self.pipeline.tally().total(),
            before + 1,
            "a datagram moves one counter"
        );
        self.perform();
    }

    fn send(&mut self, cut: &Cut, which: (u32, u16)) {
        let datagram = self.sealed(&InnerHeader::Symbol(cut.header(which)), cut.symbol(which));
        self.handle(datagram);
    }

    fn send_all(&mut self, cut: &Cut, which: &[(u32, u16)]) {
        which.iter().for_each(|which| self.send(cut, *which));
    }

    fn send_beacon(&mut self, beacon: &Beacon) {
        let mut payload = [0; S as usize];
        beacon.encode(&mut payload);
        let datagram = self.sealed(&InnerHeader::Beacon, &payload);
        self.handle(datagram);
    }

    fn advance(&mut self, us: u64) {
        self.now = self.now.plus_us(us);
        self.pipeline.assembler.handle_time(self.now);
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(effect) = self.pipeline.poll_effect() {
            self.perform_one(effect);
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        let assembler = &mut self.pipeline.assembler;
        match effect {
            Effect::Restore { set, block } => {
                self.log.push(format!("restore {} {block}", set.serial));
                let symbols = self.disk[&set].parts[&block].clone();
                for (index, symbol) in symbols {
                    assembler.handle_restored(self.now, &set, block, index, &symbol);
                }
                assembler.handle_restore_done(&set, block);
            }
            Effect::Spill { set, buffer } => {
                let block = buffer.shape().number;
                self.log.push(format!(
                    "spill {} {block} {}",
                    set.serial,
                    buffer.held_count()
                ));
                let symbols = buffer
                    .symbols()
                    .map(|(index, symbol)| (index, symbol.to_vec()));
                let parts = &mut self.disk.entry(set).or_default().parts;
                parts.insert(block, symbols.collect());
                assembler.offer(buffer);
            }
            Effect::Write {
                set,
                block,
                spilled,
            } => {
                let number = block.shape().number;
                self.log.push(format!("write {} {number}", set.serial));
                let on_disk = self.disk.entry(set).or_default();
                on_disk.blocks.insert(number, block.bytes().to_vec());
                let part = on_disk.parts.remove(&number);
                assert_eq!(part.is_some(), spilled == Spilled::Yes);
                assembler.recycle(block);
            }
            Effect::Prefix { set, bytes } => {
                let there: usize = self.disk[&set].blocks.values().map(Vec::len).sum();
                assert!(bytes <= there as u64);
            }
            Effect::FinishFile { set } => {
                let bytes = self.disk[&set].blocks.values().flatten().copied().collect();
                self.finish(set, bytes);
            }
            Effect::FinishBlock { set, block } => {
                let bytes = block.bytes().to_vec();
                assembler.recycle(block);
                self.finish(set, bytes);
            }
            Effect::Forget { set, cause } => {
                self.log.push(format!("forget {} {cause:?}", set.serial));
                self.disk.remove(&set);
            }
            Effect::Beacon(writing) => self.beacons.push(match writing {
                Writing::Beacon(beacon) => Some(Beacon::decode(&beacon.payload).unwrap()),
                Writing::Nothing => None,
            }),
        }
    }

    fn finish(&mut self, set: SetId, bytes: Vec<u8>) {
        assert_eq!(bytes.len() as u64, set.geometry.container_bytes());
        let mut hasher = ContainerHasher::default();
        hasher.update(&bytes);
        let verdict = hasher.verdict(&set.container);
        if verdict != crate::steps::reassemble::Verdict::Poisoned {
            let before = self.inbox.insert((set.serial, set.container), bytes);
            assert!(before.is_none(), "a container is completed once");
        }
        self.pipeline
            .assembler
            .handle_finished(&set, Finished::Judged(verdict));
    }

    fn has(&self, cut: &Cut) -> bool {
        let found = self.inbox.get(&(cut.set.serial, cut.set.container));
        found
            .inspect(|bytes| assert_eq!(**bytes, cut.bytes))
            .is_some()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.pipeline.tally().dropped.of(reason)
    }
}

fn large(serial: u64) -> Cut {
    // 188 symbols in ten blocks of 19 and 18.
    Cut::new(serial, 10_700, Codec::Rs16, 20, 10)
}

fn small(serial: u64) -> Cut {
    // One block of 36 symbols.
    Cut::new(serial, 1_024, Codec::Rs8, 40, 20)
}

#[test]
fn out_of_order_and_duplicated_symbols_rebuild_each_container_once() {
    for seed in 1..20 {
        let (mut world, mut noise) = (World::new(), Noise(seed));
        let cuts = [large(1), small(2), large(3)];
        let mut order: Vec<(usize, (u32, u16))> = Vec::new();
        for (place, cut) in cuts.iter().enumerate() {
            order.extend(cut.all().into_iter().map(|which| (place, which)));
            order.extend(cut.source().into_iter().map(|which| (place, which)));
        }
        noise.shuffle(&mut order);
        for (place, which) in order {
            world.send(&cuts[place], which);
        }
        assert!(cuts.iter().all(|cut| world.has(cut)), "seed {seed}");
        assert!(world.disk.is_empty());
        assert_eq!(world.pipeline.assembler.collection().sets().count(), 0);
        assert_eq!(
            world.pipeline.assembler.collection().counters().completed,
            3
        );
    }
}

#[test]
fn any_k_symbols_of_each_block_are_enough_and_one_less_is_not() {
    for seed in 1..20 {
        for cut in [large(1), small(1)] {
            let (mut world, mut noise) = (World::new(), Noise(seed));
            let mut left = Vec::new();
            for (block, symbols) in (0..).zip(&cut.blocks) {
                let mut indices: Vec<u16> = (0..symbols.len() as u16).collect();
                noise.shuffle(&mut indices);
                let k = usize::from(cut.set.geometry.block(block).unwrap().k);
                left.extend(indices[..k].iter().map(|index| (block, *index)));
            }
            noise.shuffle(&mut left);
            let last = left.pop().unwrap();
            world.send_all(&cut, &left);
            assert!(!world.has(&cut));
            world.send(&cut, last);
            assert!(world.has(&cut));
        }
    }
}

#[test]
fn symbols_pool_over_passes_sessions_and_restarts() {
    let (mut world, mut noise) = (World::new(), Noise(5));
    let cuts = [large(1), small(2)];
    let mut passes = 0;
    while !cuts.iter().all(|cut| world.has(cut)) {
        passes += 1;
        for cut in &cuts {
            let third: Vec<_> = cut
                .all()
                .into_iter()
                .filter(|_| noise.below(4) == 0)
                .collect();
            world.send_all(cut, &third);
        }
        world.new_session(passes);
        world.restart(MEMORY);
        assert!(passes < 10, "a quarter of the symbols each time");
    }
    assert!(passes > 1 && world.disk.is_empty());
}

#[test]
fn a_killed_process_loses_only_what_was_not_quiet_yet() {
    let (mut world, cut) = (World::new(), large(1));
    let source = cut.source();
    let (first, rest) = source.split_at(100);
    world.send_all(&cut, first);
    world.advance(2_000_000);
    world.kill(MEMORY);
    world.send_all(&cut, rest);
    assert!(world.has(&cut));
}

#[test]
fn a_whole_set_that_was_not_finished_is_finished_by_the_next_process() {
    let (mut world, cut) = (World::new(), large(1));
    let (last, most) = cut
        .source()
        .split_last()
        .map(|(last, most)| (*last, most.to_vec()))
        .unwrap();
    world.send_all(&cut, &most);
    let datagram = world.sealed(&InnerHeader::Symbol(cut.header(last)), cut.symbol(last));
    world
        .pipeline
        .handle_datagram(world.now, &mut datagram.clone());
    while let Some(effect) = world.pipeline.poll_effect() {
        if !matches!(effect, Effect::FinishFile { .. }) {
            world.perform_one(effect);
        }
    }
    assert!(!world.has(&cut));
    world.kill(MEMORY);
    assert!(world.has(&cut));
}

#[test]
fn later_passes_and_replays_of_a_completed_container_are_not_rebuilt() {
    let (mut world, cut) = (World::new(), large(1));
    world.send_all(&cut, &cut.source());
    let kept = world.pipeline.tally().symbols;
    for restart in [false, true] {
        if restart {
            world.restart(MEMORY);
        }
        let before = world.dropped(DropReason::Completed);
        world.send_all(&cut, &cut.all());
        assert_eq!(
            world.dropped(DropReason::Completed) - before,
            cut.all().len() as u64
        );
        assert_eq!(world.pipeline.assembler.collection().sets().count(), 0);
    }
    assert_eq!(kept, cut.source().len() as u64);
    assert_eq!(world.inbox.len(), 1);
}

#[test]
fn a_poisoned_set_is_discarded_whole_and_the_true_container_still_arrives() {
    for cut in [large(1), small(1)] {
        let mut world = World::new();
        let forged = cut.forged();
        // The thief's symbol comes first, so that the true one in its place is a duplicate.
        world.send(&forged, (0, 0));
        world.send_all(&cut, &cut.source());
        assert!(!world.has(&cut));
        assert_eq!(world.pipeline.assembler.collection().counters().poisoned, 1);
        assert_eq!(
            (
                world.disk.len(),
                world.pipeline.assembler.collection().sets().count()
            ),
            (0, 0)
        );
        // The next pass.
        world.send_all(&cut, &cut.source());
        assert!(world.has(&cut));
    }
}

#[test]
fn a_thief_of_the_link_key_can_neither_burn_a_serial_nor_block_it() {
    let (mut world, cut) = (World::new(), large(1));
    // The thief completes other containers under the serial, more than are remembered.
    for padded in 2_000..2_010 {
        let own = Cut::new(1, padded, Codec::Rs16, 20, 10);
        world.send_all(&own, &own.source());
        assert!(world.has(&own));
    }
    // He begins others, between all of the true symbols.
    let own: Vec<Cut> = (3_000..3_003)
        .map(|padded| Cut::new(1, padded, Codec::Rs16, 20, 10))
        .collect();
    for (n, which) in cut.source().into_iter().enumerate() {
        let other = &own[n % own.len()];
        world.send(other, other.all()[n % 60]);
        world.send(&cut, which);
    }
    assert!(world.has(&cut));
}

#[test]
fn a_completed_container_frees_its_other_cuts_at_once_and_no_other_set() {
    let mut world = World::new();
    let cut = large(1);
    let other_cut = Cut::of(1, cut.set.container, cut.bytes.clone(), Codec::Rs8, 30, 6);
    assert_ne!(other_cut.set, cut.set);
    let (other_container, other_serial) = (Cut::new(1, 3_000, Codec::Rs8, 20, 4), large(2));
    for started in [&other_cut, &other_container, &other_serial] {
        // A whole block, on disk, and one symbol of another, in memory.
        let first_block: Vec<_> = started
            .source()
            .into_iter()
            .filter(|at| at.0 == 0)
            .collect();
        world.send_all(started, &first_block);
        world.send(started, (1, 0));
    }
    let disk_before = world.pipeline.assembler.collection().sets().disk_bytes();
    world.send_all(&cut, &cut.source());
    assert!(world.has(&cut));
    let left: Vec<SetId> = world
        .pipeline
        .assembler
        .assembling()
        .map(|one| one.set)
        .collect();
    assert_eq!(left, [other_container.set, other_serial.set]);
    assert!(!world.disk.contains_key(&other_cut.set));
    assert!(world.pipeline.assembler.collection().sets().disk_bytes() < disk_before);
    world.send(&other_cut, (1, 1));
    assert_eq!(world.dropped(DropReason::Completed), 1);
    assert_eq!(
        world.pipeline.assembler.collection().counters().completed,
        1
    );
}

#[test]
fn of_five_sets_of_a_serial_the_one_that_progressed_least_recently_yields() {
    let mut world = World::new();
    let cuts: Vec<Cut> = (0..5)
        .map(|n| Cut::new(1, 10_000 + n, Codec::Rs16, 20, 10))
        .collect();
    for cut in &cuts[..4] {
        world.send(cut, (0, 0));
    }
    world.send(&cuts[0], (0, 1));
    // A duplicate is no progress.
    world.send(&cuts[1], (0, 0));
    world.send(&cuts[4], (0, 0));
    let sets: BTreeSet<SetId> = world
        .pipeline
        .assembler
        .assembling()
        .map(|one| one.set)
        .collect();
    let expected: BTreeSet<SetId> = [0, 2, 3, 4].iter().map(|n| cuts[*n].set).collect();
    assert_eq!(sets, expected);
    assert_eq!(world.pipeline.assembler.collection().counters().yielded, 1);
}

#[test]
fn memory_stays_within_its_bound_and_what_left_it_comes_back() {
    // Room for about four blocks of the hundred.
    let bound = 4 * (20 * 64 + 2048);
    let mut world = World::with_memory(bound);
    let cuts: Vec<Cut> = (1..=10).map(large).collect();
    // Half of each block, block after block, so that every block must leave before it is full.
    for half in 0..2 {
        for cut in &cuts {
            for which in cut
                .source()
                .into_iter()
                .filter(|(_, index)| index % 2 == half)
            {
                world.send(cut, which);
                assert!(world.pipeline.assembler.memory_bytes() <= bound);
            }
        }
    }
    assert!(cuts.iter().all(|cut| world.has(cut)));
    assert!(world.disk.is_empty());
    assert!(world.log.iter().any(|line| line.starts_with("restore")));
    assert_eq!(world.dropped(DropReason::NoMemory), 0);
}

#[test]
fn a_block_that_is_larger_than_all_memory_is_dropped_and_leaves_the_others() {
    let mut world = World::with_memory(8_000);
    let (small, giant) = (small(1), Cut::new(2, 20_000, Codec::Rs16, 400, 10));
    world.send_all(&small, &small.source()[..10]);
    world.send(&giant, (0, 0));
    assert_eq!(world.dropped(DropReason::NoMemory), 1);
    world.send_all(&small, &small.source()[10..]);
    assert!(world.has(&small));
}

#[test]
fn quiet_blocks_go_to_disk_and_busy_ones_stay() {
    let (mut world, cuts) = (World::new(), [small(1), small(2)]);
    world.send(&cuts[0], (0, 0));
    world.advance(1_500_000);
    world.send(&cuts[1], (0, 0));
    assert!(world.disk.is_empty());
    world.advance(500_000);
    assert!(world.disk.contains_key(&cuts[0].set) && !world.disk.contains_key(&cuts[1].set));
    let wakeup = world.pipeline.assembler.next_wakeup().unwrap();
    assert_eq!(wakeup.since_us(world.now), 1_500_000);
    // What is on disk and what is in memory count once each.
    world.send(&cuts[0], (0, 1));
    let have: Vec<u64> = world
        .pipeline
        .assembler
        .assembling()
        .map(|one| one.have_symbols)
        .collect();
    assert_eq!(have, [2, 1]);
}

#[test]
fn a_full_disk_makes_the_least_recent_set_yield_and_refuses_what_can_never_fit() {
    let (mut world, cuts) = (World::new(), [large(1), large(2)]);
    let length = cuts[0].bytes.len() as u64;
    world.pipeline.assembler.handle_room(length + length / 2);
    world.send_all(&cuts[0], &cuts[0].source()[..150]);
    world.send_all(&cuts[1], &cuts[1].source());
    assert!(world.has(&cuts[1]) && !world.disk.contains_key(&cuts[0].set));
    world.pipeline.assembler.handle_room(length - 1);
    world.send(&cuts[0], (0, 0));
    assert_eq!(world.dropped(DropReason::NoDisk), 1);
}

#[test]
fn authentic_absurdities_move_a_counter_and_leave_no_set() {
    let cut = large(1);
    let header = cut.header((0, 0));
    let absurd: [(DropReason, SymbolHeader); 10] = [
        (
            DropReason::SerialForeign,
            SymbolHeader {
                serial: Serial::new(ISSUED + 1).unwrap(),
                ..header
            },
        ),
        (
            DropReason::ContainerLength,
            SymbolHeader {
                container_bytes: 1264,
                ..header
            },
        ),
        (
            DropReason::ContainerLength,
            SymbolHeader {
                container_bytes: (1 << 48) - 1,
                ..header
            },
        ),
        (DropReason::Geometry, SymbolHeader { k_max: 0, ..header }),
        (
            DropReason::Geometry,
            SymbolHeader {
                k_max: 32_769,
                ..header
            },
        ),
        (
            DropReason::Geometry,
            SymbolHeader {
                codec: Codec::Rs8,
                k_max: 250,
                ..header
            },
        ),
        // The smallest blocks have 18 source symbols.
        (
            DropReason::Geometry,
            SymbolHeader {
                m: 8 * 18 + 1,
                ..header
            },
        ),
        (
            DropReason::BlockNumber,
            SymbolHeader {
                block: 10,
                ..header
            },
        ),
        (
            DropReason::SymbolIndex,
            SymbolHeader {
                index: 30,
                ..header
            },
        ),
        // 32 GiB in blocks of one symbol: a bitmap that would fill the memory.
        (
            DropReason::NoMemory,
            SymbolHeader {
                k_max: 1,
                m: 0,
                container_bytes: 1264 + (1 << 35) + (16 << 19),
                block: 7,
                ..header
            },
        ),
    ];
    for (reason, header) in absurd {
        let mut world = World::new();
        let datagram = world.sealed(&InnerHeader::Symbol(header), &[1; 64]);
        world.handle(datagram);
        assert_eq!(world.dropped(reason), 1, "{reason}");
        assert_eq!(
            world.pipeline.assembler.collection().sets().count(),
            0,
            "{reason}"
        );
        assert_eq!(world.pipeline.assembler.memory_bytes(), 0, "{reason}");
    }
}

#[test]
fn padding_of_the_last_symbol_that_is_not_zero_is_dropped_before_it_can_poison() {
    let (mut world, cut) = (World::new(), large(1));
    let last = *cut.source().last().unwrap();
    let mut symbol = cut.symbol(last).to_vec();
    *symbol.last_mut().unwrap() = 1;
    let datagram = world.sealed(&InnerHeader::Symbol(cut.header(last)), &symbol);
    world.handle(datagram);
    assert_eq!(world.dropped(DropReason::NotZero), 1);
    world.send_all(&cut, &cut.source());
    assert!(world.has(&cut));
}

#[test]
fn foreign_and_damaged_datagrams_leave_nothing() {
    let (mut world, cut) = (World::new(), large(1));
    let good = world.sealed(&InnerHeader::Symbol(cut.header((0, 0))), cut.symbol((0, 0)));
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        world.handle(bad);
    }
    world.handle(good[1..].to_vec());
    world.handle(Vec::new());
    assert_eq!(world.dropped(DropReason::Version), 1);
    assert_eq!(world.dropped(DropReason::KeyUnknown), 1);
    assert_eq!(world.dropped(DropReason::Tag), good.len() as u64 - 2);
    assert_eq!(world.dropped(DropReason::Length), 2);
    assert_eq!(world.pipeline.assembler.collection().sets().count(), 0);
    world.handle(good);
    assert_eq!(world.pipeline.tally().symbols, 1);
}

fn beacon(highest: u64, settled: u64, time: u64) -> Beacon {
    let entry = BeaconEntry {
        serial: Serial::new(highest).unwrap(),
        container: ContainerId::from_bytes([1; 12]),
        container_bytes: 2304,
        state: EntryState::OnLink,
    };
    Beacon {
        highest,
        settled,
        lowest_retained: 1,
        sender_time_us: time,
        trust_version: 1,
        entries: [entry]
            .into_iter()
            .filter(|_| Beacon::entries_max(S) > 0)
            .collect(),
    }
}

#[test]
fn a_beacon_is_believed_only_if_it_is_newer_and_names_issued_serials() {
    let mut world = World::new();
    world.send_beacon(&beacon(5, 4, 1_000));
    world.send_beacon(&beacon(4, 4, 2_000));
    world.send_beacon(&beacon(5, 3, 2_000));
    world.send_beacon(&beacon(5, 4, 999));
    assert_eq!(world.dropped(DropReason::BeaconStale), 3);
    world.send_beacon(&beacon(ISSUED + 1, 4, 3_000));
    assert_eq!(world.dropped(DropReason::BeaconForeign), 1);
    assert_eq!(
        (world.pipeline.tally().beacons, world.beacons.len()),
        (1, 1)
    );
}

#[test]
fn a_beacon_of_a_newer_link_key_outbids_the_thief_of_an_older_one() {
    let mut world = World::new();
    world.keys_in_force(&[1, 2]);
    world.send_beacon(&beacon(5, 4, 1_000));
    let stolen = beacon(ISSUED, ISSUED, u64::MAX);
    world.send_beacon(&stolen);
    world.advance(100_000);
    assert_eq!(world.beacons.last(), Some(&Some(stolen.clone())));
    world.send_beacon(&beacon(6, 5, 2_000));
    assert_eq!(world.dropped(DropReason::BeaconStale), 1);
    world.seal_with(2);
    world.send_beacon(&beacon(6, 5, 2_000));
    world.advance(100_000);
    assert_eq!(world.beacons.last(), Some(&Some(beacon(6, 5, 2_000))));
    world.seal_with(1);
    world.send_beacon(&stolen);
    assert_eq!(world.dropped(DropReason::BeaconStale), 2);
    world.advance(2_000_000);
    assert_eq!(world.beacons.last(), Some(&Some(beacon(6, 5, 2_000))));
}

#[test]
fn a_link_key_that_ends_takes_its_beacon_with_it() {
    let mut world = World::new();
    world.keys_in_force(&[1, 2]);
    world.send_beacon(&beacon(ISSUED, ISSUED, u64::MAX));
    world.keys_in_force(&[1, 2]);
    assert_eq!(world.beacons.len(), 1, "nothing has ended");
    world.keys_in_force(&[2]);
    assert_eq!(world.beacons.last(), Some(&None));
    world.seal_with(2);
    world.send_beacon(&beacon(6, 5, 2_000));
    assert_eq!(world.beacons.last(), Some(&Some(beacon(6, 5, 2_000))));
    // What the reader opened before the key ended, and handed over behind the word of its end.
    let mut payload = [0; S as usize];
    beacon(ISSUED, ISSUED, u64::MAX).encode(&mut payload);
    let late = world
        .pipeline
        .assembler
        .handle_beacon(world.now, BundleId(1), &payload);
    assert_eq!(late, Err(DropReason::KeyUnknown));
}

#[test]
fn after_a_restart_it_is_still_known_which_key_verified_the_beacon() {
    let mut payload = [0; S as usize];
    beacon(ISSUED, ISSUED, u64::MAX).encode(&mut payload);
    let written = SignedBeacon {
        bundle: BundleId(1),
        payload: payload.to_vec(),
    };
    let restarted = |in_force: &[u32]| {
        let mut world = World::new();
        let size = DatagramBytes::new(DATAGRAM).unwrap();
        world.pipeline = Pipeline::new(size, MEMORY);
        world.pipeline.assembler.restore_beacon(world.now, &written);
        world.keys_in_force(in_force);
        world
    };
    let mut world = restarted(&[1, 2]);
    world.send_beacon(&beacon(6, 5, 2_000));
    assert_eq!(world.dropped(DropReason::BeaconStale), 1);
    world.seal_with(2);
    world.send_beacon(&beacon(6, 5, 2_000));
    world.advance(1_000_000);
    assert_eq!(world.beacons, [Some(beacon(6, 5, 2_000))]);
    assert_eq!(restarted(&[2]).beacons, [None], "the key ended meanwhile");
}

#[test]
fn a_beacon_is_written_soon_when_it_says_something_new_and_else_once_a_second() {
    let mut world = World::new();
    for n in 0..50 {
        world.send_beacon(&beacon(5, 4, 1_000 + n));
        world.advance(10_000);
    }
    assert_eq!(world.beacons.len(), 1);
    world.send_beacon(&beacon(6, 5, 2_000));
    assert_eq!(world.beacons.len(), 2, "the last one was long ago");
    world.send_beacon(&beacon(7, 5, 2_001));
    assert_eq!(world.beacons.len(), 2, "the last one was just now");
    world.advance(100_000);
    assert_eq!(world.beacons.last(), Some(&Some(beacon(7, 5, 2_001))));
    world.send_beacon(&beacon(7, 5, 2_002));
    world.advance(900_000);
    assert_eq!(world.beacons.len(), 3);
    world.advance(100_000);
    assert_eq!(world.beacons.last(), Some(&Some(beacon(7, 5, 2_002))));
}

#[test]
fn two_runs_from_one_seed_do_the_same() {
    let run = |seed| {
        let (mut world, mut noise) = (World::with_memory(20_000), Noise(seed));
        let cuts: Vec<Cut> = (1..=6).map(large).collect();
        for _ in 0..2_000 {
            let cut = &cuts[noise.below(6) as usize];
            let all = cut.all();
            world.send(cut, all[noise.below(all.len() as u64) as usize]);
            if noise.below(50) == 0 {
                let us = noise.below(1_000_000);
                world.advance(us);
            }
        }
        (world.log, world.inbox)
    };
    let first = run(11);
    assert!(!first.0.is_empty());
    assert_eq!(first, run(11));
}

proptest! {
    #[test]
    fn any_bytes_move_exactly_one_counter(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
        sized in proptest::collection::vec(proptest::array::uniform32(any::<u8>()), 0..20),
    ) {
        let mut world = World::new();
        let count = datagrams.len() + sized.len();
        for bytes in datagrams {
            world.handle(bytes);
        }
        for bytes in sized {
            // Of the right size, with version and key id that pass.
            let mut datagram = bytes.repeat(5);
            datagram.truncate(DATAGRAM.into());
            (datagram[0], datagram[1]) = (2, 9);
            world.handle(datagram);
        }
        prop_assert_eq!(world.pipeline.tally().total(), count as u64);
        prop_assert_eq!(world.pipeline.tally().dropped.total(), count as u64);
    }

    #[test]
    fn any_authentic_bytes_move_exactly_one_counter_and_respect_the_bounds(
        symbols in proptest::collection::vec(
            (1_u64..120, 0_u8..4, 1_u64..5_000, 0_u16..50, 0_u16..50, 0_u32..20, 0_u16..100, any::<bool>()),
            0..60,
        ),
    ) {
        let mut world = World::with_memory(30_000);
        for (serial, id, padded, k_max, m, block, index, rs8) in symbols {
            let header = SymbolHeader {
                codec: if rs8 { Codec::Rs8 } else { Codec::Rs16 },
                pass: 0,
                serial: Serial::new(serial).unwrap(),
                container: ContainerId::from_bytes([id; 12]),
                container_bytes: 1264 + padded + 16 * padded.div_ceil(65_536),
                block,
                index,
                k_max,
                m,
            };
            let datagram = world.sealed(&InnerHeader::Symbol(header), &[0; 64]);
            world.handle(datagram);
            prop_assert!(world.pipeline.assembler.memory_bytes() <= 30_000);
        }
    }
}
