//! The days after the first cable: events that must not stop an appliance.

use std::time::Duration;

use super::Result;
use super::host::MachineExt as _;
use super::scenario::{ARRIVAL, Story, expect};
use super::script::Side::{self, Receiver, Sender};
use crate::harness::{HarnessError, await_condition};

/// The document whose blocks these days run.
const OPERATIONS: &str = "docs/operations.md";

/// The longest time until a state or an alarm shows.
pub(super) const SHOWS: Duration = Duration::from_secs(60);

/// Runs everything except the reboots and the end.
pub fn all(story: &mut Story) -> Result<()> {
    hundred_parts(story)?;
    gap(story)?;
    port_in_use(story)?;
    off_the_network(story)?;
    full_disks(story)?;
    quarantine(story)?;
    story.site.run_marked(OPERATIONS, "slots-credential")?;
    renewal(story)?;
    covered_slots(story)?;
    restart_after_editing(story)?;
    revocation(story)
}

/// Reboots each host while a cable is in transit, with a network that comes late.
pub fn reboots(story: &mut Story) -> Result<()> {
    for side in [Receiver, Sender] {
        let (id, hash) = story.send_bytes(6_000_000, "priority")?;
        let serial = story.serial;
        story
            .site
            .await_state(Sender, serial, &["transmitting", "transmitted"], SHOWS)?;
        story.site.reboot(side)?;
        let alarm = match side {
            Receiver => "link-address",
            Sender => "link-down",
        };
        await_alarm(story, side, alarm)?;
        story.say(&format!(
            "the {} was rebooted; without its network it raises {alarm}",
            side.word()
        ));
        story.site.attach(side)?;
        let arrived = story.site.await_released(&id, Duration::from_secs(20));
        if side == Receiver && arrived.is_err() {
            // Datagrams that passed while the receiver was down are missing, and are sent again.
            resend(story, serial)?;
        }
        story.take(&id, &hash)?;
        story.site.each_unit_runs(side)?;
        story.say(&format!(
            "the cable that was under way arrived after the {} was up again",
            side.word()
        ));
    }
    Ok(())
}

fn hundred_parts(story: &mut Story) -> Result<()> {
    let make = "rm -rf ~/parts; mkdir ~/parts; for n in $(seq 100); do echo part $n >~/parts/$n.txt; done; sha256sum <~/parts/1.txt";
    let hash = story.site.sender.run_ok("anna", make)?;
    let id = story.send("$(ls -v ~/parts/*.txt)", "routine")?;
    story.take(&id, &hash)?;
    let count = story
        .site
        .receiver
        .run_ok("rosa", &format!("ls ~/{id} | grep -c ^part-"))?;
    expect("the parts of the cable", count.trim(), "100")?;
    story.say("a cable of 100 parts was released and taken");
    Ok(())
}

/// Loses all of a cable: the receiver reports it, and the steps of the documents bring it.
fn gap(story: &mut Story) -> Result<()> {
    story.site.link.set_open(false)?;
    let (id, hash) = story.send_bytes(200_000, "routine")?;
    let serial = story.serial;
    story
        .site
        .await_state(Sender, serial, &["transmitted"], ARRIVAL)?;
    story.site.link.set_open(true)?;
    resend(story, serial)?;
    story.take(&id, &hash)?;
    story.say("a cable that was lost wholly was missed, sent again, released and taken");
    Ok(())
}

/// Waits until a serial is missing, then has it sent again by the steps of the documents.
fn resend(story: &mut Story, serial: u64) -> Result<()> {
    story
        .site
        .await_state(Receiver, serial, &["missing"], SHOWS)?;
    story.site.variables.insert("SERIALS", serial.to_string());
    story.site.run_marked(OPERATIONS, "gaps")?;
    story.site.run_marked(OPERATIONS, "resend")
}

