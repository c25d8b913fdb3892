//! Room on the disk for incomplete containers.

use std::io;
use valise_common::limits;

use valise_common::host::folders::ReceiverState;
use valise_common::os::durable::{self, free_bytes};
use valise_common::units::ByteSize;

use super::assemble::Input;
use super::way::Way;

/// The disk, and what the configuration allows of it.
pub(super) struct Room {
    state: ReceiverState,
    spool_bytes_max: u64,
}

impl Room {
    /// Takes the state folder, and the bytes that its inbox and its incomplete containers may have.
    pub(super) fn new(state: ReceiverState, spool_bytes_max: ByteSize) -> Self {
        Self {
            state,
            spool_bytes_max: spool_bytes_max.0,
        }
    }

    /// Tells the assembler how many bytes it may have on disk. If there is no room for the message, the next second will do.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub(super) fn tell(&self, way: &Way) -> io::Result<()> {
        let mut inbox_bytes = 0_u64;
        for entry in durable::list(&self.state.inbox())? {
            // Release takes containers away meanwhile.
            let bytes = entry?.metadata().map_or(0, |metadata| metadata.len());
            inbox_bytes = inbox_bytes.saturating_add(bytes);
        }
        let free = free_bytes(self.state.root())?.saturating_sub(limits::DISK_FREE_BYTES_MIN);
        let by_disk = free.saturating_add(way.shared().assembly().disk_bytes);
        let by_config = self.spool_bytes_max.saturating_sub(inbox_bytes);
        let _ = way.tell(Input::Room(by_disk.min(by_config)));
        Ok(())
    }
}
