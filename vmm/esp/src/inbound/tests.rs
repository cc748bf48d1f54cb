//! What opens, and what does not: replayed, forged, truncated, foreign, badly padded.

use zeroize::Zeroizing;

use super::*;
use crate::OutboundSa;
use crate::cipher::Encryption;

const SPI: u32 = 0x1001;

fn keys(cipher: Cipher) -> Keys {
    let cipher_key = Zeroizing::new(vec![5; cipher.key_len()]);
    Keys::new(cipher, cipher_key, Zeroizing::new(vec![9; 32])).unwrap()
}

fn pair(cipher: Cipher) -> (OutboundSa, InboundSa) {
    let spi = Spi::new(SPI).unwrap();
    let inbound = InboundSa::new(spi, keys(cipher), WindowSize::default());
    (OutboundSa::new(spi, keys(cipher), [1; 16]), inbound)
}

fn seal(sa: &mut OutboundSa, payload: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; sa.headroom()];
    batch.extend_from_slice(payload);
    sa.seal(17, &mut batch, 0).unwrap();
    batch
}

/// An authentic packet whose plaintext, trailer included, is given.
fn authentic(cipher: Cipher, seq: u32, plain: &[u8]) -> Vec<u8> {
    let keys = keys(cipher);
    let iv = [8; 16];
    let mut packet = [SPI.to_be_bytes(), seq.to_be_bytes()].concat();
    packet.extend_from_slice(&iv[..cipher.iv_len()]);
    let start = packet.len();
    packet.extend_from_slice(plain);
    Encryption::new(&keys).encrypt(&iv, &mut packet[start..]);
    let icv = Hmac::new(keys.auth_key()).icv(&packet);
    packet.extend_from_slice(&icv);
    packet
}

#[test]
fn a_packet_opens_once() {
    for cipher in Cipher::ALL {
        let (mut out, mut inbound) = pair(cipher);
        let packet = seal(&mut out, b"payload");
        assert!(inbound.open(&mut packet.clone()).is_ok());
        assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::Replayed));
        assert_eq!((inbound.packets(), inbound.discards().of(Discard::Replayed)), (1, 1));
    }
}

#[test]
fn a_packet_with_any_one_bit_changed_does_not_open_and_does_not_move_the_window() {
    for cipher in Cipher::ALL {
        let (mut out, mut inbound) = pair(cipher);
        let packet = seal(&mut out, b"some payload");
        for bit in 0..packet.len() * 8 {
            let mut changed = packet.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0..4 => Discard::ForeignSpi,
                // Sequence number 0, which nobody sends.
                7 if changed[7] == 0 => Discard::Replayed,
                _ => Discard::Forged,
            };
            assert_eq!(inbound.open(&mut changed), Err(expected), "bit {bit}");
            assert_eq!(inbound.top(), 0);
        }
        assert!(inbound.open(&mut packet.clone()).is_ok());
    }
}

#[test]
fn no_part_of_a_packet_opens_and_none_moves_the_window() {
    for cipher in Cipher::ALL {
        let (mut out, mut inbound) = pair(cipher);
        let packet = seal(&mut out, &[7; 100]);
        for len in 0..packet.len() {
            let reason = inbound.open(&mut packet[..len].to_vec()).unwrap_err();
            assert!(matches!(reason, Discard::Truncated | Discard::Forged), "{len}: {reason:?}");
        }
        assert_eq!((inbound.packets(), inbound.top()), (0, 0));
        assert_eq!(inbound.discards().total(), packet.len() as u64);
    }
}

#[test]
fn bytes_after_a_packet_spoil_it() {
    let (mut out, mut inbound) = pair(Cipher::Null);
    let mut packet = seal(&mut out, b"payload");
    packet.extend_from_slice(&[0; 4]);
    assert_eq!(inbound.open(&mut packet), Err(Discard::Forged));
}

