//! What release knows of each serial that was claimed, of its bundles, and of ranges of serials.

use serde::{Deserialize, Serialize};
use valise_common::ids::{BundleId, ContainerHash, LinkKeyId, MessageId, Serial};
use valise_common::units::UtcTime;

use super::event::Event;

/// Where a container stands that claimed its serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// Its publishing is committed; its folders may not all be visible yet.
    Publishing,
    /// All its folders were made visible.
    Released,
    /// It is held.
    Quarantined,
    /// It was held and destroyed.
    Discarded,
}

impl Claim {
    /// Returns the word of the claim.
    pub fn as_str(self) -> &'static str {
        match self {
            Claim::Publishing => "publishing",
            Claim::Released => "released",
            Claim::Quarantined => "quarantined",
            Claim::Discarded => "discarded",
        }
    }
}

/// A cable that claimed its serial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CableRow {
    /// Its serial.
    pub serial: Serial,
    /// Its place.
    pub claim: Claim,
    /// The whole hash of its container.
    pub container: ContainerHash,
    /// The cable, when its manifest could be read.
    pub message_id: Option<MessageId>,
    /// Why it is held or was discarded, in one word.
    pub code: Option<String>,
    /// The same in a sentence.
    pub reason: Option<String>,
    /// Who got it, with spaces between.
    pub mailboxes: Option<String>,
    /// When an answer is due, if the cable asks for one and was released.
    pub act_by: Option<UtcTime>,
    /// When it claimed its serial.
    pub claimed_at: UtcTime,
    /// When it last changed.
    pub updated_at: UtcTime,
}

/// Whether a bundle's unused slots still exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BundleState {
    /// They open containers.
    Live,
    /// They were destroyed.
    Void,
}

/// A bundle that this host made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRow {
    /// Its number.
    pub bundle: BundleId,
    /// Its first serial.
    pub first: Serial,
    /// Its last serial.
    pub last: Serial,
    /// Number of slots.
    pub count: u32,
    /// The link key that it brought.
    pub link_key: LinkKeyId,
    /// Whether its unused slots exist.
    pub state: BundleState,
    /// Whether its link key was ended before its time.
    pub retired: bool,
}

impl BundleRow {
    /// Returns whether the bundle holds the slot of `serial`.
    pub fn holds(&self, serial: Serial) -> bool {
        self.first <= serial && serial <= self.last
    }
}

/// Kinds of serials that are reported as ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeKind {
    /// Known to be missing at some time.
    Gap,
    /// The sender will not send them.
    NotSent,
    /// Their containers had arrived when their bundle became void, so that they kept their slots.
    Kept,
}

/// Serials that one line of the log reports.
#[derive(Debug, Serialize, Deserialize)]
pub struct RangeRow {
    /// The number of the line.
    pub seq: u64,
    /// What they are.
    pub kind: RangeKind,
    /// The bundle whose key reported them; if absent, the report is withdrawn.
    pub reported_by: Option<BundleId>,
    /// First and last serials.
    pub ranges: Vec<(Serial, Serial)>,
}

impl RangeRow {
    /// Returns what an event reports of ranges, if anything.
    pub fn of(seq: u64, event: &Event) -> Option<RangeRow> {
        let (kind, reported_by, ranges) = match event {
            Event::SlotsKept { bundle, kept }
            | Event::BundleVoided { bundle, kept, .. }
            | Event::BundleCreated {
                replaces: Some(bundle),
                kept,
                ..
            } => (RangeKind::Kept, Some(*bundle), kept.clone()),
            Event::Gap {
                first,
                last,
                bundle,
            } => (RangeKind::Gap, Some(*bundle), vec![(*first, *last)]),
            Event::GapWithdrawn { first, last } => (RangeKind::Gap, None, vec![(*first, *last)]),
            Event::NotSent {
                first,
                last,
                bundle,
            } => (RangeKind::NotSent, Some(*bundle), vec![(*first, *last)]),
            Event::NotSentWithdrawn { first, last } => {
                (RangeKind::NotSent, None, vec![(*first, *last)])
            }
            _ => return None,
        };
        Some(RangeRow {
            seq,
            kind,
            reported_by,
            ranges,
        })
    }
}

impl CableRow {
    /// Returns the row of a cable that is being published; `None` for another event.
    pub fn publishing(event: &Event, claimed_at: UtcTime, time: UtcTime) -> Option<Self> {
        let Event::Publishing {
            serial,
            container,
            message_id,
            to,
            act_by,
            ..
        } = event
        else {
            return None;
        };
        let to: Vec<&str> = to.iter().map(AsRef::as_ref).collect();
        Some(Self {
            serial: *serial,
            claim: Claim::Publishing,
            container: *container,
            message_id: Some(*message_id),
            code: None,
            reason: None,
            mailboxes: Some(to.join(" ")),
            act_by: *act_by,
            claimed_at,
            updated_at: time,
        })
    }

    /// Returns the row of a cable that is held back; `None` for another event.
    pub fn quarantined(event: &Event, time: UtcTime) -> Option<Self> {
        let Event::Quarantined {
            serial,
            container,
            message_id,
            code,
            reason,
        } = event
        else {
            return None;
        };
        Some(Self {
            serial: *serial,
            claim: Claim::Quarantined,
            container: *container,
            message_id: *message_id,
            code: Some(code.clone()),
            reason: Some(reason.clone()),
            mailboxes: None,
            act_by: None,
            claimed_at: time,
            updated_at: time,
        })
    }
}

impl BundleRow {
    /// Returns the row of a new bundle; `None` for another event.
    pub fn created(event: &Event) -> Option<Self> {
        let Event::BundleCreated {
            bundle,
            first,
            count,
            link_key,
            ..
        } = event
        else {
            return None;
        };
        let last = first.plus(u64::from(count.saturating_sub(1)));
        Some(Self {
            bundle: *bundle,
            first: *first,
            last: last.unwrap_or(*first),
            count: *count,
            link_key: *link_key,
            state: BundleState::Live,
            retired: false,
        })
    }
}
