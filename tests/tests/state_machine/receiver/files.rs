//! The files on the receiver's disk, and the steps that change them.

use std::collections::BTreeSet;

use crate::disk::Files;
use crate::real::{Container, MAILBOXES};

/// A line of release's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Line {
    Publishing(Container),
    Released(u8),
    Quarantined(Container),
    Discarded(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    Append(Line),
    /// Writes a container into receive's `tmp/`.
    Write(Container),
    Drop(Container),
    /// Adds it to the list of completed containers.
    List(Container),
    /// Renames it into `inbox/`.
    Arrive(Container),
    RemoveArrived(Container),
    /// Stages the folder of a mailbox.
    Stage(usize, Container),
    Unstage(usize),
    /// Gives it its name in the mailbox.
    Publish(usize),
    /// A reader moves it elsewhere.
    Take(usize),
    Erase(u8),
    Hold(Container),
    RemoveHeld(Container),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Log,
    Tmp,
    List,
    Inbox,
    Stage,
    Mailbox(usize),
    Slots,
    Quarantine,
}

/// The files on the receiver's disk. Slots are bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Received {
    pub log: Vec<Line>,
    pub tmp: BTreeSet<Container>,
    pub list: BTreeSet<Container>,
    pub inbox: BTreeSet<Container>,
    pub stage: [Option<Container>; MAILBOXES.len()],
    /// Folders that readers see, and how often one appeared.
    pub visible: [Option<Container>; MAILBOXES.len()],
    pub appeared: [u8; MAILBOXES.len()],
    pub quarantine: BTreeSet<Container>,
    pub erased: u8,
}

impl Files for Received {
    type Change = Change;
    type Place = Place;

    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(line) => self.log.push(line),
            Change::Write(container) => drop(self.tmp.insert(container)),
            Change::Drop(container) => drop(self.tmp.remove(&container)),
            Change::List(container) => drop(self.list.insert(container)),
            Change::Arrive(container) => {
                self.tmp.remove(&container);
                self.inbox.insert(container);
            }
            Change::RemoveArrived(container) => drop(self.inbox.remove(&container)),
            Change::Stage(mailbox, container) => self.stage[mailbox] = Some(container),
            Change::Unstage(mailbox) => self.stage[mailbox] = None,
            Change::Publish(mailbox) => {
                if let Some(container) = self.stage[mailbox].take() {
                    self.visible[mailbox] = Some(container);
                    self.appeared[mailbox] += 1;
                }
            }
            Change::Take(mailbox) => self.visible[mailbox] = None,
            Change::Erase(slot) => self.erased |= 1 << slot,
            Change::Hold(container) => {
                self.inbox.remove(&container);
                self.quarantine.insert(container);
            }
            Change::RemoveHeld(container) => drop(self.quarantine.remove(&container)),
        }
    }

    fn place(change: Change) -> Place {
        match change {
            Change::Append(_) => Place::Log,
            Change::Write(_) | Change::Drop(_) => Place::Tmp,
            Change::List(_) => Place::List,
            Change::Arrive(_) | Change::RemoveArrived(_) => Place::Inbox,
            Change::Stage(..) | Change::Unstage(_) => Place::Stage,
            Change::Publish(mailbox) | Change::Take(mailbox) => Place::Mailbox(mailbox),
            Change::Erase(_) => Place::Slots,
            Change::Hold(_) | Change::RemoveHeld(_) => Place::Quarantine,
        }
    }

    fn is_ordered(place: Place) -> bool {
        matches!(place, Place::Log | Place::Mailbox(_))
    }

    fn replaces(later: Change, earlier: Change) -> bool {
        match (later, earlier) {
            (Change::Arrive(later), Change::Write(earlier))
            | (Change::Hold(later), Change::Arrive(earlier)) => later == earlier,
            (Change::Publish(later), Change::Stage(earlier, _)) => later == earlier,
            _ => false,
        }
    }
}
