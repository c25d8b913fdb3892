//! Frames of a serial line: `00 · COBS(datagram ‖ CRC32C) · 00`.
//!
//! A zero stands nowhere but at the ends of a frame, so a decoder that lost its place finds the next frame at the next zero.
//! The CRC is a cheap early reject and a figure of the line's quality; the datagram's tag decides.

use cobs::{CobsEncoder, DecodeResult, DecoderState};

use super::{DatagramBytes, DropReason};

const CRC_BYTES: usize = 4;

/// The longest frame of a datagram of this size, both delimiters included.
pub fn frame_bytes_max(datagram: DatagramBytes) -> usize {
    cobs::max_encoding_length(datagram.to_usize() + CRC_BYTES) + 2
}

/// Appends the frame of a datagram to `line`.
pub fn frame_encode(datagram: &[u8], line: &mut Vec<u8>) {
    let start = line.len();
    line.resize(
        start + cobs::max_encoding_length(datagram.len() + CRC_BYTES) + 2,
        0,
    );
    let mut encoder = CobsEncoder::new(&mut line[start + 1..]);
    let crc = crc32c::crc32c(datagram).to_be_bytes();
    let pushed = encoder.push(datagram).and_then(|()| encoder.push(&crc));
    pushed.expect("the line has room for the longest encoding");
    let encoded_bytes = encoder.finalize();
    // The encoder may have written a byte behind its end, so the zero that ends the frame is written anew.
    line.truncate(start + 1 + encoded_bytes);
    line.push(0);
}

/// Finds frames in a stream of bytes that may begin, end, tear and lie anywhere.
///
/// # Bounds
/// One buffer of a datagram and its CRC, allocated once.
pub struct FrameDecoder {
    state: DecoderState,
    buffer: Box<[u8]>,
    /// Bytes decoded of the frame so far; those that `buffer` has no room for are counted and forgotten.
    decoded_bytes: usize,
}

impl FrameDecoder {
    /// A decoder for a link with datagrams of this size.
    pub fn new(datagram: DatagramBytes) -> Self {
        let buffer = vec![0; datagram.to_usize() + CRC_BYTES].into_boxed_slice();
        Self {
            state: DecoderState::default(),
            buffer,
            decoded_bytes: 0,
        }
    }

    /// Takes bytes off the line and calls `handle` with each datagram found, or with why a frame was dropped. The datagram
    /// is mutable so that it can be opened in place.
    pub fn feed(&mut self, bytes: &[u8], mut handle: impl FnMut(Result<&mut [u8], DropReason>)) {
        for byte in bytes {
            match self.state.feed(*byte) {
                Ok(DecodeResult::NoData) => {}
                Ok(DecodeResult::DataStart) => self.decoded_bytes = 0,
                Ok(DecodeResult::DataContinue(decoded)) => {
                    if let Some(place) = self.buffer.get_mut(self.decoded_bytes) {
                        *place = decoded;
                    }
                    self.decoded_bytes = self.decoded_bytes.saturating_add(1);
                }
                Ok(DecodeResult::DataComplete) => handle(self.frame()),
                // A zero in the middle: it ends this frame, and the next may follow at once.
                Err(_) => handle(Err(DropReason::FrameCobs)),
            }
        }
    }

