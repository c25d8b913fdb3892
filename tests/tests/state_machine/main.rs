//! Every order of events from the first approval to the release of a cable, with each kill and each power cut in between.
//!
//! The product's own code decides ([`real`]); [`sender`] and [`receiver`] model what is on the disk and in memory, and the
//! order of the steps, as docs/spool-states.md has them. Nothing returns on the link, so that the hosts are explored one after the
//! other: whatever the sender's exploration ever sent may reach the receiver at any time, as often as it likes, or never.
#![allow(clippy::unwrap_used)]

mod disk;
mod explore;
mod real;
mod receiver;
mod sender;

use std::collections::BTreeSet;
use std::time::Instant;

use explore::{Explored, Model, explore};
use real::{BOTH, Container, Real, TWICE};
use receiver::Receiver;
use sender::Sender;

/// Explores, and prints what was seen.
fn run<M: Model>(name: &str, model: &M, visit: impl FnMut(&M::State)) -> Explored {
    let started = Instant::now();
    let explored = explore(model, visit);
    let Explored {
        states,
        steps,
        depth,
        fault,
    } = &explored;
    let seconds = started.elapsed().as_secs_f32();
    println!("{name}: {states} states, {steps} steps, depth {depth}, {seconds:.1} s");
    if let Some((promise, way)) = fault {
        println!("  broken: {promise}\n    {}", way.join("\n    "));
    }
    explored
}

/// The promise that an exploration found broken.
fn broken(explored: Explored) -> Option<&'static str> {
    explored.fault.map(|(promise, _)| promise)
}

/// A container of the first slot.
fn container(number: u8, approvals: u8) -> Container {
    Container {
        slot: 0,
        number,
        approvals,
    }
}

/// The same cable sealed under two serials.
fn under_two_serials() -> Vec<Container> {
    let first = container(0, BOTH);
    vec![first, Container { slot: 1, ..first }]
}

#[test]
fn no_order_of_events_breaks_a_promise() {
    let real = Real::new();
    let mut sent = BTreeSet::new();
    let sender = Sender::new(&real, sender::Protocol::Documented);
    let explored = run("sender", &sender, |state| sent.extend(&state.left));
    assert_eq!(explored.fault, None);
    assert!(!sent.is_empty());
    // In no state two of them were sent: each is the only one of its channel.
    for container in sent {
        let link = vec![container];
        let receiver = Receiver::new(&real, receiver::Protocol::Documented, link);
        let mut is_released = false;
        let explored = run("receiver", &receiver, |state| {
            is_released |= state.is_everywhere();
        });
        assert_eq!(explored.fault, None);
        assert!(is_released);
    }
}

#[test]
fn a_receiver_keeps_its_promises_whatever_a_dishonest_sender_seals() {
    let real = Real::new();
    let receiver = |link| Receiver::new(&real, receiver::Protocol::Documented, link);
    let first = container(0, BOTH);
    for (name, other) in [
        ("a second container for a serial", container(1, BOTH)),
        ("one officer", container(2, 0b01)),
        ("one officer twice", container(3, 0b01 | TWICE)),
    ] {
        let explored = run(name, &receiver(vec![first, other]), |_| {});
        assert_eq!(explored.fault, None);
    }
    // With power cuts these are 1.3 million states, and a minute.
    let receiver = receiver(under_two_serials()).with_steady_power();
    assert_eq!(run("two serials", &receiver, |_| {}).fault, None);
}

#[test]
fn each_wrong_sender_is_found() {
    use sender::Protocol::*;
    let real = Real::new();
    let one_container = "a serial is sealed to one container, a cable under one serial";
    let slot_lasts = "a slot lasts until its container is kept";
    for (protocol, promise) in [
        (ErasesBeforeTheLine, slot_lasts),
        (
            ErasesPlaintextBeforeTheLine,
            "the plaintext lasts until it is sealed",
        ),
        (AnswersBeforeTheCommit, "what is accepted is durable"),
        (RenamesBeforeTheLine, one_container),
        (SealsUnderANewSerial, one_container),
        (
            WithdrawsWhatIsSealed,
            "nothing is sealed or sent after withdrawal or expiry",
        ),
        (LeavesTheNameUnsynced, one_container),
        (TrustsARenameThatIsNotSynced, slot_lasts),
        (
            KeepsWhatExpiresWhileItWaits,
            "after its end, slot and plaintext are gone",
        ),
        (NeverTriesAgain, "there is a way to an end"),
    ] {
        let sender = Sender::new(&real, protocol);
        let explored = run(&format!("{protocol:?}"), &sender, |_| {});
        assert_eq!(broken(explored), Some(promise), "{protocol:?}");
    }
}

#[test]
fn each_wrong_receiver_is_found() {
    use receiver::Protocol::*;
    let real = Real::new();
    let once = "a cable is released once";
    let was_visible = "what is called released was visible in every mailbox";
    let arrived = "what counts as arrived is here or judged";
    for (protocol, promise) in [
        (
            ErasesBeforeTheLine,
            "a slot lasts until its cable is released or discarded",
        ),
        (RenamesBeforeTheLine, "nothing is visible before its line"),
        (DeletesBeforeTheLine, arrived),
        (PublishesAgain, once),
        (ClearsTheStageFirst, was_visible),
        (JudgesOnce, "nothing is published after it expired"),
        (TrustsARenameThatIsNotSynced, was_visible),
        (ListsBeforeTheFile, arrived),
        (LeavesAnUnfinishedPublishing, "there is a way to an end"),
    ] {
        let receiver = Receiver::new(&real, protocol, vec![container(0, BOTH)]);
        let explored = run(&format!("{protocol:?}"), &receiver, |_| {});
        assert_eq!(broken(explored), Some(promise), "{protocol:?}");
    }
    let receiver = Receiver::new(&real, ForgetsMessageIds, under_two_serials());
    let explored = run("ForgetsMessageIds", &receiver.with_steady_power(), |_| {});
    assert_eq!(broken(explored), Some(once));
}
