//! The socket of a UDP link, bound or waiting to be: an address that comes late or a port that is in use ends nothing.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use nix::errno::Errno;
use valise_common::alarm::Alarm;
use valise_common::config::ReceiverConfig;

use super::ReceiveError;
use crate::spool::link_udp::{Granted, UdpLink};
use crate::spool::net_tables::{self, NetTables};

/// What binds the socket on an installed host, as `systemd-generator` makes it.
pub const SOCKET_UNIT: &str = "valise.socket";

/// How long a `receive` that was passed no socket shows its alarm before it ends, so that the service manager tries again.
pub(super) const PASSING_US: u64 = 10 * 1_000_000;

/// How often a socket that could not be bound is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The state of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Datagrams are taken.
    Bound(Granted),
    /// The system refused to bind, and is asked again.
    Waiting(Errno),
    /// The service manager was to pass a socket and did not.
    NotPassed,
}

/// Where the socket comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// The service manager has bound it.
    Passed(UdpSocket),
    /// The service manager should have bound it: this process has no network.
    Absent,
    /// This process makes it.
    Own,
}

impl Source {
    /// Looks what the service manager passed, and whether it should have.
    ///
    /// # Errors
    /// If what it passed is not a UDP socket.
    pub(super) fn find() -> io::Result<Self> {
        match ListenFd::from_env().take_udp_socket(0)? {
            Some(socket) => Ok(Self::Passed(socket)),
            None if net_tables::is_mounted() => Ok(Self::Absent),
            None => Ok(Self::Own),
        }
    }
}

/// The socket, bound or not yet, or none.
#[derive(Debug)]
pub(super) struct Listener {
    listen: SocketAddr,
    link: Option<(UdpLink, Granted)>,
    bound: Result<(), Errno>,
}

impl Listener {
    /// Makes or takes the socket that the configuration describes, and binds it. That it cannot be bound is a state, see
    /// [`Listener::state`]. To be called before the fences.
    ///
    /// # Errors
    /// If the configuration names no address, or another one than the service manager's, or the system makes no socket
    /// for it.
    pub(super) fn open(config: &ReceiverConfig, source: Source) -> Result<Self, ReceiveError> {
        let listen = config.link.listen.ok_or(ReceiveError::NoAddress)?;
        let buffer = config.link.socket_buffer;
        let mut listener = Self {
            listen,
            link: None,
            bound: Err(Errno::UnknownErrno),
        };
        match source {
            Source::Passed(socket) => {
                let passed = socket.local_addr()?;
                if (passed.ip(), passed.port()) != (listen.ip(), listen.port()) {
                    return Err(ReceiveError::OtherAddress { passed, listen });
                }
                let (link, granted) = UdpLink::passed(socket, buffer)?;
                report(listen, &granted);
                listener.link = Some((link, granted));
                listener.bound = Ok(());
            }
            Source::Absent => {}
            Source::Own => {
                let made = UdpLink::open(listen, buffer);
                listener.link =
                    Some(made.map_err(|source| ReceiveError::Socket { listen, source })?);
                listener.bind();
            }
        }
        Ok(listener)
    }

    /// Returns the state of the socket.
    pub(super) fn state(&self) -> Listening {
        match (&self.link, self.bound) {
            (None, _) => Listening::NotPassed,
            (Some((_, granted)), Ok(())) => Listening::Bound(*granted),
            (Some(_), Err(errno)) => Listening::Waiting(errno),
        }
    }

    /// Returns the link, if it is bound; else waits a moment and tries again.
    pub(super) fn poll(&mut self) -> Option<(&mut UdpLink, Granted)> {
        if self.bound.is_err() {
            thread::sleep(RETRY);
            self.bind();
        }
        let (link, granted) = self.link.as_mut().filter(|_| self.bound.is_ok())?;
        Some((link, *granted))
    }

    /// Returns the number of datagrams that the kernel dropped.
    pub(super) fn kernel_drops(&self) -> u64 {
        let link = self.link.as_ref();
        link.map_or(0, |(link, _)| link.kernel_drops())
    }

