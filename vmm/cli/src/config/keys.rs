//! Ciphers and keys of manual SAs: names, lengths, hex digits.

use switch::overlay::{Cipher, Integrity, Key};

/// The cipher a configuration names.
///
/// # Errors
/// What is wrong and what to do; an AEAD is refused with the RFC that forbids it.
pub(super) fn cipher_named(name: &str) -> Result<Cipher, String> {
    let named = Cipher::ALL.into_iter().find(|&cipher| cipher.name() == name);
    named.ok_or_else(|| {
        let folded = name.to_ascii_lowercase();
        let counter = ["gcm", "ccm", "ctr", "gmac", "chacha"];
        let why = if counter.iter().any(|mode| folded.contains(mode)) {
            "must not be keyed by hand: a nonce that repeats gives traffic and keys away \
             (RFC 8221 section 5, RFC 4106 section 8)"
        } else {
            "is no cipher of a manual SA"
        };
        format!("{name:?} {why}; use \"aes-cbc-256\", \"aes-cbc-192\", \"aes-cbc-128\" or \"null\"")
    })
}

/// The integrity algorithm a configuration names.
///
/// # Errors
/// What is wrong and what to do.
pub(super) fn integrity_named(name: &str) -> Result<Integrity, String> {
    let named = Integrity::ALL.into_iter().find(|&integrity| integrity.name() == name);
    named.ok_or_else(|| {
        format!(
            "{name:?} is no integrity algorithm of a manual SA; use \"hmac-sha256\", \"hmac-sha384\" or \"hmac-sha512\""
        )
    })
}

/// Reads hex digits, exactly `length` bytes of them.
///
/// # Errors
/// What is wrong and what to do, without the digits themselves.
pub(super) fn key_of(text: &str, length: usize) -> Result<Key, String> {
    if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let what = "has characters that are not hex digits; write each byte as two of 0-9a-f";
        return Err(what.to_owned());
    }
    if text.len() != 2 * length {
        return Err(format!(
            "has {} hex digits where {} are needed ({length} bytes); make one with: openssl rand -hex {length}",
            text.len(),
            2 * length,
        ));
    }
    Key::from_hex(text).map_err(|bad| format!("{bad}; correct the digits"))
}
