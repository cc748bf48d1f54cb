//! What opens, and what does not: replayed, forged, truncated, foreign, badly padded, too late.

use zeroize::Zeroizing;

use super::*;
use crate::cipher::Block;
use crate::transform::sealing;
use crate::{Limits, OutboundSa};

const SPI: u32 = 0x1001;

fn suite(name: &str) -> Suite {
    name.parse().unwrap()
}

fn keys(suite: Suite) -> Keys {
    let cipher_key = Zeroizing::new(vec![5; suite.cipher_key_len()]);
    Keys::new(suite, cipher_key, Zeroizing::new(vec![9; suite.auth_key_len()])).unwrap()
}

fn pair_with(suite: Suite, parameters: Parameters) -> (OutboundSa, InboundSa) {
    let spi = Spi::new(SPI).unwrap();
    let outbound = OutboundSa::new(spi, keys(suite), [1; 16], parameters);
    (outbound, InboundSa::new(spi, keys(suite), parameters))
}

fn pair(suite: Suite) -> (OutboundSa, InboundSa) {
    pair_with(suite, Parameters::default())
}

/// Every suite, with 32-bit and with 64-bit sequence numbers.
fn all() -> impl Iterator<Item = (Suite, Parameters)> {
    let with = |esn| Parameters { esn, ..Parameters::default() };
    Suite::ALL.into_iter().flat_map(move |suite| [(suite, with(false)), (suite, with(true))])
}

fn seal(sa: &mut OutboundSa, payload: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; sa.headroom()];
    batch.extend_from_slice(payload);
    sa.seal(17, &mut batch, 0).unwrap();
    batch
}

/// An authentic packet whose plaintext, trailer included, is given.
fn authentic(suite: Suite, seq: u32, plain: &[u8]) -> Vec<u8> {
    let mut packet = [SPI.to_be_bytes(), seq.to_be_bytes()].concat();
    packet.resize(HEADER + suite.iv_len(), 0);
    packet.extend_from_slice(plain);
    packet.resize(packet.len() + suite.icv_len(), 0);
    sealing(&keys(suite), Block::default()).seal(None, &[8; 16], &mut packet);
    packet
}

/// A packet with any number, not only the next.
fn seal_as(suite: Suite, seq: u64, payload: &[u8]) -> Vec<u8> {
    let (out, _) = pair_with(suite, Parameters { esn: true, ..Parameters::default() });
    let mut batch = vec![0; out.headroom()];
    batch.extend_from_slice(payload);
    out.seal_as(seq, &[8; 16], 17, &mut batch, 0);
    batch
}

#[test]
fn a_packet_opens_once() {
    for (suite, parameters) in all() {
        let (mut out, mut inbound) = pair_with(suite, parameters);
        let packet = seal(&mut out, b"payload");
        assert!(inbound.open(&mut packet.clone()).is_ok());
        assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::Replayed));
        assert_eq!((inbound.packets(), inbound.discards().of(Discard::Replayed)), (1, 1));
    }
}

#[test]
fn a_packet_with_any_one_bit_changed_does_not_open_and_does_not_move_the_window() {
    for (suite, parameters) in all() {
        let (mut out, mut inbound) = pair_with(suite, parameters);
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
            assert_eq!(inbound.open(&mut changed), Err(expected), "{suite}, bit {bit}");
            assert_eq!(inbound.top(), 0);
        }
        assert!(inbound.open(&mut packet.clone()).is_ok());
    }
}

#[test]
fn what_is_sealed_opens_whatever_it_is_and_with_any_one_bit_changed_it_does_not() {
    type Case = (u8, bool, u8, Vec<u8>, u16);
    let cases = bolero::check!().with_type::<Case>().with_iterations(3000);
    cases.for_each(|(at, esn, next_header, payload, bit)| {
        let suite = Suite::ALL[usize::from(*at) % Suite::ALL.len()];
        let parameters = Parameters { esn: *esn, ..Parameters::default() };
        let (mut out, mut inbound) = pair_with(suite, parameters);
        let mut packet = vec![0xee; out.headroom()];
        packet.extend(payload);
        out.seal(*next_header, &mut packet, 0).unwrap();

        let mut changed = packet.clone();
        changed[usize::from(*bit) / 8 % packet.len()] ^= 1 << (bit % 8);
        assert!(inbound.open(&mut changed).is_err());
        let opened = inbound.open(&mut packet);
        let opened = opened.map(|opened| (opened.next_header, opened.payload.to_vec()));
        let dummy = *next_header == NO_NEXT_HEADER;
        assert_eq!(opened.ok(), (!dummy).then(|| (*next_header, payload.clone())));
    });
}

