//! Fills a batch: reads symbols from containers into their datagrams, makes repair symbols, seals. A container is read at
//! offsets, a run of symbols or a block at a time, never whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut};

use nix::sys::uio::preadv;
use valise_common::fec::plan::{PassSymbols, pass_symbols};
use valise_common::fec::{BlockShape, Geometry};
use valise_common::ids::Serial;
use valise_common::units::Percent;
use valise_common::wire::{DatagramBytes, PAYLOAD_OFFSET, SetId};

use super::watch::name_of;
use crate::io::outbox::{Outbox, OutboxError};
use crate::pipeline::{Batch, Pipeline, Sealed, Slot};
use crate::stage::chunk::{SourceBlock, symbol_range};
use crate::stage::fec::{RepairKey, Repairs};
use crate::stage::frame::Framer;
use crate::stage::interleave::{Lane, Run};

/// Containers that are open at a time.
const OPEN_MAX: usize = 512;

/// Reads, encodes and seals what a batch names.
pub struct Loader {
    outbox: Outbox,
    datagram: DatagramBytes,
    repair: Percent,
    open: BTreeMap<Serial, OpenContainer>,
    block: SourceBlock,
    repairs: Repairs,
}

struct OpenContainer {
    file: File,
    set: SetId,
}

/// A container could not be read. Its datagrams carry cover instead, and nothing more is asked of it.
#[derive(Debug)]
pub struct Unreadable {
    /// Which.
    pub serial: Serial,
    /// Why; none if gate has deleted it.
    pub error: Option<OutboxError>,
}

impl Loader {
    /// A loader with nothing open.
    pub fn new(outbox: Outbox, datagram: DatagramBytes, repair: Percent) -> Self {
        Self {
            outbox,
            datagram,
            repair,
            open: BTreeMap::new(),
            block: SourceBlock::default(),
            repairs: Repairs::new(),
        }
    }

    /// Makes the datagrams of a batch, one behind the other in `buffer`, which is exactly as long. Returns the containers
    /// that could not be read.
    pub fn fill(
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
    pub fn prepare(&mut self, pipeline: &Pipeline) -> bool {
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
    pub fn close(&mut self, serial: Serial) {
        self.open.remove(&serial);
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
            self.read_symbols(lane, sealed, &shape, source)?;
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
            self.repairs.drop_block(&key(lane));
        }
        Ok(())
    }

    /// Reads consecutive source symbols straight into their datagrams.
    fn read_symbols(
        &mut self,
        lane: &Lane,
        sealed: &Sealed,
        shape: &BlockShape,
        datagrams: &mut [u8],
    ) -> Result<(), ReadError> {
        let datagram_bytes = self.datagram.to_usize();
        let symbol_bytes = usize::from(self.datagram.symbol_bytes());
        let count = datagrams.len() / datagram_bytes;
        let start = u16::try_from(lane.sent).map_err(|_| ReadError::Geometry)?;
        let end = start + u16::try_from(count).map_err(|_| ReadError::Geometry)?;
        let range = symbol_range(&sealed.geometry, shape, start..end);
        let mut left = usize::try_from(range.end - range.start).unwrap_or(0);
        let mut payloads = Vec::with_capacity(count);
        for datagram in datagrams.chunks_exact_mut(datagram_bytes) {
            let payload = &mut datagram[PAYLOAD_OFFSET..PAYLOAD_OFFSET + symbol_bytes];
            let (filled, padding) = payload.split_at_mut(left.min(symbol_bytes));
            left -= filled.len();
            padding.fill(0);
            payloads.push(IoSliceMut::new(filled));
        }
        read_exact(
            &self.container(lane.serial, sealed)?.file,
            &mut payloads,
            range.start,
        )
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
        let symbol_bytes = usize::from(self.datagram.symbol_bytes());
        let nth = usize::try_from(first - lane.source_count).unwrap_or(0);
        let kept = self
            .repairs
            .symbols(&key(lane))
            .ok_or(ReadError::Geometry)?;
        let symbols = kept[nth * symbol_bytes..].chunks_exact(symbol_bytes);
        for (datagram, symbol) in datagrams
            .chunks_exact_mut(self.datagram.to_usize())
            .zip(symbols)
        {
            datagram[PAYLOAD_OFFSET..PAYLOAD_OFFSET + symbol_bytes].copy_from_slice(symbol);
        }
        Ok(())
    }

    fn make_repair(&mut self, lane: &Lane, sealed: &Sealed) -> Result<(), ReadError> {
        let (shape, symbols) = self.shape(lane, &sealed.geometry)?;
        self.container(lane.serial, sealed)?;
        let open = self.open.get(&lane.serial).ok_or(ReadError::Gone)?;
        let (offset, bytes) = self.block.begin(&sealed.geometry, &shape);
        read_exact(&open.file, &mut [IoSliceMut::new(bytes)], offset)?;
        self.repairs
            .encode(key(lane), &sealed.geometry, &shape, &symbols, &self.block);
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
            if self.open.len() >= OPEN_MAX {
                // Those whose symbols are still due are opened again.
                self.open.clear();
            }
            let file = self
                .outbox
                .open(&name_of(sealed), &sealed.geometry)?
                .ok_or(ReadError::Gone)?;
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

fn read_exact(file: &File, slices: &mut [IoSliceMut<'_>], offset: u64) -> Result<(), ReadError> {
    let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    // A regular file is read whole unless it has become shorter, and nobody shortens a sealed container.
    match preadv(file, slices, offset) {
        Ok(bytes) if bytes == wanted => Ok(()),
        Ok(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        Err(errno) => Err(io::Error::from(errno).into()),
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
