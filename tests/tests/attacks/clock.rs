//! Somebody moves the clock of a running host by ten years, ahead and back. Nothing is lost by it, and nothing becomes
//! valid again. More about the sender's gate is in `sender/tests/clock.rs`.

use std::fs;

use valise_common::units::UtcTime;
use valise_tests::harness::{Host, Role};

use crate::scene::{LIMIT, MARKER, Scene, now};

const TEN_YEARS_S: i64 = 3_653 * 86_400;

const RECEIVER: [Role; 2] = [Role::Receive, Role::Release];

impl Scene {
    fn set_clock_ahead(&self, host: Host, ahead_s: i64) {
        self.world.set_clock_ahead(host, ahead_s).unwrap();
    }

    /// Waits until `status --check` shows an alarm, or no longer shows it; returns its line.
    fn await_alarm(&mut self, host: Host, code: &str, stands: bool) -> String {
        let view = self.state(host, "view");
        let what = format!("alarm {code}: {stands}");
        let wanted = format!("{code}: ");
        self.world
            .await_alive(&what, LIMIT, &[view], |world| {
                let told = world.run(host, &["status", "--check"])?.output;
                let line = told.lines().find(|line| line.starts_with(&wanted));
                let line = line.unwrap_or_default().to_owned();
                Ok((line.is_empty() != stands).then_some(line))
            })
            .unwrap()
    }

    /// Has a quarantined cable verified again; returns the exit status of the command.
    fn recheck(&self, serial: u64) -> i32 {
        let arguments = ["quarantine", "recheck", &serial.to_string()];
        self.world.run(Host::Receiver, &arguments).unwrap().status
    }
}

#[test]
fn the_receivers_clock_runs_ten_years_ahead_and_no_cable_is_lost_by_it() {
    let mut scene = Scene::with_clock(Host::Receiver, &RECEIVER);
    scene.set_clock_ahead(Host::Receiver, TEN_YEARS_S);
    // By that clock the cable and the years of its officers are over: it is held, with its slot, and not destroyed.
    let cable = scene.honest(1);
    scene.assert_all_held(1, &[("ten years late", "expired", cable)]);
    scene.await_alarm(Host::Receiver, "quarantine", true);
    let held = scene.audited(Role::Release, "quarantined");
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(held[0]["code"], "expired");
    // The clock is corrected. The times in the log keep "now" in the future, under an alarm, also after a restart.
    scene.set_clock_ahead(Host::Receiver, 0);
    scene.await_alarm(Host::Receiver, "clock", true);
    assert_eq!(scene.recheck(1), 1);
    scene.world.kill(Role::Release.word());
    scene.world.start_role(Role::Release).unwrap();
    scene.await_alarm(Host::Receiver, "clock", true);
    assert_eq!(scene.recheck(1), 1);
    scene.assert_nothing_visible();
    let accept = ["clock", "accept"];
    scene.world.expect(Host::Receiver, &accept).unwrap();
    scene.await_alarm(Host::Receiver, "clock", false);
    assert_eq!(scene.audited(Role::Release, "clock-accepted").len(), 1);
    // The true cable is released unchanged, and so is the next.
    assert_eq!(scene.recheck(1), 0);
    scene.await_state(1, "released");
    let released = scene.world.released().unwrap();
    assert_eq!(released.len(), 1);
    let part = released[0].folder.join("part-001.txt");
    assert_eq!(fs::read_to_string(part).unwrap(), MARKER);
    let next = scene.honest(2);
    scene.assert_honest_arrives(2, &next);
}

