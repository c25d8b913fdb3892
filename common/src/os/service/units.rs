//! What the units take from a host's configuration: systemd asks for it at boot and at `systemctl daemon-reload`
//! (systemd.generator(7)), so that the units never differ from the file.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::GENERATOR;
use crate::units::ByteSize;

/// The name that `90-valise-serial.rules` gives to the port of the link. Its group is `valise-line`, whose members are the
/// roles of the link.
const OWN_LINE: &str = "/dev/valise-line";

/// The groups that own serial ports: udev's own rules give them to the first, those of some distributions to the second.
const PORT_GROUPS: [&str; 2] = ["dialout", "uucp"];

/// The kernel's names for the kinds of serial ports (`/proc/devices`): a UART of the mainboard or of a PCI card, two kinds of
/// USB adapters, and the UART of small ARM machines.
const PORT_CLASSES: [&str; 4] = ["ttyS", "ttyUSB", "ttyACM", "ttyAMA"];

/// The modules that bring the classes of USB adapters.
const PORT_MODULES: [(&str, &str); 2] = [("ttyUSB", "usbserial"), ("ttyACM", "cdc_acm")];

/// A role's use of the serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineUse {
    /// Writes, and cannot read: transmit.
    Write,
    /// Reads, and cannot write: receive.
    Read,
}

/// Returns the unit of a UDP socket that systemd makes and binds, so that the role needs no network and no capability.
///
/// It lives and ends with the role: a datagram never starts a role that somebody stopped. Its name is not one of `valise-*`:
/// systemd refuses to restart a socket in front of a service that runs, and operators restart `valise-*`.
pub fn udp_socket(config: &Path, service: &str, listen: SocketAddr, buffer: ByteSize) -> String {
    format!(
        "[Unit]\nDescription=Valise: the socket of the one-way link\nSourcePath={}\nBindsTo={service}\n\
         StartLimitIntervalSec=0\n\n[Socket]\nService={service}\nListenDatagram={listen}\nFreeBind=yes\nReceiveBuffer={}\n\
         TriggerLimitIntervalSec=0\n",
        config.display(),
        buffer.0
    )
}

/// Returns the part of a role's unit that lets it reach one host and no other.
pub fn only_peer(peer: IpAddr) -> String {
    format!("[Service]\nIPAddressAllow={peer}\n")
}

/// Returns the part of a role's unit that opens the ports of the serial line's class to it, one way, and no network.
///
/// The device's own name is of no use to `DeviceAllow=`: systemd looks for it once, when the role starts, and ignores a name
/// that is not there. A USB adapter that is plugged in later, or again, would stay closed. A class of devices is there as soon as its
/// module is loaded. Which port of the class the role opens is a matter of the configuration, of the ports' group and of
/// the role's own fences.
///
/// Nothing is asked of the device itself: at boot the generator runs before udev gives it its names.
pub fn serial_line(device: &Path, line_use: LineUse) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    serial_line_for(device, line_use, &groups)
}

fn serial_line_for(device: &Path, line_use: LineUse, groups: &str) -> String {
    let classes = port_classes(device);
    let mut unit = String::from("[Unit]\n");
    for (_, module) in PORT_MODULES
        .iter()
        .filter(|(class, _)| classes.iter().any(|one| one == class))
    {
        unit.push_str(&format!(
            "Wants=modprobe@{module}.service\nAfter=modprobe@{module}.service\n"
        ));
    }
    let access = match line_use {
        LineUse::Write => "w",
        LineUse::Read => "r",
    };
    // DevicePolicy= stays closed.
    unit.push_str("[Service]\nPrivateDevices=no\n");
    for class in classes {
        unit.push_str(&format!("DeviceAllow=char-{class} {access}\n"));
    }
    let is_group = |name: &&str| {
        groups
            .lines()
            .any(|line| line.split(':').next() == Some(name))
    };
    if device != Path::new(OWN_LINE)
        && let Some(group) = PORT_GROUPS.iter().find(|name| is_group(name))
    {
        unit.push_str(&format!("SupplementaryGroups={group}\n"));
    }
    unit.push_str(
        "InaccessiblePaths=-/dev/shm -/dev/mqueue\nPrivateNetwork=yes\nRestrictAddressFamilies=\n\
         RestrictAddressFamilies=AF_UNIX\n",
    );
    unit
}

