//! Both hosts in one folder, with a user for each role and for each person.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;
use valise_common::units::UtcTime;
use valise_tests::harness::{
    Accounts, Host, Process, Programs, Released, Role, Roster, Submission, User, audited,
    await_condition, obstacle, remark,
};

use super::of_root;
use super::people::Person as _;

/// Longer than anything takes that happens at all.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Returns whether the rights of other users cannot be tested here, and prints that.
pub fn is_skipped() -> bool {
    let Some(why) = obstacle(&std::env::temp_dir()) else {
        return false;
    };
    remark(&format!(
        "SKIPPED: nothing was tried of the separation of users: {why}"
    ));
    true
}

/// Both hosts, installed.
pub struct Site {
    // Declared before the folder, so that the processes end first.
    processes: BTreeMap<&'static str, Process>,
    folder: TempDir,
    roster: Roster,
    roles: BTreeMap<&'static str, User>,
    accounts: Accounts,
    pub root: User,
    pub drafter: User,
    pub officers: Vec<User>,
    pub operator: User,
    pub reader: User,
}

/// A group of this system for a mailbox: configurations have names of groups, not numbers.
fn a_group() -> (String, u32) {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let mut groups = groups.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(((*fields.first()?).to_owned(), fields.get(2)?.parse().ok()?))
    });
    groups.find(|(_, gid)| *gid != 0).unwrap()
}

fn host_word(role: Role) -> &'static str {
    match role.host() {
        Host::Sender => "sender",
        Host::Receiver => "receiver",
    }
}

