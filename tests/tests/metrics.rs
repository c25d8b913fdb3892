//! The files of a real run for a monitor: in Prometheus's text format, without anything confidential.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use valise_tests::harness::{Host, Programs, Role, Settings, Submission, World};

const LIMIT: Duration = Duration::from_secs(60);
const SUBJECT: &str = "Confidential-Subject";
const FILE: &str = "confidential-name.txt";

/// The samples of a file, by name and labels.
type Samples = BTreeMap<String, f64>;

/// Reads the text format, version 0.0.4, as strictly as these files require.
fn parse(text: &str) -> Samples {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'_')
    };
    let mut types = BTreeMap::new();
    let mut samples = Samples::new();
    assert!(text.ends_with('\n'), "{text}");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && name.starts_with("valise_"), "{line}");
            assert!(matches!(kind, "gauge" | "counter"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(
                types.insert(name.to_owned(), kind).is_none(),
                "twice: {line}"
            );
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = key.split_once('{').unwrap();
        assert!(types.contains_key(name), "no type: {line}");
        let labels = labels.strip_suffix('}').unwrap();
        for label in labels.split(',') {
            let (name, value) = label.split_once('=').unwrap();
            assert!(is_name(name), "{line}");
            assert!(
                value.len() > 2 && value.starts_with('"') && value.ends_with('"'),
                "{line}"
            );
        }
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0 && value.is_finite(), "{line}");
        assert!(
            samples.insert(key.to_owned(), value).is_none(),
            "twice: {line}"
        );
    }
    samples
}

fn read(folder: &Path, role: Role) -> Option<String> {
    let path = folder.join(format!("valise-{}.prom", role.word()));
    let mode = fs::metadata(&path).ok()?.permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    fs::read_to_string(path).ok()
}

#[test]
fn each_role_writes_figures_that_prometheus_reads_and_nothing_confidential() {
    let outside = tempfile::tempdir().unwrap();
    // If the system has the users, each role runs as its own.
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let extra = format!("[metrics]\nfolder = '{}'\n", outside.path().display());
    let settings = Settings {
        sender_extra: extra.clone(),
        receiver_extra: extra,
        ..Settings::default()
    };
    let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
    world.start_roles().unwrap();
    let file = world.generate_file(FILE, 50_000, 1).unwrap();
    let submission = Submission::new(SUBJECT, &[file]);
    let id = world.send(&submission).unwrap();
    world.await_released(&id, &submission, LIMIT).unwrap();
    let samples =
        |role: Role| read(outside.path(), role).map_or_else(Samples::new, |text| parse(&text));
    let folders = [outside.path().to_owned()];
    let mut await_sample = |role: Role, sample: &str| {
        let key = sample.replace("ROLE", role.word());
        world
            .await_alive(&key, LIMIT, &folders, |_| {
                let value = samples(role).get(&key).copied();
                Ok(value.filter(|value| *value >= 1.0))
            })
            .unwrap()
    };
    for (role, sample) in [
        (
            Role::Gate,
            "valise_cables{role=\"ROLE\",state=\"transmitted\"}",
        ),
        (Role::Gate, "valise_slots_left{role=\"ROLE\"}"),
        (
            Role::Transmit,
            "valise_datagrams_sent_total{role=\"ROLE\",kind=\"symbol\"}",
        ),
        (
            Role::Transmit,
            "valise_link_sent_bytes_total{role=\"ROLE\"}",
        ),
        (Role::Transmit, "valise_link_up{role=\"ROLE\"}"),
        (
            Role::Receive,
            "valise_datagrams_received_total{role=\"ROLE\",kind=\"beacon\"}",
        ),
        (
            Role::Receive,
            "valise_containers_completed_total{role=\"ROLE\"}",
        ),
        (
            Role::Release,
            "valise_containers_judged_total{role=\"ROLE\",outcome=\"released\"}",
        ),
        (
            Role::Release,
            "valise_cables{role=\"ROLE\",state=\"decided\"}",
        ),
    ] {
        await_sample(role, sample);
    }
    for role in Role::ALL {
        for name in [
            "view_timestamp_seconds",
            "process_start_time_seconds",
            "disk_free_bytes",
        ] {
            await_sample(role, &format!("valise_{name}{{role=\"ROLE\"}}"));
        }
    }
    // An alarm, with its beginning.
    world.kill("receive");
    let alarm = "{role=\"release\",alarm=\"receive-not-running\",about=\"receive\"}";
    world
        .await_alive("the alarm", LIMIT, &folders, |_| {
            let samples = samples(Role::Release);
            let is_raised = samples.get(&format!("valise_alarm{alarm}")) == Some(&1.0);
            let since = samples.get(&format!("valise_alarm_since_timestamp_seconds{alarm}"));
            Ok((is_raised && since.is_some_and(|since| *since > 1e9)).then_some(()))
        })
        .unwrap();
    // At rest: a file that a role is writing would be gone before it is read.
    for role in [Role::Gate, Role::Transmit, Role::Release] {
        world.stop(role.word()).unwrap();
    }
    let key = fs::read_to_string(world.configuration(Host::Sender)).unwrap();
    let persons = key
        .lines()
        .filter_map(|line| line.split_once(" = \"")?.1.strip_suffix('"'));
    let persons = persons.filter(|value| value.contains('.') && !value.contains([' ', ':', '/']));
    let confidential: Vec<&str> = [SUBJECT, FILE, "confidential", id.as_str(), "paris-desk"]
        .into_iter()
        .chain(persons)
        .collect();
    for entry in fs::read_dir(outside.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            name.ends_with(".prom") || name.ends_with(".prom.new"),
            "{name}"
        );
        let text = fs::read_to_string(path).unwrap();
        for word in &confidential {
            assert!(!text.contains(word), "{word} in {name}: {text}");
        }
    }
}
