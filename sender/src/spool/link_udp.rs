//! The UDP end of a link: many datagrams a system call, and never one in the other direction.
//!
//! The kernel cuts a message into datagrams (UDP_SEGMENT), and takes several messages a call (`sendmmsg`). Where it cannot
//! cut, each datagram is a message of its own. What leaves is the same.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use valise_common::limits;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrStorage, sendmmsg,
    setsockopt, socket, sockopt,
};
use rustix::net::connect_unspec;
use thiserror::Error;
use valise_common::units::ByteSize;
use valise_common::wire::DatagramBytes;

/// Bytes of a message that the kernel cuts: below the 65,507 that UDP over IPv4 carries.
const MESSAGE_BYTES_MAX: usize = 65_000;
/// Datagrams that the kernel cuts from one message at most.
const SEGMENTS_MAX: usize = 64;
/// Messages of a whole batch.
const MESSAGES_MAX: usize = 4;

/// Why datagrams could not leave. They have not; the caller tries the rest again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum LinkError {
    /// The send buffer is full: wait until the socket is writable.
    #[error("the send buffer is full")]
    Full,
    /// The device's queue is full: wait a moment.
    #[error("the device's queue is full")]
    Congested,
    /// No way to the receiver for now: no route, no carrier, a firewall. Wait longer.
    #[error("the link is down: {0}")]
    Down(Errno),
}

/// How datagrams are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segmentation {
    /// By the kernel.
    Kernel,
    /// Here, each its own message.
    Here,
}

/// A socket that only sends: made before the fences, which allow no other one.
pub(crate) struct UdpLink {
    to: SocketAddr,
    bind: Option<SocketAddr>,
    is_bound: bool,
    datagram_bytes: usize,
    segmentation: Segmentation,
    socket: UdpSocket,
    // So that the way is looked up once; and again after the link was down.
    is_connected: bool,
    headers: MultiHeaders<()>,
}