/// Checks that `receive` has an empty network of its own and no capability, and that its socket matches the
/// configuration, also after a kill.
fn off_the_network(story: &mut Story) -> Result<()> {
    let root = |story: &Story, line: &str| story.site.receiver.run_ok("root", line);
    let process = "pid=$(systemctl show -P MainPID valise-receiver-receive)";
    root(
        story,
        &format!("{process}; test \"$(tail -n +3 /proc/$pid/net/dev | cut -d: -f1 | xargs)\" = lo"),
    )?;
    root(
        story,
        &format!("{process}; test 5 = $(grep -c '^Cap[A-Z][a-z]*:.0*$' /proc/$pid/status)"),
    )?;
    let killed = root(story, &format!("{process}; kill -KILL $pid; echo $pid"))?;
    let is_back = format!(
        "{process}; test $pid != {} && systemctl is-active --quiet valise-receiver-receive",
        killed.trim()
    );
    story.site.await_line(Receiver, &is_back, SHOWS)?;
    story.send_and_take(10_000, "routine")?;
    let edit = "sed -i s/:7000/:7001/ /etc/valise/receiver.toml";
    let told =
        "systemctl restart valise-receiver-receive || systemctl status valise-receiver-receive";
    let told = story
        .site
        .receiver
        .run("root", &format!("{edit}; {told}"))?;
    if !told.output.contains("run systemctl daemon-reload") {
        return Err(HarnessError::Wrong(format!(
            "a changed link.listen without daemon-reload: {}",
            told.output
        )));
    }
    root(
        story,
        "sed -i s/:7001/:7000/ /etc/valise/receiver.toml; systemctl daemon-reload; systemctl restart 'valise-*'",
    )?;
    story.send_and_take(10_000, "routine")?;
    story.say("receive has no network; its socket is the configuration's, also after a kill");
    Ok(())
}

/// Another program holds receive's port when receive starts.
fn port_in_use(story: &mut Story) -> Result<()> {
    let receiver = &story.site.receiver;
    receiver.run_ok("root", "systemctl stop valise-receiver-receive")?;
    let hold = "python3 -c 'import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind((\"192.0.2.2\",7000)); time.sleep(600)'";
    receiver.run_ok("root", &format!("systemd-run --quiet --unit=holder {hold}"))?;
    story.site.await_line(
        Receiver,
        "ss -Huln 'sport = :7000' | grep -q 192.0.2.2",
        SHOWS,
    )?;
    story
        .site
        .receiver
        .run_ok("root", "systemctl --no-block start valise-receiver-receive")?;
    await_alarm(story, Receiver, "link-port")?;
    story
        .site
        .receiver
        .run_ok("root", "systemctl stop holder")?;
    await_healthy(story, Receiver)?;
    story.send_and_take(50_000, "routine")?;
    story.say("receive waited for its port, and took it when it was free");
    Ok(())
}

/// Fills each disk to the last byte.
fn full_disks(story: &mut Story) -> Result<()> {
    for side in [Receiver, Sender] {
        let fill = format!("/var/lib/valise-{}/fill", side.word());
        let line = format!(
            "dd if=/dev/zero of={fill} bs=64k status=none 2>/dev/null; dd if=/dev/zero of={fill} bs=1 oflag=append conv=notrunc status=none 2>/dev/null; df --output=avail {fill} | tail -n 1"
        );
        let free = story.site.host(side).run_ok("root", &line)?;
        story.say(&format!(
            "the {}'s disk was filled: {} KiB free",
            side.word(),
            free.trim()
        ));
        await_alarm(story, side, "disk")?;
        let waiting = match side {
            Receiver => Some(story.send_bytes(300_000, "routine")?),
            Sender => {
                let refused = story.site.sender.run("anna", "valise-sender submit --label 'EU-RESTRICTED LIMITE' --to paris-desk --precedence routine --subject Full ~/sent.txt")?;
                expect(
                    "the exit status of a submission to a full disk",
                    &format!("{:?}", refused.status),
                    "Some(3)",
                )?;
                None
            }
        };
        story
            .site
            .host(side)
            .run_ok("root", &format!("rm {fill}"))?;
        await_healthy(story, side)?;
        match waiting {
            None => story.send_and_take(300_000, "routine")?,
            Some((id, hash)) => {
                if story
                    .site
                    .await_released(&id, Duration::from_secs(30))
                    .is_err()
                {
                    resend(story, story.serial)?;
                }
                story.take(&id, &hash)?;
            }
        }
        story.say(&format!(
            "the {} went on when its disk had room again",
            side.word()
        ));
    }
    Ok(())
}

