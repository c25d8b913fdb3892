//! Both hosts and the link between them, on which the documents are run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Result;
use super::cable_link::Link;
use super::host::{COMMAND_LIMIT, Machine, MachineExt as _};
use super::script::{Block, Side, Step, read};
use super::serial_line::SerialLine;
use super::terminal::Done;
use crate::harness::{HarnessError, await_condition, source_root};

/// Both hosts.
#[derive(Debug)]
pub struct Site {
    /// The isolated host.
    pub receiver: Box<dyn Machine>,
    /// The host that sends.
    pub sender: Box<dyn Machine>,
    /// The link between them.
    pub link: Box<dyn Link>,
    /// The serial line between them, while it is plugged in.
    line: Option<SerialLine>,
    /// The values of variables in blocks, such as `$ID`.
    pub variables: BTreeMap<&'static str, String>,
    /// Whether everything is printed.
    pub is_verbose: bool,
    /// The number of typed commands, and of those from the installation to the first released cable.
    typed: [usize; 2],
}

impl Site {
    /// Boots two hosts.
    ///
    /// # Errors
    /// If one does not boot.
    pub fn boot(
        receiver: Box<dyn Machine>,
        sender: Box<dyn Machine>,
        link: Box<dyn Link>,
        is_verbose: bool,
    ) -> Result<Self> {
        let mut site = Self {
            receiver,
            sender,
            link,
            line: None,
            variables: BTreeMap::new(),
            is_verbose,
            typed: [0; 2],
        };
        site.boot_both()?;
        Ok(site)
    }

    /// A host.
    pub fn host(&self, side: Side) -> &dyn Machine {
        match side {
            Side::Sender => self.sender.as_ref(),
            Side::Receiver => self.receiver.as_ref(),
        }
    }

    /// A host, for booting or ending it.
    pub fn host_mut(&mut self, side: Side) -> &mut dyn Machine {
        match side {
            Side::Sender => self.sender.as_mut(),
            Side::Receiver => self.receiver.as_mut(),
        }
    }

