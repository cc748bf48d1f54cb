//! Figure 4 of RFC 6040, cell by cell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::ip::{Header, Packet};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// The rows are what arrived inside, the columns outside; both Not-ECT, ECT(0), ECT(1), CE.
const FIGURE_4: [[Option<u8>; 4]; 4] = [
    [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
    [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
    [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
    [Some(CE), Some(CE), Some(CE), Some(CE)],
];

const COLUMNS: [u8; 4] = [NOT_ECT, ECT_0, ECT_1, CE];

fn each_cell(mut check: impl FnMut(u8, u8, Option<u8>)) {
    for (inner, row) in COLUMNS.into_iter().zip(FIGURE_4) {
        for (outer, expected) in COLUMNS.into_iter().zip(row) {
            check(inner, outer, expected);
        }
    }
}

#[test]
fn congestion_outside_is_shown_inside_as_figure_4_has_it() {
    each_cell(|inner, outer, expected| {
        for (inner_dscp, outer_dscp) in [(0, 0), (0xb8, 0x28), (0xfc, 0)] {
            let shown = decapsulated(inner_dscp | inner, outer_dscp | outer);
            assert_eq!(shown.ok(), expected.map(|ecn| inner_dscp | ecn));
        }
    });
    assert_eq!(decapsulated(NOT_ECT, CE), Err(Discard::Congestion));
}

#[test]
fn the_header_changes_in_place_and_stays_right() {
    for address in [V4, V6] {
        each_cell(|inner, outer, expected| {
            let made = Header { traffic_class: 0xb8 | inner, ..Header::new(address, address, 17) };
            let mut bytes = made.bytes(0).unwrap();
            let before = bytes.clone();
            assert_eq!(decapsulate(&mut bytes, 0x28 | outer).is_ok(), expected.is_some());
            let packet = Packet::parse(&bytes, bytes.len()).unwrap();
            assert_eq!(packet.traffic_class(), 0xb8 | expected.unwrap_or(inner));
            let class = packet.traffic_class();
            let expected = Header { traffic_class: class, ..made }.bytes(0).unwrap();
            assert_eq!(bytes, expected);
            assert_eq!(bytes[2..10], before[2..10]);
        });
    }
}

#[test]
fn the_flow_label_beside_an_ipv6_traffic_class_is_kept() {
    let mut bytes = Header { traffic_class: ECT_0, ..Header::new(V6, V6, 17) }.bytes(0).unwrap();
    bytes[1] |= 0x0a;
    decapsulate(&mut bytes, CE).unwrap();
    assert_eq!(bytes[..2], [0x60, 0x3a]);
}

#[test]
fn every_header_of_ipv4_keeps_a_right_checksum() {
    bolero::check!().with_type::<([u8; 20], u8)>().for_each(|(header, outer)| {
        let mut header = *header;
        header[0] = 0x45;
        header[10..12].fill(0);
        let sum = Sum::of(&header).checksum();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let _ = decapsulate(&mut header, *outer);
        assert_eq!(Sum::of(&header).checksum(), 0);
    });
}

#[test]
fn a_runt_is_malformed() {
    assert_eq!(decapsulate(&mut [0x45; 19], CE), Err(Discard::Malformed));
}

#[test]
fn outside_the_dscp_is_shown_only_if_asked_for_and_congestion_always() {
    for class in 0..=255 {
        assert_eq!(Dscp::Clear.apply(class), class & 3);
        assert_eq!(Dscp::Copy.apply(class), class);
    }
}
