//! Symbol → datagram: headers and seal, in place in the buffer that goes to the link.

use valise_common::fec::BlockShape;
use valise_common::ids::{LinkKeyId, SessionId};
use valise_common::limits;
use valise_common::wire::{
    Beacon, ClearHeader, DatagramBytes, Epoch, EpochKey, InnerHeader, LinkKey, PAYLOAD_OFFSET,
    SetId, SymbolHeader, seal,
};

/// Seals the datagrams of one session, each under the next counter.
pub(crate) struct Framer {
    link_key: LinkKey,
    key: EpochKey,
    key_id: LinkKeyId,
    datagram: DatagramBytes,
    counter: u64,
}

impl Framer {
    /// Begins a session.
    pub(crate) fn new(
        link_key: LinkKey,
        key_id: LinkKeyId,
        session: SessionId,
        datagram: DatagramBytes,
    ) -> Self {
        Self {
            key: EpochKey::derive(&link_key, session, Epoch::FIRST),
            link_key,
            key_id,
            datagram,
            counter: 0,
        }
    }

    /// Begins another session under the same link key.
    pub(crate) fn renew(&mut self, session: SessionId) {
        self.key = EpochKey::derive(&self.link_key, session, Epoch::FIRST);
        self.counter = 0;
    }

    /// Returns the session, as observers see it.
    pub(crate) fn session(&self) -> SessionId {
        self.key.session()
    }

    /// Returns the link key in use.
    pub(crate) fn key_id(&self) -> LinkKeyId {
        self.key_id
    }

    /// Returns whether so many more datagrams fit the session. If not, a new one must begin: a repeated counter would be a repeated
    /// nonce.
    pub(crate) fn has_room(&self, count: u32) -> bool {
        self.counter + u64::from(count) <= limits::COUNTER_MAX
    }

    /// Seals a datagram whose payload, a symbol, stands in its place already.
    pub(crate) fn symbol(
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
    pub(crate) fn beacon(&mut self, beacon: &Beacon, buffer: &mut [u8]) {
        beacon.encode(self.payload(buffer));
        self.seal(&InnerHeader::Beacon, buffer);
    }

    /// Seals noise.
    pub(crate) fn cover(&mut self, buffer: &mut [u8]) {
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
        if !self.key.is_for(&clear) {
            self.key = EpochKey::derive(&self.link_key, clear.session, clear.epoch());
        }
        seal(&self.key, &clear, inner, buffer);
        self.counter += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::fec::{Codec, Geometry};
    use valise_common::ids::{ContainerId, Serial};
    use valise_common::secret::Secret32;
    use valise_common::wire;

    use super::*;

    const BYTES: usize = 1_472;

    fn framer() -> Framer {
        let session = SessionId::from_bytes([5; 8]);
        let datagram = DatagramBytes::new(1_472).unwrap();
        Framer::new(Secret32::new([9; 32]), LinkKeyId(3), session, datagram)
    }

    fn open(buffer: &mut [u8]) -> (ClearHeader, InnerHeader) {
        let size = DatagramBytes::new(1_472).unwrap();
        let clear = wire::peek(buffer, size).unwrap();
        let key = EpochKey::derive(&Secret32::new([9; 32]), clear.session, clear.epoch());
        wire::open(&key, buffer).unwrap()
    }

    #[test]
    fn what_is_framed_opens_under_rising_counters() {
        let mut framer = framer();
        let geometry = Geometry::new(2_304, Codec::Rs8, 2, 4, 1_400).unwrap();
        let container = ContainerId::from_bytes([8; 12]);
        let set = SetId {
            serial: Serial::FIRST,
            container,
            geometry,
        };
        let shape = geometry.block(0).unwrap();
        let mut datagram = vec![0x77; BYTES];
        framer.symbol(&set, 1, &shape, 4, &mut datagram);
        let (clear, inner) = open(&mut datagram);
        assert_eq!((clear.key_id, clear.counter), (LinkKeyId(3), 0));
        assert_eq!(
            inner,
            InnerHeader::Symbol(SymbolHeader::new(&set, 1, &shape, 4))
        );
        assert!(
            datagram[PAYLOAD_OFFSET..][..1_400]
                .iter()
                .all(|byte| *byte == 0x77)
        );
        framer.cover(&mut datagram);
        assert_ne!(
            &datagram[PAYLOAD_OFFSET..][..8],
            &[0; 8],
            "noise to an observer"
        );
        let (clear, inner) = open(&mut datagram);
        assert_eq!((clear.counter, inner), (1, InnerHeader::Cover));
        let beacon = Beacon {
            highest: 9,
            settled: 8,
            lowest_retained: 1,
            sender_time_us: 7,
            trust_version: 6,
            entries: Vec::new(),
        };
        framer.beacon(&beacon, &mut datagram);
        let (clear, inner) = open(&mut datagram);
        assert_eq!((clear.counter, inner), (2, InnerHeader::Beacon));
        assert_eq!(
            Beacon::decode(&datagram[PAYLOAD_OFFSET..][..1_400]).unwrap(),
            beacon
        );
    }

    #[test]
    fn the_key_changes_with_the_epoch_and_the_session() {
        let mut framer = framer();
        framer.counter = (1 << 26) - 1;
        let mut datagram = vec![0; BYTES];
        for counter in [(1 << 26) - 1, 1 << 26, (1 << 26) + 1] {
            framer.cover(&mut datagram);
            let (clear, inner) = open(&mut datagram);
            assert_eq!((clear.counter, inner), (counter, InnerHeader::Cover));
        }
        let session = SessionId::from_bytes([6; 8]);
        framer.renew(session);
        framer.cover(&mut datagram);
        let (clear, _) = open(&mut datagram);
        assert_eq!((clear.session, clear.counter), (session, 0));
    }

    #[test]
    fn a_session_ends_before_its_counter_repeats() {
        let mut framer = framer();
        framer.counter = limits::COUNTER_MAX - 10;
        assert!(framer.has_room(10));
        assert!(!framer.has_room(11));
    }
}
