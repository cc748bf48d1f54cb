//! Outbound SAs: packets are sealed (RFC 4303 3.3).

use crate::cipher::Block;
use crate::keys::Keys;
use crate::lifetime::Usage;
use crate::suite::MAX_ICV_LEN;
use crate::transform::{HEADER, Seal, sealing};
use crate::{Age, Lifetime, Parameters, Spi, Suite};

/// Bytes of pad length and next header.
pub(crate) const TRAILER: usize = 2;

/// An SA for packets to the peer. Its sequence numbers never wrap.
pub struct OutboundSa {
    spi: Spi,
    suite: Suite,
    esn: bool,
    /// The sequence number sent last, 0 before the first.
    seq: u64,
    usage: Usage,
    transform: Box<dyn Seal>,
}

/// Why a payload was not sealed; the SA seals nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// All sequence numbers are used (RFC 4303 3.3.3).
    Exhausted,
    /// The SA has reached a hard limit of its lifetime, or the packet would have
    /// passed it (RFC 4301 4.4.2.1).
    Expired,
}

impl OutboundSa {
    /// An SA that has sent nothing.
    ///
    /// `seed` is random and never used twice: the IVs of AES-CBC are made from it,
    /// which nobody else can predict. `keys` must never have sealed anything: an
    /// AEAD's IVs are its sequence numbers.
    pub fn new(spi: Spi, keys: Keys, seed: [u8; 16], parameters: Parameters) -> OutboundSa {
        let Parameters { esn, window: _, lifetime, born_s } = parameters;
        OutboundSa {
            spi,
            suite: keys.suite(),
            esn,
            seq: 0,
            usage: Usage::new(lifetime, born_s),
            transform: sealing(&keys, seed),
        }
    }

    /// The peer's SPI.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// How the SA protects its packets.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Whether sequence numbers have 64 bits.
    pub fn esn(&self) -> bool {
        self.esn
    }

    /// The sequence number of the last packet, 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.seq
    }

    /// Packets sealed so far.
    pub fn packets(&self) -> u64 {
        self.usage.packets()
    }

    /// Payload bytes sealed so far.
    pub fn bytes(&self) -> u64 {
        self.usage.bytes()
    }

    /// How long the SA may be used.
    pub fn lifetime(&self) -> Lifetime {
        self.usage.lifetime()
    }

    /// How far it has come, as of the packets so far and the last [`OutboundSa::tick`].
    pub fn age(&self) -> Age {
        self.usage.age()
    }

    /// When it was made, seconds.
    pub fn born_s(&self) -> u64 {
        self.usage.born_s()
    }

    /// When [`OutboundSa::tick`] will have something new to say, if ever.
    pub fn due_s(&self) -> Option<u64> {
        self.usage.due_s()
    }

    /// Tells the SA the time, in seconds of the clock of [`Parameters::born_s`].
    /// Too early, nothing happens.
    pub fn tick(&mut self, now_s: u64) -> Age {
        self.usage.tick(now_s)
    }

    /// Bytes [`OutboundSa::seal`] wants before a payload; at most [`crate::MAX_HEADROOM`].
    pub fn headroom(&self) -> usize {
        HEADER + self.suite.iv_len()
    }

    /// Bytes [`OutboundSa::seal`] adds behind a payload of `payload_len` bytes.
    pub fn trailroom(&self, payload_len: usize) -> usize {
        self.sealed_len(payload_len) - self.headroom() - payload_len
    }

    /// Bytes of the ESP packet around a payload of `payload_len` bytes.
    pub fn sealed_len(&self, payload_len: usize) -> usize {
        let padded = (payload_len + TRAILER).next_multiple_of(self.suite.alignment());
        self.headroom() + padded + self.suite.icv_len()
    }

    /// The longest payload whose ESP packet has at most `limit` bytes, if there is one.
    pub fn max_payload(&self, limit: usize) -> Option<usize> {
        let room = limit.checked_sub(self.headroom() + self.suite.icv_len())?;
        (room - room % self.suite.alignment()).checked_sub(TRAILER)
    }

    /// Makes the end of `batch` an ESP packet.
    ///
    /// `batch[start..]` is [`OutboundSa::headroom`] bytes of anything and then the
    /// payload, which is encrypted in place: a transport payload whose protocol
    /// is `next_header`, or a whole packet (4 for IPv4, 41 for IPv6) in tunnel
    /// mode. Afterwards `batch[start..]` is the ESP packet of
    /// [`OutboundSa::sealed_len`] bytes. Nothing is allocated if `batch` has room.
    ///
    /// # Errors
    /// [`Unsealed::Exhausted`] after 2^32 - 1 packets, or 2^64 - 1 with ESN;
    /// [`Unsealed::Expired`] at a hard limit. `batch` is as before.
    ///
    /// # Panics
    /// If the headroom is not there.
    pub fn seal(
        &mut self,
        next_header: u8,
        batch: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), Unsealed> {
        let seq = self.next(batch.len(), start)?;
        let nonce = self.transform.nonce(seq);
        self.seal_as(seq, &nonce, next_header, batch, start);
        Ok(())
    }

    /// Uses up the next sequence number for the packet that is `start..end` of a batch.
    fn next(&mut self, end: usize, start: usize) -> Result<u64, Unsealed> {
        let payload_len =
            end.checked_sub(start + self.headroom()).expect("callers leave the headroom");
        let last = if self.esn { u64::MAX } else { u32::MAX.into() };
        if self.seq == last {
            return Err(Unsealed::Exhausted);
        }
        self.usage.add(payload_len).map_err(|_| Unsealed::Expired)?;
        self.seq += 1;
        Ok(self.seq)
    }

    pub(crate) fn seal_as(
        &self,
        seq: u64,
        nonce: &Block,
        next_header: u8,
        batch: &mut Vec<u8>,
        start: usize,
    ) {
        let payload = start + self.headroom();
        let unpadded = batch.len() - payload + TRAILER;
        let pad_len = unpadded.next_multiple_of(self.suite.alignment()) - unpadded;
        batch.extend_from_slice(&TAIL[..pad_len + TRAILER + self.suite.icv_len()]);

        let packet = &mut batch[start..];
        packet[..4].copy_from_slice(&self.spi.to_be_bytes());
        packet[4..HEADER].copy_from_slice(&(seq as u32).to_be_bytes());
        let trailer = packet.len() - self.suite.icv_len() - TRAILER;
        packet[trailer..][..TRAILER].copy_from_slice(&[pad_len as u8, next_header]);
        self.transform.seal(self.esn.then_some((seq >> 32) as u32), nonce, packet);
    }
}

/// What is put behind a payload, as much of it as needed: it begins with the
/// padding of every packet (RFC 4303 2.4); trailer and ICV are written over the rest.
const TAIL: [u8; 15 + TRAILER + MAX_ICV_LEN] = {
    let mut tail = [0; 15 + TRAILER + MAX_ICV_LEN];
    let mut at = 0;
    while at < tail.len() {
        tail[at] = at as u8 + 1;
        at += 1;
    }
    tail
};

#[cfg(test)]
mod tests;
