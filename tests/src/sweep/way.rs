//! The acts of a case: all requests are made, and roles that end are started again, until all cables have arrived.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::request::Request;
use super::template::{Expected, Template};
use crate::harness::{HarnessError, Host, Released, Result, Role, World, await_condition};

/// The longest time for any of them. Release tries a cable again 30 s after the disk was full.
const LIMIT: Duration = Duration::from_secs(60);
/// The interval at which the operator looks for missing serials.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// A case in progress.
pub struct Way<'a> {
    template: &'a Template,
    /// The copy of the hosts.
    pub world: World,
    requests: Vec<Request>,
    /// The cables that must arrive.
    pub expected: Vec<Expected>,
    resends: Vec<Request>,
    looked: Option<Instant>,
    /// Each end of a role, with its last line.
    pub ends: Vec<(Role, String)>,
}

impl<'a> Way<'a> {
    /// Takes a copy of the hosts, with nothing running.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new(template: &'a Template) -> Result<Self> {
        let world = template.world.copied()?;
        let fresh = template.fresh.iter().map(|submission| Expected {
            submission: submission.clone(),
            id: None,
        });
        let known = [template.rechecked.clone(), template.resent.clone()];
        Ok(Self {
            template,
            world,
            requests: Vec::new(),
            expected: fresh.chain(known).collect(),
            resends: Vec::new(),
            looked: None,
            ends: Vec::new(),
        })
    }

    /// Places all requests that do not depend on the answer to another.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn ask(&mut self) -> Result<()> {
        for (index, submission) in self.template.fresh.iter().enumerate() {
            let text = format!(
                "request = \"submit\"\nlabel = {:?}\nto = {:?}\nprecedence = {:?}\nsubject = {:?}\n",
                submission.label, submission.to, submission.precedence, submission.subject
            );
            let name = |file: &PathBuf| file.file_name().unwrap_or_default().display().to_string();
            let files = submission.files.iter();
            let files = files.map(|file| (name(file), file.clone())).collect();
            self.add(Host::Sender, &format!("submit-{index}"), text, files);
        }
        let Template {
            withdrawn,
            rejected,
            ..
        } = self.template;
        let withdraw = format!("request = \"withdraw\"\nid = {withdrawn:?}\n");
        self.add(Host::Sender, "withdraw", withdraw, Vec::new());
        let reject = format!("request = \"reject\"\nid = {rejected:?}\nreason = \"no\"\n");
        self.add(Host::Sender, "reject", reject, Vec::new());
        let resend = "request = \"resend\"\nserials = \"3\"\n".to_owned();
        self.add(Host::Sender, "resend", resend, Vec::new());
        let import = "request = \"trust-import\"\n".to_owned();
        let files = self.template.trust_list.clone();
        self.add(Host::Receiver, "import", import, files);
        let discard = "request = \"quarantine-discard\"\nserial = 2\nreason = \"no\"\n".to_owned();
        self.add(Host::Receiver, "discard", discard, Vec::new());
        self.drive_requests()
    }

    fn add(&mut self, host: Host, name: &str, text: String, files: Vec<(String, PathBuf)>) {
        self.requests.push(Request::new(host, name, text, files));
    }

    /// Continues until all cables have arrived and all requests are answered.
    ///
    /// # Errors
    /// [`HarnessError::Wrong`] with the events that are missing at the limit, or the refusal.
    pub fn complete(&mut self, role: Role) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.start_what_ended(role)?;
            self.drive_requests()?;
            let waiting = self.waits_for()?;
            if waiting.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                let text = format!(
                    "after {} s still to come: {}",
                    LIMIT.as_secs(),
                    waiting.join(", ")
                );
                return Err(HarnessError::Wrong(text));
            }
            self.send_missing_again()?;
            self.await_news()?;
        }
    }

    /// Starts each role that has ended again, as its supervisor does.
    ///
    /// # Errors
    /// If a role without the fault has ended, or the role with the fault a second time.
    pub fn start_what_ended(&mut self, role: Role) -> Result<()> {
        for any in Role::ALL {
            let Some(end) = self.world.take_ended(any) else {
                continue;
            };
            if any != role || !self.ends.is_empty() {
                return Err(end);
            }
            self.ends.push((any, end.to_string()));
            self.world.launch_role(any)?;
        }
        Ok(())
    }

    fn drive_requests(&mut self) -> Result<()> {
        for request in self.requests.iter_mut().chain(&mut self.resends) {
            request.drive(&self.world)?;
        }
        let refused = self.requests.iter().find_map(|request| {
            let text = request.refused.as_ref()?;
            Some(format!("request {} was refused: {text}", request.name()))
        });
        if let Some(text) = refused {
            return Err(HarnessError::Wrong(text));
        }
        self.approve_what_is_submitted()?;
        let is_accepted = |name: &str| {
            let mut all = self.requests.iter();
            all.any(|request| request.name() == name && request.accepted.is_some())
        };
        let is_asked = self
            .requests
            .iter()
            .any(|request| request.name() == "recheck");
        if is_accepted("import") && !is_asked {
            let text = "request = \"quarantine-recheck\"\nserial = 1\n".to_owned();
            self.add(Host::Receiver, "recheck", text, Vec::new());
        }
        Ok(())
    }

    /// Signs all new cables as two officers, when each has its id.
    fn approve_what_is_submitted(&mut self) -> Result<()> {
        let count = self.template.fresh.len();
        if self.expected[0].id.is_some() {
            return Ok(());
        }
        let answers = self.requests[..count].iter();
        let ids: Option<Vec<String>> = answers.map(|request| request.accepted.clone()).collect();
        let Some(ids) = ids else { return Ok(()) };
        for (expected, id) in self.expected.iter_mut().zip(&ids) {
            expected.id = Some(id.clone());
        }
        for (number, officer) in self.world.roster.officers[..2].to_vec().iter().enumerate() {
            let folder = self.world.folder().join(format!("officer-{number}"));
            let fail = |error| HarnessError::io("make", &folder, error);
            fs::create_dir(&folder).map_err(fail)?;
            let mut copies = Vec::new();
            for id in &ids {
                let manifest = self.world.state(Host::Sender).join("pending").join(id);
                let copy = folder.join(id);
                fs::copy(manifest.join("manifest.txt"), &copy)
                    .map_err(|error| HarnessError::io("copy the manifest of", &manifest, error))?;
                copies.push(copy);
            }
            officer.sign("cable-approval@valise", &copies)?;
            for id in &ids {
                let text = format!("request = \"approve\"\nid = {id:?}\n");
                let signature = folder.join(format!("{id}.sig"));
                let files = vec![("approval.sig".to_owned(), signature)];
                self.add(Host::Sender, &format!("approve-{number}-{id}"), text, files);
            }
        }
        Ok(())
    }

    /// Returns the events that have not happened yet.
    fn waits_for(&self) -> Result<Vec<String>> {
        let open = self.requests.iter().filter(|request| !request.is_over());
        let mut waiting: Vec<String> = open
            .map(|request| format!("the answer to {}", request.name()))
            .collect();
        let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
        for released in Released::all(&self.world.released_folder())? {
            *arrived.entry(released.message_id).or_default() += 1;
        }
        for expected in &self.expected {
            let is_here = expected
                .id
                .as_ref()
                .is_some_and(|id| arrived.contains_key(id));
            if !is_here {
                waiting.push(format!("cable {:?}", expected.submission.subject));
            }
        }
        Ok(waiting)
    }

    /// Requests a resend of each serial that the receiver lacks, as both operators would do.
    fn send_missing_again(&mut self) -> Result<()> {
        let is_early = self.looked.is_some_and(|at| at.elapsed() < LOOK_INTERVAL);
        if is_early || self.resends.iter().any(|request| !request.is_over()) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let Ok(gaps) = self.world.json(Host::Receiver, &["gaps"]) else {
            return Ok(());
        };
        let serials = gaps["ranges"].as_str().unwrap_or_default().to_owned();
        if gaps["missing"].as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let text = format!("request = \"resend\"\nserials = {serials:?}\n");
        let name = format!("resend-missing-{}", self.resends.len());
        self.resends
            .push(Request::new(Host::Sender, &name, text, Vec::new()));
        Ok(())
    }

    /// Waits until a watched folder changes, or for a tenth of a second.
    pub fn await_news(&self) -> Result<()> {
        let states = [Host::Sender, Host::Receiver].map(|host| self.world.state(host));
        let mut folders: Vec<PathBuf> = states.iter().map(|state| state.join("requests")).collect();
        let released = self.world.released_folder();
        folders.extend(["paris-desk", "rome-desk"].map(|mailbox| released.join(mailbox)));
        folders.push(released);
        let mut looks = 0;
        await_condition("news", LIMIT, &folders, || {
            looks += 1;
            Ok((looks > 1).then_some(()))
        })
    }

    /// Returns the faults of the answers to all requests.
    pub fn wrong_answers(&self) -> Vec<String> {
        let all = self.requests.iter().chain(&self.resends);
        all.flat_map(|request| request.wrong_answers(&self.world))
            .collect()
    }
}
