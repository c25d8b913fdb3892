//! What travels on the link: datagrams of one size, each fresh noise to an observer, and the frames of a serial line.

mod aead;
mod beacon;
mod datagram;
mod drop_reason;
mod frame;
mod inner;

pub use crate::limits::{CLEAR_BYTES, INNER_BYTES};
pub use beacon::{Beacon, BeaconEntry, EntryState};
pub use datagram::{
    ClearHeader, DatagramBytes, Epoch, EpochKey, LinkKey, PAYLOAD_OFFSET, open, peek, seal,
};
pub use drop_reason::{Counters, DropReason};
pub use frame::{FrameDecoder, LineFigures, frame_bytes_max, frame_encode};
pub use inner::{InnerHeader, SetId, SymbolHeader};
