//! One run: a seed, two hosts, a line, people and faults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use valise_common::host::folders::Role;
use valise_common::os::durable::hold_reserve;

use super::arrivals::Arrivals;
use super::cables::{Cable, Mailboxes};
use super::disk::{Disk, Failing, Failure, Image, Operation};
use super::host::{Address, Ended, Running};
use super::line::Line;
use super::log::Log;
use super::plan::{CHAOS_US, Fault, Link, Plan, Rot, place};
use super::site::Site;
use super::virtual_time::VirtualTime;
use super::{Result, wrong};
use crate::wire::Prng;

/// The roles in the order in which they have their turns.
const ROLES: [Role; 4] = [Role::Gate, Role::Transmit, Role::Receive, Role::Release];

/// Every run begins at this moment.
const BEGIN_US: u64 = 1_900_000_000_000_000;

/// The hosts have been up for so long when a run begins.
const UP_US: u64 = 1_000_000_000;

/// A step while something is on its way, and while nothing is.
const STEP_US: [u64; 2] = [4_000, 200_000];

/// A supervisor starts a role again after so long.
const RESTART_US: u64 = 2_000_000;

/// A role looks at the room on its disk so often, at the least.
const ROOM_LOOK_US: u64 = 1_500_000;

/// Every approved cable must have arrived by now.
const END_US: u64 = CHAOS_US + 240_000_000;

/// A role, and the faults to come.
#[derive(Default)]
struct Slot {
    running: Option<Running>,
    /// The moment at which the supervisor starts the role.
    start_at_us: u64,
    stalls_until_us: u64,
    /// The role dies at this operation from now.
    dies_in: Option<(usize, Death)>,
    fails: Option<(Failing, u64, Failure)>,
    /// The role may end until then: a failure may show only in a later turn.
    may_end_until_us: u64,
    /// Memory that the role holds between its turns.
    held_bytes: i64,
}

#[derive(Debug, Clone, Copy)]
enum Death {
    Killed,
    PowerCut(Option<Rot>),
}

/// A run under way.
pub struct Run<'s> {
    pub(super) site: &'s Site,
    time: &'s VirtualTime,
    pub(super) disks: BTreeMap<Address, Disk>,
    slots: BTreeMap<Role, Slot>,
    pub(super) now_us: u64,
    /// The wall clock, ahead of where it would be.
    ahead_s: i64,
    pub(super) prng: Prng,
    faults: std::iter::Peekable<std::vec::IntoIter<(u64, Fault)>>,
    pub(super) cables: Vec<Cable>,
    pub(super) mailboxes: Mailboxes,
    pub(super) link: Link,
    pub(super) line: Line<'s>,
    /// When transmit wants its next turn, on a serial line.
    wake_us: u64,
    /// Since when nothing hinders a host.
    pub(super) unhindered_at_us: BTreeMap<Address, u64>,
    /// When a disk last had no room, or failed.
    pub(super) lacked_room_at_us: Option<u64>,
    /// Hosts whose roles may not have seen yet that there is room again.
    hindered_until_us: BTreeMap<Address, u64>,
    /// When it is checked again what must have happened.
    pub(super) in_time_at_us: u64,
    full_until_us: BTreeMap<Address, u64>,
    /// Kinds of files with a flipped bit. Such a file may be lost, but not in silence.
    pub(super) rotten: Vec<Rot>,
    /// Nobody has accepted the clock since.
    pub(super) clock_leapt: bool,
    pub(super) clock_was_wrong: bool,
    pub(super) requests: u64,
    /// Requests of root that wait for their answers.
    pub(super) root_asks: Vec<(PathBuf, String)>,
    /// The trust list that was brought last to each host.
    trust_versions: BTreeMap<Address, u32>,
    pub(super) healed_at_us: u64,
    /// The operator looks at what is missing.
    pub(super) resend_at_us: u64,
    pub(super) log: Log,
    /// The role whose log was put back, and whether it has refused to start.
    pub(super) refuses: Option<(Role, bool)>,
    /// Something moved in the last step.
    active: bool,
    /// Names in mailboxes may have changed.
    must_look: bool,
}

