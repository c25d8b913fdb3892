//! Which geometry a container gets, and which symbols each pass sends.
//!
//! **Block size.** The larger a block, the less repair buys the same safety: the share that is lost varies less in a large
//! block. So a container of up to [`K_MAX`] symbols is one block, which holds a cable of 1 MB on a link with datagrams of
//! 1472 bytes. Larger blocks would gain little more and cost memory, cache and time before the first can be rebuilt. With
//! large symbols the bound is the block's bytes ([`BLOCK_BYTES`]).
//!
//! **Codec.** GF(2^8) up to [`RS8_K_MAX`] source symbols: to decode, GF(2^16) first pays about 0.1 ms for a block of any
//! size. Above, its O(n log n) wins. The figures are in `docs/fec.md`.
//!
//! **m.** The code's dimension cannot change while a container lives, so it covers all passes and a few resends beside: each
//! then brings repair symbols that no earlier one brought. A symbol received twice is worth nothing, a new one always is.
//!
//! **Floor.** A share of a few symbols is no protection: a quarter of 5 is 2, and 3 losses among 7 are no rarity. Therefore a
//! pass sends at least [`REPAIR_MIN`] repair symbols of every block if it sends any.

use super::{BlockShape, Codec, Geometry, GeometryError};
use crate::limits;
use crate::units::Percent;

/// Source symbols of the largest block that the sender makes.
pub const K_MAX: u16 = 1_024;

/// Source bytes above which the sender makes no larger block.
pub const BLOCK_BYTES: u32 = 2_400_000;

/// Source symbols up to which GF(2^8) decodes faster.
pub const RS8_K_MAX: u16 = 40;

/// Repair symbols of a block that a pass sends at least, unless it sends none.
pub const REPAIR_MIN: u16 = 4;

/// Resends, beyond the passes, that still bring new repair symbols.
pub const RESENDS_FORESEEN: u8 = 2;

/// Chooses how a container is cut.
///
/// # Errors
/// Only what the caller's own values make impossible: a length that no container has, a symbol size that no link has.
pub fn choose(
    container_bytes: u64,
    symbol_bytes: u16,
    repair: Percent,
    passes: u8,
) -> Result<Geometry, GeometryError> {
    if symbol_bytes == 0 {
        return Err(GeometryError::SymbolLength { symbol_bytes });
    }
    let k_fits = BLOCK_BYTES / u32::from(symbol_bytes);
    let k_bound = u16::try_from(k_fits).unwrap_or(u16::MAX).clamp(1, K_MAX);
    let symbol_count = container_bytes.div_ceil(u64::from(symbol_bytes)).max(1);
    let block_count = symbol_count.div_ceil(u64::from(k_bound));
    // Tight: ⌈Kt/Z⌉ is at most k_bound.
    let k_max = u16::try_from(symbol_count.div_ceil(block_count)).unwrap_or(k_bound);
    let (codec, m_bound) = if block_count == 1 && k_max <= RS8_K_MAX {
        (Codec::Rs8, limits::CODEC1_SYMBOLS_MAX - u32::from(k_max))
    } else {
        // More repair than source would double the work of every decoding for the sake of resends that hardly ever come.
        (Codec::Rs16, u32::from(k_max.max(RS8_K_MAX)))
    };
    let in_all = u64::from(passes.max(1)) + u64::from(RESENDS_FORESEEN);
    let once = repair_in_pass(k_max, repair);
    let m_bound = u16::try_from(m_bound).unwrap_or(u16::MAX).max(once);
    let m = u16::try_from(u64::from(once) * in_all)
        .unwrap_or(u16::MAX)
        .min(m_bound);
    // A block with its repair stays far below 16 MiB: 2.4 MB of source, at most as much of repair unless one pass asks for
    // more.
    let m_fits = limits::BLOCK_BYTES_MAX / u64::from(symbol_bytes);
    let m_fits = m_fits.saturating_sub(u64::from(k_max));
    let m_codec = match codec {
        Codec::Rs8 => limits::CODEC1_SYMBOLS_MAX - u32::from(k_max),
        Codec::Rs16 => limits::CODEC2_SYMBOLS_MAX,
    };
    let m_fits = u16::try_from(m_fits.min(u64::from(m_codec))).unwrap_or(u16::MAX);
    Geometry::new(container_bytes, codec, k_max, m.min(m_fits), symbol_bytes)
}

