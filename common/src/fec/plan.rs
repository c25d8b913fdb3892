//! Which geometry a container gets, and which symbols each pass sends.
//!
//! **Block size.** The larger a block, the less repair buys the same safety: the share that is lost varies less in a large
//! block. So a container of up to [`K_MAX`] symbols is one block, which holds a cable of 1 MB on a link with datagrams of
//! 1472 bytes. Larger blocks would gain little more and cost memory, cache and time before the first can be rebuilt. With
//! large symbols the bound is the block's bytes ([`BLOCK_BYTES`]). The code in GF(2^16) works on k + 2^⌈log2 m⌉ points,
//! fastest when they fill a power of two: 768 + 256 do, and so do three quarters and a quarter of smaller ones.
//!
//! **Codec.** GF(2^8) up to [`RS8_K_MAX`] source symbols: to decode, GF(2^16) first pays about half a millisecond for a block
//! of any size. Above, its O(n log n) wins. The figures are in `docs/fec.md`.
//!
//! **m.** The code's dimension cannot change while a container lives, so it covers all passes, each of which then brings
//! repair symbols that no earlier one brought: a symbol received twice is worth nothing, a new one always is. Rounding m up to
//! a power of two costs nothing, and leaves some for resends; where it is cheap, m leaves as many as one more pass sends.
//!
//! **Floor.** A share of a few symbols is no protection: a quarter of 5 is 2, and 3 losses among 7 are no rarity. Therefore a
//! pass sends at least [`REPAIR_MIN`] repair symbols of every block if it sends any.

use super::{BlockShape, Codec, Geometry, GeometryError};
use crate::limits;
use crate::units::Percent;

/// Source symbols of the largest block that the sender makes.
pub const K_MAX: u16 = 768;

/// Source bytes above which the sender makes no larger block.
pub const BLOCK_BYTES: u32 = 3_500_000;

/// Source symbols up to which GF(2^8) is the faster code.
pub const RS8_K_MAX: u16 = 40;

/// Repair symbols of a block that a pass sends at least, unless it sends none.
pub const REPAIR_MIN: u16 = 4;

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
    let k_bound = k_bound(symbol_bytes);
    let symbol_count = container_bytes.div_ceil(u64::from(symbol_bytes)).max(1);
    let block_count = symbol_count.div_ceil(u64::from(k_bound));
    // Tight: ⌈Kt/Z⌉ is at most k_bound.
    let k_max = u16::try_from(symbol_count.div_ceil(block_count)).unwrap_or(k_bound);
    let codec = if block_count == 1 && k_max <= RS8_K_MAX {
        Codec::Rs8
    } else {
        Codec::Rs16
    };
    let in_passes = u32::from(repair_in_pass(k_max, repair)) * u32::from(passes.max(1));
    let m = m_for(
        codec,
        k_max,
        u32::from(repair_in_pass(k_max, repair)),
        in_passes,
    );
    Geometry::new(
        container_bytes,
        codec,
        k_max,
        m.min(m_max(codec, k_max, symbol_bytes)),
        symbol_bytes,
    )
}

/// Returns the largest number of source symbols of a block: [`K_MAX`], halved until the block's bytes are within their bound.
fn k_bound(symbol_bytes: u16) -> u16 {
    let mut k = K_MAX;
    while k > 1 && u32::from(k) * u32::from(symbol_bytes) > BLOCK_BYTES {
        k /= 2;
    }
    k
}

/// Returns the code's dimension for a block of which one pass sends `once` repair symbols, and all passes `in_passes`.
fn m_for(codec: Codec, k_max: u16, once: u32, in_passes: u32) -> u16 {
    if once == 0 {
        return 0;
    }
    let with_resend = (in_passes + once).next_power_of_two();
    let m = match codec {
        // Only the symbols that are sent are made, so that spare ones cost nothing.
        Codec::Rs8 => in_passes + 2 * once,
        Codec::Rs16 if with_resend <= u32::from(k_max) / 2 => with_resend,
        Codec::Rs16 => in_passes.next_power_of_two(),
    };
    u16::try_from(m).unwrap_or(u16::MAX)
}

