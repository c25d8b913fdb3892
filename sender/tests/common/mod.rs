//! A sender host in a temporary folder, with real `ssh-keygen` keys and the real program.

#![allow(clippy::unwrap_used, clippy::as_conversions, dead_code, missing_docs)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use valise_common::bundle::{Bundle, Statement};
use valise_common::ids::{BundleId, ChannelId, ContainerHash, LinkKeyId, Serial};
use valise_common::os::entropy;
use valise_common::seal::SlotSecret;

pub const CHANNEL: &str = "0123456789abcdef0123456789abcdef";

/// What a test waits for comes within this time, or never.
const LIMIT: Duration = Duration::from_secs(60);

/// A wait that ends: a test whose condition never comes fails, and does not hang.
pub struct Patience(Instant);

impl Patience {
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// To be called whenever the condition is not there yet.
    #[track_caller]
    pub fn wait(&self) {
        assert!(self.0.elapsed() < LIMIT, "it has not come in {LIMIT:?}");
        std::thread::yield_now();
    }
}

pub struct Host {
    pub folder: TempDir,
    pub secrets: Vec<SlotSecret>,
    gate: Option<Child>,
}

/// How a trust list for tests differs from the usual one.
pub struct List {
    pub version: u32,
    pub extra: String,
    pub drafter_is_officer: bool,
}

impl Default for List {
    fn default() -> Self {
        Self {
            version: 1,
            extra: String::new(),
            drafter_is_officer: false,
        }
    }
}

