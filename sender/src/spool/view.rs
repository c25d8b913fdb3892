//! `view/gate.json`: what `list`, `show` and `status` read. Rewritten whole and atomically, before answers become visible.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};
use valise_common::alarm::AlarmView;
use valise_common::host::folders::{Role, SenderState};
use valise_common::ids::{
    BundleId, ChannelId, ContainerHash, MailboxId, MessageId, PersonId, Serial,
};
use valise_common::label::Label;
use valise_common::os::clock::Stamp;
use valise_common::os::durable::{Access, Sync, replace};
use valise_common::precedence::Precedence;
use valise_common::units::UtcTime;

use crate::model::ledger::{Cable, Phase};
use crate::spool::progress::Progress;

/// Seconds after its last pass for which a cable is shown as transmitted; then as retained.
const TRANSMITTED_SHOWN_S: u64 = 3_600;

/// One cable, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CableView {
    /// Its message-id.
    pub id: MessageId,
    /// Its serial, once issued.
    pub serial: Option<Serial>,
    /// Its state, in the words of the architecture.
    pub state: String,
    /// Its precedence.
    pub precedence: Precedence,
    /// Its label.
    pub label: Label,
    /// Officers that have approved.
    pub approvals: usize,
    /// Officers that must.
    pub needed: u8,
    /// Who drafted it.
    pub drafter: PersonId,
    /// Who has approved it.
    pub approved_by: Vec<PersonId>,
    /// Bytes of its parts.
    pub body_bytes: u64,
    /// When it was submitted.
    pub submitted: UtcTime,
    /// Its mailboxes.
    pub to: Vec<MailboxId>,
    /// Its last moment.
    pub not_after: UtcTime,
    /// When an answer is due.
    pub act_by: Option<UtcTime>,
    /// When its state last changed.
    pub changed: UtcTime,
    /// Why it ended, or why it is not being sealed.
    pub reason: Option<String>,
    /// The officer that rejected it.
    pub rejected_by: Option<PersonId>,
    /// The pass on the link, from 1.
    pub pass: Option<u8>,
    /// Passes wanted in all.
    pub passes: Option<u8>,
    /// BLAKE3 of its container.
    pub container: Option<ContainerHash>,
    /// Length of its container.
    pub container_bytes: Option<u64>,
}

/// One bundle, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundleView {
    /// Its number.
    pub bundle: BundleId,
    /// Its first serial.
    pub first_serial: Serial,
    /// Its last serial.
    pub last_serial: Serial,
    /// Slots that have not been used.
    pub left: u64,
    /// True once a later bundle replaced it.
    pub void: bool,
}

/// The host, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostView {
    /// When the view was written.
    pub time: UtcTime,
    /// The same on a clock that nobody sets.
    #[serde(default)]
    pub written: Option<Stamp>,
    /// The channel, once known.
    pub channel: Option<ChannelId>,
    /// The trust list's version, once there is one.
    pub trust_version: Option<u32>,
    /// True while the trust list allows software keys.
    pub software_keys: bool,
    /// The highest serial issued.
    pub issued: u64,
    /// The lowest serial whose container is kept. If there is none: the serial after the highest issued.
    pub lowest_retained: u64,
    /// Slots left in all bundles.
    pub slots_left: u64,
    /// Slots of the bundles that have some left.
    pub slots_total: u64,
    /// All bundles.
    pub bundles: Vec<BundleView>,
    /// Free bytes on the state's disk.
    pub disk_free_bytes: u64,
    /// Alarms, oldest first.
    pub alarms: Vec<AlarmView>,
}

/// The whole view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// The host.
    #[serde(flatten)]
    pub host: HostView,
    /// The cables, by the time of their submission.
    pub cables: Vec<CableView>,
}

/// Returns the state of a cable, in the words of the architecture.
pub(crate) fn state_word(cable: &Cable, progress: Option<&Progress>, now: UtcTime) -> &'static str {
    match cable.phase {
        Phase::Open if cable.approvals.is_empty() => "submitted",
        Phase::Open | Phase::Sealing => "approved",
        Phase::Sealed => match progress {
            Some(progress) if progress.passes_done > 0 || progress.position > 0 => "transmitting",
            _ => "queued",
        },
        Phase::Transmitted if now.since(cable.changed) < TRANSMITTED_SHOWN_S => "transmitted",
        Phase::Transmitted => "retained",
        Phase::Rejected => "rejected",
        Phase::Withdrawn => "withdrawn",
        Phase::Expired => "expired",
        Phase::Retired => "retired",
    }
}

impl CableView {
    /// Shows a cable. `blocked` says why it is not being sealed although it could be.
    pub(crate) fn new(
        cable: &Cable,
        progress: Option<&Progress>,
        blocked: Option<&String>,
        now: UtcTime,
    ) -> Self {
        let state = state_word(cable, progress, now);
        let issued = cable.issued.as_ref();
        let container = issued.and_then(|issued| issued.container);
        let sealed = issued.filter(|_| container.is_some());
        Self {
            id: cable.id,
            serial: cable.serial(),
            state: state.to_owned(),
            precedence: cable.precedence,
            label: cable.label.clone(),
            approvals: cable.approvals.len(),
            needed: cable.needed,
            drafter: cable.drafter.clone(),
            approved_by: cable.approvals.clone(),
            body_bytes: cable.body_bytes,
            submitted: cable.submitted,
            to: cable.to.clone(),
            not_after: cable.not_after,
            act_by: cable.act_by,
            changed: cable.changed,
            reason: cable.reason.as_ref().or(blocked).cloned(),
            rejected_by: cable.rejected_by.clone(),
            pass: progress
                .filter(|_| state == "transmitting")
                .map(|progress| progress.pass.saturating_add(1)),
            passes: sealed.map(|issued| issued.passes),
            container: container.map(|(hash, _)| hash),
            container_bytes: container.map(|(_, bytes)| bytes),
        }
    }
}

