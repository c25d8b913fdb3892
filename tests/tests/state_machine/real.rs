//! The product's own code, which decides in every state: judging, sealing, opening and verifying with real keys, the
//! sender's ledger, and the receiver's with its audit log and its register. It is pure or made anew for each log, so that each
//! answer is asked for once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use valise_common::config::AuditFiles;
use valise_common::history::log::AuditLog;
use valise_common::host::folders::ReceiverState;
use valise_common::ids::{BundleId, ChannelId, ContainerHash, MessageId, Serial};
use valise_common::seal::{
    Header, PackageWriter, Sealer, SlotPublic, SlotSecret, encode_approvals,
};
use valise_common::secret::Secret;
use valise_common::sshsig::Signature;
use valise_common::trust::TrustList;
use valise_common::units::UtcTime;
use valise_receiver::model::event::Event as ReceiverEvent;
use valise_receiver::model::rows::CableRow;
use valise_receiver::release::ledger::Ledger as ReceiverLedger;
use valise_receiver::steps::open::{Expected, Opening, Outcome};
use valise_receiver::steps::verify::{Policy, verify};
use valise_sender::model::event::Event as SenderEvent;
use valise_sender::model::ledger::Ledger as SenderLedger;
use valise_sender::steps::approve::{approve, judge};
use valise_sender::steps::seal::{Place, seal};
use valise_tests::attack::Token;

use cable::{bundle_created, bundle_imported, manifest, submitted, trust_list};

mod cable;

/// Slots of the one bundle.
pub const SLOTS: usize = 2;

const CHANNEL: &str = "0123456789abcdef0123456789abcdef";
const MESSAGE: &str = "00112233445566778899aabbccddeeff";
const BUNDLE: BundleId = BundleId(3);
const BODY: &[u8] = b"The text of a cable.\n";
const NOT_AFTER: &str = "2026-12-20T00:00:00Z";

/// Seeds of the two officers' keys.
const OFFICERS: [u8; 2] = [2, 3];

/// Both officers, as bits.
pub const BOTH: u8 = 0b11;

/// The first officer's second signature, as a bit of a container.
pub const TWICE: u8 = 0b100;

/// The mailboxes that the cable is for.
pub const MAILBOXES: [&str; 2] = ["paris-desk", "rome-desk"];

/// Whether the time of a host is after the cable's `not-after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Clock {
    InTime,
    Late,
}

impl Clock {
    pub fn now(self) -> UtcTime {
        let text = match self {
            Clock::InTime => "2026-11-23T00:00:00Z",
            Clock::Late => "2026-12-21T00:00:00Z",
        };
        text.parse().expect("a time")
    }
}

/// A container of the cable. The approvals in it are officers, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Container {
    /// Index of its slot.
    pub slot: u8,
    /// Which of those that were sealed.
    pub number: u8,
    pub approvals: u8,
}

/// What release finds when it opens a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Verified,
    Held,
    NotOpened,
}

/// A function's answers so far.
pub struct Memo<K, V>(RefCell<HashMap<K, V>>);

impl<K: Clone + Eq + Hash, V: Clone> Memo<K, V> {
    pub fn new() -> Self {
        Self(RefCell::new(HashMap::new()))
    }

    pub fn get(&self, key: &K, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.0.borrow().get(key) {
            return value.clone();
        }
        let value = make();
        self.0.borrow_mut().insert(key.clone(), value.clone());
        value
    }
}

/// The receiver's ledger after some events.
#[derive(Debug, Default)]
pub struct Claims {
    /// The rows of its register.
    pub rows: Vec<CableRow>,
    /// The serial under which the cable was published.
    pub seen: Option<Serial>,
}

/// Keys, the trust list, the cable, and every answer that was asked for.
pub struct Real {
    list: TrustList,
    manifest: Vec<u8>,
    /// The first officer's two signatures, and the second one's.
    signatures: [Signature; 3],
    slots: [(SlotSecret, SlotPublic); SLOTS],
    judged: Memo<(u8, u8, Clock), Option<u8>>,
    proofs: Memo<(u8, Clock), bool>,
    containers: Memo<Container, Rc<Vec<u8>>>,
    verdicts: Memo<(Container, Clock, bool), Verdict>,
}

