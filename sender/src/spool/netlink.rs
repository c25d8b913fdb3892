//! One question to the kernel's network tables, and its answer (rtnetlink(7)). Nothing is ever changed there.
//!
//! ```text
//! offset  0  length of the message, u32        16  the table's own header, HEADER bytes
//!         4  type, u16                          …  attributes: length u16, type u16, value, padded to 4
//!         6  flags, u16
//!         8  sequence, u32
//!        12  port, u32
//! ```
//!
//! Numbers are in the machine's byte order.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, socket,
};
use nix::unistd::{read, write};

/// Bytes of a message's own header.
const MESSAGE_HEADER_BYTES: usize = 16;
/// Bytes of an attribute's header.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Bytes of the longest answer that is read: an interface's takes some thousand.
const ANSWER_BYTES_MAX: usize = 32 << 10;
/// Answers to older questions that are passed over before the kernel counts as silent.
const OLDER_MAX: usize = 64;

/// A socket for questions. To be opened before the fences, which allow no new one.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// An answer: the table's header, and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The header of the table, as long as that of the question.
    pub header: Vec<u8>,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Netlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// If the kernel or the service manager refuses.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        // To the kernel, so that no other process can send to this socket, and so that read(2) and write(2) will do: the
        // fences allow no call that receives from the link.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; ANSWER_BYTES_MAX],
        })
    }

    /// Asks for one entry of a table, and returns it; the kernel answers before the question has left.
    ///
    /// # Errors
    /// [`Errno`]: the kernel's, among them that there is no such entry.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        header: &[u8],
        attributes: &[(u16, &[u8])],
    ) -> Result<Answer, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = encode(kind, self.sequence, header, attributes);
        write(&self.socket, &question)?;
        for _ in 0..OLDER_MAX {
            let bytes = match read(&self.socket, &mut self.buffer) {
                Err(Errno::EINTR) => continue,
                received => received?,
            };
            let message = self.buffer.get(..bytes).unwrap_or_default();
            if let Some(answer) = decode(message, self.sequence, header.len()) {
                return answer;
            }
        }
        Err(Errno::ENOMSG)
    }
}

impl Answer {
    /// Returns the value of an attribute.
    pub(crate) fn attribute(&self, kind: u16) -> Option<&[u8]> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|(found, _)| *found == kind);
        found.map(|(_, value)| value.as_slice())
    }

    /// Returns the value of an attribute that is a number.
    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        number_at(self.attribute(kind)?, 0)
    }
}

/// Returns the 32-bit number at an offset.
pub(crate) fn number_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// Returns the 16-bit number at an offset.
pub(crate) fn short_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..offset.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

fn encode(kind: u16, sequence: u32, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = vec![0; MESSAGE_HEADER_BYTES];
    message.extend_from_slice(header);
    for (kind, value) in attributes {
        let length = ATTRIBUTE_HEADER_BYTES + value.len();
        message.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let request = u16::try_from(libc::NLM_F_REQUEST).unwrap_or(1);
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&request.to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    message
}

/// Reads the answer to a question; `None` if the message is another's.
fn decode(message: &[u8], sequence: u32, header_bytes: usize) -> Option<Result<Answer, Errno>> {
    let length = usize::try_from(number_at(message, 0)?).ok()?;
    let kind = short_at(message, 4)?;
    if number_at(message, 8)? != sequence {
        return None;
    }
    let body = message.get(MESSAGE_HEADER_BYTES..length)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let code = number_at(body, 0)?.cast_signed();
        return Some(Err(Errno::from_raw(code.wrapping_neg())));
    }
    let header = body.get(..header_bytes)?.to_vec();
    let mut attributes = Vec::new();
    let mut rest = body.get(header_bytes..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (short_at(rest, 0), short_at(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(ATTRIBUTE_HEADER_BYTES..length) else {
            break;
        };
        attributes.push((kind, value.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Ok(Answer { header, attributes }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn answer(sequence: u32) -> Vec<u8> {
        encode(
            16,
            sequence,
            &[7; 16],
            &[(3, b"lo\0"), (48, &5_u32.to_ne_bytes())],
        )
    }

    #[test]
    fn an_answer_gives_its_attributes_back() {
        let answer = decode(&answer(9), 9, 16).unwrap().unwrap();
        assert_eq!(answer.header, [7; 16]);
        assert_eq!(answer.attribute(3), Some(&b"lo\0"[..]));
        assert_eq!(answer.number(48), Some(5));
        assert_eq!(answer.attribute(4), None);
    }

    #[test]
    fn an_answer_to_another_question_is_passed_over() {
        assert_eq!(decode(&answer(8), 9, 16), None);
    }

    #[test]
    fn an_error_of_the_kernel_is_told() {
        let error = (-libc::ENETUNREACH).to_ne_bytes();
        let message = encode(2, 9, &error, &[]);
        assert_eq!(decode(&message, 9, 12), Some(Err(Errno::ENETUNREACH)));
    }

    #[test]
    fn another_process_cannot_answer() {
        use nix::sys::socket::{MsgFlags, getsockname, sendto};
        let netlink = Netlink::open().unwrap();
        let own: NetlinkAddr = getsockname(netlink.socket.as_raw_fd()).unwrap();
        let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkRoute);
        let other = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        let forged = answer(0);
        let sent = sendto(other.as_raw_fd(), &forged, &own, MsgFlags::empty());
        assert_eq!(sent, Err(Errno::ECONNREFUSED));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..60) {
            let _ = decode(&bytes, 9, 16);
            let whole = answer(9);
            let _ = decode(&whole[..whole.len() - cut.min(whole.len())], 9, 16);
        }
    }
}
