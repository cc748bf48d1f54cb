//! The algorithms an SA can use, and the sizes that follow from them.
//!
//! Encryption and integrity are either two algorithms, encrypt-then-MAC
//! (RFC 4303 3.3.2.1), or one that does both (RFC 4303 3.3.2.2). RFC 8221
//! chooses which are offered.

use std::fmt;
use std::str::FromStr;

/// How an SA protects its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// A cipher, and an HMAC over what it made.
    Combined(Cipher, Integrity),
    /// Both in one algorithm.
    Aead(Aead),
}

/// The ciphers that take an integrity algorithm beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// No encryption, integrity only (RFC 2410).
    Null,
    /// AES-CBC with a key of 16 bytes (RFC 3602).
    AesCbc128,
    /// AES-CBC with a key of 24 bytes (RFC 3602).
    AesCbc192,
    /// AES-CBC with a key of 32 bytes (RFC 3602).
    AesCbc256,
}

/// The integrity algorithms, all of RFC 4868.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Integrity {
    /// HMAC-SHA-256-128: an ICV of 16 bytes.
    HmacSha256,
    /// HMAC-SHA-384-192: an ICV of 24 bytes.
    HmacSha384,
    /// HMAC-SHA-512-256: an ICV of 32 bytes.
    HmacSha512,
}

/// The algorithms that encrypt and authenticate in one.
///
/// Never to be keyed by hand: a sequence number used twice under one key tells
/// the plaintexts apart and lets anybody forge (RFC 4106 2, RFC 8221 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aead {
    /// AES-GCM with a key of 16 bytes and an ICV of 16 (RFC 4106).
    AesGcm128,
    /// AES-GCM with a key of 32 bytes and an ICV of 16 (RFC 4106).
    AesGcm256,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
}

impl Cipher {
    /// Every cipher, weakest first.
    pub const ALL: [Cipher; 4] =
        [Cipher::Null, Cipher::AesCbc128, Cipher::AesCbc192, Cipher::AesCbc256];

    /// As configuration writes it: `null`, `aes-cbc-128`, `aes-cbc-192`, `aes-cbc-256`.
    pub const fn name(self) -> &'static str {
        match self {
            Cipher::Null => "null",
            Cipher::AesCbc128 => "aes-cbc-128",
            Cipher::AesCbc192 => "aes-cbc-192",
            Cipher::AesCbc256 => "aes-cbc-256",
        }
    }

    /// Bytes of key.
    pub const fn key_len(self) -> usize {
        match self {
            Cipher::Null => 0,
            Cipher::AesCbc128 => 16,
            Cipher::AesCbc192 => 24,
            Cipher::AesCbc256 => 32,
        }
    }
}

impl Integrity {
    /// Every algorithm, the shortest ICV first.
    pub const ALL: [Integrity; 3] =
        [Integrity::HmacSha256, Integrity::HmacSha384, Integrity::HmacSha512];

    /// As configuration writes it: `hmac-sha256`, `hmac-sha384`, `hmac-sha512`.
    pub const fn name(self) -> &'static str {
        match self {
            Integrity::HmacSha256 => "hmac-sha256",
            Integrity::HmacSha384 => "hmac-sha384",
            Integrity::HmacSha512 => "hmac-sha512",
        }
    }

    /// Bytes of key: what the hash gives, no other length is allowed (RFC 4868 2.1.1).
    pub const fn key_len(self) -> usize {
        2 * self.icv_len()
    }

    /// Bytes of ICV: half of what the hash gives (RFC 4868 2.3).
    pub const fn icv_len(self) -> usize {
        match self {
            Integrity::HmacSha256 => 16,
            Integrity::HmacSha384 => 24,
            Integrity::HmacSha512 => 32,
        }
    }
}

impl Aead {
    /// Every algorithm.
    pub const ALL: [Aead; 3] = [Aead::AesGcm128, Aead::AesGcm256, Aead::ChaCha20Poly1305];

    /// Bytes of salt behind the key proper (RFC 4106 8.1, RFC 7634 2).
    pub const SALT_LEN: usize = 4;

    /// As configuration writes it: `aes-gcm-128`, `aes-gcm-256`, `chacha20-poly1305`.
    pub const fn name(self) -> &'static str {
        match self {
            Aead::AesGcm128 => "aes-gcm-128",
            Aead::AesGcm256 => "aes-gcm-256",
            Aead::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// Bytes of key, salt included.
    pub const fn key_len(self) -> usize {
        match self {
            Aead::AesGcm128 => 16 + Aead::SALT_LEN,
            Aead::AesGcm256 | Aead::ChaCha20Poly1305 => 32 + Aead::SALT_LEN,
        }
    }
}

impl Suite {
    /// Every suite.
    pub const ALL: [Suite; 15] = {
        let mut all = [Suite::Aead(Aead::AesGcm128); 15];
        let mut at = 0;
        while at < 12 {
            all[at] = Suite::Combined(Cipher::ALL[at / 3], Integrity::ALL[at % 3]);
            at += 1;
        }
        while at < 15 {
            all[at] = Suite::Aead(Aead::ALL[at - 12]);
            at += 1;
        }
        all
    };

