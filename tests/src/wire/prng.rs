//! Randomness that is the same on every machine and in every version of every crate, for ever: a seed that once showed
//! a fault must continue to show it.

/// xoshiro256++, seeded through SplitMix64 as its authors advise.
///
/// Not for secrets.
///
/// # Source
/// Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021.
#[derive(Debug, Clone)]
pub struct Prng {
    state: [u64; 4],
}

impl Prng {
    /// A generator whose whole output follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        let mut next = || {
            mixer = mixer.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixer;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self {
            state: [next(), next(), next(), next()],
        }
    }

    /// Sixty-four uniform bits.
    pub fn bits(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let t = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= t;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A uniform number in `0 .. bound`, and 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(bound);
        // The upper half of the product is below `bound`, and so fits.
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A uniform fraction in `0.0 .. 1.0`, of 32 bits.
    pub fn fraction(&mut self) -> f64 {
        let upper = u32::try_from(self.bits() >> 32).unwrap_or(u32::MAX);
        f64::from(upper) / 4_294_967_296.0
    }

    /// Fills `buffer` with uniform bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.bits().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (mut a, mut b, mut c) = (Prng::new(7), Prng::new(7), Prng::new(8));
        let first: Vec<u64> = (0..64).map(|_| a.bits()).collect();
        assert!(first.iter().all(|bits| *bits == b.bits()));
        assert!(first.iter().any(|bits| *bits != c.bits()));
    }

    #[test]
    fn numbers_below_a_bound_stay_below_it_and_reach_all_of_it() {
        let mut prng = Prng::new(1);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            let number = prng.below(10);
            assert!(number < 10);
            seen[usize::try_from(number).expect("below ten")] = true;
        }
        assert_eq!(seen, [true; 10]);
        assert_eq!(prng.below(0), 0);
    }

    #[test]
    fn fractions_are_uniform() {
        let mut prng = Prng::new(2);
        let mean = (0..100_000).map(|_| prng.fraction()).sum::<f64>() / 100_000.0;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
    }
}
