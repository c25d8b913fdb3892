//! The chain: each line names the hash of the one before, and carries a MAC under a key that is gone after it.

use super::line::{Fields, LINE_END, LineFault, MAC_NAME, Parts, write_body};
use crate::limits;
use crate::secret::{Secret32, wipe_stack_bytes};
use crate::units::UtcTime;

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainState {
    /// The number of the next line.
    pub next_seq: u64,
    /// BLAKE3 of the last line; zeros before the first.
    pub head: [u8; 32],
}

impl ChainState {
    /// Before the first line.
    pub const START: Self = Self {
        next_seq: 0,
        head: [0; 32],
    };

    /// Whether a line is the next one by its number and by the line that it names.
    pub(super) fn check(&self, parts: &Parts<'_>) -> Result<(), LineFault> {
        if parts.seq != self.next_seq {
            return Err(LineFault::Number {
                expected: self.next_seq,
                found: parts.seq,
            });
        }
        if parts.prev != self.head {
            return Err(LineFault::Prev);
        }
        Ok(())
    }

    /// Moves past a whole line, given without its LF.
    pub(super) fn advance(&mut self, line: &[u8]) {
        self.head = *blake3::hash(line).as_bytes();
        self.next_seq += 1;
    }
}

/// Makes the next lines of a log, or verifies them.
pub struct Chain {
    state: ChainState,
    key: Secret32,
}

impl Chain {
    /// Begins a log under K_0, which the caller hands to the auditor and then forgets.
    pub fn start(key: Secret32) -> Self {
        Self {
            state: ChainState::START,
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

    /// Returns the key of the next line.
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
        self.write_line(lines, time, event, fields);
        wipe_stack_bytes::<HASHING_BYTES>();
        seq
    }

    // Not inlined, so that what it leaves on the stack lies where the caller can wipe it.
    #[inline(never)]
    fn write_line(&mut self, lines: &mut Vec<u8>, time: UtcTime, event: &str, fields: Fields<'_>) {
        let start = lines.len();
        let ChainState { next_seq, head } = self.state;
        write_body(lines, next_seq, time, event, fields, &head);
        // The MAC is over the line without `mac`: with the brace that ends it.
        lines.push(b'}');
        let mac = blake3::keyed_hash(self.key.expose(), &lines[start..]);
        lines.pop();
        lines.extend_from_slice(MAC_NAME);
        lines.extend_from_slice(mac.to_hex().as_bytes());
        lines.extend_from_slice(LINE_END);
        assert!(
            lines.len() - start < limits::AUDIT_LINE_BYTES_MAX,
            "an event's fields are bounded by what a request may hold"
        );
        self.advance(&lines[start..]);
        lines.push(b'\n');
    }

    /// Moves past a whole line, given without its LF: the key of it is gone.
    fn advance(&mut self, line: &[u8]) {
        self.state.advance(line);
        self.key = next_key(&self.key);
    }

    /// Verifies the next line, given without its LF, and moves past it. An auditor has the first key anyway; a daemon wipes
    /// its stack when it has followed its log.
    ///
    /// # Errors
    /// What is wrong with it; the chain then stands where it stood.
    pub fn follow(&mut self, line: &[u8]) -> Result<(), LineFault> {
        let parts = Parts::split(line).ok_or(LineFault::Form)?;
        self.state.check(&parts)?;
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        // Hashes compare in constant time.
        if hasher.update(parts.body).update(b"}").finalize() != parts.mac {
            return Err(LineFault::Mac);
        }
        self.advance(line);
        Ok(())
    }
}

const KEY_CONTEXT: &str = "valise v1 audit";

/// Returns the key of the line after.
fn next_key(key: &Secret32) -> Secret32 {
    Secret32::new(blake3::derive_key(KEY_CONTEXT, key.expose()))
}

/// Stack that hashing a line uses, several times over.
const HASHING_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::audit::AuditRecord;

    const TIME: UtcTime = UtcTime::from_s(1_763_812_800);

    fn key() -> Secret32 {
        Secret32::new([5; 32])
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
    fn a_resumed_chain_goes_on() {
        let mut log = Vec::new();
        let mut chain = Chain::start(key());
        chain.append(&mut log, TIME, "start", &[]);
        let key_again = Secret32::new(*chain.key().expose());
        let mut chain = Chain::resume(chain.state(), key_again);
        chain.append(&mut log, TIME, "stop", &[]);
        let mut reader = Chain::start(key());
        for line in log
            .strip_suffix(b"\n")
            .unwrap()
            .split(|byte| *byte == b'\n')
        {
            reader.follow(line).unwrap();
        }
        assert_eq!(reader.state(), chain.state());
    }

    #[test]
    #[should_panic(expected = "mac is no event's own field")]
    fn an_event_cannot_bring_a_mac_of_its_own() {
        Chain::start(key()).append(&mut Vec::new(), TIME, "start", &[("mac", json!(1))]);
    }

    #[test]
    #[should_panic(expected = "bounded by what a request may hold")]
    fn a_line_that_nobody_would_read_back_is_not_written() {
        let text = "x".repeat(limits::AUDIT_LINE_BYTES_MAX);
        Chain::start(key()).append(&mut Vec::new(), TIME, "start", &[("text", json!(text))]);
    }

    #[test]
    fn a_later_key_makes_no_line_that_an_earlier_one_would_have_made() {
        let mut chain = Chain::start(key());
        for _ in 0..3 {
            chain.append(&mut Vec::new(), TIME, "sealed", &[]);
        }
        let mut line = Vec::new();
        Chain::resume(ChainState::START, Secret32::new(*chain.key().expose())).append(
            &mut line,
            TIME,
            "forged",
            &[],
        );
        line.pop();
        assert_eq!(Chain::start(key()).follow(&line), Err(LineFault::Mac));
    }

    proptest! {
        #[test]
        fn any_line_is_refused(line in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Chain::start(key()).follow(&line).is_err());
            prop_assert!(AuditRecord::parse(&line).is_none());
        }
    }
}
