//! Frames of a serial line: `00 · COBS(datagram ‖ CRC32C) · 00`.

use super::{DatagramBytes, DropReason};

/// The longest frame of a datagram of this size, both delimiters included.
pub fn frame_bytes_max(datagram: DatagramBytes) -> usize {
    let _ = datagram;
    todo!()
}

/// Appends the frame of a datagram to `line`.
pub fn frame_encode(datagram: &[u8], line: &mut Vec<u8>) {
    let _ = (datagram, line);
    todo!()
}

/// Finds frames in a stream of bytes that may begin, end, tear and lie anywhere.
///
/// # Bounds
/// One buffer of a datagram and its CRC, allocated once.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
}

impl FrameDecoder {
    /// A decoder for a link with datagrams of this size.
    pub fn new(datagram: DatagramBytes) -> Self {
        let _ = datagram;
        todo!()
    }

    /// Takes bytes off the line and calls `handle` with each datagram found, or with why a frame was dropped. The datagram
    /// is mutable so that it can be opened in place.
    pub fn feed(&mut self, bytes: &[u8], handle: impl FnMut(Result<&mut [u8], DropReason>)) {
        let _ = (bytes, &self.buffer, handle);
        todo!()
    }
}
