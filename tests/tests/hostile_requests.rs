//! Harmful content that users can put into `requests/`. None of it ends a role, on either host, now or at its next
//! start, and everything that can be answered gets a short answer.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use valise_tests::harness::{Programs, Role, Settings, World};

const LIMIT: Duration = Duration::from_secs(60);

/// The longest answer that a command still reads, in bytes.
const ANSWER_BYTES_MAX: usize = 4_096;

/// Texts of `request.toml` that a parser could repeat, recurse into, or take long to read.
fn texts() -> Vec<(String, Vec<u8>)> {
    const ALMOST: usize = 65_000;
    let x = "x".repeat(ALMOST);
    let mut texts: Vec<(String, Vec<u8>)> = vec![
        (
            "word".into(),
            format!("request = \"{}\"", "0".repeat(65_500)).into(),
        ),
        (
            "key".into(),
            format!("request = 'clock-accept'\n{x} = 1").into(),
        ),
        (
            "quoted-key".into(),
            format!(
                "request = 'clock-accept'\n\"\\u001b[2J{}\" = 1",
                "x".repeat(60_000)
            )
            .into(),
        ),
        (
            "escape".into(),
            "request = \"\\u001b]0;title\\u0007\\u202e\"".into(),
        ),
        ("key-alone".into(), x.clone().into()),
        ("one-line".into(), format!("request = 'submit'; {x}").into()),
        ("too-long".into(), vec![b' '; 65_537]),
        ("not-utf8".into(), b"request = '\xff\xfe'".to_vec()),
        ("zero".into(), vec![0; 65_000]),
        (
            "mark".into(),
            b"\xef\xbb\xbfrequest = 'clock-accept'\nmore = 1".to_vec(),
        ),
        ("empty".into(), Vec::new()),
        (
            "twice".into(),
            "request = 'submit'\nrequest = 'submit'".into(),
        ),
        (
            "number".into(),
            format!("request = {}", "9".repeat(ALMOST)).into(),
        ),
        ("float".into(), "request = 1e999999999".into()),
        ("date".into(), "request = 9999-99-99T99:99:99Z".into()),
        (
            "keys".into(),
            (0..7_000)
                .map(|n| format!("a{n}={n}\n"))
                .collect::<String>()
                .into(),
        ),
        (
            "list".into(),
            format!("request = [{}]", "1,".repeat(30_000)).into(),
        ),
    ];
    for (name, open, close) in [("arrays", "[", "]"), ("tables", "{a=", "}")] {
        let depth = 20_000 / open.len();
        let text = format!("request = {}1{}", open.repeat(depth), close.repeat(depth));
        texts.push((format!("deep-{name}"), text.into()));
        texts.push((
            format!("open-{name}"),
            format!("request = {}", open.repeat(depth)).into(),
        ));
    }
    let dotted = "a.".repeat(30_000);
    texts.push((
        "deep-key".into(),
        format!("request = 'submit'\n{dotted}b = 1").into(),
    ));
    texts.push((
        "deep-header".into(),
        format!("request = 'submit'\n[{dotted}b]").into(),
    ));
    texts.push((
        "deep-list".into(),
        format!("request = 'submit'\n[[{dotted}b]]").into(),
    ));
    for (word, key) in [
        ("submit", "label"),
        ("submit", "subject"),
        ("submit", "to"),
        ("approve", "id"),
        ("reject", "reason"),
        ("resend", "serials"),
        ("quarantine-discard", "serial"),
        ("bundle-void", "reason"),
        ("bundle-create", "slots"),
        ("link-key-retire", "link_key"),
    ] {
        let values = [
            ("long", format!("'{}'", "x".repeat(60_000))),
            ("many", format!("[{}]", "'a',".repeat(15_000))),
            ("low", "-9223372036854775808".to_owned()),
        ];
        for (kind, value) in values {
            let text = format!("request = '{word}'\n{key} = {value}\n");
            texts.push((format!("{word}-{key}-{kind}"), text.into()));
        }
    }
    let id = "0123456789abcdef0123456789abcdef";
    let ranges = "1-9223372036854775807,".repeat(2_700);
    texts.push((
        "ranges".into(),
        format!("request = 'resend'\nserials = '{ranges}1'").into(),
    ));
    let reason = "\\u001b[31m".repeat(6_000);
    texts.push((
        "reason".into(),
        format!("request = 'reject'\nid = '{id}'\nreason = \"{reason}\"").into(),
    ));
    let submit =
        "request = 'submit'\nlabel = 'EU-RESTRICTED'\nprecedence = 'flash'\nto = ['paris-desk']\n";
    texts.push((
        "subject".into(),
        format!("{submit}subject = '{}'", "s".repeat(60_000)).into(),
    ));
    texts.push((
        "files".into(),
        format!(
            "{submit}subject = 's'\nfiles = [{}]",
            "'a.txt',".repeat(7_000)
        )
        .into(),
    ));
    texts
}

