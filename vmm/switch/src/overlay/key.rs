//! Keys of SAs, as messages carry them.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A key, written as hexadecimal digits: never printed, zeroed on drop.
#[derive(Clone, Default, PartialEq, Eq)]
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

    /// Writes it as hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * 2));
        for byte in self.0.iter() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// Takes the bytes over.
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Key {
        Key(bytes)
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
        serializer.serialize_str(&self.to_hex())
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
}
