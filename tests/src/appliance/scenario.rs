//! The events of the appliance test: README.md from its first line to the first cable, and the days after.

use std::time::{Duration, Instant};

use super::cable_link::CableLink;
use super::container::Container;
use super::days;
use super::host::MachineExt as _;
use super::line_days;
use super::power;
use super::script::Side::{self, Receiver, Sender};
use super::site::Site;
use super::virtual_machine::{SocketLink, VirtualMachine};
use super::{Options, Result};
use crate::harness::HarnessError;

/// The longest time from a cable's approval to its release.
pub const ARRIVAL: Duration = Duration::from_secs(120);

/// Runs the test with these options.
///
/// # Errors
/// The first fault.
pub fn run(options: &Options) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        let text = "only root can boot two hosts: sudo make appliance-test".to_owned();
        return Err(HarnessError::Usage(text));
    }
    let debian = &options.debian;
    let site = match options.vm {
        true => Site::boot(
            Box::new(VirtualMachine::make(
                debian,
                Receiver,
                &options.accelerator,
            )?),
            Box::new(VirtualMachine::make(debian, Sender, &options.accelerator)?),
            Box::new(SocketLink::new()?),
            options.verbose,
        ),
        false => Site::boot(
            Box::new(Container::make(debian, Receiver)?),
            Box::new(Container::make(debian, Sender)?),
            Box::new(CableLink::new()?),
            options.verbose,
        ),
    }?;
    let mut story = Story {
        site,
        serial: 0,
        begun: Instant::now(),
    };
    let told = story.tell(options);
    if options.keep {
        let leader = |side| story.site.host(side).network_process().unwrap_or_default();
        println!(
            "appliance: both hosts run on (nsenter --all --target {} or {}); end this with Ctrl-C",
            leader(Sender),
            leader(Receiver)
        );
        if let Err(error) = &told {
            println!("appliance: {error}");
        }
        loop {
            std::thread::park();
        }
    }
    told
}

/// A site and the progress of the test on it.
pub(super) struct Story {
    pub(super) site: Site,
    /// The newest serial.
    pub(super) serial: u64,
    begun: Instant,
}

impl Story {
    fn tell(&mut self, options: &Options) -> Result<()> {
        self.first_cable()?;
        match options.vm {
            true => {
                line_days::begin(self)?;
                line_days::end(self)?;
                power::cuts(self, options.cuts, options.seed)?;
            }
            false => self.days(options.short)?,
        }
        self.end()?;
        self.say(&format!("Debian {}: all is as it must be", options.debian));
        Ok(())
    }

    fn days(&mut self, short: bool) -> Result<()> {
        let sizes: &[u64] = match short {
            true => &[0, 1, 1_400_000],
            false => &[0, 1, 100_000, 1_000_000, 1_400_000, 20_000_000],
        };
        for (index, bytes) in sizes.iter().enumerate() {
            let precedence = if index == 1 { "flash" } else { "routine" };
            self.send_and_take(*bytes, precedence)?;
            self.say(&format!(
                "{bytes} bytes ({precedence}) were released and taken"
            ));
        }
        days::reboots(self)?;
        // Frames pass only over the serial line.
        self.site.link.set_open(false)?;
        line_days::begin(self)?;
        if !short {
            line_days::pulled_out(self)?;
        }
        self.site.link.set_open(true)?;
        line_days::end(self)?;
        self.send_and_take(10_000, "routine")?;
        self.say("the channel is on the diode again");
        match short {
            true => Ok(()),
            false => days::all(self),
        }
    }

    /// Prints the progress of the test.
    pub(super) fn say(&self, what: &str) {
        println!("appliance: {:4} s  {what}", self.begun.elapsed().as_secs());
    }

    /// Runs the documents, from the installation to the first released cable.
    fn first_cable(&mut self) -> Result<()> {
        let text = "Draft conclusions of the working party.\n";
        let files = format!("printf '{text}' >cable.txt; head -c 20000 /dev/urandom >annex.pdf");
        self.site.sender.run_ok("anna", &files)?;
        self.site.run_document("README.md")?;
        self.serial = 1;
        self.say("README.md: the first cable was released and taken");
        Side::BOTH
            .into_iter()
            .try_for_each(|side| self.site.each_unit_runs(side))?;
        let taken = self
            .site
            .receiver
            .run_ok("rosa", "cat ~/1-*/part-001.txt")?;
        expect("the text of the first cable", &taken, text)
    }

    /// Submits files as the drafter and approves them as both officers; returns the id.
    pub(super) fn send(&mut self, files: &str, precedence: &str) -> Result<String> {
        let id = self.submit(files, precedence)?;
        for officer in ["ben", "carla"] {
            let approve = format!("valise-sender approve {id} --key ~/.ssh/id_ed25519_sk");
            let done = self.site.type_as(Sender, officer, &approve)?;
            if done.status != Some(0) {
                let text = format!("{officer}: {approve}: {}", done.output);
                return Err(HarnessError::Wrong(text));
            }
        }
        self.serial += 1;
        Ok(id)
    }

    /// Submits files as the drafter; returns the id.
    pub(super) fn submit(&mut self, files: &str, precedence: &str) -> Result<String> {
        let submit = format!(
            "valise-sender submit --label 'EU-RESTRICTED LIMITE' --to paris-desk --subject Test \
             --precedence {precedence} {files}"
        );
        Ok(self.site.sender.run_ok("anna", &submit)?.trim().to_owned())
    }

    /// Makes a file of this size and sends it; returns the id and the file's hash.
    pub(super) fn send_bytes(&mut self, bytes: u64, precedence: &str) -> Result<(String, String)> {
        let make = format!("head -c {bytes} /dev/urandom >~/sent.txt; sha256sum <~/sent.txt");
        let hash = self.site.sender.run_ok("anna", &make)?;
        Ok((self.send("~/sent.txt", precedence)?, hash))
    }

    /// Sends a file of this size, and compares it with the cable that the reader takes.
    pub(super) fn send_and_take(&mut self, bytes: u64, precedence: &str) -> Result<()> {
        let (id, hash) = self.send_bytes(bytes, precedence)?;
        self.take(&id, &hash)
    }

    /// Waits for a cable, takes it as the reader, and compares its first part with the hash of the sent file.
    pub(super) fn take(&mut self, id: &str, hash: &str) -> Result<()> {
        self.site.await_released(id, ARRIVAL)?;
        let line = format!(
            "mv /var/lib/valise-receiver/released/paris-desk/*-{id} ~/{id} && sha256sum <~/{id}/part-001.txt"
        );
        let taken = self.site.receiver.run_ok("rosa", &line)?;
        expect("the hash of the part that the reader took", &taken, hash)
    }

    /// Checks the conditions that must hold after all events.
    fn end(&mut self) -> Result<()> {
        self.site.run_marked("docs/operations.md", "auditor")?;
        self.site.carry("/media/auditor", Sender, Receiver)?;
        self.site.run_marked("docs/operations.md", "reconcile")?;
        self.say("both audit logs verify and agree");
        days::silence(self)
    }
}

/// Compares two texts.
pub(super) fn expect(what: &str, seen: &str, wanted: &str) -> Result<()> {
    match seen == wanted {
        true => Ok(()),
        false => Err(HarnessError::Wrong(format!(
            "{what}: {seen:?} instead of {wanted:?}"
        ))),
    }
}
