#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::time::Duration;

use valise_common::fec::{Codec, Geometry, plan};
use valise_common::ids::{ContainerHash, ContainerId};
use valise_common::units::{Percent, Span};
use valise_common::wire::{Beacon, DatagramBytes};

use valise_common::units::UtcTime;
use valise_common::wire::EntryState;

use super::*;

const UTC_S: u64 = 1_800_000_000;

fn settings(rate: Rate) -> Settings {
    Settings {
        datagram: DatagramBytes::new(1_472).unwrap(),
        wire_bytes: 1_500,
        batch_count_max: 176,
        warm_up: WarmUp::Cover,
        rate,
        cover: Cover::None,
        repair: Percent::from_ppm(250_000),
        interleave: Span(Duration::from_millis(20)),
    }
}

fn mbit(rate: u64) -> Settings {
    settings(Rate::BitsPerSecond(rate * 1_000_000))
}

fn at(us: u64) -> Now {
    Now {
        mono: Mono(us),
        utc_us: UTC_S * 1_000_000 + us,
    }
}

fn serial(number: u64) -> Serial {
    Serial::new(number).unwrap()
}

/// A container of about so many bytes.
fn sealed(number: u64, precedence: Precedence, padded: u64, passes: u8) -> Sealed {
    let container_bytes = 1_264 + padded + 16 * padded.div_ceil(65_536);
    let geometry =
        plan::choose(container_bytes, 1_400, Percent::from_ppm(250_000), passes).unwrap();
    Sealed {
        serial: serial(number),
        precedence,
        not_after: UtcTime::from_s(UTC_S + 86_400),
        container: ContainerId::from_bytes([number as u8; 12]),
        hash: ContainerHash::from_bytes([number as u8; 32]),
        geometry,
        passes,
    }
}

/// What left the link, each datagram with its time.
#[derive(Debug, Clone, PartialEq)]
enum Sent {
    Cover,
    Beacon(Beacon),
    Symbol {
        serial: u64,
        pass: u8,
        block: u32,
        n: u32,
    },
}