/// Repair symbols that one pass sends of a block with k source symbols, if the code has so many.
fn repair_in_pass(k: u16, repair: Percent) -> u16 {
    if repair.ppm() == 0 {
        return 0;
    }
    u16::try_from(repair.of_ceil(u64::from(k)))
        .unwrap_or(u16::MAX)
        .max(REPAIR_MIN)
}

/// The symbols that one pass sends of a block: all source symbols, then its share of the repair symbols.
///
/// Repair symbols run on from pass to pass, so that each brings new ones as far as m reaches; then they begin again at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassSymbols {
    k: u16,
    m: u16,
    repair_start: u16,
    repair_count: u16,
}

/// The symbols of a block that a pass sends. Passes and resends count on from 0 for a container's whole life.
pub fn pass_symbols(shape: &BlockShape, repair: Percent, pass: u8) -> PassSymbols {
    let repair_count = repair_in_pass(shape.k, repair).min(shape.m);
    let repair_start = match u32::from(shape.m) {
        0 => 0,
        m => u32::from(pass) * u32::from(repair_count) % m,
    };
    PassSymbols {
        k: shape.k,
        m: shape.m,
        // Below m, so it fits.
        repair_start: u16::try_from(repair_start).unwrap_or(0),
        repair_count,
    }
}

impl PassSymbols {
    /// Source symbols: always all k.
    pub fn source_count(&self) -> u16 {
        self.k
    }

    /// Repair symbols, at most m.
    pub fn repair_count(&self) -> u16 {
        self.repair_count
    }

    /// Symbols of this block in the pass.
    pub fn count(&self) -> u32 {
        u32::from(self.k) + u32::from(self.repair_count)
    }

