//! Against the sum of RFC 1071 word by word, and real packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 123, 3));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 123, 100));
const HERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const THERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

/// The sum as RFC 1071 4.1 has it.
fn slow(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Pseudo-header and packet in one piece (RFC 9293 3.1, RFC 8200 8.1).
pub(crate) fn with_pseudo(ends: (IpAddr, IpAddr), protocol: u8, packet: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for end in [ends.0, ends.1] {
        match end {
            IpAddr::V4(end) => bytes.extend(end.octets()),
            IpAddr::V6(end) => bytes.extend(end.octets()),
        }
    }
    bytes.extend((packet.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes.extend(packet);
    bytes
}

/// Whether the sum over pseudo-header and packet is all ones.
pub(crate) fn is_right_slowly(ends: (IpAddr, IpAddr), protocol: u8, packet: &[u8]) -> bool {
    slow(&with_pseudo(ends, protocol, packet)) == 0xffff
}

#[test]
fn the_example_of_rfc_1071_sums_up() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(Sum::of(&bytes).partial(), 0xddf2);
    assert_eq!(Sum::of(&bytes).checksum(), 0x220d);
}

#[test]
fn a_captured_header_sums_to_zero() {
    // RFC 3602 4, case 5.
    let mut header = vec![0x45, 0, 0, 0x54, 8, 0xf2, 0, 0, 0x40, 1, 0xf9, 0xfe];
    header.extend([192, 168, 123, 3, 192, 168, 123, 100]);
    assert_eq!(Sum::of(&header).checksum(), 0);
    header[10..12].fill(0);
    assert_eq!(Sum::of(&header).checksum(), 0xf9fe);
}

#[test]
fn the_longest_packet_of_ones_does_not_overflow() {
    for len in [65535, 65534, 65536] {
        let bytes = vec![0xff; len];
        assert_eq!(Sum::of(&bytes).partial(), slow(&bytes));
    }
}

#[test]
fn every_length_and_content_is_summed_as_word_by_word() {
    for len in 0..300 {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 37 + 11) as u8).collect();
        assert_eq!(Sum::of(&bytes).partial(), slow(&bytes), "{len} bytes");
    }
    bolero::check!().for_each(|bytes: &[u8]| {
        assert_eq!(Sum::of(bytes).partial(), slow(bytes));
    });
}

#[test]
fn parts_sum_up_to_the_whole_also_from_an_odd_place_on() {
    bolero::check!().with_type::<(Vec<u8>, Vec<u8>)>().for_each(|(one, other)| {
        let rest = Sum::of(other);
        let rest = if one.len() % 2 == 0 { rest } else { rest.swapped() };
        let sum = Sum::of(one).plus(rest);
        assert_eq!(sum.partial(), slow(&[&one[..], other].concat()));
        // Zero has two forms in one's complement.
        assert_eq!(sum.minus(rest).partial() % 0xffff, slow(one) % 0xffff);
    });
}

#[test]
fn a_changed_word_changes_the_checksum_as_if_it_were_computed_anew() {
    bolero::check!().with_type::<(Vec<u8>, usize, [u8; 2])>().for_each(|(bytes, at, new)| {
        let mut bytes = [&[1, 2, 3, 4][..], bytes].concat();
        let sum = Sum::of(&bytes).checksum();
        let at = at % (bytes.len() / 2) * 2;
        let old = Sum::of(&bytes[at..at + 2]);
        bytes[at..at + 2].copy_from_slice(new);
        let sum = updated(sum, old, Sum::of(new));
        assert_eq!(sum % 0xffff, !slow(&bytes) % 0xffff);
    });
}

#[test]
fn a_filled_checksum_is_right_and_a_flipped_bit_makes_it_wrong() {
    let input = bolero::produce::<(bool, u8, Vec<u8>, u16)>();
    bolero::check!().with_generator(input).for_each(|(v6, protocol, payload, bit)| {
        let ends = if *v6 { (HERE_V6, THERE_V6) } else { (HERE, THERE) };
        let protocol = [protocol::TCP, protocol::UDP, protocol::ICMPV6][usize::from(protocol % 3)];
        let mut packet = [&[7; 20][..], payload].concat();
        fill(ends.0, ends.1, protocol, &mut packet).unwrap();
        assert!(is_right_slowly(ends, protocol, &packet));
        assert!(is_right(ends.0, ends.1, protocol, &packet));
        let at = usize::from(*bit) % (packet.len() * 8);
        packet[at / 8] ^= 1 << (at % 8);
        assert_eq!(is_right(ends.0, ends.1, protocol, &packet), is_absent(protocol, &packet));
    });
}

