//! The least repair with which a cable of 1 MB fails once in 10^9, calculated from the sender's own plan: a block is
//! lost if fewer than k of its k + r datagrams arrive.

use valise_common::fec::plan::{choose, pass_symbols};
use valise_common::units::Percent;

use super::figure::Figure;
use super::options::Options;
use super::report::Report;
use crate::harness::{HarnessError, Result};

/// A cable of 1 MB in its container.
const CONTAINER_BYTES: u64 = 1_002_000;
/// Symbols of datagrams of 1472 bytes.
const SYMBOL_BYTES: u16 = 1_400;
/// The share of datagrams that the line loses, independently.
const LOSS: f64 = 0.02;
/// The allowed probability.
const FAILURE: f64 = 1e-9;

pub(super) fn measure(_options: &Options, report: &mut Report) -> Result<()> {
    let mut figure = Figure::new(
        "repair for a failure in 10^9 cables",
        "%",
        "1 MB, 1472, 2 % random loss, 1 pass, calculated",
    )
    .at_most(8.0, 6.1);
    for tenths in 0..500 {
        let repair = Percent::from_ppm(tenths * 1_000);
        if failure_probability(repair)? <= FAILURE {
            figure.samples.push(f64::from(tenths) / 10.0);
            break;
        }
    }
    report.add(figure);
    Ok(())
}

fn failure_probability(repair: Percent) -> Result<f64> {
    let geometry = choose(CONTAINER_BYTES, SYMBOL_BYTES, repair, 1)
        .map_err(|error| HarnessError::Wrong(error.to_string()))?;
    let mut survival = 1.0;
    for shape in geometry.blocks() {
        let symbols = pass_symbols(&shape, repair, 0);
        let repair_count = u32::from(symbols.repair_count());
        survival *= 1.0 - more_than(repair_count, u32::from(shape.k) + repair_count);
    }
    Ok(1.0 - survival)
}

/// The probability that more than `bound` of `all` datagrams are lost.
fn more_than(bound: u32, all: u32) -> f64 {
    // Term by term from the smallest number that is too large; the terms decrease quickly.
    let log_odds = (LOSS / (1.0 - LOSS)).ln();
    let mut log_term = f64::from(all) * (1.0 - LOSS).ln();
    let mut sum = 0.0;
    for lost in 0..=all {
        if lost > bound {
            sum += log_term.exp();
        }
        log_term += log_odds + f64::from(all - lost).ln() - f64::from(lost + 1).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_the_binomial_is_right() {
        // 1 − 0.98^10 and 1 − 0.98^10 − 10·0.02·0.98^9, by hand.
        assert!((more_than(0, 10) - 0.182_927).abs() < 1e-6);
        assert!((more_than(1, 10) - 0.016_178).abs() < 1e-6);
        assert!(more_than(10, 10).abs() < 1e-300);
    }

    #[test]
    fn more_repair_fails_less() {
        let few = failure_probability(Percent::from_ppm(20_000)).expect("a geometry");
        let many = failure_probability(Percent::from_ppm(80_000)).expect("a geometry");
        assert!(many < few);
    }
}