#[test]
fn the_receivers_clock_falls_ten_years_back_and_nothing_becomes_valid_again() {
    let mut scene = Scene::with_clock(Host::Receiver, &RECEIVER);
    let day_s = 86_400;
    let ago = |s: u64| UtcTime::from_s(now().as_s() - s);
    // The officer counted when they signed, and was revoked an hour ago, after the list's own time.
    let officer = format!(
        "keys = [{:?}]\n",
        scene.world.roster.officers[0].public_line()
    );
    let revoked = format!("{officer}revoked = \"{}\"\n", ago(3_600));
    scene.import(&scene.list(2, &[(&officer, &revoked)]));
    let mut manifest = scene.manifest(1);
    manifest.created = ago(2 * 3_600);
    let of_revoked = scene.signed_bytes(&manifest.encode().unwrap());
    let [_, two, three] = scene.world.roster.officers.clone();
    let of_others = |scene: &Scene, manifest: &valise_common::manifest::Manifest| {
        let bytes = manifest.encode().unwrap();
        let keys = [&two, &three];
        let raw = valise_tests::attack::sign(&scene.world, "cable-approval@valise", &bytes, &keys);
        scene.loot(manifest, raw.unwrap())
    };
    let mut manifest = scene.manifest(2);
    manifest.created = ago(5 * day_s);
    manifest.not_after = ago(60);
    let expired = of_others(&scene, &manifest);
    scene.set_clock_ahead(Host::Receiver, -TEN_YEARS_S);
    let told = scene.await_alarm(Host::Receiver, "clock", true);
    assert!(told.contains("clock accept"), "{told}");
    scene.assert_all_held(
        1,
        &[
            ("a revoked officer", "revoked", of_revoked),
            ("an expired cable", "expired", expired),
        ],
    );
    // Nor after a restart, when the log is the only source of the time.
    scene.world.kill(Role::Release.word());
    scene.world.start_role(Role::Release).unwrap();
    for serial in [1, 2] {
        assert_eq!(scene.recheck(serial), 1, "serial {serial}");
    }
    scene.assert_nothing_visible();
    assert_eq!(scene.audited(Role::Release, "rechecked").len(), 2);
    let alarms = scene.audited(Role::Release, "alarm");
    assert!(
        alarms.iter().any(|line| line["code"] == "clock"),
        "{alarms:?}"
    );
    // The clock is corrected: nothing more is needed.
    scene.set_clock_ahead(Host::Receiver, 0);
    scene.await_alarm(Host::Receiver, "clock", false);
    for serial in [1, 2] {
        assert_eq!(scene.recheck(serial), 1, "serial {serial}");
    }
    let honest = of_others(&scene, &scene.manifest(3));
    scene.assert_honest_arrives(3, &honest);
}

#[test]
fn the_senders_clock_jumps_ten_years_ahead_and_back_while_cables_wait_and_are_sent() {
    let mut scene = Scene::with_clock(Host::Sender, &Role::ALL);
    let [one, two] = scene.two_officers().map(Clone::clone);
    let cable = scene.cable("a cable");
    let id = scene.world.submit(&cable).unwrap();
    scene.world.approve(&id, &one).unwrap();
    scene.set_clock_ahead(Host::Sender, TEN_YEARS_S);
    let told = scene.await_alarm(Host::Sender, "clock-ahead", true);
    assert!(told.contains("clock accept"), "{told}");
    // The cable is not sealed in the wrong year, and is not ended either.
    scene.world.approve(&id, &two).unwrap_err();
    scene.world.submit(&scene.cable("another")).unwrap_err();
    assert!(scene.outbox().is_empty());
    assert_eq!(scene.audited(Role::Gate, "clock-leapt").len(), 1);
    assert!(scene.audited(Role::Gate, "expired").is_empty());
    scene.set_clock_ahead(Host::Sender, 0);
    scene.await_alarm(Host::Sender, "clock-ahead", false);
    scene.world.approve(&id, &two).unwrap();
    scene.world.await_released(&id, &cable, LIMIT).unwrap();

    // Back: expired cables stay expired, and revoked persons stay revoked. The alarm only asks to correct the clock.
    let mut brief = scene.cable("brief");
    brief.not_after = Some(now().plus_s(150).to_string());
    let brief = scene.world.submit(&brief).unwrap();
    scene.world.approve(&brief, &one).unwrap();
    // Such a small step ahead is not a leap, and after it is undone the clock is not before the log.
    scene.set_clock_ahead(Host::Sender, 200);
    let view = scene.state(Host::Sender, "view");
    scene
        .world
        .await_alive("expiry", LIMIT, &[view], |world| {
            let shown = world.json(Host::Sender, &["show", &brief])?;
            Ok((shown["state"] == "expired").then_some(()))
        })
        .unwrap();
    scene.set_clock_ahead(Host::Sender, 0);
    let waiting = scene.submit("waiting");
    let officer = format!("keys = [{:?}]\n", one.public_line());
    let an_hour_ago = UtcTime::from_s(now().as_s() - 3_600);
    let revoked = format!("{officer}revoked = \"{an_hour_ago}\"\n");
    scene.import(&scene.list(2, &[(&officer, &revoked)]));
    scene.set_clock_ahead(Host::Sender, -TEN_YEARS_S);
    scene.await_alarm(Host::Sender, "clock", true);
    for restarted in [false, true] {
        if restarted {
            scene.world.kill(Role::Gate.word());
            scene.world.start_role(Role::Gate).unwrap();
        }
        scene.world.approve(&brief, &two).unwrap_err();
        scene.world.approve(&waiting, &one).unwrap_err();
        scene.world.submit(&scene.cable("another")).unwrap_err();
    }
    assert_eq!(scene.world.released().unwrap().len(), 1);
    scene.set_clock_ahead(Host::Sender, 0);
    scene.await_alarm(Host::Sender, "clock", false);
    let three = scene.world.roster.officers[2].clone();
    for officer in [&two, &three] {
        scene.world.approve(&waiting, officer).unwrap();
    }
    let submission = scene.cable("waiting");
    scene
        .world
        .await_released(&waiting, &submission, LIMIT)
        .unwrap();
    assert_eq!(scene.world.released().unwrap().len(), 2);
}
