//! Effects of the assembler: what the files must do for it, and how sets end.

use valise_common::fec::BlockBuffer;
use valise_common::wire::SetId;

use super::beacons::Writing;
use crate::steps::fec::SourceBlock;
use crate::steps::reassemble::Verdict;

/// What is to be done for the assembler, in this order and before its next input.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Bring an incomplete block's symbols back from disk: hand each to `Assembler::handle_restored`, then call
    /// `Assembler::handle_restore_done`. What is on disk stays until the block is written, or spilled again.
    Restore {
        /// The set.
        set: SetId,
        /// The block.
        block: u32,
    },
    /// Put an incomplete block on disk, in place of what may be there of it; then `Assembler::offer` its memory.
    Spill {
        /// The set.
        set: SetId,
        /// The block's symbols.
        buffer: BlockBuffer,
    },
    /// Write a block of a larger container to its place and note that it is there; then `Assembler::recycle` its memory.
    Write {
        /// The set.
        set: SetId,
        /// The block.
        block: SourceBlock,
        /// Whether symbols of it were spilled: they are to be deleted now.
        spilled: Spilled,
    },
    /// The container is on disk without a hole up to here: a good time to hash it and to push it to the platter.
    Prefix {
        /// The set.
        set: SetId,
        /// Bytes from the beginning.
        bytes: u64,
    },
    /// Every block is on disk: compare the hash, and give the container its place in `inbox/`; then
    /// `Assembler::handle_finished`.
    FinishFile {
        /// The set.
        set: SetId,
    },
    /// A container of one block, whole and never written: compare the hash, and put it into `inbox/`; then
    /// `Assembler::handle_finished` and `Assembler::recycle`.
    FinishBlock {
        /// The set.
        set: SetId,
        /// The container.
        block: SourceBlock,
    },
    /// Delete everything of a set from the disk.
    Forget {
        /// The set.
        set: SetId,
        /// Why.
        cause: Cause,
    },
    /// Write the beacon that `release` reads, or delete it.
    Beacon(Writing),
}

/// The place of an incomplete block's symbols besides memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spilled {
    /// Symbols of it are on disk.
    Yes,
    /// There are none on disk.
    No,
}

/// The reason why a set is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its container is in `inbox/`.
    Completed,
    /// Its hash, or its padding, shows forged symbols.
    Poisoned,
    /// Another set needed the room.
    Yielded,
}

/// The end of a set that was handed out to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finished {
    /// It was judged; an intact one is durable in `inbox/`.
    Judged(Verdict),
    /// There was no room on the disk: the set must be collected again.
    NoDisk,
}

/// How many sets ended in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetCounters {
    /// In `inbox/`.
    pub completed: u64,
    /// Forged or torn, and discarded whole.
    pub poisoned: u64,
    /// Discarded because another set needed the room.
    pub yielded: u64,
}

/// A set that is being collected, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assembling {
    /// The set.
    pub set: SetId,
    /// Symbols that count towards it.
    pub have_symbols: u64,
    /// Symbols that it needs.
    pub need_symbols: u64,
}
