//! `ports`: the serial ports of this machine, and which of them the configuration names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{CliError, config_text, print_json, print_line, warn};
use crate::config::ConfigError;
use crate::manifest::shown_name;
use crate::os::serial_ports::{Holder, SerialPort, holders, serial_ports};

/// The answer of `ports`.
#[derive(Debug, Serialize)]
struct Found {
    link: Option<NamedDevice>,
    ports: Vec<SerialPort>,
}

/// `link.device` of the configuration.
#[derive(Debug, Serialize)]
struct NamedDevice {
    /// As the configuration has it.
    device: PathBuf,
    /// The device that it is; none if it is not there.
    is: Option<PathBuf>,
    /// Programs that have it open; known to root alone.
    held_by: Option<Vec<Holder>>,
}

/// Lists the serial ports of this machine. `device_of` returns `link.device` of a configuration, which need not be there.
///
/// # Errors
/// [`CliError::System`] if the ports cannot be listed or standard output takes nothing.
pub fn list_ports(
    program: &str,
    config: &Path,
    device_of: impl FnOnce(&str) -> Result<Option<PathBuf>, ConfigError>,
    json: bool,
) -> Result<(), CliError> {
    let device = match named_device(config, device_of) {
        Ok(device) => device,
        Err(error) => {
            let told = format!("the ports are shown without link.device: {error}");
            warn(program, Some(told));
            None
        }
    };
    let is_root = nix::unistd::geteuid().is_root();
    let holding = |device: &Path| is_root.then(|| holders(device).ok()).flatten();
    let mut ports = serial_ports().map_err(CliError::system)?;
    for port in &mut ports {
        port.held_by = holding(&port.device);
    }
    let link = device.map(|device| NamedDevice {
        is: device.canonicalize().ok(),
        held_by: holding(&device),
        device,
    });
    let found = Found { link, ports };
    match json {
        true => print_json(&found),
        false => print_line(&found.lines().join("\n")),
    }
}

/// Reads `link.device`; a configuration that is not there yet names none.
fn named_device(
    config: &Path,
    device_of: impl FnOnce(&str) -> Result<Option<PathBuf>, ConfigError>,
) -> Result<Option<PathBuf>, CliError> {
    if fs::metadata(config).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    device_of(&config_text(config)?)
        .map_err(|error| CliError::Usage(format!("{}: {error}", config.display())))
}

impl Found {
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.ports.is_empty() {
            lines.push(
                "no serial port is here: plug the adapter in, and see with dmesg whether the kernel knows it"
                    .to_owned(),
            );
        }
        for port in &self.ports {
            lines.extend(self.port_lines(port));
        }
        lines.extend(self.link.as_ref().and_then(|link| self.elsewhere(link)));
        lines
    }

    fn port_lines(&self, port: &SerialPort) -> Vec<String> {
        let mut lines = vec![format!("{:<15} {}", shown(&port.device), adapter(port))];
        let mut more = |text: String| lines.push(format!("{:15} {text}", ""));
        if let Some(number) = &port.serial_number {
            more(format!("serial number {number}"));
        }
        if let Some(name) = &port.stable_name {
            more(shown(name));
        }
        if let Some(link) = self.link.as_ref().filter(|link| link.is_port(port)) {
            more(match link.device == port.device {
                true => "link.device of the configuration".to_owned(),
                false => format!(
                    "link.device of the configuration, as {}",
                    shown(&link.device)
                ),
            });
        }
        if let Some(holders) = port.held_by.as_deref().and_then(held) {
            more(holders);
        }
        lines
    }

    /// Returns a line about a device that is not one of the ports.
    fn elsewhere(&self, link: &NamedDevice) -> Option<String> {
        if self.ports.iter().any(|port| link.is_port(port)) {
            return None;
        }
        let name = shown(&link.device);
        let Some(is) = &link.is else {
            return Some(format!(
                "link.device of the configuration, {name}, is not here: plug it in, or name a port of this list"
            ));
        };
        let held = link.held_by.as_deref().and_then(held);
        let held = held.map(|text| format!("; {text}")).unwrap_or_default();
        Some(format!(
            "link.device of the configuration, {name}, is {}, which is not one of these ports{held}",
            shown(is)
        ))
    }
}

impl NamedDevice {
    fn is_port(&self, port: &SerialPort) -> bool {
        self.is.as_ref() == Some(&port.device)
    }
}

