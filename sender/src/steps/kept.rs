//! Buffers of the blocks that are on the link, within a bound of memory: the oldest leave first.
//!
//! Interleaved blocks leave nearly together, so that the memory of all of them is kept for the next ones: to give it back
//! and to ask for it again, zeroed, costs as much as copying it.

use std::collections::VecDeque;

/// Buffers by what they belong to.
///
/// # Bounds
/// So many bytes of memory, spare memory included, and one buffer more.
#[derive(Debug)]
pub(super) struct Kept<K> {
    bytes_max: usize,
    kept: VecDeque<(K, Vec<u8>)>,
    kept_bytes: usize,
    // Memory of buffers that have left.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

impl<K: Copy + PartialEq> Kept<K> {
    /// Nothing yet, and at most so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            kept: VecDeque::new(),
            kept_bytes: 0,
            spare: Vec::new(),
            spare_bytes: 0,
        }
    }

    /// Returns a buffer, if it is still here.
    pub(super) fn find(&self, key: &K) -> Option<&[u8]> {
        // Some dozen are here at a time, and the one asked for is usually among the newest.
        let mut newest_first = self.kept.iter().rev();
        newest_first
            .find(|kept| kept.0 == *key)
            .map(|kept| kept.1.as_slice())
    }

    /// Memory for so many bytes, of any length and content now; to be given back by [`Kept::keep`].
    pub(super) fn spare(&mut self, bytes: usize) -> Vec<u8> {
        // Neither too small, for growing would copy it, nor so large that most of it lies idle.
        let fits = |spare: &Vec<u8>| (bytes..=bytes.saturating_mul(2)).contains(&spare.capacity());
        match self.spare.iter().rposition(fits) {
            Some(place) => self.take_spare(place),
            None => Vec::with_capacity(bytes),
        }
    }

    /// Keeps a buffer; the oldest make room for it.
    pub(super) fn keep(&mut self, key: K, buffer: Vec<u8>) {
        self.kept_bytes += buffer.capacity();
        self.kept.push_back((key, buffer));
        while self.kept_bytes + self.spare_bytes > self.bytes_max {
            if !self.spare.is_empty() {
                drop(self.take_spare(0));
            } else if self.kept.len() > 1 {
                self.drop_at(0);
            } else {
                break;
            }
        }
    }

    /// Forgets the buffers that `which` picks.
    pub(super) fn forget(&mut self, which: impl Fn(&K) -> bool) {
        while let Some(position) = self.kept.iter().position(|kept| which(&kept.0)) {
            self.drop_at(position);
        }
    }

    /// Bytes of the buffers that are kept, without spare memory.
    pub(super) fn bytes(&self) -> usize {
        self.kept_bytes
    }

    fn take_spare(&mut self, place: usize) -> Vec<u8> {
        let spare = self.spare.swap_remove(place);
        self.spare_bytes -= spare.capacity();
        spare
    }

    fn drop_at(&mut self, position: usize) {
        if let Some((_, buffer)) = self.kept.remove(position) {
            let bytes = buffer.capacity();
            self.kept_bytes -= bytes;
            if self.kept_bytes + self.spare_bytes + bytes <= self.bytes_max {
                self.spare_bytes += bytes;
                self.spare.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(kept: &mut Kept<u32>, length: usize) -> Vec<u8> {
        let mut buffer = kept.spare(length);
        assert!((length..=2 * length).contains(&buffer.capacity()));
        buffer.resize(length, 7);
        buffer
    }

    #[test]
    fn memory_stays_within_its_bound_and_the_newest_stay() {
        let mut kept = Kept::new(10_000);
        for number in 0..100 {
            // Of two lengths, so that spare memory is too small or too large.
            let length = if number % 3 == 0 { 1_800 } else { 1_000 };
            let buffer = buffer(&mut kept, length);
            kept.keep(number, buffer);
            assert!(kept.kept_bytes + kept.spare_bytes <= 10_000);
            if number % 7 == 0 {
                kept.forget(|key| key % 5 == 0);
                assert!(kept.kept_bytes + kept.spare_bytes <= 10_000);
            }
        }
        assert!(kept.find(&0).is_none());
        assert_eq!(kept.find(&99).map(<[u8]>::len), Some(1_800));
        kept.forget(|key| *key == 99);
        assert!(kept.find(&99).is_none() && kept.find(&98).is_some());
        kept.forget(|_| true);
        assert_eq!((kept.bytes(), kept.kept.len()), (0, 0));
    }

    #[test]
    fn one_buffer_beyond_the_bound_is_kept_alone() {
        let mut kept = Kept::new(1_000);
        kept.keep(1, vec![1; 600]);
        kept.keep(2, vec![2; 5_000]);
        assert!(kept.find(&1).is_none());
        assert_eq!(kept.find(&2).map(<[u8]>::len), Some(5_000));
        kept.forget(|_| true);
        assert_eq!(kept.spare_bytes, 0, "too large to be kept as a spare");
    }

    #[test]
    fn the_memory_of_a_buffer_that_left_is_used_again() {
        let mut kept = Kept::new(10_000);
        for number in 0..4 {
            let buffer = buffer(&mut kept, 2_000);
            kept.keep(number, buffer);
        }
        kept.forget(|_| true);
        assert_eq!(kept.spare.len(), 4);
        assert!(kept.spare(1_500).capacity() >= 2_000);
        assert_eq!(kept.spare.len(), 3);
        // What is far too large stays for others.
        assert!(kept.spare(100).capacity() < 2_000);
        assert_eq!(kept.spare.len(), 3);
    }
}