impl<'s> Run<'s> {
    /// Runs a seed to its end.
    ///
    /// # Errors
    /// A fault of the simulation itself. Faults of the hosts are in the log.
    pub fn to_its_end(site: &'s Site, time: &'s VirtualTime, seed: u64) -> Result<Log> {
        // The hosts' randomness follows from the seed too, but is not 0: then the kernel's would be taken.
        time.set_seed(seed.wrapping_mul(2).wrapping_add(1))
            .map_err(wrong)?;
        time.count_memory().map_err(wrong)?;
        let mut prng = Prng::new(seed);
        let plan = Plan::draw(seed, &mut prng);
        let mut disks = BTreeMap::new();
        for host in [Address::Sender, Address::Receiver] {
            let disk = Disk::mount(site.image(host), &site.mount_point(host)).map_err(wrong)?;
            disks.insert(host, disk);
        }
        let cables = (0..)
            .zip(plan.cables)
            .map(|(number, plan)| Cable::new(number, plan));
        let mut arrivals = Arrivals::new(plan.link);
        if let Some((id, key)) = site.link_key() {
            arrivals.add_key(id, key);
        }
        let line = Line::new(&site.ends, plan.link, plan.line, prng.bits(), arrivals)?;
        let mut run = Run {
            site,
            time,
            disks,
            slots: ROLES
                .into_iter()
                .map(|role| (role, Slot::default()))
                .collect(),
            now_us: 0,
            ahead_s: 0,
            faults: plan.faults.into_iter().peekable(),
            cables: cables.collect(),
            prng,
            mailboxes: Mailboxes::default(),
            link: plan.link,
            line,
            wake_us: u64::MAX,
            unhindered_at_us: BTreeMap::new(),
            lacked_room_at_us: None,
            hindered_until_us: BTreeMap::new(),
            in_time_at_us: 0,
            full_until_us: BTreeMap::new(),
            rotten: Vec::new(),
            clock_leapt: false,
            clock_was_wrong: false,
            requests: 0,
            root_asks: Vec::new(),
            trust_versions: BTreeMap::new(),
            healed_at_us: 0,
            resend_at_us: CHAOS_US + 15_000_000,
            log: Log::default(),
            refuses: None,
            active: false,
            must_look: false,
        };
        run.log.add(
            0,
            format!("seed {seed}, {:?}, line {:?}", plan.link, plan.line),
        );
        while !run.is_over() {
            run.step()?;
        }
        run.finish()?;
        Ok(run.log)
    }

    fn is_over(&self) -> bool {
        let is_settled = self.healed_at_us > 0
            && self.now_us >= self.healed_at_us + 5_000_000
            && self.cables.iter().all(|cable| self.is_settled(cable));
        is_settled
            || matches!(self.refuses, Some((_, true)))
            || self.now_us >= END_US
            || !self.log.violations().is_empty()
    }

    fn step(&mut self) -> Result<()> {
        self.set_time()?;
        self.active = false;
        self.handle_faults()?;
        self.handle_people()?;
        self.turn(Role::Gate, false)?;
        self.wake_us = u64::MAX;
        self.turn(Role::Transmit, false)?;
        self.carry()?;
        self.turn(Role::Receive, false)?;
        self.turn(Role::Release, false)?;
        self.look()?;
        self.take_some()?;
        self.check_in_time()?;
        let step_us = match self.active {
            true => STEP_US[0],
            false => self
                .wake_us
                .saturating_sub(self.now_us)
                .clamp(STEP_US[0], STEP_US[1]),
        };
        self.now_us += step_us;
        Ok(())
    }

    fn set_time(&mut self) -> Result<()> {
        let utc_us = (BEGIN_US + self.now_us).saturating_add_signed(self.ahead_s * 1_000_000);
        self.time.set_utc_us(utc_us).map_err(wrong)?;
        self.time.set_mono_us(UP_US + self.now_us).map_err(wrong)
    }

