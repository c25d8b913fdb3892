//! The socket of the link, bound or waiting to be: an address that comes late or a port that is in use ends nothing.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use valise_common::alarm::Alarm;
use valise_common::config::{LinkKind, ReceiverConfig};

use super::ReceiveError;
use super::shared::Shared;
use crate::io::link_serial::SerialLink;
use crate::io::link_udp::{Granted, UdpLink};
use crate::io::net_tables::NetTables;

/// How often a socket that could not be bound is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The state of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Datagrams are taken.
    Bound(Granted),
    /// The system refused to bind, and is asked again.
    Waiting(Errno),
}

/// The socket, bound or not yet.
#[derive(Debug)]
pub struct Listener {
    listen: SocketAddr,
    link: UdpLink,
    granted: Granted,
    bound: Result<(), Errno>,
}

impl Listener {
    /// Makes the socket that the configuration describes, and binds it. A refusal to bind is a state, see
    /// [`Listener::state`]. To be called before the fences.
    ///
    /// # Errors
    /// If the configuration describes no UDP link, or the system makes no socket for it.
    pub fn open(config: &ReceiverConfig) -> Result<Self, ReceiveError> {
        if config.link.kind == LinkKind::Serial {
            let device = config.link.device.clone().unwrap_or_default();
            match SerialLink::open(&device, config.link.baud)? {}
        }
        let listen = config.link.listen.ok_or(ReceiveError::NoAddress)?;
        let socket = UdpLink::open(listen, config.link.socket_buffer);
        let (link, granted) = socket.map_err(|source| ReceiveError::Socket { listen, source })?;
        let mut listener = Self {
            listen,
            link,
            granted,
            bound: Err(Errno::UnknownErrno),
        };
        listener.bind();
        Ok(listener)
    }

    /// Returns the state of the socket.
    pub fn state(&self) -> Listening {
        match self.bound {
            Ok(()) => Listening::Bound(self.granted),
            Err(errno) => Listening::Waiting(errno),
        }
    }

    /// Returns the link, if it is bound; else waits a moment and tries again.
    pub fn poll(&mut self, shared: &Shared) -> Option<(&mut UdpLink, Granted)> {
        if self.bound.is_err() {
            thread::sleep(RETRY);
            self.bind();
            shared.set_listening(self.state());
        }
        self.bound.is_ok().then_some((&mut self.link, self.granted))
    }

    /// Returns the address that the socket is bound to.
    #[cfg(test)]
    pub fn local_addr(&self) -> SocketAddr {
        self.link
            .local_addr()
            .expect("a bound socket has an address")
    }

    fn bind(&mut self) {
        self.bound = self.link.bind(self.listen);
        if self.bound.is_ok() {
            report(self.listen, &self.granted);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// Returns the texts of both alarms, each if it stands.
pub fn alarms(
    listen: SocketAddr,
    state: Listening,
    tables: &NetTables,
) -> [(Alarm, Option<String>); 2] {
    let (ip, port) = (listen.ip(), listen.port());
    let address = match state {
        Listening::Waiting(Errno::EADDRINUSE) => None,
        Listening::Waiting(Errno::EACCES) => Some(format!(
            "receive may not bind port {port}: choose one from 1024 up for link.listen, on both hosts"
        )),
        Listening::Waiting(errno) => Some(format!(
            "receive cannot listen on {listen} ({}), and tries again; look at ip address and at link.listen",
            errno.desc()
        )),
        Listening::Bound(_) if tables.has(listen) => None,
        Listening::Bound(_) => Some(format!(
            "{ip} is not an address of this host, so nothing arrives; give it one (ip address add {ip}/PREFIX dev \
             INTERFACE) or correct link.listen; receive listens already"
        )),
    };
    let port = (state == Listening::Waiting(Errno::EADDRINUSE)).then(|| {
        format!(
            "another program holds UDP port {port} of this host, so nothing arrives; find it with ss -ulpn and end it; \
             receive tries again and needs no restart"
        )
    });
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
    use std::net::UdpSocket;

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
            let listener = Listener::open(&config(listen.parse().unwrap())).unwrap();
            assert!(matches!(listener.state(), Listening::Bound(_)), "{listen}");
            let told = texts(listen, listener.state());
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].0, Alarm::LinkAddress);
            assert!(told[0].1.contains("ip address add"), "{told:?}");
        }
    }

    #[test]
    fn a_port_in_use_is_an_alarm_until_it_is_free() {
        let (events, _told) = std::sync::mpsc::sync_channel(1);
        let shared = Shared::new(events);
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut listener = Listener::open(&config(address)).unwrap();
        assert!(listener.poll(&shared).is_none());
        assert_eq!(shared.listening(), Listening::Waiting(Errno::EADDRINUSE));
        let told = texts(&address.to_string(), shared.listening());
        assert_eq!(told[0].0, Alarm::LinkPort);
        assert!(told[0].1.contains("ss -ulpn"), "{told:?}");
        assert!(told[0].1.contains(&address.port().to_string()), "{told:?}");
        drop(taken);
        assert!(listener.poll(&shared).is_some());
        assert!(texts(&address.to_string(), shared.listening()).is_empty());
    }
}