/// Writes views. Cables that did not change are not encoded again.
#[derive(Debug, Default)]
pub(crate) struct ViewWriter {
    cables: BTreeMap<(UtcTime, MessageId), String>,
    keys: BTreeMap<MessageId, (UtcTime, MessageId)>,
}

impl ViewWriter {
    /// Takes a changed cable.
    ///
    /// # Errors
    /// If it cannot be encoded, which nothing in it allows.
    pub(crate) fn put(&mut self, cable: &CableView) -> Result<(), serde_json::Error> {
        let key = (cable.submitted, cable.id);
        self.keys.insert(cable.id, key);
        self.cables.insert(key, serde_json::to_string(cable)?);
        Ok(())
    }

    /// Forgets every cable that `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(&MessageId) -> bool) {
        self.keys.retain(|id, key| {
            let kept = keep(id);
            if !kept {
                self.cables.remove(key);
            }
            kept
        });
    }

    fn text(&self, host: &HostView) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(host)?;
        // The host's object stays open for the cables, which are encoded already.
        text.pop();
        text.push_str(",\"cables\":[");
        for (index, cable) in self.cables.values().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(cable);
        }
        text.push_str("]}");
        Ok(text)
    }

    /// Writes the view in place of the last one. It is rebuilt at start-up and so is not synced.
    ///
    /// # Errors
    /// Any error of the system.
    pub(crate) fn write(&self, state: &SenderState, host: &HostView) -> io::Result<()> {
        let text = self.text(host).map_err(io::Error::other)?;
        let tmp = state.tmp(Role::Gate);
        replace(
            &tmp,
            &state.view_of(Role::Gate),
            text.as_bytes(),
            Access::Everyone,
            Sync::No,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;
    use crate::model::event::Event;
    use crate::model::ledger::Ledger;

    fn cable(ledger: &mut Ledger, byte: u8, at: u64) -> MessageId {
        let id = MessageId::from_bytes([byte; 16]);
        let submitted = Event::Submitted {
            id,
            request: id,
            drafter: "a.person".parse().unwrap(),
            label: "EU-RESTRICTED".parse().unwrap(),
            precedence: Precedence::Routine,
            to: vec![],
            not_after: UtcTime::from_s(9_000),
            act_by: None,
            body_bytes: 1,
            needed: 2,
        };
        ledger.apply(UtcTime::from_s(at), &submitted);
        id
    }

    fn host() -> HostView {
        HostView {
            time: UtcTime::from_s(5),
            written: Some(Stamp::now()),
            channel: None,
            trust_version: Some(3),
            software_keys: false,
            issued: 0,
            lowest_retained: 0,
            slots_left: 1,
            slots_total: 2,
            bundles: vec![],
            disk_free_bytes: 9,
            alarms: vec![],
        }
    }

    #[test]
    fn a_view_reads_back_with_its_cables_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        state.create_all().unwrap();
        let mut ledger = Ledger::default();
        let ids = [
            cable(&mut ledger, 9, 1),
            cable(&mut ledger, 3, 2),
            cable(&mut ledger, 1, 3),
        ];
        let mut writer = ViewWriter::default();
        for cable in ledger.cables.values() {
            writer
                .put(&CableView::new(cable, None, None, UtcTime::from_s(4)))
                .unwrap();
        }
        writer.retain(|id| *id != ids[1]);
        let host = host();
        writer.write(&state, &host).unwrap();
        let text = std::fs::read(state.view_of(Role::Gate)).unwrap();
        let view: View = serde_json::from_slice(&text).unwrap();
        assert_eq!(view.host, host);
        let shown: Vec<MessageId> = view.cables.iter().map(|cable| cable.id).collect();
        assert_eq!(shown, [ids[0], ids[2]]);
    }

    #[test]
    fn states_are_the_words_of_the_architecture() {
        let mut ledger = Ledger::default();
        let id = cable(&mut ledger, 1, 0);
        let now = UtcTime::from_s(100);
        let word = |ledger: &Ledger, progress: Option<&Progress>, now| {
            state_word(&ledger.cables[&id], progress, now)
        };
        assert_eq!(word(&ledger, None, now), "submitted");
        ledger.apply(
            now,
            &Event::Approved {
                id,
                by: "b.officer".parse().unwrap(),
            },
        );
        assert_eq!(word(&ledger, None, now), "approved");
        let serial = Serial::FIRST;
        ledger.apply(
            now,
            &Event::Sealing {
                id,
                serial,
                bundle: BundleId(1),
            },
        );
        let container = ContainerHash::from_bytes([1; 32]);
        ledger.apply(
            now,
            &Event::Sealed {
                id,
                serial,
                container,
                container_bytes: 9,
                passes: 2,
            },
        );
        assert_eq!(word(&ledger, None, now), "queued");
        let progress = Progress {
            serial,
            passes_done: 0,
            first_passes: 2,
            pass: 0,
            position: 4,
            block: 0,
            lanes: vec![],
        };
        assert_eq!(word(&ledger, Some(&progress), now), "transmitting");
        let shown = CableView::new(&ledger.cables[&id], Some(&progress), None, now);
        assert_eq!((shown.pass, shown.passes), (Some(1), Some(2)));
        ledger.apply(now, &Event::Transmitted { serial, passes: 2 });
        assert_eq!(word(&ledger, None, now), "transmitted");
        assert_eq!(word(&ledger, None, now.plus_s(3_600)), "retained");
        ledger.apply(now, &Event::Retired { serial });
        assert_eq!(word(&ledger, None, now), "retired");
    }
}
