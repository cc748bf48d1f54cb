//! The ciphers that an HMAC goes with, one direction at a time: NULL and AES-CBC.

use crate::keys::Keys;
use crate::suite::Cipher;
use aes::{Aes128Dec, Aes128Enc, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc};
use cbc::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit, consts::U16,
};

use crate::transform::Plain;

/// An IV of AES-CBC, or any block of it.
pub(crate) type Block = [u8; 16];

/// Encrypts; the schedule is zeroed on drop by the `aes` crate.
pub(crate) enum Encryption {
    Null,
    Aes128(Aes128Enc),
    Aes192(Aes192Enc),
    Aes256(Aes256Enc),
}

impl Encryption {
    pub(crate) fn new(keys: &Keys) -> Encryption {
        match keys.cipher {
            Cipher::Null => Encryption::Null,
            Cipher::AesCbc128 => Encryption::Aes128(schedule(&keys.cipher_key)),
            Cipher::AesCbc192 => Encryption::Aes192(schedule(&keys.cipher_key)),
            Cipher::AesCbc256 => Encryption::Aes256(schedule(&keys.cipher_key)),
        }
    }

    /// Encrypts whole blocks in place.
    #[inline]
    pub(crate) fn encrypt(&self, iv: &Block, data: &mut [u8]) {
        match self {
            Encryption::Null => {}
            Encryption::Aes128(aes) => cbc_encrypt(aes, iv, data),
            Encryption::Aes192(aes) => cbc_encrypt(aes, iv, data),
            Encryption::Aes256(aes) => cbc_encrypt(aes, iv, data),
        }
    }

    /// Encrypts one block by itself.
    pub(crate) fn encrypt_block(&self, block: &mut Block) {
        match self {
            Encryption::Null => {}
            Encryption::Aes128(aes) => aes.encrypt_block(block.into()),
            Encryption::Aes192(aes) => aes.encrypt_block(block.into()),
            Encryption::Aes256(aes) => aes.encrypt_block(block.into()),
        }
    }
}

/// Decrypts; the schedule is zeroed on drop by the `aes` crate.
pub(crate) enum Decryption {
    Null,
    Aes128(Aes128Dec),
    Aes192(Aes192Dec),
    Aes256(Aes256Dec),
}

impl Decryption {
    pub(crate) fn new(keys: &Keys) -> Decryption {
        match keys.cipher {
            Cipher::Null => Decryption::Null,
            Cipher::AesCbc128 => Decryption::Aes128(schedule(&keys.cipher_key)),
            Cipher::AesCbc192 => Decryption::Aes192(schedule(&keys.cipher_key)),
            Cipher::AesCbc256 => Decryption::Aes256(schedule(&keys.cipher_key)),
        }
    }

    /// Decrypts whole blocks in place.
    fn decrypt(&self, iv: &Block, data: &mut [u8]);
}

impl Encryption for Null {
    const IV_LEN: usize = 0;

    fn new(_: &[u8]) -> Null {
        Null
    }

    fn encrypt(&self, _: &Block, _: &mut [u8]) {}

    fn encrypt_block(&self, _: &mut Block) {}
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
    pub(crate) fn decrypt(&self, iv: &Block, data: &mut [u8]) {
        match self {
            Decryption::Null => {}
            Decryption::Aes128(aes) => cbc_decrypt(aes, iv, data),
            Decryption::Aes192(aes) => cbc_decrypt(aes, iv, data),
            Decryption::Aes256(aes) => cbc_decrypt(aes, iv, data),
        }
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
