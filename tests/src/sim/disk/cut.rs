//! The power goes: one of the states that the disk may then be in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::body::{Body, Change};
use super::image::{Image, Node, Tree};
use super::inode::{Inode, Pending, Standing};
use super::names::draw;
use super::store::Store;
use crate::wire::Prng;

/// Bytes that a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

/// What survives a power cut of all that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// What happened before a drawn moment.
    Prefix,
    /// Drawn names, each with those that it depends on, and drawn parts of the data.
    Parts,
}

impl Cut {
    /// Draws one, [`Cut::Parts`] most often.
    pub fn draw(prng: &mut Prng) -> Self {
        match prng.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 | 3 => Self::Prefix,
            _ => Self::Parts,
        }
    }
}

/// Draws a state after this cut.
pub(super) fn cut(store: &Store, kind: Cut, prng: &mut Prng) -> Image {
    let until = match kind {
        Cut::Prefix => prng.below(store.last_order() + 1),
        _ => u64::MAX,
    };
    let mut durable = store.durable.clone();
    // One cut keeps much, another little.
    let kept = 1 + prng.below(3);
    let survivors = match kind {
        Cut::Nothing => Vec::new(),
        Cut::Everything => store.names.iter().collect(),
        Cut::Prefix => store
            .names
            .iter()
            .filter(|change| change.order <= until)
            .collect(),
        Cut::Parts => draw(&store.names, prng, kept),
    };
    for change in survivors {
        change.apply(&mut durable);
    }
    let mut nodes = BTreeMap::new();
    for (ino, inode) in &store.inodes {
        let body = if inode.pending.is_empty() {
            inode.synced.clone()
        } else {
            survivor(inode, kind, until, kept, prng)
        };
        let entries = durable.remove(ino).unwrap_or_default();
        nodes.insert(*ino, Node { body, entries });
    }
    Image::of(Tree {
        nodes,
        next_ino: store.next_ino(),
    })
}

/// What is left of one inode.
fn survivor(inode: &Inode, kind: Cut, until: u64, kept: u64, prng: &mut Prng) -> Body {
    let mut body = inode.synced.clone();
    // Attributes and lengths change in order: the first so many survive.
    let ordered = |pending: &&Pending| !matches!(pending.change, Change::Write { .. });
    let in_order = u64::try_from(inode.pending.iter().filter(ordered).count()).unwrap_or(0);
    let mut in_order_left = match kind {
        Cut::Parts => prng.below(in_order + 1),
        _ => u64::MAX,
    };
    // The length may be on the disk before the bytes are.
    let keeps_length = kind == Cut::Parts && prng.below(2) == 0;
    for pending in &inode.pending {
        let is_write = matches!(pending.change, Change::Write { .. });
        let fate = match (pending.standing, kind) {
            (Standing::Durable, _) => Fate::Kept,
            (Standing::Mapped, _) | (_, Cut::Nothing) => Fate::Lost,
            (Standing::Unsynced, Cut::Everything) => Fate::Kept,
            (Standing::Unsynced, Cut::Prefix) if pending.order > until => Fate::Lost,
            (Standing::Unsynced, Cut::Prefix) => Fate::Kept,
            (Standing::Unsynced, Cut::Parts) if !is_write => Fate::first(&mut in_order_left),
            (Standing::Unsynced, Cut::Parts) | (Standing::Doubtful, _) => Fate::draw(prng, kept),
        };
        match fate {
            Fate::Kept => body.apply(&pending.change),
            Fate::Torn => body.apply(&torn(&pending.change, prng)),
            Fate::Lost => {
                let is_longer = body.content.bytes() < pending.change.end();
                if keeps_length && pending.standing != Standing::Mapped && is_longer {
                    body.apply(&Change::Length(pending.change.end()));
                }
            }
        }
    }
    body
}

enum Fate {
    Kept,
    Torn,
    Lost,
}

impl Fate {
    fn draw(prng: &mut Prng, kept: u64) -> Self {
        match prng.below(5) {
            4 => Self::Torn,
            number if number < kept => Self::Kept,
            _ => Self::Lost,
        }
    }

    fn first(left: &mut u64) -> Self {
        let fate = if *left > 0 { Self::Kept } else { Self::Lost };
        *left = left.saturating_sub(1);
        fate
    }
}

/// The first sectors of a write. Whatever else was changed is whole.
fn torn(change: &Change, prng: &mut Prng) -> Change {
    let Change::Write { offset, bytes } = change else {
        return change.clone();
    };
    let first = offset / SECTOR_BYTES;
    let boundaries = (offset + super::content::length(bytes)).div_ceil(SECTOR_BYTES) - first;
    let end = (first + prng.below(boundaries)) * SECTOR_BYTES;
    let kept = super::content::index(end.saturating_sub(*offset));
    Change::Write {
        offset: *offset,
        bytes: Arc::from(&bytes[..kept]),
    }
}
