//! Both hosts: commissioning, running, use, and removal.

mod copy;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use valise_common::units::UtcTime;

use super::accounts::{Accounts, User, obstacle};
use super::awaiting::await_condition;
use super::cable::{Released, Submission};
use super::clock::TestClock;
use super::commission::{Courier, Roster};
use super::error::{Context, HarnessError, Result};
use super::keys::KeyPair;
use super::process::{Process, Usage};
use super::programs::Programs;
use super::remark::remark;
use super::settings::{Line, Link, Settings};
use crate::wire::{LineConditions, Prng, Pty, WireStatistics};

/// The longest time for a command.
const COMMAND_LIMIT_S: &str = "600";
/// The longest time for a daemon to become ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The mode bit of a folder whose files get its group.
const SET_GROUP_ID: u32 = 0o2000;

/// One of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The host that submits.
    Sender,
    /// The isolated host.
    Receiver,
}

/// One of the four processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes, approves and seals.
    Gate,
    /// Sends.
    Transmit,
    /// Collects.
    Receive,
    /// Opens and publishes.
    Release,
}

impl Role {
    /// All four, receiver first: it should listen before anything is sent.
    pub const ALL: [Self; 4] = [Self::Receive, Self::Release, Self::Gate, Self::Transmit];

    /// The subcommand.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Transmit => "transmit",
            Self::Receive => "receive",
            Self::Release => "release",
        }
    }

    /// The host on which it runs.
    pub fn host(self) -> Host {
        match self {
            Self::Gate | Self::Transmit => Host::Sender,
            Self::Receive | Self::Release => Host::Receiver,
        }
    }
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit status; −1 if a signal ended it.
    pub status: i32,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

/// Two commissioned hosts in one folder. Dropping it ends every process and removes the folder.
#[derive(Debug)]
pub struct World {
    // Declared before the folder, so that the processes end first.
    processes: BTreeMap<String, Process>,
    folder: PathBuf,
    _temporary: Option<TempDir>,
    programs: Programs,
    settings: Settings,
    clocks: BTreeMap<Host, TestClock>,
    launchers: BTreeMap<Host, Vec<String>>,
    /// The user of each role; empty if all roles run as the user of the harness.
    users: BTreeMap<Role, User>,
    /// The people.
    pub roster: Roster,
    /// The courier's material; the secret file is kept for tests of its theft.
    pub courier: Courier,
    listen: SocketAddr,
    entrance: SocketAddr,
}

