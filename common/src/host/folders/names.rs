//! Names of containers in the spools.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use crate::ids::{ContainerId, Serial, parse_decimal};
use crate::precedence::Precedence;
use crate::units::UtcTime;

/// The name of a container in `outbox/`: what `transmit` orders its queue by, without opening
/// anything.
///
/// # Shape
/// `<precedence 0–3>-<serial>-<not-after, seconds since 1970>`, then `.container` or, for its
/// geometry, `.fec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxName {
    /// 0 is FLASH.
    pub precedence: Precedence,
    /// The cable's serial.
    pub serial: Serial,
    /// When the cable is no longer worth sending.
    pub not_after: UtcTime,
}

impl OutboxName {
    /// Reads the name of a `.container` file; returns `None` for any other name.
    pub fn of_container(name: &OsStr) -> Option<Self> {
        name.to_str()?.strip_suffix(".container")?.parse().ok()
    }

    /// Reads the name of a `.fec` file; returns `None` for any other name.
    pub fn of_geometry(name: &OsStr) -> Option<Self> {
        name.to_str()?.strip_suffix(".fec")?.parse().ok()
    }
}

impl fmt::Display for OutboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}-{}",
            self.precedence.index(),
            self.serial,
            self.not_after.as_s()
        )
    }
}

/// A file name that no program of this host wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a container")]
pub struct NameError;

impl FromStr for OutboxName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut fields = text.split('-').map(parse_decimal);
        let mut field = || fields.next().and_then(Result::ok).ok_or(NameError);
        let index = u8::try_from(field()?).map_err(|_| NameError)?;
        let serial = Serial::new(field()?).ok_or(NameError)?;
        let not_after_s = field()?;
        let name = Self {
            precedence: Precedence::from_index(index).ok_or(NameError)?,
            serial,
            not_after: UtcTime::from_s(not_after_s),
        };
        if fields.next().is_some() || name.not_after.as_s() != not_after_s {
            return Err(NameError);
        }
        Ok(name)
    }
}

/// The name of a container in `inbox/` and in `quarantine/`: `<serial>-<container id>.container`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InboxName {
    /// The serial that its datagrams named.
    pub serial: Serial,
    /// The container's id.
    pub container: ContainerId,
}

impl InboxName {
    /// Reads the name of a `.container` file; returns `None` for any other name.
    pub fn of_container(name: &OsStr) -> Option<Self> {
        name.to_str()?.strip_suffix(".container")?.parse().ok()
    }
}

impl fmt::Display for InboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.serial, self.container)
    }
}

impl FromStr for InboxName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (serial, container) = text.split_once('-').ok_or(NameError)?;
        Ok(Self {
            serial: serial.parse().map_err(|_| NameError)?,
            container: container.parse().map_err(|_| NameError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn outbox_names_round_trip_and_order_by_precedence_then_serial() {
        let name = OutboxName {
            precedence: Precedence::Flash,
            serial: Serial::new(12).unwrap(),
            not_after: UtcTime::from_s(1_800_000_000),
        };
        assert_eq!(name.to_string(), "0-12-1800000000");
        assert_eq!(
            OutboxName::of_container(OsStr::new("0-12-1800000000.container")),
            Some(name)
        );
        assert_eq!(
            OutboxName::of_geometry(OsStr::new("0-12-1800000000.fec")),
            Some(name)
        );
        assert_eq!(
            OutboxName::of_geometry(OsStr::new("0-12-1800000000.container")),
            None
        );
        let later = OutboxName {
            serial: Serial::new(9).unwrap(),
            precedence: Precedence::Routine,
            ..name
        };
        assert!(name < later);
    }

    #[test]
    fn names_that_no_program_wrote_are_not_read() {
        for bad in [
            "",
            "beacon",
            "4-1-1",
            "0-0-1",
            "0-01-1",
            "0-1",
            "0-1-1-1",
            "0-1-",
            "0--1",
            "0-1-99999999999999",
        ] {
            assert_eq!(bad.parse::<OutboxName>(), Err(NameError), "{bad}");
        }
        for bad in [
            "",
            "1",
            "1-",
            "0-001122334455667788990011",
            "1-00112233445566778899001",
            "1-00112233445566778899001A",
        ] {
            assert_eq!(bad.parse::<InboxName>(), Err(NameError), "{bad}");
        }
        let name = InboxName {
            serial: Serial::FIRST,
            container: ContainerId::from_bytes([0xab; 12]),
        };
        assert_eq!(name.to_string().parse(), Ok(name));
    }
}
