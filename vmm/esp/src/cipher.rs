//! The ciphers of one direction of an SA, with their key schedules.

use crate::keys::{Cipher, Keys};
use aes::{Aes128Dec, Aes128Enc, Aes256Dec, Aes256Enc};
use cbc::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit, consts::U16,
};

/// An IV of AES-CBC, or any block of it.
pub(crate) type Block = [u8; 16];

/// Encrypts; the schedule is zeroed on drop by the `aes` crate.
pub(crate) enum Encryption {
    Null,
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

impl Encryption {
    pub(crate) fn new(keys: &Keys) -> Encryption {
        match keys.cipher {
            Cipher::Null => Encryption::Null,
            Cipher::AesCbc128 => Encryption::Aes128(schedule(&keys.cipher_key)),
            Cipher::AesCbc256 => Encryption::Aes256(schedule(&keys.cipher_key)),
        }
    }

    /// Encrypts whole blocks in place.
    #[inline]
    pub(crate) fn encrypt(&self, iv: &Block, data: &mut [u8]) {
        match self {
            Encryption::Null => {}
            Encryption::Aes128(aes) => cbc_encrypt(aes, iv, data),
            Encryption::Aes256(aes) => cbc_encrypt(aes, iv, data),
        }
    }

    /// Encrypts one block by itself.
    pub(crate) fn encrypt_block(&self, block: &mut Block) {
        match self {
            Encryption::Null => {}
            Encryption::Aes128(aes) => aes.encrypt_block(block.into()),
            Encryption::Aes256(aes) => aes.encrypt_block(block.into()),
        }
    }
}

/// Decrypts; the schedule is zeroed on drop by the `aes` crate.
pub(crate) enum Decryption {
    Null,
    Aes128(Aes128Dec),
    Aes256(Aes256Dec),
}

impl Decryption {
    pub(crate) fn new(keys: &Keys) -> Decryption {
        match keys.cipher {
            Cipher::Null => Decryption::Null,
            Cipher::AesCbc128 => Decryption::Aes128(schedule(&keys.cipher_key)),
            Cipher::AesCbc256 => Decryption::Aes256(schedule(&keys.cipher_key)),
        }
    }

    /// Decrypts whole blocks in place.
    #[inline]
    pub(crate) fn decrypt(&self, iv: &Block, data: &mut [u8]) {
        match self {
            Decryption::Null => {}
            Decryption::Aes128(aes) => cbc_decrypt(aes, iv, data),
            Decryption::Aes256(aes) => cbc_decrypt(aes, iv, data),
        }
    }
}

fn schedule<C: KeyInit>(key: &[u8]) -> C {
    C::new_from_slice(key).expect("Keys::new checked the length")
}

fn cbc_encrypt<C: BlockCipherEncrypt<BlockSize = U16>>(aes: &C, iv: &Block, data: &mut [u8]) {
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    debug_assert!(rest.is_empty(), "callers encrypt whole blocks");
    cbc::Encryptor::inner_iv_init(aes, iv.into()).encrypt_blocks(blocks);
}

fn cbc_decrypt<C: BlockCipherDecrypt<BlockSize = U16>>(aes: &C, iv: &Block, data: &mut [u8]) {
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    debug_assert!(rest.is_empty(), "callers decrypt whole blocks");
    cbc::Decryptor::inner_iv_init(aes, iv.into()).decrypt_blocks(blocks);
}

#[cfg(test)]
mod tests;
