//! Somebody recorded the whole link and replays it.

use std::fs;

use valise_tests::attack::Recorder;
use valise_tests::harness::{Host, Line, Role, Settings};

use crate::scene::{LIMIT, Scene};

fn tapped() -> (Scene, Recorder) {
    let settings = Settings {
        line: Line::Tapped,
        ..Settings::default()
    };
    let mut scene = Scene::with(settings, &[]);
    let recorder = Recorder::start(&scene.world).unwrap();
    for role in Role::ALL {
        scene.world.start_role(role).unwrap();
    }
    (scene, recorder)
}

/// Datagrams that receive has read since it was started, with any result.
fn read_so_far(view: &serde_json::Value) -> u64 {
    let counters = view["counters"].as_object();
    let dropped: u64 = counters.map_or(0, |counters| {
        counters
            .values()
            .filter_map(serde_json::Value::as_u64)
            .sum()
    });
    let of = |name: &str| view[name].as_u64().unwrap_or(0);
    dropped + of("symbols") + of("beacons") + of("covers") + of("kernel_drops")
}

/// Replays the recording and waits until receive has read all of it.
fn replay(scene: &mut Scene, recorder: &Recorder) {
    let before = scene
        .world
        .view(Role::Receive)
        .map_or(0, |view| read_so_far(&view));
    let count = u64::try_from(recorder.replay().unwrap()).unwrap();
    assert!(count > 20, "there is something on the tape");
    let folder = scene.state(Host::Receiver, "view");
    scene
        .world
        .await_alive("the replay", LIMIT, &[folder], |world| {
            let read = world
                .view(Role::Receive)
                .map_or(0, |view| read_so_far(&view));
            Ok((read >= before + count).then_some(()))
        })
        .unwrap();
}

/// Sends a cable and waits for its release.
fn send(scene: &mut Scene, subject: &str) {
    let submission = scene.cable(subject);
    let id = scene.world.send(&submission).unwrap();
    scene.world.await_released(&id, &submission, LIMIT).unwrap();
}

#[test]
fn somebody_replays_the_link_before_and_after_a_restart() {
    let (mut scene, recorder) = tapped();
    for subject in ["one", "two"] {
        send(&mut scene, subject);
    }
    let outbox = scene.state(Host::Sender, "view");
    scene
        .world
        .await_alive("the last pass", LIMIT, &[outbox], |world| {
            let list = world.json(Host::Sender, &["list"])?;
            let mut states = list.as_array().unwrap().iter();
            Ok(states
                .all(|entry| matches!(entry["state"].as_str(), Some("transmitted" | "retained")))
                .then_some(()))
        })
        .unwrap();
    // Readers have taken the cables away, so every cable that appears from here on is there for a second time.
    let taken = scene.world.folder().join("taken");
    fs::create_dir(&taken).unwrap();
    for released in scene.world.released().unwrap() {
        fs::rename(&released.folder, taken.join(released.serial.to_string())).unwrap();
    }
    replay(&mut scene, &recorder);
    for role in ["receive", "release"] {
        scene.world.kill(role);
    }
    // Even without receive's list of completed containers, only the collecting is done again.
    fs::remove_file(scene.state(Host::Receiver, "assembly/completed")).unwrap();
    for role in [Role::Receive, Role::Release] {
        scene.world.start_role(role).unwrap();
    }
    replay(&mut scene, &recorder);
    for _ in 0..2 {
        assert_eq!(scene.world.released().unwrap(), [], "released twice");
        send(&mut scene, "an honest one");
        for released in scene.world.released().unwrap() {
            let to = taken.join(format!("{}-{}", released.serial, released.message_id));
            fs::rename(&released.folder, to).unwrap();
        }
    }
    // The line of the log follows the folder's appearance.
    let folder = scene.state(Host::Receiver, "view");
    scene
        .world
        .await_alive("the last line", LIMIT, &[folder], |world| {
            let list = world.json(Host::Receiver, &["list"])?;
            let mut states = list.as_array().unwrap().iter();
            Ok(states
                .all(|entry| entry["state"] == "released")
                .then_some(()))
        })
        .unwrap();
    for event in ["publishing", "released"] {
        assert_eq!(scene.audited(Role::Release, event).len(), 4, "{event}");
    }
}

#[test]
fn somebody_replays_a_session_of_a_link_key_that_was_retired() {
    let (mut scene, recorder) = tapped();
    send(&mut scene, "one");
    let next = scene.next_bundle();
    // The recording up to here is under the old key.
    scene.world.kill("transmit");
    let tape = recorder.tape();
    scene
        .world
        .expect(Host::Sender, &["bundle", "import", &next])
        .unwrap();
    scene
        .world
        .expect(Host::Receiver, &["link-key", "retire", "1"])
        .unwrap();
    scene.world.start_role(Role::Transmit).unwrap();
    send(&mut scene, "under the new key");
    // The sets of the old key are gone with it, and none of them comes back. From here on only the recording is sent: a
    // pass of the last cable might otherwise still be on the link.
    scene.world.kill("transmit");
    fs::remove_file(scene.state(Host::Receiver, "assembly/completed")).unwrap();
    scene.world.kill("receive");
    scene.world.start_role(Role::Receive).unwrap();
    valise_tests::attack::transmit(&tape, scene.world.receiver_address()).unwrap();
    let count = u64::try_from(tape.len()).unwrap();
    let folder = scene.state(Host::Receiver, "view");
    let view = scene
        .world
        .await_alive("the replay", LIMIT, &[folder], |world| {
            let view = world.view(Role::Receive).unwrap_or_default();
            let unknown = view["counters"]["key-unknown"].as_u64().unwrap_or(0);
            let lost = view["kernel_drops"].as_u64().unwrap_or(0);
            Ok((unknown + lost >= count).then_some(view))
        })
        .unwrap();
    assert_eq!(view["symbols"], 0, "{view}");
    assert_eq!(scene.world.released().unwrap().len(), 2);
    scene.world.start_role(Role::Transmit).unwrap();
    send(&mut scene, "three");
    assert_eq!(scene.world.released().unwrap().len(), 3);
}
