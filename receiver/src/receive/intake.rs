//! What datagrams come from: a socket or a serial port, with the state that the alarms tell of.

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
use crate::io::link_serial::{KERNEL_BYTES, SerialLink};
use crate::io::link_udp::Train;

/// The receiving end of the link.
pub enum Intake {
    /// A socket.
    Udp(Listener),
    /// A serial port.
    Serial(SerialLink),
}

/// What is to be told of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Of a socket.
    Udp(Listening),
    /// Of a serial port.
    Serial(LineState),
}

/// The state of a serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineState {
    /// Why it cannot be heard, with the cause of the alarm.
    pub fault: Option<(Fault, Cause)>,
    /// What it has carried.
    pub figures: LineFigures,
}

impl Intake {
    /// Opens what the configuration describes. To be called before the fences.
    ///
    /// # Errors
    /// As [`Listener::open`]. That a serial port is not there is a state.
    pub fn open(config: &ReceiverConfig) -> Result<Self, ReceiveError> {
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

    /// Returns the socket, for the fences: a serial port is opened again behind them.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Udp(listener) => listener.socket(),
            Self::Serial(_) => None,
        }
    }

    /// Returns why a serial port cannot be used.
    pub fn port_fault(&self) -> Option<Fault> {
        match self {
            Self::Udp(_) => None,
            Self::Serial(link) => link.line().port().err(),
        }
    }

    /// Returns the state of the link.
    pub fn state(&self) -> LinkState {
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
    pub fn poll(&mut self) -> Option<u64> {
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
    pub fn receive(
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

    /// Datagrams that the kernel dropped: of a line, nobody counts them.
    pub fn kernel_drops(&self) -> u64 {
        match self {
            Self::Udp(listener) => listener.kernel_drops(),
            Self::Serial(_) => 0,
        }
    }
}
