//! A trust list in plain words: for the administrator who is about to sign it, and for whoever inspects a host.

use std::collections::BTreeMap;

use super::{Classification, Mailbox, Person, Role, TrustList};
use crate::sshsig::{KeyKind, PublicKey};
use crate::units::{ByteSize, UtcTime};

impl TrustList {
    /// Who may release what to whom, a sentence a line.
    pub fn explain(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "trust list version {} for channel {}, issued {}",
            self.version, self.channel, self.issued
        )];
        lines.extend(self.sentences().into_iter().map(|(_, sentence)| sentence));
        lines
    }

    /// What is allowed but perhaps not meant, a sentence a line: software keys, and classifications that nobody can
    /// release at `now` or that reach no mailbox.
    pub fn warnings(&self, now: UtcTime) -> Vec<String> {
        let mut lines = Vec::new();
        if self.allow_software_keys {
            lines.push(
                "software keys may approve: for exercises only, since a file can be copied"
                    .to_owned(),
            );
        }
        if self.issued > now {
            lines.push(format!(
                "the list is issued in the future ({}); check the clocks",
                self.issued
            ));
        }
        for (rank, classification) in self.classifications.iter().enumerate() {
            lines.extend(self.out_of_reach(classification, now));
            let reached = |mailbox: &Mailbox| {
                self.classification(&mailbox.classification_max)
                    .is_some_and(|(rank_max, _)| rank <= rank_max)
            };
            if !self.mailboxes.iter().any(reached) {
                lines.push(format!("no mailbox takes {}", classification.id));
            }
        }
        lines
    }

    /// Why nobody can release a classification at `now`, if so.
    fn out_of_reach(&self, classification: &Classification, now: UtcTime) -> Option<String> {
        let counts = |person: &Person, role| {
            person.has_role(role) && person.is_valid_at(now) && !person.is_revoked(now)
        };
        let signs =
            |key: &PublicKey| !classification.user_verification || key.kind() == KeyKind::SkEd25519;
        let officers: Vec<&Person> = self
            .persons
            .iter()
            .filter(|person| counts(person, Role::Officer) && person.keys.iter().any(signs))
            .collect();
        let most = self
            .persons
            .iter()
            .filter(|person| counts(person, Role::Drafter))
            .map(|drafter| officers.iter().filter(|one| one.id != drafter.id).count())
            .max();
        let reason = match most {
            None => "no drafter is valid".to_owned(),
            Some(most) if most < classification.officers => format!(
                "{} officers must approve, and at most {most} can for any one drafter",
                classification.officers
            ),
            Some(_) => return None,
        };
        Some(format!(
            "at {now}, nobody can release {}: {reason}",
            classification.id
        ))
    }

    /// One sentence an entry, with the name that it is compared under.
    fn sentences(&self) -> Vec<(String, String)> {
        let software = if self.allow_software_keys {
            "software keys may approve where no PIN or biometrics are asked for"
        } else {
            "only security keys may approve"
        };
        let mut lines = vec![("software keys".to_owned(), software.to_owned())];
        let mut below = None;
        for classification in &self.classifications {
            lines.push(classification.sentence(below));
            below = Some(classification);
        }
        let entry = |id: &str, kind: &str| (format!("{kind} {id}"), format!("{kind} {id}"));
        lines.extend(
            self.categories
                .iter()
                .map(|id| entry(id.as_str(), "category")),
        );
        lines.extend(self.mailboxes.iter().map(Mailbox::sentence));
        lines.extend(self.persons.iter().map(Person::sentence));
        lines
    }
}

/// What changes from one list to the next, a sentence a line; empty if nothing but version and date does.
pub fn difference(old: &TrustList, new: &TrustList) -> Vec<String> {
    let mut lines = Vec::new();
    if old.channel != new.channel {
        lines.push(format!(
            "other channel: {} (was {})",
            new.channel, old.channel
        ));
    }
    let before: BTreeMap<String, String> = old.sentences().into_iter().collect();
    let after: BTreeMap<String, String> = new.sentences().into_iter().collect();
    for (name, sentence) in &after {
        match before.get(name) {
            None => lines.push(format!("new: {sentence}")),
            Some(was) if was != sentence => lines.push(format!("changed: {sentence} (was: {was})")),
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    lines.extend(gone.map(|(_, sentence)| format!("gone: {sentence}")));
    lines
}

impl Classification {
    fn sentence(&self, below: Option<&Classification>) -> (String, String) {
        let media_types: Vec<&str> = self.media_types.iter().map(AsRef::as_ref).collect();
        let sentence = format!(
            "{} ({}, {}): {} officers must approve{}; parts may be {}; at most {}, valid for at most {} days",
            self.id,
            self.marking.escaped(),
            below.map_or_else(
                || "the lowest".to_owned(),
                |below| format!("above {}", below.id)
            ),
            self.officers,
            if self.user_verification {
                ", each with PIN or biometrics"
            } else {
                ""
            },
            media_types.join(", "),
            ByteSize(self.cable_bytes_max),
            self.validity_days_max,
        );
        (format!("classification {}", self.id), sentence)
    }
}

impl Mailbox {
    fn sentence(&self) -> (String, String) {
        let categories: Vec<&str> = self.categories.iter().map(AsRef::as_ref).collect();
        let categories = match categories.as_slice() {
            [] => "without any category".to_owned(),
            some => format!("with no category but {}", some.join(", ")),
        };
        let sentence = format!(
            "{} takes cables up to {}, {categories}",
            self.id, self.classification_max
        );
        (format!("mailbox {}", self.id), sentence)
    }
}

impl Person {
    fn sentence(&self) -> (String, String) {
        let may = match (self.has_role(Role::Drafter), self.has_role(Role::Officer)) {
            (true, true) => "drafts, and approves what others drafted",
            (true, false) => "drafts",
            _ => "approves",
        };
        let mut sentence = format!(
            "{} {may} from {} until {}",
            self.id, self.valid_from, self.valid_until
        );
        if let Some(revoked) = self.revoked {
            sentence.push_str(&format!(", revoked from {revoked}"));
        }
        for key in &self.keys {
            let kind = match key.kind() {
                KeyKind::Ed25519 => "software key",
                KeyKind::SkEd25519 => "security key",
            };
            sentence.push_str(&format!(", {kind} {}", key.fingerprint()));
        }
        (format!("person {}", self.id), sentence)
    }
}