#[test]
fn packets_of_another_key_are_forged() {
    let (mut out, _) = pair(Cipher::AesCbc128);
    let spi = Spi::new(SPI).unwrap();
    let other = Keys::new(Cipher::AesCbc128, vec![5; 16].into(), vec![10; 32].into()).unwrap();
    let mut inbound = InboundSa::new(spi, other, WindowSize::default());
    assert_eq!(inbound.open(&mut seal(&mut out, b"payload")), Err(Discard::Forged));
}

#[test]
fn authentic_packets_with_bad_padding_are_discarded_and_their_numbers_used_up() {
    let plains: [&[u8]; 4] = [
        // Padding that does not count up from 1; more padding than there is.
        b"0123456789ab\x02\x01\x02\x11",
        b"0123456789a\x01\x02\x04\x03\x11",
        b"0123456789abcd\x0f\x11",
        b"0123456789abcd\xff\x11",
    ];
    for cipher in Cipher::ALL {
        let (_, mut inbound) = pair(cipher);
        for (seq, plain) in (1..).zip(plains) {
            let packet = authentic(cipher, seq, plain);
            assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::BadPadding));
            assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::Replayed));
        }
    }
}

#[test]
fn more_padding_than_needed_is_taken_off() {
    // RFC 4303 2.4: up to 255 bytes.
    let mut plain = b"hid!".to_vec();
    plain.extend((1..=250).chain([250, 6]));
    for cipher in Cipher::ALL {
        let (_, mut inbound) = pair(cipher);
        let mut packet = authentic(cipher, 1, &plain);
        let opened = inbound.open(&mut packet).unwrap();
        assert_eq!((opened.next_header, &*opened.payload), (6, &b"hid!"[..]));
    }
}

#[test]
fn dummy_packets_are_discarded_and_their_numbers_used_up() {
    let (_, mut inbound) = pair(Cipher::Null);
    let packet = authentic(Cipher::Null, 9, b"random\x00\x3b");
    assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::Dummy));
    assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::Replayed));
}

#[test]
fn packets_overtake_one_another_within_the_window_only() {
    let (mut out, mut inbound) = pair(Cipher::AesCbc256);
    let mut packets: Vec<_> = (0..1025).map(|_| seal(&mut out, b"payload")).collect();
    assert!(inbound.open(&mut packets[1024].clone()).is_ok());
    assert_eq!(inbound.open(&mut packets[0].clone()), Err(Discard::Replayed));
    for packet in &mut packets[1..1024] {
        assert!(inbound.open(packet).is_ok());
    }
}

#[test]
fn arbitrary_bytes_never_open_and_never_move_the_window() {
    for cipher in Cipher::ALL {
        bolero::check!().with_iterations(1000).for_each(|bytes: &[u8]| {
            let (_, mut sa) = pair(cipher);
            assert!(sa.open(&mut bytes.to_vec()).is_err());
            // The same with the right SPI, so that more of the way is gone.
            let mut packet = SPI.to_be_bytes().to_vec();
            packet.extend_from_slice(bytes);
            assert!(sa.open(&mut packet).is_err());
            assert_eq!((sa.top(), sa.discards().total()), (0, 2));
        });
    }
}

#[test]
fn arbitrary_authentic_plaintext_is_opened_exactly_if_its_padding_is_right() {
    bolero::check!().with_iterations(2000).for_each(|bytes: &[u8]| {
        let plain = &bytes[..bytes.len() / 4 * 4];
        let mut packet = authentic(Cipher::Null, 1, plain);
        let expected = plain.split_last_chunk::<2>().and_then(|(rest, [pad_len, next_header])| {
            let payload = &rest[..rest.len().checked_sub(usize::from(*pad_len))?];
            let right = (0..*pad_len).all(|at| rest[payload.len() + usize::from(at)] == at + 1);
            (right && *next_header != 59).then_some((*next_header, payload.to_vec()))
        });
        let (_, mut sa) = pair(Cipher::Null);
        let opened = sa.open(&mut packet).ok();
        assert_eq!(opened.map(|opened| (opened.next_header, opened.payload.to_vec())), expected);
    });
}
