//! Key material that erases itself.

use std::fmt::Write as _;

use zeroize::{Zeroize, Zeroizing};

/// A secret of `N` bytes, erased when it is dropped.
///
/// It stands on the heap, so that moving it leaves no copies behind on the stack. It has neither
/// `Debug` nor `Clone`: whoever wants a second copy must write down where it is made.
pub struct Secret<const N: usize>(Box<[u8; N]>);

/// A secret of 32 bytes: link keys, slot seeds, slot PSKs.
pub type Secret32 = Secret<32>;

impl<const N: usize> Secret<N> {
    /// Takes the bytes into custody and erases the argument.
    pub fn new(mut bytes: [u8; N]) -> Self {
        let secret = Self(Box::new(bytes));
        bytes.zeroize();
        secret
    }

    /// Copies a slice of exactly `N` bytes; the caller erases the original.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != N {
            return None;
        }
        // Filled in place: an array built on the stack first would leave a copy there.
        let mut secret = Self(Box::new([0; N]));
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// Lets `fill` write the secret where it will stay.
    pub fn fill(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0);
        secret
    }

    /// Lets `fill` write the secret where it will stay, if it can.
    ///
    /// # Errors
    /// What `fill` returns; nothing of a half-filled secret survives.
    pub(crate) fn try_fill<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// Reads `2 N` lower-case hexadecimal digits, the form of key files.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * N {
            return None;
        }
        let mut secret = Self(Box::new([0; N]));
        for (byte, pair) in secret.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(secret)
    }

    /// Writes the secret as hexadecimal for a key file; the text erases itself.
    pub fn to_hex(&self) -> Zeroizing<String> {
        // The capacity is final: a growing string would leave copies of its beginning on the heap.
        let mut text = Zeroizing::new(String::with_capacity(2 * N));
        for byte in self.0.iter() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Returns the bytes, for as long as the borrow lasts.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Stack that [`wipe_stack`] overwrites; what it stands behind, an X-Wing decapsulation, uses less.
const WIPED_BYTES: usize = 64 << 10;

/// Overwrites the stack below the caller. Code of other crates computes with copies of a secret there and returns without
/// erasing them; whoever calls such code puts it into a function that is not inlined, and calls this behind it.
pub(crate) fn wipe_stack() {
    wipe_stack_bytes::<WIPED_BYTES>();
}

/// As [`wipe_stack`], behind code that is known to use less.
#[inline(never)]
pub(crate) fn wipe_stack_bytes<const N: usize>() {
    let mut below = [0_u8; N];
    below.zeroize();
    std::hint::black_box(&mut below);
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn a_slice_of_another_length_makes_no_secret() {
        assert!(Secret32::from_slice(&[1; 31]).is_none());
        assert!(Secret32::from_slice(&[1; 33]).is_none());
        assert_eq!(Secret32::from_slice(&[7; 32]).unwrap().expose(), &[7; 32]);
    }

    #[test]
    fn hexadecimal_round_trips_and_nothing_else_is_read() {
        let secret = Secret::<3>::new([0, 0x9f, 0xff]);
        assert_eq!(secret.to_hex().as_str(), "009fff");
        assert_eq!(
            Secret::<3>::from_hex("009fff").unwrap().expose(),
            secret.expose()
        );
        for bad in ["009FFF", "009ff", "009fff0", "00 fff", "00é ff"] {
            assert!(Secret::<3>::from_hex(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_failed_fill_yields_its_error() {
        assert_eq!(
            Secret::<2>::try_fill(|_| Err("no entropy")).err(),
            Some("no entropy")
        );
        let secret = Secret::<2>::try_fill(|bytes| {
            bytes[1] = 5;
            Ok::<(), ()>(())
        });
        assert_eq!(secret.unwrap().expose(), &[0, 5]);
    }
}