impl World {
    /// Makes keys, writes both configurations, and commissions both hosts through the real commands.
    ///
    /// Each role has the user of its unit and the shipped folders, if this machine allows it; otherwise a line on
    /// standard error reports that. The user of the harness runs the commands.
    ///
    /// # Errors
    /// If any command refuses or fails.
    pub fn commission(programs: Programs, settings: Settings) -> Result<Self> {
        let (folder, temporary) = make_folder(&settings)?;
        let keys = folder.join("keys");
        for part in ["keys", "log", "sender", "receiver", "cables", "line"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).context("make", &part)?;
        }
        let roster = Roster::generate(&keys)?;
        let listen = free_address()?;
        let entrance = match settings.line {
            Line::Direct => listen,
            Line::Wire { .. } | Line::Tapped => free_address()?,
        };
        let mut world = Self {
            processes: BTreeMap::new(),
            courier: Courier::new(folder.join("courier")),
            folder,
            _temporary: temporary,
            programs,
            settings,
            clocks: BTreeMap::new(),
            launchers: BTreeMap::new(),
            users: BTreeMap::new(),
            roster,
            listen,
            entrance,
        };
        if !world.settings.one_user {
            match obstacle(&world.folder) {
                None => world.make_accounts()?,
                Some(why) => remark(&format!("all roles run as one user: {why}")),
            }
        }
        world.write_configurations()?;
        let administrators = world.roster.administrator_arguments();
        let init: Vec<String> = ["init".to_owned()]
            .into_iter()
            .chain(administrators)
            .collect();
        let mut handout = world.expect(Host::Receiver, &init)?;
        let slots = world.settings.slots.to_string();
        let courier = world.courier.folder().display().to_string();
        world.expect(
            Host::Receiver,
            &["bundle", "create", "--slots", &slots, "--out", &courier],
        )?;
        world
            .roster
            .administrators_sign("bundle@valise", &world.courier.statement_file())?;
        handout.push('\n');
        handout.push_str(&world.expect(Host::Sender, &init)?);
        let file = world.auditor_handout();
        fs::write(&file, handout).context("write", &file)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).context("protect", &file)?;
        world.expect(Host::Sender, &["bundle", "import", &courier])?;
        let text = world.trust_list(1)?;
        for host in [Host::Sender, Host::Receiver] {
            world.import_trust_list(host, &text)?;
        }
        Ok(world)
    }

    /// Gives each role the user and the folders of an installation.
    fn make_accounts(&mut self) -> Result<()> {
        let accounts = Accounts::shipped()?;
        for role in Role::ALL {
            self.users.insert(role, accounts.role(role)?);
        }
        for host in [Host::Sender, Host::Receiver] {
            accounts.make_folders(host, &self.state(host))?;
        }
        self.programs.open_to_all(&self.folder)
    }

    /// Returns whether each role has a user of its own.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Gives a file or a folder to the user of a role, as if the role had made it.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn give_to(&self, role: Role, path: &Path) -> Result<()> {
        let Some(user) = self.users.get(&role) else {
            return Ok(());
        };
        let above = path.parent().unwrap_or(path);
        let above = fs::metadata(above).context("look at", above)?;
        let gid = match above.mode() & SET_GROUP_ID {
            0 => user.gid,
            _ => above.gid(),
        };
        lchown(path, Some(user.uid), Some(gid)).context("give away", path)
    }

    /// The text of this world's trust list in some version.
    ///
    /// # Errors
    /// When the channel's id cannot be read.
    pub fn trust_list(&self, version: u32) -> Result<String> {
        let types = &self.settings.media_types;
        Ok(self
            .roster
            .trust_list(&self.courier.channel()?, version, utc_now(), types))
    }

    /// Signs a trust list as both administrators and imports it.
    ///
    /// # Errors
    /// When the host refuses it.
    pub fn import_trust_list(&self, host: Host, text: &str) -> Result<()> {
        let folder =
            tempfile::tempdir_in(&self.folder).context("make a folder in", &self.folder)?;
        let file = folder.path().join("trust.toml");
        fs::write(&file, text).context("write", &file)?;
        self.roster
            .administrators_sign("trust-list@valise", &file)?;
        self.expect(host, &["trust", "import", &file.display().to_string()])
            .map(drop)
    }

    /// All files of this world are below this folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The output of `init` on both hosts, which the auditor keeps.
    pub fn auditor_handout(&self) -> PathBuf {
        self.folder.join("handout.txt")
    }

    /// A folder for files that are to be submitted.
    pub fn cables(&self) -> PathBuf {
        self.folder.join("cables")
    }

    /// The settings with which the world was made.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The state folder of a host.
    pub fn state(&self, host: Host) -> PathBuf {
        self.host_folder(host).join("state")
    }

    /// The folder in which released cables appear.
    pub fn released_folder(&self) -> PathBuf {
        self.state(Host::Receiver).join("released")
    }

    /// The path of a role's port of a serial line: that of `transmit`, or else of `receive`.
    pub fn device(&self, role: Role) -> PathBuf {
        self.line_folder().join(match role {
            Role::Transmit => "sender",
            _ => "receiver",
        })
    }

    fn line_folder(&self) -> PathBuf {
        self.folder.join("line")
    }

    /// The address on which the receiver listens, over UDP.
    pub fn receiver_address(&self) -> SocketAddr {
        self.listen
    }

    /// The address to which the sender sends, over UDP.
    pub fn entrance(&self) -> SocketAddr {
        self.entrance
    }

    /// Runs a command of a host's program and returns its result, whatever that is.
    ///
    /// # Errors
    /// Only when the command cannot be run at all.
    pub fn run<S: AsRef<str>>(&self, host: Host, arguments: &[S]) -> Result<Answer> {
        self.run_under(std::iter::empty(), host, arguments)
    }

    /// The same, with more variables in its environment.
    ///
    /// # Errors
    /// As [`World::run`].
    pub fn run_under<'a, S: AsRef<str>>(
        &self,
        environment: impl Iterator<Item = (&'static str, &'a Path)>,
        host: Host,
        arguments: &[S],
    ) -> Result<Answer> {
        let program = self.program(host);
        let output = Command::new("timeout")
            .args(["-k", "5", COMMAND_LIMIT_S])
            .arg(program)
            .args(arguments.iter().map(AsRef::as_ref))
            .arg("--config")
            .arg(self.configuration(host))
            .envs(environment)
            .stdin(Stdio::null())
            .output()
            .context("run", program)?;
        Ok(Answer {
            status: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed, and returns its standard output without surrounding space.
    ///
    /// # Errors
    /// [`HarnessError::Command`] when it does not exit with 0.
    pub fn expect<S: AsRef<str>>(&self, host: Host, arguments: &[S]) -> Result<String> {
        self.expect_under(std::iter::empty(), host, arguments)
    }

    fn expect_under<'a, S: AsRef<str>>(
        &self,
        environment: impl Iterator<Item = (&'static str, &'a Path)>,
        host: Host,
        arguments: &[S],
    ) -> Result<String> {
        let answer = self.run_under(environment, host, arguments)?;
        if answer.status == 0 {
            return Ok(answer.output.trim().to_owned());
        }
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        Err(HarnessError::Command {
            command: format!("{} {}", self.program(host).display(), words.join(" ")),
            status: answer.status.to_string(),
            output: format!("{}{}", answer.output, answer.errors),
        })
    }

    /// The JSON output of a command.
    ///
    /// # Errors
    /// When the command fails or its output is not JSON.
    pub fn json(&self, host: Host, arguments: &[&str]) -> Result<serde_json::Value> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let text = self.expect(host, &arguments)?;
        serde_json::from_str(&text).map_err(|error| {
            HarnessError::Wrong(format!(
                "`{}` printed no JSON: {error}",
                arguments.join(" ")
            ))
        })
    }

    /// Starts the wire and both hosts, and waits until they are ready. If each role has its own user, each runs by
    /// itself, otherwise both roles of a host run under its supervisor.
    ///
    /// # Errors
    /// If one of them does not become ready.
    pub fn start(&mut self) -> Result<()> {
        if self.has_users() {
            return self.start_roles();
        }
        self.start_wire()?;
        for host in [Host::Receiver, Host::Sender] {
            let roles = Role::ALL.into_iter().filter(|role| role.host() == host);
            let before: Vec<_> = roles.map(|role| (role, self.view_identity(role))).collect();
            self.launch(host, None)?;
            for (role, identity) in before {
                self.await_ready(role, &identity)?;
            }
        }
        Ok(())
    }

    /// Starts the wire and the four roles, each as a process of its own, without supervisors.
    ///
    /// # Errors
    /// If one of them does not become ready.
    pub fn start_roles(&mut self) -> Result<()> {
        self.start_wire()?;
        for role in Role::ALL {
            self.start_role(role)?;
        }
        Ok(())
    }

    /// Gives the daemons of a host a clock that the test moves, from their next start on.
    ///
    /// # Errors
    /// As [`TestClock::make`].
    pub fn make_clock(&mut self, host: Host) -> Result<()> {
        let clock = TestClock::make(&self.host_folder(host))?;
        self.clocks.insert(host, clock);
        Ok(())
    }

    /// Moves the clock of a host to so many seconds ahead of the true time, or behind it.
    ///
    /// # Errors
    /// When the host has no such clock.
    pub fn set_clock_ahead(&self, host: Host, ahead_s: i64) -> Result<()> {
        let none = || HarnessError::Wrong("no clock was made for this host".to_owned());
        self.clocks.get(&host).ok_or_else(none)?.set_ahead(ahead_s)
    }

    /// Sets the words of another program that starts the daemons of a host, from their next start on: the words come
    /// before the daemon's command line. Without words the daemons start as before.
    pub fn start_by(&mut self, host: Host, launcher: Vec<String>) {
        self.launchers.insert(host, launcher);
    }

    /// Starts one role and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start_role(&mut self, role: Role) -> Result<()> {
        let identity = self.view_identity(role);
        self.launch(role.host(), Some(role))?;
        self.await_ready(role, &identity)
    }

    /// Starts one role without waiting.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn launch_role(&mut self, role: Role) -> Result<()> {
        self.launch(role.host(), Some(role))
    }

    /// Starts the wire process, if the settings require one.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start_wire(&mut self) -> Result<()> {
        let (conditions, seed) = match (self.settings.line, self.settings.link) {
            (Line::Wire { conditions, seed }, _) => (conditions, seed),
            (Line::Direct, Link::Serial { .. }) => (LineConditions::CLEAN, 1),
            (Line::Direct, Link::Udp) | (Line::Tapped, _) => return Ok(()),
        };
        let share = |share: valise_common::units::Percent| share.to_string();
        let time = |time: Duration| format!("{} us", time.as_micros());
        let mut options = vec![
            ("--loss", share(conditions.loss)),
            ("--burst", time(conditions.burst)),
            ("--duplicate", share(conditions.duplicate)),
            ("--corrupt", share(conditions.corrupt)),
            ("--seed", seed.to_string()),
            ("--statistics", self.statistics_file().display().to_string()),
        ];
        options.extend(match self.settings.link {
            Link::Udp => vec![
                ("--listen", self.entrance.to_string()),
                ("--to", self.listen.to_string()),
                ("--reorder", share(conditions.reorder)),
                ("--reorder-hold", time(conditions.reorder_hold)),
            ],
            Link::Serial { baud } => vec![
                ("--serial", self.line_folder().display().to_string()),
                ("--baud", baud.to_string()),
            ],
        });
        let arguments: Vec<String> = options
            .into_iter()
            .flat_map(|(option, value)| [option.to_owned(), value])
            .collect();
        // The links of a wire that was killed are broken, or by now lead to a terminal of another program.
        for role in [Role::Transmit, Role::Receive] {
            let _ = fs::remove_file(self.device(role));
        }
        let log = self.log_file("wire");
        let process = Process::start("wire", &self.programs.wire, &arguments, &log)?;
        self.processes.insert("wire".to_owned(), process);
        if self.settings.link != Link::Udp {
            return self.await_ports();
        }
        let entrance = self.entrance;
        self.await_alive("the wire to listen", READY_LIMIT, &[], |_| {
            Ok(is_bound(entrance).then_some(()))
        })
    }

    /// Waits until the wire has made both ports, and gives each to its role.
    fn await_ports(&mut self) -> Result<()> {
        let folders = [self.line_folder()];
        let roles = [Role::Transmit, Role::Receive];
        self.await_alive("both ports of the line", READY_LIMIT, &folders, |world| {
            let there = roles.iter().all(|role| world.device(*role).exists());
            Ok(there.then_some(()))
        })?;
        roles.iter().try_for_each(|role| self.give_port(*role))
    }

    /// Gives a port to its role, and to no other user.
    fn give_port(&self, role: Role) -> Result<()> {
        let Some(user) = self.users.get(&role) else {
            return Ok(());
        };
        let port = self.device(role);
        chown(&port, Some(user.uid), Some(user.gid)).context("give away", &port)?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&port, mode).context("protect", &port)
    }

    /// Unplugs both ends of a serial line that the wire process carries.
    ///
    /// # Errors
    /// If the ports do not disappear.
    pub fn unplug(&mut self) -> Result<()> {
        self.signal_wire()?;
        let folders = [self.line_folder()];
        self.await_alive("the ports to go", READY_LIMIT, &folders, |world| {
            let mut roles = [Role::Transmit, Role::Receive].into_iter();
            let gone = roles.all(|role| fs::symlink_metadata(world.device(role)).is_err());
            Ok(gone.then_some(()))
        })
    }

    /// Plugs a serial line in again.
    ///
    /// # Errors
    /// If the ports do not appear.
    pub fn plug_in(&mut self) -> Result<()> {
        self.signal_wire()?;
        self.await_ports()
    }

    fn signal_wire(&self) -> Result<()> {
        let none = || HarnessError::Wrong("no wire process runs".to_owned());
        self.processes
            .get("wire")
            .ok_or_else(none)?
            .signal(Signal::SIGUSR2)
    }

    /// Makes the port of a role on a serial line that the test itself carries; dropping it unplugs that end.
    ///
    /// # Errors
    /// If the system provides no pseudo-terminal.
    pub fn open_port(&self, role: Role) -> Result<Pty> {
        let name = self.device(role);
        let port = Pty::open(&name).context("make the port", &name)?;
        self.give_port(role)?;
        Ok(port)
    }

    /// Kills a process as by a power failure: `gate`, `transmit`, `receive`, `release`, `run` of a host, or `wire`.
    pub fn kill(&mut self, name: &str) {
        if let Some(process) = self.processes.remove(name) {
            process.kill();
        }
    }

    /// Ends a process with SIGTERM.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self, name: &str) -> Result<()> {
        self.processes
            .remove(name)
            .map_or(Ok(()), |process| process.stop().map(drop))
    }

    /// Ends both processes of a host in order, as [`World::start`] started them.
    ///
    /// # Errors
    /// When they do not end.
    pub fn stop_host(&mut self, host: Host) -> Result<()> {
        for role in Role::ALL.into_iter().filter(|role| role.host() == host) {
            self.stop(role.word())?;
        }
        self.stop(supervisor_name(host))
    }

    /// The process id of a role, whether it runs alone or under its supervisor.
    pub fn role_pid(&self, role: Role) -> Option<u32> {
        if let Some(process) = self.processes.get(role.word()) {
            return Some(process.pid());
        }
        let supervisor = self.processes.get(supervisor_name(role.host()))?;
        supervisor.child_with_argument(role.word())
    }

    /// The resources that a role has used so far.
    pub fn usage(&self, role: Role) -> Option<Usage> {
        self.role_pid(role).and_then(Usage::of)
    }

    /// Submits a cable and returns its message-id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn submit(&self, submission: &Submission) -> Result<String> {
        self.expect(Host::Sender, &submission.arguments())
    }

    /// Approves a cable with a key, through `approve --key`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn approve(&self, id: &str, key: &KeyPair) -> Result<()> {
        let file = key.private_file().display().to_string();
        let words = ["approve", id, "--key", &file, "--yes"];
        self.expect_under(key.environment(), Host::Sender, &words)
            .map(drop)
    }

    /// Submits a cable and approves it as the first two officers.
    ///
    /// # Errors
    /// When anything is refused.
    pub fn send(&self, submission: &Submission) -> Result<String> {
        let id = self.submit(submission)?;
        for officer in &self.roster.officers[..2] {
            self.approve(&id, officer)?;
        }
        Ok(id)
    }

    /// Waits until a cable is in each mailbox to which it was sent, and compares every byte.
    ///
    /// # Errors
    /// If it does not come in time, comes twice, differs, or a process ended meanwhile.
    pub fn await_released(
        &mut self,
        id: &str,
        submission: &Submission,
        limit: Duration,
    ) -> Result<Vec<Released>> {
        let mut folders: Vec<PathBuf> = vec![self.released_folder()];
        folders.extend(
            submission
                .to
                .iter()
                .map(|mailbox| self.released_folder().join(mailbox)),
        );
        let wanted = submission.to.len();
        let id = id.to_owned();
        let what = format!("the release of cable {id}");
        let found = self.await_alive(&what, limit, &folders, |world| {
            let mut all = Released::all(&world.released_folder())?;
            all.retain(|released| released.message_id == id);
            Ok((all.len() >= wanted).then_some(all))
        })?;
        let mut mailboxes: Vec<&String> = found.iter().map(|released| &released.mailbox).collect();
        let mut addressed: Vec<&String> = submission.to.iter().collect();
        mailboxes.sort();
        addressed.sort();
        if mailboxes != addressed {
            let text = format!("sent to {addressed:?}, released to {mailboxes:?}");
            return Err(HarnessError::Wrong(text));
        }
        for released in &found {
            released.compare(submission)?;
        }
        Ok(found)
    }

    /// Waits until a serial is in a state on the receiver, and returns its reason.
    ///
    /// # Errors
    /// If that does not happen in time, or a process ended meanwhile.
    pub fn await_state(&mut self, serial: u64, wanted: &str, limit: Duration) -> Result<String> {
        let view = self.state(Host::Receiver).join("view");
        let what = format!("serial {serial} {wanted}");
        self.await_alive(&what, limit, &[view], |world| {
            let list = world.json(Host::Receiver, &["list"])?;
            let mut entries = list.as_array().into_iter().flatten();
            let found = entries.find(|entry| entry["serial"] == serial && entry["state"] == wanted);
            Ok(found.map(|entry| entry["reason"].as_str().unwrap_or_default().to_owned()))
        })
    }

    /// Waits for a condition, and fails early if a process ends.
    ///
    /// # Errors
    /// As [`await_condition`], or when a process that should run has ended.
    pub fn await_alive<T>(
        &mut self,
        what: &str,
        limit: Duration,
        folders: &[PathBuf],
        mut ready: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let result = await_condition(what, limit, folders, || {
            for process in self.processes.values_mut() {
                process.check_alive()?;
            }
            ready(self)
        });
        match result {
            Err(HarnessError::Timeout { what, waited, .. }) => Err(HarnessError::Timeout {
                what,
                waited,
                detail: self.log_tails(),
            }),
            other => other,
        }
    }

    /// Waits until gate and release, if they run, have erased the files that they set aside.
    ///
    /// # Errors
    /// If that does not end, or a process ended meanwhile.
    pub fn await_erased(&mut self) -> Result<()> {
        let running = [Role::Gate, Role::Release]
            .into_iter()
            .filter(|role| self.role_pid(*role).is_some());
        let folders: Vec<PathBuf> = running
            .map(|role| self.state(role.host()).join("tmp").join(role.word()))
            .collect();
        self.await_alive("the erasing", READY_LIMIT, &folders, |_| {
            for folder in &folders {
                for entry in fs::read_dir(folder).context("read", folder)? {
                    let name = entry.context("read", folder)?.file_name();
                    if name.to_string_lossy().starts_with(".erase-") {
                        return Ok(None);
                    }
                }
            }
            Ok(Some(()))
        })
    }

    /// All cables that have been released so far.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn released(&self) -> Result<Vec<Released>> {
        Released::all(&self.released_folder())
    }

    /// The statistics of the wire so far; zeros without a wire.
    pub fn wire_statistics(&self) -> WireStatistics {
        fs::read(self.statistics_file())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// A role's view, if it has written one.
    pub fn view(&self, role: Role) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(self.view_file(role)).ok()?).ok()
    }

    /// Writes a file of pseudo-random bytes for a submission.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn generate_file(&self, name: &str, size_bytes: u64, seed: u64) -> Result<PathBuf> {
        use std::io::Write;
        let path = self.cables().join(name);
        let mut file = fs::File::create(&path).context("create", &path)?;
        let mut prng = Prng::new(seed);
        let mut buffer = vec![0; 1 << 20];
        let mut left = size_bytes;
        while left > 0 {
            prng.fill(&mut buffer);
            let length = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            file.write_all(&buffer[..length]).context("write", &path)?;
            left -= u64::try_from(length).unwrap_or(left);
        }
        Ok(path)
    }

    /// The ends of all logs.
    pub fn log_tails(&self) -> String {
        let mut text = String::new();
        for process in self.processes.values() {
            text.push_str(&format!(
                "\n--- {}:\n{}",
                process.name(),
                process.log_tail()
            ));
        }
        text
    }

    /// The program of a host.
    pub fn program(&self, host: Host) -> &Path {
        match host {
            Host::Sender => &self.programs.sender,
            Host::Receiver => &self.programs.receiver,
        }
    }

    fn host_folder(&self, host: Host) -> PathBuf {
        self.folder.join(match host {
            Host::Sender => "sender",
            Host::Receiver => "receiver",
        })
    }

    /// The configuration file of a host.
    pub fn configuration(&self, host: Host) -> PathBuf {
        self.host_folder(host).join(match host {
            Host::Sender => "sender.toml",
            Host::Receiver => "receiver.toml",
        })
    }

    fn write_configurations(&self) -> Result<()> {
        let state = |host| self.state(host).display().to_string();
        let (near, far) = match self.settings.link {
            Link::Udp => (self.entrance.to_string(), self.listen.to_string()),
            Link::Serial { .. } => {
                let device = |role| self.device(role).display().to_string();
                (device(Role::Transmit), device(Role::Receive))
            }
        };
        let sender =
            self.settings
                .sender_toml(&state(Host::Sender), &user_name(), Roster::DRAFTER, &near);
        let receiver = self.settings.receiver_toml(&state(Host::Receiver), &far);
        for (host, text) in [(Host::Sender, sender), (Host::Receiver, receiver)] {
            let file = self.configuration(host);
            fs::write(&file, text).context("write", &file)?;
        }
        Ok(())
    }

    /// Returns the command line that starts a role as its user, up to and with the name of its program.
    pub fn program_as(&self, role: Role) -> Vec<String> {
        self.command_as(role, self.program(role.host()))
    }

    /// Returns the command line that starts any program as the user of a role.
    pub fn command_as(&self, role: Role, program: &Path) -> Vec<String> {
        match self.users.get(&role) {
            Some(user) => user.command_line(program),
            None => vec![program.display().to_string()],
        }
    }

    fn launch(&mut self, host: Host, role: Option<Role>) -> Result<()> {
        let (name, word, program) = match role {
            Some(role) => (role.word(), role.word(), self.program_as(role)),
            None => {
                let program = self.program(host).display().to_string();
                (supervisor_name(host), "run", vec![program])
            }
        };
        let configuration = self.configuration(host).display().to_string();
        let mut words = self.launchers.get(&host).cloned().unwrap_or_default();
        words.extend(program);
        words.extend([word, "--config", &configuration].map(str::to_owned));
        let process = Process::start_under(
            self.clocks.get(&host),
            name,
            Path::new(&words[0]),
            &words[1..],
            &self.log_file(name),
        )?;
        self.processes.insert(name.to_owned(), process);
        Ok(())
    }

    fn await_ready(&mut self, role: Role, before: &Option<SystemTime>) -> Result<()> {
        let what = format!("the start of {}", role.word());
        let folder = self.state(role.host()).join("view");
        self.await_alive(&what, READY_LIMIT, &[folder], |world| {
            let identity = world.view_identity(role);
            // On a serial line nothing is lost before receive has opened its port, because the port keeps it.
            let listening =
                role != Role::Receive || world.settings.link != Link::Udp || is_bound(world.listen);
            Ok((identity.is_some() && identity != *before && listening).then_some(()))
        })
    }

    fn view_file(&self, role: Role) -> PathBuf {
        self.state(role.host())
            .join("view")
            .join(format!("{}.json", role.word()))
    }

    /// Distinguishes one writing of a view from another.
    fn view_identity(&self, role: Role) -> Option<SystemTime> {
        fs::metadata(self.view_file(role)).ok()?.modified().ok()
    }

    fn statistics_file(&self) -> PathBuf {
        self.folder.join("log/wire.json")
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.folder.join("log").join(format!("{name}.log"))
    }
}

