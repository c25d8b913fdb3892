//! A trust list in plain words: for the administrator who is about to sign it, and for whoever
//! inspects a host.

use std::collections::BTreeMap;

use super::{Classification, Mailbox, Person, Role, TrustList};
use crate::ids::MailboxId;
use crate::label::Label;
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

    /// What is allowed but perhaps not meant, a sentence a line: software keys, and classifications
    /// that nobody can release at `now` or that reach no mailbox.
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
            let reached: Vec<&MailboxId> = self
                .mailboxes
                .iter()
                .filter(|mailbox| {
                    self.classification(&mailbox.classification_max)
                        .is_some_and(|(rank_max, _)| rank <= rank_max)
                })
                .map(|mailbox| &mailbox.id)
                .collect();
            lines.extend(self.out_of_reach(classification, &reached, now));
            if reached.is_empty() {
                lines.push(format!("no mailbox takes {}", classification.id));
            }
        }
        lines
    }

    /// Returns why nobody can release a cable of a classification, without categories, to any one mailbox that takes it.
    fn out_of_reach(
        &self,
        classification: &Classification,
        reached: &[&MailboxId],
        now: UtcTime,
    ) -> Option<String> {
        // Without a mailbox that takes it, another warning says so; this one is about persons.
        let most = match reached {
            [] => self.officers_for(classification, None, now),
            _ => reached
                .iter()
                .filter_map(|to| self.officers_for(classification, Some(to), now))
                .max(),
        };
        let reason = match most {
            None => "no drafter is valid whose limits cover it".to_owned(),
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

    /// Returns how many officers at most can approve a cable; `None` if nobody can draft it.
    fn officers_for(
        &self,
        classification: &Classification,
        to: Option<&MailboxId>,
        now: UtcTime,
    ) -> Option<usize> {
        let label = Label::new(classification.id.clone(), Vec::new()).ok()?;
        let counts = |person: &&Person, role| {
            person.has_role(role)
                && person.is_valid_at(now)
                && !person.is_revoked(now)
                && self.check_need_to_know(person, &label, to).is_ok()
        };
        let signs =
            |key: &PublicKey| !classification.user_verification || key.kind() == KeyKind::SkEd25519;
        let officers: Vec<&Person> = self
            .persons
            .iter()
            .filter(|person| counts(person, Role::Officer) && person.keys.iter().any(signs))
            .collect();
        self.persons
            .iter()
            .filter(|person| counts(person, Role::Drafter))
            .map(|drafter| officers.iter().filter(|one| one.id != drafter.id).count())
            .max()
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

/// What changes from one list to the next, a sentence a line; empty if nothing but version and date
/// does.
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
            "{} ({}, {}): {} officers must approve{}; parts may be {}; at most {}, \
             valid for at most {} days",
            self.id,
            match self.colour {
                None => self.marking.escaped(),
                Some(colour) => format!("{} in {colour}", self.marking.escaped()),
            },
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
        sentence.push_str(&format!("; need to know: {}", self.limits.clause()));
        (format!("person {}", self.id), sentence)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sample::{self, B, C, D, list_with, software, token};
    use super::*;

    fn now() -> UtcTime {
        "2026-11-23T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_list_explains_itself() {
        let lines = sample::list().explain().join("\n");
        for sentence in [
            "trust list version 7 for channel 0123456789abcdef0123456789abcdef, issued 2026-11-22T",
            "only security keys may approve",
            "OPEN (OPEN MARKING, the lowest): 2 officers must approve; parts may be text/plain",
            "SECRET (SECRET MARKING, above RESTRICTED): 3 officers must approve, each with PIN or",
            "paris-desk takes cables up to RESTRICTED, with no category but CRISIS, LIMITE",
            "a.person drafts from 2026-01-01T00:00:00Z until 2027-01-01T00:00:00Z",
            "e.both drafts, and approves what others drafted from",
            "until 2027-01-01T00:00:00Z, security key SHA256:",
        ] {
            assert!(lines.contains(sentence), "{sentence}\n{lines}");
        }
    }

    #[test]
    fn a_sound_list_gives_no_warning() {
        assert_eq!(sample::list().warnings(now()), Vec::<String>::new());
    }

    #[test]
    fn a_list_of_the_future_is_a_warning_until_its_second_comes() {
        let list = sample::list();
        let warned = |seconds: u64| {
            let now = UtcTime::from_s(list.issued().as_s() - 1 + seconds);
            let warnings = list.warnings(now).join("\n");
            warnings.contains("issued in the future (2026-11-22T00:00:00Z)")
        };
        assert_eq!([0, 1, 2].map(warned), [true, false, false]);
    }

    #[test]
    fn a_classification_that_nobody_can_release_is_a_warning() {
        let list = list_with("officers = 3", "officers = 4");
        // With a.person as the drafter, four can approve; with e.both, three.
        assert_eq!(list.warnings(now()), Vec::<String>::new());
        let revoked = "id = \"d.officer\"\nrevoked = \"2026-06-01T00:00:00Z\"";
        let list = list_with("id = \"d.officer\"", revoked);
        assert_eq!(list.warnings(now()), Vec::<String>::new());
        let list = TrustList::parse(
            sample::changed("id = \"d.officer\"", revoked)
                .replace("officers = 3", "officers = 4")
                .as_bytes(),
        );
        let warnings = list.unwrap().warnings(now()).join("\n");
        assert!(
            warnings.contains("nobody can release SECRET: 4 officers must approve, and at most 3")
        );
        let later = "2027-01-01T00:00:00Z".parse().unwrap();
        let warnings = sample::list().warnings(later).join("\n");
        assert!(warnings.contains("nobody can release OPEN: no drafter is valid"));
    }

    #[test]
    fn software_keys_are_a_warning_and_do_not_count_where_verification_is_asked() {
        let mut text = sample::changed("allow-software-keys = false", "allow-software-keys = true");
        for seed in [B, C, D] {
            text = text.replace(&token(seed), &software(seed));
        }
        text = text.replace(&token(sample::B_SECOND), &software(sample::B_SECOND));
        let warnings = TrustList::parse(text.as_bytes()).unwrap().warnings(now());
        let warnings = warnings.join("\n");
        assert!(warnings.contains("software keys may approve"));
        assert!(warnings.contains("nobody can release RESTRICTED"));
        assert!(!warnings.contains("nobody can release OPEN"));
    }

    #[test]
    fn limits_are_in_the_meaning_and_an_absent_limit_is_no_limit() {
        let without = sample::list().explain().join("\n");
        let absent =
            "need to know: classification no limit, categories no limit, mailboxes no limit";
        assert_eq!(without.matches(absent).count(), 5, "{without}");
        let limited = changed_person(
            "c.officer",
            "classification-max = \"RESTRICTED\"\ncategories = []\n\
             mailboxes = [\"registry\", \"paris-desk\"]\n",
        );
        let list = TrustList::parse(limited.as_bytes()).unwrap();
        let lines = list.explain().join("\n");
        let found = "need to know: classification up to RESTRICTED, categories none, mailboxes paris-desk registry";
        assert_eq!(lines.matches(found).count(), 1, "{lines}");
        assert_eq!(lines.matches(absent).count(), 4, "{lines}");
        let differs = difference(&sample::list(), &list);
        assert_eq!(differs.len(), 1);
        assert!(differs[0].starts_with("changed: c.officer") && differs[0].contains(found));
    }

    /// The sample with lines added to a person.
    fn changed_person(id: &str, lines: &str) -> String {
        let person = format!("id = \"{id}\"\n");
        sample::changed(&person, &format!("{person}{lines}"))
    }

    #[test]
    fn a_classification_beyond_the_limits_of_too_many_is_a_warning() {
        let warned = |text: &str| TrustList::parse(text.as_bytes()).unwrap().warnings(now());
        let open = "classification-max = \"OPEN\"\n";
        // SECRET needs three: with b, d and e there are three for a.person.
        let limited = changed_person("c.officer", open);
        assert_eq!(warned(&limited), Vec::<String>::new());
        let limited = limited.replace(
            "id = \"d.officer\"\n",
            &format!("id = \"d.officer\"\n{open}"),
        );
        let warnings = warned(&limited).join("\n");
        assert!(
            warnings.contains("nobody can release SECRET: 3 officers must approve, and at most 2")
        );
        assert!(!warnings.contains("RESTRICTED:"), "{warnings}");
        // Drafters are limited, too: to a mailbox that does not take SECRET.
        let paris = "mailboxes = [\"paris-desk\"]\n";
        let limited = changed_person("a.person", paris)
            .replace("id = \"e.both\"\n", &format!("id = \"e.both\"\n{paris}"));
        let warnings = warned(&limited).join("\n");
        assert!(
            warnings.contains("nobody can release SECRET: no drafter is valid"),
            "{warnings}"
        );
        assert!(!warnings.contains("OPEN"), "{warnings}");
    }

    #[test]
    fn a_colour_is_in_the_meaning_beside_the_marking() {
        let coloured = list_with("id = \"SECRET\"", "id = \"SECRET\"\ncolour = \"red\"");
        let lines = coloured.explain().join("\n");
        assert!(lines.contains("SECRET (SECRET MARKING in red, above RESTRICTED): 3"));
        assert!(difference(&sample::list(), &coloured)[0].starts_with("changed: SECRET"));
    }

    #[test]
    fn a_classification_above_every_mailbox_is_a_warning() {
        let list = list_with(
            "classification-max = \"SECRET\"",
            "classification-max = \"OPEN\"",
        );
        assert_eq!(list.warnings(now()), ["no mailbox takes SECRET"]);
    }

    #[test]
    fn a_difference_names_what_is_new_changed_and_gone() {
        let old = sample::list();
        assert_eq!(difference(&old, &old), Vec::<String>::new());
        assert_eq!(
            difference(&old, &list_with("version = 7", "version = 8")),
            Vec::<String>::new()
        );
        for (from, to, sentence) in [
            ("0123456789abcdef0", "0123456789abcdef1", "other channel"),
            (
                "allow-software-keys = false",
                "allow-software-keys = true",
                "changed: software keys may approve",
            ),
            (
                "id = \"d.officer\"",
                "id = \"f.officer\"",
                "new: f.officer approves",
            ),
            (
                "id = \"d.officer\"",
                "id = \"f.officer\"",
                "gone: d.officer approves",
            ),
            ("officers = 3", "officers = 2", "changed: SECRET"),
            (
                "id = \"c.officer\"",
                "id = \"c.officer\"\nrevoked = \"2026-06-01T00:00:00Z\"",
                "changed: c.officer",
            ),
            (&token(C), &token(99), "changed: c.officer"),
            (
                "categories = [\"LIMITE\", \"CRISIS\"]",
                "categories = []",
                "changed: paris-desk",
            ),
        ] {
            let lines = difference(&old, &list_with(from, to));
            assert!(
                lines.iter().any(|line| line.starts_with(sentence)),
                "{lines:?}"
            );
        }
    }
}
