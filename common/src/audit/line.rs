//! One line of a log: how it is written, taken apart and judged by its form.
//!
//! ```text
//! {"seq":41,"time":"2026-11-22T21:53:18Z","event":"sealed", …own fields… ,"prev":"<64 hex>","mac":"<64 hex>"}
//! ```

use crate::limits;
use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use thiserror::Error;

use crate::units::UtcTime;

/// An event's own fields, in the order in which they stand in the line.
pub type Fields<'a> = &'a [(&'a str, Value)];

/// One line of a log, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Its number, from 0.
    pub seq: u64,
    /// When it was written.
    pub time: UtcTime,
    /// What happened.
    pub event: String,
    /// The event's fields.
    pub fields: serde_json::Map<String, Value>,
}

impl AuditRecord {
    /// Parses a line, given without its LF. [`Chain::follow`](super::chain::Chain::follow) tells whether it is in the chain.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_slice(line).ok()?;
        fields.remove("mac")?;
        fields.remove("prev")?;
        let seq = fields.remove("seq")?.as_u64()?;
        let time = fields.remove("time")?.as_str()?.parse().ok()?;
        let event = fields.remove("event")?.as_str()?.to_owned();
        Some(Self {
            seq,
            time,
            event,
            fields,
        })
    }

    /// Reads the record as an event of its role, whose word is in the field `event`.
    ///
    /// # Errors
    /// If a known event lacks a field or has a wrong one.
    pub fn read<E: DeserializeOwned>(self) -> Result<Recorded<E>, serde_json::Error> {
        let (seq, time, mut fields) = (self.seq, self.time, self.fields);
        fields.insert("event".to_owned(), Value::String(self.event));
        let event = serde_json::from_value(Value::Object(fields))?;
        Ok(Recorded { seq, time, event })
    }
}

/// What serde writes of an event with the tag `event`: its word, and its fields in the order of its type.
pub(crate) struct Written {
    pub(crate) word: String,
    pub(crate) fields: Vec<(String, Value)>,
}

impl Written {
    /// Writes an event down; `None` for what is not an event.
    pub(crate) fn of(event: &impl Serialize) -> Option<Self> {
        let text = serde_json::to_string(event).ok()?;
        let mut fields = serde_json::Deserializer::from_str(&text)
            .deserialize_map(InOrder)
            .ok()?
            .into_iter();
        let (name, word) = fields.next()?;
        let word = word.as_str().filter(|_| name == RESERVED[2])?.to_owned();
        let fields = fields.collect();
        Some(Self { word, fields })
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| map.next_entry().transpose()).collect()
    }
}

/// One event of a role with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<E> {
    /// The line's number.
    pub seq: u64,
    /// When it was written.
    pub time: UtcTime,
    /// What happened.
    pub event: E,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LineFault {
    /// It has not the form of a line, or does not end.
    #[error("not a whole line of an audit log")]
    Form,
    /// Lines before it are missing, were added, or stand elsewhere.
    #[error("its number is {found}, but {expected} is next")]
    Number {
        /// The number that is next.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// It is longer than any line that is written.
    #[error("longer than any line of an audit log")]
    Long,
    /// It does not follow from the line before it, which is as it was written.
    #[error("it was changed or put there: it does not follow from the line before")]
    Prev,
    /// It was changed, or was not written by the owner of the keys.
    #[error("its mac does not verify: it was changed, or the log began with another key")]
    Mac,
}

/// A line taken apart, without its LF.
pub(super) struct Parts<'a> {
    /// Its number.
    pub(super) seq: u64,
    /// All before `mac`, without the brace that ends it.
    pub(super) body: &'a [u8],
    /// The hash of the line before.
    pub(super) prev: [u8; 32],
    /// Its MAC.
    pub(super) mac: blake3::Hash,
}

impl<'a> Parts<'a> {
    /// Takes a line apart. What stands between its first and its last fields is not looked at.
    pub(super) fn split(line: &'a [u8]) -> Option<Self> {
        let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL_BYTES)?)?;
        let mac = tail.strip_prefix(MAC_NAME)?.strip_suffix(LINE_END)?;
        let prev = body.last_chunk::<PREV_BYTES>()?;
        let prev = prev.strip_prefix(PREV_NAME)?.strip_suffix(b"\"")?;
        Some(Self {
            seq: read_seq(line)?,
            body,
            prev: read_hash(prev)?,
            mac: read_hash(mac)?.into(),
        })
    }
}

