//! The keys of an SA, as configuration or key management hands them over.

use zeroize::Zeroizing;

/// How an SA encrypts; each is combined with HMAC-SHA2-256-128 (RFC 4868).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// No encryption, integrity only (RFC 2410).
    Null,
    /// AES-CBC with a key of 16 bytes (RFC 3602).
    AesCbc128,
    /// AES-CBC with a key of 32 bytes (RFC 3602).
    AesCbc256,
}

impl Cipher {
    /// Every cipher, weakest first.
    pub const ALL: [Cipher; 3] = [Cipher::Null, Cipher::AesCbc128, Cipher::AesCbc256];

    /// Bytes of cipher key.
    pub const fn key_len(self) -> usize {
        match self {
            Cipher::Null => 0,
            Cipher::AesCbc128 => 16,
            Cipher::AesCbc256 => 32,
        }
    }

    /// As configuration and tables write it: `null`, `aes-cbc-128`, `aes-cbc-256`.
    pub const fn name(self) -> &'static str {
        match self {
            Cipher::Null => "null",
            Cipher::AesCbc128 => "aes-cbc-128",
            Cipher::AesCbc256 => "aes-cbc-256",
        }
    }

    /// Bytes of IV before the ciphertext.
    pub(crate) const fn iv_len(self) -> usize {
        match self {
            Cipher::Null => 0,
            Cipher::AesCbc128 | Cipher::AesCbc256 => 16,
        }
    }

    /// What ciphertext is a multiple of, bytes (RFC 4303 2.4: at least 4).
    pub(crate) const fn alignment(self) -> usize {
        match self {
            Cipher::Null => 4,
            Cipher::AesCbc128 | Cipher::AesCbc256 => 16,
        }
    }
}

/// The keys of one direction of one SA: never copied, never printed, zeroed on drop.
pub struct Keys {
    pub(crate) cipher: Cipher,
    /// As long as the cipher says.
    pub(crate) cipher_key: Zeroizing<Vec<u8>>,
    /// [`Keys::AUTH_LEN`] bytes; on the heap, so that moving the keys copies none.
    auth_key: Zeroizing<Vec<u8>>,
}

/// A key is not as long as its algorithm asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyLength {
    /// The encryption key.
    #[error(
        "the cipher key has {found} bytes, {} needs {}: give {} hexadecimal digits",
        .cipher.name(), .cipher.key_len(), .cipher.key_len() * 2
    )]
    Cipher {
        /// The cipher chosen.
        cipher: Cipher,
        /// Bytes given.
        found: usize,
    },
    /// The integrity key.
    #[error(
        "the authentication key has {found} bytes, HMAC-SHA2-256-128 needs 32 (RFC 4868): \
         give 64 hexadecimal digits"
    )]
    Auth {
        /// Bytes given.
        found: usize,
    },
}

impl Keys {
    /// Bytes of an HMAC-SHA2-256-128 key (RFC 4868 2.1.1: no other length is allowed).
    pub const AUTH_LEN: usize = 32;

    /// Takes over the keys of one direction.
    ///
    /// # Errors
    /// [`KeyLength`] if one is not exactly as long as its algorithm asks.
    pub fn new(
        cipher: Cipher,
        cipher_key: Zeroizing<Vec<u8>>,
        auth_key: Zeroizing<Vec<u8>>,
    ) -> Result<Keys, KeyLength> {
        if cipher_key.len() != cipher.key_len() {
            return Err(KeyLength::Cipher { cipher, found: cipher_key.len() });
        }
        if auth_key.len() != Keys::AUTH_LEN {
            return Err(KeyLength::Auth { found: auth_key.len() });
        }
        Ok(Keys { cipher, cipher_key, auth_key })
    }

    pub(crate) fn auth_key(&self) -> &[u8; Keys::AUTH_LEN] {
        self.auth_key.first_chunk().expect("Keys::new checked the length")
    }

    /// The cipher the keys are for.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(vec![7; len])
    }

    #[test]
    fn only_keys_of_exactly_the_right_length_are_taken() {
        for cipher in Cipher::ALL {
            for len in 0..=33 {
                let made = Keys::new(cipher, bytes(len), bytes(32)).err();
                let wrong = KeyLength::Cipher { cipher, found: len };
                assert_eq!(made, (len != cipher.key_len()).then_some(wrong));
                let made = Keys::new(cipher, bytes(cipher.key_len()), bytes(len)).err();
                assert_eq!(made, (len != 32).then_some(KeyLength::Auth { found: len }));
            }
        }
    }
}
