//! Inbound SAs: packets are checked and opened (RFC 4303 3.4).

use crate::cipher::{Block, Decryption};
use crate::hmac::{Hmac, ICV_LEN};
use crate::keys::{Cipher, Keys};
use crate::outbound::{HEADER, TRAILER};
use crate::replay::{ReplayWindow, WindowSize};
use crate::{Discard, Discards, Spi};

/// Next header of a packet that is padding as a whole (RFC 4303 2.6).
const NO_NEXT_HEADER: u8 = 59;

/// An SA for packets from the peer.
pub struct InboundSa {
    spi: Spi,
    cipher: Cipher,
    window: ReplayWindow,
    packets: u64,
    bytes: u64,
    discards: Discards,
    /// In one place from beginning to end, however the SA is moved.
    schedules: Box<Schedules>,
}

struct Schedules {
    decryption: Decryption,
    hmac: Hmac,
}

/// What an authentic packet carried.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The protocol of the payload; 4 or 41 in tunnel mode.
    pub next_header: u8,
    /// The payload, in the buffer the packet was in.
    pub payload: &'a mut [u8],
}

impl InboundSa {
    /// An SA that has received nothing.
    pub fn new(spi: Spi, keys: Keys, window: WindowSize) -> InboundSa {
        let schedules = Box::new(Schedules {
            decryption: Decryption::new(&keys),
            hmac: Hmac::new(keys.auth_key()),
        });
        InboundSa {
            spi,
            cipher: keys.cipher,
            window: ReplayWindow::new(window),
            packets: 0,
            bytes: 0,
            discards: Discards::default(),
            schedules,
        }
    }

    /// Our SPI.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// How the peer encrypts.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Packets opened so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Payload bytes opened so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The highest sequence number accepted, 0 before the first.
    pub fn top(&self) -> u64 {
        self.window.top()
    }

    /// Packets with this SPI that were discarded.
    pub fn discards(&self) -> &Discards {
        &self.discards
    }

    /// Counts a packet that was opened but then discarded, by policy for example.
    pub fn count(&mut self, reason: Discard) {
        self.discards.count(reason);
    }

    /// Opens an ESP packet, SPI to ICV, in place.
    ///
    /// The buffer must be private to the caller. The window moves only for
    /// authentic packets. Whether the payload is welcome is not asked here: see
    /// [`crate::Spd::admit`].
    ///
    /// # Errors
    /// Why the packet is discarded; it is counted already.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<Opened<'a>, Discard> {
        match self.try_open(packet) {
            Ok(opened) => {
                self.packets += 1;
                self.bytes += opened.payload.len() as u64;
                Ok(opened)
            }
            Err(reason) => {
                self.discards.count(reason);
                Err(reason)
            }
        }
    }

    fn try_open<'a>(&mut self, packet: &'a mut [u8]) -> Result<Opened<'a>, Discard> {
        let (authenticated, icv) =
            packet.split_last_chunk_mut::<ICV_LEN>().ok_or(Discard::Truncated)?;
        let [s0, s1, s2, s3, n0, n1, n2, n3] =
            *authenticated.first_chunk::<HEADER>().ok_or(Discard::Truncated)?;
        if [s0, s1, s2, s3] != self.spi.to_be_bytes() {
            return Err(Discard::ForeignSpi);
        }
        let start = HEADER + self.cipher.iv_len();
        let sealed_len = authenticated.len().checked_sub(start).ok_or(Discard::Truncated)?;
        // Blocks start after the IV, and 4-byte alignment counts from the header: the same.
        if sealed_len < TRAILER || !sealed_len.is_multiple_of(self.cipher.alignment()) {
            return Err(Discard::Truncated);
        }

        let fresh = self.window.check(u32::from_be_bytes([n0, n1, n2, n3]).into())?;
        if !self.schedules.hmac.is_authentic(authenticated, icv) {
            return Err(Discard::Forged);
        }
        fresh.accept();

        let (head, sealed) = authenticated.split_at_mut(start);
        let mut iv = Block::default();
        iv[..start - HEADER].copy_from_slice(&head[HEADER..]);
        self.schedules.decryption.decrypt(&iv, sealed);
        unpadded(sealed)
    }
}

/// Takes trailer and padding off decrypted bytes.
fn unpadded(plain: &mut [u8]) -> Result<Opened<'_>, Discard> {
    let (rest, &mut [pad_len, next_header]) =
        plain.split_last_chunk_mut::<TRAILER>().ok_or(Discard::Truncated)?;
    let len = rest.len().checked_sub(pad_len.into()).ok_or(Discard::BadPadding)?;
    let (payload, padding) = rest.split_at_mut(len);
    // Only the peer could have made it: how long this takes tells strangers nothing.
    if padding.iter().zip(1..=u8::MAX).any(|(found, expected)| *found != expected) {
        return Err(Discard::BadPadding);
    }
    if next_header == NO_NEXT_HEADER {
        return Err(Discard::Dummy);
    }
    Ok(Opened { next_header, payload })
}

#[cfg(test)]
mod tests;
