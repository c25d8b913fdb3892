//! The serial end of a link: bytes in, datagrams out. What is no frame is dropped and counted.

use std::path::PathBuf;
use std::time::Duration;

use valise_common::os::serial::{Direction, Line};
use valise_common::units::Mono;
use valise_common::wire::{Counters, DatagramBytes, FrameDecoder, LineFigures};

use super::link_udp::Train;

/// Bytes that are read at a time. The datagrams in them fit any receive buffer.
const READ_BYTES: usize = 16 << 10;

/// Bytes of a tty that the kernel keeps while nobody reads.
pub(crate) const KERNEL_BYTES: u64 = 4 << 10;

/// Time that a read waits for bytes. The reader checks in between whether to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// A serial port that frames arrive at.
pub(crate) struct SerialLink {
    line: Line,
    decoder: FrameDecoder,
    buffer: Box<[u8]>,
}

impl SerialLink {
    /// Opens the port if it is there.
    pub(crate) fn open(device: PathBuf, baud: u32, datagram: DatagramBytes, now: Mono) -> Self {
        Self {
            line: Line::open(device, baud, Direction::Receive, now),
            decoder: FrameDecoder::new(datagram),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Returns the line, for its state and its alarm.
    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// Looks whether the device is there, and opens it again if it is time. Returns whether it is open.
    pub(crate) fn look(&mut self, now: Mono) -> bool {
        self.line.look(now)
    }

    /// Returns the counters of the line.
    pub(crate) fn figures(&self) -> LineFigures {
        self.decoder.figures()
    }

    /// Waits a tenth of a second for bytes and decodes them. `trains` is emptied first, and then has the place of each datagram
    /// in `datagrams`. Invalid frames are counted in `dropped`. If the device is gone, `line` has the fault.
    pub(crate) fn receive(
        &mut self,
        datagrams: &mut [u8],
        trains: &mut Vec<Train>,
        dropped: &mut Counters,
        now: Mono,
    ) {
        trains.clear();
        let Ok(port) = self.line.port() else { return };
        let count = match port.read(&mut self.buffer, PATIENCE) {
            Ok(count) => count,
            Err(errno) => return self.line.handle_failure(errno.into(), now),
        };
        let mut end = 0;
        self.decoder
            .feed(&self.buffer[..count], |frame| match frame {
                Ok(datagram) => {
                    let start = end;
                    end += datagram.len();
                    datagrams[start..end].copy_from_slice(datagram);
                    trains.push(Train {
                        bytes: start..end,
                        datagram_bytes: datagram.len(),
                    });
                }
                Err(reason) => dropped.count(reason),
            });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{File, read_link};
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use nix::pty::openpty;
    use valise_common::os::serial::Fault;
    use valise_common::wire::{DropReason, frame_encode};

    use super::*;
    use crate::spool::link_udp::BUFFER_BYTES;

    fn pair() -> (File, PathBuf) {
        let pair = openpty(None, None).unwrap();
        let device = read_link(format!("/proc/self/fd/{}", pair.slave.as_raw_fd())).unwrap();
        (File::from(pair.master), device)
    }

    #[test]
    fn datagrams_come_out_of_a_line_that_begins_with_what_was_left_on_it() {
        let (mut far, device) = pair();
        let size = DatagramBytes::new(200).unwrap();
        let mut link = SerialLink::open(device, 115_200, size, Mono(0));
        let sent: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![n * 17; 200]).collect();
        let mut line = b"left on the line".to_vec();
        for datagram in &sent {
            frame_encode(datagram, &mut line);
        }
        let (mut buffer, mut trains) = (vec![0; BUFFER_BYTES], Vec::new());
        let (mut dropped, mut arrived) = (Counters::default(), Vec::new());
        for piece in line.chunks(77) {
            far.write_all(piece).unwrap();
            let before = link.figures().bytes;
            let wanted = before + u64::try_from(piece.len()).unwrap();
            while link.figures().bytes < wanted {
                link.receive(&mut buffer, &mut trains, &mut dropped, Mono(0));
                arrived.extend(
                    trains
                        .iter()
                        .map(|train| buffer[train.bytes.clone()].to_vec()),
                );
            }
        }
        assert_eq!(arrived, sent);
        assert_eq!((dropped.of(DropReason::FrameCobs), dropped.total()), (1, 1));
        assert_eq!(link.figures().discarded_bytes, 16);
    }

    #[test]
    fn a_device_that_goes_is_a_state_and_ends_nothing() {
        let (far, device) = pair();
        let size = DatagramBytes::new(200).unwrap();
        let mut link = SerialLink::open(device, 115_200, size, Mono(0));
        drop(far);
        let (mut buffer, mut trains) = (vec![0; BUFFER_BYTES], Vec::new());
        link.receive(&mut buffer, &mut trains, &mut Counters::default(), Mono(0));
        assert_eq!(link.line().port().err(), Some(Fault::Unplugged));
        assert!(link.line().cause().unwrap().text.contains("/dev/pts/"));
    }
}
