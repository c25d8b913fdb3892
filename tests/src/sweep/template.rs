//! The pair of hosts with which each case begins: the past events, and the acts to come.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{HarnessError, Host, Programs, Result, Role, Settings, Submission, World};
use crate::wire::Prng;

/// The beginning of every part of every cable of the sweep, repeated every 64 KiB.
pub const MARK: &str = "the plaintext of a cable of valise-sweep";

/// Above the size from which gate and release use a thread of its own for a cable (4 MiB on both hosts).
const LARGE_BYTES: usize = 5 << 20;
const LIMIT: Duration = Duration::from_secs(60);
/// The category that only the newer trust list gives to rome-desk.
const NEWER_LABEL: &str = "EU-RESTRICTED CRISIS";

/// A cable that must arrive.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The submission.
    pub submission: Submission,
    /// Its id; absent before it is submitted.
    pub id: Option<String>,
}

/// Two hosts whose roles do not run, and the acts to come.
#[derive(Debug)]
pub struct Template {
    /// The hosts.
    pub world: World,
    /// Serial 1, in quarantine: the receiver releases it at a recheck after it has the newer trust list.
    pub rechecked: Expected,
    /// Serial 2, in quarantine, to be discarded.
    pub discarded: String,
    /// Serial 3, sent while the receiver did not listen, to be sent again.
    pub resent: Expected,
    /// A waiting cable, to be withdrawn.
    pub withdrawn: String,
    /// A waiting cable, to be rejected.
    pub rejected: String,
    /// Cables to be submitted and approved: a small one, one of several parts, a large one.
    pub fresh: Vec<Submission>,
    /// The newer trust list with its signatures, which the receiver does not have.
    pub trust_list: Vec<(String, PathBuf)>,
}

impl Template {
    /// Commissions both hosts and brings them into this state.
    ///
    /// # Errors
    /// If a step does not succeed.
    pub fn make(programs: Programs) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let settings = Settings {
            rate: "400 Mbit/s".to_owned(),
            slots: 32,
            // In memory, where a sync costs nothing: the faults do not come from the disk.
            parent: memory.is_dir().then(|| memory.to_owned()),
            ..Settings::default()
        };
        let mut world = World::commission(programs, settings)?;
        world.start_roles()?;
        let trust_list = newer_list(&world)?;
        let file = trust_list[0].1.display().to_string();
        world.expect(Host::Sender, &["trust", "import", &file])?;
        let small = |name: &str| cable(&world, name, &[3_000]);
        let fresh = vec![
            small("small")?,
            cable(&world, "parts", &[1_000, 90_000, 20_000, 70_000])?,
            cable(&world, "large", &[LARGE_BYTES])?,
        ];
        let mut held = ["rechecked", "discarded"].map(small);
        let mut ids = Vec::new();
        for submission in held.iter_mut() {
            let Ok(submission) = submission else { continue };
            submission.label = NEWER_LABEL.to_owned();
            submission.to = vec!["rome-desk".to_owned()];
            ids.push(world.send(submission)?);
        }
        let [rechecked, discarded] = held;
        discarded?;
        for serial in 1..=2 {
            world.await_state(serial, "quarantined", LIMIT)?;
        }
        let resent = cable(&world, "resent", &[150_000])?;
        world.stop("receive")?;
        let resent_id = world.send(&resent)?;
        await_sent(&mut world, &resent_id)?;
        let withdrawn = world.submit(&cable(&world, "withdrawn", &[2_000])?)?;
        let rejected = world.submit(&cable(&world, "rejected", &[2_000])?)?;
        world.await_erased()?;
        for role in [Role::Transmit, Role::Gate, Role::Release] {
            world.stop(role.word())?;
            let reserve = format!("audit/{}.reserve", role.word());
            // Made again at the start; copying it would be the largest part of a case.
            let _ = fs::remove_file(world.state(role.host()).join(reserve));
        }
        let _ = fs::remove_file(world.state(Host::Receiver).join("audit/receive.reserve"));
        let [rechecked_id, discarded]: [String; 2] = ids
            .try_into()
            .map_err(|_| HarnessError::Wrong("not both cables were sent".to_owned()))?;
        Ok(Self {
            rechecked: Expected {
                submission: rechecked?,
                id: Some(rechecked_id),
            },
            discarded,
            resent: Expected {
                submission: resent,
                id: Some(resent_id),
            },
            withdrawn,
            rejected,
            fresh,
            trust_list,
            world,
        })
    }
}

/// Writes a trust list that is newer than that of both hosts, and signs it.
fn newer_list(world: &World) -> Result<Vec<(String, PathBuf)>> {
    let narrow = "categories = [\"LIMITE\"]";
    let wide = "categories = [\"LIMITE\", \"CRISIS\"]";
    let text = world.trust_list(2)?.replace(narrow, wide);
    let file = world.folder().join("trust.toml");
    fs::write(&file, text).map_err(|error| HarnessError::io("write", &file, error))?;
    world
        .roster
        .administrators_sign("trust-list@valise", &file)?;
    let names = ["trust.toml", "trust.toml.1.sig", "trust.toml.2.sig"];
    Ok(names
        .map(|name| (name.to_owned(), world.folder().join(name)))
        .to_vec())
}

/// Makes a cable whose parts have these sizes.
fn cable(world: &World, name: &str, sizes: &[usize]) -> Result<Submission> {
    let mut files = Vec::new();
    for (index, size) in sizes.iter().enumerate() {
        let path = world.cables().join(format!("{name}-{index}.bin"));
        let mut bytes = vec![0; *size];
        Prng::new(u64::try_from(size + index).unwrap_or(1)).fill(&mut bytes);
        for block in bytes.chunks_mut(1 << 16) {
            let length = block.len().min(MARK.len());
            block[..length].copy_from_slice(&MARK.as_bytes()[..length]);
        }
        fs::write(&path, bytes).map_err(|error| HarnessError::io("write", &path, error))?;
        files.push(path);
    }
    Ok(Submission::new(name, &files))
}

fn await_sent(world: &mut World, id: &str) -> Result<()> {
    let view = world.state(Host::Sender).join("view");
    world.await_alive("the end of its passes", LIMIT, &[view], |world| {
        let shown = world.json(Host::Sender, &["show", id])?;
        Ok((shown["state"] == "transmitted").then_some(()))
    })
}
