//! The chain: lines, their hashes and their MACs.

use std::io::{BufRead, Write as _};

use serde_json::Value;
use thiserror::Error;

use super::Checkpoint;
use crate::secret::Secret32;
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

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainState {
    /// The number of the next line.
    pub next_seq: u64,
    /// BLAKE3 of the last line; zeros before the first.
    pub head: [u8; 32],
}

/// Makes the next lines of a log.
pub struct Chain {
    state: ChainState,
    key: Secret32,
}

impl Chain {
    /// Begins a log under K_0, which the caller hands to the auditor and then forgets.
    pub fn start(key: Secret32) -> Self {
        Self {
            state: ChainState {
                next_seq: 0,
                head: [0; 32],
            },
            key,
        }
    }

    /// Goes on where a log stood. `key` is K of the next line.
    pub fn resume(state: ChainState, key: Secret32) -> Self {
        Self { state, key }
    }

    /// Where the chain stands.
    pub fn state(&self) -> ChainState {
        self.state
    }

    /// The key of the next line.
    pub fn key(&self) -> &Secret32 {
        &self.key
    }

    /// Makes the next line, LF included, appends it to `lines` and evolves the key. Returns the line's number.
    ///
    /// # Bounds
    /// `fields` must not use the names seq, time, event, prev and mac: that is our own bug and panics.
    pub fn append(
        &mut self,
        lines: &mut Vec<u8>,
        time: UtcTime,
        event: &str,
        fields: Fields<'_>,
    ) -> u64 {
        let seq = self.state.next_seq;
        let start = lines.len();
        write_body(lines, seq, time, event, fields, &self.state.head);
        // The MAC is over the line without `mac`: with the brace that ends it.
        lines.push(b'}');
        let mac = blake3::keyed_hash(self.key.expose(), &lines[start..]);
        lines.pop();
        lines.extend_from_slice(MAC_NAME);
        lines.extend_from_slice(mac.to_hex().as_bytes());
        lines.extend_from_slice(LINE_END);
        self.advance(&lines[start..]);
        lines.push(b'\n');
        seq
    }

    /// Goes behind a whole line, given without its LF: the key of it is gone.
    fn advance(&mut self, line: &[u8]) {
        self.state.head = *blake3::hash(line).as_bytes();
        self.state.next_seq += 1;
        self.key = Secret32::new(blake3::derive_key(KEY_CONTEXT, self.key.expose()));
    }

    /// Verifies the next line, given without its LF, and goes behind it.
    ///
    /// # Errors
    /// What is wrong with it; the chain then stands where it stood.
    pub fn follow(&mut self, line: &[u8]) -> Result<(), LineFault> {
        let body_bytes = line.len().checked_sub(TAIL_BYTES).ok_or(LineFault::Form)?;
        let (body, tail) = line.split_at(body_bytes);
        let tail = tail
            .strip_prefix(MAC_NAME)
            .and_then(|rest| rest.strip_suffix(LINE_END));
        let mac = tail.and_then(read_hash).ok_or(LineFault::Form)?;
        let prev = body.last_chunk::<PREV_BYTES>().ok_or(LineFault::Form)?;
        let prev = prev
            .strip_prefix(PREV_NAME)
            .and_then(|rest| rest.strip_suffix(b"\""));
        let prev = prev.and_then(read_hash).ok_or(LineFault::Form)?;
        let found = read_seq(line).ok_or(LineFault::Form)?;
        if found != self.state.next_seq {
            return Err(LineFault::Number {
                expected: self.state.next_seq,
                found,
            });
        }
        if prev != self.state.head {
            return Err(LineFault::Prev);
        }
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        // Hashes compare in constant time.
        if hasher.update(body).update(b"}").finalize() != mac {
            return Err(LineFault::Mac);
        }
        self.advance(line);
        Ok(())
    }
}

const KEY_CONTEXT: &str = "valise v1 audit";

const SEQ_NAME: &[u8] = b"{\"seq\":";
const PREV_NAME: &[u8] = b",\"prev\":\"";
const MAC_NAME: &[u8] = b",\"mac\":\"";
const LINE_END: &[u8] = b"\"}";

/// Bytes of `prev` with its name and quotes.
const PREV_BYTES: usize = PREV_NAME.len() + 64 + 1;

/// Bytes of `mac` with its name and quotes, and the brace that ends the line.
const TAIL_BYTES: usize = MAC_NAME.len() + 64 + LINE_END.len();

/// Writes a line up to and with `prev`, without the brace that ends it.
fn write_body(
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

/// The number that a line claims, without parsing the rest.
pub(crate) fn read_seq(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(SEQ_NAME)?;
    let digits = rest.iter().position(|byte| *byte == b',')?;
    let text = str::from_utf8(&rest[..digits]).ok()?;
    crate::ids::parse_decimal(text).ok()
}

impl AuditRecord {
    /// Parses a line, given without its LF. Whether it stands in the chain says [`Chain::follow`].
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
    /// It was not written behind the line before it.
    #[error("it does not follow from the line before")]
    Prev,
    /// It was changed, or was not written by the owner of the keys.
    #[error("its mac does not verify: it was changed, or the log began with another key")]
    Mac,
}

/// What a verified log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Where the chain ends; `next_seq` is the number of lines.
    pub state: ChainState,
    /// The first line's time.
    pub first: Option<UtcTime>,
    /// The last line's time.
    pub last: Option<UtcTime>,
}

