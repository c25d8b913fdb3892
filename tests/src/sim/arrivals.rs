//! What the line really did: which symbols and beacons transmit sent, and which of them arrived as they were.
//!
//! This is no part of the hosts' knowledge. What was sent is opened with the link key; what arrives is compared with it byte by
//! byte. So the simulation knows what receive must be able to rebuild, and what release must know to be missing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use valise_common::ids::LinkKeyId;
use valise_common::limits::TAG_BYTES;
use valise_common::wire::{
    Beacon, DatagramBytes, EntryState, EpochKey, FrameDecoder, InnerHeader, LinkKey,
    PAYLOAD_OFFSET, SetId, open, peek,
};

use super::plan::Link;

/// A stretch of a serial line without a zero that is longer than this is no frame.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// What a datagram held.
#[derive(Debug, Clone)]
enum Content {
    Symbol {
        set: SetId,
        block: u32,
        k: u16,
        index: u16,
        pass: u8,
    },
    Beacon(Box<Beacon>),
}

/// Symbols of a set that have arrived.
#[derive(Debug, Default)]
struct Symbols {
    of_blocks: BTreeMap<u32, BTreeSet<u16>>,
    whole_blocks: BTreeSet<u32>,
}

impl Symbols {
    fn insert(&mut self, block: u32, k: u16, index: u16) {
        let symbols = self.of_blocks.entry(block).or_default();
        symbols.insert(index);
        if symbols.len() >= usize::from(k) {
            self.whole_blocks.insert(block);
        }
    }

    fn is_whole(&self, set: &SetId) -> bool {
        u64::try_from(self.whole_blocks.len()) == Ok(set.geometry.block_count())
    }
}

/// A set, as far as it arrived.
#[derive(Debug, Default)]
struct Arrived {
    /// Ever.
    ever: Symbols,
    /// Since receive or release was last hindered.
    lately: Symbols,
    whole_at_us: Option<u64>,
}

/// Splits a serial line at its zeros.
#[derive(Debug, Default)]
struct Pieces(Vec<u8>);

impl Pieces {
    fn feed(&mut self, bytes: &[u8], mut handle: impl FnMut(&[u8])) {
        for byte in bytes {
            match byte {
                0 if self.0.is_empty() => {}
                0 => handle(&std::mem::take(&mut self.0)),
                _ if self.0.len() >= PIECE_BYTES_MAX => {}
                byte => self.0.push(*byte),
            }
        }
    }
}

/// What the line did.
pub struct Arrivals {
    link: Link,
    keys: Vec<(LinkKeyId, LinkKey)>,
    derived: Vec<EpochKey>,
    /// Contents by the hashes of datagrams, or of frames between their zeros.
    sent: HashMap<[u8; 32], Content>,
    sent_pieces: Pieces,
    arrived_pieces: Pieces,
    /// Symbols of each set that were sent, by pass and block.
    passes: BTreeMap<SetId, BTreeMap<(u8, u32), BTreeSet<u16>>>,
    arrived: BTreeMap<SetId, Arrived>,
    /// Serials that were whole before receive or release was hindered.
    whole_before: BTreeSet<u64>,
    newest: Option<Beacon>,
    /// Serials that the newest beacon calls sent, and since when it has.
    covered: BTreeMap<u64, u64>,
}

impl Arrivals {
    /// Nothing was sent yet.
    pub fn new(link: Link) -> Self {
        Self {
            link,
            keys: Vec::new(),
            derived: Vec::new(),
            sent: HashMap::new(),
            sent_pieces: Pieces::default(),
            arrived_pieces: Pieces::default(),
            passes: BTreeMap::new(),
            arrived: BTreeMap::new(),
            whole_before: BTreeSet::new(),
            newest: None,
            covered: BTreeMap::new(),
        }
    }

    /// Takes a link key that transmit may use.
    pub fn add_key(&mut self, id: LinkKeyId, key: LinkKey) {
        self.keys.push((id, key));
    }

    /// Takes bytes that transmit sent: a datagram, or any stretch of frames.
    pub fn handle_sent(&mut self, bytes: &[u8]) {
        let Link::Serial { .. } = self.link else {
            return self.handle_sent_datagram(hash(bytes), &mut bytes.to_vec());
        };
        let mut pieces = std::mem::take(&mut self.sent_pieces);
        pieces.feed(bytes, |piece| {
            let Some(size) = DatagramBytes::new(self.link.datagram_bytes()) else {
                return;
            };
            let mut datagram = Vec::new();
            let mut decoder = FrameDecoder::new(size);
            for part in [piece, &[0]] {
                decoder.feed(part, |frame| {
                    if let Ok(frame) = frame {
                        datagram = frame.to_vec();
                    }
                });
            }
            self.handle_sent_datagram(hash(piece), &mut datagram);
        });
        self.sent_pieces = pieces;
    }

    fn handle_sent_datagram(&mut self, hash: [u8; 32], datagram: &mut [u8]) {
        let Some(content) = self.open(datagram) else {
            return;
        };
        if let Content::Symbol {
            set,
            block,
            index,
            pass,
            ..
        } = &content
        {
            let passes = self.passes.entry(*set).or_default();
            passes.entry((*pass, *block)).or_default().insert(*index);
        }
        self.sent.insert(hash, content);
    }

