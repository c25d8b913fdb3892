//! The two codes, as the inner header numbers them.

use serde::{Deserialize, Serialize};

/// A Reed–Solomon code. Both are systematic: the first k symbols are the source itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// GF(2^8), as in `reed-solomon-erasure` (`galois_8`): quadratic, the faster one for few symbols.
    Rs8,
    /// GF(2^16), as in `reed-solomon-simd`: O(n log n), for everything larger.
    Rs16,
}

impl Codec {
    /// Returns the number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Rs8 => 1,
            Self::Rs16 => 2,
        }
    }

    /// Creates the code with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Rs8),
            2 => Some(Self::Rs16),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_numbers_name_a_codec() {
        for number in 0..=u8::MAX {
            match Codec::from_number(number) {
                Some(codec) => assert_eq!(codec.number(), number),
                None => assert!(!(1..=2).contains(&number)),
            }
        }
    }
}
