//! Fills a batch: reads symbols from containers into their datagrams, makes repair symbols, seals. A container is read at
//! offsets, a block at a time, never whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use valise_common::limits;

use valise_common::fec::plan::{PassSymbols, pass_symbols};
use valise_common::fec::{BlockShape, Geometry};
use valise_common::ids::Serial;
use valise_common::units::Percent;
use valise_common::wire::{DatagramBytes, PAYLOAD_OFFSET, SetId};

use super::check::compare_now;
use super::watch::name_of;
use crate::pipeline::{Batch, Pipeline, Sealed, Slot};
use crate::spool::outbox::{Outbox, OutboxError};
use crate::steps::chunk::{BlockKey, SourceBlocks};
use crate::steps::fec::{RepairKey, Repairs};
use crate::steps::frame::Framer;
use crate::steps::interleave::{Lane, Run};

/// Reads, encodes and seals what a batch names.
pub(super) struct Loader {
    outbox: Outbox,
    datagram: DatagramBytes,
    repair: Percent,
    open: BTreeMap<Serial, OpenContainer>,
    blocks: SourceBlocks,
    repairs: Repairs,
}

struct OpenContainer {
    file: File,
    set: SetId,
}

/// A container could not be read. Its datagrams carry cover instead, and nothing more is asked of it.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// Which.
    pub serial: Serial,
    /// Why; none if gate has deleted it.
    pub error: Option<OutboxError>,
}

impl Loader {
    /// Creates a loader with nothing open.
    pub(super) fn new(outbox: Outbox, datagram: DatagramBytes, repair: Percent) -> Self {
        Self {
            outbox,
            datagram,
            repair,
            open: BTreeMap::new(),
            blocks: SourceBlocks::default(),
            repairs: Repairs::default(),
        }
    }

    /// Makes the datagrams of a batch, one after the other in `buffer`, which is exactly as long. Returns the containers
    /// that could not be read.
    pub(super) fn fill(
        &mut self,
        batch: &Batch,
        pipeline: &Pipeline,
        framer: &mut Framer,
        mut buffer: &mut [u8],
    ) -> Vec<Unreadable> {
        let mut unreadable: Vec<Unreadable> = Vec::new();
        let datagram_bytes = self.datagram.to_usize();
        for slot in batch.slots() {
            let count = usize::try_from(slot.count()).unwrap_or(usize::MAX);
            let (datagrams, rest) = buffer.split_at_mut(count * datagram_bytes);
            buffer = rest;
            match slot {
                Slot::Cover(_) => self.cover(framer, datagrams),
                Slot::Beacon(beacon) => framer.beacon(beacon, datagrams),
                Slot::Symbols(run) => {
                    let serial = run.lane.serial;
                    let known_bad = unreadable.iter().any(|one| one.serial == serial);
                    match pipeline.sealed(serial) {
                        Some(sealed) if !known_bad => {
                            if let Err(error) = self.symbols(run, sealed, framer, datagrams) {
                                self.cover(framer, datagrams);
                                unreadable.push(Unreadable {
                                    serial,
                                    error: error.into_cause(),
                                });
                            }
                        }
                        _ => self.cover(framer, datagrams),
                    }
                }
            }
        }
        assert!(buffer.is_empty(), "a batch fills its buffer");
        unreadable
    }

    /// Makes the repair symbols of one block ahead of their turn. Tells whether there was one to do.
    pub(super) fn prepare(&mut self, pipeline: &Pipeline) -> bool {
        if !self.repairs.has_room() {
            return false;
        }
        let lacks =
            |lane: &&Lane| lane.repair_count > 0 && self.repairs.symbols(&key(lane)).is_none();
        let Some(lane) = pipeline.lanes().find(lacks) else {
            return false;
        };
        let Some(sealed) = pipeline.sealed(lane.serial) else {
            return false;
        };
        // A container that cannot be read is told when its symbols are due.
        self.make_repair(lane, sealed).is_ok()
    }

    /// Closes a container: its pass has ended, or gate has deleted it.
    pub(super) fn close(&mut self, serial: Serial) {
        self.open.remove(&serial);
        self.blocks.drop_container(serial);
        self.repairs.drop_container(serial);
    }

    fn cover(&self, framer: &mut Framer, datagrams: &mut [u8]) {
        for datagram in datagrams.chunks_exact_mut(self.datagram.to_usize()) {
            framer.cover(datagram);
        }
    }

    fn symbols(
        &mut self,
        run: &Run,
        sealed: &Sealed,
        framer: &mut Framer,
        datagrams: &mut [u8],
    ) -> Result<(), ReadError> {
        let (lane, geometry) = (&run.lane, &sealed.geometry);
        let (shape, symbols) = self.shape(lane, geometry)?;
        let source_end = (lane.sent + run.count).min(u32::from(shape.k));
        let source_count = source_end.saturating_sub(lane.sent);
        let split = usize::try_from(source_count).unwrap_or(0) * self.datagram.to_usize();
        let (source, repair) = datagrams.split_at_mut(split);
        if !source.is_empty() {
            self.copy_source(lane, sealed, &shape, source)?;
        }
        if !repair.is_empty() {
            self.copy_repair(lane, sealed, lane.sent + source_count, repair)?;
        }
        let set = SetId {
            serial: lane.serial,
            container: sealed.container,
            geometry: *geometry,
        };
        let datagrams = datagrams.chunks_exact_mut(self.datagram.to_usize());
        for (n, datagram) in (lane.sent..).zip(datagrams) {
            let index = symbols.index(n).ok_or(ReadError::Geometry)?;
            framer.symbol(&set, lane.pass, &shape, index, datagram);
        }
        if run.ends_lane() {
            self.blocks.drop_block(block_key(lane));
            self.repairs.drop_block(&key(lane));
        }
        Ok(())
    }

