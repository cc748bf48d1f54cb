//! Outbound SAs: packets are sealed (RFC 4303 3.3).

use crate::cipher::{Block, Encryption};
use crate::hmac::{BLOCK_LEN, Hmac, ICV_LEN};
use crate::keys::{Cipher, Keys};
use crate::{MAX_HEADROOM, Spi};

/// Bytes of SPI and sequence number.
pub(crate) const HEADER: usize = 8;

/// Bytes of pad length and next header.
pub(crate) const TRAILER: usize = 2;

/// Bytes of packet from which on taking turns wins more than the calls cost.
const TURNS_FROM: usize = 256;

/// An SA for packets to the peer. Its sequence numbers never wrap.
pub struct OutboundSa {
    spi: Spi,
    cipher: Cipher,
    /// The sequence number sent last, 0 before the first.
    seq: u32,
    bytes: u64,
    /// In one place from beginning to end, however the SA is moved.
    schedules: Box<Schedules>,
}

struct Schedules {
    encryption: Encryption,
    hmac: Hmac,
    seed: Block,
}

impl Schedules {
    /// Encrypts `packet[plain..]` in place and gives the ICV of all of `packet`.
    ///
    /// A CBC block waits for the one before it, and so does a block of the
    /// hash. So they take turns: while a piece is encrypted, the processor can
    /// hash the piece before it.
    #[inline]
    fn encrypt_then_mac(&self, iv: &Block, packet: &mut [u8], plain: usize) -> [u8; ICV_LEN] {
        if packet.len() < TURNS_FROM || matches!(self.encryption, Encryption::Null) {
            self.encryption.encrypt(iv, &mut packet[plain..]);
            return self.hmac.icv(packet);
        }
        let mut hash = self.hmac.begin();
        let mut iv = *iv;
        let mut done = plain;
        while done < packet.len() {
            let piece = done..packet.len().min(done + BLOCK_LEN);
            let next = piece.end;
            self.encryption.encrypt(&iv, &mut packet[piece]);
            hash.advance(packet, done);
            iv = *packet[..next].last_chunk().expect("a piece is a block or more");
            done = next;
        }
        hash.finish(packet)
    }
}

/// The SA has used all its sequence numbers and seals nothing more (RFC 4303 3.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl OutboundSa {
    /// An SA that has sent nothing.
    ///
    /// `seed` is random and never used twice. IVs are made from it: the
    /// encryption of a nonce under the SA's own key, which nobody else can
    /// predict (RFC 3602 3, NIST SP 800-38A appendix C).
    pub fn new(spi: Spi, keys: Keys, seed: [u8; 16]) -> OutboundSa {
        let schedules = Box::new(Schedules {
            encryption: Encryption::new(&keys),
            hmac: Hmac::new(keys.auth_key()),
            seed,
        });
        OutboundSa { spi, cipher: keys.cipher, seq: 0, bytes: 0, schedules }
    }

    /// The peer's SPI.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// How the SA encrypts.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Packets sealed so far; also the sequence number of the last one.
    pub fn packets(&self) -> u64 {
        u64::from(self.seq)
    }

    /// Payload bytes sealed so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes [`OutboundSa::seal`] wants before a payload; at most [`MAX_HEADROOM`].
    pub fn headroom(&self) -> usize {
        HEADER + self.cipher.iv_len()
    }

    /// Bytes of the ESP packet around a payload of `payload_len` bytes.
    pub fn sealed_len(&self, payload_len: usize) -> usize {
        let padded = (payload_len + TRAILER).next_multiple_of(self.cipher.alignment());
        self.headroom() + padded + ICV_LEN
    }

    /// The longest payload whose ESP packet has at most `limit` bytes, if there is one.
    pub fn max_payload(&self, limit: usize) -> Option<usize> {
        let room = limit.checked_sub(self.headroom() + ICV_LEN)?;
        (room - room % self.cipher.alignment()).checked_sub(TRAILER)
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
    /// [`Exhausted`] after 2^32 - 1 packets; `batch` is as before.
    ///
    /// # Panics
    /// If the headroom is not there.
    pub fn seal(
        &mut self,
        next_header: u8,
        batch: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), Exhausted> {
        let mut iv = self.schedules.seed;
        // The seed is random and the numbers differ, so no nonce comes twice.
        let seq = self.seq.wrapping_add(1).to_be_bytes();
        iv.iter_mut().zip(seq).for_each(|(byte, seq)| *byte ^= seq);
        self.schedules.encryption.encrypt_block(&mut iv);
        self.seal_with_iv(next_header, batch, start, &iv)
    }

    pub(crate) fn seal_with_iv(
        &mut self,
        next_header: u8,
        batch: &mut Vec<u8>,
        start: usize,
        iv: &Block,
    ) -> Result<(), Exhausted> {
        let seq = self.seq.checked_add(1).ok_or(Exhausted)?;
        let payload = start + self.headroom();
        let payload_len = batch.len().checked_sub(payload).expect("callers leave the headroom");

        batch[start..start + 4].copy_from_slice(&self.spi.to_be_bytes());
        batch[start + 4..start + 8].copy_from_slice(&seq.to_be_bytes());
        batch[start + HEADER..payload].copy_from_slice(&iv[..self.cipher.iv_len()]);

        let unpadded = payload_len + TRAILER;
        let pad_len = unpadded.next_multiple_of(self.cipher.alignment()) - unpadded;
        batch.extend_from_slice(&PADDING[..pad_len]);
        batch.extend_from_slice(&[pad_len as u8, next_header]);

        let icv = self.schedules.encrypt_then_mac(iv, &mut batch[start..], payload - start);
        batch.extend_from_slice(&icv);

        self.seq = seq;
        self.bytes += payload_len as u64;
        Ok(())
    }
}

/// The padding every packet ends with, as much of it as needed (RFC 4303 2.4).
const PADDING: [u8; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

const _: () = assert!(MAX_HEADROOM == HEADER + 16, "AES-CBC has the longest IV");

#[cfg(test)]
mod tests;