/// Sends 200 MB, which the sender's new list allows and the receiver's old one does not.
fn quarantine(story: &mut Story) -> Result<()> {
    story.site.carry("/media/courier", Sender, Receiver)?;
    story.site.run_marked(OPERATIONS, "list-edit")?;
    story.site.run_marked(OPERATIONS, "list-sign")?;
    story.site.carry("/media/courier", Receiver, Sender)?;
    story.site.run_marked(OPERATIONS, "list-sender")?;
    let (id, hash) = story.send_bytes(200_000_000, "routine")?;
    let serial = story.serial;
    story.site.variables.insert("SERIAL", serial.to_string());
    story
        .site
        .await_state(Receiver, serial, &["quarantined"], ARRIVAL)?;
    story.site.run_marked(OPERATIONS, "quarantine-show")?;
    story.site.carry("/media/courier", Sender, Receiver)?;
    story.site.run_marked(OPERATIONS, "list-receiver")?;
    story.site.run_marked(OPERATIONS, "quarantine-recheck")?;
    story.take(&id, &hash)?;
    story.say("200 MB were quarantined, checked again against a newer list, released and taken");
    Ok(())
}

fn renewal(story: &mut Story) -> Result<()> {
    for mark in ["bundle-create", "bundle-sign", "bundle-signed"] {
        story.site.run_marked(OPERATIONS, mark)?;
    }
    story.site.carry("/media/courier", Receiver, Sender)?;
    story.site.run_marked(OPERATIONS, "bundle-import")?;
    // The slots of the first bundle remain in use until they are used up; its link key does not.
    story.send_and_take(70_000, "immediate")?;
    story.site.carry("/media/courier", Sender, Receiver)?;
    story.say("the bundle was renewed");
    Ok(())
}

/// Encrypts the slots of the second bundle with a credential of the unit. They are used when a third bundle has
/// replaced the first. Without the credential release does not start.
fn covered_slots(story: &mut Story) -> Result<()> {
    let changes = [
        ("second", "third"),
        ("--slots 10000", "--slots 1000 --replaces 1"),
    ];
    for mark in ["bundle-create", "bundle-sign", "bundle-signed"] {
        story.site.run_changed(OPERATIONS, mark, &changes)?;
    }
    story.site.carry("/media/courier", Receiver, Sender)?;
    story
        .site
        .run_changed(OPERATIONS, "bundle-import", &changes)?;
    story.site.carry("/media/courier", Sender, Receiver)?;
    story.send_and_take(70_000, "immediate")?;
    let highest =
        "valise-receiver status --json | sed -n 's/^ *\"highest_serial\": *\\([0-9]*\\).*/\\1/p'";
    let highest = story.site.receiver.run_ok("root", highest)?;
    story.serial = highest
        .trim()
        .parse()
        .map_err(|_| HarnessError::Wrong(format!("{highest:?} is no serial")))?;
    let root = |story: &Story, line: &str| story.site.receiver.run_ok("root", line);
    let mark =
        "tail -c +41 /var/lib/valise-receiver/slots/2.slots | head -c 24 | tr -d '\\0' | wc -c";
    let mark = root(story, mark)?;
    if mark.trim() == "0" {
        return Err(HarnessError::Wrong("2.slots is not covered".into()));
    }
    // The credential is a secret of the unit: without it release reports that it is missing, and with it everything
    // continues.
    let conf = "/etc/systemd/system/valise-receiver-release.service.d/slots.conf";
    let restart = "systemctl daemon-reload; systemctl restart valise-receiver-release";
    story
        .site
        .receiver
        .run("root", &format!("mv {conf} {conf}.away; {restart}"))?;
    let told =
        "journalctl -u valise-receiver-release -n 20 | grep -q 'has no credential valise-slots'";
    story.site.await_line(Receiver, told, SHOWS)?;
    let back =
        format!("mv {conf}.away {conf}; systemctl reset-failed valise-receiver-release; {restart}");
    root(story, &back)?;
    story.send_and_take(10_000, "routine")?;
    story.say("a credential of the unit covers the slots, and release does not start without it");
    Ok(())
}

