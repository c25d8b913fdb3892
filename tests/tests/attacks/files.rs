//! Links, pipes and folders that somebody planted where the hosts read and write. The attacker has the daemons' own
//! user here, which is more than any writer of `requests/` has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use valise_tests::harness::{Host, Role, Settings};

use crate::scene::{LIMIT, Scene};

const SECRET: &str = "a secret that lies outside of the state";

/// Files that no host may read, change or delete.
struct Outside {
    folder: PathBuf,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

impl Outside {
    fn new(scene: &Scene) -> Self {
        let folder = scene.world.folder().join("outside");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        let files = [
            "secret",
            "secret-with-two-names",
            "folder/1-secret",
            "folder/secret.container",
        ];
        for file in files {
            fs::write(folder.join(file), SECRET).unwrap();
        }
        let before = contents(&folder);
        Self { folder, before }
    }

    fn secret(&self) -> PathBuf {
        self.folder.join("secret")
    }

    /// Asserts that nothing outside was changed, and nothing was added to it.
    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(contents(&self.folder), self.before);
    }

    /// Plants foreign files at these places, one after another: links to a file, to a folder, to nothing and to a
    /// device, a second name of a file, a pipe and a folder.
    fn plant_all(&self, mut place: impl FnMut(usize) -> PathBuf) {
        symlink(self.secret(), place(0)).unwrap();
        symlink(self.folder.join("folder"), place(1)).unwrap();
        symlink(self.folder.join("nothing"), place(2)).unwrap();
        symlink("/dev/zero", place(3)).unwrap();
        // Another file than the first, which would be refused for its number of names.
        fs::hard_link(self.folder.join("secret-with-two-names"), place(4)).unwrap();
        let pipe = place(5);
        mkfifo(&pipe, Mode::S_IRWXU | Mode::S_IRWXG).unwrap();
        let folder = place(6);
        fs::create_dir(&folder).unwrap();
        symlink(self.secret(), folder.join("link")).unwrap();
        // The owner of the folder plants these, and owns them.
        let owner = fs::metadata(pipe.parent().unwrap()).unwrap();
        for planted in [pipe, folder.join("link"), folder] {
            lchown(planted, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(contents(&path));
        }
        let bytes = fs::read(&path).unwrap_or_default();
        found.insert(path, bytes);
    }
    found
}

#[test]
fn somebody_plants_containers_in_the_inbox_that_are_none() {
    let mut scene = Scene::receiver();
    let outside = Outside::new(&scene);
    let inbox = scene.state(Host::Receiver, "inbox");
    let quarantine = scene.state(Host::Receiver, "quarantine");
    for folder in [&inbox, &quarantine] {
        outside.plant_all(|number| {
            folder.join(format!("{}-{}.container", number + 1, "ab".repeat(12)))
        });
    }
    // The daemon is alive and works in spite of all of that, also after a restart.
    let honest = scene.honest(1);
    scene.assert_honest_arrives(20, &honest);
    scene.world.kill("release");
    scene.world.start_role(Role::Release).unwrap();
    let honest = scene.honest(2);
    scene.assert_honest_arrives(21, &honest);
    outside.assert_untouched();
    let list = scene.world.json(Host::Receiver, &["list"]).unwrap();
    for entry in list.as_array().unwrap() {
        let (serial, state) = (entry["serial"].as_u64().unwrap(), &entry["state"]);
        assert!(
            serial >= 20 || !matches!(state.as_str(), Some("released" | "quarantined")),
            "{entry}"
        );
    }
}

#[test]
fn somebody_plants_a_way_out_of_the_mailboxes() {
    let mut scene = Scene::receiver();
    let outside = Outside::new(&scene);
    let released = scene.world.released_folder();
    // The mailbox itself leads outside.
    let _ = fs::remove_dir(released.join("paris-desk"));
    symlink(outside.folder.join("folder"), released.join("paris-desk")).unwrap();
    // So do the names under which cables are staged and published.
    let manifest = scene.manifest(1);
    let stage = released.join(".stage");
    for name in [
        format!("paris-desk-1-{}", manifest.message_id),
        format!("1-{}-paris-desk", manifest.message_id),
    ] {
        let _ = symlink(outside.folder.join("folder"), stage.join(name));
    }
    let bytes = manifest.encode().unwrap();
    let loot = scene.signed_bytes(&bytes);
    scene.deliver(1, &loot);
    // Another mailbox still gets its cables.
    let mut other = scene.manifest(2);
    other.to = vec!["rome-desk".parse().unwrap()];
    let other = scene.signed_bytes(&other.encode().unwrap());
    scene.deliver(2, &other);
    let log = scene.world.state(Host::Receiver).join("view");
    let seen = scene
        .world
        .await_alive("an outcome", LIMIT, &[log], |world| {
            let list = world.json(Host::Receiver, &["list"])?;
            let states: Vec<String> = list
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["state"].as_str().unwrap().to_owned())
                .collect();
            Ok((states.len() == 2 && states[1] == "released").then_some(states))
        });
    outside.assert_untouched();
    // If the process ended, it reported where; if it continued, the mailbox became a folder of its own.
    if let Err(error) = seen {
        let error = error.to_string();
        assert!(error.contains("released"), "{error}");
        fs::remove_file(released.join("paris-desk")).unwrap();
        scene.world.kill("release");
        scene.world.start_role(Role::Release).unwrap();
    } else if released.join("paris-desk").is_symlink() {
        fs::remove_file(released.join("paris-desk")).unwrap();
        scene.world.kill("release");
        scene.world.start_role(Role::Release).unwrap();
    }
    scene.await_state(1, "released");
    scene.await_state(2, "released");
    assert!(!released.join("paris-desk").is_symlink());
    assert_eq!(scene.world.released().unwrap().len(), 2);
    outside.assert_untouched();
}

