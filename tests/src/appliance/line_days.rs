//! The days of a channel on a serial line: the steps of README.md move it there, and it comes back to the diode.

use super::Result;
use super::days::{SHOWS, await_alarm, await_healthy};
use super::host::MachineExt as _;
use super::scenario::{Story, expect};
use super::script::Side::{self, Receiver, Sender};
use crate::harness::HarnessError;

/// The highest exposure of a unit with a serial port, in tenths (docs/operations.md).
const EXPOSURE_TENTHS: u8 = 6;

/// The role of a host that uses the line.
const fn unit(side: Side) -> &'static str {
    match side {
        Sender => "valise-sender-transmit",
        Receiver => "valise-receiver-receive",
    }
}

/// Moves the channel to a serial line by the steps of README.md, and sends a cable over it.
pub fn begin(story: &mut Story) -> Result<()> {
    for side in Side::BOTH {
        let keep = format!("cp -p /etc/valise/{}.toml /root/udp.toml", side.word());
        story.site.host(side).run_ok("root", &keep)?;
    }
    story.site.plug_serial()?;
    let changes = [("/dev/ttyS0", story.site.receiver.serial_device())];
    story.site.run_changed("README.md", "serial", &changes)?;
    for side in Side::BOTH {
        await_healthy(story, side)?;
        story.site.each_unit_runs(side)?;
        named_port(story, side)?;
        fences(story, side)?;
        if story.site.host(side).network_process().is_none() {
            devices(story, side)?;
        }
    }
    story.send_and_take(20_000, "routine")?;
    let returned = story.site.returned_bytes()?;
    expect(
        "the bytes that the receiver sent on the line",
        &returned.to_string(),
        "0",
    )?;
    story.say(
        "a serial line carried a cable, by README.md's steps; the receiver sent 0 bytes on it",
    );
    Ok(())
}

/// Unplugs the adapter of each host, and plugs it in again while a cable waits.
pub fn pulled_out(story: &mut Story) -> Result<()> {
    story.site.unplug_serial()?;
    for side in Side::BOTH {
        await_alarm(story, side, "link-down")?;
    }
    let (id, hash) = story.send_bytes(20_000, "routine")?;
    story.site.plug_serial()?;
    story.take(&id, &hash)?;
    for side in Side::BOTH {
        await_healthy(story, side)?;
        story.site.each_unit_runs(side)?;
    }
    story.say("a cable waited until the adapters were plugged in again");
    Ok(())
}

/// Moves the channel back to the diode, when no cable waits to be sent. Gate is restarted too, because it divides
/// containers by the datagram size of the link. The file is on the disk before a power cut.
pub fn end(story: &mut Story) -> Result<()> {
    let serial = story.serial;
    story
        .site
        .await_state(Sender, serial, &["transmitted"], SHOWS)?;
    for side in Side::BOTH {
        let back = format!(
            "mv /root/udp.toml /etc/valise/{0}.toml; sync; systemctl daemon-reload; systemctl restart 'valise-{0}-*.service'",
            side.word()
        );
        story.site.host(side).run_ok("root", &back)?;
    }
    Ok(())
}

/// Checks that `ports` shows the device of the configuration, and the role that has it open.
fn named_port(story: &Story, side: Side) -> Result<()> {
    let ports = story.site.json(side, "ports")?;
    let holder = &ports["link"]["held_by"][0]["name"];
    let program = format!("valise-{}", side.word());
    // The name of a process has at most 15 characters.
    expect(
        "the program that holds the port",
        holder.as_str().unwrap_or_default(),
        &program[..program.len().min(15)],
    )
}

/// Checks that the unit's control group lets even root open the port only in the role's direction. In a container
/// `DeviceAllow=` may have no effect, so this needs a machine with a kernel of its own.
fn devices(story: &Story, side: Side) -> Result<()> {
    let (role, host) = (unit(side), story.site.host(side));
    let (allowed, refused) = match side {
        Sender => ('>', '<'),
        Receiver => ('<', '>'),
    };
    for (way, ending) in [(allowed, "opened"), (refused, "Operation not permitted")] {
        // A subshell, because the leader of a session would get the port as its terminal.
        let line = format!(
            "echo $$ >/sys/fs/cgroup$(systemctl show -P ControlGroup {role})/cgroup.procs; \
             (exec 3{way}{}) 2>&1 && echo opened",
            host.serial_device()
        );
        let done = host.run("root", &line)?;
        if !done.output.trim_end().ends_with(ending) {
            return Err(HarnessError::Wrong(format!(
                "the {}'s port, opened with {way} in its unit: {}, not {ending}",
                side.word(),
                done.output
            )));
        }
    }
    Ok(())
}

/// Checks that the role has the port in its one direction, no network, and little else.
fn fences(story: &Story, side: Side) -> Result<()> {
    let unit = unit(side);
    let host = story.site.host(side);
    let access = match side {
        Sender => "1",
        Receiver => "0",
    };
    let device = host.serial_device();
    let checks = [
        // The access mode of the open file: 0 reads, 1 writes.
        format!(
            "for fd in /proc/$pid/fd/*; do [ \"$(readlink $fd)\" != \"$(readlink -f {device})\" ] || \
             sed -n 's/^flags:.*\\([0-9]\\)$/\\1/p' /proc/$pid/fdinfo/${{fd##*/}}; done | \
             {{ read mode; test $((mode & 3)) = {access}; }}"
        ),
        "test \"$(tail -n +3 /proc/$pid/net/dev | cut -d: -f1 | xargs)\" = lo".to_owned(),
        "test -z \"$(ss -Huln 'sport = :7000')\"".to_owned(),
        format!(
            "systemd-analyze security --no-pager --threshold={EXPOSURE_TENTHS} {unit} >/dev/null"
        ),
    ];
    for check in checks {
        let line = format!("pid=$(systemctl show -P MainPID {unit}); {check}");
        let done = host.run("root", &line)?;
        if done.status != Some(0) {
            return Err(HarnessError::Wrong(format!(
                "the {} on a serial line: `{check}` failed: {}",
                side.word(),
                done.output
            )));
        }
    }
    Ok(())
}
