//! The acts of a run's people, harmful ones too.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use valise_common::host::folders::Role;

use super::cables::Step;
use super::host::Address;
use super::people::{DRAFTER_UID, MAILBOXES, Officer, answer, place as place_request, stranger};
use super::plan::Fate;
use super::run::Run;
use super::{Result, wrong};

/// Requests that a person places for one step before the run gives up on it.
const ATTEMPTS_MAX: u32 = 40;

/// A person who was refused waits so long.
const AGAIN_US: u64 = 2_500_000;

/// An operator asks for a resend so often.
const RESEND_EVERY_US: u64 = 30_000_000;

/// A request as a person would place it.
struct Wish {
    uid: u32,
    text: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Run<'_> {
    /// Lets everybody do what is due.
    pub(super) fn handle_people(&mut self) -> Result<()> {
        for number in 0..self.cables.len() {
            self.take_answer(number)?;
            let cable = &self.cables[number];
            let is_due = cable.not_before_us <= self.now_us && cable.asked.is_none();
            if is_due && cable.next != Step::Done && cable.attempts < ATTEMPTS_MAX {
                self.ask(number)?;
            }
        }
        self.take_answers_of_root()?;
        if self.healed_at_us > 0 {
            self.repair()?;
        }
        Ok(())
    }

    fn take_answer(&mut self, number: usize) -> Result<()> {
        let Some((name, step)) = self.cables[number].asked.clone() else {
            return Ok(());
        };
        let requests = self.site.sender_state().requests();
        let Some(answer) = answer(&requests, &name).map_err(wrong)? else {
            if !requests.join(&name).exists() {
                self.log.violation(
                    self.now_us,
                    format!("request {name} is gone without an answer"),
                );
            }
            return Ok(());
        };
        self.cables[number].asked = None;
        match answer {
            Ok(text) if step == Step::Submit => {
                let id = text.parse().map_err(|_| wrong(format!("an id: {text}")))?;
                self.log
                    .add(self.now_us, format!("cable {number} is accepted"));
                self.cables[number].id = Some(id);
                self.cables[number].next = Step::First;
                self.cables[number].not_before_us = self.now_us;
            }
            Ok(_) => {
                self.cables[number].not_before_us = self.now_us;
                self.log
                    .add(self.now_us, format!("cable {number}: {step:?} is done"));
                self.cables[number].next = after(step);
                if step == Step::Second && self.cables[number].is_approved() {
                    self.cables[number].quorum_at_us = Some(self.now_us);
                }
            }
            Err(reason) => {
                let reason = reason.replace(&name, "NAME");
                self.log.add(
                    self.now_us,
                    format!("cable {number}: {step:?} is refused: {reason}"),
                );
                // As a command does, whose folder holds only copies.
                let _ = fs::remove_dir_all(requests.join(&name));
                // A refusal that the fate wants ends it; any other may come from a full disk, and is asked for again.
                if step == Step::Second && !self.cables[number].is_approved() {
                    self.cables[number].next = Step::Done;
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, number: usize) -> Result<()> {
        let step = self.cables[number].next;
        let Some(wish) = self.wish(number, step)? else {
            return Ok(());
        };
        self.requests += 1;
        let name = format!("r{:04}", self.requests);
        self.cables[number].attempts += 1;
        self.cables[number].not_before_us = self.now_us + AGAIN_US;
        let requests = self.site.sender_state().requests();
        let disk = self.disk(Address::Sender)?;
        disk.reset();
        disk.set_actor(wish.uid, wish.uid);
        let placed = place_request(&requests, &name, &wish.text, &wish.files);
        disk.set_actor(0, 0);
        match placed {
            Ok(()) => {
                self.log.add(
                    self.now_us,
                    format!("cable {number}: {step:?} is asked for in {name}"),
                );
                self.cables[number].asked = Some((name, step));
            }
            Err(error) => self.log.add(
                self.now_us,
                format!("cable {number}: {step:?} is not placed: {error}"),
            ),
        }
        Ok(())
    }

    fn wish(&mut self, number: usize, step: Step) -> Result<Option<Wish>> {
        let cable = &self.cables[number];
        if step == Step::Submit {
            let to: Vec<String> = cable.mailboxes().map(|to| format!("\"{to}\"")).collect();
            let precedence = ["FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE"][cable.plan.precedence];
            let mut text = format!(
                "request = \"submit\"\nlabel = \"EU-RESTRICTED LIMITE\"\nto = [{}]\nprecedence = \"{precedence}\"\n\
                 subject = \"cable {number}\"\n",
                to.join(", ")
            );
            if let Some(valid_s) = cable.plan.valid_s {
                let not_after = valise_common::os::clock::utc_now().plus_s(valid_s);
                text += &format!("not-after = \"{not_after}\"\n");
            }
            let parts = (1..).zip(&cable.parts);
            let files = parts.map(|(place, part)| (format!("part-{place}.txt"), part.clone()));
            let files = files.collect();
            return Ok(Some(Wish {
                uid: DRAFTER_UID,
                text,
                files,
            }));
        }
        let Some(id) = cable.id else {
            return Ok(None);
        };
        if step == Step::First {
            let manifest = self
                .site
                .sender_state()
                .pending()
                .join(id.to_string())
                .join("manifest.txt");
            // Gate puts it there after the answer at the latest when it starts again.
            let Ok(manifest) = fs::read(manifest) else {
                return Ok(None);
            };
            if self.cables[number].manifest.is_empty() {
                self.cables[number].manifest = manifest;
            }
        }
        let cable = &self.cables[number];
        let manifest = &cable.manifest;
        let approve = |officer: Officer, signed: Vec<u8>| Wish {
            uid: officer.uid(),
            text: format!("request = \"approve\"\nid = \"{id}\"\n"),
            files: vec![("manifest.sig".to_owned(), signed)],
        };
        let sound = |officer: Officer| {
            approve(
                officer,
                officer.token().sign_armoured(manifest).into_bytes(),
            )
        };
        let (first, second) = match &cable.plan.fate {
            Fate::Approved([first, second]) => (*first, sound(*second)),
            Fate::OneOfficer(officer) => (*officer, sound(*officer)),
            Fate::Stranger(officer) => {
                let signed = stranger().sign_armoured(manifest).into_bytes();
                (*officer, approve(*officer, signed))
            }
            Fate::OtherManifest(first, second) => {
                let other = String::from_utf8_lossy(manifest).replace("cable ", "table ");
                let signed = second.token().sign_armoured(other.as_bytes()).into_bytes();
                (*first, approve(*second, signed))
            }
            Fate::Withdrawn(officer) => {
                let text = format!("request = \"withdraw\"\nid = \"{id}\"\n");
                (
                    *officer,
                    Wish {
                        uid: DRAFTER_UID,
                        text,
                        files: Vec::new(),
                    },
                )
            }
            Fate::Rejected(officer, other) => {
                let text = format!("request = \"reject\"\nid = \"{id}\"\nreason = \"as drawn\"\n");
                (
                    *officer,
                    Wish {
                        uid: other.uid(),
                        text,
                        files: Vec::new(),
                    },
                )
            }
        };
        Ok(Some(match step {
            Step::First => sound(first),
            _ => second,
        }))
    }

    /// Does what operators do when the trouble is over: accepts the clock, and asks for what is missing.
    fn repair(&mut self) -> Result<()> {
        let since_us = self.now_us - self.healed_at_us;
        if self.clock_leapt {
            self.clock_leapt = false;
            for host in [Address::Sender, Address::Receiver] {
                self.place_as_root(host, "request = \"clock-accept\"\n")?;
            }
        }
        if self.now_us < self.resend_at_us {
            return Ok(());
        }
        self.resend_at_us = self.now_us + RESEND_EVERY_US;
        let serials = self.serials()?;
        let missing: Vec<String> = (0..self.cables.len())
            .filter(|number| !self.cables[*number].has_arrived())
            .filter_map(|number| {
                let id = self.cables[number].id?.to_string();
                serials.get(&id).copied()
            })
            .map(|serial| serial.to_string())
            .collect();
        if !missing.is_empty() && since_us > 0 {
            self.log.add(
                self.now_us,
                format!("the operator asks for {} again", missing.join(", ")),
            );
        }
        // A cable may be held back because a clock was wrong when it came.
        for cable in &mut self.cables {
            cable.resends += u64::from(!cable.has_arrived());
        }
        for serial in missing {
            // One request each: gate refuses all serials of a request if one is no longer kept.
            let text = format!("request = \"resend\"\nserials = \"{serial}\"\n");
            self.place_as_root(Address::Sender, &text)?;
            let text = format!("request = \"quarantine-recheck\"\nserial = {serial}\n");
            self.place_as_root(Address::Receiver, &text)?;
        }
        Ok(())
    }

    fn place_as_root(&mut self, host: Address, text: &str) -> Result<()> {
        let placed = self.request_as_root(host, text, &[])?;
        placed.map_err(wrong)
    }

    /// Places a request that a fault of the disk may prevent.
    pub(super) fn act_as_root(
        &mut self,
        host: Address,
        text: &str,
        files: &[(String, Vec<u8>)],
    ) -> Result<()> {
        if let Err(error) = self.request_as_root(host, text, files)? {
            let text = format!("the operator's request is not placed: {error}");
            self.log.add(self.now_us, text);
        }
        Ok(())
    }

    fn request_as_root(
        &mut self,
        host: Address,
        text: &str,
        files: &[(String, Vec<u8>)],
    ) -> Result<std::io::Result<()>> {
        self.requests += 1;
        let name = format!("r{:04}", self.requests);
        let requests = match host {
            Address::Sender => self.site.sender_state().requests(),
            Address::Receiver => self.site.receiver_state().requests(),
        };
        let disk = self.disk(host)?;
        disk.reset();
        disk.set_actor(0, 0);
        let placed = place_request(&requests, &name, text, files);
        if placed.is_ok() {
            self.root_asks.push((requests, name));
        }
        Ok(placed)
    }

    fn take_answers_of_root(&mut self) -> Result<()> {
        for (requests, name) in std::mem::take(&mut self.root_asks) {
            match answer(&requests, &name).map_err(wrong)? {
                None => self.root_asks.push((requests, name)),
                Some(answer) => self.log.add(self.now_us, format!("{name}: {answer:?}")),
            }
        }
        Ok(())
    }

    /// The serial of each cable that gate shows, by its id.
    pub(super) fn serials(&self) -> Result<std::collections::BTreeMap<String, u64>> {
        let view = self.site.sender_state().view_of(Role::Gate);
        // A power cut may have torn it: gate writes the next one.
        let view: Value = match fs::read(view) {
            Ok(view) => serde_json::from_slice(&view).unwrap_or_default(),
            Err(_) => Value::Null,
        };
        let cables = view["cables"].as_array().cloned().unwrap_or_default();
        let serials = cables.iter().filter_map(|cable| {
            let id = cable["id"].as_str()?.to_owned();
            Some((id, cable["serial"].as_u64()?))
        });
        Ok(serials.collect())
    }

    /// Places something that is not a request.
    pub(super) fn place_hostile(&mut self, host: Address, chance: u64) -> Result<()> {
        let requests = match host {
            Address::Sender => self.site.sender_state().requests(),
            Address::Receiver => self.site.receiver_state().requests(),
        };
        self.requests += 1;
        let name = format!("h{:04}", self.requests);
        let disk = self.disk(host)?;
        disk.reset();
        disk.set_actor(7, 7);
        let path = requests.join(&name);
        let text = |text: &str| place_request(&requests, &name, text, &[]);
        let placed = match chance % 9 {
            0 => text("request = \"sub"),
            1 => text(&format!("request = \"{}\"\n", "x".repeat(65_000))),
            2 => text("request = \"approve\"\nid = \"00000000000000000000000000000000\"\n"),
            3 => fs::create_dir(&path)
                .and_then(|()| symlink("/etc/passwd", path.join("request.toml"))),
            4 => fs::create_dir(&path).and_then(|()| {
                let mode = Mode::from_bits_truncate(0o666);
                mkfifo(&path.join("request.toml"), mode).map_err(Into::into)
            }),
            5 => symlink("/", &path),
            6 => File::create(&path).and_then(|mut file| file.write_all(b"not a folder")),
            7 => text(&format!(
                "request = \"resend\"\nserials = \"1-{}\"\n",
                u64::MAX
            )),
            _ => text(&format!(
                "request = \"quarantine-discard\"\nserial = 1\nreason = \"{}\"\n",
                MAILBOXES[0]
            )),
        };
        if let Err(error) = placed {
            self.log
                .add(self.now_us, format!("{name} is not placed: {error}"));
        }
        self.disk(host)?.set_actor(0, 0);
        Ok(())
    }
}

fn after(step: Step) -> Step {
    match step {
        Step::Submit => Step::First,
        Step::First => Step::Second,
        Step::Second | Step::Done => Step::Done,
    }
}
