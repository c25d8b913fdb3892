//! The receiving end of the link: a socket or a serial port, and its state for alarms and views.

use std::io;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use valise_common::alarm::Cause;
use valise_common::config::{LinkKind, ReceiverConfig};
use valise_common::os::clock::mono_now;
use valise_common::os::serial::{Fault, RETRY_US};
use valise_common::wire::{Counters, DatagramBytes, LineFigures};

use super::ReceiveError;
use super::listener::{Listener, Listening, Source};
use crate::spool::link_serial::{KERNEL_BYTES, SerialLink};
use crate::spool::link_udp::Train;

/// The receiving end of the link.
pub(super) enum Intake {
    /// A socket.
    Udp(Listener),
    /// A serial port.
    Serial(SerialLink),
}

/// The state of the link, for alarms and views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// The state of a socket.
    Udp(Listening),
    /// The state of a serial port.
    Serial(LineState),
}

/// The state of a serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineState {
    /// The fault of the port, with the cause of the alarm.
    pub fault: Option<(Fault, Cause)>,
    /// Counters of the line.
    pub figures: LineFigures,
}

impl Intake {
    /// Opens what the configuration describes. To be called before the fences.
    ///
    /// # Errors
    /// As [`Listener::open`]. A missing serial port is not an error: [`Intake::state`] has it.
    pub(super) fn open(config: &ReceiverConfig) -> Result<Self, ReceiveError> {
        let link = &config.link;
        match (link.kind, &link.device) {
            (LinkKind::Udp, _) => Ok(Self::Udp(Listener::open(config, Source::find()?)?)),
            (LinkKind::Serial, Some(device)) => {
                let size = DatagramBytes::new(config.datagram_bytes());
                let size = size.ok_or(ReceiveError::DatagramBytes)?;
                let device = device.clone();
                let opened = SerialLink::open(device, link.baud, size, mono_now());
                Ok(Self::Serial(opened))
            }
            (LinkKind::Serial, None) => Err(ReceiveError::NoDevice),
        }
    }

    /// Returns the socket, for the fences. A serial port needs no entry: the role opens it again later.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Udp(listener) => listener.socket(),
            Self::Serial(_) => None,
        }
    }

    /// Returns the fault of a serial port, if it has one.
    pub(super) fn port_fault(&self) -> Option<Fault> {
        match self {
            Self::Udp(_) => None,
            Self::Serial(link) => link.line().port().err(),
        }
    }

    /// Returns the state of the link.
    pub(super) fn state(&self) -> LinkState {
        match self {
            Self::Udp(listener) => LinkState::Udp(listener.state()),
            Self::Serial(link) => {
                let fault = link.line().port().err();
                LinkState::Serial(LineState {
                    fault: fault.zip(link.line().cause()),
                    figures: link.figures(),
                })
            }
        }
    }

    /// Returns the bytes that the kernel keeps while nobody reads, if the link can be read; else waits a moment and tries to
    /// open it.
    pub(super) fn poll(&mut self) -> Option<u64> {
        match self {
            Self::Udp(listener) => {
                let (_, granted) = listener.poll()?;
                Some(granted.granted.0)
            }
            Self::Serial(link) => {
                let is_open = link.look(mono_now());
                if !is_open {
                    thread::sleep(Duration::from_micros(RETRY_US));
                }
                is_open.then_some(KERNEL_BYTES)
            }
        }
    }

    /// Waits a tenth of a second for datagrams and takes what is there; `trains` says where.
    ///
    /// # Errors
    /// If the socket fails.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        trains: &mut Vec<Train>,
        dropped: &mut Counters,
    ) -> io::Result<()> {
        match self {
            Self::Udp(listener) => match listener.poll() {
                Some((link, _)) => link.receive(buffer, trains),
                None => {
                    trains.clear();
                    Ok(())
                }
            },
            Self::Serial(link) => {
                link.receive(buffer, trains, dropped, mono_now());
                Ok(())
            }
        }
    }

    /// Returns how many datagrams the kernel dropped. Nobody counts those of a serial line.
    pub(super) fn kernel_drops(&self) -> u64 {
        match self {
            Self::Udp(listener) => listener.kernel_drops(),
            Self::Serial(_) => 0,
        }
    }
}