    /// Takes in that a role has slept.
    fn note_time(&mut self) -> Result<()> {
        let mono_us = self.time.mono_us().map_err(wrong)?;
        self.now_us = self.now_us.max(mono_us.saturating_sub(UP_US));
        Ok(())
    }

    fn handle_faults(&mut self) -> Result<()> {
        let ended: Vec<Address> = self
            .full_until_us
            .iter()
            .filter_map(|(host, until_us)| (*until_us <= self.now_us).then_some(*host))
            .collect();
        for host in ended {
            self.full_until_us.remove(&host);
            self.lacked_room_at_us = Some(self.now_us);
            // Receive looks once a second how much room there is, and drops symbols until then.
            let until_us = self.now_us + ROOM_LOOK_US;
            self.hindered_until_us.insert(host, until_us);
            self.disk(host)?.set_free(None);
            self.log
                .add(self.now_us, format!("{host:?} has room again"));
        }
        while let Some((_, fault)) = self.faults.next_if(|(at_us, _)| *at_us <= self.now_us) {
            self.log.add(self.now_us, format!("{fault:?}"));
            self.handle_fault(fault)?;
        }
        if self.healed_at_us == 0 && self.now_us >= CHAOS_US {
            self.healed_at_us = self.now_us;
            self.log.add(self.now_us, "no more faults");
            self.ahead_s = 0;
            self.set_time()?;
            for slot in self.slots.values_mut() {
                (slot.dies_in, slot.fails) = (None, None);
                slot.stalls_until_us = 0;
            }
        }
        Ok(())
    }

    fn handle_fault(&mut self, fault: Fault) -> Result<()> {
        let now_us = self.now_us;
        match fault {
            Fault::Kill(role, number) => self.slot(role).dies_in = Some((number, Death::Killed)),
            Fault::PowerCut(role, number) => {
                self.slot(role).dies_in = Some((number, Death::PowerCut(None)));
            }
            Fault::Flip(role, number, rot) => {
                self.slot(role).dies_in = Some((number, Death::PowerCut(Some(rot))));
            }
            Fault::Fail(role, failing, number, failure) => {
                self.slot(role).fails = Some((failing, number, failure));
            }
            Fault::Stall(role, for_us) => self.slot(role).stalls_until_us = now_us + for_us,
            Fault::Stop(role) => {
                let stopped = self.slot(role).running.take().map(Running::stop);
                self.note_time()?;
                self.slot(role).start_at_us = now_us + RESTART_US;
                if let Some(Err(ended)) = stopped {
                    self.handle_ended(role, ended)?;
                }
            }
            Fault::Full(host, free_bytes, for_us) => {
                self.disk(host)?.set_free(Some(free_bytes));
                self.full_until_us.insert(host, now_us + for_us);
            }
            Fault::Blackout(for_us) => self.line.dark_until_us = now_us + for_us,
            Fault::Stuck(for_us) => self.line.stuck_until_us = now_us + for_us,
            Fault::Clock(by_s) => {
                self.ahead_s += by_s;
                self.clock_leapt = true;
                self.clock_was_wrong = true;
                self.set_time()?;
            }
            Fault::Foreign(count) => {
                for _ in 0..count {
                    let bytes = self.line.foreign(&mut self.prng);
                    self.hand_to_receive(&bytes)?;
                }
            }
            Fault::Hostile(host, chance) => self.place_hostile(host, chance)?,
            Fault::Resend(first, last) => {
                for cable in &mut self.cables {
                    cable.resends += 1;
                }
                let text = format!("request = \"resend\"\nserials = \"{first}-{last}\"\n");
                self.act_as_root(Address::Sender, &text, &[])?;
            }
            Fault::AcceptClock(host) => {
                self.act_as_root(host, "request = \"clock-accept\"\n", &[])?;
            }
            Fault::TrustList(host) => {
                let version = self.trust_versions.entry(host).or_insert(1);
                *version += 1;
                let files = self.site.trust_list(*version).map_err(wrong)?;
                self.act_as_root(host, "request = \"trust-import\"\n", &files)?;
            }
        }
        Ok(())
    }