struct World {
    pipeline: Pipeline,
    now: Now,
    /// How far the wall clock runs ahead.
    ahead_us: u64,
    sent: Vec<(u64, Sent)>,
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            pipeline: Pipeline::new(settings, at(0)),
            now: at(0),
            ahead_us: 0,
            sent: Vec::new(),
        }
    }

    fn add(&mut self, sealed: Sealed) {
        self.pipeline
            .handle_container(self.now, sealed, None)
            .unwrap();
    }

    /// One batch, or nothing if none may leave now.
    fn step(&mut self) -> bool {
        let mut batch = Batch::default();
        if !self.pipeline.poll_batch(self.now, &mut batch) {
            assert_eq!(batch.count(), 0);
            return false;
        }
        for slot in batch.slots() {
            match slot {
                Slot::Cover(count) => (0..*count).for_each(|_| self.push(Sent::Cover)),
                Slot::Beacon(beacon) => self.push(Sent::Beacon(beacon.clone())),
                Slot::Symbols(run) => {
                    let Lane {
                        serial,
                        pass,
                        block,
                        sent,
                        ..
                    } = run.lane;
                    for n in sent..sent + run.count {
                        self.push(Sent::Symbol {
                            serial: serial.get(),
                            pass,
                            block,
                            n,
                        });
                    }
                }
            }
        }
        true
    }

    fn push(&mut self, sent: Sent) {
        self.sent.push((self.now.mono.0, sent));
    }

    fn run_until(&mut self, us: u64) {
        loop {
            while self.step() {}
            let next = self.pipeline.next_wakeup(self.now).0;
            assert!(next > self.now.mono.0, "a wake-up in the past would spin");
            if next > us {
                self.now = self.at(us);
                return;
            }
            self.now = self.at(next);
        }
    }

    fn at(&self, us: u64) -> Now {
        let utc_us = at(us).utc_us + self.ahead_us;
        Now { utc_us, ..at(us) }
    }

    /// Sets the wall clock, so far ahead of the right time.
    fn set_clock(&mut self, ahead_us: u64) {
        self.ahead_us = ahead_us;
        self.now = self.at(self.now.mono.0);
    }

    /// Time and symbol number of each symbol of a serial's pass.
    fn symbols(&self, number: u64, of_pass: u8) -> Vec<u64> {
        let wanted = |sent: &Sent| matches!(sent, Sent::Symbol { serial, pass, .. } if *serial == number && *pass == of_pass);
        self.sent
            .iter()
            .filter(|(_, sent)| wanted(sent))
            .map(|(time, _)| *time)
            .collect()
    }

    fn beacons(&self) -> Vec<(u64, &Beacon)> {
        self.sent
            .iter()
            .filter_map(|(time, sent)| match sent {
                Sent::Beacon(beacon) => Some((*time, beacon)),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn every_symbol_of_every_pass_leaves_once() {
    for padded in [1_024, 4_096, 300_000, 5_000_000] {
        let mut world = World::new(mbit(100));
        let sealed = sealed(1, Precedence::Routine, padded, 2);
        world.add(sealed);
        world.run_until(3_000_000);
        for pass in 0..2 {
            let expected: u64 = sealed
                .geometry
                .blocks()
                .map(|shape| {
                    u64::from(
                        plan::pass_symbols(&shape, settings(Rate::Unlimited).repair, pass).count(),
                    )
                })
                .sum();
            assert_eq!(world.symbols(1, pass).len() as u64, expected, "{padded}");
        }
        let mut keys: Vec<String> = world
            .sent
            .iter()
            .filter(|(_, sent)| matches!(sent, Sent::Symbol { .. }))
            .map(|(_, sent)| format!("{sent:?}"))
            .collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert_eq!(
            world.pipeline.poll_ended().unwrap().outlook,
            Outlook::MorePasses
        );
        let last = world.pipeline.poll_ended().unwrap();
        assert_eq!(
            (last.outlook, last.progress.passes_done),
            (Outlook::Transmitted, 2)
        );
        assert!(world.pipeline.poll_ended().is_none());
    }
}

#[test]
fn a_flash_leaves_with_the_next_batch_and_the_routine_one_goes_on_behind_it() {
    let mut world = World::new(mbit(100));
    world.add(sealed(1, Precedence::Routine, 1_000_000_000, 1));
    world.run_until(5_000_000);
    world.add(sealed(2, Precedence::Flash, 4_096, 1));
    world.run_until(5_100_000);
    let flash = world.symbols(2, 0);
    assert!(flash[0] <= 5_001_100, "{}", flash[0]);
    let last = *flash.last().unwrap();
    let between = world
        .symbols(1, 0)
        .into_iter()
        .filter(|time| (flash[0] + 1..last).contains(time));
    assert_eq!(
        between.count(),
        0,
        "nothing goes between the symbols of a FLASH"
    );
    assert!(world.symbols(1, 0).into_iter().any(|time| time > last));
}

#[test]
fn the_classes_leave_in_strict_order() {
    let mut world = World::new(mbit(100));
    for (number, precedence) in (1..).zip(Precedence::ALL.into_iter().rev()) {
        world.add(sealed(number, precedence, 300_000, 1));
    }
    world.run_until(1_000_000);
    let ends: Vec<u64> = (1..=4)
        .map(|number| *world.symbols(number, 0).last().unwrap())
        .collect();
    let starts: Vec<u64> = (1..=4).map(|number| world.symbols(number, 0)[0]).collect();
    for urgent in 1..4 {
        assert!(ends[urgent] <= starts[urgent - 1]);
    }
}

#[test]
fn a_second_pass_waits_out_the_burst_and_others_go_in_between() {
    let mut world = World::new(mbit(100));
    world.add(sealed(1, Precedence::Priority, 4_096, 2));
    world.add(sealed(2, Precedence::Routine, 1_000_000, 1));
    world.run_until(1_000_000);
    let (first, second) = (world.symbols(1, 0), world.symbols(1, 1));
    let gap = second[0] - first.last().unwrap();
    assert!((20_000..21_200).contains(&gap), "{gap}");
    let between = |time: &u64| (*first.last().unwrap()..second[0]).contains(time);
    assert!(
        world
            .symbols(2, 0)
            .iter()
            .filter(|time| between(time))
            .count()
            > 100
    );
}

#[test]
fn the_second_pass_of_a_large_container_waits_too() {
    for padded in [100_000, 1_500_000, 8_000_000] {
        let mut world = World::new(mbit(100));
        world.add(sealed(1, Precedence::Priority, padded, 2));
        world.run_until(3_000_000);
        let gap = world.symbols(1, 1)[0] - world.symbols(1, 0).last().unwrap();
        assert!((20_000..21_200).contains(&gap), "{gap}");
    }
}

#[test]
fn small_cables_of_one_class_are_interleaved() {
    let mut world = World::new(mbit(100));
    (1..=200).for_each(|number| world.add(sealed(number, Precedence::Routine, 4_096, 1)));
    world.run_until(1_000_000);
    for number in 1..=200 {
        let times = world.symbols(number, 0);
        assert!(
            times.last().unwrap() - times[0] > 20_000,
            "{number} is spread over more than a burst"
        );
    }
}

#[test]
fn the_rate_is_kept_within_two_per_cent_cover_or_not() {
    for rate in [2, 10, 100, 1_000] {
        for cover in [Cover::None, Cover::Constant] {
            let mut world = World::new(Settings {
                cover,
                ..mbit(rate)
            });
            world.add(sealed(1, Precedence::Routine, 1_000_000_000, 1));
            world.run_until(1_500_000);
            let counted = world
                .sent
                .iter()
                .filter(|(time, _)| *time >= 500_000)
                .count() as u64;
            let bits = counted * 1_500 * 8;
            assert!(
                bits.abs_diff(rate * 1_000_000) * 50 <= rate * 1_000_000,
                "{rate} {cover:?}: {bits}"
            );
        }
    }
}

#[test]
fn cover_keeps_the_rate_whatever_is_sent() {
    let constant = Settings {
        cover: Cover::Constant,
        ..mbit(20)
    };
    let mut idle = World::new(constant);
    idle.run_until(2_000_000);
    let mut busy = World::new(constant);
    busy.run_until(500_000);
    busy.add(sealed(1, Precedence::Flash, 600_000, 2));
    busy.run_until(2_000_000);
    let times = |world: &World| {
        world
            .sent
            .iter()
            .map(|(time, _)| *time)
            .collect::<Vec<u64>>()
    };
    assert_eq!(times(&idle), times(&busy), "an observer sees no difference");
    assert!(busy.symbols(1, 1).len() > 400);
}

#[test]
fn a_millisecond_of_cover_leads_and_trails() {
    let mut world = World::new(mbit(100));
    world.run_until(300_000);
    world.sent.clear();
    world.add(sealed(1, Precedence::Flash, 4_096, 1));
    world.run_until(600_000);
    let is_cover = |sent: &(u64, Sent)| sent.1 == Sent::Cover;
    let leading = world.sent.iter().take_while(|sent| is_cover(sent)).count();
    let trailing = world
        .sent
        .iter()
        .rev()
        .take_while(|sent| is_cover(sent))
        .count();
    assert_eq!((leading, trailing), (8, 8));
    assert!(
        matches!(world.sent[8].1, Sent::Beacon(_)),
        "the pass is announced"
    );
    let count = world.sent.len();
    assert!(
        matches!(world.sent[count - 9].1, Sent::Beacon(_)),
        "its end is announced"
    );
    assert!(
        world.sent[9].0 <= 300_000 + 1_000,
        "and nothing waits for it"
    );
}

#[test]
fn an_idle_link_carries_a_beacon_a_second() {
    let mut world = World::new(mbit(100));
    world.run_until(10_500_000);
    let times: Vec<u64> = world.beacons().iter().map(|(time, _)| *time).collect();
    assert_eq!(times.len(), 11);
    for pair in times.windows(2) {
        assert!(
            (1_000_000..1_001_500).contains(&(pair[1] - pair[0])),
            "{pair:?}"
        );
    }
}

#[test]
fn a_slow_link_spends_one_datagram_in_fifty_on_beacons() {
    let mut world = World::new(settings(Rate::BitsPerSecond(120_000)));
    world.run_until(30_500_000);
    assert_eq!(world.beacons().len(), 7, "50 datagrams of 100 ms each");
}

#[test]
fn beacons_tell_where_each_serial_stands() {
    let mut world = World::new(mbit(100));
    let issued = SpoolBeacon {
        issued: 3,
        in_sealing: vec![serial(3)],
        ..SpoolBeacon::default()
    };
    world.pipeline.handle_spool(issued);
    world.add(sealed(1, Precedence::Flash, 4_096, 2));
    world.add(sealed(2, Precedence::Routine, 4_000_000, 1));
    world.run_until(2_500_000);
    let state = |beacon: &Beacon, number: u64| {
        beacon
            .entries
            .iter()
            .find(|entry| entry.serial.get() == number)
            .map(|entry| entry.state)
    };
    let beacons = world.beacons();
    let first = beacons.first().unwrap().1;
    assert_eq!(state(first, 1), Some(EntryState::OnLink));
    assert_eq!(state(first, 2), Some(EntryState::Queued));
    assert_eq!((first.highest, first.settled), (3, 0));
    let last = beacons.last().unwrap().1;
    assert_eq!(state(last, 1), Some(EntryState::PassesDone));
    assert_eq!(state(last, 2), Some(EntryState::PassesDone));
    assert_eq!((last.highest, last.settled), (3, 2), "3 is in sealing");
}

#[test]
fn a_resend_brings_new_repair_symbols_and_leaves_the_serial_settled() {
    let mut world = World::new(mbit(100));
    let one = sealed(1, Precedence::Routine, 60_000, 2);
    world.add(one);
    world.run_until(1_000_000);
    world.add(Sealed { passes: 3, ..one });
    world.run_until(1_100_000);
    assert_eq!(world.symbols(1, 2).len(), world.symbols(1, 1).len());
    assert!(
        world
            .beacons()
            .iter()
            .all(|(time, beacon)| *time < 1_000_000 || beacon.settled == 1)
    );
    world.add(Sealed { passes: 3, ..one });
    let before = world.sent.len();
    world.run_until(1_900_000);
    assert!(
        world.sent[before..]
            .iter()
            .all(|(_, sent)| !matches!(sent, Sent::Symbol { .. }))
    );
}

#[test]
fn a_restart_goes_on_where_the_pass_stood() {
    for (padded, stop_us) in [
        (30_000_000, 1_234_567),
        (30_000_000, 2_900_000),
        (300_000, 9_000),
        (300_000, 60_000),
    ] {
        let one = sealed(1, Precedence::Routine, padded, 2);
        let mut before = World::new(mbit(100));
        before.add(one);
        before.run_until(stop_us);
        let ended = std::iter::from_fn(|| before.pipeline.poll_ended()).last();
        let progress = before
            .pipeline
            .poll_progress()
            .or(ended.map(|ended| ended.progress))
            .unwrap();
        let mut after = World::new(mbit(100));
        after
            .pipeline
            .handle_container(at(0), one, Some(progress.clone()))
            .unwrap();
        assert_eq!(
            after.pipeline.passes.find(serial(1)).unwrap().progress(),
            progress
        );
        after.run_until(9_000_000);
        let symbols = |world: &World| {
            let symbol = |sent: &Sent| matches!(sent, Sent::Symbol { .. });
            let all = world.sent.iter().filter(|(_, sent)| symbol(sent));
            all.map(|(_, sent)| format!("{sent:?}"))
                .collect::<Vec<String>>()
        };
        let mut whole = World::new(mbit(100));
        whole.add(one);
        whole.run_until(9_000_000);
        let mut joined = [symbols(&before), symbols(&after)].concat();
        joined.sort();
        let mut expected = symbols(&whole);
        expected.sort();
        assert_eq!(joined, expected, "nothing twice, nothing left out");
    }
}

#[test]
fn a_pass_of_which_only_the_end_was_not_noted_ends() {
    let one = sealed(1, Precedence::Routine, 4_096, 1);
    let count = one
        .geometry
        .block(0)
        .map(|shape| plan::pass_symbols(&shape, mbit(1).repair, 0).count());
    let progress = Progress {
        serial: serial(1),
        passes_done: 0,
        first_passes: 1,
        pass: 0,
        position: 0,
        block: 0,
        lanes: vec![count.unwrap()],
    };
    let mut world = World::new(mbit(100));
    world
        .pipeline
        .handle_container(at(0), one, Some(progress))
        .unwrap();
    world.run_until(100_000);
    assert_eq!(world.symbols(1, 0).len(), 0);
    assert_eq!(
        world.pipeline.poll_ended().unwrap().outlook,
        Outlook::Transmitted
    );
}

#[test]
fn progress_that_does_not_fit_the_container_begins_the_pass_anew() {
    let one = sealed(1, Precedence::Routine, 4_096, 1);
    let progress = Progress {
        serial: serial(1),
        passes_done: 0,
        first_passes: 1,
        pass: 0,
        position: 99,
        block: 70_000,
        lanes: vec![u32::MAX; 9],
    };
    let mut world = World::new(mbit(100));
    world
        .pipeline
        .handle_container(at(0), one, Some(progress))
        .unwrap();
    world.run_until(100_000);
    assert!(world.symbols(1, 0).len() > 4);
}

#[test]
fn an_expired_container_is_not_begun_and_its_passes_are_cut_short() {
    let mut world = World::new(mbit(10));
    let expired = Sealed {
        not_after: UtcTime::from_s(UTC_S - 1),
        ..sealed(1, Precedence::Flash, 4_096, 1)
    };
    world.add(expired);
    let expiring = Sealed {
        not_after: UtcTime::from_s(UTC_S + 2),
        ..sealed(2, Precedence::Routine, 100_000_000, 1)
    };
    world.add(expiring);
    world.add(sealed(3, Precedence::Routine, 4_096, 1));
    world.run_until(10_000_000);
    assert_eq!(world.symbols(1, 0).len(), 0);
    let last = *world.symbols(2, 0).last().unwrap();
    assert!((2_900_000..5_000_000).contains(&last), "{last}");
    assert!(!world.symbols(3, 0).is_empty());
    let settled = world.beacons().last().unwrap().1.settled;
    assert_eq!(settled, 0, "gate gives them up, not transmit");
}

#[test]
fn what_seemed_expired_is_sent_once_the_clock_is_right_again() {
    let mut world = World::new(mbit(100));
    let begun = sealed(1, Precedence::Routine, 5_000_000, 2);
    world.add(begun);
    world.run_until(100_000);
    let before = world.symbols(1, 0).len();
    assert!(before > 100, "{before}");
    world.set_clock(400 * 86_400 * 1_000_000);
    world.add(sealed(2, Precedence::Flash, 4_096, 1));
    world.run_until(20_000_000);
    // What of it was in the interleaver already may have left; the rest stays.
    let meanwhile = world.symbols(1, 0).len();
    let total: u64 = begun
        .geometry
        .blocks()
        .map(|shape| {
            let repair = settings(Rate::Unlimited).repair;
            u64::from(plan::pass_symbols(&shape, repair, 0).count())
        })
        .sum();
    assert!((meanwhile as u64) < total, "{meanwhile} of {total}");
    assert!(world.symbols(2, 0).is_empty());
    world.set_clock(0);
    world.run_until(40_000_000);
    assert!(!world.symbols(2, 0).is_empty());
    assert_eq!(world.symbols(1, 0).len() as u64, total);
    let mut numbers: Vec<String> = world
        .sent
        .iter()
        .map(|(_, sent)| format!("{sent:?}"))
        .collect();
    numbers.retain(|sent| sent.starts_with("Symbol"));
    let count = numbers.len();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "no symbol leaves twice");
    assert!(world.symbols(1, 1).len() > 1_000);
}

#[test]
fn a_container_that_gate_deletes_makes_way_at_once() {
    let mut world = World::new(mbit(100));
    world.add(sealed(1, Precedence::Routine, 100_000_000, 2));
    world.add(sealed(2, Precedence::Routine, 4_096, 1));
    world.run_until(500_000);
    world.pipeline.handle_gone(serial(1));
    world.run_until(600_000);
    assert!(*world.symbols(1, 0).last().unwrap() <= 500_000);
    assert!(!world.symbols(2, 0).is_empty());
    world.pipeline.handle_gone(serial(7));
    assert!(std::iter::from_fn(|| world.pipeline.poll_progress()).all(|one| one.serial.get() == 2));
}

#[test]
fn a_container_cut_for_other_datagrams_is_refused() {
    let mut world = World::new(mbit(100));
    let geometry = Geometry::new(2_304, Codec::Rs8, 2, 2, 512).unwrap();
    let other = Sealed {
        geometry,
        ..sealed(1, Precedence::Routine, 1_024, 1)
    };
    let refused = world
        .pipeline
        .handle_container(at(0), other, None)
        .unwrap_err();
    assert!(refused.to_string().contains("512"));
}

#[test]
fn equal_calls_give_equal_batches() {
    let run = || {
        let mut world = World::new(mbit(100));
        for number in 1..=60 {
            let precedence = Precedence::from_index((number % 4) as u8).unwrap();
            world.add(sealed(
                number,
                precedence,
                1_024 << (number % 11),
                (number % 3 + 1) as u8,
            ));
            world.run_until(number * 7_919);
        }
        world.run_until(3_000_000);
        world.sent
    };
    assert_eq!(run(), run());
}

#[test]
fn an_unlimited_link_always_has_a_batch_while_there_are_symbols() {
    let mut world = World::new(settings(Rate::Unlimited));
    world.add(sealed(1, Precedence::Routine, 10_000_000, 1));
    while world.step() {}
    assert!(world.symbols(1, 0).len() > 8_900);
    assert_eq!(world.now.mono, Mono(0));
    assert!(world.pipeline.next_wakeup(world.now).0 > 0);
}

#[test]
fn a_lost_link_repeats_the_pass_on_it_and_those_that_had_just_ended() {
    let mut world = World::new(mbit(100));
    let whole = sealed(1, Precedence::Priority, 4_096, 2);
    let large = sealed(2, Precedence::Routine, 50_000_000, 1);
    world.add(whole);
    world.add(large);
    world.run_until(1_000_000);
    let all = world.symbols(1, 0).len();
    assert_eq!(world.symbols(1, 1).len(), all, "both passes have left");
    // The first pass is known to have left the host; the second is not, nor is it polled yet.
    let first = world.pipeline.poll_ended().unwrap();
    assert_eq!(first.progress.passes_done, 1);
    let on_link: Vec<Progress> = world.pipeline.on_link().collect();
    assert_eq!(on_link.len(), 1);
    assert!(on_link[0].position > 1_000);

    world.pipeline.handle_link_lost(world.now, []);
    assert!(world.pipeline.on_link().next().is_none());
    assert!(world.pipeline.poll_ended().is_none(), "it does not count");
    let moved: Vec<Progress> = std::iter::from_fn(|| world.pipeline.poll_progress()).collect();
    let done = |number| {
        let of_serial = |one: &&Progress| one.serial == serial(number);
        let found = moved.iter().find(of_serial).unwrap();
        (found.passes_done, found.position)
    };
    assert_eq!((done(1), done(2)), ((1, 0), (0, 0)));

    let before = world.symbols(2, 0).len();
    world.run_until(20_000_000);
    assert_eq!(world.symbols(1, 0).len(), all, "the first pass stands");
    assert_eq!(world.symbols(1, 1).len(), 2 * all, "the second left again");
    let ended: Vec<PassEnded> = std::iter::from_fn(|| world.pipeline.poll_ended()).collect();
    let outlooks: Vec<Outlook> = ended.iter().map(|one| one.outlook).collect();
    assert_eq!(outlooks, [Outlook::Transmitted, Outlook::Transmitted]);
    let large_count: u64 = large
        .geometry
        .blocks()
        .map(|shape| {
            u64::from(plan::pass_symbols(&shape, settings(Rate::Unlimited).repair, 0).count())
        })
        .sum();
    let after = world.symbols(2, 0).len() - before;
    assert_eq!(after as u64, large_count, "from its beginning, and whole");

    // Passes that were polled and are not known to have left come back in the same way.
    world.pipeline.handle_link_lost(world.now, ended);
    world.run_until(40_000_000);
    assert_eq!(world.symbols(1, 1).len(), 3 * all);
    assert_eq!(world.pipeline.poll_ended().unwrap().progress.passes_done, 2);
}
