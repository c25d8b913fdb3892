#![allow(clippy::unwrap_used, clippy::as_conversions)]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use nix::fcntl::{FallocateFlags, fallocate};
use valise_common::os::durable::{exchange, rename_new};

use super::*;
use crate::harness::remark;

mod programs;

/// A mounted disk.
struct World {
    disk: Disk,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::of(&Image::empty())
    }

    fn of(image: &Image) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::mount(image, folder.path()).unwrap();
        Self { disk, folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn sync_dir(&self, path: &str) {
        File::open(self.path(path)).unwrap().sync_all().unwrap();
    }

    /// Everything that many cuts leave of a file, `None` where the name is gone.
    fn outcomes(&self, path: &str) -> BTreeSet<Option<Vec<u8>>> {
        let cut = |seed| self.disk.power_cut(&mut Prng::new(seed)).read(path).ok();
        (0..400).map(cut).collect()
    }

    fn durable(&self, path: &str, bytes: &[u8]) -> File {
        fs::write(self.path(path), bytes).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(path))
            .unwrap();
        file.sync_all().unwrap();
        self.sync_dir("");
        file
    }
}

/// Whether this user may not mount a disk. That is remarked.
fn is_skipped() -> bool {
    let is_skipped = !nix::unistd::geteuid().is_root();
    if is_skipped {
        remark("no disk is simulated: only root mounts one");
    }
    is_skipped
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

#[test]
fn a_synced_file_without_its_synced_directory_may_lose_its_name_but_no_byte() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let mut file = File::create(world.path("a")).unwrap();
    file.write_all(b"text").unwrap();
    let torn = [None, some(b""), some(b"text"), some(&[0; 4])];
    assert_eq!(world.outcomes("a"), BTreeSet::from(torn));
    file.sync_all().unwrap();
    assert_eq!(world.outcomes("a"), BTreeSet::from([None, some(b"text")]));
    world.sync_dir("");
    assert_eq!(world.outcomes("a"), BTreeSet::from([some(b"text")]));
}

#[test]
fn a_renamed_file_has_one_of_its_names() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    for folder in ["tmp", "out"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    world.sync_dir("");
    let _file = world.durable("tmp/a", b"text");
    world.sync_dir("tmp");
    fs::rename(world.path("tmp/a"), world.path("out/b")).unwrap();
    let names = |seed| {
        let image = world.disk.power_cut(&mut Prng::new(seed));
        (image.exists("tmp/a"), image.exists("out/b"))
    };
    let seen: BTreeSet<_> = (0..200).map(names).collect();
    assert_eq!(seen, BTreeSet::from([(true, false), (false, true)]));
    // A sync of either directory takes both along.
    world.sync_dir("tmp");
    assert!((0..200).map(names).all(|seen| seen == (false, true)));
}

#[test]
fn a_removed_directory_took_along_what_was_moved_out_of_it() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    fs::create_dir(world.path("d")).unwrap();
    let _file = world.durable("d/a", b"text");
    world.sync_dir("d");
    fs::rename(world.path("d/a"), world.path("a")).unwrap();
    fs::remove_dir(world.path("d")).unwrap();
    for seed in 0..200 {
        let image = world.disk.power_cut(&mut Prng::new(seed));
        assert!(image.exists("a") != image.exists("d/a"));
    }
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let _old = world.durable("a", b"old");
    let new = world.durable("b", b"new");
    drop(new);
    fs::rename(world.path("b"), world.path("a")).unwrap();
    assert_eq!(
        world.outcomes("a"),
        BTreeSet::from([some(b"old"), some(b"new")])
    );
}

#[test]
fn unsynced_writes_are_kept_lost_or_torn_between_synced_ones() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let file = world.durable("a", &[1; 1536]);
    file.write_all_at(&[2; 1024], 512).unwrap();
    let kept = |sectors: [u8; 3]| some(&sectors.map(|sector| [sector; 512]).concat());
    let expected = [kept([1, 1, 1]), kept([1, 2, 1]), kept([1, 2, 2])];
    assert_eq!(world.outcomes("a"), BTreeSet::from(expected));
    file.sync_data().unwrap();
    assert_eq!(world.outcomes("a"), BTreeSet::from([kept([1, 2, 2])]));
    // A kept write beyond a lost one leaves zeros between.
    file.write_all_at(&[3; 512], 1536).unwrap();
    file.write_all_at(&[4; 512], 2048).unwrap();
    let long = [&[1; 512][..], &[2; 1024], &[0; 512], &[4; 512]].concat();
    assert!(world.outcomes("a").contains(&some(&long)));
}

#[test]
fn the_mode_changes_in_order_and_a_data_sync_leaves_it() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let file = world.durable("a", b"text");
    let set = |mode| {
        file.set_permissions(fs::Permissions::from_mode(mode))
            .unwrap()
    };
    set(0o600);
    set(0o640);
    file.write_all_at(b"TEXT", 0).unwrap();
    file.sync_data().unwrap();
    let modes = |seed| {
        let image = world.disk.power_cut(&mut Prng::new(seed));
        assert_eq!(image.read("a").unwrap(), b"TEXT");
        image.mode("a").unwrap() & 0o777
    };
    let seen: BTreeSet<_> = (0..200).map(modes).collect();
    assert_eq!(seen, BTreeSet::from([0o600, 0o640, 0o644]));
    file.sync_all().unwrap();
    assert!((0..200).map(modes).all(|mode| mode == 0o640));
}

