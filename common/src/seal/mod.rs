//! Sealed containers: one-time slots, segments, and the package inside.

mod container;
mod error;
mod header;
pub mod package;
mod segments;
pub mod slot;

pub use container::{Opener, SealRandomness, Sealer};
pub use error::{OpenError, SealError};
pub use header::{HEADER_BYTES, Header, container_bytes, padded_of_container};
pub use package::{
    Package, PackageError, PackageHeader, PackageReader, PackageWriter, encode_approvals,
    padded_bytes,
};
pub use slot::{SlotError, SlotPublic, SlotSecret, check_public, public_of};

#[cfg(test)]
mod tests;
