//! Passes that have been handed to the kernel to their end, until the link is seen to be up afterwards. What still waits in a
//! queue when a carrier goes is gone, and nobody is told.

use std::collections::VecDeque;

use valise_common::units::Mono;

use crate::pipeline::PassEnded;

/// Long enough for a device's queue to empty: the pace keeps it short.
pub(super) const UDP_US: u64 = 100_000;
/// Long enough for a USB hub to report that an adapter was pulled out.
pub(super) const SERIAL_US: u64 = 500_000;

/// The passes, in order.
#[derive(Debug)]
pub(super) struct Settling {
    settle_us: u64,
    ended: VecDeque<(Mono, PassEnded)>,
}

impl Settling {
    /// Creates an empty queue. Each pass settles after this time.
    pub(super) fn new(settle_us: u64) -> Self {
        Self {
            settle_us,
            ended: VecDeque::new(),
        }
    }

    /// Takes a pass whose last datagram has been handed to the kernel.
    pub(super) fn handle_ended(&mut self, now: Mono, ended: PassEnded) {
        self.ended.push_back((now, ended));
    }

    /// Returns the next pass that counts as sent, the link being up at this time.
    pub(super) fn poll_settled(&mut self, up_at: Mono) -> Option<PassEnded> {
        let (ended_at, _) = self.ended.front()?;
        if up_at.since_us(*ended_at) < self.settle_us {
            return None;
        }
        self.ended.pop_front().map(|(_, ended)| ended)
    }

    /// Returns every pass: the process ends, or the link was lost.
    pub(super) fn take_all(&mut self) -> Vec<PassEnded> {
        self.ended.drain(..).map(|(_, ended)| ended).collect()
    }

    /// Returns when the link is to be looked at for the next pass.
    pub(super) fn due_at(&self) -> Option<Mono> {
        let (ended_at, _) = self.ended.front()?;
        Some(ended_at.plus_us(self.settle_us))
    }
}