/// Returns the class of a device by its name, or all classes for a name that udev gives.
fn port_classes(device: &Path) -> Vec<String> {
    let name = device.strip_prefix("/dev").ok().and_then(Path::to_str);
    let class = name.map(|name| name.trim_end_matches(|c: char| c.is_ascii_digit()));
    let is_kind = |kind: &str| {
        kind.strip_prefix("tty").is_some_and(|kind| {
            (1..=16).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphabetic())
        })
    };
    match class {
        Some("pts/") => vec!["pts".to_owned()],
        // Boards of small machines have UARTs with other names than those listed.
        Some(kind) if is_kind(kind) => vec![kind.to_owned()],
        _ => PORT_CLASSES.map(str::to_owned).to_vec(),
    }
}

/// Writes a unit, or a part of one, into the folder that systemd reads.
///
/// # Errors
/// The system's.
pub fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, format!("# Made by {GENERATOR}.\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\nuucp:x:10:\ndialout:x:20:anna\n";

    fn lines(device: &str, line_use: LineUse, groups: &str) -> Vec<String> {
        let unit = serial_line_for(Path::new(device), line_use, groups);
        unit.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_port_of_the_mainboard_is_opened_one_way_and_by_its_class_alone() {
        let written = lines("/dev/ttyS0", LineUse::Write, GROUPS);
        assert_eq!(
            written,
            [
                "[Unit]",
                "[Service]",
                "PrivateDevices=no",
                "DeviceAllow=char-ttyS w",
                "SupplementaryGroups=dialout",
                "InaccessiblePaths=-/dev/shm -/dev/mqueue",
                "PrivateNetwork=yes",
                "RestrictAddressFamilies=",
                "RestrictAddressFamilies=AF_UNIX",
            ]
        );
        let read = lines("/dev/ttyS0", LineUse::Read, GROUPS);
        assert!(
            read.contains(&"DeviceAllow=char-ttyS r".to_owned()),
            "{read:?}"
        );
    }

    #[test]
    fn a_usb_adapter_has_the_module_of_its_class_loaded_before() {
        let unit = lines("/dev/ttyUSB12", LineUse::Read, GROUPS).join("\n");
        assert!(
            unit.contains("After=modprobe@usbserial.service") && !unit.contains("cdc_acm"),
            "{unit}"
        );
        assert!(unit.contains("Wants=modprobe@usbserial.service"), "{unit}");
        assert_eq!(unit.matches("DeviceAllow=").count(), 1, "{unit}");
    }

    #[test]
    fn a_name_that_udev_gives_may_be_of_any_class_and_nothing_of_it_reaches_the_unit() {
        for device in [
            "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0",
            "/dev/ttyUSB0\nExecStart=/bin/sh",
            "/dev/valise-line",
            "/dev/tty1",
            "/srv/ttyS0",
        ] {
            let unit = lines(device, LineUse::Write, GROUPS);
            let allowed: Vec<&String> = unit
                .iter()
                .filter(|line| line.starts_with("DeviceAllow="))
                .collect();
            assert_eq!(allowed.len(), PORT_CLASSES.len(), "{unit:?}");
            assert!(
                !unit.iter().any(|line| line.contains("ExecStart")),
                "{unit:?}"
            );
        }
        let board = lines("/dev/ttymxc0", LineUse::Write, GROUPS);
        assert!(
            board.contains(&"DeviceAllow=char-ttymxc w".to_owned()),
            "{board:?}"
        );
        let pts = lines("/dev/pts/3", LineUse::Write, GROUPS);
        assert!(
            pts.contains(&"DeviceAllow=char-pts w".to_owned()),
            "{pts:?}"
        );
    }

    #[test]
    fn the_group_of_the_ports_is_one_that_the_system_has() {
        let group = |device: &str, groups: &str| {
            let unit = lines(device, LineUse::Read, groups);
            let prefix = "SupplementaryGroups=";
            unit.iter()
                .find_map(|line| line.strip_prefix(prefix).map(str::to_owned))
        };
        assert_eq!(group("/dev/ttyS0", GROUPS).as_deref(), Some("dialout"));
        let uucp = "uucp:x:10:\nx:x:1:dialout\n";
        assert_eq!(group("/dev/ttyS0", uucp).as_deref(), Some("uucp"));
        assert_eq!(group("/dev/ttyS0", "root:x:0:\n"), None);
        assert_eq!(group("/dev/valise-line", GROUPS), None);
    }
}
