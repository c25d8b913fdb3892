//! The cables of a run, and the checks of what readers see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use valise_common::ids::MessageId;
use valise_common::manifest::Manifest;
use valise_receiver::spool::released::ReleasedCable;

use super::people::MAILBOXES;
use super::plan::{CablePlan, Fate};

/// The folder for cables that readers took.
pub const TAKEN: &str = "taken";

/// A cable, from its draft on.
#[derive(Debug)]
pub struct Cable {
    /// The draft and the fate.
    pub plan: CablePlan,
    /// The bytes of its parts.
    pub parts: Vec<Vec<u8>>,
    /// The request that waits for its answer, and its step.
    pub asked: Option<(String, Step)>,
    /// Requests that were placed for it so far.
    pub attempts: u32,
    /// The next step, and not before this moment.
    pub next: Step,
    /// The moment.
    pub not_before_us: u64,
    /// Its id, once accepted.
    pub id: Option<MessageId>,
    /// Its manifest, as officers saw it.
    pub manifest: Vec<u8>,
    /// The mailboxes in which it was seen.
    pub seen: BTreeSet<String>,
    /// Its serial, once gate shows it.
    pub serial: Option<u64>,
    /// When it had its quorum.
    pub quorum_at_us: Option<u64>,
    /// Resends that operators asked for.
    pub resends: u64,
    /// All passes have left that it gets without a resend.
    pub was_sent: bool,
}

/// The steps of a cable's people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The drafter submits.
    Submit,
    /// The first officer approves.
    First,
    /// The fate decides.
    Second,
    /// Nothing more is asked.
    Done,
}

impl Cable {
    /// A cable with a body that follows from `number`.
    pub fn new(number: u64, plan: CablePlan) -> Self {
        let parts = (0..).zip(&plan.parts).map(|(place, bytes)| {
            let mut prng = crate::wire::Prng::new(number << 8 | place);
            let mut part = vec![0; usize::try_from(*bytes).unwrap_or(0)];
            prng.fill(&mut part);
            part
        });
        Self {
            parts: parts.collect(),
            not_before_us: plan.at_us,
            plan,
            asked: None,
            attempts: 0,
            next: Step::Submit,
            id: None,
            manifest: Vec::new(),
            seen: BTreeSet::new(),
            serial: None,
            quorum_at_us: None,
            resends: 0,
            was_sent: false,
        }
    }

    /// Its mailboxes.
    pub fn mailboxes(&self) -> impl Iterator<Item = &'static str> {
        self.plan.to.iter().map(|place| MAILBOXES[*place])
    }

    /// Returns whether the cable may be released.
    pub fn is_approved(&self) -> bool {
        matches!(self.plan.fate, Fate::Approved(_))
    }

    /// Returns whether the cable is in all its mailboxes.
    pub fn has_arrived(&self) -> bool {
        self.mailboxes().all(|mailbox| self.seen.contains(mailbox))
    }
}

/// The cables in the mailboxes, and those that readers took.
#[derive(Debug, Default)]
pub struct Mailboxes {
    /// Folders that were checked, and whose cable each is.
    checked: BTreeMap<(String, String), MessageId>,
    /// Cables that readers took, durably.
    taken: BTreeSet<(String, MessageId)>,
}

impl Mailboxes {
    /// Checks every folder that is new, and returns the faults.
    ///
    /// # Errors
    /// The disk's.
    pub fn look(
        &mut self,
        released: &Path,
        cables: &mut [Cable],
        events: &mut Vec<String>,
    ) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for mailbox in MAILBOXES {
            let mut ids: BTreeMap<MessageId, String> = BTreeMap::new();
            for name in names(&released.join(mailbox))? {
                let folder = released.join(mailbox).join(&name);
                let key = (mailbox.to_owned(), name.clone());
                let known = self.checked.get(&key).copied();
                let cable = match known {
                    Some(_) => None,
                    None => match ReleasedCable::check(&folder) {
                        Ok(cable) => Some(cable),
                        Err(fault) => {
                            wrong.push(format!("{mailbox}/{name} is not a whole cable: {fault}"));
                            continue;
                        }
                    },
                };
                let new = cable.as_ref().map(|cable| cable.manifest().message_id);
                let Some(id) = known.or(new) else {
                    continue;
                };
                if let Some(other) = ids.insert(id, name.clone()) {
                    wrong.push(format!(
                        "{mailbox} holds one cable twice: {other} and {name}"
                    ));
                }
                if self.taken.contains(&(mailbox.to_owned(), id)) {
                    wrong.push(format!(
                        "{mailbox}/{name} was taken before, and is there again"
                    ));
                }
                let Some(cable) = cable else {
                    continue;
                };
                self.checked.insert(key, id);
                let manifest = cable.manifest();
                match cables.iter_mut().position(|cable| cable.id == Some(id)) {
                    None => wrong.push(format!("{mailbox}/{name} was never submitted")),
                    Some(number) => {
                        events.push(format!("cable {number} is in {mailbox}"));
                        cables[number].seen.insert(mailbox.to_owned());
                        cables[number].serial = Some(cable.record().serial.get());
                        wrong.extend(compare(&cables[number], manifest, mailbox));
                        if cable.record().verified > manifest.not_after {
                            wrong
                                .push(format!("cable {number} was verified after its last moment"));
                        }
                    }
                }
            }
        }
        Ok(wrong)
    }

    /// Takes a cable out of a mailbox as its reader does.
    ///
    /// # Errors
    /// The disk's.
    pub fn take(&mut self, released: &Path, mailbox: &str) -> io::Result<Option<String>> {
        let Some(name) = names(&released.join(mailbox))?.into_iter().next() else {
            return Ok(None);
        };
        let Some(to) = released
            .parent()
            .and_then(Path::parent)
            .map(|root| root.join(TAKEN))
        else {
            return Ok(None);
        };
        let folder = released.join(mailbox).join(&name);
        let Ok(cable) = ReleasedCable::check(&folder) else {
            return Ok(None);
        };
        let id = cable.manifest().message_id;
        if !to.exists() {
            fs::create_dir(&to)?;
            File::open(to.parent().unwrap_or(&to))?.sync_all()?;
        }
        fs::rename(&folder, to.join(format!("{mailbox}-{name}")))?;
        File::open(&to)?.sync_all()?;
        File::open(released.join(mailbox))?.sync_all()?;
        self.taken.insert((mailbox.to_owned(), id));
        Ok(Some(name))
    }

    /// A power cut may have taken names back: folders are looked at again.
    pub fn forget_checks(&mut self) {
        self.checked.clear();
    }
}

fn compare(cable: &Cable, manifest: &Manifest, mailbox: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let number = cable.id.map(|id| id.to_string()).unwrap_or_default();
    if !cable.is_approved() {
        wrong.push(format!(
            "{number} was released and is not approved: {:?}",
            cable.plan.fate
        ));
    }
    if !cable.mailboxes().any(|to| to == mailbox) {
        wrong.push(format!(
            "{number} is in {mailbox}, which is not one of its mailboxes"
        ));
    }
    if manifest.encode().ok().as_deref() != Some(&cable.manifest[..]) {
        wrong.push(format!(
            "{number} has another manifest than officers approved"
        ));
    }
    let hashes = cable
        .parts
        .iter()
        .map(|part| <[u8; 32]>::from(Sha256::digest(part)));
    if !manifest.parts.iter().map(|part| part.sha256).eq(hashes) {
        wrong.push(format!("{number} has other bytes than were submitted"));
    }
    wrong
}

/// The names in a folder that readers see, in order.
///
/// # Errors
/// The disk's.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
