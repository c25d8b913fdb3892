//! The file: TOML to a trust list.

use super::{TrustError, TrustList};

impl TrustList {
    /// Reads a trust list and checks it in full. It is in force only when [`super::verify_administrators`] accepted
    /// the signatures over the same bytes.
    ///
    /// # Errors
    /// [`TrustError`], with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let _ = bytes;
        todo!()
    }
}