    /// Gives a role its turn; it may die in it.
    fn turn(&mut self, role: Role, has_datagram: bool) -> Result<()> {
        let host = Address::of(role);
        let now_us = self.now_us;
        let slot = self.slot(role);
        if slot.stalls_until_us > now_us || (slot.running.is_none() && slot.start_at_us > now_us) {
            self.hinder(host);
            return Ok(());
        }
        let mut running = slot.running.take();
        let (dies_in, fails) = (slot.dies_in, slot.fails);
        let is_start = running.is_none();
        if self.full_until_us.contains_key(&host) {
            // One reserve serves a process; here four roles are in one.
            let _ = hold_reserve(&self.reserve(role));
        }
        let disk = self.disk(host)?;
        disk.set_actor(0, 0);
        disk.reset();
        if let Some((number, _)) = dies_in {
            disk.kill_at(number);
        }
        if let Some((failing, number, failure)) = fails {
            disk.fail_at(failing, number, failure);
            self.lacked_room_at_us = Some(now_us);
            self.slot(role).may_end_until_us = now_us + RESTART_US;
        }
        let (line, time) = (&mut self.line, self.time);
        let before_bytes = time.begin_memory().map_err(wrong)?;
        // What the simulation itself takes in the turn.
        let mut own_bytes = 0;
        let after_batch = || {
            if line.is_serial() {
                let (before, _) = time.memory().map_err(wrong)?;
                line.take_sent(now_us)?;
                own_bytes += time.memory().map_err(wrong)?.0 - before;
            }
            Ok(())
        };
        let result = match &mut running {
            Some(running) => running.turn(has_datagram, after_batch),
            None => Running::start(self.site, self.link, role).map(|started| {
                running = Some(started);
                None
            }),
        };
        let (now_bytes, most_bytes) = time.memory().map_err(wrong)?;
        let slot = self.slot(role);
        let held_bytes = if is_start { 0 } else { slot.held_bytes };
        slot.held_bytes = held_bytes + now_bytes - before_bytes - own_bytes;
        self.check_memory(
            role,
            held_bytes + most_bytes - before_bytes - own_bytes.max(0),
        );
        let disk = self.disk(host)?;
        let (done, is_dead) = (disk.operations(), disk.is_killed());
        let lacks_room = self.full_until_us.contains_key(&host)
            || self
                .hindered_until_us
                .get(&host)
                .is_some_and(|until_us| *until_us > now_us);
        if is_dead || is_start || fails.is_some() || lacks_room {
            self.hinder(host);
        }
        if is_dead {
            // A dead process changes nothing any more, whatever is dropped here. What it did before is there.
            self.must_look |= role == Role::Release;
            drop(running);
            self.disk(host)?.reset();
            let last = done.last();
            self.log
                .add(now_us, format!("{role} died at {last:?} {}", done.len()));
            let slot = self.slot(role);
            (slot.start_at_us, slot.dies_in) = (now_us + RESTART_US, None);
            return match dies_in {
                // A role that was starting may not have an index yet that shows how long its log is.
                Some((_, Death::PowerCut(Some(Rot::OldLog)))) if is_start => Ok(()),
                Some((_, Death::PowerCut(rot))) => self.cut_power(host, rot),
                _ => Ok(()),
            };
        }
        self.disk(host)?.reset();
        self.note_time()?;
        self.active |= !done.is_empty();
        self.must_look |= role == Role::Release && done.contains(&Operation::Rename);
        let slot = self.slot(role);
        if let Some((left, _)) = &mut slot.dies_in {
            *left = left.saturating_sub(done.len()).max(1);
        }
        if let Some((_, left, _)) = &mut slot.fails {
            let counted = u64::try_from(done.len()).unwrap_or(u64::MAX);
            match *left > counted && !is_start {
                true => *left -= counted,
                // The operation has failed, or the count was of another kind.
                false => slot.fails = None,
            }
        }
        if let Some((refusing, _)) = self.refuses
            && refusing == role
        {
            match result {
                Ok(_) => {
                    let text = format!("{role} starts, although its log was put back");
                    self.log.violation(now_us, text);
                }
                Err(ended) => {
                    let text = self.shown(&ended.to_string());
                    self.log.add(now_us, format!("{role} refuses: {text}"));
                    self.refuses = Some((role, true));
                }
            }
            return Ok(());
        }
        match result {
            Ok(wake) => {
                if is_start {
                    self.log.add(now_us, format!("{role} starts"));
                }
                if let Some(wake) = wake.filter(|_| self.line.is_serial()) {
                    self.wake_us = wake.0.saturating_sub(UP_US);
                }
                self.slot(role).running = running;
                Ok(())
            }
            Err(ended) => {
                drop(running);
                self.hinder(host);
                let excuse = self.slot(role).may_end_until_us > now_us
                    || self.full_until_us.contains_key(&host)
                    || !self.rotten.is_empty();
                self.slot(role).start_at_us = now_us + RESTART_US;
                match ended {
                    Ended::Error(text) if excuse => {
                        self.log
                            .add(now_us, format!("{role} ended: {}", self.shown(&text)));
                        Ok(())
                    }
                    ended => self.handle_ended(role, ended),
                }
            }
        }
    }

