//! What an SA does to the bytes of a packet: one object per SA and direction,
//! in one piece on the heap and exactly as large as its algorithms need.

use std::panic::{RefUnwindSafe, UnwindSafe};

use aes::{Aes128Dec, Aes128Enc, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc};

use crate::aead::{self, AeadKey};
use crate::cipher::{Block, Decryption, Encryption, Null};
use crate::hmac::{Hash, Hmac, Sha256, Sha384, Sha512};
use crate::keys::Keys;
use crate::suite::{Cipher, Integrity, Suite};

/// Bytes of SPI and sequence number.
pub(crate) const HEADER: usize = 8;

/// Bytes of packet from which on taking turns wins more than the calls cost.
const TURNS_FROM: usize = 256;

/// The high half of a 64-bit sequence number: authenticated, but not sent
/// (RFC 4303 2.2.1). `None` with 32-bit numbers.
pub(crate) type High = Option<u32>;

/// Bytes and nothing else, so that an SA may be moved and shared as freely as bytes.
pub(crate) trait Plain: Send + Sync + UnwindSafe + RefUnwindSafe {}

impl<T: Send + Sync + UnwindSafe + RefUnwindSafe> Plain for T {}

/// Encrypts and authenticates.
pub(crate) trait Seal: Plain {
    /// What the IV of the packet with this number is made of; what the suite does
    /// not need of it is ignored.
    fn nonce(&self, seq: u64) -> Block;

    /// Seals a packet in place: header, room for the IV, plaintext in whole
    /// blocks, room for the ICV.
    fn seal(&self, high: High, nonce: &Block, packet: &mut [u8]);
}

/// Authenticates and decrypts.
pub(crate) trait Open: Plain {
    /// Opens a packet in place: header, IV, ciphertext in whole blocks, ICV,
    /// none of which may be missing. Says whether it is authentic; its
    /// ciphertext is nothing of use if not.
    fn open(&self, high: High, packet: &mut [u8]) -> bool;
}

/// What seals with these keys; `seed` is that of [`crate::OutboundSa::new`].
pub(crate) fn sealing(keys: &Keys, seed: Block) -> Box<dyn Seal> {
    match keys.suite() {
        Suite::Combined(cipher, integrity) => match cipher {
            Cipher::Null => sealing_with::<Null>(integrity, keys, seed),
            Cipher::AesCbc128 => sealing_with::<Aes128Enc>(integrity, keys, seed),
            Cipher::AesCbc192 => sealing_with::<Aes192Enc>(integrity, keys, seed),
            Cipher::AesCbc256 => sealing_with::<Aes256Enc>(integrity, keys, seed),
        },
        Suite::Aead(aead) => Box::new(AeadKey::new(aead, keys.cipher_key())),
    }
}

fn sealing_with<E: Encryption>(integrity: Integrity, keys: &Keys, seed: Block) -> Box<dyn Seal> {
    let cipher = E::new(keys.cipher_key());
    let key = keys.auth_key();
    match integrity {
        Integrity::HmacSha256 => {
            Box::new(EncryptThenMac { cipher, hmac: Hmac::<Sha256, 64>::new(key), seed })
        }
        Integrity::HmacSha384 => {
            Box::new(EncryptThenMac { cipher, hmac: Hmac::<Sha384, 128>::new(key), seed })
        }
        Integrity::HmacSha512 => {
            Box::new(EncryptThenMac { cipher, hmac: Hmac::<Sha512, 128>::new(key), seed })
        }
    }
}

/// What opens with these keys.
pub(crate) fn opening(keys: &Keys) -> Box<dyn Open> {
    match keys.suite() {
        Suite::Combined(cipher, integrity) => match cipher {
            Cipher::Null => opening_with::<Null>(integrity, keys),
            Cipher::AesCbc128 => opening_with::<Aes128Dec>(integrity, keys),
            Cipher::AesCbc192 => opening_with::<Aes192Dec>(integrity, keys),
            Cipher::AesCbc256 => opening_with::<Aes256Dec>(integrity, keys),
        },
        Suite::Aead(aead) => Box::new(AeadKey::new(aead, keys.cipher_key())),
    }
}

fn opening_with<D: Decryption>(integrity: Integrity, keys: &Keys) -> Box<dyn Open> {
    let cipher = D::new(keys.cipher_key());
    let key = keys.auth_key();
    match integrity {
        Integrity::HmacSha256 => {
            Box::new(MacThenDecrypt { cipher, hmac: Hmac::<Sha256, 64>::new(key) })
        }
        Integrity::HmacSha384 => {
            Box::new(MacThenDecrypt { cipher, hmac: Hmac::<Sha384, 128>::new(key) })
        }
        Integrity::HmacSha512 => {
            Box::new(MacThenDecrypt { cipher, hmac: Hmac::<Sha512, 128>::new(key) })
        }
    }
}

struct EncryptThenMac<E, H: Hash<BLOCK>, const BLOCK: usize> {
    cipher: E,
    hmac: Hmac<H, BLOCK>,
    seed: Block,
}

