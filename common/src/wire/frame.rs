//! Frames of a serial line: `00 · COBS(datagram ‖ CRC32C) · 00`.
//!
//! A zero stands nowhere but at the ends of a frame, so a decoder that lost its place finds the next frame at the next zero.
//! The CRC is a cheap early reject and a figure of the line's quality; the datagram's tag decides.

use cobs::{CobsEncoder, DecodeResult, DecoderState};

use super::{DatagramBytes, DropReason};

const CRC_BYTES: usize = 4;

/// Returns the longest frame of a datagram of this size, both delimiters included.
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

/// Counters of a serial line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineFigures {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Frames that were whole.
    pub frames: u64,
    /// Bytes other than zero that belong to no whole frame.
    pub discarded_bytes: u64,
    /// The most of them between two whole frames.
    pub burst_bytes_max: u64,
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
    meter: Meter,
}

/// Counts what a line carries.
#[derive(Debug, Default)]
struct Meter {
    figures: LineFigures,
    /// Bytes since the last zero.
    open_bytes: u64,
    /// Bytes of broken frames since the last whole one.
    burst_bytes: u64,
}

impl Meter {
    fn count_byte(&mut self, byte: u8) {
        self.figures.bytes += 1;
        self.open_bytes += u64::from(byte != 0);
    }

    fn count_whole(&mut self) {
        self.figures.frames += 1;
        (self.open_bytes, self.burst_bytes) = (0, 0);
    }

    fn count_broken(&mut self) {
        let frame_bytes = std::mem::take(&mut self.open_bytes);
        self.burst_bytes += frame_bytes;
        self.figures.discarded_bytes += frame_bytes;
        let longest = self.figures.burst_bytes_max.max(self.burst_bytes);
        self.figures.burst_bytes_max = longest;
    }
}

impl FrameDecoder {
    /// Creates a decoder for a link with datagrams of this size.
    pub fn new(datagram: DatagramBytes) -> Self {
        let buffer = vec![0; datagram.to_usize() + CRC_BYTES].into_boxed_slice();
        Self {
            state: DecoderState::default(),
            buffer,
            decoded_bytes: 0,
            meter: Meter::default(),
        }
    }

    /// Returns the counters so far. A frame counts when it has ended.
    pub fn figures(&self) -> LineFigures {
        self.meter.figures
    }

    /// Takes bytes off the line and calls `handle` with each datagram found, or with why a frame was dropped. The datagram
    /// is mutable so that it can be opened in place.
    pub fn feed(&mut self, bytes: &[u8], mut handle: impl FnMut(Result<&mut [u8], DropReason>)) {
        for byte in bytes {
            self.meter.count_byte(*byte);
            if self.decoded_bytes > self.buffer.len() {
                // The frame is too long already. Its bytes are lost, even if it never ends.
                self.meter.count_broken();
            }
            match self.state.feed(*byte) {
                Ok(DecodeResult::NoData) => {}
                Ok(DecodeResult::DataStart) => self.decoded_bytes = 0,
                Ok(DecodeResult::DataContinue(decoded)) => {
                    if let Some(place) = self.buffer.get_mut(self.decoded_bytes) {
                        *place = decoded;
                    }
                    self.decoded_bytes = self.decoded_bytes.saturating_add(1);
                }
                Ok(DecodeResult::DataComplete) => {
                    let decoded_bytes = std::mem::take(&mut self.decoded_bytes);
                    let found = datagram_of(&mut self.buffer, decoded_bytes);
                    match found {
                        Ok(_) => self.meter.count_whole(),
                        Err(_) => self.meter.count_broken(),
                    }
                    handle(found);
                }
                // A zero in the middle: it ends this frame, and the next may follow at once.
                Err(_) => {
                    self.decoded_bytes = 0;
                    self.meter.count_broken();
                    handle(Err(DropReason::FrameCobs));
                }
            }
        }
    }
}

/// Returns the datagram of a frame that has come to its end.
fn datagram_of(frame: &mut [u8], decoded_bytes: usize) -> Result<&mut [u8], DropReason> {
    if decoded_bytes != frame.len() {
        return Err(DropReason::FrameLength);
    }
    let (datagram, crc) = frame
        .split_last_chunk_mut::<CRC_BYTES>()
        .ok_or(DropReason::FrameLength)?;
    if crc32c::crc32c(datagram) != u32::from_be_bytes(*crc) {
        return Err(DropReason::FrameCrc);
    }
    Ok(datagram)
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
    fn the_figures_tell_whole_frames_from_discarded_bytes() {
        let datagram = vec![5; 136];
        let mut good = Vec::new();
        frame_encode(&datagram, &mut good);
        let mut flipped = good.clone();
        flipped[9] ^= 1;
        let inner = u64::try_from(good.len() - 2).unwrap();
        let mut decoder = FrameDecoder::new(size(136));
        let mut longer = Vec::new();
        frame_encode(&[5; 138], &mut longer);
        let line = [&[7; 9], &good[..], &flipped, &longer, &good, &[0, 0]].concat();
        decode(&mut decoder, &line);
        let expected = LineFigures {
            bytes: u64::try_from(line.len()).unwrap(),
            frames: 2,
            discarded_bytes: 9 + 2 * inner + 2,
            burst_bytes_max: 2 * inner + 2,
        };
        assert_eq!(decoder.figures(), expected);
    }

    #[test]
    fn an_endless_frame_keeps_to_its_buffer() {
        let mut decoder = FrameDecoder::new(size(136));
        assert_eq!(decode(&mut decoder, &[0xff; 100_000]), []);
        assert_eq!(decoder.buffer.len(), 140);
        assert!(decoder.figures().discarded_bytes > 99_000);
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
