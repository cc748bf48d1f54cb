//! Packets as RFC 3602 4 shows them, sizes, and ends: of the sequence numbers and of lifetimes.

use zeroize::Zeroizing;

use super::*;
use crate::cipher::Decryption;
use crate::{Aead, Cipher, InboundSa, Integrity, Limits};

const AES_CBC_128: Suite = Suite::Combined(Cipher::AesCbc128, Integrity::HmacSha256);

fn keys(suite: Suite, key: u128) -> Keys {
    let mut cipher_key = key.to_be_bytes().to_vec();
    cipher_key.resize(suite.cipher_key_len(), 7);
    let auth_key = vec![9; suite.auth_key_len()];
    Keys::new(suite, Zeroizing::new(cipher_key), Zeroizing::new(auth_key)).unwrap()
}

fn sa_with(suite: Suite, parameters: Parameters) -> OutboundSa {
    OutboundSa::new(Spi::new(0x1001).unwrap(), keys(suite, 5), [3; 16], parameters)
}

fn sa(suite: Suite) -> OutboundSa {
    sa_with(suite, Parameters::default())
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
    let sa = OutboundSa::new(spi, keys(AES_CBC_128, key), [0; 16], Parameters::default());
    // An IV is an encrypted nonce.
    let mut nonce = iv.to_be_bytes();
    aes::Aes128Dec::new(&key.to_be_bytes()).decrypt(&[0; 16], &mut nonce);
    let mut batch = vec![0; sa.headroom()];
    batch.extend(words(payload));
    sa.seal_as(1, &nonce, next_header, &mut batch, 0);
    assert_eq!(batch[..8], words(&[spi.number(), 1]));
    batch.truncate(batch.len() - AES_CBC_128.icv_len());
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
    for suite in Suite::ALL {
        for esn in [false, true] {
            let parameters = Parameters { esn, ..Parameters::default() };
            let mut out = sa_with(suite, parameters);
            let mut inbound = InboundSa::new(out.spi(), keys(suite, 5), parameters);
            for len in 0..200 {
                let payload: Vec<u8> = (0..len).collect();
                let mut packet = seal(&mut out, &payload);
                let around = out.headroom() + out.trailroom(payload.len());
                assert_eq!(packet.len(), out.sealed_len(payload.len()));
                assert_eq!(packet.len(), payload.len() + around);
                assert!(around <= crate::MAX_OVERHEAD);
                let opened = inbound.open(&mut packet).unwrap();
                assert_eq!((opened.next_header, &*opened.payload), (17, &payload[..]));
            }
            assert_eq!((out.packets(), out.bytes(), out.sequence()), (200, 199 * 100, 200));
            assert_eq!((inbound.packets(), inbound.bytes()), (200, 199 * 100));
        }
    }
}

#[test]
fn the_most_room_any_suite_asks_for_is_what_some_packet_has_around_it() {
    let around = |sa: &OutboundSa| (0..16).map(|len| sa.sealed_len(len) - len).max();
    let sas = Suite::ALL.map(sa);
    assert_eq!(sas.iter().map(OutboundSa::headroom).max(), Some(crate::MAX_HEADROOM));
    assert_eq!(sas.iter().filter_map(around).max(), Some(crate::MAX_OVERHEAD));
}

