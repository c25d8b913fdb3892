#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::*;
use crate::units::UtcTime;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Named {
        number: u64,
        name: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Name {
    number: u64,
    name: String,
}

impl Row for Name {
    const KIND: &'static str = "name";

    fn key(&self) -> String {
        number_key(self.number)
    }

    fn alias(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn state(&self) -> Option<&'static str> {
        (self.number % 2 == 1).then_some("odd")
    }

    fn place(&self) -> u64 {
        self.number
    }
}

struct World {
    folder: tempfile::TempDir,
    log: AuditLog,
    layout: i64,
    is_shared: bool,
}

impl World {
    /// A log with as many names.
    fn new(count: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = AuditLog::create(folder.path(), "gate", "valise/01/gate").unwrap();
        let mut world = Self {
            folder,
            log,
            layout: 1,
            is_shared: false,
        };
        (0..count).for_each(|number| world.append(number));
        world
    }

    fn append(&mut self, number: u64) {
        let name = format!("name {number}");
        let named = Event::Named { number, name };
        self.log.append_event(UtcTime::EPOCH, &named);
        self.log.commit().unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("register.db")
    }

    fn place<T>(&self, with: impl FnOnce(&Place<'_>) -> T) -> T {
        with(&Place {
            path: &self.path(),
            role: Role::Gate,
            layout: self.layout,
            readers: self.is_shared.then_some(self.folder.path()),
        })
    }

    fn open(&self) -> Result<(Index, bool), IndexError> {
        let take = |index: &mut Index, lines: &[Recorded<Event>]| {
            let known = lines.last().unwrap().seq + 1;
            index.store(known, |rows| {
                lines.iter().try_for_each(|line| match &line.event {
                    Event::Named { number, name } => rows.put(&Name {
                        number: *number,
                        name: name.clone(),
                    }),
                    Event::Other => Ok(()),
                })
            })
        };
        self.place(|place| Index::follow(&self.log, place, Ok, take))
    }

    /// The numbers in the register as it is, without the log.
    fn read(&self) -> Result<Vec<u64>, IndexError> {
        self.place(|place| numbers(&Index::open(place)?))
    }
}

fn numbers(index: &Index) -> Result<Vec<u64>, IndexError> {
    let names: Vec<Name> = index.all()?;
    Ok(names.iter().map(|name| name.number).collect())
}

#[test]
fn the_register_follows_the_log() {
    let mut world = World::new(ROLL_LINES as u64 + 2);
    let all: Vec<u64> = (0..world.log.next_seq()).collect();
    let (index, is_rebuilt) = world.open().unwrap();
    assert_eq!((numbers(&index).unwrap(), is_rebuilt), (all.clone(), true));
    drop(index);
    world.log.append(UtcTime::EPOCH, "of-a-newer-program", &[]);
    world.append(5_000);
    let (index, is_rebuilt) = world.open().unwrap();
    assert_eq!(
        (numbers(&index).unwrap(), is_rebuilt),
        ([all, vec![5_000]].concat(), false)
    );
    assert_eq!(index.known().unwrap(), world.log.next_seq());
    let odd: Vec<Name> = index.in_state("odd", 2).unwrap();
    let odd: Vec<u64> = odd.iter().map(|name| name.number).collect();
    assert_eq!(odd, [1_001, 999]);
    let name: Name = index.by_alias("name 7").unwrap().unwrap();
    assert_eq!(index.get(&number_key(7)).unwrap(), Some(name));
    assert_eq!(index.by_alias::<Name>("name 6000").unwrap(), None);
}

#[test]
fn a_row_can_be_changed_and_what_is_not_committed_is_not_there() {
    let world = World::new(2);
    let (mut index, _) = world.open().unwrap();
    let change = |rows: &Rows<'_>| {
        rows.change(&number_key(1), |row: &mut Name| row.name.push('!'))?;
        rows.change(&number_key(9), |row: &mut Name| row.name.push('!'))
    };
    let failed = index.store(3, |rows| {
        change(rows)?;
        Err(rows.damaged("test"))
    });
    assert!(failed.is_err());
    assert!(index.by_alias::<Name>("name 1!").unwrap().is_none());
    assert_eq!(index.known().unwrap(), 2);
    index.store(3, change).unwrap();
    assert!(index.by_alias::<Name>("name 1!").unwrap().is_some());
    assert_eq!(index.known().unwrap(), 3);
    let keys = index.keys::<Name>().unwrap();
    assert_eq!(keys, [number_key(0), number_key(1)]);
}

#[test]
fn a_log_that_was_cut_is_refused_and_the_register_is_kept() {
    let world = World::new(3);
    world.open().unwrap();
    let shorter = World::new(2);
    fs::copy(world.path(), shorter.path()).unwrap();
    let error = shorter.open().unwrap_err();
    let IndexError::Log(AuditLogError::Cut { log, register }) = error else {
        panic!("{error}");
    };
    assert_eq!((log, register), (2, 3));
    assert_eq!(shorter.read().unwrap(), [0, 1, 2]);
}

#[test]
fn a_register_of_another_layout_is_built_again() {
    let mut world = World::new(3);
    world.open().unwrap();
    world.layout = 2;
    let error = world.place(Index::open_to_read).unwrap_err();
    assert!(error.to_string().contains("of another version (layout)"));
    let (index, is_rebuilt) = world.open().unwrap();
    assert_eq!(
        (numbers(&index).unwrap(), is_rebuilt),
        (vec![0, 1, 2], true)
    );
}

#[test]
fn whatever_is_in_its_place_goes_and_the_log_builds_it_again() {
    let world = World::new(3);
    let (path, other) = (world.path(), world.folder.path().join("other"));
    let plant: [&dyn Fn(); 4] = [
        &|| fs::write(&path, [0x55; 5_000]).unwrap(),
        &|| fs::write(&path, []).unwrap(),
        &|| symlink(&other, &path).unwrap(),
        &|| fs::create_dir_all(path.join("folder")).unwrap(),
    ];
    fs::write(&other, []).unwrap();
    for plant in plant {
        world.place(|place| place.remove()).unwrap();
        plant();
        let (index, is_rebuilt) = world.open().unwrap();
        assert_eq!(
            (numbers(&index).unwrap(), is_rebuilt),
            (vec![0, 1, 2], true)
        );
        assert!(path.symlink_metadata().unwrap().is_file());
    }
    assert!(fs::read(&other).unwrap().is_empty());
}

#[test]
fn only_its_owner_and_its_readers_may_read_it() {
    let mut world = World::new(1);
    for (is_shared, mode) in [(false, 0o600), (true, 0o640)] {
        world.is_shared = is_shared;
        world.place(|place| place.remove()).unwrap();
        // As a kill between its creation and its mode leaves it, or an older version.
        fs::write(world.path(), []).unwrap();
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o604)).unwrap();
        let (index, _) = world.open().unwrap();
        for suffix in ["", "-wal", "-shm"] {
            let file = world.place(|place| place.file(suffix));
            assert_eq!(file.metadata().unwrap().mode() & 0o777, mode, "{suffix}");
        }
        // While its owner has it open, and at rest.
        let reader = world.place(Index::open_to_read).unwrap();
        assert_eq!(numbers(&reader).unwrap(), [0]);
        drop((index, reader));
        let reader = world.place(Index::open_to_read).unwrap();
        assert_eq!(numbers(&reader).unwrap(), [0]);
    }
}

#[test]
fn a_flipped_bit_never_changes_what_is_read() {
    let world = World::new(40);
    world.open().unwrap();
    let whole = world.read().unwrap();
    let bytes = fs::read(world.path()).unwrap();
    let mut damaged = 0;
    for place in (0..bytes.len()).step_by(29) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 8);
        world.place(|place| place.remove()).unwrap();
        fs::write(world.path(), &flipped).unwrap();
        match world.read() {
            Ok(found) => assert_eq!(found, whole, "byte {place}"),
            Err(error) => {
                assert!(error.is_damage(), "byte {place}: {error}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 100, "{damaged} of {}", bytes.len());
}
