//! Parts of the programs on the disk: the register's SQLite, the audit log, and calls that few file systems answer.

use std::io::{Read as _, Seek as _, SeekFrom};

use nix::sys::stat::Mode;
use rusqlite::Connection;
use rustix::fs::{SeekFrom as Seek, XattrFlags, fgetxattr, fsetxattr};
use serde_json::json;
use valise_common::history::log::{AuditLog, AuditLogError};
use valise_common::host::folders::ReceiverState;
use valise_common::ids::Serial;
use valise_common::os::durable::{Readers, SyncBatch, share_folder, sync_dir};
use valise_common::os::lock::HostLock;
use valise_common::units::UtcTime;
use valise_receiver::spool::publish::{Published, publish};
use valise_receiver::steps::publish::StageName;

use super::*;

/// Opens a register as the programs do.
fn register(path: &Path) -> Connection {
    let register = Connection::open(path).unwrap();
    register.pragma_update(None, "journal_mode", "WAL").unwrap();
    register
        .pragma_update(None, "synchronous", "NORMAL")
        .unwrap();
    register
        .execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, v BLOB)")
        .unwrap();
    register
}

/// Adds a row, and a checkpoint after each fourth.
fn add(register: &Connection, number: i64) {
    let row = (number, vec![7_u8; 3000]);
    register
        .execute("INSERT INTO t VALUES (?1, ?2)", row)
        .unwrap();
    if number % 4 == 3 {
        register
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
            .unwrap();
    }
}

#[test]
fn a_register_that_lost_power_holds_the_first_so_many_rows_and_all_up_to_a_checkpoint() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let first = register(&world.path("register"));
    world.sync_dir("");
    let mut images = Vec::new();
    for number in 0..10 {
        // Another process reads through the same shared memory.
        let other = Connection::open(world.path("register")).unwrap();
        add(&first, number);
        let count: i64 = other
            .query_row("SELECT count(*) FROM t", (), |row| row.get(0))
            .unwrap();
        assert_eq!(count, number + 1);
        let cut = |seed| world.disk.power_cut(&mut Prng::new(seed));
        images.extend((0..20).map(|seed| (number, cut(seed))));
    }
    let mut counts = BTreeSet::new();
    for (last, image) in images {
        let world = World::of(&image);
        let register = register(&world.path("register"));
        let sound: String = register
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
        let sums = "SELECT count(*), coalesce(max(n), -1) FROM t";
        let (count, highest): (i64, i64) = register
            .query_row(sums, (), |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        let checkpointed = (last + 1) / 4 * 4;
        assert!(
            count == highest + 1 && (checkpointed..=last + 1).contains(&count),
            "{count} of {last}"
        );
        counts.insert((last, count));
        add(&register, count);
    }
    // Some lost rows, some did not.
    assert!(
        counts.contains(&(9, 8)) && counts.contains(&(9, 10)),
        "{counts:?}"
    );
}

const TIME: UtcTime = UtcTime::from_s(1_800_000_000);

/// Begins a log, commits so many lines, and leaves one that is not committed.
fn log(folder: &Path, lines: u64) -> Result<(AuditLog, u64), AuditLogError> {
    let (mut log, _) = AuditLog::create(folder, "gate", "valise/01/gate")?;
    for number in 0..lines {
        log.append(TIME, "sealed", &[("serial", json!(number))]);
        log.commit()?;
    }
    Ok((log, lines))
}

#[test]
fn committed_lines_outlive_every_power_cut() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let (mut log, lines) = log(world.folder.path(), 5).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        if seed == 100 {
            // A commit that does not come to its end.
            world.disk.reset();
            world.disk.kill_at(2);
            log.append(TIME, "sealed", &[]);
            assert!(log.commit().is_err());
        }
        let image = world.disk.power_cut(&mut prng);
        seen.insert(image.digest());
        let world = World::of(&image);
        let (mut log, _) = AuditLog::open(world.folder.path(), "gate").unwrap();
        assert!((lines..=lines + 1).contains(&log.next_seq()), "seed {seed}");
        log.append(TIME, "sealed", &[]);
        log.commit().unwrap();
    }
    assert!(seen.len() > 1);
}