    /// Gives a host its interface.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn attach(&mut self, side: Side) -> Result<()> {
        let process = self.host(side).network_process();
        self.link.attach(side, process)
    }

    /// Plugs a serial line into both hosts.
    ///
    /// # Errors
    /// If a host has no port.
    pub fn plug_serial(&mut self) -> Result<()> {
        let line = SerialLine::connect(self.sender.plug_serial()?, self.receiver.plug_serial()?)?;
        self.line = Some(line);
        Ok(())
    }

    /// Pulls the serial line out of both hosts.
    ///
    /// # Errors
    /// If a host keeps its port.
    pub fn unplug_serial(&mut self) -> Result<()> {
        self.line = None;
        Side::BOTH
            .into_iter()
            .try_for_each(|side| self.host(side).unplug_serial())
    }

    /// Returns the number of bytes that the receiver has sent on the serial line.
    ///
    /// # Errors
    /// If there is no line.
    pub fn returned_bytes(&self) -> Result<u64> {
        let none = || HarnessError::Wrong("no serial line is plugged in".to_owned());
        self.line.as_ref().ok_or_else(none)?.returned_bytes()
    }

    /// Boots both hosts, which are off, at the same time.
    ///
    /// # Errors
    /// If one does not boot.
    pub fn boot_both(&mut self) -> Result<()> {
        let (receiver, sender) = (&mut self.receiver, &mut self.sender);
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| receiver.boot());
            let other = sender.boot();
            (one.join(), other)
        });
        one.unwrap_or_else(|_| Err(HarnessError::Wrong("a boot panicked".to_owned())))?;
        other?;
        Side::BOTH
            .into_iter()
            .try_for_each(|side| self.attach(side))
    }

    /// Shuts a host down and boots it again, without its interface: [`Self::attach`] adds it.
    ///
    /// # Errors
    /// If it does not end or boot.
    pub fn reboot(&mut self, side: Side) -> Result<()> {
        self.host_mut(side).shut_down()?;
        self.link.detach(side);
        self.host_mut(side).boot()
    }

    /// Runs every step of a document in order, except those of the other kind of link.
    ///
    /// # Errors
    /// The first step that fails, with its place in the document.
    pub fn run_document(&mut self, name: &str) -> Result<()> {
        for step in read(&source_root()?.join(name))? {
            match step {
                Step::Run(block) if block.is("serial") => {}
                Step::Run(block) => self.run_block(&block)?,
                Step::Carry { folder, from, to } => self.carry(&folder, from, to)?,
            }
        }
        let [typed, counted] = self.typed;
        println!(
            "appliance: {name}: {typed} commands were typed, {counted} of them from the installation to the release"
        );
        Ok(())
    }

    /// Runs the blocks of a document with this mark.
    ///
    /// # Errors
    /// If there is none, or one fails.
    pub fn run_marked(&mut self, document: &str, mark: &str) -> Result<()> {
        self.run_changed(document, mark, &[])
    }

    /// Runs the blocks of a document with this mark, with some of their words replaced.
    ///
    /// # Errors
    /// As [`Site::run_marked`].
    pub fn run_changed(
        &mut self,
        document: &str,
        mark: &str,
        changes: &[(&str, &str)],
    ) -> Result<()> {
        let steps = read(&source_root()?.join(document))?;
        let mut found = false;
        for step in &steps {
            if let Step::Run(block) = step
                && block.is(mark)
            {
                found = true;
                let mut block = block.clone();
                for (from, to) in changes {
                    block.text = block.text.replace(from, to);
                }
                self.run_block(&block)?;
            }
        }
        match found {
            true => Ok(()),
            false => Err(HarnessError::Wrong(format!(
                "{document} has no block {mark}"
            ))),
        }
    }

    /// Runs a block as each of its persons.
    fn run_block(&mut self, block: &Block) -> Result<()> {
        for person in &block.persons {
            if block.is("released") {
                self.await_folder()?;
            }
            self.typed[0] += block.commands();
            self.typed[1] += if block.is("count") {
                block.commands()
            } else {
                0
            };
            let done = self.type_as(block.side, person, &block.text)?;
            if done.status != Some(0) {
                return Err(HarnessError::Command {
                    command: format!("{} ({person})", block.place),
                    status: done.status.map_or("signal".into(), |code| code.to_string()),
                    output: format!("{}\n{}", block.text, done.output),
                });
            }
            if block.is("id") {
                let id = done.output.lines().last().unwrap_or_default().trim();
                self.variables.insert("ID", id.to_owned());
            }
        }
        Ok(())
    }

    /// Types commands as a person at a terminal.
    ///
    /// # Errors
    /// If they cannot be run or do not end.
    pub fn type_as(&self, side: Side, person: &str, text: &str) -> Result<Done> {
        let mut line = String::from("set -e\n");
        for (name, value) in &self.variables {
            line.push_str(&format!("{name}='{value}'\n"));
        }
        line.push_str(text);
        let done = self.host(side).type_line(person, &line)?;
        if self.is_verbose {
            println!("{} {person}$ {text}{}", side.word(), done.output);
        }
        Ok(done)
    }

    /// Carries the content of a folder from one host to the other.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn carry(&self, folder: &str, from: Side, to: Side) -> Result<()> {
        let packed = self.host(from).pack(folder)?;
        let line = format!("find {folder} -mindepth 1 -delete");
        self.host(from).run_ok("root", &line)?;
        self.host(to).unpack(folder, &packed)
    }

    /// Returns the JSON output of a command.
    ///
    /// # Errors
    /// If it fails or prints no JSON.
    pub fn json(&self, side: Side, words: &str) -> Result<Value> {
        let text = self
            .host(side)
            .run_ok("root", &format!("valise-{} {words} --json", side.word()))?;
        serde_json::from_str(&text)
            .map_err(|error| HarnessError::Wrong(format!("{words}: {error}: {text}")))
    }

    /// Checks that each unit of a host runs, and that systemd never had to restart it.
    ///
    /// # Errors
    /// The state of the units, and the logs, if one does not run.
    pub fn each_unit_runs(&self, side: Side) -> Result<()> {
        let show = "systemctl show --property=Id,ActiveState,NRestarts 'valise-*.service'";
        let text = self.host(side).run_ok("root", show)?;
        let runs = |unit: &str| {
            let lines: Vec<&str> = unit.lines().collect();
            lines.contains(&"ActiveState=active") && lines.contains(&"NRestarts=0")
        };
        let units: Vec<&str> = text.trim().split("\n\n").collect();
        match units.len() >= 2 && units.iter().all(|unit| runs(unit)) {
            true => Ok(()),
            false => Err(self.with_logs(HarnessError::Wrong(format!(
                "a unit of the {} does not run as it was started:\n{text}",
                side.word()
            )))),
        }
    }

    /// Waits for a state of a serial on a host.
    ///
    /// # Errors
    /// If it does not come in time, with the states and the logs.
    pub fn await_state(
        &self,
        side: Side,
        serial: u64,
        states: &[&str],
        limit: Duration,
    ) -> Result<()> {
        let what = format!("serial {serial} as {states:?} on the {}", side.word());
        await_condition(&what, limit, &[], || {
            let list = self.json(side, "list")?;
            let rows = list.as_array().cloned().unwrap_or_default();
            Ok(rows
                .iter()
                .any(|row| {
                    row["serial"] == serial
                        && row["state"]
                            .as_str()
                            .is_some_and(|state| states.contains(&state))
                })
                .then_some(()))
        })
        .map_err(|error| self.with_logs(error))
    }

    /// Waits until the cable `$ID` is in its mailbox.
    fn await_folder(&self) -> Result<()> {
        let id = self.variables.get("ID").cloned().unwrap_or_default();
        self.await_released(&id, COMMAND_LIMIT)
    }

    /// Waits until a cable is in the mailbox `paris-desk`.
    ///
    /// # Errors
    /// If it does not come in time.
    pub fn await_released(&self, id: &str, limit: Duration) -> Result<()> {
        let line = format!("ls -d /var/lib/valise-receiver/released/paris-desk/*-{id}");
        await_condition(&format!("the release of {id}"), limit, &[], || {
            let done = self.host(Side::Receiver).run("root", &line)?;
            Ok((done.status == Some(0)).then_some(()))
        })
        .map_err(|error| self.with_logs(error))
    }

    /// Waits until a line of shell succeeds.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn await_line(&self, side: Side, line: &str, limit: Duration) -> Result<()> {
        await_condition(
            &format!("`{line}` on the {}", side.word()),
            limit,
            &[],
            || Ok((self.host(side).run("root", line)?.status == Some(0)).then_some(())),
        )
        .map_err(|error| self.with_logs(error))
    }

    fn with_logs(&self, error: HarnessError) -> HarnessError {
        let mut text = error.to_string();
        for side in Side::BOTH {
            let line = format!(
                "valise-{0} status; valise-{0} list | tail; journalctl -q --no-pager -o cat -n 15 -u 'valise-*'",
                side.word()
            );
            let said = self.host(side).run("root", &line).map(|done| done.output);
            text.push_str(&format!(
                "\n--- {}:\n{}",
                side.word(),
                said.unwrap_or_default()
            ));
        }
        HarnessError::Wrong(text)
    }
}