#[test]
fn no_part_of_a_packet_opens_and_none_moves_the_window() {
    for suite in Suite::ALL {
        let (mut out, mut inbound) = pair(suite);
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
    let (mut out, mut inbound) = pair(suite("null+hmac-sha256"));
    let mut packet = seal(&mut out, b"payload");
    packet.extend_from_slice(&[0; 4]);
    assert_eq!(inbound.open(&mut packet), Err(Discard::Forged));
}

#[test]
fn packets_of_another_key_are_forged() {
    let (mut out, _) = pair(suite("aes-cbc-128+hmac-sha256"));
    let spi = Spi::new(SPI).unwrap();
    let suite = out.suite();
    let other = Keys::new(suite, vec![5; 16].into(), vec![10; 32].into()).unwrap();
    let mut inbound = InboundSa::new(spi, other, Parameters::default());
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
    for suite in Suite::ALL {
        let (_, mut inbound) = pair(suite);
        for (seq, plain) in (1..).zip(plains) {
            let packet = authentic(suite, seq, plain);
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
    for suite in Suite::ALL {
        let (_, mut inbound) = pair(suite);
        let mut packet = authentic(suite, 1, &plain);
        let opened = inbound.open(&mut packet).unwrap();
        assert_eq!((opened.next_header, &*opened.payload), (6, &b"hid!"[..]));
    }
}

#[test]
fn dummy_packets_are_discarded_and_their_numbers_used_up() {
    let (_, mut inbound) = pair(suite("null+hmac-sha256"));
    let packet = authentic(suite("null+hmac-sha256"), 9, b"random\x00\x3b");
    assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::Dummy));
    assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::Replayed));
}

#[test]
fn packets_overtake_one_another_within_the_window_only() {
    let (mut out, mut inbound) = pair(suite("aes-gcm-256"));
    let mut packets: Vec<_> = (0..1025).map(|_| seal(&mut out, b"payload")).collect();
    assert!(inbound.open(&mut packets[1024].clone()).is_ok());
    assert_eq!(inbound.open(&mut packets[0].clone()), Err(Discard::Replayed));
    for packet in &mut packets[1..1024] {
        assert!(inbound.open(packet).is_ok());
    }
}

#[test]
fn only_a_packet_newer_than_all_before_is_the_newest() {
    let (mut out, mut inbound) = pair(suite("aes-gcm-128"));
    let packets: Vec<_> = (0..4).map(|_| seal(&mut out, b"payload")).collect();
    let newest = [0, 2, 1, 3].map(|at: usize| {
        let opened = inbound.open(&mut packets[at].clone()).unwrap().is_newest;
        (at, opened)
    });
    assert_eq!(newest, [(0, true), (2, true), (1, false), (3, true)]);
}

#[test]
fn numbers_run_on_over_the_end_of_their_low_half() {
    for suite in Suite::ALL {
        let (_, mut inbound) = pair_with(suite, Parameters { esn: true, ..Parameters::default() });
        let end = 1_u64 << 32;
        // Jumps of nearly 2^32 are as far as the low half tells.
        for seq in
            [end - 2, end + 1, end, end - 1, end + 5, end - 3, 2 * end - 2000, 3 * end - 4000]
        {
            let mut packet = seal_as(suite, seq, b"payload");
            assert!(inbound.open(&mut packet.clone()).is_ok(), "{suite}: {seq:#x}");
            assert_eq!(inbound.open(&mut packet), Err(Discard::Replayed));
        }
        assert_eq!(inbound.top(), 3 * end - 4000);
        // The same low half, another number: nothing but the ICV can tell.
        let mut packet = seal_as(suite, 4 * end + 7, b"payload");
        assert_eq!(inbound.open(&mut packet), Err(Discard::Forged));
        assert_eq!(inbound.top(), 3 * end - 4000);
    }
}