fn channel() -> ChannelId {
    CHANNEL.parse().expect("a channel")
}

pub fn message() -> MessageId {
    MESSAGE.parse().expect("a message-id")
}

pub fn serial(slot: u8) -> Serial {
    Serial::new(u64::from(slot) + 1).expect("a serial")
}

pub fn person(officer: u8) -> valise_common::ids::PersonId {
    let seed = OFFICERS[usize::from(officer)];
    format!("officer.{seed}").parse().expect("a person")
}

pub fn drafter() -> valise_common::ids::PersonId {
    "a.person".parse().expect("a person")
}

fn slot_of(index: u8) -> (SlotSecret, SlotPublic) {
    let secret = SlotSecret::new(Secret::new([7 + index; 32]), Secret::new([9 + index; 32]));
    let public = secret.public();
    (secret, public)
}

impl Real {
    pub fn new() -> Self {
        let manifest = manifest().into_bytes();
        let sign = |token: Token| Signature::decode(&token.sign(&manifest)).expect("a signature");
        let first = Token::new(OFFICERS[0]);
        // The same key touched with the PIN: another signature of the same officer.
        let again = first.with(|token| token.flags = 5);
        let signatures = [sign(first), sign(again), sign(Token::new(OFFICERS[1]))];
        Self {
            list: TrustList::parse(trust_list().as_bytes()).expect("the list is sound"),
            signatures,
            manifest,
            slots: [slot_of(0), slot_of(1)],
            judged: Memo::new(),
            proofs: Memo::new(),
            containers: Memo::new(),
            verdicts: Memo::new(),
        }
    }

    /// Returns whose approval a signature is, if it counts beside those that were collected.
    pub fn judge(&self, signature: u8, collected: u8, clock: Clock) -> Option<u8> {
        self.judged.get(&(signature, collected, clock), || {
            let collected: Vec<_> = officers(collected).map(person).collect();
            let signature = &self.signatures[usize::from(signature)];
            let now = clock.now();
            let by = judge(&self.manifest, signature, &collected, &self.list, now).ok()?;
            (0..2).find(|officer| person(*officer) == by)
        })
    }

    /// Returns whether these approvals make a proof now.
    pub fn has_proof(&self, approvals: u8, clock: Clock) -> bool {
        self.proofs.get(&(approvals, clock), || {
            let (manifest, signatures) = (self.manifest.clone(), self.signatures_of(approvals));
            approve(manifest, signatures, &self.list, clock.now()).is_ok()
        })
    }

    fn signatures_of(&self, approvals: u8) -> Vec<Signature> {
        let bits = [1, TWICE, 0b10];
        let all = bits.iter().zip(&self.signatures);
        let chosen = all.filter(|(bit, _)| approvals & *bit != 0);
        chosen.map(|(_, signature)| signature.clone()).collect()
    }

    /// The bytes of a container: `seal`'s, or a dishonest sender's where `seal` has no proof.
    fn container(&self, of: Container) -> Rc<Vec<u8>> {
        self.containers.get(&of, || {
            let randomness = Secret::new([1 + of.number; 96]);
            let place = Place {
                serial: serial(of.slot),
                bundle: BUNDLE,
                slot: &self.slots[usize::from(of.slot)].1,
            };
            let signatures = self.signatures_of(of.approvals);
            let now = Clock::InTime.now();
            let approved = approve(self.manifest.clone(), signatures, &self.list, now);
            let Ok(approved) = approved else {
                return Rc::new(self.sealed_without_proof(of, place.slot, randomness));
            };
            let mut bytes = Vec::new();
            let body = std::iter::once(Ok(BODY));
            seal(approved, place, randomness, body, &mut bytes).expect("it is sealed");
            Rc::new(bytes)
        })
    }