impl UdpLink {
    /// Makes the socket of a link. It is bound and connected when the first datagram leaves: neither the source address
    /// nor a way to the receiver need be there yet.
    ///
    /// # Errors
    /// If the system makes no such socket.
    pub(crate) fn open(
        to: SocketAddr,
        bind: Option<SocketAddr>,
        datagram: DatagramBytes,
        send_buffer: ByteSize,
    ) -> io::Result<Self> {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let wanted =
            usize::try_from(send_buffer.0.min(limits::SOCKET_BUFFER_BYTES_MAX)).unwrap_or(0);
        if setsockopt(&socket, sockopt::SndBufForce, &wanted).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &wanted)?;
        }
        // Nothing is ever read, so nothing that arrives may occupy memory.
        setsockopt(&socket, sockopt::RcvBuf, &0)?;
        let mut link = Self {
            to,
            bind,
            is_bound: false,
            datagram_bytes: datagram.to_usize(),
            segmentation: Segmentation::Kernel,
            socket: UdpSocket::from(socket),
            is_connected: false,
            headers: MultiHeaders::preallocate(MESSAGES_MAX * SEGMENTS_MAX, None),
        };
        if let Err(errno) = link.segment_by_kernel() {
            tracing::info!(%errno, "the kernel does not cut datagrams; sending takes more time");
            link.segmentation = Segmentation::Here;
        }
        Ok(link)
    }

    /// Bytes of an IP packet with its headers: what the rate counts.
    pub(crate) fn wire_bytes(&self) -> u32 {
        let headers = match self.to {
            SocketAddr::V4(_) => 20 + 8,
            SocketAddr::V6(_) => 40 + 8,
        };
        u32::try_from(self.datagram_bytes).unwrap_or(u32::MAX) + headers
    }

    /// Datagrams of one call to [`UdpLink::send`].
    pub(crate) fn batch_count_max(&self) -> u32 {
        u32::try_from(self.segments() * MESSAGES_MAX).unwrap_or(u32::MAX)
    }

    /// Cuts datagrams here from now on, as on a kernel that cannot.
    pub(crate) fn segment_here(&mut self) {
        self.segmentation = Segmentation::Here;
        // A kernel that refuses this cuts nothing either.
        let _ = setsockopt(&self.socket, sockopt::UdpGsoSegment, &0);
    }

    fn segment_by_kernel(&mut self) -> Result<(), Errno> {
        let segment = i32::try_from(self.datagram_bytes).unwrap_or(0);
        setsockopt(&self.socket, sockopt::UdpGsoSegment, &segment)?;
        self.segmentation = Segmentation::Kernel;
        Ok(())
    }

    /// Returns the socket, to wait until it is writable; none while the link is down.
    pub(crate) fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.is_connected.then(|| self.socket.as_fd())
    }

    /// Sends datagrams that stand one behind the other, and tells how many left before an error stopped them.
    ///
    /// # Bounds
    /// At most [`UdpLink::batch_count_max`] of them.
    pub(crate) fn send(&mut self, datagrams: &[u8]) -> (usize, Result<(), LinkError>) {
        let mut sent = 0;
        if !self.is_connected
            && let Err(errno) = self.connect()
        {
            return (0, Err(LinkError::Down(errno)));
        }
        while sent < datagrams.len() {
            match self.send_once(&datagrams[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(errno) => match self.judge(errno) {
                    Judgement::Again => {}
                    Judgement::Stop(error) => return (sent / self.datagram_bytes, Err(error)),
                },
            }
        }
        (sent / self.datagram_bytes, Ok(()))
    }

    /// One system call: the bytes of the messages that the kernel took.
    fn send_once(&mut self, datagrams: &[u8]) -> Result<usize, Errno> {
        let message_bytes = match self.segmentation {
            Segmentation::Kernel => self.segments() * self.datagram_bytes,
            Segmentation::Here => self.datagram_bytes,
        };
        let messages: Vec<[IoSlice<'_>; 1]> = datagrams
            .chunks(message_bytes)
            .map(|message| [IoSlice::new(message)])
            .collect();
        let to = vec![None; messages.len()];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let results = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.headers,
            &messages,
            to,
            [],
            flags,
        )?;
        Ok(results.map(|message| message.bytes).sum())
    }

    fn judge(&mut self, errno: Errno) -> Judgement {
        match errno {
            // An answer to an earlier datagram: nobody listens. Nothing is to be learned from the other side.
            Errno::ECONNREFUSED | Errno::EINTR => Judgement::Again,
            Errno::EAGAIN => Judgement::Stop(LinkError::Full),
            Errno::ENOBUFS | Errno::ENOMEM => Judgement::Stop(LinkError::Congested),
            Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE | Errno::EOPNOTSUPP
                if self.segmentation == Segmentation::Kernel =>
            {
                tracing::warn!(
                    %errno,
                    "the kernel does not cut datagrams here; sending takes more time (datagram_bytes may exceed the \
                     link's MTU)"
                );
                self.segment_here();
                Judgement::Again
            }
            other => {
                self.is_connected = false;
                Judgement::Stop(LinkError::Down(other))
            }
        }
    }

    fn connect(&mut self) -> Result<(), Errno> {
        if let Some(bind) = self.bind.filter(|_| !self.is_bound) {
            socket::bind(self.socket.as_raw_fd(), &SockaddrStorage::from(bind))?;
            self.is_bound = true;
        }
        // An earlier connection leaves a source address behind, which this host may not have any more.
        connect_unspec(&self.socket).map_err(|error| Errno::from_raw(error.raw_os_error()))?;
        socket::connect(self.socket.as_raw_fd(), &SockaddrStorage::from(self.to))?;
        self.is_connected = true;
        Ok(())
    }

    fn segments(&self) -> usize {
        (MESSAGE_BYTES_MAX / self.datagram_bytes).clamp(1, SEGMENTS_MAX)
    }
}

impl AsFd for UdpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

enum Judgement {
    Again,
    Stop(LinkError),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::time::Duration;

    use super::*;

