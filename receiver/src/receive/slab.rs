//! What passes from the reader to the assembler: a whole receive buffer, with the symbols where they were received.
//!
//! There is a fixed number of slabs. They go round in a circle, so that a datagram costs no allocation, and its payload is
//! copied once: from here to its place in the block.

use valise_common::fec::BlockShape;
use valise_common::ids::BundleId;
use valise_common::wire::{PAYLOAD_OFFSET, SetId};

use crate::spool::link_udp::BUFFER_BYTES;
use crate::steps::deframe::{Frame, Symbol};

/// A receive buffer and what authentic datagrams are in it.
#[derive(Debug)]
pub(super) struct Slab {
    /// The received bytes.
    pub bytes: Box<[u8]>,
    entries: Vec<Entry>,
    sets: Vec<SetId>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    datagram: usize,
    content: Content,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Symbol {
        set: usize,
        block: BlockShape,
        index: u16,
    },
    Beacon(BundleId),
}

/// An authentic datagram of a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived<'s> {
    /// A symbol and its payload.
    Symbol(Symbol, &'s [u8]),
    /// A beacon's payload, and the bundle whose link key verified it.
    Beacon(BundleId, &'s [u8]),
}

impl Slab {
    /// Creates an empty slab.
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BUFFER_BYTES].into_boxed_slice(),
            entries: Vec::new(),
            sets: Vec::new(),
        }
    }

    /// Notes what a datagram that starts at `datagram` carries. Cover is not worth a note.
    pub(super) fn push(&mut self, datagram: usize, frame: &Frame) {
        let content = match frame {
            Frame::Cover => return,
            Frame::Beacon(bundle) => Content::Beacon(*bundle),
            Frame::Symbol(symbol) => {
                if self.sets.last() != Some(&symbol.set) {
                    self.sets.push(symbol.set);
                }
                let (block, index) = (symbol.block, symbol.index);
                Content::Symbol {
                    set: self.sets.len() - 1,
                    block,
                    index,
                }
            }
        };
        self.entries.push(Entry { datagram, content });
    }

    /// Returns whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of symbols and beacons in the slab.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// What is in it, in the order of arrival. Payloads are `symbol_bytes` long.
    pub(super) fn arrived(&self, symbol_bytes: usize) -> impl Iterator<Item = Arrived<'_>> {
        self.entries.iter().filter_map(move |entry| {
            let start = entry.datagram + PAYLOAD_OFFSET;
            let payload = self.bytes.get(start..start + symbol_bytes)?;
            Some(match entry.content {
                Content::Beacon(bundle) => Arrived::Beacon(bundle, payload),
                Content::Symbol { set, block, index } => Arrived::Symbol(
                    Symbol {
                        set: *self.sets.get(set)?,
                        block,
                        index,
                    },
                    payload,
                ),
            })
        })
    }

    /// Forgets what is in it.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.sets.clear();
    }
}

impl Default for Slab {
    fn default() -> Self {
        Self::new()
    }
}
