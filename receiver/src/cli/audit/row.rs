//! One serial, as both logs tell it.

use serde::Serialize;
use valise_common::ids::{ContainerHash, MessageId};

/// What both logs say of a serial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// The sender's log.
    pub sent: Option<Sent>,
    /// The receiver's log, if a container claimed the serial.
    pub received: Option<Received>,
    /// The receiver found it missing once.
    pub is_gap: bool,
    /// The sender told the receiver that it will not be sent.
    pub is_not_sent: bool,
    /// Its bundle was made void.
    pub is_void: bool,
}

/// The sender's side of a serial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// The cable.
    pub id: Option<MessageId>,
    /// Every container that was sealed under it: more than one only after a crash while sealing.
    pub containers: Vec<ContainerHash>,
    /// Every pass was made.
    pub is_transmitted: bool,
    /// Why it will not be sent, or was not sent in full.
    pub given_up: Option<Box<str>>,
}

/// The receiver's side of a serial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// How far it came.
    pub state: ReceivedState,
    /// The container that claimed it.
    pub container: Option<ContainerHash>,
    /// The cable.
    pub message_id: Option<MessageId>,
    /// Why it is held, or was destroyed.
    pub reason: Option<Box<str>>,
}

/// How far a received container came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ReceivedState {
    /// Its publishing was committed.
    #[default]
    Publishing,
    /// Every mailbox had it.
    Released,
    /// It is held.
    Quarantined,
    /// It was held, and was destroyed.
    Discarded,
}

impl Received {
    /// Takes a later event over earlier ones; what it does not name stays.
    pub(super) fn claim(
        &mut self,
        state: ReceivedState,
        container: Option<ContainerHash>,
        message_id: Option<MessageId>,
        reason: Option<Box<str>>,
    ) {
        self.state = state;
        self.container = container.or(self.container);
        self.message_id = message_id.or(self.message_id);
        self.reason = reason;
    }
}

/// The one state of a serial in both logs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// A cable has the serial, and is not sealed yet.
    Issued,
    /// Sealed, and on its way: the receiver need not have it yet.
    Sealed,
    /// Released, as it was sealed.
    Released,
    /// Released, although the sender never sealed it.
    ReleasedUnsealed,
    /// Held by the receiver.
    Quarantined,
    /// Held, and then destroyed by an operator.
    Discarded,
    /// Every pass was made, or the receiver found a gap, and release has judged no container.
    Missing,
    /// Given up by the sender: expired, or void.
    NotSent,
    /// Its slot was destroyed unused.
    Void,
}

impl State {
    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Issued => "issued",
            State::Sealed => "sealed",
            State::Released => "released",
            State::ReleasedUnsealed => "released-unsealed",
            State::Quarantined => "quarantined",
            State::Discarded => "discarded",
            State::Missing => "missing",
            State::NotSent => "not-sent",
            State::Void => "void",
        }
    }
}

/// What an auditor must look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Problem {
    /// The receiver opened a container that the sender's log never sealed.
    Unsealed,
    /// The receiver opened another container than the sender sealed.
    ContainerDiffers,
    /// The receiver found another cable in it than the sender sealed.
    MessageIdDiffers,
    /// The receiver was told that it would not come, and the sender's log never gave it up.
    ToldNotSent,
}

impl Problem {
    /// What it means.
    pub(super) fn text(self) -> &'static str {
        match self {
            Problem::Unsealed => "received without having been sealed",
            Problem::ContainerDiffers => "another container was received than was sealed",
            Problem::MessageIdDiffers => "another cable was received than was sealed",
            Problem::ToldNotSent => "told as not sent, but the sender's log does not give it up",
        }
    }
}

impl Row {
    /// Its one state.
    pub(super) fn state(&self) -> State {
        if let Some(received) = &self.received {
            return match received.state {
                ReceivedState::Quarantined => State::Quarantined,
                ReceivedState::Discarded => State::Discarded,
                // Once its publishing is committed, start-up brings it to its end.
                ReceivedState::Publishing | ReceivedState::Released if !self.is_sealed() => {
                    State::ReleasedUnsealed
                }
                ReceivedState::Publishing | ReceivedState::Released => State::Released,
            };
        }
        let sent = self.sent.as_ref();
        let is_given_up = sent.is_some_and(|sent| sent.given_up.is_some());
        if self.is_void {
            State::Void
        } else if is_given_up || (self.is_not_sent && !self.is_sealed()) {
            State::NotSent
        } else if self.is_gap || self.is_not_sent || sent.is_some_and(|sent| sent.is_transmitted) {
            State::Missing
        } else if self.is_sealed() {
            State::Sealed
        } else {
            State::Issued
        }
    }

    fn is_sealed(&self) -> bool {
        let sent = self.sent.as_ref();
        sent.is_some_and(|sent| !sent.containers.is_empty())
    }

    /// What an auditor must look into, if anything.
    pub(super) fn problem(&self) -> Option<Problem> {
        let Some(received) = self.received.as_ref() else {
            return self.told_not_sent();
        };
        let Some(sent) = self.sent.as_ref().filter(|_| self.is_sealed()) else {
            return Some(Problem::Unsealed);
        };
        let is_foreign = |container: ContainerHash| !sent.containers.contains(&container);
        if received.container.is_some_and(is_foreign) {
            return Some(Problem::ContainerDiffers);
        }
        match (sent.id, received.message_id) {
            (Some(sent), Some(received)) if sent != received => Some(Problem::MessageIdDiffers),
            _ => None,
        }
    }

    /// A beacon says so, and whoever has the link key can make one; the sender's own log knows better.
    fn told_not_sent(&self) -> Option<Problem> {
        let is_given_up = self
            .sent
            .as_ref()
            .is_some_and(|sent| sent.given_up.is_some());
        let is_contradicted = self.is_not_sent && self.is_sealed() && !is_given_up && !self.is_void;
        is_contradicted.then_some(Problem::ToldNotSent)
    }

    /// Returns the cable, as the receiver or else the sender names it.
    pub(super) fn message_id(&self) -> Option<MessageId> {
        let received = self.received.as_ref().and_then(|one| one.message_id);
        received.or(self.sent.as_ref().and_then(|one| one.id))
    }

    /// Why it is held, was destroyed, or was given up.
    pub(super) fn reason(&self) -> Option<&str> {
        match (&self.received, &self.sent) {
            (Some(received), _) => received.reason.as_deref(),
            (None, Some(sent)) => sent.given_up.as_deref(),
            (None, None) => None,
        }
    }
}