    fn link(datagram_bytes: u16) -> (UdpLink, UdpSocket) {
        let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt(&sink, sockopt::RcvBuf, &(2 << 20)).unwrap();
        sink.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let datagram = DatagramBytes::new(datagram_bytes).unwrap();
        let to = sink.local_addr().unwrap();
        (
            UdpLink::open(to, None, datagram, ByteSize(4 << 20)).unwrap(),
            sink,
        )
    }

    fn receive(sink: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut buffer = [0; 65_536];
        let mut receive = || {
            sink.recv(&mut buffer)
                .map(|bytes| buffer[..bytes].to_vec())
                .unwrap()
        };
        (0..count).map(|_| receive()).collect()
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length)
            .map(|place| (place * 7 + place / 1_000) as u8)
            .collect()
    }

    #[test]
    fn both_paths_send_the_same_datagrams_in_order() {
        for datagram_bytes in [1_472, 584, 8_972] {
            let (mut link, sink) = link(datagram_bytes);
            for count in [1, 2, link.segments(), link.batch_count_max() as usize - 1] {
                let datagrams = bytes(count * usize::from(datagram_bytes));
                for segmentation in [Segmentation::Kernel, Segmentation::Here] {
                    if segmentation == Segmentation::Here {
                        link.segment_here();
                    }
                    assert_eq!(link.send(&datagrams), (count, Ok(())));
                    assert_eq!(link.segmentation, segmentation);
                    let received = receive(&sink, count);
                    assert!(
                        received
                            .iter()
                            .all(|one| one.len() == usize::from(datagram_bytes))
                    );
                    assert_eq!(received.concat(), datagrams);
                }
                link.segment_by_kernel().unwrap();
            }
        }
    }

    #[test]
    fn nobody_listening_stops_nothing() {
        let (mut link, sink) = link(1_472);
        let datagrams = bytes(5 * 1_472);
        drop(sink);
        for _ in 0..50 {
            assert_eq!(link.send(&datagrams), (5, Ok(())));
        }
    }

    #[test]
    fn a_link_that_is_down_is_told_and_tried_again() {
        let datagram = DatagramBytes::new(1_472).unwrap();
        // Packets to a multicast group leave by an interface that its index names; there is none of this one.
        let to = "[ff12::1%99999]:7000".parse().unwrap();
        let mut link = UdpLink::open(to, None, datagram, ByteSize(1 << 20)).unwrap();
        for _ in 0..3 {
            let (sent, result) = link.send(&bytes(1_472));
            assert_eq!(sent, 0);
            assert!(matches!(result, Err(LinkError::Down(_))), "{result:?}");
        }
    }

    #[test]
    fn a_source_address_that_is_not_here_is_tried_again() {
        let datagram = DatagramBytes::new(1_472).unwrap();
        let to = "127.0.0.1:9".parse().unwrap();
        let bind = Some("192.0.2.77:0".parse().unwrap());
        let mut link = UdpLink::open(to, bind, datagram, ByteSize(1 << 20)).unwrap();
        for _ in 0..3 {
            let (sent, result) = link.send(&bytes(1_472));
            assert_eq!(
                (sent, result),
                (0, Err(LinkError::Down(Errno::EADDRNOTAVAIL)))
            );
        }
    }

    #[test]
    fn a_link_that_was_down_is_connected_again_by_the_same_socket() {
        let (mut link, sink) = link(1_472);
        let datagrams = bytes(2 * 1_472);
        for _ in 0..3 {
            assert_eq!(link.send(&datagrams), (2, Ok(())));
            assert_eq!(receive(&sink, 2).concat(), datagrams);
            link.is_connected = false;
        }
    }

    #[test]
    fn the_rate_counts_the_headers_of_ip_and_udp() {
        let (link, _sink) = link(1_472);
        assert_eq!(link.wire_bytes(), 1_500);
        let datagram = DatagramBytes::new(1_452).unwrap();
        let to = "[::1]:7000".parse().unwrap();
        let link = UdpLink::open(to, None, datagram, ByteSize(1 << 20)).unwrap();
        assert_eq!(link.wire_bytes(), 1_500);
    }
}