#[test]
fn a_line_whose_sync_failed_is_durable_once_the_log_is_opened_again() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let (mut log, lines) = log(world.folder.path(), 3).unwrap();
    world.disk.reset();
    world
        .disk
        .fail_at(Failing::Only(Operation::Sync), 1, Failure::NoRoom);
    log.append(TIME, "sealed", &[]);
    assert!(log.commit().is_err());
    drop(log);
    let (mut log, recovered) = AuditLog::open(world.folder.path(), "gate").unwrap();
    assert_eq!((recovered.lines_forward, log.next_seq()), (1, lines + 1));
    log.append(TIME, "released", &[]);
    log.commit().unwrap();
    for seed in 0..100 {
        let world = World::of(&world.disk.power_cut(&mut Prng::new(seed)));
        let (log, _) = AuditLog::open(world.folder.path(), "gate").unwrap();
        assert_eq!(log.next_seq(), lines + 2, "seed {seed}");
    }
}

#[test]
fn a_folder_that_a_killed_release_renamed_is_durable_before_it_counts_as_visible() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let state = ReceiverState::new(world.folder.path());
    state.create_all().unwrap();
    let name = StageName {
        serial: Serial::FIRST,
        message_id: "00112233445566778899aabbccddeeff".parse().unwrap(),
        mailbox: "paris-desk".parse().unwrap(),
    };
    fs::create_dir(state.stage().join(name.to_string())).unwrap();
    fs::create_dir(state.mailbox(&name.mailbox)).unwrap();
    for folder in [
        state.stage(),
        state.mailbox(&name.mailbox),
        state.released(),
        world.folder.path().to_owned(),
    ] {
        sync_dir(&folder).unwrap();
    }
    // The kill comes before the sync.
    let mut unsynced = SyncBatch::new(world.folder.path()).unwrap();
    let published = publish(&state, &name, &mut unsynced).unwrap();
    assert_eq!(published, Published::Now);
    drop(unsynced);
    // The next start.
    let mut batch = SyncBatch::new(world.folder.path()).unwrap();
    let published = publish(&state, &name, &mut batch).unwrap();
    assert_eq!(published, Published::Before);
    batch.commit().unwrap();
    let image = world.disk.power_cut_of(Cut::Nothing, &mut Prng::new(1));
    let visible = state.released_cable(&name.mailbox, name.serial, &name.message_id);
    let visible = visible.strip_prefix(world.folder.path()).unwrap();
    assert!(image.exists(visible));
    assert!(!image.exists(format!("released/.stage/{name}")));
}

#[test]
fn a_log_is_cut_at_every_operation() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    log(world.folder.path(), 2).unwrap();
    let operations = world.disk.operations();
    for number in 1..=operations.len() {
        let world = World::new();
        world.disk.kill_at(number);
        assert!(log(world.folder.path(), 2).is_err());
        assert_eq!(world.disk.operations(), operations[..number]);
        let image = world.disk.power_cut(&mut Prng::new(7));
        drop(world);
        let world = World::of(&image);
        // Nothing, a log that is not yet one, or a log.
        match AuditLog::open(world.folder.path(), "gate") {
            Ok((log, _)) => assert!(log.next_seq() <= 2),
            Err(_) => assert!(log(world.folder.path(), 2).is_ok(), "operation {number}"),
        }
    }
}

