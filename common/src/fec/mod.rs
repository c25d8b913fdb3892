//! Forward error correction: how a container becomes symbols, and symbols a container again.
//!
//! Nothing comes back over the link, so a container is sent with more symbols than it needs: any k distinct symbols of a
//! source block rebuild it. [`Geometry`] says how a container is cut, [`plan`] chooses it and what each pass sends,
//! [`BlockCodec`] makes repair symbols and rebuilds blocks from what a [`BlockBuffer`] collected.

mod block;
mod buffer;
mod codec;
mod geometry;
pub mod plan;
mod rs16;
mod rs8;

pub use block::BlockCodec;
pub use buffer::{BlockBuffer, Insert, NotEnough};
pub use codec::Codec;
pub use geometry::{BlockShape, Geometry, GeometryError};
