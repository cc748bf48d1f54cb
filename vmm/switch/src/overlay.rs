//! An overlay as configuration describes it: the peer, and the SAs set up by hand.
//!
//! What is here is well-formed; whether it can be used on this host is for
//! the switch to say when a space is attached.

use std::fmt;
use std::net::Ipv4Addr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// The UDP port of encapsulated ESP (RFC 3948).
pub const DEFAULT_PORT: u16 = 4500;

/// What a space is bound to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The space's own address, which is this host's.
    pub local: Ipv4Addr,
    /// The other end; in transport mode the one address the space can talk to.
    pub peer: Ipv4Addr,
    /// The UDP port ESP is sent from and received on.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The peer's UDP port.
    #[serde(default = "default_port")]
    pub peer_port: u16,
    /// How packets are wrapped.
    #[serde(default)]
    pub mode: Mode,
    /// The SAs, in pairs; one without a selector is for every packet to the peer.
    pub sas: Vec<SaPair>,
}

fn default_port() -> u16 {
    DEFAULT_PORT
}

/// How packets are wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Only the payload travels inside ESP (RFC 4301 4.1).
    #[default]
    Transport,
}

/// Two SAs for the same packets, one for each direction.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaPair {
    /// For packets from the peer: this host chose its SPI.
    pub inbound: Sa,
    /// For packets to the peer: the peer chose its SPI.
    pub outbound: Sa,
    /// Which packets, if not all of them.
    #[serde(default)]
    pub selector: Narrowing,
}

/// One SA.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sa {
    /// Its number on the wire.
    pub spi: u32,
    /// How it encrypts; HMAC-SHA2-256-128 protects its packets in any case.
    pub cipher: Cipher,
    /// As long as the cipher says; empty for `null`.
    #[serde(default)]
    pub cipher_key: Key,
    /// 32 bytes.
    pub auth_key: Key,
}

/// How an SA encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// Not at all (RFC 2410).
    #[serde(rename = "null")]
    Null,
    /// AES-CBC, key of 16 bytes (RFC 3602).
    #[serde(rename = "aes-cbc-128")]
    AesCbc128,
    /// AES-CBC, key of 32 bytes (RFC 3602).
    #[serde(rename = "aes-cbc-256")]
    AesCbc256,
}

impl From<Cipher> for esp::Suite {
    fn from(cipher: Cipher) -> esp::Suite {
        let cipher = match cipher {
            Cipher::Null => esp::Cipher::Null,
            Cipher::AesCbc128 => esp::Cipher::AesCbc128,
            Cipher::AesCbc256 => esp::Cipher::AesCbc256,
        };
        esp::Suite::Combined(cipher, esp::Integrity::HmacSha256)
    }
}

/// Conditions that narrow a pair of SAs down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// The IP protocol.
    #[serde(default)]
    pub protocol: Option<u8>,
    /// The port at the space's end.
    #[serde(default)]
    pub local_port: Option<u16>,
    /// The port at the peer.
    #[serde(default)]
    pub peer_port: Option<u16>,
}

/// A key, written as hexadecimal digits: never printed, zeroed on drop.
#[derive(Default)]
pub struct Key(Zeroizing<Vec<u8>>);

/// Digits that are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is an even number of hexadecimal digits; character {0} is none, or one is missing")]
pub struct BadKey(usize);

impl Key {
    /// Reads hexadecimal digits, upper or lower case.
    ///
    /// # Errors
    /// [`BadKey`] with the place of the first wrong character, counted from 1.
    pub fn from_hex(digits: &str) -> Result<Key, BadKey> {
        // Reserved at once: a vector that grows would leave copies of the key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
        let value = |at: usize| {
            let digit = digits.as_bytes().get(at).ok_or(BadKey(at + 1))?;
            char::from(*digit).to_digit(16).map(|value| value as u8).ok_or(BadKey(at + 1))
        };
        for at in (0..digits.len()).step_by(2) {
            bytes.push(value(at)? << 4 | value(at + 1)?);
        }
        Ok(Key(bytes))
    }

    /// Gives the bytes away.
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// Its length, bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * 2));
        for byte in self.0.iter() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key in hexadecimal digits")
            }

            fn visit_str<E: Error>(self, digits: &str) -> Result<Key, E> {
                Key::from_hex(digits).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_written_and_never_shown() {
        let key: Key = serde_json::from_str("\"00fFa5\"").unwrap();
        assert_eq!(key.0[..], [0, 0xff, 0xa5]);
        assert_eq!(serde_json::to_string(&key).unwrap(), "\"00ffa5\"");
        assert_eq!(format!("{key:?}"), "Key(3 bytes)");
        assert_eq!(Key::from_hex("00f").unwrap_err(), BadKey(4));
        assert_eq!(Key::from_hex("0x11").unwrap_err(), BadKey(2));
        assert!(Key::from_hex("äö").is_err());
    }

    #[test]
    fn a_short_overlay_has_the_usual_ports_and_an_unknown_field_is_named() {
        let text = r#"{"local":"192.0.2.10","peer":"192.0.2.20","sas":[]}"#;
        let overlay: Overlay = serde_json::from_str(text).unwrap();
        assert_eq!((overlay.port, overlay.peer_port, overlay.mode), (4500, 4500, Mode::Transport));
        let text = text.replace("peer\"", "pear\"");
        let error = serde_json::from_str::<Overlay>(&text).unwrap_err().to_string();
        assert!(error.contains("pear"), "{error}");
    }
}
