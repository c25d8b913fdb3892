//! The one source of entropy: the kernel's.

use crate::secret::Secret;

/// The kernel gave no random bytes. Nothing that needs them may go on.
#[derive(Debug, thiserror::Error)]
#[error("the kernel gave no random bytes: {0}")]
pub struct EntropyError(getrandom::Error);

/// Draws `N` random bytes for ids, which are public.
///
/// # Errors
/// [`EntropyError`] if the kernel refuses.
pub fn bytes<const N: usize>() -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Draws a secret of `N` random bytes.
///
/// # Errors
/// [`EntropyError`] if the kernel refuses.
pub fn secret<const N: usize>() -> Result<Secret<N>, EntropyError> {
    Secret::try_fill(|bytes| fill(bytes))
}

/// Fills a slice with random bytes.
///
/// # Errors
/// [`EntropyError`] if the kernel refuses.
pub fn fill(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(EntropyError)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
        assert_ne!(secret::<32>().unwrap().expose(), &[0; 32]);
    }
}
