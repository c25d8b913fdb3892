//! The serial ports of this machine: what the kernel and udev know of each, and the programs that hold it open.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serialport::SerialPortType;

use crate::manifest::one_line;

/// The kernel's list of terminals.
const TERMINALS: &str = "/sys/class/tty";

/// The names that udev gives to USB adapters: they stay when another adapter is plugged in.
const STABLE_NAMES: &str = "/dev/serial/by-id";

/// Bytes of a text that an adapter sends about itself.
const TEXT_BYTES_MAX: usize = 80;

/// Parents of a device that are searched for its driver and its bus.
const PARENTS_MAX: usize = 8;

/// One serial port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SerialPort {
    /// Its device, such as `/dev/ttyUSB0`.
    pub device: PathBuf,
    /// Its stable name below `/dev/serial/by-id`.
    pub stable_name: Option<PathBuf>,
    /// The bus that it is on, such as `usb` or `pci`.
    pub bus: Option<String>,
    /// The kernel's driver.
    pub driver: Option<String>,
    /// The maker's name, as the USB adapter reports it.
    pub manufacturer: Option<String>,
    /// The product's name, as the USB adapter reports it.
    pub product: Option<String>,
    /// The serial number, as the USB adapter reports it.
    pub serial_number: Option<String>,
    /// Programs that have it open; known to root alone.
    pub held_by: Option<Vec<Holder>>,
}

/// A program that has a port open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// The process's name.
    pub name: String,
}

/// Returns the serial ports of this machine, in the order of their names.
///
/// # Errors
/// The system's.
pub fn serial_ports() -> io::Result<Vec<SerialPort>> {
    // The crate panics where the folder is absent.
    if !Path::new(TERMINALS).is_dir() {
        return Ok(Vec::new());
    }
    let stable_names = stable_names(Path::new(STABLE_NAMES));
    let mut ports: Vec<SerialPort> = serialport::available_ports()?
        .into_iter()
        .map(|port| (PathBuf::from(port.port_name), port.port_type))
        .filter(|(device, _)| has_hardware(Path::new(TERMINALS), device))
        .map(|(device, kind)| describe(Path::new(TERMINALS), &stable_names, device, kind))
        .collect();
    ports.sort_by_key(|port| natural_order(&port.device));
    Ok(ports)
}

/// Returns the programs that have a device open, as far as this user may see them.
///
/// # Errors
/// The system's, if the device is not there.
pub(crate) fn holders(device: &Path) -> io::Result<Vec<Holder>> {
    let metadata = fs::metadata(device)?;
    if !metadata.file_type().is_char_device() {
        return Ok(Vec::new());
    }
    let mut holders: Vec<Holder> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| has_open(*pid, metadata.rdev()))
        .map(|pid: u32| Holder {
            pid,
            // A process may have ended meanwhile.
            name: text_of(Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_default(),
        })
        .collect();
    holders.sort_by_key(|holder| holder.pid);
    Ok(holders)
}

fn has_open(pid: u32, device: u64) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        // Only devices: a look at a file of a dead network file system could block.
        fs::read_link(file.path()).is_ok_and(|target| target.starts_with("/dev"))
            && fs::metadata(file.path()).is_ok_and(|metadata| {
                metadata.file_type().is_char_device() && metadata.rdev() == device
            })
    })
}

/// Checks that a port has a UART. The kernel keeps a few names for ports that old machines may have (PORT_UNKNOWN of
/// linux/serial_core.h).
fn has_hardware(terminals: &Path, device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    text_of(&terminals.join(name).join("type")).is_none_or(|kind| kind != "0")
}

fn describe(
    terminals: &Path,
    stable_names: &BTreeMap<PathBuf, PathBuf>,
    device: PathBuf,
    kind: SerialPortType,
) -> SerialPort {
    let parents = parents(&terminals.join(device.file_name().unwrap_or_default()));
    let bounded = |text: Option<String>| text.map(|text| one_line(&text, TEXT_BYTES_MAX));
    let (manufacturer, product, serial_number) = match kind {
        SerialPortType::UsbPort(usb) => (usb.manufacturer, usb.product, usb.serial_number),
        _ => (None, None, None),
    };
    SerialPort {
        stable_name: stable_names.get(&device).cloned(),
        bus: parents
            .first()
            .and_then(|parent| target(parent, "subsystem")),
        driver: parents.iter().find_map(|parent| target(parent, "driver")),
        manufacturer: bounded(manufacturer),
        product: bounded(product),
        serial_number: bounded(serial_number),
        held_by: None,
        device,
    }
}

/// Returns a terminal's device and that device's parents, without those that the kernel makes for every port.
fn parents(terminal: &Path) -> Vec<PathBuf> {
    let Ok(device) = terminal.join("device").canonicalize() else {
        return Vec::new();
    };
    let made_for_ports = ["serial-base", "usb-serial"];
    device
        .ancestors()
        .take(PARENTS_MAX)
        .filter(|parent| {
            target(parent, "subsystem").is_some_and(|bus| !made_for_ports.contains(&bus.as_str()))
        })
        .map(Path::to_owned)
        .collect()
}

/// Returns the last part of what a link of sysfs points to.
fn target(folder: &Path, link: &str) -> Option<String> {
    let target = fs::read_link(folder.join(link)).ok()?;
    Some(one_line(
        &target.file_name()?.to_string_lossy(),
        TEXT_BYTES_MAX,
    ))
}

fn text_of(path: &Path) -> Option<String> {
    let text = fs::read(path).ok()?;
    Some(one_line(
        String::from_utf8_lossy(&text).trim(),
        TEXT_BYTES_MAX,
    ))
}

