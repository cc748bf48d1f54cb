//! Packets as RFC 3602 4 shows them, sizes, and the end of the sequence numbers.

use zeroize::Zeroizing;

use super::*;
use crate::{InboundSa, WindowSize};

fn keys(cipher: Cipher, key: u128) -> Keys {
    let mut cipher_key = key.to_be_bytes().to_vec();
    cipher_key.resize(cipher.key_len(), 7);
    Keys::new(cipher, Zeroizing::new(cipher_key), Zeroizing::new(vec![9; 32])).unwrap()
}

fn sa(cipher: Cipher) -> OutboundSa {
    OutboundSa::new(Spi::new(0x1001).unwrap(), keys(cipher, 5), [3; 16])
}

fn seal(sa: &mut OutboundSa, payload: &[u8]) -> Vec<u8> {
    let mut batch = vec![0xee; sa.headroom()];
    batch.extend_from_slice(payload);
    sa.seal(17, &mut batch, 0).unwrap();
    batch
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Seals as RFC 3602 does, which has no ICV; returns IV and ciphertext.
fn seal_as_rfc_3602(
    spi: u32,
    key: u128,
    iv: u128,
    next_header: u8,
    payload: &[u32],
) -> (Vec<u8>, Vec<u8>) {
    let spi = Spi::new(spi).unwrap();
    let mut sa = OutboundSa::new(spi, keys(Cipher::AesCbc128, key), [0; 16]);
    let mut batch = vec![0; sa.headroom()];
    batch.extend(words(payload));
    sa.seal_with_iv(next_header, &mut batch, 0, &iv.to_be_bytes()).unwrap();
    assert_eq!(batch[..8], words(&[spi.number(), 1]));
    batch.truncate(batch.len() - ICV_LEN);
    let sealed = batch.split_off(24);
    (batch.split_off(8), sealed)
}

/// The end of the pings in RFC 3602.
const PING: [u32; 12] = [
    0x08090a0b, 0x0c0d0e0f, 0x10111213, 0x14151617, 0x18191a1b, 0x1c1d1e1f, 0x20212223, 0x24252627,
    0x28292a2b, 0x2c2d2e2f, 0x30313233, 0x34353637,
];

#[test]
fn a_transport_mode_packet_is_that_of_rfc_3602_case_5() {
    let key = 0x90d382b4_10eeba7a_d938c46c_ec1a82bf;
    let iv = 0xe96e8c08_ab465763_fd098d45_dd3ff893;
    let mut payload = vec![0x08000ebd, 0xa70a0000, 0x8e9c083d, 0xb95b0700];
    payload.extend(PING);
    let sealed = words(&[
        0xf663c25d, 0x325c18c6, 0xa9453e19, 0x4e120849, 0xa4870b66, 0xcc6b9965, 0x330013b4,
        0x898dc856, 0xa4699e52, 0x3a55db08, 0x0b59ec3a, 0x8e4b7e52, 0x775b07d1, 0xdb34ed9c,
        0x538ab50c, 0x551b874a, 0xa269add0, 0x47ad2d59, 0x13ac19b7, 0xcfbad4a6,
    ]);
    let got = seal_as_rfc_3602(0x4321, key, iv, 1, &payload);
    assert_eq!(got, (iv.to_be_bytes().to_vec(), sealed));
}

#[test]
fn a_tunnel_mode_packet_is_that_of_rfc_3602_case_7() {
    let key = 0x01234567_89abcdef_01234567_89abcdef;
    let iv = 0xf4e76524_4f6407ad_f13dc138_0f673f37;
    let mut payload = vec![0x45000054, 0x09040000, 0x4001f988, 0xc0a87b03, 0xc0a87bc8];
    payload.extend([0x08009f76, 0xa90a0100, 0xb49c083d, 0x02a20400]);
    payload.extend(PING);
    let sealed = words(&[
        0x773b5241, 0xa4c44922, 0x5e4f3ce5, 0xed611b0c, 0x237ca96c, 0xf74a9301, 0x3c1b0ea1,
        0xa0cf70f8, 0xe4ecaec7, 0x8ac53aad, 0x7a0f022b, 0x859243c6, 0x47752e94, 0xa859352b,
        0x8a4d4d2d, 0xecd136e5, 0xc177f132, 0xad3fbfb2, 0x201ac990, 0x4c74ee0a, 0x109e0ca1,
        0xe4dfe9d5, 0xa100b842, 0xf1c22f0d,
    ]);
    let got = seal_as_rfc_3602(0x8765, key, iv, 4, &payload);
    assert_eq!(got, (iv.to_be_bytes().to_vec(), sealed));
}

#[test]
fn every_length_is_sealed_to_the_length_announced_and_opens_again() {
    for cipher in Cipher::ALL {
        let mut out = sa(cipher);
        let mut inbound = InboundSa::new(out.spi(), keys(cipher, 5), WindowSize::default());
        for len in 0..200 {
            let payload: Vec<u8> = (0..len).collect();
            let mut packet = seal(&mut out, &payload);
            assert_eq!(packet.len(), out.sealed_len(payload.len()));
            assert!(packet.len() <= payload.len() + crate::MAX_OVERHEAD);
            let opened = inbound.open(&mut packet).unwrap();
            assert_eq!((opened.next_header, &*opened.payload), (17, &payload[..]));
        }
        assert_eq!((out.packets(), out.bytes()), (200, 199 * 100));
        assert_eq!((inbound.packets(), inbound.bytes()), (200, 199 * 100));
    }
}

#[test]
fn the_longest_payload_fits_the_limit_and_one_byte_more_does_not() {
    for cipher in Cipher::ALL {
        let sa = sa(cipher);
        for limit in 0..1500 {
            match sa.max_payload(limit) {
                Some(len) => {
                    assert!(sa.sealed_len(len) <= limit && sa.sealed_len(len + 1) > limit);
                }
                None => assert!(sa.sealed_len(0) > limit),
            }
        }
    }
}

#[test]
fn a_packet_is_sealed_behind_others_in_one_buffer_without_touching_them() {
    for cipher in Cipher::ALL {
        let (mut together, mut alone) = (sa(cipher), sa(cipher));
        let (mut batch, mut expected) = (Vec::with_capacity(4096), Vec::new());
        for payload in [&b"first"[..], b"", b"a third one"] {
            let start = batch.len();
            batch.resize(start + together.headroom(), 0);
            batch.extend_from_slice(payload);
            together.seal(17, &mut batch, start).unwrap();
            expected.extend(seal(&mut alone, payload));
        }
        assert_eq!(batch, expected);
        assert_eq!(batch.capacity(), 4096);
    }
}

#[test]
fn the_last_sequence_number_is_used_once_and_never_wraps() {
    let mut sa = sa(Cipher::AesCbc256);
    sa.seq = u32::MAX - 1;
    assert_eq!(seal(&mut sa, b"last")[4..8], [0xff; 4]);
    for _ in 0..3 {
        let mut batch = vec![1; 100];
        assert_eq!(sa.seal(17, &mut batch, 0), Err(Exhausted));
        assert_eq!(batch, [1; 100]);
        assert_eq!(sa.packets(), u64::from(u32::MAX));
    }
}

#[test]
fn equal_payloads_are_sealed_under_ivs_that_differ_between_packets_and_seeds() {
    let mut ivs = std::collections::HashSet::new();
    for seed in 0..8 {
        let spi = Spi::new(0x1001).unwrap();
        let mut sa = OutboundSa::new(spi, keys(Cipher::AesCbc128, 5), [seed; 16]);
        for _ in 0..1000 {
            ivs.insert(seal(&mut sa, b"same")[8..24].to_vec());
        }
    }
    assert_eq!(ivs.len(), 8000);
}