#[test]
fn the_longest_payload_fits_the_limit_and_one_byte_more_does_not() {
    for suite in Suite::ALL {
        let sa = sa(suite);
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
    for suite in Suite::ALL {
        let (mut together, mut alone) = (sa(suite), sa(suite));
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

/// Asks again and again: the SA refuses, and the batch stays as it is.
fn assert_nothing_is_sealed(sa: &mut OutboundSa, reason: Unsealed) {
    let seq = sa.sequence();
    for _ in 0..3 {
        let mut batch = vec![1; 100];
        assert_eq!(sa.seal(17, &mut batch, 0), Err(reason));
        assert_eq!((batch, sa.sequence()), (vec![1; 100], seq));
    }
}

#[test]
fn the_last_sequence_number_is_used_once_and_never_wraps() {
    for suite in Suite::ALL {
        for (esn, last) in [(false, u64::from(u32::MAX)), (true, u64::MAX)] {
            let mut sa = sa_with(suite, Parameters { esn, ..Parameters::default() });
            sa.seq = last - 1;
            assert_eq!(seal(&mut sa, b"last")[4..8], [0xff; 4]);
            assert_nothing_is_sealed(&mut sa, Unsealed::Exhausted);
        }
    }
}

#[test]
fn the_high_half_of_the_number_is_not_sent_but_authenticated() {
    for suite in Suite::ALL {
        let mut sa = sa_with(suite, Parameters { esn: true, ..Parameters::default() });
        let mut icvs = std::collections::HashSet::new();
        for high in 0..3 {
            sa.seq = high << 32 | 7;
            let packet = seal(&mut sa, b"payload");
            assert_eq!(packet[4..8], [0, 0, 0, 8]);
            // Without its IV, which does depend on the number.
            let nonce = [5; 16];
            let mut packet = vec![0; sa.headroom()];
            sa.seal_as(high << 32 | 8, &nonce, 17, &mut packet, 0);
            icvs.insert(packet);
        }
        assert_eq!(icvs.len(), 3);
    }
}

#[test]
fn the_ivs_of_an_aead_are_all_bits_of_the_sequence_number() {
    for aead in Aead::ALL {
        let mut sa = sa_with(Suite::Aead(aead), Parameters { esn: true, ..Parameters::default() });
        sa.seq = 0x0102_0304_0506_0707;
        assert_eq!(seal(&mut sa, b"payload")[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

#[test]
fn equal_payloads_are_sealed_under_ivs_that_differ_between_packets_and_seeds() {
    let mut ivs = std::collections::HashSet::new();
    for seed in 0..8 {
        let (spi, keys) = (Spi::new(0x1001).unwrap(), keys(AES_CBC_128, 5));
        let parameters = Parameters { esn: true, ..Parameters::default() };
        let mut sa = OutboundSa::new(spi, keys, [seed; 16], parameters);
        for seq in (0..500).chain((1 << 32)..(1 << 32) + 500) {
            sa.seq = seq;
            ivs.insert(seal(&mut sa, b"same")[8..24].to_vec());
        }
    }
    assert_eq!(ivs.len(), 8000);
}

#[test]
fn an_sa_seals_up_to_its_hard_limits_and_not_a_packet_or_byte_more() {
    let hard = |hard| Parameters {
        lifetime: Lifetime { hard, ..Lifetime::default() },
        ..Parameters::default()
    };
    let mut sa = sa_with(AES_CBC_128, hard(Limits { packets: Some(2), ..Limits::default() }));
    seal(&mut sa, b"one");
    assert_eq!(sa.age(), Age::Fresh);
    seal(&mut sa, b"two");
    assert_eq!(sa.age(), Age::HardExpired);
    assert_nothing_is_sealed(&mut sa, Unsealed::Expired);

    let bytes = Limits { bytes: Some(10), ..Limits::default() };
    let mut sa = sa_with(AES_CBC_128, hard(bytes));
    seal(&mut sa, &[1; 9]);
    assert_eq!(sa.age(), Age::Fresh);
    // Two bytes would be one too many, and from then on even one is.
    let mut batch = vec![0; sa.headroom() + 2];
    assert_eq!(sa.seal(17, &mut batch, 0), Err(Unsealed::Expired));
    assert_nothing_is_sealed(&mut sa, Unsealed::Expired);
    assert_eq!((sa.packets(), sa.bytes(), sa.sequence()), (1, 9, 1));
    let mut sa = sa_with(AES_CBC_128, hard(bytes));
    seal(&mut sa, &[1; 10]);
    assert_eq!(sa.age(), Age::HardExpired);

    let seconds = Limits { seconds: Some(60), ..Limits::default() };
    let mut sa = sa_with(AES_CBC_128, Parameters { born_s: 1000, ..hard(seconds) });
    assert_eq!(sa.tick(1059), Age::Fresh);
    seal(&mut sa, b"in time");
    assert_eq!((sa.due_s(), sa.tick(1060)), (Some(1060), Age::HardExpired));
    assert_nothing_is_sealed(&mut sa, Unsealed::Expired);
}