    /// The datagram of a frame that has come to its end.
    fn frame(&mut self) -> Result<&mut [u8], DropReason> {
        if self.decoded_bytes != self.buffer.len() {
            return Err(DropReason::FrameLength);
        }
        let (datagram, crc) = self
            .buffer
            .split_last_chunk_mut::<CRC_BYTES>()
            .ok_or(DropReason::FrameLength)?;
        if crc32c::crc32c(datagram) != u32::from_be_bytes(*crc) {
            return Err(DropReason::FrameCrc);
        }
        Ok(datagram)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{bytes, vector};

    fn size(bytes: usize) -> DatagramBytes {
        DatagramBytes::new(bytes as u16).unwrap()
    }

    fn decode(decoder: &mut FrameDecoder, line: &[u8]) -> Vec<Result<Vec<u8>, DropReason>> {
        let mut found = Vec::new();
        decoder.feed(line, |frame| {
            found.push(frame.map(|datagram| datagram.to_vec()))
        });
        found
    }

    #[test]
    fn frames_are_those_of_the_vector() {
        for case in vector("serial-frame")["cases"].as_array().unwrap() {
            let (datagram, frame) = (bytes(&case["datagram"]), bytes(&case["frame"]));
            let mut line = vec![7];
            frame_encode(&datagram, &mut line);
            assert_eq!(line[1..], frame);
            assert!(frame.len() <= frame_bytes_max(size(datagram.len())));
            let mut decoder = FrameDecoder::new(size(datagram.len()));
            assert_eq!(decode(&mut decoder, &frame), [Ok(datagram)]);
        }
    }

    #[test]
    fn each_fault_of_a_frame_has_its_reason_and_costs_no_other_frame() {
        let datagram = vec![5; 136];
        let mut good = Vec::new();
        frame_encode(&datagram, &mut good);
        let mut flipped = good.clone();
        flipped[9] ^= 1;
        let mut longer = Vec::new();
        frame_encode(&[5; 138], &mut longer);
        let torn = &good[..90];
        let mut decoder = FrameDecoder::new(size(136));
        for (bad, reason) in [
            (&flipped[..], DropReason::FrameCrc),
            (&longer[..], DropReason::FrameLength),
            (&[0, 1, 0], DropReason::FrameLength),
            (torn, DropReason::FrameCobs),
        ] {
            let line = [&good[..], bad, &good[..]].concat();
            let found = decode(&mut decoder, &line);
            assert_eq!(
                found,
                [Ok(datagram.clone()), Err(reason), Ok(datagram.clone())]
            );
        }
    }

    #[test]
    fn an_endless_frame_keeps_to_its_buffer() {
        let mut decoder = FrameDecoder::new(size(136));
        assert_eq!(decode(&mut decoder, &[0xff; 100_000]), []);
        assert_eq!(decoder.buffer.len(), 140);
        let found = decode(&mut decoder, &[0, 0]);
        assert!(matches!(
            found[..],
            [Err(DropReason::FrameCobs | DropReason::FrameLength)]
        ));
    }

    proptest! {
        #[test]
        fn frames_survive_garbage_between_them_and_any_cuts(
            datagrams in prop::collection::vec(prop::collection::vec(0_u8..3, 136), 1..5),
            garbage in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(0_usize..1_500, 0..9),
        ) {
            let mut line = Vec::new();
            for datagram in &datagrams {
                line.extend_from_slice(&garbage);
                frame_encode(datagram, &mut line);
            }
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(line.len())).collect();
            cuts.extend([0, line.len()]);
            cuts.sort_unstable();
            let mut decoder = FrameDecoder::new(size(136));
            let mut found = Vec::new();
            for cut in cuts.windows(2) {
                found.extend(decode(&mut decoder, &line[cut[0]..cut[1]]));
            }
            let found: Vec<_> = found.into_iter().filter_map(Result::ok).collect();
            prop_assert_eq!(found, datagrams);
        }

        #[test]
        fn long_runs_without_a_zero_come_back(
            half in 68_usize..600, zeros in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut datagram = vec![0xff; half * 2];
            for zero in zeros {
                let at = zero.index(datagram.len());
                datagram[at] = 0;
            }
            let mut line = Vec::new();
            frame_encode(&datagram, &mut line);
            prop_assert!(line[1..line.len() - 1].iter().all(|byte| *byte != 0));
            let mut decoder = FrameDecoder::new(size(half * 2));
            prop_assert_eq!(decode(&mut decoder, &line), [Ok(datagram)]);
        }

        #[test]
        fn any_bytes_yield_only_datagrams_of_the_links_size(
            line in prop::collection::vec(0_u8..5, 0..2_000),
        ) {
            for datagram in decode(&mut FrameDecoder::new(size(136)), &line).into_iter().flatten() {
                prop_assert_eq!(datagram.len(), 136);
            }
        }
    }
}