    fn open(&mut self, datagram: &mut [u8]) -> Option<Content> {
        let size = DatagramBytes::new(self.link.datagram_bytes())?;
        let clear = peek(datagram, size).ok()?;
        if !self.derived.iter().any(|key| key.is_for(&clear)) {
            for (_, key) in self.keys.iter().filter(|(id, _)| *id == clear.key_id) {
                let key = EpochKey::derive(key, clear.session, clear.epoch());
                self.derived.push(key);
            }
        }
        let keys = self.derived.iter().filter(|key| key.is_for(&clear));
        for key in keys {
            let mut opened = datagram.to_vec();
            let Ok((_, inner)) = open(key, &mut opened) else {
                continue;
            };
            return match inner {
                InnerHeader::Cover => None,
                InnerHeader::Beacon => {
                    let payload = &opened[PAYLOAD_OFFSET..opened.len() - TAG_BYTES];
                    let beacon = Beacon::decode(payload).ok()?;
                    Some(Content::Beacon(Box::new(beacon)))
                }
                InnerHeader::Symbol(header) => {
                    let (set, block) = header.check(size.symbol_bytes()).ok()?;
                    Some(Content::Symbol {
                        set,
                        block: block.number,
                        k: block.k,
                        index: header.index,
                        pass: header.pass,
                    })
                }
            };
        }
        None
    }

    /// Takes bytes that receive is given.
    pub fn handle_arrived(&mut self, now_us: u64, bytes: &[u8]) {
        let Link::Serial { .. } = self.link else {
            return self.handle_arrived_hash(now_us, hash(bytes));
        };
        let mut pieces = std::mem::take(&mut self.arrived_pieces);
        pieces.feed(bytes, |piece| self.handle_arrived_hash(now_us, hash(piece)));
        self.arrived_pieces = pieces;
    }

    fn handle_arrived_hash(&mut self, now_us: u64, hash: [u8; 32]) {
        match self.sent.get(&hash) {
            None => {}
            Some(Content::Symbol {
                set,
                block,
                k,
                index,
                ..
            }) => {
                let arrived = self.arrived.entry(*set).or_default();
                arrived.ever.insert(*block, *k, *index);
                arrived.lately.insert(*block, *k, *index);
                if arrived.lately.is_whole(set) {
                    arrived.whole_at_us.get_or_insert(now_us);
                }
            }
            Some(Content::Beacon(beacon)) => {
                let beacon = Beacon::clone(beacon);
                self.handle_beacon(now_us, beacon);
            }
        }
    }

    fn handle_beacon(&mut self, now_us: u64, beacon: Beacon) {
        if let Some(newest) = &self.newest
            && !beacon.supersedes(newest)
        {
            return;
        }
        let mut covered: BTreeSet<u64> = (1..=beacon.settled).collect();
        for entry in &beacon.entries {
            match entry.state {
                EntryState::PassesDone => covered.insert(entry.serial.get()),
                EntryState::NotSent => covered.remove(&entry.serial.get()),
                EntryState::Queued | EntryState::OnLink => false,
            };
        }
        self.covered.retain(|serial, _| covered.contains(serial));
        for serial in covered {
            self.covered.entry(serial).or_insert(now_us);
        }
        self.newest = Some(beacon);
    }

    /// Receive or release was killed, stopped, or could not do what it wanted: what arrived before may have to come again.
    pub fn forget_arrived(&mut self) {
        for (set, arrived) in &mut self.arrived {
            if arrived.ever.is_whole(set) {
                self.whole_before.insert(set.serial.get());
            }
            arrived.lately = Symbols::default();
            arrived.whole_at_us = None;
        }
        self.covered.clear();
        self.arrived_pieces = Pieces::default();
    }

    /// The serials of which enough has arrived, and since when. Not those of which it had before a hindrance: release may have
    /// the container, and wait for room or for a disk that reads.
    pub fn whole(&self) -> impl Iterator<Item = (u64, u64)> {
        let whole =
            |(set, arrived): (&SetId, &Arrived)| Some((set.serial.get(), arrived.whole_at_us?));
        self.arrived.iter().filter_map(whole)
    }

    /// The serials that the newest beacon calls sent, and since when it has.
    pub fn covered(&self) -> impl Iterator<Item = (u64, u64)> {
        self.covered.iter().map(|(serial, at_us)| (*serial, *at_us))
    }

    /// Returns whether so many passes of a serial have been sent, each with every source symbol and a quarter more of every
    /// block.
    pub fn is_sent(&self, serial: u64, passes: u8) -> bool {
        let mut sets = self.passes.iter();
        sets.any(|(set, sent)| {
            set.serial.get() == serial
                && set.geometry.blocks().all(|block| {
                    (0..passes).all(|pass| {
                        let sent = sent.get(&(pass, block.number)).map_or(0, BTreeSet::len);
                        sent >= usize::from(block.k) + usize::from(block.k).div_ceil(4)
                    })
                })
        })
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}