#[test]
fn equal_runs_count_the_same_and_equal_seeds_draw_the_same() {
    if is_skipped() {
        return;
    }
    let run = || {
        let world = World::new();
        let register = register(&world.path("register"));
        (0..6).for_each(|number| add(&register, number));
        drop(register);
        fs::create_dir(world.path("d")).unwrap();
        for number in 0..20 {
            fs::write(world.path(&format!("d/{number}")), vec![9; number * 300]).unwrap();
        }
        world.disk.operations()
    };
    let operations = run();
    assert!(operations.len() > 60);
    assert_eq!(run(), operations);
    let world = World::new();
    for number in 0..20 {
        fs::write(world.path(&number.to_string()), vec![9; number * 300]).unwrap();
    }
    let cut = |seed| world.disk.power_cut(&mut Prng::new(seed)).digest();
    let drawn: BTreeSet<_> = (0..50).map(|seed| (cut(seed), seed)).collect();
    assert_eq!(
        (0..50)
            .map(|seed| (cut(seed), seed))
            .collect::<BTreeSet<_>>(),
        drawn
    );
    assert!(
        drawn
            .iter()
            .map(|(digest, _)| digest)
            .collect::<BTreeSet<_>>()
            .len()
            > 20
    );
}

#[test]
fn holes_lists_pipes_and_locks_are_those_of_any_file_system() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let mut file = world.durable("a", b"x");
    file.write_all_at(b"y", 3 * 4096).unwrap();
    assert_eq!(rustix::fs::seek(&file, Seek::Hole(0)).unwrap(), 4096);
    assert_eq!(rustix::fs::seek(&file, Seek::Data(4096)).unwrap(), 3 * 4096);
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(
        (bytes.len(), bytes[0], bytes[3 * 4096]),
        (3 * 4096 + 1, b'x', b'y')
    );
    fsetxattr(&file, "user.name", b"value", XattrFlags::empty()).unwrap();
    let mut value = [0; 5];
    assert_eq!(fgetxattr(&file, "user.name", &mut value), Ok(5));
    assert_eq!(
        fsetxattr(&file, "user.name", b"", XattrFlags::CREATE),
        Err(rustix::io::Errno::EXIST)
    );
    fs::create_dir(world.path("d")).unwrap();
    let mode = || fs::metadata(world.path("d")).unwrap().mode() & 0o777;
    share_folder(&world.path("d"), &Readers::Users([1001].into())).unwrap();
    assert_eq!(mode(), 0o750);
    share_folder(&world.path("d"), &Readers::Group).unwrap();
    assert_eq!(mode(), 0o750);
    share_folder(&world.path("d"), &Readers::Users(BTreeSet::new())).unwrap();
    assert_eq!(mode(), 0o700);
    nix::unistd::mkfifo(&world.path("pipe"), Mode::S_IRWXU).unwrap();
    let written = std::thread::spawn({
        let path = world.path("pipe");
        move || fs::write(path, b"text").unwrap()
    });
    assert_eq!(fs::read(world.path("pipe")).unwrap(), b"text");
    written.join().unwrap();
    let lock = HostLock::try_take(&world.path("lock")).unwrap();
    assert!(lock.is_some() && HostLock::is_held(&world.path("lock")).unwrap());
    drop(lock);
    HostLock::try_take(&world.path("lock")).unwrap().unwrap();
}

#[test]
fn reads_fail_until_the_reset_and_another_operation_fails_once() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    let _file = world.durable("a", b"text");
    world
        .disk
        .fail_at(Failing::Only(Operation::Read), 1, Failure::Io);
    assert_eq!(
        fs::read(world.path("a")).unwrap_err().raw_os_error(),
        Some(nix::libc::EIO)
    );
    world.disk.reset();
    assert_eq!(fs::read(world.path("a")).unwrap(), b"text");
    world.disk.fail_at(Failing::Any, 2, Failure::NoRoom);
    let mut file = File::create(world.path("b")).unwrap();
    assert_eq!(
        file.write_all(b"text").unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    file.write_all(b"text").unwrap();
    assert_eq!(fs::read(world.path("b")).unwrap(), b"text");
}

#[test]
fn a_folder_that_is_emptied_while_it_is_listed_is_listed_whole() {
    if is_skipped() {
        return;
    }
    let world = World::new();
    for number in 0..500 {
        File::create(world.path(&format!("a name that is not short {number:03}"))).unwrap();
    }
    let mut count = 0;
    for entry in fs::read_dir(world.folder.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        count += 1;
    }
    assert_eq!((count, world.disk.image().paths().len()), (500, 0));
}