fn restart_after_editing(story: &mut Story) -> Result<()> {
    story.site.sender.run_ok(
        "root",
        "echo 'rate = \"200 Mbit/s\"' >>/etc/valise/sender.toml",
    )?;
    story.site.run_marked(OPERATIONS, "restart")?;
    story.send_and_take(10_000, "routine")?;
    story.say("a changed configuration was checked and taken");
    Ok(())
}

/// Revokes an officer: no approval of that person counts any more, on either host.
fn revocation(story: &mut Story) -> Result<()> {
    story.site.run_marked(OPERATIONS, "revoke")?;
    story.site.run_marked(OPERATIONS, "list-sign")?;
    story.site.run_marked(OPERATIONS, "list-receiver")?;
    // The sender does not have the list yet: the cable that it sends is held on the isolated side.
    story.send_bytes(5_000, "routine")?;
    let serial = story.serial;
    story
        .site
        .await_state(Receiver, serial, &["quarantined"], ARRIVAL)?;
    story.site.carry("/media/courier", Receiver, Sender)?;
    story.site.run_marked(OPERATIONS, "list-sender")?;
    let id = story.submit("~/sent.txt", "routine")?;
    let approve = format!("valise-sender approve {id} --key ~/.ssh/id_ed25519_sk");
    let by_ben = story.site.type_as(Sender, "ben", &approve)?;
    expect(
        "the approval of an officer",
        &format!("{:?}", by_ben.status),
        "Some(0)",
    )?;
    let by_carla = story.site.type_as(Sender, "carla", &approve)?;
    expect(
        "the approval of a revoked officer",
        &format!("{:?}", by_carla.status),
        "Some(1)",
    )?;
    story.say("a revoked officer approves nothing, on either host");
    Ok(())
}

/// Checks that the isolated host has sent nothing, also while `receive` was down, and that the counter works.
pub fn silence(story: &mut Story) -> Result<()> {
    story
        .site
        .receiver
        .run_ok("root", "systemctl stop valise-receiver-receive")?;
    await_beacons(story)?;
    let returned = story.site.link.returned_frames()?;
    expect(
        "the frames that the receiver sent",
        &returned.to_string(),
        "0",
    )?;
    story.say("the receiver has sent 0 frames, also while receive was down");
    // Without the rule the kernel would have answered, and the counter shows it.
    story
        .site
        .receiver
        .run_ok("root", "nft delete table netdev valise-diode0")?;
    let what = "a frame of the receiver, whose answers nothing holds back";
    await_condition(what, SHOWS, &[], || {
        Ok((story.site.link.returned_frames()? > 0).then_some(()))
    })
}

/// Waits for a few of the sender's beacons, one a second, for which the receiver has no socket. Other frames do not
/// count: a host that has just booted sends some, and no host answers those.
fn await_beacons(story: &Story) -> Result<()> {
    // The kernel's `Udp: NoPorts`: datagrams to a port that no process has open.
    const COUNTER: &str = "awk '$1 == \"Udp:\" && $3 ~ /^[0-9]+$/ { print $3 }' /proc/net/snmp";
    let text = story.site.receiver.run_ok("root", COUNTER)?;
    let before: u64 = text
        .trim()
        .parse()
        .map_err(|error| HarnessError::Wrong(format!("{COUNTER}: {error}: {text}")))?;
    let line = format!("test $({COUNTER}) -gt {}", before + 3);
    story.site.await_line(Receiver, &line, SHOWS)
}

/// Waits until `status --check` of a host shows an alarm.
pub(super) fn await_alarm(story: &Story, side: Side, alarm: &str) -> Result<()> {
    let line = format!(
        "valise-{} status --check 2>&1 | grep -q '{alarm}'",
        side.word()
    );
    story.site.await_line(side, &line, SHOWS)
}

/// Waits until a host has no alarm about its disk or link.
pub(super) fn await_healthy(story: &Story, side: Side) -> Result<()> {
    let line = format!(
        "! valise-{} status --check 2>&1 | grep -qE 'link-|disk|hung|stopped'",
        side.word()
    );
    story.site.await_line(side, &line, SHOWS)
}