/// The first fault of a log.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A line is not what was written.
    #[error("line {line}: {fault}")]
    Line {
        /// The line, from 1, as editors count.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// A checkpoint names a line that the log has not, or has otherwise.
    #[error(
        "the log does not hold line {line} as the checkpoint of {origin} saw it: it was cut or rewritten"
    )]
    Checkpoint {
        /// The line, from 1.
        line: u64,
        /// Whose checkpoint.
        origin: String,
    },
    /// The log could not be read.
    #[error("the log could not be read: {0}")]
    Read(#[from] std::io::Error),
}

/// Verifies a whole log under the auditor's K_0, against the checkpoints that the auditor kept.
///
/// What stands behind the last of them could have been cut without a trace: the caller says how far they reach.
///
/// # Errors
/// The first bad line.
///
/// # Bounds
/// The memory of the longest line.
pub fn verify(
    mut log: impl BufRead,
    key: Secret32,
    checkpoints: &[Checkpoint],
) -> Result<Summary, AuditError> {
    let mut kept: Vec<&Checkpoint> = checkpoints.iter().collect();
    kept.sort_by_key(|checkpoint| checkpoint.seq);
    let mut kept = kept.into_iter().peekable();
    let mut chain = Chain::start(key);
    let (mut line, mut first, mut last) = (Vec::new(), None, Vec::new());
    while log.read_until(b'\n', &mut line)? > 0 {
        let seq = chain.state.next_seq;
        let bad = |fault| AuditError::Line {
            line: seq + 1,
            fault,
        };
        let whole = line.strip_suffix(b"\n").ok_or(bad(LineFault::Form))?;
        chain.follow(whole).map_err(bad)?;
        if seq == 0 {
            first = AuditRecord::parse(whole).map(|record| record.time);
        }
        while let Some(checkpoint) = kept.next_if(|checkpoint| checkpoint.seq == seq) {
            if checkpoint.head != chain.state.head {
                return Err(checkpoint_error(checkpoint));
            }
        }
        std::mem::swap(&mut line, &mut last);
        line.clear();
    }
    if let Some(checkpoint) = kept.next() {
        return Err(checkpoint_error(checkpoint));
    }
    let last = last
        .strip_suffix(b"\n")
        .and_then(AuditRecord::parse)
        .map(|record| record.time);
    Ok(Summary {
        state: chain.state,
        first,
        last,
    })
}

