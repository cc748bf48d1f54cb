//! Which algorithms an SA uses together, and their names (RFC 8221).

use std::fmt;
use std::str::FromStr;

/// How an SA encrypts, where integrity is a matter of its own.
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

impl Cipher {
    /// Every cipher, weakest first.
    pub const ALL: [Cipher; 4] =
        [Cipher::Null, Cipher::AesCbc128, Cipher::AesCbc192, Cipher::AesCbc256];

    /// Bytes of cipher key.
    pub const fn key_len(self) -> usize {
        match self {
            Cipher::Null => 0,
            Cipher::AesCbc128 => 16,
            Cipher::AesCbc192 => 24,
            Cipher::AesCbc256 => 32,
        }
    }

    /// As configuration and tables write it: `null`, `aes-cbc-128`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Cipher::Null => "null",
            Cipher::AesCbc128 => "aes-cbc-128",
            Cipher::AesCbc192 => "aes-cbc-192",
            Cipher::AesCbc256 => "aes-cbc-256",
        }
    }

    /// Bytes of IV before the ciphertext.
    pub(crate) const fn iv_len(self) -> usize {
        match self {
            Cipher::Null => 0,
            Cipher::AesCbc128 | Cipher::AesCbc192 | Cipher::AesCbc256 => 16,
        }
    }

    /// What ciphertext is a multiple of, bytes (RFC 4303 2.4: at least 4).
    pub(crate) const fn alignment(self) -> usize {
        match self {
            Cipher::Null => 4,
            Cipher::AesCbc128 | Cipher::AesCbc192 | Cipher::AesCbc256 => 16,
        }
    }
}

/// What protects an SA's packets beside its cipher (RFC 4868).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Integrity {
    /// HMAC-SHA2-256-128.
    HmacSha256,
    /// HMAC-SHA2-384-192.
    HmacSha384,
    /// HMAC-SHA2-512-256.
    HmacSha512,
}

impl Integrity {
    /// Every one, shortest first.
    pub const ALL: [Integrity; 3] =
        [Integrity::HmacSha256, Integrity::HmacSha384, Integrity::HmacSha512];

    /// Bytes of key: RFC 4868 2.1.1 allows no other length.
    pub const fn key_len(self) -> usize {
        match self {
            Integrity::HmacSha256 => 32,
            Integrity::HmacSha384 => 48,
            Integrity::HmacSha512 => 64,
        }
    }

    /// As configuration and tables write it: `hmac-sha256`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Integrity::HmacSha256 => "hmac-sha256",
            Integrity::HmacSha384 => "hmac-sha384",
            Integrity::HmacSha512 => "hmac-sha512",
        }
    }
}

/// A cipher that protects what it encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aead {
    /// AES-GCM-16, key of 16 bytes (RFC 4106).
    AesGcm128,
    /// AES-GCM-16, key of 32 bytes (RFC 4106).
    AesGcm256,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
}

/// The algorithms of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// A cipher, and integrity beside it.
    Combined(Cipher, Integrity),
    /// Both at once.
    Aead(Aead),
}

/// A name of no suite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no suite: write one like aes-cbc-256+hmac-sha256 or aes-gcm-256")]
pub struct UnknownSuite(String);

impl Suite {
    /// Every suite.
    pub const ALL: [Suite; 15] = {
        let mut all = [Suite::Aead(Aead::AesGcm128); 15];
        let mut at = 0;
        while at < 12 {
            all[at] = Suite::Combined(Cipher::ALL[at / 3], Integrity::ALL[at % 3]);
            at += 1;
        }
        all[13] = Suite::Aead(Aead::AesGcm256);
        all[14] = Suite::Aead(Aead::ChaCha20Poly1305);
        all
    };

    /// As configuration, messages and tables write it.
    pub const fn name(self) -> &'static str {
        use {Cipher::*, Integrity::*};
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
            Suite::Aead(Aead::AesGcm128) => "aes-gcm-128",
            Suite::Aead(Aead::AesGcm256) => "aes-gcm-256",
            Suite::Aead(Aead::ChaCha20Poly1305) => "chacha20-poly1305",
        }
    }

    /// Bytes of cipher key; of an AEAD with the salt of 4 bytes that follows it (RFC 4106 8.1).
    pub const fn cipher_key_len(self) -> usize {
        match self {
            Suite::Combined(cipher, _) => cipher.key_len(),
            Suite::Aead(Aead::AesGcm128) => 20,
            Suite::Aead(Aead::AesGcm256 | Aead::ChaCha20Poly1305) => 36,
        }
    }

    /// Bytes of integrity key: none for an AEAD.
    pub const fn auth_key_len(self) -> usize {
        match self {
            Suite::Combined(_, integrity) => integrity.key_len(),
            Suite::Aead(_) => 0,
        }
    }

    /// Whether it must not be keyed by hand (RFC 8221 5).
    pub const fn is_aead(self) -> bool {
        matches!(self, Suite::Aead(_))
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Suite, UnknownSuite> {
        let named = Suite::ALL.into_iter().find(|suite| suite.name() == name);
        named.ok_or_else(|| UnknownSuite(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_is_read_by_its_own_name() {
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse(), Ok(suite));
        }
        assert!("AES-GCM-256".parse::<Suite>().is_err());
    }
}
