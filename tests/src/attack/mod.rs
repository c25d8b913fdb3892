//! The tools of an attacker who has the courier's bundle: containers that open, sealed without any of the sender's
//! checks, datagrams that authenticate, and signatures that no OpenSSH makes.

mod datagram;
mod memory;
mod recorder;
mod search;
mod stream_key;
mod token;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

use valise_common::bundle::Bundle;
use valise_common::fec::{BlockCodec, Geometry, plan};
use valise_common::ids::{ContainerId, Serial, SessionId};
use valise_common::manifest::Manifest;
use valise_common::seal::{Header, PackageWriter, Sealer, encode_approvals};
use valise_common::secret::Secret;
use valise_common::sshsig::Signature;
use valise_common::units::Percent;
use valise_common::wire::{
    ClearHeader, DatagramBytes, Epoch, EpochKey, InnerHeader, PAYLOAD_OFFSET, SymbolHeader, seal,
};

use crate::harness::{HarnessError, Host, KeyPair, Result, Role, World};

pub use datagram::{Forger, symbol_fields};
pub use memory::remembered;
pub use recorder::Recorder;
pub use search::{contains, files_that_hold};
pub use stream_key::stream_key;
pub use token::{SMALL_ORDER, Token};

/// A thief of the bundle.
pub struct Thief {
    bundle: Bundle,
}

/// A package before it is sealed.
#[derive(Debug, Clone)]
pub struct Loot {
    /// The manifest, as any bytes.
    pub manifest: Vec<u8>,
    /// Raw signatures, as any bytes.
    pub approvals: Vec<Vec<u8>>,
    /// The body.
    pub body: Vec<u8>,
}

impl Thief {
    /// Reads the bundle that the courier carried.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(world: &World) -> Result<Self> {
        let file = world.courier.bundle_file();
        let bytes = fs::read(&file).map_err(|error| HarnessError::io("read", &file, error))?;
        Ok(Self {
            bundle: Bundle::decode(&bytes).map_err(wrong)?,
        })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Seals a package under a serial's slot, without any check of its content.
    ///
    /// # Errors
    /// If the bundle has no such slot.
    pub fn seal(&self, serial: u64, loot: &Loot) -> Result<Vec<u8>> {
        self.seal_as(serial, loot, |_| ())
    }

    /// Seals a package under a serial's slot, with another header.
    ///
    /// # Errors
    /// If the bundle has no such slot.
    pub fn seal_as(
        &self,
        serial: u64,
        loot: &Loot,
        change: impl FnOnce(&mut Header),
    ) -> Result<Vec<u8>> {
        let number = serial.checked_sub(self.bundle.first.get());
        let slot = number
            .and_then(|number| self.bundle.slots.get(usize::try_from(number).ok()?))
            .ok_or_else(|| HarnessError::Wrong(format!("no slot for serial {serial}")))?;
        let approvals = encode_approvals(&loot.approvals).map_err(wrong)?;
        let body_bytes = u64::try_from(loot.body.len()).unwrap_or(u64::MAX);
        let mut package =
            PackageWriter::new(&loot.manifest, &approvals, body_bytes, loot.body.as_slice())
                .map_err(wrong)?;
        let mut header = Header {
            channel: self.bundle.channel,
            serial: Serial::new(serial).ok_or_else(|| wrong("a serial of 0"))?,
            bundle: self.bundle.id,
            padded_bytes: package.padded_bytes(),
        };
        change(&mut header);
        let mut randomness = [0; 96];
        getrandom::fill(&mut randomness).map_err(wrong)?;
        let (prefix, mut sealer) =
            Sealer::new(&header, slot, Secret::new(randomness)).map_err(wrong)?;
        let mut container = prefix.to_vec();
        let mut segment = Vec::new();
        while !sealer.finished() {
            package
                .fill(&mut segment, sealer.next_bytes())
                .map_err(wrong)?;
            sealer.seal_segment(&mut segment).map_err(wrong)?;
            container.extend_from_slice(&segment);
        }
        Ok(container)
    }