fn shown(path: &Path) -> String {
    shown_name(path.as_os_str())
}

/// Returns what a port is: what a USB adapter calls itself, otherwise its bus; and the driver.
fn adapter(port: &SerialPort) -> String {
    let texts = [&port.manufacturer, &port.product];
    let own: Vec<&str> = texts.iter().filter_map(|text| text.as_deref()).collect();
    let name = match (own.is_empty(), port.bus.as_deref()) {
        (false, _) => own.join(" "),
        (true, Some("usb")) => "a USB adapter".to_owned(),
        (true, Some("pci")) => "a PCI card".to_owned(),
        (true, Some("pnp" | "platform" | "amba")) => "a port of the mainboard".to_owned(),
        (true, _) => "a serial port".to_owned(),
    };
    match &port.driver {
        Some(driver) => format!("{name} (driver {driver})"),
        None => name,
    }
}

fn held(holders: &[Holder]) -> Option<String> {
    let each = |holder: &Holder| format!("process {} ({})", holder.pid, holder.name);
    let all: Vec<String> = holders.iter().map(each).collect();
    (!all.is_empty()).then(|| format!("open in {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn port(device: &str) -> SerialPort {
        SerialPort {
            device: device.into(),
            stable_name: None,
            bus: Some("pnp".to_owned()),
            driver: Some("serial".to_owned()),
            manufacturer: None,
            product: None,
            serial_number: None,
            held_by: None,
        }
    }

    fn link(device: &str, is: Option<&str>) -> Option<NamedDevice> {
        Some(NamedDevice {
            device: device.into(),
            is: is.map(PathBuf::from),
            held_by: None,
        })
    }

    #[test]
    fn a_port_has_its_adapter_its_stable_name_its_place_in_the_configuration_and_its_holder() {
        let adapter = SerialPort {
            stable_name: Some("/dev/serial/by-id/usb-FTDI-if00".into()),
            bus: Some("usb".to_owned()),
            driver: Some("ftdi_sio".to_owned()),
            manufacturer: Some("FTDI".to_owned()),
            product: Some("FT232R USB UART".to_owned()),
            serial_number: Some("A50285BI".to_owned()),
            held_by: Some(vec![Holder {
                pid: 812,
                name: "valise-sender".to_owned(),
            }]),
            ..port("/dev/ttyUSB0")
        };
        let found = Found {
            link: link("/dev/valise-line", Some("/dev/ttyUSB0")),
            ports: vec![port("/dev/ttyS0"), adapter],
        };
        assert_eq!(
            found.lines(),
            [
                "/dev/ttyS0      a port of the mainboard (driver serial)",
                "/dev/ttyUSB0    FTDI FT232R USB UART (driver ftdi_sio)",
                "                serial number A50285BI",
                "                /dev/serial/by-id/usb-FTDI-if00",
                "                link.device of the configuration, as /dev/valise-line",
                "                open in process 812 (valise-sender)",
            ]
        );
    }

    #[test]
    fn a_device_that_is_not_here_or_not_a_port_is_reported() {
        let lines = |link, ports| Found { link, ports }.lines().join("\n");
        let text = lines(link("/dev/ttyUSB7", None), vec![port("/dev/ttyS0")]);
        assert!(text.contains("/dev/ttyUSB7, is not here"), "{text}");
        let text = lines(link("/dev/line", Some("/dev/pts/3")), Vec::new());
        assert!(
            text.contains("no serial port is here") && text.contains("/dev/line, is /dev/pts/3"),
            "{text}"
        );
        let text = lines(
            link("/dev/ttyS0", Some("/dev/ttyS0")),
            vec![port("/dev/ttyS0")],
        );
        assert!(text.ends_with("link.device of the configuration"), "{text}");
        assert_eq!(lines(None, vec![port("/dev/ttyS0")]).lines().count(), 1);
    }

    #[test]
    fn a_configuration_may_be_absent_but_not_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sender.toml");
        let device_of = |text: &str| match text {
            "" => Err(ConfigError::Syntax("empty".to_owned())),
            text => Ok(Some(PathBuf::from(text))),
        };
        assert_eq!(named_device(&path, device_of), Ok(None));
        fs::write(&path, "/dev/ttyS0").unwrap();
        assert_eq!(
            named_device(&path, device_of),
            Ok(Some("/dev/ttyS0".into()))
        );
        fs::write(&path, "").unwrap();
        assert!(named_device(&path, device_of).is_err());
    }
}
