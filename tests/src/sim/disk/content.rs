//! The bytes of a file: pages that are shared until they change, holes, and room that is set aside.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a page, which is also the unit of room.
pub(super) const PAGE_BYTES: u64 = 4096;

const PAGE: usize = 4096;

type Page = Arc<[u8; PAGE]>;

/// The bytes of a file. A clone shares every page.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    bytes: u64,
    pages: BTreeMap<u64, Page>,
    /// Pages that have room but no bytes yet: apart, sorted.
    reserved: Vec<Range<u64>>,
}

impl Content {
    /// Returns the length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how many pages have room.
    pub fn page_count(&self) -> u64 {
        if self.reserved.is_empty() {
            return u64::try_from(self.pages.len()).unwrap_or(u64::MAX);
        }
        let reserved: u64 = self.reserved.iter().map(|run| run.end - run.start).sum();
        let outside = self.pages.keys().filter(|page| !self.is_reserved(**page));
        reserved + u64::try_from(outside.count()).unwrap_or(u64::MAX)
    }

    /// Returns whether a page has room.
    pub fn has_room(&self, page: u64) -> bool {
        self.pages.contains_key(&page) || self.is_reserved(page)
    }

    fn is_reserved(&self, page: u64) -> bool {
        self.reserved.iter().any(|run| run.contains(&page))
    }

    /// Returns the bytes from an offset on, not beyond the end.
    pub fn read(&self, offset: u64, bytes_max: u64) -> Vec<u8> {
        let end = offset.saturating_add(bytes_max).min(self.bytes);
        let mut out = vec![0; index(end.saturating_sub(offset))];
        for (page, from, to) in pieces(offset, out.len()) {
            if let Some(data) = self.pages.get(&page) {
                let at = index(page * PAGE_BYTES + from - offset);
                let (from, to) = (index(from), index(to));
                out[at..at + to - from].copy_from_slice(&data[from..to]);
            }
        }
        out
    }

    /// Writes over a range, and beyond the end.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, from, to) in pieces(offset, bytes.len()) {
            let at = index(page * PAGE_BYTES + from - offset);
            let (from, to) = (index(from), index(to));
            let data = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(data)[from..to].copy_from_slice(&bytes[at..at + to - from]);
        }
        self.bytes = self.bytes.max(offset + length(bytes));
    }

    /// Cuts the file, or lets it end in a hole.
    pub fn set_bytes(&mut self, bytes: u64) {
        if bytes < self.bytes {
            let pages = bytes.div_ceil(PAGE_BYTES);
            self.pages.split_off(&pages);
            if let Some(data) = self.pages.get_mut(&(bytes / PAGE_BYTES)) {
                Arc::make_mut(data)[index(bytes % PAGE_BYTES)..].fill(0);
            }
            self.release(pages..u64::MAX);
        }
        self.bytes = bytes;
    }

    /// Sets room aside. The length stays.
    pub fn reserve(&mut self, offset: u64, bytes: u64) {
        let mut run = offset / PAGE_BYTES..(offset + bytes).div_ceil(PAGE_BYTES);
        self.reserved.retain(|other| {
            let touches = other.start <= run.end && run.start <= other.end;
            if touches {
                run = run.start.min(other.start)..run.end.max(other.end);
            }
            !touches
        });
        let at = self
            .reserved
            .partition_point(|other| other.start < run.start);
        self.reserved.insert(at, run);
    }

    /// Makes a range read as zeros and gives back the room of its whole pages. The length stays.
    pub fn punch(&mut self, offset: u64, bytes: u64) {
        let end = offset + bytes;
        let whole = offset.div_ceil(PAGE_BYTES)..end / PAGE_BYTES;
        for (page, from, to) in pieces(offset, index(bytes)) {
            if whole.contains(&page) {
                self.pages.remove(&page);
            } else if let Some(data) = self.pages.get_mut(&page) {
                Arc::make_mut(data)[index(from)..index(to)].fill(0);
            }
        }
        self.release(whole);
    }

    fn release(&mut self, gone: Range<u64>) {
        let cut = |run: &Range<u64>| {
            [
                run.start..run.end.min(gone.start),
                run.start.max(gone.end)..run.end,
            ]
        };
        let left = self.reserved.iter().flat_map(cut);
        self.reserved = left.filter(|run| run.start < run.end).collect();
    }

    /// Returns where data begins, from an offset on; none if only holes follow.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let (page, _) = self.pages.range(offset / PAGE_BYTES..).next()?;
        let found = offset.max(page * PAGE_BYTES);
        (found < self.bytes).then_some(found)
    }

    /// Returns where a hole begins, from an offset on; the end of a file is one.
    pub fn next_hole(&self, offset: u64) -> u64 {
        let mut page = offset / PAGE_BYTES;
        while self.pages.contains_key(&page) {
            page += 1;
        }
        offset.max(page * PAGE_BYTES).min(self.bytes)
    }
}

/// The pages of a range, each with where the range begins and ends in it.
fn pieces(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, u64, u64)> {
    let end = offset + u64::try_from(bytes).unwrap_or(u64::MAX);
    (offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)).map(move |page| {
        let start = page * PAGE_BYTES;
        (
            page,
            offset.max(start) - start,
            end.min(start + PAGE_BYTES) - start,
        )
    })
}

/// A number as an index into memory.
pub(super) fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The length of a slice.
pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