    fn sealed_without_proof(
        &self,
        of: Container,
        slot: &SlotPublic,
        randomness: Secret<96>,
    ) -> Vec<u8> {
        let signatures = self.signatures_of(of.approvals);
        let blobs: Vec<_> = signatures.iter().map(Signature::as_bytes).collect();
        let approvals = encode_approvals(&blobs).expect("approvals");
        let length = BODY.len().try_into().expect("a length");
        let mut package =
            PackageWriter::new(&self.manifest, &approvals, length, BODY).expect("a package");
        let header = Header {
            channel: channel(),
            serial: serial(of.slot),
            bundle: BUNDLE,
            padded_bytes: package.padded_bytes(),
        };
        let (prefix, mut sealer) = Sealer::new(&header, slot, randomness).expect("a sealer");
        let (mut bytes, mut segment) = (prefix.to_vec(), Vec::new());
        while !sealer.finished() {
            let next = sealer.next_bytes();
            package.fill(&mut segment, next).expect("memory is read");
            sealer.seal_segment(&mut segment).expect("a segment");
            bytes.extend_from_slice(&segment);
        }
        bytes
    }

    pub fn hash(&self, of: Container) -> ContainerHash {
        ContainerHash::from_bytes(*blake3::hash(&self.container(of)).as_bytes())
    }

    /// Opens and verifies a container whose slot is there, as release does.
    pub fn verdict(&self, of: Container, clock: Clock, seen: Option<Serial>) -> Verdict {
        self.verdicts.get(&(of, clock, seen.is_some()), || {
            let bytes = self.container(of);
            let expected = Expected {
                channel: channel(),
                serial: serial(of.slot),
                bundle: BUNDLE,
                container: self.hash(of).id(),
                container_bytes: bytes.len().try_into().expect("a length"),
            };
            let slot = &self.slots[usize::from(of.slot)].0;
            let (prefix, mut rest) = bytes.split_first_chunk().expect("a prefix");
            let Ok(mut opening) = Opening::start(expected, prefix, slot) else {
                return Verdict::NotOpened;
            };
            while opening.next_bytes() > 0 {
                let (now, behind) = rest.split_at(opening.next_bytes());
                if opening.handle_segment(&mut now.to_vec()).is_err() {
                    return Verdict::NotOpened;
                }
                rest = behind;
            }
            let policy = Policy {
                channel: channel(),
                list: &self.list,
                now: clock.now(),
            };
            match opening.finish() {
                Err(_) => Verdict::NotOpened,
                Ok(Outcome::Faulty { .. }) => Verdict::Held,
                Ok(Outcome::Opened(opened)) => match verify(opened, None, &policy, |_| seen) {
                    Ok(_) => Verdict::Verified,
                    Err(_) => Verdict::Held,
                },
            }
        })
    }

    /// The sender's ledger after a submission and these events.
    pub fn sender_ledger(&self, events: &[SenderEvent]) -> SenderLedger {
        let mut ledger = SenderLedger::default();
        let before = [bundle_imported(), submitted()];
        for event in before.iter().chain(events) {
            ledger.apply(Clock::InTime.now(), event);
        }
        ledger
    }

    /// The receiver's ledger after a bundle and these events, with its log and its register.
    pub fn claims(&self, events: Vec<ReceiverEvent>) -> Claims {
        let folder = tempfile::tempdir().expect("a folder");
        let state = ReceiverState::new(folder.path());
        state.create_all().expect("its folders");
        AuditLog::create(&state.audit(), "release", "valise/01/release").expect("a log");
        let (mut ledger, _) =
            ReceiverLedger::open(&state, AuditFiles::default()).expect("a ledger");
        for event in std::iter::once(bundle_created()).chain(events) {
            ledger.append(Clock::InTime.now(), event);
        }
        ledger.commit().expect("a commit");
        let register = ledger.register();
        Claims {
            rows: register.cables(None).expect("rows"),
            seen: register.seen(&message()).expect("rows"),
        }
    }
}

/// The officers among these bits.
pub fn officers(bits: u8) -> impl Iterator<Item = u8> {
    (0..2).filter(move |officer| bits & 1 << officer != 0)
}

pub const fn bundle() -> BundleId {
    BUNDLE
}
