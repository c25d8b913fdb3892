//! Two machines that lose their power in the middle of transfers, again and again.

use std::time::Duration;

use super::Result;
use super::host::MachineExt as _;
use super::scenario::{Story, expect};
use super::script::Side::{self, Receiver, Sender};
use crate::harness::HarnessError;
use crate::wire::Prng;

/// The link's rate for emulated processors: a cable of 3 MB takes about six seconds, with repair and second pass.
const RATE: &str = "10 Mbit/s";

/// The longest time that a cable is in transit before the power is cut.
const MOMENT_MS: u64 = 6_000;

/// The longest time for all cables to arrive when the power stays on.
const ARRIVAL: Duration = Duration::from_secs(600);

/// Cuts the power of both machines `cuts` times each, at random moments while a cable is in transit. Then every
/// accepted cable must arrive, once and unchanged.
///
/// # Errors
/// The first fault.
pub fn cuts(story: &mut Story, cuts: u32, seed: u64) -> Result<()> {
    let slower = format!(
        "echo 'rate = \"{RATE}\"' >>/etc/valise/sender.toml; sync; systemctl restart 'valise-sender-*'"
    );
    story.site.sender.run_ok("root", &slower)?;
    let mut chance = Prng::new(seed);
    let mut sent: Vec<(u64, String, String)> = Vec::new();
    for round in 1..=cuts {
        let bytes = 500_000 + chance.below(2_500_000);
        let (id, hash) = story.send_bytes(bytes, "routine")?;
        sent.push((story.serial, id, hash));
        let first = if chance.below(2) == 0 {
            Sender
        } else {
            Receiver
        };
        let second = if first == Sender { Receiver } else { Sender };
        // The moment itself is random: there is no condition to wait for.
        std::thread::sleep(Duration::from_millis(chance.below(MOMENT_MS)));
        story.site.host_mut(first).cut_power()?;
        std::thread::sleep(Duration::from_millis(chance.below(1_500)));
        story.site.host_mut(second).cut_power()?;
        story.site.boot_both()?;
        if round % 10 == 0 || round == cuts {
            story.say(&format!("each machine lost its power {round} times"));
        }
    }
    for (serial, id, hash) in &sent {
        arrive(story, *serial)?;
        let line = format!("ls -d /var/lib/valise-receiver/released/paris-desk/*-{id} | wc -l");
        let copies = story.site.receiver.run_ok("root", &line)?;
        expect("the folders of a cable", copies.trim(), "1")?;
        story.take(id, hash)?;
    }
    story.say(&format!(
        "{} of {} cables were released once, unchanged",
        sent.len(),
        sent.len()
    ));
    Ok(())
}

/// Waits until a serial is released; if it was lost with the power, it is sent again.
fn arrive(story: &mut Story, serial: u64) -> Result<()> {
    for _ in 0..3 {
        story
            .site
            .await_state(Receiver, serial, &["released", "missing"], ARRIVAL)?;
        if state(story, Receiver, serial)? == "released" {
            return Ok(());
        }
        let resend = format!("valise-sender resend {serial}");
        story.site.sender.run_ok("root", &resend)?;
        story
            .site
            .await_state(Receiver, serial, &["released", "assembling"], ARRIVAL)?;
    }
    Err(HarnessError::Wrong(format!(
        "serial {serial} stays missing"
    )))
}

fn state(story: &Story, side: Side, serial: u64) -> Result<String> {
    let list = story.site.json(side, "list")?;
    let rows = list.as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["serial"] == serial);
    Ok(row
        .and_then(|row| row["state"].as_str())
        .unwrap_or_default()
        .to_owned())
}