fn supervisor_name(host: Host) -> &'static str {
    match host {
        Host::Sender => "valise-sender",
        Host::Receiver => "valise-receiver",
    }
}

fn make_folder(settings: &Settings) -> Result<(PathBuf, Option<TempDir>)> {
    if let Some(folder) = &settings.keep {
        fs::create_dir_all(folder).context("make", folder)?;
        let folder = folder.canonicalize().context("find", folder)?;
        if fs::read_dir(&folder)
            .context("read", &folder)?
            .next()
            .is_some()
        {
            let text = format!(
                "{} is not empty; name a new folder to keep",
                folder.display()
            );
            return Err(HarnessError::Usage(text));
        }
        return Ok((folder, None));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix("valise-");
    let temporary = match &settings.parent {
        Some(parent) => builder
            .tempdir_in(parent)
            .context("make a folder in", parent)?,
        None => builder
            .tempdir()
            .context("make", Path::new("a temporary folder"))?,
    };
    // Everybody can pass through, but nobody can list it.
    let mode = fs::Permissions::from_mode(0o711);
    fs::set_permissions(temporary.path(), mode).context("open", temporary.path())?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// A free UDP address of this host. Another program could take it before it is used, so it is a random address of
/// 127.0.0.0/8, where few programs listen.
fn free_address() -> Result<SocketAddr> {
    let mut host = [0; 3];
    getrandom::fill(&mut host).map_err(|error| HarnessError::Wrong(error.to_string()))?;
    let ip = [127, host[0], host[1], host[2].clamp(1, 254)];
    let here = Path::new("a loopback port");
    let socket = UdpSocket::bind(SocketAddr::from((ip, 0))).context("bind", here)?;
    socket.local_addr().context("name", here)
}

/// Returns whether a process has a UDP socket at this address, from /proc.
fn is_bound(address: SocketAddr) -> bool {
    let SocketAddr::V4(address) = address else {
        return true;
    };
    let ip = u32::from_le_bytes(address.ip().octets());
    let wanted = format!(" {ip:08X}:{:04X} ", address.port());
    fs::read_to_string("/proc/net/udp").is_ok_and(|table| table.contains(&wanted))
}

fn user_name() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// The clock of this machine.
fn utc_now() -> UtcTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UtcTime::from_s(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_address_is_seen_in_proc() {
        let address = free_address().expect("a free port");
        assert!(!is_bound(address));
        let _socket = UdpSocket::bind(address).expect("still free");
        assert!(is_bound(address));
    }

    #[test]
    fn a_folder_that_holds_something_is_not_reused() {
        let folder = tempfile::tempdir().expect("a folder");
        let keep = folder.path().join("kept");
        let settings = Settings {
            keep: Some(keep.clone()),
            ..Settings::default()
        };
        assert!(make_folder(&settings).is_ok());
        fs::write(keep.join("something"), b"").expect("written");
        assert!(matches!(
            make_folder(&settings),
            Err(HarnessError::Usage(_))
        ));
    }
}
