//! The UDP end of a link: many datagrams a system call, and a count of those that the kernel had to drop.
//!
//! The kernel hands over whole trains of datagrams of one size (UDP_GRO), several trains a call (`recvmmsg`). They stay
//! where they were received, and are opened there.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;
use valise_common::limits;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, MultiHeaders, SockFlag, SockType,
    SockaddrStorage, bind, getsockopt, recvmmsg, setsockopt, socket, sockopt,
};
use valise_common::units::ByteSize;

/// Bytes of the largest UDP message, and so of the longest train.
pub(crate) const MESSAGE_BYTES: usize = 65_536;

/// Messages that one call takes: what they bring at most stays in a core's own cache until it has been opened.
pub(crate) const MESSAGES_MAX: usize = 4;

/// Bytes of a buffer for [`UdpLink::receive`].
pub(crate) const BUFFER_BYTES: usize = MESSAGE_BYTES * MESSAGES_MAX;

/// How long [`UdpLink::receive`] waits, so that a reader notices when it is to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the kernel granted of the receive buffer that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Bytes that the configuration asks for.
    pub asked: ByteSize,
    /// Bytes that the kernel gave; it holds about so many bytes of datagrams while nobody reads.
    pub granted: ByteSize,
}

/// A train of datagrams in the buffer: `bytes`, cut into pieces of `datagram_bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Train {
    /// Its place.
    pub bytes: Range<usize>,
    /// The size of its datagrams; the last may be shorter.
    pub datagram_bytes: usize,
}

/// A UDP socket: made or passed before the fences, which allow no other one, and bound when its address and port are free.
#[derive(Debug)]
pub(crate) struct UdpLink {
    socket: UdpSocket,
    // The kernel's counter of drops has 32 bits and starts with the socket; what an earlier process had of it is not known.
    drops_seen: Option<u32>,
    drops: u64,
}

impl UdpLink {
    /// Makes the socket and asks for a receive buffer: beyond the system's limit if this process may, else up to it.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn open(listen: SocketAddr, asked: ByteSize) -> io::Result<(Self, Granted)> {
        let family = match listen {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Datagram, flags, None)?;
        // For both families: the kernel keeps one flag (ip(7), IP_FREEBIND).
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
        Self::set_up(UdpSocket::from(socket), asked, Some(0))
    }

    /// Takes a socket that the service manager has made and bound.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn passed(socket: UdpSocket, asked: ByteSize) -> io::Result<(Self, Granted)> {
        socket.set_nonblocking(false)?;
        Self::set_up(socket, asked, None)
    }

    fn set_up(
        socket: UdpSocket,
        asked: ByteSize,
        drops_seen: Option<u32>,
    ) -> io::Result<(Self, Granted)> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let wanted = usize::try_from(asked.0.min(limits::SOCKET_BUFFER_BYTES_MAX))
            .map_err(io::Error::other)?;
        // The kernel doubles what it is asked for, to pay for its own structures, and reports the double.
        let granted =
            |socket: &UdpSocket| getsockopt(socket, sockopt::RcvBuf).map(|bytes| bytes / 2);
        if granted(&socket)? < wanted && setsockopt(&socket, sockopt::RcvBufForce, &wanted).is_err()
        {
            setsockopt(&socket, sockopt::RcvBuf, &wanted)?;
        }
        let granted = ByteSize(u64::try_from(granted(&socket)?).map_err(io::Error::other)?);
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        // A kernel without it hands over datagrams one by one, which is slower and otherwise the same.
        if let Err(error) = setsockopt(&socket, sockopt::UdpGroSegment, &true) {
            tracing::info!(%error, "the kernel does not join datagrams; receiving takes more time");
        }
        Ok((
            Self {
                socket,
                drops_seen,
                drops: 0,
            },
            Granted { asked, granted },
        ))
    }

    /// Binds an address that this host may not have yet: datagrams arrive from the moment on that it has.
    ///
    /// # Errors
    /// If the port is in use, or the system refuses.
    pub(crate) fn bind(&self, listen: SocketAddr) -> Result<(), Errno> {
        bind(self.socket.as_raw_fd(), &SockaddrStorage::from(listen))
    }

    /// Returns the address that the socket is bound to.
    ///
    /// # Errors
    /// If the kernel does not know.
    #[cfg(test)]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Datagrams that the kernel dropped because its buffer was full, as far as it has told: it tells with the next
    /// datagram that arrives.
    pub(crate) fn kernel_drops(&self) -> u64 {
        self.drops
    }

    /// Waits a tenth of a second for datagrams and takes what is there. `trains` is emptied first; it says where they are.
    ///
    /// # Errors
    /// If the socket fails.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], trains: &mut Vec<Train>) -> io::Result<()> {
        trains.clear();
        assert_eq!(
            buffer.len(),
            BUFFER_BYTES,
            "a buffer of every message's full length"
        );
        // Made anew for each call: the kernel shortens the room for control messages to what it used, and nix would hand
        // it the shortened room the next time.
        let mut headers =
            MultiHeaders::<()>::preallocate(MESSAGES_MAX, Some(cmsg_space!(i32, u32)));
        let mut pieces = buffer.chunks_mut(MESSAGE_BYTES);
        let mut slices: [[IoSliceMut; 1]; MESSAGES_MAX] =
            std::array::from_fn(|_| [IoSliceMut::new(pieces.next().unwrap_or_default())]);
        let received = recvmmsg(
            self.socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        );
        let received = match received {
            Ok(received) => received,
            // An ICMP answer to something that was never sent from here; the socket is as good as before.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for (place, message) in received.enumerate() {
            let start = place * MESSAGE_BYTES;
            let mut train = Train {
                bytes: start..start + message.bytes,
                datagram_bytes: message.bytes,
            };
            for control in message.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::UdpGroSegments(bytes) => {
                        train.datagram_bytes = usize::try_from(bytes).unwrap_or(message.bytes);
                    }
                    ControlMessageOwned::RxqOvfl(drops) => {
                        let seen = self.drops_seen.replace(drops).unwrap_or(drops);
                        self.drops += u64::from(drops.wrapping_sub(seen));
                    }
                    _ => {}
                }
            }
            trains.push(train);
        }
        Ok(())
    }
}