fn checkpoint_error(checkpoint: &Checkpoint) -> AuditError {
    AuditError::Checkpoint {
        line: checkpoint.seq + 1,
        origin: checkpoint.origin.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TIME: UtcTime = UtcTime::from_s(1_763_812_800);

    fn key() -> Secret32 {
        Secret32::new([5; 32])
    }

    fn log_of(lines: u64) -> (Vec<u8>, Chain) {
        let mut chain = Chain::start(key());
        let mut log = Vec::new();
        for number in 0..lines {
            let seq = chain.append(&mut log, TIME, "sealed", &[("serial", json!(number + 1))]);
            assert_eq!(seq, number);
        }
        (log, chain)
    }

    fn fault(log: &[u8]) -> Option<(u64, LineFault)> {
        match verify(log, key(), &[]) {
            Err(AuditError::Line { line, fault }) => Some((line, fault)),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    }

    fn lines(log: &[u8]) -> Vec<Vec<u8>> {
        log.split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    }

    #[test]
    fn a_line_is_what_an_auditor_can_compute_by_hand() {
        let mut chain = Chain::start(key());
        let mut log = Vec::new();
        chain.append(
            &mut log,
            TIME,
            "start",
            &[("b", json!(1)), ("a", json!("é\n"))],
        );
        let zeros = "0".repeat(64);
        let head = format!(
            r#"{{"seq":0,"time":"{TIME}","event":"start","b":1,"a":"é\n","prev":"{zeros}""#
        );
        let mac = blake3::keyed_hash(&[5; 32], format!("{head}}}").as_bytes());
        let line = format!("{head},\"mac\":\"{mac}\"}}");
        assert_eq!(String::from_utf8(log).unwrap(), format!("{line}\n"));
        assert_eq!(
            chain.state().head,
            *blake3::hash(line.as_bytes()).as_bytes()
        );
        assert_eq!(
            *chain.key().expose(),
            blake3::derive_key("valise v1 audit", &[5; 32])
        );
        let record = AuditRecord::parse(line.as_bytes()).unwrap();
        assert_eq!(
            (record.seq, record.time, record.event.as_str()),
            (0, TIME, "start")
        );
        assert_eq!(record.fields.len(), 2);
        assert_eq!(record.fields["a"], "é\n");
    }

    #[test]
    fn an_untouched_log_verifies_in_full() {
        assert_eq!(verify(&[][..], key(), &[]).unwrap().state.next_seq, 0);
        let (log, chain) = log_of(5);
        let summary = verify(&log[..], key(), &[]).unwrap();
        assert_eq!(summary.state, chain.state());
        assert_eq!((summary.first, summary.last), (Some(TIME), Some(TIME)));
    }

    #[test]
    fn every_change_is_found_at_its_line() {
        let (log, _) = log_of(6);
        let good = lines(&log);
        let mut edited = good.clone();
        edited[2] = String::from_utf8(edited[2].clone())
            .unwrap()
            .replace("sealed", "Sealed")
            .into();
        assert_eq!(
            fault(&edited.concat()),
            Some((3, LineFault::Mac)),
            "an edit"
        );
        let mut deleted = good.clone();
        deleted.remove(3);
        let number = LineFault::Number {
            expected: 3,
            found: 4,
        };
        assert_eq!(fault(&deleted.concat()), Some((4, number)), "a deletion");
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        let number = LineFault::Number {
            expected: 1,
            found: 2,
        };
        assert_eq!(fault(&swapped.concat()), Some((2, number)), "a swap");
        let mut inserted = good.clone();
        inserted.insert(4, good[0].clone());
        let number = LineFault::Number {
            expected: 4,
            found: 0,
        };
        assert_eq!(fault(&inserted.concat()), Some((5, number)), "an insertion");
        let torn = &log[..log.len() - 1];
        assert_eq!(fault(torn), Some((6, LineFault::Form)), "a torn tail");
        // Another line written under a stolen later key and put in the place of an earlier one.
        let mut forged = good.clone();
        let (mut line, mut chain) = (Vec::new(), log_of(4).1);
        chain.state = log_of(2).1.state();
        chain.append(&mut line, TIME, "sealed", &[("serial", json!(99))]);
        forged[2] = line;
        assert_eq!(
            fault(&forged.concat()),
            Some((3, LineFault::Mac)),
            "a forgery"
        );
        let mut other = log_of(2).0;
        other.extend_from_slice(&good[2]);
        assert_eq!(fault(&other), None);
        let mut stranger = Vec::new();
        let mut chain = Chain::resume(
            ChainState {
                next_seq: 2,
                head: [9; 32],
            },
            key(),
        );
        chain.append(&mut stranger, TIME, "sealed", &[]);
        let spliced = [log_of(2).0, stranger].concat();
        assert_eq!(fault(&spliced), Some((3, LineFault::Prev)), "a splice");
    }

    #[test]
    fn a_cut_tail_is_found_as_far_as_the_checkpoints_reach() {
        let (log, chain) = log_of(6);
        let checkpoint = Checkpoint {
            origin: "o".into(),
            seq: 5,
            head: chain.state().head,
        };
        let kept = [checkpoint.clone()];
        assert!(verify(&log[..], key(), &kept).is_ok());
        let cut = lines(&log)[..5].concat();
        assert!(verify(&cut[..], key(), &[]).is_ok());
        assert!(matches!(
            verify(&cut[..], key(), &kept),
            Err(AuditError::Checkpoint { line: 6, .. })
        ));
        let other = [Checkpoint {
            head: [0; 32],
            ..checkpoint
        }];
        assert!(verify(&log[..], key(), &other).is_err());
    }

    #[test]
    fn a_resumed_chain_goes_on() {
        let (mut log, chain) = log_of(3);
        let key_again = Secret32::new(*chain.key().expose());
        Chain::resume(chain.state(), key_again).append(&mut log, TIME, "stop", &[]);
        assert_eq!(verify(&log[..], key(), &[]).unwrap().state.next_seq, 4);
    }

    #[test]
    #[should_panic(expected = "mac is no event's own field")]
    fn an_event_cannot_bring_a_mac_of_its_own() {
        Chain::start(key()).append(&mut Vec::new(), TIME, "start", &[("mac", json!(1))]);
    }

    proptest! {
        #[test]
        fn any_line_is_refused(line in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Chain::start(key()).follow(&line).is_err());
            prop_assert!(AuditRecord::parse(&line).is_none());
        }

        #[test]
        fn no_flipped_bit_goes_unnoticed(at: prop::sample::Index, bit in 0_u8..8) {
            let (mut log, _) = log_of(3);
            let at = at.index(log.len());
            log[at] ^= 1 << bit;
            prop_assert!(fault(&log).is_some());
        }

        #[test]
        fn any_text_survives_a_line(event: String, value: String) {
            let mut log = Vec::new();
            Chain::start(key()).append(&mut log, TIME, &event, &[("reason", json!(value))]);
            prop_assert_eq!(fault(&log), None);
            let record = AuditRecord::parse(log.strip_suffix(b"\n").unwrap()).unwrap();
            prop_assert_eq!(record.event, event);
            prop_assert_eq!(record.fields["reason"].as_str(), Some(value.as_str()));
        }
    }
}