/// Makes a request's folder hostile.
type Plant = fn(&Path);

/// Other content of a request's folder; each function is called with an empty folder.
fn folders() -> Vec<(&'static str, Plant)> {
    const TRUST: &str = "request = 'trust-import'\n";
    const BUNDLE: &str = "request = 'bundle-import'\n";
    fn text(folder: &Path, text: &str) {
        fs::write(folder.join("request.toml"), text).unwrap();
    }
    fn toml(folder: &Path) -> PathBuf {
        folder.join("request.toml")
    }
    vec![
        ("no-text", |_| {}),
        ("text-folder", |it| fs::create_dir(toml(it)).unwrap()),
        ("text-link", |it| symlink("/dev/zero", toml(it)).unwrap()),
        ("text-loop", |it| symlink("request.toml", toml(it)).unwrap()),
        ("text-pipe", |it| mkfifo(&toml(it), Mode::S_IRWXU).unwrap()),
        ("text-socket", |it| {
            drop(UnixListener::bind(toml(it)).unwrap())
        }),
        ("text-device", |it| {
            // If the test may not make a device, nobody else can either.
            let _ = mknod(&toml(it), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5));
        }),
        ("text-sparse", |it| {
            File::create(toml(it)).unwrap().set_len(1 << 42).unwrap()
        }),
        ("text-twice", |it| {
            text(it, TRUST);
            fs::hard_link(toml(it), it.join("again")).unwrap();
        }),
        ("text-closed", |it| {
            text(it, "request = 'nothing'\n");
            fs::set_permissions(toml(it), Permissions::from_mode(0o0)).unwrap();
        }),
        ("closed", |it| {
            text(it, "request = 'nothing'\n");
            fs::set_permissions(it, Permissions::from_mode(0o0)).unwrap();
        }),
        ("names", |it| {
            text(it, TRUST);
            for name in [
                &b"\xff\xfe"[..],
                b"\x1b[2J\n",
                b"a/b".split_at(1).0,
                &[b'n'; 255],
            ] {
                fs::write(it.join(OsStr::from_bytes(name)), b"x").unwrap();
            }
        }),
        ("many", |it| {
            text(it, TRUST);
            for number in 0..3_000 {
                File::create(it.join(format!("{number}"))).unwrap();
            }
        }),
        ("deep", |it| {
            text(it, TRUST);
            fs::create_dir_all(it.join("d/".repeat(1_000))).unwrap();
        }),
        ("sparse", |it| {
            text(it, BUNDLE);
            let large = File::create(it.join("channel.bundle")).unwrap();
            large.set_len(1 << 42).unwrap();
        }),
        ("list-line", |it| {
            text(it, TRUST);
            fs::write(it.join("trust.toml"), vec![b'x'; 4 << 20]).unwrap();
        }),
        ("list-key", |it| {
            text(it, TRUST);
            let dotted = "a.".repeat(1 << 20);
            fs::write(it.join("trust.toml"), format!("{dotted}b = 1\n")).unwrap();
        }),
        ("list-deep", |it| {
            text(it, TRUST);
            let list = format!("version = {}", "[".repeat(4_000_000));
            fs::write(it.join("trust.toml"), list).unwrap();
        }),
        ("list-unknown", |it| {
            text(it, TRUST);
            let list = format!("\"{}\" = 1\n", "\\u001b".repeat(600_000));
            fs::write(it.join("trust.toml"), list).unwrap();
        }),
        ("list-signature", |it| {
            text(it, TRUST);
            fs::write(it.join("trust.toml"), "version = 1\n").unwrap();
            let armor = format!("-----BEGIN SSH SIGNATURE-----\n{}", "A".repeat(60_000));
            fs::write(it.join("trust.toml.1.sig"), armor).unwrap();
        }),
        ("bundle-statement", |it| {
            text(it, BUNDLE);
            fs::write(it.join("channel.bundle"), b"VALBDL").unwrap();
            fs::write(it.join("channel.bundle.statement"), vec![b'\n'; 65_000]).unwrap();
        }),
    ]
}

