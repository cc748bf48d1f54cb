//! The keys of an SA, as configuration or key management hands them over.

use zeroize::Zeroizing;

use crate::Suite;

/// The keys of one direction of one SA: never copied, never printed, zeroed on drop.
pub struct Keys {
    suite: Suite,
    /// As long as the suite says; on the heap, so that moving the keys copies none.
    cipher_key: Zeroizing<Vec<u8>>,
    /// As long as the suite says.
    auth_key: Zeroizing<Vec<u8>>,
}

/// A key is not as long as its algorithm asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyLength {
    /// The encryption key, with the salt if there is one.
    #[error(
        "the cipher key has {found} bytes, {suite} needs {}: give {} hexadecimal digits",
        .suite.cipher_key_len(), .suite.cipher_key_len() * 2
    )]
    Cipher {
        /// The suite chosen.
        suite: Suite,
        /// Bytes given.
        found: usize,
    },
    /// The integrity key.
    #[error(
        "the authentication key has {found} bytes, {suite} needs {} (RFC 4868): \
         give {} hexadecimal digits",
        .suite.auth_key_len(), .suite.auth_key_len() * 2
    )]
    Auth {
        /// The suite chosen.
        suite: Suite,
        /// Bytes given.
        found: usize,
    },
}

impl Keys {
    /// Takes over the keys of one direction. An AEAD's salt is the end of its
    /// `cipher_key`, and its `auth_key` is empty.
    ///
    /// # Errors
    /// [`KeyLength`] if one is not exactly as long as its algorithm asks.
    pub fn new(
        suite: Suite,
        cipher_key: Zeroizing<Vec<u8>>,
        auth_key: Zeroizing<Vec<u8>>,
    ) -> Result<Keys, KeyLength> {
        if cipher_key.len() != suite.cipher_key_len() {
            return Err(KeyLength::Cipher { suite, found: cipher_key.len() });
        }
        if auth_key.len() != suite.auth_key_len() {
            return Err(KeyLength::Auth { suite, found: auth_key.len() });
        }
        Ok(Keys { suite, cipher_key, auth_key })
    }

    /// The algorithms the keys are for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub(crate) fn cipher_key(&self) -> &[u8] {
        &self.cipher_key
    }

    pub(crate) fn auth_key(&self) -> &[u8] {
        &self.auth_key
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
        for suite in Suite::ALL {
            let (cipher_len, auth_len) = (suite.cipher_key_len(), suite.auth_key_len());
            for len in 0..=65 {
                let made = Keys::new(suite, bytes(len), bytes(auth_len)).err();
                let wrong = KeyLength::Cipher { suite, found: len };
                assert_eq!(made, (len != cipher_len).then_some(wrong));
                let made = Keys::new(suite, bytes(cipher_len), bytes(len)).err();
                let wrong = KeyLength::Auth { suite, found: len };
                assert_eq!(made, (len != auth_len).then_some(wrong));
            }
        }
    }

    #[test]
    fn a_refusal_says_how_many_digits_to_give() {
        let suite = "aes-gcm-256".parse().unwrap();
        let error = Keys::new(suite, bytes(32), bytes(0)).err().unwrap().to_string();
        assert!(error.contains("aes-gcm-256 needs 36: give 72 hexadecimal digits"), "{error}");
        let suite = "null+hmac-sha384".parse().unwrap();
        let error = Keys::new(suite, bytes(0), bytes(32)).err().unwrap().to_string();
        assert!(error.contains("null+hmac-sha384 needs 48 (RFC 4868)"), "{error}");
    }
}
