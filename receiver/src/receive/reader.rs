//! Thread 1: takes datagrams off the link, opens them where they are, and hands them on. It touches no file.
//!
//! When the threads behind it do not keep up, it lets the kernel's buffer fill for a moment; then it reads on, and drops
//! and counts what it cannot hand over.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use valise_common::os::clock::utc_now_us;
use valise_common::wire::{DatagramBytes, DropReason};

use super::assemble::Input;
use super::shared::{Event, Shared};
use super::slab::Slab;
use crate::io::link_udp::{Train, UdpLink};
use crate::pipeline::Tally;
use crate::stage::deframe::{Deframer, Frame};

/// How long the kernel's buffer may fill before the reader drops what it cannot hand over.
const PATIENCE: Duration = Duration::from_millis(50);

/// The reader's end of everything.
pub struct Reader {
    /// The link.
    pub link: UdpLink,
    /// The size of its datagrams.
    pub size: DatagramBytes,
    /// Slabs that come back.
    pub free: Receiver<Slab>,
    /// Where they go.
    pub full: SyncSender<Input>,
}

impl Reader {
    /// Reads until it is told to stop.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn run(mut self, shared: &Shared) -> io::Result<()> {
        let mut deframer = Deframer::new(self.size);
        let mut trains = Vec::new();
        // Where datagrams are read to while every slab is on its way.
        let mut spare = Slab::new();
        let mut kept: Option<Slab> = None;
        while !shared.stop.load(Ordering::Relaxed) {
            if shared.keys_changed.swap(false, Ordering::Acquire)
                && let Some((keys, issued_last)) = shared.lock_keys().take()
            {
                deframer.handle_keys(keys, issued_last);
            }
            let slab = kept.take().or_else(|| self.free_slab());
            let hand_over = slab.is_some();
            let mut slab = slab.unwrap_or_else(|| std::mem::take(&mut spare));
            self.link.receive(&mut slab.bytes, &mut trains)?;
            let mut tally = Tally::default();
            let authentic = open_all(&mut deframer, &mut slab, &trains, &mut tally);
            if let Some(bundle) = deframer.poll_newly_verified() {
                shared.tell(Event::KeyVerified(bundle));
            }
            if !hand_over {
                let lost = u64::try_from(slab.count()).unwrap_or(u64::MAX);
                tally.dropped.count_many(DropReason::QueueFull, lost);
                slab.clear();
                spare = slab;
            } else if slab.is_empty() {
                kept = Some(slab);
            } else if self.full.send(Input::Slab(slab)).is_err() {
                // The assembler has ended; whoever ended it tells why.
                return Ok(());
            }
            shared.add_read(&tally, self.link.kernel_drops(), authentic.then(utc_now_us));
        }
        Ok(())
    }

    fn free_slab(&self) -> Option<Slab> {
        self.free.recv_timeout(PATIENCE).ok()
    }
}

/// Opens every datagram and notes what is in it. Tells whether any was authentic.
fn open_all(deframer: &mut Deframer, slab: &mut Slab, trains: &[Train], tally: &mut Tally) -> bool {
    let mut authentic = false;
    for train in trains {
        let (mut start, end) = (train.bytes.start, train.bytes.end);
        loop {
            // An empty message is a datagram, too: one of the wrong size.
            let next = end.min(start + train.datagram_bytes.max(1));
            match deframer.handle_datagram(&mut slab.bytes[start..next]) {
                Ok(frame) => {
                    authentic = true;
                    if frame == Frame::Cover {
                        tally.covers += 1;
                    }
                    slab.push(start, &frame);
                }
                Err(reason) => tally.dropped.count(reason),
            }
            start = next;
            if start >= end {
                break;
            }
        }
    }
    authentic
}