impl Host {
    /// A host with keys and configuration, not commissioned yet.
    pub fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Self {
            folder,
            secrets: Vec::new(),
            gate: None,
        };
        for key in [
            "admin1",
            "admin2",
            "drafter",
            "officer1",
            "officer1b",
            "officer2",
            "stranger",
        ] {
            host.keygen(key);
        }
        host.write_config("");
        host
    }

    /// Makes the state, with two administrators.
    pub fn init(&self) {
        let administrators = [
            "--administrator",
            "admin1.pub",
            "--administrator",
            "admin2.pub",
        ];
        self.ok(&[&["init"], &administrators[..]].concat());
    }

    /// A commissioned host with slots and a trust list.
    pub fn commissioned(slots: u32) -> Self {
        let mut host = Self::bare();
        host.init();
        host.make_bundle(1, 1, slots, None);
        host.ok(&["bundle", "import", "courier-1"]);
        host.import_list(&List::default());
        host
    }

    /// A commissioned host with gate running.
    pub fn running(slots: u32) -> Self {
        let mut host = Self::commissioned(slots);
        host.start_gate();
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    fn keygen(&self, name: &str) {
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(self.path(name))
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub fn public(&self, name: &str) -> String {
        let line = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        line.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub fn sign(&self, key: &str, namespace: &str, file: &Path, signature: &Path) {
        let _ = fs::remove_file(file.with_added_extension("sig"));
        let output = Command::new("ssh-keygen")
            .args(["-Y", "sign", "-n", namespace, "-f"])
            .arg(self.path(key))
            .arg(file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        fs::rename(file.with_added_extension("sig"), signature).unwrap();
    }

    pub fn write_config(&self, extra: &str) {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid())
            .unwrap()
            .unwrap()
            .name;
        let text = format!(
            "state = {:?}\n{extra}\n[persons]\n{user} = 'a.person'\n\
             [link]\nkind = 'udp'\nto = '127.0.0.1:9'\n",
            self.path("state").display().to_string()
        );
        fs::write(self.path("sender.toml"), text).unwrap();
    }

    /// Makes a bundle in `courier-ID`, signed by both administrators.
    pub fn make_bundle(&mut self, id: u32, first: u64, count: u32, replaces: Option<u32>) {
        self.make_bundle_of(CHANNEL, id, first, count, replaces);
    }

    /// Makes a bundle of a channel, perhaps not this host's.
    pub fn make_bundle_of(
        &mut self,
        channel: &str,
        id: u32,
        first: u64,
        count: u32,
        replaces: Option<u32>,
    ) {
        let secret = || SlotSecret {
            seed: entropy::secret().unwrap(),
            psk: entropy::secret().unwrap(),
        };
        let secrets: Vec<SlotSecret> = (0..count).map(|_| secret()).collect();
        let bundle = Bundle {
            channel: channel.parse::<ChannelId>().unwrap(),
            id: BundleId(id),
            first: Serial::new(first).unwrap(),
            link_key_id: LinkKeyId(id as u8),
            link_key: entropy::secret().unwrap(),
            slots: secrets.iter().map(SlotSecret::public).collect(),
        };
        self.secrets.extend(secrets);
        let bytes = bundle.encode().unwrap();
        let courier = self.path(&format!("courier-{id}"));
        fs::create_dir(&courier).unwrap();
        fs::write(courier.join("channel.bundle"), &bytes).unwrap();
        let statement = Statement::of(&bytes, replaces.map(BundleId)).unwrap();
        let path = courier.join("channel.bundle.statement");
        fs::write(&path, statement.encode()).unwrap();
        for number in [1, 2] {
            let signature = courier.join(format!("channel.bundle.statement.{number}.sig"));
            self.sign(
                &format!("admin{number}"),
                "bundle@valise",
                &path,
                &signature,
            );
        }
    }

    pub fn list_text(&self, list: &List) -> String {
        let person = |id: &str, roles: &str, keys: &[&str]| {
            let keys: Vec<String> = keys
                .iter()
                .map(|key| format!("{:?}", self.public(key)))
                .collect();
            format!(
                "[[person]]\nid = \"{id}\"\nroles = [{roles}]\nkeys = [{}]\n\
                 valid-from = \"2020-01-01T00:00:00Z\"\nvalid-until = \"2090-01-01T00:00:00Z\"\n",
                keys.join(", ")
            )
        };
        let roles = if list.drafter_is_officer {
            "\"drafter\", \"officer\""
        } else {
            "\"drafter\""
        };
        let mut text = format!(
            "version = {}\nchannel = \"{CHANNEL}\"\nissued = \"2024-01-01T00:00:00Z\"\n\
             allow-software-keys = true\n",
            list.version
        );
        text += &person("a.person", roles, &["drafter"]);
        text += &person("b.officer", "\"officer\"", &["officer1", "officer1b"]);
        text += &person("c.officer", "\"officer\"", &["officer2"]);
        text += "[[classification]]\nid = \"EU-RESTRICTED\"\nmarking = \"RESTREINT UE\"\nofficers = 2\n\
                 user-verification = false\nmedia-types = [\"text/plain\", \"application/octet-stream\"]\n\
                 cable-bytes-max = 67108864\nvalidity-days-max = 30\n\
                 [[category]]\nid = \"LIMITE\"\n\
                 [[mailbox]]\nid = \"paris-desk\"\nclassification-max = \"EU-RESTRICTED\"\n\
                 categories = [\"LIMITE\"]\n";
        text + &list.extra
    }

    /// Signs and imports a trust list.
    pub fn import_list(&self, list: &List) {
        let path = self.signed_list(list);
        self.ok(&["trust", "import", path.to_str().unwrap()]);
    }

    pub fn signed_list(&self, list: &List) -> PathBuf {
        let name = format!("trust-{}.toml", list.version);
        self.signed_text(&name, &self.list_text(list))
    }

    /// A file that both administrators signed as a trust list, whatever it holds.
    pub fn signed_text(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        for number in [1, 2] {
            let signature = path.with_added_extension(format!("{number}.sig"));
            self.sign(
                &format!("admin{number}"),
                "trust-list@valise",
                &path,
                &signature,
            );
        }
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_valise-sender"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .arg("--config")
            .arg("sender.toml");
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Runs a command at a terminal of its own, where a person answers its question; returns its exit status, what the
    /// terminal showed, and its standard error.
    pub fn at_terminal(&self, arguments: &[&str], answer: &str) -> (Option<i32>, String, String) {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let program = self.command(arguments);
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(self.folder.path())
            .stdin(terminal.slave)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // The last end of the terminal but the program's own, so that the reading below ends with the program.
        drop(command);
        let mut master = fs::File::from(terminal.master);
        // Bytes: a read may end within a character.
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = std::io::Read::read(&mut master, &mut buffer) {
            shown.extend_from_slice(&buffer[..count]);
            if shown.ends_with(b"[y/N] ") {
                std::io::Write::write_all(&mut master, format!("{answer}\n").as_bytes()).unwrap();
            }
        }
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (
            output.status.code(),
            String::from_utf8(shown).unwrap(),
            errors,
        )
    }

    /// Runs a command that must be refused with this status; returns what it said.
    pub fn refused(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {output:?}"
        );
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Compiles a helper in C that does what safe Rust cannot.
    pub fn compile(&self, source: &str, flags: &[&str], program: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let status = Command::new("cc")
            .args(flags)
            .arg("-o")
            .arg(self.path(program))
            .arg(folder.join(source))
            .status()
            .unwrap();
        assert!(status.success());
        self.path(program)
    }

    /// Places a request by hand, as another program does, and makes it visible.
    pub fn place(&self, name: &str, text: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let folder = self.state(&format!("requests/.{name}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("request.toml"), text).unwrap();
        for (file, bytes) in files {
            fs::write(folder.join(file), bytes).unwrap();
        }
        let visible = self.state(&format!("requests/{name}"));
        fs::rename(&folder, &visible).unwrap();
        visible
    }

    /// Places a request as another user of this host does, which only root can play; `sparse` adds a part of so many bytes.
    pub fn place_as(&self, uid: u32, name: &str, text: &str, sparse: Option<u64>) -> PathBuf {
        let folder = self.state(&format!("requests/.{name}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("request.toml"), text).unwrap();
        if let Some(bytes) = sparse {
            let part = fs::File::create(folder.join("part.bin")).unwrap();
            part.set_len(bytes).unwrap();
        }
        // Gate has no right of root: its group stands for the default ACL of an installed host.
        let give = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(path, Some(uid), None).unwrap();
        };
        for path in fs::read_dir(&folder).unwrap() {
            give(&path.unwrap().path(), 0o660);
        }
        give(&folder, 0o770);
        let visible = self.state(&format!("requests/{name}"));
        fs::rename(&folder, &visible).unwrap();
        visible
    }

    /// What is in requests/.
    pub fn requests(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(self.state("requests")).unwrap();
        names.map(|entry| entry.unwrap().path()).collect()
    }

    /// Whether a command has copied a megabyte of a part, out of sight.
    pub fn is_being_copied(&self) -> bool {
        let files = self
            .requests()
            .into_iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        files.flatten().any(|file| {
            let metadata = file.and_then(|file| file.metadata());
            metadata.is_ok_and(|metadata| metadata.len() > 1 << 20)
        })
    }

    /// Waits until gate has taken the folder of an answered request away.
    #[track_caller]
    pub fn await_gone(request: &Path) {
        let patience = Patience::begin();
        while request.exists() {
            patience.wait();
        }
    }

    /// Waits for the answer to a request: whether it is accepted, and the text.
    #[track_caller]
    pub fn await_answer(request: &Path) -> (bool, String) {
        let patience = Patience::begin();
        loop {
            for (word, accepted) in [("accepted", true), ("refused", false)] {
                if let Ok(text) = fs::read_to_string(request.with_added_extension(word))
                    && let Some(text) = text.strip_suffix('\n')
                {
                    return (accepted, text.to_owned());
                }
            }
            patience.wait();
        }
    }

    /// The audit log's lines.
    pub fn audit_lines(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.state("audit/gate.log")).unwrap();
        // Gate may be writing the one after the last line end.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The audit log's lines of one event.
    pub fn audited(&self, event: &str) -> Vec<Value> {
        let mut lines = self.audit_lines();
        lines.retain(|line| line["event"] == event);
        lines
    }

    /// Gives gate a clock that the test moves, from its next start on.
    pub fn make_clock(&self) {
        let source = "../tests/src/harness/clock.c";
        self.compile(source, &["-shared", "-fPIC"], "clock.so");
        fs::write(self.path("clock"), [0; 8]).unwrap();
    }

    pub fn set_clock_ahead(&self, ahead_s: i64) {
        let file = fs::File::options()
            .write(true)
            .open(self.path("clock"))
            .unwrap();
        // Written through the page that gate has mapped, and at once.
        std::os::unix::fs::FileExt::write_all_at(&file, &ahead_s.to_ne_bytes(), 0).unwrap();
    }

    /// Starts gate and waits until it is ready: it has written its view, which commands read.
    pub fn start_gate(&mut self) {
        let before = self.view_identity();
        self.launch_gate();
        self.await_gate("its view", |host| host.view_identity() != before);
    }

    /// Starts gate and waits for its lock alone: it is taking up what an earlier one left.
    pub fn begin_gate(&mut self) {
        self.launch_gate();
        let lock = self.state("gate.lock");
        self.await_gate("its lock", |_| {
            valise_common::os::lock::HostLock::is_held(&lock).unwrap()
        });
    }

    /// Tells one writing of gate's view from another.
    fn view_identity(&self) -> Option<(SystemTime, u64)> {
        let found = fs::metadata(self.state("view/gate.json")).ok()?;
        Some((found.modified().unwrap(), found.ino()))
    }

    fn launch_gate(&mut self) {
        let mut command = self.command(&["gate"]);
        if self.path("clock.so").exists() {
            command
                .env("LD_PRELOAD", self.path("clock.so"))
                .env("VALISE_TEST_CLOCK", self.path("clock"));
        }
        let child = command
            .stderr(fs::File::create(self.path("gate.err")).unwrap())
            .spawn()
            .unwrap();
        self.gate = Some(child);
    }

    /// Starts a gate that must end by itself with this status; returns what it said.
    pub fn gate_that_ends(&mut self, status: i32) -> String {
        let errors = fs::File::create(self.path("gate.err")).unwrap();
        let child = self.command(&["gate"]).stderr(errors).spawn().unwrap();
        // Ours until it has ended, so that a test that fails leaves none behind.
        self.gate = Some(child);
        let patience = Patience::begin();
        let ended = loop {
            if let Some(ended) = self.gate.as_mut().unwrap().try_wait().unwrap() {
                break ended;
            }
            patience.wait();
        };
        self.gate = None;
        let told = fs::read_to_string(self.path("gate.err")).unwrap();
        assert_eq!(ended.code(), Some(status), "{told}");
        told
    }

    #[track_caller]
    fn await_gate(&mut self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let patience = Patience::begin();
        while !is_there(self) {
            let ended = self.gate.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none(),
                "gate ended before {what} was there: {}",
                fs::read_to_string(self.path("gate.err")).unwrap()
            );
            patience.wait();
        }
    }

    pub fn gate_id(&self) -> i32 {
        self.gate.as_ref().unwrap().id() as i32
    }

    pub fn kill_gate(&mut self) {
        let mut gate = self.gate.take().unwrap();
        gate.kill().unwrap();
        gate.wait().unwrap();
    }

    pub fn stop_gate(&mut self) {
        let mut gate = self.gate.take().unwrap();
        let id = nix::unistd::Pid::from_raw(gate.id() as i32);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = gate.wait().unwrap();
        assert!(
            status.success(),
            "{}",
            fs::read_to_string(self.path("gate.err")).unwrap()
        );
    }

    /// Submits a text and returns the cable's id.
    pub fn submit(&self, text: &str, precedence: &str) -> String {
        fs::write(self.path("cable.txt"), text).unwrap();
        self.ok(&[
            "submit",
            "--label",
            "EU-RESTRICTED LIMITE",
            "--to",
            "paris-desk",
            "--precedence",
            precedence,
            "--subject",
            "Draft conclusions",
            "cable.txt",
        ])
    }

    pub fn approve(&self, id: &str, key: &str) -> String {
        self.ok(&["approve", id, "--key", key, "--yes"])
    }

    pub fn cable(&self, id: &str) -> Value {
        self.json(&["show", id, "--json"])
    }

    pub fn outbox(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(self.state("outbox"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "container")
            })
            .collect();
        found.sort();
        found
    }

    /// Opens a container with the receiver's half of its slot.
    pub fn open(&self, container: &Path) -> valise_common::seal::Package {
        use valise_common::seal::{Opener, PackageReader};
        let bytes = fs::read(container).unwrap();
        let prefix: &[u8; 1264] = bytes[..1264].try_into().unwrap();
        let serial = u64::from_be_bytes(bytes[32..40].try_into().unwrap());
        let secret = &self.secrets[serial as usize - 1];
        let mut opener = Opener::new(prefix, secret).unwrap();
        let mut reader = PackageReader::new(opener.header().padded_bytes);
        let mut rest = &bytes[1264..];
        while !opener.finished() {
            let (segment, behind) = rest.split_at(opener.next_bytes());
            let mut segment = segment.to_vec();
            opener.open_segment(&mut segment).unwrap();
            reader.push(&segment).unwrap();
            rest = behind;
        }
        assert!(rest.is_empty());
        reader.finish().unwrap()
    }

    pub fn hash(bytes: &[u8]) -> ContainerHash {
        ContainerHash::from_bytes(Sha256::digest(bytes).into())
    }

    /// Waits until nothing is left in a folder of the state: what gate puts away it erases beside its work.
    #[track_caller]
    pub fn await_empty(&self, folder: &str) {
        let patience = Patience::begin();
        while fs::read_dir(self.state(folder)).unwrap().next().is_some() {
            patience.wait();
        }
    }

    /// Waits until gate has erased what it put away, if it runs.
    #[track_caller]
    fn await_erased(&self) {
        let is_erasing = || {
            let mut entries = fs::read_dir(self.state("tmp/gate")).unwrap();
            entries.any(|entry| {
                let name = entry.unwrap().file_name();
                name.to_string_lossy().starts_with(".erase-")
            })
        };
        let patience = Patience::begin();
        while self.gate.is_some() && is_erasing() {
            patience.wait();
        }
    }

    /// Returns the files below the state folder that hold this text, after what is being erased.
    pub fn state_holds(&self, marker: &[u8]) -> Vec<PathBuf> {
        self.await_erased();
        let mut found = Vec::new();
        let mut folders = vec![self.path("state")];
        while let Some(folder) = folders.pop() {
            // Gate takes the folder of an answered request away after the answer.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if fs::read(&path)
                    .is_ok_and(|bytes| bytes.windows(marker.len()).any(|window| window == marker))
                {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut gate) = self.gate.take() {
            let _ = gate.kill();
            let _ = gate.wait();
        }
    }
}
