//! SYNs as systems send them, options at odd places, and options that lie.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::checksum;
use crate::ip::protocol;

const ENDS: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));

const ACK: u8 = 0x10;

/// A TCP packet with these flags and options, some payload, and its right checksum.
fn tcp(flags: u8, options: &[u8]) -> Vec<u8> {
    let mut tcp = vec![0x9c, 0x40, 1, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8];
    let words = (TCP_HEADER + options.len()).div_ceil(4);
    tcp.extend([(words as u8) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.resize(words * 4, 0);
    tcp.extend([9; 3]);
    checksum::fill(ENDS.0, ENDS.1, protocol::TCP, &mut tcp).unwrap();
    tcp
}

fn is_right(tcp: &[u8]) -> bool {
    checksum::is_right(ENDS.0, ENDS.1, protocol::TCP, tcp)
}

#[test]
fn a_larger_mss_is_lowered_and_the_checksum_stays_right() {
    // As Linux sends it: MSS 1460, SACK permitted, timestamps, window scale 7.
    let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    for flags in [SYN, SYN | ACK] {
        let mut changed = tcp(flags, &options);
        assert!(clamp(&mut changed, 1382, false));
        let mut lower = options;
        lower[2..4].copy_from_slice(&1382_u16.to_be_bytes());
        assert_eq!(changed, tcp(flags, &lower));
        assert!(!clamp(&mut changed, 1382, false));
    }
}

#[test]
fn a_smaller_mss_and_packets_that_are_no_syn_stay() {
    for (flags, options) in [(SYN, [2, 4, 5, 0]), (ACK, [2, 4, 5, 0xb4]), (SYN, [1; 4])] {
        let before = tcp(flags, &options);
        let mut after = before.clone();
        assert!(!clamp(&mut after, 1280, false));
        assert_eq!(after, before);
    }
}

#[test]
fn an_option_at_an_odd_place_is_lowered_with_a_right_checksum() {
    for before in 0..=7 {
        let options = [&vec![1; before][..], &[2, 4, 0x12, 0x34]].concat();
        let mut tcp = tcp(SYN, &options);
        assert!(clamp(&mut tcp, 536, false));
        assert_eq!(tcp[TCP_HEADER + before + 2..][..2], 536_u16.to_be_bytes());
        assert!(is_right(&tcp));
    }
}

#[test]
fn a_checksum_that_was_wrong_stays_wrong() {
    let mut tcp = tcp(SYN, &[2, 4, 5, 0xb4]);
    tcp[16] ^= 1;
    assert!(clamp(&mut tcp, 536, false));
    assert!(!is_right(&tcp));
}

#[test]
fn options_that_lie_are_left_alone() {
    let lies: [&[u8]; 8] = [
        &[2],
        &[1, 1, 2, 4],
        &[1, 2, 4, 5],
        &[2, 3, 5, 0xb4],
        &[2, 0, 2, 4],
        &[8, 1, 2, 4, 5, 0xb4],
        &[8, 40, 2, 4, 5, 0xb4],
        &[0, 0, 2, 4, 5, 0xb4],
    ];
    for options in lies {
        let mut packet = tcp(SYN, options);
        let before = packet.clone();
        assert!(!clamp(&mut packet, 100, false), "{options:?}");
        assert_eq!(packet, before);
    }
    let whole = tcp(SYN, &[2, 4, 5, 0xb4]);
    for len in 0..24 {
        assert!(!clamp(&mut whole[..len].to_vec(), 100, false));
    }
    // A header that says it is shorter than any.
    let mut short = whole.clone();
    short[12] = 0x40;
    assert!(!clamp(&mut short, 100, false));
}

#[test]
fn arbitrary_packets_change_in_the_option_and_the_checksum_alone() {
    bolero::check!().with_type::<(Vec<u8>, u16)>().for_each(|(bytes, limit)| {
        let mut before = [&[0; 12][..], bytes].concat();
        if before.len() >= TCP_HEADER {
            before[12] |= 0x70;
            before[13] |= SYN;
            checksum::fill(ENDS.0, ENDS.1, protocol::TCP, &mut before).unwrap();
        }
        let mut after = before.clone();
        if !clamp(&mut after, *limit, false) {
            assert_eq!(after, before);
            return;
        }
        let changed: Vec<usize> =
            (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        let options = changed.iter().filter(|at| **at != 16 && **at != 17).copied();
        let options: Vec<usize> = options.collect();
        let (first, last) = (options[0], options[options.len() - 1]);
        assert!(first >= TCP_HEADER + 2 && last - first < 2);
        assert!(is_right(&after));
    });
}

#[test]
fn a_checksum_that_is_left_to_do_is_left_alone() {
    let mut tcp = tcp(SYN, &[2, 4, 5, 0xb4]);
    let sum = [tcp[16], tcp[17]];
    assert!(clamp(&mut tcp, 536, true));
    assert_eq!((&tcp[16..18], &tcp[22..24]), (&sum[..], &536_u16.to_be_bytes()[..]));
}

#[test]
fn only_the_start_of_a_tcp_connection_offers_an_mss() {
    let is_an_offer = |protocol: u8, payload: &[u8]| {
        let bytes = crate::ip::tests::packet(ENDS, protocol, payload);
        is_offer(&Packet::parse(&bytes, bytes.len()).unwrap())
    };
    for flags in [SYN, SYN | ACK] {
        assert!(is_an_offer(protocol::TCP, &tcp(flags, &[])));
        assert!(!is_an_offer(protocol::UDP, &tcp(flags, &[])));
    }
    assert!(!is_an_offer(protocol::TCP, &tcp(ACK, &[])));
    assert!(!is_an_offer(protocol::TCP, &tcp(SYN, &[])[..13]));
    let ends = (crate::ip::tests::HERE_V6, crate::ip::tests::THERE_V6);
    let later = [&[protocol::TCP, 0, 0, 8, 0, 0, 0, 1][..], &tcp(SYN, &[])].concat();
    let bytes = crate::ip::tests::packet(ends, protocol::FRAGMENT, &later);
    assert!(!is_offer(&Packet::parse(&bytes, bytes.len()).unwrap()));
}

#[test]
fn the_limit_leaves_room_for_both_headers() {
    assert_eq!((limit(1442, true), limit(1442, false)), (1402, 1382));
    assert_eq!(limit(39, true), 0);
}
