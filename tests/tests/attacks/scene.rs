//! The scene of the attacks: the hosts, the attacker, and the marker that must not be seen afterwards.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sha2::{Digest, Sha256};
use valise_common::ids::MessageId;
use valise_common::manifest::{FileName, FreeText, Manifest, MediaType, Part};
use valise_common::units::UtcTime;
use valise_tests::attack::{Loot, Thief, deliver, files_that_hold, sign};
use valise_tests::harness::{Host, KeyPair, Programs, Role, Settings, Submission, World, audited};

/// Longer than anything takes that happens at all.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Is in the body, the subject and the file name of every cable that must not be seen.
pub const MARKER: &str = "marker-of-a-cable-that-nobody-may-see";

/// The clock of this machine.
pub fn now() -> UtcTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    UtcTime::from_s(since.as_secs())
}

/// The hosts, and an attacker who has the courier's bundle.
pub struct Scene {
    pub world: World,
    pub thief: Thief,
    requests: u32,
}

impl Scene {
    /// Commissions the hosts and starts these roles.
    pub fn with(settings: Settings, roles: &[Role]) -> Self {
        let world = World::commission(Programs::built().unwrap(), settings).unwrap();
        Self::of(world, roles)
    }

    /// The same, with one host whose clock the test moves.
    pub fn with_clock(host: Host, roles: &[Role]) -> Self {
        let settings = Settings::default();
        let mut world = World::commission(Programs::built().unwrap(), settings).unwrap();
        world.make_clock(host).unwrap();
        Self::of(world, roles)
    }

    fn of(mut world: World, roles: &[Role]) -> Self {
        for role in roles {
            world.start_role(*role).unwrap();
        }
        let thief = Thief::of(&world).unwrap();
        Self {
            world,
            thief,
            requests: 0,
        }
    }

    /// The receiver alone, with a dishonest sender.
    pub fn receiver() -> Self {
        Self::with(Settings::default(), &[Role::Receive, Role::Release])
    }

    /// A path in the state of a host.
    pub fn state(&self, host: Host, name: &str) -> PathBuf {
        self.world.state(host).join(name)
    }

    /// The first two officers, who sign anything that the test gives them.
    pub fn two_officers(&self) -> [&KeyPair; 2] {
        let [one, two, _] = &self.world.roster.officers;
        [one, two]
    }

    /// A manifest that is valid in every respect, over the body [`MARKER`].
    pub fn manifest(&self, number: u8) -> Manifest {
        Manifest {
            channel: self.thief.bundle().channel,
            message_id: MessageId::from_bytes([number; 16]),
            label: "EU-RESTRICTED LIMITE".parse().unwrap(),
            precedence: "ROUTINE".parse().unwrap(),
            to: vec!["paris-desk".parse().unwrap()],
            drafter: "d.drafter".parse().unwrap(),
            reference: None,
            subject: FreeText::parse(MARKER, 120).unwrap(),
            created: now(),
            not_after: now().plus_s(86_400),
            act_by: None,
            parts: vec![Part {
                length: MARKER.len().try_into().unwrap(),
                media_type: MediaType::for_extension("txt"),
                sha256: Sha256::digest(MARKER).into(),
                name: FileName::parse(&format!("{MARKER}.txt")).unwrap(),
            }],
        }
    }

    /// A cable with the body [`MARKER`] and these approvals.
    pub fn loot(&self, manifest: &Manifest, approvals: Vec<Vec<u8>>) -> Loot {
        Loot {
            manifest: manifest.encode().unwrap(),
            approvals,
            body: MARKER.as_bytes().to_vec(),
        }
    }

    /// A cable with any bytes as its manifest, signed by two officers.
    pub fn signed_bytes(&self, manifest: &[u8]) -> Loot {
        let officers = self.two_officers();
        Loot {
            manifest: manifest.to_vec(),
            approvals: sign(&self.world, "cable-approval@valise", manifest, &officers).unwrap(),
            body: MARKER.as_bytes().to_vec(),
        }
    }

    /// A valid cable, approved by two officers.
    pub fn honest(&self, number: u8) -> Loot {
        self.signed_bytes(&self.manifest(number).encode().unwrap())
    }

    /// Seals under a serial's slot and puts the container into the receiver's inbox.
    pub fn deliver(&self, serial: u64, loot: &Loot) {
        let container = self.thief.seal(serial, loot).unwrap();
        deliver(&self.world, serial, &container).unwrap();
    }

    /// Waits until a serial is in a state, and returns its reason.
    pub fn await_state(&mut self, serial: u64, wanted: &str) -> String {
        self.world.await_state(serial, wanted, LIMIT).unwrap()
    }

    /// Makes the next bundle and has it signed; returns the folder that the courier carries.
    pub fn next_bundle(&self) -> String {
        let next = self.world.folder().join("next").display().to_string();
        let create = ["bundle", "create", "--slots", "4", "--out", &next];
        self.world.expect(Host::Receiver, &create).unwrap();
        let statement = self.world.folder().join("next/channel.bundle.statement");
        let roster = &self.world.roster;
        roster
            .administrators_sign("bundle@valise", &statement)
            .unwrap();
        next
    }