fn of_word(host: &str) -> Host {
    match host {
        "sender" => Host::Sender,
        _ => Host::Receiver,
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim().to_owned()
}

impl Site {
    /// Makes users, folders, configurations and keys.
    pub fn install() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        // Everybody can pass through, but nobody can list it.
        fs::set_permissions(&root, Permissions::from_mode(0o711)).unwrap();
        let mut accounts = Accounts::shipped().unwrap();
        let people = ["valise-users"];
        let drafter = accounts.person("drafter", &people).unwrap();
        let officers = ["one", "two"]
            .map(|name| accounts.person(name, &["valise-users", "valise-officers"]))
            .map(Result::unwrap)
            .to_vec();
        let operator = accounts.person("operator", &["valise-operators"]).unwrap();
        let (group, gid) = a_group();
        accounts.person("reader", &[]).unwrap();
        accounts.join("reader", gid);
        // As README.md does for the mailboxes' groups.
        accounts.join("valise-release", gid);
        let mut roles = BTreeMap::new();
        for role in Role::ALL {
            roles.insert(role.word(), accounts.role(role).unwrap());
        }
        accounts.add_root();
        let listen = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let persons = [(&drafter, Roster::DRAFTER)]
            .into_iter()
            .chain(officers.iter().zip(Roster::OFFICERS))
            .map(|(user, person)| format!("{} = \"{person}\"\n", user.uid))
            .collect::<String>();
        for (host, rest) in [
            (
                "sender",
                format!("[persons]\n{persons}[link]\nkind = \"udp\"\nto = \"{listen}\"\n"),
            ),
            (
                "receiver",
                format!(
                    "[mailboxes]\nparis-desk = \"{group}\"\n[link]\nkind = \"udp\"\nlisten = \"{listen}\"\nsocket_buffer = \"1 MiB\"\n"
                ),
            ),
        ] {
            let state = root.join(host);
            accounts.make_folders(of_word(host), &state).unwrap();
            let config = format!("state = \"{}\"\n{rest}", state.display());
            fs::write(root.join(format!("{host}.toml")), config).unwrap();
        }
        fs::create_dir(root.join("keys")).unwrap();
        fs::create_dir(root.join("log")).unwrap();
        // The programs may have been built in a folder that only root can open.
        let built = Programs::built().unwrap();
        for (program, name) in [(&built.sender, "sender"), (&built.receiver, "receiver")] {
            let copy = root.join(format!("valise-{name}"));
            fs::hard_link(program, &copy)
                .or_else(|_| fs::copy(program, &copy).map(drop))
                .unwrap();
        }
        Self {
            processes: BTreeMap::new(),
            roster: Roster::generate(&root.join("keys")).unwrap(),
            folder,
            roles,
            root: accounts.user("root").unwrap(),
            drafter,
            officers,
            operator,
            reader: accounts.user("reader").unwrap(),
            accounts,
        }
    }

    /// The number of a shipped group.
    pub fn gid(&self, group: &str) -> u32 {
        self.accounts.id(group).unwrap()
    }

    /// A place for a file beside the hosts' states.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The words that commission a host.
    pub fn init(&self) -> String {
        let keys = self.roster.administrators.each_ref();
        let keys = keys.map(|key| format!(" --administrator {}", key.public_file().display()));
        format!("init{}", keys.concat())
    }

    /// A trust list that both administrators signed.
    pub fn signed_list(&self, version: u32) -> PathBuf {
        self.signed_list_with(version, "", "")
    }

    /// The same with one text replaced.
    pub fn signed_list_with(&self, version: u32, from: &str, to: &str) -> PathBuf {
        let statement = self.path("courier-1/channel.bundle.statement");
        let statement = fs::read_to_string(statement).unwrap();
        let channel = statement
            .lines()
            .find_map(|line| line.strip_prefix("channel: "));
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let now = UtcTime::from_s(now.as_secs());
        let types = ["text/plain".to_owned()];
        let list = self
            .roster
            .trust_list(channel.unwrap(), version, now, &types);
        assert!(list.contains(from), "{from}");
        let file = self.path(&format!("trust-{version}.toml"));
        fs::write(&file, list.replacen(from, to, 1)).unwrap();
        self.roster
            .administrators_sign("trust-list@valise", &file)
            .unwrap();
        file
    }

    /// Runs `init`, the courier's way and the import of the trust list, as root and before any daemon runs.
    pub fn commission(&self) {
        let init = self.init();
        let init: Vec<&str> = init.split(' ').collect();
        self.run_ok("receiver", &self.root, &init);
        self.run_ok("sender", &self.root, &init);
        self.renew(1);
        let file = self.signed_list(1);
        for host in ["sender", "receiver"] {
            self.run_ok(
                host,
                &self.root,
                &["trust", "import", &file.display().to_string()],
            );
            let left = of_root(&self.state(host));
            assert!(left.is_empty(), "left to root: {left:?}");
        }
    }

    /// Makes and imports a bundle, as root: the first one, or one that replaces the previous one. Only root can open
    /// the courier's folder.
    pub fn renew(&self, bundle: u32) {
        let courier = self.folder.path().join(format!("courier-{bundle}"));
        fs::create_dir(&courier).unwrap();
        fs::set_permissions(&courier, Permissions::from_mode(0o700)).unwrap();
        let folder = courier.display().to_string();
        let mut create = vec!["bundle", "create", "--slots", "20", "--out", &folder];
        let before = (bundle - 1).to_string();
        if bundle > 1 {
            create.extend(["--replaces", &before]);
        }
        self.run_ok("receiver", &self.root, &create);
        assert!(
            of_root(&courier).len() == 2,
            "the courier's files are who asked for them"
        );
        let statement = courier.join("channel.bundle.statement");
        self.roster
            .administrators_sign("bundle@valise", &statement)
            .unwrap();
        self.run_ok("sender", &self.root, &["bundle", "import", &folder]);
    }

    pub fn state(&self, host: &str) -> PathBuf {
        self.folder.path().join(host)
    }

    /// The user of a role.
    pub fn role(&self, role: Role) -> User {
        self.roles[role.word()].clone()
    }

    /// The lines of a role's audit log with this event.
    pub fn audited(&self, role: Role, event: &str) -> Vec<Value> {
        let log = format!("audit/{}.log", role.word());
        audited(&self.state(host_word(role)).join(log), event).unwrap()
    }

    /// Starts a role as its user, and waits until it is ready: it has written its view.
    pub fn start(&mut self, role: Role) {
        let host = host_word(role);
        let word = role.word();
        let mut words = self.roles[word].command_line(&self.program(host));
        words.extend([word.to_owned(), "--config".to_owned(), self.config(host)]);
        let log = self.folder.path().join("log").join(word);
        let view = self.state(host).join(format!("view/{word}.json"));
        let written = |view: &Path| fs::metadata(view).ok()?.modified().ok();
        let before = written(&view);
        let process = Process::start(word, Path::new(&words[0]), &words[1..], &log).unwrap();
        self.processes.insert(word, process);
        let folder = view.parent().unwrap().to_owned();
        self.await_some(&format!("the start of {word}"), &[folder], |_| {
            written(&view).filter(|now| Some(*now) != before)
        });
    }

    /// Ends a role with SIGTERM.
    pub fn stop(&mut self, role: Role) {
        let process = self.processes.remove(role.word()).unwrap();
        let log = process.log_tail();
        let status = process.stop().unwrap();
        assert!(status.success(), "{role:?}: {status}\n{log}");
    }

    /// Waits for something, as long as every process lives.
    pub fn await_some<T>(
        &mut self,
        what: &str,
        folders: &[PathBuf],
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        await_condition(what, LIMIT, folders, || {
            for process in self.processes.values_mut() {
                process.check_alive()?;
            }
            Ok(look(self))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.logs()))
    }

    fn logs(&self) -> String {
        let logs = self.processes.iter();
        logs.map(|(word, process)| format!("--- {word}\n{}\n", process.log_tail()))
            .collect()
    }

    /// A site where every role runs without an alarm.
    pub fn running() -> Self {
        let mut site = Self::install();
        site.commission();
        for role in Role::ALL {
            site.start(role);
        }
        site.await_health();
        site
    }

    /// Waits until `status` shows no alarm to the people of both hosts.
    pub fn await_health(&mut self) {
        for (host, who) in [
            ("sender", self.drafter.clone()),
            ("receiver", self.operator.clone()),
        ] {
            let view = self.state(host).join("view");
            self.await_some(&format!("the health of the {host}"), &[view], |site| {
                let check = site.run(host, &who, &["status", "--check"]);
                let status = site.run(host, &who, &["status", "--json"]);
                let status: Value = serde_json::from_str(&text(&status.stdout)).unwrap_or_default();
                let is_heard =
                    host == "sender" || !status["roles"]["release"]["view"]["beacon"].is_null();
                (check.status.success() && is_heard).then_some(())
            });
        }
    }

    pub fn program(&self, host: &str) -> PathBuf {
        self.folder.path().join(format!("valise-{host}"))
    }

    pub fn config(&self, host: &str) -> String {
        self.folder
            .path()
            .join(format!("{host}.toml"))
            .display()
            .to_string()
    }

    /// Runs a command as somebody.
    pub fn run<S: AsRef<str>>(&self, host: &str, who: &User, words: &[S]) -> Output {
        let mut arguments: Vec<String> =
            words.iter().map(|word| word.as_ref().to_owned()).collect();
        arguments.extend(["--config".to_owned(), self.config(host)]);
        if who.uid == 0 {
            return Command::new(self.program(host))
                .args(&arguments)
                .output()
                .unwrap();
        }
        who.run(self.program(host), &arguments)
    }

    /// Runs a command that must succeed.
    pub fn run_ok<S: AsRef<str>>(&self, host: &str, who: &User, words: &[S]) -> String {
        let output = self.run(host, who, words);
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        assert!(
            output.status.success(),
            "valise-{host} {} as {}: {}\n{}\n{}",
            words.join(" "),
            who.uid,
            text(&output.stdout),
            text(&output.stderr),
            self.logs()
        );
        text(&output.stdout)
    }

    /// A file to be sent, which only the drafter can read.
    pub fn cable(&self, subject: &str) -> PathBuf {
        self.cable_of(subject, format!("{subject}\n").as_bytes())
    }

    /// A file of these bytes to be sent, which only the drafter can read.
    pub fn cable_of(&self, subject: &str, bytes: &[u8]) -> PathBuf {
        let folder = self.folder.path().join(format!("draft-{subject}"));
        let file = self.drafter.folder(folder).join("cable.txt");
        fs::write(&file, bytes).unwrap();
        chown(&file, Some(self.drafter.uid), None).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        file
    }

    pub fn submit(&self, who: &User, file: &Path, subject: &str) -> Output {
        self.run(
            "sender",
            who,
            &Submission::new(subject, &[file.to_owned()]).arguments(),
        )
    }

    /// Submits a cable as its drafter, and approves it as two officers, who sign what they exported.
    pub fn send(&self, subject: &str) -> String {
        let file = self.cable(subject);
        self.send_all(&Submission::new(subject, &[file]))
    }

    /// Submits and approves like [`Site::send`].
    pub fn send_all(&self, submission: &Submission) -> String {
        let id = self.run_ok("sender", &self.drafter, &submission.arguments());
        self.approve(&id);
        id
    }

    /// Approves a cable as two officers, who sign what they exported.
    pub fn approve(&self, id: &str) {
        for (officer, key) in self.officers.iter().zip(&self.roster.officers) {
            let own = self.folder.path().join(format!("{}-{id}", officer.uid));
            let reading = officer.folder(own).join("reading").display().to_string();
            self.run_ok("sender", officer, &["export", id, &reading]);
            // ssh-keygen works only for accounts, so the signature of the officer is made elsewhere.
            let manifest = Path::new(&reading).join("manifest.txt");
            key.sign("cable-approval@valise", std::slice::from_ref(&manifest))
                .unwrap();
            let signature = Path::new(&reading).join("manifest.txt.sig");
            chown(&signature, Some(officer.uid), None).unwrap();
            let signature = signature.display().to_string();
            self.run_ok(
                "sender",
                officer,
                &["approve", id, "--signature", &signature],
            );
        }
    }

    fn released(&self, id: &str, serial: u64) -> PathBuf {
        self.state("receiver")
            .join("released/paris-desk")
            .join(format!("{serial}-{id}"))
    }

    /// Waits for a cable, and compares it with the submission.
    pub fn await_released(&mut self, id: &str, serial: u64) {
        let folder = self.released(id, serial);
        let mailbox = folder.parent().unwrap().to_owned();
        self.await_some("a release", &[mailbox], |_| folder.exists().then_some(()));
        let released = Released::all(&self.state("receiver").join("released")).unwrap();
        assert!(
            released
                .iter()
                .any(|cable| cable.serial == serial && cable.message_id == id)
        );
    }

    /// Asserts that a released cable has the submitted parts, in each of its mailboxes.
    pub fn assert_released_as_sent(&self, submission: &Submission, serial: u64) {
        let released = Released::all(&self.state("receiver").join("released")).unwrap();
        let cables: Vec<_> = released
            .iter()
            .filter(|cable| cable.serial == serial)
            .collect();
        assert_eq!(cables.len(), submission.to.len());
        for cable in cables {
            cable.compare(submission).unwrap();
        }
    }

    /// Waits until the operator sees a serial in a state.
    pub fn await_state(&mut self, serial: u64, state: &str) {
        let view = self.state("receiver").join("view");
        self.await_some(state, &[view], |site| {
            let list = site.run_ok("receiver", &site.operator, &["list", "--json"]);
            let list: Value = serde_json::from_str(&list).unwrap();
            let mut rows = list.as_array().into_iter().flatten();
            rows.any(|row| row["serial"] == serial && row["state"] == state)
                .then_some(())
        });
    }

    /// Asserts that the mailbox's group can read a cable, cannot change it in place, and can take it away, and that
    /// nobody else sees it.
    pub fn fetch_as_reader(&self, id: &str, serial: u64) {
        let folder = self.released(id, serial);
        let part = folder.join("part-001.txt");
        for (who, may) in [
            (&self.reader, true),
            (&self.operator, false),
            (&self.drafter, false),
        ] {
            assert_eq!(who.run("/bin/cat", &[&part]).status.success(), may);
        }
        let change = format!("echo x >>{}", part.display());
        assert!(
            !self
                .reader
                .run("/bin/sh", &["-c", &change])
                .status
                .success()
        );
        assert!(
            !self
                .reader
                .run("/bin/chmod", &["u+w".as_ref(), part.as_path()])
                .status
                .success()
        );
        let own = self.reader.folder(self.folder.path().join("own"));
        let moved = self.reader.run("/bin/mv", &[&folder, &own]);
        assert!(moved.status.success(), "{moved:?}");
        let own = own.join(folder.file_name().unwrap());
        assert!(!folder.exists() && own.join("part-001.txt").exists());
        // The reader can also destroy it, so that a cable that was read need not be kept.
        let removed = self.reader.run("/bin/rm", &["-rf".as_ref(), own.as_path()]);
        assert!(removed.status.success() && !own.exists(), "{removed:?}");
    }

    fn keys(&self, host: &str, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.state(host).join("keys").join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".key")).collect();
        names.sort();
        names
    }

    pub fn taken_keys(&self, host: &str) -> Vec<String> {
        self.keys(host, "link")
    }

    pub fn given_keys(&self, host: &str) -> Vec<String> {
        self.keys(host, "handover")
    }

    pub fn await_taken_keys(&mut self, host: &str, keys: &[&str]) {
        let folder = self.state(host).join("keys/link");
        self.await_some("the link keys", &[folder], |site| {
            (site.taken_keys(host) == keys).then_some(())
        });
    }

    /// Waits until transmit sends under the key of a bundle, and receive has noticed.
    pub fn await_used_link_key(&mut self, bundle: u32) {
        let noticed = self.state("receiver").join("assembly/link-keys");
        let folder = noticed.parent().unwrap().to_owned();
        self.await_some("the new link key in use", &[folder], |_| {
            let text = fs::read_to_string(&noticed).unwrap_or_default();
            text.lines()
                .any(|line| line.starts_with(&format!("{bundle} ")))
                .then_some(())
        });
    }
}