    /// Divides a container into authentic datagrams, each symbol passed through `poison` first.
    ///
    /// The datagrams carry the id of `claimed`.
    ///
    /// # Errors
    /// If no geometry fits.
    pub fn datagrams(
        &self,
        serial: u64,
        container: &[u8],
        claimed: ContainerId,
        size: DatagramBytes,
        mut poison: impl FnMut(u32, u16, &mut [u8]),
    ) -> Result<Vec<Vec<u8>>> {
        let container_bytes = u64::try_from(container.len()).unwrap_or(u64::MAX);
        let geometry = plan::choose(
            container_bytes,
            size.symbol_bytes(),
            Percent::from_ppm(250_000),
            2,
        )
        .map_err(wrong)?;
        let mut session = [0; 8];
        getrandom::fill(&mut session).map_err(wrong)?;
        let session = SessionId::from_bytes(session);
        let key = EpochKey::derive(&self.bundle.link_key, session, Epoch::FIRST);
        let mut codec = BlockCodec::new();
        let mut datagrams = Vec::new();
        for shape in geometry.blocks() {
            let symbols = block_symbols(&geometry, &shape, container, &mut codec);
            for (index, symbol) in (0u16..).zip(symbols.chunks(symbol_bytes(&geometry))) {
                let counter = u64::try_from(datagrams.len()).unwrap_or(u64::MAX);
                let clear = ClearHeader {
                    key_id: self.bundle.link_key_id,
                    counter,
                    session,
                };
                let inner = InnerHeader::Symbol(SymbolHeader {
                    codec: geometry.codec(),
                    pass: 0,
                    serial: Serial::new(serial).ok_or_else(|| wrong("a serial of 0"))?,
                    container: claimed,
                    container_bytes,
                    block: shape.number,
                    index,
                    k_max: geometry.k_max(),
                    m: geometry.m(),
                });
                let mut datagram = vec![0; size.to_usize()];
                let payload = &mut datagram[PAYLOAD_OFFSET..PAYLOAD_OFFSET + symbol.len()];
                payload.copy_from_slice(symbol);
                poison(shape.number, index, payload);
                seal(&key, &clear, &inner, &mut datagram);
                datagrams.push(datagram);
            }
        }
        Ok(datagrams)
    }
}

impl Loot {
    /// Makes a cable with this manifest, approved by these keys through `ssh-keygen`.
    ///
    /// # Errors
    /// If the manifest cannot be written or signed.
    pub fn signed(
        world: &World,
        manifest: &Manifest,
        body: &[u8],
        keys: &[&KeyPair],
    ) -> Result<Self> {
        let manifest = manifest.encode().map_err(wrong)?;
        let approvals = sign(world, "cable-approval@valise", &manifest, keys)?;
        Ok(Self {
            manifest,
            approvals,
            body: body.to_vec(),
        })
    }
}

/// Returns raw signatures of some bytes in a namespace, by `ssh-keygen`.
///
/// # Errors
/// If `ssh-keygen` fails.
pub fn sign(
    world: &World,
    namespace: &str,
    message: &[u8],
    keys: &[&KeyPair],
) -> Result<Vec<Vec<u8>>> {
    let io = |error| HarnessError::io("sign in", world.folder(), error);
    let folder = tempfile::tempdir_in(world.folder()).map_err(io)?;
    let file = folder.path().join("message");
    let mut signatures = Vec::new();
    for key in keys {
        fs::write(&file, message).map_err(io)?;
        key.sign(namespace, std::slice::from_ref(&file))?;
        let armoured: PathBuf = folder.path().join("message.sig");
        let armour = fs::read_to_string(&armoured).map_err(io)?;
        fs::remove_file(&armoured).map_err(io)?;
        let signature = Signature::from_armor(&armour).map_err(wrong)?;
        signatures.push(signature.as_bytes().to_vec());
    }
    Ok(signatures)
}

/// Puts a container into the receiver's inbox, as `receive` does after collecting it.
///
/// # Errors
/// If it cannot be written.
pub fn deliver(world: &World, serial: u64, container: &[u8]) -> Result<()> {
    let id = container_id(container);
    let state = world.state(Host::Receiver);
    let temporary = state.join(format!("tmp/{serial}-{id}"));
    let inbox = state.join(format!("inbox/{serial}-{id}.container"));
    let io = |error| HarnessError::io("deliver", &inbox, error);
    fs::write(&temporary, container).map_err(io)?;
    world.give_to(Role::Receive, &temporary)?;
    fs::rename(&temporary, &inbox).map_err(io)
}

/// The id of a container.
pub fn container_id(container: &[u8]) -> ContainerId {
    let mut id = [0; 12];
    id.copy_from_slice(&blake3::hash(container).as_bytes()[..12]);
    ContainerId::from_bytes(id)
}

/// Sends datagrams to an address as fast as the socket takes them: a receiver with a small buffer loses some.
///
/// # Errors
/// If the socket refuses.
pub fn transmit(datagrams: &[Vec<u8>], to: SocketAddr) -> Result<()> {
    let io = |error| HarnessError::Io {
        what: format!("send to {to}"),
        source: error,
    };
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(io)?;
    for datagram in datagrams {
        socket.send_to(datagram, to).map_err(io)?;
    }
    Ok(())
}

fn block_symbols(
    geometry: &Geometry,
    shape: &valise_common::fec::BlockShape,
    container: &[u8],
    codec: &mut BlockCodec,
) -> Vec<u8> {
    let range = geometry.block_range(shape);
    let [start, end] = [range.start, range.end].map(|offset| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(container.len())
    });
    let mut symbols = container[start..end].to_vec();
    symbols.resize(geometry.source_bytes(shape), 0);
    let mut repair = vec![0; geometry.repair_bytes(shape)];
    codec.encode(geometry, shape, &symbols, &mut repair);
    symbols.extend_from_slice(&repair);
    symbols
}

fn symbol_bytes(geometry: &Geometry) -> usize {
    usize::from(geometry.symbol_bytes())
}

fn wrong(error: impl std::fmt::Display) -> HarnessError {
    HarnessError::Wrong(error.to_string())
}
