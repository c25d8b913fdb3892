//! The payload's share of a serial line, for each size of datagrams and each rate of errors: the real frames, through a
//! line that loses, changes and adds bytes.

use std::time::Duration;

use valise_common::limits::{BEACON_INTERVAL_DATAGRAMS, DATAGRAM_OVERHEAD_BYTES};
use valise_common::units::Percent;
use valise_common::wire::{DatagramBytes, FrameDecoder, frame_encode};

use super::figure::Figure;
use super::options::Options;
use super::report::Report;
use crate::harness::Result;
use crate::wire::{LineConditions, Prng, SerialWire};

/// Bytes of datagrams that are sent for each figure.
const SENT_BYTES: usize = 4_000_000;
/// Bits a second. Errors are per byte, so the shares are the same for every speed.
const BAUD: u32 = 115_200;
/// Errors of the line, in millionths of its bytes.
const ERRORS_PPM: [u32; 4] = [0, 10, 100, 1_000];
/// Bytes of datagrams.
const SIZES: [u16; 9] = [136, 200, 264, 328, 456, 584, 840, 1_472, 2_996];

pub(super) fn measure(_options: &Options, report: &mut Report) -> Result<()> {
    for errors in ERRORS_PPM {
        for size in SIZES {
            let with = format!("{errors} errors in 10^6 bytes, {size}");
            let mut figure = Figure::new("payload of a serial line", "%", with);
            figure.samples.push(100.0 * payload_share(errors, size));
            report.add(figure);
        }
    }
    Ok(())
}

/// Half of the errors lose a byte, a quarter change one, a quarter add one.
fn conditions(errors_ppm: u32) -> LineConditions {
    let quarter = Percent::from_ppm(errors_ppm / 4);
    LineConditions {
        loss: Percent::from_ppm(errors_ppm - 2 * (errors_ppm / 4)),
        burst: Duration::ZERO,
        duplicate: quarter,
        corrupt: quarter,
        ..LineConditions::CLEAN
    }
}

/// Returns the payload of the symbols that arrive, for each byte of the line. Some of the datagrams are beacons.
fn payload_share(errors_ppm: u32, size: u16) -> f64 {
    let Some(datagram) = DatagramBytes::new(size) else {
        return 0.0;
    };
    let mut line = SerialWire::new(conditions(errors_ppm), BAUD, 7);
    let (mut noise, mut decoder) = (Prng::new(9), FrameDecoder::new(datagram));
    let mut bytes = vec![0; usize::from(size)];
    let (mut frame, mut arrived) = (Vec::new(), Vec::new());
    let (mut whole, mut line_bytes) = (0_u32, 0_usize);
    for _ in 0..SENT_BYTES / bytes.len() {
        // Encrypted data look random.
        noise.fill(&mut bytes);
        frame.clear();
        frame_encode(&bytes, &mut frame);
        line_bytes += frame.len();
        arrived.clear();
        line.carry(&frame, &mut arrived);
        decoder.feed(&arrived, |found| whole += u32::from(found.is_ok()));
    }
    let symbols = f64::from(whole) * (1.0 - 1.0 / f64::from(BEACON_INTERVAL_DATAGRAMS));
    let payload = symbols * f64::from(size - DATAGRAM_OVERHEAD_BYTES);
    payload / f64::from(u32::try_from(line_bytes).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_line_carries_what_is_no_header_and_errors_cost_large_datagrams_most() {
        let share = payload_share;
        // 512 of 584 + 4 bytes, with two marks and one or two bytes of COBS; one datagram in fifty is a beacon.
        let clean = share(0, 584);
        assert!(
            clean > 0.98 * 512.0 / 592.5 && clean < 0.98 * 512.0 / 591.0,
            "{clean}"
        );
        assert!(share(1_000, 200) > share(1_000, 1_472));
        assert!(share(10, 200) < share(10, 1_472));
    }
}