/// Returns the links of a folder by the devices that they point to.
fn stable_names(folder: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.path().canonicalize().ok()?, entry.path())))
        .collect()
}

/// Orders `ttyS2` before `ttyS10`.
fn natural_order(device: &Path) -> (String, u64) {
    let name = device
        .file_name()
        .map(OsStr::to_string_lossy)
        .unwrap_or_default();
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name.strip_prefix(letters).unwrap_or_default();
    (letters.to_owned(), number.parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use nix::fcntl::{OFlag, open};
    use nix::pty::openpty;
    use nix::sys::stat::Mode;
    use nix::unistd::ttyname;
    use serialport::UsbPortInfo;

    use super::*;

    /// A folder as sysfs has it: a USB adapter `ttyUSB0`, and the empty place of a port `ttyS1`.
    fn sysfs(folder: &Path) -> PathBuf {
        let interface = folder.join("devices/usb1/1-2/1-2:1.0");
        let usb_port = interface.join("ttyUSB0");
        let terminals = folder.join("class/tty");
        for path in ["bus/usb", "bus/usb-serial", "drivers/ftdi_sio"] {
            fs::create_dir_all(folder.join(path)).unwrap();
        }
        fs::create_dir_all(&usb_port).unwrap();
        symlink(folder.join("bus/usb"), interface.join("subsystem")).unwrap();
        symlink(folder.join("drivers/ftdi_sio"), interface.join("driver")).unwrap();
        symlink(folder.join("bus/usb-serial"), usb_port.join("subsystem")).unwrap();
        fs::create_dir_all(terminals.join("ttyUSB0")).unwrap();
        symlink(&usb_port, terminals.join("ttyUSB0/device")).unwrap();
        fs::create_dir_all(terminals.join("ttyS1")).unwrap();
        fs::write(terminals.join("ttyS1/type"), "0\n").unwrap();
        terminals
    }

    #[test]
    fn what_an_adapter_sends_about_itself_is_escaped_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let terminals = sysfs(folder.path());
        let stable = Path::new("/dev/serial/by-id/usb-x").to_owned();
        let names = BTreeMap::from([(PathBuf::from("/dev/ttyUSB0"), stable.clone())]);
        let usb = SerialPortType::UsbPort(UsbPortInfo {
            vid: 0x0403,
            pid: 0x6001,
            serial_number: Some("A5\n\u{202e}0285".to_owned()),
            manufacturer: Some("FTDI".to_owned()),
            product: Some("\u{1b}[2J".repeat(1000)),
        });
        let port = describe(&terminals, &names, "/dev/ttyUSB0".into(), usb);
        assert_eq!(port.bus.as_deref(), Some("usb"));
        assert_eq!(port.driver.as_deref(), Some("ftdi_sio"));
        assert_eq!(port.stable_name, Some(stable));
        assert_eq!(port.manufacturer.as_deref(), Some("FTDI"));
        assert_eq!(port.serial_number.as_deref(), Some("A5 \\u{202e}0285"));
        let product = port.product.unwrap();
        assert!(
            product.starts_with("\\u{1b}[2J\\u{1b}") && product.len() <= TEXT_BYTES_MAX,
            "{product}"
        );
    }

    #[test]
    fn a_name_without_a_uart_is_not_a_port() {
        let folder = tempfile::tempdir().unwrap();
        let terminals = sysfs(folder.path());
        assert!(has_hardware(&terminals, Path::new("/dev/ttyUSB0")));
        assert!(!has_hardware(&terminals, Path::new("/dev/ttyS1")));
        fs::write(terminals.join("ttyS1/type"), "4\n").unwrap();
        assert!(has_hardware(&terminals, Path::new("/dev/ttyS1")));
    }

    #[test]
    fn a_stable_name_is_found_by_its_device() {
        let folder = tempfile::tempdir().unwrap();
        let (names, device) = (folder.path().join("by-id"), folder.path().join("ttyUSB0"));
        assert!(stable_names(&names).is_empty());
        fs::create_dir(&names).unwrap();
        fs::write(&device, "").unwrap();
        symlink("../ttyUSB0", names.join("usb-x")).unwrap();
        symlink("../ttyUSB1", names.join("usb-gone")).unwrap();
        let device = device.canonicalize().unwrap();
        assert_eq!(
            stable_names(&names),
            BTreeMap::from([(device, names.join("usb-x"))])
        );
    }

    #[test]
    fn ports_are_in_the_order_of_their_numbers() {
        let mut devices = ["ttyUSB0", "ttyS10", "ttyS2", "ttyACM0"].map(PathBuf::from);
        devices.sort_by_key(|device| natural_order(device));
        let wanted = ["ttyACM0", "ttyS2", "ttyS10", "ttyUSB0"].map(PathBuf::from);
        assert_eq!(devices, wanted);
    }

    #[test]
    fn the_process_that_has_a_device_open_is_found_and_is_gone_when_it_closes_it() {
        let pty = openpty(None, None).unwrap();
        let device = ttyname(&pty.slave).unwrap();
        let flags = OFlag::O_WRONLY | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let second = open(&device, flags, Mode::empty()).unwrap();
        let has_me = || {
            let holders = holders(&device).unwrap();
            holders
                .iter()
                .any(|holder| holder.pid == std::process::id() && !holder.name.is_empty())
        };
        drop(pty.slave);
        assert!(has_me());
        drop(second);
        assert!(!has_me());
        holders(Path::new("/dev/nonexistent")).unwrap_err();
    }

    #[test]
    fn each_port_of_this_machine_is_a_device() {
        for port in serial_ports().unwrap() {
            let metadata = fs::metadata(&port.device).unwrap();
            assert!(metadata.file_type().is_char_device(), "{port:?}");
        }
    }
}
