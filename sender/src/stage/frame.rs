//! Symbol → datagram: headers and seal, in place in the buffer that goes to the link.

use valise_common::fec::BlockShape;
use valise_common::ids::{LinkKeyId, SessionId};
use valise_common::limits;
use valise_common::wire::{
    Beacon, ClearHeader, DatagramBytes, InnerHeader, LinkKey, PAYLOAD_OFFSET, SessionKey, SetId,
    SymbolHeader, seal,
};

/// Seals the datagrams of one session, each under the next counter.
pub struct Framer {
    key: SessionKey,
    key_id: LinkKeyId,
    datagram: DatagramBytes,
    counter: u64,
}

impl Framer {
    /// Begins a session.
    pub fn new(
        link_key: &LinkKey,
        key_id: LinkKeyId,
        session: SessionId,
        datagram: DatagramBytes,
    ) -> Self {
        Self {
            key: SessionKey::derive(link_key, session),
            key_id,
            datagram,
            counter: 0,
        }
    }

    /// The session, as observers see it.
    pub fn session(&self) -> SessionId {
        self.key.session()
    }

    /// The link key in use.
    pub fn key_id(&self) -> LinkKeyId {
        self.key_id
    }

    /// Whether so many more datagrams fit the session. If not, a new one must begin: a repeated counter would be a repeated
    /// nonce.
    pub fn has_room(&self, count: u32) -> bool {
        self.counter + u64::from(count) <= limits::COUNTER_MAX
    }

    /// Seals a datagram whose payload, a symbol, stands in its place already.
    pub fn symbol(
        &mut self,
        set: &SetId,
        pass: u8,
        block: &BlockShape,
        index: u16,
        buffer: &mut [u8],
    ) {
        let header = SymbolHeader::new(set, pass, block, index);
        self.seal(&InnerHeader::Symbol(header), buffer);
    }

    /// Seals a beacon.
    pub fn beacon(&mut self, beacon: &Beacon, buffer: &mut [u8]) {
        beacon.encode(self.payload(buffer));
        self.seal(&InnerHeader::Beacon, buffer);
    }

    /// Seals noise.
    pub fn cover(&mut self, buffer: &mut [u8]) {
        self.payload(buffer).fill(0);
        self.seal(&InnerHeader::Cover, buffer);
    }

    fn payload<'b>(&self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        &mut buffer[PAYLOAD_OFFSET..PAYLOAD_OFFSET + usize::from(self.datagram.symbol_bytes())]
    }

    fn seal(&mut self, inner: &InnerHeader, buffer: &mut [u8]) {
        let clear = ClearHeader {
            key_id: self.key_id,
            counter: self.counter,
            session: self.key.session(),
        };
        seal(&self.key, &clear, inner, buffer);
        self.counter += 1;
    }
}