#[test]
fn ends_that_disagree_about_the_width_of_numbers_open_nothing() {
    for suite in Suite::ALL {
        for esn in [false, true] {
            let with = |esn| pair_with(suite, Parameters { esn, ..Parameters::default() });
            let ((mut out, _), (_, mut inbound)) = (with(esn), with(!esn));
            let packet = seal(&mut out, b"payload");
            assert_eq!(inbound.open(&mut packet.clone()), Err(Discard::Forged), "{suite}");
        }
    }
}

fn until(hard: Limits) -> Parameters {
    Parameters { lifetime: Lifetime { hard, ..Lifetime::default() }, ..Parameters::default() }
}

#[test]
fn an_sa_opens_up_to_its_hard_limits_and_not_a_packet_or_byte_more() {
    let suite = suite("aes-gcm-128");
    let (mut out, _) = pair(suite);
    let (_, mut inbound) =
        pair_with(suite, until(Limits { packets: Some(2), ..Limits::default() }));
    for _ in 0..2 {
        assert_eq!(inbound.age(), Age::Fresh);
        assert!(inbound.open(&mut seal(&mut out, b"payload")).is_ok());
    }
    assert_eq!(inbound.age(), Age::HardExpired);
    assert_eq!(inbound.open(&mut seal(&mut out, b"payload")), Err(Discard::Expired));

    let (_, mut inbound) = pair_with(suite, until(Limits { bytes: Some(10), ..Limits::default() }));
    assert!(inbound.open(&mut seal(&mut out, &[1; 9])).is_ok());
    for payload in [&[1, 2][..], &[1]] {
        assert_eq!(inbound.open(&mut seal(&mut out, payload)), Err(Discard::Expired));
        assert_eq!(inbound.age(), Age::HardExpired);
    }
    assert_eq!((inbound.bytes(), inbound.discards().of(Discard::Expired)), (9, 2));

    let seconds = Limits { seconds: Some(60), ..Limits::default() };
    let (_, mut inbound) = pair_with(suite, until(seconds));
    assert_eq!((inbound.tick(59), inbound.due_s()), (Age::Fresh, Some(60)));
    assert!(inbound.open(&mut seal(&mut out, b"payload")).is_ok());
    assert_eq!(inbound.tick(60), Age::HardExpired);
    assert_eq!(inbound.open(&mut seal(&mut out, b"payload")), Err(Discard::Expired));
}

#[test]
fn forged_packets_use_up_no_lifetime() {
    let suite = suite("aes-gcm-128");
    let (mut out, _) = pair(suite);
    let (_, mut inbound) = pair_with(suite, until(Limits { bytes: Some(10), ..Limits::default() }));
    let mut forged = seal(&mut out, &[7; 100]);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(inbound.open(&mut forged), Err(Discard::Forged));
    assert_eq!(inbound.age(), Age::Fresh);
}

#[test]
fn arbitrary_bytes_never_open_and_never_move_the_window() {
    for (suite, parameters) in all() {
        bolero::check!().with_iterations(300).for_each(|bytes: &[u8]| {
            let (_, mut sa) = pair_with(suite, parameters);
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
        let mut packet = authentic(suite("null+hmac-sha256"), 1, plain);
        let expected = plain.split_last_chunk::<2>().and_then(|(rest, [pad_len, next_header])| {
            let payload = &rest[..rest.len().checked_sub(usize::from(*pad_len))?];
            let right = (0..*pad_len).all(|at| rest[payload.len() + usize::from(at)] == at + 1);
            (right && *next_header != 59).then_some((*next_header, payload.to_vec()))
        });
        let (_, mut sa) = pair(suite("null+hmac-sha256"));
        let opened = sa.open(&mut packet).ok();
        assert_eq!(opened.map(|opened| (opened.next_header, opened.payload.to_vec())), expected);
    });
}
