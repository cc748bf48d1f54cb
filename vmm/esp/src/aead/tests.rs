//! What [`crate::vectors`] does not ask: that nothing but the whole message opens.

use super::*;

fn key(aead: Aead) -> AeadKey {
    AeadKey::new(aead, &vec![7; aead.key_len()])
}

#[test]
fn nothing_opens_with_any_one_bit_changed_or_any_byte_missing() {
    for aead in Aead::ALL {
        let mut sealed = b"a message".to_vec();
        let icv = key(aead).seal([1; 8], b"aad", &mut sealed);
        sealed.extend(icv);
        let opens = |iv: Iv, aad: &[u8], data: &[u8]| {
            key(aead).open(iv, aad, &mut data.to_vec()).map(|plain| plain.to_vec())
        };
        assert_eq!(opens([1; 8], b"aad", &sealed), Some(b"a message".to_vec()));
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opens([1; 8], b"aad", &changed), None);
        }
        for len in 0..sealed.len() {
            assert_eq!(opens([1; 8], b"aad", &sealed[..len]), None);
        }
        assert_eq!(opens([2; 8], b"aad", &sealed), None);
        assert_eq!(opens([1; 8], b"aae", &sealed), None);
    }
}

#[test]
fn nothing_of_a_forged_message_is_shown() {
    for aead in Aead::ALL {
        let mut data = vec![9; 100];
        let icv = key(aead).seal([1; 8], b"", &mut data);
        data.extend(icv.map(|byte| !byte));
        assert!(key(aead).open([1; 8], b"", &mut data).is_none());
        assert!(!data.windows(8).any(|bytes| bytes == [9; 8]));
    }
}

#[test]
fn the_salt_is_part_of_the_key() {
    for aead in Aead::ALL {
        let mut other = vec![7; aead.key_len()];
        *other.last_mut().unwrap() ^= 1;
        let other = AeadKey::new(aead, &other);
        let (mut one, mut two) = ([0; 32], [0; 32]);
        let icvs = (key(aead).seal([1; 8], b"", &mut one), other.seal([1; 8], b"", &mut two));
        assert!(one != two && icvs.0 != icvs.1);
    }
}
