//! `check-config`: what the configuration means, and what this host has against it.

use serde_json::{Value, json};
use valise_common::config::{Fences, LinkKind, ReceiverConfig};
use valise_common::host::cli::Shown;
use valise_common::host::commissioned::HostError;
use valise_common::host::folders::ReceiverState;
use valise_common::ids::ChannelId;
use valise_common::os::serial;

use super::{CliError, print_json, print_line};
use crate::spool::publish::Groups;

/// `check-config`
pub(super) fn check(config: &ReceiverConfig, options: &Shown) -> Result<(), CliError> {
    // An unknown group is a wrong configuration.
    Groups::look_up(&config.mailboxes)?;
    let state = ReceiverState::new(&config.state);
    let commissioned = match state.read_host() {
        Ok(host) => Some(host.channel),
        Err(HostError::NotCommissioned { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if options.json {
        return print_json(&document(config, commissioned));
    }
    let lines = lines(config, commissioned);
    lines.iter().try_for_each(|line| print_line(line))?;
    for (mailbox, group) in &config.mailboxes {
        print_line(&format!(
            "mailbox     {mailbox} is fetched by group {group}"
        ))?;
    }
    warnings(config)
        .iter()
        .try_for_each(|warning| print_line(&format!("warning: {warning}")))
}

/// Returns the configuration for a person, a line each.
fn lines(config: &ReceiverConfig, commissioned: Option<ChannelId>) -> Vec<String> {
    let link = &config.link;
    let from = match link.kind {
        LinkKind::Udp => link
            .listen
            .map(|address| format!("UDP datagrams on {address}")),
        LinkKind::Serial => link
            .device
            .as_ref()
            .map(|device| format!("the serial line {} at {} baud", device.display(), link.baud)),
    };
    [
        format!("state       everything is below {}", config.state.display()),
        match commissioned {
            Some(channel) => format!("channel     {channel}"),
            None => "channel     none yet: run valise-receiver init".to_owned(),
        },
        format!("link        {}", from.unwrap_or_default()),
        format!(
            "datagrams   {} bytes; the sender must send the same",
            link_datagram_bytes(config)
        ),
        match link.kind {
            LinkKind::Udp => format!(
                "buffer      {} are asked of the kernel for datagrams",
                link.socket_buffer
            ),
            LinkKind::Serial => "buffer      4 KiB are the kernel's for a line".to_owned(),
        },
        format!(
            "memory      {} for containers that are being collected",
            config.memory.assembly
        ),
        format!(
            "spool       {} at most for containers on disk",
            config.spool.bytes_max
        ),
        format!(
            "pickup      an alarm when a cable is not fetched for {}",
            config.release.pickup_alarm
        ),
        format!(
            "silence     an alarm when no datagram verified for {}",
            config.silence_alarm()
        ),
        match config.release.slots_credential {
            true => "slots       new ones are covered with the unit's credential valise-slots",
            false => "slots       not covered with a credential",
        }
        .to_owned(),
        match config.alarm.command.first() {
            Some(program) => format!("alarm       each new one runs {program}"),
            None => "alarm       no command; see valise-receiver status --check".to_owned(),
        },
        format!("sandbox     {}", config.sandbox.required.meaning()),
        format!("log         {} and above", config.log.level),
    ]
    .into_iter()
    .chain(not_used(config))
    .collect()
}

/// Returns the configuration as a JSON document.
fn document(config: &ReceiverConfig, commissioned: Option<ChannelId>) -> Value {
    let link = &config.link;
    let mailboxes: serde_json::Map<String, serde_json::Value> = config
        .mailboxes
        .iter()
        .map(|(mailbox, group)| (mailbox.to_string(), json!(group)))
        .collect();
    json!({
            "state": config.state.display().to_string(),
            "channel": commissioned,
            "listen": link.listen.map(|address| address.to_string()),
            "kind": link.kind.as_str(),
            "device": link.device.as_ref().map(|device| device.display().to_string()),
            "baud": (link.kind == LinkKind::Serial).then_some(link.baud),
            "datagram_bytes": link_datagram_bytes(config),
            "socket_buffer": (link.kind == LinkKind::Udp).then_some(link.socket_buffer.0),
            "assembly_bytes": config.memory.assembly.0,
            "spool_bytes_max": config.spool.bytes_max.0,
            "pickup_alarm_s": config.release.pickup_alarm.as_s(),
            "silence_alarm_s": config.silence_alarm().as_s(),
            "slots_credential": config.release.slots_credential,
            "alarm_command": config.alarm.command,
            "mailboxes": mailboxes,
            "sandbox_required": config.sandbox.required == Fences::Required,
            "log_level": config.log.level,
            "warnings": warnings(config),
    })
}

/// What the file holds of the sender's keys.
fn not_used(config: &ReceiverConfig) -> Option<String> {
    let keys = [
        ("link.rate", config.link.rate.is_some()),
        ("link.cover", config.link.cover.is_some()),
        ("[fec]", config.fec.is_some()),
    ];
    let given: Vec<&str> = keys
        .into_iter()
        .filter_map(|(key, is_given)| is_given.then_some(key))
        .collect();
    (!given.is_empty()).then(|| {
        let keys = given.join(", ");
        format!("not used    {keys}: what the sender sends is its own to choose")
    })
}

fn warnings(config: &ReceiverConfig) -> Vec<String> {
    let link = &config.link;
    match link.kind {
        LinkKind::Udp
            if link
                .listen
                .is_some_and(|listen| listen.ip().is_unspecified()) =>
        {
            vec![
                "link.listen is the address of no interface: datagrams are taken from every one, and none is watched for \
             frames that it sends".to_owned(),
            ]
        }
        LinkKind::Udp => Vec::new(),
        LinkKind::Serial => {
            let absent = link.device.iter().filter(|device| !device.exists());
            absent.map(|device| serial::is_absent(device)).collect()
        }
    }
}

fn link_datagram_bytes(config: &ReceiverConfig) -> u16 {
    config.datagram_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn keys_of_the_sender_are_told_as_not_used() {
        let of = |more: &str| {
            let link = "[link]\nkind = 'udp'\nlisten = '127.0.0.1:7000'";
            let text = format!("state = '/nonexistent/valise'\n{link}\n{more}\n");
            not_used(&ReceiverConfig::parse(&text).unwrap())
        };
        assert_eq!(of(""), None);
        let told = of("rate = '1 Mbit/s'\n[fec]\npasses = 3").unwrap();
        assert!(told.contains("link.rate, [fec]:"), "{told}");
    }

    #[test]
    fn what_cannot_be_heard_is_warned_of() {
        let of = |link: &str| {
            let text = format!("state = '/nonexistent/valise'\n[link]\n{link}\n");
            warnings(&ReceiverConfig::parse(&text).unwrap())
        };
        assert!(of("kind = 'udp'\nlisten = '127.0.0.1:7000'").is_empty());
        assert!(of("kind = 'udp'\nlisten = '0.0.0.0:7000'")[0].contains("every one"));
        assert!(of("kind = 'serial'\ndevice = '/dev/absent'")[0].contains("/dev/absent"));
        assert!(of("kind = 'serial'\ndevice = '/dev/null'").is_empty());
    }
}
