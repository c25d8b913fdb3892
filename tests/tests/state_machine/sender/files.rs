//! What stands on the sender's disk, and what changes it.

use crate::disk::Files;
use crate::real::Container;

/// A line of gate's log, about the one cable. Officers and slots are indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Line {
    Approved(u8),
    Withdrawn,
    Expired,
    Sealing(u8),
    Sealed(Container),
    Transmitted(u8),
    Resent(u8, u8),
    GivenUp(u8),
    Retired(u8),
}

/// A request: one of the three signatures, or the withdrawal.
pub type Request = u8;
pub const WITHDRAWAL: Request = 3;
pub const REQUESTS: u8 = 4;

/// Passes that a container gets at first, and by a resend.
pub const PASSES: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    Append(Line),
    /// Writes an approval below `tmp/`.
    Stage(Request),
    Unstage(Request),
    /// Gives it its name in `pending/`.
    Show(Request),
    Hide(Request),
    RemovePending,
    Create(Container),
    RemoveTmp,
    Rename(Container),
    RemoveOutbox,
    Erase(u8),
    Passed(Container, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Log,
    Staged,
    Pending,
    Tmp,
    Outbox,
    Slots,
    Progress,
}

/// What stands on the sender's disk. Approvals, slots and requests are bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sent {
    pub log: Vec<Line>,
    pub staged: u8,
    pub has_pending: bool,
    pub shown: u8,
    pub tmp: Option<Container>,
    pub outbox: Option<Container>,
    pub erased: u8,
    /// How often transmit has sent a container.
    pub progress: Option<(Container, u8)>,
}

impl Sent {
    pub fn passes_done(&self) -> u8 {
        self.progress.map_or(0, |(_, passes)| passes)
    }
}

impl Files for Sent {
    type Change = Change;
    type Place = Place;

    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(line) => self.log.push(line),
            Change::Stage(request) => self.staged |= 1 << request,
            Change::Unstage(request) => self.staged &= !(1 << request),
            Change::Show(request) => {
                self.staged &= !(1 << request);
                self.shown |= u8::from(self.has_pending) << request;
            }
            Change::Hide(request) => self.shown &= !(1 << request),
            Change::RemovePending => (self.has_pending, self.shown) = (false, 0),
            Change::Create(container) => self.tmp = Some(container),
            Change::RemoveTmp => self.tmp = None,
            Change::Rename(container) => (self.tmp, self.outbox) = (None, Some(container)),
            Change::RemoveOutbox => (self.outbox, self.progress) = (None, None),
            Change::Erase(slot) => self.erased |= 1 << slot,
            Change::Passed(container, passes) => self.progress = Some((container, passes)),
        }
    }

    fn place(change: Change) -> Place {
        match change {
            Change::Append(_) => Place::Log,
            Change::Stage(_) | Change::Unstage(_) => Place::Staged,
            Change::Show(_) | Change::Hide(_) | Change::RemovePending => Place::Pending,
            Change::Create(_) | Change::RemoveTmp => Place::Tmp,
            Change::Rename(_) | Change::RemoveOutbox => Place::Outbox,
            Change::Erase(_) => Place::Slots,
            Change::Passed(..) => Place::Progress,
        }
    }

    fn is_ordered(place: Place) -> bool {
        place == Place::Log
    }

    fn replaces(later: Change, earlier: Change) -> bool {
        match (later, earlier) {
            (Change::Rename(later), Change::Create(earlier)) => later == earlier,
            (Change::Show(later), Change::Stage(earlier)) => later == earlier,
            _ => false,
        }
    }
}
