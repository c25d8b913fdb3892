#![allow(clippy::unwrap_used, clippy::as_conversions)]

use serde_json::json;
use valise_common::audit::Chain;
use valise_common::secret::Secret32;
use valise_common::units::UtcTime;

use super::super::row::{Problem, State};
use super::*;

const CHANNEL: &str = "0123456789abcdef0123456789abcdef";

fn id(serial: u64) -> MessageId {
    MessageId::from_bytes([serial as u8; 16])
}

fn hash(serial: u64) -> ContainerHash {
    ContainerHash::from_bytes([serial as u8; 32])
}

#[derive(Default)]
struct Logs(Comparison);

impl Logs {
    fn line(event: &str, fields: &[(&str, Value)]) -> Vec<u8> {
        let mut line = Vec::new();
        Chain::start(Secret32::new([1; 32])).append(&mut line, UtcTime::EPOCH, event, fields);
        line.pop();
        line
    }

    fn sender(&mut self, event: &str, fields: &[(&str, Value)]) -> &mut Self {
        self.0.take_sender(&Self::line(event, fields)).unwrap();
        self
    }

    fn receiver(&mut self, event: &str, fields: &[(&str, Value)]) -> &mut Self {
        self.0.take_receiver(&Self::line(event, fields)).unwrap();
        self
    }

    fn sealed(&mut self, serial: u64) -> &mut Self {
        let names = [("id", json!(id(serial))), ("serial", json!(serial))];
        let bundle = [&names[..], &[("bundle", json!(1))]].concat();
        let container = [&names[..], &[("container", json!(hash(serial)))]].concat();
        self.sender("sealing", &bundle).sender("sealed", &container)
    }

    fn claimed(&mut self, event: &str, serial: u64, container: ContainerHash) -> &mut Self {
        let fields = [
            ("serial", json!(serial)),
            ("container", json!(container)),
            ("message_id", json!(id(serial))),
            ("to", json!(["paris-desk"])),
            ("trust_version", json!(1)),
            ("code", json!("expired")),
            ("reason", json!("too late")),
        ];
        self.receiver(event, &fields)
    }

    fn released(&mut self, serial: u64) -> &mut Self {
        let fields = [("serial", json!(serial)), ("message_id", json!(id(serial)))];
        self.receiver("released", &fields)
    }

    fn bundle(&mut self, bundle: u32, first: u64, replaces: Option<u32>) -> &mut Self {
        let fields = [
            ("bundle", json!(bundle)),
            ("first", json!(first)),
            ("count", json!(10)),
            ("link_key", json!(bundle)),
            ("replaces", json!(replaces)),
            ("sha256", json!("ab".repeat(32))),
            ("uid", json!(0)),
        ];
        self.receiver("bundle-created", &fields)
    }

    fn imported(&mut self, bundle: u32, channel: &str, sha256: &str) -> &mut Self {
        let fields = [
            ("bundle", json!(bundle)),
            ("channel", json!(channel)),
            ("sha256", json!(sha256.repeat(32))),
        ];
        self.sender("bundle-imported", &fields)
    }

    fn states(self) -> Vec<(u64, State, Option<Problem>)> {
        let rows = self.0.finish().rows;
        rows.iter()
            .map(|(serial, row)| (serial.get(), row.state(), row.problem()))
            .collect()
    }
}

#[test]
fn each_serial_is_in_the_state_that_both_logs_give_it() {
    let mut logs = Logs::default();
    for serial in 1..=7 {
        logs.sealed(serial);
    }
    logs.sender("sealing", &[("id", json!(id(8))), ("serial", json!(8))]);
    for serial in [1, 2, 3, 4] {
        logs.sender("transmitted", &[("serial", json!(serial))]);
    }
    logs.sender(
        "given-up",
        &[("serial", json!(5)), ("reason", json!("void"))],
    );
    logs.claimed("publishing", 1, hash(1)).released(1);
    logs.claimed("quarantined", 2, hash(2));
    logs.claimed("quarantined", 3, hash(3)).receiver(
        "discarded",
        &[
            ("serial", json!(3)),
            ("reason", json!("withdrawn")),
            ("uid", json!(0)),
        ],
    );
    let range = |first: u64, last: u64| {
        [
            ("first", json!(first)),
            ("last", json!(last)),
            ("bundle", json!(1)),
        ]
    };
    logs.receiver("gap", &range(6, 7));
    logs.receiver("gap-withdrawn", &range(7, 7)[..2]);
    logs.receiver("not-sent", &range(7, 7));
    logs.receiver("not-sent-withdrawn", &range(7, 7)[..2]);
    assert_eq!(
        logs.states(),
        [
            (1, State::Released, None),
            (2, State::Quarantined, None),
            (3, State::Discarded, None),
            (4, State::Missing, None),
            (5, State::NotSent, None),
            (6, State::Missing, None),
            (7, State::Sealed, None),
            (8, State::Issued, None),
        ]
    );
}