/// Returns whether a line is UTF-8, one JSON object, and has its fields in the order of the format, each once. For lines whose MAC
/// cannot be verified: who reads them must not see another event than another reader.
pub(super) fn has_form(line: &[u8]) -> bool {
    let read = || {
        let text = str::from_utf8(line).ok()?;
        let mut reader = serde_json::Deserializer::from_str(text);
        reader.deserialize_map(Form).ok()?;
        reader.end().ok()
    };
    read().is_some()
}

struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of an audit log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        use serde::de::Error as _;
        let wrong = || A::Error::custom("not a line of an audit log");
        let name = |map: &mut A, expected: &str| match map.next_key::<Cow<'de, str>>()? {
            Some(name) if name == expected => Ok(()),
            _ => Err(wrong()),
        };
        name(&mut map, RESERVED[0])?;
        map.next_value::<u64>()?;
        name(&mut map, RESERVED[1])?;
        map.next_value::<UtcTime>()?;
        name(&mut map, RESERVED[2])?;
        map.next_value::<Cow<'de, str>>()?;
        let mut names: Vec<Cow<'de, str>> = Vec::new();
        loop {
            let own = map.next_key::<Cow<'de, str>>()?.ok_or_else(wrong)?;
            if own == RESERVED[3] {
                break;
            }
            if RESERVED.contains(&&*own)
                || names.contains(&own)
                || names.len() == limits::AUDIT_LINE_FIELDS_MAX
            {
                return Err(wrong());
            }
            // Not `IgnoredAny`: it passes over numbers, escapes and depths that no reader takes.
            map.next_value::<Value>()?;
            names.push(own);
        }
        map.next_value::<Cow<'de, str>>()?;
        name(&mut map, RESERVED[4])?;
        map.next_value::<Cow<'de, str>>()?;
        match map.next_key::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(wrong()),
        }
    }
}

const SEQ_NAME: &[u8] = b"{\"seq\":";
const PREV_NAME: &[u8] = b",\"prev\":\"";
pub(super) const MAC_NAME: &[u8] = b",\"mac\":\"";
pub(super) const LINE_END: &[u8] = b"\"}";

/// Bytes of `prev` with its name and quotes.
const PREV_BYTES: usize = PREV_NAME.len() + 64 + 1;

/// Bytes of `mac` with its name and quotes, and the brace that ends the line.
const TAIL_BYTES: usize = MAC_NAME.len() + 64 + LINE_END.len();

/// Writes a line up to and with `prev`, without the brace that ends it.
pub(super) fn write_body(
    line: &mut Vec<u8>,
    seq: u64,
    time: UtcTime,
    event: &str,
    fields: Fields<'_>,
    prev: &[u8; 32],
) {
    // Writing to memory cannot fail, nor can a text or a value of JSON fail to be written as JSON.
    const MEMORY: &str = "memory can be written";
    write!(line, "{{\"seq\":{seq},\"time\":\"{time}\",\"event\":").expect(MEMORY);
    serde_json::to_writer(&mut *line, event).expect(MEMORY);
    for (name, value) in fields {
        assert!(!RESERVED.contains(name), "{name} is no event's own field");
        line.push(b',');
        serde_json::to_writer(&mut *line, name).expect(MEMORY);
        line.push(b':');
        serde_json::to_writer(&mut *line, value).expect(MEMORY);
    }
    line.extend_from_slice(PREV_NAME);
    line.extend_from_slice(blake3::Hash::from_bytes(*prev).to_hex().as_bytes());
    line.push(b'"');
}

const RESERVED: [&str; 5] = ["seq", "time", "event", "prev", "mac"];

fn read_hash(hex: &[u8]) -> Option<[u8; 32]> {
    // `from_hex` would take upper case too, which is not what the format writes.
    let is_lower = !hex.iter().any(u8::is_ascii_uppercase);
    let hash = blake3::Hash::from_hex(hex).ok()?;
    is_lower.then_some(*hash.as_bytes())
}

/// Returns the number that a line claims, without parsing the rest.
pub(crate) fn read_seq(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(SEQ_NAME)?;
    let digits = rest.iter().position(|byte| *byte == b',')?;
    let text = str::from_utf8(&rest[..digits]).ok()?;
    crate::ids::parse_decimal(text).ok()
}
