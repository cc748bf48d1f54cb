//! The ciphers that an HMAC goes with, one direction at a time: NULL and AES-CBC.

use aes::{Aes128Dec, Aes128Enc, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc};
use cbc::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit, consts::U16,
};

use crate::transform::Plain;

/// An IV of AES-CBC, or any block of it.
pub(crate) type Block = [u8; 16];

/// No cipher: what it encrypts and decrypts stays as it is (RFC 2410).
pub(crate) struct Null;

/// Encrypts; the schedule is zeroed on drop by the `aes` crate.
pub(crate) trait Encryption: Plain + 'static {
    /// Bytes of IV before the ciphertext.
    const IV_LEN: usize;

    /// With a key of the length that the suite says.
    fn new(key: &[u8]) -> Self;

    /// Encrypts whole blocks in place.
    fn encrypt(&self, iv: &Block, data: &mut [u8]);
}

/// Decrypts; the schedule is zeroed on drop by the `aes` crate.
pub(crate) trait Decryption: Plain + 'static {
    /// Bytes of IV before the ciphertext.
    const IV_LEN: usize;

    /// With a key of the length that the suite says.
    fn new(key: &[u8]) -> Self;

    /// Decrypts whole blocks in place.
    fn decrypt(&self, iv: &Block, data: &mut [u8]);
}

impl Encryption for Null {
    const IV_LEN: usize = 0;

    fn new(_: &[u8]) -> Null {
        Null
    }

    fn encrypt(&self, _: &Block, _: &mut [u8]) {}
}

impl Decryption for Null {
    const IV_LEN: usize = 0;

    fn new(_: &[u8]) -> Null {
        Null
    }

    fn decrypt(&self, _: &Block, _: &mut [u8]) {}
}

/// The key schedules of AES, as far as CBC is concerned.
trait Aes: KeyInit + Plain + 'static {}

impl Aes for Aes128Enc {}
impl Aes for Aes192Enc {}
impl Aes for Aes256Enc {}
impl Aes for Aes128Dec {}
impl Aes for Aes192Dec {}
impl Aes for Aes256Dec {}

impl<C: Aes + BlockCipherEncrypt<BlockSize = U16>> Encryption for C {
    const IV_LEN: usize = size_of::<Block>();

    fn new(key: &[u8]) -> C {
        C::new_from_slice(key).expect("Keys::new checked the length")
    }

    #[inline]
    fn encrypt(&self, iv: &Block, data: &mut [u8]) {
        let (blocks, rest) = Array::slice_as_chunks_mut(data);
        debug_assert!(rest.is_empty(), "callers encrypt whole blocks");
        cbc::Encryptor::inner_iv_init(self, iv.into()).encrypt_blocks(blocks);
    }
}

impl<C: Aes + BlockCipherDecrypt<BlockSize = U16>> Decryption for C {
    const IV_LEN: usize = size_of::<Block>();

    fn new(key: &[u8]) -> C {
        C::new_from_slice(key).expect("Keys::new checked the length")
    }

    #[inline]
    fn decrypt(&self, iv: &Block, data: &mut [u8]) {
        let (blocks, rest) = Array::slice_as_chunks_mut(data);
        debug_assert!(rest.is_empty(), "callers decrypt whole blocks");
        cbc::Decryptor::inner_iv_init(self, iv.into()).decrypt_blocks(blocks);
    }
}

#[cfg(test)]
mod tests;
