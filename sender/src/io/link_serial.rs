//! The serial end of a link. Its place is kept: the port is looked up and named, and then refused.

use std::path::Path;

use thiserror::Error;

/// Why a serial link does not start.
#[derive(Debug, Error)]
pub enum SerialLinkError {
    /// The device exists; this version does not send on it.
    #[error(
        "the serial link arrives in a later version; {port} was found, but use a UDP link (kind = \"udp\") until then"
    )]
    Later {
        /// The device.
        port: String,
    },
    /// The system knows no such device.
    #[error(
        "the serial link arrives in a later version, and {port} is none of the serial ports here ({known}); use a UDP \
         link (kind = \"udp\") until then"
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
        let port = device.display().to_string();
        if device.exists() {
            return Err(SerialLinkError::Later { port });
        }
        let ports = serialport::available_ports().unwrap_or_default();
        let mut known: Vec<String> = ports.into_iter().map(|port| port.port_name).collect();
        known.sort_unstable();
        let known = if known.is_empty() {
            "there are none".to_owned()
        } else {
            known.join(", ")
        };
        Err(SerialLinkError::Absent { port, known })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_serial_link_is_refused_with_its_port_and_what_to_do() {
        for (device, told) in [("/dev/absent", "none of"), ("/dev/null", "was found")] {
            let error = SerialLink::open(Path::new(device), 9_600)
                .unwrap_err()
                .to_string();
            assert!(error.contains(device) && error.contains(told), "{error}");
            assert!(error.contains("kind = \"udp\""), "{error}");
        }
    }
}