    /// Delivers cables from serial 1 on, and asserts that each is held for the reason beside it.
    pub fn assert_all_held(&mut self, first_serial: u64, cases: &[(&str, &str, Loot)]) {
        let slots = self.slots();
        for (serial, (_, _, loot)) in (first_serial..).zip(cases) {
            self.deliver(serial, loot);
        }
        for (serial, (case, code, _)) in (first_serial..).zip(cases) {
            let reason = self.await_state(serial, "quarantined");
            assert!(
                reason.starts_with(&format!("{code}: ")),
                "{case}: {reason:?} instead of {code}"
            );
        }
        self.assert_nothing_visible();
        assert!(self.slots() == slots, "a slot changed");
    }

    /// The receiver's slot keys.
    pub fn slots(&self) -> Vec<u8> {
        fs::read(self.state(Host::Receiver, "slots/1.slots")).unwrap()
    }

    /// Asserts that no folder, name or byte of any cable is on the isolated host, except sealed.
    pub fn assert_nothing_visible(&mut self) {
        self.world.await_erased().unwrap();
        assert_eq!(self.world.released().unwrap(), [], "something was released");
        let found = files_that_hold(&self.world.state(Host::Receiver), MARKER.as_bytes());
        assert!(found.is_empty(), "plaintext is on the disk: {found:?}");
        let staged = fs::read_dir(self.state(Host::Receiver, "released/.stage"));
        assert_eq!(staged.map_or(0, Iterator::count), 0, "something is staged");
    }

    /// Asserts that a valid cable is released under this serial, and no other.
    pub fn assert_honest_arrives(&mut self, serial: u64, loot: &Loot) {
        let before = self.world.released().unwrap().len();
        self.deliver(serial, loot);
        self.await_state(serial, "released");
        assert_eq!(self.world.released().unwrap().len(), before + 1);
    }

    /// A cable of one small file, whose content is [`MARKER`], to be submitted.
    pub fn cable(&self, subject: &str) -> Submission {
        let file = self.world.cables().join("cable.txt");
        fs::write(&file, MARKER).unwrap();
        Submission::new(subject, &[file])
    }

    /// Submits such a cable; returns its id.
    pub fn submit(&self, subject: &str) -> String {
        self.world.submit(&self.cable(subject)).unwrap()
    }

    /// The bytes that officers sign of a pending cable.
    pub fn pending_manifest(&self, id: &str) -> Vec<u8> {
        fs::read(self.state(Host::Sender, &format!("pending/{id}/manifest.txt"))).unwrap()
    }

    /// Places a request by hand, as another program would, and waits for its answer.
    pub fn ask(
        &mut self,
        host: Host,
        text: &str,
        files: &[(&str, &[u8])],
    ) -> Result<String, String> {
        self.requests += 1;
        let name = format!("by-hand-{}", self.requests);
        let request = self.world.write_request(host, &name, text, &[]).unwrap();
        let folder = self.state(host, "requests");
        for (file, bytes) in files {
            fs::write(folder.join(format!(".{name}")).join(file), bytes).unwrap();
        }
        request.reveal().unwrap();
        self.await_answer(host, &name)
    }

    /// Waits for the answer to a request.
    pub fn await_answer(&mut self, host: Host, name: &str) -> Result<String, String> {
        let folder = self.state(host, "requests");
        let read = |suffix: &str| {
            let text = fs::read_to_string(folder.join(format!("{name}.{suffix}"))).ok()?;
            text.strip_suffix('\n').map(str::to_owned)
        };
        self.world
            .await_alive("an answer", LIMIT, std::slice::from_ref(&folder), |_| {
                let refused = read("refused").map(Err);
                Ok(refused.or_else(|| read("accepted").map(Ok)))
            })
            .unwrap()
    }

    /// Brings an approval to gate, made in whatever way.
    pub fn approve_by_hand(&mut self, id: &str, armoured: &str) -> Result<String, String> {
        let text = format!("request = \"approve\"\nid = {id:?}\n");
        self.ask(
            Host::Sender,
            &text,
            &[("approval.sig", armoured.as_bytes())],
        )
    }

    /// The sealed containers of the sender.
    pub fn outbox(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state(Host::Sender, "outbox")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|e| e == "container"))
            .collect()
    }

    /// Waits until the sender has sealed this many containers.
    pub fn await_sealed(&mut self, count: usize) {
        let outbox = self.state(Host::Sender, "outbox");
        let read = |folder: &PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .filter(|entry| entry.path().extension().is_some_and(|e| e == "container"))
                .count()
        };
        self.world
            .await_alive("sealing", LIMIT, std::slice::from_ref(&outbox), |_| {
                Ok((read(&outbox) >= count).then_some(()))
            })
            .unwrap();
        assert_eq!(self.outbox().len(), count);
    }

    /// The text of a trust list of this world with some of it replaced.
    #[track_caller]
    pub fn list(&self, version: u32, edits: &[(&str, &str)]) -> String {
        let mut text = self.world.trust_list(version).unwrap();
        for (from, to) in edits {
            assert!(text.contains(from), "{from:?} is not in {text}");
            text = text.replace(from, to);
        }
        text
    }

    /// Signs a trust list as both administrators and puts it into force on both hosts.
    pub fn import(&self, text: &str) {
        for host in [Host::Sender, Host::Receiver] {
            self.world.import_trust_list(host, text).unwrap();
        }
    }

    /// The lines of a role's audit log with this event.
    pub fn audited(&self, role: Role, event: &str) -> Vec<Value> {
        let path = format!("audit/{}.log", role.word());
        audited(&self.state(role.host(), &path), event).unwrap()
    }
}
