//! Cables of mixed sizes and precedences, each from its request to the mailbox.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::harness::{HarnessError, HiddenRequest, Host, Released, Result, Submission, World};
use crate::wire::Prng;

/// A class of sizes: its name, its bytes, and its number of cables in ten.
pub const CLASSES: [(&str, u64, u64); 3] = [
    ("2 kB", 2_000, 7),
    ("200 kB", 200_000, 2),
    ("5 MB", 5_000_000, 1),
];

const PRECEDENCES: [&str; 4] = ["routine", "priority", "immediate", "flash"];

/// A cable that has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Its class, as an index into [`CLASSES`].
    pub class: usize,
    /// The time of its submission, in seconds since the first one.
    pub submitted_s: f64,
    /// The time from its submission to the mailbox.
    pub seconds: f64,
}

/// A cable in transit.
struct Cable {
    class: usize,
    submission: Submission,
    placed: Instant,
    is_approved: bool,
}

/// All cables of a soak.
pub struct Load {
    begun: Instant,
    prng: Prng,
    placed: u64,
    /// Placed but not answered, by the name of the request.
    asked: BTreeMap<String, Cable>,
    /// Accepted, by message-id.
    travelling: BTreeMap<String, Cable>,
    done: BTreeSet<String>,
    /// The cables that have arrived, in order.
    pub arrivals: Vec<Arrival>,
    /// Approvals whose answer has not come.
    approvals: BTreeSet<String>,
    resend: Option<String>,
    /// Serials that were sent again, because the line had lost too many of their symbols.
    pub resent: u64,
    /// Faults of single cables.
    pub failures: Vec<String>,
}

impl Load {
    /// A load without any submission.
    pub fn new(seed: u64) -> Self {
        Self {
            begun: Instant::now(),
            prng: Prng::new(seed),
            placed: 0,
            asked: BTreeMap::new(),
            travelling: BTreeMap::new(),
            done: BTreeSet::new(),
            arrivals: Vec::new(),
            approvals: BTreeSet::new(),
            resend: None,
            resent: 0,
            failures: Vec::new(),
        }
    }

    /// The number of submitted cables.
    pub fn placed(&self) -> u64 {
        self.placed
    }

    /// The number of cables that have not arrived.
    pub fn missing(&self) -> usize {
        self.asked.len() + self.travelling.len()
    }

    /// Submits the next cable.
    ///
    /// # Errors
    /// If the request cannot be written.
    pub fn submit(&mut self, world: &World) -> Result<()> {
        let draw = self.prng.below(10);
        let mut upper = 0;
        let class = CLASSES.iter().position(|(_, _, share)| {
            upper += share;
            draw < upper
        });
        let class = class.unwrap_or(0);
        let precedence = usize::try_from(self.prng.below(4)).unwrap_or(0);
        let name = format!("cable-{}", self.placed);
        let file =
            world.generate_file(&format!("{name}.bin"), CLASSES[class].1, self.prng.bits())?;
        let mut submission = Submission::new(&name, &[file]);
        submission.precedence = PRECEDENCES[precedence].to_owned();
        let text = format!(
            "request = \"submit\"\nlabel = {:?}\nto = {:?}\nprecedence = {:?}\nsubject = {name:?}\n",
            submission.label, submission.to, submission.precedence
        );
        let files = [("cable.bin".to_owned(), submission.files[0].clone())];
        place(world, &name, &text, &files)?;
        let cable = Cable {
            class,
            submission,
            placed: Instant::now(),
            is_approved: false,
        };
        self.asked.insert(name, cable);
        self.placed += 1;
        Ok(())
    }

    /// Takes answers, approves accepted cables, and takes arrived cables out of the mailbox.
    ///
    /// # Errors
    /// If the harness cannot read or write. A fault of a cable is recorded instead.
    pub fn drive(&mut self, world: &World) -> Result<()> {
        let names: Vec<String> = self.asked.keys().cloned().collect();
        for name in names {
            match self.answer(world, &name) {
                Some(Ok(id)) => {
                    if let Some(cable) = self.asked.remove(&name) {
                        self.travelling.insert(id, cable);
                    }
                }
                Some(Err(why)) => {
                    self.failures.push(format!("{name} was refused: {why}"));
                    self.asked.remove(&name);
                }
                None => {}
            }
        }
        self.approve(world)?;
        let open: Vec<String> = self.approvals.iter().cloned().collect();
        for name in open {
            match self.answer(world, &name) {
                Some(Err(why)) => self.failures.push(format!("{name} was refused: {why}")),
                Some(Ok(_)) => {}
                None => continue,
            }
            self.approvals.remove(&name);
        }
        self.take_released(world)
    }

