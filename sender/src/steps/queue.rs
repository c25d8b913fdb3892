//! Sealed → queue order: which container's pass comes next.
//!
//! Strict precedence between the four classes; within one, first come, first served, counted from when a pass may begin.
//! A second pass waits out the link's burst behind the first, and cables that came in between go before it.

use std::collections::BTreeSet;

use valise_common::ids::Serial;
use valise_common::precedence::Precedence;
use valise_common::units::Mono;

/// Passes that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    classes: [BTreeSet<(Mono, Serial)>; 4],
}

/// Where a pass stands in the queue; needed to take it out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its class.
    pub precedence: Precedence,
    /// When it may begin.
    pub eligible_at: Mono,
    /// Whose pass it is.
    pub serial: Serial,
}

impl Queue {
    /// Adds a pass.
    pub(crate) fn push(&mut self, place: Place) {
        self.class_mut(place.precedence)
            .insert((place.eligible_at, place.serial));
    }

    /// Takes out a pass that will not be sent after all.
    pub(crate) fn remove(&mut self, place: Place) {
        self.class_mut(place.precedence)
            .remove(&(place.eligible_at, place.serial));
    }

    /// Takes the next pass of a class, if one may begin by now.
    pub(crate) fn pop_ready(&mut self, precedence: Precedence, now: Mono) -> Option<Serial> {
        let class = self.class_mut(precedence);
        let first = *class.first()?;
        if first.0 > now {
            return None;
        }
        class.remove(&first);
        Some(first.1)
    }

    /// Returns when the next pass of any class may begin; in the past if it may already.
    pub(crate) fn next_time(&self) -> Option<Mono> {
        self.classes
            .iter()
            .filter_map(|class| class.first())
            .map(|first| first.0)
            .min()
    }

    /// Passes that wait, for each class.
    pub(crate) fn depths(&self) -> [usize; 4] {
        self.classes.each_ref().map(BTreeSet::len)
    }

    fn class_mut(&mut self, precedence: Precedence) -> &mut BTreeSet<(Mono, Serial)> {
        &mut self.classes[usize::from(precedence.index())]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn place(precedence: Precedence, at: u64, serial: u64) -> Place {
        let serial = Serial::new(serial).unwrap();
        Place {
            precedence,
            eligible_at: Mono(at),
            serial,
        }
    }

    #[test]
    fn a_class_serves_in_order_of_eligibility() {
        let mut queue = Queue::default();
        queue.push(place(Precedence::Routine, 30, 1));
        queue.push(place(Precedence::Routine, 10, 7));
        queue.push(place(Precedence::Routine, 10, 5));
        let pop = |queue: &mut Queue, now| queue.pop_ready(Precedence::Routine, Mono(now));
        assert_eq!(pop(&mut queue, 9), None);
        assert_eq!(pop(&mut queue, 29).unwrap().get(), 5);
        assert_eq!(pop(&mut queue, 29).unwrap().get(), 7);
        assert_eq!(pop(&mut queue, 29), None);
        assert_eq!(queue.next_time(), Some(Mono(30)));
        assert_eq!(pop(&mut queue, 30).unwrap().get(), 1);
        assert_eq!(queue.next_time(), None);
    }

    #[test]
    fn classes_are_apart_and_a_pass_can_be_taken_out() {
        let mut queue = Queue::default();
        let flash = place(Precedence::Flash, 0, 2);
        queue.push(flash);
        queue.push(place(Precedence::Priority, 0, 3));
        assert_eq!(queue.depths(), [1, 0, 1, 0]);
        queue.remove(flash);
        assert_eq!(queue.pop_ready(Precedence::Flash, Mono(9)), None);
        assert_eq!(queue.depths(), [0, 0, 1, 0]);
    }
}
