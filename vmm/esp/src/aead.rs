//! The AEADs as IPsec uses them: a salt of the key and an IV of the packet are
//! the nonce (RFC 4106 4, RFC 7634 2). IKE protects its messages likewise
//! (RFC 5282), hence public.

use std::hint::black_box;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use zeroize::Zeroizing;

use crate::Aead;

/// An IV: different for every message under one key.
pub type Iv = [u8; 8];

/// Bytes of ICV behind the ciphertext.
pub const ICV_LEN: usize = 16;

/// A key with its salt, ready for use. What it holds is overwritten on drop.
pub struct AeadKey {
    schedule: Schedule,
    salt: [u8; Aead::SALT_LEN],
}

/// What is made of the key, on the heap: moved, it leaves no copy behind.
enum Schedule {
    AesGcm(Box<LessSafeKey>),
    /// ring's form of it is no faster than the key itself, but has the size of the
    /// largest, and in the room not used whatever was on the stack before.
    ChaCha20Poly1305(Zeroizing<Vec<u8>>),
}

impl AeadKey {
    /// Takes the key, its salt at the end.
    ///
    /// # Panics
    /// If `key` has not [`Aead::key_len`] bytes.
    pub fn new(aead: Aead, key: &[u8]) -> AeadKey {
        let (key, salt) = key.split_last_chunk().expect("a key with its salt");
        let schedule = match aead {
            Aead::AesGcm128 => Schedule::AesGcm(Box::new(prepared(&AES_128_GCM, key))),
            Aead::AesGcm256 => Schedule::AesGcm(Box::new(prepared(&AES_256_GCM, key))),
            Aead::ChaCha20Poly1305 => Schedule::ChaCha20Poly1305(Zeroizing::new(key.to_vec())),
        };
        AeadKey { schedule, salt: *salt }
    }

    /// Encrypts `data` in place and gives the ICV of `aad` and `data`.
    ///
    /// # Panics
    /// If `data` is longer than the algorithm takes, about 64 GiB.
    #[inline]
    pub fn seal(&self, iv: Iv, aad: &[u8], data: &mut [u8]) -> [u8; ICV_LEN] {
        let (nonce, aad) = (self.nonce(iv), Aad::from(aad));
        let sealed = self.schedule.with(|key| key.seal_in_place_separate_tag(nonce, aad, data));
        let icv = sealed.expect("no packet is so long");
        icv.as_ref().try_into().expect("every ICV has 16 bytes")
    }

    /// Decrypts `data`, ciphertext and ICV, in place: its beginning is the
    /// plaintext then. `None` if the ICV is wrong; `data` holds nothing then.
    #[inline]
    pub fn open<'a>(&self, iv: Iv, aad: &[u8], data: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (nonce, aad) = (self.nonce(iv), Aad::from(aad));
        self.schedule.with(|key| key.open_in_place(nonce, aad, data).ok())
    }

    fn nonce(&self, iv: Iv) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..Aead::SALT_LEN].copy_from_slice(&self.salt);
        nonce[Aead::SALT_LEN..].copy_from_slice(&iv);
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Schedule {
    #[inline]
    fn with<T>(&self, work: impl FnOnce(&LessSafeKey) -> T) -> T {
        match self {
            Schedule::AesGcm(key) => work(key),
            Schedule::ChaCha20Poly1305(key) => work(&prepared(&CHACHA20_POLY1305, key)),
        }
    }
}

fn prepared(algorithm: &'static Algorithm, key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(algorithm, key).expect("a key of the algorithm's length"))
}

impl Drop for Schedule {
    /// ring zeroes no key and shows none; but what is made of a key is as long
    /// for every key of an algorithm, so another takes its place to the last byte.
    fn drop(&mut self) {
        if let Schedule::AesGcm(key) = self {
            let algorithm = key.algorithm();
            **key = prepared(algorithm, &[0; 32][..algorithm.key_len()]);
            // Keeps the compiler from leaving out what nobody reads.
            black_box(&mut **key);
        }
    }
}

#[cfg(test)]
mod tests;
