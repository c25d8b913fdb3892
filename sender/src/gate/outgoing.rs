//! Cables on their way to the link: slots, containers in the outbox, and how far transmit has come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use valise_common::host::folders::SenderState;
use valise_common::ids::{ContainerId, MessageId, Serial};
use valise_common::limits;

use crate::model::ledger::{Ledger, Phase};
use crate::spool::outbox::{GivenUp, SpoolBeacon};
use crate::spool::outbox_write::OutboxWriter;
use crate::spool::progress::Progress;
use crate::spool::slots::SlotStore;

/// Given-up serials that the beacon still names.
const GIVEN_UP_MAX: usize = 256;

/// Cables that have a serial.
pub struct Outgoing {
    /// The slots.
    pub slots: SlotStore,
    /// The containers.
    pub outbox: OutboxWriter,
    /// How far transmit has come.
    pub progress: BTreeMap<Serial, Progress>,
    /// Serials whose container is not in the outbox yet.
    pub in_sealing: BTreeSet<Serial>,
    /// Cables with a serial whose sealing waits for room on the disk or for an operator.
    pub waiting: Vec<MessageId>,
    /// Sealing is to be tried again when there is room.
    pub wants_room: bool,
}

impl Outgoing {
    /// The slots and the outbox of a host.
    pub fn new(state: &SenderState) -> Self {
        Self {
            slots: SlotStore::new(state),
            outbox: OutboxWriter::new(state),
            progress: BTreeMap::new(),
            in_sealing: BTreeSet::new(),
            waiting: Vec::new(),
            wants_room: false,
        }
    }

    /// Writes for transmit what gate knows.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn write_beacon(&self, ledger: &Ledger) -> io::Result<()> {
        self.outbox.write_beacon(&SpoolBeacon {
            issued: ledger.issued,
            lowest_retained: ledger.lowest_retained(),
            trust_version: ledger.trust.map_or(0, |(version, _)| version),
            in_sealing: self.in_sealing.iter().copied().collect(),
            given_up: given_up(ledger).into(),
        })
    }
}

fn given_up(ledger: &Ledger) -> VecDeque<GivenUp> {
    let mut given_up = VecDeque::new();
    for (serial, id) in ledger.serials.iter().rev() {
        let Some(cable) = ledger.cables.get(id) else {
            continue;
        };
        if cable.phase != Phase::Expired {
            continue;
        }
        let container = cable.issued.as_ref().and_then(|issued| issued.container);
        given_up.push_front(match container {
            Some((hash, bytes)) => GivenUp {
                serial: *serial,
                container: hash.id(),
                container_bytes: bytes,
            },
            // A cable that never had a container: the length is that of the smallest.
            None => GivenUp {
                serial: *serial,
                container: ContainerId::from_bytes([0; 12]),
                container_bytes: valise_common::seal::container_bytes(
                    limits::PACKAGE_BYTES_MIN_PADDED,
                ),
            },
        });
        if given_up.len() == GIVEN_UP_MAX {
            break;
        }
    }
    given_up
}