/// The place of a role's view; it is empty now.
fn place_of_view(scene: &Scene, role: Role) -> PathBuf {
    let view = scene.state(role.host(), &format!("view/{}.json", role.word()));
    let _ = fs::remove_file(&view);
    view
}

#[test]
fn somebody_plants_links_where_views_temporary_files_and_sets_are_written() {
    let mut scene = Scene::with(Settings::default(), &[]);
    let outside = Outside::new(&scene);
    // From the user of each role: no other user may put anything in the place of its view.
    for role in Role::ALL {
        let view = place_of_view(&scene, role);
        symlink(outside.secret(), &view).unwrap();
        scene.world.give_to(role, &view).unwrap();
    }
    for (host, folders) in [
        (
            Host::Receiver,
            &["tmp/receive", "tmp/release", "assembly", "released/.stage"][..],
        ),
        (
            Host::Sender,
            &["tmp/gate", "tmp/transmit", "pending", "progress", "outbox"],
        ),
    ] {
        for folder in folders {
            let folder = scene.state(host, folder);
            fs::create_dir_all(&folder).unwrap();
            let names = |number: usize| match folder.file_name().unwrap().to_str().unwrap() {
                "pending" => format!("{number:032x}"),
                "progress" => format!("{}", number + 40),
                "outbox" => format!("0-{}-4102444800.container", number + 40),
                _ => format!("{}-planted", number + 40),
            };
            outside.plant_all(|number| folder.join(names(number)));
        }
    }
    for role in Role::ALL {
        scene.world.start_role(role).unwrap();
    }
    outside.assert_untouched();
    let submission = scene.cable("a cable");
    let id = scene.world.send(&submission).unwrap();
    scene.world.await_released(&id, &submission, LIMIT).unwrap();
    scene.await_state(1, "released");
    assert_eq!(scene.world.released().unwrap().len(), 1);
    outside.assert_untouched();
    for role in Role::ALL {
        scene.world.stop(role.word()).unwrap();
    }
    outside.assert_untouched();
}

#[test]
fn a_drafter_submits_links_to_what_he_may_not_read() {
    let mut scene = Scene::with(Settings::default(), &[Role::Gate]);
    let outside = Outside::new(&scene);
    let requests = scene.state(Host::Sender, "requests");
    let text = "request = \"submit\"\nlabel = \"EU-RESTRICTED\"\nto = [\"paris-desk\"]\n\
                precedence = \"routine\"\nsubject = \"s\"\n";
    outside.plant_all(|number| {
        let name = format!("linked-{number}");
        scene
            .world
            .write_request(Host::Sender, &name, text, &[])
            .unwrap();
        requests.join(format!(".{name}/part.txt"))
    });
    // First the text of the request, then the request itself.
    for (name, target) in [
        ("text", outside.secret()),
        ("whole", outside.folder.join("folder")),
    ] {
        let hidden = requests.join(format!(".linked-{name}"));
        match name {
            "text" => {
                fs::create_dir(&hidden).unwrap();
                symlink(target, hidden.join("request.toml")).unwrap();
            }
            _ => symlink(target, &hidden).unwrap(),
        }
    }
    for number in 0..7 {
        let name = format!("linked-{number}");
        fs::rename(requests.join(format!(".{name}")), requests.join(&name)).unwrap();
        let told = scene.await_answer(Host::Sender, &name).unwrap_err();
        let wanted = match number {
            4 => "more than one link",
            _ => "regular files only",
        };
        assert!(told.contains(wanted), "{name}: {told}");
    }
    for name in ["linked-text", "linked-whole"] {
        fs::rename(requests.join(format!(".{name}")), requests.join(name)).unwrap();
    }
    let told = scene.await_answer(Host::Sender, "linked-text").unwrap_err();
    assert!(told.contains("regular files only"), "{told}");
    // A link is not a request. A later request is answered, so the link has been skipped.
    let submission = scene.cable("a cable");
    scene.world.send(&submission).unwrap();
    scene.await_sealed(1);
    outside.assert_untouched();
    let state = scene.world.state(Host::Sender);
    scene.world.await_erased().unwrap();
    let found = valise_tests::attack::files_that_hold(&state, SECRET.as_bytes());
    // The hard link is the attacker's own name of the file, where the attacker put it.
    let elsewhere = found.iter().filter(|path| !path.starts_with(&requests));
    assert_eq!(elsewhere.count(), 0, "{found:?}");
    assert!(requests.join("linked-whole").is_symlink());
}