    fn approve(&mut self, world: &World) -> Result<()> {
        let waiting = self
            .travelling
            .iter_mut()
            .filter(|(_, cable)| !cable.is_approved);
        let mut ids = Vec::new();
        for (id, cable) in waiting {
            cable.is_approved = true;
            ids.push(id.clone());
        }
        if ids.is_empty() {
            return Ok(());
        }
        for officer in 0..2 {
            let key = world.roster.officers[officer].clone();
            let prefix = format!("approve-{officer}");
            for request in world.write_approvals(&ids, &key, &prefix)? {
                request.open_to_daemon()?;
                request.reveal()?;
            }
            self.approvals
                .extend(ids.iter().map(|id| format!("{prefix}-{id}")));
        }
        Ok(())
    }

    /// Returns the answer to a request, and deletes it as a command does.
    fn answer(&self, world: &World, name: &str) -> Option<std::result::Result<String, String>> {
        let folder = world.state(Host::Sender).join("requests");
        let read = |end: &str| {
            let file = folder.join(format!("{name}.{end}"));
            let text = fs::read_to_string(&file).ok()?;
            let text = text.strip_suffix('\n')?.trim().to_owned();
            let _ = fs::remove_file(&file);
            Some(text)
        };
        read("accepted")
            .map(Ok)
            .or_else(|| read("refused").map(Err))
    }

    fn take_released(&mut self, world: &World) -> Result<()> {
        for released in Released::all(&world.released_folder())? {
            let id = &released.message_id;
            let Some(cable) = self.travelling.remove(id) else {
                if self.done.contains(id) {
                    self.failures.push(format!("cable {id} was released twice"));
                }
                discard(&released.folder)?;
                continue;
            };
            self.arrivals.push(Arrival {
                class: cable.class,
                submitted_s: cable.placed.duration_since(self.begun).as_secs_f64(),
                seconds: cable.placed.elapsed().as_secs_f64(),
            });
            if let Err(error) = released.compare(&cable.submission) {
                self.failures.push(error.to_string());
            }
            self.done.insert(id.clone());
            discard(&released.folder)?;
            for file in &cable.submission.files {
                let _ = fs::remove_file(file);
            }
        }
        Ok(())
    }

    /// Requests a resend of each serial that the receiver lacks.
    ///
    /// # Errors
    /// If the request cannot be written.
    pub fn send_missing_again(&mut self, world: &World) -> Result<()> {
        if let Some(name) = self.resend.clone() {
            if self.answer(world, &name).is_none() {
                return Ok(());
            }
            self.resend = None;
        }
        let Ok(gaps) = world.json(Host::Receiver, &["gaps"]) else {
            return Ok(());
        };
        let count = gaps["missing"].as_array().map_or(0, Vec::len);
        if count == 0 {
            return Ok(());
        }
        self.resent += u64::try_from(count).unwrap_or(0);
        let serials = gaps["ranges"].as_str().unwrap_or_default();
        let name = format!("resend-{}", self.resent);
        place(
            world,
            &name,
            &format!("request = \"resend\"\nserials = {serials:?}\n"),
            &[],
        )?;
        self.resend = Some(name);
        Ok(())
    }

    /// Returns the cables that are still in transit, by their subject.
    pub fn lost(&self) -> Vec<String> {
        let all = self.asked.values().chain(self.travelling.values());
        all.map(|cable| cable.submission.subject.clone()).collect()
    }
}

fn place(world: &World, name: &str, text: &str, files: &[(String, PathBuf)]) -> Result<()> {
    let request: HiddenRequest = world.write_request(Host::Sender, name, text, files)?;
    request.open_to_daemon()?;
    request.reveal()
}

/// Deletes a cable, as a reader does after copying it to another place.
fn discard(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(|error| HarnessError::io("delete", folder, error))
}
