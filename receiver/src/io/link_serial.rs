//! The serial end of a link. Its place is kept: the port is looked up and named, and then refused.

use std::path::Path;

use thiserror::Error;

/// Why a serial link does not start.
#[derive(Debug, Error)]
pub enum SerialLinkError {
    /// The device exists; this version does not read it.
    #[error(
        "the serial link arrives in a later version; {port} was found, but use a UDP link (kind = \"udp\") until then"
    )]
    Later {
        /// The device, with what the system knows of it.
        port: String,
    },
    /// The system knows no such device.
    #[error(
        "the serial link arrives in a later version, and {port} is none of the serial ports here ({known}); use a UDP link (kind = \"udp\") until then"
    )]
    Absent {
        /// The device of the configuration.
        port: String,
        /// The ports that the system knows.
        known: String,
    },
}

/// A serial link. There is no way to make one yet.
#[derive(Debug)]
pub enum SerialLink {}

impl SerialLink {
    /// Looks the port up and refuses it.
    ///
    /// # Errors
    /// Always, with the port's name.
    pub fn open(device: &Path, _baud: u32) -> Result<Self, SerialLinkError> {
        let ports = serialport::available_ports().unwrap_or_default();
        let port = device.display().to_string();
        match ports
            .iter()
            .find(|known| Path::new(&known.port_name) == device)
        {
            Some(found) => Err(SerialLinkError::Later {
                port: describe(found),
            }),
            None if device.exists() => Err(SerialLinkError::Later { port }),
            None => {
                let mut known: Vec<&str> = ports.iter().map(|port| &*port.port_name).collect();
                known.sort_unstable();
                let known = if known.is_empty() {
                    "there are none".to_owned()
                } else {
                    known.join(", ")
                };
                Err(SerialLinkError::Absent { port, known })
            }
        }
    }
}

fn describe(port: &serialport::SerialPortInfo) -> String {
    let kind = match &port.port_type {
        serialport::SerialPortType::UsbPort(_) => " (USB)",
        serialport::SerialPortType::PciPort => " (PCI)",
        serialport::SerialPortType::BluetoothPort => " (Bluetooth)",
        serialport::SerialPortType::Unknown => "",
    };
    format!("{}{kind}", port.port_name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_serial_link_is_refused_with_its_port_and_what_to_do() {
        let text = SerialLink::open(Path::new("/dev/absent"), 9600)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("/dev/absent") && text.contains("kind = \"udp\""),
            "{text}"
        );
        let text = SerialLink::open(Path::new("/dev/null"), 9600)
            .unwrap_err()
            .to_string();
        assert!(text.contains("/dev/null was found"), "{text}");
    }
}