    /// The symbol index of the n-th symbol that the pass sends, n from 0; no index twice.
    pub fn index(&self, n: u32) -> Option<u16> {
        if n >= self.count() {
            return None;
        }
        let Some(nth_repair) = n.checked_sub(u32::from(self.k)) else {
            return u16::try_from(n).ok();
        };
        let number = (u32::from(self.repair_start) + nth_repair) % u32::from(self.m);
        u16::try_from(u32::from(self.k) + number).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;

    fn percent(percent: u32) -> Percent {
        Percent::from_ppm(percent * 10_000)
    }

    /// Length of the container of a body of so many bytes, without padding beyond a manifest's kilobyte.
    fn container(body: u64) -> u64 {
        let padded = body + 1_000;
        1_264 + padded + 16 * padded.div_ceil(65_536)
    }

    /// ln of n!, by the sum of logarithms: exact enough for tails of 1e-12.
    fn ln_factorial(n: u32) -> f64 {
        (2..=n).map(|i| f64::from(i).ln()).sum()
    }

    /// The probability that of `n` symbols, each lost with probability `loss`, more than `repair` are lost.
    fn failure(n: u32, loss: f64, repair: u32) -> f64 {
        (repair + 1..=n)
            .map(|lost| {
                let ways = ln_factorial(n) - ln_factorial(lost) - ln_factorial(n - lost);
                (ways + f64::from(lost) * loss.ln() + f64::from(n - lost) * (1.0 - loss).ln()).exp()
            })
            .sum()
    }

    #[test]
    fn a_megabyte_is_one_block_and_6_percent_of_repair_make_2_percent_of_loss_harmless() {
        let geometry = choose(container(1_000_000), 1_400, percent(7), 1).unwrap();
        assert_eq!(geometry.block_count(), 1);
        let k = u32::from(geometry.block(0).unwrap().k);
        assert!((715..=750).contains(&k), "{k}");
        let needed = (1..k)
            .find(|&repair| failure(k + repair, 0.02, repair) <= 1e-9)
            .unwrap();
        let share = f64::from(needed) / f64::from(k);
        assert!(share <= 0.0615, "{needed} of {k}: {share}");
    }

    #[test]
    fn the_floor_makes_a_tiny_container_safe() {
        let geometry = choose(container(4_096), 1_400, percent(25), 1).unwrap();
        let shape = geometry.block(0).unwrap();
        assert_eq!(geometry.codec(), Codec::Rs8);
        let symbols = pass_symbols(&shape, percent(25), 0);
        assert_eq!(
            (symbols.source_count(), symbols.repair_count()),
            (5, REPAIR_MIN)
        );
        // Without the floor: 2 repair symbols, and one pass in 270 fails at 5 % loss.
        assert!(failure(7, 0.05, 2) > 3e-3);
        assert!(failure(9, 0.05, u32::from(REPAIR_MIN)) < 4e-5);
    }

    #[test]
    fn small_containers_take_the_small_field_and_large_ones_the_large() {
        let one = choose(container(1), 8_900, percent(25), 2).unwrap();
        assert_eq!((one.codec(), one.symbol_count()), (Codec::Rs8, 1));
        let forty = choose(40 * 1_400, 1_400, percent(25), 2).unwrap();
        assert_eq!((forty.codec(), forty.k_max()), (Codec::Rs8, 40));
        let more = choose(41 * 1_400, 1_400, percent(25), 2).unwrap();
        assert_eq!((more.codec(), more.k_max()), (Codec::Rs16, 41));
    }

    #[test]
    fn a_gigabyte_is_cut_into_blocks_of_like_size() {
        for (symbol_bytes, k_bound) in [(1_400, 1_024), (8_900, 269), (512, 1_024)] {
            let geometry = choose(container(1 << 30), symbol_bytes, percent(15), 1).unwrap();
            assert!(geometry.k_max() <= k_bound && geometry.k_max() > k_bound - 3);
            let last = u32::try_from(geometry.block_count() - 1).unwrap();
            let shape = geometry.block(last).unwrap();
            assert!(shape.k + 1 >= geometry.k_max());
        }
    }

    #[test]
    fn no_repair_means_none() {
        let geometry = choose(container(100_000), 1_400, percent(0), 2).unwrap();
        assert_eq!(geometry.m(), 0);
        let symbols = pass_symbols(&geometry.block(0).unwrap(), percent(0), 1);
        assert_eq!(
            (symbols.repair_count(), symbols.index(symbols.count())),
            (0, None)
        );
        // A configuration that asks for repair later finds none in this code.
        assert_eq!(
            pass_symbols(&geometry.block(0).unwrap(), percent(25), 1).repair_count(),
            0
        );
    }

    #[test]
    fn each_pass_and_resend_brings_new_repair_symbols_as_far_as_m_reaches() {
        let geometry = choose(container(1_000_000), 1_400, percent(15), 2).unwrap();
        let shape = geometry.block(0).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for pass in 0..2 + RESENDS_FORESEEN {
            let symbols = pass_symbols(&shape, percent(15), pass);
            for n in u32::from(shape.k)..symbols.count() {
                assert!(seen.insert(symbols.index(n).unwrap()), "pass {pass}");
            }
        }
        assert_eq!(seen.len(), usize::from(shape.m));
    }

    proptest! {
        #[test]
        fn every_choice_is_legal_and_every_pass_sends_distinct_symbols(
            body in 1_u64..1 << 33,
            symbol in 32_u16..4_540,
            ppm in 0_u32..3_000_000,
            passes in 0_u8..=250,
            pass in 0_u8..=255,
        ) {
            let repair = Percent::from_ppm(ppm);
            let geometry = choose(container(body), symbol * 2, repair, passes).unwrap();
            let shape = geometry.block(0).unwrap();
            let symbols = pass_symbols(&shape, repair, pass);
            let mut seen = vec![false; usize::try_from(shape.symbol_count()).unwrap()];
            for n in 0..symbols.count() {
                let index = symbols.index(n).unwrap();
                prop_assert!(!std::mem::replace(&mut seen[usize::from(index)], true));
            }
            prop_assert_eq!(symbols.index(symbols.count()), None);
            prop_assert!(seen[..usize::from(shape.k)].iter().all(|sent| *sent));
        }
    }
}
