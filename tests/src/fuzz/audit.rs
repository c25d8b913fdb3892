//! The audit log and its checkpoints, as an auditor reads them.

use std::sync::LazyLock;

use serde_json::json;
use valise_common::audit::{
    AuditError, AuditRecord, Chain, ChainState, Checkpoint, CheckpointKey, CheckpointVerifier,
    Evidence, Summary, Verifier, notes,
};
use valise_common::secret::Secret32;
use valise_common::units::UtcTime;

use super::Seed;

const FIRST_KEY: [u8; 32] = [5; 32];

/// The one log that its host wrote, and its signed checkpoints.
struct Written {
    log: Vec<u8>,
    first_line_bytes: usize,
    notes: String,
    verifier: CheckpointVerifier,
    checkpoints: Vec<Checkpoint>,
}

static WRITTEN: LazyLock<Written> = LazyLock::new(|| {
    let key = CheckpointKey::new("valise/0cf4/gate", &Secret32::new([3; 32])).expect("a name");
    let verifier = CheckpointVerifier::parse(&key.verifier_text()).expect("a key");
    let mut chain = Chain::start(Secret32::new(FIRST_KEY));
    let (mut log, mut notes) = (Vec::new(), String::new());
    let time = UtcTime::from_s(1_795_000_000);
    let mut first_line_bytes = 0;
    for number in 0..5_u64 {
        let fields = [
            ("serial", json!(number)),
            (
                "who",
                json!({"id": "b.officer", "ok": [true, null, -1.5e3]}),
            ),
            ("text", json!("R\u{e9}union \"x\"\n")),
        ];
        chain.append(&mut log, time.plus_s(number), "sealed", &fields);
        if number == 0 {
            first_line_bytes = log.len();
        }
        if number % 2 == 1 {
            notes += &format!("{}\n", key.sign(&chain.state()).expect("a line"));
        }
    }
    let checkpoints = valise_common::audit::notes(&notes)
        .map(|note| verifier.verify(&note).expect("a signed note"))
        .collect();
    Written {
        log,
        first_line_bytes,
        notes,
        verifier,
        checkpoints,
    }
});

/// Reads the bytes as a log, without evidence, with checkpoints and with the first key; and as notes.
pub(super) fn audit(data: &[u8]) {
    let written = &*WRITTEN;
    let (lines, end) = read(data, Evidence::default());
    check_chain(&lines);
    check_end(&end, lines.len());
    let by_key = Evidence {
        first_key: Some(Secret32::new(FIRST_KEY)),
        ..Evidence::default()
    };
    let (lines, end) = read(data, by_key);
    let joined: Vec<u8> = lines.join(&b"\n"[..]);
    assert!(written.log.starts_with(&joined), "a line that nobody wrote");
    check_end(&end, lines.len());
    let by_checkpoints = Evidence {
        checkpoints: written.checkpoints.clone(),
        ..Evidence::default()
    };
    let (lines, end) = read(data, by_checkpoints);
    check_end(&end, lines.len());
    if end.is_ok() {
        let seen = written.checkpoints.last().expect("a checkpoint").seq;
        let seen = usize::try_from(seen).expect("a number") + 1;
        let vouched: Vec<u8> = lines[..seen].join(&b"\n"[..]);
        assert!(written.log.starts_with(&vouched), "what no checkpoint saw");
    }
    check_notes(data);
}

/// Reads a log to its end or its first fault.
fn read(log: &[u8], evidence: Evidence) -> (Vec<Vec<u8>>, Result<Summary, AuditError>) {
    let mut verifier = Verifier::new(log, evidence);
    let mut lines = Vec::new();
    loop {
        match verifier.next_line() {
            Ok(Some(line)) => lines.push(line.to_vec()),
            Ok(None) => return (lines, verifier.finish()),
            Err(error) => return (lines, Err(error)),
        }
    }
}

/// Checks that each line has the hash of the line before, and that each reader sees one event in it.
fn check_chain(lines: &[Vec<u8>]) {
    let mut head = blake3::Hash::from_bytes(ChainState::START.head);
    for (number, line) in (0..).zip(lines) {
        let record = AuditRecord::parse(line).expect("a line that verified can be read");
        assert_eq!(record.seq, number);
        let prev = format!(",\"prev\":\"{head}\",\"mac\":\"");
        assert!(line.windows(prev.len()).any(|part| part == prev.as_bytes()));
        head = blake3::hash(line);
    }
}

fn check_end(end: &Result<Summary, AuditError>, lines: usize) {
    match end {
        Ok(summary) => {
            assert_eq!(usize::try_from(summary.state.next_seq).ok(), Some(lines));
            assert_eq!(summary.first.is_some(), lines > 0);
            assert_eq!(summary.last.is_some(), lines > 0);
        }
        Err(error) => {
            let (first, last) = (error.line(), error.line_last());
            assert!(first >= Some(1) && first <= last);
            assert!(!error.to_string().contains(char::is_control));
        }
    }
}

/// Checks that only a note that the host signed is a checkpoint.
fn check_notes(data: &[u8]) {
    let written = &*WRITTEN;
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let _ = CheckpointVerifier::parse(text);
    for note in notes(text).chain([text.to_owned()]) {
        if let Ok(checkpoint) = written.verifier.verify(&note) {
            assert!(written.checkpoints.contains(&checkpoint));
        }
    }
}

/// The log, its first line alone, and the notes.
pub(super) fn seeds() -> Vec<Seed> {
    let written = &*WRITTEN;
    let torn = &written.log[..written.log.len() - 9];
    [
        ("log", &written.log[..]),
        ("torn", torn),
        ("line", &written.log[..written.first_line_bytes]),
        ("notes", written.notes.as_bytes()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
    .to_vec()
}