    fn handle_ended(&mut self, role: Role, ended: Ended) -> Result<()> {
        let text = self.shown(&ended.to_string());
        self.log
            .violation(self.now_us, format!("{role} ended: {text}"));
        Ok(())
    }

    /// Leaves out of a text what differs between two runs of a seed.
    fn shown(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for host in [Address::Sender, Address::Receiver] {
            let folder = self.site.mount_point(host);
            text = text.replace(&*folder.to_string_lossy(), &format!("{host:?}"));
        }
        text
    }

    /// The power of a host goes, and comes back.
    fn cut_power(&mut self, host: Address, rot: Option<Rot>) -> Result<()> {
        for role in ROLES {
            if Address::of(role) == host {
                let disk = self.disk(host)?;
                disk.reset();
                // The role finds a dead disk for whatever it would still write.
                disk.kill_at(0);
                let start_at_us = self.now_us + RESTART_US;
                let slot = self.slot(role);
                slot.running = None;
                slot.start_at_us = start_at_us;
                slot.dies_in = None;
            }
        }
        let disk = self.disks.remove(&host).ok_or_else(|| wrong("no disk"))?;
        let mut image = match rot {
            // The index must not have lost what shows that the log is old.
            Some(Rot::OldLog) => disk.image(),
            _ => disk.power_cut(&mut self.prng),
        };
        drop(disk);
        match rot {
            Some(Rot::OldLog) if self.rotten.is_empty() => self.put_back_log(host, &mut image)?,
            Some(Rot::OldLog) => {}
            Some(rot) => self.flip(&mut image, rot)?,
            None => {}
        }
        let disk = Disk::mount(&image, &self.site.mount_point(host)).map_err(wrong)?;
        if self.full_until_us.remove(&host).is_some() {
            self.log
                .add(self.now_us, format!("{host:?} has room again"));
        }
        self.disks.insert(host, disk);
        self.log
            .add(self.now_us, format!("{host:?} had a power cut"));
        self.mailboxes.forget_checks();
        self.must_look = true;
        Ok(())
    }