    /// Its algorithms as tables and [`FromStr`] write them: `aes-cbc-128+hmac-sha256`,
    /// `aes-gcm-256`.
    pub const fn name(self) -> &'static str {
        use Cipher::{AesCbc128, AesCbc192, AesCbc256, Null};
        use Integrity::{HmacSha256, HmacSha384, HmacSha512};
        match self {
            Suite::Combined(Null, HmacSha256) => "null+hmac-sha256",
            Suite::Combined(Null, HmacSha384) => "null+hmac-sha384",
            Suite::Combined(Null, HmacSha512) => "null+hmac-sha512",
            Suite::Combined(AesCbc128, HmacSha256) => "aes-cbc-128+hmac-sha256",
            Suite::Combined(AesCbc128, HmacSha384) => "aes-cbc-128+hmac-sha384",
            Suite::Combined(AesCbc128, HmacSha512) => "aes-cbc-128+hmac-sha512",
            Suite::Combined(AesCbc192, HmacSha256) => "aes-cbc-192+hmac-sha256",
            Suite::Combined(AesCbc192, HmacSha384) => "aes-cbc-192+hmac-sha384",
            Suite::Combined(AesCbc192, HmacSha512) => "aes-cbc-192+hmac-sha512",
            Suite::Combined(AesCbc256, HmacSha256) => "aes-cbc-256+hmac-sha256",
            Suite::Combined(AesCbc256, HmacSha384) => "aes-cbc-256+hmac-sha384",
            Suite::Combined(AesCbc256, HmacSha512) => "aes-cbc-256+hmac-sha512",
            Suite::Aead(aead) => aead.name(),
        }
    }

    /// Bytes of cipher key; for an AEAD with its salt of 4 bytes at the end.
    pub const fn cipher_key_len(self) -> usize {
        match self {
            Suite::Combined(cipher, _) => cipher.key_len(),
            Suite::Aead(aead) => aead.key_len(),
        }
    }

    /// Bytes of authentication key; 0 for an AEAD.
    pub const fn auth_key_len(self) -> usize {
        match self {
            Suite::Combined(_, integrity) => integrity.key_len(),
            Suite::Aead(_) => 0,
        }
    }

    /// Whether one algorithm does both, so that key management alone may key it (RFC 8221 5).
    pub const fn is_aead(self) -> bool {
        matches!(self, Suite::Aead(_))
    }

    /// Bytes of IV before the ciphertext.
    pub const fn iv_len(self) -> usize {
        match self {
            Suite::Combined(Cipher::Null, _) => 0,
            Suite::Combined(..) => 16,
            Suite::Aead(_) => 8,
        }
    }

    /// Bytes of ICV behind the ciphertext.
    pub const fn icv_len(self) -> usize {
        match self {
            Suite::Combined(_, integrity) => integrity.icv_len(),
            Suite::Aead(_) => 16,
        }
    }

    /// What ciphertext is a multiple of, bytes (RFC 4303 2.4: at least 4).
    pub(crate) const fn alignment(self) -> usize {
        match self {
            Suite::Combined(Cipher::Null, _) | Suite::Aead(_) => 4,
            Suite::Combined(..) => 16,
        }
    }
}

/// Longest IV of any suite, bytes.
pub(crate) const MAX_IV_LEN: usize = 16;

/// Longest ICV of any suite, bytes.
pub(crate) const MAX_ICV_LEN: usize = 32;

/// No suite has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no suite: give one of null, aes-cbc-128, aes-cbc-192 and aes-cbc-256 with \
     +hmac-sha256, +hmac-sha384 or +hmac-sha512, or aes-gcm-128, aes-gcm-256, chacha20-poly1305"
)]
pub struct UnknownSuite(pub String);

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Suite, UnknownSuite> {
        let found = Suite::ALL.into_iter().find(|suite| suite.name() == name);
        found.ok_or_else(|| UnknownSuite(name.into()))
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_found_by_its_name_which_is_made_of_its_algorithms() {
        for (at, suite) in Suite::ALL.into_iter().enumerate() {
            assert_eq!(suite.name().parse(), Ok(suite));
            assert_eq!(Suite::ALL.iter().position(|other| *other == suite), Some(at));
            if let Suite::Combined(cipher, integrity) = suite {
                assert_eq!(suite.to_string(), format!("{}+{}", cipher.name(), integrity.name()));
            }
            assert_eq!(suite.is_aead(), suite.auth_key_len() == 0);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        for name in ["", "null", "aes-gcm-192", "aes-cbc-128+hmac-sha1", "AES-GCM-256"] {
            let error = name.parse::<Suite>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
            assert!(error.contains("chacha20-poly1305"), "{error}");
        }
    }

    #[test]
    fn the_longest_iv_and_icv_are_those_of_some_suite() {
        assert_eq!(Suite::ALL.map(Suite::iv_len).into_iter().max(), Some(MAX_IV_LEN));
        assert_eq!(Suite::ALL.map(Suite::icv_len).into_iter().max(), Some(MAX_ICV_LEN));
    }
}
