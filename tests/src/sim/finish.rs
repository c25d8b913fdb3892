//! The checks at the end of a run.

use std::fs::{self, File};
use std::io::BufReader;

use serde_json::Value;
use valise_common::audit::{Evidence, verify};
use valise_common::host::folders::Role;

use super::cables::{Cable, Step};
use super::disk::Image;
use super::host::Address;
use super::plan::{Fate, Rot};
use super::run::Run;
use super::{Result, wrong};

/// Alarms about a cable that does not go on by itself.
const CABLE_ALARMS: [&str; 5] = [
    "container",
    "pending-closed",
    "pending-damaged",
    "pending-missing",
    "quarantine",
];

impl Run<'_> {
    /// Returns whether a cable needs nothing more.
    pub(super) fn is_settled(&self, cable: &Cable) -> bool {
        match &cable.plan.fate {
            Fate::Approved(_) => cable.has_arrived(),
            // The last request has its answer: the checks go on until the end of the run.
            _ => cable.next == Step::Done,
        }
    }

    /// Ends the roles, and holds their files against what happened.
    pub(super) fn finish(&mut self) -> Result<()> {
        if !self.log.violations().is_empty() || self.refuses.is_some() {
            return Ok(());
        }
        for number in 0..self.cables.len() {
            let cable = &self.cables[number];
            if !self.is_settled(cable) && !self.has_ended(cable)? && !self.is_reported()? {
                let at = self.now_us;
                self.log.violation(
                    at,
                    format!("cable {number} is neither released nor reported"),
                );
            }
        }
        self.check_shown()?;
        self.stop_all()?;
        for role in [Role::Gate, Role::Transmit, Role::Receive, Role::Release] {
            if let Err(fault) = self.verify_log(role) {
                self.log
                    .violation(self.now_us, format!("the audit log of {role}: {fault}"));
            }
        }
        self.check_serials()?;
        for host in [Address::Sender, Address::Receiver] {
            let digest = digest(&self.disk(host)?.image());
            self.log
                .add(self.now_us, format!("{host:?} ends as {digest}"));
        }
        Ok(())
    }

    /// Returns whether gate shows a cable as ended that nobody withdrew or rejected: a clock that was ahead has ended one with a
    /// short time, or gate has given up one whose file has a flipped bit.
    fn has_ended(&self, cable: &Cable) -> Result<bool> {
        let may_expire = cable.plan.valid_s.is_some() && self.clock_was_wrong;
        let may_end = may_expire || self.rotten.contains(&Rot::Pending);
        let Some(id) = cable.id.filter(|_| may_end) else {
            return Ok(false);
        };
        let view = fs::read(self.site.sender_state().view_of(Role::Gate)).map_err(wrong)?;
        let view: Value = serde_json::from_slice(&view).map_err(wrong)?;
        let cables = view["cables"].as_array().cloned().unwrap_or_default();
        let mut shown = cables.iter().filter(|shown| shown["id"] == id.to_string());
        Ok(shown.any(|shown| {
            let is_told = may_expire || shown["reason"].is_string();
            is_told && (shown["state"] == "expired" || shown["state"] == "retired")
        }))
    }

    /// Returns whether an alarm reports a flipped bit, or a clock that was wrong when a cable was made. Nothing else may stop
    /// a cable.
    fn is_reported(&self) -> Result<bool> {
        let hit = [Rot::Outbox, Rot::Pending];
        let is_hit = self.rotten.iter().any(|rot| hit.contains(rot));
        let sender = self.site.sender_state();
        let mut views = Vec::new();
        if is_hit {
            views.extend([Role::Gate, Role::Transmit].map(|role| sender.view_of(role)));
        }
        if self.clock_was_wrong {
            views.push(self.site.receiver_state().view_of(Role::Release));
        }
        for view in views {
            let view = fs::read(view).map_err(wrong)?;
            let view: Value = serde_json::from_slice(&view).map_err(wrong)?;
            let alarms = view["alarms"].as_array().cloned().unwrap_or_default();
            let mut codes = alarms.iter().filter_map(|alarm| alarm["alarm"].as_str());
            if codes.any(|code| CABLE_ALARMS.contains(&code)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gate shows no cable that its drafter does not know.
    fn check_shown(&mut self) -> Result<()> {
        let view = fs::read(self.site.sender_state().view_of(Role::Gate)).map_err(wrong)?;
        let view: Value = serde_json::from_slice(&view).map_err(wrong)?;
        let known: Vec<String> = self
            .cables
            .iter()
            .filter_map(|cable| Some(cable.id?.to_string()))
            .collect();
        for cable in view["cables"].as_array().into_iter().flatten() {
            let id = cable["id"].as_str().unwrap_or_default();
            if !known.iter().any(|known| known == id) {
                let text = format!(
                    "gate shows a cable that nobody submitted: {}",
                    cable["state"]
                );
                self.log.violation(self.now_us, text);
            }
        }
        Ok(())
    }

    fn verify_log(&self, role: Role) -> std::result::Result<(), String> {
        let audit = match Address::of(role) {
            Address::Sender => self.site.sender_state().audit(),
            Address::Receiver => self.site.receiver_state().audit(),
        };
        let log =
            File::open(audit.join(format!("{role}.log"))).map_err(|error| error.to_string())?;
        let evidence = Evidence {
            first_key: self.site.first_key(role),
            ..Evidence::default()
        };
        let summary = verify(BufReader::new(log), evidence).map_err(|error| error.to_string())?;
        match summary.macs_from {
            Some(1 | 0) => Ok(()),
            from => Err(format!("its lines are verified from {from:?} on")),
        }
    }

    /// Every serial up to the highest is in one state, and those of released cables are claimed.
    fn check_serials(&mut self) -> Result<()> {
        let view = self.site.receiver_state().view_of(Role::Release);
        let view = fs::read(view).map_err(wrong)?;
        let view: Value = serde_json::from_slice(&view).map_err(wrong)?;
        let counts = &view["counts"];
        let count = |key: &str| counts[key].as_u64().unwrap_or(0);
        let not_sent = view["not_sent"].as_array().map_or(0, |ranges| {
            ranges
                .iter()
                .map(|range| range[1].as_u64().unwrap_or(0) + 1 - range[0].as_u64().unwrap_or(0))
                .sum::<u64>()
        });
        let sum = count("claimed") + count("missing") + count("complete") + not_sent;
        let arrived = self
            .cables
            .iter()
            .filter(|cable| !cable.seen.is_empty())
            .count();
        let arrived = u64::try_from(arrived).unwrap_or(u64::MAX);
        if sum > count("highest") || count("claimed") < arrived {
            let text =
                format!("{arrived} cables are released, and the states of serials are {counts}");
            self.log.violation(self.now_us, text);
        }
        Ok(())
    }
}

/// Returns a hash of every name, length and byte, but for the bytes of the register: SQLite salts its write-ahead log.
fn digest(image: &Image) -> String {
    let mut hasher = blake3::Hasher::new();
    for path in image.paths() {
        let name = path.as_os_str().as_encoded_bytes();
        hasher.update(name);
        hasher.update(&image.bytes(&path).unwrap_or(0).to_le_bytes());
        if !name.windows(11).any(|part| part == b"register.db") {
            hasher.update(&image.read(&path).unwrap_or_default());
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