    /// Returns the socket, for the fences.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(|(link, _)| link.as_fd())
    }

    /// Returns the address that the socket is bound to.
    #[cfg(test)]
    pub fn local_addr(&self) -> SocketAddr {
        let (link, _) = self.link.as_ref().expect("a socket");
        link.local_addr().expect("a bound socket has an address")
    }

    fn bind(&mut self) {
        if let Some((link, granted)) = &self.link {
            self.bound = link.bind(self.listen);
            if self.bound.is_ok() {
                report(self.listen, granted);
            }
        }
    }
}

/// Returns the texts of both alarms, each if it stands.
pub(super) fn alarms(
    listen: SocketAddr,
    state: Listening,
    tables: &NetTables,
) -> [(Alarm, Option<String>); 2] {
    let (ip, port) = (listen.ip(), listen.port());
    let address = match state {
        Listening::Waiting(Errno::EADDRINUSE) | Listening::NotPassed => None,
        Listening::Waiting(Errno::EACCES) => Some(format!(
            "receive may not bind port {port}: choose one from 1024 up for link.listen, on both hosts"
        )),
        Listening::Waiting(errno) => Some(format!(
            "receive cannot listen on {listen} ({}), and tries again",
            errno.desc()
        )),
        Listening::Bound(_) if tables.has(listen) => None,
        Listening::Bound(_) => Some(format!(
            "{ip} (link.listen) is not an address of this host, so nothing arrives; receive listens already"
        )),
    };
    let port = match state {
        Listening::Waiting(Errno::EADDRINUSE) => Some(format!(
            "another program holds UDP port {port} of this host, so nothing arrives; receive tries again and needs no restart"
        )),
        Listening::NotPassed => Some(format!(
            "systemd has bound no socket for {listen}, so nothing arrives; systemctl status {SOCKET_UNIT} shows why; if \
             there is no such unit, run systemctl daemon-reload; systemd tries again by itself"
        )),
        _ => None,
    };
    [(Alarm::LinkAddress, address), (Alarm::LinkPort, port)]
}

fn report(listen: SocketAddr, granted: &Granted) {
    tracing::info!(address = %listen, "listening");
    if granted.granted < granted.asked {
        tracing::warn!(
            asked = %granted.asked,
            granted = %granted.granted,
            "the kernel granted a smaller receive buffer than asked for: bursts above it are lost; \
             raise net.core.rmem_max to what is asked for, or give this process CAP_NET_ADMIN"
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(listen: &str, state: Listening) -> Vec<(Alarm, String)> {
        let alarms = alarms(listen.parse().unwrap(), state, &NetTables::open()).into_iter();
        alarms
            .filter_map(|(code, text)| Some((code, text?)))
            .collect()
    }

    fn config(listen: SocketAddr) -> ReceiverConfig {
        let text = format!("state = 's'\n[link]\nkind = 'udp'\nlisten = '{listen}'\n");
        ReceiverConfig::parse(&text).unwrap()
    }

    #[test]
    fn an_address_that_is_not_here_is_bound_all_the_same_and_an_alarm() {
        for listen in ["192.0.2.77:7000", "[2001:db8::77]:7000"] {
            let listener = Listener::open(&config(listen.parse().unwrap()), Source::Own).unwrap();
            assert!(matches!(listener.state(), Listening::Bound(_)), "{listen}");
            let told = texts(listen, listener.state());
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].0, Alarm::LinkAddress);
            assert!(
                told[0].1.contains("not an address of this host"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_port_in_use_is_an_alarm_until_it_is_free() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut listener = Listener::open(&config(address), Source::Own).unwrap();
        assert!(listener.poll().is_none());
        assert_eq!(listener.state(), Listening::Waiting(Errno::EADDRINUSE));
        let told = texts(&address.to_string(), listener.state());
        assert_eq!(told[0].0, Alarm::LinkPort);
        assert!(told[0].1.contains("another program"), "{told:?}");
        assert!(told[0].1.contains(&address.port().to_string()), "{told:?}");
        drop(taken);
        // A child that another test is starting holds a copy of the socket until its `exec`.
        let begun = std::time::Instant::now();
        while listener.poll().is_none() {
            assert!(begun.elapsed().as_secs() < 60, "{:?}", listener.state());
        }
        assert!(texts(&address.to_string(), listener.state()).is_empty());
    }
}