/// One bit away from a UDP checksum there may be none.
fn is_absent(protocol: u8, packet: &[u8]) -> bool {
    protocol == protocol::UDP && packet[6..8] == [0, 0]
}

#[test]
fn a_packet_too_short_for_its_checksum_is_wrong_and_malformed() {
    for (protocol, least) in [(protocol::TCP, 18), (protocol::UDP, 8), (protocol::ICMPV6, 4)] {
        let mut packet = vec![1; least - 1];
        assert!(!is_right(HERE, THERE, protocol, &packet));
        assert_eq!(fill(HERE, THERE, protocol, &mut packet), Err(Discard::Malformed));
        let moved = repair(protocol, &mut packet, (HERE, THERE), (THERE, HERE_V6));
        assert_eq!(moved, Err(Discard::Malformed));
    }
    // Of SCTP's checksum nothing is known here, and it knows no addresses.
    let mut packet = [9; 12];
    assert!(is_right(HERE, THERE, protocol::SCTP, &packet));
    repair(protocol::SCTP, &mut packet, (HERE, THERE), (THERE, HERE_V6)).unwrap();
    assert_eq!(packet, [9; 12]);
}

#[test]
fn a_repaired_checksum_is_right_for_the_new_addresses() {
    let input = bolero::produce::<(u8, Vec<u8>, [u32; 4])>();
    bolero::check!().with_generator(input).for_each(|(protocol, payload, ends)| {
        let [a, b, c, d] = ends.map(|end| IpAddr::V4(Ipv4Addr::from_bits(end)));
        let protocol = [protocol::TCP, protocol::UDP][usize::from(protocol % 2)];
        let mut packet = [&[7; 20][..], payload].concat();
        fill(a, b, protocol, &mut packet).unwrap();
        repair(protocol, &mut packet, (a, b), (c, d)).unwrap();
        assert!(is_right_slowly((c, d), protocol, &packet));
        assert!(!is_absent(protocol, &packet));
        repair(protocol, &mut packet, (c, d), (HERE_V6, THERE_V6)).unwrap();
        assert!(is_right_slowly((HERE_V6, THERE_V6), protocol, &packet));
    });
}

#[test]
fn a_repaired_checksum_stays_wrong_if_it_was() {
    let mut packet = vec![7; 30];
    fill(HERE, THERE, protocol::TCP, &mut packet).unwrap();
    packet[25] ^= 4;
    repair(protocol::TCP, &mut packet, (HERE, THERE), (HERE_V6, THERE_V6)).unwrap();
    assert!(!is_right(HERE_V6, THERE_V6, protocol::TCP, &packet));
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut packet = [0x11, 0x94, 0, 53, 0, 10, 0, 0, 1, 2];
    assert!(is_right(HERE, THERE, protocol::UDP, &packet));
    repair(protocol::UDP, &mut packet, (HERE, THERE), (THERE, HERE)).unwrap();
    repair(protocol::UDP, &mut packet, (HERE, THERE), (HERE_V6, THERE_V6)).unwrap();
    assert_eq!(packet[6..8], [0, 0]);
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_sent_in_its_other_form() {
    // The last word makes the sum all ones.
    let mut packet = vec![0, 1, 0, 2, 0, 10, 0, 0, 0, 0];
    let rest = slow(&with_pseudo((HERE, THERE), protocol::UDP, &packet));
    packet[8..].copy_from_slice(&(!rest).to_be_bytes());
    fill(HERE, THERE, protocol::UDP, &mut packet).unwrap();
    assert_eq!(packet[6..8], [0xff, 0xff]);
    assert!(is_right(HERE, THERE, protocol::UDP, &packet));
}