    fn flip(&mut self, image: &mut Image, rot: Rot) -> Result<()> {
        let prefix = format!("state/{}", rot.prefix());
        let candidates: Vec<_> = image
            .paths()
            .into_iter()
            .filter(|path| path.to_string_lossy().contains(&prefix))
            .filter(|path| image.bytes(path).is_ok_and(|bytes| bytes > 0))
            .collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let path = &candidates[place(&mut self.prng, candidates.len())];
        let bits = image.bytes(path).map_err(wrong)? * 8;
        image.flip_bit(path, self.prng.below(bits)).map_err(wrong)?;
        self.log
            .add(self.now_us, format!("a bit of {} flipped", path.display()));
        self.rotten.push(rot);
        Ok(())
    }

    /// Puts a log back to its beginning. From then on nothing is known of what happened since, and its role must not start.
    fn put_back_log(&mut self, host: Address, image: &mut Image) -> Result<()> {
        let role = match host {
            Address::Sender => Role::Gate,
            Address::Receiver => Role::Release,
        };
        let old = self.site.image(host);
        let name = format!("state/audit/{role}.");
        let is_of_log = |path: &PathBuf| {
            let path = path.to_string_lossy();
            path.contains(&name) && !path.contains("reserve")
        };
        for path in old.paths().into_iter().filter(is_of_log) {
            let bytes = old.read(&path).map_err(wrong)?;
            image.write(&path, &bytes).map_err(wrong)?;
        }
        self.log
            .add(self.now_us, format!("the log of {role} is put back"));
        self.refuses = Some((role, false));
        Ok(())
    }

    /// Carries over the line what transmit sent.
    fn carry(&mut self) -> Result<()> {
        self.active |= self.line.take_sent(self.now_us)?;
        while let Some(bytes) = self.line.poll(self.now_us) {
            self.active = true;
            self.hand_to_receive(&bytes)?;
        }
        Ok(())
    }

    /// Gives receive a datagram, if it runs: nobody else listens.
    fn hand_to_receive(&mut self, bytes: &[u8]) -> Result<()> {
        let slot = self.slot(Role::Receive);
        if slot.running.is_none() || slot.stalls_until_us > self.now_us {
            return Ok(());
        }
        self.line.hand_over(self.now_us, bytes)?;
        self.turn(Role::Receive, true)?;
        self.line.drop_unread()
    }

    /// Looks at what readers see.
    fn look(&mut self) -> Result<()> {
        let released = self.site.receiver_state().released();
        if !std::mem::take(&mut self.must_look) {
            return Ok(());
        }
        let mut events = Vec::new();
        let looked = self
            .mailboxes
            .look(&released, &mut self.cables, &mut events);
        for event in events {
            self.log.add(self.now_us, event);
        }
        for violation in looked.map_err(wrong)? {
            self.log.violation(self.now_us, violation);
        }
        Ok(())
    }

    /// Lets a reader take something now and then.
    fn take_some(&mut self) -> Result<()> {
        if self.prng.below(400) > 0 {
            return Ok(());
        }
        let released = self.site.receiver_state().released();
        let mailbox = super::people::MAILBOXES[place(&mut self.prng, 2)];
        if let Some(name) = self.mailboxes.take(&released, mailbox).map_err(wrong)? {
            self.log
                .add(self.now_us, format!("a reader takes {mailbox}/{name}"));
        }
        Ok(())
    }

    /// Ends every role in order.
    pub(super) fn stop_all(&mut self) -> Result<()> {
        for role in ROLES {
            self.disk(Address::of(role))?.reset();
            if let Some(Err(ended)) = self.slot(role).running.take().map(Running::stop) {
                self.handle_ended(role, ended)?;
            }
        }
        Ok(())
    }

    pub(super) fn disk(&self, host: Address) -> Result<&Disk> {
        self.disks.get(&host).ok_or_else(|| wrong("no disk"))
    }

    fn slot(&mut self, role: Role) -> &mut Slot {
        self.slots.entry(role).or_default()
    }

    fn reserve(&self, role: Role) -> PathBuf {
        match Address::of(role) {
            Address::Sender => self.site.sender_state().reserve(role),
            Address::Receiver => self.site.receiver_state().reserve(role),
        }
    }
}