/// Puts other names and files beside the requests. None of them is a request.
fn beside(requests: &Path) {
    let place = |name: &[u8]| requests.join(OsStr::from_bytes(name));
    for name in [
        &b"\xff\xfe"[..],
        b"two\nlines",
        b"\x1b[2J",
        b"with space",
        &[b'n'; 255],
    ] {
        fs::create_dir(place(name)).unwrap();
    }
    fs::write(place(b"file"), b"x").unwrap();
    fs::create_dir(place(b".hidden")).unwrap();
    fs::create_dir(place(b"answer.accepted")).unwrap();
    symlink("..", place(b"link")).unwrap();
    mkfifo(&place(b"pipe"), Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(place(b"socket")).unwrap());
}

/// Plants something in the place of an answer before it is written.
fn plant(answer: &Path, kind: usize) {
    match kind % 5 {
        0 => fs::write(answer, vec![b'y'; 100_000]).unwrap(),
        1 => fs::create_dir_all(answer.join("deep")).unwrap(),
        2 => symlink("/etc/passwd", answer).unwrap(),
        3 => mkfifo(answer, Mode::S_IRWXU).unwrap(),
        _ => {
            fs::write(answer, b"torn").unwrap();
            fs::set_permissions(answer, Permissions::from_mode(0o0)).unwrap();
        }
    }
}

/// Makes a request under a hidden name and shows it.
fn show(requests: &Path, name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let hidden = requests.join(format!(".{name}"));
    fs::create_dir(&hidden).unwrap();
    make(&hidden);
    let shown = requests.join(name);
    fs::rename(&hidden, &shown).unwrap();
    shown
}

fn answer_of(request: &Path) -> Option<String> {
    ["accepted", "refused"].iter().find_map(|word| {
        let path = request.with_added_extension(word);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        let text = is_file.then(|| fs::read_to_string(&path).ok()).flatten()?;
        text.ends_with('\n').then_some(text)
    })
}

/// Asserts that the role still serves requests.
fn assert_serves(world: &World, role: Role) {
    let answer = world.run(role.host(), &["clock", "accept"]).unwrap();
    assert_eq!(answer.status, 0, "{}", answer.errors);
}

fn nothing_ends(role: Role) {
    let mut world = World::commission(Programs::built().unwrap(), Settings::default()).unwrap();
    world.start_role(role).unwrap();
    let pid = world.role_pid(role).unwrap();
    let requests = world.state(role.host()).join("requests");
    beside(&requests);
    let mut placed = Vec::new();
    for (number, (name, text)) in texts().into_iter().enumerate() {
        if number % 3 == 0 {
            plant(&requests.join(format!("{name}.refused")), number);
        }
        placed.push(show(&requests, &name, |it| {
            fs::write(it.join("request.toml"), text).unwrap();
        }));
    }
    for (name, make) in folders() {
        placed.push(show(&requests, name, make));
    }
    for request in &placed {
        let what = format!("an answer to {}", request.display());
        let answer = world
            .await_alive(&what, LIMIT, std::slice::from_ref(&requests), |_| {
                Ok(answer_of(request))
            })
            .unwrap();
        assert!(
            answer.len() <= ANSWER_BYTES_MAX,
            "{what}: {} bytes",
            answer.len()
        );
        let line = answer.trim_end_matches('\n');
        assert!(!line.chars().any(char::is_control), "{what}: {line:?}");
        assert!(!line.contains('\u{202e}'), "{what}: {line:?}");
    }
    assert_serves(&world, role);
    assert_eq!(world.role_pid(role), Some(pid), "it is the same process");
    // All of it is still there, also at the next start.
    world.kill(role.word());
    world.start_role(role).unwrap();
    assert_serves(&world, role);
    world.stop(role.word()).unwrap();
    let log = world
        .state(role.host())
        .join(format!("audit/{}.log", role.word()));
    for line in fs::read_to_string(log).unwrap().lines() {
        assert!(line.len() < 16 << 10, "a line of {} bytes", line.len());
    }
}

#[test]
fn nothing_in_requests_ends_gate() {
    nothing_ends(Role::Gate);
}

#[test]
fn nothing_in_requests_ends_release() {
    nothing_ends(Role::Release);
}