#[test]
fn somebody_puts_a_link_in_the_place_of_a_folder_of_the_state() {
    let mut scene = Scene::with(Settings::default(), &[]);
    let outside = Outside::new(&scene);
    let folder = outside.folder.join("folder");
    let mut running: Vec<PathBuf> = Vec::new();
    let cases = [
        (
            Role::Gate,
            &[
                "requests", "pending", "outbox", "tmp/gate", "slots", "trust",
            ][..],
        ),
        (Role::Transmit, &["progress", "tmp/transmit", "keys/link"]),
        (Role::Receive, &["inbox", "assembly", "tmp/receive"]),
        (
            Role::Release,
            &["released", "quarantine", "tmp/release", "released/.stage"],
        ),
    ];
    for (role, places) in cases {
        for place in places {
            let place = scene.state(role.host(), place);
            let aside = place.with_extension("aside");
            let had = place.exists();
            if had {
                fs::rename(&place, &aside).unwrap();
            }
            symlink(&folder, &place).unwrap();
            match scene.world.start_role(role) {
                Err(error) => {
                    let error = error.to_string();
                    let name = place.file_name().unwrap().to_str().unwrap();
                    assert!(error.contains(name), "{}: {error}", place.display());
                }
                Ok(()) => running.push(place.clone()),
            }
            scene.world.kill(role.word());
            outside.assert_untouched();
            fs::remove_file(&place).unwrap();
            if had {
                fs::rename(&aside, &place).unwrap();
            }
        }
    }
    assert!(
        running.is_empty(),
        "a process runs with these as links: {running:#?}"
    );
    // After the repair the roles start, and a cable arrives.
    for role in Role::ALL {
        scene.world.start_role(role).unwrap();
    }
    let submission = scene.cable("a cable");
    let id = scene.world.send(&submission).unwrap();
    scene.world.await_released(&id, &submission, LIMIT).unwrap();
    outside.assert_untouched();
}

#[test]
fn somebody_plants_files_where_logs_and_slots_are_and_pipes_for_the_views() {
    let mut scene = Scene::with(Settings::default(), &[]);
    let outside = Outside::new(&scene);
    let hosts = [
        (Host::Sender, "gate", "transmit"),
        (Host::Receiver, "release", "receive"),
    ];
    for (host, inner, outer) in hosts {
        // Next to the existing files: names that start-up could mistake for its own.
        for (folder, names) in [
            (
                "audit",
                [format!("{inner}.torn-1"), format!("{outer}.torn-1")],
            ),
            ("slots", ["77.slots".to_owned(), "78.old".to_owned()]),
        ] {
            let folder = scene.state(host, folder);
            fs::create_dir_all(&folder).unwrap();
            symlink(outside.secret(), folder.join(&names[0])).unwrap();
            fs::hard_link(outside.secret(), folder.join(&names[1])).unwrap();
        }
    }
    // Nobody writes into a pipe without a reader: a role that waits for its reader would show nothing more.
    for role in Role::ALL {
        let view = place_of_view(&scene, role);
        mkfifo(&view, Mode::S_IRWXU).unwrap();
        scene.world.give_to(role, &view).unwrap();
    }
    for role in Role::ALL {
        scene.world.start_role(role).unwrap();
    }
    outside.assert_untouched();
    let submission = scene.cable("a cable");
    let id = scene.world.send(&submission).unwrap();
    scene.world.await_released(&id, &submission, LIMIT).unwrap();
    scene.await_state(1, "released");
    outside.assert_untouched();
    for (host, inner, outer) in hosts {
        for role in [inner, outer] {
            let view = scene.state(host, &format!("view/{role}.json"));
            assert!(fs::symlink_metadata(&view).unwrap().is_file());
        }
        scene.world.expect(host, &["audit", "verify"]).unwrap();
    }
    for role in Role::ALL {
        scene.world.stop(role.word()).unwrap();
    }
    outside.assert_untouched();
}