impl AsFd for UdpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn link() -> (UdpLink, UdpSocket) {
        let (link, granted) =
            UdpLink::open("127.0.0.1:0".parse().unwrap(), ByteSize(1 << 16)).unwrap();
        link.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(granted.granted.0 >= 1 << 16);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(link.local_addr().unwrap()).unwrap();
        (link, sender)
    }

    fn datagrams(buffer: &[u8], trains: &[Train]) -> Vec<Vec<u8>> {
        let pieces = trains
            .iter()
            .flat_map(|train| buffer[train.bytes.clone()].chunks(train.datagram_bytes.max(1)));
        pieces.map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn datagrams_of_any_length_arrive_each_on_its_own() {
        let (mut link, sender) = link();
        let sent: Vec<Vec<u8>> = (0..40_u8)
            .map(|n| vec![n; usize::from(n) * 7 + 1])
            .collect();
        for datagram in &sent {
            sender.send(datagram).unwrap();
        }
        sender.send(&[]).unwrap();
        let (mut buffer, mut trains) = (vec![0; BUFFER_BYTES], Vec::new());
        let mut arrived = Vec::new();
        while arrived.len() < sent.len() {
            link.receive(&mut buffer, &mut trains).unwrap();
            arrived.extend(datagrams(&buffer, &trains));
        }
        assert_eq!(arrived, sent);
    }

    #[test]
    fn a_train_of_datagrams_comes_apart_again() {
        let (mut link, sender) = link();
        setsockopt(&sender, sockopt::UdpGsoSegment, &1000).unwrap();
        let train: Vec<u8> = (0..10_500_u32).map(|n| (n / 1000) as u8).collect();
        sender.send(&train).unwrap();
        let (mut buffer, mut trains) = (vec![0; BUFFER_BYTES], Vec::new());
        let mut arrived = Vec::new();
        while arrived.len() < 11 {
            link.receive(&mut buffer, &mut trains).unwrap();
            arrived.extend(datagrams(&buffer, &trains));
        }
        assert_eq!(
            arrived,
            train.chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_the_kernel_drops_is_counted() {
        let (mut link, sender) = link();
        setsockopt(&link.socket, sockopt::RcvBuf, &4096).unwrap();
        for _ in 0..200 {
            sender.send(&[7; 1400]).unwrap();
        }
        let (mut buffer, mut trains) = (vec![0; BUFFER_BYTES], Vec::new());
        let mut taken = 0;
        loop {
            link.receive(&mut buffer, &mut trains).unwrap();
            match datagrams(&buffer, &trains).len() as u64 {
                0 => break,
                count => taken += count,
            }
        }
        // The count comes with the next datagram that finds room.
        sender.send(&[8]).unwrap();
        link.receive(&mut buffer, &mut trains).unwrap();
        assert_eq!(link.kernel_drops(), 200 - taken);
    }

    #[test]
    fn a_passed_socket_keeps_its_larger_buffer_and_counts_what_is_dropped_from_now_on() {
        let (first, sender) = link();
        setsockopt(&first.socket, sockopt::RcvBuf, &4096).unwrap();
        for _ in 0..200 {
            sender.send(&[7; 1400]).unwrap();
        }
        let socket = first.socket.try_clone().unwrap();
        socket.set_nonblocking(true).unwrap();
        let (mut link, granted) = UdpLink::passed(socket, ByteSize(2048)).unwrap();
        assert_eq!(granted.granted, ByteSize(4096));
        let (mut buffer, mut trains) = (vec![0; BUFFER_BYTES], Vec::new());
        let mut take = |link: &mut UdpLink| {
            link.receive(&mut buffer, &mut trains).unwrap();
            trains.len()
        };
        while take(&mut link) > 0 {}
        sender.send(&[8]).unwrap();
        assert_eq!(take(&mut link), 1);
        // What an earlier process had dropped is not this one's.
        assert_eq!(link.kernel_drops(), 0);
        for _ in 0..200 {
            sender.send(&[7; 1400]).unwrap();
        }
        while take(&mut link) > 0 {}
        sender.send(&[8]).unwrap();
        assert_eq!(take(&mut link), 1);
        assert!(link.kernel_drops() > 100, "{}", link.kernel_drops());
    }
}