    /// Copies consecutive source symbols into their datagrams.
    fn copy_source(
        &mut self,
        lane: &Lane,
        sealed: &Sealed,
        shape: &BlockShape,
        datagrams: &mut [u8],
    ) -> Result<(), ReadError> {
        self.read_block(lane, sealed, shape)?;
        let symbols = self
            .blocks
            .symbols(block_key(lane))
            .ok_or(ReadError::Geometry)?;
        self.copy(symbols, lane.sent, datagrams);
        Ok(())
    }

    fn copy_repair(
        &mut self,
        lane: &Lane,
        sealed: &Sealed,
        first: u32,
        datagrams: &mut [u8],
    ) -> Result<(), ReadError> {
        if self.repairs.symbols(&key(lane)).is_none() {
            self.make_repair(lane, sealed)?;
        }
        // The source symbols have left, and the repair symbols are made.
        self.blocks.drop_block(block_key(lane));
        let kept = self
            .repairs
            .symbols(&key(lane))
            .ok_or(ReadError::Geometry)?;
        self.copy(kept, first - lane.source_count, datagrams);
        Ok(())
    }

    /// Copies symbols, from the n-th on, into datagrams.
    fn copy(&self, symbols: &[u8], n: u32, datagrams: &mut [u8]) {
        let symbol_bytes = usize::from(self.datagram.symbol_bytes());
        let skipped = usize::try_from(n).unwrap_or(usize::MAX) * symbol_bytes;
        let symbols = symbols[skipped..].chunks_exact(symbol_bytes);
        for (datagram, symbol) in datagrams
            .chunks_exact_mut(self.datagram.to_usize())
            .zip(symbols)
        {
            datagram[PAYLOAD_OFFSET..PAYLOAD_OFFSET + symbol_bytes].copy_from_slice(symbol);
        }
    }

    fn make_repair(&mut self, lane: &Lane, sealed: &Sealed) -> Result<(), ReadError> {
        let (shape, symbols) = self.shape(lane, &sealed.geometry)?;
        self.read_block(lane, sealed, &shape)?;
        let source = self
            .blocks
            .symbols(block_key(lane))
            .ok_or(ReadError::Geometry)?;
        self.repairs
            .encode(key(lane), &sealed.geometry, &shape, &symbols, source);
        Ok(())
    }

    /// Reads a block of the container, unless it is in memory.
    fn read_block(
        &mut self,
        lane: &Lane,
        sealed: &Sealed,
        shape: &BlockShape,
    ) -> Result<(), ReadError> {
        if self.blocks.symbols(block_key(lane)).is_some() {
            return Ok(());
        }
        let mut block = self.blocks.spare(sealed.geometry.source_bytes(shape));
        let (offset, bytes) = block.begin(&sealed.geometry, shape);
        self.container(lane.serial, sealed)?
            .file
            .read_exact_at(bytes, offset)?;
        self.blocks.keep(block_key(lane), block);
        Ok(())
    }

    fn shape(
        &self,
        lane: &Lane,
        geometry: &Geometry,
    ) -> Result<(BlockShape, PassSymbols), ReadError> {
        let shape = geometry.block(lane.block).ok_or(ReadError::Geometry)?;
        Ok((shape, pass_symbols(&shape, self.repair, lane.pass)))
    }

    fn container(&mut self, serial: Serial, sealed: &Sealed) -> Result<&OpenContainer, ReadError> {
        let set = SetId {
            serial,
            container: sealed.container,
            geometry: sealed.geometry,
        };
        if self.open.get(&serial).is_none_or(|open| open.set != set) {
            if self.open.len() >= limits::CONTAINERS_OPEN_MAX {
                // Those whose symbols are still due are opened again.
                self.open.clear();
            }
            let file = self
                .outbox
                .open(&name_of(sealed), &sealed.geometry)?
                .ok_or(ReadError::Gone)?;
            // Large ones were compared before they came here.
            if sealed.geometry.container_bytes() <= limits::COMPARED_AT_ONCE_BYTES_MAX {
                compare_now(&file, sealed)?;
            }
            self.open.insert(serial, OpenContainer { file, set });
        }
        self.open.get(&serial).ok_or(ReadError::Gone)
    }
}

fn key(lane: &Lane) -> RepairKey {
    RepairKey {
        serial: lane.serial,
        pass: lane.pass,
        block: lane.block,
    }
}

fn block_key(lane: &Lane) -> BlockKey {
    BlockKey {
        serial: lane.serial,
        block: lane.block,
    }
}

enum ReadError {
    Gone,
    Geometry,
    Outbox(OutboxError),
}

impl ReadError {
    fn into_cause(self) -> Option<OutboxError> {
        match self {
            ReadError::Gone => None,
            ReadError::Geometry => Some(io::Error::other("a run beyond its block").into()),
            ReadError::Outbox(error) => Some(error),
        }
    }
}

impl From<OutboxError> for ReadError {
    fn from(error: OutboxError) -> Self {
        ReadError::Outbox(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Outbox(error.into())
    }
}
