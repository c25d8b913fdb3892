//! The reasons why receive ends.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use valise_common::history::log::AuditLogError;
use valise_common::host::commissioned::HostError;
use valise_common::os::sandbox::SandboxError;

use super::listener;

/// The reason why receive does not start, or ends.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The host is not commissioned, or its file is damaged.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Another process holds the lock.
    #[error("receive is running already; stop it first, or look at its status")]
    Running,
    /// The configuration names no serial port.
    #[error("link.device is missing: a serial link needs a device")]
    NoDevice,
    /// `link.datagram_bytes` is outside of its range.
    #[error("link.datagram_bytes is out of range")]
    DatagramBytes,
    /// The sandbox of a process of root allows only the device that was there at the start.
    #[error(
        "link.device was plugged in, and the fences of root keep receive from it: it is to be started again"
    )]
    OtherDevice,
    /// The configuration names no address to listen on.
    #[error("link.listen is missing: a UDP link needs an address and port")]
    NoAddress,
    /// The service manager passed a socket, but of another address.
    #[error(
        "systemd has bound {passed}, and link.listen is {listen}: run systemctl daemon-reload, then systemctl restart \
         valise-receiver-receive"
    )]
    OtherAddress {
        /// The socket's.
        passed: SocketAddr,
        /// The configuration's.
        listen: SocketAddr,
    },
    /// The service manager passed no socket; it is to try again.
    #[error(
        "systemd has passed no socket; systemctl status {} tells why",
        listener::SOCKET_UNIT
    )]
    NotPassed,
    /// The system makes no socket for the link.
    #[error(
        "link.listen = \"{listen}\": the system makes no socket for it ({source}); look at the kernel's IPv6 and at \
             RestrictAddressFamilies= of the unit"
    )]
    Socket {
        /// The address.
        listen: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// The sandbox cannot be entered.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A thread failed.
    #[error("{0}")]
    Failed(String),
}
