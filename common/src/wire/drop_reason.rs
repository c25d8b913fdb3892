//! Why something that came over the link was dropped. Link input is never an error: it is a value or one of these, counted.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a datagram, a frame or a symbol was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the checks.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// Returns the reason as one word, for views and status.
            pub const fn name(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $name,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// A frame of the serial line is not valid COBS.
    FrameCobs = "frame-cobs",
    /// A frame of the serial line has the wrong length.
    FrameLength = "frame-length",
    /// A frame's CRC32C differs: line noise.
    FrameCrc = "frame-crc",
    /// The datagram does not have the link's one size.
    Length = "length",
    /// The version is not 2.
    Version = "version",
    /// The link key id is none that this host holds.
    KeyUnknown = "key-unknown",
    /// The tag does not verify: foreign, forged or damaged.
    Tag = "tag",
    /// The inner header's type is unknown.
    Kind = "kind",
    /// A byte that must be zero is not.
    NotZero = "not-zero",
    /// The codec number is unknown.
    Codec = "codec",
    /// The serial is 0 or 2^63 and more.
    Serial = "serial",
    /// No container has the claimed length.
    ContainerLength = "container-length",
    /// k_max and m break a limit of the codec, m is above 8 for each source symbol of codec 2, a block would be larger than
    /// 16 MiB, or there would be too many.
    Geometry = "geometry",
    /// The container has no source block of this number.
    BlockNumber = "block-number",
    /// The block has no symbol of this index.
    SymbolIndex = "symbol-index",
    /// The serial is beyond the issued slots, or before the channel's first.
    SerialForeign = "serial-foreign",
    /// The container has been completed before: a later pass, or a replay.
    Completed = "completed",
    /// The symbol is held already.
    Duplicate = "duplicate",
    /// The block has its k symbols already.
    Surplus = "surplus",
    /// There is no memory for another set now; a later pass may find some.
    NoMemory = "no-memory",
    /// The container does not fit the disk, or the disk is full; a later pass may find room.
    NoDisk = "no-disk",
    /// The reader's queue was full: the rest of the host does not keep up.
    QueueFull = "queue-full",
    /// A beacon's fields contradict each other or the format: more is settled or retained than was issued, for example.
    BeaconFields = "beacon-fields",
    /// A beacon names a serial beyond the issued slots.
    BeaconForeign = "beacon-foreign",
    /// A beacon is older than the one held.
    BeaconStale = "beacon-stale",
}

impl DropReason {
    const COUNT: usize = Self::ALL.len();

    /// Its place in [`DropReason::ALL`]. The enum is declared by the same macro in the same order.
    #[expect(clippy::as_conversions, reason = "the discriminants are 0..COUNT")]
    const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each reason occurred. Serializes as a map from name to number, without the zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters([u64; DropReason::COUNT]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl Counters {
    /// Counts one.
    pub fn count(&mut self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    /// Counts several at once.
    pub fn count_many(&mut self, reason: DropReason, times: u64) {
        let counter = &mut self.0[reason.index()];
        *counter = counter.saturating_add(times);
    }

    /// How often a reason occurred.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// Returns all of them together.
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds another thread's counters.
    pub fn add(&mut self, other: &Counters) {
        for (reason, times) in other.iter() {
            self.count_many(reason, times);
        }
    }

    /// Returns the reasons that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.of(reason)))
            .filter(|(_, n)| *n > 0)
    }
}

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (reason, times) in self.iter() {
            map.serialize_entry(reason.name(), &times)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Counters {
    /// Names that this version does not know are skipped: a view may have been written by another one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Counters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from reasons to numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counters, A::Error> {
                let mut counters = Counters::default();
                while let Some((name, times)) = map.next_entry::<String, u64>()? {
                    let known = DropReason::ALL.iter().find(|reason| reason.name() == name);
                    if let Some(&reason) = known {
                        counters.count_many(reason, times);
                    }
                }
                Ok(counters)
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            let same = DropReason::ALL
                .iter()
                .filter(|other| other.name() == reason.name());
            assert_eq!(same.count(), 1);
        }
    }

    #[test]
    fn counters_survive_json_without_their_zeros() {
        let mut counters = Counters::default();
        counters.count(DropReason::Tag);
        counters.count_many(DropReason::Length, 41);
        let json = serde_json::to_string(&counters).unwrap();
        assert_eq!(json, r#"{"length":41,"tag":1}"#);
        assert_eq!(serde_json::from_str::<Counters>(&json).unwrap(), counters);
        let newer = r#"{"length":41,"tag":1,"of-tomorrow":5}"#;
        assert_eq!(serde_json::from_str::<Counters>(newer).unwrap(), counters);
    }

    #[test]
    fn counters_add_up_and_never_wrap() {
        let mut counters = Counters::default();
        counters.count_many(DropReason::Tag, u64::MAX);
        let mut other = Counters::default();
        other.count(DropReason::Tag);
        other.count(DropReason::Kind);
        counters.add(&other);
        assert_eq!(counters.of(DropReason::Tag), u64::MAX);
        assert_eq!(counters.of(DropReason::Kind), 1);
        assert_eq!(counters.total(), u64::MAX);
    }
}