impl<E: Encryption, H: Hash<BLOCK>, const BLOCK: usize> Seal for EncryptThenMac<E, H, BLOCK> {
    /// The seed is random and the numbers differ, so no nonce comes twice.
    fn nonce(&self, seq: u64) -> Block {
        (u128::from_ne_bytes(self.seed) ^ u128::from(seq)).to_ne_bytes()
    }

    /// The IV is the encryption of the nonce under the SA's own key, which nobody
    /// else can predict (RFC 3602 3, NIST SP 800-38A appendix C): what CBC makes
    /// of a packet that begins with the nonce, after an IV of zeros.
    fn seal(&self, high: High, nonce: &Block, packet: &mut [u8]) {
        let icv_at = packet.len() - Hmac::<H, BLOCK>::ICV_LEN;
        let (message, icv) = packet.split_at_mut(icv_at);
        message[HEADER..][..E::IV_LEN].copy_from_slice(&nonce[..E::IV_LEN]);

        let mut hash = self.hmac.begin();
        let mut iv = Block::default();
        if E::IV_LEN == 0 || message.len() < TURNS_FROM {
            self.cipher.encrypt(&iv, &mut message[HEADER..]);
        } else {
            // A CBC block waits for the one before it, and so does a block of the
            // hash. So they take turns: while a piece is encrypted, the processor
            // can hash the piece before it. Of two blocks of the hash, it is long
            // enough for what `aes` does at every call, and short enough to overlap.
            let mut done = HEADER;
            while done < message.len() {
                let piece = done..message.len().min(done + 2 * BLOCK);
                let next = piece.end;
                self.cipher.encrypt(&iv, &mut message[piece]);
                hash.advance(message, done);
                iv = *message[..next].last_chunk().expect("a piece is a block or more");
                done = next;
            }
        }
        let high = high.map(u32::to_be_bytes);
        let suffix = high.as_ref().map_or(&[][..], |high| high);
        icv.copy_from_slice(&hash.finish(message, suffix)[..Hmac::<H, BLOCK>::ICV_LEN]);
    }
}

struct MacThenDecrypt<D, H: Hash<BLOCK>, const BLOCK: usize> {
    cipher: D,
    hmac: Hmac<H, BLOCK>,
}

impl<D: Decryption, H: Hash<BLOCK>, const BLOCK: usize> Open for MacThenDecrypt<D, H, BLOCK> {
    fn open(&self, high: High, packet: &mut [u8]) -> bool {
        let icv_at = packet.len() - Hmac::<H, BLOCK>::ICV_LEN;
        let (message, icv) = packet.split_at_mut(icv_at);
        let high = high.map(u32::to_be_bytes);
        let suffix = high.as_ref().map_or(&[][..], |high| high);
        if !self.hmac.is_authentic(message, suffix, icv) {
            return false;
        }
        let (head, sealed) = message.split_at_mut(HEADER + D::IV_LEN);
        let mut iv = Block::default();
        iv[..D::IV_LEN].copy_from_slice(&head[HEADER..]);
        self.cipher.decrypt(&iv, sealed);
        true
    }
}

impl Seal for AeadKey {
    /// The number itself, which comes once under this key (RFC 4106 3.1, RFC 7634 2).
    fn nonce(&self, seq: u64) -> Block {
        let mut nonce = Block::default();
        nonce[..size_of::<u64>()].copy_from_slice(&seq.to_be_bytes());
        nonce
    }

    fn seal(&self, high: High, nonce: &Block, packet: &mut [u8]) {
        let (header, rest) = packet.split_first_chunk_mut().expect("callers leave room");
        let (iv_room, rest) = rest.split_first_chunk_mut().expect("callers leave room");
        let (data, icv) = rest.split_last_chunk_mut().expect("callers leave room");
        *iv_room = *nonce.first_chunk::<{ size_of::<aead::Iv>() }>().expect("a block is longer");
        let (aad, len) = aad(header, high);
        *icv = AeadKey::seal(self, *iv_room, &aad[..len], data);
    }
}

impl Open for AeadKey {
    fn open(&self, high: High, packet: &mut [u8]) -> bool {
        let (header, rest) = packet.split_first_chunk().expect("callers checked");
        let iv = rest.first_chunk().expect("callers checked");
        let ((aad, len), iv) = (aad(header, high), *iv);
        let sealed = &mut packet[HEADER + size_of::<aead::Iv>()..];
        AeadKey::open(self, iv, &aad[..len], sealed).is_some()
    }
}

/// SPI and sequence number as the AEADs authenticate them, all of its bits
/// (RFC 4106 5, RFC 7634 2.1), and how many bytes they are.
fn aad(header: &[u8; HEADER], high: High) -> ([u8; HEADER + 4], usize) {
    let mut aad = [0; HEADER + 4];
    let (spi, seq) = header.split_at(4);
    aad[..4].copy_from_slice(spi);
    match high {
        None => aad[4..8].copy_from_slice(seq),
        Some(high) => {
            aad[4..8].copy_from_slice(&high.to_be_bytes());
            aad[8..].copy_from_slice(seq);
        }
    }
    (aad, if high.is_some() { HEADER + 4 } else { HEADER })
}