/// Returns the largest m that the code and a block's memory allow. Passes that would need more send repair symbols again.
fn m_max(codec: Codec, k_max: u16, symbol_bytes: u16) -> u16 {
    let of_codec = match codec {
        Codec::Rs8 => limits::CODEC1_SYMBOLS_MAX - u32::from(k_max),
        // More would make every decoding several times as slow. Below the format's bound of 8 k: k_max ≤ k + 1.
        Codec::Rs16 => (2 * u32::from(k_max)).next_power_of_two(),
    };
    let of_memory = limits::BLOCK_BYTES_MAX / u64::from(symbol_bytes);
    let m = u64::from(of_codec).min(of_memory.saturating_sub(u64::from(k_max)));
    u16::try_from(m).unwrap_or(u16::MAX)
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

/// Returns the symbols of a block that a pass sends. Passes and resends count on from 0 for a container's whole life.
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
    /// Returns all symbols of a block, each once.
    pub(super) fn all(shape: &BlockShape) -> Self {
        Self {
            k: shape.k,
            m: shape.m,
            repair_start: 0,
            repair_count: shape.m,
        }
    }

    /// Returns the numbers, 0..m, of the repair symbols in the order in which the pass sends them.
    pub(super) fn repair_numbers(&self) -> impl Iterator<Item = u16> + use<> {
        let (start, m) = (u32::from(self.repair_start), u32::from(self.m));
        // Below m, so it fits.
        (start..start + u32::from(self.repair_count)).filter_map(move |n| u16::try_from(n % m).ok())
    }

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

    /// Returns the symbol index of the n-th symbol that the pass sends, n from 0; no index twice.
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
    fn a_gigabyte_survives_5_percent_of_loss_with_15_percent_of_repair() {
        for (symbol_bytes, a_container_max) in [(1_400, 1e-12), (8_900, 1e-7)] {
            let geometry = choose(container(1 << 30), symbol_bytes, percent(15), 1).unwrap();
            let shape = geometry.block(0).unwrap();
            let symbols = pass_symbols(&shape, percent(15), 0);
            let block = failure(symbols.count(), 0.05, u32::from(symbols.repair_count()));
            let all = block * geometry.block_count() as f64;
            assert!(all < a_container_max, "{symbol_bytes}: {all}");
        }
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
        for (symbol_bytes, k_bound) in [(1_400, 768), (8_900, 384), (512, 768)] {
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
    fn each_pass_brings_new_repair_symbols_and_a_resend_some() {
        for (body, passes) in [
            (1_000_000, 1),
            (1_000_000, 2),
            (1_000_000, 5),
            (4_096, 3),
            (50_000, 2),
        ] {
            for share in [5, 15, 25, 50] {
                let geometry = choose(container(body), 1_400, percent(share), passes).unwrap();
                let shape = geometry.block(0).unwrap();
                let mut seen = std::collections::BTreeSet::new();
                for pass in 0..passes {
                    let symbols = pass_symbols(&shape, percent(share), pass);
                    for n in u32::from(shape.k)..symbols.count() {
                        assert!(
                            seen.insert(symbols.index(n).unwrap()),
                            "{body} {share} {pass}"
                        );
                    }
                }
                assert!(seen.len() <= usize::from(shape.m));
            }
        }
    }

    #[test]
    fn usual_settings_fill_a_power_of_two() {
        let m = |share, passes| {
            choose(container(1 << 30), 1_400, percent(share), passes)
                .unwrap()
                .m()
        };
        assert_eq!((m(5, 1), m(15, 1), m(25, 1)), (128, 256, 256));
        assert_eq!((m(15, 2), m(25, 2)), (256, 512));
        assert_eq!((m(25, 250), m(0, 1)), (2_048, 0));
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
