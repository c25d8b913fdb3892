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

fn keyed() -> Evidence {
    Evidence {
        first_key: Some(key()),
        ..Evidence::default()
    }
}

fn checkpoint_of(lines: u64) -> Checkpoint {
    Checkpoint {
        origin: "o".into(),
        seq: lines - 1,
        head: log_of(lines).1.state().head,
    }
}

fn seen(lines: &[u64]) -> Evidence {
    Evidence {
        checkpoints: lines.iter().map(|lines| checkpoint_of(*lines)).collect(),
        ..Evidence::default()
    }
}

fn state_after(lines: u64) -> Evidence {
    Evidence {
        key_state: Some(log_of(lines).1),
        ..Evidence::default()
    }
}

fn fault(log: &[u8], evidence: Evidence) -> Option<(u64, LineFault)> {
    match verify(log, evidence) {
        Err(AuditError::Line { line, fault }) => Some((line, fault)),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

/// The first line that may be the first bad one, and the last.
fn span(log: &[u8], evidence: Evidence) -> (u64, u64) {
    let error = verify(log, evidence).unwrap_err();
    (error.line().unwrap(), error.line_last().unwrap())
}

fn lines(log: &[u8]) -> Vec<Vec<u8>> {
    log.split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

fn edit(line: &mut Vec<u8>) {
    let text = String::from_utf8(line.clone()).unwrap();
    *line = text.replace("sealed", "Sealed").into();
}

/// Forges lines without any key: writes every line again from `from` on, with valid hashes and invalid MACs.
fn rewrite(lines: u64, from: u64) -> Vec<u8> {
    let mut chain = log_of(from).1;
    let mut log = log_of(from).0;
    chain = Chain::resume(chain.state(), Secret32::new([0; 32]));
    for number in from..lines {
        chain.append(&mut log, TIME, "sealed", &[("serial", json!(number + 100))]);
    }
    log
}

const fn number(expected: u64, found: u64) -> LineFault {
    LineFault::Number { expected, found }
}

#[test]
fn an_untouched_log_verifies_in_full() {
    let empty = verify(&[][..], keyed()).unwrap();
    assert_eq!((empty.state, empty.first), (ChainState::START, None));
    let (log, chain) = log_of(5);
    let mut evidence = seen(&[5, 1, 3, 3]);
    evidence.first_key = Some(key());
    evidence.key_state = Some(log_of(4).1);
    let summary = verify(&log[..], evidence).unwrap();
    assert_eq!(summary.state, chain.state());
    assert_eq!((summary.first, summary.last), (Some(TIME), Some(TIME)));
    assert_eq!(
        (summary.macs_from, summary.is_key_state_met),
        (Some(0), true)
    );
    let bare = verify(&log[..], Evidence::default()).unwrap();
    assert_eq!((bare.macs_from, bare.torn_bytes), (None, 0));
}

#[test]
fn every_change_is_found_at_its_line_and_without_the_first_key_with_the_line_before() {
    let good = lines(&log_of(6).0);
    let found = |log: &[Vec<u8>], line: u64, expected: LineFault, pair: (u64, u64)| {
        let log = log.concat();
        assert_eq!(fault(&log, keyed()), Some((line, expected)));
        assert_eq!(span(&log, Evidence::default()), pair, "line {line}");
    };
    let mut edited = good.clone();
    edit(&mut edited[2]);
    found(&edited, 3, LineFault::Mac, (3, 4));
    let mut deleted = good.clone();
    deleted.remove(3);
    found(&deleted, 4, number(3, 4), (3, 4));
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    found(&swapped, 2, number(1, 2), (1, 2));
    let mut inserted = good.clone();
    inserted.insert(4, good[0].clone());
    found(&inserted, 5, number(4, 0), (4, 5));
    let mut headless = good.clone();
    headless.remove(0);
    found(&headless, 1, number(0, 1), (1, 1));
}

#[test]
fn a_line_that_does_not_follow_is_named_alone_where_the_one_before_is_vouched_for() {
    let good = lines(&log_of(6).0);
    let prev_edited = |at: usize| {
        let mut log = good.clone();
        let text = String::from_utf8(log[at].clone()).unwrap();
        let (before, after) = text.split_once("\"prev\":\"").unwrap();
        log[at] = format!("{before}\"prev\":\"{}{}", "0".repeat(64), &after[64..]).into();
        log.concat()
    };
    for evidence in [Evidence::default(), seen(&[4]), state_after(6)] {
        assert_eq!(span(&prev_edited(3), evidence), (3, 4));
    }
    for evidence in [seen(&[3]), state_after(3), keyed()] {
        assert_eq!(fault(&prev_edited(3), evidence), Some((4, LineFault::Prev)),);
    }
    let mut edited = good.clone();
    edit(&mut edited[4]);
    for evidence in [Evidence::default(), seen(&[6]), state_after(6)] {
        assert_eq!(span(&edited.concat(), evidence), (5, 6));
    }
    for evidence in [seen(&[4, 5]), keyed()] {
        assert_eq!(span(&edited.concat(), evidence), (5, 5));
    }
}

/// What a change leaves of a line, one field each.
fn changes(line: &[u8]) -> [Vec<u8>; 3] {
    let text = String::from_utf8(line.to_vec()).unwrap();
    let (before, after) = text.split_once("\"prev\":\"").unwrap();
    let (_, rest) = text.split_once(',').unwrap();
    [
        text.replace("sealed", "Sealed"),
        format!("{before}\"prev\":\"{}{}", "ab".repeat(32), &after[64..]),
        format!("{{\"seq\":77,{rest}"),
    ]
    .map(String::into_bytes)
}

#[test]
fn one_changed_line_is_among_those_that_are_named_and_alone_with_the_first_key() {
    let good = lines(&log_of(7).0);
    let evidences: [fn() -> Evidence; 6] = [
        Evidence::default,
        keyed,
        || seen(&[7]),
        || seen(&[1, 3, 5]),
        || state_after(7),
        || state_after(4),
    ];
    for at in 0..7 {
        for (kind, changed) in changes(&good[at]).into_iter().enumerate() {
            for (which, evidence) in evidences.iter().enumerate() {
                let mut log = good.clone();
                log[at] = changed.clone();
                let line = at as u64 + 1;
                // No line follows the last one: only its MAC, and whoever saw it.
                if (kind, line) == (0, 7) && matches!(which, 0 | 3) {
                    assert!(verify(&log.concat()[..], evidence()).is_ok());
                    continue;
                }
                let error = verify(&log.concat()[..], evidence()).unwrap_err();
                let (from, to) = (error.line().unwrap(), error.line_last().unwrap());
                let context = format!("line {line}, field {kind}, evidence {which}: {error}");
                assert!((from..=to).contains(&line), "{context}");
                let is_rewritten = matches!(error, AuditError::Rewritten { .. });
                assert!(to - from <= 1 || is_rewritten, "{context}");
                assert!(which != 1 || from == to, "{context}");
            }
        }
    }
}

#[test]
fn of_two_changed_lines_the_first_is_named_or_among_those_that_are() {
    let good = lines(&log_of(7).0);
    let evidences: [fn() -> Evidence; 6] = [
        keyed,
        Evidence::default,
        || seen(&[7]),
        || seen(&[1, 3, 5]),
        || state_after(7),
        || state_after(4),
    ];
    let pairs = (0..7).flat_map(|first| (first + 1..7).map(move |second| (first, second)));
    for (first, second) in pairs {
        for (kind, one) in changes(&good[first]).into_iter().enumerate() {
            for (other_kind, other) in changes(&good[second]).into_iter().enumerate() {
                let mut log = good.clone();
                (log[first], log[second]) = (one.clone(), other);
                for (which, evidence) in evidences.iter().enumerate() {
                    let line = first as u64 + 1;
                    let (from, to) = span(&log.concat(), evidence());
                    let context = format!(
                        "{line}, {kind}; {}, {other_kind}; {which}: {from} to {to}",
                        second + 1
                    );
                    assert!((from..=to).contains(&line), "{context}");
                    assert!(to - from <= 1 || kind == 0, "{context}");
                    assert!(which != 0 || from == to, "{context}");
                }
            }
        }
    }
}

#[test]
fn two_neighbours_that_were_changed_are_both_named() {
    let good = lines(&log_of(9).0);
    let mut log = good.clone();
    edit(&mut log[4]);
    edit(&mut log[5]);
    let log = log.concat();
    for evidence in [
        Evidence::default(),
        seen(&[4, 6]),
        seen(&[9]),
        state_after(9),
    ] {
        assert_eq!(span(&log, evidence), (5, 6));
    }
    for evidence in [keyed(), seen(&[4, 5])] {
        assert_eq!(span(&log, evidence), (5, 5));
    }
    assert_eq!(span(&log, state_after(5)), (1, 5));
}

#[test]
fn a_line_that_was_put_there_is_found_where_the_next_one_does_not_follow() {
    let good = lines(&log_of(8).0);
    // Made without a key, with the number and the hash of its place.
    let forged = lines(&rewrite(6, 5))[5].clone();
    let mut log = good.clone();
    log.insert(5, forged.clone());
    for evidence in [Evidence::default(), seen(&[3, 8]), state_after(8)] {
        assert_eq!(span(&log.concat(), evidence), (6, 7));
    }
    assert_eq!(span(&log.concat(), keyed()), (6, 6));
    // Two of them fit each other: the first line that does not follow comes after them.
    let two = lines(&rewrite(7, 5))[5..].to_vec();
    let log: Vec<_> = [&good[..5], &two, &good[5..]].concat();
    assert_eq!(span(&log.concat(), Evidence::default()), (7, 8));
    assert_eq!(span(&log.concat(), keyed()), (6, 6));
    // Older lines once more.
    let log: Vec<_> = [&good[..5], &good[2..4], &good[5..]].concat();
    for evidence in [Evidence::default(), seen(&[4])] {
        assert_eq!(span(&log.concat(), evidence), (5, 6));
    }
    assert_eq!(span(&log.concat(), keyed()), (6, 6));
    // A line that does not fit its place.
    let mut log = good.clone();
    log.insert(5, changes(&good[5])[1].clone());
    assert_eq!(span(&log.concat(), Evidence::default()), (5, 6));
}

#[test]
fn who_recomputes_hashes_behind_a_line_does_not_put_the_blame_on_the_one_before() {
    let good = lines(&log_of(8).0);
    let mut log = good[..4].to_vec();
    log.push(changes(&good[4])[1].clone());
    let mut state = ChainState::START;
    for line in &log {
        state.advance(line.strip_suffix(b"\n").unwrap());
    }
    let mut chain = Chain::resume(state, Secret32::new([0; 32]));
    let mut behind = Vec::new();
    for number in 5..8 {
        chain.append(
            &mut behind,
            TIME,
            "sealed",
            &[("serial", json!(number + 1))],
        );
    }
    let log = [log.concat(), behind].concat();
    for evidence in [seen(&[8]), seen(&[7]), seen(&[6]), state_after(8)] {
        assert_eq!(span(&log, evidence), (4, 5));
    }
    for evidence in [seen(&[4]), seen(&[4, 8]), state_after(4), keyed()] {
        assert_eq!(span(&log, evidence), (5, 5));
    }
}

#[test]
fn a_rewriting_with_hashes_that_fit_is_found_by_whoever_saw_a_later_line() {
    let log = rewrite(8, 4);
    assert!(verify(&log[..], Evidence::default()).is_ok());
    assert_eq!(fault(&log, keyed()), Some((5, LineFault::Mac)));
    let rewritten = |evidence| match verify(&log[..], evidence) {
        Err(AuditError::Rewritten { first, last, .. }) => (first, last),
        other => panic!("{other:?}"),
    };
    assert_eq!(rewritten(seen(&[2, 6, 8])), (3, 6));
    assert_eq!(rewritten(state_after(8)), (1, 8));
    assert!(verify(&log[..], seen(&[2, 4])).is_ok(), "nothing saw it");
}

#[test]
fn lines_behind_the_key_state_are_verified_with_its_key() {
    let (log, _) = log_of(6);
    let summary = verify(&log[..], state_after(4)).unwrap();
    assert_eq!(
        (summary.macs_from, summary.is_key_state_met),
        (Some(4), true)
    );
    let mut edited = lines(&log);
    edit(&mut edited[5]);
    assert_eq!(
        fault(&edited.concat(), state_after(4)),
        Some((6, LineFault::Mac))
    );
    let mut edited = lines(&log);
    edit(&mut edited[3]);
    assert!(matches!(
        verify(
            &edited.concat()[..lines(&log)[..4].concat().len()],
            state_after(4)
        ),
        Err(AuditError::Rewritten {
            first: 1,
            last: 4,
            ..
        })
    ));
}

#[test]
fn a_cut_tail_is_found_as_far_as_somebody_saw_the_log() {
    let cut = lines(&log_of(6).0)[..4].concat();
    assert!(verify(&cut[..], keyed()).is_ok());
    assert!(verify(&cut[..], seen(&[4])).is_ok());
    for evidence in [seen(&[2, 6]), state_after(6)] {
        let error = verify(&cut[..], evidence).unwrap_err();
        assert!(matches!(error, AuditError::Cut { last: 6, .. }));
        assert_eq!((error.line(), error.line_last()), (Some(5), Some(5)));
    }
}

#[test]
fn a_torn_tail_is_no_part_of_the_log_and_no_fault() {
    let (log, _) = log_of(6);
    let summary = verify(&log[..log.len() - 1], keyed()).unwrap();
    assert_eq!(summary.state.next_seq, 5);
    assert!(summary.torn_bytes > 100);
    // But a witness of that line says that it was there.
    let torn = &log[..log.len() - 1];
    assert!(matches!(
        verify(torn, seen(&[6])),
        Err(AuditError::Cut { first: 6, .. })
    ));
}

#[test]
fn what_is_no_line_is_found_without_a_key_too() {
    let good = lines(&log_of(3).0);
    let hash = |line: &[u8]| blake3::hash(line.strip_suffix(b"\n").unwrap()).to_string();
    let body = |own: &str| {
        let prev = hash(&good[1]);
        let mac = "0".repeat(64);
        format!(
            "{{\"seq\":2,\"time\":\"{TIME}\",\"event\":\"x\"{own},\"prev\":\"{prev}\",\"mac\":\"{mac}\"}}\n"
        )
        .into_bytes()
    };
    let with = |third: Vec<u8>| [&good[..2].concat()[..], &third[..]].concat();
    assert_eq!(fault(&with(body("")), Evidence::default()), None);
    assert_eq!(
        fault(&with(body(",\"a\":{\"seq\":1}")), Evidence::default()),
        None
    );
    let mut not_utf8 = body(",\"a\":\"~\"");
    *not_utf8.iter_mut().find(|byte| **byte == b'~').unwrap() = 0xff;
    let mut nul = body(",\"a\":\"~\"");
    *nul.iter_mut().find(|byte| **byte == b'~').unwrap() = 0;
    for third in [
        body(",\"seq\":3"),
        body(",\"a\":1,\"a\":2"),
        body(",\"event\":\"y\""),
        body(",\"mac\":\"y\""),
        body(",\"a\":"),
        body(",\"a\":1e999"),
        body(",\"a\":\"\\ud800\""),
        body(&format!(",\"a\":{}1{}", "[".repeat(200), "]".repeat(200))),
        not_utf8,
        nul,
        vec![0; 300].into_iter().chain([b'\n']).collect(),
        b"\n".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&third).into_owned();
        assert_eq!(
            fault(&with(third), Evidence::default()),
            Some((3, LineFault::Form)),
            "{shown}"
        );
    }
    let huge = vec![b'x'; limits::AUDIT_LINE_BYTES_MAX + 9];
    assert_eq!(
        fault(&with(huge), Evidence::default()),
        Some((3, LineFault::Long))
    );
}

#[test]
fn lines_are_handed_out_up_to_the_bad_one() {
    let mut bad = lines(&log_of(5).0);
    edit(&mut bad[3]);
    let bad = bad.concat();
    let mut verifier = Verifier::new(&bad[..], keyed());
    let mut count = 0;
    let error = loop {
        match verifier.next_line() {
            Ok(Some(line)) => {
                assert_eq!(AuditRecord::parse(line).unwrap().seq, count);
                count += 1;
            }
            Ok(None) => panic!("the bad line was passed"),
            Err(error) => break error,
        }
    };
    assert_eq!((count, error.line()), (3, Some(4)));
    assert!(verifier.next_line().unwrap().is_none(), "it is over");
}

proptest! {
    #[test]
    fn no_flipped_bit_goes_unnoticed(at: prop::sample::Index, bit in 0_u8..8) {
        let (mut log, chain) = log_of(3);
        let at = at.index(log.len());
        log[at] ^= 1 << bit;
        for key in [None, Some(key())] {
            let resumed = Chain::resume(chain.state(), Secret32::new(*chain.key().expose()));
            let evidence = Evidence { first_key: key, key_state: Some(resumed), ..Evidence::default() };
            prop_assert!(verify(&log[..], evidence).is_err());
        }
    }

    #[test]
    fn any_order_of_lines_is_judged_and_the_first_key_alone_knows_the_line(
        order in prop::collection::vec((0_usize..5, 0_usize..6), 0..9),
    ) {
        let good = lines(&log_of(5).0);
        let change = |(at, kind): &(usize, usize)| match changes(&good[*at]).get(*kind) {
            Some(changed) => changed.clone(),
            None => good[*at].clone(),
        };
        let log: Vec<Vec<u8>> = order.iter().map(change).collect();
        let bad = (0..=log.len()).find(|at| log.get(*at) != good.get(*at)).unwrap_or(5);
        for evidence in [Evidence::default(), seen(&[2]), seen(&[5]), state_after(3)] {
            if let Err(error) = verify(&log.concat()[..], evidence) {
                let (first, last) = (error.line().unwrap(), error.line_last().unwrap());
                prop_assert!((1..=log.len() as u64 + 1).contains(&first) && first <= last);
                prop_assert!(last > bad as u64, "{error}: but line {} is the first", bad + 1);
            }
        }
        let mut evidence = seen(&[5]);
        evidence.first_key = Some(key());
        if bad < 5 {
            let error = verify(&log.concat()[..], evidence).unwrap_err();
            prop_assert_eq!((error.line(), error.line_last()), (Some(bad as u64 + 1), Some(bad as u64 + 1)));
        }
    }

    #[test]
    fn any_text_survives_a_line(event: String, value: String) {
        for evidence in [keyed(), Evidence::default()] {
            let mut log = Vec::new();
            Chain::start(key()).append(&mut log, TIME, &event, &[("reason", json!(value))]);
            prop_assert_eq!(fault(&log, evidence), None);
            let record = AuditRecord::parse(log.strip_suffix(b"\n").unwrap()).unwrap();
            prop_assert_eq!(&record.event, &event);
            prop_assert_eq!(record.fields["reason"].as_str(), Some(value.as_str()));
        }
    }

    #[test]
    fn any_bytes_are_read_to_their_end(log in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = verify(&log[..], Evidence::default());
    }
}
