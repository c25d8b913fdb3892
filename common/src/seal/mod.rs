//! Sealed containers: one-time slots, segments, and the package inside.

pub mod container;
pub mod package;
pub mod slot;

pub use container::{
    Header, OpenError, Opener, PREFIX_BYTES, SealError, SealRandomness, Sealer, container_bytes,
    padded_of_container,
};
pub use package::{
    Package, PackageError, PackageHeader, PackageReader, PackageWriter, decode_approvals,
    encode_approvals, padded_bytes,
};
pub use slot::{SlotError, SlotPublic, SlotSecret, check_public, public_of};

#[cfg(test)]
mod tests;