#[test]
fn what_a_beacon_calls_not_sent_is_missing_unless_the_senders_log_gives_it_up() {
    let mut logs = Logs::default();
    logs.sealed(1).sealed(2);
    let reason = [("serial", json!(2)), ("reason", json!("expired"))];
    logs.sender("given-up", &reason);
    let all = [
        ("first", json!(1)),
        ("last", json!(3)),
        ("bundle", json!(1)),
    ];
    logs.receiver("not-sent", &all);
    let told: Vec<_> = logs.states().into_iter().take(2).collect();
    assert_eq!(
        told,
        [
            (1, State::Missing, Some(Problem::ToldNotSent)),
            (2, State::NotSent, None),
        ]
    );
}

#[test]
fn what_was_never_sealed_is_named_whatever_the_receiver_made_of_it() {
    let mut logs = Logs::default();
    logs.claimed("publishing", 1, hash(1)).released(1);
    logs.claimed("quarantined", 2, hash(2));
    logs.sender("sealing", &[("id", json!(id(3))), ("serial", json!(3))]);
    logs.claimed("publishing", 3, hash(3));
    let unsealed = Some(Problem::Unsealed);
    assert_eq!(
        logs.states(),
        [
            (1, State::ReleasedUnsealed, unsealed),
            (2, State::Quarantined, unsealed),
            (3, State::ReleasedUnsealed, unsealed),
        ]
    );
}

#[test]
fn another_container_or_cable_than_was_sealed_is_named() {
    let mut logs = Logs::default();
    logs.sealed(1).sealed(2).sealed(3);
    logs.claimed("publishing", 1, hash(9)).released(1);
    logs.receiver(
        "released",
        &[("serial", json!(2)), ("message_id", json!(id(9)))],
    );
    // Sealed again after a crash: whichever of both arrived is the sender's own.
    let again = [
        ("id", json!(id(3))),
        ("serial", json!(3)),
        ("container", json!(hash(8))),
    ];
    logs.sender("sealed", &again);
    logs.claimed("publishing", 3, hash(3)).released(3);
    assert_eq!(
        logs.states(),
        [
            (1, State::Released, Some(Problem::ContainerDiffers)),
            (2, State::Released, Some(Problem::MessageIdDiffers)),
            (3, State::Released, None),
        ]
    );
}

#[test]
fn a_cable_that_was_rechecked_is_released_or_held_for_the_later_reason() {
    let mut logs = Logs::default();
    logs.sealed(1);
    logs.claimed("quarantined", 1, hash(1));
    let later = [
        ("serial", json!(1)),
        ("code", json!("revoked")),
        ("reason", json!("an officer")),
        ("uid", json!(0)),
    ];
    logs.receiver("rechecked", &later);
    let mut held = Logs::default();
    held.sealed(1).claimed("quarantined", 1, hash(1));
    held.receiver("rechecked", &later);
    let rows = held.0.finish().rows;
    let row = rows.values().next().unwrap();
    assert_eq!(
        (row.state(), row.reason()),
        (State::Quarantined, Some("revoked"))
    );
    logs.claimed("publishing", 1, hash(1)).released(1);
    assert_eq!(logs.states(), [(1, State::Released, None)]);
}

#[test]
fn unused_serials_of_a_replaced_or_void_bundle_are_void() {
    let mut logs = Logs::default();
    logs.bundle(1, 1, None);
    logs.sealed(1).sealed(2);
    logs.claimed("publishing", 1, hash(1)).released(1);
    logs.bundle(2, 11, Some(1)).bundle(3, 21, None);
    logs.sealed(11).sealed(21).sealed(22);
    let reason = [
        ("bundle", json!(3)),
        ("kept", json!([[22, 22]])),
        ("reason", json!("lost")),
        ("uid", json!(0)),
    ];
    logs.sealed(23);
    let kept = [("bundle", json!(3)), ("kept", json!([[23, 23]]))];
    logs.receiver("slots-kept", &kept);
    logs.receiver("bundle-voided", &reason);
    assert_eq!(
        logs.states(),
        [
            (1, State::Released, None),
            (2, State::Void, None),
            (11, State::Sealed, None),
            (21, State::Void, None),
            (22, State::Sealed, None),
            (23, State::Sealed, None),
        ]
    );
}

#[test]
fn a_foreign_channel_or_bundle_is_named() {
    let faults = |fill: fn(&mut Logs)| {
        let mut logs = Logs::default();
        let fields = [("channel", json!(CHANNEL)), ("administrators", json!(2))];
        logs.receiver("init", &fields).bundle(1, 1, None);
        fill(&mut logs);
        logs.0.finish().faults
    };
    assert!(
        faults(|logs| {
            logs.imported(1, CHANNEL, "ab");
        })
        .is_empty()
    );
    for fill in [
        (|logs| {
            logs.imported(1, &"f".repeat(32), "ab");
        }) as fn(&mut Logs),
        |logs| {
            logs.imported(1, CHANNEL, "cd");
        },
        |logs| {
            logs.imported(2, CHANNEL, "ab");
        },
    ] {
        assert_eq!(faults(fill).len(), 1);
    }
}

#[test]
fn a_line_of_another_shape_is_no_line_of_gate() {
    let mut logs = Logs::default();
    let line = Logs::line("sealed", &[("serial", json!("one"))]);
    assert!(logs.0.take_sender(&line).is_err());
    assert!(logs.0.take_receiver(b"[]").is_err());
    let line = Logs::line("of-a-newer-program", &[("serial", json!("one"))]);
    assert!(logs.0.take_sender(&line).is_ok());
}
