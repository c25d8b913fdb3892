//! Quantities with their units: sizes, rates, spans, shares and points in time.
//!
//! A configuration writes them as `"64 KiB"`, `"100 Mbit/s"`, `"20 ms"`, `"25 %"`; the space may be left out.

mod quantity;
mod time;

pub use quantity::{ByteSize, Percent, Rate, Span, UnitError, count_of};
pub use time::{Mono, TimeError, UtcTime};
