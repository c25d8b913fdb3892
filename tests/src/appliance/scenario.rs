//! What happens to the appliance: the documents, then the days after.

use std::time::{Duration, Instant};

use super::host::{Machine as _, MachineExt as _};
use super::script::Side::{Receiver, Sender};
use super::site::Site;
use super::{Options, Result};
use crate::harness::{HarnessError, await_condition};

/// How long a cable may take from its approval to its release.
const ARRIVAL: Duration = Duration::from_secs(90);

/// Runs what the options ask for.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn run(options: &Options) -> Result<()> {
    let mut story = Story {
        site: Site::boot(&options.debian, options.verbose)?,
        serial: 1,
        begun: Instant::now(),
    };
    story.first_cable()?;
    story.sizes(options.short)?;
    if !options.short {}
    story.reboots()?;
    story.end()?;
    println!(
        "appliance: Debian {}: all is as it must be, after {} s",
        options.debian,
        story.begun.elapsed().as_secs()
    );
    if options.keep {
        println!("appliance: both hosts run on; end this with Ctrl-C");
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

/// A site and how far it has come.
struct Story {
    site: Site,
    /// The newest serial.
    serial: u64,
    begun: Instant,
}

impl Story {
    fn say(&self, what: &str) {
        println!("appliance: {:4} s  {what}", self.begun.elapsed().as_secs());
    }

    /// The documents, from the installation to the first released cable.
    fn first_cable(&mut self) -> Result<()> {
        let files = "printf 'Draft conclusions of the working party.\\n' >cable.txt; head -c 20000 /dev/urandom >annex.pdf";
        self.site.sender.run_ok("anna", files)?;
        self.site.run_document("README.md")?;
        self.say("README.md: the first cable was released and taken");
        let taken = self
            .site
            .receiver
            .run_ok("rosa", "cat ~/1-*/part-001.txt")?;
        expect(
            "the text of the first cable",
            &taken,
            "Draft conclusions of the working party.\n",
        )
    }

    /// Submits files as the drafter, approves as both officers; returns the id.
    fn send(&mut self, files: &str, options: &str) -> Result<String> {
        let submit = format!(
            "valise-sender submit --label 'EU-RESTRICTED LIMITE' --to paris-desk --subject Test {options} {files}"
        );
        let id = self.site.sender.run_ok("anna", &submit)?.trim().to_owned();
        for officer in ["ben", "carla"] {
            let approve = format!("valise-sender approve {id} --key ~/.ssh/id_ed25519_sk");
            let done = self.site.type_as(Sender, officer, &approve)?;
            if done.status != Some(0) {
                return Err(HarnessError::Wrong(format!(
                    "{officer}: {approve}: {}",
                    done.output
                )));
            }
        }
        self.serial += 1;
        Ok(id)
    }

    /// Sends one file of so many bytes, and compares what the reader takes.
    fn send_and_take(&mut self, bytes: u64, options: &str) -> Result<()> {
        let made = format!("head -c {bytes} /dev/urandom >~/sent.txt; sha256sum <~/sent.txt");
        let sent = self.site.sender.run_ok("anna", &made)?;
        let id = self.send("~/sent.txt", options)?;
        self.site.await_released(&id, ARRIVAL)?;
        self.take(&id, &sent)
    }

    fn take(&mut self, id: &str, sent: &str) -> Result<()> {
        let line = format!(
            "mv /var/lib/valise-receiver/released/paris-desk/*-{id} ~/{id} && sha256sum <~/{id}/part-001.txt"
        );
        let taken = self.site.receiver.run_ok("rosa", &line)?;
        expect("the hash of the part that the reader took", &taken, sent)
    }

    fn sizes(&mut self, short: bool) -> Result<()> {
        let sizes: &[u64] = match short {
            true => &[0, 1, 1_400_000],
            false => &[0, 1, 100_000, 1_000_000, 1_400_000, 20_000_000],
        };
        for (index, bytes) in sizes.iter().enumerate() {
            let precedence = if index == 1 { "flash" } else { "routine" };
            self.send_and_take(*bytes, &format!("--precedence {precedence}"))?;
            self.say(&format!(
                "{bytes} bytes ({precedence}) were released and taken"
            ));
        }
        Ok(())
    }

    /// Each host is rebooted, its network comes late.
    fn reboots(&mut self) -> Result<()> {
        for side in [Receiver, Sender] {
            self.site.reboot(side)?;
            self.say(&format!(
                "the {} was rebooted, without its network",
                side.word()
            ));
            self.site.attach(side)?;
        }
        self.send_and_take(3_000_000, "--precedence priority")?;
        self.say("a cable after the reboots was released and taken");
        Ok(())
    }

    /// What must hold whatever happened.
    fn end(&mut self) -> Result<()> {
        for side in [Receiver, Sender] {
            self.site
                .host(side)
                .run_ok("root", &format!("valise-{} audit verify", side.word()))?;
        }
        let returned = self.site.link.returned_frames()?;
        expect(
            "the frames that the receiver sent",
            &returned.to_string(),
            "0",
        )
    }
}

fn expect(what: &str, seen: &str, wanted: &str) -> Result<()> {
    match seen == wanted {
        true => Ok(()),
        false => Err(HarnessError::Wrong(format!(
            "{what}: {seen:?} instead of {wanted:?}"
        ))),
    }
}
