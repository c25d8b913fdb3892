//! Thread 1: takes datagrams off the link, opens them where they are, and hands them on. It touches no file.
//!
//! When the threads after it do not keep up, it lets the kernel's buffer take what comes, to about half; then it reads on,
//! and drops and counts what it cannot hand over.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;
use valise_common::limits;

use valise_common::os::clock::{mono_now, utc_now_us};
use valise_common::units::Mono;
use valise_common::wire::{DatagramBytes, DropReason};

use super::assemble::Input;
use super::intake::Intake;
use super::shared::{Event, Shared};
use super::slab::Slab;
use crate::pipeline::Tally;
use crate::spool::link_udp::Train;
use crate::steps::deframe::{Deframer, Frame};

/// The kernel's buffer may fill for so long, whatever its size: any disk is away for a moment now and then.
const PATIENCE_MIN: Duration = Duration::from_millis(50);

/// And no longer than this, so that beacons are heard and counters move.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// The rate of the link is measured over this time.
const WINDOW_US: u64 = 250_000;

/// The reader, and what it keeps between two looks at the link.
pub(super) struct Reader {
    intake: Intake,
    deframer: Deframer,
    /// Slabs that come back.
    free: Receiver<Slab>,
    /// Where they go.
    full: SyncSender<Input>,
    trains: Vec<Train>,
    /// Takes datagrams while every slab is on its way.
    spare: Slab,
    /// Slabs at hand, the one that was used last on top: the cache still has it.
    stack: Vec<Slab>,
    rate: LinkRate,
}

/// How fast datagrams come, and so how long the kernel's buffer lasts.
#[derive(Debug)]
struct LinkRate {
    window_start: Mono,
    window_bytes: u64,
    bytes_per_s: u64,
}

impl LinkRate {
    fn new(now: Mono) -> Self {
        Self {
            window_start: now,
            window_bytes: 0,
            bytes_per_s: 0,
        }
    }

    fn add(&mut self, now: Mono, bytes: usize) {
        self.window_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        let elapsed_us = now.since_us(self.window_start);
        if elapsed_us >= WINDOW_US {
            let rate = self.window_bytes.saturating_mul(1_000_000) / elapsed_us;
            // A window in which the reader waited shows too little: the rate falls slowly.
            self.bytes_per_s = rate.max(self.bytes_per_s / 2);
            (self.window_start, self.window_bytes) = (now, 0);
        }
    }

    /// How long half of a buffer lasts.
    fn patience(&self, buffer_bytes: u64) -> Duration {
        let half = (buffer_bytes / 2).saturating_mul(1_000_000);
        let lasts = Duration::from_micros(half / self.bytes_per_s.max(1));
        lasts.clamp(PATIENCE_MIN, PATIENCE_MAX)
    }
}

impl Reader {
    /// Reads datagrams of this size off the link, into slabs that are `free`, and hands them on.
    pub(super) fn new(
        intake: Intake,
        size: DatagramBytes,
        free: Receiver<Slab>,
        full: SyncSender<Input>,
    ) -> Self {
        Self {
            intake,
            deframer: Deframer::new(size),
            free,
            full,
            trains: Vec::new(),
            spare: Slab::new(),
            stack: Vec::with_capacity(limits::SLABS_MAX),
            rate: LinkRate::new(mono_now()),
        }
    }

    /// Reads until it is told to stop.
    ///
    /// # Errors
    /// If the socket fails.
    pub(super) fn run(mut self, shared: &Shared) -> io::Result<()> {
        loop {
            if shared.stop.load(Ordering::Relaxed) || !self.turn(shared)? {
                return Ok(());
            }
        }
    }

    /// Reads once, and waits a tenth of a second if there is nothing. Returns whether anybody takes what comes.
    ///
    /// # Errors
    /// If the socket fails.
    pub(super) fn turn(&mut self, shared: &Shared) -> io::Result<bool> {
        if shared.keys_changed.swap(false, Ordering::Acquire)
            && let Some((keys, issued_last)) = shared.lock_keys().take()
        {
            self.deframer.handle_keys(keys, issued_last);
        }
        self.stack.extend(self.free.try_iter());
        let buffer_bytes = self.intake.poll();
        shared.set_link(self.intake.state());
        let Some(buffer_bytes) = buffer_bytes else {
            return Ok(true);
        };
        let patience = self.rate.patience(buffer_bytes);
        let slab = self.stack.pop();
        let slab = slab.or_else(|| self.free.recv_timeout(patience).ok());
        let hand_over = slab.is_some();
        let mut slab = slab.unwrap_or_else(|| std::mem::take(&mut self.spare));
        let mut tally = Tally::default();
        self.intake
            .receive(&mut slab.bytes, &mut self.trains, &mut tally.dropped)?;
        let read_bytes = self.trains.iter().map(|train| train.bytes.len()).sum();
        self.rate.add(mono_now(), read_bytes);
        let authentic = open_all(&mut self.deframer, &mut slab, &self.trains, &mut tally);
        while let Some(bundle) = self.deframer.poll_newly_verified() {
            shared.tell(Event::KeyVerified(bundle));
        }
        if !hand_over {
            let lost = u64::try_from(slab.count()).unwrap_or(u64::MAX);
            tally.dropped.count_many(DropReason::QueueFull, lost);
            slab.clear();
            self.spare = slab;
        } else if slab.is_empty() {
            self.stack.push(slab);
        } else if self.full.send(Input::Slab(slab)).is_err() {
            // The assembler has ended; whoever ended it tells why.
            return Ok(false);
        }
        let kernel_drops = self.intake.kernel_drops();
        shared.add_read(&tally, kernel_drops, authentic.then(utc_now_us));
        Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_lasts_as_long_as_half_of_the_kernels_buffer() {
        let mut rate = LinkRate::new(Mono(0));
        assert_eq!(rate.patience(256 << 20), PATIENCE_MAX, "nothing comes");
        rate.add(Mono(1_000_000), 400_000_000);
        assert_eq!(rate.patience(256 << 20), Duration::from_micros(335_544));
        assert_eq!(rate.patience(4 << 20), PATIENCE_MIN);
        rate.add(Mono(2_000_000), 0);
        assert_eq!(rate.patience(256 << 20), Duration::from_micros(671_088));
    }
}