#[test]
fn what_a_failed_sync_dropped_no_later_sync_makes_durable() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let file = world.durable("a", b"old");
    file.write_all_at(b"new", 0).unwrap();
    world
        .disk
        .fail_at(Failing::Only(Operation::Sync), 1, Failure::Io);
    assert_eq!(
        file.sync_all().unwrap_err().raw_os_error(),
        Some(nix::libc::EIO)
    );
    file.sync_all().unwrap();
    file.write_all_at(b"!", 3).unwrap();
    file.sync_all().unwrap();
    let seen = world.outcomes("a");
    assert!(
        seen.contains(&some(b"old!")) && seen.contains(&some(b"new!")),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .all(|bytes| bytes.as_ref().unwrap().ends_with(b"!"))
    );
    assert_eq!(fs::read(world.path("a")).unwrap(), b"new!");
}

#[test]
fn a_dead_process_changes_nothing_from_one_operation_on() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let run = |world: &World| -> std::io::Result<()> {
        let mut file = File::create(world.path("a"))?;
        file.write_all(b"text")?;
        file.sync_all()?;
        fs::rename(world.path("a"), world.path("b"))?;
        File::open(world.path(""))?.sync_all()
    };
    run(&world).unwrap();
    let whole = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::Sync,
    ];
    assert_eq!(world.disk.operations(), whole);
    for number in 1..=whole.len() {
        let world = World::new();
        world.disk.kill_at(number);
        assert!(run(&world).is_err() && world.disk.is_killed());
        assert!(fs::create_dir(world.path("later")).is_err());
        let image = world.disk.image();
        assert_eq!(image.exists("a"), (2..=4).contains(&number));
        assert_eq!(
            image.read("a").is_ok_and(|bytes| bytes.len() == 4),
            (3..=4).contains(&number)
        );
        assert_eq!(
            (image.exists("b"), image.exists("later")),
            (number == 5, false)
        );
        world.disk.thaw();
        run(&world).unwrap();
        assert_eq!(fs::read(world.path("b")).unwrap(), b"text");
    }
}

#[test]
fn a_full_disk_takes_what_it_has_room_for() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    world.disk.set_free(Some(8192));
    let free = valise_common::os::durable::free_bytes(world.folder.path());
    assert_eq!(free.unwrap(), 8192);
    let mut file = File::create(world.path("a")).unwrap();
    let error = file.write_all(&[1; 10_000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.metadata().unwrap().len(), 8192);
    let error = File::create(world.path("b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    file.write_all_at(&[2; 8192], 0).unwrap();
    drop(file);
    fs::remove_file(world.path("a")).unwrap();
    let file = File::create(world.path("b")).unwrap();
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 8192).unwrap();
    assert!(fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 9000).is_err());
    file.write_all_at(&[2; 8192], 0).unwrap();
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, punch, 0, 4096).unwrap();
    assert_eq!(
        (
            file.metadata().unwrap().len(),
            file.metadata().unwrap().blocks()
        ),
        (8192, 8)
    );
    assert_eq!(fs::read(world.path("b")).unwrap()[4095..4097], [0, 2]);
}

#[test]
fn names_are_exchanged_and_not_replaced() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let (a, b) = (world.path("a"), world.path("b"));
    fs::write(&a, b"a").unwrap();
    fs::write(&b, b"b").unwrap();
    assert_eq!(
        rename_new(&a, &b).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    exchange(&a, &b).unwrap();
    assert_eq!(
        (fs::read(&a).unwrap(), fs::read(&b).unwrap()),
        (b"b".into(), b"a".into())
    );
    rename_new(&a, &world.path("c")).unwrap();
    fs::hard_link(&b, world.path("d")).unwrap();
    assert_eq!(fs::metadata(&b).unwrap().nlink(), 2);
    symlink("b", world.path("link")).unwrap();
    assert_eq!(fs::read(world.path("link")).unwrap(), b"a");
    let listed: Vec<_> = fs::read_dir(world.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(listed, ["b", "c", "d", "link"]);
}

#[test]
fn a_new_file_is_the_actors_and_of_the_directorys_group_if_that_is_handed_down() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    world.disk.set_actor(1001, 1002);
    fs::create_dir(world.path("d")).unwrap();
    std::os::unix::fs::chown(world.path("d"), None, Some(7)).unwrap();
    fs::set_permissions(world.path("d"), fs::Permissions::from_mode(0o2770)).unwrap();
    fs::create_dir(world.path("d/e")).unwrap();
    fs::write(world.path("d/a"), b"").unwrap();
    fs::write(world.path("a"), b"").unwrap();
    let image = world.disk.image();
    assert_eq!(
        (image.owner("a").unwrap(), image.owner("d/a").unwrap()),
        ((1001, 1002), (1001, 7))
    );
    assert_eq!(image.mode("d/e").unwrap() & 0o7000, 0o2000);
}

#[test]
fn an_image_is_changed_and_mounted() {
    if is_skipped() {
        return;
    }
    let mut image = Image::empty();
    image.make_dir("d").unwrap();
    image.write("/d/a", b"abc").unwrap();
    let before = image.clone();
    image.flip_bit("d/a", 9).unwrap();
    image.set_owner("d/a", 5, 6).unwrap();
    image.set_mode("d/a", 0o640).unwrap();
    assert_eq!(
        (before.read("d/a").unwrap(), image.read("d/a").unwrap()),
        (b"abc".into(), b"a`c".into())
    );
    let world = World::of(&image);
    let metadata = fs::metadata(world.path("d/a")).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o777),
        (5, 6, 0o640)
    );
    assert_eq!(fs::read(world.path("d/a")).unwrap(), b"a`c");
    let unmounted = world.disk.unmount().unwrap();
    assert_eq!(
        (unmounted.digest(), unmounted.paths()),
        (image.digest(), ["d", "d/a"].map(PathBuf::from).into())
    );
    image.remove("d").unwrap();
    assert!(image.paths().is_empty());
}
